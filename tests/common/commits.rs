//! Random commits by our writer on a disk in memory, each of them judged.

use boltfs::bolt::check::{self, Report};
use boltfs::bolt::{CommitOptions, Committed, PageSet, Snapshot, commit};

use super::disk::MemDisk;
use super::rng::Rng;
use super::staged::{Item, Staged};
use super::tree::Tree;

/// A check of ours: the report, and each finding in words.
pub fn findings(snapshot: &Snapshot) -> (Report, Vec<String>) {
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
pub fn pages(snapshot: &Snapshot, report: &Report) -> PageSet {
    let mut pages = report.reachable.clone();
    if let Ok((header, _)) = snapshot.run(snapshot.meta().freelist) {
        pages.insert_run(header.id, u64::from(header.overflow) + 1);
    }
    pages
}

/// Fails the test unless `snapshot` is sound and holds `expected`. `exact`: no page is leaked.
#[track_caller]
pub fn judge(snapshot: &Snapshot, expected: &Tree, exact: bool) {
    let (_, texts) = findings(snapshot);
    // What the format allows, and what cannot be known without a proof of what is free.
    let told = |text: &&String| {
        ["RootKey", "NoFreelist"]
            .iter()
            .any(|kind| text.starts_with(kind))
            || (!exact && text.starts_with("Leak"))
    };
    let wrong: Vec<_> = texts.iter().filter(|text| !told(text)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let reading = super::read::read(snapshot);
    assert!(reading.errors.is_empty() && reading.lost.is_empty() && reading.doubled.is_empty());
    expected.assert_same(&reading.tree, "content");
}

/// Every run of the pages in `pages` is packed as bbolt packs it: data in order right behind the element headers, zeros
/// to the end.
#[track_caller]
pub fn assert_packed(snapshot: &Snapshot, pages: &PageSet) {
    let number =
        |b: &[u8], at: usize| u32::from_le_bytes(b[at..at + 4].try_into().unwrap()) as usize;
    let mut next = 0;
    for pgid in pages.iter() {
        if pgid < next {
            continue; // a continuation page
        }
        let (header, run) = snapshot
            .run(pgid)
            .expect("a page that was written can be read");
        next = pgid + u64::from(header.overflow) + 1;
        assert!((pgid..next).all(|page| pages.contains(page)), "page {pgid}");
        let count = usize::from(header.count);
        let mut end = 16 + 16 * count;
        for element in 0..count {
            let at = 16 + 16 * element;
            let (pos, size) = match header.flags {
                1 => (number(run, at), number(run, at + 4)),
                2 => (
                    number(run, at + 4),
                    number(run, at + 8) + number(run, at + 12),
                ),
                _ => break,
            };
            assert_eq!(at + pos, end, "page {pgid} element {element}");
            end += size;
        }
        if header.flags == 16 {
            let long = header.count == 0xffff;
            let n = if long { number(run, 16) } else { count };
            end = 16 + 8 * (n + usize::from(long));
        } else {
            assert!(
                header.overflow as usize == end.div_ceil(snapshot.page_size()) - 1,
                "page {pgid}"
            );
        }
        assert!(
            run[end..].iter().all(|&b| b == 0),
            "page {pgid}: remains behind {end}"
        );
    }
}

/// A database under test.
pub struct Db {
    /// The file.
    pub disk: MemDisk,
    /// What is in it.
    pub tree: Tree,
    /// Bytes.
    pub page_size: usize,
    /// Plain keys in the root bucket, which bbolt's interface cannot make.
    pub root_keys: bool,
}

impl Db {
    /// One mount: one commit or several on the same base.
    pub fn mount(&mut self, rng: &mut Rng) {
        let base = self.disk.snapshot();
        let (report, _) = findings(&base);
        let free = report.free.as_ref().filter(|_| !rng.one_in(4));
        let options = CommitOptions {
            free,
            abandon_freelist: rng.one_in(40),
            ..CommitOptions::default()
        };
        let stored = base.meta().freelist != u64::MAX;
        let base_pages = pages(&base, &report);
        let mut staged = Staged::new(&self.tree, vec![]);
        let mut prior: Option<Committed> = None;
        let commits = if rng.one_in(3) { rng.range(2, 4) } else { 1 };
        for _ in 0..commits {
            staged.mutate(rng, self.page_size);
            if !self.root_keys {
                staged
                    .nodes
                    .retain(|_, item| matches!(item, Item::Bucket(_)));
            }
            // Neither the base, which stays mounted, nor the state that is current may be touched.
            self.disk.reset();
            self.disk.guard(&base_pages, self.page_size);
            let now = self.disk.snapshot();
            let mut live = pages(&now, &findings(&now).0);
            live.insert(u64::from(now.slot()));
            self.disk.guard(&live, self.page_size);

            let changes = staged.changes(&base, &self.tree);
            let done = commit(&self.disk, &base, prior.as_ref(), changes, &options);
            let done = done.unwrap_or_else(|e| panic!("commit: {e}"));
            let after = self.disk.snapshot();
            assert_eq!((*after.meta(), after.slot()), (done.meta, done.slot));
            let stores = after.meta().freelist != u64::MAX;
            assert_eq!(
                stores,
                stored && !options.abandon_freelist,
                "freelist stored"
            );
            assert_eq!(done.freelist_abandoned, stored && !stores);
            let expected = staged.tree();
            judge(&after, &expected, free.is_some());
            assert_packed(&after, done.written());
            assert_counts(&self.tree, &expected, &done);
            prior = Some(done);
        }
        self.tree = staged.tree();
    }
}

/// What the commit says it did adds up.
fn assert_counts(was: &Tree, is: &Tree, done: &Committed) {
    let ((keys, buckets), (keys_now, buckets_now)) = (was.count(), is.count());
    let stats = done.stats;
    assert_eq!(
        keys as u64 + stats.keys_added - stats.keys_deleted,
        keys_now as u64,
        "{stats:?}"
    );
    assert_eq!(
        buckets as u64 + stats.buckets_added - stats.buckets_deleted,
        buckets_now as u64,
        "{stats:?}"
    );
}
