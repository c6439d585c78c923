//! The writer on databases that are damaged, or odd: what could be read before can be read after, or nothing is
//! committed; what is rewritten is sound; nothing that could still be salvaged is overwritten.

mod common;

use std::fs;

use boltfs::bolt::check::{Kind, Report};
use boltfs::bolt::{
    BucketEdit, Changes, CommitError, CommitOptions, Damage, Edit, Error, Map, OpenOptions,
    PageSet, Snapshot, Source, commit, empty_database,
};
use common::build::{Build, paged, plain};
use common::commits::{Db, findings};
use common::disk::MemDisk;
use common::read::{Reading, read, show};
use common::rng::{Rng, seeded};
use common::staged::{Item, Staged};
use common::{Fixture, Node, Options, Oracle, TempDir, Tree};

fn open(bytes: &[u8]) -> Option<Snapshot> {
    Snapshot::open(Map::from(bytes.to_vec()), OpenOptions::default()).ok()
}

/// What became of a commit on a damaged database.
enum Outcome {
    Committed(Vec<u8>),
    Refused(String),
}

/// Changes something and commits it, as a mount does. Fails the test if anything is lost by it.
fn edit(bytes: &[u8], base: &Snapshot, before: &Reading, rng: &mut Rng) -> Outcome {
    let (report, _) = findings(base);
    let disk = MemDisk::new(bytes.to_vec());
    // Every page that may hold something: all but those proved free, or listed so by a sound list.
    let mut precious: PageSet = (2..base.meta().hwm).collect();
    for pgid in report.free.iter().flat_map(PageSet::iter) {
        precious.remove(pgid);
    }
    precious.insert(u64::from(base.slot()));
    disk.guard(&precious, base.page_size());

    let mut staged = Staged::new(&before.tree, vec![]);
    staged.mutate(rng, 512);
    let options = CommitOptions {
        free: report.free.as_ref().filter(|_| rng.one_in(2)),
        avoid: Some(&report.dangling),
        damaged: report.free.is_none(),
        abandon_freelist: !report.freelist_ok,
        ..CommitOptions::default()
    };
    let changes = staged.changes(base, &before.tree);
    match commit(&disk, base, None, changes, &options) {
        Err(CommitError::NotCommitted(why)) => {
            assert_eq!(disk.bytes().len(), bytes.len(), "the file was not cut back");
            Outcome::Refused(why.to_string())
        }
        Err(why) => panic!("{why}"),
        Ok(_) => {
            let after = disk.snapshot();
            let found = read(&after);
            let expected = staged.tree();
            // Keys where they do not belong: an old copy of a page, which shadows others or is shadowed by them, and
            // comes to light when they are gone.
            let displaced = report.findings.iter().any(|f| f.kind == Kind::KeyOrder);
            let displaced = displaced || before.errors.iter().any(|(_, e)| is_too_long(e));
            if displaced || !before.lost.is_empty() || !before.doubled.is_empty() {
                assert_within(&expected, &found.tree, before, &mut vec![]);
            } else {
                expected.assert_same(&found.tree, "content");
                assert!(found.lost.is_empty() && found.doubled.is_empty());
                assert!(
                    found.errors.len() <= before.errors.len(),
                    "{:?} {:?}",
                    found.errors,
                    before.errors
                );
            }
            Outcome::Committed(disk.bytes())
        }
    }
}

fn is_too_long(e: &Error) -> bool {
    let damage = match e {
        Error::Page { damage, .. } => damage,
        _ => return false,
    };
    matches!(damage, Damage::OverflowPastEnd { .. })
}

/// All of `expected` is there, but for what look-ups did not find before: an edit of such a key is one of a new key.
fn assert_within(expected: &Tree, found: &Tree, before: &Reading, path: &mut Vec<Vec<u8>>) {
    // A run that claimed too many pages can be read again when there are as many.
    let too_long = before.errors.iter().any(|(_, e)| is_too_long(e));
    for (name, node) in &expected.nodes {
        path.push(name.clone());
        // By name: the bucket may have been moved.
        let mut gone = before.lost.iter().chain(&before.doubled);
        match (node, found.nodes.get(name)) {
            _ if gone.any(|path| path.last() == Some(name)) => {}
            (Node::Value(_), Some(Node::Value(_))) if too_long => {}
            (Node::Bucket(expected), Some(Node::Bucket(found))) => {
                assert_within(expected, found, before, path);
            }
            (expected, found) => assert_eq!(Some(expected), found, "{}", show(path)),
        }
        path.pop();
    }
}

