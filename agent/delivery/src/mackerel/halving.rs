//! Halving: what is refused of a batch is found by posting halves of it until the refused things are alone, each with its reason.
//!
//! Pure: it sends nothing. Values, graph definitions and reports are looked through in the same way, and by the same rule: as long as
//! nothing is accepted, a thing that is refused alone proves nothing, since a gateway may be refusing everything; once something is, it
//! is tried again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::answer::ApiError;

/// After this many requests the search pauses.
pub(super) const MOST_REQUESTS: usize = 64;

/// The same, as long as none was accepted: then probably none will be.
pub(super) const MOST_REFUSED_REQUESTS: usize = 10;

/// The first requests of a search: the whole batch, and both halves.
const WHOLE_AND_HALVES: usize = 3;

/// After so many failures in a row that are no refusals, the server probably has failed meanwhile, and not over something in the batch.
const MOST_FAILURES_IN_A_ROW: usize = 10;

/// Steps of this share lead to another place each time, also far from those before.
pub(super) const GOLDEN_RATIO: f64 = 0.618_033_988_749_895;

/// How long no further search is made after one in which nothing was accepted: the request is repeated as it is, with longer and longer
/// waits, so that a refusal of everything that ends soon does not use up the requests of an hour.
const FRUITLESS: Duration = Duration::from_mins(20);

/// When a search in which nothing was accepted was made last, and through how many things.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fruitless(Option<(Instant, usize)>);

impl Fruitless {
    /// Whether a batch of so many things may be searched through at `now`: not again soon, unless it has more.
    pub(super) fn allows(self, things: usize, now: Instant) -> bool {
        self.0.is_none_or(|(at, searched)| things > searched || now.saturating_duration_since(at) >= FRUITLESS)
    }

    pub(super) fn record(&mut self, things: usize, now: Instant) {
        self.0 = Some((now, things));
    }

    /// Forgets it, once something was accepted.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }
}

/// A search for what is refused of a batch.
pub(super) struct Halving<T, E> {
    /// What is still to be posted, in this order; and whether the other half of what it is a half of is behind it.
    batches: VecDeque<(Vec<T>, bool)>,
    /// Where the halves of what was returned last go: behind its other half.
    behind: usize,
    /// Since the search began or was continued.
    requests: usize,
    accepted: bool,
    /// Since something was accepted.
    failures: usize,
    /// Refused alone after something was accepted.
    refused: Vec<(T, E)>,
    /// Refused alone before anything was accepted: Mackerel, or something before it, may have recovered since.
    unproven: Vec<(T, E)>,
    /// Where something is tried alone next: from 0, the beginning, to 1, the end.
    place: f64,
}

/// How far a search is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<T, E> {
    /// These are refused; everything else was accepted.
    All(Vec<(T, E)>),
    /// These are refused so far.
    Some(Vec<(T, E)>),
    /// Nothing was accepted.
    NothingAccepted,
}

impl<T, E> Halving<T, E> {
    /// A search through a batch that was refused as a whole. `random` is from 0 to 1.
    pub(super) fn of_refused(batch: Vec<T>, why: E, random: f64) -> Self {
        Self::new(batch, why, random, false)
    }

    /// As [`Halving::of_refused`], just after something else was accepted.
    pub(super) fn beside_accepted(batch: Vec<T>, why: E) -> Self {
        Self::new(batch, why, 0.0, true)
    }

    fn new(batch: Vec<T>, why: E, random: f64, accepted: bool) -> Self {
        let mut search = Self {
            batches: VecDeque::new(),
            behind: 0,
            requests: 1,
            accepted,
            failures: 0,
            refused: Vec::new(),
            unproven: Vec::new(),
            place: random.fract(),
        };
        search.refuse(batch, why);
        search
    }

    /// What to post next. First both halves of what was refused, and then those of one of them, and so on, so that few requests fail one after
    /// the other until something is accepted; but if nothing was and the first halves are refused, too, one thing alone, since of many refused things
    /// one is in every large batch. `None` if all is known, or for now.
    pub(super) fn next(&mut self) -> Option<Vec<T>> {
        let most = if self.accepted { MOST_REQUESTS } else { MOST_REFUSED_REQUESTS };
        if self.requests >= most || self.batches.is_empty() {
            return None;
        }
        self.requests += 1;
        if self.accepted || self.requests <= WHOLE_AND_HALVES {
            let (batch, has_other) = self.batches.pop_front()?;
            self.behind = usize::from(has_other).min(self.batches.len());
            Some(batch)
        } else {
            Some(vec![self.one()?])
        }
    }

