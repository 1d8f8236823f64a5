//! One collection: the list of containers, the statistics of each, and the values computed from them.
//!
//! Containers are queried concurrently, some hundreds at a time, each with its own timeout: one that fails, hangs or is removed
//! meanwhile costs only itself.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::pin;
use std::time::Duration;

use bollard::Docker as Client;
use bollard::errors::Error;
use bollard::models::{EventActor, EventMessage};
use bollard::query_parameters::EventsOptions;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::time::Instant;
use wasaba_core::collect::rate::Reading;
use wasaba_core::collect::{Answer, Fault, Moment, rate};
use wasaba_core::sample::Sample;
use wasaba_core::text::{counted, duration, printable};
use wasaba_core::tls::{self, Trust};

use super::Docker;
use super::answers::{Inspected, List, Stats, Summary};
use super::endpoint::{Endpoint, Transport};
use super::metrics::{self, Conversion, Facts, Metric, Origin, Parts};
use super::naming::Identity;
use super::warnings::Warnings;

/// How many containers are queried at once. Engines before 25 respond with their own next reading, up to a second later, so a few at
/// a time would take long; and each is a connection on both sides, so thousands at once would be too many.
const CONCURRENT: usize = 256;

/// The time limit of one request to the engine.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);

/// The most counters of all containers together; each takes some hundred bytes.
const MOST_READINGS: usize = 300_000;

/// The most containers with out-of-memory kills in one window.
const MOST_KILLED: usize = 10_000;

/// After as many events, everything else on the thread has its turn.
const EVENTS_AT_ONCE: usize = 1_000;

/// The date that an engine gives for a reading that it did not take.
const NEVER: &str = "0001-01-01";

/// What is kept from one collection to the next.
#[derive(Debug, Default)]
pub struct State {
    /// Where the counters stood: see [`Counters::key`].
    readings: BTreeMap<String, Reading>,
    /// What is known of the containers that have such readings, by the beginning of their ids.
    seen: HashMap<String, Seen>,
    /// What was read of the files for TLS.
    secure: tls::Client,
    engine_clock: EngineClock,
}

/// What is known of a container from its last answer.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// When it came; `None` if that was before this process.
    at: Option<std::time::Instant>,
    /// Its date, by the engine's clock.
    read_millis: i64,
    /// The metrics that it had, by their places in [`metrics::ALL`].
    had: Places,
}

/// A set of metrics: a bit for each place.
type Places = u64;

impl Seen {
    /// Whether its readings can still give a rate, by this machine's clock: the engine's may be wrong for a single container.
    fn is_recent(self, instant: std::time::Instant) -> bool {
        self.at.is_none_or(|at| instant.saturating_duration_since(at) <= rate::LONGEST)
    }
}

/// The engine's clock, which dates all readings and may be set at any time.
#[derive(Clone, Copy, Debug, Default)]
struct EngineClock {
    /// What it showed when the engine was asked last, and when that was.
    last: Option<(i64, std::time::Instant)>,
    /// By how much it was set since it was asked first.
    step_millis: i64,
}

impl EngineClock {
    /// An answer is dated with a whole second, and may have been under way for a while.
    const TOLERANCE_MILLIS: i64 = 3_000;

    /// Notes what it shows at `instant`.
    fn note(&mut self, shown_millis: i64, instant: std::time::Instant) {
        if let Some((shown_before, before)) = self.last.replace((shown_millis, instant)) {
            let passed = i64::try_from(instant.saturating_duration_since(before).as_millis()).unwrap_or(i64::MAX);
            let step = shown_millis.saturating_sub(shown_before).saturating_sub(passed);
            if step.saturating_abs() > Self::TOLERANCE_MILLIS {
                self.step_millis = self.step_millis.saturating_add(step);
            }
        }
    }
}

