//! Keeps published plugins working. `released/` has an unchanged copy of the contract of each release, `fossils/` a component
//! built against it; neither is ever changed. The tests here check that today's contract, `wit/`, is compatible with the former;
//! those in `tests/e2e/tests/contract.rs` run the latter.

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use wit_parser::{Resolve, UnresolvedPackageGroup, WorldId};

    const WORLDS: &[&str] = &["metrics-plugin", "checks-plugin", "metadata-plugin", "full-plugin"];

    fn here(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
    }

    fn releases() -> Vec<PathBuf> {
        std::fs::read_dir(here("released")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// Today's contract as one text.
    fn today() -> String {
        text(&here("../../wit"))
    }

    fn text(folder: &Path) -> String {
        let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
        // The file with the package's name must come first.
        files.sort_by_key(|file| !std::fs::read_to_string(file).unwrap().contains("\npackage "));
        files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
    }

    /// Both contracts side by side, with different versions to distinguish them, and a world of each.
    fn side_by_side(released: &str, today: &str, world: &str) -> (Resolve, WorldId, WorldId) {
        let mut resolve = Resolve::default();
        let mut load = |name: &str, text: &str| {
            let text = text.replace("0.1.0", &format!("0.1.0-{name}"));
            let group = UnresolvedPackageGroup::parse(format!("{name}.wit"), &text);
            let group = group.unwrap_or_else(|(_, error)| panic!("{name}: {error:?}"));
            let package = resolve.push_group(group).unwrap();
            resolve.select_world(&[package], Some(world)).unwrap()
        };
        let (released, today) = (load("released", released), load("today", today));
        (resolve, released, today)
    }

    fn fits(released: &str, today: &str, world: &str) -> bool {
        let (resolve, released, today) = side_by_side(released, today, world);
        wit_component::semver_check(resolve, released, today).is_ok()
    }

    #[test]
    fn a_plugin_built_against_any_release_fits_todays_contract() {
        assert!(!releases().is_empty());
        for release in releases() {
            for world in WORLDS {
                assert!(fits(&text(&release), &today(), world), "{} {world}: see wit/types.wit", release.display());
            }
        }
    }

    #[test]
    fn a_change_that_breaks_published_plugins_is_detected() {
        let today = today();
        for (what, from, to) in [
            ("a field in a record", "        stacked: bool,", "        stacked: bool,\n        colour: string,"),
            ("a case in an enum", "        per-second,", "        per-second,\n        per-hour,"),
            ("a case in a variant", "        failed(string),", "        failed(string),\n        tired(string),"),
            (
                "a function in an export",
                "-> description;",
                "-> description;\n    @since(version = 0.1.0)\n    more: func();",
            ),
            ("another parameter", "get: func(key: string)", "get: func(key: string, default: string)"),
        ] {
            let broken = today.replace(from, to);
            assert_ne!(broken, today, "{what}: the text to replace is missing");
            assert!(!fits(&today, &broken, "full-plugin"), "{what} was not detected");
        }
        let more =
            "    /// Nothing.\n    @since(version = 0.1.0)\n    forget-all: func();\n\n    /// All keys, sorted.";
        let grown = today.replace("    /// All keys, sorted.", more);
        assert!(grown != today && fits(&today, &grown, "full-plugin"), "a new function in an import breaks no plugin");
    }

    #[test]
    fn every_item_has_the_version_that_introduced_it() {
        let text = today();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("///"));
        let mut before = "";
        for line in &mut lines {
            let words = ["interface ", "record ", "variant ", "enum ", "resource ", "type ", "world "];
            let is_item = words.iter().any(|word| line.starts_with(word))
                || line.contains(": func(")
                || line.contains(": static func(");
            assert!(!is_item || before.starts_with("@since(version = 0.1.0)"), "{line}");
            before = line;
        }
    }
}
