//! What the last commit of this mount has stored at the keys that were staged then.
//!
//! The base stays the tree that was mounted, but what a save means is judged by the value that the
//! database holds at that moment, as it would be in a mount made after the commit.
//!
//! Nothing is kept for it but what was staged, which the mount has anyway: what that came to is found
//! when somebody first asks, from the same bytes by the same rules as when it was committed.

use super::base::Base;
use super::changes::{Below, Judge, Place, Stands};
use super::content::Content;
use super::ino::Ino;
use super::merged::Merged;
use super::staged::{Entry, Kind, Staged};
use crate::bolt::Result;
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

/// The last commit; before the first one, that of nothing.
#[derive(Debug, Default)]
pub struct Last {
    /// What was staged then.
    staged: Arc<Staged>,
    /// By what that was judged, until `stored` is known.
    earlier: Mutex<Option<Arc<Last>>>,
    /// The values of files that are others than the content that was staged.
    stored: OnceLock<HashMap<Ino, Box<[u8]>>>,
}

impl Last {
    /// The commit of `staged`, judged by `earlier`, which [is settled](Self::settle).
    pub fn new(staged: Arc<Staged>, earlier: Arc<Last>) -> Last {
        Last {
            staged,
            earlier: Mutex::new(Some(earlier)),
            stored: OnceLock::new(),
        }
    }

    /// What was staged then.
    pub fn staged(&self) -> &Arc<Staged> {
        &self.staged
    }

    /// Finds what was stored, and lets go of the commit before: to be called before the next one, so
    /// that two of them are kept at most.
    ///
    /// # Errors
    /// Damage of the base where something was staged.
    pub fn settle(&self, base: &Base, raw: bool) -> Result<()> {
        self.stored(base, raw).map(drop)
    }

    fn stored(&self, base: &Base, raw: bool) -> Result<&HashMap<Ino, Box<[u8]>>> {
        if let Some(known) = self.stored.get() {
            return Ok(known);
        }
        // Whoever comes second waits for it.
        let mut earlier = self.earlier.lock();
        if let Some(known) = self.stored.get() {
            return Ok(known);
        }
        let none = Last::default();
        let last = earlier.as_deref().unwrap_or(&none);
        let tree = self.tree(base);
        let judge = Judge {
            last,
            raw,
            left_out: None,
        };
        let map = base.snapshot().map();
        let found = map.steady(|| stored(tree, judge))?;
        *earlier = None;
        Ok(self.stored.get_or_init(|| found))
    }

    fn tree<'a>(&'a self, base: &'a Base) -> Merged<'a> {
        Merged {
            base,
            staged: &self.staged,
        }
    }

    /// The content that was staged of the file `ino`. One that was unlinked then never comes back.
    fn content(&self, ino: Ino) -> Option<&Arc<Content>> {
        self.staged.node(ino)?.content.as_ref()
    }

    /// What stood at `key` of `dir`, if that was staged: `Some(None)` if it was deleted.
    fn entry(&self, base: &Base, dir: Ino, key: &[u8]) -> Result<Option<Option<(Ino, Kind)>>> {
        Ok(match self.staged.entry(dir, key) {
            None => None,
            Some(Entry::Whiteout) => Some(None),
            Some(Entry::Node { ino, .. }) => {
                let kind = self.tree(base).kind(ino)?;
                Some(kind.map(|kind| (ino, kind)))
            }
        })
    }

    /// The file that stood at `key` of `dir`, if that was staged: `Some(None)` if there was none.
    fn file(&self, base: &Base, dir: Ino, key: &[u8]) -> Result<Option<Option<Ino>>> {
        let file = |(ino, kind)| (kind == Kind::File).then_some(ino);
        let entry = self.entry(base, dir, key)?;
        Ok(entry.map(|node| node.and_then(file)))
    }
}

/// The values that a commit of `tree` stores of its staged files, where they are others than the content.
fn stored(tree: Merged<'_>, judge: Judge<'_>) -> Result<HashMap<Ino, Box<[u8]>>> {
    let mut values = HashMap::new();
    for dir in tree.staged.dirs() {
        let place = Place::new(tree, dir, judge)?;
        for (key, entry) in tree.staged.entries(dir, Bound::Unbounded) {
            let Entry::Node { ino, .. } = entry else {
                continue;
            };
            let content = tree.staged.node(ino).and_then(|node| node.content.as_ref());
            let Some(content) = content else {
                continue;
            };
            if let Stands::Value(stored) = place.stands(&key, Some(entry), &mut Below::default())?
                && !is_content(tree, ino, content, &stored.bytes)?
            {
                values.insert(ino, stored.bytes.into());
            }
        }
    }
    Ok(values)
}

