//! Directories: made, removed, renamed, listed.

use boltfs::overlay::Ino;
use boltfs::vfs::{Error, RenameMode};

use crate::common::fs::{Fs, bucket, tree, value};
use crate::common::tree::{Node, Tree};
use crate::refused;

fn two() -> Tree {
    let mut content = tree([
        (
            "a",
            bucket([("k", value("1")), ("sub", bucket([("deep", value("2"))]))]),
        ),
        ("b", bucket([("k", value("3"))])),
        ("empty", bucket([])),
    ]);
    if let Some(Node::Bucket(a)) = content.nodes.get_mut(&b"a"[..]) {
        a.seq = 5;
    }
    content
}

#[test]
fn the_root_holds_only_buckets() {
    let mut fs = Fs::new(&two());
    refused!(fs.create("file"), Error::NotPermitted);
    refused!(fs.mv("a/k", "k"), Error::NotPermitted);
    refused!(fs.mv("a/k", "b"), Error::NotPermitted);
    refused!(
        fs.rename("a/k", "b", RenameMode::Exchange),
        Error::NotPermitted
    );
    fs.mkdir("c").unwrap();
    fs.mv("a/sub", "sub").unwrap();
    assert_eq!(fs.ls(""), ["a", "b", "c", "empty", "sub"]);
    let committed = fs.commit();
    assert_eq!(
        committed.value(&[b"sub".to_vec()], b"deep"),
        Some(&b"2"[..])
    );
}

#[test]
fn a_directory_is_made_empty_at_any_depth() {
    let mut fs = Fs::new(&two());
    let mut path = String::from("a/sub");
    for _ in 0..60 {
        path.push_str("/d");
        fs.mkdir(&path).unwrap();
        assert!(fs.ls(&path).is_empty());
    }
    fs.save(&format!("{path}/key"), "at the bottom").unwrap();
    refused!(fs.mkdir("a/sub/d"), Error::Exists);
    refused!(fs.mkdir("a/k"), Error::Exists);
    refused!(fs.create("a/sub"), Error::Exists);
    assert_eq!(fs.commit().count(), (4, 4 + 60));
}

#[test]
fn rmdir_takes_only_what_is_empty() {
    let mut fs = Fs::new(&two());
    refused!(fs.rmdir("a"), Error::NotEmpty);
    refused!(fs.rmdir("a/k"), Error::NotDirectory);
    refused!(fs.rmdir("a/none"), Error::NotFound);
    refused!(fs.rm("a/sub"), Error::IsDirectory);
    fs.rmdir("empty").unwrap();
    fs.rm("a/sub/deep").unwrap();
    fs.rmdir("a/sub").unwrap();
    fs.create("b/new").unwrap();
    fs.rm("b/k").unwrap();
    refused!(fs.rmdir("b"), Error::NotEmpty);
    fs.rm("b/new").unwrap();
    fs.rmdir("b").unwrap();
    let mut left = tree([("a", bucket([("k", value("1"))]))]);
    if let Some(Node::Bucket(a)) = left.nodes.get_mut(&b"a"[..]) {
        a.seq = 5;
    }
    left.assert_same(&fs.commit(), "committed");
}

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
fn a_bucket_moves_as_a_whole() {
    let mut fs = Fs::new(&two());
    fs.save("a/new", "before").unwrap();
    fs.mv("a", "b/moved").unwrap();
    fs.save("b/moved/k", "after").unwrap();
    assert_eq!(
        fs.pending(),
        [
            "moved\tb/moved/\t-\t-\tfrom a/",
            "changed\tb/moved/k\t1\t5\t",
            "added\tb/moved/new\t-\t6\t"
        ]
    );
    let committed = fs.commit();
    let moved = committed
        .bucket(&[b"b".to_vec(), b"moved".to_vec()])
        .unwrap();
    assert_eq!((moved.seq, moved.count()), (5, (3, 1)));
    assert!(committed.bucket(&[b"a".to_vec()]).is_none());
}

#[test]
fn a_bucket_cannot_come_into_itself() {
    let fs = Fs::new(&two());
    refused!(fs.mv("a", "a/a"), Error::Invalid);
    refused!(fs.mv("a", "a/sub/a"), Error::Invalid);
    refused!(
        fs.rename("a/sub", "a", RenameMode::Exchange),
        Error::Invalid
    );
    refused!(
        fs.rename("a", "a/sub", RenameMode::Exchange),
        Error::Invalid
    );
    fs.mv("a", "b/a").unwrap();
    refused!(fs.mv("b", "b/a/sub/b"), Error::Invalid);
    fs.mv("b/a/sub", "b/sub").unwrap();
    fs.mv("b/a", "b/sub/a").unwrap();
    assert_eq!(fs.text("b/sub/a/k"), "1");
}

#[test]
fn a_rename_over_what_is_there_replaces_what_can_be_spared() {
    let fs = Fs::new(&two());
    refused!(fs.mv("empty", "a"), Error::NotEmpty);
    refused!(fs.mv("a/k", "a/sub"), Error::IsDirectory);
    refused!(fs.mv("empty", "a/k"), Error::NotDirectory);
    refused!(fs.mv("a/none", "a/k"), Error::NotFound);
    fs.mv("a", "empty").unwrap();
    fs.mv("empty/k", "b/k").unwrap();
    assert_eq!(
        (fs.text("b/k"), fs.ls("")),
        ("1".to_owned(), vec!["b".to_owned(), "empty".to_owned()])
    );
    fs.mv("b/k", "b/k").unwrap();
    assert_eq!(fs.text("b/k"), "1", "onto itself it stays");
}

