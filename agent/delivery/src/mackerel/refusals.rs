//! The names whose values Mackerel refuses: they are sent apart, once an hour, so that they delay no other value.
//!
//! Pure: time is a parameter, and it sends nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasaba_core::sample::Sample;
use wasaba_core::text::counted;

use super::answer::ApiError;

/// How long a name is not sent after it was refused, and how often the log mentions new ones.
const HELD: Duration = Duration::from_hours(1);

/// More names are counted, not listed.
const MOST_LISTED: usize = 10;

/// A name of a host, given by its custom identifier; `None` is this host.
type Name = (Option<Arc<str>>, Arc<str>);

/// The refused names.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    held: BTreeMap<Name, Instant>,
    news: Option<News>,
    logged: Option<Instant>,
}

/// What was refused since the log last mentioned it.
#[derive(Debug)]
struct News {
    names: Vec<Arc<str>>,
    unlisted: usize,
    points: usize,
    why: String,
    /// Whether the points were dropped: only those are that Mackerel itself refuses.
    are_dropped: bool,
}

impl News {
    fn of(why: &ApiError) -> Self {
        let are_dropped = why.is_of_mackerel();
        Self { names: Vec::new(), unlisted: 0, points: 0, why: why.to_string(), are_dropped }
    }
}

/// The names that are held, for the queue's filter.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Arc<BTreeMap<Name, Instant>>);

impl Held {
    /// Whether values of the sample's name are not sent.
    pub(super) fn contains(&self, sample: &Sample) -> bool {
        !self.0.is_empty() && self.0.contains_key(&name(sample))
    }

    /// Whether values of the sample's name are held and due to be tried again.
    pub(super) fn is_due(&self, sample: &Sample, now: Instant) -> bool {
        self.0.get(&name(sample)).is_some_and(|until| *until <= now)
    }
}

fn name(sample: &Sample) -> Name {
    (sample.host().cloned(), sample.name().as_str().into())
}

impl Refusals {
    /// The names that are not sent now.
    pub(super) fn held(&self) -> Held {
        // Hardly ever more than none.
        Held(Arc::new(self.held.clone()))
    }

    /// When the next name is tried again, if one is held.
    pub(super) fn next(&self) -> Option<Instant> {
        self.held.values().min().copied()
    }

    /// Records that these samples were refused, each alone, and others accepted.
    pub(super) fn hold<'a>(&mut self, samples: impl Iterator<Item = &'a Sample>, why: &ApiError, now: Instant) {
        for sample in samples {
            let name = name(sample);
            let news = self.news.get_or_insert_with(|| News::of(why));
            news.points += 1;
            if self.held.insert(name.clone(), now + HELD).is_none() {
                if news.names.len() < MOST_LISTED { news.names.push(name.1) } else { news.unlisted += 1 }
            }
        }
    }

    /// Holds the names that are due for another hour.
    pub(super) fn extend_due(&mut self, now: Instant) {
        self.held.values_mut().filter(|until| **until <= now).for_each(|until| *until = now + HELD);
    }

    /// Records samples that were refused with all others of their time: the time is at fault, not their names.
    pub(super) fn count(&mut self, points: usize, why: &ApiError) {
        self.news.get_or_insert_with(|| News::of(why)).points += points;
    }

    /// Records that Mackerel accepts this name again.
    pub(super) fn release(&mut self, sample: &Sample) {
        self.held.remove(&name(sample));
    }

    /// The line for the log, at most once an hour.
    pub(super) fn line(&mut self, now: Instant) -> Option<String> {
        if self.logged.is_some_and(|at| now.saturating_duration_since(at) < HELD) {
            return None;
        }
        let News { names, unlisted, points, why, are_dropped } = self.news.take()?;
        self.logged = Some(now);
        let listed = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let more = if unlisted > 0 { format!(" and {unlisted} more") } else { String::new() };
        let of = if names.is_empty() { String::new() } else { format!(", of {listed}{more}") };
        let advice = if names.is_empty() {
            ""
        } else {
            "; their next values are tried once an hour: correct the names, or exclude them with `exclude_pattern` in the plugin's table"
        };
        let points = counted(points as u64, "value");
        Some(match are_dropped {
            true => format!("dropped {points} that Mackerel refuses{of}: {why}{advice}"),
            false => format!("cannot deliver {points}{of}: {why}; retrying once an hour, queued until then"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mackerel::answer::{Author, ErrorResponse};

    fn sample(name: &str) -> Sample {
        Sample::new(name, 1.0).unwrap()
    }

    fn refused(message: &str, by: Author) -> ApiError {
        ApiError::of(ErrorResponse { status: 400, by, message: message.to_owned(), retry_after: None })
    }

    #[test]
    fn a_refused_name_is_held_for_an_hour_on_its_own_host_alone() {
        let (start, mut refusals) = (Instant::now(), Refusals::default());
        assert_eq!(refusals.next(), None);
        refusals.hold([sample("custom.a")].iter(), &refused("no", Author::Mackerel), start);
        let held = refusals.held();
        assert!(held.contains(&sample("custom.a")) && !held.contains(&sample("custom.b")));
        assert!(!held.contains(&sample("custom.a").of_host(&"db".into())));
        assert_eq!(refusals.next(), Some(start + HELD));
        assert!(!held.is_due(&sample("custom.a"), start) && held.is_due(&sample("custom.a"), start + HELD));
        refusals.release(&sample("custom.a"));
        assert!(!refusals.held().contains(&sample("custom.a")));
    }

    #[test]
    fn the_log_lists_ten_new_names_once_an_hour_and_counts_the_rest() {
        let (start, mut refusals) = (Instant::now(), Refusals::default());
        let names = (0..12).map(|n| sample(&format!("custom.m{n:02}"))).collect::<Vec<_>>();
        refusals.hold(names.iter(), &refused("bad", Author::Mackerel), start);
        let line = refusals.line(start).unwrap();
        assert!(line.starts_with("dropped 12 values that Mackerel refuses, of `custom.m00`, "), "{line}");
        assert!(line.contains("`custom.m09` and 2 more: Mackerel answered 400: bad; "), "{line}");
        refusals.hold(names.iter(), &refused("again", Author::Mackerel), start + HELD / 2);
        assert_eq!(refusals.line(start + HELD / 2), None);
        let line = refusals.line(start + HELD).unwrap();
        assert_eq!(
            line, "dropped 12 values that Mackerel refuses: Mackerel answered 400: again",
            "the names are known already"
        );
        assert_eq!(refusals.line(start + HELD * 2), None, "nothing is new");
    }

    #[test]
    fn what_a_gateway_refuses_is_not_called_dropped() {
        let (start, mut refusals) = (Instant::now(), Refusals::default());
        let why = refused("400 Bad Request", Author::Unknown("api.example.com".to_owned()));
        refusals.hold([sample("custom.a")].iter(), &why, start);
        let line = refusals.line(start).unwrap();
        let begin = "cannot deliver 1 value, of `custom.a`: a request to api.example.com";
        assert!(line.starts_with(begin) && line.ends_with("; retrying once an hour, queued until then"), "{line}");
    }
}
