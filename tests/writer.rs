//! The writer on a disk in memory: after each of many random commits the content is what a plain map has, every rule of
//! the format holds, and no page of an older state was touched. The same with the real bbolt is in oracle_writer.rs.

mod common;

use boltfs::bolt::{CommitOptions, commit, empty_database};
use common::commits::{Db, judge};
use common::disk::MemDisk;
use common::rng::{Rng, seeded};
use common::staged::{Item, Staged};
use common::tree::{Node, Tree};

const PAGE_SIZES: [usize; 9] = [512, 512, 512, 1024, 1024, 2048, 4096, 16384, 65536];

fn empty(page_size: usize) -> Db {
    Db {
        disk: MemDisk::new(empty_database(page_size as u32)),
        tree: Tree::default(),
        page_size,
        root_keys: true,
    }
}

#[test]
fn random_commits() {
    seeded(600, |_, rng| {
        let mut db = empty(*rng.pick(&PAGE_SIZES));
        for _ in 0..rng.range(2, 14) {
            db.mount(rng);
        }
    });
}

/// A bucket whose tree has many levels: long keys in small pages.
fn deep(rng: &mut Rng, keys: usize) -> Db {
    let mut db = empty(512);
    let mut bucket = Tree::default();
    for n in 0..keys {
        let mut key = format!("{n:05}").into_bytes();
        key.resize(rng.range(90, 180), b'.');
        let size = rng.below(60);
        bucket.nodes.insert(key, Node::Value(rng.bytes(size)));
    }
    let base = db.disk.snapshot();
    let mut staged = Staged::new(&db.tree, vec![]);
    let mut new = Staged::new(&bucket, vec![]);
    new.origin = None;
    staged.nodes.insert(b"b".to_vec(), Item::Bucket(new));
    let changes = staged.changes(&base, &db.tree);
    commit(&db.disk, &base, None, changes, &CommitOptions::default()).unwrap();
    db.tree = staged.tree();
    judge(&db.disk.snapshot(), &db.tree, true);
    db
}

/// Deletions that leave branches with one child, at either end, alone, and on several levels at once.
#[test]
fn a_deep_tree_shrinks() {
    seeded(40, |_, rng| {
        let keys = rng.range(200, 3000);
        let db = deep(rng, keys);
        let names: Vec<_> = match &db.tree.nodes[&b"b"[..]] {
            Node::Bucket(bucket) => bucket.nodes.keys().cloned().collect(),
            Node::Value(_) => unreachable!(),
        };
        for _ in 0..40 {
            let disk = MemDisk::new(db.disk.bytes());
            let base = disk.snapshot();
            let mut staged = Staged::new(&db.tree, vec![]);
            let bucket = staged.bucket_mut(&[b"b".to_vec()]);
            for _ in 0..rng.range(1, 5) {
                let (a, b) = (rng.below(keys + 1), rng.below(keys + 1));
                let near = (a + rng.below(40)).min(keys);
                let range = match rng.below(4) {
                    0 => 0..a,
                    1 => a..keys,
                    2 => a.min(b)..a.max(b),
                    _ => a..near,
                };
                for name in &names[range] {
                    if !rng.one_in(200) {
                        bucket.nodes.remove(name);
                    }
                }
            }
            for _ in 0..rng.below(3) {
                bucket
                    .nodes
                    .insert(rng.pick(&names).clone(), Item::Value(vec![]));
            }
            let changes = staged.changes(&base, &db.tree);
            commit(&disk, &base, None, changes, &CommitOptions::default()).unwrap();
            judge(&disk.snapshot(), &staged.tree(), true);
        }
    });
}
