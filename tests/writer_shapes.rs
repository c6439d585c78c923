//! The writer on every shape that a sound tree can have: leaves of a single small key, branches of two children, runs beside
//! them. bbolt makes such trees, now and then; our own writer makes none, so no test that starts from its files meets them.

mod common;

use boltfs::bolt::{CommitOptions, commit};
use common::build::{Build, Item as Element, paged, plain};
use common::commits::{findings, judge};
use common::disk::MemDisk;
use common::rng::{Rng, seeded};
use common::staged::{Item, Staged};
use common::tree::{Node, Tree};

/// A tree over these elements, as wide and as deep as chance has it: its root page.
fn grow(build: &mut Build, rng: &mut Rng, elements: &[Element]) -> u64 {
    let (widest, fanout) = (rng.range(1, 9), rng.range(2, 6));
    let mut level: Vec<(Vec<u8>, u64)> = Vec::new();
    let mut rest = elements;
    while !rest.is_empty() {
        let (leaf, behind) = rest.split_at(rng.range(1, widest).min(rest.len()));
        level.push((leaf[0].key.clone(), build.leaf(leaf)));
        rest = behind;
    }
    while level.len() > 1 {
        let mut above = Vec::new();
        let mut rest = &level[..];
        while !rest.is_empty() {
            // Two at least, and none left alone.
            let mut take = rng.range(2, fanout).min(rest.len());
            if rest.len() - take == 1 {
                take += 1;
            }
            let (children, behind) = rest.split_at(take);
            let entries: Vec<_> = children
                .iter()
                .map(|(key, pgid)| (&key[..], *pgid))
                .collect();
            above.push((children[0].0.clone(), build.branch(&entries)));
            rest = behind;
        }
        level = above;
    }
    level[0].1
}

fn database(rng: &mut Rng) -> (Vec<u8>, Tree) {
    let page_size = *rng.pick(&[512, 512, 1024, 4096]);
    let mut build = Build::new(page_size);
    let mut bucket = Tree::default();
    let longest_key = *rng.pick(&[6, 40, 200]);
    let longest_value = *rng.pick(&[1, 50, 300, 3000]);
    for n in 0..rng.range(2, 300) {
        let mut key = format!("{n:05}").into_bytes();
        key.resize(rng.range(5, longest_key), b'.');
        let size = rng.below(longest_value + 1);
        bucket.nodes.insert(key, Node::Value(rng.bytes(size)));
    }
    let elements: Vec<_> = bucket
        .nodes
        .iter()
        .map(|(key, node)| match node {
            Node::Value(value) => plain(key, value),
            Node::Bucket(_) => unreachable!(),
        })
        .collect();
    let root = grow(&mut build, rng, &elements);
    build.root = build.leaf(&[paged(b"b", root)]);
    build.list(&[]);
    let mut tree = Tree::default();
    tree.nodes.insert(b"b".to_vec(), Node::Bucket(bucket));
    (build.file(), tree)
}

#[test]
fn any_sound_tree_can_be_edited() {
    seeded(200, |_, rng| {
        let (file, tree) = database(rng);
        let base = MemDisk::new(file.clone()).snapshot();
        judge(&base, &tree, true);
        let free = findings(&base).0.free;
        let Node::Bucket(bucket) = &tree.nodes[&b"b"[..]] else {
            unreachable!()
        };
        let keys: Vec<_> = bucket.nodes.keys().cloned().collect();
        for _ in 0..20 {
            let disk = MemDisk::new(file.clone());
            let mut staged = Staged::new(&tree, vec![]);
            let bucket = staged.bucket_mut(&[b"b".to_vec()]);
            for _ in 0..rng.range(1, 4) {
                let from = rng.below(keys.len());
                let many = if rng.one_in(2) { 3 } else { keys.len() };
                let to = (from + rng.below(many + 1)).min(keys.len());
                for key in &keys[from..to] {
                    match rng.below(8) {
                        0 => {}
                        1 => {
                            let size = rng.below(600);
                            bucket
                                .nodes
                                .insert(key.clone(), Item::Value(rng.bytes(size)));
                        }
                        _ => {
                            bucket.nodes.remove(key);
                        }
                    }
                }
            }
            for _ in 0..rng.below(4) {
                let mut key = rng.pick(&keys).clone();
                key.push(b'+');
                bucket
                    .nodes
                    .insert(key, Item::Value(vec![b'v'; rng.below(30)]));
            }
            let options = CommitOptions {
                free: free.as_ref().filter(|_| !rng.one_in(4)),
                ..CommitOptions::default()
            };
            let exact = options.free.is_some();
            commit(&disk, &base, None, staged.changes(&base, &tree), &options)
                .unwrap_or_else(|e| panic!("commit: {e}"));
            judge(&disk.snapshot(), &staged.tree(), exact);
        }
    });
}
