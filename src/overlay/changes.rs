//! The change set that a commit takes: what is staged, as edits of buckets in key order.

use super::ino::Ino;
use super::merged::Merged;
use super::staged::{Entry, Key, Kind};
use crate::bolt::{BucketEdit, Changes, Edit, Edits, Element, Result, Source};
use crate::view::text::{self, Note, Stored};
use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Bound;
use std::rc::Rc;

/// All that is staged, to be written over the base in one commit. Nothing is copied: the edits
/// are made one by one as the writer asks for them.
///
/// # Errors
/// Damage of the base where something is staged.
pub fn changes<'a>(tree: Merged<'a>, raw: bool) -> Result<Changes<'a>> {
    let changed = Rc::new(changed_dirs(tree, raw)?);
    let edits = Walk { tree, raw, changed }.edits(Ino::ROOT);
    Ok(Changes {
        edits,
        moved: moved(tree),
    })
}

/// The directories in which something differs from the base, at any depth below.
fn changed_dirs(tree: Merged<'_>, raw: bool) -> Result<HashSet<Ino>> {
    let mut changed = HashSet::new();
    let mut dirs = vec![Ino::ROOT];
    while let Some(dir) = dirs.pop() {
        let mut differs = false;
        for (key, entry) in tree.staged.entries(dir, Bound::Unbounded) {
            let meaning = meaning(tree, dir, key, entry, raw)?;
            differs |= !matches!(meaning, Meaning::Unchanged | Meaning::SameBucket);
            if let Entry::Node { ino, .. } = entry
                && tree.kind(ino)? == Some(Kind::Directory)
            {
                differs |= tree
                    .staged
                    .node(ino)
                    .is_some_and(|node| node.sequence.is_some());
                dirs.push(ino);
            }
        }
        let mut at = dir;
        while differs && changed.insert(at) {
            match tree.place(at) {
                Some((parent, _)) => at = parent,
                None => break,
            }
        }
    }
    Ok(changed)
}

/// The base buckets that live on at another place, by the offset of their element.
fn moved(tree: Merged<'_>) -> HashSet<u64> {
    let buckets = tree.staged.nodes().filter(|(ino, node)| {
        node.kind == Kind::Directory && !at_origin(tree, *ino) && tree.is_linked(*ino)
    });
    buckets
        .filter_map(|(ino, _)| ino.element())
        .map(|(_, offset)| offset)
        .collect()
}

/// `ino` is where the base has it.
fn at_origin(tree: Merged<'_>, ino: Ino) -> bool {
    match tree.staged.node(ino).and_then(|node| node.place.as_ref()) {
        None => true,
        Some((dir, key)) => tree.base.origin(ino) == Some((*dir, &key[..])),
    }
}

/// What a staged entry means for the bucket it stands in.
pub(super) enum Meaning<'a> {
    /// The key or bucket is deleted.
    Deleted,
    /// The key has this value now, which differs from the base's.
    Value(Stored<'a>),
    /// The bucket of the base at this key, possibly changed inside.
    SameBucket,
    /// Another bucket of the base was moved here.
    MovedBucket(Element<'a>),
    /// A bucket that this mount created.
    NewBucket,
    /// As in the base after all.
    Unchanged,
}

/// Decides what `entry` at `key` of `dir` means: the one place where saved content becomes a
/// stored value.
pub(super) fn meaning<'a>(
    tree: Merged<'a>,
    dir: Ino,
    key: &'a [u8],
    entry: Entry,
    raw: bool,
) -> Result<Meaning<'a>> {
    let below = tree.below(dir, key)?;
    let Entry::Node { ino, .. } = entry else {
        return Ok(if below.is_some() {
            Meaning::Deleted
        } else {
            Meaning::Unchanged
        });
    };
    let own = tree.base.element(ino)?;
    let here = own.as_ref().map(|e| e.offset).is_some() && at_origin(tree, ino);
    let node = tree.staged.node(ino);
    let kind = tree.kind(ino)?.unwrap_or(Kind::File);
    if kind == Kind::Directory {
        return Ok(match own {
            Some(_) if here => Meaning::SameBucket,
            Some(element) => Meaning::MovedBucket(element),
            None => Meaning::NewBucket,
        });
    }
    let below_value = below.filter(|e| !e.is_bucket()).map(|e| e.value);
    let stored = match node.and_then(|node| node.content.as_ref()) {
        Some(content) => {
            let previous = below_value
                .or_else(|| reference(tree, dir, key))
                .or(own.map(|e| e.value));
            text::stored(content, previous, raw)
        }
        None => match own {
            Some(_) if here => return Ok(Meaning::Unchanged),
            Some(element) => Stored {
                bytes: Cow::Borrowed(element.value),
                note: Note::AsWritten,
            },
            None => Stored {
                bytes: Cow::Borrowed(&[]),
                note: Note::AsWritten,
            },
        },
    };
    Ok(match below_value {
        Some(value) if value == &*stored.bytes => Meaning::Unchanged,
        _ => Meaning::Value(stored),
    })
}

/// The value that the base has at the same path, where `dir` is a bucket made anew in the place of
/// one that was removed: what is saved there follows the old value's style.
fn reference<'a>(tree: Merged<'a>, dir: Ino, key: &[u8]) -> Option<&'a [u8]> {
    if !dir.is_staged() {
        return None;
    }
    let path = tree.path(dir)?;
    let mut bucket = tree.base.snapshot().root();
    for name in &path {
        let element = bucket.get(name).ok()??;
        bucket = element
            .is_bucket()
            .then(|| bucket.sub_bucket(&element).ok())??;
    }
    let element = bucket.get(key).ok()??;
    (!element.is_bucket()).then_some(element.value)
}

/// The descent that makes the edits.
#[derive(Clone)]
struct Walk<'a> {
    tree: Merged<'a>,
    raw: bool,
    changed: Rc<HashSet<Ino>>,
}

impl<'a> Walk<'a> {
    fn edits(self, dir: Ino) -> Edits<'a> {
        let entries = self.tree.staged.entries(dir, Bound::Unbounded);
        Box::new(entries.filter_map(move |(key, entry)| {
            let edit = self.edit(dir, key, entry);
            edit.map(|edit| Some((Cow::Borrowed(&key[..]), edit?)))
                .transpose()
        }))
    }

    fn edit(&self, dir: Ino, key: &'a Key, entry: Entry) -> Result<Option<Edit<'a>>> {
        let source = match meaning(self.tree, dir, key, entry, self.raw)? {
            Meaning::Unchanged => return Ok(None),
            Meaning::Deleted => return Ok(Some(Edit::Delete)),
            Meaning::Value(stored) => return Ok(Some(Edit::Put(stored.bytes))),
            Meaning::SameBucket => Source::Existing,
            Meaning::MovedBucket(element) => Source::Moved(element),
            Meaning::NewBucket => Source::New,
        };
        let Entry::Node { ino, .. } = entry else {
            return Ok(None);
        };
        let sequence = self.tree.staged.node(ino).and_then(|node| node.sequence);
        let same = matches!(source, Source::Existing) && sequence.is_none();
        if same && !self.changed.contains(&ino) {
            return Ok(None);
        }
        let edits = self.clone().edits(ino);
        Ok(Some(Edit::Bucket(BucketEdit {
            source,
            sequence,
            edits,
        })))
    }
}
