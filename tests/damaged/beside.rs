//! Edits beside damage, on every damaged database that can be mounted: nothing that could be read is lost, and nothing that
//! could still be salvaged is overwritten.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use boltfs::bolt::check::{Report, Severity};
use boltfs::bolt::{CommitError, CommitOptions, PageSet, Snapshot};
use boltfs::overlay::Kind as NodeKind;
use boltfs::vfs::Error;

use crate::common::case::{Case, assert_failed};
use crate::common::commits::findings;
use crate::common::fs::options;
use crate::common::{Fixture, Fs, Mount};

/// What a file system shows: by path, the content of a file, nothing for a directory; and what cannot be read.
#[derive(Default)]
struct Seen {
    nodes: BTreeMap<String, Option<Vec<u8>>>,
    errors: BTreeSet<String>,
}

/// More levels than any fixture has that is not damaged.
const DEEPEST: usize = 40;

fn look(fs: &Fs) -> Seen {
    let mut seen = Seen::default();
    let mut directories = vec![(String::new(), 0)];
    while let Some((path, depth)) = directories.pop() {
        let Ok(dir) = fs.at(&path) else {
            seen.errors.insert(path);
            continue;
        };
        let (names, end) = fs.list(dir, 7);
        if end.is_err() {
            seen.errors.insert(path.clone());
        }
        for name in names {
            let name = String::from_utf8(name).expect("a name is text");
            let path = format!("{path}/{name}");
            match fs.stat(&path) {
                Ok(attr) if attr.kind == NodeKind::Directory => {
                    seen.nodes.insert(path.clone(), None);
                    if depth < DEEPEST {
                        directories.push((path, depth + 1));
                    }
                }
                Ok(_) => match fs.read(&path) {
                    Ok(bytes) => drop(seen.nodes.insert(path, Some(bytes))),
                    Err(_) => drop(seen.errors.insert(path)),
                },
                Err(_) => drop(seen.errors.insert(path)),
            }
        }
    }
    seen
}

/// The buckets that show two keys or more, with those.
fn buckets(seen: &Seen) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, node) in &seen.nodes {
        let (bucket, _) = path.rsplit_once('/').expect("a path starts with a slash");
        if node.is_some() {
            keys.entry(bucket.to_owned())
                .or_default()
                .push(path.clone());
        }
    }
    keys.retain(|_, keys| keys.len() > 1);
    keys
}

/// Adds, changes and deletes a key and makes a bucket in each of `buckets`, and one in the root. What is refused is not
/// made. Answers how much was made, and how much refused.
fn edit(fs: &Fs, seen: &mut Seen, buckets: &BTreeMap<String, Vec<String>>) -> (usize, usize) {
    let nodes = &mut seen.nodes;
    let (mut made, mut refused) = (0, 0);
    let mut is_made = |done: Result<(), Error>| match done {
        Ok(()) => {
            made += 1;
            true
        }
        Err(Error::Damaged(_)) => {
            refused += 1;
            false
        }
        Err(e) => panic!("{e}"),
    };
    for (bucket, keys) in buckets {
        let [first, .., last] = &keys[..] else {
            continue;
        };
        let (new, below) = (format!("{bucket}/zz-new"), format!("{bucket}/a-bucket"));
        if is_made(fs.save(&new, "new").map(drop)) {
            nodes.insert(new, Some(b"new".to_vec()));
        }
        if is_made(fs.save(first, "changed").map(drop)) {
            nodes.insert(first.clone(), Some(b"changed".to_vec()));
        }
        if is_made(fs.rm(last)) {
            nodes.remove(last);
        }
        if is_made(fs.mkdir(&below).map(drop)) {
            nodes.insert(below, None);
        }
    }
    if is_made(fs.mkdir("/a-bucket").map(drop)) {
        nodes.insert("/a-bucket".to_owned(), None);
    }
    (made, refused)
}

fn kinds(report: &Report) -> BTreeSet<String> {
    let errors = report.findings.iter();
    let errors = errors.filter(|found| found.severity() == Severity::Error);
    errors.map(|found| format!("{:?}", found.kind)).collect()
}

