//! The terminal: raw while the view is open, and as it was afterwards, whatever ends it but SIGKILL.
//!
//! It is steered by the sequences that all terminals of today know, without a database of them, which an image made from scratch does not
//! have.

use std::io::{self, IsTerminal, Stdin};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal as Number, getpgrp};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;
use wasaba_core::outlet::Outlet;
use wasaba_core::text::safe_lines;

use super::keys::{Decoder, Key};
use super::plot::Glyphs;
use super::tail::Tail;

/// The other screen, without a cursor, and lines that end at the edge.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";

/// Back.
const LEAVE: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";

/// How long the rest of a key may take.
const REST_OF_KEY: Duration = Duration::from_millis(40);

/// How long the end waits for the last text.
const LAST_TEXT: Duration = Duration::from_millis(500);

/// What a terminal that does not say its size has.
const USUAL_SIZE: (u16, u16) = (80, 24);

/// The modes to restore, while the view is open.
static BEFORE: Mutex<Option<Before>> = Mutex::new(None);

struct Before {
    /// Those of standard input, if keys are read from it.
    modes: Option<Termios>,
}

/// What can be shown on this terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Whether there are colours.
    pub has_colours: bool,
    /// What pictures are made of.
    pub glyphs: Glyphs,
}

/// What a terminal can show by `TERM` and `NO_COLOR`; `None` if it cannot be drawn on.
#[must_use]
pub fn manner(term: Option<&str>, no_color: Option<&str>) -> Option<Manner> {
    let term = term.unwrap_or_default();
    if term == "dumb" {
        return None;
    }
    let has_colours =
        no_color.is_none_or(str::is_empty) && !term.is_empty() && !term.ends_with("-mono") && !term.starts_with("vt1");
    // The fonts of the kernel's console have no eighths of a block.
    let is_plain = term == "linux" || term.starts_with("vt");
    Some(Manner { has_colours, glyphs: if is_plain { Glyphs::Ascii } else { Glyphs::Unicode } })
}

/// Whether a view can be shown: standard output is a terminal, and this process is not in its background, where it would be stopped at the
/// first key.
#[must_use]
pub fn is_usable() -> bool {
    let stdout = io::stdout();
    stdout.is_terminal() && is_foreground(&stdout)
}

fn is_foreground(terminal: &impl std::os::fd::AsFd) -> bool {
    // A terminal of another session, or of another namespace of processes, has no group to compare with.
    tcgetpgrp(terminal).map_or(true, |group| group == getpgrp())
}

/// The columns and lines of the terminal.
#[must_use]
pub fn size() -> (u16, u16) {
    let size = tcgetwinsize(io::stdout()).ok().map(|size| (size.ws_col, size.ws_row));
    size.filter(|(width, height)| *width > 0 && *height > 0).unwrap_or(USUAL_SIZE)
}

/// Restores the terminal if a view is open. For a panic, and for whoever ends the process otherwise.
pub fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Before { modes }) = before {
        // Nothing is left to do if the terminal is gone.
        rustix::io::write(io::stdout(), LEAVE.as_bytes()).ok();
        modes.map(|modes| tcsetattr(io::stdin(), OptionalActions::Now, &modes).ok());
    }
}

/// Something that has happened on the terminal.
#[derive(Debug)]
pub enum Event {
    /// Keys were pressed.
    Keys(Vec<Key>),
    /// Its size has changed.
    Resized,
    /// The process was stopped, and continues: everything must be drawn again.
    Continued,
    /// It is gone.
    Gone,
}

/// The terminal while the view is open.
pub struct Terminal {
    output: Outlet,
    tail: Option<Tail>,
    input: Option<AsyncFd<Stdin>>,
    decoder: Decoder,
    resized: Signal,
    continued: Signal,
}

