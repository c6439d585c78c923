//! Files: made, written, cut, unlinked.

use boltfs::overlay::Ino;
use boltfs::vfs::{Error, MAX_FILE, SetXattr};

use crate::common::disk::Fail;
use crate::common::fs::{Fs, bucket, options, tree, value};
use crate::common::tree::Tree;
use crate::refused;

fn one() -> Tree {
    tree([(
        "b",
        bucket([("k", value("0123456789")), ("sub", bucket([]))]),
    )])
}

#[test]
fn a_new_file_is_a_key_with_an_empty_value() {
    let mut fs = Fs::new(&one());
    fs.create("b/new").unwrap();
    assert_eq!(
        (fs.text("b/new"), fs.stat("b/new").unwrap().size),
        (String::new(), 0)
    );
    refused!(fs.create("b/new"), Error::Exists);
    refused!(fs.create("b/k"), Error::Exists);
    refused!(fs.create("b/k/x"), Error::NotDirectory);
    refused!(fs.create("none/x"), Error::NotFound);
    assert_eq!(fs.pending(), ["added\tb/new\t-\t0\t"]);
    assert_eq!(fs.commit().value(&[b"b".to_vec()], b"new"), Some(&b""[..]));
}

#[test]
fn bytes_are_written_where_they_are_put() {
    let mut fs = Fs::new(&one());
    let k = fs.at("b/k").unwrap();
    fs.vfs.write(k, 3, b"xyz", false).unwrap();
    assert_eq!(fs.text("b/k"), "012xyz6789");
    fs.vfs.write(k, 10, b"end", false).unwrap();
    assert_eq!(fs.text("b/k"), "012xyz6789end");
    fs.vfs.write(k, 15, b"!", false).unwrap();
    assert_eq!(fs.text("b/k"), "012xyz6789end\0\0!");
    fs.truncate(k, 4).unwrap();
    assert_eq!(fs.text("b/k"), "012x");
    fs.truncate(k, 6).unwrap();
    assert_eq!(fs.text("b/k"), "012x\0\0");
    fs.vfs.write(k, 2, b"", false).unwrap();
    assert_eq!(fs.stat("b/k").unwrap().size, 6);
    assert_eq!(fs.vfs.read(k, 4, 100, <[u8]>::to_vec).unwrap(), b"\0\0");
    assert_eq!(fs.vfs.read(k, 6, 100, <[u8]>::to_vec).unwrap(), b"");
    assert_eq!(fs.vfs.read(k, u64::MAX, 100, <[u8]>::to_vec).unwrap(), b"");
    assert_eq!(
        fs.commit().value(&[b"b".to_vec()], b"k"),
        Some(&b"012x\0\0"[..])
    );
}

#[test]
fn a_value_has_less_than_two_gibibytes() {
    let fs = Fs::new(&one());
    let k = fs.at("b/k").unwrap();
    // As README.md says. What bbolt can read of one element, less its header and the longest key.
    const { assert!(MAX_FILE == 2_147_450_863 && MAX_FILE == (1 << 31) - 1 - 16 - 32_768) };
    refused!(fs.vfs.write(k, MAX_FILE, b"x", false), Error::TooBig);
    refused!(fs.vfs.write(k, u64::MAX, b"x", false), Error::TooBig);
    refused!(fs.truncate(k, MAX_FILE + 1), Error::TooBig);
    refused!(fs.vfs.fallocate(k, MAX_FILE, 1, 0), Error::TooBig);
    refused!(
        fs.vfs.fallocate(k, u64::MAX, 1, libc::FALLOC_FL_KEEP_SIZE),
        Error::TooBig
    );
    assert_eq!(fs.text("b/k"), "0123456789");
    assert!(fs.pending().is_empty());
}

