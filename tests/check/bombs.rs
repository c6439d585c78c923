//! Files that would keep a careless reader busy for ever.

use std::time::{Duration, Instant};

use boltfs::bolt::check::{KEPT, Kind, Severity};
use boltfs::bolt::page::{BUCKET_FLAG, LEAF};

use super::all_text;
use super::built::{PS, check};
use super::common::build::{Build, Item, inline, leaf_image, paged, plain};

/// Runs `what` and fails if it takes longer than a check of such a small file ever may.
fn in_time<T>(what: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = what();
    let took = started.elapsed();
    assert!(took < Duration::from_secs(20), "took {took:?}");
    result
}

#[test]
fn buckets_20_000_deep() {
    let mut build = Build::new(512);
    let mut below = build.leaf(&[plain(b"k", b"v"), plain(b"j", b"v")]);
    let bottom = below;
    for _ in 0..20_000 {
        below = build.leaf(&[paged(b"b", below)]);
    }
    build.root = below;
    let report = in_time(|| check(&build));
    assert_eq!(
        (report.counts.buckets, report.counts.depth),
        (20_000, 20_000)
    );
    let finding = report.findings.iter().find(|f| f.kind == Kind::KeyOrder);
    let finding = finding.expect("the bottom is out of order");
    assert_eq!((finding.path().len(), finding.pgid), (20_000, Some(bottom)));
}

#[test]
fn inline_buckets_as_deep_as_they_go() {
    let mut item = inline(b"b", &[]);
    for _ in 0..2000 {
        item = inline(b"b", &[item]);
    }
    let mut build = Build::new(PS);
    build.root = build.leaf(&[item]);
    let report = in_time(|| check(&build));
    assert!(report.findings.iter().any(|f| f.kind == Kind::Unreadable));
}

#[test]
fn elements_that_share_an_inline_bucket_are_not_all_followed() {
    for broken in [false, true] {
        let report = in_time(|| check(&bomb(broken)));
        let text = all_text(&report);
        assert!(
            report.findings.iter().any(|f| f.kind == Kind::Overlap),
            "{text}"
        );
    }
}

/// `broken`: one more element of each page cannot be read.
fn bomb(broken: bool) -> Build {
    // 100 elements, each the whole of the next level: 100^8 pages to look at for who follows all.
    let mut image = leaf_image(0, 0, &[plain(b"k", b"v")]);
    for _ in 0..8 {
        let (count, len) = (100usize, image.len());
        let mut outer = leaf_image(0, 0, &[]);
        outer[10..12].copy_from_slice(&(count as u16).to_le_bytes());
        for i in 0..count {
            let pos = 16 * (count - i) as u32;
            // Keys of growing length, so that they ascend; all in the same bytes.
            let vsize = if broken && i == 0 {
                u32::MAX
            } else {
                16 + len as u32
            };
            let ksize = 1 + i as u32;
            for n in [BUCKET_FLAG, pos + 100 - ksize, ksize, vsize] {
                outer.extend_from_slice(&n.to_le_bytes());
            }
        }
        outer.extend_from_slice(&[b'k'; 100]);
        outer.extend_from_slice(&[0; 16]);
        outer.extend_from_slice(&image);
        image = outer;
    }
    assert_eq!(image[8], LEAF as u8);
    let mut build = Build::new(PS);
    let item = Item {
        flags: BUCKET_FLAG,
        key: b"b".to_vec(),
        value: [vec![0; 16], image].concat(),
    };
    build.root = build.leaf(&[item]);
    build
}

#[test]
fn many_runs_that_claim_the_rest_of_the_file() {
    let mut build = Build::new(512);
    let pages = 30_000u64;
    let leaves: Vec<u64> = (0..pages)
        .map(|n| build.leaf(&[plain(&n.to_be_bytes(), b"")]))
        .collect();
    for &leaf in &leaves {
        build.put(leaf, 12, 4, pages + 1 - leaf);
    }
    let keys: Vec<[u8; 8]> = (0..pages).map(u64::to_be_bytes).collect();
    let children: Vec<(&[u8], u64)> = keys.iter().map(|k| &k[..]).zip(leaves).collect();
    let branch = build.branch(&children);
    build.root = build.leaf(&[paged(b"b", branch)]);
    let report = in_time(|| check(&build));
    let errors = report.findings.count(Severity::Error);
    assert!(errors >= pages - 1, "{errors}");
    assert!(report.findings.iter().count() <= 3 * KEPT);
    assert!(report.findings.dropped() > 0);
}

#[test]
fn a_branch_that_leads_back_thousands_of_times_from_deep_below() {
    let mut build = Build::new(512);
    let deep = 10_000u64;
    let first = build.next();
    for n in 0..deep {
        build.leaf(&[paged(b"b", first + n + 1)]);
    }
    let keys: Vec<[u8; 8]> = (0..60_000u64).map(u64::to_be_bytes).collect();
    let back: Vec<(&[u8], u64)> = keys.iter().map(|k| (&k[..], first)).collect();
    build.branch(&back);
    build.root = build.leaf(&[paged(b"b", first)]);
    let report = in_time(|| check(&build));
    assert!(report.findings.count(Severity::Error) >= 60_000);
}
