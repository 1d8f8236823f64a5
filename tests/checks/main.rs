//! A check's component in a running keeper: it is loaded, skipped and replaced like a metrics plugin.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking, with the reason")]
#![expect(clippy::disallowed_methods, reason = "tests make and read the files that they need")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use config::check::Runner;
use config::table::PluginTable;
use plugins::components::Components;
use plugins::keeper::{self, Context};
use plugins::key::Key;
use plugins::register::Register;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use wasaba_core::collect::memory::Forgetful;
use wasaba_core::collect::rounds::Rounds;

/// Much longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// An agent's root with a component whose check crashes, compiled by the program that is tested.
struct Home {
    root: tempfile::TempDir,
    component: PathBuf,
}

impl Home {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let component = root.path().join("failing.wasm");
        std::fs::write(&component, wat::parse_str(include_str!("failing.wat")).unwrap()).unwrap();
        let conf = root.path().join("agent.conf");
        std::fs::write(&conf, "").unwrap();
        let mut compile = Command::new(env!("CARGO_BIN_EXE_wasaba"));
        compile.args(["plugin", "compile", "-conf"]).arg(&conf).arg("-root").arg(root.path()).arg(&component);
        let compiled = compile.output().unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        Self { root, component }
    }

    /// The configuration of the check, and the check's table in it.
    fn config(&self, timeout_seconds: u32) -> (Arc<Config>, PluginTable) {
        let component = self.component.display();
        let text = format!("[plugin.checks.web]\nwasm = \"{component}\"\ntimeout_seconds = {timeout_seconds}\n");
        let (config, _) = config::parse(Path::new("agent.conf"), &text).unwrap();
        let config = Config { root: self.root.path().into(), ..config };
        let Some(Runner::Component(table)) = config.checks.first().map(|check| check.runner.clone()) else {
            panic!("the check is not a component")
        };
        (Arc::new(config), *table)
    }
}

/// A keeper, and where schedules find its components.
struct Kept {
    configs: watch::Sender<Arc<Config>>,
    register: Register,
    components: Components,
    keeper: JoinHandle<()>,
}

impl Kept {
    fn start(config: Arc<Config>) -> Self {
        let (configs, register) = (watch::Sender::new(config), Register::default());
        let (rounds, _defined) = Rounds::new();
        let context = Context {
            registry: rounds.registry(),
            register: register.clone(),
            memory: Arc::new(Forgetful),
            witness: Arc::new(|_, _| true),
        };
        let keeper = tokio::spawn(keeper::keep(configs.subscribe(), context, oneshot::channel().0));
        let components = Components::new(register.clone(), Arc::new(Forgetful));
        Self { configs, register, components, keeper }
    }

    /// Why the check fails.
    async fn failure(&self, table: &PluginTable) -> String {
        let name = "web".into();
        tokio::time::timeout(SOON, self.components.check(&name, table)).await.unwrap().unwrap_err()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

#[tokio::test]
async fn a_check_that_keeps_crashing_is_skipped_by_the_circuit_like_a_metrics_plugin() {
    let home = Home::new();
    let (config, table) = home.config(10);
    let kept = Kept::start(config);
    let mut failures = Vec::new();
    for _ in 0..4 {
        failures.push(kept.failure(&table).await);
    }
    let crashed = "crashed (a panic or abort inside the plugin)";
    let skipping = format!("{crashed}; skipping the next minute after 3 consecutive failures");
    assert_eq!(failures, [crashed, crashed, &skipping, &skipping]);
    let status = kept.register.instance(&Key::check(&"web".into())).unwrap().status();
    assert_eq!((status.calls, status.failure), (3, Some(skipping)), "the fourth call was skipped");
}

#[tokio::test]
async fn the_instance_of_a_replaced_table_is_dropped() {
    let home = Home::new();
    let (config, table) = home.config(10);
    let kept = Kept::start(config);
    kept.failure(&table).await;
    let old = Arc::downgrade(&kept.register.instance(&Key::check(&"web".into())).unwrap());
    let (config, table) = home.config(20);
    kept.configs.send_replace(config);
    kept.failure(&table).await;
    let dropped = async {
        while old.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, dropped).await.expect("the old instance is dropped");
    assert_eq!(kept.register.instance(&Key::check(&"web".into())).unwrap().status().calls, 1);
}
