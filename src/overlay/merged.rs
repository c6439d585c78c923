//! The tree as it stands: the base with what is staged over it.

use super::base::{Base, BaseDir};
use super::content::Content;
use super::ino::Ino;
use super::order::Elements;
use super::staged::{Entry, Key, Kind, Staged};
use crate::bolt::{Element, Error, Result};
use crate::journal::is_lost;
use crate::view::name;
use std::borrow::Cow;
use std::io;
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
            None if self.staged.is_removed(dir) => return Ok(None),
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
    ///
    /// Whatever is asked for of a node asks this, so it must not take longer the deeper the node lies.
    pub fn is_linked(&self, mut ino: Ino) -> bool {
        while ino != Ino::ROOT {
            let Some((dir, key)) = self.place(ino) else {
                return ino == Ino::BASE_ROOT;
            };
            match self.staged.entry(dir, &key) {
                // A directory in which something is staged is not removed before that is gone.
                Some(Entry::Node { ino: there, .. }) => return there == ino,
                // As the base has it, if this is where the base has it, and nothing above is removed:
                // a damaged bucket can be with what is in it.
                None if self.is_at_origin(ino) => {
                    if !self.staged.has_removed() {
                        return true;
                    }
                }
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

    /// The bytes of `content`, which was written to the file `ino`.
    ///
    /// # Errors
    /// They [cannot be read back](Content::bytes).
    pub fn written(&self, ino: Ino, content: &'a Content) -> Result<Cow<'a, [u8]>> {
        content.bytes().map_err(|e| self.unread(ino, e))
    }

    /// That the content of the file `ino` cannot be read back, as `e` says.
    pub fn unread(&self, ino: Ino, e: io::Error) -> Error {
        let path = self.path(ino).unwrap_or_default();
        let shown = name::path(path.iter().map(|key| &**key));
        let doing = format!("read what was written to {shown} back from the journal");
        Error::io(doing, e)
    }

    /// As `e`, which may say that the content of the file `ino` is lost, by the name that it has here.
    pub(super) fn named(&self, ino: Ino, e: Error) -> Error {
        match e {
            Error::Io { source, .. } if is_lost(&source) => self.unread(ino, source),
            e => e,
        }
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

    /// The entries of `dir` behind `position`: first those that the base does not have, the latest
    /// first, then those of the base, as they are now, in its order.
    ///
    /// So an entry that comes while somebody reads the directory, by a rename for instance, is never
    /// met again further on, and a listing ends whatever is done meanwhile. And the order of the
    /// base's keys, which damage can have spoilt, does not matter.
    ///
    /// # Errors
    /// What is wrong with the directory's bucket, and for a position in the base that can no longer be read.
    /// Damage further in is answered by the listing.
    pub fn list(&self, dir: Ino, position: Position) -> Result<Listing<'a>> {
        let base_dir = match self.staged.is_removed(dir) {
            true => None,
            false => self.base.dir(dir)?,
        };
        let before = match position {
            Position::Start => Bound::Unbounded,
            Position::Staged(number) => Bound::Excluded(number),
            Position::Base(_) => Bound::Excluded(0),
        };
        let elements = |base_dir: &BaseDir<'a>| match position {
            Position::Base(offset) => self.base.elements_after(base_dir, offset),
            // Where the mark is lost with its page, what is behind it is not.
            Position::Start | Position::Staged(_) => Ok(self
                .staged
                .emptied(dir)
                .and_then(|offset| self.base.elements_after(base_dir, offset).ok())
                .unwrap_or_else(|| self.base.elements(base_dir))),
        };
        let base = match base_dir {
            Some(base_dir) => Some((base_dir, elements(&base_dir)?)),
            None => None,
        };
        Ok(Listing {
            merged: *self,
            dir,
            staged: Box::new(self.staged.latest(dir, before)),
            base,
            passed: (!matches!(position, Position::Base(_))).then_some(0),
            disordered: false,
        })
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
    pub key: &'a [u8],
    /// The node.
    pub found: Found<'a>,
    /// Where the listing stands behind this entry.
    pub position: Position,
}

/// The entries of a directory.
pub struct Listing<'a> {
    merged: Merged<'a>,
    dir: Ino,
    staged: Box<dyn Iterator<Item = (u64, &'a Key, Ino)> + 'a>,
    base: Option<(BaseDir<'a>, Elements<'a>)>,
    /// While nothing but whiteouts was met since the start: the offset of the last element that one
    /// hides, or 0.
    passed: Option<u64>,
    /// That the base has keys out of order has been noted.
    disordered: bool,
}

impl<'a> Listing<'a> {
    /// The first entry of the base behind whiteouts is reached, or its end.
    fn note_emptied(&mut self) {
        if let Some(offset) = self.passed.take().filter(|&offset| offset != 0) {
            self.merged.staged.set_emptied(self.dir, offset);
        }
    }

    /// What stands at the key of an element of the base.
    fn of_base(&self, dir: &BaseDir<'a>, element: Element<'a>) -> Result<Option<ListEntry<'a>>> {
        let found = match self.merged.staged.entry(self.dir, element.key) {
            Some(Entry::Whiteout) => None,
            Some(Entry::Node { ino, .. }) => self.merged.node(ino)?,
            // What a look-up finds, if that is another one.
            None if self.disordered => {
                let found = self.merged.base.find(dir, element.key);
                let found = found.ok().flatten().unwrap_or(element);
                Some(self.merged.in_base(dir, found)?)
            }
            None => Some(self.merged.in_base(dir, element)?),
        };
        Ok(found.map(|found| ListEntry {
            key: element.key,
            found,
            position: Position::Base(element.offset),
        }))
    }
}

impl<'a> Iterator for Listing<'a> {
    type Item = Result<ListEntry<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        for (number, key, ino) in self.staged.by_ref() {
            if let Some(found) = self.merged.node(ino).transpose() {
                return Some(found.map(|found| ListEntry {
                    key,
                    found,
                    position: Position::Staged(number),
                }));
            }
        }
        loop {
            let (dir, elements) = self.base.as_mut()?;
            let (dir, element) = (*dir, elements.next());
            // Before anybody can go on behind this element.
            if elements.is_disordered() && !self.disordered {
                self.disordered = true;
                self.merged.base.set_disordered(&dir);
            }
            let Some(element) = element else {
                self.note_emptied();
                return None;
            };
            let offset = element.as_ref().map_or(0, |element| element.offset);
            let entry = element.and_then(|element| self.of_base(&dir, element));
            if let Some(entry) = entry.transpose() {
                self.note_emptied();
                return Some(entry);
            }
            self.passed = self.passed.map(|_| offset);
        }
    }
}
