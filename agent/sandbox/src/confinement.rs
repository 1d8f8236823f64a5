//! What the compiler's process gives up before it reads a byte of a component: its user, every capability, files, the network,
//! new processes. What is left can compute, read standard input and write standard output and error.
//!
//! Each layer holds without the others, since not every machine has each: in a container the user cannot always be changed, and
//! an old kernel has no seccomp.

use std::os::fd::AsFd;

use libc::c_long;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};
use wasaba_core::confinement;
use wasaba_core::confinement::calls::Calls;

/// The users and groups that own nothing; the first that exists is taken. Who has the same user as the compiler may kill it, and 65,534
/// has whatever a machine runs without a user of its own. The first is "wasa" in ASCII. It is above all that is given to users (below
/// 65,536), to containers (524,288 to 1,879,048,191, and what /etc/subuid says), and below systemd's foreign files (from 2,147,352,576). In a
/// container that has only some users, it does not exist.
const NOBODIES: [u32; 2] = [0x7761_7361, 65_534];

/// Gives up everything but the open standard streams. `cpu_seconds` and `memory_bytes` are what is left to use.
///
/// # Errors
/// A limit cannot be set, or the agent is gone.
pub(crate) fn confine(cpu_seconds: u64, memory_bytes: u64) -> Result<(), String> {
    become_first_victim();
    become_unprivileged_user();
    end_with_the_agent()?;
    // One second between the signal that says why and the one that cannot be ignored, so that the latter is never ours.
    let limits = [
        (Resource::Cpu, cpu_seconds, cpu_seconds.saturating_add(1)),
        (Resource::As, memory_bytes, memory_bytes),
        (Resource::Core, 0, 0),
        (Resource::Fsize, 0, 0),
        (Resource::Nofile, 0, 0),
        (Resource::Nproc, 0, 0),
    ];
    for (resource, current, maximum) in limits {
        setrlimit(resource, Rlimit { current: Some(current), maximum: Some(maximum) })
            .map_err(|error| format!("cannot limit the compiler: {error}"))?;
    }
    // Needed for the filter without privileges; without it, a kernel without seccomp has at least this.
    confinement::no_new_privileges().map_err(|error| format!("cannot drop privileges: {error}"))?;
    // Where the kernel has no seccomp, the other layers hold.
    calls().only().ok();
    Ok(())
}

/// The first that the kernel kills when memory runs out. Fails only where /proc is missing.
#[expect(clippy::disallowed_methods, reason = "the kernel's own file, which no user can put another in place of")]
fn become_first_victim() {
    std::fs::write("/proc/self/oom_score_adj", "1000").ok();
}

/// Where root is not mapped to more than one user (a container), the user stays, without its capabilities.
fn become_unprivileged_user() {
    if rustix::process::geteuid().is_root() {
        rustix::thread::set_thread_groups(&[]).ok();
        for id in NOBODIES {
            let (group, user) = (Gid::from_raw(id), Uid::from_raw(id));
            let changed = rustix::thread::set_thread_res_gid(group, group, group);
            if changed.and_then(|()| rustix::thread::set_thread_res_uid(user, user, user)).is_ok() {
                break;
            }
        }
    }
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, none).ok();
}

/// Else an agent that ends while this compiles leaves it behind, for as long and as large as its limits allow. The kernel forgets the
/// signal when the user changes, so this comes later. It is sent when the thread ends that has started this process: that one waits for
/// it (`compiler::exchange`).
fn end_with_the_agent() -> Result<(), String> {
    // Where the kernel refuses, the limits hold.
    set_parent_process_death_signal(Some(Signal::KILL)).ok();
    // It may have ended before.
    if is_unread(std::io::stdout()) { Err("the agent has ended".to_owned()) } else { Ok(()) }
}

/// Whether `output` is a pipe that no one will read.
fn is_unread(output: impl AsFd) -> bool {
    let mut polled = [PollFd::new(&output, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&at_once)).is_ok() && polled.iter().any(|output| output.revents().contains(PollFlags::ERR))
}

