//! The tree as it stands: the base with what is staged over it.

use super::base::{Base, BaseDir};
use super::ino::Ino;
use super::staged::{Entry, Key, Kind, Staged};
use crate::bolt::{Cursor, Element, Error, Result};
use std::borrow::Cow;
use std::ops::Bound;

/// The base with what is staged over it.
#[derive(Clone, Copy)]
pub struct Merged<'a> {
    /// The lower layer.
    pub base: &'a Base,
    /// The upper layer.
    pub staged: &'a Staged,
}

/// A node found at a key.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// The node.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Its element in the base, if it has one.
    pub element: Option<Element<'a>>,
}

/// Where a listing stands: behind this entry.
///
/// Neither kind changes its meaning when entries come and go: a base element stays where it is,
/// whether hidden or not, and a staged entry's number is never given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Before the first entry.
    Start,
    /// Behind the base element at this offset of the file.
    Base(u64),
    /// Behind the staged entry with this number.
    Staged(u64),
}

impl<'a> Merged<'a> {
    /// What `ino` is.
    ///
    /// # Errors
    /// For a number that was never given out.
    pub fn kind(&self, ino: Ino) -> Result<Option<Kind>> {
        if let Some(node) = self.staged.node(ino) {
            return Ok(Some(node.kind));
        }
        if ino == Ino::ROOT || ino == Ino::BASE_ROOT {
            return Ok(Some(Kind::Directory));
        }
        Ok(self.base.element(ino)?.map(|e| kind_of(&e)))
    }

    /// The node at `key` of the directory `dir`.
    ///
    /// # Errors
    /// Where damage leaves open whether there is one.
    pub fn find(&self, dir: Ino, key: &[u8]) -> Result<Option<Found<'a>>> {
        match self.staged.entry(dir, key) {
            Some(Entry::Whiteout) => return Ok(None),
            Some(Entry::Node { ino, .. }) => return self.node(ino),
            None => {}
        }
        let Some(base_dir) = self.base.dir(dir)? else {
            return Ok(None);
        };
        match self.base.find(&base_dir, key)? {
            Some(element) => self.in_base(&base_dir, element).map(Some),
            None => Ok(None),
        }
    }

    /// The node `ino`, wherever it is.
    ///
    /// # Errors
    /// For a number that was never given out.
    pub fn node(&self, ino: Ino) -> Result<Option<Found<'a>>> {
        let element = self.base.element(ino)?;
        let staged = self.staged.node(ino).map(|node| node.kind);
        let kind = staged.or(element.as_ref().map(kind_of));
        Ok(kind.map(|kind| Found { ino, kind, element }))
    }

    fn in_base(&self, dir: &BaseDir<'a>, element: Element<'a>) -> Result<Found<'a>> {
        Ok(Found {
            ino: dir.ino(&element)?,
            kind: kind_of(&element),
            element: Some(element),
        })
    }

    /// The base's element at `key` of `dir`, hidden or not.
    ///
    /// # Errors
    /// Where damage leaves open whether there is one.
    pub fn below(&self, dir: Ino, key: &[u8]) -> Result<Option<Element<'a>>> {
        match self.base.dir(dir)? {
            Some(base_dir) => self.base.find(&base_dir, key),
            None => Ok(None),
        }
    }

    /// Where `ino` is now: its directory and its key. `None` for a root.
    pub fn place(&self, ino: Ino) -> Option<(Ino, Cow<'a, [u8]>)> {
        if let Some((dir, key)) = self.staged.node(ino).and_then(|node| node.place.as_ref()) {
            return Some((*dir, Cow::Borrowed(&key[..])));
        }
        self.base
            .origin(ino)
            .map(|(dir, key)| (dir, Cow::Borrowed(key)))
    }

    /// `ino` can be reached from the root: it was not unlinked, nor a directory above it.
    pub fn is_linked(&self, mut ino: Ino) -> bool {
        while ino != Ino::ROOT {
            let Some((dir, key)) = self.place(ino) else {
                return ino == Ino::BASE_ROOT;
            };
            match self.staged.entry(dir, &key) {
                Some(Entry::Node { ino: there, .. }) if there == ino => {}
                // Not staged: as the base has it, if this is where the base has it.
                None if self.is_at_origin(ino) => {}
                _ => return false,
            }
            ino = dir;
        }
        true
    }

    /// `ino` was never moved, or is back where the base has it.
    pub fn is_at_origin(&self, ino: Ino) -> bool {
        match self.staged.node(ino).and_then(|node| node.place.as_ref()) {
            None => ino.element().is_some(),
            Some((dir, key)) => self.base.origin(ino) == Some((*dir, &key[..])),
        }
    }

    /// The keys from the root to `ino`; `None` if it was unlinked.
    pub fn path(&self, ino: Ino) -> Option<Vec<Cow<'a, [u8]>>> {
        if !self.is_linked(ino) {
            return None;
        }
        let mut path = Vec::new();
        let mut at = ino;
        while let Some((dir, key)) = self.place(at) {
            path.push(key);
            at = dir;
        }
        path.reverse();
        Some(path)
    }

    /// `ino` is `dir` or lies below it.
    pub fn is_inside(&self, mut ino: Ino, dir: Ino) -> bool {
        loop {
            if ino == dir {
                return true;
            }
            match self.place(ino) {
                Some((parent, _)) => ino = parent,
                None => return false,
            }
        }
    }

    /// The entries of `dir` behind `position`, by key.
    ///
    /// # Errors
    /// What is wrong with the directory's bucket. Damage further in is answered by the listing.
    pub fn list(&self, dir: Ino, position: Position) -> Result<Listing<'a>> {
        let base_dir = self.base.dir(dir)?;
        let (base, behind): (Option<Cursor<'a>>, Option<Cow<'a, [u8]>>) = match position {
            Position::Start => (base_dir.map(|d| d.bucket.iter()), None),
            Position::Base(offset) => {
                let element = self.base.snapshot().element_at(offset)?;
                let cursor = base_dir.map(|d| d.bucket.iter_after(&element));
                (cursor, Some(Cow::Borrowed(element.key)))
            }
            Position::Staged(number) => {
                // A position this old is no listing's any more; starting anew repeats entries but
                // loses none.
                let key = self.staged.position(dir, number).cloned();
                let cursor = base_dir.map(|d| match &key {
                    Some(key) => d.bucket.iter_from(key),
                    None => d.bucket.iter(),
                });
                (cursor, key.map(|k| Cow::Owned(k.to_vec())))
            }
        };
        let from = behind.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut listing = Listing {
            merged: *self,
            dir,
            base_dir,
            base,
            waiting: None,
            staged: Box::new(self.staged.entries(dir, from)),
            next_staged: None,
            skip: match position {
                Position::Staged(_) => behind.as_deref().map(<[u8]>::to_vec),
                _ => None,
            },
        };
        listing.next_staged = listing.staged.next();
        Ok(listing)
    }
}

