//! The end of the process: since when the agent was asked to stop, after which it waits for nothing for long.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use wasaba_core::clock;

/// How long after it was asked to stop the agent waits for nothing any more. With the rest of its end, that makes two seconds.
const WITHIN: Duration = Duration::from_millis(1_900);

static ASKED: OnceLock<Instant> = OnceLock::new();

/// Records that the agent was asked to stop.
pub fn begins() {
    ASKED.get_or_init(clock::instant);
}

/// How long something may still be waited for: `most`, or what is left of the two seconds.
#[must_use]
pub fn patience(most: Duration) -> Duration {
    left(ASKED.get().copied().map(clock::since), most)
}

fn left(asked_ago: Option<Duration>, most: Duration) -> Duration {
    asked_ago.map_or(most, |ago| most.min(WITHIN.saturating_sub(ago)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_was_asked_to_stop_waits_for_what_is_left_of_its_time_and_no_longer() {
        let second = Duration::from_secs(1);
        assert_eq!((left(None, second), left(Some(Duration::ZERO), second)), (second, second));
        assert_eq!(left(Some(Duration::from_millis(1_500)), second), Duration::from_millis(400));
        assert_eq!(left(Some(Duration::from_secs(60)), second), Duration::ZERO);
    }
}