impl From<HashMap<String, Reading>> for State {
    fn from(readings: HashMap<String, Reading>) -> Self {
        let mut seen = HashMap::new();
        for (key, reading) in readings.iter().filter(|(key, _)| *key != EVENTS_UNTIL) {
            let read_millis = reading.unix_millis;
            let known = seen.entry(container_of(key).to_owned()).or_insert(Seen { at: None, read_millis, had: 0 });
            known.read_millis = known.read_millis.max(read_millis);
        }
        Self { readings: readings.into_iter().collect(), seen, ..Self::default() }
    }
}

/// The beginning of the id of the container whose counter has this key.
fn container_of(key: &str) -> &str {
    key.split(' ').next().unwrap_or(key)
}

/// Among the readings, the end of the last window of events that was read, by the engine's clock. So it outlives a restart, too.
const EVENTS_UNTIL: &str = "events until";

impl State {
    /// The window of events to request at this `second` of the engine's clock; none at first. The events of that second itself come
    /// with the next window: an engine responds only when the end of the window has passed.
    fn window_of_events(&self, second: i64) -> Option<(i64, i64)> {
        let since =
            self.readings.get(EVENTS_UNTIL)?.ahead_by(self.engine_clock.step_millis).unix_millis.div_euclid(1_000);
        Some((since, second)).filter(|(since, until)| since < until)
    }

    /// Takes the readings of a collection. Each container is judged alone: one with a wrong date takes nothing from the others. Of one that
    /// has answered only the new ones are kept; of another, those from which a rate can still be computed.
    fn take(&mut self, values: &Values, instant: std::time::Instant) {
        self.seen.values_mut().for_each(|seen| seen.at = seen.at.or(Some(instant)));
        self.seen.retain(|_, seen| seen.is_recent(instant));
        let seen = &self.seen;
        let is_kept = |container: &str| !values.seen.contains_key(container) && seen.contains_key(container);
        // What was killed since then is counted, however long ago it was.
        self.readings.retain(|key, _| key == EVENTS_UNTIL || is_kept(container_of(key)));
        self.readings.extend(values.readings.iter().cloned());
        self.seen.extend(values.seen.iter().map(|(container, seen)| (container.clone(), *seen)));
    }
}

/// Collects everything that is configured for the engine.
///
/// # Errors
/// The engine itself cannot be queried. A failure of single containers is a warning in the answer.
pub async fn collect(docker: &Docker, state: &mut State, moment: Moment) -> Result<Answer, Fault> {
    let mut values = Values::default();
    let collected = match Engine::of(docker, &mut state.secure).await {
        Ok(engine) => engine.collect(state, moment, &mut values).await,
        Err(why) => Err(why),
    };
    if docker.extra.contains(&"up") {
        values.add("docker.engine.up".to_owned(), f64::from(u8::from(collected.is_ok())), f64::max);
    }
    if let Err(why) = collected {
        if values.named.is_empty() {
            return Err(Fault::new(why));
        }
        values.warnings.add(why);
    }
    state.take(&values, moment.instant);
    Ok(values.answer(docker))
}

/// The engine during one collection, or one look.
pub(super) struct Engine<'a> {
    docker: &'a Docker,
    transport: Transport,
    client: Client,
    deadline: Instant,
}

impl<'a> Engine<'a> {
    pub(super) async fn of(docker: &'a Docker, secure: &mut tls::Client) -> Result<Self, String> {
        let transport = docker.endpoint.transport(&docker.trust, secure).await?;
        let client = transport.client(REQUEST_TIMEOUT)?;
        Ok(Self { docker, client, transport, deadline: Instant::now() + docker.timeout })
    }

