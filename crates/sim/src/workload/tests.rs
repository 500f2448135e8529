//! Traces that are right, and traces that are not.

use std::fmt::Write as _;
use std::path::Path;

use super::{trace_2019, trace_2021};
use crate::chance::{Chance, Stream};
use crate::units::SECOND;
use crate::workload::arrivals::Source;

const INVOCATIONS: &str =
    "HashOwner,HashApp,HashFunction,Trigger,1,2,3\no1,a1,f1,http,2,0,1\no2,a2,f2,timer,1,1,1\n";
const DURATIONS: &str = "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum,percentile_Average_0,\
    percentile_Average_1,percentile_Average_25,percentile_Average_50,percentile_Average_75,percentile_Average_99,\
    percentile_Average_100\no1,a1,f1,100.0,3,100,100,100,100,100,100.0,100,100,100\n";
const MEMORY: &str = "HashOwner,HashApp,SampleCount,AverageAllocatedMb\no1,a1,17,250.5\n";
const RECORDED: &str = "app,func,end_timestamp,duration\na,f,10.5,0.5\na,g,0.1,0.2\na,f,3.0,1.0\n";

fn read_2019(files: &[(&str, &str)]) -> Result<super::Workload, String> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    trace_2019::read(directory.path()).map_err(|error| in_directory(&error.to_string(), directory.path()))
}

fn read_2021(bytes: &[u8]) -> Result<super::Workload, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("t.csv");
    std::fs::write(&file, bytes).unwrap();
    trace_2021::read(&file).map_err(|error| in_directory(&error.to_string(), directory.path()))
}

fn in_directory(error: &str, directory: &Path) -> String {
    error.replace(&format!("{}/", directory.display()), "")
}

#[test]
fn a_trace_of_2019_is_read_with_durations_and_memory_where_it_has_them() {
    let files = [("inv.csv", INVOCATIONS), ("dur.csv", DURATIONS), ("mem.csv", MEMORY), ("readme.txt", "")];
    let workload = read_2019(&files).unwrap();
    assert_eq!((workload.functions(), workload.end), (2, 180 * SECOND));
    assert_eq!(workload.expected_requests(), 6.0);
    let [first, second] = &workload.functions[..] else { panic!() };
    assert_eq!((first.memory_mb, second.memory_mb), (251, 170));
    assert_eq!((first.account, second.account), (0, 1));
    assert_eq!(first.durations.draw(&mut Chance::new(1, Stream::Generator)), SECOND / 10);
    let minutes = |index: u32| {
        let mut source = Source::new(1, index);
        let function = &workload.functions[index as usize];
        let arrivals = std::iter::from_fn(|| source.next(function, workload.end));
        arrivals.map(|arrival| arrival.at / (60 * SECOND)).collect::<Vec<_>>()
    };
    assert_eq!(minutes(0), [0, 0, 2]);
    assert_eq!(minutes(1), [0, 1, 2]);
}

#[test]
fn a_trace_of_2021_is_read_in_order_of_starts() {
    let workload = read_2021(RECORDED.as_bytes()).unwrap();
    assert_eq!((workload.functions(), workload.end), (2, 11 * SECOND));
    let mut source = Source::new(1, 0);
    let starts: Vec<_> = std::iter::from_fn(|| source.next(&workload.functions[0], workload.end))
        .map(|a| (a.at, a.runs))
        .collect();
    assert_eq!(starts, [(2 * SECOND, SECOND), (10 * SECOND, SECOND / 2)]);
    // It ran before the trace began.
    let mut source = Source::new(1, 1);
    assert_eq!(source.next(&workload.functions[1], workload.end).unwrap().at, 0);
}

