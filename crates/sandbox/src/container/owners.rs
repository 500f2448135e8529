//! Whose an image's files are: user namespaces that nothing runs in, made for their maps of ids alone.
//!
//! A sandbox enters its own user namespace last, when its root is mounted already; so the map by which its layers are mounted
//! needs another one, alike. A range of ids keeps its namespace for the next sandbox that has it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{Signal, pidfd_send_signal};

use super::sys;
use super::zygote_link::ZygoteLink;
use crate::users::{IdMap, write_maps};

/// Namespaces that are kept. Ranges are given out the last one back first, so few are enough.
const KEPT: usize = 128;

/// First id of the range that [`try_to_map`] maps to, which nobody runs as.
const TRIED: u32 = 0x7000_0000;

/// The namespaces of a driver.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// By the first id of their range.
    kept: Mutex<HashMap<u32, (IdMap, Arc<OwnedFd>)>>,
    /// Whether the kernel can mount the layers so.
    works: OnceLock<bool>,
}

// === impl Owners ===

impl Owners {
    /// What says whose files are in a sandbox with that range and map; nothing where the kernel or the layers' file system cannot. Blocks.
    pub(super) fn of(
        &self,
        zygote: &ZygoteLink,
        (range, map): (u32, &IdMap),
        layer: &Path,
    ) -> io::Result<Option<Arc<OwnedFd>>> {
        if self.works.get() == Some(&false) {
            return Ok(None);
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&range).cloned();
        let namespace = match kept {
            Some((same, namespace)) if same == *map => namespace,
            _ => Arc::new(make(zygote, map)?),
        };
        if !*self.works.get_or_init(|| can_map(layer, &namespace)) {
            return Ok(None);
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT && !kept.contains_key(&range) {
            kept.clear();
        }
        kept.insert(range, (map.clone(), Arc::clone(&namespace)));
        Ok(Some(namespace))
    }
}

fn make(zygote: &ZygoteLink, map: &IdMap) -> io::Result<OwnedFd> {
    let (pid, pidfd) = zygote.user_namespace()?;
    let namespace = write_maps(pid, map, false)
        .and_then(|()| File::open(format!("/proc/{pid}/ns/user")).map(OwnedFd::from));
    let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    namespace
}

fn map_owners(folder: &Path, namespace: &OwnedFd) -> io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, folder, flags)?;
    sys::set_owners(tree.as_fd(), namespace.as_fd())
}

/// Tries whether the owners of files on the file system of that folder can be mapped, in a user namespace that goes with the attempt.
pub(crate) fn try_to_map(folder: &Path) -> io::Result<()> {
    let mut holder = Command::new("unshare")
        .args(["-U", "sh", "-c", "echo; read never"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    // It is in its namespace once it says so.
    let said = holder.stdout.take().map_or(Ok(0), |mut output| output.read(&mut [0]));
    let tried = said.and_then(|_| {
        let pid = i32::try_from(holder.id()).map_err(io::Error::other)?;
        write_maps(pid, &IdMap::new(TRIED, &[]), false)?;
        map_owners(folder, &File::open(format!("/proc/{pid}/ns/user"))?.into())
    });
    let _ = holder.kill().and_then(|()| holder.wait());
    tried
}

fn can_map(layer: &Path, namespace: &OwnedFd) -> bool {
    match map_owners(layer, namespace) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(
                %error,
                "files of images belong to nobody in instances: this kernel, or the file system that images are on, has no idmapped mounts"
            );
            false
        }
    }
}
