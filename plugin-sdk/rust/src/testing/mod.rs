//! A host for native tests: `cargo test` runs the plugin's functions, with canned answers in place of everything outside.
//!
//! ```
//! use wasaba_plugin::prelude::*;
//! use wasaba_plugin::testing::Host;
//!
//! fn describe() -> Plugin {
//!     let url = Setting::url("url").default("http://localhost:7070/count");
//!     let jobs = Graph::new("queue.jobs", "Jobs", Unit::Integer).metric(Metric::gauge("waiting", "Waiting"));
//!     plugin!("jobs in the queue").reaches([Reach::Http]).setting(url).graph(jobs)
//! }
//!
//! fn collect(settings: &Settings) -> Result<Vec<Sample>, Error> {
//!     let page = http::get(settings.text("url")?).send()?.ok()?;
//!     Ok(vec![Sample::new("queue.jobs.waiting", page.text()?.trim().parse::<u64>()?)])
//! }
//!
//! let host = Host::new(describe).answers("http://localhost:7070/count", "3\n");
//! assert_eq!(host.collect(collect).unwrap().samples, [Sample::new("queue.jobs.waiting", 3)]);
//!
//! let down = Error::Unreachable("connection refused".into());
//! let host = Host::new(describe).set("url", "http://q/").answers("http://q/", down);
//! assert!(matches!(host.collect(collect), Err(Error::Unreachable(why)) if why == "http://q/: connection refused"));
//! ```
//!
//! Settings have their defaults, grants count, a sample must fit a graph of the plugin, and what the plugin keeps stays from call to call. What the agent
//! itself does is not here: rates, limits, TLS, proofs for log-ins. `wasaba plugin test` runs the whole component and has the last word.
//!
//! A mistake in the test, or one of the author in the plugin, panics.

pub(crate) mod agent;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::bindings::about::exports::wasaba::plugin::about::Setting as Declared;
use crate::settings::Value;
use crate::{
    Documents, Error, FromSettings, Plugin, Readings, Report, Reports, Sample, Secret, Setting, Settings, called,
};

thread_local! {
    static CURRENT: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// What is outside of the plugin while a function of it runs.
fn current() -> Option<Rc<World>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Everything that is outside of the plugin.
#[derive(Debug, Default)]
struct World {
    answers: RefCell<Vec<(String, Answer)>>,
    talks: RefCell<Vec<Talk>>,
    files: BTreeMap<String, Vec<u8>>,
    /// What the plugin says that it reaches.
    reach: Vec<String>,
    grants: RefCell<Vec<String>>,
    kept: RefCell<BTreeMap<String, Kept>>,
    logged: RefCell<Vec<String>>,
    now: u64,
    limits: BTreeMap<String, u64>,
}

/// A connection that a server accepts, or not.
#[derive(Debug)]
struct Talk {
    with: String,
    turns: Result<VecDeque<Turn>, Error>,
}

/// A value that is kept, and the end of its time in milliseconds.
#[derive(Clone, Debug)]
struct Kept {
    value: Vec<u8>,
    end_ms: Option<u64>,
}

/// The host: what the operator wrote, and what is outside of the plugin.
#[derive(Clone, Debug)]
pub struct Host {
    describe: fn() -> Plugin,
    written: Vec<(String, String)>,
    allowed: Vec<String>,
    reveals: bool,
    world: Rc<World>,
}

/// A function of a plugin.
pub type Function<T> = fn(&Settings) -> Result<T, Error>;

/// What a plugin passed to [`export!`](crate::export), as the constant `PLUGIN` of its crate: for tests in other crates.
#[derive(Clone, Copy, Debug)]
pub struct Exported {
    /// Describes the plugin.
    pub describe: fn() -> Plugin,
    /// Collects, if it exports metrics.
    pub metrics: Option<Function<Readings>>,
    /// Checks, if it exports checks.
    pub checks: Option<Function<Reports>>,
    /// Gathers, if it exports metadata.
    pub metadata: Option<Function<Documents>>,
}

#[doc(hidden)]
impl Exported {
    #[must_use]
    pub const fn new(describe: fn() -> Plugin) -> Self {
        Self { describe, metrics: None, checks: None, metadata: None }
    }

    #[must_use]
    pub const fn with_metrics(self, metrics: Function<Readings>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    #[must_use]
    pub const fn with_checks(self, checks: Function<Reports>) -> Self {
        Self { checks: Some(checks), ..self }
    }

    #[must_use]
    pub const fn with_metadata(self, metadata: Function<Documents>) -> Self {
        Self { metadata: Some(metadata), ..self }
    }
}

/// A response of a server, or why there is none. A text or bytes are the body of a good one, and an [`Error`] is why there is none.
#[derive(Clone, Debug)]
pub struct Answer {
    method: String,
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Result<Vec<u8>, Error>,
    wanted: Vec<(String, String)>,
    wanted_body: Option<Vec<u8>>,
    is_used: bool,
}

impl Answer {
    /// A response to GET with status 200.
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self::of(Ok(body.into()))
    }

    fn of(body: Result<Vec<u8>, Error>) -> Self {
        let (headers, wanted) = (Vec::new(), Vec::new());
        Self { method: "GET".to_owned(), status: 200, headers, body, wanted, wanted_body: None, is_used: false }
    }

    /// With this status.
    #[must_use]
    pub fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// With this header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.as_bytes().to_vec()));
        self
    }

    /// To a request with this method.
    #[must_use]
    pub fn to(self, method: &str) -> Self {
        Self { method: method.to_owned(), ..self }
    }

    /// The request must have this header.
    #[must_use]
    pub fn expects(mut self, name: &str, value: &str) -> Self {
        self.wanted.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// The request must have this body.
    #[must_use]
    pub fn expects_body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { wanted_body: Some(body.into()), ..self }
    }
}

