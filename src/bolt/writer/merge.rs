//! Walks the old tree of each changed bucket beside its sorted changes, and feeds the builder.
//!
//! A page is entered only if a change falls into it; every other subtree is handed on whole. Buckets
//! in buckets are worked on with a stack of our own: they can be nested deeper than the machine's
//! stack would bear.

use super::build::{Builder, Built, Item};
use super::old::Child;
use super::sink::MAX_ELEMENT;
use super::transaction::{Transaction, misplaced};
use crate::bolt::bucket::{BUCKET_HEADER, BucketRef};
use crate::bolt::edit::{BucketEdit, Edit, Edits, Source};
use crate::bolt::error::{Damage, Error, Result};
use crate::bolt::page::{BUCKET_FLAG, Element, HEADER, Page};
use crate::bolt::snapshot::{Bucket, MAX_LEVELS};
use std::borrow::Cow;
use std::cmp::Ordering;

/// Longest key that bbolt's Put takes, in bytes.
const MAX_KEY: usize = 32768;

/// A page of the old tree that is being walked. What is on it has keys below `bound`.
enum Step<'a> {
    Leaf {
        page: Page<'a>,
        next: usize,
        /// The key before `next`.
        previous: &'a [u8],
        bound: Option<&'a [u8]>,
    },
    Branch {
        children: Vec<Child<'a>>,
        next: usize,
        /// Of the page itself, above the leaves.
        level: usize,
        bound: Option<&'a [u8]>,
    },
}

/// The changes of one bucket, the next one in sight.
struct Ahead<'a> {
    edits: Edits<'a>,
    next: Option<(Cow<'a, [u8]>, Edit<'a>)>,
}

impl<'a> Ahead<'a> {
    fn new(edits: Edits<'a>) -> Result<Ahead<'a>> {
        let mut ahead = Ahead { edits, next: None };
        ahead.next = ahead.edits.next().transpose()?;
        Ok(ahead)
    }

    /// How the next change's key compares with `key`; none comes after all.
    fn cmp(&self, key: &[u8]) -> Ordering {
        match &self.next {
            Some((next, _)) => next[..].cmp(key),
            None => Ordering::Greater,
        }
    }

    /// There is a change below `bound`.
    fn below(&self, bound: Option<&[u8]>) -> bool {
        self.next.is_some() && bound.is_none_or(|bound| self.cmp(bound) == Ordering::Less)
    }

    fn take(&mut self) -> Result<Option<(Cow<'a, [u8]>, Edit<'a>)>> {
        let Some((key, edit)) = self.next.take() else {
            return Ok(None);
        };
        self.next = self.edits.next().transpose()?;
        if self.cmp(&key) != Ordering::Greater {
            return Err(Error::Limit(
                "changes out of the order of their keys".into(),
            ));
        }
        Ok(Some((key, edit)))
    }
}

/// A bucket that is being worked on.
struct Frame<'a> {
    /// Key and flags of its element; none for the root bucket.
    element: Option<(Cow<'a, [u8]>, u32)>,
    sequence: u64,
    /// Its root page in the base; 0 for one that had none.
    old_root: u64,
    edits: Ahead<'a>,
    path: Vec<Step<'a>>,
    builder: Builder<'a>,
    /// The page that was entered last, for messages.
    at: u64,
}

/// What a frame needs next.
enum Next<'a> {
    /// The bucket of this frame first.
    Open(Box<Frame<'a>>),
    /// Nothing: its bucket is complete.
    Done,
}

/// Writes the tree that `edits` make of the base; answers its root page.
pub(super) fn merge<'a>(tx: &mut Transaction<'a>, edits: Edits<'a>) -> Result<u64> {
    let edits = Ahead::new(edits)?;
    let base = tx.base();
    if edits.next.is_none() {
        return Ok(base.meta().root);
    }
    let mut root = Frame::new(tx, None, 0, edits);
    root.open(tx, base.root())?;
    let mut frames = vec![Box::new(root)];
    loop {
        let Some(frame) = frames.last_mut() else {
            return Err(Error::page(base.meta().root, Damage::NoChild));
        };
        match frame.advance(tx)? {
            Next::Open(frame) => frames.push(frame),
            Next::Done => {
                let Some(done) = frames.pop() else { continue };
                let Frame {
                    element,
                    sequence,
                    old_root,
                    builder,
                    at,
                    ..
                } = *done;
                let built = builder.finish(tx, element.is_some())?;
                if let Built::Paged(new) = built {
                    tx.replaced.insert(new, old_root);
                }
                match (element, built) {
                    (Some((key, flags)), built) => {
                        let value = Cow::Owned(built.into_value(sequence));
                        if let Some(parent) = frames.last_mut() {
                            parent.builder.item(tx, Item { flags, key, value }, at)?;
                        }
                    }
                    (None, Built::Paged(root)) => return Ok(root),
                    (None, Built::Inline(_)) => unreachable!("the root bucket is never inline"),
                }
            }
        }
    }
}

