use super::*;
use crate::units::SECOND;

fn error(text: &str) -> String {
    Scenario::parse(text, "s.toml").unwrap_err().to_string()
}

#[test]
fn a_scenario_says_what_it_says() {
    let text = r#"
        hours = 2
        seed = 9
        policies = ["fixed:10m", "learned:1m"]
        [cluster]
        workers = 3
        cpus = 4
        [starts]
        median = "100ms"
        failing_percent = 2.5
        [[workers_die]]
        at = "30m"
        workers = 1
        back_after = "5m"
        [[slow_starts]]
        from = "1h"
        until = "90m"
        times = 10
        [generate]
        functions = 5
        requests = 100
        [[function]]
        name = "a"
        rate = "1/s"
        arrivals = "periodic"
        duration = "50ms"
        copies = 2
        account = 3
    "#;
    let scenario = Scenario::parse(text, "s.toml").unwrap();
    assert_eq!((scenario.hours, scenario.seed, scenario.policies.len()), (2, 9, 2));
    assert_eq!((scenario.cluster.workers, scenario.cluster.cpu_millis), (3, 4_000));
    assert_eq!(scenario.starts.failing, 0.025);
    assert_eq!(
        scenario.failures[0],
        Failure::WorkersDie { at: 1_800 * SECOND, workers: 1, back_after: Some(300 * SECOND) }
    );
    let workload = scenario.workload();
    assert_eq!(workload.functions(), 7);
    // Generated functions get accounts of their own.
    assert!(workload.functions[2..].iter().all(|function| function.account > 3));
}

#[test]
fn nonsense_is_refused_with_line_and_column() {
    for (text, expected) in [
        ("hours = 0", "s.toml, line 1, column 9: 0 is not a whole number from 1 to 744"),
        ("\n  houers = 1", "s.toml, line 2, column 3: unknown field `houers`"),
        ("[cluster]\nworkers = -1", "s.toml, line 2, column 11: -1 is not a whole number from 1 to 65536"),
        ("[cluster]\nworkers = 1e9", "s.toml, line 2, column 11: invalid type: floating point"),
        ("[cluster]\nworkers = 1\nworker = 2", "s.toml, line 3, column 1: unknown field `worker`"),
        ("[starts]\nmedian = \"-1s\"", "s.toml, line 2, column 10: \"-1s\" is not a time span"),
        ("[starts]\nfailing_percent = nan", "s.toml, line 2, column 19: NaN is not a number from 0 to 100"),
        ("[starts]\nfailing_percent = inf", "s.toml, line 2, column 19: inf is not a number"),
        ("policies = [\"fixed:10m\", \"best\"]", "s.toml, line 1, column 12: \"best\" is not a policy"),
        (
            "[[function]]\nname = \"f\"\nrate = \"0/s\"\nduration = \"1s\"",
            "s.toml, line 3, column 8: \"0/s\" is not a rate",
        ),
        ("[[function]]\nname = \"f\"\nrate = \"1/s\"", "s.toml, line 1, column 1: missing field `duration`"),
        (
            "[[function]]\nname = \"f\"\nrate = \"1/s\"\nduration = \"1s\"\nmemory_mb = 64",
            "s.toml, line 5, column 13: 64 is not",
        ),
        ("[memory]\nbusy_percent = 1", "s.toml, line 1, column 1: missing field `idle_percent`"),
        ("[cluster]\nblanks = 65", "s.toml, line 2, column 10: 65 is not a whole number from 0 to 64"),
        ("[starts]\nof_blank_percent = 101", "s.toml, line 2, column 20: 101 is not a number from 0 to 100"),
        ("seed = -1", "s.toml, line 1, column 8: invalid value"),
        ("a = [", "s.toml, line 1, column 6"),
        ("hours = 1\nhours = 2", "s.toml, line 2, column 1: duplicate key"),
    ] {
        let error = error(text);
        assert!(error.starts_with(expected), "{text:?}: {error}");
    }
}

#[test]
fn hostile_sizes_are_bounded() {
    let function = "[[function]]\nname = \"f\"\nrate = \"1/s\"\nduration = \"1s\"\ncopies = 1000000\n";
    let text = format!("[generate]\nfunctions = 1\nrequests = 1\n{function}");
    assert!(error(&text).contains("1000001 functions in all"), "{}", error(&text));
    assert!(error(&format!("a = {}", "[".repeat(100_000))).len() < 1_000);
    assert!(error(&"x".repeat(500_000)).len() < 1_000);
}

#[test]
fn files_that_are_too_large_or_not_text_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.toml");
    std::fs::write(&path, b"hours = 1\n# \xff").unwrap();
    assert!(Scenario::read(&path).unwrap_err().to_string().ends_with("line 2: it is not UTF-8"));
    std::fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
    assert!(Scenario::read(&path).unwrap_err().to_string().contains("more than 1048576 bytes"));
    assert!(Scenario::read(directory.path()).is_err());
}

#[test]
fn the_scenarios_that_are_shipped_are_understood() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut found = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let scenario = Scenario::read(&entry.unwrap().path()).unwrap();
        assert!(scenario.asks_anything() && !scenario.policies.is_empty());
        found += 1;
    }
    assert!(found >= 3, "{found}");
}
