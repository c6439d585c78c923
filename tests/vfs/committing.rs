//! What a commit takes, and what stays.

use std::io;
use std::path::Path;

use boltfs::bolt::{CommitError, Disk};
use boltfs::vfs::{Error, JournalPlace};

use crate::common::beside::Beside;
use crate::common::disk::Fail;
use crate::common::fs::{Fs, bucket, tree, value};
use crate::common::tree::Tree;
use crate::refused;

fn sample() -> Tree {
    tree([
        ("b", bucket([("k", value("v")), ("l", value("w"))])),
        ("c", bucket([])),
    ])
}

#[test]
fn nothing_is_written_before_the_commit() {
    let fs = Fs::new(&sample());
    let before = fs.disk.bytes();
    fs.save("b/k", "edited").unwrap();
    fs.rm_r("c").unwrap();
    fs.mkdir("d").unwrap();
    assert_eq!(fs.disk.bytes(), before);
    assert!(fs.disk.ops().is_empty());
}

#[test]
fn a_commit_takes_everything_in_one_transaction() {
    let mut fs = Fs::new(&sample());
    let txid = fs.disk.snapshot().meta().txid;
    fs.save("b/k", "edited").unwrap();
    fs.mv("b/l", "c/l").unwrap();
    fs.mkdir("d").unwrap();
    let expected = tree([
        ("b", bucket([("k", value("edited"))])),
        ("c", bucket([("l", value("w"))])),
        ("d", bucket([])),
    ]);
    expected.assert_same(&fs.commit(), "committed");
    assert_eq!(fs.disk.snapshot().meta().txid, txid + 1);
}

#[test]
fn after_a_commit_the_mount_goes_on() {
    let mut fs = Fs::new(&sample());
    fs.save("b/new", "one").unwrap();
    fs.rm("b/k").unwrap();
    fs.commit();
    assert!(fs.pending().is_empty());
    fs.save("b/new", "three").unwrap();
    fs.save("b/k", "back").unwrap();
    fs.mv("b", "e").unwrap();
    assert_eq!(
        fs.pending(),
        [
            "moved\te/\t-\t-\tfrom b/",
            "added\te/k\t-\t4\t",
            "changed\te/new\t3\t5\t"
        ]
    );
    let expected = tree([
        ("c", bucket([])),
        (
            "e",
            bucket([
                ("k", value("back")),
                ("l", value("w")),
                ("new", value("three")),
            ]),
        ),
    ]);
    expected.assert_same(&fs.commit(), "committed");
    fs.mv("e", "b").unwrap();
    fs.commit();
    assert_eq!(fs.ls(""), ["b", "c"]);
}

