//! One collection: the list of containers, the statistics of each, and the values that come of them.
//!
//! Containers are asked side by side, some hundreds at a time, each with a patience of its own: one that fails, hangs or goes while
//! it is asked costs only itself.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::Docker as Client;
use bollard::errors::Error;
use bollard::models::EventMessage;
use bollard::query_parameters::{EventsOptions, InspectContainerOptions};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::Instant;
use wasaba_core::collect::rate::Reading;
use wasaba_core::collect::{Answer, Fault, Moment, rate};
use wasaba_core::sample::Sample;
use wasaba_core::text::printable;

use super::Docker;
use super::answers::{Stats, Summary};
use super::endpoint::Way;
use super::metrics::{self, Facts, Reading as How};
use super::naming::Identity;

/// How many containers are asked at once. Engines before 25 answer with their next own reading, up to a second later, so a few at
/// a time would take long; and each is a connection of the engine's and of ours, so all of thousands at once would be much.
const AT_ONCE: usize = 256;

/// How long the engine may take for one answer.
const PATIENCE: Duration = Duration::from_secs(8);

/// More of what is wrong with containers would only fill the log.
const MOST_COMPLAINTS: usize = 5;

/// What an engine gives as the time of a reading that it did not take.
const NEVER: &str = "0001-01-01";

/// What is known from one collection to the next.
#[derive(Debug, Default)]
pub struct Known {
    /// Where the counters stood: see [`Counters::key`].
    readings: HashMap<String, Reading>,
    /// Up to when events were asked for, in seconds since 1970 by the engine's clock.
    events_until: Option<i64>,
}

impl From<HashMap<String, Reading>> for Known {
    fn from(readings: HashMap<String, Reading>) -> Self {
        Self { readings, ..Self::default() }
    }
}

impl Known {
    /// The stretch of time whose events are asked for at this `second` of the engine's clock; none at first. What is of that
    /// second itself comes next time: an engine answers only when the end of what it is asked for has come.
    fn window_of_events(&mut self, second: i64) -> Option<(i64, i64)> {
        Some((self.events_until.replace(second)?, second)).filter(|(since, until)| since < until)
    }

    /// Puts these in the place of those before, and forgets which are old by the engine's clock, which need not be ours.
    fn take(&mut self, readings: &[(String, Reading)]) {
        let newest = readings.iter().map(|(_, reading)| reading.unix_millis).max();
        self.readings.extend(readings.iter().cloned());
        self.readings.retain(|_, reading| newest.is_none_or(|newest| reading.is_fresh(newest)));
    }
}

/// Asks the engine for everything that is wanted of it.
///
/// # Errors
/// The engine as such does not answer. What is wrong with single containers is among the complaints.
pub async fn collect(docker: &Docker, known: &mut Known, moment: Moment) -> Result<Answer, Fault> {
    let mut values = Values::default();
    let asked = match Engine::reach(docker) {
        Ok(engine) => engine.ask(known, moment, &mut values).await,
        Err(why) => Err(why),
    };
    if docker.extra.contains(&"up") {
        values.add("docker.engine.up".to_owned(), f64::from(u8::from(asked.is_ok())), f64::max);
    }
    if let Err(why) = asked {
        if values.named.is_empty() {
            return Err(Fault(why));
        }
        values.complaints.push(why);
    }
    known.take(&values.readings);
    Ok(values.answer(docker))
}

/// An engine that is asked now.
struct Engine<'a> {
    docker: &'a Docker,
    way: Way,
    client: Client,
    ends: Instant,
}

impl<'a> Engine<'a> {
    fn reach(docker: &'a Docker) -> Result<Self, String> {
        let way = docker.endpoint.way(&docker.trust)?;
        Ok(Self { docker, client: way.client(PATIENCE)?, way, ends: Instant::now() + docker.timeout })
    }

