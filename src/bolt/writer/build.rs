//! Builds the new tree of one bucket from left to right, bottom-up, and writes its pages as they
//! fill.
//!
//! It is fed, in key order, with elements and with whole subtrees of the old tree. A subtree is
//! kept by reference, unless what comes before it is too little to stand alone: then the subtree's
//! outermost pages are taken in. Each level holds little more than a page of pending content, so
//! the memory needed does not depend on how much changes.
//!
//! The new tree is sound whatever the old one was like (bbolt-format.md P1 to P6): branch keys are
//! the first keys of the children that were found there, and each subtree goes to the level that
//! its own depth asks for.

use super::level::{LARGE, Level, Piece};
use super::sink::element_headers;
use super::transaction::Transaction;
use crate::bolt::bucket::BUCKET_HEADER;
use crate::bolt::error::{Damage, Error, Result};
use crate::bolt::page::{BUCKET_FLAG, Element, HEADER, Header, LEAF, Page};
use std::borrow::Cow;

/// An element of a leaf page to be written.
pub(super) struct Item<'a> {
    pub flags: u32,
    pub key: Cow<'a, [u8]>,
    pub value: Cow<'a, [u8]>,
}

impl<'a> From<Element<'a>> for Item<'a> {
    fn from(element: Element<'a>) -> Self {
        Item {
            flags: element.flags,
            key: Cow::Borrowed(element.key),
            value: Cow::Borrowed(element.value),
        }
    }
}

impl Piece for Item<'_> {
    const FEWEST: usize = 1;

    fn size(&self) -> usize {
        HEADER + self.key.len() + self.value.len()
    }
}

/// An element of a branch page to be written.
pub(super) struct Entry<'a> {
    pub key: Cow<'a, [u8]>,
    pub pgid: u64,
    /// A page of the old tree, not one of this transaction.
    pub old: bool,
}

impl Piece for Entry<'_> {
    const FEWEST: usize = 2;

    fn size(&self) -> usize {
        HEADER + self.key.len()
    }
}

/// A page of the old tree as its parent has it.
#[derive(Clone, Copy)]
pub(super) struct Child<'a> {
    pub pgid: u64,
    /// The first key of the page; what the parent says it is, where the page cannot be read.
    pub key: &'a [u8],
    /// The page, if it can be read.
    pub page: Option<Page<'a>>,
}

/// The content of a bucket when it is complete.
pub(super) enum Built {
    /// A tree with this root page.
    Paged(u64),
    /// The page image of an inline bucket.
    Inline(Vec<u8>),
}

/// A tree under construction.
pub(super) struct Builder<'a> {
    leaves: Level<Item<'a>>,
    /// Level 1 first: entries for leaf pages.
    branches: Vec<Level<Entry<'a>>>,
    /// Of each branch level, the page written last: its number and what is on it. It is taken back
    /// where a lone entry has no other neighbour.
    written: Vec<Option<(u64, Vec<Entry<'a>>)>>,
    /// The last key that was fed, or the first of the last subtree.
    last: Vec<u8>,
    /// There is a bucket among the elements.
    has_bucket: bool,
}