fn raw() -> boltfs::vfs::Options {
    boltfs::vfs::Options {
        raw: true,
        ..options()
    }
}

/// Every page of the old file is as it was, but those proved free, and the meta page that gave way.
#[track_caller]
fn assert_kept(old: &[u8], new: &[u8], base: &Snapshot, free: Option<&PageSet>) {
    let pages = base.meta().hwm as usize;
    for (page, old) in old.chunks(base.page_size()).enumerate().take(pages) {
        let now = &new[page * base.page_size()..][..old.len()];
        let gave_way = page == 1 - usize::from(base.slot());
        let is_free = free.is_some_and(|free| free.contains(page as u64));
        assert!(
            now == old || is_free || gave_way,
            "page {page} was overwritten"
        );
    }
}

/// Edits these buckets and commits; `why` it was not committed.
fn commit_beside(
    bytes: &[u8],
    only: Option<&str>,
    proven: bool,
    name: &str,
) -> (usize, Option<String>) {
    let mut fs = Fs::over(bytes.to_vec(), raw());
    fs.keep_journal();
    let base = fs.vfs.snapshot().clone();
    let (report, _) = findings(&base);
    let mut expected = look(&fs);
    let mut edited = buckets(&expected);
    edited.retain(|bucket, _| only.is_none_or(|only| only == bucket));
    let (made, refused) = edit(&fs, &mut expected, &edited);
    assert_eq!(made + refused, edited.len() * 4 + 1);
    assert_eq!(look(&fs).nodes, expected.nodes, "{name}: staged");
    let done = match proven {
        true => fs.try_commit(),
        // As with a database that is too large to be checked for a commit.
        false => fs.try_commit_with(&CommitOptions::default()),
    };
    let after = fs.disk.bytes();
    assert_kept(
        bytes,
        &after,
        &base,
        report.free.as_ref().filter(|_| proven),
    );
    match done {
        Err(CommitError::NotCommitted(why)) => {
            assert_eq!(
                look(&fs).nodes,
                expected.nodes,
                "{name}: the edits are still staged"
            );
            assert!(fs.journal().is_some(), "{name}: and in the journal");
            return (made, Some(why.to_string()));
        }
        other => other.unwrap_or_else(|e| panic!("{name}: {e}")),
    }
    let after = Fs::over(after, raw());
    let found = look(&after);
    if proven {
        assert_eq!(found.nodes, expected.nodes, "{name}: committed");
        let (old, new) = (&expected.errors, &found.errors);
        assert!(new.is_subset(old), "{name}: {old:?} {new:?}");
        let now = findings(after.vfs.snapshot()).0;
        let (old, new) = (kinds(&report), kinds(&now));
        assert!(new.is_subset(&old), "{name}: {old:?} {new:?}");
    } else {
        // What led nowhere may lead to a new page now: only a check can know of it.
        for (path, node) in &expected.nodes {
            assert_eq!(found.nodes.get(path), Some(node), "{name}: {path}");
        }
    }
    (made, None)
}

/// What the message of a commit that is refused tells to do, done in the mount that goes on.
fn mend(fs: &Fs, original: &Seen, expected: &mut Seen, copy: bool) {
    let below = |seen: &Seen| -> Vec<(String, Option<Vec<u8>>)> {
        let nodes = seen
            .nodes
            .iter()
            .filter(|(path, _)| path.starts_with("/bad"));
        nodes
            .map(|(path, node)| (path.clone(), node.clone()))
            .collect()
    };
    let staged = below(expected);
    expected.nodes.retain(|path, _| !path.starts_with("/bad"));
    let put = |path: &str, node: &Option<Vec<u8>>| match node {
        Some(content) => drop(fs.save(path, content).unwrap()),
        None => drop(fs.mkdir(path).unwrap()),
    };
    if copy {
        for (path, node) in &staged {
            let path = path.replacen("/bad", "/new", 1);
            put(&path, node);
            expected.nodes.insert(path, node.clone());
        }
        for (path, node) in staged.iter().rev() {
            match node {
                Some(_) => fs.rm(path).unwrap(),
                None => fs.rmdir(path).unwrap(),
            }
        }
        expected.errors.retain(|path| !path.starts_with("/bad"));
    } else {
        for (path, _) in staged.iter().rev() {
            match original.nodes.get(path) {
                None if path.ends_with("a-bucket") => fs.rmdir(path).unwrap(),
                None => fs.rm(path).unwrap(),
                Some(_) => {}
            }
        }
        for (path, node) in below(original) {
            if fs.at(&path).is_err() || node.is_some() && fs.read(&path).ok() != node {
                put(&path, &node);
            }
            expected.nodes.insert(path, node);
        }
    }
}

