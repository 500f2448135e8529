//! Which language runtimes this machine has, and how an instance starts one.
//!
//! Interpreters are found where people have them (PATH, pyenv, uv, nvm) and shown to instances at `/var/lang`; what speaks to the
//! Runtime API for them, the client, is shown at `/var/runtime`. Python's is AWS's own, installed once and pinned by hash; Node's
//! is ours and needs no installing, since AWS's takes a minute and a C++ tool chain to build.
//!
//! | file | what it owns |
//! |---|---|
//! | `catalog` | the list, and what each runtime still needs |
//! | `interpreters` | where interpreters are on this machine |
//! | `home` | the folder of what was installed: whole or not at all |
//! | `python`, `node` | how each starts, and its client |

mod catalog;
mod home;
mod interpreters;
mod node;
mod python;

pub use catalog::{AddError, Catalog, Missing, Program, RuntimeState, RuntimeStatus};
