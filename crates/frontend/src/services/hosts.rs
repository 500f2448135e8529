//! Hosts that services have as their own. The first that says so has it, until it lets go or is deleted.
//!
//! A tag's value lists them, `www.shop.example,live@shop.example`: what is before `@` says which alias or version of the service the host leads to.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

use hearth_types::FunctionId;

use super::Target;
use crate::names::Qualifier;

/// Hosts of one service.
const MOST: usize = 16;
/// Characters of a host's name, and of a part of it.
const LONGEST: usize = 253;
/// See [`LONGEST`].
const LONGEST_PART: usize = 63;

/// Characters of an alias.
const LONGEST_ALIAS: usize = 128;

/// Which service has which host, names in lower case.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    by_name: RwLock<HashMap<String, (FunctionId, Qualifier)>>,
}

/// A host, and what of its service it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(super) name: String,
    qualifier: Qualifier,
}

impl Hosts {
    pub(super) fn get(&self, host: &str) -> Option<Target> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        if by_name.is_empty() {
            return None;
        }
        let (function, qualifier) = by_name.get(&host.to_ascii_lowercase()).cloned()?;
        Some(Target { is_published: true, ..Target::of(function, qualifier) })
    }

    /// The first of some hosts that is another service's.
    pub(crate) fn taken<'a>(&self, function: &FunctionId, hosts: &'a [Host]) -> Option<&'a str> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        let of_another = |name: &&str| by_name.get(*name).is_some_and(|(owner, _)| owner != function);
        hosts.iter().map(|host| host.name.as_str()).find(of_another)
    }

    /// Gives a service the hosts that its tags name and no others, nor any that another has.
    pub(crate) fn set(&self, function: &FunctionId, tags: &BTreeMap<String, String>) {
        let hosts = of(tags);
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        if hosts.is_empty() && by_name.is_empty() {
            return;
        }
        by_name.retain(|_, (owner, _)| owner != function);
        for Host { name, qualifier } in hosts {
            by_name.entry(name).or_insert_with(|| (function.clone(), qualifier));
        }
    }
}

/// The hosts that a tag's value names; nothing if it cannot name them.
pub(crate) fn read(text: &str) -> Option<Vec<Host>> {
    let items = text.split([',', ' ']).filter(|item| !item.is_empty());
    let hosts: Vec<Host> = items.map(read_one).collect::<Option<_>>()?;
    (1..=MOST).contains(&hosts.len()).then_some(hosts)
}

fn read_one(text: &str) -> Option<Host> {
    let (qualifier, name) = match text.split_once('@') {
        Some((qualifier, name)) if may_be_qualifier(qualifier) => (Qualifier::read(qualifier), name),
        Some(_) => return None,
        None => (Qualifier::None, text),
    };
    let name = name.to_ascii_lowercase();
    may_be_mapped(&name).then_some(Host { name, qualifier })
}

/// Whether there can be an alias or version of that name.
fn may_be_qualifier(text: &str) -> bool {
    (1..=LONGEST_ALIAS).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
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
pub(crate) fn of(tags: &BTreeMap<String, String>) -> Vec<Host> {
    tags.get(crate::tags::HOSTS).and_then(|text| read(text)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_in_a_domain_that_is_not_hearths_own() {
        let host = |name: &str, qualifier| Host { name: name.to_owned(), qualifier };
        assert_eq!(
            read("A.example, Live@b-1.example,3@c.example"),
            Some(vec![
                host("a.example", Qualifier::None),
                host("b-1.example", Qualifier::Alias("Live".to_owned())),
                host("c.example", Qualifier::Published(3)),
            ])
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
            "@a.example",
            "live@",
            "a@b@c.example",
            "no name@a.example",
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
        hosts.set(&id("b"), &tags("three.example,live@two.example"));
        let owner = |host: &str| hosts.get(host).map(|target| target.function);
        assert_eq!((owner("two.example"), owner("three.example")), (Some(id("a")), Some(id("b"))));
        hosts.set(&id("a"), &tags("one.example"));
        assert_eq!(hosts.taken(&id("b"), &wanted), None);
        hosts.set(&id("b"), &tags("live@two.example"));
        assert_eq!(
            hosts.get("TWO.example").map(|target| (target.function, target.qualifier)),
            Some((id("b"), Qualifier::Alias("live".to_owned())))
        );
        hosts.set(&id("b"), &BTreeMap::new());
        assert_eq!(hosts.get("two.example"), None);
    }
}
