//! Names and addresses, from an instance's number alone: nothing to keep, nothing to give back.

use std::net::Ipv4Addr;

/// The first address: 198.18.0.0/15 is set aside for measurements between networks (RFC 2544) and so is in no home, office or
/// cloud network, nor in an overlay's like 100.64.0.0/10. No packet leaves the worker with one: it is masqueraded.
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// Its leading bits.
const PREFIX: u32 = 15;
/// Addresses of an instance's link: its own, and the worker's (RFC 3021).
const EACH: u32 = 2;
/// Numbers of one worker.
const BLOCK: u32 = 2_048;

/// Why an instance has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Numbers are higher than addresses.
    #[error("there are no addresses for this worker's instances: {} hearths on this machine can have hearth:egress", (1_u32 << (32 - PREFIX)) / EACH / BLOCK)]
    NoAddress,
}

/// What an instance's link is called, and its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// That of the worker.
    pub(crate) block: u32,
    /// The link's name on the worker's side.
    pub(crate) name: String,
    /// The worker's address: the instance's way out.
    pub(crate) gateway: Ipv4Addr,
    /// The instance's own.
    pub(crate) address: Ipv4Addr,
}

/// The network of a link, leading bits.
pub(crate) const LINK_PREFIX: u8 = 31;

/// What all things of a worker are called by.
pub(crate) struct Place {
    /// The packet filter's table.
    pub(crate) table: String,
    /// What the names of its links begin with.
    pub(crate) links: String,
}

// === impl Plan ===

impl Plan {
    pub(crate) fn of(number: u32) -> Result<Self, PlanError> {
        let size = 1 << (32 - PREFIX);
        let offset = number.checked_mul(EACH).filter(|offset| *offset < size).ok_or(PlanError::NoAddress)?;
        let gateway = FIRST.to_bits() + offset;
        let block = number / BLOCK;
        Ok(Self {
            block,
            name: format!("{}{}", Place::of(block).links, number % BLOCK),
            gateway: Ipv4Addr::from_bits(gateway),
            address: Ipv4Addr::from_bits(gateway + 1),
        })
    }
}

// === impl Place ===

impl Place {
    pub(crate) fn of(block: u32) -> Self {
        Self { table: format!("hearth_{block}"), links: format!("hth{block}.") }
    }
}

/// All addresses of instances, of every worker.
pub(crate) fn all() -> String {
    format!("{FIRST}/{PREFIX}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_have_an_address_or_a_name_in_common_and_names_fit() {
        let (mut addresses, mut names) = (BTreeSet::new(), BTreeSet::new());
        let plans: Vec<Plan> = (0..).map_while(|number| Plan::of(number).ok()).collect();
        assert_eq!(plans.len(), 65_536);
        for plan in &plans {
            assert!(addresses.insert(plan.gateway) && addresses.insert(plan.address), "{plan:?}");
            assert_eq!(plan.gateway.to_bits() | 1, plan.address.to_bits(), "{plan:?}");
            assert!(names.insert(plan.name.clone()) && plan.name.len() <= 15, "{plan:?}");
        }
        assert_eq!(plans[65_535].address, Ipv4Addr::new(198, 19, 255, 255));
        assert_eq!(Plan::of(65_536), Err(PlanError::NoAddress));
        assert_eq!(Plan::of(u32::MAX), Err(PlanError::NoAddress));
    }

    #[test]
    fn the_links_of_one_worker_do_not_look_like_those_of_another() {
        let (one, ten) = (Plan::of(BLOCK).unwrap(), Plan::of(10 * BLOCK).unwrap());
        assert!(!ten.name.starts_with(&Place::of(1).links) && !one.name.starts_with(&Place::of(10).links));
    }
}