macro_rules! bodies {
    ($($type:ty),*) => {$(
        impl From<$type> for Answer {
            fn from(body: $type) -> Self {
                Self::new(body)
            }
        }
    )*};
}

bodies!(&str, String, &[u8], Vec<u8>);

impl From<Error> for Answer {
    fn from(error: Error) -> Self {
        Self::of(Err(error))
    }
}

/// A turn of a conversation with a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// What the plugin must send.
    Expect(Vec<u8>),
    /// What the server sends.
    Send(Vec<u8>),
}

impl Turn {
    /// The plugin must send this.
    pub fn expect(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Expect(bytes.into())
    }

    /// The server sends this.
    pub fn send(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Send(bytes.into())
    }
}

impl Host {
    /// A host of the plugin that this function describes, with nothing written and nothing outside.
    #[must_use]
    pub fn new(describe: fn() -> Plugin) -> Self {
        let reach = describe().into_description().reach;
        let world = World { reach, now: 1_800_000_000, ..World::default() };
        Self { describe, written: Vec::new(), allowed: Vec::new(), reveals: false, world: Rc::new(world) }
    }

    #[expect(clippy::expect_used, reason = "a test fails by panicking, with the reason")]
    fn world(&mut self) -> &mut World {
        Rc::get_mut(&mut self.world).expect("the host is prepared before it is used, and not cloned before")
    }

