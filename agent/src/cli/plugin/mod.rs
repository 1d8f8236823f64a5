//! `wasaba plugin ...`: the commands around plugins, a file each, and the loading that they share.

pub mod author;
pub mod compile;
pub mod inspect;
pub mod list;
pub mod run;
pub mod test;
pub mod time;

use std::ffi::OsString;
use std::iter;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use config::document::Problem;
use config::table::PluginTable;
use official::command_line::CommandLine;
use plugins::instance::Instance;
use plugins::loader::{Loader, demands};
use plugins::settings::{Refused, Typed, lines, resolve};
use sandbox::compile::Order;
use sandbox::component::{Demands, Plugin};
use sandbox::foreground;
use wasaba_core::limits::{Engine, Limits};
use wasaba_core::text::printable;

use super::flags::{AgentFlags, Line, PluginCommand};
use crate::process::{log, owner};

/// Runs the command.
///
/// # Errors
/// The failure of the command.
pub fn run(command: PluginCommand) -> Result<(), String> {
    match command {
        PluginCommand::Run { agent, explain, plugin, settings } => run::run(&agent, explain, &plugin, &settings),
        PluginCommand::Inspect { agent, json, plugin } => inspect::run(&agent, json, &plugin),
        PluginCommand::Compile { agent, engine, plugins } => compile::run(&agent, &engine, &plugins),
        PluginCommand::List { agent, json } => list::run(&agent, json),
        PluginCommand::Time { agent, engine, calls, whole, plugin, settings } => {
            time::run(&agent, &engine, (calls, whole), &plugin, &settings)
        }
        PluginCommand::New { lang, name } => author::run("new", [lang, name].map(OsString::from)),
        PluginCommand::Build { folder } => author::run("build", [folder.into_os_string()]),
        PluginCommand::Dev { folder, settings } => {
            author::run("dev", iter::once(folder.into_os_string()).chain(settings.into_iter().map(OsString::from)))
        }
        PluginCommand::Test { agent, plugin, cases } => test::run(&agent, plugin, &cases),
        PluginCommand::Compiler {
            engine,
            cpu_seconds,
            memory_bytes,
            instances,
            start_bytes,
            table_elements,
            awaited,
        } => {
            let limits = Limits { instances, memory_bytes: start_bytes, table_elements, ..Limits::default() };
            let order =
                Order { engine: self::engine(&engine)?, cpu_seconds, memory_bytes, limits, is_awaited: awaited };
            sandbox::compile::compile(&order, std::io::stdin().lock(), std::io::stdout().lock())
        }
    }
}

/// As [`with_loader`], for what is called `wanted`: a name is looked up as the agent does it, by its user. A path is what the caller can read.
fn with_loader_for<T>(
    flags: &AgentFlags,
    wanted: &str,
    work: impl AsyncFnOnce(&Config, &Loader) -> Result<T, String>,
) -> Result<T, String> {
    if !wanted.contains('/') && !wanted.ends_with(".wasm") {
        flags.become_agent()?;
    }
    with_loader(flags, work)
}

/// Runs `work` with a loader for the configuration that the flags name. Compiled plugins are cached in the agent's root, or, for a
/// user who should not write there, such as a plugin's author, in the user's own cache folder.
fn with_loader<T>(
    flags: &AgentFlags,
    work: impl AsyncFnOnce(&Config, &Loader) -> Result<T, String>,
) -> Result<T, String> {
    let config = flags.config_for_command()?;
    foreground::awaits_compilers();
    let runtime = super::runtime()?;
    let result = runtime.block_on(async {
        let own_cache = || own_cache().filter(|_| flags.root.is_none());
        let of_agent = match own_cache() {
            Some(_) if owner::is_other(&config.root) => Err("the agent's cache is another user's".to_owned()),
            _ => plugins::keeper::loader(&config),
        };
        let loader = of_agent.or_else(|why| Loader::new(&own_cache().ok_or(why)?, plugins::keeper::folders(&config)));
        work(&config, &loader?).await
    });
    runtime.shutdown_background();
    result
}

/// The folder of the XDG base directory specification.
fn own_cache() -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(absolute);
    let home = || std::env::var_os("HOME").map(PathBuf::from).filter(absolute);
    named.or_else(|| Some(home()?.join(".cache"))).map(|folder| folder.join("wasaba"))
}

/// The engine of this name.
fn engine(name: &str) -> Result<Engine, String> {
    Engine::named(name).ok_or_else(|| format!("-engine must be pulley or native, not {name:?}"))
}

/// The file of the plugin that the command line calls `wanted`: the path of a file, or a name as in the configuration; and whether it
/// is the path.
fn plugin_file(loader: &Loader, wanted: &str) -> Result<(PathBuf, bool), String> {
    if wanted.ends_with(".wasm") && Path::new(wanted).is_file() {
        return Ok((wanted.into(), true));
    }
    loader.folders.find(wanted).map(|file| (file, false))
}