impl<'a> Frame<'a> {
    fn new(
        tx: &Transaction<'a>,
        element: Option<(Cow<'a, [u8]>, u32)>,
        sequence: u64,
        edits: Ahead<'a>,
    ) -> Frame<'a> {
        Frame {
            element,
            sequence,
            old_root: 0,
            edits,
            path: Vec::new(),
            builder: Builder::new(tx.page_size()),
            at: 0,
        }
    }

    /// Starts the walk through the old content.
    fn open(&mut self, tx: &mut Transaction<'a>, bucket: Bucket<'a>) -> Result<()> {
        let page = bucket.root_page()?;
        if bucket.at().is_inline() {
            page.verify_count()?;
            self.path.push(Step::Leaf {
                page,
                next: 0,
                previous: &[],
                bound: None,
            });
            return Ok(());
        }
        self.old_root = bucket.at().root;
        let level = tx.level_of(page)?;
        self.enter(tx, page, level, None, None)
    }

    /// Steps down to a page in which something changes: its content will be written anew. `low` is
    /// the least key it may have, if that is in doubt.
    fn enter(
        &mut self,
        tx: &mut Transaction<'a>,
        page: Page<'a>,
        level: usize,
        low: Option<&'a [u8]>,
        bound: Option<&'a [u8]>,
    ) -> Result<()> {
        if self.path.len() >= MAX_LEVELS {
            return Err(Error::page(page.pgid(), Damage::TooDeep));
        }
        if tx.freed().contains(page.pgid()) {
            return Err(Error::page(page.pgid(), Damage::Shared));
        }
        tx.release(&page)?;
        self.at = page.pgid();
        self.path.push(if page.is_leaf() {
            if page.count() > 0 && low > Some(page.key(0)?) {
                return Err(Error::page(page.pgid(), Damage::Unsorted { index: 0 }));
            }
            Step::Leaf {
                page,
                next: 0,
                previous: &[],
                bound,
            }
        } else {
            Step::Branch {
                children: tx.children(&page, low)?,
                next: 0,
                level,
                bound,
            }
        });
        Ok(())
    }

    /// Goes on until the bucket is complete, or one inside it has to be made first.
    fn advance(&mut self, tx: &mut Transaction<'a>) -> Result<Next<'a>> {
        loop {
            let existing = match self.path.last_mut() {
                None => match self.edits.next {
                    Some(_) => None,
                    None => return Ok(Next::Done),
                },
                Some(Step::Leaf {
                    page,
                    next,
                    previous,
                    bound,
                }) => {
                    if *next < page.count() {
                        let element = page.leaf(*next)?;
                        // Behind the keys of the next page: no place for it, nor for what comes before.
                        let displaced = bound.is_some_and(|bound| bound <= element.key);
                        if displaced || *next > 0 && element.key <= *previous {
                            let damage = Damage::Unsorted { index: *next };
                            return Err(Error::page(page.pgid(), damage));
                        }
                        let order = self.edits.cmp(element.key);
                        if order != Ordering::Less {
                            *previous = element.key;
                            *next += 1;
                        }
                        if order == Ordering::Greater {
                            let from = page.pgid();
                            self.builder.element(tx, element, from)?;
                            continue;
                        }
                        (order == Ordering::Equal).then_some(element)
                    } else if self.edits.below(*bound) {
                        None
                    } else {
                        self.path.pop();
                        continue;
                    }
                }
                Some(Step::Branch {
                    children,
                    next,
                    level,
                    bound,
                }) => {
                    let Some(&child) = children.get(*next) else {
                        self.path.pop();
                        continue;
                    };
                    *next += 1;
                    let bound = children.get(*next).map(|next| next.key).or(*bound);
                    let below = level.saturating_sub(1);
                    if self.edits.below(bound) {
                        let (page, low) = match child.page {
                            Some(page) => (page, None),
                            None => (tx.base().page(child.pgid)?, Some(child.claimed)),
                        };
                        // A page of a kind that does not belong here goes by its own depth.
                        let level = match page.is_leaf() == (below == 0) {
                            true => below,
                            false => tx.level_of(page)?,
                        };
                        self.enter(tx, page, level, low, bound)?;
                    } else {
                        self.builder.subtree(tx, below, child)?;
                    }
                    continue;
                }
            };
            if let Some((key, edit)) = self.edits.take()?
                && let Some(frame) = self.apply(tx, key, edit, existing)?
            {
                return Ok(Next::Open(frame));
            }
        }
    }

    /// Makes one change. Answers the frame of a bucket that has changes of its own.
    fn apply(
        &mut self,
        tx: &mut Transaction<'a>,
        key: Cow<'a, [u8]>,
        edit: Edit<'a>,
        existing: Option<Element<'a>>,
    ) -> Result<Option<Box<Frame<'a>>>> {
        let is_key = existing.is_some_and(|e| !e.is_bucket());
        match edit {
            Edit::Delete => {
                tx.stats.keys_deleted += u64::from(is_key);
                drop_bucket(tx, existing);
            }
            Edit::Put(value) => {
                drop_bucket(tx, existing);
                limit(&key, value.len())?;
                if existing.is_none() && key.len() > MAX_KEY {
                    let text = format!("a key of {} bytes; bbolt takes {MAX_KEY}", key.len());
                    return Err(Error::Limit(text));
                }
                let stats = &mut tx.stats;
                *(if is_key {
                    &mut stats.keys_changed
                } else {
                    &mut stats.keys_added
                }) += 1;
                let flags = 0;
                self.builder.item(tx, Item { flags, key, value }, self.at)?;
            }
            Edit::Bucket(edit) => {
                limit(&key, BUCKET_HEADER + HEADER)?;
                return self.bucket(tx, key, edit, existing);
            }
        }
        Ok(None)
    }

