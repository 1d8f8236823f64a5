//! `files`: reading granted files, nothing else.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};

use wasaba_core::paths::named;
use wasmtime::Result;
use wasmtime::component::{HasData, Linker};

use super::blocking::Blocking;
use super::gate::Gate;
use super::script::Script;
use crate::contract::bindings::wasaba::plugin::files::{self as contract, Error};

pub(super) fn link<T: Send + 'static>(linker: &mut Linker<T>, view: fn(&mut T) -> View<'_>) -> Result<()> {
    contract::add_to_linker::<_, HasView>(linker, view)
}

struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

/// Which files an instance may read, and how much of one at once.
pub(super) struct OfInstance {
    gate: Gate,
    blocking: Blocking,
    file_bytes: usize,
}

impl OfInstance {
    pub(super) fn new(gate: Gate, blocking: Blocking, file_bytes: usize) -> Self {
        Self { gate, blocking, file_bytes }
    }
}

/// All that this capability sees of a call.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) instance: &'a OfInstance,
    pub(super) script: Option<&'a Script>,
}

impl View<'_> {
    /// Asks the grants, then does `work` with the open file on a thread that may block.
    async fn with_file<T: Send + 'static>(
        self,
        path: String,
        work: impl FnOnce(&mut dyn Readable) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.instance.gate.check(|grants| grants.check_file(&path)).map_err(Error::Denied)?;
        if let Some(script) = self.script {
            let content = script.file(&path).map_err(Error::Unreadable)?;
            return work(&mut Cursor::new(content));
        }
        let done = self.instance.blocking.run(move || open(&path).and_then(|mut file| work(&mut file))).await;
        done.unwrap_or_else(|| {
            Err(Error::Unreadable("the agent crashed while reading it; this is a bug in wasaba".into()))
        })
    }
}

trait Readable: Read + Seek {}

impl<R: Read + Seek> Readable for R {}

fn open(path: &str) -> Result<File, Error> {
    let opened = named::open(path.as_ref());
    opened.map(|opened| opened.file).map_err(|error| Error::Unreadable(format!("cannot read `{path}`: {error}")))
}

/// At most `most` bytes, and whether there are more.
fn take(file: &mut dyn Readable, most: usize) -> Result<(Vec<u8>, bool), Error> {
    let mut bytes = Vec::new();
    let limit = (most as u64).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(|error| Error::Unreadable(error.to_string()))?;
    let more = bytes.len() > most;
    bytes.truncate(most);
    Ok((bytes, more))
}

fn seek(file: &mut dyn Readable, to: SeekFrom) -> Result<u64, Error> {
    file.seek(to).map_err(|error| Error::Unreadable(error.to_string()))
}

