//! The folders of plugins: where a plugin's name is looked up, and where dropped files run.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use wasaba_core::paths::patient::{self, LOOK};
use wasaba_core::paths::trusted::{self, Unopened};
use wasaba_core::text::printable;

/// A longer name is cut in messages.
const LONGEST_NAME_BYTES: usize = 64;

/// Where packages install the plugins that come with the agent.
const INSTALLED: &str = "/usr/lib/wasaba/plugins";

/// The folders in which a plugin's name is looked up; the first match is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// `<root>/plugins` and the folder that the configuration names: files dropped here run without a table.
    drop_in: Vec<PathBuf>,
    /// The folders of the plugins that come with the agent: these run only if they are configured.
    installed: Vec<PathBuf>,
}

impl Folders {
    /// The folders for an agent with this root, this `plugins` setting, and this executable.
    ///
    /// The agent's own plugins are looked up beside the executable (`plugins/`, as in an unpacked archive), in
    /// `../lib/wasaba/plugins` relative to it, and in `/usr/lib/wasaba/plugins`.
    #[must_use]
    pub fn new(root: &Path, configured: Option<&Path>, executable: Option<&Path>) -> Self {
        let drop_in = std::iter::once(root.join("plugins")).chain(configured.map(Path::to_owned)).collect();
        let beside = executable.and_then(Path::parent);
        let installed = beside.map(|folder| folder.join("plugins")).into_iter();
        let installed = installed.chain(beside.and_then(Path::parent).map(|prefix| prefix.join("lib/wasaba/plugins")));
        Self { drop_in, installed: installed.chain([PathBuf::from(INSTALLED)]).collect() }
    }

    /// The same without the first, `<root>/plugins`.
    #[must_use]
    pub fn without_root(mut self) -> Self {
        self.drop_in.drain(..1);
        self
    }

    /// The folders in which a file runs without a table.
    #[must_use]
    pub fn drop_in(&self) -> &[PathBuf] {
        &self.drop_in
    }

    /// The folders of compiled components that came with the agent, beside its plugins.
    #[must_use]
    pub fn compiled(&self) -> Vec<PathBuf> {
        self.installed.iter().map(|folder| folder.with_file_name("compiled")).collect()
    }

    /// The file of the plugin that the configuration names `wanted`: a path if it contains a slash or ends in `.wasm`, else a
    /// name.
    ///
    /// # Errors
    /// There is no such file; the text of a name lists where it was looked up, and the names that exist.
    pub fn find(&self, wanted: &str) -> Result<PathBuf, String> {
        // It may have a password in it.
        if wanted.contains("://") {
            return Err("`wasm` is a URL, but must be a name or the path of a file: download the plugin".to_owned());
        }
        let candidates = if wanted.contains('/') {
            // Wherever the operator's path leads; the other folders are looked at before.
            patient::ask(Path::new(wanted), LOOK, |path| drop(fs::metadata(path)))
                .map_err(|error| format!("cannot look at `{wanted}`: {error}"))?;
            vec![PathBuf::from(wanted)]
        } else {
            let file = if wanted.ends_with(".wasm") { wanted.to_owned() } else { format!("{wanted}.wasm") };
            self.all().map(|folder| folder.join(&file)).collect()
        };
        let mut existing = candidates.iter().filter(|path| path.is_file()).peekable();
        let first = existing.peek().copied().cloned();
        // Another user's file does not stand in for that of the same name in the next folder. If there is only that, it is refused
        // when it is loaded, with the reason.
        if let Some(found) = existing.find(|path| trusted::open(path).is_ok()).cloned().or(first) {
            return Ok(found);
        }
        let searched = candidates.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ");
        if wanted.contains('/') {
            return Err(format!("there is no file {searched}"));
        }
        let names = self.names();
        let names = if names.is_empty() { String::new() } else { format!("; available: {}", names.join(", ")) };
        Err(format!("unknown plugin `{wanted}`, searched {searched}{names}"))
    }

    /// The folders whose file systems answer, and why others are skipped. Whatever is asked about a file in these may be asked at
    /// once.
    #[must_use]
    pub fn answering(&self) -> (Self, Vec<String>) {
        let mut skipped = Vec::new();
        let mut answering = |folders: &[PathBuf]| {
            let answers = |folder: &&PathBuf| {
                let asked = patient::ask(&folder.join("any"), LOOK, |file| drop(file.parent().map(fs::metadata)));
                asked
                    .map_err(|error| skipped.push(format!("skipped the plugins in `{}`: {error}", folder.display())))
                    .is_ok()
            };
            folders.iter().filter(answers).cloned().collect()
        };
        let folders = Self { drop_in: answering(&self.drop_in), installed: answering(&self.installed) };
        (folders, skipped)
    }

    /// The `.wasm` files in the drop-in folders, by name, each name once; and why a folder was skipped.
    #[must_use]
    pub fn dropped_in(&self) -> (Vec<PathBuf>, Vec<String>) {
        let (mut names, mut found, mut skipped) = (HashSet::new(), Vec::new(), Vec::new());
        for folder in &self.drop_in {
            match components(folder) {
                Ok(files) => {
                    found.extend(files.into_iter().filter(|file| names.insert(file.file_name().map(ToOwned::to_owned))))
                }
                Err(error) if error.is_missing() => {}
                Err(error) => skipped.push(format!("skipped the plugins in `{}`: {error}", folder.display())),
            }
        }
        (found, skipped)
    }

    fn names(&self) -> Vec<String> {
        let stems = self.all().filter_map(|folder| components(folder).ok()).flatten();
        let names = stems.filter_map(|file| Some(printable(file.file_stem()?.to_str()?, LONGEST_NAME_BYTES)));
        let mut names = names.collect::<Vec<_>>();
        names.sort();
        names.dedup();
        names
    }

