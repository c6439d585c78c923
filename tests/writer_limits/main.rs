//! The writer at every limit of the format: sizes that just fit and just do not, nesting, freelists of every length,
//! metas in odd places. Random trees are in writer.rs.

#[path = "../common/mod.rs"]
mod common;
mod states;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs;

use boltfs::bolt::{
    BucketEdit, Changes, CommitError, CommitOptions, Committed, Edit, Edits, Map, OpenOptions,
    PageSet, Snapshot, Source, commit, empty_database,
};
use common::commits::{findings, judge, pages};
use common::disk::MemDisk;
use common::read::read;
use common::staged::Staged;
use common::{Node, Oracle, TempDir, Tree};

/// What becomes of a key: as [`Edit`], but owned.
enum Do {
    Put(Vec<u8>),
    Delete,
    Bucket(From, Option<u64>, Vec<Named>),
}

#[derive(Clone, Copy)]
enum From {
    Existing,
    New,
    /// The bucket element at this offset of the base.
    Moved(u64),
}

type Named = (Vec<u8>, Do);

fn edits<'a>(base: &'a Snapshot, list: &'a [Named]) -> Edits<'a> {
    Box::new(list.iter().map(move |(key, what)| {
        let edit = match what {
            Do::Put(value) => Edit::Put(Cow::Borrowed(value)),
            Do::Delete => Edit::Delete,
            Do::Bucket(from, sequence, list) => Edit::Bucket(BucketEdit {
                source: match *from {
                    From::Existing => Source::Existing,
                    From::New => Source::New,
                    From::Moved(offset) => Source::Moved(base.element_at(offset)?),
                },
                sequence: *sequence,
                edits: edits(base, list),
            }),
        };
        Ok((Cow::Borrowed(&key[..]), edit))
    }))
}

fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Named {
    (key.into(), Do::Put(value.into()))
}

fn gone(key: impl Into<Vec<u8>>) -> Named {
    (key.into(), Do::Delete)
}

fn bucket(key: impl Into<Vec<u8>>, from: From, list: Vec<Named>) -> Named {
    (key.into(), Do::Bucket(from, None, list))
}

fn try_commit(
    disk: &MemDisk,
    list: Vec<Named>,
    moved: HashSet<u64>,
) -> Result<Committed, CommitError> {
    let base = disk.snapshot();
    let (report, _) = findings(&base);
    let options = CommitOptions {
        free: report.free.as_ref(),
        ..CommitOptions::default()
    };
    let changes = Changes {
        edits: edits(&base, &list),
        moved,
    };
    disk.reset();
    commit(disk, &base, None, changes, &options)
}

#[track_caller]
fn commit_all(disk: &MemDisk, list: Vec<Named>) -> Committed {
    let done = try_commit(disk, list, HashSet::new()).unwrap_or_else(|e| panic!("{e}"));
    sound(disk);
    done
}

/// The content, which must be sound.
#[track_caller]
fn sound(disk: &MemDisk) -> Tree {
    let now = disk.snapshot();
    let tree = read(&now).tree;
    judge(&now, &tree, true);
    tree
}

fn new(page_size: usize) -> MemDisk {
    MemDisk::new(empty_database(page_size as u32))
}

/// A value that makes its element `size` bytes long, header and key included.
fn filling(size: usize, key: &[u8]) -> Vec<u8> {
    vec![b'v'; size - 16 - key.len()]
}

#[test]
fn a_bucket_is_inline_up_to_a_quarter_of_a_page() {
    for page_size in [512, 1024, 4096, 16384, 65536] {
        for (size, is_inline) in [(-1, true), (0, true), (1, false)] {
            let limit = (page_size as isize / 4 + size) as usize;
            let disk = new(page_size);
            // In one go, and by growth.
            let value = filling(limit - 16, b"key");
            commit_all(
                &disk,
                vec![bucket("b", From::New, vec![put("key", value.clone())])],
            );
            commit_all(
                &disk,
                vec![bucket("grown", From::New, vec![put("key", "")])],
            );
            commit_all(
                &disk,
                vec![bucket("grown", From::Existing, vec![put("key", value)])],
            );
            let now = disk.snapshot();
            for name in [&b"b"[..], b"grown"] {
                let element = now.root().get(name).unwrap().unwrap();
                assert_eq!(
                    now.bucket_ref(&element).unwrap().is_inline(),
                    is_inline,
                    "{page_size} {size}"
                );
            }
        }
    }
}