    async fn collect(&self, state: &mut State, moment: Moment, values: &mut Values) -> Result<(), String> {
        let (date, all) = self.list(self.has_extra("state"), &mut values.warnings).await?;
        if let Some(date) = date {
            state.engine_clock.note(date.as_millisecond(), moment.instant);
        }
        let mut ids = HashSet::new();
        let all = all.into_iter().filter(|summary| ids.insert(summary.id.clone())).collect::<Vec<_>>();
        if self.has_extra("state") {
            values.count_states(&all);
        }
        let wanted = all.into_iter().filter_map(|summary| Container::of(summary, self.docker));
        let wanted = counted_apart(wanted.collect());
        let began = Instant::now();
        let now = date.filter(|_| self.has_extra("oom")).map(|now| now.as_second());
        let window = now.and_then(|now| state.window_of_events(now));
        let names = wanted
            .iter()
            .map(|Container { identity, key, .. }| (identity.id.clone(), (identity.name.clone(), key.clone())));
        let mut missing = names.collect::<BTreeMap<_, _>>();
        for container in &wanted {
            values.sums.entry(container.key.clone()).or_default().members += 1;
        }
        let step_millis = state.engine_clock.step_millis;
        // What is known of each is used at once, and not kept.
        let facts = async {
            let mut answered = BTreeMap::new();
            let mut all = pin!(self.all_facts(wanted));
            while let Some((container, facts, warning)) = all.next().await {
                missing.remove(&container.identity.id);
                let (before, seen) = (&state.readings, state.seen.get(&container.counted_as).copied());
                let arrived = moment.instant + began.elapsed();
                let counters = Counters { before, seen, container: &container, moment, arrived, step_millis };
                values.take(self.docker, &counters, &facts);
                warning.into_iter().for_each(|warning| values.warnings.add(warning));
                answered.insert(container.identity.id, container.key);
            }
            answered
        };
        let (answered, kills) = tokio::join!(facts, self.kills(window));
        match (&kills, now) {
            // If it cannot be read, the next window begins where this one did.
            (Err(why), _) => {
                values.warnings.add(why.clone());
                values
                    .readings
                    .extend(state.readings.get_key_value(EVENTS_UNTIL).map(|(key, kept)| (key.clone(), *kept)));
            }
            (Ok(_), Some(now)) => {
                let until = Reading { value: 0.0.into(), unix_millis: now.saturating_mul(1_000) };
                let until = until.ahead_by(-state.engine_clock.step_millis);
                values.readings.push((EVENTS_UNTIL.to_owned(), until));
            }
            (Ok(_), None) => {}
        }
        let kills = kills.ok().flatten();
        if let Some(kills) = &kills {
            for (id, key) in &answered {
                values.take_kills(Some(key.clone()), kills.get(id).map_or(0.0, |(_, count)| *count));
            }
        }
        for (id, (identity, count)) in kills.iter().flatten().filter(|(id, _)| !answered.contains_key(*id)) {
            // It is late, or does not run any more.
            let key = match missing.get(id) {
                Some((_, key)) => Some(key.clone()),
                None => self.docker.naming.of(identity).filter(|_| self.docker.wants(identity)),
            };
            values.take_kills(key, *count);
        }
        let timeout = self.docker.timeout;
        let late = missing.values().map(|(name, _)| {
            format!("{}: timed out after {} (limit `timeout_seconds`)", shown(name), duration(timeout))
        });
        late.for_each(|late| values.warnings.add(late));
        for (name, key) in missing.values() {
            for (place, ..) in metrics::places().filter(|(_, family, _)| family.origin() != Origin::Events) {
                values.lacks(key, name, place);
            }
        }
        Ok(())
    }

    /// The facts of the containers that respond before the deadline, each with its warning.
    fn all_facts(&self, containers: Vec<Container>) -> impl Stream<Item = (Container, Facts, Option<String>)> {
        let facts = stream::iter(containers).map(|container| self.facts(container)).buffer_unordered(CONCURRENT);
        facts.take_until(tokio::time::sleep_until(self.deadline))
    }

    fn has_extra(&self, word: &str) -> bool {
        self.docker.extra.contains(&word)
    }

    /// The result of a request within [`REQUEST_TIMEOUT`], and before the collection's deadline: later, what it says would be dropped.
    async fn before_deadline<T>(&self, request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let request = tokio::time::timeout_at(self.deadline, self.in_time(request));
        request.await.unwrap_or(Err(Error::RequestTimeoutError))
    }

    /// The result of a request within [`REQUEST_TIMEOUT`].
    async fn in_time<T>(&self, request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout(REQUEST_TIMEOUT, request).await.unwrap_or(Err(Error::RequestTimeoutError))
    }