/// Buckets that lie below an unreadable place cannot be named; those of the tree that was read can.
fn is_usable(reading: &Reading) -> bool {
    reading.tree.count().0 < 20_000
}

#[test]
fn every_fixture() {
    let dir = TempDir::new("damage");
    let oracle = Oracle::shared();
    for fixture in Fixture::all() {
        let file = fixture.copy_to(dir.path());
        let bytes = fs::read(&file).unwrap();
        let Some(base) = open(&bytes) else { continue };
        let before = read(&base);
        if !is_usable(&before) {
            continue;
        }
        let class = fixture.class();
        // bbolt takes some damage for content that we do not.
        let bbolt_is_content =
            class != "corrupt" && oracle.check(&file).is_ok_and(|errors| errors.is_empty());
        println!("{} ({class})", fixture.name());
        let mut refused = Vec::new();
        let seeds = if bytes.len() > 1 << 20 { 6 } else { 40 };
        for seed in 0..seeds {
            match edit(&bytes, &base, &before, &mut Rng::new(seed)) {
                Outcome::Refused(why) => refused.push(why),
                Outcome::Committed(bytes) if bbolt_is_content && seed % 5 == 0 => {
                    fs::write(&file, &bytes).unwrap();
                    oracle.assert_sound(&file);
                    let found = read(&open(&bytes).unwrap()).tree;
                    let has_root_keys = found.nodes.values().any(|n| matches!(n, Node::Value(_)));
                    if !has_root_keys {
                        found.assert_same(&oracle.dump(&file).unwrap(), "bbolt's dump");
                    }
                }
                Outcome::Committed(_) => {}
            }
        }
        if !refused.is_empty() {
            println!("    {} of {seeds} refused: {}", refused.len(), refused[0]);
        }
        assert!(
            refused.is_empty() || class == "corrupt",
            "{}: {refused:?}",
            fixture.name()
        );
    }
}

/// Trees that bbolt's check calls sound and bbolt's next write breaks: what is rewritten is as it must be.
#[test]
fn odd_shapes_are_healed() {
    let dir = TempDir::new("shapes");
    let oracle = Oracle::shared();
    for fixture in Fixture::all().filter(|f| f.name().starts_with("shape-")) {
        let file = fixture.copy_to(dir.path());
        let bytes = fs::read(&file).unwrap();
        let base = open(&bytes).expect("it opens");
        let before = read(&base).tree;
        let (report, found) = findings(&base);
        for nth in [1, 7, 1000] {
            let disk = MemDisk::new(bytes.clone());
            let mut staged = Staged::new(&before, vec![]);
            for path in staged.paths() {
                let bucket = staged.bucket_mut(&path);
                for (n, item) in bucket.nodes.values_mut().enumerate() {
                    if let Item::Value(value) = item
                        && n % nth == 0
                    {
                        value.push(b'!');
                    }
                }
                if !path.is_empty() {
                    bucket.nodes.insert(b"zzz".to_vec(), Item::Value(vec![]));
                }
            }
            let options = CommitOptions {
                free: report.free.as_ref(),
                ..CommitOptions::default()
            };
            commit(&disk, &base, None, staged.changes(&base, &before), &options).unwrap();
            let after = disk.snapshot();
            let (_, still) = findings(&after);
            assert!(
                still.is_empty(),
                "{}: {found:?}, then {still:?}",
                fixture.name()
            );
            staged
                .tree()
                .assert_same(&read(&after).tree, fixture.name());
            fs::write(&file, disk.bytes()).unwrap();
            oracle.assert_sound(&file);
            let probe = oracle.probe(&file, Options::default()).unwrap();
            assert_eq!(
                (probe.write, probe.after),
                (Ok(()), vec![]),
                "{}",
                fixture.name()
            );
        }
    }
}

