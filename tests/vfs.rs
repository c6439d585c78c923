//! What the file system does, without a mount: the statements of SEMANTICS.md, one by one.

mod common;

use boltfs::vfs::SetAttr;
use common::fs::{Fs, bucket, tree, value};

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