#[test]
fn a_commit_that_is_refused_can_be_mended() {
    for name in [
        "cycle-branch-self.db",
        "cycle-branch-ancestor.db",
        "leaf-key-past-next.db",
    ] {
        for copy in [true, false] {
            if copy && name == "leaf-key-past-next.db" {
                continue; // a key is listed that no look-up finds, so the bucket is never empty
            }
            let mut fs = Fs::over(fs::read(Fixture::named(name).copy().1).unwrap(), raw());
            let original = look(&fs);
            let mut expected = look(&fs);
            let all = buckets(&expected);
            edit(&fs, &mut expected, &all);
            assert!(fs.try_commit().is_err(), "{name}");
            mend(&fs, &original, &mut expected, copy);
            assert_eq!(look(&fs).nodes, expected.nodes, "{name} {copy}: staged");
            fs.try_commit()
                .unwrap_or_else(|e| panic!("{name} {copy}: {e}"));
            let after = Fs::over(fs.disk.bytes(), raw());
            assert_eq!(
                look(&after).nodes,
                expected.nodes,
                "{name} {copy}: committed"
            );
        }
    }
}

#[test]
fn nothing_is_lost_on_any_damaged_database() {
    let (mut count, mut not_committed) = (0, BTreeSet::new());
    for fixture in Fixture::of_class("corrupt") {
        let name = fixture.name();
        let (_directory, file) = fixture.copy();
        let bytes = fs::read(&file).unwrap();
        if crate::common::read::open(&file).is_err() {
            continue; // refused as a whole
        }
        count += 1;
        let all = buckets(&look(&Fs::over(bytes.clone(), raw())));
        assert!(all.contains_key("/good"), "{name}");
        for proven in [true, false] {
            // All together, and each alone.
            for only in std::iter::once(None).chain(all.keys().map(Some)) {
                let only = only.map(String::as_str);
                let (made, why) = commit_beside(&bytes, only, proven, name);
                if let Some(why) = why {
                    println!("{name} {only:?} {proven}: {made} edits not committed: {why}");
                    assert!(only != Some("/good"), "{name}: {why}");
                    if proven {
                        not_committed.insert((name, only.map(str::to_owned)));
                    }
                }
            }
        }
    }
    assert_eq!(count, 37);
    // Pages that lead back to those above them, or hold keys of their neighbours; and two buckets that share a page, where
    // both are edited.
    let expected = [
        (
            "cycle-branch-self.db",
            vec![None, Some("/bad"), Some("/bad/sub")],
        ),
        (
            "cycle-branch-ancestor.db",
            vec![None, Some("/bad"), Some("/bad/sub")],
        ),
        ("shared-bucket-root.db", vec![None]),
        ("leaf-key-past-next.db", vec![None, Some("/bad")]),
    ];
    let expected = expected.into_iter().flat_map(|(name, only)| {
        only.into_iter()
            .map(move |only| (name, only.map(str::to_owned)))
    });
    assert_eq!(not_committed, expected.collect());
}

