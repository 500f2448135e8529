//! Networks of instances: a link and an address for each, and rules for where it may connect to.
//!
//! ```text
//!  instance's network namespace            the worker's
//!  eth0 198.18.x.y+1/31  <---- veth ---->  hth<block>.<n> 198.18.x.y/31   group = policy
//!                                               |
//!                                    forward: own address only, not to other instances, not to
//!                                    link-local; then by group: what its function's egress allows
//!                                               |
//!                                    masqueraded as the worker
//! ```
//!
//! What an instance may do is said once for each [`Egress`] that is in use, as a chain of a table of the kernel's packet filter
//! (nftables); an instance's link is put into the chain's group when it is made. So an instance costs no call of `nft`, and
//! leaves nothing behind: its link goes with its namespace. The table is named after the block of user ids that the worker
//! holds, and replaced by the next worker that holds it.
//!
//! | module | concern |
//! |---|---|
//! | `plan` | names and addresses |
//! | `rules` | the table's text |
//! | `nft` | the program that loads it |
//! | `route` | links, addresses and routes: rtnetlink |
//! | `sys` | the links of machines |
//!
//! A machine's link has the same name, addresses and rules. Its other end is a descriptor (tap), which is the machine's network
//! device's to read and write; the link goes when its VMM does. A VMM that opens its tap itself, by name, finds it in a room:
//! a network namespace of its own in which the tap is bridged to a veth pair.

mod nft;
mod plan;
mod route;
mod rules;
mod sys;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use hearth_types::Egress;

pub use nft::{NftError, probe};
use plan::Plan;
pub use plan::PlanError;
pub use route::TAP;

/// Where the kernel says, and is told, whether this machine forwards packets.
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// Policies that are kept; those that nobody uses go first.
const MOST_POLICIES: usize = 1_024;

/// Why an instance has no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// There are no addresses for it.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The packet filter.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// More functions with different egress than there is room for.
    #[error(
        "instances with {MOST_POLICIES} different settings of hearth:egress run on this worker; it takes no more"
    )]
    Policies,
    /// A step on the way.
    #[error("cannot {step}")]
    Step {
        /// An infinitive.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The networks of one worker's instances.
#[derive(Debug)]
pub struct Network {
    resolvers: Vec<Ipv4Addr>,
    filter: tokio::sync::Mutex<Filter>,
}

/// What the packet filter was told.
#[derive(Debug, Default)]
struct Filter {
    /// The block that the table is named after, once it is loaded.
    block: Option<u32>,
    policies: HashMap<Egress, Policy>,
    last_group: u32,
}

#[derive(Debug)]
struct Policy {
    group: u32,
    /// Gone when no instance uses it.
    users: Weak<()>,
}

/// An instance's link. It goes with the instance's namespace; this keeps its policy in use.
#[derive(Debug)]
pub struct Link {
    _policy: Arc<()>,
}

/// A machine's link, and what the machine is to set on its side.
#[derive(Debug)]
pub struct MachineLink {
    /// The link's other end, for the VMM: an open tap, or a network namespace with [`TAP`] in it. The link goes when nobody has
    /// it open or is in it.
    pub end: OwnedFd,
    /// The machine's address.
    pub address: Ipv4Addr,
    /// The worker's: its way out.
    pub gateway: Ipv4Addr,
    /// The leading bits that the two have in common.
    pub prefix: u8,
    /// Keeps the link's rules for as long as it is there.
    pub link: Link,
}

// === impl Network ===

impl Network {
    /// Instances ask these for names, and may always reach their port 53.
    #[must_use]
    pub fn new(resolvers: Vec<Ipv4Addr>) -> Self {
        Self { resolvers, filter: tokio::sync::Mutex::default() }
    }

    /// What instances have as `/etc/resolv.conf`.
    #[must_use]
    pub fn resolv_conf(&self) -> String {
        self.resolvers.iter().map(|resolver| format!("nameserver {resolver}\n")).collect()
    }

    /// Gives the network namespace of a process a link to what `egress` allows. `number` is the instance's on this machine: no
    /// two at a time have the same.
    ///
    /// # Errors
    /// No address for that number, no `nft`, a packet filter or a kernel that refuses.
    pub async fn join(&self, number: u32, process: OwnedFd, egress: &Egress) -> Result<Link, NetworkError> {
        let plan = Plan::of(number)?;
        let (group, policy) = self.policy(&plan, egress).await?;
        in_a_thread(move || route::join(&plan, group, &process)).await?;
        Ok(Link { _policy: policy })
    }

    /// Makes a link to what `egress` allows for a machine whose VMM is handed it open. `number` is the instance's, as with
    /// [`Self::join`].
    ///
    /// # Errors
    /// The same, and a kernel without tap devices.
    pub async fn tap(&self, number: u32, egress: &Egress) -> Result<MachineLink, NetworkError> {
        let plan = Plan::of(number)?;
        let (group, policy) = self.policy(&plan, egress).await?;
        let for_thread = plan.clone();
        let end = in_a_thread(move || route::tap(&for_thread, group)).await?;
        Ok(MachineLink::new(end, &plan, policy))
    }

    /// The same for one whose VMM opens it by its name, [`TAP`], in the network namespace that it is to be started in.
    ///
    /// # Errors
    /// The same, and a kernel without bridges.
    pub async fn room(&self, number: u32, egress: &Egress) -> Result<MachineLink, NetworkError> {
        let plan = Plan::of(number)?;
        let (group, policy) = self.policy(&plan, egress).await?;
        let for_thread = plan.clone();
        let end = in_a_thread(move || route::room(Some((&for_thread, group)))).await?;
        Ok(MachineLink::new(end, &plan, policy))
    }

    /// The group of links of a policy, which is loaded if it was not.
    async fn policy(&self, plan: &Plan, egress: &Egress) -> Result<(u32, Arc<()>), NetworkError> {
        let mut filter = self.filter.lock().await;
        if filter.block != Some(plan.block) {
            allow_forwarding()?;
            nft::load(rules::table(plan, &self.resolvers)).await?;
            *filter = Filter { block: Some(plan.block), ..Filter::default() };
        }
        let known =
            filter.policies.get(egress).and_then(|policy| Some((policy.group, policy.users.upgrade()?)));
        if let Some(known) = known {
            return Ok(known);
        }
        let users = Arc::new(());
        if let Some(policy) = filter.policies.get_mut(egress) {
            policy.users = Arc::downgrade(&users);
            return Ok((policy.group, users));
        }
        if filter.policies.len() >= MOST_POLICIES {
            let unused: Vec<Egress> = filter
                .policies
                .iter()
                .filter(|(_, policy)| policy.users.strong_count() == 0)
                .map(|(egress, _)| egress.clone())
                .collect();
            let groups =
                unused.iter().filter_map(|egress| filter.policies.remove(egress)).map(|policy| policy.group);
            let groups: Vec<u32> = groups.collect();
            if groups.is_empty() {
                return Err(NetworkError::Policies);
            }
            nft::load(rules::without(plan, &groups)).await?;
        }
        // Group 0 is everybody else's.
        let group = filter.last_group + 1;
        nft::load(rules::policy(plan, group, egress)).await?;
        filter.last_group = group;
        filter.policies.insert(egress.clone(), Policy { group, users: Arc::downgrade(&users) });
        Ok((group, users))
    }

    /// Takes the table away. There are no instances any more.
    pub async fn close(&self) {
        let mut filter = self.filter.lock().await;
        if let Some(block) = filter.block.take()
            && let Err(error) = nft::load(rules::no_table(block)).await
        {
            tracing::warn!(%error, "cannot remove the packet filter's table; the next start replaces it");
        }
        filter.policies.clear();
    }
}

/// A room whose link leads nowhere, for a machine that is there to be cloned.
///
/// # Errors
/// A kernel without tap devices.
pub async fn unconnected_room() -> Result<OwnedFd, NetworkError> {
    in_a_thread(|| route::room(None)).await
}

/// Does what may leave its thread in another network namespace, in a thread of its own.
async fn in_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetworkError> + Send + 'static,
) -> Result<T, NetworkError> {
    let worked = tokio::task::spawn_blocking(move || {
        let thread = std::thread::Builder::new().name("network".to_owned()).spawn(work);
        thread.map(std::thread::JoinHandle::join)
    });
    match worked.await {
        Ok(Ok(Ok(worked))) => worked,
        Ok(Err(error)) => Err(step("start a thread")(error)),
        Ok(Ok(Err(_))) | Err(_) => Err(step("make a link")(io::Error::other("its thread broke off"))),
    }
}

