//! A metrics program as a source that is asked every minute.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use wasaba_core::collect::registry::{Graphs, Registry};
use wasaba_core::collect::source::Source;
use wasaba_core::collect::{Answer, Fault, Moment};
use wasaba_core::graph::GraphDefinition;
use wasaba_core::text::first_of;

use super::process::{self, End};
use super::{MetricsProgram, lines, meta};

/// The variable that asks a program for its graph definitions, if it is 1, instead of its values.
const META: &str = "MACKEREL_AGENT_PLUGIN_META";

/// How long a run may take beyond its timeout: until it is killed, and until that is noticed.
const BEYOND: Duration = Duration::from_secs(15);

/// More warnings about its lines would only fill the log.
const MOST_WARNINGS: usize = 5;

/// The program as a source.
#[must_use]
pub fn source_of(program: Arc<MetricsProgram>) -> Source {
    let name = format!("plugin {}", program.name).into();
    let every_minutes = program.posting.every_minutes;
    let mut source = Source::new(name, program.program.timeout.saturating_add(BEYOND), move |moment| {
        let program = Arc::clone(&program);
        Box::pin(async move { collect(&program, moment).await })
    });
    source.every_minutes = every_minutes;
    source
}

/// How long after a program failed to print its graph definitions it is asked again.
const ASKED_AGAIN: Duration = Duration::from_secs(10 * 60);

/// A program that is asked every minute until this is dropped.
#[must_use = "dropping it stops the program"]
pub struct Running {
    asking: JoinHandle<()>,
}

/// Asks the program every minute, and for its graph definitions at once, until the returned guard is dropped.
pub fn start(program: Arc<MetricsProgram>, registry: &Registry) -> Running {
    let registered = registry.add(source_of(Arc::clone(&program)));
    let asking = tokio::spawn(async move {
        let definitions = definitions(&program).await;
        let owner = format!("plugin {}", program.name).into();
        let host = program.posting.custom_identifier.clone();
        registered.define(Graphs { owner, host, definitions, is_of_agent: false });
        // It is removed when this task is dropped.
        std::future::pending::<()>().await;
    });
    Running { asking }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

/// The program's graph definitions; asks until it prints them.
async fn definitions(program: &MetricsProgram) -> Vec<GraphDefinition> {
    loop {
        match graphs(program).await {
            Ok(graphs) => return graphs,
            Err(why) => tracing::warn!("plugin {}: cannot get its graph definitions: {why}", program.name),
        }
        tokio::time::sleep(ASKED_AGAIN).await;
    }
}

async fn collect(program: &MetricsProgram, moment: Moment) -> Result<Answer, Fault> {
    let run = process::run(&program.program, &[(META, "")]).await;
    if let Some(line) = run.stderr_line() {
        tracing::info!("plugin {}: {line}", program.name);
    }
    // The code does not matter if there are values: many a program exits with 1 although its values are good.
    let code = match &run.end {
        End::Exited(code) => *code,
        end => return Err(Fault::new(program.program.failure(end))),
    };
    let text = String::from_utf8_lossy(&run.stdout);
    let lines::Values { samples, dated, warnings } =
        lines::values(&text, moment.unix_seconds, &program.posting, program.own_timestamps);
    if samples.is_empty() && dated.is_empty() && code != 0 && warnings.is_empty() {
        return Err(Fault::new(format!("exited with code {code} and printed no values")));
    }
    Ok(Answer { samples, dated, warnings: first_of(warnings, MOST_WARNINGS), ..Answer::default() })
}

/// The program's graph definitions; empty if it prints none.
///
/// # Errors
/// It could not be run, or its output is invalid; the next time may be better.
pub async fn graphs(program: &MetricsProgram) -> Result<Vec<GraphDefinition>, String> {
    let run = process::run(&program.program, &[(META, "1")]).await;
    if !matches!(run.end, End::Exited(_)) {
        return Err(program.program.failure(&run.end));
    }
    let Some(meta) = meta::read(&String::from_utf8_lossy(&run.stdout))? else {
        tracing::debug!("plugin {} has no graph definitions", program.name);
        return Ok(Vec::new());
    };
    for warning in meta.warnings {
        tracing::warn!("plugin {}: {warning}", program.name);
    }
    Ok(meta.graphs)
}

#[cfg(test)]
mod tests {
    use wasaba_core::posting::Posting;

    use super::super::{Command, Program};
    use super::*;

    fn program(line: &str) -> MetricsProgram {
        MetricsProgram {
            name: "p".into(),
            program: Program {
                command: Command::Shell(line.to_owned()),
                user: None,
                environment: Vec::new(),
                timeout: Duration::from_secs(20),
            },
            posting: Posting::default(),
            own_timestamps: false,
        }
    }

    async fn collected(line: &str) -> Result<Answer, Fault> {
        let moment = Moment { unix_seconds: 60, instant: std::time::Instant::now() };
        collect(&program(line), moment).await
    }

    #[tokio::test]
    async fn the_exit_code_does_not_matter_if_there_are_values() {
        assert_eq!(collected("echo a 1 0; exit 1").await.unwrap().samples.len(), 1);
        assert!(collected("exit 1").await.unwrap_err().text.contains("code 1"));
        assert_eq!(collected("true").await.unwrap(), Answer::default());
    }

    #[tokio::test]
    async fn a_variable_asks_the_program_for_its_graph_definitions_instead_of_its_values() {
        let line = "if [ \"$MACKEREL_AGENT_PLUGIN_META\" = 1 ]; then echo '# mackerel-agent-plugin'; \
                    echo '{\"graphs\":{\"g\":{}}}'; else echo \"${MACKEREL_AGENT_PLUGIN_META-unset}a 1 0\"; fi";
        assert_eq!(collected(line).await.unwrap().samples[0].name().as_str(), "custom.a");
        assert_eq!(graphs(&program(line)).await.unwrap()[0].name(), "custom.g");
        assert_eq!(graphs(&program("echo a 1 0")).await.unwrap(), []);
        assert!(graphs(&program("echo '# mackerel-agent-plugin'; echo '{'")).await.is_err());
    }

    #[tokio::test]
    async fn a_flood_of_invalid_lines_gives_a_few_warnings() {
        let answer = collected("for i in 1 2 3 4 5 6 7 8; do echo a$i x 0; done").await.unwrap();
        assert_eq!(answer.warnings.len(), MOST_WARNINGS + 1);
        assert_eq!(answer.warnings.last().map(String::as_str), Some("and 3 more"));
    }
}