impl Terminal {
    /// Switches to the view's screen, and reads keys one by one. When it is dropped, the lines of `tail` are printed on the other screen.
    ///
    /// # Errors
    /// The terminal's modes cannot be changed, or signals not be listened for.
    pub fn open(output: Outlet, tail: Option<Tail>) -> io::Result<Self> {
        let (resized, continued) =
            (signal(SignalKind::window_change())?, signal(SignalKind::from_raw(Number::CONT.as_raw()))?);
        let has_keys = io::stdin().is_terminal() && is_foreground(&io::stdin());
        let modes = if has_keys { Some(tcgetattr(io::stdin())?) } else { None };
        #[expect(deprecated, reason = "standard input stays open")]
        let input = has_keys.then(|| AsyncFd::with_interest(io::stdin(), Interest::READABLE)).transpose()?;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(Before { modes });
        let terminal = Self { output, tail, input, decoder: Decoder::default(), resized, continued };
        terminal.enter()?;
        Ok(terminal)
    }

    fn enter(&self) -> io::Result<()> {
        let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Before { modes: Some(modes) }) = &*before {
            let mut raw = modes.clone();
            raw.make_raw();
            tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        }
        self.output.push(ENTER.as_bytes());
        Ok(())
    }

    /// What happens next. Nothing is lost if it is dropped before.
    pub async fn next(&mut self) -> Event {
        loop {
            let is_waiting = self.decoder.is_waiting();
            tokio::select! {
                _ = self.resized.recv() => return Event::Resized,
                _ = self.continued.recv() => {
                    // The shell has used the terminal meanwhile.
                    return if self.enter().is_ok() { Event::Continued } else { Event::Gone };
                }
                () = sleep(REST_OF_KEY), if is_waiting => {
                    if let Some(key) = self.decoder.flush() {
                        return Event::Keys(vec![key]);
                    }
                }
                bytes = read(self.input.as_ref()) => match bytes {
                    None => return Event::Gone,
                    Some(bytes) => {
                        let keys = self.decoder.push(&bytes);
                        if !keys.is_empty() {
                            return Event::Keys(keys);
                        }
                    }
                },
            }
        }
    }
}

/// What was typed; `None` once the terminal is gone.
async fn read(input: Option<&AsyncFd<Stdin>>) -> Option<Vec<u8>> {
    let Some(input) = input else { return std::future::pending().await };
    loop {
        let mut ready = input.readable().await.ok()?;
        // Whether there still is something: it is a terminal that others use, too, so a read would wait.
        let mut polled = [PollFd::new(input.get_ref(), PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())).ok()?;
        let [polled] = polled;
        if polled.revents().is_empty() {
            ready.clear_ready();
            continue;
        }
        let mut bytes = [0; 1_024];
        return match rustix::io::read(input.get_ref(), &mut bytes) {
            Ok(0) => None,
            Ok(length) => bytes.get(..length).map(<[u8]>::to_vec),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => continue,
            Err(_) => None,
        };
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Restored already: after a panic.
        let Some(Before { modes }) = before else { return };
        let lines = self.tail.as_ref().map(Tail::close).unwrap_or_default();
        let log = lines.iter().map(|line| format!("{}\r\n", safe_lines(line))).collect::<String>();
        self.output.push(format!("{LEAVE}{log}").as_bytes());
        self.output.finish(LAST_TEXT);
        modes.map(|modes| tcsetattr(io::stdin(), OptionalActions::Now, &modes).ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_shows_what_its_name_and_no_color_allow() {
        let of = |term, no_color| manner(term, no_color).map(|manner| (manner.has_colours, manner.glyphs));
        assert_eq!(of(Some("xterm-256color"), None), Some((true, Glyphs::Unicode)));
        assert_eq!(of(Some("xterm"), Some("1")), Some((false, Glyphs::Unicode)));
        assert_eq!(of(Some("xterm"), Some("")), Some((true, Glyphs::Unicode)), "NO_COLOR counts if it is not empty");
        assert_eq!(of(Some("linux"), None), Some((true, Glyphs::Ascii)));
        assert_eq!(
            (of(Some("vt100"), None), of(None, None)),
            (Some((false, Glyphs::Ascii)), Some((false, Glyphs::Unicode)))
        );
        assert_eq!(of(Some("dumb"), None), None, "it knows no sequences");
    }
}