    async fn ask(&self, known: &mut Known, moment: Moment, values: &mut Values) -> Result<(), String> {
        let tells = |word: &str| self.docker.extra.contains(&word);
        let (at, all) = self.list(tells("state"), values).await?;
        if tells("state") {
            values.count_states(&all);
        }
        let wanted = all.into_iter().filter_map(|summary| Container::of(summary, self.docker)).collect::<Vec<_>>();
        let window = at.filter(|_| tells("oom")).and_then(|at| known.window_of_events(at.as_second()));
        let names = wanted.iter().map(|container| (container.identity.id.clone(), container.identity.name.clone()));
        let mut missing = names.collect::<BTreeMap<_, _>>();
        let (asked, kills) = tokio::join!(self.all_facts(wanted), self.kills(window));
        let kills = kills.unwrap_or_else(|why| {
            // They are asked for again.
            known.events_until = window.map(|(since, _)| since);
            values.complaints.push(why);
            None
        });
        if let Some(kills) = &kills {
            values.take_kills_of_others(kills, &missing, self.docker);
        }
        for (container, mut facts, complaint) in asked {
            missing.remove(&container.identity.id);
            facts.oom_kills =
                kills.as_ref().map(|kills| kills.get(&container.identity.id).map_or(0.0, |(_, count)| *count));
            let counters = Counters { before: &known.readings, container: &container, moment };
            values.take(self.docker, &counters, &facts);
            values.complaints.extend(complaint);
        }
        let timeout = self.docker.timeout;
        let late =
            missing.values().map(|name| format!("{}: not asked within {timeout:?} (`timeout_seconds`)", shown(name)));
        values.complaints.extend(late);
        Ok(())
    }

    /// What those containers say that answer in time.
    async fn all_facts(&self, containers: Vec<Container>) -> Vec<(Container, Facts, Option<String>)> {
        let asked = stream::iter(containers).map(|container| self.facts(container)).buffer_unordered(AT_ONCE);
        asked.take_until(tokio::time::sleep_until(self.ends)).collect().await
    }

    /// What went wrong with a question to the engine, as text with its cure.
    async fn answered<T>(&self, question: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout(PATIENCE, question).await.unwrap_or(Err(Error::RequestTimeoutError))
    }

    fn fault(&self, error: &Error) -> String {
        format!("cannot ask the engine at `{}`: {}", self.way.place(), told(error))
    }

    /// The engine's time, and the containers that there are, each read by itself: the library would refuse all of them for one
    /// word that it does not know.
    async fn list(&self, all: bool, values: &mut Values) -> Result<(Option<jiff::Timestamp>, Vec<Summary>), String> {
        let path = if all { "/containers/json?all=true" } else { "/containers/json" };
        let told = self.answered(self.way.get(path)).await.map_err(|error| self.fault(&error))?;
        let list =
            serde_json::from_slice::<Vec<serde_json::Value>>(&told.body).map_err(|error| self.fault(&error.into()))?;
        let mut containers = Vec::new();
        for entry in list {
            match serde_json::from_value(entry) {
                Ok(container) => containers.push(container),
                Err(error) => {
                    let why = printable(&error.to_string(), 200);
                    values.complaints.push(format!("an entry of the list of containers is not understood: {why}"));
                }
            }
        }
        Ok((told.at, containers))
    }

    /// The statistics of one container, and what went wrong. One that has gone meanwhile has none, and nothing is wrong.
    async fn facts(&self, container: Container) -> (Container, Facts, Option<String>) {
        let mut facts =
            Facts { healthy: container.healthy, in_nanoseconds: self.docker.cpu_in_nanoseconds, ..Facts::default() };
        let (stats, restarts) = tokio::join!(self.stats(&container), self.restarts(&container));
        let complain =
            |error: &Error| (!is_gone(error)).then(|| format!("{}: {}", shown(&container.identity.name), told(error)));
        let complaint = match (&stats, &restarts) {
            (Err(error), _) | (_, Err(error)) => complain(error),
            _ => None,
        };
        facts.stats = stats.ok().flatten().unwrap_or_default();
        facts.restarts = restarts.ok().flatten();
        (container, facts, complaint)
    }

    /// One reading, which the engine does not repeat to compute a share by itself.
    async fn stats(&self, container: &Container) -> Result<Option<Stats>, Error> {
        if container.is_restarting {
            // The engine would give zeros.
            return Ok(None);
        }
        let path = format!("/containers/{}/stats?stream=false&one-shot=true", container.identity.id);
        let told = self.answered(self.way.get(&path)).await?;
        let stats = serde_json::from_slice::<Stats>(&told.body)?;
        Ok(Some(stats).filter(|stats| !stats.read.as_ref().is_some_and(|read| read.starts_with(NEVER))))
    }

