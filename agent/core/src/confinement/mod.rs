//! Confinement: what a process gives up, by the kernel's own means, so that a fault in it cannot be used for what it never does.
//!
//! Two processes confine themselves: the agent, once it knows what its configuration needs, and the compiler before it reads a byte. Each
//! layer holds without the others, since not every kernel has each. None can be taken back, and a program that is started inherits them.
//!
//! - [`files`]: what may be read, written, executed, and the TCP ports that may be connected to (Landlock, Linux 5.13).
//! - [`calls`]: the system calls (seccomp).
//! - [`no_new_privileges`]: no program that is started gains any (Linux 3.5).
//! - [`no_new_code`]: no memory can be both written and executed (Linux 6.3; [`calls`] refuses the same on any).

pub mod calls;
pub mod files;

/// No program that is started gains privileges from its file: no setuid, no file capabilities.
///
/// # Errors
/// The kernel has no such thing.
pub fn no_new_privileges() -> std::io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// From now on no memory of this process becomes executable.
///
/// # Errors
/// The kernel has no such thing.
pub fn no_new_code() -> std::io::Result<()> {
    let (refuses, none) = (libc::c_ulong::from(libc::PR_MDWE_REFUSE_EXEC_GAIN), 0_u64 as libc::c_ulong);
    #[expect(unsafe_code, reason = "no crate of ours has this call; see SAFETY")]
    // SAFETY: it takes numbers alone.
    let refused = unsafe { libc::prctl(libc::PR_SET_MDWE, refuses, none, none, none) };
    if refused == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
