//! A day of outage: the queue of a host with thousands of metrics, and how it is delivered once Mackerel answers again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use delivery::spool::{Minute, Spool};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use wasaba_core::sample::Sample;
use wasaba_e2e::agent::Home;
use wasaba_e2e::unix_seconds;
use wasaba_e2e::zoo::memory_mb;

/// Of a day.
const MINUTES: i64 = 24 * 60;

/// What a day of outage costs.
pub(crate) struct Outage {
    pub queue_mb: f64,
    pub seconds: f64,
    pub requests: u64,
    pub points: u64,
    /// The most of the agent while it delivers.
    pub anonymous_mb: f64,
    /// The same of an agent with an empty queue.
    pub anonymous_before_mb: f64,
}

/// A server that accepts everything, and counts values.
#[derive(Default)]
struct Counting {
    requests: AtomicU64,
    points: AtomicU64,
}

impl Counting {
    async fn serve(self: Arc<Self>, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let (mut line, mut length) = (String::new(), 0);
            stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
            loop {
                let mut header = String::new();
                stream.read_line(&mut header).await.ok()?;
                if let Some((_, value)) =
                    header.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case("content-length"))
                {
                    length = value.trim().parse().ok()?;
                }
                if header.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.ok()?;
            if line.starts_with("POST /api/v0/tsdb") {
                self.requests.fetch_add(1, Ordering::SeqCst);
                let points = body.windows(8).filter(|part| part == b"\"value\":").count();
                self.points.fetch_add(points as u64, Ordering::SeqCst);
            }
            let body = match line.split(' ').next()? {
                "GET" => r#"{"host":{"id":"HOST1","name":"web1","status":"working"}}"#,
                "PUT" => r#"{"id":"HOST1","success":true}"#,
                _ => r#"{"success":true}"#,
            };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + body).as_bytes()).await.ok()?;
        }
    }
}

/// Numbers that have nothing in common, which no encoding makes short.
fn random() -> impl FnMut() -> f64 {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as f64 / 1e6
    }
}

/// Queues a day of this many metrics in the root of `home`, and returns the size of the file.
fn queue(home: &Home, metrics: usize) -> f64 {
    std::fs::create_dir_all(home.root()).unwrap();
    std::fs::write(home.root().join("id"), "HOST1").unwrap();
    // The newest a little ahead, so that the oldest are not too old before they are delivered.
    let newest = unix_seconds() as i64 / 60 * 60 + 5 * 60;
    let (spool, mut random) = (Spool::open(&home.root(), newest).unwrap(), random());
    for number in 0..MINUTES {
        let samples =
            (0..metrics).map(|metric| Sample::new(format!("custom.app{}.metric{metric}", metric % 40), random()));
        let minute =
            Minute { time: newest - (MINUTES - 1 - number) * 60, samples: samples.map(Result::unwrap).collect() };
        spool.keep(vec![minute], &[], newest);
    }
    let ledger = spool.close(Duration::from_secs(2));
    assert_eq!(ledger.queued, MINUTES as u64 * metrics as u64, "{ledger}");
    std::fs::metadata(home.root().join("wasaba.db")).unwrap().len() as f64 / 1e6
}

/// Anonymous memory at most, until `is_over`.
async fn most_anonymous_mb(pid: u32, is_over: impl Fn() -> bool) -> f64 {
    let mut most: f64 = 0.0;
    let begin = Instant::now();
    while !is_over() {
        most = most.max(memory_mb(pid, "Anonymous").unwrap());
        assert!(begin.elapsed() < Duration::from_mins(15), "the queue is not delivered");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    most
}

/// Measures a day of this many metrics.
pub(crate) async fn a_day(metrics: usize) -> Outage {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let counting = Arc::new(Counting::default());
    let server = Arc::clone(&counting);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(Arc::clone(&server).serve(stream));
        }
    });
    let config = format!("apikey = \"key\"\napibase = {url:?}\n");
    let empty = Home::with(&config);
    std::fs::create_dir_all(empty.root()).unwrap();
    std::fs::write(empty.root().join("id"), "HOST1").unwrap();
    let agent = empty.start(&[]);
    let is_over = AtomicBool::new(false);
    let (anonymous_before_mb, ()) =
        tokio::join!(most_anonymous_mb(agent.pid(), || is_over.load(Ordering::SeqCst)), async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            is_over.store(true, Ordering::SeqCst);
        });
    drop(agent);

    let home = Home::with(&config);
    let queue_mb = tokio::task::block_in_place(|| queue(&home, metrics));
    let (requests, points) = (counting.requests.load(Ordering::SeqCst), counting.points.load(Ordering::SeqCst));
    let all = MINUTES as u64 * metrics as u64;
    let begin = Instant::now();
    let agent = home.start(&[]);
    let delivered = || counting.points.load(Ordering::SeqCst) - points;
    let anonymous_mb = most_anonymous_mb(agent.pid(), || delivered() >= all).await;
    Outage {
        queue_mb,
        seconds: begin.elapsed().as_secs_f64(),
        requests: counting.requests.load(Ordering::SeqCst) - requests,
        points: delivered(),
        anonymous_mb,
        anonymous_before_mb,
    }
}
