//! A kill at any moment leaves what was answered, whole, and nothing that is half made.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use hearth_image::ImageStore;
use hearth_types::CodeDigest;

use super::zip_of;

const ROOT: &str = "HEARTH_TEST_IMAGES";
const ROUND: &str = "HEARTH_TEST_ROUND";
const ROUNDS: u32 = 12;
const FILES: usize = 40;

fn archive(round: u32, number: u32) -> Vec<u8> {
    zip_of((0..FILES).map(|file| (format!("d{}/f{file}", file % 7), format!("{round} {number} {file}"))))
}

#[test]
fn every_acknowledged_archive_survives_a_kill_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let mut added: Vec<CodeDigest> = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::add_archives_until_killed", "--ignored", "--nocapture"])
            .env(ROOT, folder.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let dice = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_micros();
        let mut said = String::new();
        while said.matches("added ").count() < usize::try_from(dice % 5).unwrap() {
            assert!(output.read_line(&mut said).unwrap() > 0, "{said}");
        }
        std::thread::sleep(Duration::from_micros((dice % 15_000).into()));
        child.kill().unwrap();
        output.read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        let whole = &said[..said.rfind('\n').unwrap_or(0)];
        added.extend(
            whole.lines().filter_map(|line| line.rsplit_once("added ")?.1.parse::<CodeDigest>().ok()),
        );

        let store = ImageStore::open(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
        for digest in &added {
            store.unpacked(*digest).unwrap();
        }
        for directory in fs::read_dir(folder.path().join("unpacked")).unwrap() {
            let found = super::listing(&directory.unwrap().path());
            assert_eq!(found.values().filter(|(_, content)| !content.is_empty()).count(), FILES);
        }
    }
    assert!(added.len() > 5, "{}", added.len());
    // All is made again from the archives alone.
    fs::remove_dir_all(folder.path().join("unpacked")).unwrap();
    let store = ImageStore::open(folder.path()).unwrap();
    added.into_iter().for_each(|digest| drop(store.unpacked(digest).unwrap()));
}

#[test]
#[ignore = "run and killed by every_acknowledged_archive_survives_a_kill_at_any_moment"]
fn add_archives_until_killed() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let round = std::env::var(ROUND).unwrap().parse().unwrap();
    let store = ImageStore::open(root.as_ref()).unwrap();
    for number in 0..10_000 {
        let digest = store.add_zip(&archive(round, number)).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "added {digest}").unwrap();
        out.flush().unwrap();
    }
}
