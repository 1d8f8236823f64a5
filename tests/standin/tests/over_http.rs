//! The stand-in over a socket: headers, limits, misbehaviours, outages and its end.

#[cfg(test)]
mod client;

use std::io::ErrorKind;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::{Answer, exchange, request};
use mackerel_standin::{Misbehaviour, Standin};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HOSTS: &str = "/api/v0/hosts";
const TSDB: &str = "/api/v0/tsdb";

/// Long enough for anything on loopback.
const DEADLINE: Duration = Duration::from_secs(10);

/// Sends a valid request; `None` if there is no answer.
async fn send(standin: &Standin, method: &str, target: &str, body: &Value) -> Option<Answer> {
    exchange(standin, &request(method, target, &body.to_string())).await
}

/// A stand-in with one host, and the host's id.
#[cfg(test)]
async fn with_host() -> (Standin, String) {
    let standin = Standin::start("key").await.unwrap();
    let answer = send(&standin, "POST", HOSTS, &json!({"name": "box", "meta": {}})).await.unwrap();
    (standin, answer.json()["id"].as_str().unwrap().to_owned())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the stand-in uses no part of the agent, not even its clock")]
fn points(id: &str, name: &str) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!([{"hostId": id, "name": name, "time": now, "value": 0.5}])
}

#[tokio::test]
async fn a_refusal_has_the_form_of_the_api_and_is_recorded() {
    let (standin, _) = with_host().await;
    let answer = send(&standin, "POST", TSDB, &json!([{"hostId": "x", "name": 1}])).await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    assert_eq!(answer.json(), json!({"error": {"message": "[0].name must be a string"}}));
    let lines: Vec<String> = standin.memory().refusals().iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["POST /api/v0/tsdb 400 1 points: [0].name must be a string"]);
}

#[tokio::test]
async fn a_wrong_key_is_forbidden() {
    let standin = Standin::start("other").await.unwrap();
    let answer = send(&standin, "POST", TSDB, &json!([])).await.unwrap();
    assert_eq!(answer.status, 403);
    assert!(answer.json()["error"]["message"].is_string());
}

