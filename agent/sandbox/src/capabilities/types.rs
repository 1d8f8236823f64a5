//! Secrets as handles: the plugin holds one, the agent its text.

use wasaba_core::secret::Secret;
use wasmtime::Result;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use super::gate::Gate;
use crate::contract::wire::types::{self as contract, Error};

pub(super) fn link<T: Send + 'static>(linker: &mut Linker<T>, view: fn(&mut T) -> View<'_>) -> Result<()> {
    contract::add_to_linker::<_, HasView>(linker, view)
}

pub(crate) struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

/// A secret in the hands of a plugin; the contract's resource.
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub struct Handle(pub(super) Secret);

/// Whether an instance may see the text of its secrets.
pub(super) struct OfInstance {
    gate: Gate,
}

impl OfInstance {
    pub(super) fn new(gate: Gate) -> Self {
        Self { gate }
    }
}

/// All that this interface sees of a call.
pub(crate) struct View<'a> {
    pub(super) instance: &'a OfInstance,
    /// The call's handles are in it.
    pub(super) table: &'a mut ResourceTable,
}

/// The secret behind a handle that a plugin passed to a capability.
pub(super) fn secret(table: &ResourceTable, handle: &Resource<Handle>) -> Result<Secret> {
    Ok(table.get(handle)?.0.clone())
}

impl contract::Host for View<'_> {}

impl contract::HostSecret for View<'_> {
    async fn length(&mut self, handle: Resource<Handle>) -> Result<u32> {
        Ok(u32::try_from(self.table.get(&handle)?.0.reveal().len()).unwrap_or(u32::MAX))
    }

    async fn reveal(&mut self, handle: Resource<Handle>) -> Result<Result<String, Error>> {
        let Handle(secret) = self.table.get(&handle)?;
        let checked = self.instance.gate.check(super::grants::Grants::check_reveal);
        Ok(checked.map(|()| secret.reveal().to_owned()).map_err(Error::from))
    }

    async fn drop(&mut self, handle: Resource<Handle>) -> Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::contract::HostSecret;
    use super::*;
    use crate::capabilities::grants::Grants;
    use crate::capabilities::meter::Meter;

    #[tokio::test]
    async fn the_text_of_a_secret_is_revealed_only_where_the_table_says_so() {
        for reveal in [false, true] {
            let grants = Grants { reveal, place: "[plugin.metrics.db]".into(), ..Grants::default() };
            let meter = Arc::<Meter>::default();
            let instance = OfInstance::new(Gate::new(Arc::new(grants), Arc::clone(&meter)));
            let mut table = ResourceTable::new();
            let id = table.push(Handle(Secret::new("hunter2"))).unwrap().rep();
            let handle = || Resource::new_borrow(id);
            let mut view = View { instance: &instance, table: &mut table };
            assert_eq!(view.length(handle()).await.unwrap(), 7);
            let revealed = view.reveal(handle()).await.unwrap();
            match revealed {
                Ok(text) => assert!(reveal && text == "hunter2"),
                Err(error) => {
                    assert!(
                        !reveal && error.kind == "denied" && error.message.contains("`reveal = true`"),
                        "{error:?}"
                    );
                    assert!(error.message.contains("[plugin.metrics.db]") && !error.message.contains("hunter2"));
                }
            }
            assert_eq!(meter.refusals(), u64::from(!reveal));
        }
    }
}
