//! Where an instance may connect to.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The networks that an instance reaches. What is close to the worker (its own addresses, other instances, link-local and
/// loopback addresses) is not among them, whatever is said here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Egress {
    /// None: it has no network but its own loopback.
    #[default]
    None,
    /// All that the worker reaches.
    All,
    /// What one of these allows, over TCP and UDP. Not empty.
    Only(Vec<EgressRule>),
}

/// Addresses and ports that may be reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EgressRule {
    /// The first address of the network.
    network: Ipv4Addr,
    /// Leading bits that an address has in common with it, 0 to 32.
    prefix: u8,
    /// From the first to the last port.
    ports: RangeInclusive<u16>,
}

/// Why a text says nothing about egress.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseEgressError {
    /// Nothing is in it, or between two commas.
    #[error(
        "it must be none, all, or rules such as 10.0.0.0/8:443, 192.0.2.7 or 10.1.0.0/16:8000-8010, with commas between"
    )]
    Empty,
    /// More rules than there can be.
    #[error("it has more than {} rules", Egress::MOST_RULES)]
    TooMany,
    /// An IPv6 address.
    #[error("{0:?} is of IPv6, which instances do not have; name IPv4 networks")]
    Ipv6(String),
    /// Neither an address nor a network.
    #[error("{0:?} is no IPv4 address or network such as 192.0.2.7 or 10.0.0.0/8")]
    Network(String),
    /// A network whose address has bits behind its prefix.
    #[error("{0} is no network: its address has bits behind the prefix; the network is {1}")]
    HostBits(String, String),
    /// Neither a port nor a range of ports.
    #[error("{0:?} is no port or range of ports such as 443 or 8000-8010")]
    Ports(String),
}

const ALL_PORTS: RangeInclusive<u16> = 1..=u16::MAX;

// === impl Egress ===

impl Egress {
    /// The most rules of one function.
    pub const MOST_RULES: usize = 64;
}

impl fmt::Display for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::All => f.write_str("all"),
            Self::Only(rules) => {
                for (number, rule) in rules.iter().enumerate() {
                    write!(f, "{}{rule}", if number == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for Egress {
    type Err = ParseEgressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "none" => return Ok(Self::None),
            "all" => return Ok(Self::All),
            _ => {}
        }
        let mut rules = Vec::new();
        for rule in text.split(',') {
            if rules.len() == Self::MOST_RULES {
                return Err(ParseEgressError::TooMany);
            }
            rules.push(rule.trim().parse()?);
        }
        Ok(Self::Only(rules))
    }
}

// === impl EgressRule ===

impl EgressRule {
    /// The network, as `10.0.0.0/8`.
    #[must_use]
    pub fn network(&self) -> String {
        format!("{}/{}", self.network, self.prefix)
    }

    /// From the first to the last port; all from 1 on if none was said.
    #[must_use]
    pub fn ports(&self) -> RangeInclusive<u16> {
        self.ports.clone()
    }
}

impl fmt::Display for EgressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)?;
        match (*self.ports.start(), *self.ports.end()) {
            _ if self.ports == ALL_PORTS => Ok(()),
            (first, last) if first == last => write!(f, ":{first}"),
            (first, last) => write!(f, ":{first}-{last}"),
        }
    }
}

impl FromStr for EgressRule {
    type Err = ParseEgressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let short = |text: &str| text.chars().take(64).collect::<String>();
        if text.is_empty() {
            return Err(ParseEgressError::Empty);
        }
        if text.starts_with('[') || text.matches(':').count() > 1 {
            return Err(ParseEgressError::Ipv6(short(text)));
        }
        let (network, ports) = match text.split_once(':') {
            Some((network, ports)) => {
                (network, read_ports(ports).ok_or_else(|| ParseEgressError::Ports(short(ports)))?)
            }
            None => (text, ALL_PORTS),
        };
        let (address, prefix) = network.split_once('/').unwrap_or((network, "32"));
        let read = address.parse::<Ipv4Addr>().ok().zip(number(prefix).filter(|prefix| *prefix <= 32));
        let (address, prefix) = read.ok_or_else(|| ParseEgressError::Network(short(network)))?;
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        let first = Ipv4Addr::from_bits(address.to_bits() & mask);
        if first != address {
            return Err(ParseEgressError::HostBits(short(network), format!("{first}/{prefix}")));
        }
        // The prefix was checked above.
        Ok(Self { network: address, prefix: u8::try_from(prefix).unwrap_or(32), ports })
    }
}

/// Digits alone, without a sign or a zero before them.
fn number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

fn read_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first >= 1 && first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Egress, ParseEgressError> {
        text.parse()
    }

    #[test]
    fn words_and_rules_are_read() {
        assert_eq!(read("none"), Ok(Egress::None));
        assert_eq!(read(" all "), Ok(Egress::All));
        let Ok(Egress::Only(rules)) = read("10.0.0.0/8:443, 192.0.2.7,0.0.0.0/0:8000-8010") else { panic!() };
        let shown: Vec<_> = rules.iter().map(|rule| (rule.network(), rule.ports())).collect();
        let wanted = [
            ("10.0.0.0/8".to_owned(), 443..=443),
            ("192.0.2.7/32".to_owned(), 1..=65_535),
            ("0.0.0.0/0".to_owned(), 8_000..=8_010),
        ];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn what_is_none_is_said() {
        for text in ["", ",", "10.0.0.0/8,", " "] {
            assert_eq!(read(text), Err(ParseEgressError::Empty), "{text:?}");
        }
        for text in
            ["10.0.0/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/08", "example.com:443", "All", "10.0.0.0/+8"]
        {
            assert!(matches!(read(text), Err(ParseEgressError::Network(_))), "{text:?}");
        }
        for text in
            ["10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:9-8", "10.0.0.1:http", "10.0.0.1:1-2-3"]
        {
            assert!(matches!(read(text), Err(ParseEgressError::Ports(_))), "{text:?}");
        }
        assert!(matches!(read("[::1]:443"), Err(ParseEgressError::Ipv6(_))));
        assert!(matches!(read("2001:db8::/32"), Err(ParseEgressError::Ipv6(_))));
        let said = read("10.1.2.3/8:1").unwrap_err().to_string();
        assert!(said.contains("10.0.0.0/8"), "{said}");
        let many = vec!["10.0.0.0/8"; Egress::MOST_RULES + 1].join(",");
        assert_eq!(read(&many), Err(ParseEgressError::TooMany));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_as_the_same(
            rules in prop::collection::vec((any::<u32>(), 0_u8..=32, 1_u16.., any::<u16>()), 1..64),
        ) {
            let rules = rules.into_iter().map(|(address, prefix, first, more)| EgressRule {
                network: Ipv4Addr::from_bits(address & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)),
                prefix,
                ports: first..=first.saturating_add(more),
            });
            let egress = Egress::Only(rules.collect());
            prop_assert_eq!(read(&egress.to_string()), Ok(egress));
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC*") {
            let _ = read(&text);
        }
    }
}
