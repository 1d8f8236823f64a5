//! The tests of the only module that opens files: what other users can place, swap or plant, and what is opened all the same.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, mkfifoat};
use tempfile::TempDir;

use super::own::Folder;
use super::trusted::Unopened;
use super::walk::{Last, is_in_own_group, walk};
use super::{named, own, trusted};

/// Another user. Only root can make files that belong to it.
const OTHER: u32 = 12_345;

const LONG: Duration = Duration::from_secs(60);

fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn put(folder: &Path, name: &str) -> PathBuf {
    let file = folder.join(name);
    fs::write(&file, "content").unwrap();
    mode(&file, 0o644);
    file
}

/// A folder in `temp`, of this mode.
fn folder(temp: &TempDir, name: &str, bits: u32) -> PathBuf {
    let folder = temp.path().join(name);
    fs::create_dir(&folder).unwrap();
    mode(&folder, bits);
    folder
}

fn pipe(path: &Path) {
    mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).unwrap();
}

/// Makes `path` another user's; `false` if this user may not.
fn give_away(path: &Path) -> bool {
    chown(path, Some(OTHER), Some(OTHER)).is_ok()
}

fn named(path: impl AsRef<Path>) -> Result<String, String> {
    let bytes = named::read(path.as_ref(), 1 << 20).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Why it is not trusted.
fn untrusted(path: &Path) -> String {
    match trusted::open(path) {
        Err(Unopened::Untrusted(why)) => why,
        other => panic!("{}: {other:?}", path.display()),
    }
}

#[test]
fn a_pipe_a_device_and_a_folder_are_refused_at_once_and_a_long_file_by_its_limit() {
    let temp = temp();
    let fifo = temp.path().join("pipe");
    pipe(&fifo);
    for path in [fifo.as_path(), Path::new("/dev/zero"), temp.path(), Path::new("/"), Path::new("/tmp/..")] {
        assert_eq!(named(path), Err("not a regular file".into()), "{}", path.display());
        let Err(Unopened::Unreadable(error)) = trusted::open(path) else { panic!("{}", path.display()) };
        assert_eq!(error.to_string(), "not a regular file", "{}", path.display());
    }
    let file = put(temp.path(), "file");
    assert_eq!(named::read(&file, 7).unwrap(), b"content");
    assert!(named::read(&file, 6).unwrap_err().to_string().contains("larger than"));
}

#[test]
fn a_missing_file_and_a_missing_folder_are_missing() {
    let temp = temp();
    for path in ["none", "none/none"].map(|name| temp.path().join(name)) {
        assert_eq!(named::open(&path).unwrap_err().kind(), std::io::ErrorKind::NotFound);
        assert!(trusted::open(&path).unwrap_err().is_missing());
    }
    let below_a_file = put(temp.path(), "file").join("none");
    assert_eq!(named::open(&below_a_file).unwrap_err().kind(), std::io::ErrorKind::NotADirectory);
}

#[test]
fn a_link_in_a_folder_of_others_is_not_followed_wherever_in_the_path_it_is() {
    let temp = temp();
    let secrets = folder(&temp, "secrets", 0o700);
    let secret = put(&secrets, "secret");
    for (name, bits) in [("open", 0o777), ("group", 0o775), ("sticky", 0o1777)] {
        let others = folder(&temp, name, bits);
        symlink(&secret, others.join("file")).unwrap();
        symlink(&secrets, others.join("folder")).unwrap();
        symlink("/nowhere", others.join("dangling")).unwrap();
        for path in ["file", "folder/secret", "folder/../secrets/secret", "dangling"] {
            let why = named(others.join(path)).unwrap_err();
            assert!(why.contains("is a symbolic link that is not followed: other users can"), "{name} {path}: {why}");
            let cure =
                if bits & 0o1000 == 0 { format!("chmod go-w {}", others.display()) } else { "another folder".into() };
            assert!(why.contains(&cure), "{name} {path}: {why}");
        }
        assert_eq!(named(put(&others, "plain")), Ok("content".into()), "{name}");
    }
}

#[test]
fn a_link_below_a_folder_of_another_user_is_not_followed_although_it_is_in_a_folder_of_ours() {
    let temp = temp();
    let theirs = folder(&temp, "theirs", 0o755);
    let ours = theirs.join("ours");
    fs::create_dir(&ours).unwrap();
    symlink(put(temp.path(), "secret"), ours.join("link")).unwrap();
    assert_eq!(named(ours.join("link")), Ok("content".into()));
    if give_away(&theirs) {
        let why = named(ours.join("link")).unwrap_err();
        let expected = format!("`{}` belongs to another user (id {OTHER}): chown ", theirs.display());
        assert!(why.contains(&expected), "{why}");
    }
}

#[test]
fn a_link_in_a_folder_of_ours_is_followed_and_a_loop_ends() {
    let temp = temp();
    let file = put(temp.path(), "file");
    folder(&temp, "folder", 0o755);
    for (name, target) in [
        ("absolute", file.to_str().unwrap()),
        ("relative", "./file"),
        ("chain", "relative"),
        ("above", "folder/../file"),
        ("top", &format!("../../../../../..{}", file.display())),
    ] {
        symlink(target, temp.path().join(name)).unwrap();
        assert_eq!(named(temp.path().join(name)), Ok("content".into()), "{name}");
    }
    symlink("loop", temp.path().join("loop")).unwrap();
    let error = named::open(&temp.path().join("loop")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));
}

