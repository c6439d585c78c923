//! The change set that a commit takes: what is staged, as edits of buckets in key order.

use super::base::BaseDir;
use super::content::{Content, says_lost};
use super::ino::Ino;
use super::last::Last;
use super::merged::Merged;
use super::staged::{Entry, Kind};
use crate::bolt::{BucketEdit, Changes, Edit, Edits, Element, Result, Source};
use crate::view::text::{self, Note, Stored};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

/// All that is staged, to be written over the base in one commit. Nothing is copied: the edits
/// are made one by one as the writer asks for them.
///
/// # Errors
/// Damage of the base where something is staged.
pub fn changes<'a>(tree: Merged<'a>, judge: Judge<'a>) -> Result<Changes<'a>> {
    let changed = Rc::new(changed_dirs(tree, judge)?);
    let edits = Walk {
        tree,
        judge,
        changed,
    }
    .edits(Ino::ROOT);
    Ok(Changes {
        edits,
        moved: moved(tree),
    })
}

/// By what it is told what a saved content means.
#[derive(Clone, Copy)]
pub struct Judge<'a> {
    /// What the values in the database are, where they are not those of the base.
    pub last: &'a Last,
    /// Content is stored as it was written.
    pub raw: bool,
    /// Files that are stored as new keys are, as the journal has lost the value before. Once a file is
    /// among them it stays so: what is stored must not hang on whether a disk reads the next time.
    pub anew: &'a Files,
    /// `anew` has all of them: what a commit has stored is found once more, and must be just that.
    pub again: bool,
    /// A file whose content is lost is left as it was, and noted here. Without, that is an error.
    pub left_out: Option<&'a Files>,
}

/// Files of which something holds, as far as was found out.
#[derive(Debug, Default)]
pub struct Files(Mutex<BTreeSet<Ino>>);

impl Files {
    /// They, in no order that means anything.
    pub fn all(&self) -> Vec<Ino> {
        self.0.lock().iter().copied().collect()
    }

    fn has(&self, ino: Ino) -> bool {
        self.0.lock().contains(&ino)
    }

    fn note(&self, ino: Ino) {
        self.0.lock().insert(ino);
    }
}

/// What stands at a key, in the form in which it is stored.
pub(super) enum Stands<'a> {
    /// No element.
    Nothing,
    /// A key with this value.
    Value(Stored<'a>),
    /// This bucket.
    Bucket(Ino),
}

/// What a saved content is judged by.
enum Previous<'a> {
    /// It is what was saved there before, of which this value was stored.
    Same(Cow<'a, [u8]>),
    /// The value before; `None` for a new key.
    Value(Option<Cow<'a, [u8]>>),
}

/// The base's element at one key of a directory, once it was looked for.
#[derive(Default)]
pub(super) struct Below<'a>(Option<Option<Element<'a>>>);

/// A directory whose staged entries are gone through.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    tree: Merged<'a>,
    dir: Ino,
    base: Option<BaseDir<'a>>,
    judge: Judge<'a>,
}

