//! `wasi:sockets/ip-name-lookup`: the addresses of a granted name, resolved and checked as for `tcp`, and remembered for the call, since what
//! connects to one of them no longer says the name.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec;

use url::Host;
use wasmtime::Result;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress};
use wasmtime_wasi::p2::{DynPollable, Network, Pollable, subscribe};

use super::View;
use super::contract::sockets::ip_name_lookup as contract;
use super::later::Later;
use super::sockets::code;
use crate::capabilities::connect;
use crate::capabilities::gate::{MOST_HOST_BYTES, bounded};
use crate::failure::{Failure, Kind};

/// How many addresses of names are remembered in a call, the last ones.
const REMEMBERED: usize = 256;

/// The names that a call has looked up, with what they resolved to.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<VecDeque<(IpAddr, String)>>);

impl Names {
    /// Those that were looked up to this address, as the plugin spelt them.
    pub(super) fn of(&self, address: IpAddr) -> Vec<String> {
        self.lock().iter().filter(|(known, _)| *known == address).map(|(_, name)| name.clone()).collect()
    }

    fn remember(&self, name: &str, addresses: &[IpAddr]) {
        let mut names = self.lock();
        for address in addresses {
            names.retain(|(known, other)| known != address || other != name);
            names.push_back((*address, name.to_owned()));
        }
        let more = names.len().saturating_sub(REMEMBERED);
        names.drain(..more);
    }

    /// An address that stands for a name in a script, where there is no network: the same one for the same name.
    fn scripted(&self, name: &str) -> IpAddr {
        let mut names = self.lock();
        if let Some((address, _)) = names.iter().find(|(_, known)| known == name) {
            return *address;
        }
        let number = u8::try_from(names.len()).unwrap_or(u8::MAX).saturating_add(1);
        // A network that is kept free for documentation (RFC 5737).
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, number));
        names.push_back((address, name.to_owned()));
        address
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(IpAddr, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The code for the failure of a look-up: for what is denied the one of a resolver that refuses, which libraries know.
fn code_of_lookup(failure: &Failure) -> ErrorCode {
    match failure.kind {
        Kind::Denied => ErrorCode::PermanentResolverFailure,
        Kind::Timeout => ErrorCode::TemporaryResolverFailure,
        _ => code(failure),
    }
}

/// A name that is looked up; the interface's resource.
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub struct Lookup {
    work: Later<Result<Vec<IpAddr>, Failure>>,
    found: Option<Result<vec::IntoIter<IpAddr>, ErrorCode>>,
}

#[async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        self.work.ready().await;
    }
}

impl View<'_> {
    fn look_up(&self, name: String) -> Result<Lookup, Failure> {
        bounded("name", &name, MOST_HOST_BYTES)?;
        let granted = self.tcp.gate.check(|grants| grants.check_name(&name))?;
        let known = match granted {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain(_) => self.script.map(|_| self.names.scripted(&name)),
        };
        // The questions to name servers need descriptors, as a connection does.
        let slot = match (&granted, known) {
            (Host::Domain(_), None) => Some(self.connections.slot()?),
            _ => None,
        };
        let (tcp, connections, names) = (Arc::clone(self.tcp), Arc::clone(self.connections), Arc::clone(self.names));
        let work = async move {
            let _slot = slot;
            let (Host::Domain(granted), None) = (granted, known) else { return Ok(known.into_iter().collect()) };
            let found = connect::resolve(&granted, &tcp.gate, &tcp.blocking);
            let (found, _) = connections.patience.wait(None, found).await??;
            names.remember(&name, &found.addresses);
            Ok(found.addresses)
        };
        Ok(Lookup { work: Later::of(work), found: None })
    }
}

impl contract::Host for View<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Result<Result<Resource<Lookup>, ErrorCode>> {
        self.table.get(&network)?;
        match self.look_up(name) {
            Ok(lookup) => Ok(Ok(self.table.push(lookup)?)),
            Err(failure) => {
                self.explain(&failure);
                Ok(Err(code_of_lookup(&failure)))
            }
        }
    }
}

impl contract::HostResolveAddressStream for View<'_> {
    fn resolve_next_address(&mut self, lookup: Resource<Lookup>) -> Result<Result<Option<IpAddress>, ErrorCode>> {
        let Lookup { work, found } = self.table.get_mut(&lookup)?;
        if !work.is_known() {
            return Ok(Err(ErrorCode::WouldBlock));
        }
        let mut failed = None;
        if let Some(result) = work.take() {
            *found = Some(result.map(Vec::into_iter).map_err(|failure| {
                let code = code_of_lookup(&failure);
                failed = Some(failure);
                code
            }));
        }
        let next = match found {
            Some(Ok(addresses)) => Ok(addresses.next().map(IpAddress::from)),
            Some(Err(code)) => Err(*code),
            None => Ok(None),
        };
        if let Some(failure) = failed {
            self.explain(&failure);
        }
        Ok(next)
    }

    fn subscribe(&mut self, lookup: Resource<Lookup>) -> Result<Resource<DynPollable>> {
        subscribe(self.table, lookup)
    }

    fn drop(&mut self, lookup: Resource<Lookup>) -> Result<()> {
        self.table.delete(lookup)?;
        Ok(())
    }
}