#[test]
fn no_link_leads_into_the_kernels_files_and_none_of_the_kernels_own_is_followed() {
    let temp = temp();
    let file = fs::File::open(put(temp.path(), "file")).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&file);
    for target in
        ["/proc/self/environ", "/proc/self/mem", "/proc/self/status", "/proc/version", "/sys/kernel/uevent_seqnum"]
    {
        let link = temp.path().join("link");
        symlink(target, &link).unwrap();
        let why = named(&link).unwrap_err();
        assert!(why.contains("the kernel's file"), "{target}: {why}");
        fs::remove_file(link).unwrap();
    }
    for path in [
        "/proc/self/root/etc/passwd",
        "/proc/self/cwd/Cargo.toml",
        "/proc/self/exe",
        &format!("/proc/self/fd/{number}"),
        &format!("/dev/fd/{number}"),
        &format!("/proc/self/task/{}/root/etc/passwd", std::process::id()),
    ] {
        let why = named(path).unwrap_err();
        assert!(why.contains("is a link to what a process has open"), "{path}: {why}");
    }
    // What the path itself names is what was granted.
    for path in ["/proc/self/status", "/proc/version", "/proc/mounts"] {
        assert!(named(path).is_ok_and(|text| !text.is_empty()), "{path}");
    }
}

