//! The API over real sockets, with a store and archives on disk and a backend that follows a script.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod clients;
mod concurrency;
mod connections;
mod events;
mod functions;
mod invocations;
mod scripted;
mod server;
mod services;
mod tables;
mod versions;
