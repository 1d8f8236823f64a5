//! The writer: the one thread that touches the spool's files, so that a disk which does not answer holds up no one else.
//!
//! Callers put what they have in front of it and wait for a while. One who waits in vain continues from memory, as do all others from
//! then on, until the disk answers again.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use wasaba_core::clock;
use wasaba_core::text::counted;

use super::batch::{Batch, bound_in_words};
use super::disk::{Disk, Watched};
use super::files::Files;
use super::front::{Fault, Front, Hang, Job};
use super::store::Puts;
use super::trouble::Trouble;
use super::{Bounds, OpenError};

/// Slow calls together may take so many times as long as one.
const MOST_PATIENCE: u32 = 5;

pub(super) struct Shared {
    front: Mutex<Front>,
    /// Notified when there is something to do.
    work: Condvar,
    /// Notified when something was done.
    done: Condvar,
    /// How many calls the disk has answered.
    calls: Arc<AtomicU64>,
    bounds: Bounds,
    path: String,
}

/// What the writer does next.
enum Work {
    Job(Job),
    Commit(Commit),
}

struct Commit {
    batch: Arc<Batch>,
    puts: Arc<Puts>,
    now: i64,
    ticket: u64,
}

impl Shared {
    /// Starts the writer of the files on `disk`.
    pub(super) fn start(disk: Arc<dyn Disk>, bounds: Bounds, now: i64) -> io::Result<Arc<Self>> {
        let calls = Arc::new(AtomicU64::new(0));
        let shared = Arc::new(Self {
            front: Mutex::new(Front::at(now)),
            work: Condvar::new(),
            done: Condvar::new(),
            calls: Arc::clone(&calls),
            bounds,
            path: disk.path().join("wasaba.db").display().to_string(),
        });
        let (writer, disk) = (Arc::clone(&shared), Arc::new(Watched::new(disk, calls)));
        let thread = std::thread::Builder::new().name("spool".to_owned()).stack_size(wasaba_core::WORKER_STACK_BYTES);
        thread.spawn(move || {
            // However it ends, no one waits for it any longer.
            let _ended = Ended(Arc::clone(&writer));
            writer.run(Files::new(disk, bounds), now);
        })?;
        Ok(shared)
    }

    /// The path of the queue's file, for messages.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Front> {
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for what waits to be written. Returns the ticket to wait for.
    pub(super) fn ask(&self, front: &mut Front) -> u64 {
        front.asked += 1;
        self.work.notify_one();
        front.asked
    }