/// The table of the configuration for `wanted`, or that in the file beside it which a drop-in plugin has, or one with the defaults.
///
/// # Errors
/// The file beside it is invalid.
fn table(config: &Config, wanted: &str) -> Result<PluginTable, String> {
    if let Some(configured) = config.components().find(|table| table.name == wanted) {
        return Ok(configured.clone());
    }
    let file = Path::new(wanted);
    if wanted.ends_with(".wasm") && file.with_extension("toml").is_file() {
        let text = |problems: Vec<Problem>| problems.iter().map(|one| one.without_level()).collect::<Vec<_>>();
        let (table, warnings) = config::plugin::beside(file).map_err(|problems| text(problems).join("\n"))?;
        text(warnings).iter().for_each(|warning| tracing::warn!("{warning}"));
        return Ok(table);
    }
    let name = file.file_stem().map_or(wanted.into(), |stem| stem.to_string_lossy());
    Ok(PluginTable { name: name.into_owned(), wasm: wanted.to_owned(), ..PluginTable::default() })
}

/// How long a command loads a plugin before it says that it compiles it: most are compiled before anyone could read it.
const MOMENT: Duration = Duration::from_millis(400);

/// The plugin in `file`. If it has to be compiled, which may take many seconds, the command says so.
async fn plugin(loader: &Loader, demands: &Demands, file: &Path) -> Result<Arc<Plugin>, String> {
    let mut loading = pin!(loader.plugin(demands, file));
    loop {
        match tokio::time::timeout(MOMENT, &mut loading).await {
            Ok(plugin) => return plugin,
            Err(_) if foreground::is_compiling() => break,
            Err(_) => {}
        }
    }
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    log::print(&format!("compiling {}, once; this may take some seconds\n", printable(&name, 200)));
    loading.await
}

/// A plugin that a command loaded, and the table that it runs with.
struct Loaded {
    plugin: Arc<Plugin>,
    table: PluginTable,
}

/// Loads the plugin that the command line calls `wanted`, for `engine` or for the one of its table.
async fn load(config: &Config, loader: &Loader, wanted: &str, engine: Option<Engine>) -> Result<Loaded, String> {
    let table = table(config, wanted)?;
    let table = PluginTable { engine: engine.unwrap_or(table.engine), ..table };
    let (file, is_typed) = plugin_file(loader, &table.wasm)?;
    let plugin = plugin(loader, &Demands { is_typed, ..demands(&table) }, &file).await?;
    Ok(Loaded { plugin, table })
}

impl Loaded {
    /// An instance with the flags that were typed after `wanted` on top of the table's settings, and the parsed flags; for
    /// `wasaba plugin COMMAND`.
    async fn instance(
        self,
        command: &str,
        loader: &Loader,
        wanted: &str,
        flags: &[String],
    ) -> Result<(Instance, CommandLine), String> {
        let Self { plugin, table } = self;
        let declared = &plugin.description.settings;
        let line = CommandLine::typed(wanted, flags.to_vec(), |name| std::env::var(name).ok());
        let in_words =
            |refused: Box<Refused>| lines(&table.raw, refused.problems(declared, plugin.description.reach)).join("\n");
        let mut settings = resolve(&table.raw, &table.wasm, declared).map_err(in_words)?;
        let is_configured = !settings.place.is_empty();
        settings.typed = if is_configured { Typed::Keys(line.keys(declared)) } else { Typed::All };
        if !is_configured {
            settings.place = format!("[plugin.metrics.{}] of the configuration", table.name);
        }
        let settings = settings
            .merged_with(&line, wanted, declared)
            .map_err(|refused| misplaced(command, flags).unwrap_or_else(|| in_words(refused)))?;
        let instance = Instance::with_settings(&loader.sandbox, plugin, &table, &settings).await;
        Ok((instance.map_err(|unloaded| unloaded.problems.join("\n"))?, line))
    }
}

/// The message about a flag of the command itself among the `flags` of its plugin, which has no such setting.
fn misplaced(command: &str, flags: &[String]) -> Option<String> {
    let own = Line::flags_of_plugin_command(command);
    let names = flags.iter().filter(|flag| flag.starts_with('-')).map(|flag| flag.trim_start_matches('-'));
    let name =
        names.map(|flag| flag.split('=').next().unwrap_or(flag)).find(|name| own.iter().any(|own| own == name))?;
    Some(format!("-{name} is a flag of `plugin {command}`: write it before the plugin's name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_of_the_command_after_the_plugins_name_is_reported_with_its_place() {
        let misplaced =
            |command, flags: &[&str]| misplaced(command, &flags.iter().map(|&flag| flag.into()).collect::<Vec<_>>());
        for (command, flag) in [("time", "-calls"), ("time", "--engine=native"), ("run", "-explain"), ("run", "-conf")]
        {
            let name = flag.trim_start_matches('-').split('=').next().unwrap();
            let expected = format!("-{name} is a flag of `plugin {command}`: write it before the plugin's name");
            assert_eq!(misplaced(command, &["-port", "80", flag, "3"]), Some(expected));
        }
        assert_eq!(misplaced("run", &["-calls", "3", "conf"]), None);
    }
}