    /// The operator writes this for a setting; several times for one that is repeatable.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.written.push((key.to_owned(), value.to_string()));
        self
    }

    /// The operator writes this into `allow`: `db:5432`, `http://10.0.0.5:80`, `unix:/run/db.sock`, `file:/var/log/app.log`.
    #[must_use]
    pub fn allow(mut self, grant: &str) -> Self {
        self.allowed.push(grant.to_owned());
        self
    }

    /// The operator writes `reveal = true`.
    #[must_use]
    pub fn reveals(self) -> Self {
        Self { reveals: true, ..self }
    }

    /// A server answers a request for this URL: with a text or bytes, with an [`Answer`], or not, with an [`Error`]. Several answers to the same
    /// request are used in order, and the last one is repeated.
    #[must_use]
    pub fn answers(self, url: &str, answer: impl Into<Answer>) -> Self {
        self.world.answers.borrow_mut().push((url.to_owned(), answer.into()));
        self
    }

    /// A server at `db:5432` or `unix:/run/db.sock` accepts one connection more, with this conversation; then it closes it.
    #[must_use]
    pub fn talks(self, with: &str, turns: impl IntoIterator<Item = Turn>) -> Self {
        let turns = Ok(turns.into_iter().collect());
        self.world.talks.borrow_mut().push(Talk { with: with.to_owned(), turns });
        self
    }

    /// A server at `db:5432` or `unix:/run/db.sock` does not accept one connection more.
    #[must_use]
    pub fn refuses(self, with: &str, error: Error) -> Self {
        self.world.talks.borrow_mut().push(Talk { with: with.to_owned(), turns: Err(error) });
        self
    }

    /// There is a file.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.world().files.insert(path.to_owned(), content.into());
        self
    }

    /// It is this time, in seconds since 1970.
    #[must_use]
    pub fn at(mut self, unix_seconds: u64) -> Self {
        self.world().now = unix_seconds;
        self
    }

    /// The operator's limit of this name.
    #[must_use]
    pub fn limit(mut self, name: &str, limit: u64) -> Self {
        self.world().limits.insert(name.to_owned(), limit);
        self
    }

    /// The settings of the instance, with the defaults.
    ///
    /// # Panics
    /// One that is written is not declared, or not repeatable, or one that is required is not written.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let declared = (self.describe)().into_description().settings;
        for (key, _) in &self.written {
            if !declared.iter().any(|setting| setting.key == *key) {
                let names = declared.iter().map(|setting| setting.key.as_str()).collect::<Vec<_>>().join(", ");
                panic!("the plugin has no setting `{key}`; it has: {names}");
            }
        }
        let mut values = Vec::new();
        for Declared { key, kind, default, required, repeatable, .. } in &declared {
            let written = self.written.iter().filter(|(name, _)| name == key).map(|(_, text)| text);
            let texts = written.chain(default.iter().filter(|_| !self.is_written(key))).collect::<Vec<_>>();
            assert!(!required || !texts.is_empty(), "the setting `{key}` is required: `.set({key:?}, ...)`");
            assert!(*repeatable || texts.len() < 2, "the setting `{key}` is not repeatable");
            values.extend(texts.into_iter().map(|text| (key.clone(), self.value(kind, text))));
        }
        Settings::from_values(values).of(self.describe)
    }

    /// The settings for a function that reads them into `S`, which the plugin must declare.
    fn settings_for<S: FromSettings>(&self) -> Settings {
        let declared = (self.describe)().into_description().settings;
        for key in S::declared().into_iter().map(Setting::into_key) {
            let is_declared = declared.iter().any(|setting| setting.key == key);
            assert!(is_declared, "the plugin does not declare `{key}`: add `.settings::<...>()` to its description");
        }
        self.settings()
    }

    fn is_written(&self, key: &str) -> bool {
        self.written.iter().any(|(name, _)| name == key)
    }

    fn value(&self, kind: &str, text: &str) -> Value {
        if kind == "secret" {
            Value::Secret(Secret::new(agent::types::Secret { text: text.to_owned(), is_revealed: self.reveals }))
        } else {
            Value::Text(text.to_owned())
        }
    }

    /// What the instance is granted by its settings and by `allow`.
    fn grants(&self, settings: &Settings) -> Vec<String> {
        let mut grants = self.allowed.clone();
        for Declared { key, kind, port_of, .. } in (self.describe)().into_description().settings {
            for text in settings.values(&key).filter_map(Value::text) {
                grants.extend(match (kind.as_str(), &port_of) {
                    ("url", _) => Some(crate::http::origin(&crate::http::page(text)).to_owned()),
                    ("endpoint", _) => Some(text.to_owned()),
                    ("port", Some(host)) => settings.get(host).map(|host| format!("{host}:{text}")),
                    ("unix-socket", _) => Some(format!("unix:{text}")),
                    ("file", _) => Some(format!("file:{text}")),
                    _ => None,
                });
            }
        }
        grants
    }

    /// Calls a function that collects, as the agent does.
    ///
    /// # Errors
    /// Those of the function, and of reading the settings.
    ///
    /// # Panics
    /// A sample fits no graph of the plugin, or something outside was asked for that the test has no answer to.
    pub fn collect<S: FromSettings, R: Into<Readings>>(
        &self,
        collect: impl FnOnce(&S) -> Result<R, Error>,
    ) -> Result<Readings, Error> {
        let settings = self.settings_for::<S>();
        let readings = self.run(|| called(settings.clone(), collect)).map(Into::into)?;
        let graphs = (self.describe)().into_graphs(&settings);
        let names = graphs
            .iter()
            .flat_map(|graph| graph.metrics.iter().map(move |metric| format!("{}.{}", graph.name, metric.name)));
        let names = names.collect::<Vec<_>>();
        for Sample { name, .. } in &readings.samples {
            let fits = names.iter().any(|pattern| fits(pattern, name));
            assert!(fits, "`{name}` fits no metric of the plugin's graphs: {}", names.join(", "));
        }
        Ok(readings)
    }

    /// Calls a function that checks, as the agent does.
    ///
    /// # Errors
    /// As [`Host::collect`].
    pub fn check<S: FromSettings, R: Into<Reports>>(
        &self,
        check: impl FnOnce(&S) -> Result<R, Error>,
    ) -> Result<Vec<Report>, Error> {
        self.run(|| called(self.settings_for::<S>(), check)).map(|reports| reports.into().into_reports())
    }

    /// Calls a function for metadata, as the agent does.
    ///
    /// # Errors
    /// As [`Host::collect`].
    pub fn gather<S: FromSettings, R: Into<Documents>>(
        &self,
        gather: impl FnOnce(&S) -> Result<R, Error>,
    ) -> Result<Documents, Error> {
        self.run(|| called(self.settings_for::<S>(), gather)).map(Into::into)
    }

    /// Runs anything as in a call: for tests of what is below the plugin's functions. What it keeps stays if it succeeds.
    ///
    /// # Errors
    /// Those of `call`.
    pub fn run<T>(&self, call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        /// Ends the call, also if it panics.
        struct End(Option<Rc<World>>);
        impl Drop for End {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        self.world.grants.replace(self.grants(&self.settings()));
        let before = self.world.kept.borrow().clone();
        let end = End(CURRENT.replace(Some(Rc::clone(&self.world))));
        let result = call();
        drop(end);
        if result.is_err() {
            self.world.kept.replace(before);
        }
        result
    }

    /// What was logged, each line with its level: `warning: the target is down`.
    #[must_use]
    pub fn logged(&self) -> Vec<String> {
        self.world.logged.borrow().clone()
    }

    /// What the plugin keeps under this key.
    #[must_use]
    pub fn kept(&self, key: &str) -> Option<Vec<u8>> {
        self.world.kept.borrow().get(key).map(|kept| kept.value.clone())
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    let (mut patterns, mut segments) = (pattern.split('.'), name.split('.'));
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment)) if pattern == segment || matches!(pattern, "*" | "#") => {}
            _ => return false,
        }
    }
}