// === impl MachineLink ===

impl MachineLink {
    fn new(end: OwnedFd, plan: &Plan, policy: Arc<()>) -> Self {
        let link = Link { _policy: policy };
        Self { end, address: plan.address, gateway: plan.gateway, prefix: plan::LINK_PREFIX, link }
    }
}

fn step(step: &'static str) -> impl Fn(io::Error) -> NetworkError {
    move |source| NetworkError::Step { step, source }
}

/// Has this machine pass packets on, as every way out of an instance needs.
fn allow_forwarding() -> Result<(), NetworkError> {
    let refused = step("have this machine forward packets (net.ipv4.ip_forward)");
    if fs::read_to_string(FORWARDING).map_err(&refused)?.trim() == "1" {
        return Ok(());
    }
    fs::write(FORWARDING, "1").map_err(&refused)?;
    tracing::warn!("net.ipv4.ip_forward was off and is on now: instances with hearth:egress need it");
    Ok(())
}

/// The resolvers that this machine uses and an instance can reach: none of its own loopback addresses.
#[must_use]
pub fn machine_resolvers() -> Vec<Ipv4Addr> {
    // Where systemd-resolved listens on loopback, it says there whom it asks.
    let files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    let found = files.iter().map(|file| read_resolvers(&fs::read_to_string(file).unwrap_or_default()));
    found.into_iter().find(|found| !found.is_empty()).unwrap_or_default()
}

fn read_resolvers(text: &str) -> Vec<Ipv4Addr> {
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = named.filter_map(|rest| rest.trim().parse::<Ipv4Addr>().ok());
    addresses.filter(|address| !address.is_loopback() && !address.is_unspecified()).take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_those_that_an_instance_can_reach() {
        let text = "# a comment\nnameserver 127.0.0.53\n nameserver\t192.0.2.1 \nnameserver ::1\nsearch lan\nnameserver 192.0.2.2\n";
        let found = read_resolvers(text);
        assert_eq!(found, [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)]);
        assert_eq!(Network::new(found).resolv_conf(), "nameserver 192.0.2.1\nnameserver 192.0.2.2\n");
        assert!(read_resolvers("nameserver 127.0.0.53").is_empty());
    }
}
