//! The pid file, by which scripts find the agent, and a second one finds the first.
//!
//! As with the official agent, one that cannot be written keeps the agent from starting, since a script could not stop it; but not if
//! that passes by itself: an agent on a full disk is needed more than its pid file, which is written once the disk takes it.

use std::convert::Infallible;
use std::fs::{File, Metadata};
use std::io::Error;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use machine::roots;
use wasaba_core::paths::own::{self, Folder};
use wasaba_core::paths::{passing, patient};

use super::{ending, look};

/// When it is tried again to write it.
const TRIED_AGAIN: Duration = Duration::from_secs(60);

/// More than any process id, with a line break.
const LONGEST_PID_BYTES: usize = 64;

/// The pid file, removed when the agent exits.
pub struct Pidfile {
    file: PathBuf,
    written: Option<File>,
    /// Why it is not.
    unwritten: Option<String>,
}

/// Why it is not written.
enum Unwritten {
    /// Another agent is running, or the file cannot be one.
    Refused(String),
    /// The disk does not take it now.
    Passing(String),
}

impl Unwritten {
    fn of(error: &Error, file: &Path) -> Self {
        let why = format!("cannot write the pid file `{}`: {error}", file.display());
        match passing::cure(error) {
            Some(cure) => Self::Passing(format!("{why}; the agent runs without it until it can be written: {cure}")),
            None => Self::Refused(format!("{why}; name another one with -pidfile")),
        }
    }
}

impl Pidfile {
    /// Writes it, unless the disk does not take it now: see [`Pidfile::keep`].
    ///
    /// # Errors
    /// Another agent is running by this file, or it cannot be one, with the cure.
    pub fn claim(file: &Path) -> Result<Self, String> {
        let (written, unwritten) = match write_in_time(file) {
            Ok(written) => (Some(written), None),
            Err(Unwritten::Refused(why)) => return Err(why),
            Err(Unwritten::Passing(why)) => (None, Some(why)),
        };
        Ok(Self { file: file.to_owned(), written, unwritten })
    }

    /// Logs why it is not written, and writes it as soon as that is possible.
    pub async fn keep(&mut self) -> Infallible {
        if let Some(why) = self.unwritten.take() {
            tracing::error!("{why}");
        }
        while self.written.is_none() {
            tokio::time::sleep(TRIED_AGAIN).await;
            let file = self.file.clone();
            let shown = self.file.display();
            match tokio::task::spawn_blocking(move || write_in_time(&file)).await {
                Ok(Ok(written)) => {
                    tracing::info!("wrote the pid file `{shown}`");
                    self.written = Some(written);
                }
                Ok(Err(Unwritten::Refused(why))) => {
                    tracing::error!("{why}; it is not tried again");
                    break;
                }
                Ok(Err(Unwritten::Passing(_))) | Err(_) => {}
            }
        }
        std::future::pending().await
    }
}

/// Why the file cannot be the pid file, as far as can be seen without writing it.
///
/// # Errors
/// The system's.
pub fn check(file: &Path) -> std::io::Result<()> {
    patient::ask(file, patient::LOOK, own::would_open_or_create)?
}

/// The process of the agent that runs by this pid file, if one does.
#[must_use]
pub fn running(file: &Path) -> Option<u32> {
    look::at(format_args!("the pid file `{}`", file.display()));
    let text = own::read(file, LONGEST_PID_BYTES as u64).ok()?;
    let process = str::from_utf8(&text).ok()?.trim().parse().ok()?;
    program(process).filter(|name| Some(name) == program(std::process::id()).as_ref()).map(|_| process)
}

fn write_in_time(file: &Path) -> Result<File, Unwritten> {
    patient::ask(file, patient::LOOK, write).unwrap_or_else(|error| Err(Unwritten::of(&error, file)))
}

fn write(file: &Path) -> Result<File, Unwritten> {
    let cannot = |error: Error| Unwritten::of(&error, file);
    let own = std::process::id();
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        Folder::create(folder, 0o755).map_err(cannot)?;
    }
    let open = own::open_or_create(file, 0o644).map_err(cannot)?;
    let mut text = [0; LONGEST_PID_BYTES];
    let length = open.read_at(&mut text, 0).map_err(cannot)?;
    let other = str::from_utf8(text.get(..length).unwrap_or_default()).ok();
    if let Some(other) = other.and_then(|text| text.trim().parse::<u32>().ok())
        && other != own
        && program(other).is_some_and(|name| Some(name) == program(own))
    {
        let why = format!("wasaba is already running, as process {other} (pid file `{}`)", file.display());
        return Err(Unwritten::Refused(why));
    }
    open.set_len(0).and_then(|()| open.write_all_at(own.to_string().as_bytes(), 0)).map_err(cannot)?;
    Ok(open)
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // A disk that does not answer must not hold up the end.
        if let Some(written) = self.written.take() {
            patient::ask(&self.file, ending::patience(patient::LOOK), move |file| remove(file, &written)).ok();
        }
    }
}