#[test]
fn a_sub_bucket_brings_its_parent_out_and_its_end_puts_it_back() {
    let disk = new(1024);
    commit_all(&disk, vec![bucket("b", From::New, vec![put("k", "v")])]);
    let is_inline = || {
        let now = disk.snapshot();
        let element = now.root().get(b"b").unwrap().unwrap();
        now.bucket_ref(&element).unwrap().is_inline()
    };
    assert!(is_inline());
    commit_all(
        &disk,
        vec![bucket(
            "b",
            From::Existing,
            vec![bucket("sub", From::New, vec![])],
        )],
    );
    assert!(!is_inline());
    commit_all(
        &disk,
        vec![bucket("b", From::Existing, vec![gone(b"sub".to_vec())])],
    );
    assert!(is_inline());
}

#[test]
fn a_page_is_filled_to_the_last_byte() {
    for page_size in [512, 1024, 4096] {
        for (more, leaves) in [(-1, 1), (0, 1), (1, 2)] {
            let disk = new(page_size);
            let first = filling(page_size / 2 - 16, b"a");
            let second = filling((page_size as isize / 2 + more) as usize, b"b");
            commit_all(
                &disk,
                vec![bucket(
                    "x",
                    From::New,
                    vec![put("a", first), put("b", second)],
                )],
            );
            let (report, _) = findings(&disk.snapshot());
            // One leaf is the root bucket's.
            assert_eq!(
                (report.counts.leaves, report.counts.overflow),
                (1 + leaves, 0),
                "{page_size} {more}"
            );
        }
    }
}

#[test]
fn values_of_every_size() {
    let page = 4096;
    let sizes = [
        0,
        1,
        page - 33,
        page - 32,
        page - 31,
        page,
        2 * page,
        8 * page,
        8 * page + 1,
        1 << 20,
        3 << 20,
    ];
    let disk = new(page);
    for (round, size) in sizes.iter().cycle().take(2 * sizes.len()).enumerate() {
        let key = format!("{:03}", (round * 7) % sizes.len());
        let source = if round == 0 {
            From::New
        } else {
            From::Existing
        };
        commit_all(
            &disk,
            vec![bucket(
                "b",
                source,
                vec![put(key, vec![round as u8; *size])],
            )],
        );
    }
    assert_eq!(sound(&disk).count(), (sizes.len(), 1));
}

#[test]
fn a_large_value_is_not_copied_for_its_neighbours() {
    let page = 1024;
    let disk = new(page);
    let mut list = vec![];
    for n in 0..40 {
        let size = if n % 4 == 1 { 100 * page } else { 20 };
        list.push(put(format!("{n:03}"), vec![b'v'; size]));
    }
    commit_all(&disk, vec![bucket("b", From::New, list)]);
    for n in [0, 2, 3, 4, 39] {
        let done = commit_all(
            &disk,
            vec![bucket(
                "b",
                From::Existing,
                vec![put(format!("{n:03}"), "new")],
            )],
        );
        assert!(done.stats.pages_written < 8, "{n}: {:?}", done.stats);
        // Nor to fill a leaf that became small.
        let gone = vec![gone(format!("{n:03}").into_bytes())];
        let done = commit_all(&disk, vec![bucket("b", From::Existing, gone)]);
        assert!(done.stats.pages_written < 8, "{n}: {:?}", done.stats);
    }
    // Two to five of them side by side.
    for count in 2..6 {
        let list = (0..count)
            .map(|n| put(format!("000{n}"), vec![b'w'; 30 * page]))
            .collect();
        commit_all(&disk, vec![bucket("b", From::Existing, list)]);
    }
}

