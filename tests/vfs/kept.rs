//! What is written in order is not kept in memory: it is read back from the journal.

use boltfs::bolt::{self, Disk};
use boltfs::journal::is_lost;
use boltfs::vfs::Error;

use crate::common::fs::{Fs, bucket, tree, value};
use crate::common::rng::{Rng, seeded};
use crate::common::tree::Tree;

fn fs() -> Fs {
    let fs = Fs::new(&tree([("b", bucket([("k", value("value"))]))]));
    fs.keep_journal();
    fs
}

/// No newline among them, which would be left off at the end of a text.
fn bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        let eight = rng.next().to_le_bytes();
        bytes.extend(eight.map(|byte| if byte == b'\n' { 0 } else { byte }));
    }
    bytes.truncate(len);
    bytes
}

fn lost(e: &bolt::Error) -> bool {
    matches!(e, bolt::Error::Io { source, .. } if is_lost(source))
}

#[test]
fn whatever_is_done_to_a_file_it_holds_what_was_written() {
    seeded(300, |_, rng| {
        let mut fs = fs();
        let mut model: Vec<u8> = b"value".to_vec();
        let ino = fs.at("b/k").unwrap();
        for _ in 0..rng.range(1, 30) {
            let len = *rng.pick(&[1, 100, 128, 1000, 4096, 128 << 10, 300_001]);
            match rng.below(10) {
                0 => {
                    fs.truncate(ino, 0).unwrap();
                    model.clear();
                }
                1 => {
                    let size = rng.below(model.len() + 10);
                    fs.truncate(ino, size as u64).unwrap();
                    model.resize(size, 0);
                }
                2 => {
                    let offset = rng.below(model.len() + 1);
                    let len = len.min(1000);
                    let new = bytes(rng, len);
                    fs.vfs.write(ino, offset as u64, &new, false).unwrap();
                    model.resize(model.len().max(offset + len), 0);
                    model[offset..offset + len].copy_from_slice(&new);
                }
                3 => {
                    let stored = fs.commit();
                    let stored = stored.value(&[b"b".to_vec()], b"k");
                    assert!(stored == Some(&model[..]), "what is committed");
                }
                4 => {
                    let recovered = fs.recover().read("b/k").unwrap();
                    assert!(recovered == model, "what a new mount finds");
                }
                _ => {
                    let new = bytes(rng, len);
                    let offset = model.len() as u64;
                    fs.vfs.write(ino, offset, &new, false).unwrap();
                    model.extend(new);
                }
            }
            assert_eq!(fs.vfs.getattr(ino).unwrap().size, model.len() as u64);
            let (offset, size) = (rng.below(model.len() + 2), rng.below(400_000));
            let read = fs.vfs.read(ino, offset as u64, size, <[u8]>::to_vec);
            let end = model.len().min(offset + size);
            let want = model.get(offset..end).unwrap_or_default();
            assert!(read.unwrap() == want, "{size} bytes at {offset}");
        }
        assert!(fs.read("b/k").unwrap() == model);
    });
}

