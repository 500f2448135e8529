//! `hearth kernel`: the kernels that micro-VMs boot.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use hearth_kernel::Kernels;
use serde_json::json;

use crate::table::render;
use crate::terminal;

/// What `hearth kernel` can be told.
#[derive(Debug, Subcommand)]
pub(crate) enum KernelCommand {
    /// Add a distribution's kernel: a .deb package, or an image (bzImage or ELF, compressed or not)
    #[command(after_help = "\
Example, on Debian:
  apt-get download $(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: //p')
  hearth kernel add linux-image-*.deb")]
    Add {
        /// The file
        file: PathBuf,
        /// The folder of its modules, where they are not in the file
        #[arg(long, value_name = "DIR")]
        modules: Option<PathBuf>,
        #[command(flatten)]
        home: KernelHome,
    },
    /// List the kernels; machines boot the first
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        home: KernelHome,
    },
    /// Remove a kernel
    Rm {
        /// Its id, or the beginning of it
        id: String,
        #[command(flatten)]
        home: KernelHome,
    },
}

/// Where kernels are kept.
#[derive(Args, Clone, Debug)]
pub(crate) struct KernelHome {
    /// The folder of kernels [default: per machine for root, else per user]
    #[arg(long, env = "HEARTH_KERNELS", value_name = "DIR")]
    kernels: Option<PathBuf>,
}

impl KernelHome {
    pub(crate) fn open(&self) -> anyhow::Result<Kernels> {
        let home = self.kernels.clone().unwrap_or_else(Kernels::default_home);
        Ok(Kernels::open(home)?)
    }
}

pub(crate) fn run(command: &KernelCommand) -> anyhow::Result<ExitCode> {
    match command {
        KernelCommand::Add { file, modules, home } => {
            let kernel = home.open()?.add(file, modules.as_deref())?;
            terminal::line(format_args!(
                "{} {} with {} modules",
                kernel.id(),
                kernel.release(),
                kernel.modules().len()
            ))?;
            if !kernel.was_checked() {
                terminal::tell(
                    "hearth: a bare image does not say what it can do; whether it can is seen when it boots",
                );
            }
        }
        KernelCommand::List { json, home } => {
            let kernels = home.open()?.list()?;
            if *json {
                let all: Vec<_> = kernels
                    .iter()
                    .map(|kernel| {
                        json!({ "id": kernel.id(), "release": kernel.release(), "source": kernel.source(),
                            "modules": kernel.modules() })
                    })
                    .collect();
                terminal::line(serde_json::to_string_pretty(&all)?)?;
                return Ok(ExitCode::SUCCESS);
            }
            let rows: Vec<Vec<String>> = kernels
                .iter()
                .map(|kernel| [kernel.id(), kernel.release(), kernel.source()].map(str::to_owned).into())
                .collect();
            terminal::bytes(render(&["ID", "RELEASE", "FROM"], &rows).as_bytes())?;
        }
        KernelCommand::Rm { id, home } => {
            let kernel = home.open()?.remove(id)?;
            terminal::line(format_args!("{} {} is removed", kernel.id(), kernel.release()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
