//! What one commit shares among all buckets: the base it reads, the pages it writes, and the
//! account of old pages: which the new tree no longer has, and which it was seen to keep.

use super::Stats;
use super::build::{Child, Entry, Item, is_large};
use super::sink::Sink;
use crate::bolt::bucket::{BucketRef, inline_page};
use crate::bolt::error::{Damage, Error, Result};
use crate::bolt::page::{Element, HEADER, Page};
use crate::bolt::pageset::PageSet;
use crate::bolt::snapshot::{MAX_LEVELS, Snapshot};
use std::cmp::Ordering;
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

    /// The children of a branch page, with the first keys that are really there (bbolt takes them for
    /// granted, and breaks the tree where a branch has another one). A key that is not between the
    /// neighbours' is not taken over, since that would hide keys of theirs; `low` is where the page's
    /// own neighbour to the left may end, if the page itself does not fit in.
    ///
    /// # Errors
    /// An element that cannot be read or is out of order; a child that was met already, so that the
    /// new tree would have its content twice.
    pub fn children(&self, page: &Page<'a>, low: Option<&[u8]>) -> Result<Vec<Child<'a>>> {
        page.verify_order()?;
        let mut children: Vec<Child<'a>> = Vec::with_capacity(page.count());
        for index in 0..page.count() {
            let (pgid, claimed) = page.child(index).map(|child| (child.pgid, child.key))?;
            if self.freed.contains(pgid) {
                return Err(Error::page(pgid, Damage::Shared));
            }
            let below = self.base.page(pgid).ok();
            let first = below.map(|page| self.edge(page, Edge::First, &mut { BUDGET }, 0));
            let mut child = Child {
                pgid,
                key: first.and_then(Found::key).unwrap_or(claimed),
                claimed,
                page: below,
            };
            let fits = match child.key.cmp(claimed) {
                Ordering::Equal => true,
                Ordering::Greater => {
                    let mut next = (index + 1..page.count()).map(|next| page.key(next));
                    next.next().transpose()?.is_none_or(|next| child.key < next)
                }
                Ordering::Less => {
                    low.is_none_or(|low| low <= child.key) && self.is_right_of(&children, child.key)
                }
            };
            if !fits {
                child = child.as_claimed();
            }
            children.push(child);
        }
        Ok(children)
    }

    /// Every key below `children` is known to be lower than `key`.
    fn is_right_of(&self, children: &[Child<'a>], key: &[u8]) -> bool {
        let mut budget = BUDGET;
        let last = children.iter().rev().map(|child| match child.page {
            Some(page) => self.edge(page, Edge::Last, &mut budget, 0),
            None => Found::Unknown,
        });
        match last.into_iter().find(|last| !matches!(last, Found::None)) {
            Some(Found::Key(last)) => last < key,
            Some(_) => false,
            None => true,
        }
    }

    /// The first or the last key below `page`, which is `depth` levels below where the search began.
    fn edge(&self, page: Page<'a>, edge: Edge, budget: &mut u32, depth: usize) -> Found<'a> {
        if *budget == 0 || depth > MAX_LEVELS {
            return Found::Unknown;
        }
        *budget -= 1;
        for n in 0..page.count() {
            let index = match edge {
                Edge::First => n,
                Edge::Last => page.count() - 1 - n,
            };
            let found = if page.is_leaf() {
                page.key(index).map_or(Found::Unknown, Found::Key)
            } else {
                match page
                    .child(index)
                    .and_then(|child| self.base.page(child.pgid))
                {
                    Ok(child) => self.edge(child, edge, budget, depth + 1),
                    Err(_) => Found::Unknown,
                }
            };
            if !matches!(found, Found::None) {
                return found;
            }
        }
        Found::None
    }

    /// How many levels the leaves are below `page`: along the first children that can be read.
    pub fn level_of(&self, page: Page<'a>) -> Result<usize> {
        let mut page = page;
        for level in 0..MAX_LEVELS {
            if page.is_leaf() {
                return Ok(level);
            }
            let children = (0..page.count()).filter_map(|i| page.child(i).ok());
            match children.filter_map(|c| self.base.page(c.pgid).ok()).next() {
                Some(child) => page = child,
                // Nothing below can be read, so nothing below will be changed either.
                None => return Ok(level + 1),
            }
        }
        Err(Error::page(page.pgid(), Damage::TooDeep))
    }

    /// Every element of the page can be read, and their keys ascend.
    pub fn is_sound(&self, page: &Page<'a>) -> bool {
        page.used().is_ok() && page.verify_order().is_ok() && !self.freed.contains(page.pgid())
    }

    /// An old page whose content may be moved to a new one for the sake of a neighbour.
    pub fn may_take_in(&self, page: &Page<'a>) -> bool {
        !is_large(page) && self.is_sound(page)
    }

    /// As [`may_take_in`](Self::may_take_in) for a page that was kept with the first key `key`.
    pub fn may_take_in_again(&self, page: &Page<'a>, key: &[u8]) -> bool {
        let first = self.edge(*page, Edge::First, &mut { BUDGET }, 0);
        self.may_take_in(page) && first.key() == Some(key)
    }

    /// What is wrong with one of these pages, which could not be taken in. 0 stands for none.
    pub fn why_not_taken_in(&self, pages: [u64; 2]) -> Error {
        let pages = pages.into_iter().filter(|&pgid| pgid != 0);
        let why = |pgid| match self.base.page(pgid) {
            Err(e) => Some(e),
            Ok(_) if self.freed.contains(pgid) => Some(Error::page(pgid, Damage::Shared)),
            Ok(page) => page.used().err().or(page.verify_order().err()),
        };
        let found = pages.clone().find_map(why);
        found.unwrap_or_else(|| Error::page(pages.max().unwrap_or(0), Damage::NoChild))
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
        let mut used = Some((HEADER + HEADER * page.count()) as u64);
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

/// Pages that a search for the first or last key may look at. More than one for each level only
/// where damage left empty pages.
const BUDGET: u32 = 4096;

/// Which end of a subtree.
#[derive(Clone, Copy)]
enum Edge {
    First,
    Last,
}

/// The key at one end of a subtree.
enum Found<'a> {
    Key(&'a [u8]),
    /// There is none: only empty leaves.
    None,
    /// It cannot be read.
    Unknown,
}

impl<'a> Found<'a> {
    fn key(self) -> Option<&'a [u8]> {
        match self {
            Found::Key(key) => Some(key),
            _ => None,
        }
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
