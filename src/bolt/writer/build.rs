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

use super::level::{Level, Piece};
use super::old::Child;
use super::sink::element_headers;
use super::transaction::Transaction;
use crate::bolt::bucket::BUCKET_HEADER;
use crate::bolt::error::{Damage, Error, Result};
use crate::bolt::page::{BUCKET_FLAG, Element, HEADER, Header, LEAF, Page};
use std::borrow::Cow;

/// Most levels of old pages that are taken in at once. A real tree has fewer than ten.
const MAX_DEPTH: usize = 64;

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
    /// The last key that was fed, or the first of the last subtree.
    last: Vec<u8>,
    /// There is a bucket among the elements.
    has_bucket: bool,
    /// Old pages that are being taken in, one inside the other.
    depth: usize,
}

impl<'a> Builder<'a> {
    pub fn new(page_size: usize) -> Builder<'a> {
        Builder {
            leaves: Level::new(page_size),
            branches: Vec::new(),
            last: Vec::new(),
            has_bucket: false,
            depth: 0,
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
        let (mut child, mut level) = (child, level);
        if child.key <= &self.last[..] {
            child = child.as_claimed();
        }
        if let Some(page) = child.page {
            if page.is_leaf() != (level == 0) {
                level = tx.level_of(page)?;
            }
            if page.is_leaf() && page.count() == 0 {
                return tx.release(&page);
            }
            // bbolt breaks branches with one child, and those whose first key is not that of the
            // leaf below.
            if !page.is_leaf()
                && (page.count() == 1 || page.key(0).is_ok_and(|key| key != child.key))
                && tx.is_sound(&page)
            {
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
                    match self.absorb_left(tx, l)? {
                        Ok(()) => l = 0,
                        Err(_) if !entry.old => return self.take_back(tx, level, entry.pgid),
                        Err(left) => return self.take_in_again(tx, level, &entry, left),
                    }
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
        if self.depth == MAX_DEPTH {
            return Err(Error::page(page.pgid(), Damage::TooDeep));
        }
        self.depth += 1;
        for child in tx.children(page, None)? {
            self.subtree(tx, level.saturating_sub(1), child)?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Takes in the page to the left of what is pending at `level`, which is too little. Answers the
    /// page that could not be taken in.
    fn absorb_left(
        &mut self,
        tx: &mut Transaction<'a>,
        level: usize,
    ) -> Result<std::result::Result<(), u64>> {
        let Some(above) = (level + 1..=self.branches.len()).find(|&l| !self.is_empty(l)) else {
            return Ok(Err(0));
        };
        let entries = &mut self.branches[above - 1];
        let Some(entry) = entries.last() else {
            return Ok(Err(0));
        };
        let left = entry.pgid;
        let page = match tx.base().page(left) {
            // A leaf may be under-filled, so nothing has to be taken back for its sake.
            _ if !entry.old && level > 0 => None,
            _ if !entry.old => return Ok(Err(left)),
            Ok(page)
                if page.is_leaf() == (above == 1) && tx.may_take_in_again(&page, &entry.key) =>
            {
                Some(page)
            }
            _ => return Ok(Err(left)),
        };
        entries.pop();
        let last = std::mem::take(&mut self.last);
        let (items, entries) = match level {
            0 => (self.leaves.take(), Vec::new()),
            _ => (Vec::new(), self.branches[level - 1].take()),
        };
        match page {
            Some(page) => {
                tx.keep_no_more(&page);
                self.expand(tx, above - 1, &page)?;
            }
            None => self.take_back(tx, above - 1, left)?,
        }
        for item in items {
            self.item(tx, item, left)?;
        }
        for entry in entries {
            self.link(tx, level - 1, entry, None)?;
        }
        self.last = last;
        Ok(Ok(()))
    }

    /// As [`expand`](Self::expand) for a branch page that this transaction wrote. That is seldom
    /// needed: what is under-filled has not been cut, so an old page is to its left, and only
    /// where that held very little itself the one before it comes in question.
    fn take_back(&mut self, tx: &mut Transaction<'a>, level: usize, pgid: u64) -> Result<()> {
        let (header, bytes) = tx.sink.take_back(pgid)?;
        let page = Page::new(pgid, header, 0, &bytes)?;
        for index in 0..page.count() {
            let child = page.child(index)?;
            let entry = Entry {
                key: child.key.to_vec().into(),
                pgid: child.pgid,
                old: !tx.sink.written().contains(child.pgid),
            };
            self.link(tx, level.saturating_sub(1), entry, None)?;
        }
        Ok(())
    }

    /// As [`expand`](Self::expand) for a page that was kept already. It is the last resort for a lone
    /// entry, which no branch page may have, for bbolt breaks such a tree; `left` is the page to the
    /// left of it, which could not be taken in.
    fn take_in_again(
        &mut self,
        tx: &mut Transaction<'a>,
        level: usize,
        entry: &Entry<'a>,
        left: u64,
    ) -> Result<()> {
        match tx.base().page(entry.pgid) {
            Ok(page) if tx.may_take_in_again(&page, &entry.key) => {
                tx.keep_no_more(&page);
                self.expand(tx, level, &page)
            }
            _ => Err(tx.why_not_taken_in([left, entry.pgid])),
        }
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
                    Some(entries) => tx.write_branch(entries)?,
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
                written.push(tx.write_branch(entries)?);
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
                match self.absorb_left(tx, level)? {
                    Ok(()) => {
                        level = 0;
                        continue;
                    }
                    Err(left) if self.is_lone(level) => {
                        return Err(tx.why_not_taken_in([left, 0]));
                    }
                    Err(_) => {}
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
            if is_top
                && self.is_lone(level)
                && let Some(entry) = self.branches[level - 1].pop()
            {
                // Nothing but a page that cannot be read: as the root it would take the bucket with
                // it, or the database. A branch keeps what is known of it.
                let is_damaged = entry.old && tx.base().page(entry.pgid).is_err();
                let root = match is_damaged {
                    true => tx.write_branch(vec![entry])?.pgid,
                    false => entry.pgid,
                };
                return Ok(Built::Paged(root));
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
