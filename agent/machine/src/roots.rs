//! The roots: the folders from which this machine is read, and how a file below them is read.
//!
//! They are settings so that the shipped code can be pointed at a frozen machine. Nothing is parsed here.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use wasaba_core::collect::Fault;

/// Where `/proc`, `/sys` and `/etc` are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Stands for `/proc`.
    pub proc: PathBuf,
    /// Stands for `/sys`.
    pub sys: PathBuf,
    /// Stands for `/etc`, which names the platform.
    pub etc: PathBuf,
    /// Stands for where the clouds' metadata services are: `http://127.0.0.1:8080`.
    pub metadata: Option<String>,
    /// Where the host's `/` is seen from a container that tells of its host; see [`Roots::of_host`].
    pub host: Option<PathBuf>,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into(), etc: "/etc".into(), metadata: None, host: None }
    }
}

impl Roots {
    /// The host's, whose `/` is mounted at `root` in this container.
    #[must_use]
    pub fn of_host(root: &Path) -> Self {
        let host = Some(root.to_owned());
        Self { proc: root.join("proc"), sys: root.join("sys"), etc: root.join("etc"), host, ..Self::default() }
    }

    /// A file of `/proc` that each process sees by its own namespaces: `mountinfo`, `net/dev`. The host's are those of its first
    /// process, which anybody may read.
    #[must_use]
    pub fn seen(&self, file: &str) -> PathBuf {
        self.proc.join(if self.host.is_some() { "1" } else { "self" }).join(file)
    }

    /// What is not there of the host, with the cure.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let Some(host) = &self.host else { return Vec::new() };
        let files = [self.proc.join("stat"), self.seen("mountinfo"), self.sys.join("class"), self.etc.clone()];
        let is_missing = |file: &PathBuf| std::fs::metadata(file).is_err();
        let cure = format!("mount the host's / there with all below it: -v /:{}:ro,rslave", host.display());
        files
            .iter()
            .filter(|file| is_missing(file))
            .map(|file| format!("there is no `{}`; {cure}", file.display()))
            .collect()
    }
}

/// No file is read past this. The largest that is real, the mounts of a machine with 10,000 containers, has about 2 MB;
/// what is longer is not what we think it is.
const LARGEST: u64 = 8 << 20;

/// Reads a file once. For one that is read every minute, keep a [`Source`].
///
/// # Errors
/// What the system says, naming the path; and a file above 8 MiB.
pub fn read(path: &Path) -> Result<String, Fault> {
    Source::at(path.to_owned()).read().map(Cow::into_owned)
}

/// One file that is read every minute, always into the same memory.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Source {
    /// The file at `path`; it is not opened yet.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path, bytes: Vec::new() }
    }

    /// Its text now. What is not UTF-8 (a mount point can be) is replaced, so that one odd name does not cost the others.
    ///
    /// # Errors
    /// As for [`read`].
    pub fn read(&mut self) -> Result<Cow<'_, str>, Fault> {
        self.fill().map_err(|error| Fault::reading(&self.path, &error))?;
        Ok(String::from_utf8_lossy(&self.bytes))
    }

    /// The fault of this file having been read but not making sense: "`/proc/stat` " and then `why`.
    #[must_use]
    pub fn fault(&self, why: &str) -> Fault {
        Fault(format!("`{}` {why}", self.path.display()))
    }

    fn fill(&mut self) -> io::Result<()> {
        self.bytes.clear();
        // Behind `take`, for `File::read_to_end` asks for the length first, and in /proc that is always 0.
        let read = File::open(&self.path)?.take(LARGEST).read_to_end(&mut self.bytes)?;
        if read as u64 == LARGEST { Err(io::Error::other("it is longer than 8 MiB")) } else { Ok(()) }
    }
}

/// The whole lines of `text`. A piece after the last line break is left out: it was cut, and half a number is a wrong one.
pub fn whole_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'))
}

/// The frozen machine in tests/fixtures/machine, and the golden files beside it.
#[cfg(test)]
pub(crate) mod frozen {
    pub(crate) use wasaba_testing::golden::{assert_golden, file};

    use super::*;

    pub(crate) fn roots() -> Roots {
        Roots { proc: file("proc"), sys: file("sys"), etc: file("etc"), metadata: None, host: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named() {
        let fault = read(Path::new("/nowhere/stat")).unwrap_err();
        assert!(fault.0.starts_with("cannot read `/nowhere/stat`: "), "{fault}");
    }

    #[test]
    fn an_endless_file_ends() {
        assert_eq!(read(Path::new("/dev/zero")).unwrap_err().0, "cannot read `/dev/zero`: it is longer than 8 MiB");
    }

    #[test]
    fn a_source_forgets_what_it_read_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut source = Source::at(path.clone());
        for text in ["a long first text", "short"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(source.read().unwrap(), text);
        }
    }

    #[test]
    fn a_line_without_its_end_is_left_out() {
        assert_eq!(whole_lines("a\n\nb 12").collect::<Vec<_>>(), ["a", ""]);
    }
}
