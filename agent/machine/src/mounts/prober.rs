//! The prober: reads the sizes of mounted file systems, and does not wait for one that hangs.
//!
//! A file system on a dying disk or a lost device can keep `statvfs` in the kernel forever, where no signal ends it. So a thread
//! probes one mount after the other; one that hangs keeps that thread, and is skipped until the thread returns. A new thread probes
//! the others. When nothing hangs, one thread waits for the next call.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

/// The time limit of one mount. A healthy one takes microseconds, a disk that must spin up is no slower (the numbers are in
/// memory), and ten mounts that hang at once still fit into a minute.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// `statvfs` needs very little; this leaves room for a panic's message.
const STACK_BYTES: usize = 128 << 10;

/// The size of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes per block.
    pub block_bytes: u64,
    /// All blocks.
    pub blocks: u64,
    /// Unused blocks.
    pub free: u64,
    /// Blocks that an unprivileged user may still use.
    pub available: u64,
}

/// The result of probing one mount.
#[derive(Debug)]
pub enum Answer {
    /// It has this size.
    Space(Space),
    /// `statvfs` failed.
    Failed(io::Error),
    /// No answer within the limit, now or in an earlier call.
    Hung,
}

/// Probes mounts. Clones share the list of mounts that hang, and take turns: so no mount ever holds two threads.
#[derive(Clone)]
pub struct Prober {
    probe: Arc<Probe>,
    deadline: Duration,
    workers: Arc<Mutex<Workers>>,
}

#[derive(Default)]
struct Workers {
    /// The worker of the last call: a new thread every minute would cost more than the probes.
    idle: Option<Worker>,
    stuck: Vec<Stuck>,
}

/// A thread that probes mounts. It hands each answer over before the next probe (hence no room in the channels), so one that was
/// abandoned ends with the probe on which it was stuck.
struct Worker {
    thread: JoinHandle<()>,
    points: SyncSender<PathBuf>,
    answers: Receiver<io::Result<Space>>,
}

type Probe = dyn Fn(&Path) -> io::Result<Space> + Send + Sync;

struct Stuck {
    point: PathBuf,
    thread: JoinHandle<()>,
}

impl Prober {
    /// A prober that calls `probe` for each mount; for tests, which simulate mounts that hang.
    pub fn new(probe: impl Fn(&Path) -> io::Result<Space> + Send + Sync + 'static, deadline: Duration) -> Self {
        Self { probe: Arc::new(probe), deadline, workers: Arc::default() }
    }

    /// The one that calls `statvfs`. There is one for the whole process, since a mount hangs for every caller.
    #[must_use]
    pub fn of_this_process() -> Self {
        static PROBER: LazyLock<Prober> = LazyLock::new(|| Prober::new(statvfs, DEADLINE));
        PROBER.clone()
    }

    /// Probes each of `points`; the answers are in the same order. Takes [`DEADLINE`] at most for each that newly hangs.
    #[must_use]
    pub fn probe(&self, points: &[&Path]) -> Vec<Answer> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let Workers { idle, stuck } = &mut *workers;
        stuck.retain(|stuck| !stuck.thread.is_finished());
        points
            .iter()
            .map(|&point| {
                if stuck.iter().any(|stuck| stuck.point == point) {
                    return Answer::Hung;
                }
                let worker = match idle.take().map_or_else(|| self.worker(), Ok) {
                    Ok(worker) => worker,
                    Err(error) => return Answer::Failed(error),
                };
                // A worker that has ended cannot take the point, and then gives no answer either.
                worker.points.send(point.to_owned()).ok();
                match worker.answers.recv_timeout(self.deadline) {
                    Ok(answer) => {
                        *idle = Some(worker);
                        answer.map_or_else(Answer::Failed, Answer::Space)
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        stuck.push(Stuck { point: point.to_owned(), thread: worker.thread });
                        Answer::Hung
                    }
                    Err(RecvTimeoutError::Disconnected) => Answer::Failed(io::Error::other("the probe panicked")),
                }
            })
            .collect()
    }

    fn worker(&self) -> io::Result<Worker> {
        let (points, requested) = sync_channel::<PathBuf>(0);
        let (answered, answers) = sync_channel(0);
        let probe = Arc::clone(&self.probe);
        let probe_all = move || {
            for point in requested {
                if answered.send(probe(&point)).is_err() {
                    return;
                }
            }
        };
        let thread = Builder::new().name("statvfs".to_owned()).stack_size(STACK_BYTES).spawn(probe_all)?;
        Ok(Worker { thread, points, answers })
    }
}

