//! How often an address may be wrong. Bounded, and pure: time comes in.

use std::collections::HashMap;
use std::net::IpAddr;

use hearth_types::Time;

/// Addresses that are remembered.
const ADDRESSES: usize = 10_000;

/// For each address, failures that it has left: a bucket that fills again with time.
#[derive(Debug)]
pub struct Failures {
    /// Failures in a minute, and at once; zero is no limit.
    per_minute: u32,
    /// Nanoseconds of failures that an address has to work off, at a time.
    owing: HashMap<IpAddr, (Time, u64)>,
}

impl Failures {
    /// At most so many in a minute from one address; none is no limit.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, owing: HashMap::new() }
    }

    /// Whether an address has been wrong too often.
    #[must_use]
    pub fn is_blocked(&self, now: Time, address: IpAddr) -> bool {
        self.per_minute > 0 && self.owed(now, address) > MINUTE - self.price()
    }

    /// Notes a failure.
    pub fn note(&mut self, now: Time, address: IpAddr) {
        if self.per_minute == 0 {
            return;
        }
        let owed = self.owed(now, address).saturating_add(self.price()).min(MINUTE);
        if self.owing.len() >= ADDRESSES && !self.owing.contains_key(&whole(address)) {
            self.make_room(now);
        }
        self.owing.insert(whole(address), (now, owed));
    }

    /// Addresses that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.owing.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owing.is_empty()
    }

    const fn price(&self) -> u64 {
        MINUTE / self.per_minute as u64
    }

    fn owed(&self, now: Time, address: IpAddr) -> u64 {
        self.owing.get(&whole(address)).map_or(0, |owed| left(now, *owed))
    }

    /// Forgets who owes nothing; if everybody does, those who owe least.
    fn make_room(&mut self, now: Time) {
        self.owing.retain(|_, owed| left(now, *owed) > 0);
        if self.owing.len() >= ADDRESSES {
            let mut all: Vec<u64> = self.owing.values().map(|owed| left(now, *owed)).collect();
            let (_, median, _) = all.select_nth_unstable(ADDRESSES / 2);
            let median = *median;
            let mut spare = ADDRESSES / 2;
            self.owing.retain(|_, owed| {
                let goes = spare > 0 && left(now, *owed) <= median;
                spare -= usize::from(goes);
                !goes
            });
        }
    }
}

/// Nanoseconds of a minute.
const MINUTE: u64 = 60_000_000_000;

fn left(now: Time, (since, owed): (Time, u64)) -> u64 {
    owed.saturating_sub(u64::try_from(now.since(since).as_nanos()).unwrap_or(u64::MAX))
}

/// Whoever has one address of IPv6 has all of its network: 64 bits of it count.
fn whole(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            IpAddr::V6(std::net::Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Time {
        Time::from_millis(second * 1_000)
    }

    #[test]
    fn an_address_is_blocked_when_it_was_wrong_too_often_until_time_has_passed() {
        let mut failures = Failures::new(10);
        let address = "10.0.0.1".parse().unwrap();
        for _ in 0..10 {
            assert!(!failures.is_blocked(at(0), address));
            failures.note(at(0), address);
        }
        assert!(failures.is_blocked(at(0), address));
        assert!(failures.is_blocked(at(5), address));
        assert!(!failures.is_blocked(at(0), "10.0.0.2".parse().unwrap()));
        assert!(!failures.is_blocked(at(6), address));
        // However long it goes on, a minute later all is forgotten.
        for _ in 0..100 {
            failures.note(at(6), address);
        }
        assert!(!failures.is_blocked(at(12), address));
    }

    #[test]
    fn one_network_of_ipv6_is_one_address_and_no_limit_is_none() {
        let mut failures = Failures::new(1);
        failures.note(at(0), "2001:db8::1".parse().unwrap());
        assert!(failures.is_blocked(at(0), "2001:db8::2".parse().unwrap()));
        assert!(!failures.is_blocked(at(0), "2001:db8:0:1::2".parse().unwrap()));
        let mut failures = Failures::new(0);
        failures.note(at(0), "10.0.0.1".parse().unwrap());
        assert!(!failures.is_blocked(at(0), "10.0.0.1".parse().unwrap()) && failures.is_empty());
    }

    #[test]
    fn a_flood_of_addresses_takes_bounded_room_and_does_not_free_who_is_blocked() {
        let mut failures = Failures::new(10);
        let bad = "192.0.2.1".parse().unwrap();
        for _ in 0..10 {
            failures.note(at(0), bad);
        }
        for number in 0..30_000_u32 {
            failures.note(at(0), IpAddr::V4(std::net::Ipv4Addr::from_bits(number)));
            assert!(failures.len() <= ADDRESSES);
        }
        assert!(failures.is_blocked(at(0), bad));
    }
}
