//! Whether the target answers, as a metric.

use crate::{Error, Sample, kv, log};

/// Where it is kept, for the log, that the target does not answer.
const KEY: &str = "down";

/// Adds `name` to what was `collected`: 1 if the target gave it; 0, alone, if the target did not answer or answered what cannot be
/// used, which is then no failure of the plugin any more, so the log is told why when it begins and that it has ended. What is the
/// operator's turn stays an error, for it says nothing of the target.
///
/// # Errors
/// `Misconfigured` and `Denied`, as they were.
pub fn up(name: &str, collected: Result<Vec<Sample>, Error>) -> Result<Vec<Sample>, Error> {
    match collected {
        Ok(mut samples) => {
            if kv::get(KEY).is_some() {
                log::info("the target answers again");
                kv::delete(KEY);
            }
            samples.push(Sample::new(name, 1));
            Ok(samples)
        }
        Err(Error::Unreachable(why) | Error::Failed(why)) => {
            if kv::get(KEY).is_none() {
                log::warning(format!("the target is down: {why}"));
                kv::set(KEY, [])?;
            }
            Ok(vec![Sample::new(name, 0)])
        }
        Err(operators) => Err(operators),
    }
}
