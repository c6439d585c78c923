//! A walk over the elements of one bucket, in key order, with an explicit stack.
//!
//! A damaged page ends nothing but its own subtree: the cursor answers the error once and goes on
//! behind it, so that a listing shows all that can still be read.
//!
//! In a sound bucket keys ascend. Where one does not, the page order is followed all the same, but
//! no key is answered twice: from there on the keys are remembered, and one that came before (from a
//! page with two parents, a stale copy, a damaged key) is passed over.
//!
//! A walk can be gone on with behind an element by a seek for its key, as long as nothing out of order
//! was met until there ([`Cursor::is_disordered`]): a page that is reached from two places has keys that
//! do not belong into one of them.

use std::collections::HashSet;

use super::error::{Damage, Error, Result};
use super::page::{Element, Page};
use super::snapshot::{Bucket, MAX_LEVELS};

/// Which keys a look-up would look for on a page: from the first of these on, up to the second, which is not one of them.
type Bounds<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// An iterator over the elements of a bucket, sub-buckets among them.
pub struct Cursor<'a> {
    bucket: Bucket<'a>,
    /// The path from the root page: each page with the index of its next element.
    stack: Vec<(Page<'a>, usize)>,
    /// For each of these pages, what the branch pages above say about its keys.
    bounds: Vec<Bounds<'a>>,
    /// Something that was met is not where a look-up would find it.
    disordered: bool,
    /// The last key answered, and the greatest, while they ascend.
    greatest: &'a [u8],
    /// The keys answered so far, from the first on that did not ascend.
    answered: Option<HashSet<&'a [u8]>>,
    /// Pages that may still be entered: a sound bucket has no more than the database has pages,
    /// a damaged one could lead through the same pages for ever.
    budget: u64,
    /// An error met while seeking, answered by the first `next`.
    failed: Option<Error>,
}