    fn fault(&self, error: &Error) -> String {
        format!("cannot query the engine at `{}`: {}", self.transport.address(), self.reason(error))
    }

    /// Why a request failed, with the cure where there is one.
    fn reason(&self, error: &Error) -> String {
        match (error, self.transport.address()) {
            // A socket's cure.
            (Error::IOError { err }, Endpoint::Tcp { .. }) if err.kind() == std::io::ErrorKind::PermissionDenied => {
                format!("{err}; restart the agent, if it has dropped the right to connect there at its start")
            }
            _ => reason(error, REQUEST_TIMEOUT.min(self.docker.timeout), self.transport.trust()),
        }
    }

    /// The engine's time, and its containers, each parsed separately: the library would refuse all of them for one unknown word.
    pub(super) async fn list(
        &self,
        all: bool,
        warned: &mut Warnings,
    ) -> Result<(Option<jiff::Timestamp>, Vec<Summary>), String> {
        let path = if all { "/containers/json?all=true" } else { "/containers/json" };
        let response = self.before_deadline(self.transport.get(path)).await.map_err(|error| self.fault(&error))?;
        // It may have tens of megabytes.
        let date = response.date;
        let list = tokio::task::spawn_blocking(move || serde_json::from_slice::<List>(&response.body)).await;
        let list = list.map_err(|_| "the agent crashed; this is a bug in wasaba".to_owned())?;
        let List { containers, warnings } = list.map_err(|error| self.fault(&error.into()))?;
        warned.append(warnings);
        Ok((date, containers))
    }

    /// The facts of one container, and the warning if a request failed. A container that was removed meanwhile has neither.
    async fn facts(&self, container: Container) -> (Container, Facts, Option<String>) {
        let mut facts =
            Facts { healthy: container.healthy, in_nanoseconds: self.docker.cpu_in_nanoseconds, ..Facts::default() };
        let (stats, restarts) = tokio::join!(self.stats(&container), self.restarts(&container));
        let warn = |error: &Error| {
            (!is_gone(error)).then(|| {
                let why = reason(error, REQUEST_TIMEOUT, self.transport.trust());
                format!("{}: {why}", shown(&container.identity.name))
            })
        };
        let warning = match (&stats, &restarts) {
            (Err(error), _) | (_, Err(error)) => warn(error),
            _ => None,
        };
        let failed = |error: Option<&Error>| error.is_some_and(|error| !is_gone(error));
        facts.lacking.extend(failed(stats.as_ref().err()).then_some(Origin::Stats));
        facts.lacking.extend(failed(restarts.as_ref().err()).then_some(Origin::Container));
        facts.is_read = matches!(stats, Ok(Some(_)));
        facts.stats = stats.ok().flatten().unwrap_or_default();
        facts.restarts = restarts.ok().flatten();
        (container, facts, warning)
    }

    /// One reading, without the second one that the engine would take to compute percentages.
    async fn stats(&self, container: &Container) -> Result<Option<Stats>, Error> {
        if container.is_restarting {
            // The engine would respond with zeros.
            return Ok(None);
        }
        let path = format!("/containers/{}/stats?stream=false&one-shot=true", container.identity.id);
        let response = self.in_time(self.transport.get(&path)).await?;
        let stats = serde_json::from_slice::<Stats>(&response.body)?;
        Ok(Some(stats).filter(|stats| !stats.read.as_ref().is_some_and(|read| read.starts_with(NEVER))))
    }

    async fn restarts(&self, container: &Container) -> Result<Option<f64>, Error> {
        if !self.has_extra("restarts") {
            return Ok(None);
        }
        let about = self.inspect(&container.identity.id).await?;
        Ok(about.restart_count.map(|count| count as f64))
    }

    /// What the engine says about one container.
    pub(super) async fn inspect(&self, id: &str) -> Result<Inspected, Error> {
        let response = self.before_deadline(self.transport.get(&format!("/containers/{id}/json"))).await?;
        Ok(serde_json::from_slice::<Inspected>(&response.body)?)
    }

