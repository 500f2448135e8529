use proptest::prelude::*;

use super::*;

fn ms(text: &str) -> u64 {
    let timestamp: Timestamp = text.parse().unwrap();
    u64::try_from(timestamp.as_millisecond()).unwrap()
}

fn show(ms: u64) -> String {
    Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap().to_string()
}

fn schedule(text: &str, zone: &str) -> Schedule {
    Schedule::new(Expression::read(text).unwrap(), zone, ms("2026-11-24T10:00:30Z"), None, None).unwrap()
}

/// The first times that it is due.
fn due(text: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let schedule = schedule(text, zone);
    let mut at = ms(after);
    std::iter::from_fn(|| {
        at = schedule.next(at)?;
        Some(show(at))
    })
    .take(count)
    .collect()
}

#[test]
fn the_examples_of_awss_documentation_are_due_when_it_says() {
    for (text, wanted) in [
        ("cron(0 10 * * ? *)", ["2026-11-25T10:00:00Z", "2026-11-26T10:00:00Z"]),
        ("cron(15 12 * * ? *)", ["2026-11-24T12:15:00Z", "2026-11-25T12:15:00Z"]),
        ("cron(0 18 ? * MON-FRI *)", ["2026-11-24T18:00:00Z", "2026-11-25T18:00:00Z"]),
        ("cron(0 8 1 * ? *)", ["2026-12-01T08:00:00Z", "2027-01-01T08:00:00Z"]),
        ("cron(0/15 * * * ? *)", ["2026-11-24T10:15:00Z", "2026-11-24T10:30:00Z"]),
        ("cron(0/5 8-17 ? * MON-FRI *)", ["2026-11-24T10:05:00Z", "2026-11-24T10:10:00Z"]),
        ("cron(0/30 20-2 ? * MON-FRI *)", ["2026-11-24T20:00:00Z", "2026-11-24T20:30:00Z"]),
        ("cron(15 10 ? * 6L 2026-2030)", ["2026-11-27T10:15:00Z", "2026-12-25T10:15:00Z"]),
        ("cron(0 9 L * ? *)", ["2026-11-30T09:00:00Z", "2026-12-31T09:00:00Z"]),
        ("cron(0 9 LW * ? *)", ["2026-11-30T09:00:00Z", "2026-12-31T09:00:00Z"]),
        ("cron(0 9 3W * ? *)", ["2026-12-03T09:00:00Z", "2027-01-04T09:00:00Z"]),
        ("cron(0 9 1W * ? *)", ["2026-12-01T09:00:00Z", "2027-01-01T09:00:00Z"]),
        ("cron(0 9 ? * 3#2 *)", ["2026-12-08T09:00:00Z", "2027-01-12T09:00:00Z"]),
        ("cron(0 9 L-2 feb ? *)", ["2027-02-26T09:00:00Z", "2028-02-27T09:00:00Z"]),
        ("cron(0 0 29 2 ? *)", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
    ] {
        assert_eq!(due(text, "UTC", "2026-11-24T10:00:30Z", 2), wanted, "{text}");
    }
}

#[test]
fn the_nearest_weekday_stays_in_its_month() {
    // 1 August 2026 is a Saturday, 31 May 2026 a Sunday.
    assert_eq!(due("cron(0 0 1W 8 ? 2026)", "UTC", "2026-01-01T00:00:00Z", 2), ["2026-08-03T00:00:00Z"]);
    assert_eq!(due("cron(0 0 31W 5 ? 2026)", "UTC", "2026-01-01T00:00:00Z", 2), ["2026-05-29T00:00:00Z"]);
    assert_eq!(due("cron(0 0 LW 5 ? 2026)", "UTC", "2026-01-01T00:00:00Z", 2), ["2026-05-29T00:00:00Z"]);
}

#[test]
fn a_minute_that_the_clock_skips_is_skipped_and_one_that_it_shows_twice_is_due_once() {
    // Clocks in Berlin: 29 March 2026 from 02:00 to 03:00, 25 October 2026 from 03:00 to 02:00.
    let spring = due("cron(30 2 * * ? *)", "Europe/Berlin", "2026-03-27T12:00:00Z", 3);
    assert_eq!(spring, ["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z", "2026-03-31T00:30:00Z"]);
    let autumn = due("cron(30 2 * * ? *)", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
    assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    assert_eq!(
        due("at(2026-03-29T02:30:00)", "Europe/Berlin", "2026-03-01T00:00:00Z", 2),
        ["2026-03-29T01:30:00Z"]
    );
    assert_eq!(
        due("at(2026-10-25T02:30:00)", "Europe/Berlin", "2026-03-01T00:00:00Z", 2),
        ["2026-10-25T00:30:00Z"]
    );
}

#[test]
fn a_rate_counts_from_its_making_or_its_start_and_bounds_are_kept() {
    let after = "2026-11-24T10:03:00Z";
    assert_eq!(due("rate(1 minute)", "UTC", after, 2), ["2026-11-24T10:03:30Z", "2026-11-24T10:04:30Z"]);
    assert_eq!(due("rate(2 days)", "UTC", after, 1), ["2026-11-26T10:00:30Z"]);
    let rate = Expression::read("rate(5 minutes)").unwrap();
    let (start, end) = (ms("2026-11-24T11:00:00Z"), ms("2026-11-24T11:07:00Z"));
    let bounded = Schedule::new(rate, "UTC", 0, Some(start), Some(end)).unwrap();
    assert_eq!(bounded.next(0), Some(start));
    assert_eq!(bounded.next(start).map(show), Some("2026-11-24T11:05:00Z".to_owned()));
    assert_eq!(bounded.next(ms("2026-11-24T11:05:00Z")), None);
}

#[test]
fn what_is_no_schedule_is_said() {
    for text in [
        "",
        "cron",
        "cron()",
        "cron(* * * * *)",
        "cron(* * * * * *)",
        "cron(* * ? * ? *)",
        "cron(60 * * * ? *)",
        "cron(* 24 * * ? *)",
        "cron(* * 0 * ? *)",
        "cron(* * 32 * ? *)",
        "cron(* * * 13 ? *)",
        "cron(* * ? * 8 *)",
        "cron(* * ? * 0 *)",
        "cron(* * * * ? 1969)",
        "cron(* * * * ? 2200)",
        "cron(*/0 * * * ? *)",
        "cron(, * * * ? *)",
        "cron(* * W * ? *)",
        "cron(* * ? * 3#6 *)",
        "cron(* * ? * #2 *)",
        "cron(+1 * * * ? *)",
        "rate(0 minutes)",
        "rate(1 second)",
        "rate(minutes)",
        "rate(-1 days)",
        "rate(99999999999999999999 days)",
        "at(2026-11-24)",
        "at(2026-13-24T10:00:00)",
        "at(2026-11-24T10:00:00Z)",
        "at(2026-11-24 10:00:00)",
        "every day",
    ] {
        assert!(Expression::read(text).is_err(), "{text}");
    }
    let cron = Expression::read("cron(0 10 * * ? *)").unwrap();
    assert!(matches!(Schedule::new(cron, "Mars/Olympus", 0, None, None), Err(ScheduleError::Zone(_))));
    let said = Expression::read("cron(* 24 * * ? *)").unwrap_err().to_string();
    assert_eq!(said, "the hours: \"24\" is not a value from 0 to 23");
}

#[test]
fn what_is_never_due_ends_the_search() {
    assert_eq!(schedule("cron(0 0 31 2 ? *)", "UTC").next(0), None);
    assert_eq!(schedule("cron(0 0 1 1 ? 1970)", "UTC").next(ms("2026-01-01T00:00:00Z")), None);
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in "\\PC{0,60}", inner in "[0-9*?/,#LW -]{0,40}") {
        let _ = Expression::read(&text);
        let _ = Expression::read(&format!("cron({inner})"));
        let _ = Expression::read(&format!("rate({inner})"));
    }

    /// The next time is after, is a minute that the fields name, and none between is.
    #[test]
    fn the_next_minute_is_the_first_that_the_fields_name(
        after in 1_600_000_000_000_u64..4_000_000_000_000,
        minute in 0_u64..60, hour in 0_u64..24, day in 1_u64..29, kind in 0..4,
    ) {
        let text = match kind {
            0 => format!("cron({minute} * * * ? *)"),
            1 => format!("cron({minute} {hour} * * ? *)"),
            2 => format!("cron({minute} {hour} {day} * ? *)"),
            _ => format!("cron({minute} {hour} ? * {} *)", day % 7 + 1),
        };
        let next = schedule(&text, "UTC").next(after).unwrap();
        prop_assert!(next > after);
        prop_assert_eq!(next % 60_000, 0);
        let minutes = next / 60_000;
        prop_assert_eq!(minutes % 60, minute);
        let longest = match kind { 0 => 60, 1 => 24 * 60, 2 => 31 * 24 * 60, _ => 7 * 24 * 60 };
        if kind > 0 {
            prop_assert_eq!(minutes / 60 % 24, hour);
        }
        if kind == 3 {
            // 1 January 1970 was a Thursday, which is day 5.
            prop_assert_eq!((minutes / 1_440 + 4) % 7, day % 7);
        }
        prop_assert!(minutes - after / 60_000 <= longest);
    }

    #[test]
    fn times_go_forward_in_every_zone(
        after in 1_600_000_000_000_u64..4_000_000_000_000,
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
        step in 1_u64..60,
    ) {
        let schedule = schedule(&format!("cron(0/{step} * * * ? *)"), zone);
        let mut at = after;
        for _ in 0..50 {
            let next = schedule.next(at).unwrap();
            prop_assert!(next > at && next - at <= 2 * 3_600_000 + step * 60_000);
            at = next;
        }
    }
}
