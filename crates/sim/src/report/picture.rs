//! The picture: bars for what each policy cost, lines for how the day went, and the same numbers in words.

use super::drawing::{Anchor, Area, COLOURS, Drawing, Style, round_up, short};
use super::{Report, millis};
use crate::outcome::{Outcome, Sample};

const WIDTH: f64 = 1_040.0;
const MARGIN: f64 = 40.0;
/// Height of a bar and the space below it.
const BAR: f64 = 22.0;
const PLOT_HEIGHT: f64 = 150.0;
/// Most policies that are drawn; the table on the terminal has all.
const MOST: usize = 12;

const PLAIN: Style = Style::new(12, Anchor::Start);
const SMALL: Style = Style::new(10, Anchor::End);
const HEADING: Style = Style { size: 14, bold: true, anchor: Anchor::Start };

/// Shares of a bar: value and opacity.
type Parts = Vec<(f64, f64)>;

pub(super) fn draw(report: &Report) -> String {
    let outcomes = &report.outcomes[..report.outcomes.len().min(MOST)];
    let mut drawing = Drawing::new();
    drawing.text(MARGIN, 34.0, Style { size: 18, bold: true, anchor: Anchor::Start }, &report.workload);
    drawing.text(MARGIN, 54.0, PLAIN, &report.conditions());
    let column = (WIDTH - 3.0 * MARGIN) / 2.0;
    let right = 2.0 * MARGIN + column;
    let mut y = 86.0;
    let cold = |o: &Outcome| (vec![(o.cold_share * 100.0, 1.0)], format!("{:.3} %", o.cold_share * 100.0));
    let left_end =
        bars(&mut drawing, (MARGIN, y, column), "Cold starts, % of served requests", outcomes, &cold);
    let memory = |o: &Outcome| {
        let held = &o.memory_gib_hours;
        let label = format!("{:.0} busy, {:.0} idle", held.busy, held.idle + held.starting);
        (vec![(held.busy, 1.0), (held.idle + held.starting, 0.4)], label)
    };
    bars(
        &mut drawing,
        (right, y, column),
        "Memory held, GiB-hours: busy (dark), idle (light)",
        outcomes,
        &memory,
    );
    y = left_end + 24.0;
    let wait = |o: &Outcome| (vec![(o.wait_ms.p999, 1.0)], waits(o));
    let left_end = bars(
        &mut drawing,
        (MARGIN, y, column),
        "Wait for a slot: p99.9, and p50 / p99 / p99.9",
        outcomes,
        &wait,
    );
    let unserved = |o: &Outcome| {
        let (refused, lost) = (o.refused_total, o.lost_with_a_worker);
        let percent = (refused + lost) as f64 / o.requests.max(1) as f64 * 100.0;
        (vec![(percent, 1.0)], format!("{percent:.3} %: {refused} refused, {lost} lost"))
    };
    bars(&mut drawing, (right, y, column), "Requests not served, %", outcomes, &unserved);
    y = left_end + 24.0;
    for (title, value) in SERIES {
        let happened = outcomes.iter().flat_map(|outcome| &outcome.samples).any(|sample| value(sample) > 0.0);
        if !happened {
            continue;
        }
        y = lines(&mut drawing, (y, report.hours), title, outcomes, value);
    }
    legend(&mut drawing, y, outcomes);
    drawing.finish(WIDTH, y + 40.0)
}

type Value = fn(&Sample) -> f64;

const SERIES: [(&str, Value); 5] = [
    ("Requests in each part of the time", |sample| sample.requests as f64),
    ("Cold starts in each part of the time", |sample| sample.cold_starts as f64),
    ("Refused in each part of the time", |sample| sample.refused as f64),
    ("Idle memory, GiB", |sample| sample.idle_mb as f64 / 1_024.0),
    ("Busy memory, GiB", |sample| sample.busy_mb as f64 / 1_024.0),
];

fn waits(outcome: &Outcome) -> String {
    let wait = &outcome.wait_ms;
    format!("{} / {} / {}", millis(wait.p50), millis(wait.p99), millis(wait.p999))
}

/// Bars side by side in a column `(x, y, width)`; where they end.
fn bars(
    drawing: &mut Drawing,
    (x, y, width): (f64, f64, f64),
    title: &str,
    outcomes: &[Outcome],
    of: &dyn Fn(&Outcome) -> (Parts, String),
) -> f64 {
    drawing.text(x, y, HEADING, title);
    let total = |parts: &Parts| parts.iter().map(|(value, _)| value).sum::<f64>();
    let longest = outcomes.iter().map(|outcome| total(&of(outcome).0)).fold(0.0, f64::max);
    // Names on the left, numbers on the right.
    let (start, room) = (x + 90.0, width - 90.0 - 170.0);
    let mut top = y + 12.0;
    for (outcome, colour) in outcomes.iter().zip(COLOURS.iter().cycle()) {
        let (parts, label) = of(outcome);
        drawing.text(start - 8.0, top + BAR * 0.6, Style::new(12, Anchor::End), &outcome.policy);
        let mut at = start;
        for (value, opacity) in parts {
            let length = if longest > 0.0 { value / longest * room } else { 0.0 };
            drawing.filled(Area { x: at, y: top, width: length, height: BAR - 6.0 }, colour, opacity);
            at += length;
        }
        drawing.text(at + 6.0, top + BAR * 0.6, PLAIN, &label);
        top += BAR;
    }
    top
}

/// One line a policy over time, from the top `y`; where it ends.
fn lines(
    drawing: &mut Drawing,
    (y, hours): (f64, f64),
    title: &str,
    outcomes: &[Outcome],
    value: fn(&Sample) -> f64,
) -> f64 {
    let area =
        Area { x: MARGIN + 50.0, y: y + 10.0, width: WIDTH - 2.0 * MARGIN - 50.0, height: PLOT_HEIGHT };
    drawing.text(MARGIN, y, HEADING, title);
    let all = outcomes.iter().flat_map(|outcome| &outcome.samples);
    let top = round_up(all.map(value).fold(0.0, f64::max));
    for step in 0..=4 {
        let share = f64::from(step) / 4.0;
        let at = area.y + area.height * (1.0 - share);
        drawing.line(&[(area.x, at), (area.x + area.width, at)], "#dddddd", 1.0);
        drawing.text(area.x - 6.0, at + 4.0, SMALL, &short(top * share));
    }
    for step in 0..=8 {
        let share = f64::from(step) / 8.0;
        let at = (area.x + area.width * share, area.y + area.height + 14.0);
        drawing.text(at.0, at.1, Style::new(10, Anchor::Middle), &format!("{} h", short(hours * share)));
    }
    for (outcome, colour) in outcomes.iter().zip(COLOURS.iter().cycle()) {
        let count = outcome.samples.len().max(1) as f64;
        let points = outcome.samples.iter().enumerate().map(|(index, sample)| {
            let across = area.x + area.width * (index as f64 + 1.0) / count;
            (across, area.y + area.height * (1.0 - value(sample) / top))
        });
        drawing.line(&points.collect::<Vec<_>>(), colour, 1.5);
    }
    area.y + area.height + 44.0
}

fn legend(drawing: &mut Drawing, y: f64, outcomes: &[Outcome]) {
    let mut x = MARGIN + 50.0;
    for (outcome, colour) in outcomes.iter().zip(COLOURS.iter().cycle()) {
        drawing.filled(Area { x, y: y - 10.0, width: 12.0, height: 12.0 }, colour, 1.0);
        drawing.text(x + 18.0, y, PLAIN, &outcome.policy);
        x += 30.0 + 8.0 * outcome.policy.chars().count() as f64;
    }
}