/// A tree with everything that bbolt takes for granted and its check does not look at: branch keys that are not the first
/// keys, branches with one child, empty leaves, leaves at any depth. Answers the key that the parent is to have, and
/// the root page.
fn odd_tree(rng: &mut Rng, build: &mut Build, keys: &[Vec<u8>], height: usize) -> (Vec<u8>, u64) {
    let first = keys[0].clone();
    if height == 0 || rng.one_in(10) || keys.len() < 2 {
        let items = keys.iter().map(|key| plain(key, &[b'v'; 9]));
        return (first, build.leaf(&items.collect::<Vec<_>>()));
    }
    let parts = if rng.one_in(6) {
        1
    } else {
        rng.range(2, 6).min(keys.len())
    };
    let size = keys.len().div_ceil(parts);
    let mut children: Vec<(Vec<u8>, u64)> = Vec::new();
    for part in keys.chunks(size) {
        let (mut key, pgid) = odd_tree(rng, build, part, height - 1);
        // Lower than the first key, or higher.
        match rng.below(12) {
            0 => key.truncate(key.len() - 1),
            1 => key.push(b'.'),
            _ => {}
        }
        if children.last().is_none_or(|(last, _)| *last < key) {
            children.push((key.clone(), pgid));
        } else {
            children.push((part[0].clone(), pgid));
        }
        if rng.one_in(12) {
            children.push(([&part[part.len() - 1][..], b"/"].concat(), build.leaf(&[])));
        }
    }
    let entries: Vec<_> = children
        .iter()
        .map(|(key, pgid)| (&key[..], *pgid))
        .collect();
    (first, build.branch(&entries))
}

#[test]
fn odd_trees_are_healed() {
    seeded(300, |_, rng| {
        let mut build = Build::new(*rng.pick(&[512, 1024]));
        let keys: Vec<_> = (0..rng.range(1, 300))
            .map(|n| format!("{n:04}{}", "k".repeat(rng.below(30))).into_bytes())
            .collect();
        let height = rng.range(0, 7);
        let (_, root) = odd_tree(rng, &mut build, &keys, height);
        build.root = build.leaf(&[paged(b"b", root)]);
        if rng.one_in(2) {
            build.list(&[]);
        }
        let bytes = build.file();
        let base = open(&bytes).unwrap();
        let before = read(&base);
        assert!(before.errors.is_empty(), "{:?}", before.errors);
        let (report, found) = findings(&base);
        for _ in 0..8 {
            let disk = MemDisk::new(bytes.clone());
            let mut staged = Staged::new(&before.tree, vec![]);
            let bucket = staged.bucket_mut(&[b"b".to_vec()]);
            // All values changed, some, some gone, some new.
            let all = rng.one_in(3);
            let (from, to) = (rng.below(keys.len()), rng.below(keys.len() + 1));
            for (n, key) in keys.iter().enumerate() {
                if all || rng.one_in(40) {
                    bucket
                        .nodes
                        .insert(key.clone(), Item::Value(vec![b'w'; rng.below(60)]));
                }
                if rng.one_in(60) || (!all && (from..to).contains(&n)) {
                    bucket.nodes.remove(key);
                }
                if rng.one_in(60) {
                    let key = [&key[..], b"+"].concat();
                    bucket.nodes.insert(key, Item::Value(vec![]));
                }
            }
            let options = CommitOptions {
                free: report.free.as_ref().filter(|_| rng.one_in(2)),
                abandon_freelist: !report.freelist_ok,
                ..CommitOptions::default()
            };
            let changes = staged.changes(&base, &before.tree);
            commit(&disk, &base, None, changes, &options).unwrap();
            let after = disk.snapshot();
            let now = read(&after);
            staged.tree().assert_same(&now.tree, "content");
            assert!(now.errors.is_empty() && now.lost.len() <= before.lost.len());
            let still = findings(&after).1;
            let wrong = still
                .iter()
                .filter(|text| !text.starts_with("Leak") && !text.starts_with("NoFreelist"));
            let wrong: Vec<_> = wrong.collect();
            assert!(wrong.len() <= found.len(), "{found:#?}, then {wrong:#?}");
            assert!(!all || wrong.is_empty(), "{wrong:#?}");
        }
    });
}

