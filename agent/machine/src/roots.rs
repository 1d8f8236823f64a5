//! The roots: the folders from which this machine is read, and how a file below them is read.
//!
//! They are settings so that the shipped code can be pointed at a frozen machine. Nothing is parsed here.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use wasaba_core::collect::Fault;

/// Where `/proc`, `/sys`, `/dev` and `/etc` are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Stands for `/proc`.
    pub proc: PathBuf,
    /// Stands for `/sys`.
    pub sys: PathBuf,
    /// Stands for `/dev`.
    pub dev: PathBuf,
    /// Stands for `/etc`, which names the platform.
    pub etc: PathBuf,
    /// Stands for the clouds' metadata services: `http://127.0.0.1:8080`.
    pub metadata: Option<String>,
    /// Where a container that monitors its host has the host's `/`; see [`Roots::of_host`].
    pub host: Option<PathBuf>,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
            dev: "/dev".into(),
            etc: "/etc".into(),
            metadata: None,
            host: None,
        }
    }
}

impl Roots {
    /// The roots of the host whose `/` is mounted at `root` in this container.
    #[must_use]
    pub fn of_host(root: &Path) -> Self {
        let [proc, sys, dev, etc] = ["proc", "sys", "dev", "etc"].map(|folder| root.join(folder));
        Self { proc, sys, dev, etc, host: Some(root.to_owned()), ..Self::default() }
    }

    /// A file of `/proc` that depends on the namespaces of the reading process: `mountinfo`, `net/dev`. A host's are those of its
    /// first process, which every user may read.
    #[must_use]
    pub fn seen(&self, file: &str) -> PathBuf {
        self.proc.join(if self.host.is_some() { "1" } else { "self" }).join(file)
    }

    /// What is missing of the host's files: a message each, with the cure. A host that `has_display_name` needs no other name.
    #[must_use]
    pub fn missing(&self, has_display_name: bool) -> Vec<String> {
        let Some(host) = &self.host else { return Vec::new() };
        let files = [self.proc.join("stat"), self.seen("mountinfo"), self.sys.join("class"), self.etc.clone()];
        let is_missing = |file: &PathBuf| std::fs::metadata(file).is_err();
        let cure = format!("mount the host's / with its submounts: -v /:{}:ro,rslave", host.display());
        let missing = files.iter().filter(|file| is_missing(file));
        let missing = missing.map(|file| format!("`{}` is missing; {cure}", file.display()));
        let hostname = self.etc.join("hostname");
        let nameless = (!has_display_name && self.hostname().is_none()).then(|| {
            let cure = "write the host's name into that file, or `display_name` into the configuration";
            format!("`{}` has no name, so this host has the container's name on Mackerel; {cure}", hostname.display())
        });
        missing.chain(nameless).collect()
    }

    /// The name in `/etc/hostname`: its first line that is neither empty nor a comment, hostname(5).
    #[must_use]
    pub fn hostname(&self) -> Option<String> {
        let text = read(&self.etc.join("hostname")).ok()?;
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
        lines.filter(|line| !line.starts_with('#')).find(|line| !line.is_empty()).map(str::to_owned)
    }
}

/// The most that is read of a file. The largest that is real, the mounts of a machine with 10,000 containers, has about 2 MB;
/// a longer one is not the file that we expect.
const LARGEST: u64 = 8 << 20;

/// Reads a file once. For one that is read every minute, keep a [`RereadFile`].
///
/// # Errors
/// The system's error, with the path; or a file above 8 MiB.
pub fn read(path: &Path) -> Result<String, Fault> {
    RereadFile::at(path.to_owned()).read().map(Cow::into_owned)
}

/// The names in a folder; none if it cannot be read.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the only module that opens the kernel's files")]
pub fn names(folder: &Path) -> Vec<OsString> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
}