/// What computing needs, and reading and writing what is open.
const COMPUTING: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Those, without executable memory, and what aborting uses, only for this process itself.
fn calls() -> Calls {
    let own = [std::process::id().cast_signed()];
    Calls::any(COMPUTING)
        .without(libc::SYS_mmap, 2, libc::PROT_EXEC)
        .without(libc::SYS_mprotect, 2, libc::PROT_EXEC)
        .with(libc::SYS_tkill, 0, &own)
        .with(libc::SYS_tgkill, 0, &own)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{ChildStdout, Command, Stdio};
    use std::time::Duration;

    /// Runs only as the child of the test below: the test program gives everything up and tries to get at it.
    #[test]
    #[ignore = "confines the process that it runs in"]
    fn confined() {
        super::confine(60, 4 << 30).unwrap();
        assert!(std::fs::File::open("/etc/hostname").is_err(), "a file");
        assert!(std::fs::File::open("/dev/null").is_err(), "a device");
        assert!(std::fs::write("/tmp/confined", "x").is_err(), "a new file");
        assert!(std::fs::remove_file("/tmp/confined").is_err_and(|error| error.raw_os_error() == Some(libc::EPERM)));
        assert!(std::net::TcpListener::bind("127.0.0.1:0").is_err(), "the network");
        assert!(std::os::unix::net::UnixStream::pair().is_err(), "a socket");
        assert!(Command::new("/bin/true").spawn().is_err(), "a process");
        assert!(std::thread::Builder::new().spawn(|| ()).is_err(), "a thread");
        let parent = rustix::process::getppid();
        assert!(parent.is_none_or(|parent| rustix::process::test_kill_process(parent).is_err()), "a signal");
        let capabilities = rustix::thread::capabilities(None);
        assert!(capabilities.is_err(), "even asking is refused");
        let more = rustix::process::Rlimit { current: Some(100), maximum: Some(100) };
        assert!(rustix::process::setrlimit(rustix::process::Resource::Nofile, more).is_err(), "a higher limit");
        assert_eq!(vec![1_u8; 10 << 20].len(), 10 << 20, "it still computes");
    }

    #[test]
    fn a_confined_process_has_no_file_no_network_and_no_process() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["confinement::tests::confined", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{}: {said}", output.status);
    }

    /// Runs only as a child of the tests below.
    #[test]
    #[ignore = "confines the process that it runs in"]
    fn waits() {
        super::confine(60, 4 << 30).unwrap();
        // The user is that of the thread; the compiler has one.
        println!("confined: {}/task/{}", std::process::id(), rustix::thread::gettid());
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }

    const WAITS: [&str; 5] = ["confinement::tests::waits", "--exact", "--ignored", "--nocapture", "--test-threads=1"];

    /// The thread that `waits`, below /proc, once it is confined.
    fn confined_thread(output: &mut BufReader<ChildStdout>) -> String {
        let mut lines = output.lines().map_while(Result::ok);
        lines.find_map(|line| Some(line.split_once("confined: ")?.1.to_owned())).unwrap()
    }

    #[test]
    fn the_compiler_ends_with_the_agent_that_started_it() {
        // In the agent's place: a shell.
        let mut agent = Command::new("/bin/sh")
            .args(["-c", "\"$@\"; :", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(WAITS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(agent.stdout.take().unwrap());
        let thread = confined_thread(&mut output);
        let input = agent.stdin.take();
        agent.kill().unwrap();
        agent.wait().unwrap();
        let (ended, is_ended) = std::sync::mpsc::channel();
        // The end of its output is its own.
        let reader = std::thread::spawn(move || ended.send(output.read_to_end(&mut Vec::new()).is_ok()));
        let is_ended = is_ended.recv_timeout(Duration::from_secs(60));
        drop(input);
        assert_eq!(is_ended, Ok(true), "{thread} is left behind");
        reader.join().unwrap().unwrap();
    }

    #[test]
    fn no_process_of_another_user_has_the_compilers_user() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(WAITS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let thread = confined_thread(&mut BufReader::new(child.stdout.take().unwrap()));
        let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        let of_all = |user| status.contains(&format!("Uid:\t{user}\t{user}\t{user}\t{user}\nGid:\t{user}\t"));
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
        let has_all = map.split_whitespace().eq(["0", "0", "4294967295"]);
        if rustix::process::geteuid().is_root() {
            assert!(of_all(2_002_875_233) || (!has_all && of_all(65_534)), "{status}");
        }
    }

    #[test]
    fn a_compiler_whose_agent_has_ended_before_it_begins_is_noticed_by_its_pipe() {
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(!super::is_unread(&writer));
        drop(reader);
        assert!(super::is_unread(&writer));
        assert!(!super::is_unread(std::fs::File::open("/dev/null").unwrap()), "not a pipe");
    }
}