impl World {
    /// The error for what is not granted, as the agent words it.
    fn must_grant(&self, reach: &str, what: &str, also: &str) -> Result<(), Error> {
        if !self.reach.iter().any(|word| word == reach) {
            return Err(Error::Denied(format!("the plugin does not say that it reaches {reach}")));
        }
        if self.grants.borrow().iter().any(|grant| grant == what || grant == also) {
            return Ok(());
        }
        Err(Error::Denied(format!("no grant for {what}; to grant it, write `allow = [{what:?}]`")))
    }

    fn fetch(&self, request: &agent::http::Request) -> Result<Answer, Error> {
        let origin = crate::http::origin(&request.url);
        self.must_grant("http", origin, origin.split_once("://").map_or("", |(_, host)| host))?;
        let mut answers = self.answers.borrow_mut();
        let fits = |(url, answer): &&mut (String, Answer)| *url == request.url && answer.method == request.method;
        let (method, url) = (&request.method, &request.url);
        let unused = answers.iter().position(|(of, answer)| of == url && answer.method == *method && !answer.is_used);
        let found = match unused {
            Some(first) => answers.get_mut(first),
            None => answers.iter_mut().rfind(fits),
        };
        let Some((_, answer)) = found else {
            let there = answers.iter().map(|(url, answer)| format!("{} {url}", answer.method)).collect::<Vec<_>>();
            panic!("the test has no answer to {method} {url}; it has: {}", there.join(", "));
        };
        answer.is_used = true;
        for (name, value) in &answer.wanted {
            let sent = request.value(name);
            assert_eq!(sent.as_ref(), Some(value), "the header {name} of {method} {url}");
        }
        if let Some(wanted) = &answer.wanted_body {
            assert_eq!(request.body.borrow().as_ref(), Some(wanted), "the body of {method} {url}");
        }
        answer.body.clone().map(|_| answer.clone())
    }

