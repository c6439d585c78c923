//! Owner, mode, times, links, and extended attributes.

use std::time::{Duration, SystemTime};

use boltfs::overlay::{Attrs, Ino};
use boltfs::vfs::{Error, Options, SetAttr, SetTime, SetXattr};

use crate::common::fs::{Fs, USER, bucket, options, tree, value};
use crate::common::tree::{Node, Tree};
use crate::refused;

fn small() -> Tree {
    tree([("b", bucket([("k", value("v")), ("sub", bucket([]))]))])
}

fn set(fs: &Fs, path: &str, set: SetAttr) -> Attrs {
    fs.vfs.setattr(fs.at(path).unwrap(), set).unwrap().attrs
}

#[test]
fn owner_mode_and_times_start_as_those_of_the_database_file() {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_234_567_890);
    // Mode of the file, of a key, of a bucket: searchable by whoever may read it.
    for (file, key, dir) in [
        (0o600, 0o600, 0o700),
        (0o644, 0o644, 0o755),
        (0o100440, 0o440, 0o550),
        (0o664, 0o664, 0o775),
    ] {
        let fs = Fs::with(&small(), Options::of_file(7, 8, file, time));
        for (path, mode) in [("", dir), ("b", dir), ("b/sub", dir), ("b/k", key)] {
            let attrs = fs.stat(path).unwrap().attrs;
            assert_eq!((attrs.uid, attrs.gid, attrs.mode), (7, 8, mode), "{path}");
            assert_eq!(
                (attrs.atime, attrs.mtime, attrs.ctime),
                (time, time, time),
                "{path}"
            );
        }
    }
}

#[test]
fn what_is_new_belongs_to_who_made_it() {
    let fs = Fs::new(&small());
    fs.create("b/file").unwrap();
    fs.mkdir("dir").unwrap();
    let (file, dir) = (
        fs.stat("b/file").unwrap().attrs,
        fs.stat("dir").unwrap().attrs,
    );
    assert_eq!((file.uid, file.gid, file.mode), (USER.0, USER.1, 0o644));
    assert_eq!((dir.uid, dir.gid, dir.mode), (USER.0, USER.1, 0o755));
}

#[test]
fn attributes_hold_for_the_life_of_the_mount_and_are_no_change() {
    let mut fs = Fs::new(&small());
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000, 5);
    let all = SetAttr {
        mode: Some(0o4751),
        uid: Some(3),
        gid: Some(4),
        atime: Some(SetTime::At(time)),
        mtime: Some(SetTime::At(time)),
        ..SetAttr::default()
    };
    for path in ["", "b", "b/k", "b/sub"] {
        set(&fs, path, all);
        let attrs = fs.stat(path).unwrap().attrs;
        // Another owner: set-user-id goes from a file.
        let mode = if path == "b/k" { 0o751 } else { 0o4751 };
        assert_eq!((attrs.mode, attrs.uid, attrs.gid), (mode, 3, 4), "{path}");
        assert_eq!((attrs.atime, attrs.mtime), (time, time), "{path}");
    }
    assert!(fs.pending().is_empty());
    small().assert_same(&fs.commit(), "committed");
    assert_eq!(fs.stat("b/k").unwrap().attrs.uid, 3, "after a commit too");
    assert_eq!(fs.stat(".boltfs/base/b/k").unwrap().attrs.uid, 0);
    refused!(
        fs.vfs.setattr(fs.at(".boltfs/base/b/k").unwrap(), all),
        Error::ReadOnly
    );
    refused!(
        fs.vfs.setattr(fs.at(".boltfs/pending").unwrap(), all),
        Error::NotPermitted
    );
}