/// What was saved has the length of what is stored of it, and is not the same.
#[test]
fn what_nobody_touches_stays_as_it_was_committed_however_often_others_are() {
    let json = r#"{"a": 1, "b": 2}"#;
    let mut fs = Fs::new(&tree([("b", bucket([("json", value(json))]))]));
    fs.save("b/json", r#"{ "a":3, "b": 2}"#).unwrap();
    for n in 0..4 {
        let committed = fs.commit();
        let stored = committed.value(&[b"b".to_vec()], b"json");
        assert_eq!(stored, Some(&br#"{"a": 3, "b": 2}"#[..]), "commit {n}");
        fs.save(&format!("b/other-{n}"), "x").unwrap();
    }
}

#[test]
fn a_discard_goes_back_to_the_last_commit() {
    let mut fs = Fs::new(&sample());
    fs.save("b/k", "committed").unwrap();
    fs.commit();
    fs.save("b/k", "dropped").unwrap();
    fs.save("b/new", "dropped").unwrap();
    fs.rm_r("c").unwrap();
    let forgotten = fs.vfs.discard().unwrap();
    let b = fs.at("b").unwrap();
    assert!(
        forgotten.names.contains(&(b, b"new".to_vec())),
        "the kernel is told to look again"
    );
    assert_eq!(
        (fs.text("b/k"), fs.ls("b"), fs.ls("")),
        (
            "committed".into(),
            vec!["k".into(), "l".into()],
            vec!["b".to_owned(), "c".into()]
        )
    );
    assert!(fs.pending().is_empty());
}

#[test]
fn a_commit_that_fails_leaves_the_database_and_the_edits() {
    let mut fs = Fs::new(&sample());
    fs.save("b/k", "edited").unwrap();
    fs.disk.fail(Fail {
        at: 0,
        through: 10,
        errno: 28,
    });
    match fs.try_commit() {
        Err(CommitError::NotCommitted(_)) => {}
        other => panic!("{other:?}"),
    }
    sample().assert_same(
        &crate::common::read::read(&fs.disk.snapshot()).tree,
        "the database",
    );
    assert_eq!(
        (fs.text("b/k"), fs.pending().len()),
        ("edited".to_owned(), 1)
    );
    fs.disk.reset();
    assert_eq!(
        fs.commit().value(&[b"b".to_vec()], b"k"),
        Some(&b"edited"[..])
    );
}

#[test]
fn a_sealed_mount_takes_no_more_edits() {
    let mut fs = Fs::new(&sample());
    fs.save("b/k", "edited").unwrap();
    fs.vfs.seal();
    refused!(fs.save("b/k", "too late"), Error::Sealed);
    refused!(fs.mkdir("d"), Error::Sealed);
    assert_eq!(fs.text("b/k"), "edited");
    assert_eq!(
        fs.commit().value(&[b"b".to_vec()], b"k"),
        Some(&b"edited"[..])
    );
}

#[test]
fn every_edit_is_in_the_journal_before_it_is_answered() {
    let fs = Fs::new(&sample());
    fs.keep_journal();
    assert!(
        fs.journal().is_none(),
        "nothing is kept while nothing is staged"
    );
    let edits: [&dyn Fn(&Fs); 7] = [
        &|fs| _ = fs.save("b/k", "edited").unwrap(),
        &|fs| _ = fs.mkdir("c/sub").unwrap(),
        &|fs| fs.mv("b/k", "c/sub/k").unwrap(),
        &|fs| fs.mv("c", "b/c").unwrap(),
        &|fs| fs.rm("b/l").unwrap(),
        &|fs| _ = fs.truncate(fs.at("b/c/sub/k").unwrap(), 3).unwrap(),
        &|fs| fs.mv("b/c/sub", "top").unwrap(),
    ];
    for edit in edits {
        edit(&fs);
        assert_eq!(fs.recover().pending(), fs.pending());
    }
    assert_eq!(fs.recover().text("top/k"), "edi");
}

/// What was saved and what is stored of it differ in white space and line ends; an edit after a commit in mid-mount starts
/// from what was saved.
#[test]
fn the_journal_of_an_edit_after_a_commit_starts_from_what_the_mount_shows() {
    let json = r#"{"a":1}"#;
    let content = tree([("b", bucket([("text", value("one")), ("json", value(json))]))]);
    let mut fs = Fs::new(&content);
    fs.keep_journal();
    fs.save("b/text", "two\n").unwrap();
    fs.save("b/json", "{\"a\":2}\n").unwrap();
    let committed = fs.commit();
    assert_eq!(
        committed.value(&[b"b".to_vec()], b"text"),
        Some(&b"two"[..])
    );
    assert!(fs.journal().is_none());

    let (text, json) = (fs.at("b/text").unwrap(), fs.at("b/json").unwrap());
    let append = |fs: &Fs, ino, bytes: &[u8]| {
        let size = fs.vfs.getattr(ino).unwrap().size;
        fs.vfs.write(ino, size, bytes, false)
    };
    // A full disk refuses it and leaves nothing of it.
    fs.save("b/new", "x").unwrap();
    let journal = fs.journal().unwrap();
    for at in 0..3 {
        journal.fail(Fail {
            at,
            through: 5,
            errno: 28,
        });
        assert!(append(&fs, text, b"three\n").is_err(), "at {at}");
        journal.reset();
        assert_eq!(fs.recover().pending(), fs.pending(), "at {at}");
        assert_eq!(fs.recover().text("b/text").trim(), "two", "at {at}");
    }
    append(&fs, text, b"three\n").unwrap();
    append(&fs, text, b"four\n").unwrap();
    fs.vfs.write(json, 5, b"3", false).unwrap();
    let recovered = fs.recover();
    assert_eq!(recovered.text("b/text"), "two\nthree\nfour\n");
    assert_eq!(recovered.text("b/json"), "{\"a\":3}\n");
    assert_eq!(fs.text("b/text"), recovered.text("b/text"));
    assert_eq!(fs.text("b/json"), recovered.text("b/json"));

    // What cancels itself out leaves no journal, and an edit after it starts from there too.
    fs.rm("b/new").unwrap();
    fs.save("b/text", "two\n").unwrap();
    fs.save("b/json", "{\"a\": 2}").unwrap();
    assert_eq!(fs.pending(), Vec::<String>::new());
    assert!(fs.vfs.settle().unwrap());
    assert!(fs.journal().is_none());
    append(&fs, text, b"more\n").unwrap();
    assert!(!fs.vfs.settle().unwrap());
    assert_eq!(fs.recover().text("b/text"), "two\nmore\n");
    fs.vfs.discard().unwrap();
    assert_eq!(fs.text("b/text"), "two\n");
    append(&fs, text, b"again\n").unwrap();
    assert_eq!(fs.recover().text("b/text"), "two\nagain\n");
}

/// A place that refuses to have a journal begun, with an error of its own each time.
struct Refusing(Vec<i32>, Beside);

impl JournalPlace for Refusing {
    fn create(&mut self) -> io::Result<Box<dyn Disk>> {
        match self.0.pop() {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => self.1.create(),
        }
    }

    fn remove(&mut self) -> io::Result<()> {
        self.1.remove()
    }

    fn path(&self) -> &Path {
        self.1.path()
    }
}

#[test]
fn an_edit_is_refused_while_no_file_can_be_opened_for_its_journal() {
    // EMFILE, ENFILE, ENOMEM, ENOSPC: it may be otherwise the next time.
    let errors = [24, 23, 12, 28];
    let fs = Fs::new(&tree([("b", bucket([]))]));
    let beside = Beside::default();
    let place = Refusing(errors.to_vec(), beside.clone());
    fs.vfs.keep_journal(Box::new(place), None);
    for errno in errors.iter().rev() {
        match fs.create("b/new") {
            Err(Error::Journal(e)) => assert_eq!(e.raw_os_error(), Some(*errno)),
            other => panic!("{errno}: {other:?}"),
        }
        assert_eq!(fs.pending(), Vec::<String>::new());
    }
    fs.create("b/new").unwrap();
    assert!(beside.disk().is_some());
}