    /// The out-of-memory kills in each container in this window, by id.
    async fn kills(&self, window: Option<(i64, i64)>) -> Result<Option<Kills>, String> {
        let Some((since, until)) = window else { return Ok(None) };
        let only = |key: &str, value: &str| (key.to_owned(), vec![value.to_owned()]);
        let filters = HashMap::from([only("type", "container"), only("event", "oom")]);
        // Both ends belong to the engine's window.
        let until = format!("{}.999999999", until.saturating_sub(1));
        let options = EventsOptions { since: Some(since.to_string()), until: Some(until), filters: Some(filters) };
        let kills = self.before_deadline(count(self.client.events(Some(options)))).await;
        kills.map(Some).map_err(|error| {
            format!("cannot get out-of-memory events: {}; they are read again in the next minute", self.reason(&error))
        })
    }
}

/// The containers with kills, and how many, by id.
type Kills = HashMap<String, (Identity, f64)>;

async fn count(events: impl Stream<Item = Result<EventMessage, Error>>) -> Result<Kills, Error> {
    let (mut events, mut kills) = (pin!(events.enumerate()), Kills::new());
    while let Some((number, event)) = events.next().await {
        if let Some(actor) = event?.actor {
            add(&mut kills, actor);
        }
        if kills.len() > MOST_KILLED {
            return Err(std::io::Error::other(format!("they are of more than {MOST_KILLED} containers")).into());
        }
        if number % EVENTS_AT_ONCE == EVENTS_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
    }
    Ok(kills)
}

fn add(kills: &mut Kills, actor: EventActor) {
    let Some(id) = actor.id else { return };
    let (_, count) = kills.entry(id).or_insert_with_key(|id| {
        // The attributes of an event are name, image and the labels.
        let mut attributes = actor.attributes.unwrap_or_default();
        let mut take = |key: &str| attributes.remove(key).unwrap_or_default();
        let (name, image) = (take("name"), take("image"));
        let labels = attributes.into_iter().collect();
        (Identity { id: id.clone(), name, image, labels, ..Identity::default() }, 0.0)
    });
    *count += 1.0;
}

/// A container to query.
struct Container {
    identity: Identity,
    /// The beginning of its id, which has no blank: its counters are kept under it.
    counted_as: String,
    /// Its name in metrics.
    key: String,
    is_restarting: bool,
    healthy: Option<bool>,
}

impl Container {
    /// `None` if it does not run, is not selected, or lacks the name by which it is called.
    fn of(summary: Summary, docker: &Docker) -> Option<Self> {
        let state = summary.state.as_deref();
        let runs = matches!(state, Some("running" | "paused" | "restarting") | None);
        let (healthy, is_restarting) = (summary.healthy(), state == Some("restarting"));
        let identity = Identity::of(summary);
        let is_selected = runs && docker.wants(&identity);
        let key = docker.naming.of(&identity).filter(|_| is_selected)?;
        let counted_as = container_of(identity.id.get(..12).unwrap_or(&identity.id)).to_owned();
        Some(Self { identity, counted_as, key, is_restarting, healthy })
    }
}

/// Gives those whose ids begin alike the whole id, so that none counts on from another's counters.
fn counted_apart(mut containers: Vec<Container>) -> Vec<Container> {
    let mut counts = HashMap::<String, usize>::new();
    containers.iter().for_each(|container| *counts.entry(container.counted_as.clone()).or_default() += 1);
    for container in containers.iter_mut().filter(|container| counts.get(&container.counted_as) != Some(&1)) {
        container.counted_as = container.identity.id.replace(' ', "-");
    }
    containers
}

/// The counters of one container, before and now.
struct Counters<'a> {
    before: &'a BTreeMap<String, Reading>,
    /// What is known of the container from its last answer.
    seen: Option<Seen>,
    container: &'a Container,
    moment: Moment,
    /// When the container's answer came.
    arrived: std::time::Instant,
    /// By how much the engine's clock was set.
    step_millis: i64,
}

