//! What is pending after a commit in mid-mount, and again after the process was killed: the same.

use std::fs;

use crate::common::case::{Case, signal};
use crate::common::{Node, Options, Oracle, Tree};

/// Kills the process that serves the mount, and takes the mount away.
pub fn kill(case: &Case) {
    signal("KILL", &case.server().to_string());
    case.await_unserved();
    let _ = case.boltfs(&["umount", "mnt"]);
}

/// A key whose name is cut can be made only where it was: that it was there is not to be forgotten with the commit.
#[test]
fn a_key_with_a_cut_name_that_was_made_anew_is_recovered() {
    let long = "long ".repeat(100);
    let case = Case::with(|db| {
        let value = |value: &str| Node::Value(value.into());
        let mut deep = Tree::default();
        deep.nodes.insert(b"k".to_vec(), value("deep"));
        let mut bucket = Tree::default();
        for key in [long.as_bytes(), &[1; 400], b"k"] {
            bucket.nodes.insert(key.to_vec(), value("value"));
        }
        bucket.nodes.insert([2; 400].into(), Node::Bucket(deep));
        let mut tree = Tree::default();
        tree.nodes.insert(b"b".to_vec(), Node::Bucket(bucket));
        Oracle::shared()
            .create(db, &tree, Options::default())
            .expect("bbolt makes a database");
    });
    let text = case.sh(
        "boltfs db mnt; cd mnt/b; text=$(ls | grep ^long) binary=$(ls | grep ^0x01) bucket=$(ls | grep ^0x02)
         rm -r \"$text\" $binary $bucket; echo commit > ../.boltfs/control
         printf anew > \"$text\"; mv k $binary; mkdir $bucket; echo inside > $bucket/new; mkdir n; mv $bucket n/short; mkdir $bucket
         cat ../.boltfs/pending",
    );
    let pending = text.expect_success().text();
    assert_eq!(pending.lines().count(), 7, "{pending}");
    kill(&case);
    let output = case.sh("boltfs --recover db mnt; cat mnt/.boltfs/pending; boltfs umount mnt");
    let mut recovered: Vec<_> = pending.lines().collect();
    let text = output.expect_success().text();
    let mut found: Vec<_> = text.lines().collect();
    recovered.sort_unstable();
    found.sort_unstable();
    assert!(found == recovered, "{found:#?}\n{recovered:#?}");
    let content = case.content();
    let b = [b"b".to_vec()];
    assert_eq!(content.value(&b, long.as_bytes()), Some(&b"anew"[..]));
    assert_eq!(content.value(&b, &[1; 400]), Some(&b"value"[..]));
    assert_eq!(content.value(&b, b"k"), None);
    assert!(content.bucket(&[b"b".to_vec(), vec![2; 400]]).is_some());
    let moved = [b"b".to_vec(), b"n".to_vec(), b"short".to_vec()];
    assert_eq!(content.value(&moved, b"new"), Some(&b"inside\n"[..]));
    assert!(!fs::exists(case.join("db.boltfs-journal")).unwrap());
}
