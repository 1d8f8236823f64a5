//! `files`: reading granted files, nothing else.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use wasaba_core::regular_file;
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use super::bindings::wasaba::plugin::files::{self as contract, Error};
use super::{Guest, Identity};

pub(super) fn link(linker: &mut Linker<Guest>) -> Result<()> {
    contract::add_to_linker::<_, HasSelf<_>>(linker, |guest| guest)
}

impl Identity {
    /// Asks for the grant, then does `work` with the open file on a thread that may block.
    async fn with_file<T: Send + 'static>(
        &self,
        path: String,
        work: impl FnOnce(&mut dyn Readable) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if let Err(why) = self.grants.check_file(&path) {
            return Err(Error::Denied(self.meter.refuse(why)));
        }
        if let Some(script) = &self.script {
            let content = script.file(&path).map_err(Error::Unreadable)?;
            return work(&mut std::io::Cursor::new(content));
        }
        let done = self.block(move || open(&path).and_then(|mut file| work(&mut file))).await;
        done.unwrap_or_else(|| Err(Error::Unreadable("the agent failed in reading it".into())))
    }
}

trait Readable: Read + Seek {}

impl<R: Read + Seek> Readable for R {}

fn open(path: &str) -> Result<File, Error> {
    regular_file::open(path.as_ref()).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &str, error: &std::io::Error) -> Error {
    Error::Unreadable(format!("cannot read `{path}`: {error}"))
}

/// At most `most` bytes; whether there would be more.
fn take(file: &mut dyn Readable, most: usize) -> Result<(Vec<u8>, bool), Error> {
    let mut bytes = Vec::new();
    let limit = (most as u64).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(|error| Error::Unreadable(error.to_string()))?;
    let more = bytes.len() > most;
    bytes.truncate(most);
    Ok((bytes, more))
}

impl contract::Host for Guest {
    async fn read(&mut self, path: String) -> Result<Result<Vec<u8>, Error>> {
        let most = self.identity.limits.file_bytes;
        let shown = path.clone();
        let read = move |file: &mut dyn Readable| match take(file, most)? {
            (bytes, false) => Ok(bytes),
            (_, true) => Err(Error::TooLarge(format!("`{shown}` is larger than {most} bytes (limit `file_kib`)"))),
        };
        Ok(self.identity.clone().with_file(path, read).await)
    }

    async fn read_from(&mut self, path: String, offset: u64, max_bytes: u32) -> Result<Result<Vec<u8>, Error>> {
        let most = self.identity.limits.file_bytes.min(usize::try_from(max_bytes).unwrap_or(usize::MAX));
        let read = move |file: &mut dyn Readable| {
            file.seek(SeekFrom::Start(offset)).map_err(|error| Error::Unreadable(error.to_string()))?;
            take(file, most).map(|(bytes, _)| bytes)
        };
        Ok(self.identity.clone().with_file(path, read).await)
    }

    async fn size(&mut self, path: String) -> Result<Result<u64, Error>> {
        let size =
            |file: &mut dyn Readable| file.seek(SeekFrom::End(0)).map_err(|error| Error::Unreadable(error.to_string()));
        Ok(self.identity.clone().with_file(path, size).await)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wasaba_core::limits::Limits;

    use super::contract::Host;
    use super::*;
    use crate::capabilities::grants::Grants;

    fn guest(path: &str) -> Guest {
        let mut grants = Grants { place: "[plugin.metrics.log]".into(), ..Grants::default() };
        grants.allow(&format!("file:{path}")).unwrap();
        let limits = Limits { file_bytes: 8, ..Limits::default() };
        Guest::new(Identity { grants: Arc::new(grants), limits: Arc::new(limits), ..Identity::default() })
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
        let mut guest = guest("/etc/hostname");
        for denied in [
            guest.read(path.clone()).await.unwrap().map(drop),
            guest.read_from(path.clone(), 0, 1).await.unwrap().map(drop),
            guest.size(path.clone()).await.unwrap().map(drop),
        ] {
            let Err(Error::Denied(text)) = denied else { panic!("{denied:?}") };
            assert!(text.contains(&format!("allow = [\"file:{path}\"]")), "{text}");
        }
        assert_eq!(guest.identity.meter.refusals(), 3);
    }

    #[tokio::test]
    async fn a_granted_file_is_read_whole_or_in_parts() {
        let (_temp, path) = file("12345678");
        let mut guest = guest(&path);
        assert_eq!(guest.read(path.clone()).await.unwrap(), Ok(b"12345678".to_vec()));
        assert_eq!(guest.read_from(path.clone(), 6, 100).await.unwrap(), Ok(b"78".to_vec()));
        assert_eq!(guest.read_from(path.clone(), 9, 100).await.unwrap(), Ok(Vec::new()));
        assert_eq!(guest.size(path).await.unwrap(), Ok(8));
    }

    #[tokio::test]
    async fn a_file_larger_than_the_limit_is_never_cut_in_silence() {
        let (_temp, path) = file("123456789");
        let mut guest = guest(&path);
        let refused = guest.read(path.clone()).await.unwrap();
        assert!(matches!(&refused, Err(Error::TooLarge(text)) if text.contains("`file_kib`")), "{refused:?}");
        assert_eq!(guest.read_from(path, 0, u32::MAX).await.unwrap(), Ok(b"12345678".to_vec()));
    }

    #[tokio::test]
    async fn what_is_no_regular_file_is_refused_instead_of_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        let pipe = temp.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for path in [pipe.to_str().unwrap(), "/dev/zero", "/tmp"] {
            let refused = guest(path).read(path.to_owned()).await.unwrap();
            assert!(matches!(&refused, Err(Error::Unreadable(_))), "{path}: {refused:?}");
        }
    }
}
