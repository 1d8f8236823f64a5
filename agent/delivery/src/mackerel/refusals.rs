//! The names whose values are refused: they are sent apart ([`Holds`]), so that they delay no other value.
//!
//! Pure: time is a parameter, and it sends nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasaba_core::sample::Sample;
use wasaba_core::text::counted;

use super::answer::ApiError;
use super::holds::Holds;

/// How often the log mentions what was dropped.
const LOGGED_AGAIN: Duration = Duration::from_hours(1);

/// What to do about a refused name.
pub(super) const CURE: &str = "correct the names, or exclude them with `exclude_pattern` in the plugin's table";

/// More names are counted, not listed.
const MOST_LISTED: usize = 10;

/// A name of a host, given by its custom identifier; `None` is this host.
type Name = (Option<Arc<str>>, Arc<str>);

/// The refused names.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    held: Holds<Name>,
    news: Option<News>,
    logged: Option<Instant>,
}

/// What Mackerel refused since the log last mentioned it.
#[derive(Debug)]
struct News {
    names: Listed,
    points: usize,
    why: String,
}

impl News {
    fn of(why: &ApiError) -> Self {
        Self { names: Listed::default(), points: 0, why: why.to_string() }
    }
}

/// The names for a message.
#[derive(Debug, Default)]
struct Listed {
    names: Vec<Arc<str>>,
    unlisted: usize,
}

impl Listed {
    fn push(&mut self, name: Arc<str>) {
        if self.names.len() < MOST_LISTED { self.names.push(name) } else { self.unlisted += 1 }
    }

    /// None for none.
    fn text(&self) -> Option<String> {
        let listed = self.names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let more = if self.unlisted > 0 { format!(" and {} more", self.unlisted) } else { String::new() };
        (!self.names.is_empty()).then(|| format!("{listed}{more}"))
    }
}

/// The names that are held, for the queue's filter.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Arc<Holds<Name>>);

impl Held {
    /// Whether values of the sample's name are not sent.
    pub(super) fn contains(&self, sample: &Sample) -> bool {
        !self.0.is_empty() && self.0.contains(&name(sample))
    }

    /// Whether values of the sample's name are held and due to be tried again.
    pub(super) fn is_due(&self, sample: &Sample, now: Instant) -> bool {
        self.0.is_due(&name(sample), now)
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
        self.held.next()
    }

    /// Records that a sample was refused alone, and others accepted.
    pub(super) fn hold(&mut self, sample: &Sample, why: &ApiError, now: Instant) {
        let name = name(sample);
        let is_new = self.held.hold(name.clone(), why, now);
        if why.is_final() {
            let news = self.news.get_or_insert_with(|| News::of(why));
            news.points += 1;
            if is_new {
                news.names.push(name.1);
            }
        }
    }

    /// Holds the names that are due for as long again.
    pub(super) fn extend_due(&mut self, now: Instant) {
        self.held.extend_due(now);
    }

    /// Records that Mackerel refuses samples with all others of their time: the time is at fault, not their names.
    pub(super) fn count(&mut self, points: usize, why: &ApiError) {
        if why.is_final() {
            self.news.get_or_insert_with(|| News::of(why)).points += points;
        }
    }

    /// Records that this name is accepted again.
    pub(super) fn release(&mut self, sample: &Sample) {
        self.held.release(&name(sample));
    }

    /// Releases this name, unless it is Mackerel itself that refuses it.
    pub(super) fn release_open(&mut self, sample: &Sample) {
        self.held.release_open(&name(sample));
    }

    /// Releases the names that are due, but those of these samples, of which values are queued.
    pub(super) fn release_due<'a>(&mut self, queued: impl Iterator<Item = &'a Sample>, now: Instant) {
        let queued = queued.map(name).collect::<BTreeSet<_>>();
        self.held.release_due(|name| queued.contains(name), now);
    }

    /// The names of which values stay queued, since it may not be Mackerel that refuses them, for a message; why, and when the next
    /// is tried again.
    pub(super) fn queued(&self) -> Option<(String, ApiError, Instant)> {
        Self::message(self.held.queued())
    }

    /// The names of which values are dropped, as [`Refusals::queued`].
    pub(super) fn refused(&self) -> Option<(String, ApiError, Instant)> {
        Self::message(self.held.refused())
    }

    fn message<'a>(
        held: impl Iterator<Item = (&'a Name, &'a ApiError, Instant)>,
    ) -> Option<(String, ApiError, Instant)> {
        let (mut listed, mut next) = (Listed::default(), None);
        for (name, why, until) in held {
            listed.push(Arc::clone(&name.1));
            let (first, until_now) = next.unwrap_or((why, until));
            next = Some((first, until_now.min(until)));
        }
        let (why, until) = next?;
        Some((listed.text()?, why.clone(), until))
    }

    /// The line for the log about what was dropped, at most once an hour.
    pub(super) fn line(&mut self, now: Instant) -> Option<String> {
        if self.logged.is_some_and(|at| now.saturating_duration_since(at) < LOGGED_AGAIN) {
            return None;
        }
        let News { names, points, why } = self.news.take()?;
        self.logged = Some(now);
        let points = counted(points as u64, "value");
        Some(match names.text() {
            None => format!("dropped {points} that Mackerel refuses: {why}"),
            Some(names) => format!(
                "dropped {points} that Mackerel refuses, of {names}: {why}; their next values are tried once an hour: {CURE}"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mackerel::answer::{Author, ErrorResponse};

    const HELD: Duration = LOGGED_AGAIN;

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
        refusals.hold(&sample("custom.a"), &refused("no", Author::Mackerel), start);
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
        names.iter().for_each(|name| refusals.hold(name, &refused("bad", Author::Mackerel), start));
        let line = refusals.line(start).unwrap();
        assert!(line.starts_with("dropped 12 values that Mackerel refuses, of `custom.m00`, "), "{line}");
        assert!(line.contains("`custom.m09` and 2 more: Mackerel answered 400: bad; "), "{line}");
        let later = start + HELD / 2;
        names.iter().for_each(|name| refusals.hold(name, &refused("again", Author::Mackerel), later));
        assert_eq!(refusals.line(later), None);
        let line = refusals.line(start + HELD).unwrap();
        assert_eq!(
            line, "dropped 12 values that Mackerel refuses: Mackerel answered 400: again",
            "the names are known already"
        );
        assert_eq!(refusals.line(start + HELD * 2), None, "nothing is new");
    }

    #[test]
    fn what_a_gateway_refuses_is_queued_and_not_called_dropped() {
        let (start, mut refusals) = (Instant::now(), Refusals::default());
        let why = refused("400 Bad Request", Author::Unknown("api.example.com".to_owned()));
        refusals.hold(&sample("custom.a"), &why, start);
        refusals.hold(&sample("custom.b"), &refused("no", Author::Mackerel), start);
        assert_eq!(refusals.queued(), Some(("`custom.a`".to_owned(), why, start + Duration::from_mins(2))));
        let line = refusals.line(start).unwrap();
        assert!(line.starts_with("dropped 1 value that Mackerel refuses, of `custom.b`"), "{line}");
        refusals.release_due([].iter(), start);
        assert!(refusals.queued().is_some());
        refusals.release_open(&sample("custom.b"));
        assert_eq!(refusals.refused().unwrap().0, "`custom.b`");
        refusals.release_due([sample("custom.b")].iter(), start + HELD);
        assert_eq!(refusals.queued(), None);
        assert!(refusals.held().contains(&sample("custom.b")));
        refusals.release_due([].iter(), start + HELD);
        assert_eq!(refusals.refused(), None, "it does not exist any more");
    }
}