#[test]
fn fallocate_extends_and_can_do_nothing_else() {
    let fs = Fs::new(&one());
    let k = fs.at("b/k").unwrap();
    fs.vfs.fallocate(k, 0, 5, 0).unwrap();
    fs.vfs
        .fallocate(k, 0, 100, libc::FALLOC_FL_KEEP_SIZE)
        .unwrap();
    assert_eq!(fs.text("b/k"), "0123456789");
    fs.vfs.fallocate(k, 8, 4, 0).unwrap();
    assert_eq!(fs.text("b/k"), "0123456789\0\0");
    for mode in [
        libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
        libc::FALLOC_FL_ZERO_RANGE,
        libc::FALLOC_FL_COLLAPSE_RANGE,
    ] {
        refused!(fs.vfs.fallocate(k, 0, 4, mode), Error::NotSupported);
    }
}

#[test]
fn a_directory_has_no_content() {
    let fs = Fs::new(&one());
    for dir in ["", "b", "b/sub", ".boltfs", ".boltfs/base"] {
        let dir = fs.at(dir).unwrap();
        refused!(fs.vfs.read(dir, 0, 10, <[u8]>::len), Error::IsDirectory);
        assert!(fs.vfs.write(dir, 0, b"x", false).is_err());
        assert!(fs.truncate(dir, 0).is_err());
    }
    refused!(
        fs.vfs.write(fs.at("b").unwrap(), 0, b"x", false),
        Error::IsDirectory
    );
}

#[test]
fn an_unlinked_file_lives_on_for_who_has_it_open_and_is_not_stored() {
    let mut fs = Fs::new(&one());
    let k = fs.at("b/k").unwrap();
    fs.vfs.write(k, 0, b"open", false).unwrap();
    fs.rm("b/k").unwrap();
    refused!(fs.at("b/k"), Error::NotFound);
    fs.vfs.write(k, 4, b"!", false).unwrap();
    assert_eq!(fs.read_node(k).unwrap(), b"open!56789");
    let other = fs.save("b/k", "another").unwrap();
    assert_ne!(other, k);
    fs.vfs.write(k, 0, b"lost", false).unwrap();
    assert_eq!(
        (fs.text("b/k"), fs.read_node(k).unwrap()),
        ("another".to_owned(), b"lost!56789".to_vec())
    );
    // Replaced by a rename: the same.
    fs.save("b/tmp", "third").unwrap();
    fs.mv("b/tmp", "b/k").unwrap();
    fs.vfs.write(other, 0, b"lost", false).unwrap();
    fs.vfs.forget(k);
    fs.vfs.forget(other);
    assert_eq!(
        fs.commit().value(&[b"b".to_vec()], b"k"),
        Some(&b"third"[..])
    );
}

#[test]
fn forgetting_loses_nothing_that_has_a_name() {
    let mut fs = Fs::new(&one());
    for path in ["b/new", "b/k", "b/sub/deep"] {
        let ino = fs.save(path, "kept").unwrap();
        fs.vfs.forget(ino);
    }
    fs.mv("b/k", "b/sub/k").unwrap();
    for path in ["b", "b/sub", "b/sub/k"] {
        fs.vfs.forget(fs.at(path).unwrap());
    }
    let expected = tree([(
        "b",
        bucket([
            ("new", value("kept")),
            (
                "sub",
                bucket([("deep", value("kept")), ("k", value("kept"))]),
            ),
        ]),
    )]);
    expected.assert_same(&fs.commit(), "committed");
}

