//! A damaged database: what can be read is shown and can be edited, the rest is an error, never a lie.

use boltfs::bolt::Damage;
use boltfs::overlay::Which;
use boltfs::vfs::Error;
use boltfs::view::name;

use crate::common::Fixture;
use crate::common::build::{Build, paged, plain};
use crate::common::fs::{Fs, options};
use crate::refused;

/// Bucket `bad` of three leaves, the one in the middle full of zeros, beside a sound one.
fn hole() -> Fs {
    let mut build = Build::new(512);
    let leaf = |build: &mut Build, keys: [&[u8]; 2]| build.leaf(&keys.map(|key| plain(key, b"v")));
    let leaves = [
        leaf(&mut build, [b"a", b"b"]),
        leaf(&mut build, [b"m", b"n"]),
        leaf(&mut build, [b"y", b"z"]),
    ];
    let branch = build.branch(&[(b"a", leaves[0]), (b"m", leaves[1]), (b"y", leaves[2])]);
    let good = leaf(&mut build, [b"k", b"l"]);
    build.root = build.leaf(&[paged(b"bad", branch), paged(b"good", good)]);
    build.at(leaves[1])[..512].fill(0);
    Fs::over(build.file(), options())
}

#[test]
fn a_listing_has_all_that_can_be_read_and_then_an_error() {
    let fs = hole();
    let bad = fs.at("bad").unwrap();
    for room in [1, 2, 100] {
        let (names, end) = fs.list(bad, room);
        assert_eq!(names, [b"a", b"b", b"y", b"z"].map(|name| name.to_vec()));
        refused!(end, Error::Incomplete);
    }
    assert_eq!(fs.ls("good"), ["k", "l"]);
    assert_eq!(fs.ls(""), ["bad", "good"]);
}

#[test]
fn what_lies_beside_damage_can_be_read_and_edited() {
    let mut fs = hole();
    assert_eq!(
        (fs.text("bad/a"), fs.text("bad/z")),
        ("v".to_owned(), "v".to_owned())
    );
    for path in ["bad/m", "bad/o"] {
        match fs.at(path) {
            Err(Error::Damaged(boltfs::bolt::Error::Page { damage, .. })) => {
                assert!(matches!(damage, Damage::Zeroed), "{damage:?}");
            }
            other => panic!("{path}: {other:?}"),
        }
    }
    fs.save("bad/a", "edited").unwrap();
    fs.rm("bad/z").unwrap();
    fs.save("good/new", "x").unwrap();
    // Where it could not be written back it is refused at once, not at the end.
    refused!(fs.create("bad/mm"), Error::Damaged(_));
    refused!(fs.mv("good/k", "bad/mm"), Error::Damaged(_));
    refused!(fs.mv("bad/a", "bad/nn"), Error::Damaged(_));
    let after = fs.commit_unjudged();
    let after = Fs::over(after, options());
    assert_eq!(after.text("bad/a"), "edited");
    assert_eq!(
        after.list(after.at("bad").unwrap(), 9).0,
        [b"a", b"b", b"y"].map(|name| name.to_vec())
    );
    assert_eq!(after.ls("good"), ["k", "l", "new"]);
}

#[test]
fn a_damaged_bucket_can_be_removed_once_nothing_in_it_can_be_read() {
    let mut fs = hole();
    refused!(fs.rmdir("bad"), Error::NotEmpty);
    for name in ["a", "b", "y", "z"] {
        fs.rm(&format!("bad/{name}")).unwrap();
    }
    refused!(fs.list(fs.at("bad").unwrap(), 9).1, Error::Incomplete);
    fs.rmdir("bad").unwrap();
    assert_eq!(fs.ls(""), ["good"]);
    let after = fs.commit_unjudged();
    assert_eq!(Fs::over(after, options()).ls(""), ["good"]);
}

#[test]
fn a_damaged_bucket_can_be_moved_and_replaced() {
    let mut fs = hole();
    fs.mv("bad", "good/bad").unwrap();
    assert_eq!(fs.text("good/bad/a"), "v");
    let after = Fs::over(fs.commit_unjudged(), options());
    assert_eq!(after.text("good/bad/z"), "v");
    assert_eq!(after.ls(""), ["good"]);
}

