//! The parts by themselves, in this process: what decided how they are built.

use super::commits::update;
use super::data::{Place, changed_value};
use super::measure::time;
use super::runner::{Goal, Runner, thousand};
use boltfs::bolt::{
    Bucket, BucketEdit, Changes, CommitOptions, DbFile, Disk, Edit, Snapshot, Source, commit,
};
use boltfs::view::json;
use std::borrow::Cow;
use std::fs;
use std::hint::black_box;
use std::path::Path;

const BUCKET: &[u8] = b"bucket-000000";
/// A prime: what is taken in steps of it comes in no order.
const STRIDE: u64 = 7919;

fn snapshot(path: &Path) -> Snapshot {
    let disk = DbFile::open(path, false).expect("it can be opened");
    let map = disk.map().expect("it can be mapped");
    Snapshot::open(map, Default::default()).expect("it is a database")
}

fn bucket(snapshot: &Snapshot) -> Bucket<'_> {
    let root = snapshot.root();
    let element = root.get(BUCKET).expect("it is sound").expect("it is there");
    root.sub_bucket(&element).expect("it is sound")
}

/// Every page on the way could be verified to be in order at each look-up, or only where a key is missed.
pub fn finding(place: &Place, runner: &mut Runner<'_>) {
    let name = format!("alone: {} look-ups by key", thousand(place.keys));
    if !runner.wants(&[&name]) {
        return;
    }
    let snapshot = snapshot(&place.large());
    let bucket = bucket(&snapshot);
    let find = |verify: bool| {
        for n in 0..u64::from(place.keys) {
            let key = format!("key-{:08}", n * STRIDE % u64::from(place.many));
            if verify {
                let verified = bucket.verify_path(key.as_bytes(), |_| false);
                verified.expect("it is sound");
            }
            let found = bucket.get(key.as_bytes()).expect("it is sound");
            assert!(black_box(found).is_some());
        }
    };
    runner.row(
        &name,
        Goal::Times(1.0),
        &mut || time(None, || find(false)),
        Some(("verifying each page", &mut || time(None, || find(true)))),
    );
}

/// Sorted changes merged with the leaves they fall in, in one pass, and bbolt's insertion node by node.
pub fn merging(place: &Place, runner: &mut Runner<'_>) {
    let (keys, many) = (thousand(place.keys), thousand(place.many));
    let name = format!("alone: the writer, {keys} scattered changes in {many} keys");
    if !runner.wants(&[&name]) {
        return;
    }
    let database = place.large();
    let (mine, theirs) = (place.disk("ours.copy"), place.disk("theirs.copy"));
    let mut changed: Vec<(String, Vec<u8>)> = (0..place.keys)
        .map(|n| {
            let key = u64::from(n) * STRIDE % u64::from(place.many);
            (format!("key-{key:08}"), changed_value(n, 450))
        })
        .collect();
    changed.sort();
    let spec = serde_json::json!(
        {"change": place.keys, "of": place.many, "stride": STRIDE, "value": 450});
    runner.row(
        &name,
        Goal::Times(0.5),
        &mut || {
            place.copy(&database, &mine);
            let disk = DbFile::open(&mine, true).expect("it can be opened");
            let base = snapshot(&mine);
            let puts = changed.iter().map(|(key, value)| {
                let (key, value) = (Cow::Borrowed(key.as_bytes()), Cow::Borrowed(&value[..]));
                Ok((key, Edit::Put(value)))
            });
            let edit = BucketEdit {
                source: Source::Existing,
                sequence: None,
                edits: Box::new(puts),
            };
            let edits = std::iter::once(Ok((Cow::Borrowed(BUCKET), Edit::Bucket(edit))));
            let changes = Changes {
                edits: Box::new(edits),
                moved: Default::default(),
            };
            let sample = time(None, || {
                commit(&disk, &base, None, changes, &CommitOptions::default())
                    .map(drop)
                    .expect("it can be committed");
            });
            let _ = fs::remove_file(&mine);
            sample
        },
        Some(("bbolt", &mut || {
            place.copy(&database, &theirs);
            let sample = update(place, &theirs, &spec);
            let _ = fs::remove_file(&theirs);
            sample
        })),
    );
}

/// White space moved around tokens that are copied, and a value that is parsed and printed.
pub fn rendering(place: &Place, runner: &mut Runner<'_>) {
    let name = format!("alone: {} JSON values indented", thousand(place.keys));
    if !runner.wants(&[&name]) {
        return;
    }
    let snapshot = snapshot(&place.database("json", place.keys, 200));
    let values: Vec<&[u8]> = bucket(&snapshot)
        .iter()
        .map(|element| element.expect("it is sound").value)
        .collect();
    let mut text = Vec::new();
    runner.row(
        &name,
        Goal::Times(1.0),
        &mut || {
            time(None, || {
                for value in &values {
                    text.clear();
                    assert!(json::render(value, &mut text).is_some());
                    black_box(&text);
                }
            })
        },
        Some(("serde_json", &mut || {
            time(None, || {
                for value in &values {
                    let parsed: serde_json::Value =
                        serde_json::from_slice(value).expect("it is JSON");
                    black_box(serde_json::to_vec_pretty(&parsed).expect("it can be printed"));
                }
            })
        })),
    );
}
