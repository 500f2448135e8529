//! Sandboxes that are made before it is known which function they are for.

use std::fmt;

use crate::{FunctionSpec, Runtime, RuntimeFamily, limits};

/// What a blank, a sandbox with a runtime and no function, must have in common with the function that is to run in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlankKind {
    /// The function's runtime.
    pub runtime: Runtime,
    /// Memory that the blank is made with and promised, MiB: the least there is, which grows with the function. Only
    /// where the interpreter must know its memory when it starts, as Node.js does, it is the function's.
    pub memory_mb: u32,
}

impl FunctionSpec {
    /// The blanks that instances of it can be made of.
    #[must_use]
    pub fn blank_kind(&self) -> BlankKind {
        let memory_mb = match self.runtime.family() {
            RuntimeFamily::Node => self.memory_mb,
            RuntimeFamily::Provided | RuntimeFamily::Python | RuntimeFamily::Image => limits::MEMORY_MB.min,
        };
        BlankKind { runtime: self.runtime.clone(), memory_mb }
    }
}

impl fmt::Display for BlankKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} MB", self.runtime, self.memory_mb)
    }
}