impl Counters<'_> {
    /// So much the engine's and this machine's clocks may differ over a minute: an answer may wait for a busy machine.
    const DATED_WITHIN_MILLIS: i64 = 10_000;

    /// By the id: a container keeps its counters when it is renamed, and a new one with the same name has others.
    fn key(&self, graph: &str, name: &str) -> String {
        format!("{} {graph}.{name}", self.container.counted_as)
    }

    /// The time of the reading, in milliseconds since 1970 by the engine's clock as if it had not been set.
    fn read_at(&self, facts: &Facts) -> i64 {
        let read = facts.stats.read.as_ref().and_then(|read| read.parse::<jiff::Timestamp>().ok());
        let read = read.map_or_else(|| self.moment.unix_seconds.saturating_mul(1_000), jiff::Timestamp::as_millisecond);
        read.saturating_sub(self.step_millis)
    }

    /// Whether as much time has passed since the container's last answer by the engine's clock as by this machine's: else the engine's was
    /// set in between, and there is no growth in a known time.
    fn is_dated_well(&self, millis: i64) -> bool {
        let Some((seen, at)) = self.seen.and_then(|seen| Some((seen, seen.at?))) else { return true };
        let own = i64::try_from(self.arrived.saturating_duration_since(at).as_millis()).unwrap_or(i64::MAX);
        let engine = millis.saturating_sub(seen.read_millis);
        engine.saturating_sub(own).saturating_abs() <= Self::DATED_WITHIN_MILLIS
    }

    /// The growth of a counter since the container's last answer: the sum over its parts. Without it for each part, that would not be the
    /// sum, so there is none: a part that is missing in one answer has no growth in the next one either. Where the parts stand is added to
    /// `readings`.
    fn growth(
        &self,
        metric: &Metric,
        key: &str,
        parts: Parts,
        millis: i64,
        cpus: Option<u32>,
        readings: &mut Readings,
    ) -> Option<f64> {
        let named = |part: &str| if part.is_empty() { key.to_owned() } else { format!("{key} {part}") };
        let is_last = |before: &Reading| self.seen.is_some_and(|seen| seen.read_millis == before.unix_millis);
        let of_parts = format!("{key} ");
        let before = self.before.range(of_parts.clone()..).take_while(|(known, _)| known.starts_with(&of_parts));
        let names = before.filter(|(_, before)| is_last(before)).filter_map(|(known, _)| known.strip_prefix(&of_parts));
        let is_whole = names.into_iter().all(|part| parts.contains_key(part));
        let mut sum = (is_whole && self.is_dated_well(millis)).then_some(0.0);
        for (part, value) in parts {
            let (key, now) = (named(&part), Reading { value: value.into(), unix_millis: millis });
            let before = self.before.get(&key).copied().filter(is_last);
            // An answer that lacks a counter shows it as 0: it stands where it stood. The second time, it begins again.
            let lost = before.filter(|before| value == 0.0 && before.value.as_f64() > 0.0);
            let growth = before.filter(|_| lost.is_none());
            let growth = growth.and_then(|before| metric.conversion.growth(before, now, cpus));
            sum = sum.zip(growth).map(|(sum, growth)| sum + growth);
            readings.push((key, lost.unwrap_or(now)));
        }
        sum
    }
}

impl Conversion {
    /// The value of the growth of a counter from one reading to the next.
    fn growth(self, before: Reading, now: Reading, cpus: Option<u32>) -> Option<f64> {
        match self {
            Self::Gauge => None,
            Self::PerMinute => rate::growth(before, now, Duration::from_secs(60)),
            Self::PerSecond => rate::growth(before, now, Duration::from_secs(1)),
            Self::PercentOfCore => {
                let (was, is) = (before.value.as_f64(), now.value.as_f64());
                // The CPU time of a restarted container counts from zero. One that is a little less was corrected, and one that is more than
                // all CPUs had since then is of something else.
                let since = if is < was { Reading { value: 0.0.into(), ..before } } else { before };
                let cores = rate::growth(since, now, Duration::from_secs(1))? / 1e9;
                let is_possible = is >= was || is <= was / 2.0 && cpus.is_some_and(|cpus| cores <= f64::from(cpus));
                is_possible.then_some(cores * 100.0)
            }
        }
    }
}