#[test]
fn what_the_journal_has_lost_is_an_error_and_is_not_committed() {
    // At a place inside the long content.
    type Harm = fn(&dyn Disk, u64);
    let harms: [(&str, Harm); 3] = [
        ("one byte is another", |disk, at| {
            disk.write_all_at(&[8], at).unwrap();
        }),
        ("it is cut", |disk, at| disk.set_len(at).unwrap()),
        ("it is emptied", |disk, _| disk.set_len(0).unwrap()),
    ];
    for (what, harm) in harms {
        // Read piece by piece, and by a map.
        for many in [0, 100] {
            let mut fs = fs();
            fs.save("b/short", "short").unwrap();
            for n in 0..many {
                fs.save(&format!("b/{n}"), [n as u8; 10]).unwrap();
            }

            fs.save("b/long", vec![7; 300_000]).unwrap();
            let inside = fs.journal().unwrap().size().unwrap() - 100_000;
            for n in 0..many {
                fs.save(&format!("b/behind{n}"), [n as u8; 200]).unwrap();
            }
            let before = *fs.disk.snapshot().meta();
            assert!(fs.vfs.has_whole_journal());
            harm(&*fs.journal().unwrap(), inside);

            match fs.read("b/long") {
                Err(Error::Damaged(e)) if lost(&e) => {}
                other => panic!("{what}: {:?}", other.map(|bytes| bytes.len())),
            }
            assert_eq!(fs.text("b/short"), "short", "{what}: it is in memory");
            assert!(!fs.vfs.has_whole_journal(), "{what}");
            let e = fs.try_commit().expect_err(what);
            let told = e.to_string();
            assert!(
                told.contains("cannot read what was written to b/"),
                "{what}: {told}"
            );
            assert_eq!(*fs.disk.snapshot().meta(), before, "{what}: committed");
            assert!(fs.vfs.pending_count().is_err_and(|e| lost(&e)), "{what}");

            // An edit that starts from it is refused, and leaves it as it is.
            let ino = fs.at("b/long").unwrap();
            let refused = fs.vfs.write(ino, 9, b"x", false);
            assert!(
                matches!(refused, Err(Error::Damaged(e)) if lost(&e)),
                "{what}"
            );
            assert!(fs.truncate(ino, 250_000).is_err(), "{what}");
            assert_eq!(fs.vfs.getattr(ino).unwrap().size, 300_000, "{what}");

            // It is written again, and all is well.
            fs.save("b/long", vec![8; 300_000]).unwrap();
            for n in 0..many {
                fs.rm(&format!("b/behind{n}")).unwrap();
            }
            assert!(!fs.vfs.has_whole_journal(), "{what}: a mount stops there");
            let committed = fs.commit();
            let value = committed.value(&[b"b".to_vec()], b"long").unwrap();
            assert!(value == [8; 300_000], "{what}");
        }
    }
}

/// Changes a byte at the end of the journal.
fn harm(fs: &Fs) {
    let journal = fs.journal().unwrap();
    let last = journal.size().unwrap() - 1;
    journal.write_all_at(&[0xff], last).unwrap();
}

fn at<'t>(tree: &'t Tree, bucket: &str, key: &str) -> Option<&'t [u8]> {
    tree.value(&[bucket.as_bytes().to_vec()], key.as_bytes())
}

/// What is lost is as it was, whatever else was done there, and all the rest is had.
#[test]
fn what_the_journal_has_lost_is_left_out_of_what_is_salvaged() {
    let long = vec![b'x'; 300];
    let mut fs = Fs::new(&tree([(
        "b",
        bucket([
            ("dir", bucket([("k", value("in dir"))])),
            ("gone", value("gone")),
            ("k", value("value")),
            ("moved", value("moved")),
        ]),
    )]));
    fs.keep_journal();
    fs.save("b/k", "committed").unwrap();
    fs.rm("b/gone").unwrap();
    fs.commit();

    // Each of them changed at last, so that its own end is harmed.
    fs.save("b/before", "before").unwrap();
    for path in ["b/k", "b/new", "b/gone", "b/moved"] {
        fs.save(path, &long).unwrap();
        harm(&fs);
    }
    fs.mv("b/moved", "b/to").unwrap();
    fs.rm_r("b/dir").unwrap();
    fs.save("b/dir", &long).unwrap();
    harm(&fs);
    fs.save_by_rename("b/saved", &long).unwrap();
    fs.save("b/behind", &long).unwrap();

    assert!(fs.try_commit().is_err());
    let (tree, without) = fs.salvage();
    assert_eq!(without, ["b/dir", "b/gone", "b/k", "b/new", "b/to"]);
    assert_eq!(at(&tree, "b", "before"), Some(&b"before"[..]));
    assert_eq!(at(&tree, "b", "behind"), Some(&long[..]));
    assert_eq!(at(&tree, "b", "saved"), Some(&long[..]));
    assert_eq!(at(&tree, "b", "k"), Some(&b"committed"[..]));
    assert_eq!(at(&tree, "b", "to"), Some(&b"moved"[..]));
    for gone in ["dir", "gone", "moved", "new"] {
        assert_eq!(at(&tree, "b", gone), None, "{gone}");
    }
    assert_eq!(at(&tree, "b/dir", "k"), None);
}

