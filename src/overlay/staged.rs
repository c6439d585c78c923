//! What this mount has changed, in memory.
//!
//! Per changed directory a map from key to node and a set of whiteouts; per changed node its content and
//! attributes. A directory with an entry here has an entry in its own directory too, up to the
//! root, so that everything staged is found by walking down from there.

use super::content::Content;
use super::ino::Ino;
use super::whiteouts::Whiteouts;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

/// A key, shared between the places that need it.
pub type Key = Arc<[u8]>;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bucket.
    Directory,
    /// A key with its value.
    File,
}

/// Attributes that a database has no place for; kept until the mount ends.
#[derive(Debug, Clone, Copy)]
pub struct Attrs {
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last access.
    pub atime: SystemTime,
    /// Last change of content.
    pub mtime: SystemTime,
    /// Last change of attributes.
    pub ctime: SystemTime,
}

/// What is staged for one node.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// A file's content as it is shown; `None` is the base's.
    pub content: Option<Arc<Content>>,
    /// Its attributes; `None` are those that every node starts with.
    pub attrs: Option<Box<Attrs>>,
    /// Its directory and key, where they are not those of the base.
    pub place: Option<(Ino, Key)>,
    /// A bucket's new sequence number.
    pub sequence: Option<u64>,
}

impl Node {
    /// A node of which nothing is staged yet.
    pub fn new(kind: Kind) -> Node {
        Node {
            kind,
            content: None,
            attrs: None,
            place: None,
            sequence: None,
        }
    }
}

/// What stands at a key of a changed directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Deleted; the base has an element with this key.
    Whiteout,
    /// This node, with the entry's position in listings.
    Node {
        /// The node.
        ino: Ino,
        /// A number that grows from entry to entry and that no other ever had; `None` where the
        /// base has this key too, so that listings have the entry in its place.
        position: Option<u64>,
    },
}

/// The changes of one directory.
#[derive(Debug, Clone, Default)]
struct DirChange {
    /// The node at a key, with the entry's position in listings. No key is a whiteout too.
    nodes: BTreeMap<Key, (Ino, Option<u64>)>,
    whiteouts: Whiteouts,
    /// The key of each position, for the entries that the base does not have.
    positions: BTreeMap<u64, Key>,
    emptied: Emptied,
}

/// How far a directory was emptied from its start on: the offset of an element of the base up to
/// which, in the order of a listing, whiteouts hide them all. 0: not known.
///
/// Found by a listing, so that the next one need not pass over them again.
#[derive(Debug, Default)]
struct Emptied(AtomicU64);

impl Clone for Emptied {
    fn clone(&self) -> Emptied {
        Emptied(AtomicU64::new(self.0.load(Relaxed)))
    }
}

/// Everything staged.
#[derive(Debug, Clone, Default)]
pub struct Staged {
    dirs: HashMap<Ino, DirChange>,
    nodes: HashMap<Ino, Node>,
    /// Directories that were removed, while somebody still has them open.
    removed: HashSet<Ino>,
    serial: u64,
    version: u64,
}

impl Staged {
    /// A number that grows with every edit.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Nothing is staged, not even an attribute.
    pub fn is_empty(&self) -> bool {
        self.dirs.is_empty() && self.nodes.is_empty()
    }

    /// Goes back to `earlier`, a copy of this from before. Numbers given out since are not given out
    /// again.
    pub fn revert(&mut self, earlier: &Staged) {
        let (serial, version) = (self.serial, self.version + 1);
        *self = Staged {
            serial,
            version,
            ..earlier.clone()
        };
    }