/// Whether what is stored of `content` is just that. The note does not tell: what an earlier commit has
/// stored of it is written as it is.
fn is_content(tree: Merged<'_>, ino: Ino, content: &Content, stored: &[u8]) -> Result<bool> {
    Ok(stored.len() == content.len() && *stored == *tree.written(ino, content)?)
}

impl<'a> Judge<'a> {
    /// The value that the last commit left at `key` of `dir`, if that was staged: `Some(None)` where
    /// there was none.
    pub(super) fn last_at(
        &self,
        base: &'a Base,
        dir: Ino,
        key: &[u8],
    ) -> Result<Option<Option<Cow<'a, [u8]>>>> {
        let Some(file) = self.last.file(base, dir, key)? else {
            return Ok(None);
        };
        let Some(ino) = file else {
            return Ok(Some(None));
        };
        let value = match self.last_of(base, ino)? {
            Some(value) => Some(value),
            None => base.element(ino)?.map(|e| Cow::Borrowed(e.value)),
        };
        Ok(Some(value))
    }

    /// The value that it left at the end of this path, a key below buckets. Where damage has the base
    /// leave that open, there is none.
    pub(super) fn last_at_path(
        &self,
        base: &'a Base,
        buckets: &[Cow<'_, [u8]>],
        key: &[u8],
    ) -> Result<Option<Cow<'a, [u8]>>> {
        let mut dir = Ino::ROOT;
        for name in buckets {
            let below = match self.last.entry(base, dir, name)? {
                Some(Some((ino, Kind::Directory))) => Some(ino),
                Some(_) => None,
                None => bucket_in_base(base, dir, name),
            };
            match below {
                Some(below) => dir = below,
                None => return Ok(None),
            }
        }
        let there = self.last_at(base, dir, key)?;
        Ok(there.unwrap_or_else(|| value_in_base(base, dir, key).map(Cow::Borrowed)))
    }

    /// What it stored of the file `ino`, if its content was staged.
    pub(super) fn last_of(&self, base: &'a Base, ino: Ino) -> Result<Option<Cow<'a, [u8]>>> {
        let Some(content) = self.last.content(ino) else {
            return Ok(None);
        };
        let stored = self.last.stored(base, self.raw)?;
        Ok(Some(match stored.get(&ino) {
            Some(value) => Cow::Borrowed(&**value),
            None => self.last.tree(base).written(ino, content)?,
        }))
    }

    /// What it stored of the file `ino`, if nobody has written to it since: wherever it is now.
    pub(super) fn untouched(
        &self,
        base: &'a Base,
        ino: Ino,
        content: &Arc<Content>,
    ) -> Result<Option<Cow<'a, [u8]>>> {
        match self.last.content(ino) {
            Some(was) if Arc::ptr_eq(was, content) => self.last_of(base, ino),
            _ => Ok(None),
        }
    }

    /// Whether `content` is what the file at this place had when it was committed.
    pub(super) fn had(&self, base: &Base, dir: Ino, key: &[u8], content: &[u8]) -> Result<bool> {
        let file = self.last.file(base, dir, key)?.flatten();
        let was = file.and_then(|ino| Some((ino, self.last.content(ino)?)));
        match was.filter(|(_, was)| was.len() == content.len()) {
            Some((ino, was)) => Ok(self.last.tree(base).written(ino, was)? == content),
            None => Ok(false),
        }
    }
}

fn bucket_in_base(base: &Base, dir: Ino, key: &[u8]) -> Option<Ino> {
    let above = base.dir(dir).ok()??;
    let element = base.find(&above, key).ok()??;
    element.is_bucket().then(|| above.ino(&element).ok())?
}

fn value_in_base<'a>(base: &'a Base, dir: Ino, key: &[u8]) -> Option<&'a [u8]> {
    let element = base.find(&base.dir(dir).ok()??, key).ok()??;
    (!element.is_bucket()).then_some(element.value)
}