impl contract::Host for View<'_> {
    async fn read(&mut self, path: String) -> Result<Result<Vec<u8>, Error>> {
        let most = self.instance.file_bytes;
        let shown = path.clone();
        let read = move |file: &mut dyn Readable| match take(file, most)? {
            (bytes, false) => Ok(bytes),
            (_, true) => Err(Error::TooLarge(format!("`{shown}` is larger than {most} bytes (limit `file_kib`)"))),
        };
        Ok(self.with_file(path, read).await)
    }

    async fn read_from(&mut self, path: String, offset: u64, max_bytes: u32) -> Result<Result<Vec<u8>, Error>> {
        let most = self.instance.file_bytes.min(usize::try_from(max_bytes).unwrap_or(usize::MAX));
        let read = move |file: &mut dyn Readable| {
            seek(file, SeekFrom::Start(offset))?;
            take(file, most).map(|(bytes, _)| bytes)
        };
        Ok(self.with_file(path, read).await)
    }

    async fn size(&mut self, path: String) -> Result<Result<u64, Error>> {
        Ok(self.with_file(path, |file| seek(file, SeekFrom::End(0))).await)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::contract::Host;
    use super::*;
    use crate::capabilities::grants::Grants;
    use crate::capabilities::meter::Meter;

    /// What may read `path`, and what counts its refusals.
    fn reading(path: &str) -> (OfInstance, Arc<Meter>) {
        let mut grants = Grants { place: "[plugin.metrics.log]".into(), ..Grants::default() };
        grants.allow(&format!("file:{path}")).unwrap();
        let meter = Arc::<Meter>::default();
        (OfInstance::new(Gate::new(Arc::new(grants), Arc::clone(&meter)), Blocking::default(), 8), meter)
    }

    fn view(instance: &OfInstance) -> View<'_> {
        View { instance, script: None }
    }

    fn file(content: &str) -> (tempfile::TempDir, String) {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("app.log");
        std::fs::write(&path, content).unwrap();
        (temp, path.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_file_that_was_not_granted_is_denied_and_counted() {
        let (_temp, path) = file("secret");
        let (instance, meter) = reading("/etc/hostname");
        for denied in [
            view(&instance).read(path.clone()).await.unwrap().map(drop),
            view(&instance).read_from(path.clone(), 0, 1).await.unwrap().map(drop),
            view(&instance).size(path.clone()).await.unwrap().map(drop),
        ] {
            let Err(Error::Denied(text)) = denied else { panic!("{denied:?}") };
            assert!(text.contains(&format!("allow = [\"file:{path}\"]")), "{text}");
        }
        assert_eq!(meter.refusals(), 3);
    }

    #[tokio::test]
    async fn a_granted_file_is_read_whole_or_in_parts() {
        let (_temp, path) = file("12345678");
        let (instance, _) = reading(&path);
        assert_eq!(view(&instance).read(path.clone()).await.unwrap(), Ok(b"12345678".to_vec()));
        assert_eq!(view(&instance).read_from(path.clone(), 6, 100).await.unwrap(), Ok(b"78".to_vec()));
        assert_eq!(view(&instance).read_from(path.clone(), 9, 100).await.unwrap(), Ok(Vec::new()));
        assert_eq!(view(&instance).size(path).await.unwrap(), Ok(8));
    }

    #[tokio::test]
    async fn a_file_larger_than_the_limit_is_an_error_and_never_cut_silently() {
        let (_temp, path) = file("123456789");
        let (instance, _) = reading(&path);
        let refused = view(&instance).read(path.clone()).await.unwrap();
        assert!(matches!(&refused, Err(Error::TooLarge(text)) if text.contains("`file_kib`")), "{refused:?}");
        assert_eq!(view(&instance).read_from(path, 0, u32::MAX).await.unwrap(), Ok(b"12345678".to_vec()));
    }

    #[tokio::test]
    async fn a_pipe_a_device_and_a_folder_are_refused_at_once() {
        let temp = tempfile::tempdir().unwrap();
        let pipe = temp.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for path in [pipe.to_str().unwrap(), "/dev/zero", "/tmp"] {
            let (instance, _) = reading(path);
            let refused = view(&instance).read(path.to_owned()).await.unwrap();
            assert!(matches!(&refused, Err(Error::Unreadable(_))), "{path}: {refused:?}");
        }
    }

    #[tokio::test]
    async fn a_granted_path_leads_nowhere_else_at_the_will_of_who_owns_a_folder_on_it() {
        use std::os::unix::fs::PermissionsExt;
        let (temp, path) = file("secret");
        let others = temp.path().join("others");
        std::fs::create_dir(&others).unwrap();
        std::fs::set_permissions(&others, std::fs::Permissions::from_mode(0o777)).unwrap();
        let log = others.join("app.log");
        for target in [&path, "/proc/self/environ", "/proc/self/mem", "/dev/fd/0", "/proc/self/root/etc/passwd"] {
            std::os::unix::fs::symlink(target, &log).unwrap();
            let (instance, _) = reading(log.to_str().unwrap());
            let refused = view(&instance).read(log.to_str().unwrap().to_owned()).await.unwrap();
            let Err(Error::Unreadable(why)) = refused else { panic!("{target}: {refused:?}") };
            assert!(why.contains("is a link, and not followed: other users can write"), "{target}: {why}");
            std::fs::remove_file(&log).unwrap();
        }
        std::fs::hard_link(&path, &log).unwrap();
        let (instance, _) = reading(log.to_str().unwrap());
        assert!(view(&instance).read(log.to_str().unwrap().to_owned()).await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_script_stands_in_for_the_files_but_not_for_the_grants() {
        let (instance, _) = reading("/var/log/app.log");
        let files = ["/var/log/app.log", "/etc/shadow"].map(|path| (path.to_owned(), b"line".to_vec()));
        let mut script = Script::default();
        script.files.extend(files);
        let mut view = View { instance: &instance, script: Some(&script) };
        assert_eq!(view.read("/var/log/app.log".into()).await.unwrap(), Ok(b"line".to_vec()));
        assert!(matches!(view.read("/etc/shadow".into()).await.unwrap(), Err(Error::Denied(_))));
    }
}
