//! The settings of events.

use std::time::Duration;

use clap::Args;
use hearth_aws::Sqs;
use hearth_events::Config;

use crate::role::destinations::{Destinations, HttpDestination};

/// The longest wait of a function's events that get no slot. Source: AWS, "Asynchronous invocation".
const LONGEST_REFUSED: Duration = Duration::from_secs(300);

/// What can be told about events.
#[derive(Args, Clone, Debug)]
pub(crate) struct EventArgs {
    /// Events kept for one function; more are refused
    #[arg(long, env = "HEARTH_EVENT_DEPTH", value_name = "N", default_value_t = 100_000,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    event_depth: u64,
    /// Events kept in all
    #[arg(long, env = "HEARTH_EVENT_TOTAL", value_name = "N", default_value_t = 500_000,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    event_total: u64,
    /// Disk for the payloads of events, MiB
    #[arg(long, env = "HEARTH_EVENT_MB", value_name = "MB", default_value_t = 4_096,
          value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    event_mb: u64,
    /// Events that run at once
    #[arg(long, env = "HEARTH_EVENT_RUNNING", value_name = "N", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    event_running: u32,
    /// Wait before the second attempt of an event that failed, ms; twice that before the third
    #[arg(long, env = "HEARTH_EVENT_RETRY_MS", value_name = "MS", default_value_t = 60_000,
          value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    event_retry_ms: u64,
    /// First wait of a function's events that get no slot, ms; doubles up to five minutes
    #[arg(long, env = "HEARTH_EVENT_REFUSED_MS", value_name = "MS", default_value_t = 1_000,
          value_parser = clap::value_parser!(u64).range(1..=300_000))]
    event_refused_ms: u64,
    /// An endpoint that records of events may be sent to, as NAME=http://HOST/PATH; may be repeated
    #[arg(long, env = "HEARTH_HTTP_DESTINATIONS", value_name = "NAME=URL", value_delimiter = ',')]
    http_destination: Vec<HttpDestination>,
}

/// Events that are too old whose end is told at once: their payloads are in memory.
const EXPIRING: u32 = 16;

impl EventArgs {
    pub(crate) fn config(&self) -> Config {
        Config {
            lane_depth: self.event_depth,
            depth: self.event_total,
            bytes: self.event_mb << 20,
            running: self.event_running,
            // One function leaves some for the others.
            lane_running: (self.event_running * 3 / 4).max(1),
            expiring: EXPIRING,
            retry: Duration::from_millis(self.event_retry_ms),
            refused: (Duration::from_millis(self.event_refused_ms), LONGEST_REFUSED),
        }
    }

    pub(crate) fn destinations(&self, sqs: Option<Sqs>) -> Destinations {
        Destinations::new(self.http_destination.iter().cloned(), sqs)
    }
}
