//! What can go wrong around a mount: the disk is full, a limit is reached, a system call fails, the process is killed. The edits
//! are there afterwards, and the database holds all of them or none.

#[path = "../common/mod.rs"]
mod common;
mod full;
mod harmed;
mod injected;
mod lost;
mod panicked;
mod recovered;

use common::{Node, Options, Oracle, Tree};
use std::path::Path;

/// Bucket `b` with `k`, `l` and a hundred keys more, of which bbolt has rewritten some: there are free pages.
fn database(db: &Path) {
    let mut bucket = Tree::default();
    for n in 0..100 {
        let key = format!("key{n:03}").into_bytes();
        bucket.nodes.insert(key, Node::Value(vec![b'a'; 100]));
    }
    bucket
        .nodes
        .insert(b"k".to_vec(), Node::Value(b"value".to_vec()));
    bucket
        .nodes
        .insert(b"l".to_vec(), Node::Value(b"other".to_vec()));
    let mut tree = Tree::default();
    tree.nodes.insert(b"b".to_vec(), Node::Bucket(bucket));
    let create = Oracle::shared().create(db, &tree, Options::default());
    create.expect("bbolt makes a database");
    let put = |value: &[u8]| common::Edit::Put {
        path: vec![b"b".to_vec()],
        key: b"key050".to_vec(),
        value: value.to_vec(),
    };
    let edits = [vec![put(b"once")], vec![put(b"twice")]];
    Oracle::shared()
        .edit(db, &edits, Options::default())
        .expect("bbolt edits it");
}
