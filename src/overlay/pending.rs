//! What is staged, as a list for a person: one item a change, in the order of the tree.

use super::changes::{Below, Judge, Place, Stands, new_sequence};
use super::content::says_lost;
use super::ino::Ino;
use super::merged::Merged;
use super::staged::{Entry, Staged};
use crate::bolt::Result;
use crate::view::leftover::is_leftover;
use crate::view::text::Note;
use crate::view::{name, number};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

/// What happens to a key or bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is new.
    Added,
    /// Its value, or a bucket's sequence number, is another.
    Changed,
    /// It goes away; a bucket with all that is in it.
    Deleted,
    /// A bucket comes here from another place, with all that is in it.
    Moved,
}

impl Kind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Added => "added",
            Kind::Changed => "changed",
            Kind::Deleted => "deleted",
            Kind::Moved => "moved",
        }
    }
}

/// One change.
#[derive(Debug, Clone)]
pub struct Pending<'a> {
    /// What happens.
    pub kind: Kind,
    /// Keys from the root down.
    pub path: Cow<'a, [Vec<u8>]>,
    /// A bucket, not a key.
    pub bucket: bool,
    /// Length of the value in the database, in bytes.
    pub old_len: Option<u64>,
    /// The journal has lost the value in the database: neither it nor its length is known.
    pub lost: bool,
    /// Length of the value to be stored, in bytes.
    pub new_len: Option<u64>,
    /// What was done to the content that was saved.
    pub note: Note,
    /// A new key or bucket that looks like what an editor or tool leaves behind.
    pub leftover: bool,
    /// Where a moved bucket comes from.
    pub from: Option<Vec<Vec<u8>>>,
    /// A number of the value in the database that [a tool has rounded](number).
    pub rounded: Option<String>,
    /// The sequence number that a bucket has in the database and the one to be stored, where they
    /// differ.
    pub sequence: Option<[u64; 2]>,
}

impl Pending<'_> {
    /// Where it is, by the names of the mount; a bucket's ends in `/`.
    pub fn shown_path(&self) -> String {
        let slash = if self.bucket { "/" } else { "" };
        format!("{}{slash}", shown(&self.path))
    }

    /// What is to be said about it beside its kind.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = self.content_remarks();
        if let Some(from) = &self.from {
            remarks.push(format!("from {}/", shown(from)));
        }
        if let Some([old, new]) = self.sequence {
            remarks.push(format!("sequence {new} (was {old})"));
        }
        remarks
    }

    /// What is to be said about the content that was saved, or that it was saved at all.
    pub fn content_remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        match self.note {
            Note::NoLongerJson => remarks.push("no longer JSON".to_owned()),
            Note::NewlineLeftOff => remarks.push("final newline left off".to_owned()),
            Note::JsonCompacted => remarks.push("stored as compact JSON".to_owned()),
            Note::AsWritten | Note::Unchanged | Note::JsonStyleKept => {}
        }
        if let Some(number) = &self.rounded {
            remarks.push(format!("number {number} was rounded"));
        }
        if self.lost {
            remarks.push("the value before cannot be read back".to_owned());
        }
        if self.leftover {
            remarks.push("looks like an editor's leftover".to_owned());
        }
        remarks
    }

    /// What the report of a commit says about it: what may well not be meant.
    pub fn warning(&self) -> Option<String> {
        let what = match (&self.rounded, self.note) {
            _ if self.leftover => {
                "looks like an editor's leftover; delete it if you did not mean it".to_owned()
            }
            (_, Note::NoLongerJson) => "was JSON and is not any more".to_owned(),
            (Some(number), _) => format!(
                "number {number} was rounded, as jq before 1.7 and JavaScript do; set it right"
            ),
            _ => return None,
        };
        Some(format!("{}: {what}", self.shown_path()))
    }
}

fn shown(keys: &[Vec<u8>]) -> String {
    name::path(keys.iter().map(|key| &key[..]))
}

impl fmt::Display for Pending<'_> {
    /// One line, five columns divided by tabs: what happens, the path (a bucket's ends in `/`), the
    /// length in the database and the length to be stored (`-` where there is none), remarks divided
    /// by `, `.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}", self.kind.name(), self.shown_path())?;
        for len in [self.old_len, self.new_len] {
            match len {
                Some(len) => write!(f, "\t{len}")?,
                None => write!(f, "\t-")?,
            }
        }
        write!(f, "\t{}", self.remarks().join(", "))
    }
}

