//! Where a machine keeps its certificate authorities, which are the official agent's places (Go's `crypto/x509`): the first file that can
//! be read and all folders. `SSL_CERT_FILE` replaces the files, `SSL_CERT_DIR` the folders.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;

use super::anchors::Anchors;
use super::pem;
use super::roots::Read;
use crate::clock;
use crate::paths::{Opened, patient, system};

/// Debian, Fedora, openSUSE, OpenELEC, RHEL 7, Alpine.
const FILES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// SLES, Fedora.
const FOLDERS: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// How long one file or folder may take: some hundred files from a disk that is busy, as at a boot.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long all of them may take.
const PATIENCE_FOR_ALL: Duration = Duration::from_secs(15);

/// The authorities of a Debian machine are 220 kB in total; several bundles that were joined have some megabytes.
pub(super) const LONGEST_FILE_BYTES: u64 = 16 << 20;

/// Where authorities are.
#[derive(Debug)]
pub(super) struct Places {
    /// The first that can be read counts.
    files: Group,
    /// All of them count.
    folders: Group,
}

#[derive(Debug)]
struct Group {
    paths: Vec<PathBuf>,
    /// What has named them; `None` if they are the usual ones.
    variable: Option<&'static str>,
}

/// The files and folders in which the machine's authorities can be, or those that the environment names.
#[must_use]
pub fn authorities() -> Vec<PathBuf> {
    let Places { files, folders } = Places::of_machine();
    files.paths.into_iter().chain(folders.paths).collect()
}

/// A file or folder that was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    pub(super) path: PathBuf,
    variable: Option<&'static str>,
    why: String,
    /// Its file system does not answer, which says nothing of what it has.
    pub(super) hangs: bool,
}

impl Unread {
    pub(super) fn new(path: PathBuf, variable: Option<&'static str>, why: impl Into<String>, hangs: bool) -> Self {
        Self { path, variable, why: why.into(), hangs }
    }
}

/// There is no authority.
#[derive(Debug)]
pub(super) struct Nothing {
    pub(super) why: String,
    /// A file system does not answer, which may have some.
    pub(super) hangs: bool,
}

impl fmt::Display for Unread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, why, variable, .. } = self;
        write!(formatter, "cannot read certificate authorities from `{}`", path.display())?;
        match variable {
            Some(variable) => write!(formatter, " of {variable}: {why}; repair it, or unset {variable}"),
            None => write!(formatter, ": {why}; repair it, or name others in {FILE}"),
        }
    }
}

impl Places {
    pub(super) fn of_machine() -> Self {
        Self::of(std::env::var_os, &FILES.map(Path::new), &FOLDERS.map(Path::new))
    }

