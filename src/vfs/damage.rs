//! What a mount has come upon of damage: each place is told once, with the bucket it is in.

use super::{Error, Vfs};
use crate::bolt::{self, Damage};
use crate::journal::is_lost;
use crate::overlay::{Ino, Staged};
use crate::view::name;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io;

/// More pages than anybody reads about one by one.
const MOST: usize = 100;
/// Stand for what was cut off, and for what the disk failed to read just now: no page has these
/// numbers.
const CUT: u64 = u64::MAX;
const UNREADABLE: u64 = u64::MAX - 1;

/// What was told.
#[derive(Default)]
pub(super) struct Told(Mutex<Known>);

#[derive(Default)]
struct Known {
    pages: BTreeSet<u64>,
    /// Each place in words.
    lines: Vec<String>,
    /// Files whose content the journal has lost.
    lost: BTreeSet<Ino>,
    /// A check of all of it has told what it found.
    checked: bool,
}

/// The files of which it is known that the journal has lost their content.
fn lost_files(staged: &Staged) -> impl Iterator<Item = Ino> {
    staged.nodes().filter_map(|(ino, node)| {
        let content = node.content.as_ref()?;
        content.is_known_lost().then_some(ino)
    })
}

impl Vfs {
    /// What is known of damage: a line for each place, in the order in which it was found.
    pub fn damage(&self) -> Vec<String> {
        self.told.0.lock().lines.clone()
    }

    /// Takes note of what a check of the mounted tree has found: pages, and each place in words.
    ///
    /// # Returns
    /// Whether it is the first check: then it is to be told.
    pub fn note_check(&self, found: impl Iterator<Item = (Option<u64>, String)>) -> bool {
        let mut known = self.told.0.lock();
        if std::mem::replace(&mut known.checked, true) {
            return false;
        }
        for (pgid, line) in found {
            let is_new = pgid.is_none_or(|pgid| known.pages.insert(pgid));
            if is_new {
                known.lines.push(line);
            }
        }
        true
    }

    /// Takes note of a bucket, by its path from the root, in which a check has found keys out of order.
    pub fn note_disordered(&self, path: &[Vec<u8>]) {
        let map = self.snapshot().map();
        map.steady(|| self.base.note_disordered(path));
    }

    /// Says in words why an operation on `at` fails, if the reason lies in the database and was not
    /// told before: programs try again and again.
    pub fn note(&self, at: Ino, e: &Error) {
        match e {
            Error::Damaged(e) => self.note_damage(&self.read_staged(), at, e),
            Error::Lost => self.note_loss(),
            _ => {}
        }
    }

    /// As [`note`](Self::note), where `staged` is at hand.
    pub(super) fn note_damage(&self, staged: &Staged, at: Ino, e: &bolt::Error) {
        let page = match e {
            bolt::Error::Page { damage, .. } if *damage == Damage::Gone => return self.note_loss(),
            // That a part is cut off was told when it was mounted.
            bolt::Error::Page { damage, .. }
                if *damage == Damage::PastEndOfFile && self.snapshot().is_cut() =>
            {
                return;
            }
            bolt::Error::Page { pgid, .. } => *pgid,
            bolt::Error::Io { source, .. } if is_lost(source) => {
                return self.note_lost_edit(staged, at, source);
            }
            _ => 0,
        };
        if !self.is_first(page) {
            return;
        }
        let line = format!("{}: {e}", self.place_in_words(staged, at));
        let database = self.options.info.get("database");
        let database = database.and_then(|path| path.as_str()).unwrap_or("DB");
        log::warn!(
            "damage in {line}. What lies there reads as an input/output error, the rest is served. \
             All of it: boltfs check {database}"
        );
        let mut known = self.told.0.lock();
        known.lines.push(line);
        if known.pages.len() == MOST {
            log::warn!("there is more damage than is told here: boltfs check {database}");
        }
    }

    /// Says once that another program has made the file shorter, or that its disk fails.
    fn note_loss(&self) {
        let (page, line, next) = match self.snapshot().map().cut() {
            Some(_) => (
                CUT,
                "the database was made shorter by another program while it was mounted",
                "what was cut off reads as an input/output error, and no more edits are taken",
            ),
            None => (
                UNREADABLE,
                "the disk fails to read a part of the database",
                "that part reads as an input/output error. Copy what can be read to another disk",
            ),
        };
        if self.is_first(page) {
            log::error!("{line}: {next}");
            self.told.0.lock().lines.push(line.to_owned());
        }
    }

    /// Says once of each key that the journal has lost what was written to it. `at` is what somebody
    /// wanted to read: the key, or all that is pending.
    fn note_lost_edit(&self, staged: &Staged, at: Ino, why: &io::Error) {
        let tree = self.merged(staged);
        let is_lost = |ino| {
            let content = staged.node(ino).and_then(|node| node.content.as_ref());
            content.is_some_and(|content| content.is_known_lost())
        };
        let lost: Vec<Ino> = match is_lost(at) {
            true => vec![at],
            false => lost_files(staged).collect(),
        };
        for ino in lost {
            let Some(path) = tree.path(ino) else {
                continue;
            };
            let is_new = {
                let mut known = self.told.0.lock();
                known.lost.len() < MOST && known.lost.insert(ino)
            };
            if is_new {
                let path = name::path(path.iter().map(|key| &**key));
                log::error!(
                    "what was written to {path} cannot be read back from the journal ({why}). It reads \
                     as an input/output error, and nothing is committed before it is written again, \
                     removed, or given its old value again (see .boltfs/base)"
                );
            }
        }
    }

    /// The keys of which it is known that the journal has lost what was written to them, by the names of
    /// the mount.
    pub fn lost(&self) -> Vec<String> {
        let lost: Vec<Ino> = lost_files(&self.read_staged()).collect();
        self.paths(&lost)
    }

    fn is_first(&self, page: u64) -> bool {
        let mut known = self.told.0.lock();
        known.pages.len() < MOST && known.pages.insert(page)
    }

    fn place_in_words(&self, staged: &Staged, at: Ino) -> String {
        let tree = self.merged(staged);
        let path = tree.path(at).unwrap_or_default();
        if path.is_empty() {
            return "root bucket".to_owned();
        }
        let is_bucket = self.base.dir(at).is_ok_and(|dir| dir.is_some());
        let what = if is_bucket { "bucket" } else { "key" };
        let path = name::path(path.iter().map(|key| &key[..]));
        format!("{what} {path}")
    }
}
