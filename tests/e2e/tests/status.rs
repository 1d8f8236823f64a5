//! `wasaba status` and `wasaba health`: what a running agent says of its delivery, before, in and after an outage.

use std::time::{Duration, Instant};

use mackerel_standin::{Misbehaviour, Standin};
use rustix::process::Signal;
use serde_json::Value;
use wasaba_e2e::SOON;
use wasaba_e2e::agent::{Home, stderr, stdout};

const KEY: &str = "the-key-of-the-tests";

fn config(standin: &Standin, rest: &str) -> String {
    format!("apikey = {KEY:?}\napibase = {:?}\ncloud_platform = \"none\"\n{rest}", standin.url())
}

/// What `wasaba status --json` prints, once `is_there` is true for it.
async fn status(home: &Home, what: &str, is_there: impl Fn(&Value) -> bool) -> Value {
    let begin = Instant::now();
    loop {
        let output = home.command(&["status"], &["--json"]);
        let status = serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default();
        if is_there(&status) {
            return status;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(begin.elapsed() < 2 * SOON, "{what}: {said}{status:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn lane<'a>(status: &'a Value, name: &str) -> &'a Value {
    let lanes = status["lanes"].as_array().map(Vec::as_slice).unwrap_or_default();
    lanes.iter().find(|lane| lane["lane"] == name).unwrap_or(&Value::Null)
}

#[test]
fn without_an_agent_the_socket_is_named_and_what_to_type_and_the_exit_code_is_2() {
    let home = Home::with("apikey = \"k\"\n");
    for arguments in [&[] as &[&str], &["--json"]] {
        let output = home.command(&["status"], arguments);
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), arguments.is_empty()));
        let error = stderr(&output);
        if !arguments.is_empty() {
            let document = serde_json::from_slice::<Value>(&output.stdout).unwrap();
            assert_eq!(
                (&document["is_working"], &document["error"]),
                (&Value::Bool(false), &Value::from(error.trim_end()))
            );
        }
        let socket = home.root().join("wasaba.sock").display().to_string();
        assert!(error.contains("no agent is running") && error.contains(&socket) && error.contains("-root"), "{error}");
    }
}

#[tokio::test]
async fn a_working_agent_shows_its_host_its_server_each_lane_its_queue_and_its_checks() {
    let standin = Standin::start(KEY).await.unwrap();
    let check = "display_name = \"web-1\"\n[plugin.checks.disk]\ncommand = [\"sh\", \"-c\", \"echo full; exit 2\"]\n";
    let home = Home::with(&config(&standin, check));
    let mut agent = home.start(&[]);
    let status = status(&home, "everything was delivered", |status| {
        let delivered = ["values", "check reports", "host description", "host status"];
        delivered.iter().all(|name| lane(status, name)["last_success"].is_i64())
    });
    let status = status.await;
    assert_eq!((&status["is_working"], &status["process"]), (&Value::Bool(true), &Value::from(agent.pid())));
    assert_eq!((&status["server"]["apibase"], &status["server"]["proxy"]), (&Value::from(standin.url()), &Value::Null));
    let memory = standin.memory();
    let host = &memory.hosts()[0];
    assert_eq!(
        (&status["host"]["id"], &status["host"]["name"]),
        (&Value::from(host.id.clone()), &Value::from("web-1"))
    );
    assert!(lane(&status, "values")["fault"].is_null() && lane(&status, "values")["delivered"].as_u64() > Some(0));
    assert!(status["queue"]["collected"].as_u64() > Some(0) && status["queue"]["losses"] == serde_json::json!({}));
    let disk = &status["checks"][0];
    assert_eq!(
        (&disk["name"], &disk["status"], &disk["message"]),
        (&"disk".into(), &"CRITICAL".into(), &"full".into())
    );
    assert!(status["collectors"].as_array().unwrap().iter().any(|collector| collector["name"] == "loadavg"));
    let table = stdout(&home.command(&["status"], &[]));
    for part in [host.id.as_str(), "(web-1)", &standin.url(), "CRITICAL", "loadavg", "losses  none"] {
        assert!(table.contains(part), "{part} is missing:\n{table}");
    }
    assert!(stdout(&home.command(&["health"], &[])).contains("and values were delivered"));
    agent.signal(Signal::TERM);
    assert!(agent.ended(SOON).success());
}