impl<'a> Place<'a> {
    /// The directory `dir` of `tree`.
    ///
    /// # Errors
    /// What is wrong with its bucket in the base.
    pub fn new(tree: Merged<'a>, dir: Ino, judge: Judge<'a>) -> Result<Place<'a>> {
        let base = tree.base.dir(dir)?;
        Ok(Place {
            tree,
            dir,
            base,
            judge,
        })
    }

    /// The base's element at `key`, where `entry` is staged, hidden or not; looked for once.
    fn below(
        &self,
        key: &[u8],
        entry: Option<Entry>,
        below: &mut Below<'a>,
    ) -> Result<Option<Element<'a>>> {
        if let Below(Some(known)) = *below {
            return Ok(known);
        }
        let found = match (&self.base, self.own(key, entry)?) {
            (Some(dir), None) => self.tree.base.find(dir, key)?,
            (_, own) => own,
        };
        *below = Below(Some(found));
        Ok(found)
    }

    /// The base's element that was edited where it is, as most are. That a look-up finds it there, and
    /// no other, was verified when it was entered: none is needed again.
    fn own(&self, key: &[u8], entry: Option<Entry>) -> Result<Option<Element<'a>>> {
        let (Some(Entry::Node { ino, .. }), Some(dir)) = (entry, &self.base) else {
            return Ok(None);
        };
        if !dir.has(ino) {
            return Ok(None);
        }
        Ok(self.tree.base.element(ino)?.filter(|e| e.key == key))
    }

    /// What stands at `key`, where `entry` is staged: the one place where saved content becomes a
    /// stored value. `below` goes with the key, in whatever tree.
    ///
    /// # Errors
    /// Damage of the base at this key.
    pub fn stands(
        &self,
        key: &[u8],
        entry: Option<Entry>,
        below: &mut Below<'a>,
    ) -> Result<Stands<'a>> {
        match entry {
            Some(Entry::Whiteout) => Ok(Stands::Nothing),
            None if self.tree.staged.is_removed(self.dir) => Ok(Stands::Nothing),
            None => self.in_base(self.below(key, entry, below)?),
            Some(Entry::Node { ino, .. }) => self.node(key, ino, self.below(key, entry, below)?),
        }
    }

    fn in_base(&self, below: Option<Element<'a>>) -> Result<Stands<'a>> {
        Ok(match (below, &self.base) {
            (Some(element), Some(dir)) if element.is_bucket() => Stands::Bucket(dir.ino(&element)?),
            (Some(element), _) => as_written(Cow::Borrowed(element.value)),
            (None, _) => Stands::Nothing,
        })
    }

    /// What the node `ino` is, which stands at `key`, where the base has `below`.
    fn node(&self, key: &[u8], ino: Ino, below: Option<Element<'a>>) -> Result<Stands<'a>> {
        let (tree, judge) = (&self.tree, &self.judge);
        let (node, own) = (tree.staged.node(ino), tree.base.element(ino)?);
        let is_bucket = own.as_ref().is_some_and(Element::is_bucket);
        if node.map_or(is_bucket, |node| node.kind == Kind::Directory) {
            return Ok(Stands::Bucket(ino));
        }
        let own = own.map(|e| e.value);
        let Some(content) = node.and_then(|node| node.content.as_ref()) else {
            return Ok(as_written(Cow::Borrowed(own.unwrap_or_default())));
        };
        match (self.saved(key, ino, content, below, own), judge.left_out) {
            (Err(e), Some(left_out)) if says_lost(&e) => {
                left_out.note(ino);
                self.before(key, ino, below, own)
            }
            (stands, _) => stands,
        }
    }

    /// What was saved as `content` of the node `ino`, which has `own` in the base.
    fn saved(
        &self,
        key: &[u8],
        ino: Ino,
        content: &'a Arc<Content>,
        below: Option<Element<'a>>,
        own: Option<&'a [u8]>,
    ) -> Result<Stands<'a>> {
        let (tree, judge) = (&self.tree, &self.judge);
        let unread = |e| tree.named(ino, e);
        if let Some(value) = judge.untouched(tree.base, ino, content).map_err(unread)? {
            return Ok(as_written(value));
        }
        let content = tree.written(ino, content)?;
        let previous = match judge.anew.has(ino) {
            true => Ok(Previous::Value(None)),
            false => self.previous(key, ino, &content, below, own),
        };
        let previous = match previous {
            Err(e) if says_lost(&e) && !judge.again => {
                judge.anew.note(ino);
                Previous::Value(None)
            }
            previous => previous?,
        };
        Ok(Stands::Value(match previous {
            Previous::Same(bytes) => Stored {
                bytes,
                note: Note::Unchanged,
            },
            Previous::Value(value) => text::stored_of(content, value, judge.raw),
        }))
    }

    /// What the `content` of the node `ino` is judged by. It follows the style of the value that the key
    /// has in the database; at a key that has none, that of the value it was made from.
    fn previous(
        &self,
        key: &[u8],
        ino: Ino,
        content: &[u8],
        below: Option<Element<'a>>,
        own: Option<&'a [u8]>,
    ) -> Result<Previous<'a>> {
        let (tree, judge) = (&self.tree, &self.judge);
        let there = judge.last_at(tree.base, self.dir, key)?.unwrap_or_else(|| {
            let below = below.filter(|e| !e.is_bucket());
            below.map(|e| Cow::Borrowed(e.value))
        });
        if let Some(value) = there {
            return Ok(match judge.had(tree.base, self.dir, key, content)? {
                true => Previous::Same(value),
                false => Previous::Value(Some(value)),
            });
        }
        let mut previous = self.reference(key)?;
        if previous.is_none() {
            previous = judge.last_of(tree.base, ino)?;
        }
        Ok(Previous::Value(previous.or(own.map(Cow::Borrowed))))
    }

    /// The last value of the node `ino` that can be had, where that which was saved is lost: at this
    /// key, or else wherever it comes from.
    fn before(
        &self,
        key: &[u8],
        ino: Ino,
        below: Option<Element<'a>>,
        own: Option<&'a [u8]>,
    ) -> Result<Stands<'a>> {
        let (base, judge) = (self.tree.base, &self.judge);
        let below = below.filter(|e| !e.is_bucket());
        let below = below.map(|e| Cow::Borrowed(e.value));
        let there = match judge.last_at(base, self.dir, key) {
            Err(e) if says_lost(&e) => below,
            there => there?.unwrap_or(below),
        };
        let last = || match judge.last_of(base, ino) {
            Err(e) if says_lost(&e) => Ok(None),
            last => last,
        };
        let value = match there {
            Some(there) => Some(there),
            None => last()?.or(own.map(Cow::Borrowed)),
        };
        Ok(value.map_or(Stands::Nothing, as_written))
    }

    /// The value that the database has at the same path, where this directory is a bucket made anew in
    /// the place of one that was removed: what is saved there follows the old value's style.
    fn reference(&self, key: &[u8]) -> Result<Option<Cow<'a, [u8]>>> {
        if !self.dir.is_staged() {
            return Ok(None);
        }
        match self.tree.path(self.dir) {
            Some(path) => self.judge.last_at_path(self.tree.base, &path, key),
            None => Ok(None),
        }
    }

    /// What the staged `entry` at `key` means for the bucket of the base.
    ///
    /// # Errors
    /// Damage of the base at this key.
    fn meaning(&self, key: &[u8], entry: Entry) -> Result<Meaning<'a>> {
        let Entry::Node { ino, .. } = entry else {
            // There is a whiteout only where the base has the key.
            return Ok(Meaning::Deleted);
        };
        let below = self.below(key, Some(entry), &mut Below::default())?;
        Ok(match self.node(key, ino, below)? {
            // It was left out. What it has replaced is not there any more all the same.
            Stands::Nothing if below.is_some() => Meaning::Deleted,
            Stands::Nothing => Meaning::Unchanged,
            Stands::Value(stored) => match below {
                Some(e) if !e.is_bucket() && e.value == &*stored.bytes => Meaning::Unchanged,
                _ => Meaning::Value(stored.bytes),
            },
            Stands::Bucket(ino) => match self.tree.base.element(ino)? {
                Some(_) if self.tree.is_at_origin(ino) => Meaning::SameBucket(ino),
                Some(element) => Meaning::MovedBucket(ino, element),
                None => Meaning::NewBucket(ino),
            },
        })
    }
}

