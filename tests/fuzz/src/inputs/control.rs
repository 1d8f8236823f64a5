//! The control socket: what is asked, and what the agent answers; and the history, from which it answers.

use delivery::spool::Spool;
use show::feed::Request;
use show::plots::plots;
use show::state::AgentState;

/// What a reader sends.
pub fn request(data: &[u8]) {
    let Ok(request) = serde_json::from_slice::<Request>(data) else { return };
    let again = serde_json::to_vec(&request).unwrap();
    assert_eq!(serde_json::from_slice::<Request>(&again).unwrap(), request);
    if let Request::Series { keys, .. } = request {
        // However metrics are called, each is drawn once.
        let drawn = plots(&keys, &[]).iter().map(|plot| plot.lines.len()).sum::<usize>();
        assert_eq!(drawn, keys.iter().collect::<std::collections::BTreeSet<_>>().len());
    }
}

/// A file of the history, whoever has written it: the agent opens, and shows values or gaps.
pub fn history(data: &[u8]) {
    const NOW: i64 = 1_800_000_000;
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("wasaba.history"), data).unwrap();
    let spool = Spool::open(root.path(), NOW).unwrap();
    let keys = spool.history_keys(NOW).unwrap();
    assert!(keys.len() <= delivery::spool::MOST_METRICS);
    let series = spool.history(keys, 0, NOW).unwrap();
    assert!(series.values.values().all(|values| values.len() == series.minutes));
}

/// What `wasaba status`, `wasaba health` and `wasaba plugin list` read.
pub fn report(data: &[u8]) {
    let Ok(report) = serde_json::from_slice::<AgentState>(data) else { return };
    let again = serde_json::to_vec(&report).unwrap();
    assert_eq!(serde_json::from_slice::<AgentState>(&again).unwrap(), report);
    let (Ok(line) | Err(line)) = report.judge();
    assert!(!line.is_empty());
}
