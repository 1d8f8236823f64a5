//! The page of nginx' `ngx_http_stub_status_module`: seven numbers in four lines.

/// What the page says. `accepts`, `handled` and `requests` count since nginx started; the others are of this moment.
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
    /// Reads the page as nginx, OpenResty and Tengine (which has a fourth number, the request time) print it. `None` if it
    /// is any other page.
    pub(crate) fn parse(page: &str) -> Option<Self> {
        let mut lines = page.lines();
        let connections = number_after(lines.next()?, "Active connections:")?;
        lines.next()?; // the headings of the next line: "server accepts handled requests"
        let mut counters = lines.next()?.split_whitespace().map(str::parse);
        let mut counter = || counters.next()?.ok();
        let (accepts, handled, requests) = (counter()?, counter()?, counter()?);
        let states = lines.next()?;
        let state = |label| number_after(states, label);
        let (reading, writing, waiting) = (state("Reading:")?, state("Writing:")?, state("Waiting:")?);
        Some(Self { connections, accepts, handled, requests, reading, writing, waiting })
    }
}

/// The number that follows `label` in `line`.
fn number_after(line: &str, label: &str) -> Option<u64> {
    let (_, rest) = line.split_once(label)?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NGINX: &str = "Active connections: 291 \nserver accepts handled requests\n 16630948 16630946 31070465 \n\
                         Reading: 6 Writing: 179 Waiting: 106 \n";

    #[test]
    fn the_page_of_nginx_gives_its_seven_numbers() {
        let (connections, accepts, handled, requests) = (291, 16_630_948, 16_630_946, 31_070_465);
        let expected = StubStatus { connections, accepts, handled, requests, reading: 6, writing: 179, waiting: 106 };
        assert_eq!(StubStatus::parse(NGINX), Some(expected));
        assert_eq!(StubStatus::parse(&NGINX.replace('\n', "\r\n")), Some(expected), "with CRLF");
        assert_eq!(StubStatus::parse(&NGINX.replace("31070465", "31070465 1234")), Some(expected), "of Tengine");
    }

    #[test]
    fn no_other_page_gives_numbers() {
        for cut in 0..NGINX.len() - " 106 \n".len() {
            assert_eq!(StubStatus::parse(&NGINX[..cut]), None, "cut at {cut}");
        }
        for page in
            ["", "<html>", "\nActive connections: 1", &NGINX.replace("16630946", "-1"), &NGINX.replace('6', "x")]
        {
            assert_eq!(StubStatus::parse(page), None, "{page}");
        }
    }
}
