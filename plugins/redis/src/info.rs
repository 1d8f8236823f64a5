//! The replies to INFO and CLUSTER INFO: lines of `key:value`, with headings that do not matter.

/// Such a reply, parsed: a hash table of its lines. Searching all lines for each key would dominate the time in the interpreter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Info<'a> {
    lines: Vec<Line<'a>>,
    /// The number of the first line in each bucket.
    buckets: Vec<usize>,
}

/// A line, and the number of the next one in its bucket.
#[derive(Clone, Debug, PartialEq)]
struct Line<'a> {
    key: &'a str,
    value: &'a str,
    next: usize,
}

/// No line has this number.
const NONE: usize = usize::MAX;

const BUCKETS: usize = 128;

/// The bucket of the lines with this key.
fn bucket(key: &str) -> usize {
    let byte = |byte: Option<&u8>| byte.copied().map_or(0, usize::from);
    let bytes = key.as_bytes();
    let mixed = bytes.len().wrapping_mul(31) ^ byte(bytes.last()).wrapping_mul(7) ^ byte(bytes.get(bytes.len() / 2));
    mixed % BUCKETS
}

impl<'a> Info<'a> {
    /// Parses `text`. Lines other than `key:value` are skipped.
    pub(crate) fn parse(text: &'a str) -> Self {
        let mut lines = Vec::with_capacity(text.len() / 24);
        let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(':'));
        lines.extend(pairs.map(|(key, value)| Line { key, value, next: NONE }));
        let mut buckets = vec![NONE; BUCKETS];
        // Backwards, so that of two lines with the same key the first is found.
        for (number, line) in lines.iter_mut().enumerate().rev() {
            if let Some(first) = buckets.get_mut(bucket(line.key)) {
                line.next = std::mem::replace(first, number);
            }
        }
        Self { lines, buckets }
    }

    /// The value of `key`.
    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        let mut line = self.lines.get(*self.buckets.get(bucket(key))?)?;
        while line.key != key {
            line = self.lines.get(line.next)?;
        }
        Some(line.value)
    }

    /// The number under `key`.
    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        measured(self.text(key)?)
    }

    /// The count under `key`.
    pub(crate) fn count(&self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok()
    }

    /// The keys that begin with `prefix`: what follows it, and the fields of their values, `a=1,b=2`.
    pub(crate) fn with_prefix(&self, prefix: &'static str) -> impl Iterator<Item = (&'a str, Fields<'a>)> {
        self.lines.iter().filter_map(move |line| Some((line.key.strip_prefix(prefix)?, Fields(line.value))))
    }

    /// The databases, `db0:keys=2,...`: their numbers and fields. There are other keys with `db`, such as `db0_distrib_sizes`.
    pub(crate) fn databases(&self) -> impl Iterator<Item = (&'a str, Fields<'a>)> {
        self.with_prefix("db").filter(|(number, _)| is_number(number))
    }

    /// The replicas of a primary, `slave0:ip=...`.
    pub(crate) fn replicas(&self) -> impl Iterator<Item = (&'a str, Fields<'a>)> {
        self.with_prefix("slave").filter(|(number, _)| is_number(number))
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A value like `ip=10.0.0.1,port=6379,offset=5`, in any order and with any other fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    /// Each field.
    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.split(',').filter_map(|field| field.split_once('='))
    }

    /// The number in the field of this name.
    pub(crate) fn number(self, name: &str) -> Option<f64> {
        measured(self.iter().find(|(key, _)| *key == name)?.1)
    }
}

/// A number. Nothing that INFO counts or measures is negative: -1 says that the server does not know.
fn measured(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number| *number >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_number_is_not_a_measurement() {
        let text = "a:-1\nb:0\nc:-0.5\ndb0:keys=1,avg_ttl=-1\nslave0:ip=x,lag=-1";
        let info = Info::parse(text);
        assert_eq!(["a", "b", "c"].map(|key| info.number(key)), [None, Some(0.0), None]);
        assert_eq!(info.databases().map(|(_, fields)| fields.number("avg_ttl")).collect::<Vec<_>>(), [None]);
        assert_eq!(info.replicas().map(|(_, fields)| fields.number("lag")).collect::<Vec<_>>(), [None]);
    }

    #[test]
    fn lines_may_end_in_lf_or_crlf_and_headings_are_skipped() {
        for text in
            ["# Server\r\nredis_version:7.0.15\r\n\r\nhz:10\r\n", "# Server\nredis_version:7.0.15\nhz:10\nnonsense"]
        {
            let info = Info::parse(text);
            assert_eq!(
                (info.text("redis_version"), info.number("hz"), info.number("redis_version")),
                (Some("7.0.15"), Some(10.0), None)
            );
            assert_eq!(info.text("# Server"), None);
            assert_eq!((Info::default().text("hz"), Info::parse("a:1\nb:2\na:3").text("a")), (None, Some("1")));
        }
    }

    #[test]
    fn only_db_and_a_number_is_a_database_and_slave_and_a_number_a_replica() {
        let info = Info::parse(
            "db0:keys=2,expires=1,avg_ttl=5\ndb0_distrib_strings_sizes:0=1,1=5\ndb12:keys=1\ndbx:keys=9\ndb:keys=9",
        );
        let databases =
            info.databases().map(|(number, fields)| (number, fields.number("keys"), fields.number("avg_ttl")));
        assert_eq!(databases.collect::<Vec<_>>(), [("0", Some(2.0), Some(5.0)), ("12", Some(1.0), None)]);
        let info = Info::parse(
            "slave0:ip=::1,port=6380,state=online,offset=5,lag=1,io-thread=0\nslave_read_only:1\nslave_priority:100",
        );
        let replicas = info.replicas().map(|(number, fields)| (number, fields.number("offset"), fields.number("lag")));
        assert_eq!(replicas.collect::<Vec<_>>(), [("0", Some(5.0), Some(1.0))]);
    }
}
