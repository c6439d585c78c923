//! Thousands of random operations on the file system, without a mount, against a plain model of what they mean: every
//! answer, every listing, every content, the list of what is pending, and what a commit leaves in the database.

mod common;

mod model;

use boltfs::vfs::Options;
use common::fs::{Fs, database, options};
use common::rng::{Rng, seeded};
use common::tree::{Node, Tree};
use model::{Driver, PAGE_SIZES};

/// A random value; of the kinds that are shown otherwise than they are stored, if `cooked`.
fn value(rng: &mut Rng, cooked: bool) -> Vec<u8> {
    let kind = if cooked { rng.below(5) } else { 9 };
    let n = rng.below(50);
    match kind {
        0 => format!("{{\"id\":{n},\"tags\":[\"a\",\"b\"]}}").into_bytes(),
        1 => format!("{{\"id\": {n}, \"tags\": []}}\n").into_bytes(),
        2 => format!("text {n}").into_bytes(),
        3 => format!("line {n}\n").into_bytes(),
        _ => {
            let len = if rng.one_in(20) { rng.below(3000) } else { n };
            rng.bytes(len)
        }
    }
}

fn content(rng: &mut Rng, cooked: bool, depth: usize) -> Tree {
    let mut tree = Tree::default();
    if depth < 3 {
        tree.seq = [0, 0, 7, u64::MAX][rng.below(4)];
    }
    let keys = match (depth, rng.below(4)) {
        (3, _) => 0, // the root
        (_, 0) => 0,
        (_, 1) => rng.below(100),
        _ => rng.below(12),
    };
    for _ in 0..keys {
        let key = model::key(rng);
        tree.nodes.insert(key, Node::Value(value(rng, cooked)));
    }
    let buckets = if depth == 0 { 0 } else { rng.below(4) };
    for _ in 0..buckets {
        let sub = content(rng, cooked, depth - 1);
        tree.nodes.insert(model::key(rng), Node::Bucket(sub));
    }
    tree
}

fn run(cases: usize, options: Options) {
    seeded(cases, |_, rng| {
        let base = content(rng, !options.raw, 3);
        let page_size = *rng.pick(&PAGE_SIZES);
        let fs = Fs::over(database(&base, page_size), options.clone());
        let mut driver = Driver::new(fs, base, options.raw);
        for _ in 0..rng.range(1, 400) {
            driver.step(rng);
        }
        driver.finish();
    });
}

#[test]
fn raw() {
    let mut options = options();
    options.raw = true;
    run(150, options);
}

#[test]
fn as_shown() {
    run(150, options());
}