fn as_written(value: Cow<'_, [u8]>) -> Stands<'_> {
    Stands::Value(Stored {
        bytes: value,
        note: Note::AsWritten,
    })
}

/// What a staged entry means for the bucket of the base it stands in.
enum Meaning<'a> {
    /// As in the base after all.
    Unchanged,
    /// The key or bucket is deleted.
    Deleted,
    /// The key has this value now.
    Value(Cow<'a, [u8]>),
    /// The bucket of the base at this key, possibly changed inside.
    SameBucket(Ino),
    /// Another bucket of the base was moved here.
    MovedBucket(Ino, Element<'a>),
    /// A bucket that this mount created.
    NewBucket(Ino),
}

/// The base buckets that live on at another place, by the offset of their element.
fn moved(tree: Merged<'_>) -> HashSet<u64> {
    let of_base = tree.staged.nodes().filter_map(|(ino, node)| {
        let (_, offset) = ino.element().filter(|_| node.kind == Kind::Directory)?;
        Some((ino, offset))
    });
    of_base
        .filter(|&(ino, _)| !tree.is_at_origin(ino) && tree.is_linked(ino))
        .map(|(_, offset)| offset)
        .collect()
}

/// The sequence number staged for a bucket, where it is another than the base's.
pub(super) fn new_sequence(tree: Merged<'_>, ino: Ino) -> Result<Option<u64>> {
    let staged = tree.staged.node(ino).and_then(|node| node.sequence);
    let base = tree.base.dir(ino)?.map(|dir| dir.bucket.sequence());
    Ok(staged.filter(|&sequence| sequence != base.unwrap_or(0)))
}

/// The directories in which something differs from the base, at any depth below.
fn changed_dirs(tree: Merged<'_>, judge: Judge<'_>) -> Result<HashSet<Ino>> {
    let mut changed = HashSet::new();
    let numbered = tree.staged.nodes().filter(|(_, n)| n.sequence.is_some());
    for dir in tree.staged.dirs().chain(numbered.map(|(ino, _)| ino)) {
        let mut at = dir;
        if differs(tree, dir, judge)? {
            // Up to the first that is marked already, with all above it.
            while changed.insert(at) {
                match tree.place(at) {
                    Some((parent, _)) => at = parent,
                    None => break,
                }
            }
        }
    }
    Ok(changed)
}

/// Something differs from the base in `dir` itself.
fn differs(tree: Merged<'_>, dir: Ino, judge: Judge<'_>) -> Result<bool> {
    if new_sequence(tree, dir)?.is_some() {
        return Ok(true);
    }
    let place = Place::new(tree, dir, judge)?;
    for (key, entry) in tree.staged.entries(dir, Bound::Unbounded) {
        match place.meaning(&key, entry)? {
            Meaning::Unchanged | Meaning::SameBucket(_) => {}
            Meaning::Deleted
            | Meaning::Value(_)
            | Meaning::MovedBucket(..)
            | Meaning::NewBucket(_) => return Ok(true),
        }
    }
    Ok(false)
}

/// The descent that makes the edits.
#[derive(Clone)]
struct Walk<'a> {
    tree: Merged<'a>,
    judge: Judge<'a>,
    changed: Rc<HashSet<Ino>>,
}

impl<'a> Walk<'a> {
    fn edits(self, dir: Ino) -> Edits<'a> {
        let place = match Place::new(self.tree, dir, self.judge) {
            Ok(place) => place,
            Err(e) => return Box::new(std::iter::once(Err(e))),
        };
        let entries = self.tree.staged.entries(dir, Bound::Unbounded);
        Box::new(entries.filter_map(move |(key, entry)| {
            let edit = self.edit(&place, &key, entry);
            edit.map(|edit| Some((key, edit?))).transpose()
        }))
    }

    fn edit(&self, place: &Place<'a>, key: &[u8], entry: Entry) -> Result<Option<Edit<'a>>> {
        let (ino, source) = match place.meaning(key, entry)? {
            Meaning::Unchanged => return Ok(None),
            Meaning::Deleted => return Ok(Some(Edit::Delete)),
            Meaning::Value(bytes) => return Ok(Some(Edit::Put(bytes))),
            Meaning::SameBucket(ino) if !self.changed.contains(&ino) => return Ok(None),
            Meaning::SameBucket(ino) => (ino, Source::Existing),
            Meaning::MovedBucket(ino, element) => (ino, Source::Moved(element)),
            Meaning::NewBucket(ino) => (ino, Source::New),
        };
        let sequence = new_sequence(self.tree, ino)?;
        let edits = self.clone().edits(ino);
        Ok(Some(Edit::Bucket(BucketEdit {
            source,
            sequence,
            edits,
        })))
    }
}