impl<'a> Cursor<'a> {
    /// Before the first element of `bucket`.
    pub fn first(bucket: Bucket<'a>) -> Cursor<'a> {
        let mut cursor = Cursor {
            bucket,
            stack: Vec::with_capacity(4),
            bounds: Vec::with_capacity(4),
            disordered: false,
            greatest: &[],
            answered: None,
            budget: bucket.snapshot().meta().hwm,
            failed: None,
        };
        match bucket.root_page() {
            Ok(page) => cursor.push(page, (None, None)),
            Err(e) => cursor.failed = Some(e),
        }
        cursor
    }

    /// Before the first element of `bucket` whose key is not less than `key`.
    pub fn seek(bucket: Bucket<'a>, key: &[u8]) -> Cursor<'a> {
        let mut cursor = Cursor::first(bucket);
        cursor.failed = cursor.failed.take().or_else(|| cursor.descend(key).err());
        cursor
    }

    /// Behind `element`, which a cursor over `bucket` has answered: where a listing goes on.
    pub fn after(bucket: Bucket<'a>, element: &Element<'a>) -> Cursor<'a> {
        let mut cursor = Cursor::seek(bucket, element.key);
        if let Some(Ok(found)) = cursor.next()
            && found.offset == element.offset
        {
            return cursor;
        }
        // Keys out of order: only a walk from the start finds the place.
        let mut cursor = Cursor::first(bucket);
        let passed = |e: Result<Element<'_>>| e.is_ok_and(|e| e.offset == element.offset);
        cursor.by_ref().any(passed);
        cursor
    }

    fn descend(&mut self, key: &[u8]) -> Result<()> {
        while let Some((page, next)) = self.stack.last_mut() {
            if page.is_leaf() {
                *next = page.search(key)?.unwrap_or_else(|index| index);
                break;
            }
            let index = page.child_for(key)?;
            *next = index + 1;
            self.enter(index)?;
        }
        Ok(())
    }

    /// Steps down to the child `index` of the page in hand.
    fn enter(&mut self, index: usize) -> Result<()> {
        let Some(&(parent, _)) = self.stack.last() else {
            return Ok(());
        };
        let child = parent.child(index)?;
        let pgid = child.pgid;
        if self.stack.iter().any(|(page, _)| page.pgid() == pgid) {
            return Err(Error::page(pgid, Damage::Cycle));
        }
        if self.stack.len() >= MAX_LEVELS {
            return Err(Error::page(pgid, Damage::TooDeep));
        }
        if self.budget == 0 {
            self.stack.clear();
            self.bounds.clear();
            return Err(Error::page(pgid, Damage::Cycle));
        }
        self.budget -= 1;
        let page = self.bucket.snapshot().page(pgid)?;
        let (low, high) = self.bounds.last().copied().unwrap_or_default();
        // A key that is lower than all is looked for in the first child.
        let from = (index > 0).then_some(child.key);
        let to = match index + 1 < parent.count() {
            true => parent.child(index + 1).ok().map(|next| next.key),
            false => None,
        };
        let high = [high, to].into_iter().flatten().min();
        self.push(page, (low.max(from), high));
        Ok(())
    }

    fn push(&mut self, page: Page<'a>, bounds: Bounds<'a>) {
        let (low, high) = bounds;
        let is_outside = || match (page.key(0), page.key(page.count() - 1)) {
            (Ok(first), Ok(last)) => {
                low.is_some_and(|low| first < low) || high.is_some_and(|high| last >= high)
            }
            _ => true,
        };
        // The keys of a leaf are looked at one by one as they are answered.
        self.disordered |= match page.is_leaf() {
            true => page.count() > 0 && is_outside(),
            false => page.verify_order().is_err(),
        };
        self.stack.push((page, 0));
        self.bounds.push(bounds);
    }

    /// Something was met that is not where a look-up would find it, or not in the order of keys.
    pub fn is_disordered(&self) -> bool {
        self.disordered || self.answered.is_some()
    }

    /// The next element in page order.
    fn step(&mut self) -> Option<Result<Element<'a>>> {
        if let Some(e) = self.failed.take() {
            return Some(Err(e));
        }
        loop {
            let (page, next) = self.stack.last_mut()?;
            if *next >= page.count() {
                if *next == page.count()
                    && let Err(e) = page.verify_count()
                {
                    *next += 1; // told once
                    return Some(Err(e));
                }
                self.stack.pop();
                self.bounds.pop();
                continue;
            }
            let index = *next;
            *next += 1;
            if page.is_leaf() {
                return Some(page.leaf(index));
            }
            if let Err(e) = self.enter(index) {
                return Some(Err(e));
            }
        }
    }

    /// The page numbers and indexes that lead to where this cursor stands.
    fn place(&self) -> impl Iterator<Item = (u64, usize)> {
        self.stack.iter().map(|(page, next)| (page.pgid(), *next))
    }

    /// The keys of the bucket in front of the element that the last `step` answered.
    fn keys_before(&self) -> HashSet<&'a [u8]> {
        let mut keys = HashSet::new();
        let mut walk = Cursor::first(self.bucket);
        while let Some(answer) = walk.step()
            && !walk.place().eq(self.place())
        {
            keys.extend(answer.map(|element| element.key));
        }
        keys
    }

    /// The leaf page of the element that the last `next` answered, and its index there.
    pub fn position(&self) -> Option<(Page<'a>, usize)> {
        let &(page, next) = self.stack.last()?;
        Some((page, next.checked_sub(1)?))
    }
}

impl<'a> Iterator for Cursor<'a> {
    type Item = Result<Element<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let answer = self.step()?;
            if let Ok(element) = &answer {
                if self.answered.is_none() && element.key > self.greatest {
                    self.greatest = element.key;
                } else {
                    let before = self.answered.take();
                    let mut keys = before.unwrap_or_else(|| self.keys_before());
                    let is_new = keys.insert(element.key);
                    self.answered = Some(keys);
                    if !is_new {
                        continue;
                    }
                }
            }
            return Some(answer);
        }
    }
}