#[test]
fn what_is_wrong_in_a_trace_of_2019_is_named_with_line_and_column() {
    let minutes = |row: &str| format!("HashOwner,HashApp,HashFunction,Trigger,1,2,3\n{row}\n");
    let durations = |percentile: &str| DURATIONS.replace("100,100.0,100", &format!("100,{percentile},100"));
    for (file, text, expected) in [
        (
            "inv.csv",
            minutes("o,a,f,http,1,-2,0"),
            "inv.csv, line 2, column 6 (2): \"-2\" is not a whole number",
        ),
        (
            "inv.csv",
            minutes("o,a,f,http,1,NaN,0"),
            "inv.csv, line 2, column 6 (2): \"NaN\" is not a whole number",
        ),
        ("inv.csv", minutes("o,a,f,http,1,,0"), "inv.csv, line 2, column 6 (2): \"\" is not a whole number"),
        (
            "inv.csv",
            minutes("o,a,f,http,99999999,0,0"),
            "inv.csv, line 2, column 5 (1): \"99999999\" is not a whole",
        ),
        ("inv.csv", minutes("o,a,f,http,1,2"), "inv.csv, line 2: 6 columns; 7 were expected"),
        ("inv.csv", minutes("\no,a,f,http,1,2,3\nx"), "inv.csv, line 4: 1 columns; 7 were expected"),
        (
            "inv.csv",
            "HashApp,HashFunction,1\n".into(),
            "inv.csv, line 1: the header has no column \"HashOwner\"",
        ),
        (
            "inv.csv",
            "HashOwner,HashApp,HashFunction,1,3\n".into(),
            "inv.csv, line 1: 2 columns are numbers; they must be 1, 2, 3",
        ),
        (
            "dur.csv",
            durations("NaN"),
            "dur.csv, line 2, column 11 (percentile_Average_50): \"NaN\" is not a duration",
        ),
        (
            "dur.csv",
            durations("-1"),
            "dur.csv, line 2, column 11 (percentile_Average_50): \"-1\" is not a duration",
        ),
        (
            "dur.csv",
            durations("1e300"),
            "dur.csv, line 2, column 11 (percentile_Average_50): \"1e300\" is not",
        ),
        ("dur.csv", durations("inf"), "dur.csv, line 2, column 11 (percentile_Average_50): \"inf\" is not"),
        (
            "mem.csv",
            MEMORY.replace("250.5", "lots"),
            "mem.csv, line 2, column 4 (AverageAllocatedMb): \"lots\"",
        ),
    ] {
        let mut files = vec![("inv.csv", INVOCATIONS), ("dur.csv", DURATIONS), ("mem.csv", MEMORY)];
        files.retain(|(name, _)| *name != file);
        files.push((file, &text));
        let error = read_2019(&files).unwrap_err();
        assert!(error.starts_with(expected), "{text:?}: {error}");
    }
}

#[test]
fn a_directory_without_invocations_or_with_two_of_a_kind_is_refused() {
    assert!(read_2019(&[("dur.csv", DURATIONS)]).unwrap_err().contains("no CSV file here has the columns"));
    let error = read_2019(&[("a.csv", INVOCATIONS), ("b.csv", INVOCATIONS)]).unwrap_err();
    assert!(error.starts_with("b.csv: a second file with invocations"), "{error}");
    assert!(
        trace_2019::read(Path::new("/nowhere")).unwrap_err().to_string().starts_with("cannot read /nowhere")
    );
    assert!(read_2019(&[("a.csv", "")]).unwrap_err().starts_with("a.csv, line 1: the file is empty"));
}

#[test]
fn what_is_wrong_in_a_trace_of_2021_is_named_with_line_and_column() {
    let row = |row: &[u8]| [b"app,func,end_timestamp,duration\na,f,1,1\n", row].concat();
    for (bytes, expected) in [
        (row(b"a,f,NaN,1\n"), "t.csv, line 3, column 3 (end_timestamp): \"NaN\" is not a time in seconds"),
        (row(b"a,f,-1,1\n"), "t.csv, line 3, column 3 (end_timestamp): \"-1\" is not a time in seconds"),
        (row(b"a,f,1e18,1\n"), "t.csv, line 3, column 3 (end_timestamp): \"1e18\" is not a time in seconds"),
        (row(b"a,f,1,-0.5\n"), "t.csv, line 3, column 4 (duration): \"-0.5\" is not a duration in seconds"),
        (row(b"a,f,1\n"), "t.csv, line 3: 3 columns; 4 were expected"),
        (row(b"a,\xff,1,1\n"), "t.csv, line 3, column 2 (func): \"\u{fffd}\" is not UTF-8"),
        (b"app,func,end,duration\n".to_vec(), "t.csv, line 1: the header has no column \"end_timestamp\""),
        (b"app,f\xffnc\n".to_vec(), "t.csv, line 1: the header is not UTF-8"),
        (Vec::new(), "t.csv, line 1: the file is empty"),
    ] {
        let error = read_2021(&bytes).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    let long_name = row(&[b"a,".as_slice(), &[b'x'; 1_000], b",1,1\n"].concat());
    assert!(read_2021(&long_name).unwrap_err().contains("a text of at most 256 bytes"));
}

#[test]
fn lines_without_end_are_cut_short() {
    let mut columns = "app,func,end_timestamp,duration\na,f,1,1\n".to_owned();
    columns.push_str(&"1,".repeat(10_000_000));
    let error = read_2021(columns.as_bytes()).unwrap_err();
    assert_eq!(error, "t.csv, line 3: the line is longer than 262144 bytes");
    // Nor do quotes make one line of many.
    let quoted = format!("app,func,end_timestamp,duration\n\"{}", "a,f,1,1\n".repeat(100_000));
    assert!(read_2021(quoted.as_bytes()).is_ok_and(|workload| workload.functions() == 2));
    let mut header = "HashOwner,HashApp,HashFunction".to_owned();
    (1..=20_161).for_each(|minute| write!(header, ",{minute}").unwrap());
    let error = read_2019(&[("inv.csv", &header)]).unwrap_err();
    assert!(error.contains("more than 20160 minutes"), "{error}");
}
