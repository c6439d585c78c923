//! What the file system does, without a mount: the statements of SEMANTICS.md, one by one.

mod common;

use boltfs::vfs::{Error, SetAttr, SetXattr};
use common::build::{Build, paged, plain};
use common::disk::Fail;
use common::fs::{Fs, bucket, options, tree, value};

#[test]
fn a_bucket_that_is_moved_and_then_removed_is_deleted() {
    let content = tree([("a", bucket([("k", value("1"))])), ("b", bucket([]))]);
    let mut fs = Fs::new(&content);
    fs.mv("a", "b/moved").unwrap();
    assert_eq!(fs.pending(), ["moved\tb/moved/\t-\t-\tfrom a/"]);
    fs.rm_r("b/moved").unwrap();
    assert_eq!(fs.pending(), ["deleted\ta/\t-\t-\t"]);
    fs.commit()
        .assert_same(&tree([("b", bucket([]))]), "committed");
}

#[test]
fn the_link_count_is_one_and_after_unlinking_none() {
    let fs = Fs::new(&tree([(
        "b",
        bucket([("k", value("v")), ("l", value("w"))]),
    )]));
    for path in [
        "",
        "b",
        "b/k",
        ".boltfs",
        ".boltfs/pending",
        ".boltfs/base/b",
    ] {
        assert_eq!(fs.stat(path).unwrap().nlink, 1, "{path}");
    }
    let (k, new) = (fs.at("b/k").unwrap(), fs.create("b/new").unwrap());
    fs.mv("b/k", "b/k2").unwrap();
    assert_eq!(fs.vfs.getattr(k).unwrap().nlink, 1);
    fs.rm("b/k2").unwrap();
    fs.mv("b/l", "b/new").unwrap();
    for gone in [k, new] {
        assert_eq!(fs.vfs.getattr(gone).unwrap().nlink, 0);
    }
    assert_eq!(fs.stat("b/new").unwrap().nlink, 1);
    assert_eq!(fs.stat(".boltfs/base/b/k").unwrap().nlink, 1);
}

#[test]
fn a_set_group_id_directory_hands_its_group_on() {
    let fs = Fs::new(&tree([("b", bucket([]))]));
    let dir = fs.at("b").unwrap();
    let set = SetAttr {
        mode: Some(0o2775),
        gid: Some(77),
        ..SetAttr::default()
    };
    assert_eq!(
        fs.vfs.setattr(dir, set).unwrap().attrs.mode,
        0o2775,
        "chown leaves it on a directory"
    );
    fs.create("b/file").unwrap();
    fs.mkdir("b/sub").unwrap();
    let (file, sub) = (
        fs.stat("b/file").unwrap().attrs,
        fs.stat("b/sub").unwrap().attrs,
    );
    assert_eq!((file.gid, file.mode), (77, 0o644));
    assert_eq!((sub.gid, sub.mode), (77, 0o2755));
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
fn an_entry_that_is_renamed_while_the_directory_is_read_is_not_met_again() {
    let content = tree([(
        "b",
        bucket([("1", value("")), ("2", value("")), ("3", value(""))]),
    )]);
    let fs = Fs::new(&content);
    for name in ["4", "5", "6"] {
        fs.create(&format!("b/{name}")).unwrap();
    }
    let (dir, mut cookie, mut met) = (fs.at("b").unwrap(), 0, Vec::new());
    loop {
        let mut next = None;
        fs.vfs
            .readdir(dir, cookie, &mut |entry| {
                let first = next.is_none();
                if first {
                    next = Some((
                        entry.cookie,
                        String::from_utf8(entry.name.to_vec()).unwrap(),
                    ));
                }
                first
            })
            .unwrap();
        let Some((behind, name)) = next else { break };
        cookie = behind;
        if name != "." && name != ".." {
            fs.mv(&format!("b/{name}"), &format!("b/{name}.bak"))
                .unwrap();
            met.push(name);
        }
    }
    met.sort();
    assert_eq!(met, ["1", "2", "3", "4", "5", "6"]);
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
