//! `bolt::check` on real files: the fixtures, and whatever the real bbolt finds wrong.

mod bombs;
mod built;
mod command;
#[path = "../common/mod.rs"]
mod common;
mod mutated;

use std::path::Path;

use boltfs::bolt::check::{Kind, Options, Report, Severity, check};
use boltfs::bolt::{Map, OpenOptions, Snapshot};
use common::Fixture;
use serde_json::Value;

fn open(bytes: Vec<u8>) -> Result<Snapshot, boltfs::bolt::Error> {
    let options = OpenOptions {
        allow_truncated: true,
        ..Default::default()
    };
    Snapshot::open(Map::from(bytes), options)
}

/// Checks with one thread and with three, which must agree.
fn run(snapshot: &Snapshot) -> Report {
    let options = Options {
        threads: 1,
        ..Default::default()
    };
    let report = check(snapshot, options, &mut |_| {});
    consistent(snapshot, &report);
    let options = Options {
        threads: 3,
        ..options
    };
    let together = check(snapshot, options, &mut |_| {});
    assert_eq!(all_text(&together), all_text(&report));
    assert_eq!(together.counts, report.counts);
    assert!(together.walks == 1 || !report.is_sound());
    assert_eq!(together.reachable, report.reachable);
    assert_eq!(together.free, report.free);
    assert_eq!(together.freelist_ok, report.freelist_ok);
    report
}

/// What must hold of any report on any file.
fn consistent(snapshot: &Snapshot, report: &Report) {
    let hwm = snapshot.meta().hwm;
    assert!(report.reachable.iter().all(|pgid| (2..hwm).contains(&pgid)));
    if let Some(free) = &report.free {
        assert!(!free.intersects(&report.reachable));
        assert!(free.iter().all(|pgid| (2..hwm).contains(&pgid)));
    }
    let kept: u64 = report.findings.iter().count() as u64;
    let all = [Severity::Note, Severity::Warning, Severity::Error]
        .map(|s| report.findings.count(s))
        .iter()
        .sum::<u64>();
    assert_eq!(kept + report.findings.dropped(), all);
    for finding in report.findings.iter() {
        let line = finding.to_string();
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
}

fn all_text(report: &Report) -> String {
    let lines: Vec<String> = report.findings.iter().map(|f| f.to_string()).collect();
    lines.join("\n")
}

/// bbolt 1.5.0 said, in the manifest, that something is wrong, or did not live to say it.
fn bbolt_objects(fixture: &Fixture) -> bool {
    let said = &fixture.entry["go_bbolt_1_5_0_readonly"];
    let check = &said["check"];
    let found = check
        .as_array()
        .is_some_and(|lines| lines != &[Value::from("ok")]);
    found || said.get("crash").is_some()
}

#[test]
fn fixtures_are_judged_as_their_manifest_says() {
    for fixture in Fixture::all() {
        let (_directory, path) = fixture.copy();
        let (name, class) = (fixture.name(), fixture.class());
        let snapshot = match open(read(&path)) {
            Ok(snapshot) => snapshot,
            Err(e) => {
                assert!(
                    class == "corrupt" || name.starts_with("big-endian"),
                    "{name}: {e}"
                );
                continue;
            }
        };
        let report = run(&snapshot);
        let text = all_text(&report);
        match class {
            "healthy" => assert!(report.is_sound(), "{name}: {text}"),
            "recoverable" | "corrupt" => assert!(!report.is_sound(), "{name} passes"),
            _ => {}
        }
        if bbolt_objects(&fixture) {
            assert!(!report.is_sound(), "bbolt finds fault with {name}");
        }
        // In a file that must be read in full, no content may be called unreadable.
        if class != "corrupt" {
            let lost = report.findings.iter().find(|f| f.kind == Kind::Unreadable);
            assert!(lost.is_none(), "{name}: {text}");
            assert!(report.free.is_some(), "{name}: {text}");
        }
        if let Some(bad) = fixture.entry["bad_path"].as_array() {
            let bad: Vec<Vec<u8>> = bad
                .iter()
                .map(|part| common::tree::from_hex(part.as_str().expect("hex")))
                .collect();
            let named = |f: &&boltfs::bolt::check::Finding| {
                f.severity() == Severity::Error && f.path() == bad
            };
            let finding = report.findings.iter().find(named);
            assert!(finding.is_some(), "{name}: nothing about {bad:?}: {text}");
            assert!(finding.is_some_and(|f| f.pgid.is_some()), "{name}: {text}");
        }
        if let Some(free) = fixture.number("free_count")
            && class == "healthy"
        {
            assert_eq!(report.counts.free, free, "{name}");
            assert!(report.freelist_ok, "{name}");
        }
        if let Some(content) = fixture.entry.get("content")
            && class == "healthy"
        {
            let (keys, buckets) = count(content);
            assert_eq!(report.counts.keys, keys, "{name}");
            let counted = report.counts.buckets + report.counts.inline_buckets;
            assert_eq!(counted, buckets, "{name}");
        }
    }
}

/// Keys and buckets of a manifest's content.
fn count(content: &Value) -> (u64, u64) {
    let keys = content["keys"].as_object().map_or(0, |keys| keys.len()) as u64;
    let empty = serde_json::Map::new();
    let buckets = content["buckets"].as_object().unwrap_or(&empty);
    buckets.values().fold((keys, 0), |(keys, buckets), sub| {
        let (k, b) = count(sub);
        (keys + k, buckets + b + 1)
    })
}
