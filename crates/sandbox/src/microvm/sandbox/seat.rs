//! A machine's place in the network: an address for all of its life, and a link for as long as it has a VMM.
//!
//! A machine that hibernates has no link, and finds its address again when it wakes; one that is made from a function's snapshot
//! is told another address than the one that was saved in it.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use hearth_network::{Link, MachineLink, NetworkError};
use hearth_types::Egress;

use super::{failed, lock};
use crate::driver::CreateError;
use crate::microvm::Shared;
use crate::microvm::process::Host;
use crate::users::UserRanges;

/// Dropped, the address is somebody else's.
#[derive(Debug)]
pub(in crate::microvm) struct Seat {
    host: Arc<Host>,
    /// A range of user ids that no process has: its number is the address's.
    range: u32,
    egress: Egress,
    connected: Mutex<Option<(Link, hearth_wire::Network)>>,
}

impl Seat {
    /// A place for a machine whose function may connect to something.
    pub(super) fn take(shared: &Shared, egress: &Egress) -> Result<Option<Self>, CreateError> {
        if *egress == Egress::None {
            return Ok(None);
        }
        let range =
            shared.host.take_user().map_err(|source| failed("take a number for an address", source))?;
        let range = range.ok_or(CreateError::NoNetwork("links of machines take root"))?;
        let host = Arc::clone(&shared.host);
        Ok(Some(Self { host, range, egress: egress.clone(), connected: Mutex::default() }))
    }

    /// Makes its link, for a VMM that is about to start: what the VMM has of it. The one before has to be gone.
    pub(super) async fn connect(&self, shared: &Shared) -> Result<OwnedFd, NetworkError> {
        let (network, number) = (&shared.network, UserRanges::number(self.range));
        let made = if shared.vmm.finds_links_by_name() {
            network.room(number, &self.egress).await
        } else {
            network.tap(number, &self.egress).await
        };
        let MachineLink { end, address, gateway, prefix, link } = made?;
        let words = hearth_wire::Network {
            address: address.octets(),
            gateway: gateway.octets(),
            prefix,
            resolv_conf: network.resolv_conf(),
        };
        *lock(&self.connected) = Some((link, words));
        Ok(end)
    }

    /// What its machine is to be told.
    pub(super) fn words(&self) -> Option<hearth_wire::Network> {
        lock(&self.connected).as_ref().map(|(_, words)| words.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.host.users.give_back(self.range);
    }
}
