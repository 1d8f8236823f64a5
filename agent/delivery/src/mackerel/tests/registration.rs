//! Which host this machine is on Mackerel, whatever is lost, killed or replaced meanwhile.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::*;

#[tokio::test]
async fn a_new_machine_is_registered_once_and_its_values_follow() {
    let mut machine = Machine::new();
    machine.status = Some("working".to_owned());
    machine.keep(NOW, 3);
    let server = Server::start(|request| mackerel(request, accept)).await;
    let put = "PUT /api/v0/hosts/HOST1";
    let requests = machine.run_until(&server, |seen| count(seen, TSDB) == 1 && count(seen, put) == 1).await;
    let first = ["POST /api/v0/hosts", "GET /api/v0/hosts/HOST1", "POST /api/v0/hosts/HOST1/status"];
    assert_eq!(lines(&requests)[..3], first);
    let registered = &requests[0].body;
    assert!(registered.contains(r#""name":"web1""#) && registered.contains(" registration "), "{registered}");
    assert_eq!(requests[2].body, r#"{"status":"working"}"#);
    assert_eq!(requests.iter().find(|request| request.line == put).unwrap().body, r#"{"name":"web1"}"#);
    assert_eq!(fs::read(machine.folder.path().join("id")).unwrap(), b"HOST1");
    assert_eq!(machine.spool.host_id().as_deref(), Some("HOST1"));
    machine.assert_ledger(3, 0, 0);
}

#[tokio::test]
async fn a_registered_machine_is_not_registered_again() {
    let machine = Machine::registered();
    machine.keep(NOW, 1);
    let server = Server::start(|request| mackerel(request, accept)).await;
    let requests = machine.run_until(&server, |seen| count(seen, TSDB) == 1).await;
    assert_eq!(count(&requests, "POST /api/v0/hosts"), 0);
}

#[tokio::test]
async fn an_empty_id_file_is_restored_from_the_spools_copy() {
    let machine = Machine::new();
    machine.spool.keep_host_id("HOST1");
    fs::write(machine.folder.path().join("id"), "").unwrap();
    let server = Server::start(|request| mackerel(request, accept)).await;
    let requests = machine.run_until(&server, |seen| !seen.is_empty()).await;
    assert_eq!(requests[0].line, "GET /api/v0/hosts/HOST1");
    assert_eq!(fs::read(machine.folder.path().join("id")).unwrap(), b"HOST1");
}

#[tokio::test]
async fn an_empty_id_file_without_a_copy_is_fatal_and_the_message_has_the_cure() {
    let machine = Machine::new();
    let path = machine.folder.path().join("id");
    fs::write(&path, "\n").unwrap();
    let server = Server::start(|request| mackerel(request, accept)).await;
    let expected = format!(
        "`{}` does not contain a valid host id: write the id there that Mackerel shows on this host's page, or delete the \
         file to register this machine as a new host",
        path.display()
    );
    assert_eq!(machine.fatal(&server).await, expected);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_host_that_mackerel_does_not_know_is_not_registered_again() {
    let machine = Machine::registered();
    machine.keep(NOW, 2);
    let server = Server::start(|_| answer(404, r#"{"error":{"message":"Host Not Found."}}"#)).await;
    let requests = machine.run_until(&server, |seen| !seen.is_empty()).await;
    assert_eq!(lines(&requests), ["GET /api/v0/hosts/HOST1"]);
    machine.assert_ledger(0, 2, 0);
}

#[tokio::test]
async fn registration_is_retried_for_as_long_as_mackerel_is_down() {
    let machine = Machine::new();
    machine.keep(NOW, 2);
    let tries = AtomicUsize::new(0);
    let server = Server::start(move |request| match tries.fetch_add(1, Ordering::Relaxed) {
        0 | 2 => answer(503, "down"),
        1 => String::new(),
        3 => answer(200, "<html>please log in</html>"),
        _ => mackerel(request, accept),
    })
    .await;
    machine.run_until(&server, |seen| count(seen, TSDB) == 1).await;
    machine.assert_ledger(2, 0, 0);
}

/// What the list of hosts has of one.
fn listed(id: &str, created_at: i64, mac: &str) -> Value {
    json!({"id": id, "name": "web1", "createdAt": created_at, "interfaces": [{"name": "eth0", "macAddress": mac}]})
}

/// Mackerel that makes hosts but does not answer the first request for one. Its lists have others, of machines that seem to be this one.
fn forgetful(lists_agents: bool, hosts: &Arc<Mutex<Vec<Value>>>) -> impl Fn(&Request) -> String + use<> {
    let hosts = Arc::clone(hosts);
    move |request| match request.line.as_str() {
        "POST /api/v0/hosts" => {
            let mut host = listed("HOST1", NOW + 60, "02:00:00:00:00:01");
            host["meta"] = serde_json::from_str::<Value>(&request.body).unwrap()["meta"].clone();
            hosts.lock().unwrap().push(host);
            String::new()
        }
        line if line.starts_with("GET /api/v0/hosts?name=web1&status=working&") => {
            let mut alike = listed("ALIKE", NOW + 30, "02:00:00:00:00:01");
            alike["meta"] = json!({"agent-name": "wasaba/0.1.0 (Revision abcdef0)"});
            let (mac, other) = ("02:00:00:00:00:01", "02:00:00:00:00:02");
            let mut all = vec![alike, listed("OLD", NOW - 3_600, mac), listed("OTHER", NOW, other)];
            all.extend(hosts.lock().unwrap().iter().cloned());
            if !lists_agents {
                all.iter_mut().for_each(|host| _ = host.as_object_mut().unwrap().remove("meta"));
            }
            answer(200, &json!({ "hosts": all }).to_string())
        }
        "GET /api/v0/hosts/ALIKE" => answer(200, r#"{"host":{"id":"ALIKE","meta":{"agent-name":"wasaba/0.1.0"}}}"#),
        "GET /api/v0/hosts/OTHER" => answer(200, r#"{"host":{"id":"OTHER"}}"#),
        _ => mackerel(request, accept),
    }
}

#[tokio::test]
async fn a_host_whose_id_never_arrived_is_found_again_and_not_registered_twice() {
    for lists_agents in [true, false] {
        let mut machine = Machine::new();
        machine.description =
            json!({"name": "web1", "interfaces": [{"name": "eth0", "macAddress": "02:00:00:00:00:01"}]});
        machine.keep(NOW, 1);
        let hosts = Arc::default();
        let server = Server::start(forgetful(lists_agents, &hosts)).await;
        machine.run_until(&server, |seen| count(seen, TSDB) == 1).await;
        assert_eq!(hosts.lock().unwrap().len(), 1);
        assert_eq!(fs::read(machine.folder.path().join("id")).unwrap(), b"HOST1");
    }
}

#[tokio::test]
async fn a_host_whose_id_never_arrived_is_found_again_although_a_cloud_has_given_the_machine_an_identifier_since() {
    let mut machine = Machine::new();
    machine.description = json!({"name": "web1", "interfaces": []});
    let hosts = Arc::default();
    let server = Server::start({
        let forgetful = forgetful(true, &hosts);
        move |request| match request.line.starts_with("GET /api/v0/hosts?customIdentifier=i-1&") {
            true => answer(200, r#"{"hosts":[]}"#),
            false => forgetful(request),
        }
    })
    .await;
    machine.run_until(&server, |seen| count(seen, "POST /api/v0/hosts") == 1).await;
    machine.description = json!({"name": "web1", "interfaces": [], "customIdentifier": "i-1"});
    machine.keep(NOW, 1);
    machine.run_until(&server, |seen| count(seen, TSDB) == 1).await;
    assert_eq!(hosts.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn after_a_registration_that_was_refused_no_other_host_is_taken_for_this_one() {
    let machine = Machine::new();
    machine.keep(NOW, 1);
    let tries = AtomicUsize::new(0);
    let server = Server::start(move |request| match request.line.as_str() {
        "POST /api/v0/hosts" if tries.fetch_add(1, Ordering::SeqCst) < 2 => answer(429, r#"{"error":"slow down"}"#),
        _ => mackerel(request, accept),
    })
    .await;
    let requests = machine.run_until(&server, |seen| count(seen, TSDB) == 1).await;
    let post = "POST /api/v0/hosts";
    assert_eq!(lines(&requests)[..4], [post, post, post, "GET /api/v0/hosts/HOST1"]);
}

#[tokio::test]
async fn an_id_that_was_cut_short_is_restored_and_nothing_that_is_queued_for_the_whole_one_is_dropped() {
    let machine = Machine::registered();
    machine.keep(NOW, 2);
    machine.spool.keep_host_id("HOST1");
    fs::write(machine.folder.path().join("id"), "HOS").unwrap();
    let server = Server::start(|request| mackerel(request, accept)).await;
    machine.run_until(&server, |seen| count(seen, TSDB) == 1).await;
    assert_eq!(fs::read(machine.folder.path().join("id")).unwrap(), b"HOST1");
    machine.assert_ledger(2, 0, 0);
}

#[tokio::test]
async fn an_agent_that_is_stopped_right_after_its_folder_was_replaced_writes_its_id_there_again() {
    let machine = Machine::registered();
    let server = Server::start(|request| mackerel(request, accept)).await;
    let (root, elsewhere) = (machine.folder.path(), TempDir::new().unwrap());
    let script = async {
        server.until(|seen| count(seen, "PUT /api/v0/hosts/HOST1") == 1).await;
        fs::rename(root, elsewhere.path().join("root")).unwrap();
    };
    let (result, ()) = machine.run_during(&server, script).await;
    assert_eq!((result, fs::read(root.join("id")).unwrap()), (Ok(()), b"HOST1".to_vec()));
}

#[tokio::test]
async fn an_id_file_that_cannot_be_read_ends_nothing_is_a_fault_with_its_cure_and_is_read_once_it_can_be() {
    let machine = Machine::new();
    machine.keep(NOW, 2);
    let path = machine.folder.path().join("id");
    fs::create_dir(&path).unwrap();
    let server = Server::start(|request| mackerel(request, accept)).await;
    let (_reports, _documents, mut inbox) = inbox();
    let (lanes, running) = (inbox.lanes(), machine.run_with(&server, "key"));
    let script = async {
        let fault = loop {
            let facts = lanes.facts((PACE.instant)()).into_iter();
            if let Some(fault) = facts.filter(|facts| facts.kind == Kind::Description).find_map(|facts| facts.fault) {
                break fault;
            }
            tokio::task::yield_now().await;
        };
        assert!(fault.error.contains("cannot read") && fault.cure.contains("check what is at"), "{fault:?}");
        // In one step: an agent that sees no file registers another host.
        let (written, cwd) = (path.with_extension("written"), rustix::fs::CWD);
        fs::write(&written, "HOST1").unwrap();
        rustix::fs::renameat_with(cwd, &written, cwd, &path, rustix::fs::RenameFlags::EXCHANGE).unwrap();
        server.until(|seen| count(seen, TSDB) == 1).await;
        machine.shutdown.send(true).unwrap();
    };
    let (result, ()) = tokio::join!(running(&mut inbox), script);
    assert_eq!((result, count(&server.requests(), "POST /api/v0/hosts")), (Ok(()), 0));
}

#[tokio::test]
async fn what_is_queued_for_a_host_is_dropped_only_when_mackerel_has_confirmed_the_next_one() {
    let machine = Machine::new();
    machine.spool.keep_host_id("FORMER");
    machine.keep(NOW, 2);
    fs::write(machine.folder.path().join("id"), "HOST1").unwrap();
    let status = Arc::new(AtomicUsize::new(404));
    let answered = Arc::clone(&status);
    let server = Server::start(move |request| match (request.line.as_str(), answered.load(Ordering::SeqCst)) {
        ("GET /api/v0/hosts/HOST1", 404) => answer(404, r#"{"error":{"message":"Host Not Found."}}"#),
        ("GET /api/v0/hosts/HOST1", 503) => answer(503, ""),
        _ => mackerel(request, accept),
    })
    .await;
    for (requests, failure) in [(1, 404), (5, 503)] {
        status.store(failure, Ordering::SeqCst);
        let seen = machine.run_until(&server, |seen| seen.len() >= requests).await;
        assert!(lines(&seen).iter().all(|line| *line == "GET /api/v0/hosts/HOST1"), "{failure}");
        assert_eq!(machine.spool.host_id().as_deref(), Some("FORMER"));
        machine.assert_ledger(0, 2, 0);
    }
    status.store(200, Ordering::SeqCst);
    let put = "PUT /api/v0/hosts/HOST1";
    machine.run_until(&server, |seen| count(seen, put) == 1).await;
    assert_eq!(machine.spool.host_id().as_deref(), Some("HOST1"));
    assert_eq!((machine.spool.ledger().delivered, machine.spool.ledger().queued), (0, 0));
}

#[tokio::test]
async fn a_report_that_waits_is_not_posted_for_another_host_although_its_agent_was_only_reloaded() {
    let machine = Machine::registered();
    let is_down = Arc::new(AtomicBool::new(true));
    let down = Arc::clone(&is_down);
    let server = Server::start(move |request| match request.line.as_str() {
        REPORT if down.load(Ordering::SeqCst) => answer(503, ""),
        line if line.starts_with("GET /api/v0/hosts/") => {
            answer(200, &json!({"host": {"id": line.trim_start_matches("GET /api/v0/hosts/")}}).to_string())
        }
        _ => mackerel(request, accept),
    })
    .await;
    let (reports, _documents, mut inbox) = inbox();
    let early = report("early", Status::Critical, true);
    let lost = early.lost.clone();
    reports.send(early).await.unwrap();
    tokio::select! {
        result = machine.run_with(&server, "key")(&mut inbox) => panic!("{result:?}"),
        _ = server.until(|seen| count(seen, REPORT) > 0) => {}
    }
    fs::write(machine.folder.path().join("id"), "HOST2").unwrap();
    is_down.store(false, Ordering::SeqCst);
    let running = machine.run_with(&server, "another key");
    let script = async {
        while !lost.is_set() {
            tokio::task::yield_now().await;
        }
        reports.send(report("late", Status::Ok, true)).await.unwrap();
        server.until(|seen| seen.last().is_some_and(|last| last.body.contains("late"))).await;
        machine.shutdown.send(true).unwrap();
    };
    let (result, ()) = tokio::join!(running(&mut inbox), script);
    let of = |host: &str| reported(&server.requests(), |request| request.body.contains(host));
    assert_eq!((result, of("HOST2")), (Ok(()), vec!["late OK".to_owned()]));
    assert!(of("HOST1").iter().all(|report| report == "early CRITICAL"));
}

#[tokio::test]
async fn a_host_whose_id_never_arrived_is_found_by_its_earlier_name_and_with_interfaces_that_came_since() {
    let mut machine = Machine::new();
    let description = |name: &str, macs: &[&str]| {
        let interfaces = macs.iter().map(|mac| json!({"name": "eth", "macAddress": mac})).collect::<Vec<_>>();
        json!({"name": name, "interfaces": interfaces})
    };
    machine.keep(NOW, 1);
    let server = Server::start(|request| match request.line.as_str() {
        "POST /api/v0/hosts" => panic!("another host"),
        line if line.starts_with("GET /api/v0/hosts?name=localhost&") => {
            answer(200, &json!({"hosts": [listed("HOST1", NOW, "02:00:00:00:00:01")]}).to_string())
        }
        line if line.starts_with("GET /api/v0/hosts?name=") => answer(200, r#"{"hosts":[]}"#),
        _ => mackerel(request, accept),
    })
    .await;
    // Whatever it was called when the answer was lost.
    fs::write(machine.folder.path().join(".id.since"), format!("{NOW} localhost\n")).unwrap();
    machine.description = description("web1", &["02:00:00:00:00:01", "02:42:ac:11:00:01"]);
    machine.run_until(&server, |seen| count(seen, TSDB) == 1).await;
    assert_eq!(fs::read(machine.folder.path().join("id")).unwrap(), b"HOST1");
}

/// What a machine remembers of an attempt that was not answered.
fn remembered(name: &str) -> String {
    format!("{NOW} {name}\ntoken1\n")
}

/// A host in a list, with the mark of that attempt.
fn marked(id: &str, created_at: i64) -> Value {
    let mut host = listed(id, created_at, "02:00:00:00:00:01");
    host["meta"] = json!({"agent-name": "wasaba/0.1.0 registration token1"});
    host
}

#[tokio::test]
async fn a_machine_whose_id_file_is_gone_is_registered_again_and_the_log_names_the_host_that_it_was() {
    let machine = Machine::new();
    machine.spool.keep_host_id("BEFORE");
    let server = Server::start(|request| mackerel(request, accept)).await;
    let _log = testing::log::start();
    machine.run_until(&server, |seen| count(seen, "POST /api/v0/hosts") == 1).await;
    let lines = testing::log::take();
    let said = lines.iter().filter(|line| line.contains("which was host `BEFORE`")).count();
    assert_eq!(said, 1, "{lines:?}");
}

#[tokio::test]
async fn the_older_host_is_taken_if_an_earlier_request_is_carried_out_while_another_one_is_made() {
    let machine = Machine::new();
    fs::write(machine.folder.path().join(".id.since"), remembered("web1")).unwrap();
    let is_late = Arc::new(AtomicBool::new(false));
    let server = Server::start(move |request| match request.line.as_str() {
        "POST /api/v0/hosts" => {
            is_late.store(true, Ordering::SeqCst);
            answer(200, r#"{"id":"HOST2"}"#)
        }
        line if line.starts_with("GET /api/v0/hosts?name=") && is_late.load(Ordering::SeqCst) => {
            answer(200, &json!({"hosts": [marked("HOST2", NOW + 9), marked("HOST1", NOW + 5)]}).to_string())
        }
        _ => mackerel(request, accept),
    })
    .await;
    machine.keep(NOW, 1);
    let _log = testing::log::start();
    machine.run_until(&server, |seen| count(seen, TSDB) == 1).await;
    assert_eq!(fs::read(machine.folder.path().join("id")).unwrap(), b"HOST1");
    let lines = testing::log::take();
    assert!(lines.iter().any(|line| line.contains("this machine is host `HOST1`; retire host `HOST2`")), "{lines:?}");
}

#[tokio::test]
async fn a_host_is_found_under_each_of_the_names_that_its_machine_had_while_it_was_registered() {
    for (name, expected) in [("localhost", 1), ("dhcp", 1), ("web1", 1), ("other", 2)] {
        let mut machine = Machine::new();
        let hosts = Arc::new(Mutex::new(Vec::<Value>::new()));
        let (known, is_last) = (Arc::clone(&hosts), Arc::new(AtomicBool::new(false)));
        let is_shown = Arc::clone(&is_last);
        // Of the requests, only that under one name is carried out, and none is answered.
        let server = Server::start(move |request| {
            let body = || serde_json::from_str::<Value>(&request.body).unwrap();
            let mut hosts = known.lock().unwrap();
            match request.line.as_str() {
                "POST /api/v0/hosts" if body()["name"] == "cloud" => {
                    hosts.push(json!({}));
                    answer(200, r#"{"id":"HOST2"}"#)
                }
                "POST /api/v0/hosts" => {
                    if body()["name"] == name && hosts.is_empty() {
                        let mut host = body();
                        (host["id"], host["createdAt"]) = ("HOST1".into(), NOW.into());
                        hosts.push(host);
                    }
                    String::new()
                }
                // The list has it only when the machine has its last name.
                line if line.starts_with(&format!("GET /api/v0/hosts?name={name}&")) => {
                    let shown = if is_shown.load(Ordering::SeqCst) { hosts.clone() } else { Vec::new() };
                    answer(200, &json!({ "hosts": shown }).to_string())
                }
                _ => mackerel(request, accept),
            }
        })
        .await;
        for name in ["localhost", "dhcp", "web1"] {
            machine.description = json!({ "name": name });
            let is_posted = |request: &Request| request.line == "POST /api/v0/hosts" && request.body.contains(name);
            machine.run_until(&server, |seen| seen.iter().any(is_posted)).await;
        }
        is_last.store(true, Ordering::SeqCst);
        machine.description = json!({"name": "cloud"});
        machine.keep(NOW, 1);
        machine.run_until(&server, |seen| count(seen, TSDB) == 1).await;
        assert_eq!(fs::read_to_string(machine.folder.path().join("id")).unwrap(), format!("HOST{expected}"), "{name}");
        assert_eq!(hosts.lock().unwrap().len(), 1, "{name}");
    }
}

#[tokio::test]
async fn a_machine_that_was_made_of_anothers_disk_while_that_was_registered_is_a_host_of_its_own_and_a_rebooted_one_is_not()
 {
    let ids = |hardware: &str, boot: &str| MachineIds {
        machine: Some("same".to_owned()),
        hardware: Some(hardware.to_owned()),
        boot: Some(boot.to_owned()),
    };
    for (hardware, mac, expected) in [("one", "02:00:00:00:00:01", "HOST1"), ("another", "02:00:00:00:00:09", "HOST2")]
    {
        let mut machine = Machine::new();
        let described = |mac: &str| json!({"name": "web1", "interfaces": [{"name": "eth0", "macAddress": mac}]});
        (machine.ids, machine.description) = (ids("one", "first"), described("02:00:00:00:00:01"));
        let hosts = Arc::default();
        let server = Server::start({
            let forgetful = forgetful(true, &hosts);
            let posts = AtomicUsize::new(0);
            move |request| match request.line.as_str() {
                "POST /api/v0/hosts" if posts.fetch_add(1, Ordering::SeqCst) > 0 => answer(200, r#"{"id":"HOST2"}"#),
                "GET /api/v0/hosts/HOST2" => answer(200, r#"{"host":{"id":"HOST2"}}"#),
                _ => forgetful(request),
            }
        })
        .await;
        machine.run_until(&server, |seen| count(seen, "POST /api/v0/hosts") == 1).await;
        (machine.ids, machine.description) = (ids(hardware, "second"), described(mac));
        machine.keep(NOW, 1);
        machine.run_until(&server, |seen| count(seen, TSDB) == 1).await;
        assert_eq!(fs::read_to_string(machine.folder.path().join("id")).unwrap(), expected);
    }
}

#[tokio::test]
async fn a_host_is_found_among_any_number_of_the_same_name_whose_list_says_nothing_about_them() {
    for marks in [true, false] {
        let machine = Machine::new();
        fs::write(machine.folder.path().join(".id.since"), remembered("web1")).unwrap();
        machine.keep(NOW, 1);
        let server = Server::start(move |request| match request.line.as_str() {
            "POST /api/v0/hosts" if marks => panic!("another host"),
            line if line.starts_with("GET /api/v0/hosts?name=web1&") => {
                let all = (0..130).map(|number| json!({"id": format!("OTHER{number}"), "createdAt": NOW + number}));
                let own = json!({"id": "HOST1", "createdAt": NOW + 200});
                answer(200, &json!({"hosts": all.chain(marks.then_some(own)).collect::<Vec<_>>()}).to_string())
            }
            "GET /api/v0/hosts/HOST1" if marks => answer(200, &json!({"host": marked("HOST1", NOW)}).to_string()),
            line if line.starts_with("GET /api/v0/hosts/OTHER") => {
                let id = line.trim_start_matches("GET /api/v0/hosts/");
                answer(
                    200,
                    &json!({"host": {"id": id, "meta": {"agent-name": "wasaba/0.1.0 registration other"}}}).to_string(),
                )
            }
            _ => mackerel(request, accept),
        })
        .await;
        let requests = machine.run_until(&server, |seen| count(seen, TSDB) == 1).await;
        assert_eq!(fs::read(machine.folder.path().join("id")).unwrap(), b"HOST1");
        let of_others = requests.iter().filter(|request| request.line.starts_with("GET /api/v0/hosts/OTHER")).count();
        assert_eq!(of_others, 130, "each is looked at once");
    }
}

#[tokio::test]
async fn values_are_posted_although_the_host_cannot_be_looked_up_or_its_status_set() {
    for (line, response) in [
        ("GET /api/v0/hosts/HOST1", Some(answer(500, ""))),
        ("GET /api/v0/hosts/HOST1", Some(answer(403, ""))),
        ("GET /api/v0/hosts/HOST1", Some(answer(200, "{}"))),
        ("GET /api/v0/hosts/HOST1", None),
        ("POST /api/v0/hosts/HOST1/status", Some(answer(400, r#"{"error":"no"}"#))),
        ("POST /api/v0/hosts/HOST1/status", None),
    ] {
        let mut machine = Machine::registered();
        machine.status = Some("working".to_owned());
        machine.keep(NOW, 3);
        let said = response.clone();
        let server = Server::start_pending(move |request| match request.line == line {
            true => said.clone(),
            false => Some(mackerel(request, accept)),
        })
        .await;
        machine.run_until(&server, |seen| count(seen, TSDB) == 1).await;
        machine.assert_ledger(3, 0, 0);
    }
}

#[tokio::test]
async fn values_are_posted_for_a_confirmed_host_that_is_another_one_than_before_although_its_status_cannot_be_set() {
    let mut machine = Machine::registered();
    machine.spool.keep_host_id("FORMER");
    machine.status = Some("working".to_owned());
    let server = Server::start(|request| match request.line.as_str() {
        "POST /api/v0/hosts/HOST1/status" => answer(500, ""),
        _ => mackerel(request, accept),
    })
    .await;
    let script = async {
        server.until(|seen| count(seen, "POST /api/v0/hosts/HOST1/status") > 0).await;
        while machine.spool.host_id().as_deref() != Some("HOST1") {
            tokio::task::yield_now().await;
        }
        machine.keep(NOW, 3);
        server.until(|seen| count(seen, TSDB) == 1).await;
    };
    assert_eq!(machine.run_during(&server, script).await.0, Ok(()));
    machine.assert_ledger(3, 0, 0);
}

#[tokio::test]
async fn a_copied_disk_image_is_found_out_even_if_the_first_look_up_fails() {
    let mut machine = Machine::registered();
    machine.description = json!({"customIdentifier": "i-2"});
    let tries = AtomicUsize::new(0);
    let server = Server::start(move |request| match request.line.as_str() {
        "GET /api/v0/hosts/HOST1" if tries.fetch_add(1, Ordering::Relaxed) == 0 => answer(503, ""),
        "GET /api/v0/hosts/HOST1" => answer(200, r#"{"host":{"id":"HOST1","customIdentifier":"i-1"}}"#),
        _ => mackerel(request, accept),
    })
    .await;
    let error = machine.fatal(&server).await;
    assert!(error.starts_with("host `HOST1` belongs to the cloud instance `i-1`, but this one is `i-2`:"), "{error}");
}

#[tokio::test]
async fn a_cloud_instance_finds_its_earlier_host() {
    let mut machine = Machine::new();
    machine.description = json!({"name": "web1", "customIdentifier": "i-1.ec2.amazonaws.com"});
    let server = Server::start(|request| {
        if request.line.starts_with("GET /api/v0/hosts?customIdentifier=i-1.ec2.amazonaws.com&status=working") {
            answer(200, r#"{"hosts":[{"id":"HOST1"}]}"#)
        } else {
            mackerel(request, accept)
        }
    })
    .await;
    let requests = machine.run_until(&server, |seen| seen.len() >= 2).await;
    assert_eq!(count(&requests, "POST /api/v0/hosts"), 0);
    assert_eq!(fs::read(machine.folder.path().join("id")).unwrap(), b"HOST1");
}

#[tokio::test]
async fn a_copied_disk_image_does_not_post_as_the_other_machine() {
    let mut machine = Machine::registered();
    machine.description = json!({"customIdentifier": "i-2"});
    let server = Server::start(|_| answer(200, r#"{"host":{"id":"HOST1","customIdentifier":"i-1"}}"#)).await;
    let error = machine.fatal(&server).await;
    assert!(error.starts_with("host `HOST1` belongs to the cloud instance `i-1`, but this one is `i-2`:"), "{error}");
}

#[tokio::test]
async fn a_cloud_machine_without_an_answer_from_its_metadata_service_retries_instead_of_ending() {
    let mut machine = Machine::registered();
    machine.asks_cloud = true;
    let server = Server::start(|_| answer(200, r#"{"host":{"id":"HOST1","customIdentifier":"i-1"}}"#)).await;
    let get = "GET /api/v0/hosts/HOST1";
    let requests = machine.run_until(&server, |seen| count(seen, get) == 2).await;
    assert_eq!(requests.len(), 2, "nothing is posted for a host that may be another machine");
}
