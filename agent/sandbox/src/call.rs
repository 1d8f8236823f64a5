//! A call of a plugin: a store that is made for it, and how the call fails.

use std::sync::Arc;

use wasaba_core::collect::StoredValues;
use wasaba_core::limits::Limits;
use wasaba_core::secret::Secret;
use wasaba_core::text::duration;
use wasmtime::component::{InstancePre, Resource, ResourceTableError};
use wasmtime::{CallHook, CallHookHandler, Store, StoreContextMut, Trap, UpdateDeadline};

use crate::capabilities::types::Handle;
use crate::capabilities::{Guest, Instance};
use crate::contract;
use crate::failure::{Failure, Kind};
use crate::thread::{Ended, TICK};
use crate::turn::{end_turn, lasted};

/// The result of a call that succeeded.
pub struct Answered<T> {
    /// The plugin's answer.
    pub answer: T,
    /// What the instance stores from now on, if the call has changed it.
    pub values: Option<Arc<StoredValues>>,
}

/// One call. Its store is dropped with it, so that nothing leaks from call to call.
pub(crate) struct Call {
    /// The host's side.
    pub(crate) store: Store<Guest>,
    ready: InstancePre<Guest>,
    /// What the call may take.
    pub(crate) limits: Arc<Limits>,
}

impl Call {
    /// A call of the component `ready` on behalf of `instance`, which begins now.
    pub(crate) fn new(engine: &wasmtime::Engine, ready: &InstancePre<Guest>, instance: Instance) -> Self {
        let limits = Arc::clone(instance.limits());
        let mut store = Store::new(engine, Guest::new(instance));
        store.limiter(Guest::memory);
        store.set_hostcall_fuel(limits.handover_bytes);
        // Those that a call of a function lends count once more, so that the table of resources is full first, which says so.
        store.set_max_component_handles(limits.handles.saturating_mul(2));
        // At each tick of the sandbox's clock the other plugins may run. How long it has computed is counted by its turns.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::YieldCustom(1, Box::pin(end_turn()))));
        store.call_hook_async(AfterHost);
        Self { store, ready: ready.clone(), limits }
    }

    /// Makes the component's instance in the store.
    ///
    /// # Errors
    /// How that failed.
    pub(crate) async fn instantiate(&mut self) -> Result<wasmtime::component::Instance, Failure> {
        let instance = self.ready.instantiate_async(&mut self.store).await;
        instance.map_err(|error| self.failure(&error))
    }

    /// The outcome of a call with this answer.
    pub(crate) fn outcome<T>(&self, answer: T) -> Answered<T> {
        Answered { answer, values: self.store.data().changed_values() }
    }

    /// A handle of `secret` for the plugin.
    ///
    /// # Errors
    /// The call has more handles than it may.
    pub(crate) fn handle(&mut self, secret: &Secret) -> Result<Resource<Handle>, Failure> {
        let pushed = self.store.data_mut().handle(secret);
        pushed.map_err(|error| self.failure(&error.into()))
    }

    /// The error that the plugin returned, safe to show.
    pub(crate) fn returned(&self, error: Failure) -> Failure {
        let Failure { kind, text, retry_after, .. } = error;
        let text = format!("{}: {}", kind.name(), self.store.data().shown(&text));
        Failure { retry_after, ..Failure::new(kind, text) }
    }

    /// How the call ended, for the operator.
    pub(crate) fn failure(&self, error: &wasmtime::Error) -> Failure {
        let limits = &self.limits;
        if let Some(name) = self.store.data().memory_exceeded() {
            let most = match name {
                "memory_mib" => format!("more memory than the {} MiB", limits.memory_bytes >> 20),
                _ => format!("more table elements than the {}", limits.table_elements),
            };
            return Failure::limit(name, &format!("needs {most} allowed"));
        }
        if matches!(error.downcast_ref::<ResourceTableError>(), Some(ResourceTableError::Full)) {
            return Failure::limit("handles", &format!("opened more than {} handles", limits.handles));
        }
        if is_handover_exceeded(error) {
            let most = limits.handover_bytes >> 10;
            return Failure::limit("handover_kib", &format!("handed over more than {most} KiB at once"));
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::StackOverflow) => {
                let stack = limits.stack_bytes >> 10;
                Failure::limit("stack_kib", &format!("needs more than {stack} KiB of stack"))
            }
            Some(Trap::UnreachableCodeReached) => self.crash("a panic or abort inside the plugin"),
            Some(trap) => self.crash(&trap.to_string()),
            None => self.crash(format!("{error:#}").lines().next().unwrap_or_default()),
        }
    }

    /// A crash, with the end of the plugin's standard error if it wrote any.
    fn crash(&self, how: &str) -> Failure {
        let guest = self.store.data();
        let how = guest.last_words().unwrap_or_else(|| guest.shown(how));
        Failure::new(Kind::Crashed, format!("crashed ({how})"))
    }
}