#[test]
fn keys_of_every_length() {
    let disk = new(512);
    let lengths = [1, 2, 400, 511, 512, 5000, 32767, 32768];
    for n in 0..6u8 {
        let mut list: Vec<_> = lengths
            .iter()
            .map(|&len| put(vec![b'a' + n; len], [n]))
            .collect();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        let source = if n == 0 { From::New } else { From::Existing };
        commit_all(&disk, vec![bucket("b", source, list)]);
    }
    assert_eq!(sound(&disk).count(), (6 * lengths.len(), 1));
    let before = disk.bytes();
    let refused = |list| {
        let Err(CommitError::NotCommitted(why)) = try_commit(&disk, list, HashSet::new()) else {
            panic!("committed");
        };
        assert!(disk.bytes() == before, "the file was changed");
        why.to_string()
    };
    let long = refused(vec![bucket(
        "b",
        From::Existing,
        vec![put(vec![b'x'; 32769], "")],
    )]);
    assert!(long.contains("32769"), "{long}");
    let empty = refused(vec![bucket("b", From::Existing, vec![put("", "")])]);
    assert!(empty.contains("empty key"), "{empty}");
    // Zeros that are never touched.
    let huge = vec![0; (1 << 31) - 17];
    let huge = put("k", huge);
    let text = refused(vec![bucket("b", From::Existing, vec![huge])]);
    assert!(text.contains("2 GiB"), "{text}");
}

#[test]
fn a_bucket_with_a_very_long_name_is_like_any_other() {
    let disk = new(1024);
    let name = vec![b'n'; 100_000];
    let name = || name.clone();
    commit_all(&disk, vec![bucket(name(), From::New, vec![put("k", "v")])]);
    commit_all(
        &disk,
        vec![bucket(name(), From::Existing, vec![put("l", vec![1; 900])])],
    );
    commit_all(
        &disk,
        vec![
            bucket("a", From::New, vec![]),
            bucket(name(), From::Existing, vec![]),
        ],
    );
    assert_eq!(sound(&disk).count(), (2, 2));
    commit_all(&disk, vec![gone(name())]);
    assert_eq!(sound(&disk).count(), (0, 1));
}

#[test]
fn little_is_written_for_a_little_change() {
    let disk = new(512);
    let list = (0..20_000)
        .map(|n| put(format!("{n:06}"), format!("value {n}")))
        .collect();
    let small = (0..1000).map(|n| bucket(format!("small {n:04}"), From::New, vec![put("k", "v")]));
    let mut all = vec![bucket("large", From::New, list)];
    all.extend(small);
    commit_all(&disk, all);
    let height = 6;
    let one = |list| commit_all(&disk, list).stats;
    let stats = one(vec![bucket(
        "large",
        From::Existing,
        vec![put("010000", "new")],
    )]);
    assert!(stats.pages_written <= 2 * height + 2, "{stats:?}");
    assert_eq!(
        (stats.keys_changed, stats.keys_added, stats.keys_deleted),
        (1, 0, 0)
    );
    let stats = one(vec![bucket(
        "small 0500",
        From::Existing,
        vec![put("k", "w")],
    )]);
    assert!(stats.pages_written <= height + 2, "{stats:?}");
    // The sequence is in the bucket's element, not in its tree.
    let stats = one(vec![(
        b"large".to_vec(),
        Do::Bucket(From::Existing, Some(7), vec![]),
    )]);
    assert!(stats.pages_written <= height + 2, "{stats:?}");
    let stats = one(vec![gone(b"large".to_vec())]);
    assert_eq!((stats.keys_deleted, stats.buckets_deleted), (20_000, 1));
    let list = stats.pages_freed * 8 / 512;
    assert!(stats.pages_written <= height + list + 3, "{stats:?}");
}