/// A bucket lies behind the pages in use, where an older meta was taken or a newer one is wrong. All of it is still there:
/// a commit beside it writes to none of it, not to what its root leads to either.
#[test]
fn what_lies_behind_the_pages_in_use_can_still_be_salvaged() {
    let mut build = Build::new(512);
    let good = build.leaf(&[plain(b"k", b"v")]);
    let behind = build.next() + 1;
    build.root = build.leaf(&[paged(b"behind", behind + 2), paged(b"good", good)]);
    build.hwm = Some(behind);
    let leaves = [b"a", b"m"].map(|key| build.leaf(&[plain(key, &[b'.'; 300])]));
    let root = build.branch(&[(b"a", leaves[0]), (b"m", leaves[1])]);
    assert_eq!(root, behind + 2);
    let bytes = build.file();
    let base = open(&bytes).unwrap();
    let before = read(&base).tree;
    let (report, found) = findings(&base);
    assert!(report.free.is_none(), "{found:?}");
    let mut staged = Staged::new(&before, vec![]);
    for n in 0..20u8 {
        let good = staged.bucket_mut(&[b"good".to_vec()]);
        good.nodes.insert(vec![n + 1], Item::Value(vec![n; 100]));
    }
    let disk = MemDisk::new(bytes);
    commit_beside(&disk, &base, &report, staged.changes(&base, &before));
    // More pages are in use now, and those are among them.
    let after = read(&disk.snapshot());
    assert!(after.errors.is_empty(), "{:?}", after.errors);
    let found = after.tree.bucket(&[b"behind".to_vec()]).unwrap();
    let value = Node::Value(vec![b'.'; 300]);
    let expected = [b"a", b"m"].map(|key| (key.to_vec(), value.clone()));
    assert!(found.nodes == expected.into(), "other pages are shown");
}

/// Two buckets have the same pages, which the check finds. One of them is deleted: bbolt must not be told that they are
/// free, or its next write destroys the other bucket.
#[test]
fn what_is_deleted_stays_where_another_bucket_leads_there() {
    let mut build = Build::new(512);
    let shared = build.leaf(&[plain(b"k", b"v")]);
    let leaf = |build: &mut Build, name: &[u8]| {
        let full = [&name[..1], b"z"].concat();
        build.leaf(&[paged(name, shared), plain(&full, &[b'.'; 300])])
    };
    let (one, two) = (leaf(&mut build, b"1"), leaf(&mut build, b"2"));
    let root = build.branch(&[(b"1", one), (b"2", two)]);
    build.root = build.leaf(&[paged(b"b", root)]);
    build.list(&[]);
    let bytes = build.file();
    let base = open(&bytes).unwrap();
    let before = read(&base).tree;
    let (report, found) = findings(&base);
    assert!(report.free.is_none() && report.freelist_ok, "{found:?}");
    let mut staged = Staged::new(&before, vec![]);
    staged.bucket_mut(&[b"b".to_vec()]).nodes.remove(&b"1"[..]);
    let disk = MemDisk::new(bytes);
    commit_beside(&disk, &base, &report, staged.changes(&base, &before));
    let after = disk.snapshot();
    staged.tree().assert_same(&read(&after).tree, "content");
    let (report, found) = findings(&after);
    assert!(report.freelist_ok, "{found:?}");
}

/// Commits to a database in which `report` found damage.
fn commit_beside<'a>(
    disk: &'a MemDisk,
    base: &'a Snapshot,
    report: &'a Report,
    changes: Changes<'a>,
) {
    let options = CommitOptions {
        avoid: Some(&report.dangling),
        damaged: true,
        ..CommitOptions::default()
    };
    commit(disk, base, None, changes, &options).unwrap();
}

/// Does to a file what bad memory, bad disks and crashes do.
fn spoil(rng: &mut Rng, bytes: &mut [u8], page_size: usize) {
    let pages = bytes.len() / page_size;
    let page = |rng: &mut Rng| (2 + rng.below(pages - 2)) * page_size;
    for _ in 0..rng.range(1, 3) {
        let (a, b) = (page(rng), page(rng));
        match rng.below(9) {
            0 => bytes[a + rng.below(page_size)] ^= 1 << rng.below(8),
            1 => bytes[a + rng.below(48)] = rng.next() as u8,
            2 => bytes[a..a + page_size].fill(0),
            3 => bytes.copy_within(b..b + page_size, a),
            4 => {
                // A page that says it is the other: an older copy, or a write to the wrong place.
                let id = bytes[a..a + 8].to_vec();
                bytes.copy_within(b..b + page_size, a);
                bytes[a..a + 8].copy_from_slice(&id);
            }
            5 | 6 => {
                // A number of an element becomes another one that may well make sense.
                let at = a + 16 + 4 * rng.below(24);
                let number = if rng.one_in(2) {
                    rng.below(pages + 8)
                } else {
                    rng.below(600)
                };
                if at + 4 <= bytes.len() {
                    bytes[at..at + 4].copy_from_slice(&(number as u32).to_le_bytes());
                }
            }
            7 => {
                let (n, m) = (rng.below(page_size), 1 + rng.below(64));
                let end = (a + n + m).min(bytes.len());
                bytes[a + n..end].fill(if rng.one_in(2) { 0 } else { 0xff });
            }
            _ => bytes[a + 10..a + 16].fill(rng.below(4) as u8),
        }
    }
}