    async fn restarts(&self, container: &Container) -> Result<Option<f64>, Error> {
        if !self.docker.extra.contains(&"restarts") {
            return Ok(None);
        }
        let options = None::<InspectContainerOptions>;
        let about = self.answered(self.client.inspect_container(&container.identity.id, options)).await?;
        Ok(about.restart_count.map(|count| count as f64))
    }

    /// How often the kernel killed in each container for want of memory in this stretch of time, by its id.
    async fn kills(&self, window: Option<(i64, i64)>) -> Result<Option<Kills>, String> {
        let Some((since, until)) = window else { return Ok(None) };
        let only = |key: &str, value: &str| (key.to_owned(), vec![value.to_owned()]);
        let filters = HashMap::from([only("type", "container"), only("event", "oom")]);
        // The engine counts both ends in.
        let until = format!("{}.999999999", until.saturating_sub(1));
        let options = EventsOptions { since: Some(since.to_string()), until: Some(until), filters: Some(filters) };
        let events = self.client.events(Some(options)).try_collect::<Vec<_>>();
        let events = self.answered(events).await;
        events
            .map(|events| Some(count(events)))
            .map_err(|error| format!("cannot ask for out-of-memory events: {}", told(&error)))
    }
}

/// Who was killed in, and how often, by id.
type Kills = HashMap<String, (Identity, f64)>;

fn count(events: Vec<EventMessage>) -> Kills {
    let mut kills = Kills::new();
    for actor in events.into_iter().filter_map(|event| event.actor) {
        let Some(id) = actor.id else { continue };
        // An event has the labels beside name and image.
        let mut attributes = actor.attributes.unwrap_or_default();
        let mut take = |key: &str| attributes.remove(key).unwrap_or_default();
        let (name, image) = (take("name"), take("image"));
        let identity = Identity { id: id.clone(), name, image, labels: attributes.into_iter().collect() };
        kills.entry(id).or_insert((identity, 0.0)).1 += 1.0;
    }
    kills
}

/// A container that is to be asked.
struct Container {
    identity: Identity,
    /// What it is called in its metrics.
    key: String,
    is_restarting: bool,
    healthy: Option<bool>,
}

impl Container {
    /// None if it does not run, is not wanted, or lacks what it is called by.
    fn of(summary: Summary, docker: &Docker) -> Option<Self> {
        let state = summary.state.as_deref();
        let runs = matches!(state, Some("running" | "paused" | "restarting") | None);
        let (healthy, is_restarting) = (summary.healthy(), state == Some("restarting"));
        let name = summary.names.and_then(|names| names.into_iter().next()).unwrap_or_default();
        let identity = Identity {
            id: summary.id,
            name: name.strip_prefix('/').unwrap_or(&name).to_owned(),
            image: summary.image.unwrap_or_default(),
            labels: summary.labels.unwrap_or_default().into_iter().collect(),
        };
        let is_wanted = runs && docker.wants(&identity);
        let key = docker.naming.of(&identity).filter(|_| is_wanted)?;
        Some(Self { identity, key, is_restarting, healthy })
    }
}

/// The counters of one container, before and now.
struct Counters<'a> {
    before: &'a HashMap<String, Reading>,
    container: &'a Container,
    moment: Moment,
}

impl Counters<'_> {
    /// A container keeps its counters when it is renamed, and its successor of the same name has others. 12 digits tell them apart.
    fn key(&self, graph: &str, name: &str) -> String {
        let id = &self.container.identity.id;
        format!("{} {graph}.{name}", id.get(..12).unwrap_or(id))
    }

    /// When the engine read, in milliseconds since 1970.
    fn read_at(&self, facts: &Facts) -> i64 {
        let read = facts.stats.read.as_ref().and_then(|read| read.parse::<jiff::Timestamp>().ok());
        read.map_or_else(|| self.moment.unix_seconds.saturating_mul(1_000), jiff::Timestamp::as_millisecond)
    }

    /// What a reading comes to, by the one before it.
    fn value(&self, how: How, key: &str, now: Reading) -> Option<f64> {
        let before = self.before.get(key).copied();
        match how {
            How::Gauge => Some(now.value),
            How::PerMinute => rate::growth(before?, now, Duration::from_secs(60)),
            How::PerSecond => rate::growth(before?, now, Duration::from_secs(1)),
            How::PercentOfCore => {
                // The CPU time of a container that was started again counts from zero.
                let before = before?;
                let since = if now.value < before.value { Reading { value: 0.0, ..before } } else { before };
                Some(rate::growth(since, now, Duration::from_secs(1))? / 1e9 * 100.0)
            }
        }
    }
}

