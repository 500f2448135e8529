//! The settings of who may call.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use hearth_frontend::AccessConfig;

use crate::data_dir::DataDir;
use crate::seal_key;

/// What can be told about who may call.
#[derive(Args, Clone, Debug)]
pub(crate) struct AccessArgs {
    /// When every request must be signed with a key: auto as soon as there is one, keys always
    #[arg(long, env = "HEARTH_AUTH", value_name = "WHEN", default_value = "auto")]
    auth: Auth,
    /// The file with the key that seals the secrets of access keys; made if it is not there [default: seal.key in the data folder]
    #[arg(long, env = "HEARTH_SEAL_KEY", value_name = "FILE")]
    seal_key: Option<PathBuf>,
    /// Wrong signatures and keys in a minute from one address; more are not looked at. 0 is no limit
    #[arg(long, env = "HEARTH_AUTH_FAILURES", value_name = "N", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    auth_failures: u32,
    /// Listen to the network without asking for keys: whoever reaches it may run code here
    #[arg(long, env = "HEARTH_INSECURE")]
    insecure: bool,
}

/// When keys are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Auth {
    Auto,
    Keys,
}

impl AccessArgs {
    pub(crate) fn config(&self, data: &DataDir) -> anyhow::Result<AccessConfig> {
        let file = self.seal_key.clone().unwrap_or_else(|| data.seal_key());
        Ok(AccessConfig {
            always: self.auth == Auth::Keys,
            sealer: seal_key::open(&file, !data.is_throw_away() || self.seal_key.is_some())?,
            failures_per_minute: self.auth_failures,
        })
    }

    /// Whether a server may listen at these addresses.
    pub(crate) fn check(&self, addresses: &[SocketAddr], asks_for_keys: bool) -> anyhow::Result<()> {
        let open = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback());
        match open {
            Some(address) if !asks_for_keys && !self.insecure => bail!(
                "{address} is open to the network, and without keys whoever reaches it may run code here: make a key \
                 (hearth key create --operator --data DIR), or start with --auth keys, or with --insecure if that is meant"
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_listened_to_with_keys_or_knowingly() {
        let args = |insecure| AccessArgs { auth: Auth::Auto, seal_key: None, auth_failures: 0, insecure };
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let open = addresses(&["127.0.0.1:1", "0.0.0.0:2"]);
        assert!(args(false).check(&open, false).is_err());
        assert!(args(false).check(&addresses(&["[::]:1"]), false).is_err());
        assert!(args(false).check(&open, true).is_ok());
        assert!(args(true).check(&open, false).is_ok());
        assert!(
            args(false).check(&addresses(&["127.0.0.1:1", "[::1]:2", "[::ffff:127.0.0.1]:3"]), false).is_ok()
        );
    }
}
