//! What is done with an input, a file for each kind of place that it comes from.
//!
//! Most inputs are texts, so that a person can write one. Those of several parts are lines of fields, separated by tabs, or pieces,
//! separated by a line `%%`.

pub mod component;
pub mod configuration;
pub mod control;
pub mod grants;
pub mod machine;
pub mod official;
pub mod programs;
pub mod readings;
pub mod servers;
pub mod texts;

use std::borrow::Cow;

/// A secret that is put into inputs. Since it is in no corpus, it is shown only where it leaks.
const PLANTED: &str = "planted-hunter2";

/// Bytes that are not UTF-8 are replaced.
fn text(data: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// The pieces of an input.
fn pieces(data: &[u8]) -> Vec<Vec<u8>> {
    const END: &[u8] = b"\n%%\n";
    let (mut pieces, mut rest) = (Vec::new(), data);
    while let Some(at) = rest.windows(END.len()).position(|window| window == END) {
        pieces.push(rest.get(..at).unwrap_or_default().to_vec());
        rest = rest.get(at + END.len()..).unwrap_or_default();
    }
    pieces.push(rest.to_vec());
    pieces
}

/// Asserts that a text for the log or a terminal is not long.
fn assert_short(text: &str, most_bytes: usize) {
    let begin = text.chars().take(200).collect::<String>();
    assert!(text.len() <= most_bytes, "{} bytes, more than {most_bytes}: {begin}", text.len());
}