    /// The usual ones, unless `variable` of the environment names others. An empty one counts as unset.
    pub(super) fn of(variable: impl Fn(&'static str) -> Option<OsString>, files: &[&Path], folders: &[&Path]) -> Self {
        let group = |name, usual: &[&Path], split: fn(OsString) -> Vec<PathBuf>| match variable(name)
            .filter(|text| !text.is_empty())
        {
            Some(text) => Group { paths: split(text), variable: Some(name) },
            None => Group { paths: usual.iter().map(|path| path.to_path_buf()).collect(), variable: None },
        };
        let split = |text| std::env::split_paths(&text).filter(|path| !path.as_os_str().is_empty()).collect();
        Self { files: group(FILE, files, |text| vec![text.into()]), folders: group(FOLDER, folders, split) }
    }

    /// Reads them. Blocks, but not for long.
    ///
    /// # Errors
    /// There is no authority; the text names what was not read and why.
    pub(super) fn read(&self) -> Result<Read, Nothing> {
        let mut reader =
            Reader { anchors: Anchors::new(), unread: Vec::new(), ends: clock::instant() + PATIENCE_FOR_ALL };
        // While a file hangs, no other of its folder is read. A file that was named may be in the folder of `resolv.conf`, which must still
        // be read: so it counts as a folder of its own.
        for file in &self.files.paths {
            let inside = file.join("any");
            let about = if self.files.variable.is_some() { &inside } else { file };
            if reader.take(file, self.files.variable, about, of_file_at) {
                break;
            }
        }
        for folder in &self.folders.paths {
            reader.take(folder, self.folders.variable, &folder.join("any"), in_folder_at);
        }
        let Reader { anchors, unread, .. } = reader;
        if !anchors.is_empty() {
            return Ok(Read { anchors, unread });
        }
        if let Some(first) = unread.first() {
            return Err(Nothing { why: first.to_string(), hangs: unread.iter().any(|unread| unread.hangs) });
        }
        match self.files.variable.or(self.folders.variable) {
            Some(variable) => Err(Nothing {
                why: format!(
                    "there is no certificate authority, neither in a file ({}) nor in a folder ({}); write one there in PEM form, \
                     or unset {variable}",
                    self.files, self.folders
                ),
                hangs: false,
            }),
            None => Ok(Read { anchors: Anchors::of_roots(webpki_roots::TLS_SERVER_ROOTS), unread }),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.paths.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>();
        formatter.write_str(&paths.join(", "))
    }
}

const FILE: &str = "SSL_CERT_FILE";
const FOLDER: &str = "SSL_CERT_DIR";

/// What was read so far.
struct Reader {
    anchors: Anchors,
    unread: Vec<Unread>,
    ends: Instant,
}

impl Reader {
    /// Trusts what `question` finds at `path`. Returns whether it could be read.
    fn take(&mut self, path: &Path, variable: Option<&'static str>, about: &Path, question: Question) -> bool {
        let patience = PATIENCE.min(self.ends.saturating_duration_since(clock::instant()));
        let owned = path.to_owned();
        match patient::ask(about, patience, move |_| question(&owned)).flatten() {
            Ok(certificates) => {
                // As in the official agent, one that cannot be read hides no other.
                certificates.into_iter().for_each(|certificate| drop(self.anchors.add(certificate)));
                return true;
            }
            // Most machines have one of the usual files.
            Err(error) if variable.is_none() && error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                let hangs = error.kind() == ErrorKind::TimedOut;
                self.unread.push(Unread::new(path.to_owned(), variable, error.to_string(), hangs));
            }
        }
        false
    }
}

type Question = fn(&Path) -> Result<Vec<CertificateDer<'static>>, Error>;

fn of_file_at(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    of_file(system::open(file)?)
}

fn of_file(file: Opened) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = pem::certificates(&file.read(LONGEST_FILE_BYTES)?).flatten().collect::<Vec<_>>();
    Ok(found.into_iter().filter(|found| found.is_for_servers).map(|found| found.certificate).collect())
}