#[test]
fn mutations_lose_nothing() {
    let (mut committed, mut refused, mut unopened) = (0, 0, 0);
    seeded(150, |_, rng| {
        let page_size = *rng.pick(&[512, 512, 1024]);
        let mut db = Db {
            disk: MemDisk::new(empty_database(page_size as u32)),
            tree: Tree::default(),
            page_size,
            root_keys: rng.one_in(2),
        };
        for _ in 0..rng.range(1, 5) {
            db.mount(rng);
        }
        let sound = db.disk.bytes();
        if sound.len() > 1 << 20 {
            return;
        }
        for _ in 0..12 {
            let mut bytes = sound.clone();
            spoil(rng, &mut bytes, page_size);
            let Some(base) = open(&bytes) else {
                unopened += 1;
                continue;
            };
            let before = read(&base);
            match edit(&bytes, &base, &before, rng) {
                Outcome::Committed(_) => committed += 1,
                Outcome::Refused(_) => refused += 1,
            }
        }
    });
    println!("{committed} committed, {refused} refused, {unopened} not opened");
}

/// Branch below branch below branch, each with a wrong key or one child: deeper than any stack. Cargo's test threads have
/// 2 MiB.
#[test]
fn endless_branches_are_refused_or_dissolved() {
    let names = |n: usize| format!("{n:05}").into_bytes();
    for depth in [1, 20, 60, 70, 200, 300, 5000] {
        for siblings in [false, true] {
            let mut build = Build::new(512);
            let mut at = build.leaf(&[plain(&names(50_000), b"last")]);
            for n in (0..depth).rev() {
                // A leaf first, so that the depth along the first children is small; and a key that is too high.
                let leaf = build.leaf(&[plain(&names(n), b"v")]);
                let claimed = [&names(n)[..], b"+"].concat();
                at = match siblings {
                    true => build.branch(&[(&claimed, leaf), (&names(n + 1), at)]),
                    false => build.branch(&[(&names(50_000), at)]),
                };
            }
            let front = build.leaf(&[plain(b"0", b"v")]);
            let root = build.branch(&[(b"0", front), (&names(0), at)]);
            build.root = build.leaf(&[paged(b"b", root)]);
            let bytes = build.file();
            let base = open(&bytes).unwrap();
            for key in [
                &b"0"[..],
                &names(0),
                &names(depth / 2),
                &names(50_000),
                b"z",
            ] {
                for value in [Some(b"new".to_vec()), None] {
                    let disk = MemDisk::new(bytes.clone());
                    let edit = match &value {
                        Some(value) => Edit::Put(value.into()),
                        None => Edit::Delete,
                    };
                    let edits = Box::new(std::iter::once(Ok((key.into(), edit))));
                    let (source, sequence) = (Source::Existing, None);
                    let bucket = Edit::Bucket(BucketEdit {
                        source,
                        sequence,
                        edits,
                    });
                    let edits = Box::new(std::iter::once(Ok((b"b"[..].into(), bucket))));
                    let moved = Default::default();
                    let changes = Changes { edits, moved };
                    let done = commit(&disk, &base, None, changes, &CommitOptions::default());
                    if depth <= 60 {
                        done.unwrap();
                        let now = disk.snapshot();
                        let element = now.root().get(b"b").unwrap().unwrap();
                        let found = now.root().sub_bucket(&element).unwrap().get(key).unwrap();
                        assert_eq!(found.map(|e| e.value.to_vec()), value, "{depth}");
                    } else if let Err(why) = done {
                        assert!(matches!(why, CommitError::NotCommitted(_)), "{why}");
                    }
                }
            }
        }
    }
}
