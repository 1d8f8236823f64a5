//! The endpoints of Mackerel's API that the agent uses: the path of each, and what it answers on success.
//!
//! A status of 200 with JSON proves nothing: a captive portal, a login page or a gateway may answer that too, and a value that
//! counts as delivered is gone. So every request is made here, and only what Mackerel answers to that very request is success.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;

use super::answer::ApiError;
use super::client::{Client, LONGEST_LIST};
use super::id_file::HostId;

/// A host, as Mackerel knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// `working`, `standby`, …
    pub status: Option<String>,
    /// What a cloud, or the operator, calls it.
    pub custom_identifier: Option<String>,
    /// Whether it was retired.
    pub is_retired: bool,
    /// What it was described by.
    pub agent_name: Option<String>,
}

/// A host in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: HostId,
    /// When it was registered, in seconds since 1970.
    pub created_at: i64,
    /// The hardware addresses of its interfaces; `None` if the list does not say.
    pub macs: Option<BTreeSet<String>>,
    /// What it was described by, if the list says that.
    pub agent_name: Option<String>,
}

/// The hardware addresses in a description of a host.
pub(super) fn macs(host: &Value) -> Option<BTreeSet<String>> {
    let interfaces = host.get("interfaces")?.as_array()?.iter();
    Some(interfaces.filter_map(|interface| Some(interface.get("macAddress")?.as_str()?.to_lowercase())).collect())
}

fn agent_name(host: &Value) -> Option<String> {
    Some(host.get("meta")?.get("agent-name")?.as_str()?.to_owned())
}

/// Whatever its status, a host that is not retired has one of these.
const STATUSES: [(&str, &str); 4] =
    [("status", "working"), ("status", "standby"), ("status", "maintenance"), ("status", "poweroff")];

/// Each of these fails as [`ApiError`] says.
impl Client {
    /// Posts values, an array of points.
    pub async fn post_values(&self, points: Vec<u8>) -> Result<(), ApiError> {
        self.send(Method::POST, "/api/v0/tsdb", &[], Some(points), is_done).await
    }

    /// Posts the reports of checks.
    pub async fn post_reports(&self, reports: Vec<u8>) -> Result<(), ApiError> {
        self.send(Method::POST, "/api/v0/monitoring/checks/report", &[], Some(reports), is_done).await
    }

    /// Posts graph definitions, an array.
    pub async fn post_graphs(&self, definitions: Vec<u8>) -> Result<(), ApiError> {
        self.send(Method::POST, "/api/v0/graph-defs/create", &[], Some(definitions), is_done).await
    }

    /// Replaces a document of a host's metadata.
    pub async fn put_metadata(&self, host: &HostId, namespace: &str, document: Vec<u8>) -> Result<(), ApiError> {
        let path = format!("/api/v0/hosts/{host}/metadata/{namespace}");
        self.send(Method::PUT, &path, &[], Some(document), is_done).await
    }

    /// Registers a host, and returns its id.
    pub async fn post_host(&self, description: Vec<u8>) -> Result<HostId, ApiError> {
        self.send(Method::POST, "/api/v0/hosts", &[], Some(description), id).await
    }

    /// Replaces the description of a host.
    pub async fn put_host(&self, host: &HostId, description: Vec<u8>) -> Result<(), ApiError> {
        let is_host = |answer: &Value| (id(answer)? == *host).then_some(());
        self.send(Method::PUT, &format!("/api/v0/hosts/{host}"), &[], Some(description), is_host).await
    }

    /// A host by its id.
    pub async fn get_host(&self, host: &HostId) -> Result<Host, ApiError> {
        let is_host = |answer: &Value| {
            let found = answer.get("host")?;
            let text = |key: &str| found.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
            (id(found)? == *host).then(|| Host {
                status: text("status"),
                custom_identifier: text("customIdentifier"),
                agent_name: agent_name(found),
                is_retired: found.get("isRetired").and_then(Value::as_bool) == Some(true),
            })
        };
        self.send(Method::GET, &format!("/api/v0/hosts/{host}"), &[], None, is_host).await
    }