/// One file that is read every minute, always into the same memory.
#[derive(Debug)]
pub struct RereadFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl RereadFile {
    /// The file at `path`; it is not opened yet.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path, bytes: Vec::new() }
    }

    /// Its text now. Bytes that are not UTF-8 (mount points may have them) are replaced, so that one odd name does not cost the others.
    ///
    /// # Errors
    /// As for [`read`].
    pub fn read(&mut self) -> Result<Cow<'_, str>, Fault> {
        self.fill().map_err(|error| Fault::reading(&self.path, &error))?;
        Ok(String::from_utf8_lossy(&self.bytes))
    }

    /// The fault of a file that could be read but is invalid: "`/proc/stat` " and then `why`.
    #[must_use]
    pub fn fault(&self, why: &str) -> Fault {
        Fault::new(format!("`{}` {why}", self.path.display()))
    }

    #[expect(clippy::disallowed_methods, reason = "the only module that opens the kernel's files")]
    fn fill(&mut self) -> io::Result<()> {
        self.bytes.clear();
        // Behind `take`: `File::read_to_end` would reserve memory by the length, which is always 0 in /proc.
        let read = File::open(&self.path)?.take(LARGEST).read_to_end(&mut self.bytes)?;
        if read as u64 == LARGEST { Err(io::Error::other("larger than 8 MiB")) } else { Ok(()) }
    }
}

/// The whole lines of `text`. A piece after the last line break is skipped: it was cut, and half a number is a wrong one.
pub fn whole_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'))
}

/// The frozen machine in tests/fixtures/machine, and the golden files beside it.
#[cfg(test)]
pub(crate) mod frozen {
    pub(crate) use wasaba_testing::golden::{assert_golden, file};

    use super::*;

    pub(crate) fn roots() -> Roots {
        Roots { proc: file("proc"), sys: file("sys"), dev: file("dev"), etc: file("etc"), ..Roots::default() }
    }

    /// One folder as all roots.
    pub(crate) fn all_in(folder: &Path) -> Roots {
        Roots { proc: folder.into(), sys: folder.into(), dev: folder.into(), etc: folder.into(), ..Roots::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named() {
        let fault = read(Path::new("/nowhere/stat")).unwrap_err();
        assert!(fault.text.starts_with("cannot read `/nowhere/stat`: "), "{fault}");
    }

    /// A folder as a host's `/`, with this `/etc/hostname`.
    fn host(hostname: Option<&str>) -> (tempfile::TempDir, Roots) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["proc/1", "sys/class", "etc"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        for name in ["proc/stat", "proc/1/mountinfo"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        if let Some(hostname) = hostname {
            std::fs::write(folder.path().join("etc/hostname"), hostname).unwrap();
        }
        let roots = Roots::of_host(folder.path());
        (folder, roots)
    }

    #[test]
    fn the_name_of_a_host_is_the_first_line_that_is_not_a_comment() {
        for (text, expected) in [
            ("web1\n", "web1"),
            ("# made by cloud-init\n\n  web1.example.com  \n", "web1.example.com"),
            ("#web0\nweb1\nweb2\n", "web1"),
            ("web1\r\n", "web1"),
            ("\u{feff}web1", "web1"),
            // microsoft/OMS-Agent-for-Linux#276: the file is mounted, and its name is meant.
            ("\nmy-vm", "my-vm"),
        ] {
            let (_folder, roots) = host(Some(text));
            assert_eq!(roots.hostname().as_deref(), Some(expected), "{text:?}");
            assert_eq!(roots.missing(false), Vec::<String>::new());
        }
    }

    /// DataDog/docker-dd-agent#139, DataDog/datadog-agent#4503: hosts were called by the ids of containers, without a word.
    #[test]
    fn a_host_without_a_name_is_reported_with_the_cure() {
        for text in [None, Some(""), Some("# web1\n\n"), Some("#web1")] {
            let (_folder, roots) = host(text);
            let missing = roots.missing(false);
            assert_eq!(roots.missing(true), Vec::<String>::new());
            assert!(roots.hostname().is_none() && missing.len() == 1, "{missing:?}");
            assert!(
                missing[0].contains("etc/hostname` has no name") && missing[0].contains("`display_name`"),
                "{}",
                missing[0]
            );
        }
        assert_eq!(Roots::default().missing(false), Vec::<String>::new(), "without host_root");
    }

    #[test]
    fn an_endless_file_is_refused() {
        assert_eq!(read(Path::new("/dev/zero")).unwrap_err().text, "cannot read `/dev/zero`: larger than 8 MiB");
    }

    #[test]
    fn a_file_that_is_read_again_has_no_rest_of_the_longer_text_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = RereadFile::at(path.clone());
        for text in ["a long first text", "short"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(file.read().unwrap(), text);
        }
    }

    #[test]
    fn a_line_without_its_end_is_skipped() {
        assert_eq!(whole_lines("a\n\nb 12").collect::<Vec<_>>(), ["a", ""]);
    }
}