    /// One thing of what is still to be posted, from another place each time, also from those close to it.
    fn one(&mut self) -> Option<T> {
        let place = self.place * self.batches.len() as f64;
        self.place = (self.place + GOLDEN_RATIO).fract();
        let index = place as usize;
        let (batch, _) = self.batches.get_mut(index)?;
        let one = batch.remove((place.fract() * batch.len() as f64) as usize);
        if batch.is_empty() {
            self.batches.remove(index);
        }
        Some(one)
    }

    /// Records that the batch of [`Halving::next`] was accepted.
    pub(super) fn accept(&mut self) {
        (self.accepted, self.failures) = (true, 0);
        self.batches.extend(self.unproven.drain(..).map(|(one, _)| (vec![one], false)));
    }

    /// Records that it was refused.
    pub(super) fn refuse(&mut self, mut batch: Vec<T>, why: E) {
        if batch.len() < 2 {
            let refused = if self.accepted { &mut self.refused } else { &mut self.unproven };
            refused.extend(batch.pop().map(|one| (one, why)));
            return;
        }
        let last = batch.split_off(batch.len() / 2);
        self.batches.insert(self.behind, (last, false));
        self.batches.insert(self.behind, (batch, true));
    }

    /// What was found since the search began or was continued. It can be continued.
    pub(super) fn found(&mut self) -> Found<T, E> {
        self.requests = 0;
        if !self.accepted {
            return Found::NothingAccepted;
        }
        let refused = std::mem::take(&mut self.refused);
        if self.batches.is_empty() { Found::All(refused) } else { Found::Some(refused) }
    }
}

