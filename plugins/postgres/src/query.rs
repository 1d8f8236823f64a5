//! How a part is read: a query, and how its rows become values. One that fails does not affect the others.

use wasaba_plugin::{Error, Graph, Part, Prefix, Values};

use crate::rows::Rows;

/// How each part in [`official::ALL`](crate::official::ALL) and [`extra::ALL`](crate::extra::ALL) is read.
pub(crate) struct Query {
    /// The query for a server.
    pub(crate) sql: fn(Server) -> String,
    /// The values in its rows.
    pub(crate) values: fn(&Rows, Server) -> Result<Values, Error>,
}

/// A part that is read with a query.
pub(crate) const fn part(
    name: &'static str,
    graphs: fn(&Prefix) -> Vec<Graph>,
    sql: fn(Server) -> String,
    values: fn(&Rows, Server) -> Result<Values, Error>,
) -> Part<Query> {
    Part { name, graphs, read: Query { sql, values } }
}

/// What a query depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) version: Version,
    /// Whether to reproduce the official plugin's wrong values.
    pub(crate) upstream: bool,
}

/// A version of PostgreSQL: `9.6`, or `15.0` for all of 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32);

impl Version {
    /// The oldest that is supported.
    pub(crate) const OLDEST: Self = Self(9, 6);

    /// Parses the version that the server reports: `9.6.24`, `15.20 (Debian 15.20-0+deb12u1)`, `17beta1`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(|char: char| !char.is_ascii_digit()).map(str::parse);
        let major = numbers.next()?.ok()?;
        let minor = if major < 10 { numbers.next()?.ok()? } else { 0 };
        Some(Self(major, minor))
    }

    /// The functions for positions in the write-ahead log.
    pub(crate) fn wal(self) -> Wal {
        let (word, position) = if self < Self(10, 0) { ("xlog", "location") } else { ("wal", "lsn") };
        Wal {
            here: format!(
                "CASE WHEN pg_is_in_recovery() THEN pg_last_{word}_replay_{position}() \
                 ELSE pg_current_{word}_{position}() END"
            ),
            received: format!("pg_last_{word}_receive_{position}()"),
            replayed: format!("pg_last_{word}_replay_{position}()"),
            bytes_between: format!("pg_{word}_{position}_diff"),
        }
    }
}

/// See [`Version::wal`].
pub(crate) struct Wal {
    /// This server's position, primary or standby.
    pub(crate) here: String,
    /// What a standby has received.
    pub(crate) received: String,
    /// What a standby has replayed.
    pub(crate) replayed: String,
    /// The bytes between two positions.
    pub(crate) bytes_between: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_parsed_in_every_form_that_servers_report() {
        for (text, expected) in [
            ("9.6.24", Some(Version(9, 6))),
            ("10.0", Some(Version(10, 0))),
            ("15.20 (Debian 15.20-0+deb12u1)", Some(Version(15, 0))),
            ("17beta1", Some(Version(17, 0))),
            ("18devel", Some(Version(18, 0))),
            ("9", None),
            ("EnterpriseDB", None),
        ] {
            assert_eq!(Version::parse(text), expected, "{text}");
        }
        assert!(Version(9, 5) < Version::OLDEST && Version(10, 0) > Version::OLDEST);
    }
}