#[test]
fn noreplace_refuses_and_exchange_changes_places() {
    let mut fs = Fs::new(&two());
    refused!(
        fs.rename("a/k", "b/k", RenameMode::NoReplace),
        Error::Exists
    );
    fs.rename("a/k", "b/free", RenameMode::NoReplace).unwrap();
    refused!(
        fs.rename("b/free", "b/none", RenameMode::Exchange),
        Error::NotFound
    );
    fs.rename("b/free", "b/k", RenameMode::Exchange).unwrap();
    fs.rename("a/sub", "b/k", RenameMode::Exchange).unwrap();
    assert_eq!(
        (fs.text("a/sub"), fs.text("b/free")),
        ("1".to_owned(), "3".to_owned())
    );
    fs.rename("a", "b", RenameMode::Exchange).unwrap();
    let expected = tree([
        (
            "a",
            bucket([("free", value("3")), ("k", bucket([("deep", value("2"))]))]),
        ),
        ("b", bucket([("sub", value("1"))])),
        ("empty", bucket([])),
    ]);
    let mut committed = fs.commit();
    if let Some(Node::Bucket(b)) = committed.nodes.get_mut(&b"b"[..]) {
        assert_eq!(std::mem::take(&mut b.seq), 5);
    }
    expected.assert_same(&committed, "committed");
}

#[test]
fn a_bucket_made_anew_is_another_one() {
    let mut fs = Fs::new(&two());
    fs.rm_r("a").unwrap();
    fs.mkdir("a").unwrap();
    assert!(fs.ls("a").is_empty());
    fs.save("a/k", "1").unwrap();
    assert_eq!(
        fs.pending(),
        [
            "deleted\ta/\t-\t-\t",
            "added\ta/\t-\t-\t",
            "added\ta/k\t-\t1\t"
        ]
    );
    let committed = fs.commit();
    let a = committed.bucket(&[b"a".to_vec()]).unwrap();
    assert_eq!((a.seq, a.count()), (0, (1, 0)));
}

#[test]
fn a_removed_directory_is_empty_and_takes_nothing() {
    let fs = Fs::new(&two());
    let (a, new) = (fs.at("a").unwrap(), fs.mkdir("b/new").unwrap());
    fs.rm_r("a").unwrap();
    fs.rmdir("b/new").unwrap();
    for gone in [a, new] {
        assert!(fs.list(gone, 10).0.is_empty());
        refused!(fs.vfs.lookup(gone, b"k"), Error::NotFound);
        refused!(fs.vfs.create(gone, b"x", 0o644, 0, 0), Error::NotFound);
        refused!(fs.vfs.mkdir(gone, b"x", 0o755, 0, 0), Error::NotFound);
        let (b, empty) = (fs.at("b").unwrap(), fs.at("").unwrap());
        refused!(
            fs.vfs.rename(b, b"k", gone, b"k", RenameMode::Replace),
            Error::NotFound
        );
        refused!(
            fs.vfs
                .rename(empty, b"empty", gone, b"e", RenameMode::Replace),
            Error::NotFound
        );
    }
    assert_eq!(fs.pending(), ["deleted\ta/\t-\t-\t"]);
}

#[test]
fn a_listing_has_each_entry_once_however_small_the_reader() {
    let mut content = Tree::default();
    let keys = (0..300).map(|n| (format!("key-{n:03}").into_bytes(), value("v")));
    content.nodes.insert(
        b"b".to_vec(),
        Node::Bucket(Tree {
            seq: 0,
            nodes: keys.collect(),
        }),
    );
    let fs = Fs::new(&content);
    for n in 0..50 {
        fs.save(&format!("b/new-{n:02}"), "v").unwrap();
        fs.rm(&format!("b/key-{:03}", n * 3)).unwrap();
        fs.mv(
            &format!("b/key-{:03}", n * 3 + 1),
            &format!("b/moved-{n:02}"),
        )
        .unwrap();
        fs.save(&format!("b/key-{:03}", n * 3 + 2), "edited")
            .unwrap();
    }
    let dir = fs.at("b").unwrap();
    let all = fs.list(dir, usize::MAX).0;
    assert_eq!(all.len(), 300);
    for room in [1, 2, 7, 100] {
        assert_eq!(fs.list(dir, room).0, all);
    }
    let mut sorted = all;
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), 300);
    refused!(
        fs.list(fs.at("b/new-00").unwrap(), 10).1,
        Error::NotDirectory
    );
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
fn every_directory_starts_with_dot_and_dot_dot() {
    let fs = Fs::new(&two());
    for path in ["", "a", "empty", ".boltfs", ".boltfs/base"] {
        let mut names = Vec::new();
        let dir = fs.at(path).unwrap();
        fs.vfs
            .readdir(dir, 0, &mut |entry| {
                names.push(entry.name.to_vec());
                true
            })
            .unwrap();
        assert_eq!(names[..2], [b".".to_vec(), b"..".to_vec()], "{path}");
    }
    assert_eq!(fs.at("").unwrap(), Ino::ROOT);
}