impl<T> Halving<T, ApiError> {
    /// Records that the request with the batch of [`Halving::next`] failed.
    ///
    /// # Errors
    /// It is not over something in the batch: the search ends.
    pub(super) fn fail(&mut self, batch: Vec<T>, why: ApiError) -> Result<(), ApiError> {
        // Who asks for a pause gets no further request.
        if !why.may_be_of_a_part() || why.retry_after().is_some() {
            return Err(why);
        }
        self.failures += 1;
        self.refuse(batch, why.clone());
        let is_refusal = matches!(why, ApiError::Refused(_));
        if is_refusal || self.failures < MOST_FAILURES_IN_A_ROW { Ok(()) } else { Err(why) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mackerel::answer::{Author, ErrorResponse};

    #[test]
    fn after_a_fruitless_search_there_is_none_for_a_while_unless_there_is_more_to_search_through() {
        let (now, mut fruitless) = (Instant::now(), Fruitless::default());
        assert!(fruitless.allows(20, now));
        fruitless.record(20, now);
        assert!(!fruitless.allows(20, now + FRUITLESS / 2) && fruitless.allows(21, now));
        assert!(fruitless.allows(20, now + FRUITLESS));
        fruitless.clear();
        assert!(fruitless.allows(20, now));
    }

    /// Continues a search through numbers, of which the bad ones are refused; what is found, and how many requests that takes.
    fn continued(search: &mut Halving<u32, ()>, is_bad: impl Fn(u32) -> bool) -> (Found<u32, ()>, usize) {
        while let Some(batch) = search.next() {
            assert!(!batch.is_empty(), "an empty batch is accepted, and proves nothing");
            if batch.iter().any(|number| is_bad(*number)) { search.refuse(batch, ()) } else { search.accept() }
        }
        let requests = search.requests;
        (search.found(), requests)
    }

    fn search(count: u32, is_bad: impl Fn(u32) -> bool) -> (Found<u32, ()>, usize) {
        continued(&mut Halving::of_refused((0..count).collect(), (), 0.0), is_bad)
    }

    #[test]
    fn one_refused_thing_of_thousands_is_found_wherever_it_is() {
        for bad in [0, 1, 1_250, 2_499, 2_500, 2_501, 3_750, 4_998, 4_999] {
            let (found, requests) = search(5_000, |number| number == bad);
            assert_eq!(found, Found::All(vec![(bad, ())]), "{bad} after {requests} requests");
            assert!(requests <= 30, "{bad}: {requests}");
        }
    }

    #[test]
    fn where_two_of_five_things_are_refused_something_is_accepted_in_the_first_search() {
        let fruitful = (0..100_u32).filter(|seed| {
            let is_bad = |number: u32| number % 5 < 2;
            let mut search = Halving::of_refused((0..50).collect(), (), f64::from(*seed) / 100.0);
            continued(&mut search, is_bad).0 != Found::NothingAccepted
        });
        assert!(fruitful.count() >= 98);
    }

    #[test]
    fn once_something_was_accepted_few_requests_fail_one_after_the_other_however_many_things_are_bad() {
        for every in [2, 3, 5, 6, 10, 50] {
            let mut search = Halving::beside_accepted((0..5_000).collect::<Vec<u32>>(), ());
            let (mut failed, mut most) = (0, 0);
            loop {
                while let Some(batch) = search.next() {
                    let is_bad = batch.iter().any(|number| number % every == 0);
                    failed = if is_bad { failed + 1 } else { 0 };
                    most = most.max(failed);
                    if is_bad { search.refuse(batch, ()) } else { search.accept() }
                }
                if matches!(search.found(), Found::All(_)) {
                    break;
                }
            }
            assert!(most < 28, "every {every}: {most}");
        }
    }

    #[test]
    fn each_refused_thing_has_its_own_reason() {
        let mut search = Halving::of_refused((0..100).collect::<Vec<u32>>(), "all", 0.0);
        while let Some(batch) = search.next() {
            match batch.iter().find(|number| matches!(number, 7 | 70)) {
                Some(7) => search.refuse(batch, "seven"),
                Some(_) => search.refuse(batch, "seventy"),
                None => search.accept(),
            }
        }
        let Found::All(mut refused) = search.found() else { panic!("it is all known") };
        refused.sort_unstable();
        assert_eq!(refused, [(7, "seven"), (70, "seventy")]);
    }

    #[test]
    fn just_after_something_was_accepted_what_is_refused_alone_is_found() {
        let mut search = Halving::beside_accepted(vec![1, 2], ());
        while let Some(batch) = search.next() {
            search.refuse(batch, ());
        }
        assert_eq!(search.found(), Found::All(vec![(1, ()), (2, ())]));
    }

    #[test]
    fn a_search_ends_when_the_server_fails_in_the_middle_of_it_but_not_over_refusals() {
        let refused = |status| {
            ApiError::of(ErrorResponse { status, by: Author::Mackerel, message: String::new(), retry_after: None })
        };
        let failures = |why: &ApiError| {
            let mut search = Halving::beside_accepted((0..100).collect(), why.clone());
            let mut results = std::iter::from_fn(|| search.next().map(|batch| search.fail(batch, why.clone())));
            results.position(|result| result.is_err())
        };
        assert_eq!(failures(&refused(503)), Some(MOST_FAILURES_IN_A_ROW - 1));
        assert_eq!(failures(&refused(429)), Some(0));
        assert_eq!(failures(&refused(400)), None);
    }

    #[test]
    fn if_nothing_is_accepted_nothing_is_found_and_few_requests_are_made() {
        for count in [1, 2, 3, 5_000] {
            let (found, requests) = search(count, |_| true);
            assert_eq!(found, Found::NothingAccepted, "{count}");
            assert!(requests <= MOST_REFUSED_REQUESTS, "{count}: {requests}");
        }
    }

    #[test]
    fn a_long_search_pauses_and_finds_exactly_the_rest_when_it_is_continued() {
        let mut search = Halving::of_refused((0..1_000).collect(), (), 0.0);
        let mut all = Vec::new();
        loop {
            let (found, requests) = continued(&mut search, |number| number % 4 == 0);
            assert!(requests <= MOST_REQUESTS);
            match found {
                Found::Some(refused) => all.extend(refused),
                Found::All(refused) => break all.extend(refused),
                Found::NothingAccepted => panic!("three of four are good"),
            }
        }
        all.sort_unstable();
        assert_eq!(all, (0..250).map(|number| (number * 4, ())).collect::<Vec<_>>());
    }

    #[test]
    fn if_everything_is_refused_at_first_only_what_is_refused_afterwards_too_is_found() {
        for refused_at_first in 0..MOST_REFUSED_REQUESTS {
            for (count, bad) in [(2, None), (3, None), (3, Some(1)), (100, Some(42))] {
                let requests = std::cell::Cell::new(0);
                let is_bad = |number| Some(number) == bad || requests.get() < refused_at_first;
                let mut search = Halving::of_refused((0..count).collect(), (), 0.0);
                while let Some(batch) = search.next() {
                    let is_refused = batch.iter().any(|number| is_bad(*number));
                    requests.set(requests.get() + 1);
                    if is_refused { search.refuse(batch, ()) } else { search.accept() }
                }
                let found = search.found();
                let expected = Found::All(bad.into_iter().map(|bad| (bad, ())).collect());
                assert!(
                    found == expected || found == Found::NothingAccepted,
                    "{count} of which {bad:?} is bad, {refused_at_first} refused at first: {found:?}"
                );
            }
        }
    }

    #[test]
    fn good_things_are_found_between_bad_ones_and_behind_a_long_row_of_them() {
        for (what, is_bad) in [
            ("every other", (|number| number % 2 == 0) as fn(u32) -> bool),
            ("two of three", |number| number % 3 != 1),
            ("the first 900", |number| number < 900),
            ("the last 900", |number| number >= 100),
        ] {
            // If not at once, then at another place.
            let is_found = (0..20).map(|number| f64::from(number) / 20.0).any(|random| {
                continued(&mut Halving::of_refused((0..1_000).collect(), (), random), is_bad).0
                    != Found::NothingAccepted
            });
            assert!(is_found, "{what}");
        }
    }
}