#[test]
fn times_change_with_what_they_are_the_times_of() {
    let fs = Fs::new(&small());
    let times = |path: &str| {
        let attrs = fs.stat(path).unwrap().attrs;
        (attrs.mtime, attrs.ctime)
    };
    let start = options().time;
    let changed = |path: &str, what: &str, edit: &dyn Fn()| {
        let before = times(path);
        std::thread::sleep(Duration::from_millis(2));
        edit();
        let after = times(path);
        let moved = (after.0 > before.0, after.1 > before.1);
        (moved, format!("{what} {path}"))
    };
    let k = fs.at("b/k").unwrap();
    assert_eq!(
        changed("b/k", "reading", &|| drop(fs.read("b/k"))).0,
        (false, false)
    );
    assert_eq!(
        changed("b/k", "writing", &|| fs
            .vfs
            .write(k, 0, b"w", false)
            .unwrap())
        .0,
        (true, true)
    );
    assert_eq!(
        changed("b", "writing", &|| fs.vfs.write(k, 0, b"w", false).unwrap()).0,
        (false, false)
    );
    assert_eq!(
        changed("b/k", "cutting", &|| drop(fs.truncate(k, 1))).0,
        (true, true)
    );
    let mode = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    assert_eq!(
        changed("b/k", "chmod", &|| _ = set(&fs, "b/k", mode)).0,
        (false, true)
    );
    for (what, edit) in [
        ("create", &(|| drop(fs.create("b/n"))) as &dyn Fn()),
        ("mkdir", &|| drop(fs.mkdir("b/d"))),
        ("rename", &|| fs.mv("b/n", "b/m").unwrap()),
        ("unlink", &|| fs.rm("b/m").unwrap()),
        ("rmdir", &|| fs.rmdir("b/d").unwrap()),
    ] {
        let (moved, text) = changed("b", what, edit);
        assert_eq!(moved, (true, true), "{text}");
    }
    let before = times("b/k");
    fs.mv("b/k", "b/moved").unwrap();
    let after = times("b/moved");
    assert!(
        after.0 == before.0 && after.1 > before.1,
        "a rename is a change of the status alone"
    );
    assert_eq!(times("b/sub"), (start, start));
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
fn a_number_is_a_nodes_own_for_the_life_of_the_mount() {
    let mut fs = Fs::new(&small());
    let (k, b, sub) = (
        fs.at("b/k").unwrap(),
        fs.at("b").unwrap(),
        fs.at("b/sub").unwrap(),
    );
    fs.save("b/k", "edited").unwrap();
    fs.mv("b/k", "b/sub/moved").unwrap();
    fs.mv("b", "c").unwrap();
    fs.mv("c/sub", "top").unwrap();
    fs.commit();
    assert_eq!(
        (
            fs.at("top/moved").unwrap(),
            fs.at("c").unwrap(),
            fs.at("top").unwrap()
        ),
        (k, b, sub)
    );
    fs.rm("top/moved").unwrap();
    assert_ne!(
        fs.create("top/moved").unwrap(),
        k,
        "another file is another number"
    );
    assert_ne!(
        fs.at(".boltfs/base/b").unwrap(),
        b,
        "so is the tree as it was"
    );
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
fn set_id_bits_go_with_the_owner_and_when_somebody_else_writes() {
    let fs = Fs::new(&small());
    let k = fs.at("b/k").unwrap();
    let mode = |mode| SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    };
    let now = || fs.stat("b/k").unwrap().attrs.mode;
    let ways: [(&str, &dyn Fn(bool)); 2] = [
        ("write", &|drop_ids| {
            fs.vfs.write(k, 0, b"x", drop_ids).unwrap()
        }),
        ("truncate", &|drop_ids| {
            let set = SetAttr {
                size: Some(0),
                drop_ids,
                ..SetAttr::default()
            };
            fs.vfs.setattr(k, set).unwrap();
        }),
    ];
    for (what, way) in ways {
        set(&fs, "b/k", mode(0o6755));
        way(false);
        assert_eq!(now(), 0o6755, "{what} by a superuser");
        way(true);
        assert_eq!(now(), 0o755, "{what} by somebody else");
    }
    set(&fs, "b/k", mode(0o6745));
    set(
        &fs,
        "b/k",
        SetAttr {
            gid: Some(9),
            ..SetAttr::default()
        },
    );
    assert_eq!(
        now(),
        0o2745,
        "without execution by the group the bit means something else"
    );
}

#[test]
fn the_key_of_a_name_can_be_read_as_an_attribute() {
    let mut content = small();
    let key = vec![0, 0xff];
    content
        .nodes
        .insert(key, bucket([(&"x".repeat(300), value("long"))]));
    let fs = Fs::new(&content);
    let attribute = |path: &str, name: &str| fs.vfs.getxattr(fs.at(path).unwrap(), name.as_bytes());
    assert_eq!(attribute("b", "user.bbolt.key").unwrap(), b"62");
    assert_eq!(attribute("0x00ff", "user.bbolt.key").unwrap(), b"00ff");
    let long = format!("0x00ff/{}", fs.ls("0x00ff")[0]);
    assert_eq!(
        attribute(&long, "user.bbolt.key").unwrap(),
        "78".repeat(300).as_bytes()
    );
    fs.mv("b/k", "b/m").unwrap();
    assert_eq!(attribute("b/m", "user.bbolt.key").unwrap(), b"6d");
    refused!(attribute("", "user.bbolt.key"), Error::NoAttribute);
    assert_eq!(
        fs.vfs.listxattr(fs.at("b/m").unwrap()).unwrap(),
        b"user.bbolt.key\0"
    );
    assert_eq!(
        fs.vfs.listxattr(fs.at("b").unwrap()).unwrap(),
        b"user.bbolt.key\0user.bbolt.sequence\0"
    );
    assert!(fs.vfs.listxattr(Ino::ROOT).unwrap().is_empty());
    // To set it means nothing: the name is what names the key.
    let set = |path: &str, text: &[u8]| {
        fs.vfs
            .setxattr(fs.at(path).unwrap(), b"user.bbolt.key", text, SetXattr::Any)
    };
    refused!(set("b/m", b"6e"), Error::NotPermitted);
    set("b/m", b"6d").unwrap();
    fs.create("b/new").unwrap();
    set("b/new", b"whatever a tool copies").unwrap();
    assert_eq!(attribute("b/new", "user.bbolt.key").unwrap(), b"6e6577");
}

#[test]
fn the_sequence_of_a_bucket_is_an_attribute() {
    let mut content = small();
    if let Some(Node::Bucket(b)) = content.nodes.get_mut(&b"b"[..]) {
        b.seq = 41;
    }
    let mut fs = Fs::new(&content);
    let name = b"user.bbolt.sequence";
    let get = |fs: &Fs, path: &str| fs.vfs.getxattr(fs.at(path).unwrap(), name);
    let set = |fs: &Fs, path: &str, text: &str| {
        fs.vfs
            .setxattr(fs.at(path).unwrap(), name, text.as_bytes(), SetXattr::Any)
    };
    assert_eq!(get(&fs, "b").unwrap(), b"41");
    assert_eq!(get(&fs, "b/sub").unwrap(), b"0");
    refused!(get(&fs, "b/k"), Error::NoAttribute);
    refused!(get(&fs, ""), Error::NoAttribute);
    for bad in ["", "x", "-1", "+1", " 1", "18446744073709551616"] {
        refused!(set(&fs, "b", bad), Error::Invalid);
    }
    refused!(set(&fs, "b/k", "1"), Error::NotSupported);
    refused!(
        fs.vfs.removexattr(fs.at("b").unwrap(), name),
        Error::NotPermitted
    );
    refused!(set(&fs, ".boltfs/base/b", "1"), Error::ReadOnly);
    set(&fs, "b", "18446744073709551615").unwrap();
    let remark = "sequence 18446744073709551615 (was 41)";
    assert_eq!(fs.pending(), [format!("changed\tb/\t-\t-\t{remark}")]);
    set(&fs, "b", "41").unwrap();
    assert!(fs.pending().is_empty(), "as before");
    set(&fs, "b/sub", "7").unwrap();
    let committed = fs.commit();
    assert_eq!(committed.bucket(&[b"b".to_vec()]).unwrap().seq, 41);
    assert_eq!(
        committed
            .bucket(&[b"b".to_vec(), b"sub".to_vec()])
            .unwrap()
            .seq,
        7
    );
}

#[test]
fn there_are_no_other_extended_attributes() {
    let fs = Fs::new(&small());
    let k = fs.at("b/k").unwrap();
    for name in [
        "user.comment",
        "security.selinux",
        "trusted.x",
        "system.posix_acl_access",
    ] {
        refused!(
            fs.vfs.setxattr(k, name.as_bytes(), b"x", SetXattr::Any),
            Error::NotSupported
        );
        assert!(fs.vfs.getxattr(k, name.as_bytes()).is_err(), "{name}");
        assert!(fs.vfs.removexattr(k, name.as_bytes()).is_err(), "{name}");
    }
}

#[test]
fn statfs_tells_how_far_the_database_can_grow() {
    let mut with_space = options();
    with_space.space = Some(std::sync::Arc::new(|| Some((40_960, 4_096))));
    let s = Fs::with(&small(), with_space).vfs.statfs();
    assert_eq!(
        (s.block_size, s.free, s.available, s.name_max),
        (4096, 10, 1, 255)
    );
    assert!(s.blocks >= s.free + 3, "{s:?}");
}