#[test]
fn a_file_with_further_names_is_refused_where_others_can_add_names() {
    let temp = temp();
    let secret = put(temp.path(), "secret");
    for (name, bits) in [("ours", 0o755), ("open", 0o777), ("sticky", 0o1777)] {
        let file = folder(&temp, name, bits).join("file");
        fs::hard_link(&secret, &file).unwrap();
        match (named(&file), bits) {
            (Ok(text), 0o755) => assert_eq!(text, "content"),
            (Err(why), 0o777 | 0o1777) => assert!(why.contains("(hard links)"), "{why}"),
            (other, _) => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn what_replaces_a_file_between_the_look_and_the_opening_is_not_opened() {
    let temp = temp();
    let (file, secret) = (put(temp.path(), "file"), put(temp.path(), "secret"));
    let found = walk(&file, Last::Followed).unwrap();
    fs::rename(&secret, &file).unwrap();
    assert!(found.open(FileType::RegularFile, OFlags::RDONLY).unwrap().is_none());
    let found = walk(&file, Last::Followed).unwrap();
    fs::remove_file(&file).unwrap();
    symlink("/etc/passwd", &file).unwrap();
    assert!(found.open(FileType::RegularFile, OFlags::RDONLY).is_err());
}

#[test]
fn a_folder_that_is_swapped_after_the_look_changes_nothing() {
    let temp = temp();
    let inner = folder(&temp, "folder", 0o755);
    let found = walk(&put(&inner, "file"), Last::Followed).unwrap();
    fs::rename(&inner, temp.path().join("moved")).unwrap();
    let planted = folder(&temp, "folder", 0o755);
    fs::write(planted.join("file"), "planted").unwrap();
    let open = found.open(FileType::RegularFile, OFlags::RDONLY).unwrap().unwrap();
    assert_eq!(std::io::read_to_string(fs::File::from(open)).unwrap(), "content");
}

#[test]
fn names_may_have_bytes_that_are_not_utf_8() {
    let temp = temp();
    let file = temp.path().join(OsStr::from_bytes(b"\xff log"));
    fs::write(&file, "content").unwrap();
    assert_eq!(named(&file), Ok("content".into()));
    assert_eq!(trusted::names(temp.path()).unwrap(), [file.file_name().unwrap()]);
}

#[test]
fn an_open_file_says_its_size_and_inode() {
    let temp = temp();
    let file = put(temp.path(), "file");
    let about = named::open(&file).unwrap().about;
    assert_eq!((about.len(), about.ino()), (7, fs::metadata(&file).unwrap().ino()));
}

#[tokio::test]
async fn a_socket_is_connected_to_by_what_was_found_and_by_a_path_of_any_length() {
    let temp = temp();
    let long = folder(&temp, &"x".repeat(200), 0o755);
    let short = temp.path().join("s");
    symlink(&long, &short).unwrap();
    let listener = UnixListener::bind(short.join("one")).unwrap();
    let found = named::socket(&long.join("one")).unwrap();
    fs::rename(long.join("one"), long.join("moved")).unwrap();
    let _planted = UnixListener::bind(short.join("one")).unwrap();
    let mut stream = found.connect_blocking(LONG).unwrap();
    stream.write_all(b"x").unwrap();
    assert!(listener.accept().is_ok());
    assert!(found.connect().await.is_ok());
}

#[test]
fn without_proc_a_socket_is_connected_to_by_a_path_that_is_short_enough_and_else_the_error_says_what_is_missing() {
    let temp = temp();
    let long = folder(&temp, &"x".repeat(200), 0o755);
    let short = temp.path().join("s");
    symlink(&long, &short).unwrap();
    let _listener = UnixListener::bind(short.join("one")).unwrap();
    let no_proc = temp.path().join("none").display().to_string();
    let connect = |path: PathBuf| named::socket(&path).unwrap().connect_through(&no_proc, LONG);
    assert!(connect(short.join("one")).is_ok());
    let why = connect(long.join("one")).unwrap_err().to_string();
    assert!(why.contains("/proc, which is not mounted"), "{why}");
}

#[test]
fn a_socket_is_neither_reached_through_a_link_of_others_nor_replaced_by_another_kind() {
    let temp = temp();
    let _listener = UnixListener::bind(temp.path().join("socket")).unwrap();
    let others = folder(&temp, "open", 0o777);
    symlink(temp.path().join("socket"), others.join("link")).unwrap();
    let why = named::socket(&others.join("link")).unwrap_err().to_string();
    assert!(why.contains("is a symbolic link that is not followed"), "{why}");
    fs::hard_link(temp.path().join("socket"), others.join("name")).unwrap();
    assert!(named::socket(&others.join("name")).unwrap_err().to_string().contains("hard links"));
    assert_eq!(named::socket(&put(temp.path(), "file")).unwrap_err().to_string(), "not a socket");
    assert!(named::socket(&temp.path().join("none")).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound));
}

#[test]
fn a_file_that_others_can_write_to_is_not_trusted_and_the_reason_says_what_to_type() {
    let temp = temp();
    let file = put(temp.path(), "it's mine.toml");
    assert_eq!(trusted::read(&file, 100).unwrap(), b"content");
    for bits in [0o666, 0o664, 0o646] {
        mode(&file, bits);
        let why = untrusted(&file);
        assert!(why.ends_with(&format!("chmod go-w '{}/it'\\''s mine.toml'", temp.path().display())), "{why}");
    }
    mode(&file, 0o644);
    if give_away(&file) {
        let why = untrusted(&file);
        assert!(why.contains(&format!("belongs to another user (id {OTHER}): chown 0 '")), "{why}");
    }
}

#[test]
fn only_the_group_of_an_ordinary_user_alone_counts_as_the_user() {
    assert!(is_in_own_group(1_000, (1_000, 1_000)));
    for (user, owners) in [(1_000, (1_000, 100)), (1_000, (0, 1_000)), (1_000, (1_001, 1_001)), (0, (0, 0))] {
        assert!(!is_in_own_group(user, owners), "{user} {owners:?}");
    }
}

#[test]
fn a_file_in_or_below_a_folder_that_others_can_write_to_is_not_trusted() {
    let temp = temp();
    let (open, sticky) = (folder(&temp, "open", 0o777), folder(&temp, "sticky", 0o1777));
    let below = |folder: &Path| {
        fs::create_dir(folder.join("below")).unwrap();
        put(&folder.join("below"), "file")
    };
    assert!(untrusted(&put(&open, "file")).ends_with(&format!("chmod go-w {}", open.display())));
    assert!(untrusted(&below(&open)).ends_with(&format!("chmod go-w {}", open.display())));
    assert!(untrusted(&put(&sticky, "file")).contains("use another folder"));
    // Others can add names there, but not change ours.
    assert!(trusted::open(&below(&sticky)).is_ok());
    assert!(trusted::names(&sticky.join("below")).is_ok());
    for folder in [&open, &open.join("below"), &sticky] {
        assert!(matches!(trusted::names(folder), Err(Unopened::Untrusted(_))), "{}", folder.display());
    }
    // Nor is a link in a folder of ours that leads there.
    symlink(open.join("file"), temp.path().join("link")).unwrap();
    untrusted(&temp.path().join("link"));
    symlink(&open, temp.path().join("folder")).unwrap();
    assert!(matches!(trusted::names(&temp.path().join("folder")), Err(Unopened::Untrusted(_))));
}

#[test]
fn a_file_is_replaced_with_its_owner_and_mode_and_a_new_one_has_the_mode_that_was_asked_for() {
    let temp = temp();
    let file = temp.path().join("file");
    own::replace(&file, b"one", 0o600).unwrap();
    assert_eq!(mode_of(&file), 0o600);
    mode(&file, 0o640);
    let is_theirs = give_away(&file);
    let inode = fs::metadata(&file).unwrap().ino();
    own::replace(&file, b"two", 0o600).unwrap();
    let about = fs::metadata(&file).unwrap();
    assert_eq!((fs::read_to_string(&file).unwrap().as_str(), mode_of(&file)), ("two", 0o640));
    assert!(about.ino() != inode, "not written in place");
    assert!(!is_theirs || (about.uid(), about.gid()) == (OTHER, OTHER));
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn what_is_written_in_one_step_takes_the_place_of_a_file_and_of_a_link_but_of_nothing_else() {
    let temp = temp();
    let [fifo, folder, link] = ["fifo", "folder", "link"].map(|name| temp.path().join(name));
    let (file, real) = (put(temp.path(), "file"), put(temp.path(), "real"));
    pipe(&fifo);
    fs::create_dir(&folder).unwrap();
    symlink(&real, &link).unwrap();
    // A device is refused like them.
    for path in [&fifo, &folder] {
        let kind = fs::symlink_metadata(path).unwrap().file_type();
        own::write(path, b"after", 0o644).unwrap_err();
        assert_eq!(fs::symlink_metadata(path).unwrap().file_type(), kind, "{}", path.display());
    }
    for path in [&file, &link] {
        own::write(path, b"after", 0o644).unwrap();
        assert_eq!(fs::read(path).unwrap(), b"after");
    }
    assert_ne!(fs::read(&real).unwrap(), b"after");
}

#[test]
fn a_link_of_ours_is_replaced_where_it_leads_and_one_of_others_or_a_pipe_not_at_all() {
    let temp = temp();
    let (real, link) = (put(temp.path(), "real"), temp.path().join("link"));
    symlink(&real, &link).unwrap();
    own::replace(&link, b"new", 0o600).unwrap();
    assert!(link.is_symlink() && fs::read_to_string(&real).unwrap() == "new");
    let others = folder(&temp, "open", 0o777);
    symlink(&real, others.join("link")).unwrap();
    pipe(&others.join("pipe"));
    for name in ["link", "pipe"] {
        own::replace(&others.join(name), b"planted", 0o600).unwrap_err();
    }
    assert_eq!(fs::read_to_string(&real).unwrap(), "new");
    // One that only the agent writes is replaced itself.
    own::write(&others.join("link"), b"ours", 0o600).unwrap();
    assert!(!others.join("link").is_symlink() && fs::read_to_string(&real).unwrap() == "new");
}

#[test]
fn a_file_of_ours_is_opened_only_if_no_other_user_can_have_made_it() {
    let temp = temp();
    let at = |name: &str| temp.path().join(name);
    own::open_or_create(&at("new"), 0o644).unwrap();
    own::open_or_create(&at("new"), 0o644).unwrap();
    assert_eq!(mode_of(&at("new")), 0o644);
    let real = put(temp.path(), "real");
    symlink(&real, at("link")).unwrap();
    symlink("/nowhere/at/all", at("dangling")).unwrap();
    fs::hard_link(&real, at("name")).unwrap();
    pipe(&at("pipe"));
    mode(&put(temp.path(), "open"), 0o666);
    for (name, why) in [
        ("link", "it is a link: remove it"),
        ("dangling", "it is a link: remove it"),
        ("name", "it has 2 names (hard links): remove it"),
        ("pipe", "not a regular file: remove it"),
        ("open", "other users can write to it"),
    ] {
        for error in [own::open_or_create(&at(name), 0o644).unwrap_err(), own::read(&at(name), 100).unwrap_err()] {
            assert!(error.to_string().contains(why), "{name}: {error}");
        }
    }
    if give_away(&put(temp.path(), "theirs")) {
        let error = own::open_or_create(&at("theirs"), 0o644).unwrap_err();
        assert!(error.to_string().contains("belongs to another user"), "{error}");
    }
}

#[test]
fn a_file_in_the_place_of_a_folder_is_called_that() {
    let temp = temp();
    let file = put(temp.path(), "file");
    let why = Folder::create(&file, 0o750).err().unwrap().to_string();
    assert_eq!(why, format!("`{}` is not a folder: rename or remove what is there", file.display()));
}

#[test]
fn a_folder_of_ours_is_closed_to_others_but_one_for_everybody_is_not_touched() {
    let temp = temp();
    let new = temp.path().join("a/b");
    Folder::create(&new, 0o750).unwrap();
    assert_eq!(mode_of(&new) & !0o750, 0);
    for (name, before, after) in
        [("open", 0o777, 0o755), ("group", 0o775, 0o755), ("public", 0o1777, 0o1777), ("closed", 0o755, 0o755)]
    {
        let folder = folder(&temp, name, before);
        Folder::create(&folder, 0o750).unwrap();
        assert_eq!(mode_of(&folder), after, "{name}");
        assert_eq!(Folder::warning(&folder).is_some(), name == "public", "{name}");
    }
    let theirs = folder(&temp, "theirs", 0o755);
    if give_away(&theirs) {
        Folder::create(&theirs, 0o750).unwrap();
        assert!(Folder::warning(&theirs).unwrap().contains("belongs to another user"));
    }
}

#[test]
fn a_private_folder_belongs_to_the_agent_and_is_not_a_link() {
    let temp = temp();
    let open = folder(&temp, "open", 0o777);
    Folder::create_private(&open).unwrap();
    assert_eq!(mode_of(&open), 0o700);
    for target in [open.to_str().unwrap(), "/nowhere"] {
        let link = temp.path().join("link");
        symlink(target, &link).unwrap();
        assert!(Folder::create_private(&link).unwrap_err().to_string().contains("remove it"), "{target}");
        fs::remove_file(link).unwrap();
    }
    if give_away(&open) {
        assert!(Folder::create_private(&open).unwrap_err().to_string().contains("another user"));
    }
}

#[test]
fn a_folder_stays_the_same_when_its_path_leads_elsewhere() {
    let temp = temp();
    let path = folder(&temp, "folder", 0o700);
    put(&path, "file");
    let held = Folder::create_private(&path).unwrap();
    fs::rename(&path, temp.path().join("moved")).unwrap();
    let planted = folder(&temp, "folder", 0o700);
    fs::write(planted.join("file"), "planted").unwrap();
    assert_eq!(held.read_only("file").unwrap().read(100).unwrap(), b"content");
    held.write("new".as_ref(), b"new", 0o600).unwrap();
    assert_eq!((held.names().unwrap().len(), fs::read_dir(&planted).unwrap().count()), (2, 1));
}

#[test]
fn a_file_in_a_held_folder_is_read_only_if_it_is_ours() {
    let temp = temp();
    let held = Folder::create_private(&folder(&temp, "folder", 0o700)).unwrap();
    let at = |name: &str| held.path().join(name);
    let real = put(held.path(), "real");
    assert!(held.read_only("real").is_ok());
    symlink(&real, at("link")).unwrap();
    pipe(&at("pipe"));
    fs::create_dir(at("folder")).unwrap();
    mode(&put(held.path(), "open"), 0o664);
    for name in ["link", "pipe", "folder", "open", "none"] {
        assert!(held.read_only(name).is_err(), "{name}");
    }
    if give_away(&put(held.path(), "theirs")) {
        assert!(held.read_only("theirs").is_err());
    }
    fs::hard_link(&real, at("name")).unwrap();
    assert!(held.read_only("real").is_err() && held.read_only("name").is_err());
}

#[test]
fn what_would_not_be_created_is_known_without_creating_anything() {
    let temp = temp();
    let file = put(temp.path(), "file");
    let link = temp.path().join("link");
    symlink(temp.path().join("nowhere"), &link).unwrap();
    for fine in [temp.path().to_owned(), temp.path().join("a/b")] {
        Folder::would_create(&fine).unwrap();
        own::would_open_or_create(&fine.join("agent.pid")).unwrap();
    }
    own::would_open_or_create(&file).unwrap();
    let error = |result: std::io::Result<()>| result.unwrap_err().to_string();
    assert!(error(Folder::would_create(&file.join("a"))).contains(&*file.to_string_lossy()));
    for unusable in [&file, &link, Path::new("/proc/x"), Path::new("/proc/self")] {
        assert!(Folder::would_create(unusable).is_err(), "{}", unusable.display());
        assert!(own::would_open_or_create(&unusable.join("agent.pid")).is_err(), "{}", unusable.display());
    }
    assert!(error(own::would_open_or_create(&link)).contains("it is a link: remove it"));
    assert!(error(own::would_open_or_create(Path::new("/dev/null"))).contains("it is a device: name another file"));
    assert!(error(own::would_open_or_create(temp.path())).contains("not a regular file"));
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2, "nothing was made");
}
