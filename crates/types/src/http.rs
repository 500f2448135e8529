//! Functions that are servers of their own: HTTP services.

/// How a service is spoken to, once it is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpService {
    /// The TCP port inside the instance that it listens on.
    pub port: u16,
    /// The path that answers with a success when the service is ready; without one it is as soon as its port accepts.
    pub health: Option<String>,
}