    /// The host with a custom identifier, whatever its status.
    pub async fn find_host(&self, custom_identifier: &str) -> Result<Option<HostId>, ApiError> {
        let query = [("customIdentifier", custom_identifier)].into_iter().chain(STATUSES).collect::<Vec<_>>();
        // An answer with another host is that to another request.
        let is_it = |host: &Value| host.get("customIdentifier").is_none_or(|known| known == custom_identifier);
        let first = |answer: &Value| match answer.get("hosts")?.as_array()?.first() {
            Some(host) => id(host).filter(|_| is_it(host)).map(Some),
            None => Some(None),
        };
        self.send(Method::GET, "/api/v0/hosts", &query, None, first).await
    }

    /// The hosts with a name, whatever their status.
    pub async fn find_hosts(&self, name: &str) -> Result<Vec<Listed>, ApiError> {
        let query = [("name", name)].into_iter().chain(STATUSES).collect::<Vec<_>>();
        let listed = |host: &Value| {
            let created_at = host.get("createdAt")?.as_i64()?;
            Some(Listed { id: id(host)?, created_at, macs: macs(host), agent_name: agent_name(host) })
        };
        let all = |answer: &Value| answer.get("hosts")?.as_array()?.iter().map(listed).collect();
        self.send_and_read(LONGEST_LIST, Method::GET, "/api/v0/hosts", &query, None, all).await
    }

    /// Sets a host's status.
    pub async fn post_status(&self, host: &HostId, status: &str) -> Result<(), ApiError> {
        let body = serde_json::json!({ "status": status }).to_string().into_bytes();
        self.send(Method::POST, &format!("/api/v0/hosts/{host}/status"), &[], Some(body), is_done).await
    }

    /// Retires a host.
    pub async fn post_retire(&self, host: &HostId) -> Result<(), ApiError> {
        self.send(Method::POST, &format!("/api/v0/hosts/{host}/retire"), &[], Some(b"{}".to_vec()), is_done).await
    }
}

/// `{"success":true}`
fn is_done(answer: &Value) -> Option<()> {
    (answer.get("success")?.as_bool()? && answer.get("error").is_none()).then_some(())
}