fn kind_of(element: &Element<'_>) -> Kind {
    if element.is_bucket() {
        Kind::Directory
    } else {
        Kind::File
    }
}

/// One entry of a listing.
pub struct ListEntry<'a> {
    /// The entry's key.
    pub key: Cow<'a, [u8]>,
    /// The node.
    pub found: Found<'a>,
    /// Where the listing stands behind this entry.
    pub position: Position,
}

/// The entries of a directory, by key.
pub struct Listing<'a> {
    merged: Merged<'a>,
    dir: Ino,
    base_dir: Option<BaseDir<'a>>,
    base: Option<Cursor<'a>>,
    /// A base element that was read and comes after the next staged entry.
    waiting: Option<Element<'a>>,
    staged: Box<dyn Iterator<Item = (&'a Key, Entry)> + 'a>,
    next_staged: Option<(&'a Key, Entry)>,
    /// A base element with this key lies before where the listing goes on.
    skip: Option<Vec<u8>>,
}

impl<'a> Listing<'a> {
    fn next_base(&mut self) -> Option<Result<Element<'a>>> {
        if let Some(element) = self.waiting.take() {
            return Some(Ok(element));
        }
        let skip = self.skip.take();
        match self.base.as_mut()?.next()? {
            Ok(element) if skip.is_some_and(|key| key == element.key) => self.base.as_mut()?.next(),
            other => Some(other),
        }
    }

    /// The staged entry that the listing stands before.
    fn take_staged(&mut self) -> Option<Result<ListEntry<'a>>> {
        let (key, entry) = std::mem::replace(&mut self.next_staged, self.staged.next())?;
        let Entry::Node { ino, position } = entry else {
            return None;
        };
        let found = match self.merged.node(ino) {
            Ok(found) => found?,
            Err(e) => return Some(Err(e)),
        };
        let key = Cow::Borrowed(&key[..]);
        Some(Ok(ListEntry {
            key,
            found,
            position: Position::Staged(position),
        }))
    }

    fn of_base(&self, element: Element<'a>) -> Result<Option<ListEntry<'a>>> {
        let Some(dir) = &self.base_dir else {
            return Ok(None);
        };
        // Not by merging: on a damaged page the elements may be out of order.
        let found = match self.merged.staged.entry(self.dir, element.key) {
            Some(Entry::Whiteout) => None,
            Some(Entry::Node { ino, .. }) => self.merged.node(ino)?,
            None => Some(self.merged.in_base(dir, element)?),
        };
        let key = Cow::Borrowed(element.key);
        let position = Position::Base(element.offset);
        Ok(found.map(|found| ListEntry {
            key,
            found,
            position,
        }))
    }
}

impl<'a> Iterator for Listing<'a> {
    type Item = Result<ListEntry<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let base = match self.next_base() {
                Some(Err(e)) => return Some(Err(e)),
                Some(Ok(element)) => Some(element),
                None => None,
            };
            let Some((key, _)) = self.next_staged else {
                match self.of_base(base?) {
                    Ok(Some(entry)) => return Some(Ok(entry)),
                    Ok(None) => continue,
                    Err(e) => return Some(Err(e)),
                }
            };
            let order = base.as_ref().map(|element| element.key.cmp(&key[..]));
            match (base, order) {
                // The base element comes first.
                (Some(element), Some(std::cmp::Ordering::Less)) => match self.of_base(element) {
                    Ok(Some(entry)) => return Some(Ok(entry)),
                    Ok(None) => continue,
                    Err(e) => return Some(Err(e)),
                },
                // Both have the key: the staged entry counts, at the base's position.
                (Some(element), Some(std::cmp::Ordering::Equal)) => {
                    let staged = self.take_staged();
                    if let Some(Ok(entry)) = staged {
                        let position = Position::Base(element.offset);
                        return Some(Ok(ListEntry { position, ..entry }));
                    } else if staged.is_some() {
                        return staged;
                    }
                }
                (base, _) => {
                    self.waiting = base;
                    if let Some(entry) = self.take_staged() {
                        return Some(entry);
                    }
                }
            }
        }
    }
}
