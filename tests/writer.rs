//! The writer on a disk in memory: after each of many random commits the content is what a plain map has, every rule of
//! the format holds, and no page of an older state was touched. The same with the real bbolt is in oracle_writer.rs.

mod common;

use boltfs::bolt::empty_database;
use common::commits::Db;
use common::disk::MemDisk;
use common::rng::seeded;
use common::tree::Tree;

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