/// Buckets in a bucket, `depth` of them, the innermost with one key. Made as they are asked for, as a mount does.
fn nested<'a>(depth: usize, new: bool) -> Edits<'a> {
    Box::new(std::iter::once_with(move || {
        let key = Cow::Borrowed(&b"b"[..]);
        let source = if new { Source::New } else { Source::Existing };
        let edit = match depth {
            0 => Edit::Put(Cow::Borrowed(if new { b"v" } else { b"w" })),
            _ => Edit::Bucket(BucketEdit {
                source,
                sequence: None,
                edits: nested(depth - 1, new),
            }),
        };
        Ok((key, edit))
    }))
}

#[test]
fn twenty_thousand_buckets_in_each_other() {
    const DEPTH: usize = 20_000;
    let disk = new(512);
    let commit = |new| {
        let base = disk.snapshot();
        let options = CommitOptions::default();
        let changes = Changes {
            edits: nested(DEPTH, new),
            moved: HashSet::new(),
        };
        let done = commit(&disk, &base, None, changes, &options).unwrap();
        let (_, found) = findings(&disk.snapshot());
        assert!(found.is_empty(), "{:?}", &found[..found.len().min(5)]);
        done.stats
    };
    assert_eq!(commit(true).buckets_added, DEPTH as u64);
    assert_eq!(commit(false).keys_changed, 1);
    let now = disk.snapshot();
    let mut at = now.root();
    for _ in 0..DEPTH {
        at = at.sub_bucket(&at.get(b"b").unwrap().unwrap()).unwrap();
    }
    assert_eq!(at.get(b"b").unwrap().unwrap().value, b"w");
    let done = commit_all(&disk, vec![gone("b")]).stats;
    assert_eq!((done.buckets_deleted, done.keys_deleted), (DEPTH as u64, 1));
    assert_eq!(sound(&disk).count(), (0, 0));
}

#[test]
fn twenty_thousand_buckets_side_by_side() {
    let disk = new(1024);
    let name = |n: usize| format!("bucket {n:05}");
    let each = |source: fn() -> From, step: usize| {
        (0..20_000)
            .step_by(step)
            .map(|n| bucket(name(n), source(), vec![put("k", vec![b'v'; n % 400])]))
            .collect()
    };
    let stats = commit_all(&disk, each(|| From::New, 1)).stats;
    assert_eq!((stats.buckets_added, stats.keys_added), (20_000, 20_000));
    let stats = commit_all(&disk, each(|| From::Existing, 3)).stats;
    assert_eq!(stats.keys_changed, 20_000_u64.div_ceil(3));
    let gone = (0..20_000)
        .filter(|n| n % 50 != 0)
        .map(|n| gone(name(n).into_bytes()));
    let stats = commit_all(&disk, gone.collect()).stats;
    assert_eq!(stats.buckets_deleted, 20_000 - 400);
}

#[test]
fn the_content_of_a_moved_bucket_is_not_copied() {
    let disk = new(1024);
    let list = (0..3000)
        .map(|n| put(format!("{n:05}"), vec![b'v'; 100]))
        .collect();
    let inner = vec![bucket("deep", From::New, list), put("k", "v")];
    commit_all(&disk, vec![bucket("a", From::New, inner)]);
    let base = disk.snapshot();
    let a = base.root().get(b"a").unwrap().unwrap();
    let deep = base
        .root()
        .sub_bucket(&a)
        .unwrap()
        .get(b"deep")
        .unwrap()
        .unwrap();
    // Out of its parent, which is deleted, with a change inside.
    let list = vec![
        gone("a"),
        bucket("b", From::Moved(deep.offset), vec![put("01000", "new")]),
    ];
    let done = try_commit(&disk, list, HashSet::from([deep.offset])).unwrap();
    let stats = done.stats;
    assert!(stats.pages_written < 12, "{stats:?}");
    assert_eq!(
        (
            stats.buckets_moved,
            stats.buckets_deleted,
            stats.keys_deleted,
            stats.keys_changed
        ),
        (1, 1, 1, 1)
    );
    let tree = sound(&disk);
    assert_eq!(tree.count(), (3000, 1));
    assert!(
        matches!(&tree.nodes[&b"b"[..]], Node::Bucket(b) if b.nodes[&b"01000"[..]] == Node::Value(b"new".to_vec()))
    );
}