/// Of all files that can be read; a folder usually has several links to each.
fn in_folder_at(folder: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    for file in system::list(folder)? {
        if let Ok(file) = system::open(&file)
            && seen.insert((file.about.dev(), file.about.ino()))
        {
            found.extend(of_file(file).unwrap_or_default());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use rustix::fs::{CWD, Mode, mkfifoat};
    use rustls::pki_types::UnixTime;
    use rustls::pki_types::pem::PemObject;
    use wasaba_testing::authority::Authority;

    use super::*;

    /// A machine with two authorities, one in its file and one in its folder.
    struct Machine {
        of_file: Authority,
        of_folder: Authority,
        folder: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Self {
            let machine =
                Self { of_file: Authority::new(), of_folder: Authority::new(), folder: tempfile::tempdir().unwrap() };
            std::fs::copy(machine.of_folder.file(), machine.folder.path().join("0a1b2c3d.0")).unwrap();
            machine
        }

        fn read(&self, variables: &[(&str, &Path)]) -> Result<Read, Nothing> {
            let variable = |name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, path)| path.as_os_str().to_owned())
            };
            let missing = self.folder.path().join("missing");
            Places::of(variable, &[&missing, &self.of_file.file()], &[&missing, self.folder.path()]).read()
        }

        /// Which of these authorities are trusted.
        fn trusted<const N: usize>(&self, variables: &[(&str, &Path)], authorities: [&Authority; N]) -> [bool; N] {
            let read = self.read(variables).unwrap();
            authorities.map(|authority| is_trusted(&read, authority))
        }
    }

    fn is_trusted(read: &Read, authority: &Authority) -> bool {
        let (certificate, _) = authority.identity("web");
        let certificate = CertificateDer::from_pem_file(certificate).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(clock::unix_seconds().try_into().unwrap()));
        read.anchors.verify(&certificate, &[], None, now).is_ok()
    }

    #[test]
    fn a_variable_replaces_the_files_or_the_folders_and_leaves_the_others() {
        let (machine, named) = (Machine::new(), Authority::new());
        let folder = named.folder().join("folder");
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(named.file(), folder.join("0a1b2c3d.0")).unwrap();
        let all = [&machine.of_file, &machine.of_folder, &named];
        assert_eq!(machine.trusted(&[], all), [true, true, false]);
        assert_eq!(machine.trusted(&[(FILE, &named.file())], all), [false, true, true]);
        assert_eq!(machine.trusted(&[(FOLDER, &folder)], all), [true, false, true]);
        assert_eq!(machine.trusted(&[(FILE, Path::new("")), (FOLDER, Path::new(""))], all), [true, true, false]);
        let two = std::env::join_paths([folder.as_path(), machine.folder.path()]).unwrap();
        assert_eq!(machine.trusted(&[(FOLDER, Path::new(&two))], all), [true, true, true]);
    }

    #[test]
    fn a_file_that_cannot_be_read_hides_no_folder_and_is_named() {
        let machine = Machine::new();
        let pipe = machine.of_file.folder().join("pipe");
        mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        for (path, why) in [(pipe.as_path(), "not a regular file"), (Path::new("/no/such.pem"), "No such file")] {
            let read = machine.read(&[(FILE, path)]).unwrap();
            assert!(is_trusted(&read, &machine.of_folder));
            let unread = read.unread.first().unwrap().to_string();
            let (begin, end) = (format!("from `{}` of SSL_CERT_FILE: {why}", path.display()), "or unset SSL_CERT_FILE");
            assert!(unread.contains(&begin) && unread.ends_with(end), "{unread}");
            let none = machine.read(&[(FILE, path), (FOLDER, Path::new("/no/such"))]).unwrap_err();
            assert_eq!((none.why, none.hangs), (unread, false), "there is no other authority");
        }
    }

    #[test]
    fn authorities_of_others_are_not_trusted_where_those_that_were_named_have_none() {
        let machine = Machine::new();
        let (empty, folder) = (machine.folder.path().join("empty.pem"), tempfile::tempdir().unwrap());
        std::fs::write(&empty, "nothing").unwrap();
        let why = machine.read(&[(FILE, &empty), (FOLDER, folder.path())]).unwrap_err().why;
        assert!(why.contains(&format!("`{}`", empty.display())) && why.ends_with("unset SSL_CERT_FILE"), "{why}");
        let none: [&Path; 0] = [];
        assert!(
            !Places::of(|_| None, &none, &none).read().unwrap().anchors.is_empty(),
            "Mozilla's, where there is none"
        );
    }

    #[test]
    fn a_file_system_that_does_not_answer_is_named_and_its_authorities_are_read_once_it_does() {
        let machine = Machine::new();
        let file = machine.of_file.file();
        let (release, released) = channel::<()>();
        let hangs = patient::ask(&file.join("any"), Duration::from_millis(1), move |_| released.recv().is_ok());
        assert!(hangs.is_err());
        let variables = [(FILE, file.as_path())];
        let read = machine.read(&variables).unwrap();
        assert!(
            read.unread.iter().any(|unread| unread.hangs && unread.path == file)
                && is_trusted(&read, &machine.of_folder)
        );
        let none = machine.read(&[(FILE, &file), (FOLDER, Path::new("/no/such"))]).unwrap_err();
        let is_named = none.why.contains(&format!("`{}`", file.display()));
        assert!(none.hangs && is_named && none.why.contains("does not answer"), "{none:?}");
        release.send(()).unwrap();
        while machine.read(&variables).unwrap().unread.iter().any(|unread| unread.hangs) {
            std::thread::yield_now();
        }
        assert_eq!(machine.trusted(&variables, [&machine.of_file, &machine.of_folder]), [true, true]);
    }
}
