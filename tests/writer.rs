//! The writer on a disk in memory: after each of many random commits the content is what a plain map has, every rule of
//! the format holds, and no page of an older state was touched. The same with the real bbolt is in oracle_writer.rs.

mod common;

use boltfs::bolt::check::{self, Report};
use boltfs::bolt::{CommitOptions, Committed, PageSet, Snapshot, commit, empty_database};
use common::disk::MemDisk;
use common::rng::{Rng, seeded};
use common::staged::Staged;
use common::tree::Tree;

const PAGE_SIZES: [usize; 9] = [512, 512, 512, 1024, 1024, 2048, 4096, 16384, 65536];

/// Everything that our check finds, but for what `allow` names.
fn findings(snapshot: &Snapshot) -> (Report, Vec<String>) {
    let options = check::Options {
        threads: 1,
        ..check::Options::default()
    };
    let report = check::check(snapshot, options, &mut |_| {});
    let texts = report.findings.iter();
    let texts = texts.map(|f| format!("{:?} {} {:?}: {}", f.kind, f.place, f.pgid, f.text));
    let texts = texts.collect();
    (report, texts)
}

/// The pages that a state is made of, but for its meta.
fn pages(snapshot: &Snapshot, report: &Report) -> PageSet {
    let mut pages = report.reachable.clone();
    if let Ok((header, _)) = snapshot.run(snapshot.meta().freelist) {
        pages.insert_run(header.id, u64::from(header.overflow) + 1);
    }
    pages
}

/// A database under test.
struct Db {
    disk: MemDisk,
    tree: Tree,
    page_size: usize,
}

impl Db {
    fn new(page_size: usize) -> Db {
        Db {
            disk: MemDisk::new(empty_database(page_size as u32)),
            tree: Tree::default(),
            page_size,
        }
    }

    /// One mount: one commit or several on the same base.
    fn mount(&mut self, rng: &mut Rng) {
        let base = self.disk.snapshot();
        let (report, _) = findings(&base);
        let free = report.free.as_ref().filter(|_| !rng.one_in(4));
        let options = CommitOptions {
            free,
            abandon_freelist: rng.one_in(40),
        };
        let mut staged = Staged::new(&self.tree, vec![]);
        let mut prior: Option<Committed> = None;
        let commits = if rng.one_in(3) { rng.range(2, 4) } else { 1 };
        for _ in 0..commits {
            staged.mutate(rng, self.page_size);
            self.disk.reset();
            self.disk.guard(&pages(&base, &report), self.page_size);
            let now = self.disk.snapshot();
            self.disk
                .guard(&pages(&now, &findings(&now).0), self.page_size);
            let changes = staged.changes(&base, &self.tree);
            let done = commit(&self.disk, &base, prior.as_ref(), changes, &options);
            let done = done.unwrap_or_else(|e| panic!("commit: {e}"));
            self.verify(
                &staged.tree(),
                &done,
                options.abandon_freelist,
                free.is_some(),
            );
            prior = Some(done);
        }
        self.tree = staged.tree();
    }

    fn verify(&self, expected: &Tree, done: &Committed, abandoned: bool, exact: bool) {
        let now = self.disk.snapshot();
        assert_eq!(*now.meta(), done.meta);
        assert_eq!(now.slot(), done.slot);
        let (report, texts) = findings(&now);
        // Notes on the base's own choices, and what cannot be known without a proof of what is free.
        let told = |text: &&String| {
            text.starts_with("RootKey")
                || text.starts_with("NoFreelist")
                || (!exact && text.starts_with("Leak"))
        };
        let wrong: Vec<_> = texts.iter().filter(|text| !told(text)).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(!abandoned || report.freelist_ok);
        let reading = common::read::read(&now);
        assert!(reading.errors.is_empty() && reading.lost.is_empty() && reading.doubled.is_empty());
        expected.assert_same(&reading.tree, "content");
    }
}

#[test]
fn random_commits() {
    seeded(600, |_, rng| {
        let mut db = Db::new(*rng.pick(&PAGE_SIZES));
        for _ in 0..rng.range(2, 14) {
            db.mount(rng);
        }
    });
}
