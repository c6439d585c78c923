//! A file that was cut off: a copy that was not finished.

use std::fs::{self, File};

use crate::common::case::{Case, assert_failed};
use crate::common::{Edit, Fixture, Options, Oracle};
use crate::{mount, read, said, values};

/// Four buckets of 300 values, with the pages that lead to them at the start of the file.
fn large() -> Case {
    let bucket = |name: &str| Edit::CreateBucket {
        path: vec![name.into()],
    };
    let put = |name: &str, key: String, value: Vec<u8>| Edit::Put {
        path: vec![name.into()],
        key: key.into_bytes(),
        value,
    };
    let mut script = vec![vec![
        bucket("junk"),
        put("junk", "k".to_owned(), vec![0; 200_000]),
    ]];
    for name in ["b0", "b1", "b2", "b3"] {
        let value = |n: i32| format!("value {n} of {name}. ").repeat(30).into_bytes();
        let puts = (0..300).map(|n| put(name, format!("{n:03}"), value(n)));
        script.push([vec![bucket(name)], puts.collect()].concat());
    }
    script.push(vec![Edit::DeleteBucket {
        path: vec![b"junk".to_vec()],
    }]);
    // Each takes the first pages that are free.
    for name in ["b0", "b1", "b2", "b3", "b0"] {
        script.push(vec![put(name, "000".to_owned(), b"changed".to_vec())]);
    }
    Case::with(|db| {
        Oracle::shared()
            .edit(db, &script, Options::default())
            .map(drop)
            .expect("bbolt makes it");
    })
}

fn cut(case: &Case, len: u64) {
    let file = File::options().write(true).open(case.db()).unwrap();
    file.set_len(len).unwrap();
}

#[test]
fn what_is_left_is_shown_read_only_and_the_rest_is_an_error_that_is_told_once() {
    let case = large();
    let whole = fs::read(case.db()).unwrap();
    let content = values(&case.content());
    let in_use = Oracle::shared().stats(&case.db()).unwrap()["size"]
        .as_u64()
        .unwrap();
    let mut numbers = Vec::new();
    for percent in [95, 70, 40] {
        fs::write(case.db(), &whole).unwrap();
        let len = in_use * percent / 100 + 7;
        cut(&case, len);
        let before = fs::read(case.db()).unwrap();
        for options in ["", "--dry-run", "--output out"] {
            let output = case.sh(&format!("boltfs {options} db mnt"));
            assert_failed(&output, 1, "truncated: the meta page says");
            let look = format!("copied out: boltfs -r {} MOUNTPOINT", case.db().display());
            assert_failed(&output, 1, &look);
            assert!(case.line().is_none() && !case.join("out").exists());
        }
        mount(&case, "-r");
        let (found, failed) = read(&case.join("mnt"));
        for (path, value) in &found {
            assert!(content.get(path) == Some(value), "{path}");
        }
        assert!(failed > 0);
        let again = read(&case.join("mnt"));
        assert!(again == (found.clone(), failed));
        let _ = case.sh("grep -r nothing mnt mnt/.boltfs/base");
        let said = said(&case);
        let start = format!("boltfs: warning: {} is cut off: ", case.db().display());
        assert!(said.starts_with(&start), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(&format!("and it has {len}. ")), "{said}");
        let status = case.boltfs(&["status", "mnt"]).expect_success().text();
        assert!(status.contains("\n  damage: file: ends after "), "{status}");
        assert_failed(&case.sh("echo x > mnt/new"), 1, "Read-only file system");
        case.boltfs(&["umount", "mnt"]).expect_success();
        case.await_end();
        assert!(fs::read(case.db()).unwrap() == before);
        numbers.push(found.len());
    }
    println!(
        "values that could be read: {numbers:?} of {}",
        content.len()
    );
    assert!(numbers.iter().all(|&n| n >= 100), "{numbers:?}");
}

#[test]
fn nothing_is_left_but_the_meta_pages() {
    let (_directory, path) = Fixture::named("truncated-2-pages.db").copy();
    let case = Case::with(|db| fs::rename(&path, db).unwrap());
    assert_failed(
        &case.boltfs(&["db", "mnt"]),
        1,
        "It cannot be edited as it is",
    );
    let output = case.boltfs(&["-r", "db", "mnt"]).expect_success();
    assert!(
        output
            .stderr
            .contains(" is cut off: 18432 bytes are in use, and it has 2048."),
        "{output}"
    );
    assert_failed(&case.sh("ls mnt"), 2, "Input/output error");
    case.boltfs(&["umount", "mnt"]).expect_success();
}

/// The newer state goes past the end of the file, the older one does not.
#[test]
fn the_older_state_is_named_where_it_is_whole() {
    let case = Case::new();
    let older = case.content();
    let len = Oracle::shared().stats(&case.db()).unwrap()["size"]
        .as_u64()
        .unwrap();
    let put = Edit::Put {
        path: vec![b"b".to_vec()],
        key: b"large".to_vec(),
        value: vec![1; 100_000],
    };
    Oracle::shared()
        .edit(&case.db(), &[vec![put]], Options::default())
        .unwrap();
    cut(&case, len.max(16384));
    let look = format!(
        "lies wholly in it: boltfs --meta 0 -r {} MOUNTPOINT",
        case.db().display()
    );
    assert_failed(&case.boltfs(&["db", "mnt"]), 1, &look);
    let output = case.boltfs(&["-r", "db", "mnt"]).expect_success();
    let look = format!(
        "meta page 0, has no such error: boltfs --meta 0 -r {} MOUNTPOINT",
        case.db().display()
    );
    assert!(output.stderr.contains(&look), "{output}");
    let output =
        case.sh("boltfs umount mnt; boltfs --meta 0 db mnt; echo x > mnt/b/x; boltfs umount mnt");
    let output = output.expect_success();
    assert!(
        output.stderr.contains("and gives up transaction 3"),
        "{output}"
    );
    let mut expected = older;
    let (path, key, value) = (vec![b"b".to_vec()], b"x".to_vec(), b"x\n".to_vec());
    expected.apply(&Edit::Put { path, key, value }).unwrap();
    expected.assert_same(&case.content(), "what bbolt finds");
    case.boltfs(&["check", "db"]).expect_success();
}

/// As above, with the current state in meta page 0.
#[test]
fn the_older_state_that_is_named_is_not_the_one_that_is_cut() {
    let case = Case::new();
    let put = |len| Edit::Put {
        path: vec![b"b".to_vec()],
        key: b"large".to_vec(),
        value: vec![1; len],
    };
    Oracle::shared()
        .edit(
            &case.db(),
            &[vec![put(1)], vec![put(100_000)]],
            Options::default(),
        )
        .unwrap();
    let len = fs::metadata(case.db()).unwrap().len();
    cut(&case, len - 100_000);
    let looks = format!(
        "copied out: boltfs -r {0} MOUNTPOINT. The other state of the file, of meta page 1, lies wholly in it: \
         boltfs --meta 1 -r {0} MOUNTPOINT",
        case.db().display()
    );
    assert_failed(&case.boltfs(&["db", "mnt"]), 1, &looks);
    case.sh("boltfs --meta 1 db mnt; [ $(cat mnt/b/large | wc -c) = 1 ]; boltfs umount mnt")
        .expect_success();
}
