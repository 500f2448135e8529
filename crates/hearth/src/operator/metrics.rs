//! `/metrics`: what each part counts, in Prometheus' text format.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use hearth_manager::{BlankState, Savings};
use hearth_worker::Metrics;
use prometheus_client::registry::Registry;

use crate::role::{Events, ManagerShell, Workers};

/// The registry that parts count in, and the readings that are taken when somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    registry: OnceLock<Registry>,
}

// === impl Exposition ===

impl Exposition {
    /// Shows what is in `registry` from now on; the first one that is set stays.
    pub(crate) fn show(&self, registry: Registry) {
        // Set once, when the server is assembled.
        let _ = self.registry.set(registry);
    }

    /// Everything, as of now.
    pub(crate) fn render(&self, manager: &Arc<ManagerShell>, workers: &Workers, events: &Events) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        if let Some(registry) = self.registry.get() {
            let _ = prometheus_client::encoding::text::encode(&mut text, registry);
        }
        let end = "# EOF\n";
        if text.ends_with(end) {
            text.truncate(text.len() - end.len());
        }
        render_manager(&mut text, manager);
        render_workers(&mut text, workers);
        super::events::render(&mut text, events);
        text.push_str(end);
        text
    }
}

pub(super) fn metric(text: &mut String, name: &str, kind: &str, help: &str, samples: &[(&str, u64)]) {
    let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}");
    for (labels, value) in samples {
        let sample = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        let _ = writeln!(text, "{sample}{labels} {value}");
    }
}

fn render_manager(text: &mut String, manager: &Arc<ManagerShell>) {
    manager.inspect(|_, manager, placement| {
        let counts = manager.counts();
        let states = [
            ("{state=\"starting\"}", counts.starting as u64),
            ("{state=\"idle\"}", counts.idle as u64),
            ("{state=\"hibernating\"}", counts.hibernating as u64),
            ("{state=\"busy\"}", counts.busy as u64),
            ("{state=\"draining\"}", counts.draining as u64),
        ];
        metric(text, "hearth_manager_instances", "gauge", "Instances by state", &states);
        let blanks = |wanted| manager.blanks().filter(|blank| blank.state == wanted).count() as u64;
        let states = [
            ("{state=\"making\"}", blanks(BlankState::Making)),
            ("{state=\"ready\"}", blanks(BlankState::Ready)),
            ("{state=\"ending\"}", blanks(BlankState::Ending)),
        ];
        metric(
            text,
            "hearth_manager_blanks",
            "gauge",
            "Sandboxes made before their function is known",
            &states,
        );
        metric(
            text,
            "hearth_manager_leases",
            "gauge",
            "Requests that hold a slot",
            &[("", counts.leased as u64)],
        );
        metric(
            text,
            "hearth_manager_waiting",
            "gauge",
            "Requests that wait for a slot",
            &[("", counts.waiting as u64)],
        );
        render_savings(text, manager.savings());
        let promised: u64 = placement.workers().map(|worker| worker.memory_promised_mb << 20).sum();
        let limit: u64 = placement.workers().map(|worker| worker.memory_limit_mb << 20).sum();
        let bytes = [("{kind=\"promised\"}", promised), ("{kind=\"limit\"}", limit)];
        metric(
            text,
            "hearth_placement_memory_bytes",
            "gauge",
            "Memory promised to instances, and the most that may be",
            &bytes,
        );
    });
}

fn render_savings(text: &mut String, savings: Savings) {
    let spared = [
        ("{pool=\"provisioned\"}", savings.provisioned),
        ("{pool=\"kept\"}", savings.kept),
        ("{pool=\"prewarmed\"}", savings.prewarmed),
        ("{pool=\"ahead\"}", savings.ahead),
    ];
    let help = "Cold starts that instances ready before their request spared";
    metric(text, "hearth_manager_cold_starts_spared", "counter", help, &spared);
    let help = "Cold starts that a sandbox made before its function was known shortened";
    metric(text, "hearth_manager_cold_starts_shortened", "counter", help, &[("", savings.blanks)]);
    let help =
        "Cold starts of functions whose learned idle time was shorter than the fixed one would have been";
    metric(text, "hearth_manager_cold_starts_given_up", "counter", help, &[("", savings.given_up)]);
}

fn render_workers(text: &mut String, workers: &Workers) {
    let all = workers.metrics();
    let mut by_worker = |name: &str, help: &str, samples: &dyn Fn(&Metrics) -> Vec<(&'static str, u64)>| {
        let samples: Vec<_> = all
            .iter()
            .flat_map(|(id, counts)| {
                let labelled = move |(label, value)| (format!("{{worker=\"{id}\",{label}}}"), value);
                samples(counts).into_iter().map(labelled)
            })
            .collect();
        let samples: Vec<_> = samples.iter().map(|(labels, value)| (labels.as_str(), *value)).collect();
        metric(text, name, "counter", help, &samples);
    };
    by_worker("hearth_worker_invocations", "Invocations by outcome", &|counts| {
        vec![
            ("outcome=\"success\"", counts.succeeded),
            ("outcome=\"function-error\"", counts.function_errors),
            ("outcome=\"timeout\"", counts.timeouts),
            ("outcome=\"crash\"", counts.crashes),
            ("outcome=\"not-delivered\"", counts.not_delivered),
        ]
    });
    by_worker("hearth_worker_instance_starts", "Instances and init phases by outcome", &|counts| {
        vec![
            ("outcome=\"ready\"", counts.instances_ready),
            ("outcome=\"restored\"", counts.instances_restored),
            ("outcome=\"from-blank\"", counts.instances_from_blanks),
            ("outcome=\"started-ahead\"", counts.instances_started_ahead),
            ("outcome=\"init-failed\"", counts.init_failures),
            ("outcome=\"not-made\"", counts.instances_failed),
        ]
    });
    by_worker("hearth_worker_snapshots", "Snapshots of versions after their init phase", &|counts| {
        vec![("outcome=\"taken\"", counts.snapshots_taken)]
    });
    by_worker("hearth_worker_hibernations", "Instances stopped to give their memory back", &|counts| {
        vec![("outcome=\"asleep\"", counts.hibernated)]
    });
    by_worker("hearth_worker_hibernated_bytes", "Memory that hibernating instances gave back", &|counts| {
        vec![("outcome=\"came-back\"", counts.hibernated_bytes)]
    });
    by_worker("hearth_worker_telemetry_events", "Telemetry that extensions subscribed to", &|counts| {
        vec![("outcome=\"dropped\"", counts.telemetry_dropped)]
    });
    // The workers of a process share the logs.
    if let Some((_, counts)) = all.first() {
        let bytes = [("{fate=\"kept\"}", counts.log_bytes), ("{fate=\"dropped\"}", counts.log_dropped_bytes)];
        metric(text, "hearth_worker_log_bytes", "counter", "Bytes of functions' logs", &bytes);
    }
}
