//! Every typo in a key is reported.

use crate::tests::{parsed, shown, switched_on};

/// The positions of a line's keys: those in front of a `=`, also within `{}`, or those of a table's header except the plugin's name.
/// Those within `env` and `settings` are the user's.
fn keys_in(line: &str) -> Vec<std::ops::Range<usize>> {
    let whole = |key: &str| {
        let start = key.as_ptr() as usize - line.as_ptr() as usize;
        start..start + key.len()
    };
    if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        // The third is the plugin's name.
        let parts = header.split('.').enumerate().filter(|(index, _)| *index != 2);
        return parts.map(|(_, part)| whole(part)).collect();
    }
    let code = line.split(" # ").next().unwrap_or_default();
    let is_free = ["env = {", "settings = {"].iter().any(|table| code.starts_with(table));
    let fronts = code.match_indices(" = ").map(|(at, _)| &code[..at]).take(if is_free { 1 } else { usize::MAX });
    let fronts = fronts.filter(|front| front.matches('"').count() % 2 == 0);
    fronts.filter_map(|front| front.rsplit([' ', '{', ',']).next()).map(whole).collect()
}

fn typos(key: &str) -> Vec<String> {
    let characters = key.chars().collect::<Vec<_>>();
    let mut typos = Vec::new();
    let mut with = |change: &dyn Fn(&mut Vec<char>)| {
        let mut changed = characters.clone();
        change(&mut changed);
        typos.push(changed.into_iter().collect::<String>());
    };
    for other in ['x', '_', '1', 's'] {
        with(&|text| text.push(other));
    }
    for at in 0..characters.len() {
        with(&|text| {
            text.remove(at);
        });
        for other in ['x', '_', '1'] {
            with(&|text| text.insert(at, other));
            with(&|text| text[at] = other);
        }
        if at + 1 < characters.len() {
            with(&|text| text.swap(at, at + 1));
        }
    }
    typos.retain(|typo| typo != key && !typo.is_empty());
    typos
}

/// The lines of the table that a line is in, so that little is parsed for each typo.
fn around(lines: &[&str], number: usize) -> std::ops::Range<usize> {
    let is_header = |line: &&str| line.starts_with('[');
    let start = lines[..=number].iter().rposition(is_header).unwrap_or(0);
    let end = lines[number + 1..].iter().position(is_header).map_or(lines.len(), |more| number + 1 + more);
    start..end
}

#[test]
fn every_typo_in_a_key_of_the_sample_is_reported_at_its_position() {
    let text = switched_on();
    let lines = text.lines().collect::<Vec<_>>();
    let (mut count, mut inline) = (0, 0);
    for (number, line) in lines.iter().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        let around = around(&lines, number);
        for (index, range) in keys_in(line).into_iter().enumerate() {
            inline += usize::from(index > 0 && !line.starts_with('['));
            // `plugin` is a key, too: as a duplicate it is reported at the second one.
            for typo in typos(&line[range.clone()]).into_iter().filter(|typo| typo != "plugin") {
                let mut broken = (*line).to_owned();
                broken.replace_range(range.clone(), &typo);
                let lines = around.clone().map(|at| if at == number { broken.as_str() } else { lines[at] });
                let whole = lines.map(|line| format!("{line}\n")).collect::<String>();
                let (Ok((_, problems)) | Err(problems)) = parsed(&whole);
                let problems = shown(&problems);
                let position = format!("agent.conf:{}:{}: ", number - around.start + 1, range.start + 1);
                assert!(problems.contains(&position), "`{broken}` is not reported at {position}\n{problems}");
                count += 1;
            }
        }
    }
    assert!(count > 4_000 && inline >= 4, "{count} {inline}");
}
