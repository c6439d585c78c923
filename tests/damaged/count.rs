//! Pages whose count was lowered: the keys behind it still lie there, and neither a listing nor a commit passes them over.

use std::collections::BTreeSet;
use std::fs;

use boltfs::bolt::check::{Kind, Severity};
use boltfs::bolt::{CommitOptions, Snapshot};
use boltfs::vfs::Error;

use crate::common::case::{Case, assert_failed};
use crate::common::commits::findings;
use crate::common::fs::options;
use crate::common::{Fixture, Fs};
use crate::{mount, said};

const PAGE_SIZE: usize = 1024;
/// The second leaf of bucket `bad`, with its 11 keys from key-010 on.
const LEAF: usize = 6;
const KEYS: std::ops::Range<usize> = 10..21;

fn fixture() -> Vec<u8> {
    fs::read(Fixture::named("leaf-count-0.db").copy().1).unwrap()
}

/// Sets the count of the page that starts at `start`; answers what it was.
fn set_count(bytes: &mut [u8], start: usize, count: u16) -> u16 {
    let at = &mut bytes[start + 10..][..2];
    let before = u16::from_le_bytes(at.try_into().unwrap());
    at.copy_from_slice(&count.to_le_bytes());
    before
}

/// The fixture as it was before.
fn sound() -> Vec<u8> {
    let mut bytes = fixture();
    assert_eq!(set_count(&mut bytes, LEAF * PAGE_SIZE, 11), 0);
    let (report, texts) = findings(Fs::over(bytes.clone(), options()).vfs.snapshot());
    assert!(report.is_sound(), "{texts:?}");
    bytes
}

/// Where the root page of `bad` starts, a branch, and where the page image of the inline bucket `bad/tiny` does.
fn branch_and_inline(snapshot: &Snapshot) -> (usize, usize) {
    let bucket = |of: boltfs::bolt::Bucket<'_>, key: &[u8]| {
        snapshot.bucket_ref(&of.get(key).unwrap().unwrap()).unwrap()
    };
    let bad = bucket(snapshot.root(), b"bad");
    let tiny = bucket(snapshot.bucket(bad), b"tiny");
    assert!(tiny.is_inline());
    (
        bad.root as usize * PAGE_SIZE,
        tiny.value_offset as usize + 16,
    )
}

#[test]
fn an_empty_page_that_holds_keys_is_told_and_kept() {
    let case = Case::with(|db| fs::write(db, fixture()).unwrap());
    let lost = fixture()[LEAF * PAGE_SIZE..][..PAGE_SIZE].to_vec();
    let words = "bucket bad: page 6 says it is empty but holds data";
    let keys = "; the keys from \"key-010\" to before \"key-021\" of this bucket cannot be read";
    let check = case.boltfs(&["check", "db"]);
    assert_failed(&check, 1, "");
    assert!(
        check.text().starts_with(&format!("error: {words}{keys}\n")),
        "{check}"
    );
    assert!(!check.text().contains("All content"), "{check}");
    mount(&case, "");
    assert!(
        said(&case).contains(&format!(" is damaged: {words}")),
        "{}",
        said(&case)
    );
    let status = case.boltfs(&["status", "mnt"]).expect_success().text();
    assert!(status.contains(&format!("\n  damage: {words}")), "{status}");
    assert_failed(&case.sh("ls mnt/bad > listed"), 2, "Input/output error");
    let listed = fs::read_to_string(case.join("listed")).unwrap();
    assert!(listed.contains("key-009\nkey-021\n"), "{listed}");
    for line in [
        "cat mnt/bad/key-012",
        "echo x > mnt/bad/key-015",
        "mkdir mnt/bad/key-0155",
    ] {
        assert_failed(&case.sh(line), 1, "Input/output error");
    }
    // Neither in this mount nor in one after it.
    for n in 0..3 {
        case.sh(&format!(
            "boltfs status mnt > /dev/null || boltfs db mnt
             echo {n} > mnt/good/new; echo {n} > mnt/bad/key-009; echo commit > mnt/.boltfs/control
             echo {n} > mnt/good/other; boltfs umount mnt"
        ))
        .expect_success();
        case.await_end();
        let now = fs::read(case.db()).unwrap();
        assert!(now[LEAF * PAGE_SIZE..][..PAGE_SIZE] == lost[..], "{n}");
    }
    // As any damaged bucket.
    assert_failed(
        &case.sh("boltfs db mnt; rm -r mnt/bad"),
        1,
        "Input/output error",
    );
    case.sh("rmdir mnt/bad; boltfs umount mnt; not sh -c 'boltfs check db | grep -q ^error'")
        .expect_success();
}

