//! What tells this machine from one that was made of a copy of its disk. It is not posted.

use std::path::PathBuf;

use crate::roots::{self, Roots};

/// The ids of a machine, each as far as it can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Of `/etc/machine-id`, machine-id(5).
    pub machine: Option<String>,
    /// The UUID that the firmware has, which only root may read.
    pub hardware: Option<String>,
    /// Of the running kernel.
    pub boot: Option<String>,
}

/// Reads the ids of this machine.
#[must_use]
pub fn ids(roots: &Roots) -> Ids {
    Ids {
        machine: id(roots.etc.join("machine-id")),
        hardware: id(roots.sys.join("class/dmi/id/product_uuid")),
        boot: id(roots.proc.join("sys/kernel/random/boot_id")),
    }
}

/// The id in a file: 32 digits. Makers of boards fill in one digit alone, or count up.
fn id(path: PathBuf) -> Option<String> {
    let id = roots::read(&path).ok()?.trim().to_ascii_lowercase();
    let digits = id.chars().filter(|sign| *sign != '-').collect::<String>();
    let is_real = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let is_filler =
        digits.bytes().all(|digit| digits.bytes().next() == Some(digit)) || digits.starts_with("0300020004000500");
    (is_real && !is_filler).then_some(id)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::roots::frozen;

    #[test]
    fn an_id_is_read_and_a_filler_or_a_word_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let roots = frozen::all_in(folder.path());
        assert_eq!(ids(&roots), Ids::default());
        let path = roots.etc.join("machine-id");
        fs::create_dir_all(&roots.etc).unwrap();
        for (text, expected) in [
            ("4c4c4544004b38108053b4c04f303232\n", Some("4c4c4544004b38108053b4c04f303232")),
            ("4C4C4544-004B-3810-8053-B4C04F303232", Some("4c4c4544-004b-3810-8053-b4c04f303232")),
            ("uninitialized\n", None),
            ("", None),
            ("00000000-0000-0000-0000-000000000000", None),
            ("ffffffff-ffff-ffff-ffff-ffffffffffff", None),
            ("03000200-0400-0500-0006-000700080009", None),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(ids(&roots).machine.as_deref(), expected, "{text}");
        }
    }
}
