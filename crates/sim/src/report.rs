//! What several policies came to on the same workload: JSON for programs, a table for terminals, a picture for reports.
//!
//! All three are the same bytes for the same input: no date, no speed, no path but those given.

mod drawing;
mod picture;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::engine::Setup;
use crate::outcome::Outcome;

/// A label, and a cell for each outcome.
type Row = (String, Vec<String>);

/// Outcomes of several policies, and what they have in common.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where the requests came from.
    pub workload: String,
    /// How many functions it has.
    pub functions: usize,
    /// For how long requests came, hours.
    pub hours: f64,
    /// The seed.
    pub seed: u64,
    /// How many workers there were.
    pub workers: u32,
    /// Memory of each, MiB.
    pub worker_memory_mb: u64,
    /// How much of it each promised, percent.
    pub memory_percent: u32,
    /// Requests at once that an account might have.
    pub account_concurrency: u32,
    /// One for each policy.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// A report without outcomes yet.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        Self {
            workload: setup.workload.origin.clone(),
            functions: setup.workload.functions(),
            hours: setup.workload.end as f64 / crate::units::HOUR as f64,
            seed: setup.seed,
            workers: setup.cluster.workers,
            worker_memory_mb: setup.cluster.memory_mb,
            memory_percent: setup.cluster.memory_percent,
            account_concurrency: setup.cluster.account_concurrency,
            outcomes: Vec::new(),
        }
    }

    /// As JSON, with a newline at the end.
    #[must_use]
    pub fn json(&self) -> String {
        // Numbers, texts and maps with texts as keys: nothing that JSON cannot say.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// As a picture, SVG.
    #[must_use]
    pub fn svg(&self) -> String {
        picture::draw(self)
    }

    /// As a table with a column for each policy, for terminals.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n\n", self.workload, self.conditions());
        let rows = self.rows();
        let label_width = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        let mut widths = vec![0; self.outcomes.len()];
        for (_, cells) in &rows {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = cell.chars().count().max(*width);
            }
        }
        for (label, cells) in &rows {
            let mut line = format!("{label:<label_width$}");
            for (cell, width) in cells.iter().zip(&widths) {
                line.push_str(&format!("  {cell:>width$}"));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn conditions(&self) -> String {
        format!(
            "{} functions, {:.1} hours; {} workers of {} MiB, {} % promised; {} requests at once an account; seed {}",
            self.functions,
            self.hours,
            self.workers,
            self.worker_memory_mb,
            self.memory_percent,
            self.account_concurrency,
            self.seed
        )
    }

    fn row(&self, label: &str, cell: &dyn Fn(&Outcome) -> String) -> Row {
        (label.to_owned(), self.outcomes.iter().map(cell).collect())
    }

    /// Labels, and a cell for each outcome.
    fn rows(&self) -> Vec<Row> {
        let row = |label: &str, cell: &dyn Fn(&Outcome) -> String| self.row(label, cell);
        let mut rows = vec![
            row("policy", &|o| o.policy.clone()),
            row("requests", &|o| o.requests.to_string()),
            row("  completed", &|o| o.completed.to_string()),
            row("  lost with a worker", &|o| o.lost_with_a_worker.to_string()),
            row("  failed to initialize", &|o| o.failed_to_initialize.to_string()),
            row("  refused", &|o| o.refused_total.to_string()),
        ];
        let reasons: BTreeSet<_> =
            self.outcomes.iter().flat_map(|outcome| outcome.refused.keys().copied()).collect();
        for reason in reasons {
            let count = |o: &Outcome| o.refused.get(reason).copied().unwrap_or(0).to_string();
            rows.push(row(&format!("    {reason}"), &count));
        }
        rows.extend(self.numbers());
        rows
    }

    fn numbers(&self) -> Vec<Row> {
        let row = |label: &str, cell: &dyn Fn(&Outcome) -> String| self.row(label, cell);
        let percent = |share: f64| format!("{:.3} %", share * 100.0);
        let mut rows = vec![
            row("cold starts", &|o| o.cold_starts.to_string()),
            row("  of served requests", &|o| percent(o.cold_share)),
            row("  of the median function's", &|o| percent(o.cold_share_of_median_function)),
            row("  of the third quartile's", &|o| percent(o.cold_share_of_third_quartile_function)),
            row("  spared by keeping longer", &|o| o.spared.kept_longer.to_string()),
            row("  spared by pre-warming", &|o| o.spared.prewarmed.to_string()),
            row("  spared ahead of bursts", &|o| o.spared.ahead.to_string()),
            row("  spared by provisioned", &|o| o.spared.provisioned.to_string()),
            row("  made by keeping shorter", &|o| o.spared.made_by_keeping_shorter.to_string()),
            row("  shortened by blanks", &|o| o.spared.shortened_by_blanks.to_string()),
            row("workers pressed for memory", &|o| o.workers_pressed.to_string()),
            row("  instances hibernated", &|o| o.instances.hibernated.to_string()),
            row("wait, p50", &|o| millis(o.wait_ms.p50)),
            row("wait, p99", &|o| millis(o.wait_ms.p99)),
            row("wait, p99.9", &|o| millis(o.wait_ms.p999)),
            row("wait, longest", &|o| millis(o.wait_ms.max)),
            row("  without a free slot, p50", &|o| millis(o.wait_ms_without_free_slot.p50)),
            row("  without a free slot, p99", &|o| millis(o.wait_ms_without_free_slot.p99)),
            row("memory busy, GiB-hours", &|o| gib_hours(o.memory_gib_hours.busy)),
            row("memory idle, GiB-hours", &|o| gib_hours(o.memory_gib_hours.idle)),
            row("memory starting, GiB-hours", &|o| gib_hours(o.memory_gib_hours.starting)),
            row("instances placed", &|o| o.instances.placed.to_string()),
            row("  found no room", &|o| o.instances.not_placed.to_string()),
            row("  failed to start", &|o| o.instances.failed_to_start.to_string()),
            row("  most at once", &|o| o.instances.peak.to_string()),
            row("  most memory at once", &|o| format!("{:.1} GiB", o.instances.peak_memory_gib)),
            row("workers lost", &|o| o.workers_lost.to_string()),
        ];
        let reasons: BTreeSet<_> =
            self.outcomes.iter().flat_map(|o| o.instances.ended.keys().copied()).collect();
        for reason in reasons {
            let count = |o: &Outcome| o.instances.ended.get(reason).copied().unwrap_or(0).to_string();
            rows.push(row(&format!("instances ended: {reason}"), &count));
        }
        rows
    }
}

fn gib_hours(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

/// Milliseconds as people read them.
fn millis(millis: f64) -> String {
    match millis {
        _ if millis >= 10_000.0 => format!("{:.1} s", millis / 1_000.0),
        _ if millis >= 100.0 => format!("{millis:.0} ms"),
        _ => format!("{millis:.1} ms"),
    }
}