impl fmt::Debug for Prober {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Prober").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

fn statvfs(point: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(point)?;
    Ok(Space { block_bytes: stat.f_frsize, blocks: stat.f_blocks, free: stat.f_bfree, available: stat.f_bavail })
}

/// The sizes of the frozen machine's file systems: block size, blocks, free, available.
#[cfg(test)]
pub(crate) fn frozen_space(point: &Path) -> io::Result<Space> {
    let (block_bytes, blocks, free, available) = match point.to_str().unwrap() {
        "/" => (4096, 5_000_000, 2_000_000, 1_750_000),
        "/dev" => (4096, 995_000, 995_000, 995_000),
        "/run" | "/run/user/1000" => (4096, 200_000, 199_000, 199_000),
        "/dev/shm" => (4096, 1_000_000, 1_000_000, 1_000_000),
        "/boot/efi" => (512, 1_000_001, 999_000, 999_000),
        "/var/lib/pgsql" => (4096, 25_000_000, 24_000_000, 23_500_000),
        "/srv/my data" => (4096, 1000, 400, 350),
        "/srv/raid" => (4096, 1_000_000, 0, 0),
        "/snap/core/16928" => (131_072, 600, 0, 0),
        "/var/lib/docker/overlay2/5c0e1d/merged" => (4096, 5_000_000, 2_000_000, 1_750_000),
        "/sys/fs/cgroup" | "/run/docker/netns/5c0e1d" => (4096, 0, 0, 0),
        "/var/lib/docker/devicemapper/mnt/78ac" => (4096, 2_500_000, 2_400_000, 2_300_000),
        _ => return Err(io::Error::other("this mount must not be probed")),
    };
    Ok(Space { block_bytes, blocks, free, available })
}

/// A prober of the frozen machine.
#[cfg(test)]
pub(crate) fn frozen() -> Prober {
    Prober::new(frozen_space, DEADLINE)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    const SPACE: Space = Space { block_bytes: 1, blocks: 1, free: 1, available: 1 };

    /// A prober for which `/hung` answers only after the returned sender was dropped, and how often `/hung` was probed.
    fn with_a_hung_mount() -> (Prober, Sender<()>, Arc<AtomicUsize>) {
        let (release, gate) = channel::<()>();
        let gate = Mutex::new(gate);
        let probes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&probes);
        let probe = move |point: &Path| {
            if point == Path::new("/hung") {
                count.fetch_add(1, Ordering::SeqCst);
                gate.lock().unwrap().recv().unwrap_err();
            }
            Ok(SPACE)
        };
        // Long enough for a thread to start on a busy machine.
        (Prober::new(probe, Duration::from_secs(5)), release, probes)
    }

    fn answers(prober: &Prober) -> String {
        let answers = prober.probe(&[Path::new("/a"), Path::new("/hung"), Path::new("/b"), Path::new("/c")]);
        let word = |answer: &Answer| match answer {
            Answer::Space(_) => 's',
            Answer::Failed(_) => 'f',
            Answer::Hung => 'h',
        };
        answers.iter().map(word).collect()
    }

    #[test]
    fn a_mount_that_hangs_does_not_stop_the_others() {
        let (prober, release, _) = with_a_hung_mount();
        assert_eq!(answers(&prober), "shss");
        drop(release);
    }

    #[test]
    fn a_mount_that_hangs_holds_one_thread_and_is_probed_once() {
        let (prober, release, probes) = with_a_hung_mount();
        for _ in 0..3 {
            assert_eq!(answers(&prober.clone()), "shss");
        }
        assert_eq!(prober.workers.lock().unwrap().stuck.len(), 1);
        assert_eq!(probes.load(Ordering::SeqCst), 1);
        drop(release);
    }

    #[test]
    fn a_mount_that_recovered_is_probed_again() {
        let (prober, release, probes) = with_a_hung_mount();
        assert_eq!(answers(&prober), "shss");
        drop(release);
        let stuck = prober.workers.lock().unwrap().stuck.pop().unwrap();
        stuck.thread.join().unwrap();
        assert_eq!(answers(&prober), "ssss");
        assert_eq!(probes.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_probe_that_panics_costs_one_answer() {
        let prober =
            Prober::new(|point| if point == Path::new("/hung") { panic!("boom") } else { Ok(SPACE) }, DEADLINE);
        assert_eq!(answers(&prober), "sfss");
        assert!(prober.workers.lock().unwrap().stuck.is_empty());
    }
}