#[test]
fn a_long_name_beside_damage_is_found() {
    let long = [b'x'; 300];
    let mut build = Build::new(512);
    let leaves = [
        build.leaf(&[plain(b"a", b"v")]),
        build.leaf(&[plain(b"m", b"v")]),
        build.leaf(&[plain(&long, b"long")]),
    ];
    let branch = build.branch(&[(b"a", leaves[0]), (b"m", leaves[1]), (&long, leaves[2])]);
    build.root = build.leaf(&[paged(b"bad", branch)]);
    build.at(leaves[1])[..512].fill(0);
    let fs = Fs::over(build.file(), options());
    let shown = |key: &[u8]| {
        format!(
            "bad/{}",
            String::from_utf8(name::encode(key, false)).unwrap()
        )
    };
    assert_eq!(fs.text(&shown(&long)), "long");
    // Of another one nobody knows: it may stand where nothing can be read.
    refused!(fs.at(&shown(&[b'n'; 300])), Error::Damaged(_));
}

#[test]
fn a_listing_of_keys_out_of_order_ends_and_has_each_entry_once() {
    let mut build = Build::new(512);
    let leaves = [
        build.leaf(&[plain(b"a", b"1"), plain(b"b", b"2")]),
        build.leaf(&[plain(b"m", b"3"), plain(b"z", b"4")]),
        build.leaf(&[plain(b"o", b"5"), plain(b"c", b"6"), plain(b"q", b"7")]),
    ];
    let branch = build.branch(&[(b"a", leaves[0]), (b"m", leaves[1]), (b"o", leaves[2])]);
    build.root = build.leaf(&[paged(b"bucket", branch)]);
    let fs = Fs::over(build.file(), options());
    for name in ["0", "aa", "b", "mm", "n"] {
        fs.save(&format!("bucket/{name}"), "new").unwrap();
    }
    fs.rm("bucket/a").unwrap();
    let dir = fs.at("bucket").unwrap();
    for room in [1, 2, 3, 100] {
        let (mut names, end) = fs.list(dir, room);
        end.unwrap();
        names.sort();
        let expected = ["0", "aa", "b", "c", "m", "mm", "n", "o", "q", "z"];
        assert_eq!(
            names,
            expected.map(|name| name.as_bytes().to_vec()),
            "room for {room}"
        );
    }
}

#[test]
fn a_listing_that_is_gone_on_with_is_not_misled_by_a_page_at_two_places() {
    let mut build = Build::new(512);
    let leaf = |build: &mut Build, keys: [&[u8]; 2]| build.leaf(&keys.map(|key| plain(key, b"v")));
    let first = leaf(&mut build, [b"a", b"b"]);
    let twice = leaf(&mut build, [b"m", b"n"]);
    let between = leaf(&mut build, [b"d", b"e"]);
    let last = leaf(&mut build, [b"x", b"y"]);
    // It belongs to the second of its places: there a seek for its keys leads.
    let branch = build.branch(&[
        (b"a", first),
        (b"c", twice),
        (b"d", between),
        (b"m", twice),
        (b"x", last),
    ]);
    build.root = build.leaf(&[paged(b"bucket", branch)]);
    let file = build.file();
    for room in [1, 2, 3, 5, 100] {
        let fs = Fs::over(file.clone(), options());
        let (names, end) = fs.list(fs.at("bucket").unwrap(), room);
        end.unwrap();
        let expected = ["a", "b", "m", "n", "d", "e", "x", "y"];
        assert_eq!(
            names,
            expected.map(|name| name.as_bytes().to_vec()),
            "room for {room}"
        );
    }
}

