//! Keeps published plugins working. `released/` has a copy of the contract of each release, `fossils/` the plugin `everything` of each
//! language built against it, with the cases that it passed; neither is changed once it is published. The tests here check that today's
//! contract, `wit/`, is compatible with the former, and that whatever it has can grow; `tests/e2e/tests/sdk.rs` runs the latter.

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use wit_parser::{Resolve, TypeDefKind, TypeOwner, UnresolvedPackageGroup, WorldId};

    const WORLDS: &[&str] = &["metrics-plugin", "checks-plugin", "metadata-plugin", "full-plugin"];

    fn here(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
    }

    /// The contract of each release, and today's.
    fn releases() -> Vec<PathBuf> {
        let released = std::fs::read_dir(here("released")).into_iter().flatten();
        released.map(|entry| entry.unwrap().path()).chain([here("../../wit")]).collect()
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
            let text = text.replace("0.2.0", &format!("0.2.0-{name}"));
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
            ("a case in an enum", "        critical,", "        critical,\n        fatal,"),
            ("a case in a variant", "        unsigned(u64),", "        unsigned(u64),\n        signed(s64),"),
            (
                "a function in an export",
                "-> description;",
                "-> description;\n    @since(version = 0.2.0)\n    more: func();",
            ),
            ("another parameter", "get: func(key: string)", "get: func(key: string, default: string)"),
        ] {
            let broken = today.replace(from, to);
            assert_ne!(broken, today, "{what}: the text to replace is missing");
            assert!(!fits(&today, &broken, "full-plugin"), "{what} was not detected");
        }
        for (what, from, to) in [
            (
                "a function in an import",
                "    /// All keys that begin",
                "    /// Nothing.\n    @since(version = 0.2.0)\n    forget-all: func();\n\n    /// All keys that begin",
            ),
            (
                "a function of a resource",
                "        /// Sends all of it.",
                "        /// Nothing.\n        @since(version = 0.2.0)\n        flush: func();\n\n        /// Sends all of it.",
            ),
        ] {
            let grown = today.replace(from, to);
            assert!(grown != today && fits(&today, &grown, "full-plugin"), "{what} breaks a plugin");
        }
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
                || line.contains(": static func(")
                || line.starts_with("constructor(");
            assert!(!is_item || before.starts_with("@since(version = 0."), "{line}");
            before = line;
        }
    }

    /// What ARCHITECTURE.md lists as closed on purpose.
    fn closed() -> Vec<String> {
        let page = std::fs::read_to_string(here("../../ARCHITECTURE.md")).unwrap();
        let (_, list) = page.split_once("Closed on purpose:").expect("ARCHITECTURE.md lists what is closed on purpose");
        let list = list.split("\n\n").next().unwrap();
        list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    /// The types of this contract that cannot grow: variants, enums and flags, and records without `attributes`.
    fn without_growth(text: &str) -> Vec<String> {
        let mut resolve = Resolve::default();
        let group =
            UnresolvedPackageGroup::parse("contract.wit", text).unwrap_or_else(|(_, error)| panic!("{error:?}"));
        resolve.push_group(group).unwrap();
        let mut found = Vec::new();
        for (_, definition) in resolve.types.iter() {
            let grows = match &definition.kind {
                TypeDefKind::Record(record) => record.fields.iter().any(|field| field.name == "attributes"),
                TypeDefKind::Variant(_) | TypeDefKind::Enum(_) | TypeDefKind::Flags(_) => false,
                _ => true,
            };
            let (TypeOwner::Interface(owner), Some(name)) = (definition.owner, &definition.name) else { continue };
            if !grows {
                found.push(format!("{}.{name}", resolve.interfaces[owner].name.as_ref().unwrap()));
            }
        }
        found.sort();
        found
    }

    #[test]
    fn everything_can_grow_that_is_not_closed_on_purpose() {
        let mut closed = closed();
        closed.sort();
        assert_eq!(without_growth(&today()), closed);
    }

    #[test]
    fn a_record_variant_or_enum_without_a_way_to_grow_is_found() {
        let added = "interface extra {\n record a { b: string }\n enum c { d }\n variant e { f(u8) }\n flags g { h }\n \
                     record i { attributes: list<tuple<string, string>> }\n}\n";
        let found = without_growth(&(today() + added));
        let new = found.iter().filter(|name| name.starts_with("extra.")).map(String::as_str).collect::<Vec<_>>();
        assert_eq!(new, ["extra.a", "extra.c", "extra.e", "extra.g"]);
    }
}
