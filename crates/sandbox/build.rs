//! Builds the micro-VMs' first process, a static program, for the driver to carry in itself.

#![expect(clippy::expect_used, reason = "a build that cannot go on says why and ends")]

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let crates = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the crate is"));
    let workspace = crates.ancestors().nth(2).expect("the crate is two levels down").to_owned();
    for path in ["crates/agent", "crates/wire", "Cargo.lock", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where to build to"));
    let target = env::var("TARGET").expect("cargo says for what");
    // A folder of its own: the outer build holds the lock of the usual one.
    let folder = out.join("agent-target");
    let status = Command::new(env::var_os("CARGO").expect("cargo says where it is"))
        .current_dir(&workspace)
        .args(["build", "--quiet", "--locked", "--package", "hearth-agent", "--profile", "agent"])
        .args(["--target", &target])
        .arg("--target-dir")
        .arg(&folder)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_BUILD_RUSTFLAGS")
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the agent of micro-VMs (crates/agent) cannot be built");
    let built = folder.join(target).join("agent/hearth-agent");
    std::fs::copy(&built, out.join("hearth-agent")).expect("the agent can be copied");
    // A few dozen megabytes that are of no more use.
    let _ = std::fs::remove_dir_all(folder);
}