    fn connect(&self, reach: &str, with: &str) -> Result<VecDeque<Turn>, Error> {
        self.must_grant(reach, with, "")?;
        let mut talks = self.talks.borrow_mut();
        let Some(at) = talks.iter().position(|talk| talk.with == with) else {
            panic!("the test has no conversation more with {with}");
        };
        talks.remove(at).turns
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Duration;

    use super::*;
    use crate::prelude::*;
    use crate::tcp::Connection;
    use crate::{call, files, up};

    fn describe() -> Plugin {
        Plugin::new("q", "1", "")
            .reaches([Reach::Http, Reach::Tcp, Reach::Unix, Reach::File])
            .setting(Setting::url("url").default("http://q:81/stats?x"))
            .setting(Setting::secret("token").repeatable())
            .setting(Setting::host("host").default("db"))
            .setting(Setting::port("port").of_host("host").default("5432"))
            .setting(Setting::unix_socket("socket"))
            .setting(Setting::file("file").default("/log"))
            .graph(Graph::new("q.#", "Q", Unit::Integer).metric(Metric::gauge("*", "%1")))
            .graph_if("host", "other", Graph::new("p", "P", Unit::Integer).metric(Metric::gauge("up", "Up")))
    }

    fn panic_of<T>(run: impl FnOnce() -> T) -> String {
        let panic = catch_unwind(AssertUnwindSafe(run)).map(drop).unwrap_err();
        panic.downcast_ref::<String>().cloned().unwrap_or_else(|| (*panic.downcast_ref::<&str>().unwrap()).to_owned())
    }

    fn none(_: &Settings) -> Result<Vec<Sample>, Error> {
        Ok(Vec::new())
    }

    #[test]
    fn answers_to_the_same_request_are_used_in_order_and_the_last_one_is_repeated() {
        let host = Host::new(describe).answers("http://q:81/a", "1").answers("http://q:81/a", "2");
        let status = |_: &Settings| {
            let page = http::get("http://q:81/a").send()?;
            Ok(vec![Sample::new("q.a.b", page.text()?.parse::<u8>()?)])
        };
        let values = [(); 3].map(|()| host.collect(status).unwrap().samples);
        assert_eq!(values, [1, 2, 2].map(|value| vec![Sample::new("q.a.b", value)]));
    }

    #[test]
    fn a_request_has_the_headers_the_method_and_the_body_that_are_expected() {
        let token = "Bearer s3cret";
        let answer =
            Answer::new("").to("POST").expects("Authorization", token).expects("x-more", "a").expects_body("hi");
        let host =
            Host::new(describe).set("token", "s3cret").set("token", "X-More: a").answers("http://q:81/a", answer);
        let post = |body: &str| {
            host.collect(|settings: &Settings| {
                let [token, lines] = settings.secrets("token").collect::<Vec<_>>().try_into().unwrap();
                let request = http::post("http://q:81/a").bearer_if(Some(token)).header_lines(lines).body(body);
                assert!(request.has_header("AUTHORIZATION")? && !request.has_header("x-token")?);
                request.send()?.ok().map(|_| Vec::new())
            })
        };
        assert_eq!(post("hi"), Ok(Readings::default()));
        assert!(panic_of(|| post("ho")).contains("the body of POST http://q:81/a"));
        let basic = Answer::new("").expects("authorization", "Basic bWU6aHVudGVyMg==");
        let host = Host::new(describe).set("token", "hunter2").answers("http://q:81/", basic);
        let get = |settings: &Settings| {
            http::get("http://q:81/").basic_auth("me", settings.secret("token").unwrap()).send()?;
            none(settings)
        };
        assert!(host.collect(get).is_ok());
    }

    #[test]
    fn what_is_not_granted_or_not_reached_is_denied() {
        let host = Host::new(describe).answers("http://other/", "");
        let get =
            |settings: &Settings| http::get("http://other/").send().map_err(Error::from).and_then(|_| none(settings));
        let denied = "no grant for http://other; to grant it, write `allow = [\"http://other\"]`";
        assert_eq!(host.collect(get), Err(Error::Denied(denied.into())));
        assert!(Host::new(describe).answers("http://other/", "").allow("http://other").collect(get).is_ok());
        let unreached = Host::new(|| Plugin::new("q", "1", "")).allow("http://other").collect(get);
        assert_eq!(unreached, Err(Error::Denied("the plugin does not say that it reaches http".into())));
    }

    #[test]
    fn a_conversation_has_its_turns_and_then_ends() {
        let turns = || [Turn::expect("PING s3cret\n"), Turn::send("PO"), Turn::send("NG\n")];
        let host = Host::new(describe).set("token", "s3cret").talks("db:5432", turns());
        let talk = |settings: &Settings| {
            let mut connection = Connection::connect_within("db", 5432, Duration::from_secs(1))?;
            connection.send_secret(b"PING ", settings.secret("token").unwrap(), b"\n")?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer)?;
            assert_eq!(answer, "PONG\n");
            connection.finish()?;
            none(settings)
        };
        assert!(host.collect(talk).is_ok());
        assert!(panic_of(|| host.collect(talk)).contains("no conversation more with db:5432"));
        let wrong = Host::new(describe).talks("db:5432", turns());
        let hello = |_: &Settings| {
            Connection::connect("db", 5432)?.write_all(b"HELLO")?;
            Ok(Vec::<Sample>::new())
        };
        assert!(panic_of(|| wrong.collect(hello)).contains("the plugin sent \"HELLO\""));
        let down =
            Host::new(describe).set("socket", "/s").refuses("unix:/s", Error::Unreachable("no such file".into()));
        let unix = down.collect(|settings: &Settings| Connection::connect_unix("/s").and_then(|_| none(settings)));
        assert_eq!(unix, Err(Error::Unreachable("no such file".into())));
    }

