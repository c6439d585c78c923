//! What the last commit of this mount has stored at the keys that were staged then.
//!
//! The base stays the tree that was mounted, but what a save means is judged by the value that the
//! database holds at that moment, as it would be in a mount made after the commit.
//!
//! Nothing is kept for it but what was staged, which the mount has anyway: what that came to is found
//! when somebody first asks, from the same bytes by the same rules as when it was committed. Then how
//! a value comes from its content is kept, not the value, wherever that can be said.

use super::base::Base;
use super::changes::{Below, Files, Judge, Place, Stands};
use super::content::{Content, says_lost};
use super::ino::Ino;
use super::merged::Merged;
use super::staged::{Entry, Kind, Staged};
use crate::bolt::Result;
use crate::journal::lost;
use crate::view::text::Recipe;
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
    /// The files that were stored as new keys, as the value before them was lost.
    anew: Files,
    /// What was stored of files, where it is other than the content that was staged.
    stored: OnceLock<HashMap<Ino, Other>>,
}

/// What was stored of a file, where it is not its content.
#[derive(Debug, Clone)]
enum Other {
    /// What this makes of the content.
    Made(Recipe),
    /// This value: JSON that is too long to be shown indented, or one that was there before and that the
    /// content means as well.
    Value(Arc<[u8]>),
    /// Nobody knows any more: the journal has lost what it was made from.
    Lost,
}

impl Last {
    /// The commit of `staged`, judged by `earlier`, which [is settled](Self::settle), but for the files
    /// that were stored `anew`.
    pub fn new(staged: Arc<Staged>, earlier: Arc<Last>, anew: Files) -> Last {
        Last {
            staged,
            anew,
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

    fn stored(&self, base: &Base, raw: bool) -> Result<&HashMap<Ino, Other>> {
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
            anew: &self.anew,
            again: true,
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

    /// What is known of what was stored of the file `ino`, if its content was this one.
    fn same(&self, ino: Ino, content: &Arc<Content>) -> Option<Option<&Other>> {
        let same = self.content(ino)?;
        let known = self.stored.get()?;
        Arc::ptr_eq(same, content).then(|| known.get(&ino))
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

/// What a commit of `tree` stores of its staged files, where it is other than the content.
fn stored(tree: Merged<'_>, judge: Judge<'_>) -> Result<HashMap<Ino, Other>> {
    let mut others = HashMap::new();
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
            let other = match judge.last.same(ino, content) {
                Some(same) => same.cloned(),
                None => match other(tree, &place, &key, entry, content) {
                    Err(e) if says_lost(&e) => Some(Other::Lost),
                    other => other?,
                },
            };
            others.extend(other.map(|other| (ino, other)));
        }
    }
    Ok(others)
}

/// What is stored of the `content` that `entry` has at `key`, where it is not just that.
fn other(
    tree: Merged<'_>,
    place: &Place<'_>,
    key: &[u8],
    entry: Entry,
    content: &Content,
) -> Result<Option<Other>> {
    let (Entry::Node { ino, .. }, Stands::Value(stored)) = (
        entry,
        place.stands(key, Some(entry), &mut Below::default())?,
    ) else {
        return Ok(None);
    };
    // The note does not tell: what an earlier commit has stored of it is written as it is.
    let unread = |e| tree.unread(ino, e);
    if content.is(&stored.bytes).map_err(unread)? {
        return Ok(None);
    }
    let recipe = Recipe::of(&tree.written(ino, content)?, &stored.bytes);
    let value = || Other::Value(stored.bytes.into());
    Ok(Some(recipe.map_or_else(value, Other::Made)))
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
        let tree = self.last.tree(base);
        Ok(Some(match stored.get(&ino) {
            Some(Other::Value(value)) => Cow::Borrowed(&**value),
            Some(Other::Made(recipe)) => {
                let value = recipe.make(tree.written(ino, content)?);
                value.ok_or_else(|| tree.unread(ino, lost()))?
            }
            Some(Other::Lost) => return Err(tree.unread(ino, lost())),
            None => tree.written(ino, content)?,
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
        was.map_or(Ok(false), |(ino, was)| {
            let unread = |e| self.last.tree(base).unread(ino, e);
            was.is(content).map_err(unread)
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bolt::{Map, OpenOptions, Snapshot, empty_database};
    use crate::overlay::{Key, Node};

    #[test]
    fn no_value_is_kept_that_can_be_made_again_from_its_content() {
        let map = Map::from(empty_database(4096));
        let base = Base::new(Snapshot::open(map, OpenOptions::default()).unwrap());
        let commit = |contents: &[(&str, &str)], earlier: &Arc<Last>| {
            let mut staged = Staged::clone(earlier.staged());
            for (key, content) in contents {
                let content = Content::from(content.as_bytes().to_vec());
                let ino = staged.add(Node {
                    content: Some(Arc::new(content)),
                    ..Node::new(Kind::File)
                });
                staged.set(Ino::ROOT, Key::from(key.as_bytes()), ino, false);
            }
            let last = Last::new(Arc::new(staged), Arc::clone(earlier), Files::default());
            last.settle(&base, false).unwrap();
            Arc::new(last)
        };
        let shown = "{\n  \"a\": 1\n}\n";
        let nothing = Arc::new(Last::default());
        let first = commit(
            &[("json", shown), ("text", "one"), ("same", shown)],
            &nothing,
        );
        let second = [
            ("json", "{\n  \"a\": 2\n}\n"),
            ("new", "new\n"),
            ("same", "{\"a\":   1}"),
            ("text", "two\n"),
        ];
        let second = commit(&second, &first);

        let anew = Files::default();
        let judge = Judge {
            last: &second,
            raw: false,
            anew: &anew,
            again: false,
            left_out: None,
        };
        for (key, value) in [
            ("json", "{\"a\":2}"),
            ("new", "new\n"),
            ("same", "{\"a\":1}"),
            ("text", "two"),
        ] {
            let there = judge.last_at(&base, Ino::ROOT, key.as_bytes()).unwrap();
            assert_eq!(there.flatten().as_deref(), Some(value.as_bytes()), "{key}");
        }
        let others = second.stored(&base, false).unwrap();
        assert_eq!(others.len(), 3, "{others:?}");
        let made = |other: &Other| matches!(other, Other::Made(_));
        assert!(others.values().all(made), "{others:?}");
    }
}
