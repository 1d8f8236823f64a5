//! What the plugin makes of a server's bytes, without a server: for tests, in which the bytes are anything.

use wasaba_plugin::{Error, Values, failed};

use crate::info::Info;
use crate::server::{Inbox, Reply};

/// The values of every part in what a server sends, which arrives in pieces of `piece_bytes`: the first text is the reply to INFO,
/// the second that to CLUSTER INFO; the first list has the limit of memory, the second that of clients.
///
/// # Errors
/// As the plugin has them, in other words.
pub fn values(bytes: &[u8], piece_bytes: usize) -> Result<Values, Error> {
    let foreign = |_| failed!("the bytes are not Redis's protocol");
    let (mut inbox, mut texts, mut limits) = (Inbox::default(), Vec::new(), Vec::new());
    for piece in bytes.chunks(piece_bytes.max(1)) {
        inbox.add(piece).map_err(foreign)?;
        while let Some(answer) = inbox.next().map_err(foreign)? {
            match answer.map_err(crate::server::Refusal::into_error)? {
                Reply::Text(text) => texts.push(text),
                list @ Reply::List(_) => limits.push(crate::limit(&list)),
                Reply::Other => {}
            }
        }
    }
    let mut texts = texts.iter();
    let mut report = crate::report(texts.next().map_or("", String::as_str))?;
    report.cluster = Info::parse(texts.next().map_or("", String::as_str));
    let mut limits = limits.into_iter();
    (report.max_memory, report.max_clients) = (limits.next().flatten(), limits.next().flatten());
    let parts = crate::official::ALL.iter().chain(crate::extra::ALL).collect::<Vec<_>>();
    crate::in_report(&report, &parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_in_which_a_reply_arrives_do_not_matter() {
        let text = include_str!("../recorded/redis-7.0.txt");
        let sent = format!("+OK\r\n${}\r\n{text}\r\n*2\r\n$9\r\nmaxmemory\r\n$1\r\n7\r\n", text.len());
        // The first text counts, which is the OK of a login here.
        assert!(values(sent.as_bytes(), 1 << 20).is_err());
        let sent = sent.strip_prefix("+OK\r\n").unwrap();
        let whole = values(sent.as_bytes(), 1 << 20).unwrap();
        assert_eq!(values(sent.as_bytes(), 700).unwrap(), whole);
        assert!(whole.len() > 30, "{whole:?}");
        assert!(matches!(values(b"HTTP/1.1 200 OK\r\n", 3), Err(Error::Failed(_))));
    }
}
