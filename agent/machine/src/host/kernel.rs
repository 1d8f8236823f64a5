//! The kernel, from `uname`, and the platform around it.

use std::ffi::CStr;

use serde::Serialize;
use sysinfo::System;

use super::platform::Platform;
use crate::roots::Roots;

/// The keys in alphabetical order, as the official agent sends them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Kernel {
    machine: String,
    name: String,
    os: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform_version: Option<String>,
    release: String,
    version: String,
}

/// The fields of `uname`.
#[derive(Clone, Debug)]
pub(super) struct Uname {
    pub(super) name: String,
    pub(super) nodename: String,
    pub(super) release: String,
    pub(super) version: String,
    pub(super) machine: String,
}

impl Uname {
    /// A container has a node name of its own; its host's is in `/etc/hostname`, and without one [`Roots::missing`] says so.
    pub(super) fn of(roots: &Roots) -> Self {
        let this = Self::of_this_machine();
        let name = roots.host.as_ref().and_then(|_| roots.hostname());
        Self { nodename: name.unwrap_or(this.nodename), ..this }
    }

    fn of_this_machine() -> Self {
        let uname = rustix::system::uname();
        let text = |field: &CStr| field.to_string_lossy().into_owned();
        Self {
            name: text(uname.sysname()),
            nodename: System::host_name().unwrap_or_else(|_| text(uname.nodename())),
            release: System::kernel_version().unwrap_or_else(|_| text(uname.release())),
            version: text(uname.version()),
            machine: text(uname.machine()),
        }
    }
}

/// Both together. `os` is what `uname -o` prints with GNU's tools. With others it would be `Linux`; but the kernel does not know
/// them, and Mackerel only shows it.
pub(super) fn kernel(uname: Uname, platform: Option<Platform>) -> Kernel {
    let Uname { name, nodename: _, release, version, machine } = uname;
    let (platform_name, platform_version) =
        platform.map_or((None, None), |platform| (Some(platform.name), platform.version));
    Kernel { machine, name, os: "GNU/Linux", platform_name, platform_version, release, version }
}
