//! The history of a running agent, asked for on its control socket: what was posted is there, also after a restart, and nothing else.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use mackerel_standin::Standin;
use rustix::process::Signal;
use serde_json::{Value, json};
use wasaba_e2e::SOON;
use wasaba_e2e::agent::Home;

const KEY: &str = "the-key-of-the-tests";

fn config(standin: &Standin) -> String {
    format!("apikey = {KEY:?}\napibase = {:?}\ncloud_platform = \"none\"\n", standin.url())
}

/// The answer to one line.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
fn ask(home: &Home, line: &str) -> Value {
    let mut stream = UnixStream::connect(home.root().join("wasaba.sock")).unwrap();
    stream.write_all(line.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    serde_json::from_slice(&answer).unwrap()
}

/// The values of these metrics in the 24 hours before the end of time.
fn series(home: &Home, keys: &[String], to: i64) -> Value {
    ask(home, &format!("{}\n", json!({ "ask": "series", "keys": keys, "from": 0, "to": to })))
}

#[tokio::test]
async fn the_history_has_what_was_posted_with_its_values_and_outlives_a_restart() {
    let standin = Standin::start(KEY).await.unwrap();
    let home = Home::with(&config(&standin));
    let mut agent = home.start(&[]);
    let begin = Instant::now();
    while standin.memory().points().iter().all(|point| point.name != "loadavg1") {
        assert!(begin.elapsed() < SOON, "nothing was posted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let points = standin.memory().points().to_vec();
    let keys = points.iter().map(|point| point.name.clone()).collect::<Vec<_>>();
    let last = points.iter().map(|point| point.time).max().unwrap();
    let before = series(&home, &keys, last);
    let assert_posted = |answer: &Value| {
        let start = answer["start"].as_i64().unwrap();
        for point in &points {
            let minute = usize::try_from((point.time - start) / 60).unwrap();
            let shown = answer["values"][&point.name][minute].as_f64();
            // A later value of the same minute has taken its place.
            let mut of_minute =
                points.iter().filter(|other| other.name == point.name && other.time / 60 == point.time / 60);
            assert_eq!(shown, of_minute.next_back().map(|point| point.value), "{}", point.name);
        }
    };
    assert_posted(&before);
    let plots = ask(&home, "{\"ask\":\"plots\"}\n");
    let drawn = plots.as_array().unwrap().iter().flat_map(|plot| plot["lines"].as_array().unwrap());
    let drawn = drawn.map(|line| line["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert!(keys.iter().all(|key| drawn.contains(key)), "{keys:?} in {drawn:?}");
    assert_eq!(plots[0]["title"], "Load average");
    agent.signal(Signal::TERM);
    assert!(agent.ended(SOON).success());
    let _agent = home.start(&[]);
    let begin = Instant::now();
    while UnixStream::connect(home.root().join("wasaba.sock")).is_err() {
        assert!(begin.elapsed() < SOON, "no socket");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let after = series(&home, &keys, last);
    // The first values of this start may be of the same minute.
    if after["values"] == before["values"] {
        assert_posted(&after);
    } else {
        let gone = keys.iter().filter(|key| after["values"][*key].as_array().unwrap().iter().all(Value::is_null));
        assert_eq!(gone.collect::<Vec<_>>(), Vec::<&String>::new());
    }
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_with_the_reason_and_who_asks_for_nothing_is_sent_the_state() {
    let standin = Standin::start(KEY).await.unwrap();
    let home = Home::with(&config(&standin));
    let agent = home.start(&[]);
    agent.line_with("posts to", SOON);
    let begin = Instant::now();
    while UnixStream::connect(home.root().join("wasaba.sock")).is_err() {
        assert!(begin.elapsed() < SOON, "no socket");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let long = format!("{}\n", "x".repeat(300 * 1024));
    for line in ["stop\n", "{\"ask\":\"shutdown\"}\n", "{\"ask\":\"state\"}", &long] {
        let mut stream = UnixStream::connect(home.root().join("wasaba.sock")).unwrap();
        // One that is cut off while it sends has its answer all the same, or a closed connection.
        stream.write_all(line.as_bytes()).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        let answer = serde_json::from_slice::<Value>(&answer).unwrap_or_default();
        let is_refused = answer["error"].as_str().is_some_and(|error| error.starts_with("invalid request: "));
        assert!(is_refused || (line.len() > 1_000 && answer.is_null()), "{answer} to {:.40}", line);
    }
    let many = json!({ "ask": "series", "keys": vec!["a"; 401], "from": 0, "to": 1 });
    assert!(ask(&home, &format!("{many}\n"))["error"].as_str().unwrap().contains("at most 400"));
    let far = json!({ "ask": "series", "keys": ["a"], "from": i64::MIN, "to": i64::MAX });
    assert_eq!(ask(&home, &format!("{far}\n"))["minutes"], 1_440);
    assert!(ask(&home, "")["version"].is_string());
    assert_eq!(ask(&home, "{\"ask\":\"containers\"}\n"), json!([]), "without `[docker]`");
}