#[tokio::test]
async fn a_request_without_user_agent_or_content_type_is_refused() {
    let standin = Standin::start("key").await.unwrap();
    let good = request("POST", HOSTS, r#"{"name":"box","meta":{}}"#);
    for header in ["User-Agent: test/1\r\n", "Content-Type: application/json\r\n"] {
        assert_eq!(exchange(&standin, &good.replace(header, "")).await.unwrap().status, 400, "{header}");
    }
    assert_eq!(exchange(&standin, &good).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_invalid_json_body_is_refused() {
    let standin = Standin::start("key").await.unwrap();
    for body in ["", "{", "NaN", "[1e999]", "[] []"] {
        let answer = exchange(&standin, &request("POST", TSDB, body)).await.unwrap();
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.body.contains("the body is not valid JSON"), "{body}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_body_above_six_mebibytes_is_too_long() {
    let standin = Standin::start("key").await.unwrap();
    for (length, status) in [(6 << 20, 400), ((6 << 20) + 1, 413)] {
        let answer = exchange(&standin, &request("POST", TSDB, &" ".repeat(length))).await.unwrap();
        assert_eq!(answer.status, status, "{length}");
    }
}

#[tokio::test]
async fn an_incomplete_request_is_ignored() {
    let standin = Standin::start("key").await.unwrap();
    let text = request("POST", TSDB, "[]").replace("Content-Length: 2", "Content-Length: 3");
    let mut stream = TcpStream::connect(standin.address()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let end =
        tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("the connection is still open");
    assert!(end.is_err() || rest.is_empty(), "{rest:?}");
    assert_eq!(standin.memory().requests(), []);
}

#[tokio::test]
async fn a_status_misbehaviour_obeys_its_path_and_count() {
    let (standin, id) = with_host().await;
    let status = Misbehaviour::Status { status: 429, retry_after: Some("7".to_owned()) };
    standin.misbehave(status.at(TSDB).times(1));
    assert_eq!(send(&standin, "GET", HOSTS, &Value::Null).await.unwrap().status, 200);
    let answer = send(&standin, "POST", TSDB, &points(&id, "loadavg5")).await.unwrap();
    assert_eq!(answer.status, 429);
    assert!(answer.head.contains("retry-after: 7"), "{}", answer.head);
    assert!(answer.json()["error"]["message"].is_string());
    assert_eq!(standin.memory().points(), []);
    assert_eq!(send(&standin, "POST", TSDB, &points(&id, "loadavg5")).await.unwrap().status, 200);
    assert_eq!(standin.memory().points().len(), 1);
    assert_eq!(standin.memory().refusals(), []);
}

#[tokio::test]
async fn an_answer_can_be_something_else_than_json() {
    let standin = Standin::start("key").await.unwrap();
    standin.misbehave(Misbehaviour::NotJson);
    let answer = send(&standin, "GET", HOSTS, &Value::Null).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(serde_json::from_str::<Value>(&answer.body).is_err());
    standin.behave();
    assert_eq!(send(&standin, "GET", HOSTS, &Value::Null).await.unwrap().json(), json!({"hosts": []}));
}

#[tokio::test]
async fn hanging_up_stores_nothing_but_losing_the_answer_stores_everything() {
    let (standin, id) = with_host().await;
    for (misbehaviour, stored) in [(Misbehaviour::HangUp, 0), (Misbehaviour::LoseAnswer, 1)] {
        standin.misbehave(misbehaviour.times(1));
        assert_eq!(send(&standin, "POST", TSDB, &points(&id, "loadavg5")).await, None);
        let memory = standin.memory();
        assert_eq!(memory.points().len(), stored);
        assert_eq!(memory.requests().last().unwrap().status, None);
    }
    assert_eq!(send(&standin, "GET", HOSTS, &Value::Null).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_unanswered_request_ends_with_the_stand_in() {
    let standin = Standin::start("key").await.unwrap();
    standin.misbehave(Misbehaviour::NeverAnswer);
    let mut stream = TcpStream::connect(standin.address()).await.unwrap();
    stream.write_all(request("GET", HOSTS, "").as_bytes()).await.unwrap();
    standin.wait_until(DEADLINE, "a request", |memory| memory.requests().len() == 1).await.unwrap();
    assert_eq!(stream.try_read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(standin);
    let mut rest = Vec::new();
    let end =
        tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("the connection is still open");
    assert!(end.is_err() || rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn a_late_answer_comes_after_its_delay() {
    let (standin, id) = with_host().await;
    let delay = Duration::from_millis(50);
    standin.misbehave(Misbehaviour::AnswerLate(delay));
    let sent = std::time::Instant::now();
    let answer = send(&standin, "POST", TSDB, &points(&id, "loadavg5")).await.unwrap();
    assert!(sent.elapsed() >= delay, "it came after {:?}", sent.elapsed());
    assert_eq!((answer.status, standin.memory().points().len()), (200, 1));
}

#[tokio::test]
async fn a_refused_metric_does_not_affect_others() {
    let (standin, id) = with_host().await;
    standin.misbehave(Misbehaviour::RefuseMetric("custom.bad".to_owned()));
    for (name, status) in [("custom.good", 200), ("custom.bad", 400), ("custom.badly", 200), ("custom.bad", 400)] {
        assert_eq!(send(&standin, "POST", TSDB, &points(&id, name)).await.unwrap().status, status, "{name}");
    }
    let memory = standin.memory();
    assert_eq!((memory.points().len(), memory.refusals().len()), (2, 0));
}

#[tokio::test]
async fn hosts_survive_an_outage() {
    let (standin, id) = with_host().await;
    let address = standin.address();
    let memory = standin.stop();
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let standin = Standin::start_again(address, "key", memory).await.unwrap();
    assert_eq!(send(&standin, "POST", TSDB, &points(&id, "loadavg5")).await.unwrap().status, 200);
    assert_eq!((standin.memory().hosts().len(), standin.memory().points().len()), (1, 1));
}

#[tokio::test]
async fn dropping_it_closes_the_listener_and_idle_connections_at_once() {
    let standin = Standin::start("key").await.unwrap();
    let address = standin.address();
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(request("GET", HOSTS, "").replace("Connection: close\r\n", "").as_bytes()).await.unwrap();
    assert_ne!(idle.read(&mut [0; 4096]).await.unwrap(), 0);
    drop(standin);
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let end = tokio::time::timeout(DEADLINE, idle.read(&mut [0; 4096])).await.expect("the connection is still open");
    assert!(end.is_err() || end.is_ok_and(|length| length == 0));
}

#[tokio::test]
async fn a_port_in_use_is_an_error() {
    let standin = Standin::start("key").await.unwrap();
    assert_eq!(Standin::start_at(standin.address(), "key").await.unwrap_err().kind(), ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_wait_that_times_out_lists_the_last_requests() {
    let (standin, _) = with_host().await;
    let waited = standin.wait_until(Duration::ZERO, "a point", |memory| !memory.points().is_empty()).await;
    let expected = "timed out after 0ns waiting for a point; the last of 1 requests:\n  POST /api/v0/hosts 200";
    assert_eq!(waited, Err(expected.to_owned()));
}

#[tokio::test]
async fn it_answers_while_the_tests_thread_is_blocked() {
    use std::io::{Read, Write};
    let standin = Standin::start("key").await.unwrap();
    let mut stream = std::net::TcpStream::connect(standin.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(request("GET", HOSTS, "").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
