//! Which service, and which version of it, the host or the path of a request means.
//!
//! ```text
//! NAME.localhost               a service of the default account
//! QUALIFIER.NAME.localhost     one of its aliases or versions, as in `live.shop.localhost` or `3.shop.localhost`
//! [QUALIFIER.]NAME.ACCOUNT.localhost    of another account
//! /_/NAME[:QUALIFIER]/...      of the account that signed, or the default one
//! ```
//!
//! No alias is a number, so twelve digits behind a name are an account: a service whose own name is twelve digits has its qualifiers below
//! its name with its account.

use hearth_types::{AccountId, FunctionId};

use crate::names::Qualifier;

/// What paths of services begin with.
const PREFIX: &str = "/_/";
/// The domain whose names lead to the machine itself.
const LOCAL: &str = ".localhost";

/// Which service a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) function: FunctionId,
    /// Which version of it: an alias shares its requests out by its weights.
    pub(crate) qualifier: Qualifier,
    /// Bytes of the path that are Hearth's: `/_/NAME`.
    pub(super) prefix: usize,
    /// Whether its owner gave it the host that it is asked by, for all who reach it.
    pub(super) is_published: bool,
}

impl Target {
    /// All of the path is the service's.
    pub(crate) fn of(function: FunctionId, qualifier: Qualifier) -> Self {
        Self { function, qualifier, prefix: 0, is_published: false }
    }

    /// What a path names, of an account.
    pub(super) fn in_path(path: &str, account: &AccountId) -> Option<Self> {
        let named = path.strip_prefix(PREFIX)?.split('/').next()?;
        let (name, qualifier) = match named.split_once(':') {
            Some((name, qualifier)) => (name, Qualifier::read(qualifier)),
            None => (named, Qualifier::None),
        };
        let function = FunctionId { account: account.clone(), name: name.into() };
        Some(Self { prefix: PREFIX.len() + named.len(), ..Self::of(function, qualifier) })
    }

    /// What a name below `localhost` means; `account` is whose it is unless that is said. Nothing if it can be nobody's.
    pub(super) fn in_name(name: &str, account: &AccountId) -> Option<Self> {
        let (rest, account) = match name.rsplit_once('.') {
            Some((rest, last)) => match last.parse() {
                Ok(said) => (rest, said),
                Err(_) => (name, account.clone()),
            },
            None => (name, account.clone()),
        };
        let (qualifier, name) = match rest.split_once('.') {
            Some((qualifier, name)) => (Qualifier::read(qualifier), name),
            None => (Qualifier::None, rest),
        };
        let function = FunctionId { account, name: name.into() };
        (!name.contains('.')).then(|| Self::of(function, qualifier))
    }
}

/// What is before `.localhost`.
pub(super) fn local(host: &str) -> Option<&str> {
    let (name, end) = host.split_at_checked(host.len().checked_sub(LOCAL.len())?)?;
    (!name.is_empty() && end.eq_ignore_ascii_case(LOCAL)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "000000000000";

    fn target(account: &str, name: &str, qualifier: Qualifier) -> Target {
        Target::of(FunctionId { account: account.parse().unwrap(), name: name.into() }, qualifier)
    }

    #[test]
    fn a_name_says_service_qualifier_and_account() {
        let own = ACCOUNT.parse().unwrap();
        let alias = |text: &str| Qualifier::Alias(text.to_owned());
        for (name, expected) in [
            ("shop", Some(target(ACCOUNT, "shop", Qualifier::None))),
            ("live.shop", Some(target(ACCOUNT, "shop", alias("live")))),
            ("3.shop", Some(target(ACCOUNT, "shop", Qualifier::Published(3)))),
            ("$LATEST.shop", Some(target(ACCOUNT, "shop", Qualifier::Latest))),
            ("shop.123456789012", Some(target("123456789012", "shop", Qualifier::None))),
            ("live.shop.123456789012", Some(target("123456789012", "shop", alias("live")))),
            ("live.210987654321.123456789012", Some(target("123456789012", "210987654321", alias("live")))),
            ("a.b.c", None),
            ("a.live.shop.123456789012", None),
        ] {
            assert_eq!(Target::in_name(name, &own), expected, "{name}");
        }
    }

    #[test]
    fn a_path_says_service_and_qualifier() {
        let own = ACCOUNT.parse().unwrap();
        let read = |path| Target::in_path(path, &own).map(|target| (target.qualifier, target.prefix));
        assert_eq!(read("/_/shop/a:b"), Some((Qualifier::None, 7)));
        assert_eq!(read("/_/shop:live"), Some((Qualifier::Alias("live".to_owned()), 12)));
        assert_eq!(read("/_/shop:3/"), Some((Qualifier::Published(3), 9)));
        assert_eq!(read("/_shop"), None);
    }

    #[test]
    fn only_names_below_localhost_are_local() {
        assert_eq!(local("a.LocalHost"), Some("a"));
        for other in ["localhost", ".localhost", "a.localhosts", "é.localhos", ""] {
            assert_eq!(local(other), None, "{other}");
        }
    }
}
