//! The API: the endpoints and their answers, as plain functions on the memory.
//!
//! It knows neither sockets nor misbehaviours; the checks of bodies are in `checks`.

use axum::http::Method;
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::call::Call;
use crate::checks::{Refusal, graph_defs, hosts, metadata, reports, tsdb};
use crate::memory::{Host, Memory};

/// The resource that a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource<'a> {
    Hosts,
    Host(&'a str),
    Status(&'a str),
    Retirement(&'a str),
    Points,
    Graphs,
    Reports,
    Metadata(&'a str, &'a str),
}

/// The answer to a call, or why it is refused; it must have this `api_key`. A refused call does not change the memory.
pub(crate) fn answer(memory: &mut Memory, call: &Call, api_key: &str) -> Result<Value, Refusal> {
    if call.header("x-api-key") != Some(api_key) {
        return Err(Refusal::new(403, "the header X-Api-Key is missing or wrong"));
    }
    if call.header("user-agent").is_none_or(str::is_empty) {
        return Err(Refusal::new(400, "the header User-Agent is missing"));
    }
    let resource = resource(&call.path).ok_or_else(|| Refusal::new(404, format!("unknown path {}", call.path)))?;
    match (resource, &call.method) {
        (Resource::Hosts, &Method::GET) => list(memory, call.query.as_deref().unwrap_or_default()),
        (Resource::Hosts, &Method::POST) => register(memory, call),
        (Resource::Host(id), &Method::GET) => Ok(json!({"host": host(memory, id)?.to_json()})),
        (Resource::Host(id), &Method::PUT) => update(memory, id, call),
        (Resource::Status(id), &Method::POST) => change_status(memory, id, call),
        (Resource::Retirement(id), &Method::POST) => retire(memory, id, call),
        (Resource::Points, &Method::POST) => post_points(memory, call),
        (Resource::Graphs, &Method::POST) => define_graphs(memory, call),
        (Resource::Reports, &Method::POST) => report_checks(memory, call),
        (Resource::Metadata(id, namespace), &Method::PUT) => put_metadata(memory, id, namespace, call),
        (_, method) => Err(Refusal::new(405, format!("method {method} is not allowed for {}", call.path))),
    }
}

fn resource(path: &str) -> Option<Resource<'_>> {
    let segments: Vec<&str> = path.strip_prefix("/api/v0/")?.split('/').collect();
    match segments.as_slice() {
        ["hosts"] => Some(Resource::Hosts),
        ["hosts", id] => Some(Resource::Host(id)),
        ["hosts", id, "status"] => Some(Resource::Status(id)),
        ["hosts", id, "retire"] => Some(Resource::Retirement(id)),
        ["tsdb"] => Some(Resource::Points),
        ["graph-defs", "create"] => Some(Resource::Graphs),
        ["monitoring", "checks", "report"] => Some(Resource::Reports),
        ["hosts", id, "metadata", namespace] => Some(Resource::Metadata(id, namespace)),
        _ => None,
    }
}

/// The body of a call that writes.
fn body(call: &Call) -> Result<&Value, Refusal> {
    let media_type = call.header("content-type").and_then(|value| value.split(';').next());
    if media_type.map(str::trim) != Some("application/json") {
        return Err(Refusal::new(400, "the header Content-Type must be application/json"));
    }
    call.body.as_ref().map_err(Clone::clone)
}

fn host<'a>(memory: &'a Memory, id: &str) -> Result<&'a Host, Refusal> {
    memory.host(id).ok_or_else(Refusal::host_not_found)
}

/// A host that can be changed. To treat a retired one as unknown is our own choice: the documents are silent.
fn working_host<'a>(memory: &'a mut Memory, id: &str) -> Result<&'a mut Host, Refusal> {
    memory.host_mut(id).filter(|host| !host.retired).ok_or_else(Refusal::host_not_found)
}

fn register(memory: &mut Memory, call: &Call) -> Result<Value, Refusal> {
    let body = body(call)?;
    hosts::check_description(body)?;
    Ok(json!({"id": memory.add_host(body.clone(), call.received_at)}))
}

fn update(memory: &mut Memory, id: &str, call: &Call) -> Result<Value, Refusal> {
    let body = body(call)?;
    hosts::check_description(body)?;
    let host = working_host(memory, id)?;
    host.body = body.clone();
    host.puts += 1;
    Ok(json!({"id": id}))
}