    fn bucket(
        &mut self,
        tx: &mut Transaction<'a>,
        key: Cow<'a, [u8]>,
        edit: BucketEdit<'a>,
        existing: Option<Element<'a>>,
    ) -> Result<Option<Box<Frame<'a>>>> {
        let base = tx.base();
        let is_key = existing.is_some_and(|e| !e.is_bucket());
        let old = match edit.source {
            Source::Existing => {
                let bucket = existing.filter(Element::is_bucket);
                Some(bucket.ok_or_else(|| misplaced(&key, "not there to be changed"))?)
            }
            Source::New => None,
            Source::Moved(element) => {
                if !element.is_bucket() || !tx.moved.contains(&element.offset) {
                    return Err(misplaced(&key, "taken from elsewhere unannounced"));
                }
                if !tx.placed.insert(element.offset) {
                    return Err(misplaced(&key, "moved to two places"));
                }
                Some(element)
            }
        };
        if !matches!(edit.source, Source::Existing) {
            tx.stats.keys_deleted += u64::from(is_key);
            drop_bucket(tx, existing);
            match old {
                Some(_) => tx.stats.buckets_moved += 1,
                None => tx.stats.buckets_added += 1,
            }
        }
        let at = old.map(|e| BucketRef::read(&e, base.pgid_at(e.offset)));
        let at = at.transpose()?;
        let sequence = edit.sequence.or(at.map(|at| at.sequence)).unwrap_or(0);
        let flags = old.map_or(BUCKET_FLAG, |e| e.flags);
        let edits = Ahead::new(edit.edits)?;
        if let (Some(e), None) = (old, &edits.next) {
            // Its content stays as it is.
            tx.keep_root(&e);
            let mut value = Cow::Borrowed(e.value);
            if at.is_some_and(|at| at.sequence != sequence) {
                value.to_mut()[8..BUCKET_HEADER].copy_from_slice(&sequence.to_le_bytes());
            }
            self.builder.item(tx, Item { flags, key, value }, self.at)?;
            return Ok(None);
        }
        let mut frame = Frame::new(tx, Some((key, flags)), sequence, edits);
        if let Some(at) = at {
            frame.open(tx, base.bucket(at))?;
        }
        Ok(Some(Box::new(frame)))
    }
}

/// The bucket that was at a key is gone, unless it lives on elsewhere.
fn drop_bucket<'a>(tx: &mut Transaction<'a>, existing: Option<Element<'a>>) {
    if let Some(e) = existing.filter(|e| e.is_bucket() && !tx.moved.contains(&e.offset)) {
        tx.free_bucket(&e);
    }
}

/// Refuses what bbolt could not read back.
fn limit(key: &[u8], value: usize) -> Result<()> {
    if key.is_empty() {
        return Err(Error::Limit("an empty key".into()));
    }
    match HEADER
        .checked_add(key.len())
        .and_then(|n| n.checked_add(value))
    {
        Some(size) if size <= MAX_ELEMENT => Ok(()),
        _ => Err(Error::Limit(format!(
            "a value of {value} bytes; with its key it must stay below 2 GiB"
        ))),
    }
}