#[test]
fn a_number_that_was_never_given_out_is_refused() {
    let fs = Fs::new(&one());
    let k = fs.at("b/k").unwrap();
    for number in [0, 7, 1000, 1024, 4096, u64::MAX, 1 << 63] {
        refused!(
            fs.vfs.getattr(Ino(number)),
            Error::Stale | Error::Damaged(_)
        );
    }
    for number in [
        0,
        7,
        1000,
        4096,
        k.0 + 1,
        k.0 + (1 << 60),
        k.0 | 1 << 40,
        u64::MAX,
    ] {
        let ino = Ino(number);
        let _ = fs.vfs.read(ino, 0, 10, <[u8]>::len);
        let _ = fs.vfs.lookup(ino, b"k");
        let _ = fs.vfs.readdir(ino, 0, &mut |_| true);
        let _ = fs.vfs.write(ino, 0, b"x", false);
        let _ = fs.vfs.create(ino, b"x", 0o644, 0, 0);
        let _ = fs.vfs.getxattr(ino, b"user.bbolt.key");
    }
    let dir = fs.at("b").unwrap();
    for cookie in [3, 500, 4096, 1 << 40, 1 << 62, (1 << 62) + 9, u64::MAX] {
        let _ = fs.vfs.readdir(dir, cookie, &mut |_| true);
    }
    assert_eq!(fs.pending(), Vec::<String>::new());
}

#[test]
fn a_full_disk_refuses_an_edit_and_changes_nothing() {
    let content = tree([("b", bucket([("k", value("value")), ("sub", bucket([]))]))]);
    let fs = Fs::new(&content);
    fs.keep_journal();
    fs.save("b/new", "content").unwrap();
    let (k, new, sub) = (
        fs.at("b/k").unwrap(),
        fs.at("b/new").unwrap(),
        fs.at("b/sub").unwrap(),
    );
    let sequence = |text: &[u8]| {
        let name = b"user.bbolt.sequence";
        fs.vfs.setxattr(sub, name, text, SetXattr::Any)
    };
    let edits: [&dyn Fn() -> Result<(), Error>; 11] = [
        &|| fs.vfs.write(k, 2, b"...", false),
        &|| fs.truncate(k, 0).map(drop),
        &|| fs.truncate(new, 3).map(drop),
        &|| fs.vfs.write(new, 9, b"more", false),
        &|| fs.create("b/other").map(drop),
        &|| fs.mkdir("b/bucket").map(drop),
        &|| fs.mv("b/k", "b/new"),
        &|| fs.mv("b/sub", "b/moved"),
        &|| fs.rm("b/k"),
        &|| fs.rmdir("b/sub"),
        &|| sequence(b"7"),
    ];
    let journal = fs.journal().unwrap();
    let pending = fs.pending();
    assert_eq!(pending, ["added\tb/new\t-\t7\t"]);
    for (number, edit) in edits.iter().enumerate() {
        journal.fail(Fail {
            at: 0,
            through: 5,
            errno: 28,
        });
        match edit() {
            Err(Error::Journal(e)) => assert_eq!(e.raw_os_error(), Some(28)),
            other => panic!("edit {number}: {other:?}"),
        }
        journal.reset();
        assert_eq!(fs.pending(), pending, "edit {number}");
        assert_eq!(fs.ls("b"), ["k", "new", "sub"], "edit {number}");
        assert_eq!(
            (fs.text("b/k"), fs.text("b/new")),
            ("value".into(), "content".into())
        );
        assert_eq!(fs.stat("b/k").unwrap().nlink, 1);
        assert_eq!(fs.recover().pending(), pending, "edit {number}");
    }
    sequence(b"8").unwrap();
    assert_eq!(fs.recover().pending().len(), 2);
}

#[test]
fn nothing_can_be_edited_in_a_read_only_mount() {
    let mut read_only = options();
    read_only.read_only = true;
    let fs = Fs::with(&one(), read_only);
    let k = fs.at("b/k").unwrap();
    refused!(fs.vfs.write(k, 0, b"x", false), Error::ReadOnly);
    refused!(fs.truncate(k, 0), Error::ReadOnly);
    refused!(fs.create("b/new"), Error::ReadOnly);
    refused!(fs.mkdir("new"), Error::ReadOnly);
    refused!(fs.rm("b/k"), Error::ReadOnly);
    refused!(fs.rmdir("b/sub"), Error::ReadOnly);
    refused!(fs.mv("b/k", "b/l"), Error::ReadOnly);
    refused!(fs.vfs.setattr(k, Default::default()), Error::ReadOnly);
    assert_eq!(fs.text("b/k"), "0123456789");
}
