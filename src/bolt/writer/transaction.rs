//! What one commit shares among all buckets: the base it reads, the pages it writes, and the
//! account of old pages: which the new tree no longer has, and which it was seen to keep.

use super::Stats;
use super::build::{Entry, Item};
use super::old::Child;
use super::sink::Sink;
use crate::bolt::bucket::{BucketRef, inline_page};
use crate::bolt::error::{Error, Result};
use crate::bolt::page::{Element, HEADER, Page};
use crate::bolt::pageset::PageSet;
use crate::bolt::snapshot::Snapshot;
use std::collections::{HashMap, HashSet};

/// The state of one commit while its pages are built.
pub(super) struct Transaction<'a> {
    base: &'a Snapshot,
    pub sink: Sink<'a>,
    pub stats: Stats,
    /// Bucket elements of the base that live on at another place, by offset.
    pub moved: HashSet<u64>,
    /// Those that have been put there.
    pub placed: HashSet<u64>,
    /// By its new root page, the old one of each bucket that was rewritten.
    pub replaced: HashMap<u64, u64>,
    /// The check proved that no page of the base is reached twice: the extent that a page header
    /// claims can be trusted.
    proven: bool,
    /// Pages of the base that the new tree no longer has.
    freed: PageSet,
    /// Pages that the new tree no longer has either, but too damaged to be freed.
    damaged: PageSet,
    /// Pages of the base that the new tree was seen to keep.
    kept: PageSet,
    /// A page was met twice: no account of free pages can be trusted.
    shared: bool,
}