/// Damage has put keys where no look-up goes: one that is nowhere else, one that stands in its own place too, and a bucket.
#[test]
fn what_stands_where_no_look_up_goes_is_not_edited_in_vain() {
    let mut build = Build::new(512);
    let inner = build.leaf(&[plain(b"k", b"v")]);
    let first = build.leaf(&[
        plain(b"a", b"1"),
        plain(b"n", b"old"),
        plain(b"q", b"lost"),
        paged(b"r", inner),
    ]);
    let second = build.leaf(&[plain(b"m", b"2"), plain(b"n", b"new")]);
    let branch = build.branch(&[(b"a", first), (b"m", second)]);
    build.root = build.leaf(&[paged(b"bucket", branch)]);
    let file = build.file();
    let mut fs = Fs::over(file.clone(), options());
    let bucket = fs.at("bucket").unwrap();
    let mut listed = Vec::new();
    let entries = |listed: &mut Vec<_>| {
        fs.vfs.readdir(bucket, 0, &mut |entry| {
            listed.push((entry.name.to_vec(), entry.attr.ino));
            true
        })
    };
    entries(&mut listed).unwrap();
    let ino = |name: &[u8]| listed.iter().find(|(listed, _)| listed == name).unwrap().1;
    // It can be read by whoever has it from the listing; of two elements the listing has the one that is found by name.
    assert_eq!(fs.read_node(ino(b"q")).unwrap(), b"lost");
    assert_eq!(fs.read_node(ino(b"n")).unwrap(), b"new");
    assert_eq!(fs.at("bucket/n").unwrap(), ino(b"n"));
    // An edit would be made in another place, and the listing would show the old value ever after.
    refused!(
        fs.vfs.write(ino(b"q"), 0, b"edited", false),
        Error::Damaged(_)
    );
    refused!(fs.truncate(ino(b"q"), 0), Error::Damaged(_));
    refused!(
        fs.vfs.create(ino(b"r"), b"new", 0o600, 0, 0),
        Error::Damaged(_)
    );
    refused!(fs.vfs.unlink(ino(b"r"), b"k"), Error::Damaged(_));
    refused!(fs.rm("bucket/q"), Error::Damaged(_));
    refused!(fs.mv("bucket/q", "bucket/z"), Error::Damaged(_));
    refused!(fs.mv("bucket/m", "bucket/q"), Error::Damaged(_));
    refused!(
        fs.vfs.unlink(fs.at("bucket").unwrap(), b"q"),
        Error::Damaged(_)
    );
    assert_eq!(fs.read("bucket/q").unwrap(), b"lost");
    assert_eq!(fs.pending(), [""; 0]);
    // Beside it all is as ever.
    fs.save("bucket/n", "edited").unwrap();
    assert_eq!(fs.text("bucket/n"), "edited");
    match fs.try_commit() {
        Ok(()) => assert_eq!(
            Fs::over(fs.disk.bytes(), options()).text("bucket/n"),
            "edited"
        ),
        Err(_) => assert_eq!(fs.disk.bytes(), file),
    }
}

/// Where nobody has listed the bucket, a check tells, and the commit at the latest.
#[test]
fn no_key_is_made_twice() {
    let file = std::fs::read(Fixture::named("page-stale.db").copy().1).unwrap();
    let listed = |fs: &Fs| fs.ls("bad").iter().filter(|name| *name == "aaaa").count();
    assert_eq!(listed(&Fs::over(file.clone(), options())), 1);
    let known = Fs::over(file.clone(), options());
    known.vfs.note_disordered(&[b"bad".to_vec()]);
    assert!(known.read("bad/aaaa").is_ok());
    let bad = known.at("bad").unwrap();
    refused!(
        known.vfs.create(bad, b"aaaa", 0o600, 0, 0),
        Error::Damaged(_)
    );
    refused!(known.mkdir("bad/aaaa"), Error::Damaged(_));
    refused!(known.rm("bad/aaaa"), Error::Damaged(_));
    refused!(known.mv("bad/key-000", "bad/aaaa"), Error::Damaged(_));
    known.save("bad/aaab", "new").unwrap();

    let mut late = Fs::over(file.clone(), options());
    let bad = late.at("bad").unwrap();
    late.vfs.create(bad, b"aaaa", 0o600, 0, 0).unwrap();
    late.vfs.note_disordered(&[b"bad".to_vec()]);
    let why = late.try_commit().unwrap_err().to_string();
    assert!(
        why.contains("holds a key that belongs to another page"),
        "{why}"
    );
    assert_eq!(late.disk.bytes(), file);
    late.rm("bad/aaaa").unwrap();
    assert_eq!(late.pending(), [""; 0]);
    late.save("good/new", "new").unwrap();
    late.try_commit().unwrap();
    assert_eq!(listed(&Fs::over(late.disk.bytes(), options())), 1);
}

