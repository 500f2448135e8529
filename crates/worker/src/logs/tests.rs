use std::fs;

use super::*;

fn id(name: &str) -> FunctionId {
    FunctionId { account: "123456789012".parse().unwrap(), name: name.into() }
}

fn texts(logs: &Logs, name: &str, lines: usize) -> Vec<String> {
    logs.read(&id(name), lines, 0).unwrap().into_iter().map(|line| line.text).collect()
}

#[test]
fn lines_come_back_in_order_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let instance = InstanceId::new(1, 2);
    for life in 0..3 {
        let logs = Logs::open(directory.path().to_owned(), 1 << 20).unwrap();
        let log = logs.function(&id("f")).unwrap();
        log.write(instance, format!("a{life}\nb{life}\n").as_bytes());
        log.write(instance, b"tab\there \xff");
        assert_eq!(
            texts(&logs, "f", 3),
            [format!("a{life}"), format!("b{life}"), "tab\there \u{fffd}".into()]
        );
        assert_eq!(texts(&logs, "f", 100).len(), 3 * (life + 1));
        assert_eq!(logs.read(&id("f"), 1, 0).unwrap()[0].instance, instance);
    }
    let logs = Logs::open(directory.path().to_owned(), 1 << 20).unwrap();
    assert_eq!(texts(&logs, "f", 1_000).len(), 9);
    assert!(logs.read(&id("f"), 1_000, u64::MAX).unwrap().is_empty());
    logs.remove(&id("f")).unwrap();
    assert!(texts(&logs, "f", 10).is_empty());
}

#[test]
fn a_log_stays_within_its_bound_and_loses_its_oldest_lines() {
    let directory = tempfile::tempdir().unwrap();
    let logs = Logs::open(directory.path().to_owned(), 64 << 10).unwrap();
    let log = logs.function(&id("f")).unwrap();
    for n in 0..200 {
        log.write(InstanceId::new(1, 1), format!("{n:04}{}", "x".repeat(2_000)).as_bytes());
        logs.flush();
    }
    let size: u64 = fs::read_dir(directory.path().join("123456789012/f"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size <= 64 << 10, "{size}");
    let kept = texts(&logs, "f", 1_000);
    assert!(kept.len() > 20 && kept[kept.len() - 1].starts_with("0199"));
    assert!(kept.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn a_line_that_was_cut_off_harms_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("123456789012/f");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("3.log"), "17\t00000000000000000000000000000001\tfirst\n18\t000").unwrap();
    fs::write(folder.join("nonsense"), "x").unwrap();
    let logs = Logs::open(directory.path().to_owned(), 1 << 20).unwrap();
    logs.function(&id("f")).unwrap().write(InstanceId::new(1, 1), b"second");
    assert_eq!(texts(&logs, "f", 10), ["first", "second"]);
}

#[test]
fn a_disk_that_refuses_costs_lines_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let logs = Logs::open(directory.path().to_owned(), 1 << 20).unwrap();
    // A file where the folder should be refuses even root.
    fs::write(directory.path().join("123456789012"), "").unwrap();
    let log = logs.function(&id("f")).unwrap();
    log.write(InstanceId::new(1, 1), b"lost");
    logs.flush();
    assert!(logs.counts().1 > 0);
    fs::remove_file(directory.path().join("123456789012")).unwrap();
    log.write(InstanceId::new(1, 1), b"kept");
    assert_eq!(texts(&logs, "f", 10), ["kept"]);
}

#[test]
fn names_that_are_none_of_a_function_touch_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let logs = Logs::open(directory.path().join("logs"), 1 << 20).unwrap();
    for name in ["", "..", "a/b", ".", "a\0", &"x".repeat(141)] {
        assert_eq!(logs.function(&id(name)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name:?}");
    }
}

#[test]
fn memory_for_lines_not_yet_written_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let logs = Logs::open(directory.path().to_owned(), 64 << 20).unwrap();
    let log = logs.function(&id("f")).unwrap();
    for _ in 0..64 {
        log.write(InstanceId::new(1, 1), &[b'x'; 256 << 10]);
        assert!(lock(&log.pending).len() <= MAX_PENDING + 1024);
    }
    logs.flush();
    assert!(logs.counts().1 > 0);
}
