//! A plugin that misbehaves on request: its setting `do` says how. Only the tests use it.

use wasaba_plugin::{Error, Graph, Metric, Plugin, Sample, Setting, Settings, Unit, http, log};

wasaba_plugin::export!(describe, collect);

fn describe() -> Plugin {
    Plugin::new("naughty", env!("CARGO_PKG_VERSION"), "misbehaves on request")
        .setting(Setting::text("do").default("nothing").help("what to do wrong"))
        .setting(
            Setting::text("url").default("http://localhost/").help("what `fetch` fetches; text, so it grants nothing"),
        )
        .setting(Setting::secret("token").help("something that must not be seen"))
        .graph(Graph::new("naughty", "Naughty", Unit::Float).metric(Metric::gauge("good", "Good")))
}

fn collect(settings: &Settings) -> Result<Vec<Sample>, Error> {
    let good = || Sample::new("naughty.good", 1.0);
    match settings.text("do")? {
        "fetch" => {
            let answer = http::get(settings.text("url")?).send()?;
            Ok(vec![Sample::new("naughty.good", f64::from(answer.status))])
        }
        "loop" => loop {
            std::hint::black_box(());
        },
        "panic" => {
            // Not `panic!`, which the lints of a plugin forbid for good reason.
            std::process::abort();
        }
        "memory" => {
            let mut hoard = Vec::new();
            while hoard.len() < 1_000 {
                hoard.push(vec![1_u8; 1 << 20]);
            }
            Ok(vec![Sample::new("naughty.good", hoard.len() as f64)])
        }
        "flood" => {
            for number in 0..1_000 {
                log::info(format!("line {number}"));
            }
            Ok(vec![good()])
        }
        "bad-samples" => Ok(vec![good(), Sample::new("naughty.nan", f64::NAN), Sample::new("naughty.\u{1b}[2J", 1.0)]),
        "many-samples" => Ok((0..100_000).map(|number| Sample::new(format!("naughty.n{number}"), 1.0)).collect()),
        "blame-secret" => Err(Error::Misconfigured("the token was refused".into())),
        _ => Ok(vec![good()]),
    }
}
