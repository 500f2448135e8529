use super::*;
use crate::{Cluster, Generate, Policy, Starts, run};

fn report(seed: u64, policies: &[&str]) -> Report {
    let setup = Setup {
        workload: Generate { functions: 60, requests: 20_000, hours: 3, seed }.workload(),
        cluster: Cluster { workers: 5, ..Cluster::default() },
        starts: Starts::default(),
        failures: Vec::new(),
        seed,
    };
    let mut report = Report::new(&setup);
    for policy in policies {
        let policy: Policy = policy.parse().unwrap();
        report.outcomes.push(run(&setup, policy, &mut |_| ()).unwrap());
    }
    report
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let policies = ["fixed:10m", "fixed:1m"];
    let (one, again, other) = (report(1, &policies), report(1, &policies), report(2, &policies));
    for of in [Report::json, Report::text, Report::svg] {
        assert_eq!(of(&one), of(&again));
        assert_ne!(of(&one), of(&other));
    }
}

#[test]
fn every_policy_has_the_same_requests_and_its_own_costs() {
    let report = report(1, &["fixed:10m", "fixed:1m"]);
    let [long, short] = &report.outcomes[..] else { panic!() };
    assert_eq!(long.requests, short.requests);
    assert!(long.cold_starts < short.cold_starts);
    assert!(long.memory_gib_hours.idle > short.memory_gib_hours.idle);
    for outcome in &report.outcomes {
        assert_eq!(outcome.samples.iter().map(|sample| sample.requests).sum::<u64>(), outcome.requests);
        assert_eq!(outcome.samples.iter().map(|sample| sample.cold_starts).sum::<u64>(), outcome.cold_starts);
    }
    let text = report.text();
    assert!(text.contains("fixed:10m") && text.contains("fixed:1m") && text.contains("wait, p99.9"));
}

#[test]
fn a_picture_is_well_formed_whatever_the_names() {
    let mut report = report(1, &["fixed:10m"]);
    report.workload = "<script>&\"\u{1}".to_owned();
    let svg = report.svg();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("&lt;script&gt;&amp;&quot;\u{fffd}"));
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
    report.outcomes.clear();
    assert!(!report.svg().contains("NaN"));
}
