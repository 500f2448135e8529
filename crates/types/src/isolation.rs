//! How strongly an instance is set apart from its neighbours and from the worker.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The driver that a worker isolates an instance with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Linux namespaces, seccomp, cgroups: one shared kernel.
    Container,
    /// A micro-VM of QEMU: a kernel for each instance, under KVM or emulated.
    Qemu,
    /// A micro-VM of Firecracker, under KVM.
    Firecracker,
}

impl Isolation {
    /// The word that settings, logs and APIs use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Qemu => "qemu",
            Self::Firecracker => "firecracker",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no driver of this build.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("isolation {0:?} is not one of: container, qemu, firecracker")]
pub struct ParseIsolationError(String);

impl FromStr for Isolation {
    type Err = ParseIsolationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "container" => Ok(Self::Container),
            "qemu" => Ok(Self::Qemu),
            "firecracker" => Ok(Self::Firecracker),
            other => Err(ParseIsolationError(other.chars().take(32).collect())),
        }
    }
}
