//! Sound databases, spoilt at random: never a panic or an endless walk, and whatever the real
//! bbolt finds wrong, we find.

use std::collections::HashMap;

use boltfs::bolt::check::Severity;
use boltfs::bolt::{Bucket, Cursor, Snapshot};

use super::common::rng::seeded;
use super::common::{Fixture, Oracle, Rng, TempDir};
use super::{all_text, open, read, run};

/// Mutations of all fixtures together.
const ROUNDS: usize = 20_000;
/// The real bbolt looks at one of so many that we call sound.
const ASKED: usize = 6;
/// Larger files only take longer.
const LARGEST: usize = 600 << 10;

/// Changes `file`, which has pages of `ps` bytes; says how.
fn mutate(rng: &mut Rng, file: &mut Vec<u8>, ps: usize) -> String {
    let pages = file.len() / ps;
    let page = |rng: &mut Rng| rng.below(pages) * ps;
    match rng.below(12) {
        0..=2 => {
            // Headers are where flips matter: of pages, and of the first elements.
            let at = page(rng) + rng.below(160.min(ps));
            let bit = rng.below(8);
            file[at] ^= 1 << bit;
            format!("bit {bit} of byte {at}")
        }
        3..=4 => {
            let at = rng.below(file.len());
            let bit = rng.below(8);
            file[at] ^= 1 << bit;
            format!("bit {bit} of byte {at}")
        }
        5 => {
            let (a, b) = (page(rng), page(rng));
            for i in 0..ps {
                file.swap(a + i, b + i);
            }
            format!("pages at {a} and {b} swapped")
        }
        6 => {
            let at = page(rng);
            file[at..at + ps].fill(0);
            format!("page at {at} zeroed")
        }
        7 => {
            // Another page's content with this page's number: a stale or misdirected write.
            let (from, to) = (page(rng), page(rng));
            let id = (to / ps) as u64;
            file.copy_within(from..from + ps, to);
            file[to..to + 8].copy_from_slice(&id.to_le_bytes());
            format!("page at {to} replaced by that at {from}")
        }
        8 => {
            // A sector of it only: a torn write.
            let (from, to) = (page(rng), page(rng));
            let sector = rng.below(ps / 512) * 512;
            file.copy_within(from + sector..from + sector + 512, to + sector);
            format!("sector {sector} of page at {to} torn")
        }
        9 => {
            let len = rng.below(file.len());
            file.truncate(len.max(2 * ps));
            format!("cut to {} bytes", file.len())
        }
        10 => {
            let at = page(rng) + 16 * rng.below(8) + 4 * rng.below(4);
            let odd = [
                0,
                1,
                2,
                3,
                0x10,
                0xFFFF,
                0x10000,
                0x7FFF_FFFF,
                0x8000_0000,
                u32::MAX,
            ];
            let n = odd[rng.below(odd.len())];
            file[at..at + 4].copy_from_slice(&n.to_le_bytes());
            format!("{n:#x} at {at}")
        }
        _ => {
            let at = page(rng) + 16 + 16 * rng.below(6) + 8;
            let n = rng.below(pages + 2) as u64;
            file[at..at + 8].copy_from_slice(&n.to_le_bytes());
            format!("number {n} at {at}")
        }
    }
}

/// The first error that reading everything meets.
fn read_all(snapshot: &Snapshot) -> Option<String> {
    let mut buckets: Vec<(Cursor<'_>, usize)> = vec![(snapshot.root().iter(), 0)];
    let mut budget = 200_000;
    while let Some((cursor, depth)) = buckets.last_mut() {
        let depth = *depth;
        budget -= 1;
        match cursor.next() {
            None => {
                buckets.pop();
            }
            Some(Err(e)) => return Some(e.to_string()),
            Some(Ok(element)) if element.is_bucket() => {
                let bucket: Result<Bucket<'_>, _> = snapshot.root().sub_bucket(&element);
                match bucket {
                    Err(e) => return Some(e.to_string()),
                    Ok(_) if depth > 300 || budget < 0 => return Some("no end".into()),
                    Ok(bucket) => buckets.push((bucket.iter(), depth + 1)),
                }
            }
            Some(Ok(_)) => {}
        }
    }
    None
}

#[test]
fn no_mutation_is_worse_to_bbolt_than_to_us() {
    let originals: Vec<(String, usize, Vec<u8>)> = Fixture::of_class("healthy")
        .filter_map(|fixture| {
            let (_directory, path) = fixture.copy();
            let bytes = read(&path);
            let page_size = fixture.number("page_size")? as usize;
            let name = fixture.name().to_owned();
            (bytes.len() <= LARGEST).then_some((name, page_size, bytes))
        })
        .collect();
    assert!(originals.len() > 15);
    let (oracle, directory) = (Oracle::new(), TempDir::new("check"));
    let (mut asked, mut seen) = (0, HashMap::new());
    seeded(ROUNDS, |_, rng| {
        let (name, ps, bytes) = rng.pick(&originals);
        let mut file = bytes.clone();
        let mut what = format!("{name}: {}", mutate(rng, &mut file, *ps));
        while rng.one_in(4) && file.len() == bytes.len() {
            what = format!("{what}; {}", mutate(rng, &mut file, *ps));
        }
        if file == *bytes {
            return;
        }
        let Ok(snapshot) = open(file.clone()) else {
            *seen.entry("refused").or_insert(0) += 1;
            return;
        };
        let report = run(&snapshot);
        let errors = report.findings.count(Severity::Error);
        if let Some(e) = read_all(&snapshot) {
            assert!(
                errors > 0,
                "{what}: reading fails ({e}), the check does not"
            );
        }
        let verdict = match report.worst() {
            Some(Severity::Error) => "errors",
            Some(Severity::Warning) => "warnings",
            _ => "sound",
        };
        *seen.entry(verdict).or_insert(0) += 1;
        if report.is_sound() && rng.one_in(ASKED) {
            asked += 1;
            let path = directory.path().join("db");
            std::fs::write(&path, &file).expect("the copy is written");
            match oracle.check(&path) {
                Ok(errors) => assert!(errors.is_empty(), "{what}: bbolt says {errors:#?}"),
                Err(e) => panic!("{what}: {e}; we say: {}", all_text(&report)),
            }
        }
    });
    println!("{seen:?}, {asked} also looked at by bbolt");
    if seen.values().sum::<i32>() > ROUNDS as i32 / 2 {
        for verdict in ["refused", "errors", "warnings", "sound"] {
            assert!(
                seen.contains_key(verdict),
                "no mutation was {verdict}: {seen:?}"
            );
        }
    }
}