/// What a collection came to.
#[derive(Default)]
struct Values {
    /// Without `custom.`.
    named: BTreeMap<String, f64>,
    readings: Vec<(String, Reading)>,
    complaints: Vec<String>,
}

impl Values {
    fn add(&mut self, name: String, value: f64, together: fn(f64, f64) -> f64) {
        self.named.entry(name).and_modify(|known| *known = together(*known, value)).or_insert(value);
    }

    fn count_states(&mut self, all: &[Summary]) {
        for state in metrics::STATES {
            let count = all.iter().filter(|summary| summary.is_in(state)).count();
            self.add(format!("docker.containers.{state}"), count as f64, f64::max);
        }
    }

    /// Who was killed and does not run any more.
    fn take_kills_of_others(&mut self, kills: &Kills, asked: &BTreeMap<String, String>, docker: &Docker) {
        for (identity, count) in kills.values().filter(|(identity, _)| !asked.contains_key(&identity.id)) {
            if let Some(key) = docker.naming.of(identity).filter(|_| docker.wants(identity)) {
                self.add(format!("docker.oom_kills.{key}.kills"), *count, |one, other| one + other);
            }
        }
    }

    fn take(&mut self, docker: &Docker, counters: &Counters<'_>, facts: &Facts) {
        let unix_millis = counters.read_at(facts);
        for family in metrics::ALL.iter().filter(|family| family.is_told(&docker.extra)) {
            let graph = family.graph.replace('#', &counters.container.key);
            for metric in family.metrics {
                let Some(value) = (metric.read)(facts) else { continue };
                let value = if metric.reading == How::Gauge {
                    Some(value)
                } else {
                    let (key, now) = (counters.key(family.graph, metric.name), Reading { value, unix_millis });
                    let value = counters.value(metric.reading, &key, now);
                    self.readings.push((key, now));
                    value
                };
                if let Some(value) = value {
                    self.add(format!("{graph}.{}", metric.name), value, metric.together);
                }
            }
        }
    }

    fn answer(self, docker: &Docker) -> Answer {
        let Self { named, readings, mut complaints } = self;
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
                Err(error) => complaints.push(error.to_string()),
            }
        }
        complaints.sort_unstable();
        let all = complaints.len();
        if all > MOST_COMPLAINTS {
            complaints.truncate(MOST_COMPLAINTS);
            complaints.push(format!("and {} more", all - MOST_COMPLAINTS));
        }
        answer.warnings = complaints;
        answer
    }
}

fn shown(name: &str) -> String {
    format!("container `{}`", printable(name, 80))
}

/// It went while it was asked.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404 | 409, .. })
}

/// What went wrong, as the end of a sentence, with the cure where there is one.
fn told(error: &Error) -> String {
    match error {
        Error::RequestTimeoutError => format!("no answer within {PATIENCE:?}"),
        Error::DockerResponseServerError { status_code, message } => {
            format!("it answers {status_code}: {}", printable(message.trim(), 200))
        }
        Error::IOError { err } if err.kind() == std::io::ErrorKind::PermissionDenied => {
            format!("{err}; let the agent's user into the group that the socket belongs to")
        }
        Error::JsonDataError { .. } | Error::JsonSerdeError { .. } => format!("its answer is not understood: {error}"),
        _ => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                if !text.contains(&cause.to_string()) {
                    text = format!("{text}: {cause}");
                }
                source = cause.source();
            }
            let is_tls = text.to_ascii_lowercase().contains("certificate");
            if is_tls { format!("{text}; look at `tls` in [docker]") } else { text }
        }
    }
}