    /// The folders of what came with the agent, plugins and compiled components.
    pub fn installed(&self) -> impl Iterator<Item = PathBuf> {
        self.installed.iter().cloned().chain(self.compiled())
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.drop_in.iter().chain(&self.installed)
    }
}

/// Shows whether a file is unchanged, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds since 1970.
    modified: (i64, i64),
    /// Who may write to it decides whether it is used.
    owner: u32,
    mode: u32,
}

impl Stamp {
    /// The stamp of the file at `path`, if there is one.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        let modified = (about.mtime(), about.mtime_nsec());
        Some(Self {
            device: about.dev(),
            inode: about.ino(),
            size: about.size(),
            modified,
            owner: about.uid(),
            mode: about.mode(),
        })
    }
}

/// The `.wasm` files in a folder, sorted. Hidden files are ignored, since they are being written.
fn components(folder: &Path) -> Result<Vec<PathBuf>, Unopened> {
    let entries = trusted::names(folder)?.into_iter().map(|name| folder.join(name));
    let is_component = |path: &PathBuf| {
        let hidden = path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'));
        !hidden && path.extension().is_some_and(|extension| extension == "wasm") && path.is_file()
    };
    let mut files = entries.filter(is_component).collect::<Vec<_>>();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, names: &[&str]) {
        fs::create_dir_all(folder).unwrap();
        for name in names {
            fs::write(folder.join(name), "").unwrap();
        }
    }

    #[test]
    fn a_name_is_looked_up_in_the_root_then_in_the_configured_folder_then_among_the_installed_plugins() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        let folders = Folders::new(&at("root"), Some(&at("mine")), Some(&at("bin/wasaba")));
        put(&at("bin/plugins"), &["nginx.wasm"]);
        assert_eq!(folders.find("nginx"), Ok(at("bin/plugins/nginx.wasm")));
        let url = folders.find("https://me:hunter2@web/x.wasm").unwrap_err();
        assert!(url.contains("is a URL") && !url.contains("hunter2"), "{url}");
        put(&at("mine"), &["nginx.wasm"]);
        assert_eq!(folders.find("nginx.wasm"), Ok(at("mine/nginx.wasm")));
        put(&at("root/plugins"), &["nginx.wasm"]);
        assert_eq!(folders.find("nginx"), Ok(at("root/plugins/nginx.wasm")));
    }

    #[test]
    fn a_file_of_others_does_not_stand_in_for_an_installed_plugin() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        put(&at("root/plugins"), &["nginx.wasm"]);
        put(&at("bin/plugins"), &["nginx.wasm"]);
        let folders = Folders::new(&at("root"), None, Some(&at("bin/wasaba")));
        fs::set_permissions(at("root/plugins/nginx.wasm"), fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(folders.find("nginx"), Ok(at("bin/plugins/nginx.wasm")));
        fs::remove_file(at("bin/plugins/nginx.wasm")).unwrap();
        assert_eq!(folders.find("nginx"), Ok(at("root/plugins/nginx.wasm")), "loading it gives the reason");
    }

    #[test]
    fn the_error_for_an_unknown_name_lists_the_known_ones() {
        let temp = tempfile::tempdir().unwrap();
        put(&temp.path().join("plugins"), &["nginx.wasm", "redis.wasm", "notes.txt", ".half.wasm"]);
        let error = Folders::new(temp.path(), None, None).find("ngnix").unwrap_err();
        assert!(error.starts_with("unknown plugin `ngnix`, searched `"), "{error}");
        assert!(error.ends_with("; available: nginx, redis"), "{error}");
        let path = Folders::new(temp.path(), None, None).find("/no/such.wasm");
        assert_eq!(path, Err("there is no file `/no/such.wasm`".to_owned()), "a path is not a name");
    }

    #[test]
    fn a_folder_named_like_a_plugin_is_ignored_and_a_name_cannot_forge_a_line() {
        let temp = tempfile::tempdir().unwrap();
        put(&temp.path().join("plugins"), &["a\nERROR b.wasm"]);
        fs::create_dir(temp.path().join("plugins/folder.wasm")).unwrap();
        let folders = Folders::new(temp.path(), None, None);
        assert_eq!(folders.dropped_in().0, [temp.path().join("plugins/a\nERROR b.wasm")]);
        let error = folders.find("ngnix").unwrap_err();
        assert!(error.ends_with("available: a\\nERROR b"), "{error}");
    }

    #[test]
    fn a_file_that_was_replaced_or_written_to_has_a_different_stamp() {
        let temp = tempfile::tempdir().unwrap();
        put(temp.path(), &["a.wasm", "b.wasm"]);
        let at = |name: &str| temp.path().join(name);
        let before = Stamp::of(&at("a.wasm"));
        assert_eq!((before, Stamp::of(&at("c.wasm"))), (Stamp::of(&at("a.wasm")), None));
        fs::rename(at("b.wasm"), at("a.wasm")).unwrap();
        let replaced = Stamp::of(&at("a.wasm"));
        fs::write(at("a.wasm"), "longer").unwrap();
        assert!(before != replaced && replaced != Stamp::of(&at("a.wasm")));
    }

    #[test]
    fn only_files_in_the_drop_in_folders_run_without_a_table() {
        let temp = tempfile::tempdir().unwrap();
        put(&temp.path().join("plugins"), &["b.wasm", "a.wasm"]);
        put(&temp.path().join("bin/plugins"), &["c.wasm"]);
        let folders = Folders::new(temp.path(), None, Some(&temp.path().join("bin/wasaba")));
        assert_eq!(folders.dropped_in().0, [temp.path().join("plugins/a.wasm"), temp.path().join("plugins/b.wasm")]);
    }
}