/// `{"id":"…"}`
fn id(answer: &Value) -> Option<HostId> {
    HostId::new(answer.get("id")?.as_str()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mackerel::testing::{Server, answer, client};

    /// Bodies of a 200 that no endpoint may take for success.
    const ODD: [&str; 12] = [
        "",
        "{}",
        "[]",
        "null",
        "true",
        "\"success\"",
        r#"{"success":false}"#,
        r#"{"success":"true"}"#,
        r#"{"success":true,"error":{"message":"no"}}"#,
        r#"{"error":"no"}"#,
        r#"{"status":"ok"}"#,
        "<html>please log in</html>",
    ];

    /// The outcome of every request to an endpoint, in the order of [`ENDPOINTS`].
    async fn outcomes(client: &Client) -> Vec<Result<(), ApiError>> {
        let host = HostId::new("HOST1").unwrap();
        vec![
            client.post_values(b"[]".to_vec()).await,
            client.post_reports(b"{}".to_vec()).await,
            client.post_graphs(b"[]".to_vec()).await,
            client.put_metadata(&host, "md", b"1".to_vec()).await,
            client.post_status(&host, "working").await,
            client.post_retire(&host).await,
            client.post_host(b"{}".to_vec()).await.map(drop),
            client.put_host(&host, b"{}".to_vec()).await,
            client.get_host(&host).await.map(drop),
            client.find_host("i-1").await.map(drop),
            client.find_hosts("web1").await.map(drop),
        ]
    }

    /// What each endpoint answers on success.
    const ENDPOINTS: [&str; 11] = [
        r#"{"success":true}"#,
        r#"{"success":true}"#,
        r#"{"success":true}"#,
        r#"{"success":true}"#,
        r#"{"success":true}"#,
        r#"{"success":true}"#,
        r#"{"id":"HOST1"}"#,
        r#"{"id":"HOST1"}"#,
        r#"{"host":{"id":"HOST1"}}"#,
        r#"{"hosts":[]}"#,
        r#"{"hosts":[]}"#,
    ];

    #[tokio::test]
    async fn only_what_mackerel_answers_on_success_is_success_and_at_each_endpoint_only_its_own() {
        for (body, is_any) in ODD.into_iter().map(|body| (body, false)).chain(ENDPOINTS.map(|body| (body, true))) {
            let server = Server::start(move |_| answer(200, body)).await;
            for (expected, outcome) in ENDPOINTS.into_iter().zip(outcomes(&client(&server.base)).await) {
                assert_eq!(
                    outcome.is_ok(),
                    is_any && body == expected,
                    "{body} where {expected} is expected: {outcome:?}"
                );
            }
        }
    }

    #[tokio::test]
    async fn the_answer_about_another_host_is_not_success() {
        let host = HostId::new("HOST1").unwrap();
        let server = Server::start(|request| match request.line.as_str() {
            line if line.contains("hosts?") => answer(200, r#"{"hosts":[{"id":"HOST2","customIdentifier":"i-2"}]}"#),
            line if line.starts_with("GET") => answer(200, r#"{"host":{"id":"HOST2"}}"#),
            _ => answer(200, r#"{"id":"HOST2"}"#),
        })
        .await;
        let client = client(&server.base);
        assert!(client.put_host(&host, b"{}".to_vec()).await.is_err());
        assert!(client.get_host(&host).await.is_err());
        assert!(client.find_host("i-1").await.is_err());
        assert_eq!(client.find_host("i-2").await.unwrap().as_ref().map(HostId::as_str), Some("HOST2"));
    }

    #[tokio::test]
    async fn a_list_of_the_hosts_of_a_name_may_be_longer_than_other_answers() {
        let (few, long) = ("0".repeat(2_000), 1_000);
        let host = format!(r#"{{"id":"A","createdAt":1,"memo":"{few}"}}"#);
        let list = format!(r#"{{"hosts":[{}]}}"#, vec![host; long].join(","));
        let server = Server::start(move |_| answer(200, &list)).await;
        assert_eq!(client(&server.base).find_hosts("web1").await.unwrap().len(), long);
        assert!(client(&server.base).find_host("i-1").await.is_err());
    }

    #[tokio::test]
    async fn no_request_that_changes_something_is_followed_as_a_get() {
        for status in [301, 302, 303] {
            let server = Server::start(move |request| match request.line.contains("/elsewhere") {
                true => answer(200, r#"{"success":true,"id":"HOST1","host":{"id":"HOST1"},"hosts":[]}"#),
                false => format!("HTTP/1.1 {status} Moved\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"),
            })
            .await;
            let outcomes = outcomes(&client(&server.base)).await;
            assert!(outcomes.iter().all(Result::is_err), "{status}: {outcomes:?}");
            assert!(server.requests().iter().all(|request| !request.line.contains("/elsewhere")), "{status}");
        }
    }

    #[tokio::test]
    async fn a_redirect_that_keeps_the_method_is_followed_with_the_body() {
        let server = Server::start(|request| match request.line.as_str() {
            "POST /moved" if request.body == "[1]" => answer(200, r#"{"success":true}"#),
            _ => "HTTP/1.1 307 Moved\r\nlocation: /moved\r\ncontent-length: 0\r\n\r\n".to_owned(),
        })
        .await;
        assert_eq!(client(&server.base).post_values(b"[1]".to_vec()).await, Ok(()));
    }
}