/// Ends a turn that has lasted for a tick when a function of the host returns to the plugin. wasmtime looks at the epoch only where
/// the plugin's functions begin and in their loops, so that code with neither would keep the thread, however often it calls the host.
struct AfterHost;

#[wasmtime_wasi::async_trait]
impl CallHookHandler<Guest> for AfterHost {
    async fn handle_call_event(&self, _: StoreContextMut<'_, Guest>, event: CallHook) -> wasmtime::Result<()> {
        if matches!(event, CallHook::ReturningFromHost) && lasted() >= TICK {
            end_turn().await;
        }
        Ok(())
    }
}

/// Whether the plugin handed over more than the store's hostcall fuel. wasmtime keeps the type of this error to itself
/// (`HostcallFuelExhausted`, in 48.0), so its text is all that there is; a test holds wasmtime to it.
fn is_handover_exceeded(error: &wasmtime::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.to_string().starts_with("too much data is being copied between the host and the guest"))
}

/// The result of a call that ran in the sandbox.
///
/// # Errors
/// The call's own failure, or why it was stopped.
pub fn ended<T>(result: Result<Result<T, Failure>, Ended>) -> Result<T, Failure> {
    result.unwrap_or_else(|ended| {
        Err(match ended {
            // Without the share of the others, which would be another text each minute, and another line of the log.
            Ended::HeldUp(limit) => Failure::of_others(format!(
                "timed out after {}, for more than a tenth of which other plugins computed (limit `timeout_seconds`)",
                duration(limit)
            )),
            Ended::Computed(limit) => {
                Failure::limit("compute_ms", &format!("computed for longer than {} and was stopped", duration(limit)))
            }
            Ended::Late(limit) => {
                let limit = duration(limit);
                Failure::new(Kind::Late, format!("timed out after {limit} and was stopped (limit `timeout_seconds`)"))
            }
            Ended::Panicked => {
                Failure::new(Kind::Internal, "the agent crashed inside the call; this is a bug in wasaba")
            }
        })
    })
}

/// The failure of a call of an interface that the plugin does not export.
pub(crate) fn not_exported(interface: &str) -> Failure {
    Failure::new(Kind::Misconfigured, format!("the plugin does not export `{}/{interface}`", contract::NAME))
}

#[cfg(test)]
mod tests {
    use wasaba_core::limits::Engine;
    use wasmtime::component::{Component, Linker};

    use super::*;
    use crate::engine;

    /// Returns a text of 1,000 bytes.
    const TALKATIVE: &str = r#"(component
        (core module $m
            (memory (export "memory") 1)
            (func (export "talk") (result i32)
                (i32.store (i32.const 0) (i32.const 16))
                (i32.store (i32.const 4) (i32.const 1000))
                (i32.const 0)))
        (core instance $i (instantiate $m))
        (func (export "talk") (result string) (canon lift (core func $i "talk") (memory (core memory $i "memory")))))"#;

    async fn talk(fuel_bytes: usize) -> wasmtime::Result<usize> {
        let engine = engine::for_compiling(Engine::Pulley).unwrap();
        let component = Component::new(&engine, wat::parse_str(TALKATIVE).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        store.set_epoch_deadline(1);
        store.set_hostcall_fuel(fuel_bytes);
        let instance = Linker::new(&engine).instantiate_async(&mut store, &component).await.unwrap();
        let talk = instance.get_typed_func::<(), (String,)>(&mut store, "talk").unwrap();
        talk.call_async(&mut store, ()).await.map(|(text,)| text.len())
    }

    #[tokio::test]
    async fn wasmtime_still_words_its_error_of_too_much_data_as_this_crate_reads_it() {
        assert_eq!(talk(1_000).await.unwrap(), 1_000);
        let error = talk(999).await.unwrap_err();
        assert!(is_handover_exceeded(&error), "{error:#}");
        assert!(!is_handover_exceeded(&wasmtime::Error::msg("it crashed")));
    }

    #[test]
    fn a_call_that_was_stopped_names_its_limit() {
        let late = ended::<()>(Err(Ended::Late(std::time::Duration::from_secs(10)))).unwrap_err();
        assert_eq!(
            (late.kind, late.text.as_str()),
            (Kind::Late, "timed out after 10 s and was stopped (limit `timeout_seconds`)")
        );
    }
}