/// Where counters stand, by their keys.
type Readings = Vec<(String, Reading)>;

/// The result of a collection.
#[derive(Default)]
struct Values {
    /// Without `custom.`.
    named: BTreeMap<String, f64>,
    readings: Readings,
    /// The containers that have answered, by the beginning of their ids.
    seen: HashMap<String, Seen>,
    /// The containers that are called so together.
    sums: BTreeMap<String, Sum>,
    warnings: Warnings,
}

/// Containers of the same name in metrics.
#[derive(Default)]
struct Sum {
    members: usize,
    /// The metrics that one of them lacks.
    lacks: Places,
    /// The first of those by its name.
    who: Option<String>,
}

impl Values {
    /// Notes that a container has no value where it should have one.
    fn lacks(&mut self, key: &str, name: &str, place: u32) {
        if let Some(sum) = self.sums.get_mut(key) {
            sum.lacks |= 1 << place;
            if sum.who.as_deref().is_none_or(|who| name < who) {
                sum.who = Some(name.to_owned());
            }
        }
    }

    /// Removes the values of containers together of which one lacks its own: the rest of a sum looks like all of it.
    fn remove_parts(&mut self) {
        for (key, sum) in std::mem::take(&mut self.sums).into_iter().filter(|(_, sum)| sum.members > 1) {
            let lacking = metrics::places().filter(|(place, ..)| sum.lacks & (1 << place) != 0);
            let names = lacking.map(|(_, family, metric)| family.line(&key, metric));
            let removed = names.filter(|name| self.named.remove(name).is_some()).count();
            if let Some(who) = sum.who.filter(|_| removed > 0) {
                let (who, key, count) = (shown(&who), printable(&key, 80), sum.members);
                let values = counted(removed as u64, "value");
                self.warnings
                    .add(format!("{who}: {values} of the {count} containers `{key}` together missing, as its own are"));
            }
        }
    }

    fn add(&mut self, name: String, value: f64, combine: fn(f64, f64) -> f64) {
        self.named.entry(name).and_modify(|known| *known = combine(*known, value)).or_insert(value);
    }

    fn count_states(&mut self, all: &[Summary]) {
        for state in metrics::STATES {
            let count = all.iter().filter(|summary| summary.is_in(state)).count();
            self.add(format!("docker.containers.{state}"), count as f64, f64::max);
        }
    }

    /// The kills in a container without other values.
    fn take_kills(&mut self, key: Option<String>, count: f64) {
        if let Some(key) = key {
            self.add(format!("docker.oom_kills.{key}.kills"), count, |one, other| one + other);
        }
    }

    fn take(&mut self, docker: &Docker, counters: &Counters<'_>, facts: &Facts) {
        if self.readings.len() > MOST_READINGS {
            let name = shown(&counters.container.identity.name);
            self.warnings.add(format!("{name}: no values, as the others have more than {MOST_READINGS} counters"));
            return;
        }
        let (unix_millis, container, seen) = (counters.read_at(facts), counters.container, counters.seen);
        let cpus = facts.stats.cpu_stats.as_ref().and_then(|cpu| cpu.online_cpus);
        let mut had = 0;
        for (place, family, metric) in metrics::places().filter(|(_, family, _)| family.is_selected(&docker.extra)) {
            let parts = metric.parts(facts);
            let is_there = parts.is_some();
            had |= Places::from(is_there) << place;
            let value = parts.and_then(|parts| match metric.conversion {
                Conversion::Gauge => Some(parts.into_values().sum()),
                _ => {
                    let key = counters.key(family.graph, metric.name);
                    counters.growth(metric, &key, parts, unix_millis, cpus, &mut self.readings)
                }
            });
            let is_lost = match family.origin() {
                Origin::Stats if facts.is_read => {
                    // A container that is new has no growth, and one may have no limit or no network.
                    seen.is_some_and(|seen| is_there || seen.had & (1 << place) != 0)
                }
                origin => facts.lacking.contains(&origin),
            };
            match value {
                Some(value) => self.add(family.line(&container.key, metric), value, metric.combine),
                None if is_lost => self.lacks(&container.key, &container.identity.name, place),
                None => {}
            }
        }
        if facts.is_read {
            let seen = Seen { at: Some(counters.arrived), read_millis: unix_millis, had };
            self.seen.insert(container.counted_as.clone(), seen);
        }
    }