fn change_status(memory: &mut Memory, id: &str, call: &Call) -> Result<Value, Refusal> {
    let status = hosts::status(body(call)?)?;
    working_host(memory, id)?.status = status;
    Ok(json!({"success": true}))
}

fn retire(memory: &mut Memory, id: &str, call: &Call) -> Result<Value, Refusal> {
    hosts::check_retirement(body(call)?)?;
    memory.host_mut(id).ok_or_else(Refusal::host_not_found)?.retired = true;
    Ok(json!({"success": true}))
}

fn post_points(memory: &mut Memory, call: &Call) -> Result<Value, Refusal> {
    let is_host = |id: &str| memory.host(id).is_some_and(|host| !host.retired);
    let points = tsdb::points(body(call)?, call.received_at, is_host)?;
    memory.add_points(points);
    Ok(json!({"success": true}))
}

fn define_graphs(memory: &mut Memory, call: &Call) -> Result<Value, Refusal> {
    memory.add_graphs(graph_defs::graphs(body(call)?)?);
    Ok(json!({"success": true}))
}

fn report_checks(memory: &mut Memory, call: &Call) -> Result<Value, Refusal> {
    let is_host = |id: &str| memory.host(id).is_some_and(|host| !host.retired);
    let reports = reports::reports(body(call)?, is_host)?;
    memory.add_reports(reports);
    Ok(json!({"success": true}))
}

fn put_metadata(memory: &mut Memory, id: &str, namespace: &str, call: &Call) -> Result<Value, Refusal> {
    let value = body(call)?.clone();
    if host(memory, id)?.retired {
        return Err(Refusal::new(400, "the host is retired"));
    }
    let others = memory.metadata().keys().filter(|(host, known)| host == id && known != namespace).count();
    metadata::check(namespace, &value, others)?;
    memory.put_metadata(id, namespace, value);
    Ok(json!({"success": true}))
}