    /// Waits until `is_done`; gives up when the disk does not answer, and returns whether it has not.
    pub(super) fn wait<'a>(
        &'a self,
        mut front: MutexGuard<'a, Front>,
        is_done: impl Fn(&Front) -> bool,
    ) -> (MutexGuard<'a, Front>, bool) {
        let start = clock::instant();
        let (mut calls, mut last) = (self.calls.load(Ordering::Relaxed), start);
        loop {
            if is_done(&front) {
                return (front, true);
            }
            if front.hang.is_some() || front.is_ended {
                return (front, false);
            }
            let (now, seen) = (clock::instant(), self.calls.load(Ordering::Relaxed));
            if std::mem::replace(&mut calls, seen) != seen {
                last = now;
            }
            let quiet = now.saturating_duration_since(last);
            let total = now.saturating_duration_since(start);
            let Some(rest) = self.bounds.patience.checked_sub(quiet).filter(|rest| !rest.is_zero()) else { break };
            if total >= self.bounds.patience * MOST_PATIENCE {
                break;
            }
            front = self.done.wait_timeout(front, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
        front.hang = Some(Hang { since: front.now, instant: start, dropped: 0 });
        drop(front);
        tracing::warn!(
            "the disk of `{}` has not answered for {} s: keeping {} until it does",
            self.path,
            clock::since(start).as_secs(),
            bound_in_words()
        );
        (self.lock(), false)
    }

    /// Waits so long until `is_done`, even if the disk does not answer.
    pub(super) fn outwait<'a>(
        &'a self,
        front: MutexGuard<'a, Front>,
        patience: Duration,
        is_done: impl Fn(&Front) -> bool,
    ) -> MutexGuard<'a, Front> {
        let start = clock::instant();
        let is_waiting = |front: &mut Front| !is_done(front) && !front.is_ended;
        let waited = self.done.wait_timeout_while(front, patience, is_waiting);
        let (mut front, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() && front.hang.is_none() {
            // No one else waits for it.
            front.hang = Some(Hang { since: front.now, instant: start, dropped: 0 });
        }
        front
    }

    /// The answer of the files to `question`; `None` while the disk does not answer.
    pub(super) fn answer<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Files) -> T + Send + 'static,
    ) -> Option<T> {
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        let take = || answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut front = self.lock();
        if front.hang.is_some() || front.is_ended {
            return None;
        }
        front.jobs.push_back(Box::new(move |files| {
            let found = question(files);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        }));
        self.work.notify_one();
        let is_answered = |_: &Front| answer.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let (front, _) = self.wait(front, is_answered);
        drop(front);
        take()
    }

    /// Ends the writer, and waits for it unless the disk does not answer.
    pub(super) fn stop(&self) {
        let mut front = self.lock();
        front.is_stopping = true;
        self.work.notify_one();
        drop(self.wait(front, |front| front.is_ended));
    }

    fn run(&self, mut files: Files, now: i64) {
        let queue = files.open_queue(self.bounds.lock).err();
        let state = files.open_state(self.bounds.lock).err();
        self.opened(&files, [queue, state], now);
        files.take_lines(false).into_iter().map(Line::Warn).for_each(log);
        while let Some(work) = self.next() {
            match work {
                Work::Job(job) => {
                    job(&mut files);
                    if files.has_unreadable() {
                        self.ask(&mut self.lock());
                    }
                }
                Work::Commit(commit) => self.commit(&mut files, commit),
            }
            self.answers_again();
        }
    }

    fn next(&self) -> Option<Work> {
        let mut front = self.lock();
        loop {
            if let Some(job) = front.jobs.pop_front() {
                return Some(Work::Job(job));
            }
            if front.asked > front.answered {
                let batch = Arc::new(std::mem::take(&mut front.waiting));
                let puts = Arc::new(std::mem::take(&mut front.puts));
                front.flying = Some(Arc::clone(&batch));
                front.flying_puts = Some(Arc::clone(&puts));
                return Some(Work::Commit(Commit { batch, puts, now: front.now, ticket: front.asked }));
            }
            if front.is_stopping {
                return None;
            }
            front = self.work.wait(front).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn opened(&self, files: &Files, [queue, state]: [Option<Trouble>; 2], now: i64) {
        let (queue_path, state_path) = (files.queue_path(), files.state_path());
        let refusal = |error: &Option<Trouble>, path: &str| match error {
            Some(Trouble::InUse) => Some(OpenError::InUse(path.into())),
            Some(Trouble::Newer) => Some(OpenError::Newer(path.into())),
            _ => None,
        };
        let mut front = self.lock();
        let refusal = refusal(&queue, &queue_path).or_else(|| refusal(&state, &state_path));
        let is_refused = refusal.is_some();
        front.opened = Some(refusal.map_or(Ok(()), Err));
        if is_refused {
            // Whoever opens it says why, and ends.
            self.done.notify_all();
            return;
        }
        Self::restore(&mut front, files);
        let queue = queue.and_then(|error| fault(&mut front.fault, &error, now, &queue_path, false));
        let state = state.and_then(|error| fault(&mut front.state_fault, &error, now, &state_path, false));
        self.done.notify_all();
        drop(front);
        queue.into_iter().chain(state).for_each(log);
    }

    /// Takes over what is in files that were just opened.
    fn restore(front: &mut Front, files: &Files) {
        let now = front.now;
        files.readings().for_each(|(source, readings)| front.readings.restore(source, readings, now));
        front.host_id = front.host_id.take().or_else(|| files.host_id());
        front.picture = files.picture();
        front.remember(files.settled());
    }

    fn commit(&self, files: &mut Files, commit: Commit) {
        let Commit { batch, puts, now, ticket } = commit;
        let opened = files.open_state(Duration::ZERO);
        let state = opened.and_then(|is_new| files.put(&puts).map(|()| is_new));
        // The state comes first: a reading without its minute costs a rate, a minute without its reading would count twice.
        let opened = files.open_queue(Duration::ZERO);
        let queue = opened.and_then(|is_new| files.commit(&batch, now).map(|()| is_new));
        let picture = files.picture();

        let (queue_path, state_path) = (files.queue_path(), files.state_path());
        let mut lines = files.take_lines(false).into_iter().map(Line::Warn).collect::<Vec<_>>();
        let mut front = self.lock();
        front.flying = None;
        front.flying_puts = None;
        front.is_written = state.is_ok() && queue.is_ok();
        let is_new = [&state, &queue].into_iter().any(|opened| opened.as_ref().is_ok_and(|is_new| *is_new));
        if is_new {
            Self::restore(&mut front, files);
        }
        front.picture = picture;
        match state {
            Ok(_) => {
                if front.state_fault.take().is_some() {
                    lines.push(Line::Info(format!("`{state_path}` recovered")));
                }
            }
            Err(error) => {
                lines.extend(fault(&mut front.state_fault, &error, now, &state_path, files.has_state()));
                for (key, value) in puts.iter() {
                    front.puts.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
        }
        match queue {
            Ok(_) => {
                if let Some(fault) = front.fault.take() {
                    let how = if files.fails_to_read() { "can be written again, but not read" } else { "recovered" };
                    lines.push(Line::Info(format!(
                        "`{queue_path}` {how}: moved {} from memory to it; dropped {} meanwhile",
                        counted(batch.minutes.len() as u64, "minute"),
                        counted(fault.dropped, "point")
                    )));
                }
            }
            Err(error) => {
                let is_readable = front.picture.is_open;
                lines.extend(fault(&mut front.fault, &error, now, &queue_path, is_readable));
                front.waiting.put_back(Arc::unwrap_or_clone(batch));
            }
        }
        front.answered = ticket;
        self.done.notify_all();
        drop(front);
        lines.into_iter().for_each(log);
    }

    fn answers_again(&self) {
        let mut front = self.lock();
        let hang = front.hang.take();
        self.done.notify_all();
        drop(front);
        if let Some(hang) = hang {
            tracing::info!(
                "the disk of `{}` answers again, after {} s; dropped {} meanwhile",
                self.path,
                clock::since(hang.instant).as_secs(),
                counted(hang.dropped, "point")
            );
        }
    }
}

struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.lock().is_ended = true;
        self.0.done.notify_all();
    }
}

enum Line {
    Info(String),
    Warn(String),
    Error(String),
}

fn log(line: Line) {
    match line {
        Line::Info(line) => tracing::info!("{line}"),
        Line::Warn(line) => tracing::warn!("{line}"),
        Line::Error(line) => tracing::error!("{line}"),
    }
}

/// Notes why a file cannot be used, and returns the line about it if it is news.
fn fault(fault: &mut Option<Fault>, error: &Trouble, now: i64, path: &str, is_readable: bool) -> Option<Line> {
    let why = error.to_string();
    if fault.is_some() {
        return None;
    }
    *fault = Some(Fault { since: now, why: why.clone(), dropped: 0 });
    let used = if is_readable { "what is in it is still used" } else { "what it may hold is not used until then" };
    let memory = format!("keeping {} until it is usable; {used}", bound_in_words());
    Some(match error {
        Trouble::InUse => Line::Error(format!("`{path}` is in use by another wasaba: {memory}: stop one of the two")),
        Trouble::System(error) => Line::Warn(format!("cannot use `{path}`: {why}; {memory}{}", cure(error))),
        Trouble::Newer => Line::Warn(format!("cannot use `{path}`: {why}; {memory}: install that version again")),
    })
}

/// What to do about an error of the system. What the agent refuses by itself says so in its own words.
fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        _ if error.raw_os_error().is_none() && error.get_ref().is_some() => "",
        // Not for want of permissions, of which the error is another.
        _ if Errno::from_io_error(error) == Some(Errno::PERM) => {
            ": if it is immutable or append-only (`lsattr`), remove that attribute (`chattr -i`, `chattr -a`)"
        }
        ErrorKind::NotADirectory => ": a part of its path is not a folder: rename or remove that",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ": free disk space",
        ErrorKind::PermissionDenied => ": check its owner and permissions, and those of its folder",
        ErrorKind::ReadOnlyFilesystem => ": make its file system writable",
        _ => ": check its disk, and the limits of this process",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_immutable_is_not_said_to_lack_permissions() {
        let of = |errno: Errno| cure(&errno.into());
        assert!(of(Errno::PERM).contains("`chattr -i`") && !of(Errno::PERM).contains("permissions"));
        assert!(of(Errno::ACCESS).contains("check its owner and permissions"));
    }
}