/// One change with the values it is about.
pub struct Change<'a> {
    /// What it is.
    pub pending: Pending<'a>,
    /// The value that is stored now, if it can be had.
    pub old: Option<&'a [u8]>,
    /// The value to be stored.
    pub new: Option<&'a [u8]>,
    /// The bucket that goes away.
    pub gone: Option<Ino>,
}

/// Which changes are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those that store something: no deletions, which costs a look into the base for each.
    Stored,
}

/// Hands the differences between the trees `old` and `new`, which stand over the same base, to
/// `each`, in the order of the tree, until it answers [`ControlFlow::Break`].
///
/// # Errors
/// Damage of the base where something is staged.
pub fn pending(
    old: Merged<'_>,
    new: Merged<'_>,
    judge: Judge<'_>,
    which: Which,
    each: &mut dyn FnMut(Change<'_>) -> ControlFlow<()>,
) -> Result<()> {
    let mut path: Vec<Vec<u8>> = Vec::new();
    // An explicit stack: buckets can be nested deeper than calls.
    let mut stack = vec![Pair::new(old, new, Ino::ROOT, judge)?];
    while let Some(pair) = stack.last_mut() {
        let Some(both) = pair.entries.next() else {
            stack.pop();
            path.pop();
            continue;
        };
        if which == Which::Stored && both.new == Some(Entry::Whiteout) {
            continue;
        }
        path.push(both.key.to_vec());
        let (below, go_on) = pair.compare(&both, &path, each)?;
        if go_on.is_break() {
            break;
        }
        match below {
            Some(ino) => stack.push(Pair::new(old, new, ino, judge)?),
            None => drop(path.pop()),
        }
    }
    Ok(())
}

/// A key at which something is staged in either of two trees.
struct Both<'a> {
    key: Cow<'a, [u8]>,
    old: Option<Entry>,
    new: Option<Entry>,
}

/// The keys of `dir` at which something is staged in either tree, in order.
fn entries<'a>(old: &'a Staged, new: &'a Staged, dir: Ino) -> impl Iterator<Item = Both<'a>> {
    let of = |staged: &'a Staged| staged.entries(dir, Bound::Unbounded).peekable();
    let (mut a, mut b) = (of(old), of(new));
    std::iter::from_fn(move || {
        let order = match (a.peek(), b.peek()) {
            (Some((x, _)), Some((y, _))) => x.cmp(y),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let old = a.next_if(|_| order.is_le());
        let new = b.next_if(|_| order.is_ge());
        let entry = |side: &Option<(_, Entry)>| side.as_ref().map(|&(_, entry)| entry);
        Some(Both {
            old: entry(&old),
            new: entry(&new),
            key: old.or(new)?.0,
        })
    })
}

/// One directory of both trees.
struct Pair<'a> {
    old: Merged<'a>,
    new: Merged<'a>,
    was: Place<'a>,
    is: Place<'a>,
    entries: Box<dyn Iterator<Item = Both<'a>> + 'a>,
}

