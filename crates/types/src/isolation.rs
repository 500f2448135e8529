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
}

impl Isolation {
    /// The word that settings, logs and APIs use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
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
#[error("isolation {0:?} is not one of: auto, container")]
pub struct ParseIsolationError(String);

impl FromStr for Isolation {
    type Err = ParseIsolationError;

    /// `auto` means the strongest that works; with one driver built, that is `container`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" | "container" => Ok(Self::Container),
            other => Err(ParseIsolationError(other.chars().take(32).collect())),
        }
    }
}