/// The hosts that match `query`: `customIdentifier` and `name` at most once, `status` any number of times.
fn list(memory: &Memory, query: &str) -> Result<Value, Refusal> {
    let (mut identifier, mut name) = (None, None);
    let mut statuses = Vec::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "customIdentifier" if identifier.is_none() => identifier = Some(value.into_owned()),
            "name" if name.is_none() => name = Some(value.into_owned()),
            "status" if hosts::STATUSES.contains(&value.as_ref()) => statuses.push(value.into_owned()),
            _ => return Err(Refusal::new(400, format!("unsupported query parameter {key}={value}"))),
        }
    }
    if statuses.is_empty() {
        statuses.extend(["working", "standby"].map(str::to_owned));
    }
    let matches = |host: &&Host| {
        let own = host.body.get("customIdentifier").and_then(Value::as_str);
        let is_called = |name: &String| host.body.get("name").and_then(Value::as_str) == Some(name);
        !host.retired
            && statuses.contains(&host.status)
            && (identifier.is_none() || identifier.as_deref() == own)
            && name.as_ref().is_none_or(is_called)
    };
    let found: Vec<Value> = memory.hosts().iter().filter(matches).map(Host::to_json).collect();
    Ok(json!({"hosts": found}))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use axum::http::{HeaderMap, HeaderValue};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn call(method: Method, target: &str, body: Value) -> Call {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = [("x-api-key", "key"), ("user-agent", "test/1"), ("content-type", "application/json")];
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        Call {
            method,
            path: path.to_owned(),
            query: Some(query.to_owned()).filter(|query| !query.is_empty()),
            headers: HeaderMap::from_iter(headers),
            body: Ok(body),
            received_at: SystemTime::UNIX_EPOCH + Duration::from_secs(NOW as u64),
        }
    }

    fn post(memory: &mut Memory, path: &str, body: Value) -> Result<Value, Refusal> {
        answer(memory, &call(Method::POST, path, body), "key")
    }

    fn get(memory: &mut Memory, target: &str) -> Result<Value, Refusal> {
        answer(memory, &call(Method::GET, target, Value::Null), "key")
    }

    fn status_of(result: Result<Value, Refusal>) -> u16 {
        result.unwrap_err().status
    }

    /// A memory with one host, and its id.
    fn with_host() -> (Memory, String) {
        let mut memory = Memory::default();
        let body = json!({"name": "box", "meta": {}, "customIdentifier": "i-1 a"});
        let id = post(&mut memory, "/api/v0/hosts", body).unwrap();
        (memory, id["id"].as_str().unwrap().to_owned())
    }

    fn point(id: &str, time: i64) -> Value {
        json!({"hostId": id, "name": "loadavg5", "time": time, "value": 1})
    }

    #[test]
    fn a_registered_host_can_be_read_and_changed() {
        let (mut memory, id) = with_host();
        let path = format!("/api/v0/hosts/{id}");
        let host = get(&mut memory, &path).unwrap();
        let expected = json!({"host": {
            "id": id, "name": "box", "customIdentifier": "i-1 a", "meta": {}, "status": "working", "memo": "",
            "roles": {}, "isRetired": false, "createdAt": NOW,
        }});
        assert_eq!(host, expected);
        let changed = call(Method::PUT, &path, json!({"name": "new", "meta": {}}));
        assert_eq!(answer(&mut memory, &changed, "key"), Ok(json!({"id": id})));
        let host = &memory.hosts()[0];
        assert_eq!((&host.body["name"], host.posts, host.puts), (&json!("new"), 1, 1));
    }

    #[test]
    fn an_unknown_host_is_not_found() {
        let mut memory = Memory::default();
        assert_eq!(get(&mut memory, "/api/v0/hosts/unknown"), Err(Refusal::host_not_found()));
        let put = call(Method::PUT, "/api/v0/hosts/unknown", json!({"name": "box", "meta": {}}));
        assert_eq!(answer(&mut memory, &put, "key"), Err(Refusal::host_not_found()));
        assert_eq!(status_of(post(&mut memory, "/api/v0/hosts/unknown/status", json!({"status": "working"}))), 404);
        assert_eq!(status_of(post(&mut memory, "/api/v0/hosts/unknown/retire", json!({}))), 404);
    }

    #[test]
    fn a_wrong_or_missing_key_is_forbidden() {
        let mut request = call(Method::GET, "/api/v0/hosts", Value::Null);
        assert_eq!(answer(&mut Memory::default(), &request, "other").unwrap_err().status, 403);
        request.headers.remove("x-api-key");
        assert_eq!(answer(&mut Memory::default(), &request, "key").unwrap_err().status, 403);
    }

    #[test]
    fn a_request_without_user_agent_is_refused() {
        let mut bare = call(Method::GET, "/api/v0/hosts", Value::Null);
        bare.headers.remove("user-agent");
        let message = "the header User-Agent is missing";
        assert_eq!(answer(&mut Memory::default(), &bare, "key"), Err(Refusal::new(400, message)));
    }

    #[test]
    fn a_body_that_is_not_declared_as_json_is_refused() {
        let good = json!({"name": "box", "meta": {}});
        for (media_type, is_good) in [("application/json; charset=utf-8", true), ("text/plain", false), ("", false)] {
            let mut post = call(Method::POST, "/api/v0/hosts", good.clone());
            post.headers.insert("content-type", HeaderValue::from_static(media_type));
            assert_eq!(answer(&mut Memory::default(), &post, "key").is_ok(), is_good, "{media_type}");
        }
    }

    #[test]
    fn an_unknown_path_is_not_found_and_a_wrong_method_is_not_allowed() {
        let (mut memory, id) = with_host();
        for path in ["/", "/api/v0", "/api/v0/hosts/", "/api/v0/tsdb/", "/api/v0/services", "/api/v1/hosts"] {
            assert_eq!(status_of(get(&mut memory, path)), 404, "{path}");
        }
        for path in ["/api/v0/tsdb", "/api/v0/graph-defs/create", &format!("/api/v0/hosts/{id}/status")] {
            assert_eq!(status_of(get(&mut memory, path)), 405, "{path}");
        }
        assert_eq!(status_of(post(&mut memory, &format!("/api/v0/hosts/{id}"), json!({}))), 405);
    }

    #[test]
    fn one_invalid_point_refuses_the_whole_request() {
        let (mut memory, id) = with_host();
        let bad = json!([point(&id, NOW), {"hostId": id, "name": "x", "time": NOW, "value": 1}]);
        assert_eq!(status_of(post(&mut memory, "/api/v0/tsdb", bad)), 400);
        assert_eq!(memory.points(), []);
        let twice = json!([point(&id, NOW), point(&id, NOW)]);
        assert_eq!(post(&mut memory, "/api/v0/tsdb", twice), Ok(json!({"success": true})));
        assert_eq!(memory.points().len(), 2);
    }

    #[test]
    fn a_point_older_than_a_day_is_answered_200_but_not_stored() {
        let (mut memory, id) = with_host();
        let body = json!([point(&id, NOW - 86_401), point(&id, NOW)]);
        assert_eq!(post(&mut memory, "/api/v0/tsdb", body), Ok(json!({"success": true})));
        assert_eq!(memory.points().iter().map(|point| point.time).collect::<Vec<_>>(), [NOW]);
        assert_eq!(memory.dropped_as_too_old().len(), 1);
    }

    #[test]
    fn a_retired_host_accepts_no_points_but_can_be_read() {
        let (mut memory, id) = with_host();
        assert!(post(&mut memory, &format!("/api/v0/hosts/{id}/retire"), Value::Null).is_ok());
        let refused = post(&mut memory, "/api/v0/tsdb", json!([point(&id, NOW)]));
        assert_eq!(refused, Err(Refusal::host_not_found()));
        let status = post(&mut memory, &format!("/api/v0/hosts/{id}/status"), json!({"status": "working"}));
        assert_eq!(status, Err(Refusal::host_not_found()));
        assert_eq!(get(&mut memory, &format!("/api/v0/hosts/{id}")).unwrap()["host"]["isRetired"], json!(true));
        assert_eq!(get(&mut memory, "/api/v0/hosts"), Ok(json!({"hosts": []})));
    }

    #[test]
    fn a_host_is_found_by_its_custom_identifier_name_and_status() {
        let (mut memory, id) = with_host();
        let count = |memory: &mut Memory, query: &str| {
            get(memory, &format!("/api/v0/hosts?{query}")).unwrap()["hosts"].as_array().unwrap().len()
        };
        assert_eq!(count(&mut memory, "customIdentifier=i-1%20a"), 1);
        assert_eq!(count(&mut memory, "customIdentifier=i-2"), 0);
        assert_eq!((count(&mut memory, "name=box"), count(&mut memory, "name=bo")), (1, 0));
        post(&mut memory, &format!("/api/v0/hosts/{id}/status"), json!({"status": "poweroff"})).unwrap();
        assert_eq!(count(&mut memory, "customIdentifier=i-1+a"), 0);
        assert_eq!(count(&mut memory, "customIdentifier=i-1+a&status=working&status=poweroff"), 1);
        for bad in ["nmae=box", "name=a&name=b", "status=asleep", "customIdentifier=a&customIdentifier=b"] {
            assert_eq!(status_of(get(&mut memory, &format!("/api/v0/hosts?{bad}"))), 400, "{bad}");
        }
    }

    #[test]
    fn a_later_graph_definition_replaces_the_earlier() {
        let mut memory = Memory::default();
        for unit in ["bytes", "iops"] {
            let graph = json!([{"name": "custom.a", "unit": unit, "metrics": null}]);
            assert_eq!(post(&mut memory, "/api/v0/graph-defs/create", graph), Ok(json!({"success": true})));
        }
        assert_eq!(memory.graph_definitions().len(), 1);
        assert_eq!(memory.graph_definitions()["custom.a"]["unit"], json!("iops"));
    }

    #[test]
    fn reports_and_metadata_of_known_hosts_are_stored() {
        let (mut memory, id) = with_host();
        let report = |id: &str| {
            json!({"reports": [{"source": {"type": "host", "hostId": id}, "name": "ssh", "status": "OK", "message": "",
                                "occurredAt": NOW}]})
        };
        assert!(post(&mut memory, "/api/v0/monitoring/checks/report", report(&id)).is_ok());
        assert_eq!(status_of(post(&mut memory, "/api/v0/monitoring/checks/report", report("unknown"))), 404);
        assert_eq!(memory.reports().len(), 1);
        let put = |id: &str| call(Method::PUT, &format!("/api/v0/hosts/{id}/metadata/md"), json!({"a": 1}));
        assert!(answer(&mut memory, &put(&id), "key").is_ok());
        assert_eq!(status_of(answer(&mut memory, &put("unknown"), "key")), 404);
        assert_eq!(memory.metadata()[&(id, "md".to_owned())], json!({"a": 1}));
    }
}