impl<'a> Pair<'a> {
    fn new(old: Merged<'a>, new: Merged<'a>, dir: Ino, judge: Judge<'a>) -> Result<Pair<'a>> {
        Ok(Pair {
            old,
            new,
            was: Place::new(old, dir, judge)?,
            is: Place::new(new, dir, judge)?,
            entries: Box::new(entries(old.staged, new.staged, dir)),
        })
    }

    /// Whether this entry of both trees is a file that nobody has written to since. What was stored of
    /// it then still is: nothing need be read for that.
    fn is_same_content(&self, entry: Option<Entry>) -> bool {
        let Some(Entry::Node { ino, .. }) = entry else {
            return false;
        };
        let content = |tree: &Merged<'a>| tree.staged.node(ino)?.content.as_ref();
        matches!((content(&self.old), content(&self.new)), (Some(a), Some(b)) if Arc::ptr_eq(a, b))
    }

    /// Compares what stands at one key.
    ///
    /// # Returns
    /// The bucket there, if there is one to go into, and whether to go on at all.
    fn compare(
        &self,
        both: &Both<'_>,
        path: &[Vec<u8>],
        each: &mut dyn FnMut(Change<'_>) -> ControlFlow<()>,
    ) -> Result<(Option<Ino>, ControlFlow<()>)> {
        const GO_ON: ControlFlow<()> = ControlFlow::Continue(());
        let (old, new, key) = (self.old, self.new, &both.key);
        if both.old == both.new && self.is_same_content(both.new) {
            return Ok((None, GO_ON));
        }
        let mut below = Below::default();
        // In this order, as what is edited where it is need not be looked for.
        let is = self.is.stands(key, both.new, &mut below)?;
        // Of a value that is lost, that it was there is known.
        let (was, is_lost) = match self.was.stands(key, both.old, &mut below) {
            Err(e) if says_lost(&e) => (Stands::Nothing, true),
            was => (was?, false),
        };
        let item = |kind, bucket| Pending {
            kind,
            path: Cow::Borrowed(path),
            bucket,
            old_len: None,
            lost: is_lost,
            new_len: None,
            note: Note::AsWritten,
            leftover: matches!(was, Stands::Nothing)
                && matches!(kind, Kind::Added | Kind::Moved)
                && is_leftover(key),
            from: None,
            rounded: None,
            sequence: None,
        };
        let bucket = |pending| Change {
            pending,
            old: None,
            new: None,
            gone: None,
        };
        if let (Stands::Bucket(a), Stands::Bucket(b)) = (&was, &is)
            && a == b
        {
            let sequences = [sequence(old, *a)?, sequence(new, *b)?];
            let told = match different(sequences) {
                Some(sequence) => each(bucket(Pending {
                    sequence: Some(sequence),
                    ..item(Kind::Changed, true)
                })),
                None => GO_ON,
            };
            return Ok((Some(*b), told));
        }
        let old_value = match &was {
            Stands::Bucket(ino) if !new.is_linked(*ino) => {
                let gone = Change {
                    gone: Some(*ino),
                    ..bucket(item(Kind::Deleted, true))
                };
                if each(gone).is_break() {
                    return Ok((None, ControlFlow::Break(())));
                }
                None
            }
            // A bucket that was moved is told where it is now.
            Stands::Bucket(_) | Stands::Nothing => None,
            Stands::Value(stored) => Some(&*stored.bytes),
        };
        let old_len = old_value.map(|v| v.len() as u64);
        let told = match (&is, old_value) {
            (Stands::Value(stored), old_value) if old_value != Some(&*stored.bytes) => {
                let kind = if old_value.is_some() || is_lost {
                    Kind::Changed
                } else {
                    Kind::Added
                };
                let pending = Pending {
                    old_len,
                    new_len: Some(stored.bytes.len() as u64),
                    note: stored.note,
                    rounded: old_value.and_then(|old| rounded(old, &stored.bytes)),
                    ..item(kind, false)
                };
                each(Change {
                    pending,
                    old: old_value,
                    new: Some(&stored.bytes),
                    gone: None,
                })
            }
            (Stands::Value(_), _) => GO_ON,
            (_, None) if !is_lost => GO_ON,
            _ => {
                let pending = Pending {
                    old_len,
                    ..item(Kind::Deleted, false)
                };
                each(Change {
                    pending,
                    old: old_value,
                    new: None,
                    gone: None,
                })
            }
        };
        let Stands::Bucket(ino) = is else {
            return Ok((None, told));
        };
        if told.is_break() {
            return Ok((None, told));
        }
        let comes = if old.kind(ino)?.is_some() && old.is_linked(ino) {
            let from = old.path(ino).unwrap_or_default();
            let from = Some(from.into_iter().map(|key| key.into_owned()).collect());
            Pending {
                from,
                sequence: different([sequence(old, ino)?, sequence(new, ino)?]),
                ..item(Kind::Moved, true)
            }
        } else {
            Pending {
                sequence: different([0, sequence(new, ino)?]),
                ..item(Kind::Added, true)
            }
        };
        Ok((Some(ino), each(bucket(comes))))
    }
}

/// A number of the JSON value `old` that is rounded in `new`.
fn rounded(old: &[u8], new: &[u8]) -> Option<String> {
    let first = |value: &[u8]| value.iter().copied().find(|b| !b.is_ascii_whitespace());
    let json = |value| matches!(first(value), Some(b'{' | b'['));
    let number = (json(old) && json(new)).then(|| number::rounded(old, new))?;
    number.map(str::to_owned)
}

/// The sequence number of a bucket.
fn sequence(tree: Merged<'_>, ino: Ino) -> Result<u64> {
    let base = || Ok(tree.base.dir(ino)?.map_or(0, |dir| dir.bucket.sequence()));
    new_sequence(tree, ino)?.map_or_else(base, Ok)
}

fn different(sequences: [u64; 2]) -> Option<[u64; 2]> {
    (sequences[0] != sequences[1]).then_some(sequences)
}