/// JSON that takes its place in the journal alone, with members indented by so many spaces.
fn json(member: &str, indent: usize) -> String {
    let indent = " ".repeat(indent);
    let text = "x".repeat(200);
    format!("{{\n{indent}\"{member}\": 1,\n{indent}\"text\": \"{text}\"\n}}\n")
}

/// As [`json`], stored compact.
fn compact(member: &str) -> Vec<u8> {
    format!("{{\"{member}\":1,\"text\":\"{}\"}}", "x".repeat(200)).into()
}

/// A mount that has committed `b/json`, `b/moved` and `b/text` from a journal that is harmed now. What was stored of them was found
/// out before, or not.
fn committed_and_lost(settled: bool) -> Fs {
    let old = value(compact("old"));
    let mut fs = Fs::new(&tree([(
        "b",
        bucket([("json", old.clone()), ("moved", old), ("text", value("t"))]),
    )]));
    fs.keep_journal();
    fs.save("b/json", json("first", 2)).unwrap();
    fs.save("b/moved", json("moved", 2)).unwrap();
    fs.save("b/text", [&[b't'; 300][..], b"\n"].concat())
        .unwrap();
    let journal = fs.journal().unwrap();
    journal.refuse_maps();
    let tree = fs.commit();
    assert_eq!(at(&tree, "b", "json"), Some(&compact("first")[..]));
    assert_eq!(at(&tree, "b", "text"), Some(&[b't'; 300][..]));
    if settled {
        fs.save("b/second", "second").unwrap();
        fs.commit();
    }
    journal.set_len(0).unwrap();
    fs
}

fn names_lost(fs: &mut Fs, key: &str) {
    let told = fs.try_commit().expect_err("it is lost").to_string();
    let said = format!("cannot read what was written to {key} back from the journal");
    assert!(told.contains(&said), "{told}");
}

#[test]
fn what_was_committed_and_is_lost_since_is_in_the_way_until_it_is_written_again_or_removed() {
    for settled in [false, true] {
        let mut fs = committed_and_lost(settled);
        assert_eq!(fs.vfs.lost(), Vec::<String>::new());
        assert!(fs.read("b/json").is_err());
        assert_eq!(fs.vfs.lost(), ["b/json"]);
        assert_eq!(fs.pending(), Vec::<String>::new());
        fs.save("b/other", "other").unwrap();
        assert_eq!(fs.pending(), ["added\tb/other\t-\t5\t"]);
        assert!(fs.vfs.has_whole_journal(), "the edit is in it");
        // The change set is one from the mounted state on: it needs all of them.
        assert!(fs.try_commit().is_err());

        fs.save("b/json", json("again", 2)).unwrap();
        assert!(!fs.vfs.lost().contains(&"b/json".to_owned()));
        fs.rm("b/moved").unwrap();
        names_lost(&mut fs, "b/text");
        fs.mv("b/text", "b/to").unwrap();
        names_lost(&mut fs, "b/to");
        fs.mv("b/to", "b/text").unwrap();
        fs.save("b/text", [&[b'u'; 300][..], b"\n"].concat())
            .unwrap();
        assert_eq!(
            fs.pending(),
            [
                "changed\tb/json\t-\t221\tstored as compact JSON, the value before cannot be read back",
                "deleted\tb/moved\t-\t-\tthe value before cannot be read back",
                "added\tb/other\t-\t5\t",
                "changed\tb/text\t-\t301\tthe value before cannot be read back"
            ]
        );
        assert_eq!(fs.vfs.lost(), Vec::<String>::new());
        // As new keys get it: what was stored last is not known.
        for _ in 0..3 {
            let tree = fs.commit();
            assert_eq!(at(&tree, "b", "json"), Some(&compact("again")[..]));
            assert_eq!(at(&tree, "b", "moved"), None);
            let text = [&[b'u'; 300][..], b"\n"].concat();
            assert_eq!(at(&tree, "b", "text"), Some(&text[..]));
            assert_eq!(fs.pending(), Vec::<String>::new());
            fs.save("b/other", fs.text("b/other") + "more").unwrap();
        }
    }
}

#[test]
fn what_was_committed_and_is_lost_since_does_not_keep_edits_from_being_discarded() {
    for settled in [false, true] {
        let fs = committed_and_lost(settled);
        fs.save("b/json", "again").unwrap();
        fs.save("b/other", "other").unwrap();
        fs.vfs.discard().unwrap();
        assert_eq!(fs.pending(), Vec::<String>::new());
        assert!(fs.vfs.settle().unwrap(), "there is nothing to commit");
    }
}

