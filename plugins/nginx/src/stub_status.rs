//! The page of nginx's `ngx_http_stub_status_module`: seven numbers in four lines.

/// The numbers on the page. `accepts`, `handled` and `requests` count from the start of nginx; the others are current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StubStatus {
    pub(crate) connections: u64,
    pub(crate) accepts: u64,
    pub(crate) handled: u64,
    pub(crate) requests: u64,
    pub(crate) reading: u64,
    pub(crate) writing: u64,
    pub(crate) waiting: u64,
}

impl StubStatus {
    /// Parses the page of nginx, OpenResty or Tengine (which has a fourth counter, the request time). `None` if it is any
    /// other page. Word by word: searching texts in it was a third of a call in the interpreter.
    pub(crate) fn parse(page: &str) -> Option<Self> {
        let mut lines = page.trim_start().lines();
        let connections = lines.next()?.strip_prefix("Active connections:")?.trim_ascii().parse().ok()?;
        lines.next()?; // the headings of the next line: "server accepts handled requests"
        let mut counters = lines.next()?.split_ascii_whitespace().map(str::parse);
        let mut counter = || counters.next()?.ok();
        let (accepts, handled, requests) = (counter()?, counter()?, counter()?);
        let mut words = lines.next()?.split_ascii_whitespace();
        let mut state = |label| if words.next()? == label { words.next()?.parse().ok() } else { None };
        let (reading, writing, waiting) = (state("Reading:")?, state("Writing:")?, state("Waiting:")?);
        Some(Self { connections, accepts, handled, requests, reading, writing, waiting })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(numbers: [u64; 7]) -> StubStatus {
        let [connections, accepts, handled, requests, reading, writing, waiting] = numbers;
        StubStatus { connections, accepts, handled, requests, reading, writing, waiting }
    }

    /// The example in the manual of nginx's module.
    const MANUAL: &str = "Active connections: 291 \nserver accepts handled requests\n 16630948 16630948 31070465 \n\
                          Reading: 6 Writing: 179 Waiting: 106 \n";

    /// Recorded from nginx 1.22.1 of Debian 12, byte for byte.
    const DEBIAN: &str = include_str!("../recorded/nginx-1.22.1.txt");

    /// Not recorded, but made after the format in their sources. OpenResty's is nginx's own; Tengine's has a fourth counter, the
    /// total time of all requests.
    const OPENRESTY: &str = include_str!("../made/openresty.txt");
    const TENGINE: &str = include_str!("../made/tengine.txt");

    #[test]
    fn the_pages_of_nginx_openresty_and_tengine_have_seven_numbers() {
        for (page, expected) in [
            (MANUAL, [291, 16_630_948, 16_630_948, 31_070_465, 6, 179, 106]),
            (DEBIAN, [3, 5, 5, 4, 0, 1, 2]),
            (OPENRESTY, [2, 1_024, 1_023, 40_961, 0, 1, 1]),
            (TENGINE, [403, 8_533, 8_533, 35_020, 8, 125, 270]),
        ] {
            let expected = Some(status(expected));
            assert_eq!(StubStatus::parse(page), expected);
            assert_eq!(StubStatus::parse(&page.replace('\n', "\r\n")), expected, "with CRLF");
            assert_eq!(StubStatus::parse(page.trim()), expected, "without surrounding whitespace");
            assert_eq!(StubStatus::parse(&format!("\n{page}")), expected, "after an empty line");
        }
    }

    #[test]
    fn no_other_page_has_numbers() {
        for cut in 0..MANUAL.len() - " 106 \n".len() {
            assert_eq!(StubStatus::parse(&MANUAL[..cut]), None, "truncated at {cut}");
        }
        for page in [
            "",
            "<html>",
            "server\nActive connections: 1",
            &MANUAL.replace("31070465", "-1"),
            &MANUAL.replace('6', "x"),
        ] {
            assert_eq!(StubStatus::parse(page), None, "{page}");
        }
    }
}