/// The same through a real mount.
#[test]
fn edits_beside_damage_in_a_mount() {
    for name in [
        "page-zeroed.db",
        "page-stale.db",
        "page-id-mismatch.db",
        "branch-zeroed.db",
        "branch-unsorted.db",
        "elem-vsize-max.db",
        "leaf-overflow-1.db",
        "leaf-count-too-large.db",
        "shared-bucket-root.db",
        "bucket-root-past-hwm.db",
        "inline-short.db",
        "bucket-flag-on-plain.db",
    ] {
        let (_directory, file) = Fixture::named(name).copy();
        let bytes = fs::read(&file).unwrap();
        let base = crate::common::read::open(&file).unwrap();
        let (report, _) = findings(&base);
        let mount = Mount::new(&file, &["--raw"]);
        let (mut expected, failed) = crate::read(mount.path());
        mount.sh("echo new > good/zz; echo changed > good/g-000; rm good/g-010; mkdir bucket; echo x > bucket/k");
        let report_of_commit = mount.umount();
        assert!(
            report_of_commit.contains("committed transaction"),
            "{name}: {report_of_commit}"
        );
        expected.remove("good/g-010");
        for (path, value) in [
            ("good/zz", "new\n"),
            ("good/g-000", "changed\n"),
            ("bucket/k", "x\n"),
        ] {
            expected.insert(path.to_owned(), value.into());
        }
        assert_kept(
            &bytes,
            &fs::read(&file).unwrap(),
            &base,
            report.free.as_ref(),
        );
        let now = findings(&crate::common::read::open(&file).unwrap()).0;
        assert!(
            kinds(&now).is_subset(&kinds(&report)),
            "{name}: {:?}",
            kinds(&now)
        );
        let mount = Mount::new(&file, &["--raw", "-r"]);
        let (found, still_failed) = crate::read(mount.path());
        // A bucket that shared a page has the old one to itself.
        if name == "shared-bucket-root.db" {
            expected.retain(|path, _| !path.starts_with("bad/"));
            assert!(found.keys().any(|path| path.starts_with("bad/")));
            let found: BTreeMap<_, _> = found
                .into_iter()
                .filter(|(path, _)| !path.starts_with("bad/"))
                .collect();
            assert!(found == expected, "{name}");
        } else {
            assert!(found == expected, "{name}");
        }
        assert!(still_failed <= failed, "{name}: {failed} {still_failed}");
        mount.umount();
    }
}

#[test]
fn a_commit_that_damage_refuses_says_what_to_do_and_keeps_the_edits() {
    let (_directory, path) = Fixture::named("cycle-branch-self.db").copy();
    let case = Case::with(|db| fs::rename(&path, db).unwrap());
    let before = fs::read(case.db()).unwrap();
    case.sh("boltfs db mnt; echo x > mnt/good/x; echo x > mnt/bad/zz")
        .expect_success();
    let output = case.boltfs(&["umount", "mnt"]);
    assert_failed(
        &output,
        1,
        "NOT COMMITTED: bucket bad: page 10 is used in two places.",
    );
    assert_failed(
        &output,
        1,
        "copy what it shows to a new bucket (cp -r BUCKET/* NEW/)",
    );
    assert_failed(&output, 1, "db.boltfs-journal: mount again with --recover.");
    assert_kept(
        &before,
        &fs::read(case.db()).unwrap(),
        &crate::common::read::open(&case.db()).unwrap(),
        None,
    );
    let mended = case
        .sh("boltfs --recover db mnt; cat mnt/good/x mnt/bad/zz; rm mnt/bad/zz; boltfs umount mnt");
    let mended = mended.expect_success();
    assert_eq!(mended.text(), "x\nx\n");
    assert!(mended.stderr.contains("committed transaction"), "{mended}");
    assert_eq!(
        case.sh("boltfs -r db mnt; cat mnt/good/x; boltfs umount mnt")
            .text(),
        "x\n"
    );
    // In mid-mount, and by a copy.
    case.sh("boltfs db mnt; echo y > mnt/bad/zz; not sh -c 'echo commit > mnt/.boltfs/control'; grep -q 'NOT COMMITTED: bucket bad: ' mnt/.boltfs/control
             mkdir mnt/new; cp -r mnt/bad/* mnt/new/; rm -r mnt/bad 2> /dev/null || rmdir mnt/bad; echo commit > mnt/.boltfs/control; boltfs umount mnt; boltfs check db")
        .expect_success();
    assert_eq!(case.value("new", "zz").as_deref(), Some("y\n"));
}
