//! What the plugin makes of a server's response, without a server: for tests, in which the response is anything.

use wasaba_plugin::http::Response;
use wasaba_plugin::{Error, Sample, Settings};

use crate::page;
use crate::parts::PARTS;
use crate::target::Target;

/// The samples of every part in a response.
///
/// # Errors
/// Why it is not a status page.
pub fn samples(status: u16, body: &[u8]) -> Result<Vec<Sample>, Error> {
    // `up` makes a value of an error.
    let extra = PARTS.extras().into_iter().filter(|name| *name != "up").map(|name| ("extra", name));
    let given = [("scheme", "http"), ("host", "web"), ("port", "81"), ("path", "/s?token=hunter2")];
    let pairs = given.into_iter().chain(extra).map(|(key, value)| (key.to_owned(), value.to_owned()));
    let settings = Settings::from(pairs.collect::<Vec<_>>());
    let target = Target::of(&settings)?;
    let response = Response { status, headers: Vec::new(), body: body.to_vec() };
    let page = page::read(&target, &|_| false, &response)?;
    PARTS.collect(&settings, |parts| Ok(crate::values(&page, parts)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_page_has_a_sample_for_each_metric_and_another_page_has_none() {
        let page = include_bytes!("../recorded/nginx-1.22.1.txt");
        assert_eq!(samples(200, page).unwrap().len(), 8);
        assert!(samples(502, page).is_err() && samples(200, b"<html>").is_err());
    }
}
