//! Writes the table of the SDKs' files, which `wasaba plugin new` copies: whatever is in their folders belongs to them.

#![expect(clippy::expect_used, reason = "a build fails by panicking, with the reason")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// What tools leave behind in the folders of the SDKs.
const LEFT_BEHIND: [&str; 6] = ["target", "node_modules", "__pycache__", "dist", "build", "venv"];

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let sdks = here.join("..").canonicalize().expect("the folder of the SDKs");
    let mut table = "&[\n".to_owned();
    for language in ["c", "go", "javascript", "python", "rust"] {
        let mut files = Vec::new();
        list(&sdks.join(language), &mut files);
        files.sort();
        for file in files {
            let name = file.strip_prefix(&sdks).expect("it is below").display();
            writeln!(table, "    ({:?}, include_bytes!({:?})),", name.to_string(), file).expect("writing to a text");
        }
    }
    table.push(']');
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("files.rs"), table).expect("writing to the folder that cargo made");
    println!("cargo::rerun-if-changed=build.rs");
}

/// Adds all files below `folder`, through links too.
fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    println!("cargo::rerun-if-changed={}", folder.display());
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.expect("a file of the SDK").path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !LEFT_BEHIND.contains(&&*name) && !name.starts_with('.') {
            list(&path, files);
        } else if path.is_file() {
            files.push(path);
        }
    }
}