    #[test]
    fn what_a_call_keeps_stays_only_if_it_succeeds_and_not_longer_than_its_time() {
        let host = Host::new(describe);
        let set = |value: &str| kv::set("a", value).and_then(|()| kv::set_for("b", value, Duration::from_secs(60)));
        assert!(host.run(|| set("1").and_then(|()| Err::<(), _>(failed!("no")))).is_err());
        assert_eq!(host.kept("a"), None);
        host.run(|| set("2")).unwrap();
        assert_eq!(host.run(|| Ok(kv::keys(""))).unwrap(), ["a", "b"]);
        let delete = || {
            kv::delete("a");
            Ok(())
        };
        host.run(delete).unwrap();
        assert_eq!((host.kept("a"), host.kept("b")), (None, Some(b"2".to_vec())));
        let mut later = host;
        later.world().now += 60;
        assert_eq!(later.run(|| Ok(kv::get("b"))), Ok(None));
    }

    #[test]
    fn a_file_a_limit_the_time_and_the_log_are_as_prepared() {
        let host = Host::new(describe).file("/log", "two\nlines").limit("samples", 9).at(90);
        let read = |_: &Settings| {
            assert_eq!(files::read("/log", 100)?, b"two\nlines");
            assert_eq!(files::File::open("/log")?.read_at(4, 3)?, b"lin");
            assert_eq!(files::File::open("/log")?.stat()?.size, 9);
            assert!(matches!(files::read("/etc/passwd", 1), Err(Error::Denied(_))));
            assert_eq!((call::limit("samples"), call::limit("none"), call::minute()), (Some(9), None, 60));
            assert!(call::has("tcp") && !call::has("everything") && call::remaining() > Duration::ZERO);
            let lines = 2;
            log::info!("{lines} lines");
            log::warning_daily("topic", "once");
            log::warning_daily!("topic", "{lines}");
            Ok(Vec::<Sample>::new())
        };
        host.collect(read).unwrap();
        assert_eq!(host.logged(), ["info: 2 lines", "warning: once"]);
    }