    /// The directories in which something is staged, in no order.
    pub fn dirs(&self) -> impl Iterator<Item = Ino> {
        self.dirs.keys().copied()
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Takes a new node in and numbers it. It has no place yet.
    pub fn add(&mut self, node: Node) -> Ino {
        let ino = Ino::of_staged(self.next_serial());
        if node.kind == Kind::Directory {
            self.dirs.insert(ino, DirChange::default());
        }
        self.nodes.insert(ino, node);
        ino
    }

    /// What is staged for `ino`.
    pub fn node(&self, ino: Ino) -> Option<&Node> {
        self.nodes.get(&ino)
    }

    /// What is staged for `ino`, for changing it; made where there is nothing yet.
    pub fn node_mut(&mut self, ino: Ino, kind: Kind) -> &mut Node {
        self.version += 1;
        self.nodes.entry(ino).or_insert_with(|| Node::new(kind))
    }

    /// All nodes of which something is staged, in no order.
    pub fn nodes(&self) -> impl Iterator<Item = (Ino, &Node)> {
        self.nodes.iter().map(|(&ino, node)| (ino, node))
    }

    /// Drops what is staged for a node that has no place in the tree any more.
    pub fn forget(&mut self, ino: Ino) {
        self.nodes.remove(&ino);
        self.dirs.remove(&ino);
        self.removed.remove(&ino);
    }

    /// Drops the changes of a directory that is removed. It is empty from now on.
    pub fn remove_dir(&mut self, dir: Ino) {
        self.dirs.remove(&dir);
        self.removed.insert(dir);
    }

    /// `dir` was removed: it is empty, whatever the base has, and nothing can be made in it.
    pub fn is_removed(&self, dir: Ino) -> bool {
        !self.removed.is_empty() && self.removed.contains(&dir)
    }

    /// A directory was removed that somebody still has open.
    pub fn has_removed(&self) -> bool {
        !self.removed.is_empty()
    }

    /// What is staged at `key` of `dir`.
    pub fn entry(&self, dir: Ino, key: &[u8]) -> Option<Entry> {
        let dir = self.dirs.get(&dir)?;
        match dir.nodes.get(key) {
            Some(&(ino, position)) => Some(Entry::Node { ino, position }),
            None => dir.whiteouts.contains(key).then_some(Entry::Whiteout),
        }
    }

    /// The staged entries of `dir` from `from` on, by key.
    pub fn entries<'a>(
        &'a self,
        dir: Ino,
        from: Bound<&[u8]>,
    ) -> impl Iterator<Item = (Cow<'a, [u8]>, Entry)> + use<'a> {
        let dir = self.dirs.get(&dir);
        let nodes = dir.map(|d| d.nodes.range::<[u8], _>((from, Bound::Unbounded)));
        let mut nodes = nodes.unwrap_or_default().peekable();
        // Apart, for a walk has one of these for each of its levels, and few directories have any.
        let whiteouts = dir.filter(|d| !d.whiteouts.is_empty());
        let mut whiteouts = whiteouts.map(|d| Box::new(d.whiteouts.range(from).peekable()));
        std::iter::from_fn(move || {
            let node = nodes.peek().map(|(key, _)| &key[..]);
            let first = whiteouts
                .as_mut()
                .and_then(|keys| keys.next_if(|key| node.is_none_or(|node| key[..] < *node)));
            if let Some(key) = first {
                return Some((Cow::Owned(key), Entry::Whiteout));
            }
            let (key, &(ino, position)) = nodes.next()?;
            Some((Cow::Borrowed(&key[..]), Entry::Node { ino, position }))
        })
    }

    /// The entries of `dir` that the base does not have, those with positions below `before`, the
    /// latest first.
    pub fn latest<'a>(
        &'a self,
        dir: Ino,
        before: Bound<u64>,
    ) -> impl Iterator<Item = (u64, &'a Key, Ino)> + use<'a> {
        let dir = self.dirs.get(&dir).into_iter();
        dir.flat_map(move |dir| {
            let positions = dir.positions.range((Bound::Unbounded, before)).rev();
            positions.filter_map(|(&position, key)| {
                dir.nodes.get(key).map(|&(ino, _)| (position, key, ino))
            })
        })
    }

    /// The offset of an element of the base, if one is known, up to which whiteouts hide all of
    /// `dir`.
    pub fn emptied(&self, dir: Ino) -> Option<u64> {
        let offset = self.dirs.get(&dir)?.emptied.0.load(Relaxed);
        (offset != 0).then_some(offset)
    }

    /// Notes that whiteouts hide all elements of the base up to the one at `offset`.
    pub fn set_emptied(&self, dir: Ino, offset: u64) {
        if let Some(change) = self.dirs.get(&dir) {
            change.emptied.0.store(offset, Relaxed);
        }
    }

    /// Puts `ino` at `key` of `dir`, in place of what was there. `in_base`: the base has this key
    /// too, so that listings take its position from there.
    pub fn set(&mut self, dir: Ino, key: Key, ino: Ino, in_base: bool) {
        self.version += 1;
        let position = (!in_base).then(|| self.next_serial());
        let change = self.dirs.entry(dir).or_default();
        match position {
            Some(position) => drop(change.positions.insert(position, key.clone())),
            None => change.emptied = Emptied::default(),
        }
        change.whiteouts.remove(&key);
        let old = change.nodes.insert(key, (ino, position));
        change.drop_position(old);
    }

    /// Takes away what stands at `key` of `dir`; with `in_base` a whiteout hides the base's.
    pub fn clear(&mut self, dir: Ino, key: &[u8], in_base: bool) {
        self.version += 1;
        let change = self.dirs.entry(dir).or_default();
        let old = change.nodes.remove(key);
        change.drop_position(old);
        match in_base {
            true => change.whiteouts.insert(key),
            false => change.whiteouts.remove(key),
        }
    }
}

impl DirChange {
    fn drop_position(&mut self, old: Option<(Ino, Option<u64>)>) {
        if let Some((_, Some(position))) = old {
            self.positions.remove(&position);
        }
    }
}
