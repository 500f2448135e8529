//! The network device, where the machine has one: the worker says at each awakening what it is set to, and that may be
//! something else every time.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use hearth_wire::Network;
use rustix::mount::{MountFlags, mount_bind, mount_remount};

use crate::{Failed, step, sys};

/// What functions ask names from, as `/etc/resolv.conf`: the root is read-only.
const RESOLV_CONF: &str = "/run/resolv.conf";

/// What the device is set to now.
#[derive(Debug, Default)]
pub(crate) struct Joined(Option<Network>);

impl Joined {
    /// Has the device be where the worker says. Nothing of a function's runs meanwhile.
    pub(crate) fn join(&mut self, network: &Network) -> Result<(), Failed> {
        if self.0.as_ref() == Some(network) {
            return Ok(());
        }
        if self.0.is_none() {
            // Instances have IPv4 alone. A kernel without IPv6 has no such file.
            let off = fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1");
            step("turn IPv6 off", off.or_else(unless_missing))?;
        }
        let [address, gateway] = [network.address, network.gateway].map(Ipv4Addr::from);
        step("give the network device its address", sys::set_address(address, network.prefix))?;
        step("give the network device its way out", sys::set_way_out(gateway))?;
        let is_new = !Path::new(RESOLV_CONF).exists();
        step("write resolv.conf", fs::write(RESOLV_CONF, &network.resolv_conf))?;
        if is_new {
            let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
            step("mount resolv.conf", mount_bind(RESOLV_CONF, "/etc/resolv.conf"))?;
            step("freeze resolv.conf", mount_remount("/etc/resolv.conf", flags | MountFlags::BIND, c""))?;
        }
        self.0 = Some(network.clone());
        Ok(())
    }
}

fn unless_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
