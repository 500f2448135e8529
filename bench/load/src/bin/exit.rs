//! A program that exits at once: all that is left of `runc run` is the sandbox.

fn main() {}
