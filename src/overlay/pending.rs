//! What is staged, as a list for a person: one item a change, in the order of the tree.

use super::changes::{Meaning, meaning};
use super::ino::Ino;
use super::merged::Merged;
use super::staged::{Entry, Key, Kind as NodeKind};
use crate::bolt::Result;
use crate::view::name;
use crate::view::text::Note;
use std::fmt;
use std::ops::Bound;

/// What happens to a key or bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is new.
    Added,
    /// Its value or sequence is another.
    Changed,
    /// It goes away; a bucket with all that is in it.
    Deleted,
    /// A bucket comes here from another place, with all that is in it.
    Moved,
}

/// One change.
#[derive(Debug, Clone)]
pub struct Pending {
    /// What happens.
    pub kind: Kind,
    /// Keys from the root down.
    pub path: Vec<Vec<u8>>,
    /// A bucket, not a key.
    pub bucket: bool,
    /// Length of the value in the database, in bytes.
    pub old_len: Option<u64>,
    /// Length of the value to be stored, in bytes.
    pub new_len: Option<u64>,
    /// What was done to the content that was saved.
    pub note: Note,
    /// A new key that looks like what an editor or tool leaves behind.
    pub leftover: bool,
    /// Where a moved bucket comes from.
    pub from: Option<Vec<Vec<u8>>>,
}

impl fmt::Display for Pending {
    /// One line, five columns divided by tabs: what happens, the path (a bucket's ends in `/`), the
    /// length in the database and the length to be stored (`-` where there is none), remarks divided
    /// by `, `.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Added => "added",
            Kind::Changed => "changed",
            Kind::Deleted => "deleted",
            Kind::Moved => "moved",
        };
        let path = |keys: &[Vec<u8>]| name::path(keys.iter().map(|key| &key[..]));
        let slash = if self.bucket { "/" } else { "" };
        write!(f, "{kind}\t{}{slash}", path(&self.path))?;
        for len in [self.old_len, self.new_len] {
            match len {
                Some(len) => write!(f, "\t{len}")?,
                None => write!(f, "\t-")?,
            }
        }
        let mut remarks = Vec::new();
        match self.note {
            Note::NoLongerJson => remarks.push("no longer JSON".to_owned()),
            Note::NewlineLeftOff => remarks.push("final newline left off".to_owned()),
            Note::JsonCompacted => remarks.push("stored as compact JSON".to_owned()),
            Note::AsWritten | Note::Unchanged | Note::JsonStyleKept => {}
        }
        if self.leftover {
            remarks.push("looks like an editor's leftover".to_owned());
        }
        if let Some(from) = &self.from {
            remarks.push(format!("from {}/", path(from)));
        }
        write!(f, "\t{}", remarks.join(", "))
    }
}

/// Hands every change to `each`.
///
/// # Errors
/// Damage of the base where something is staged.
pub fn pending(tree: Merged<'_>, raw: bool, each: &mut dyn FnMut(Pending)) -> Result<()> {
    let entries = |dir| tree.staged.entries(dir, Bound::Unbounded);
    let mut path: Vec<Vec<u8>> = Vec::new();
    // An explicit stack: buckets can be nested deeper than calls.
    let mut stack = vec![(Ino::ROOT, entries(Ino::ROOT))];
    while let Some((dir, rest)) = stack.last_mut() {
        let dir = *dir;
        let Some((key, entry)) = rest.next() else {
            stack.pop();
            path.pop();
            continue;
        };
        path.push(key.to_vec());
        if let Some(item) = describe(tree, dir, key, entry, &path, raw)? {
            each(item);
        }
        match entry {
            Entry::Node { ino, .. } if tree.kind(ino)? == Some(NodeKind::Directory) => {
                stack.push((ino, entries(ino)));
            }
            _ => drop(path.pop()),
        }
    }
    Ok(())
}

fn describe(
    tree: Merged<'_>,
    dir: Ino,
    key: &Key,
    entry: Entry,
    path: &[Vec<u8>],
    raw: bool,
) -> Result<Option<Pending>> {
    let below = tree.below(dir, key)?;
    let old_len = below
        .filter(|e| !e.is_bucket())
        .map(|e| e.value.len() as u64);
    let mut item = Pending {
        kind: Kind::Changed,
        path: Vec::new(),
        bucket: false,
        old_len,
        new_len: None,
        note: Note::AsWritten,
        leftover: false,
        from: None,
    };
    match meaning(tree, dir, key, entry, raw)? {
        Meaning::Unchanged => return Ok(None),
        Meaning::Deleted => {
            item.kind = Kind::Deleted;
            item.bucket = below.is_some_and(|e| e.is_bucket());
            if item.bucket && lives_on(tree, dir, key)? {
                return Ok(None); // told where it is now
            }
        }
        Meaning::Value(stored) => {
            item.new_len = Some(stored.bytes.len() as u64);
            item.note = stored.note;
            if below.is_none() {
                item.kind = Kind::Added;
                item.leftover = is_leftover(key);
            }
        }
        Meaning::SameBucket => {
            item.bucket = true;
            let Entry::Node { ino, .. } = entry else {
                return Ok(None);
            };
            if tree
                .staged
                .node(ino)
                .is_none_or(|node| node.sequence.is_none())
            {
                return Ok(None);
            }
        }
        Meaning::MovedBucket(_) => {
            item.kind = Kind::Moved;
            item.bucket = true;
            let Entry::Node { ino, .. } = entry else {
                return Ok(None);
            };
            item.from = Some(origin_path(tree, ino));
        }
        Meaning::NewBucket => {
            item.bucket = true;
            item.kind = Kind::Added;
        }
    }
    item.path = path.to_vec();
    Ok(Some(item))
}

/// The base bucket at `key` of `dir`, which is not there any more, is at another place.
fn lives_on(tree: Merged<'_>, dir: Ino, key: &[u8]) -> Result<bool> {
    let Some(base_dir) = tree.base.dir(dir)? else {
        return Ok(false);
    };
    match tree.base.find(&base_dir, key)? {
        Some(element) => Ok(tree.is_linked(base_dir.ino(&element)?)),
        None => Ok(false),
    }
}

fn origin_path(tree: Merged<'_>, mut ino: Ino) -> Vec<Vec<u8>> {
    let mut path = Vec::new();
    while let Some((dir, key)) = tree.base.origin(ino) {
        path.push(key.to_vec());
        ino = dir;
    }
    path.reverse();
    path
}

/// The key looks like a file that an editor or tool makes beside the one it works on, and should
/// have removed: in a database it is a stray key.
pub fn is_leftover(key: &[u8]) -> bool {
    let hidden = |k: &[u8]| k.starts_with(b".") && k.len() > 1;
    // vim: .NAME.swp, .NAME.swo … and 4913, its probe for a writable directory
    let swap = key.len() > 5
        && hidden(key)
        && matches!(key[key.len() - 4..], [b'.', b's', b'w', b'a'..=b'p']);
    let sed = key.len() == 9
        && key.starts_with(b"sed")
        && key[3..].iter().all(|b| b.is_ascii_alphanumeric());
    swap || sed
        || key == b"4913"
        || (key.len() > 1 && key.ends_with(b"~"))
        || (key.starts_with(b".#") && key.len() > 2)
        || (key.len() > 2 && key.starts_with(b"#") && key.ends_with(b"#"))
        || (key.starts_with(b".nfs") && key.len() > 4)
}
