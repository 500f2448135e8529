//! Hosts that services have as their own. The first that says so has it, until it lets go or is deleted.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

use hearth_types::FunctionId;

/// Hosts of one service.
const MOST: usize = 16;
/// Characters of a host's name, and of a part of it.
const LONGEST: usize = 253;
/// See [`LONGEST`].
const LONGEST_PART: usize = 63;

/// Which service has which host, names in lower case.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    by_name: RwLock<HashMap<String, FunctionId>>,
}

impl Hosts {
    pub(crate) fn get(&self, host: &str) -> Option<FunctionId> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        if by_name.is_empty() {
            return None;
        }
        by_name.get(&host.to_ascii_lowercase()).cloned()
    }

    /// The first of some hosts that is another service's.
    pub(crate) fn taken<'a>(&self, function: &FunctionId, hosts: &'a [String]) -> Option<&'a str> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        let of_another = |host: &&String| by_name.get(*host).is_some_and(|owner| owner != function);
        hosts.iter().find(of_another).map(String::as_str)
    }

    /// Gives a service the hosts that its tags name and no others, nor any that another has.
    pub(crate) fn set(&self, function: &FunctionId, tags: &BTreeMap<String, String>) {
        let hosts = of(tags);
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        if hosts.is_empty() && by_name.is_empty() {
            return;
        }
        by_name.retain(|_, owner| owner != function);
        for host in hosts {
            by_name.entry(host).or_insert_with(|| function.clone());
        }
    }
}

/// The hosts that a tag's value names; nothing if it cannot name them.
pub(crate) fn read(text: &str) -> Option<Vec<String>> {
    let hosts: Vec<String> =
        text.split([',', ' ']).filter(|host| !host.is_empty()).map(str::to_ascii_lowercase).collect();
    let good = (1..=MOST).contains(&hosts.len()) && hosts.iter().all(|host| may_be_mapped(host));
    good.then_some(hosts)
}

/// Whether a name can be a service's own: the name of a host in some domain, none of those that lead elsewhere in Hearth.
fn may_be_mapped(host: &str) -> bool {
    let part = |part: &str| {
        (1..=LONGEST_PART).contains(&part.len())
            && !part.starts_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    host.len() <= LONGEST
        && host.contains('.')
        && host.split('.').all(part)
        && host.parse::<IpAddr>().is_err()
        && !host.ends_with(".localhost")
        && !host.split('.').any(|part| part == "lambda-url")
}

/// The hosts in a function's tags.
pub(crate) fn of(tags: &BTreeMap<String, String>) -> Vec<String> {
    tags.get(crate::tags::HOSTS).and_then(|text| read(text)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_in_a_domain_that_is_not_hearths_own() {
        assert_eq!(
            read("A.example,b-1.example"),
            Some(vec!["a.example".to_owned(), "b-1.example".to_owned()])
        );
        for wrong in [
            "",
            "localhost",
            "f.localhost",
            "127.0.0.1",
            "x.lambda-url.example",
            "a..b",
            "a.example:80",
            "-a.b",
            "a/b.c",
            "*.example",
            &"a.".repeat(200),
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_host_has_one_owner() {
        let hosts = Hosts::default();
        let id = |name: &str| FunctionId { account: "123456789012".parse().unwrap(), name: name.into() };
        let tags = |text: &str| BTreeMap::from([(crate::tags::HOSTS.to_owned(), text.to_owned())]);
        hosts.set(&id("a"), &tags("one.example,two.example"));
        let wanted = read("three.example,two.example").unwrap();
        assert_eq!(hosts.taken(&id("b"), &wanted), Some("two.example"));
        assert_eq!(hosts.taken(&id("a"), &wanted), None);
        hosts.set(&id("b"), &tags("three.example,two.example"));
        assert_eq!((hosts.get("two.example"), hosts.get("three.example")), (Some(id("a")), Some(id("b"))));
        hosts.set(&id("a"), &tags("one.example"));
        assert_eq!(hosts.taken(&id("b"), &wanted), None);
        hosts.set(&id("b"), &tags("two.example"));
        assert_eq!(hosts.get("TWO.example"), Some(id("b")));
        hosts.set(&id("b"), &BTreeMap::new());
        assert_eq!(hosts.get("two.example"), None);
    }
}
