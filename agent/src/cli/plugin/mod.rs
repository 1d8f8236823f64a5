//! `wasaba plugin ...`: the commands around plugins, a file each, and what they share.

pub mod compile;
pub mod inspect;
pub mod list;
pub mod new;
pub mod run;
pub mod test;
pub mod time;

use std::path::{Path, PathBuf};

use config::Config;
use config::raw::RawSettings;
use config::table::PluginTable;
use official::command_line::{CommandLine, Given};
use plugins::loader::Loader;
use plugins::settings::resolve;
use sandbox::component::Plugin;
use wasaba_core::limits::Engine;

use super::flags::{AgentFlags, PluginCommand};

/// Runs the command.
///
/// # Errors
/// Whatever it says went wrong.
pub fn run(command: PluginCommand) -> Result<(), String> {
    match command {
        PluginCommand::Run { agent, explain, plugin, settings } => run::run(&agent, explain, &plugin, &settings),
        PluginCommand::Inspect { agent, plugin } => inspect::run(&agent, &plugin),
        PluginCommand::Compile { agent, engine, plugins } => compile::run(&agent, &engine, &plugins),
        PluginCommand::List { agent, json } => list::run(&agent, json),
        PluginCommand::Time { agent, engine, calls, plugin, settings } => {
            time::run(&agent, &engine, calls, &plugin, &settings)
        }
        PluginCommand::New { name } => new::run(&name),
        PluginCommand::Test { agent, plugin, cases } => test::run(&agent, &plugin, &cases),
        PluginCommand::Compiler { engine, cpu_seconds, memory_bytes } => {
            let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
            sandbox::compile::compile(self::engine(&engine)?, cpu_seconds, memory_bytes, input, output)
        }
    }
}

/// Does `work` with a loader for the configuration that the flags name. Compiled plugins are kept in the agent's root, or
/// by a user who may not write there, a plugin's author perhaps, in a cache of the user's own.
fn with_loader<T>(
    flags: &AgentFlags,
    work: impl AsyncFnOnce(&Config, &Loader) -> Result<T, String>,
) -> Result<T, String> {
    let config = flags.config_for_command()?;
    let runtime = super::runtime()?;
    let result = runtime.block_on(async {
        let loader = plugins::keeper::loader(&config).or_else(|why| {
            let cache = own_cache().filter(|_| flags.root.is_none()).ok_or(why)?;
            Loader::new(&cache, plugins::keeper::folders(&config))
        });
        work(&config, &loader?).await
    });
    runtime.shutdown_background();
    result
}

/// As the XDG base directory specification has it.
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

/// The plugin that the command line calls `wanted`: a file that is there, or a name as the configuration has it.
fn plugin_file(loader: &Loader, wanted: &str) -> Result<PathBuf, String> {
    if wanted.ends_with(".wasm") && Path::new(wanted).is_file() {
        return Ok(wanted.into());
    }
    loader.folders.find(wanted)
}

/// The table that the configuration has for `wanted`, or one with the defaults.
fn table(config: &Config, wanted: &str) -> PluginTable {
    let configured = config.plugin_tables.iter().find(|table| table.name == wanted);
    let name = Path::new(wanted).file_stem().map_or(wanted.into(), |stem| stem.to_string_lossy());
    configured.cloned().unwrap_or_else(|| PluginTable {
        name: name.clone().into_owned(),
        wasm: wanted.to_owned(),
        raw: RawSettings { place: format!("[plugin.metrics.{name}] of the configuration"), ..RawSettings::default() },
        ..PluginTable::default()
    })
}

/// Puts the flags that were typed for the plugin asked for as `wanted` over what its table says, and gives them back.
fn with_flags(table: &mut PluginTable, wanted: &str, flags: &[String], plugin: &Plugin) -> Result<CommandLine, String> {
    let declared = &plugin.description.settings;
    let line = CommandLine::typed(wanted, flags.to_vec(), |name| std::env::var(name).ok());
    let configured = resolve(&table.raw, &table.wasm, declared)?;
    let Given { settings, trust } = line.merged_with(configured.given, wanted, declared)?;
    table.raw = RawSettings { settings, trust, command_line: None, ..table.raw.clone() };
    Ok(line)
}
