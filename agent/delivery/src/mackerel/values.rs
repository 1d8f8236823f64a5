//! The values: a [`Delivery`] for each host of which any are queued, so that no host holds up another.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use super::Pace;
use super::board::{Kind, Lanes};
use super::client::Client;
use super::delivery::Delivery;
use super::hosts::Hosts;
use super::id_file::HostId;
use super::timing::Queued;
use crate::spool::Spool;

pub(super) struct Values {
    pub(super) client: Client,
    pub(super) spool: Arc<Spool>,
    pub(super) own: HostId,
    pub(super) hosts: Arc<Hosts>,
    pub(super) board: Lanes,
    pub(super) pace: Pace,
}

impl Values {
    /// Delivers what is queued, and later what comes with each `queued`. On shutdown, it tries once more.
    pub(super) async fn run(self, queued: &Queued, shutdown: watch::Receiver<bool>) {
        let mut seen = queued.seen();
        let mut own = std::pin::pin!(self.of(None).run(queued.seen(), shutdown.clone()));
        let (mut others, mut known) = (FuturesUnordered::new(), BTreeSet::new());
        loop {
            for host in self.spool.hosts() {
                if known.insert(Arc::clone(&host)) {
                    others.push(self.of(Some(host)).run(queued.seen(), shutdown.clone()));
                }
            }
            tokio::select! {
                () = &mut own => break,
                // They end at the same time.
                Some(()) = others.next() => {}
                () = seen.changed() => {}
            }
        }
        others.collect::<()>().await;
    }

    fn of(&self, host: Option<Arc<str>>) -> Delivery {
        let Self { client, spool, own, hosts, board, pace } = self;
        let lane = board.lane(Kind::Values, host.as_ref(), *pace);
        Delivery::new(client.clone(), Arc::clone(spool), own.clone(), host, Arc::clone(hosts), lane, *pace)
    }
}
