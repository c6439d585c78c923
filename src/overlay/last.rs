//! What the last commit of this mount has stored at the keys that were staged then.
//!
//! The base stays the tree that was mounted, but what a save means is judged by the value that the
//! database holds at that moment, as it would be in a mount made after the commit.

use super::base::Base;
use super::changes::{Below, Place, Stands};
use super::ino::Ino;
use super::merged::Merged;
use super::staged::{Entry, Key, Kind};
use crate::bolt::Result;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

/// The values at the keys that were staged when it was committed.
#[derive(Debug, Default)]
pub struct Last {
    keys: HashMap<Ino, HashMap<Key, Option<(Ino, Kind)>>>,
    values: HashMap<Ino, Value>,
}

/// What was stored of a file with staged content.
#[derive(Debug)]
struct Value {
    content: Arc<Vec<u8>>,
    /// `None`: the content.
    stored: Option<Box<[u8]>>,
}

impl Last {
    /// What a commit of `tree` has stored.
    ///
    /// # Errors
    /// Damage of the base where something is staged.
    pub fn of(tree: Merged<'_>, raw: bool) -> Result<Last> {
        let mut last = Last::default();
        for dir in tree.staged.dirs() {
            let place = Place::new(tree, dir)?;
            let keys = last.keys.entry(dir).or_default();
            for (key, entry) in tree.staged.entries(dir, Bound::Unbounded) {
                let node = match entry {
                    Entry::Node { ino, .. } => tree.kind(ino)?.map(|kind| (ino, kind)),
                    Entry::Whiteout => None,
                };
                keys.insert(key.clone(), node);
                let file = node.map(|(ino, _)| ino);
                let content = file.and_then(|ino| tree.staged.node(ino)?.content.as_ref());
                let (Some(ino), Some(content)) = (file, content) else {
                    continue;
                };
                if let Stands::Value(stored) =
                    place.stands(key, Some(entry), raw, &mut Below::default())?
                {
                    let same = *stored.bytes == **content;
                    let value = Value {
                        content: Arc::clone(content),
                        stored: (!same).then(|| stored.bytes.into()),
                    };
                    last.values.insert(ino, value);
                }
            }
        }
        Ok(last)
    }

    /// The value at `key` of `dir`, if that was staged: `Some(None)` where there was none.
    pub(super) fn at<'a>(
        &'a self,
        base: &'a Base,
        dir: Ino,
        key: &[u8],
    ) -> Option<Option<&'a [u8]>> {
        let file = file(*self.keys.get(&dir)?.get(key)?);
        Some(file.and_then(|ino| {
            let own = || base.element(ino).ok()?.map(|element| element.value);
            self.of_node(ino).or_else(own)
        }))
    }

    /// The value at the end of this path, a key below buckets.
    pub(super) fn at_path<'a>(
        &'a self,
        base: &'a Base,
        buckets: &[Cow<'_, [u8]>],
        key: &[u8],
    ) -> Option<&'a [u8]> {
        let mut dir = Ino::ROOT;
        for name in buckets {
            let staged = self.keys.get(&dir).and_then(|keys| keys.get(&**name));
            dir = match staged {
                Some(&Some((ino, Kind::Directory))) => ino,
                Some(_) => return None,
                None => {
                    let above = base.dir(dir).ok()??;
                    let element = base.find(&above, name).ok()??;
                    element.is_bucket().then(|| above.ino(&element).ok())??
                }
            };
        }
        self.at(base, dir, key).unwrap_or_else(|| {
            let element = base.find(&base.dir(dir).ok()??, key).ok()??;
            (!element.is_bucket()).then_some(element.value)
        })
    }

    /// What was stored of the file `ino`, if its content was staged.
    pub(super) fn of_node(&self, ino: Ino) -> Option<&[u8]> {
        let Value { content, stored } = self.values.get(&ino)?;
        Some(stored.as_deref().unwrap_or(content))
    }

    /// What was stored of the file `ino`, if nobody has written to it since: wherever it is now.
    pub(super) fn untouched(&self, ino: Ino, content: &Arc<Vec<u8>>) -> Option<&[u8]> {
        let value = self.values.get(&ino)?;
        Arc::ptr_eq(&value.content, content).then(|| self.of_node(ino))?
    }

    /// Whether `content` is what the file `ino` had when it was committed at this place.
    pub(super) fn has(&self, dir: Ino, key: &[u8], content: &[u8]) -> bool {
        let node = self.keys.get(&dir).and_then(|keys| *keys.get(key)?);
        let value = file(node).and_then(|ino| self.values.get(&ino));
        value.is_some_and(|value| **value.content == *content)
    }
}

fn file(node: Option<(Ino, Kind)>) -> Option<Ino> {
    node.filter(|(_, kind)| *kind == Kind::File)
        .map(|(ino, _)| ino)
}
