//! The part that clients talk to: Lambda's REST API over HTTP, wire-exact for AWS's own SDKs.
//!
//! It checks what comes in, keeps functions in the store, and asks a [`Backend`] for slots and answers. It knows
//! neither instances nor workers, and nothing that it remembers is lost with it: the store has the functions, the
//! manager has the leases.

mod access;
mod aliases;
mod backend;
mod body;
mod cache;
mod challenges;
mod code;
mod config;
mod configs;
mod core;
mod download;
mod error;
mod event_config;
mod events;
mod functions;
mod hop;
mod image;
mod invoke;
mod invoke_streamed;
mod layers;
mod mappings;
mod metrics;
mod names;
mod neighbours;
mod operations;
mod operator;
mod permissions;
mod policy;
#[cfg(test)]
mod properties;
mod provisioned;
mod read;
mod registry;
mod render;
mod request;
mod route;
mod router;
mod scheduler;
mod server;
mod service;
mod services;
mod settings;
mod shapes;
mod spec;
mod tags;
mod tenancy;
mod tls;
mod to_end;
mod url;
mod validate;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use hearth_aws::S3;
use hearth_image::ImageStore;
use hearth_oci::Puller;
use hearth_store::{Store, StoreError};
use hearth_types::{AccountId, FunctionId};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use access::{AccessConfig, administer_keys};
pub use backend::{Backend, ForwardError, LogLine, NoQueue, NotAccepted, Provisioned, Viewer};
pub use body::{Body, full, stream};
pub use challenges::Challenges;
pub use events::{EventCall, EventPolicy, EventRun};
pub use mappings::{Filters, Mapping};
pub use metrics::FrontendMetrics;
pub use scheduler::schedule_of;
pub use tls::{Certificates, TlsError};

use crate::core::Core;

/// What an operator decides about a frontend.
#[derive(Clone, Debug)]
pub struct FrontendConfig {
    /// The AWS region that it says it is.
    pub region: String,
    /// Whose functions a caller means whose access key id is not an account's twelve digits.
    pub default_account: AccountId,
    /// How clients reach it, without a slash at the end: `http://127.0.0.1:9000`.
    pub public_endpoint: String,
    /// Domains below which services may have hosts of their own (`hearth:hosts`), in lower case; none without.
    pub service_domains: Vec<String>,
    /// Where code lies that requests name by bucket and key; nowhere without.
    pub s3: Option<S3>,
    /// Clients' connections at once; more wait in the kernel's queue.
    pub connections: usize,
    /// Time for the head of a request, and between requests of a connection.
    pub client_timeout: Duration,
    /// Requests in flight at once that an account may have; told by GetAccountSettings, enforced by the manager.
    pub account_concurrency: u32,
    /// Who may call.
    pub access: AccessConfig,
}

/// The server of the API.
#[derive(Debug)]
pub struct Frontend<B: Backend> {
    core: Arc<Core<B>>,
}

impl<B: Backend> Frontend<B> {
    /// A frontend that keeps functions in `store`, their archives in `images` and container images where `puller` puts them, and has
    /// functions run by `backend`.
    #[must_use]
    pub fn new(
        config: FrontendConfig,
        store: Arc<dyn Store>,
        images: Arc<ImageStore>,
        puller: Arc<Puller>,
        backend: Arc<B>,
    ) -> Self {
        Self { core: Arc::new(Core::new(config, store, images, puller, backend)) }
    }

    /// Takes up again what a stop interrupted, functions that are being created or updated, and tells the backend
    /// what is reserved and provisioned. To be called once, before [`Self::serve`].
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn resume(&self) -> Result<(), StoreError> {
        self.core.resume().await
    }

    /// Answers connections until `stop` becomes true or its sender is gone; returns when every request in flight
    /// has its answer.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: watch::Receiver<bool>) {
        server::serve(Arc::clone(&self.core), (listener, None), stop).await;
    }

    /// The same over TLS.
    pub async fn serve_tls(
        self: Arc<Self>,
        listener: TcpListener,
        certificates: Arc<Certificates>,
        stop: watch::Receiver<bool>,
    ) {
        server::serve(Arc::clone(&self.core), (listener, Some(certificates)), stop).await;
    }

    /// Runs a function with an event, once.
    pub async fn run_event(&self, call: EventCall) -> EventRun {
        self.core.run_event(call).await
    }

    /// How events of a function's qualifier are retried, and where their ends are told.
    pub async fn event_policy(&self, function: &FunctionId, qualifier: Option<&str>) -> EventPolicy {
        self.core.event_policy(function, qualifier).await
    }

    /// Whether a function may be run in a loop of events.
    pub async fn recursion_allowed(&self, function: &FunctionId) -> bool {
        self.core.recursion_allowed(function).await
    }

    /// What it answers authorities that ask whether a name leads here.
    #[must_use]
    pub fn challenges(&self) -> Arc<Challenges> {
        Arc::clone(&self.core.challenges)
    }

    /// Whether every request must be signed with a key.
    #[must_use]
    pub fn asks_for_keys(&self) -> bool {
        self.core.gate.asks()
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> &FrontendMetrics {
        &self.core.metrics
    }
}