/// Only our own: another agent may have claimed the file since. By what was opened at the start, since the agent may have given up reading
/// there.
#[expect(clippy::disallowed_methods, reason = "only the name goes, and the file was just compared with our own")]
fn remove(file: &Path, written: &File) {
    let mut text = [0; LONGEST_PID_BYTES];
    let own = std::process::id().to_string();
    let has_own = written.read_at(&mut text, 0).is_ok_and(|length| text.get(..length) == Some(own.as_bytes()));
    let identity = |about: Metadata| (about.dev(), about.ino());
    let is_there = || Some(identity(file.symlink_metadata().ok()?) == identity(written.metadata().ok()?));
    if has_own && is_there() == Some(true) {
        std::fs::remove_file(file).ok();
    }
}

/// The file name of the program that runs as `process`.
fn program(process: u32) -> Option<String> {
    let line = roots::read(format!("/proc/{process}/cmdline").as_ref()).ok()?;
    let path = line.split('\0').next()?;
    path.rsplit('/').next().map(str::to_owned).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_pid_file_of_a_dead_or_foreign_process_is_taken_over() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("run/agent.pid");
        for content in ["", "junk", "1", "4294967295"] {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, content).unwrap();
            let claimed = Pidfile::claim(&file).unwrap_or_else(|error| panic!("{content:?}: {error}"));
            assert_eq!(fs::read_to_string(&file).unwrap(), std::process::id().to_string());
            drop(claimed);
            assert!(!file.exists());
        }
    }

    #[test]
    fn a_pid_file_is_written_neither_through_a_link_nor_into_a_pipe_nor_under_a_second_name() {
        let temp = tempfile::tempdir().unwrap();
        let (victim, file) = (temp.path().join("victim"), temp.path().join("agent.pid"));
        fs::write(&victim, "precious").unwrap();
        let plant: [&dyn Fn(); 4] = [
            &|| std::os::unix::fs::symlink(&victim, &file).unwrap(),
            &|| std::os::unix::fs::symlink(temp.path().join("dangling"), &file).unwrap(),
            &|| fs::hard_link(&victim, &file).unwrap(),
            &|| rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RUSR).unwrap(),
        ];
        for plant in plant {
            plant();
            let error = Pidfile::claim(&file).err().unwrap();
            assert!(error.contains("remove it") && error.contains("-pidfile"), "{error}");
            fs::remove_file(&file).unwrap();
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert!(!temp.path().join("dangling").exists());
    }

    #[test]
    fn a_pid_file_that_cannot_be_written_is_reported_with_its_path_and_the_flag() {
        let temp = tempfile::tempdir().unwrap();
        let error = Pidfile::claim(temp.path()).err().unwrap();
        assert!(error.contains("-pidfile") && error.contains(&temp.path().display().to_string()), "{error}");
    }

    #[test]
    fn only_what_passes_by_itself_lets_the_agent_run_without_its_pid_file() {
        let file = Path::new("/run/agent.pid");
        let of = |errno: Errno| Unwritten::of(&errno.into(), file);
        for passing in [Errno::NOSPC, Errno::ROFS, Errno::MFILE, Errno::FBIG] {
            assert!(matches!(of(passing), Unwritten::Passing(why) if why.contains("/run/agent.pid")), "{passing}");
        }
        for mistake in [Errno::ACCESS, Errno::NOTDIR, Errno::LOOP] {
            assert!(matches!(of(mistake), Unwritten::Refused(why) if why.contains("-pidfile")), "{mistake}");
        }
    }

    #[test]
    fn by_its_pid_file_only_a_process_of_this_program_is_taken_for_an_agent() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("agent.pid");
        assert_eq!(running(&file), None);
        for (text, process) in [(std::process::id().to_string(), Some(std::process::id())), ("1".to_owned(), None)] {
            fs::write(&file, text).unwrap();
            assert_eq!(running(&file), process);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pid_file_that_the_disk_did_not_take_is_written_later() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("agent.pid");
        let mut pidfile = Pidfile { file: file.clone(), written: None, unwritten: None };
        tokio::select! {
            never = pidfile.keep() => match never {},
            () = async { while !file.exists() { tokio::time::sleep(TRIED_AGAIN / 4).await } } => {}
        }
        drop(pidfile);
        assert!(!file.exists());
    }
}