#[test]
fn keys_behind_the_last_that_a_page_counts_are_not_passed_over() {
    let sound = sound();
    let (branch, inline) = branch_and_inline(Fs::over(sound.clone(), options()).vfs.snapshot());
    let leaf = |index: usize| format!("/bad/key-{:03}", KEYS.start + index);
    let whole = Fs::over(sound.clone(), options());
    let all: BTreeSet<String> = whole.ls("/bad").into_iter().collect();
    // A page, its count, and by it a key that is still there and one that is not.
    let mut cases = Vec::new();
    for count in 0..11_usize {
        let here = count.checked_sub(1).map(leaf);
        cases.push((LEAF * PAGE_SIZE, count, here, leaf(count)));
    }
    let children = usize::from(sound[branch + 10]);
    assert!(children > 3);
    for count in 1..children {
        let last = "/bad/key-059".to_owned();
        cases.push((branch, count, None, last));
    }
    let in_tiny = whole.ls("/bad/tiny");
    for (count, gone) in in_tiny.iter().enumerate() {
        let at = |name: &String| format!("/bad/tiny/{name}");
        let here = count.checked_sub(1).map(|last| at(&in_tiny[last]));
        cases.push((inline, count, here, at(gone)));
    }
    assert!(!in_tiny.is_empty());
    for (start, count, here, gone) in cases {
        let name = format!("count {count} of the page at {start}");
        let mut bytes = sound.clone();
        assert!(usize::from(set_count(&mut bytes, start, count as u16)) > count);
        let page = start / PAGE_SIZE * PAGE_SIZE;
        let page = page..page + PAGE_SIZE;
        let kept = bytes[page.clone()].to_vec();
        let mut fs = Fs::over(bytes, options());
        let (report, texts) = findings(fs.vfs.snapshot());
        let errors: Vec<_> = report
            .findings
            .iter()
            .filter(|found| found.severity() == Severity::Error)
            .collect();
        assert_eq!(errors.len(), 1, "{name}: {texts:?}");
        assert_eq!(errors[0].kind, Kind::Unreadable, "{name}: {texts:?}");
        assert!(report.free.is_none(), "{name}");

        // What is there can be read, what is not is an error, and so is each edit of that page.
        let (bucket, key) = gone.rsplit_once('/').unwrap();
        let (names, end) = fs.list(fs.at(bucket).unwrap(), 3);
        assert!(end.is_err(), "{name}");
        assert!(!names.contains(&key.as_bytes().to_vec()), "{name}");
        let damaged = |done: Result<_, Error>| match done {
            Err(Error::Damaged(_)) => {}
            Err(e) => panic!("{name}: {e}"),
            Ok(()) => panic!("{name}: done"),
        };
        damaged(fs.at(&gone).map(drop));
        damaged(fs.save(&gone, "new").map(drop));
        if let Some(here) = &here {
            assert_eq!(fs.read(here).unwrap(), whole.read(here).unwrap(), "{name}");
            damaged(fs.save(here, "new").map(drop));
            damaged(fs.rm(here));
        }
        // Edits elsewhere are committed, whatever is known of the database, and the page stays.
        for proven in [true, false] {
            for n in 0..2 {
                fs.save("/good/g-001", format!("{proven} {n}")).unwrap();
                if bucket == "/bad" && start != branch {
                    fs.save("/bad/key-059", format!("{proven} {n}")).unwrap();
                    fs.save("/bad/key-000", format!("{proven} {n}")).unwrap();
                }
                let done = match proven {
                    true => fs.try_commit(),
                    false => fs.try_commit_with(&CommitOptions::default()),
                };
                done.unwrap_or_else(|e| panic!("{name}: {e}"));
                let after = fs.disk.bytes();
                assert!(after[page.clone()] == kept[..], "{name}: overwritten");
                fs = Fs::over(after, options());
                let texts = findings(fs.vfs.snapshot()).1;
                let told = texts.iter().any(|text| text.starts_with("Unreadable "));
                assert!(told, "{name}: {texts:?}");
            }
        }
        // Moved as a whole, the bucket takes with it what is lost from view.
        fs.mv("/bad", "/moved").unwrap();
        fs.try_commit().unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut after = fs.disk.bytes();
        let inside = start % PAGE_SIZE != 0;
        if !inside {
            set_count(
                &mut after,
                start,
                u16::from_le_bytes(sound[start + 10..][..2].try_into().unwrap()),
            );
            let mended = Fs::over(after, options());
            let now: BTreeSet<String> = mended.ls("/moved").into_iter().collect();
            assert_eq!(now, all, "{name}");
        }
    }
}