/// A disk that reads again later changes nothing in what is stored.
#[test]
fn what_is_stored_does_not_hang_on_whether_the_disk_reads_the_next_time() {
    let old = value(compact("old"));
    let mut fs = Fs::new(&tree([("b", bucket([("json", old)]))]));
    fs.keep_journal();
    fs.save("b/json", json("first", 2)).unwrap();
    let journal = fs.journal().unwrap();
    journal.refuse_maps();
    fs.commit();
    let whole = journal.bytes();

    journal.set_len(0).unwrap();
    let again = json("again", 4);
    fs.save("b/json", &again).unwrap();
    assert_eq!(at(&fs.commit(), "b", "json"), Some(again.as_bytes()));
    journal.write_all_at(&whole, 0).unwrap();
    fs.save("b/other", "other").unwrap();
    assert_eq!(fs.pending(), ["added\tb/other\t-\t5\t"]);
    assert_eq!(at(&fs.commit(), "b", "json"), Some(again.as_bytes()));
    // Known again, so it is followed again.
    let last = json("last", 4);
    fs.save("b/json", &last).unwrap();
    assert_eq!(at(&fs.commit(), "b", "json"), Some(last.as_bytes()));
}

/// Nor on whether it reads no longer: by what a value was judged is not guessed at.
#[test]
fn what_is_stored_stays_so_when_what_it_was_judged_by_is_lost_later() {
    let old = value(compact("old"));
    let mut fs = Fs::new(&tree([("b", bucket([("json", old)]))]));
    fs.keep_journal();
    fs.save("b/json", json("first", 2)).unwrap();
    let journal = fs.journal().unwrap();
    journal.refuse_maps();
    fs.commit();
    fs.save("b/json", json("again", 4)).unwrap();
    assert_eq!(at(&fs.commit(), "b", "json"), Some(&compact("again")[..]));

    journal.set_len(0).unwrap();
    fs.save("b/other", "other").unwrap();
    names_lost(&mut fs, "b/json");
    fs.save("b/json", json("last", 2)).unwrap();
    assert_eq!(at(&fs.commit(), "b", "json"), Some(&compact("last")[..]));
}

/// Dropping edits waits for nothing to be read that is dropped.
#[test]
fn what_is_pending_is_counted_for_a_message_only_where_that_is_quick() {
    let mut fs = fs();
    fs.save("b/short", vec![b'x'; 1 << 20]).unwrap();
    assert_eq!(fs.vfs.pending_count_at_hand(), Some(1));
    fs.save("b/long", vec![b'x'; 64 << 20]).unwrap();
    assert_eq!(fs.vfs.pending_count_at_hand(), None);
    assert_eq!(fs.vfs.pending_count().unwrap(), 2);
    fs.commit();
    assert_eq!(fs.vfs.pending_count_at_hand(), Some(0));
    fs.vfs.discard().unwrap();
    assert_eq!(fs.vfs.pending_count_at_hand(), Some(0));
}

/// A journal that was removed is there for as long as somebody reads it.
#[test]
fn what_was_committed_is_read_from_the_journal_that_is_gone() {
    let mut fs = fs();
    let first = vec![b'1'; 200_000];
    fs.save("b/k", &first).unwrap();
    fs.commit();
    assert!(fs.journal().is_none());
    assert!(fs.read("b/k").unwrap() == first);
    fs.save("b/other", vec![b'2'; 200_000]).unwrap();
    assert_eq!(fs.pending(), ["added\tb/other\t-\t200000\t"]);

    let ino = fs.at("b/k").unwrap();
    fs.vfs.write(ino, 200_000, &[b'3'; 1000], false).unwrap();
    let both = [&first[..], &[b'3'; 1000]].concat();
    assert!(fs.read("b/k").unwrap() == both);
    assert!(fs.recover().read("b/k").unwrap() == both);
    fs.vfs.discard().unwrap();
    assert!(fs.read("b/k").unwrap() == first);
    assert_eq!(fs.pending(), Vec::<String>::new());
}
