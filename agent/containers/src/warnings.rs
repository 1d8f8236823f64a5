//! The warnings of one collection: an engine may cause any number of them.

/// The most warnings of one collection; more would only fill the log.
const MOST: usize = 5;

/// The first warnings by the alphabet, and how many there are in all.
#[derive(Clone, Debug, Default)]
pub struct Warnings {
    first: Vec<String>,
    count: usize,
}

impl Warnings {
    /// Adds one.
    pub fn add(&mut self, text: String) {
        self.count = self.count.saturating_add(1);
        let place = self.first.partition_point(|known| *known <= text);
        if place < MOST {
            self.first.insert(place, text);
            self.first.truncate(MOST);
        }
    }

    /// Adds those of another.
    pub fn append(&mut self, other: Self) {
        let further = other.count.saturating_sub(other.first.len());
        other.first.into_iter().for_each(|text| self.add(text));
        self.count = self.count.saturating_add(further);
    }

    /// The lines for the log; the last one counts those that are not among them.
    #[must_use]
    pub fn lines(self) -> Vec<String> {
        let more = self.count.saturating_sub(self.first.len());
        self.first.into_iter().chain((more > 0).then(|| format!("and {more} more"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_warnings_are_kept_as_the_first_ones_and_a_number() {
        let mut warnings = Warnings::default();
        (0..1_000_000).rev().for_each(|number| warnings.add(format!("{number:07}")));
        let mut other = Warnings::default();
        (0..7).for_each(|_| other.add("0000001".to_owned()));
        warnings.append(other);
        let lines = ["0000000", "0000001", "0000001", "0000001", "0000001", "and 1000002 more"];
        assert_eq!(warnings.lines(), lines);
    }
}