impl<'a> Builder<'a> {
    pub fn new(page_size: usize) -> Builder<'a> {
        Builder {
            leaves: Level::new(page_size),
            branches: Vec::new(),
            written: Vec::new(),
            last: Vec::new(),
            has_bucket: false,
        }
    }

    /// Feeds an element. `from` is the page it comes from, for messages.
    pub fn item(&mut self, tx: &mut Transaction<'a>, item: Item<'a>, from: u64) -> Result<()> {
        self.ascend(&item.key, from)?;
        self.has_bucket |= item.flags & BUCKET_FLAG != 0;
        self.leaves.push(item);
        self.settle(tx, 0)
    }

    /// Feeds an element of the old tree as it is.
    pub fn element(
        &mut self,
        tx: &mut Transaction<'a>,
        element: Element<'a>,
        from: u64,
    ) -> Result<()> {
        if element.is_bucket() {
            tx.keep_bucket(&element)?;
        }
        self.item(tx, element.into(), from)
    }

    /// Keys must ascend, or elements would be lost to every search.
    fn ascend(&mut self, key: &[u8], from: u64) -> Result<()> {
        if key <= &self.last[..] && !self.last.is_empty() {
            return Err(Error::page(from, Damage::Unsorted { index: 0 }));
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        Ok(())
    }

    /// Feeds a subtree of the old tree whose leaves are `level` levels below `child`.
    pub fn subtree(
        &mut self,
        tx: &mut Transaction<'a>,
        level: usize,
        child: Child<'a>,
    ) -> Result<()> {
        let mut level = level;
        if let Some(page) = child.page {
            if page.is_leaf() != (level == 0) {
                level = tx.level_of(page)?;
            }
            if page.is_leaf() && page.count() == 0 {
                return tx.release(&page);
            }
            if !page.is_leaf() && page.count() == 1 && tx.is_sound(&page) {
                return self.expand(tx, level, &page);
            }
        }
        let entry = Entry {
            key: Cow::Borrowed(child.key),
            pgid: child.pgid,
            old: true,
        };
        self.link(tx, level, entry, Some(child))
    }

    /// Puts `entry`, for a page `level` levels above the leaves, behind all that is pending. If it
    /// is fed just now, from the old tree, its page may be taken in instead.
    fn link(
        &mut self,
        tx: &mut Transaction<'a>,
        level: usize,
        entry: Entry<'a>,
        fed: Option<Child<'a>>,
    ) -> Result<()> {
        let mut l = 0;
        while l <= level {
            if self.is_underfull(l) && !self.is_empty(l) {
                let page = fed.and_then(|child| child.page);
                if let Some(page) = page.filter(|page| tx.may_take_in(page)) {
                    return self.expand(tx, level, &page);
                }
                if self.is_lone(l) {
                    self.must_absorb_left(tx, l, entry.pgid)?;
                    l = 0;
                    continue;
                }
            }
            if !self.is_empty(l) {
                self.flush(tx, l)?;
            }
            l += 1;
        }
        if let Some(child) = fed {
            self.ascend(child.key, child.pgid)?;
            tx.keep(&child);
        }
        self.entry(tx, level + 1, entry)
    }

    /// Frees an old page and feeds what is on it. The page has been found sound.
    fn expand(&mut self, tx: &mut Transaction<'a>, level: usize, page: &Page<'a>) -> Result<()> {
        tx.release(page)?;
        if page.is_leaf() {
            for index in 0..page.count() {
                self.element(tx, page.leaf(index)?, page.pgid())?;
            }
            return Ok(());
        }
        for index in 0..page.count() {
            let child = tx.child(page, index)?;
            self.subtree(tx, level.saturating_sub(1), child)?;
        }
        Ok(())
    }

    /// Takes in the old page to the left of what is pending at `level`, which is too little. There
    /// is one, since what is under-filled has not been cut. Answers the page that could not be
    /// taken in.
    fn absorb_left(
        &mut self,
        tx: &mut Transaction<'a>,
        level: usize,
    ) -> Result<std::result::Result<(), u64>> {
        let Some(above) = (level + 1..=self.branches.len()).find(|&l| !self.is_empty(l)) else {
            return Ok(Err(0));
        };
        let entries = &mut self.branches[above - 1];
        let Some(&Entry {
            pgid: left, old, ..
        }) = entries.last()
        else {
            return Ok(Err(0));
        };
        if !old {
            // An old page between them was itself too little, and has been taken in.
            let taken = level > 0 && self.take_back(tx, level, above)?;
            return Ok(if taken { Ok(()) } else { Err(left) });
        }
        let page = match tx.base().page(left) {
            Ok(page) if page.is_leaf() == (above == 1) && tx.may_take_in(&page) => page,
            _ => return Ok(Err(left)),
        };
        entries.pop();
        tx.keep_no_more(&page);
        let last = std::mem::take(&mut self.last);
        if level == 0 {
            let pending = self.leaves.take();
            self.expand(tx, above - 1, &page)?;
            for item in pending {
                self.item(tx, item, left)?;
            }
        } else {
            let pending = self.branches[level - 1].take();
            self.expand(tx, above - 1, &page)?;
            for entry in pending {
                self.link(tx, level - 1, entry, None)?;
            }
        }
        self.last = last;
        Ok(Ok(()))
    }

    /// Takes back the branch page that the last entry at level `above` is for, written in this
    /// transaction, for the sake of what is pending at `level`. Answers whether it could.
    fn take_back(&mut self, tx: &mut Transaction<'a>, level: usize, above: usize) -> Result<bool> {
        let below = above - 1;
        let last = self.branches[above - 1].last().map(|entry| entry.pgid);
        let written = below.checked_sub(1).and_then(|l| self.written.get_mut(l));
        let Some((pgid, entries)) = written
            .and_then(Option::take)
            .filter(|(pgid, _)| Some(*pgid) == last)
        else {
            return Ok(false);
        };
        self.branches[above - 1].pop();
        tx.take_back(pgid, &entries);
        // Where the page is of a higher level, its last child is the next one to look at.
        let pending = if below == level {
            self.branches[level - 1].take()
        } else {
            Vec::new()
        };
        for entry in entries.into_iter().chain(pending) {
            self.entry(tx, below, entry)?;
        }
        Ok(true)
    }

    /// Writes a branch page of `level`, and remembers it.
    fn write_branch(
        &mut self,
        tx: &mut Transaction<'a>,
        level: usize,
        entries: Vec<Entry<'a>>,
    ) -> Result<Entry<'a>> {
        let entry = tx.write_branch(&entries)?;
        self.written.resize_with(self.branches.len(), || None);
        self.written[level - 1] = Some((entry.pgid, entries));
        Ok(entry)
    }

    /// As [`absorb_left`](Self::absorb_left) for a lone entry, which no branch page may have: bbolt
    /// breaks such a tree. `right` is its other neighbour, which cannot be taken in either.
    fn must_absorb_left(
        &mut self,
        tx: &mut Transaction<'a>,
        level: usize,
        right: u64,
    ) -> Result<()> {
        let Err(left) = self.absorb_left(tx, level)? else {
            return Ok(());
        };
        let mut why = [left, right].into_iter().filter(|&pgid| pgid != 0);
        let found = why.find_map(|pgid| tx.why_not_taken_in(pgid));
        Err(found.unwrap_or_else(|| Error::page(left.max(right), Damage::NoChild)))
    }

    fn is_empty(&self, level: usize) -> bool {
        match level {
            0 => self.leaves.is_empty(),
            l => self.branches.get(l - 1).is_none_or(Level::is_empty),
        }
    }

    fn is_underfull(&self, level: usize) -> bool {
        match level {
            0 => self.leaves.is_underfull(),
            l => self.branches.get(l - 1).is_some_and(Level::is_underfull),
        }
    }

    /// A single entry of a branch level.
    fn is_lone(&self, level: usize) -> bool {
        level > 0 && self.branches.get(level - 1).is_some_and(|l| l.len() == 1)
    }

    /// Adds an entry to a branch level.
    fn entry(&mut self, tx: &mut Transaction<'a>, level: usize, entry: Entry<'a>) -> Result<()> {
        while self.branches.len() < level {
            self.branches.push(Level::new(tx.page_size()));
        }
        self.branches[level - 1].push(entry);
        self.settle(tx, level)
    }

    /// Writes the pages that are full at `level`, and those that fill up above it.
    fn settle(&mut self, tx: &mut Transaction<'a>, level: usize) -> Result<()> {
        loop {
            let entry = if level == 0 {
                match self.leaves.cut() {
                    Some(items) => tx.write_leaf(items)?,
                    None => return Ok(()),
                }
            } else {
                match self.branches[level - 1].cut() {
                    Some(entries) => self.write_branch(tx, level, entries)?,
                    None => return Ok(()),
                }
            };
            self.entry(tx, level + 1, entry)?;
        }
    }

    /// Writes all that is pending at `level`.
    fn flush(&mut self, tx: &mut Transaction<'a>, level: usize) -> Result<()> {
        let mut written = Vec::with_capacity(2);
        if level == 0 {
            for items in self.leaves.flush() {
                written.push(tx.write_leaf(items)?);
            }
        } else {
            for entries in self.branches[level - 1].flush() {
                written.push(self.write_branch(tx, level, entries)?);
            }
        }
        for entry in written {
            self.entry(tx, level + 1, entry)?;
        }
        Ok(())
    }

    /// All is fed: writes what is pending. `may_be_inline`: not for the root bucket.
    pub fn finish(mut self, tx: &mut Transaction<'a>, may_be_inline: bool) -> Result<Built> {
        let mut level = 0;
        loop {
            let is_top = (level + 1..=self.branches.len()).all(|l| self.is_empty(l));
            if self.is_empty(level) && !is_top {
                level += 1;
                continue;
            }
            if !is_top && self.is_underfull(level) {
                if self.is_lone(level) {
                    self.must_absorb_left(tx, level, 0)?;
                    level = 0;
                    continue;
                } else if self.absorb_left(tx, level)?.is_ok() {
                    level = 0;
                    continue;
                }
            }
            if is_top && level == 0 {
                if may_be_inline && let Some(image) = self.inline_image(tx.page_size()) {
                    return Ok(Built::Inline(image));
                }
                if self.leaves.is_one_page() {
                    let items = self.leaves.take();
                    return Ok(Built::Paged(tx.write_leaf(items)?.pgid));
                }
            }
            if is_top && self.is_lone(level) {
                let entry = self.branches[level - 1].pop();
                return Ok(Built::Paged(entry.map_or(0, |entry| entry.pgid)));
            }
            self.flush(tx, level)?;
            level += 1;
        }
    }

    /// The page image of an inline bucket, if this may be one: nothing but plain keys, and no
    /// more than a quarter of a page.
    fn inline_image(&mut self, page_size: usize) -> Option<Vec<u8>> {
        if self.has_bucket || !self.leaves.is_one_page() || self.leaves.size() > page_size / 4 {
            return None;
        }
        let items = self.leaves.take();
        let header = Header {
            id: 0,
            flags: LEAF,
            count: items.len() as u16,
            overflow: 0,
        };
        let mut image = header.to_bytes().to_vec();
        image.extend(element_headers(&items).flatten());
        for item in &items {
            image.extend_from_slice(&item.key);
            image.extend_from_slice(&item.value);
        }
        Some(image)
    }
}

impl Built {
    /// The value of the bucket's element.
    pub fn into_value(self, sequence: u64) -> Vec<u8> {
        let (root, image) = match self {
            Built::Paged(root) => (root, Vec::new()),
            Built::Inline(image) => (0, image),
        };
        let mut value = Vec::with_capacity(BUCKET_HEADER + image.len());
        value.extend_from_slice(&root.to_le_bytes());
        value.extend_from_slice(&sequence.to_le_bytes());
        value.extend_from_slice(&image);
        value
    }
}

/// A leaf that is not worth copying for the sake of a small neighbour.
pub(super) fn is_large(page: &Page<'_>) -> bool {
    page.is_leaf() && page.overflow() as usize >= LARGE
}
