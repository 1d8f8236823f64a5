//! The recorded requests of the official agent, all of which the stand-in must accept.
//!
//! Two metrics are omitted, one with a Japanese name and one with `%1` in its name, which are invalid on purpose.

#[cfg(test)]
mod client;

use std::time::{SystemTime, UNIX_EPOCH};

use client::{Answer, exchange, request};
use mackerel_standin::Standin;
use serde_json::json;

const HOST: &str = r##"{"name":"host.example","displayName":"disp","meta":{"agent-revision":"unknown","agent-version":"(devel)","agent-name":"mackerel-agent/(devel) (Revision unknown)","block_device":{"loop0":{"removable":"0","size":"0"},"vda":{"removable":"0","size":"536870912","vendor":"0x1af4"}},"cpu":[{"cache_size":"1024 KB","core_id":"0","cores":"1","family":"25","mhz":"2596.128","model":"17","model_name":"AMD EPYC","physical_id":"0","stepping":"1","vendor_id":"AuthenticAMD"}],"filesystem":{"/dev/vda":{"kb_available":74843380,"kb_size":264212084,"kb_used":20442508,"mount":"/","percent_used":"22%"},"tmpfs":{"kb_available":12342048,"kb_size":12342048,"kb_used":0,"mount":"/sys/fs/cgroup","percent_used":"0%"}},"kernel":{"machine":"x86_64","name":"Linux","os":"GNU/Linux","platform_name":"Debian","platform_version":"12.11","release":"6.1.0","version":"#1 SMP PREEMPT_DYNAMIC @0"},"memory":{"active":"1920716kB","free":"16914192kB","nfs_unstable":"0kB","swap_total":"0kB","total":"24684096kB","vmalloc_total":"34359738367kB"}},"interfaces":[{"name":"eth0","ipv4Addresses":["192.0.2.2"],"ipv6Addresses":["fd00::2","fe80::fc:ff:fe00:1"],"macAddress":"02:fc:00:00:00:01"},{"name":"docker0","ipv4Addresses":["172.17.0.1"],"ipv6Addresses":["fe80::42:b1ff:fe44:c4af"],"macAddress":"02:42:b1:44:c4:af"}],"roleFullnames":["Svc:role","Svc: spaced"],"checks":[{"name":"ok","memo":"memo ok"},{"name":"crit"}]}
"##;

const GRAPHS: &str = r##"[{"name":"custom.super.dice","displayName":"My \u003cDice\u003e \u0026 co","unit":"integer","metrics":[{"name":"custom.super.dice.d6","displayName":"D6","isStacked":true}]},{"name":"custom.wild.#","unit":"float","metrics":[{"name":"custom.wild.#.*","isStacked":false}]},{"name":"custom.empty","displayName":"E","unit":"float","metrics":null},{"name":"custom.agent.runtime","displayName":"Agent Runtime","unit":"integer","metrics":[{"name":"custom.agent.runtime.goroutine_num","displayName":"Goroutine Num","isStacked":false}]}]
"##;

const POINTS: &str = r#"[{"hostId":"HOSTID","name":"disk.vda.reads.delta","time":TIME,"value":595.1166666666667},{"hostId":"HOSTID","name":"interface.docker0.rxBytes.delta","time":TIME,"value":0},{"hostId":"HOSTID","name":"custom.agent.memory.heapAlloc","time":TIME,"value":1137496},{"hostId":"HOSTID","name":"memory.mem_available","time":TIME,"value":23291129856},{"hostId":"HOSTID","name":"filesystem.vda.size","time":TIME,"value":97572749312},{"hostId":"HOSTID","name":"custom.super.dice.big","time":TIME,"value":1e+21},{"hostId":"HOSTID","name":"custom.super.dice.neg","time":TIME,"value":-0.5},{"hostId":"HOSTID","name":"cpu.guest.percentage","time":TIME,"value":0},{"hostId":"HOSTID","name":"loadavg15","time":TIME,"value":2.91}]
"#;

#[cfg(test)]
async fn official(standin: &Standin, method: &str, target: &str, body: &str) -> Answer {
    let text = request(method, target, body).replace("test/1", "mackerel-agent/(devel) (Revision unknown)");
    let text = match method {
        "GET" => text.replace("Content-Type: application/json\r\nContent-Length: 0\r\n", ""),
        _ => text,
    };
    exchange(standin, &text).await.unwrap()
}

#[tokio::test]
async fn a_day_of_the_official_agent_is_accepted() {
    let standin = Standin::start("key").await.unwrap();
    let id = official(&standin, "POST", "/api/v0/hosts?", HOST).await.json()["id"].as_str().unwrap().to_owned();
    let host = format!("/api/v0/hosts/{id}");
    #[expect(clippy::disallowed_methods, reason = "the test is a client with a clock of its own")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let points = POINTS.replace("HOSTID", &id).replace("TIME", &now.to_string());
    let lookup = "/api/v0/hosts?customIdentifier=unk&status=working&status=standby&status=maintenance&status=poweroff";

    let answer = official(&standin, "GET", &format!("{host}?"), "").await.json();
    assert_eq!((&answer["host"]["id"], &answer["host"]["status"]), (&json!(id), &json!("working")));
    official(&standin, "POST", &format!("{host}/status?"), "{\"status\":\"working\"}\n").await;
    assert_eq!(official(&standin, "GET", lookup, "").await.json(), json!({"hosts": []}));
    official(&standin, "PUT", &format!("{host}?"), HOST).await;
    official(&standin, "POST", "/api/v0/graph-defs/create?", GRAPHS).await;
    official(&standin, "POST", "/api/v0/tsdb?", &points).await;
    official(&standin, "POST", &format!("{host}/status?"), "{\"status\":\"poweroff\"}\n").await;
    official(&standin, "POST", &format!("{host}/retire?"), "null\n").await;

    let memory = standin.stop();
    assert_eq!(memory.refusals(), []);
    assert!(memory.requests().iter().all(|request| request.status == Some(200)), "{:?}", memory.requests());
    assert_eq!((memory.points().len(), memory.graph_definitions().len()), (9, 4));
    assert_eq!((memory.hosts()[0].puts, memory.hosts()[0].retired), (1, true));
}