impl<'a> Transaction<'a> {
    pub fn new(
        base: &'a Snapshot,
        sink: Sink<'a>,
        moved: HashSet<u64>,
        proven: bool,
    ) -> Transaction<'a> {
        Transaction {
            base,
            sink,
            stats: Stats::default(),
            moved,
            placed: HashSet::new(),
            replaced: HashMap::new(),
            proven,
            freed: PageSet::new(),
            damaged: PageSet::new(),
            kept: PageSet::new(),
            shared: false,
        }
    }

    pub fn base(&self) -> &'a Snapshot {
        self.base
    }

    pub fn page_size(&self) -> usize {
        self.sink.page_size()
    }

    pub fn freed(&self) -> &PageSet {
        &self.freed
    }

    pub fn kept(&self) -> &PageSet {
        &self.kept
    }

    /// The base turned out to reach a page twice.
    pub fn is_shared(&self) -> bool {
        self.shared || self.freed.intersects(&self.kept)
    }

    /// Writes a leaf page; answers its entry for the page above.
    pub fn write_leaf(&mut self, items: Vec<Item<'a>>) -> Result<Entry<'a>> {
        let pgid = self.sink.leaf(&items)?;
        let first = items.into_iter().next();
        Ok(Entry {
            key: first.map(|item| item.key).unwrap_or_default(),
            pgid,
            old: false,
        })
    }

    /// Writes a branch page; answers its entry for the page above.
    pub fn write_branch(&mut self, entries: Vec<Entry<'a>>) -> Result<Entry<'a>> {
        let pgid = self.sink.branch(&entries)?;
        let first = entries.into_iter().next();
        Ok(Entry {
            key: first.map(|entry| entry.key).unwrap_or_default(),
            pgid,
            old: false,
        })
    }

    /// The new tree no longer has this page.
    ///
    /// # Errors
    /// What is wrong with an element of the page.
    pub fn release(&mut self, page: &Page<'a>) -> Result<()> {
        let used = page.used()?;
        self.free_run(page, used);
        Ok(())
    }

    fn free_run(&mut self, page: &Page<'a>, used: usize) {
        let pages = match self.proven {
            true => u64::from(page.overflow()) + 1,
            // Old versions allocated one page more for content that ends with a page.
            false => extent(page.bytes(), used, used + 1, self.page_size()),
        };
        self.shared |= !self.freed.insert_run(page.pgid(), pages);
    }

    /// The new tree has this page of the base.
    pub fn keep(&mut self, child: &Child<'a>) {
        let pages = child.page.map_or(1, |page| u64::from(page.overflow()) + 1);
        let pages = pages.min(self.base.meta().hwm.saturating_sub(child.pgid));
        self.shared |= !self.kept.insert_run(child.pgid, pages);
    }

    /// The new tree has this bucket of the base where it was, unchanged.
    ///
    /// # Errors
    /// It was said to have moved away.
    pub fn keep_bucket(&mut self, element: &Element<'a>) -> Result<()> {
        if self.moved.contains(&element.offset) {
            return Err(misplaced(element.key, "moved away and still there"));
        }
        self.keep_root(element);
        Ok(())
    }

    /// The new tree has the pages of this bucket of the base.
    pub fn keep_root(&mut self, element: &Element<'a>) {
        let on = self.base.pgid_at(element.offset);
        if let Ok(BucketRef { root, .. }) = BucketRef::read(element, on)
            && (2..self.base.meta().hwm).contains(&root)
        {
            self.shared |= !self.kept.insert(root);
        }
    }

    /// Takes back [`keep`](Self::keep).
    pub fn keep_no_more(&mut self, page: &Page<'a>) {
        let pages = u64::from(page.overflow()) + 1;
        self.kept.remove_run(page.pgid(), pages);
    }

    /// The bucket in `element` is gone, with all that is in it but for what was moved elsewhere.
    /// Damage does not keep a bucket from being deleted: what cannot be read stays allocated.
    pub fn free_bucket(&mut self, element: &Element<'a>) {
        // Pages not visited yet, and values of inline buckets.
        let mut pages = Vec::new();
        let mut buckets = vec![*element];
        loop {
            while let Some(element) = buckets.pop() {
                self.stats.buckets_deleted += 1;
                let on = self.base.pgid_at(element.offset);
                let Ok(bucket) = BucketRef::read(&element, on) else {
                    continue;
                };
                if !bucket.is_inline() {
                    pages.push(bucket.root);
                } else if let Ok(page) = inline_page(on, element.value, element.value_offset) {
                    let _ = self.drop_elements(&page, &mut buckets);
                }
            }
            let Some(pgid) = pages.pop() else {
                return;
            };
            let Ok(page) = self.base.page(pgid) else {
                continue;
            };
            if self.freed.contains(pgid) || self.damaged.contains(pgid) {
                self.shared = true;
                continue;
            }
            let used = if page.is_leaf() {
                self.drop_elements(&page, &mut buckets)
            } else {
                let children = (0..page.count()).rev().filter_map(|i| page.child(i).ok());
                let before = pages.len();
                pages.extend(children.map(|child| child.pgid));
                touch(self.base, &pages[before..]);
                page.used().ok()
            };
            match used {
                Some(used) => self.free_run(&page, used),
                None => drop(self.damaged.insert(pgid)),
            }
        }
    }

    /// The elements of a leaf page are gone. Answers how many bytes of it they used, if all of them
    /// can be read.
    fn drop_elements(&mut self, page: &Page<'a>, buckets: &mut Vec<Element<'a>>) -> Option<usize> {
        let start = page.offset();
        let headers = (HEADER + HEADER * page.count()) as u64;
        let mut used = page.verify_count().is_ok().then_some(headers);
        for index in 0..page.count() {
            let Ok(element) = page.leaf(index) else {
                used = None;
                continue;
            };
            let end = element.value_offset + element.value.len() as u64 - start;
            used = used.map(|used| used.max(end));
            if !element.is_bucket() {
                self.stats.keys_deleted += 1;
            } else if !self.moved.contains(&element.offset) {
                buckets.push(element);
            }
        }
        used.map(|used| used as usize)
    }
}

/// Brings the heads of these pages closer, all at once: one after the other, each would be waited for.
fn touch(base: &Snapshot, pages: &[u64]) {
    let (map, size) = (base.map(), base.page_size() as u64);
    let heads = pages
        .iter()
        .flat_map(|pgid| [0, 64, 128].map(|at| pgid.saturating_mul(size) | at));
    let bytes = heads.filter_map(|at| map.get(usize::try_from(at).ok()?));
    std::hint::black_box(bytes.fold(0, |sum, byte| sum ^ byte));
}

/// How many pages of a run may be freed, where nothing is proved about the file. A header that claims
/// more pages than its content needs may claim those of others: they are left alone, unless the
/// claim is one that bbolt makes (it may allocate for `most` bytes) and they are empty.
pub(super) fn extent(run: &[u8], used: usize, most: usize, page_size: usize) -> u64 {
    let needed = used.div_ceil(page_size);
    let claimed = run.len() / page_size;
    let surplus = run.get(needed * page_size..).unwrap_or_default();
    let is_bbolts = claimed <= most.div_ceil(page_size) && surplus.iter().all(|&b| b == 0);
    (if is_bbolts { claimed } else { needed }) as u64
}

/// The change set contradicts itself or the base.
pub(super) fn misplaced(key: &[u8], what: &str) -> Error {
    Error::Limit(format!("bucket \"{}\": {what}", key.escape_ascii()))
}
