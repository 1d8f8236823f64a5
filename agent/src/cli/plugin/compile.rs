//! `wasaba plugin compile`: fills the cache of compiled plugins ahead of time, for images and packages.

use std::fmt::Write as _;

use wasaba_core::clock;
use wasaba_core::text::duration;

use crate::cli::configuration::texts;
use crate::cli::flags::AgentFlags;

/// Compiles each plugin into the agent's root, unless it is there already, and prints how long that took.
///
/// # Errors
/// The first plugin that cannot be compiled; those before it are compiled.
pub fn run(flags: &AgentFlags, engine: &str, plugins: &[String]) -> Result<(), String> {
    let engine = super::engine(engine)?;
    // Only in the agent's root does the agent look for it, so the user's own cache is not an alternative.
    flags.become_agent()?;
    let (config, _) = flags.config().map_err(|problems| texts(&problems))?;
    let flags = AgentFlags { root: Some(config.root), ..flags.clone() };
    let text = super::with_loader(&flags, async |config, loader| {
        let mut text = String::new();
        for wanted in plugins {
            let begin = clock::instant();
            let about = &super::load(config, loader, wanted, Some(engine)).await?.plugin.description;
            writeln!(
                text,
                "{} {}: ready for {engine} after {}",
                about.name,
                about.version,
                duration(clock::since(begin))
            )
            .ok();
        }
        Ok(text)
    });
    crate::cli::print(&text?)
}
