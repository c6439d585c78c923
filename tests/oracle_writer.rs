//! Our writer against the real bbolt: random edits by both, in turn, on the same file. After each of ours bbolt's check
//! finds nothing and bbolt's dump is what a plain map has; after each of bbolt's we read what the map has.

mod common;

use std::fs;

use boltfs::bolt::empty_database;
use common::commits::{Db, judge};
use common::disk::MemDisk;
use common::rng::{Rng, seeded};
use common::staged::{Item, Staged};
use common::{Options, Oracle, TempDir, Tree};

const PAGE_SIZES: [usize; 10] = [512, 512, 1024, 1024, 1024, 2048, 4096, 4096, 16384, 65536];

fn options(rng: &mut Rng) -> Options {
    Options {
        hashmap: rng.one_in(2),
        no_freelist_sync: rng.one_in(4),
        fill_percent: Some(0.1 + rng.below(10) as f64 / 10.0),
        no_sync: true,
        page_size: None,
    }
}

#[test]
fn in_turn_with_bbolt() {
    let oracle = Oracle::shared();
    let dir = TempDir::new("writer");
    seeded(200, |seed, rng| {
        let page_size = *rng.pick(&PAGE_SIZES);
        let file = dir.join(&format!("{seed}.db"));
        let mut db = Db {
            disk: MemDisk::new(empty_database(page_size as u32)),
            tree: Tree::default(),
            page_size,
            root_keys: false,
        };
        for round in 0..rng.range(3, 16) {
            let ours = round == 0 || !rng.one_in(3);
            let before = db.tree.clone();
            if ours {
                db.mount(rng);
                fs::write(&file, db.disk.bytes()).unwrap();
                oracle.assert_sound(&file);
            } else {
                let mut staged = Staged::new(&db.tree, vec![]);
                staged.mutate(rng, page_size);
                staged
                    .nodes
                    .retain(|_, item| matches!(item, Item::Bucket(_)));
                let target = staged.tree();
                let script = [before.edits_to(&target)];
                oracle
                    .edit(&file, &script, options(rng))
                    .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
                db.tree = target;
                db.disk = MemDisk::new(fs::read(&file).unwrap());
                judge(&db.disk.snapshot(), &db.tree, true);
            }
            let found = oracle
                .dump(&file)
                .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            db.tree.assert_same(&found, "bbolt's dump");
        }
        fs::remove_file(&file).unwrap();
    });
}