/// Nothing that can be done to any of the damaged databases ends in a panic, or goes on for ever.
#[test]
fn every_damaged_fixture_can_be_walked_and_cleared() {
    fn clear(fs: &Fs, path: &str, depth: usize) {
        let Ok(dir) = fs.at(path) else { return };
        let (names, _) = fs.list(dir, 5);
        for name in names {
            let path = format!(
                "{path}/{}",
                String::from_utf8(name).expect("a name is text")
            );
            match fs.stat(&path) {
                Ok(attr) if attr.kind == boltfs::overlay::Kind::Directory && depth < 40 => {
                    clear(fs, &path, depth + 1);
                    let _ = fs.rmdir(&path);
                }
                Ok(_) => {
                    let _ = fs.read(&path);
                    let _ = fs.save(&path, "edited");
                    let _ = fs.mv(&path, &format!("{path}.moved"));
                    let _ = fs.rm(&format!("{path}.moved"));
                }
                Err(_) => {}
            }
        }
    }
    for fixture in crate::common::Fixture::of_class("corrupt") {
        let (_directory, file) = fixture.copy();
        if crate::common::read::open(&file).is_err() {
            continue; // refused as a whole: tests/refusals.rs
        }
        let fs = Fs::of_fixture(fixture.name());
        clear(&fs, "", 0);
        let _ = fs.vfs.pending(Which::All, &mut |_| ());
        let _ = fs.list(fs.at("").unwrap(), 3);
    }
}

#[test]
fn each_place_is_noted_once_with_its_bucket() {
    let fs = hole();
    let (root, bad) = (fs.at("").unwrap(), fs.at("bad").unwrap());
    assert!(fs.vfs.damage().is_empty());
    for name in ["m", "o", "m"] {
        let e = fs.vfs.lookup(bad, name.as_bytes()).unwrap_err();
        fs.vfs.note(bad, &e);
    }
    fs.vfs.note(root, &Error::NotFound);
    let (_, end) = fs.list(bad, 100);
    refused!(end, Error::Incomplete);
    let line = "bucket bad: page 3 is all zeros (a write that never reached the disk)";
    assert_eq!(fs.vfs.damage(), [line]);
    // By a name that it has meanwhile, and by that of a key.
    let page = |pgid| Error::Damaged(boltfs::bolt::Error::page(pgid, Damage::NoChild));
    fs.mv("bad", "good/moved").unwrap();
    fs.vfs.note(bad, &page(7));
    fs.vfs.note(fs.at("good/k").unwrap(), &page(8));
    fs.vfs.note(root, &page(9));
    let what = "is a branch page without a child";
    let lines = [
        line.to_owned(),
        format!("bucket good/moved: page 7 {what}"),
        format!("key good/k: page 8 {what}"),
        format!("root bucket: page 9 {what}"),
    ];
    assert_eq!(fs.vfs.damage(), lines);
    // A check tells what is new, and does so once.
    let found = || [(Some(9), "known".to_owned()), (None, "new".to_owned())].into_iter();
    assert!(fs.vfs.note_check(found()));
    assert!(!fs.vfs.note_check(found()));
    assert_eq!(fs.vfs.damage()[4..], ["new"]);
    // Nobody reads thousands of them.
    (10..10_000).for_each(|pgid| fs.vfs.note(root, &page(pgid)));
    assert!(fs.vfs.damage().len() <= 101, "{}", fs.vfs.damage().len());
}
