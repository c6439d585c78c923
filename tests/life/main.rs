//! Seeing, undoing, deciding: what a person asks a live mount, and what becomes of the edits at its end.

mod command;
#[path = "../common/mod.rs"]
mod common;
mod copies;
mod counted;
mod diff;
mod discard;
mod info;
mod older;
mod snapshot;
mod status;

use std::path::Path;

use common::case::Case;
use common::{Node, Options, Oracle, Tree};

/// What runs a line as an ordinary user; empty where the tests are not run by root, and everything is.
pub fn as_ordinary_user() -> &'static str {
    match common::case::is_root() {
        true => "setpriv --reuid=65534 --regid=65534 --clear-groups",
        false => "",
    }
}

/// A database with every kind of value.
pub fn rich() -> Case {
    Case::with(make_rich)
}

/// Bucket `b`: `json`, `text`, `line` (ends in a newline), `binary`, `empty`; bucket `c/deep` with `k`; bucket `d`, empty.
pub fn make_rich(db: &Path) {
    let bucket = |entries: &[(&str, Node)]| {
        let mut tree = Tree::default();
        for (key, node) in entries {
            tree.nodes.insert(key.as_bytes().to_vec(), node.clone());
        }
        Node::Bucket(tree)
    };
    let value = |value: &[u8]| Node::Value(value.to_vec());
    let b = bucket(&[
        ("binary", value(&[0, 1, 0xff])),
        ("empty", value(b"")),
        ("json", value(br#"{"id":9223940723929199765,"name":"x"}"#)),
        ("line", value(b"one\ntwo\nthree\n")),
        ("text", value(b"some text")),
    ]);
    let c = bucket(&[("deep", bucket(&[("k", value(b"v"))]))]);
    let d = bucket(&[]);
    let Node::Bucket(tree) = bucket(&[("b", b), ("c", c), ("d", d)]) else {
        unreachable!("a bucket was asked for")
    };
    Oracle::shared()
        .create(db, &tree, Options::default())
        .expect("bbolt makes a database");
}
