//! Every message, recorded in golden files.

use crate::tests::{parsed, shown};

#[test]
fn all_problems_are_reported_at_once_with_their_positions_and_no_secret() {
    let text = "apikye = \"hunter2\"\nverbose = \"yes\"\nroles = [\"a b\", 5]\n[filesystems]\nignore = \"x\"\n\
                [plugin.metrics.web]\nwsam = \"nginx\"\n";
    let problems = shown(&parsed(text).unwrap_err());
    assert_golden(&problems);
    assert!(!problems.contains("hunter2"));
}

/// Compares the whole text with `golden/every_problem.txt`. UPDATE=1 records it again.
fn assert_golden(problems: &str) {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/golden/every_problem.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(golden, problems).unwrap();
    }
    assert_eq!(problems, std::fs::read_to_string(golden).unwrap(), "record it again with UPDATE=1");
}

/// `golden/broken.txt` contains configurations and their problems: a configuration, a line of dashes, its problems, an empty line.
/// UPDATE=1 records the problems again.
#[test]
fn each_broken_configuration_has_its_message() {
    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/golden/broken.txt");
    let golden = std::fs::read_to_string(GOLDEN).unwrap();
    let mut recorded = String::new();
    let mut count = 0;
    for piece in golden.split_inclusive("----\n").filter_map(|piece| piece.strip_suffix("----\n")) {
        // In front of the configuration are the problems of the previous one, up to an empty line.
        let text = piece.rsplit_once("\n\n").map_or(piece, |(_, text)| text);
        let (Ok((_, problems)) | Err(problems)) = parsed(text);
        assert!(!problems.is_empty(), "no problem in\n{text}");
        let problems = shown(&problems);
        assert!(!problems.contains("hunter2"), "{problems}");
        recorded.push_str(&format!("{text}----\n{problems}\n"));
        count += 1;
    }
    assert!(count >= 60, "{count}");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(GOLDEN, &recorded).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap();
    for (recorded, golden) in recorded.split("\n\n").zip(golden.split("\n\n")) {
        assert_eq!(recorded, golden, "record it again with UPDATE=1 and read the difference");
    }
    assert_eq!(recorded.len(), golden.len());
}