    fn answer(mut self, docker: &Docker) -> Answer {
        self.remove_parts();
        let Self { named, readings, mut warnings, .. } = self;
        let mut answer = Answer { readings, ..Answer::default() };
        for (name, value) in named {
            let name = docker.posting.renamed(&name);
            if !docker.posting.wants(&name) {
                continue;
            }
            match Sample::new(format!("custom.{name}"), value) {
                Ok(sample) => answer.samples.push(match &docker.posting.custom_identifier {
                    Some(host) => sample.of_host(host),
                    None => sample,
                }),
                Err(error) => warnings.add(error.to_string()),
            }
        }
        answer.warnings = warnings.lines();
        answer
    }
}

fn shown(name: &str) -> String {
    format!("container `{}`", printable(name, 80))
}

/// Whether the container was removed meanwhile.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404 | 409, .. })
}

/// Why a request with this time limit failed, with the cure where there is one.
fn reason(error: &Error, limit: Duration, trust: &Trust) -> String {
    match error {
        Error::RequestTimeoutError => format!("timed out after {}", duration(limit)),
        Error::DockerResponseServerError { status_code, message } => {
            format!("status {status_code}: {}", printable(message.trim(), 200))
        }
        Error::IOError { err } if err.kind() == std::io::ErrorKind::PermissionDenied => {
            format!("{err}; add the agent's user to the group of the socket")
        }
        Error::JsonDataError { .. } | Error::JsonSerdeError { .. } => format!("invalid response: {error}"),
        Error::IOError { err } => with_causes(err, trust),
        Error::HyperResponseError { err } => with_causes(err, trust),
        _ => with_causes(error, trust),
    }
}

/// An error and its causes. One of TLS points to the table: a certificate, ours or the engine's, is missing or not accepted, or the other
/// side does not speak TLS.
fn with_causes(error: &(dyn std::error::Error + 'static), trust: &Trust) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    match tls::error_of(error) {
        Some(_) => format!("{}; check `tls` in [docker]", tls::with_cure(text, error, trust)),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_failure_of_tls_points_to_the_table_and_another_one_does_not() {
        let of_tls = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::NoCertificatesPresented);
        let text = reason(&of_tls.into(), REQUEST_TIMEOUT, &Trust::default());
        assert_eq!(text, "peer sent no certificates; check `tls` in [docker]");
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "certificate of baptism");
        assert_eq!(reason(&refused.into(), REQUEST_TIMEOUT, &Trust::default()), "certificate of baptism");
    }

    #[test]
    fn a_step_of_the_engines_clock_is_taken_out_and_a_drift_or_a_slow_answer_is_not() {
        const DAY: i64 = 86_400_000;
        let mut clock = EngineClock::default();
        let begin = wasaba_core::clock::instant();
        let mut step = |shown, passed| {
            clock.note(shown, begin + Duration::from_millis(passed));
            clock.step_millis
        };
        // It is ahead of ours by a day from the beginning, and drifts by two seconds a minute.
        assert_eq!([step(DAY, 0), step(DAY + 62_000, 60_000), step(DAY + 124_000, 120_000)], [0, 0, 0]);
        assert_eq!(step(DAY + 154_000, 180_000), -30_000, "set back by half a minute");
        assert_eq!(step(DAY + 214_000, 240_000), -30_000, "once");
        assert_eq!(step(2 * DAY + 214_000, 300_000), DAY - 60_000 - 30_000, "set ahead by a day");
    }
}