    #[test]
    fn a_secret_is_revealed_only_if_the_operator_says_so_and_is_not_in_debug_output() {
        let host = Host::new(describe).set("token", "s3cret");
        let secret = |host: &Host| host.settings().secret("token").unwrap().clone();
        assert!(matches!(secret(&host).reveal(), Err(Error::Denied(_))));
        assert!(!format!("{:?}", secret(&host)).contains("s3cret"));
        assert_eq!((secret(&host).length(), secret(&host.reveals()).reveal()), (6, Ok("s3cret".to_owned())));
    }

    #[test]
    fn a_sample_without_a_metric_and_a_setting_that_is_not_declared_fail_the_test_by_name() {
        let sample = |name: &'static str| move |_: &Settings| Ok(vec![Sample::new(name, 1)]);
        assert!(Host::new(describe).collect(sample("q.any.thing")).is_ok());
        assert!(Host::new(describe).set("host", "other").collect(sample("p.up")).is_ok());
        let said = panic_of(|| Host::new(describe).collect(sample("p.up")));
        assert_eq!(said, "`p.up` fits no metric of the plugin's graphs: q.#.*");
        let said = panic_of(|| Host::new(describe).set("hots", "x").settings());
        assert_eq!(said, "the plugin has no setting `hots`; it has: url, token, host, port, socket, file");
        let required = Host::new(|| Plugin::new("q", "1", "").setting(Setting::text("user").required()));
        assert_eq!(panic_of(|| required.settings()), "the setting `user` is required: `.set(\"user\", ...)`");
        assert!(
            panic_of(|| Host::new(describe).set("host", "a").set("host", "b").settings()).contains("not repeatable")
        );
    }

    #[derive(Settings)]
    struct Config {
        host: String,
        #[text(default = "x")]
        other: String,
    }

    #[test]
    fn a_struct_of_settings_that_the_description_does_not_have_fails_the_test() {
        let collect = |config: &Config| Ok(vec![Sample::new(format!("q.{}.{}", config.host, config.other), 1)]);
        let said = panic_of(|| Host::new(describe).collect(collect));
        assert!(said.starts_with("the plugin does not declare `other`: add `.settings"), "{said}");
        let whole = Host::new(|| {
            let graph = Graph::new("q.#", "Q", Unit::Integer).metric(Metric::gauge("*", "%1"));
            Plugin::new("q", "1", "").settings::<Config>().graph(graph)
        });
        assert_eq!(whole.set("host", "a").collect(collect).unwrap().samples, [Sample::new("q.a.x", 1)]);
    }

    #[test]
    fn a_target_that_is_down_is_a_value_and_logged_once() {
        let down = || up("q.up.up", Err::<Readings, _>(Error::Timeout("no answer".into())));
        let host = Host::new(describe);
        for _ in 0..2 {
            assert_eq!(host.run(down).unwrap().samples, [Sample::new("q.up.up", 0)]);
        }
        assert_eq!(host.run(|| up("q.up.up", Ok(Vec::new()))).unwrap(), [Sample::new("q.up.up", true)]);
        assert_eq!(host.logged(), ["warning: the target is down: no answer", "info: the target is up again"]);
        assert!(host.run(|| up("q.up.up", Err::<Readings, _>(Error::Denied("no".into())))).is_err());
    }

    #[test]
    fn without_a_host_nothing_is_kept_and_a_request_says_what_is_missing() {
        kv::set("a", "b").unwrap();
        assert_eq!(kv::get("a"), None);
        assert!(panic_of(|| http::get("http://q/").send()).contains("testing::Host"));
    }

    #[test]
    fn checks_and_metadata_are_called_with_the_settings() {
        let host = Host::new(describe).set("host", "other");
        let reports = host.check(|settings: &Settings| Ok(Report::ok(settings.text("host")?))).unwrap();
        assert_eq!(reports.len(), 1);
        let documents = host.gather(|settings: &Settings| Ok(format!("[{:?}]", settings.text("host")?))).unwrap();
        assert_eq!(documents.documents, [(String::new(), "[\"other\"]".to_owned())]);
    }
}