#[tokio::test]
async fn a_refused_key_is_the_fault_of_the_configuration_and_the_agent_has_five_minutes_until_it_is_unhealthy() {
    let standin = Standin::start("another-key").await.unwrap();
    let home = Home::with(&config(&standin, ""));
    let agent = home.start(&[]);
    let line = agent.line_with("cannot register this host: ", SOON);
    assert!(line.contains("; the fault is in this agent's configuration: check that `apikey`"), "{line}");
    let status = status(&home, "the fault", |status| lane(status, "host description")["fault"].is_object()).await;
    let fault = &lane(&status, "host description")["fault"];
    assert_eq!(fault["at_fault"], "configuration");
    assert!(fault["error"].as_str().unwrap().contains("refuses the API key"), "{fault}");
    assert!(
        fault["cure"].as_str().unwrap().contains("`apikey`") && fault["since"].as_i64() <= fault["next_try"].as_i64()
    );
    assert_eq!(
        (&status["delivered_seconds_ago"], &status["is_working"]),
        (&Value::Null, &Value::Bool(true)),
        "a start"
    );
    assert!(!status.to_string().contains(KEY), "the key is shown");
    assert!(stdout(&home.command(&["health"], &[])).contains("nothing was delivered yet"));
}

#[tokio::test]
async fn an_outage_is_shown_with_its_beginning_while_it_lasts_and_logged_once_when_it_is_over() {
    let standin = Standin::start(KEY).await.unwrap();
    standin.misbehave(Misbehaviour::Status { status: 503, retry_after: None }.at("/api/v0/tsdb"));
    let home = Home::with(&config(&standin, ""));
    let agent = home.start(&[]);
    let during =
        status(&home, "the fault", |status| lane(status, "values")["failures_in_hour"].as_u64() >= Some(2)).await;
    let fault = &lane(&during, "values")["fault"];
    assert_eq!((&fault["at_fault"], &lane(&during, "values")["last_success"]), (&"mackerel".into(), &Value::Null));
    assert!(during["queue"]["points"].as_u64() > Some(0));
    standin.behave();
    let after = status(&home, "the end", |status| lane(status, "values")["last_success"].is_i64()).await;
    assert!(lane(&after, "values")["delivered"].as_u64() > Some(0));
    let line = agent.line_with("values: recovered after ", SOON);
    assert!(line.contains(" delivered since the fault began"), "{line}");
    let logged = agent.lines().iter().filter(|line| line.contains("cannot deliver values: ")).count();
    assert_eq!(logged, 1, "{:#?}", agent.lines());
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_fault_of_the_way_to_it() {
    let standin = Standin::start(KEY).await.unwrap();
    standin.misbehave(Misbehaviour::NeverAnswer.at("/api/v0/tsdb"));
    let home = Home::with(&config(&standin, ""));
    let _agent = home.start(&[]);
    // The limit of a request is 30 s.
    let status = status(&home, "the fault", |status| lane(status, "values")["fault"].is_object()).await;
    assert_eq!(lane(&status, "values")["fault"]["at_fault"], "network");
    assert!(lane(&status, "host description")["fault"].is_null(), "another lane");
}

#[tokio::test]
async fn an_agent_whose_configuration_has_become_invalid_is_asked_all_the_same() {
    let home = Home::with("");
    let mut agent = home.start(&[]);
    status(&home, "a collection", |status| status["queue"]["points"].as_u64() > Some(0)).await;
    for invalid in ["roles = [\n", "http_proxy = 5\n"] {
        home.configure(invalid);
        for (words, said) in [
            (&["health"] as &[&str], "the agent is working"),
            (&["status"], "the agent is working"),
            (&["queue", "show"], "points: "),
            (&["plugin", "list"], "has no plugins"),
        ] {
            let output = home.command(words, &[]);
            let note = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                output.status.success() && note.contains("the configuration is invalid: an agent that runs"),
                "{note}"
            );
            assert!(String::from_utf8_lossy(&output.stdout).contains(said), "{words:?}");
        }
    }
    agent.signal(Signal::TERM);
    assert!(agent.ended(SOON).success());
    let output = home.command(&["status"], &[]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the configuration is invalid") && said.contains("no agent is running"), "{said}");
}

#[tokio::test]
async fn without_a_key_nothing_is_posted_and_the_agent_works() {
    let home = Home::with("");
    let _agent = home.start(&[]);
    let status = status(&home, "a collection", |status| status["queue"]["points"].as_u64() > Some(0)).await;
    assert_eq!((&status["server"], &status["is_working"]), (&Value::Null, &Value::Bool(true)));
    assert!(stdout(&home.command(&["status"], &[])).contains("there is no API key"));
}
