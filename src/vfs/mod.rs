//! What a file system does, in kernel words, by inode number; knows nothing of FUSE.
//!
//! Every method is one operation, may be called from several threads, and leaves nothing half
//! done when it answers an error.

mod attr;
mod control;
mod damage;
mod dir;
mod error;
mod file;
mod journaled;
mod rename;
mod shown;
mod siblings;
mod xattr;

pub use attr::{Attr, SetAttr, SetTime, StatFs};
pub use control::is_control;
pub use dir::DirEntry;
pub use error::{Error, Result};
pub use file::MAX_FILE;
pub use journaled::{JournalPlace, Replayed, Resumed};
pub use rename::RenameMode;
pub use siblings::Sibling;
pub use xattr::SetXattr;

use crate::bolt::check::Counts;
use crate::bolt::writer::{Committed, Stats};
use crate::bolt::{self, Changes, Snapshot};
use crate::overlay::{
    self, Attrs, Base, Change, Files, Ino, Judge, Kind, Last, Merged, Staged, Which,
};
use crate::view::name;
use journaled::Journaled;
use parking_lot::{MappedRwLockWriteGuard, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use shown::ShownCache;
use std::collections::HashSet;
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

/// How a mount looks and what it may do.
#[derive(Clone)]
pub struct Options {
    /// Show values as stored.
    pub raw: bool,
    /// Refuse every edit.
    pub read_only: bool,
    /// Owner of every node at first: the database file's.
    pub uid: u32,
    /// Group of every node at first: the database file's.
    pub gid: u32,
    /// Permission bits of keys at first: the database file's.
    pub file_mode: u16,
    /// Permission bits of buckets at first: as keys, and searchable by whoever may read.
    pub dir_mode: u16,
    /// All times at first: the database file's last change.
    pub time: SystemTime,
    /// Content of `.boltfs/info`, but for what changes.
    pub info: serde_json::Map<String, serde_json::Value>,
    /// Asks for the bytes free where the database lies: all, and to ordinary users.
    pub space: Option<Arc<Space>>,
}

/// A way to ask for free space.
pub type Space = dyn Fn() -> Option<(u64, u64)> + Send + Sync;

impl Options {
    /// Attributes that follow those of a database file with this owner, mode and time.
    pub fn of_file(uid: u32, gid: u32, mode: u32, time: SystemTime) -> Options {
        let file_mode = (mode & 0o666) as u16;
        let dir_mode = file_mode | (file_mode & 0o444) >> 2;
        let info = serde_json::Map::new();
        Options {
            raw: false,
            read_only: false,
            uid,
            gid,
            file_mode,
            dir_mode,
            time,
            info,
            space: None,
        }
    }
}

/// What the kernel must forget after a discard.
#[derive(Debug, Default)]
pub struct Forgotten {
    /// Directories and names in them.
    pub names: Vec<(Ino, Vec<u8>)>,
    /// Nodes.
    pub nodes: HashSet<Ino>,
}

/// What was staged, and what had been committed, at one moment.
pub struct Moment {
    staged: Arc<Staged>,
    last: Arc<Last>,
    /// This mount has committed nothing before.
    is_first: bool,
}

/// The file system over one snapshot.
pub struct Vfs {
    base: Base,
    /// Shared with `committed`, and with whoever lists it at leisure, until the next edit.
    staged: RwLock<Arc<Staged>>,
    /// The last commit of this mount.
    committed: RwLock<Arc<Last>>,
    options: Options,
    shown: ShownCache,
    /// What was said of damage.
    told: damage::Told,
    sealed: AtomicBool,
    /// What is staged may be half changed: a request was given up in the midst of it.
    broken: AtomicBool,
    /// Losses of the map when the edit under way began.
    losses_before_edit: AtomicUsize,
    journal: Mutex<Journaled>,
    /// What is in `.boltfs`.
    texts: control::Texts,
    /// What the base consists of, once somebody asked; `None`: too much to count.
    counts: OnceLock<Option<Counts>>,
}

impl Vfs {
    /// The file system of a mount of `snapshot`.
    pub fn new(snapshot: Snapshot, options: Options) -> Vfs {
        Vfs {
            base: Base::new(snapshot),
            staged: RwLock::default(),
            committed: RwLock::default(),
            options,
            shown: ShownCache::default(),
            told: damage::Told::default(),
            sealed: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            losses_before_edit: AtomicUsize::new(0),
            journal: Mutex::default(),
            texts: control::Texts::default(),
            counts: OnceLock::new(),
        }
    }

    /// The mounted snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        self.base.snapshot()
    }

    /// How it was mounted.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Takes no more edits from now on: what is staged is what a commit will see.
    pub fn seal(&self) {
        // The lock makes sure that no edit is under way any more.
        let _staged = self.staged.write();
        self.sealed.store(true, Ordering::Release);
    }

    /// A request was given up in the midst of it, by a fault in our own code: what is staged may be
    /// half changed. No more edits are taken, and none of them must be committed.
    ///
    /// # Returns
    /// Whether it is the first one.
    pub fn give_up(&self) -> bool {
        self.seal();
        !self.broken.swap(true, Ordering::AcqRel)
    }

    /// Whether a request [was given up](Self::give_up).
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Whether edits are refused from now on.
    pub fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Hands the change set to `commit`, edits waiting meanwhile, and takes note if it succeeds:
    /// what was staged until then is not pending any more. The change set is always relative to
    /// the mounted snapshot, so the next one contains this one.
    ///
    /// `commit` is handed `disk` and the snapshot too, as it needs them for as long as the changes.
    ///
    /// # Errors
    /// That of `commit`, or damage of the base where something is staged.
    pub fn commit<D: ?Sized, E: From<bolt::Error>>(
        &self,
        disk: &D,
        commit: impl for<'a> FnOnce(&'a D, &'a Snapshot, Changes<'a>) -> Result<Committed, E>,
    ) -> Result<Committed, E> {
        // One commit at a time.
        let staged = self.staged.upgradable_read();
        let last = Arc::clone(&self.committed.read());
        last.settle(&self.base, self.options.raw)?;
        let anew = Files::default();
        let changes = overlay::changes(self.merged(&staged), self.judge(&last, &anew))?;
        let done = commit(disk, self.snapshot(), changes)?;
        self.end_journal(Some(&done.meta), &staged);
        let now = Last::new(Arc::clone(&staged), last, anew);
        *self.committed.write() = Arc::new(now);
        Ok(done)
    }

    /// Hands the change set to `write`, which puts it elsewhere: it stays pending. With `left_out` files
    /// whose content the journal has lost are left as they were, and noted there.
    ///
    /// # Errors
    /// That of `write`, or damage of the base where something is staged.
    pub fn copy<D: ?Sized, E: From<bolt::Error>>(
        &self,
        disk: &D,
        left_out: Option<&Files>,
        write: impl for<'a> FnOnce(&'a D, &'a Snapshot, Changes<'a>) -> Result<Committed, E>,
    ) -> Result<Committed, E> {
        let staged = self.staged.read();
        let last = Arc::clone(&self.committed.read());
        let anew = Files::default();
        let judge = Judge {
            left_out,
            ..self.judge(&last, &anew)
        };
        let changes = overlay::changes(self.merged(&staged), judge)?;
        write(disk, self.snapshot(), changes)
    }

    /// Hands each change since the last commit, of those asked for, to `each`.
    ///
    /// # Errors
    /// Damage of the base where something is staged.
    pub fn pending(
        &self,
        which: Which,
        each: &mut dyn FnMut(Change<'_>),
    ) -> Result<(), bolt::Error> {
        let staged = self.staged.read();
        self.differences(&self.committed.read(), &staged, which, &mut |change| {
            each(change);
            ControlFlow::Continue(())
        })
    }

    fn differences(
        &self,
        last: &Last,
        staged: &Arc<Staged>,
        which: Which,
        each: &mut dyn FnMut(Change<'_>) -> ControlFlow<()>,
    ) -> Result<(), bolt::Error> {
        if Arc::ptr_eq(last.staged(), staged) {
            return Ok(()); // no edit came since
        }
        let losses = self.snapshot().map().losses();
        let (old, new) = (self.merged(last.staged()), self.merged(staged));
        let anew = Files::default();
        overlay::pending(old, new, self.judge(last, &anew), which, each)?;
        match self.snapshot().map().has_lost_since(losses) {
            true => Err(bolt::Error::lost()),
            false => Ok(()),
        }
    }

    /// What is staged now, beside what was committed last.
    pub fn moment(&self) -> Moment {
        let staged = self.staged.read();
        let is_first = self.committed_txid().is_none();
        Moment {
            staged: Arc::clone(&staged),
            last: Arc::clone(&self.committed.read()),
            is_first,
        }
    }

    /// As [`pending`](Self::pending), but of what was staged at `moment`: no edit and no commit waits for
    /// it, nor is waited for.
    ///
    /// # Errors
    /// As there.
    pub fn pending_at(
        &self,
        moment: &Moment,
        which: Which,
        each: &mut dyn FnMut(Change<'_>),
    ) -> Result<(), bolt::Error> {
        self.differences(&moment.last, &moment.staged, which, &mut |change| {
            each(change);
            ControlFlow::Continue(())
        })
    }

    /// Hands to `each` what a commit of this moment stores, and no deletions; but where this mount had
    /// committed before, all changes since.
    ///
    /// # Returns
    /// How many those are; `None` for the first commit: the writer counts the same.
    ///
    /// # Errors
    /// As [`pending_at`](Self::pending_at).
    pub fn survey_at(
        &self,
        moment: &Moment,
        each: &mut dyn FnMut(Change<'_>),
    ) -> Result<Option<Stats>, bolt::Error> {
        if moment.is_first {
            return self.pending_at(moment, Which::Stored, each).map(|()| None);
        }
        let mut stats = Stats::default();
        let (old, new) = (
            self.merged(moment.last.staged()),
            self.merged(&moment.staged),
        );
        self.pending_at(moment, Which::All, &mut |change| {
            overlay::count(&mut stats, old, new, &change);
            each(change);
        })?;
        Ok(Some(stats))
    }

    /// Number of changes since the last commit.
    ///
    /// # Errors
    /// Damage of the base where something is staged.
    pub fn pending_count(&self) -> Result<u64, bolt::Error> {
        let mut count = 0;
        self.pending(Which::All, &mut |_| count += 1)?;
        Ok(count)
    }

    /// As [`pending_count`](Self::pending_count), for whoever can do without: `None` where too much had to be
    /// read back from the journal for it, or it cannot be told.
    pub fn pending_count_at_hand(&self) -> Option<u64> {
        /// So many bytes are read in a moment.
        const MOST: usize = 64 << 20;
        let to_read: usize = {
            let staged = self.staged.read();
            let last = self.committed.read();
            let was = |ino| last.staged().node(ino)?.content.as_ref();
            let kept = staged.nodes().filter_map(|(ino, node)| {
                let content = node.content.as_ref()?;
                // What was committed and not written to since is not read.
                let is_same = was(ino).is_some_and(|was| Arc::ptr_eq(was, content));
                (content.held().is_none() && !is_same).then(|| content.len())
            });
            kept.sum()
        };
        (to_read <= MOST).then(|| self.pending_count().ok())?
    }

    /// If nothing is pending, what was staged has cancelled itself out: the journal goes.
    ///
    /// # Returns
    /// Whether that is so.
    ///
    /// # Errors
    /// Damage of the base where something is staged.
    pub fn settle(&self) -> Result<bool, bolt::Error> {
        // No edit comes between the look and the journal's end.
        let staged = self.staged.upgradable_read();
        let mut none = true;
        self.differences(&self.committed.read(), &staged, Which::All, &mut |_| {
            none = false;
            ControlFlow::Break(())
        })?;
        if none {
            self.end_journal(None, &staged);
        }
        Ok(none)
    }

    /// Drops every edit since the last commit.
    ///
    /// # Returns
    /// What the kernel must forget: names that may stand for something else now, and nodes whose
    /// content or attributes may be others.
    pub fn discard(&self) -> Result<Forgotten> {
        let mut staged = self.unsealed()?;
        let last = self.committed.read();
        let mut forgotten = Forgotten::default();
        for tree in [&*staged, &**last.staged()] {
            for dir in tree.dirs() {
                let keys = tree.entries(dir, Bound::Unbounded).map(|(key, _)| key);
                let names = keys.map(|key| name::encode(&key, dir::is_root(dir)));
                forgotten.names.extend(names.map(|name| (dir, name)));
                forgotten.nodes.insert(dir);
            }
            forgotten.nodes.extend(tree.nodes().map(|(ino, _)| ino));
        }
        staged.revert(last.staged());
        self.end_journal(None, &staged);
        Ok(forgotten)
    }

    /// The kernel has no reference to `ino` any more. What is staged for a node that was unlinked
    /// is dropped then: until that an open file still reads it.
    pub fn forget(&self, ino: Ino) {
        let linked = {
            let staged = self.staged.read();
            let unknown = staged.node(ino).is_none() && !staged.is_removed(ino);
            unknown || self.merged(&staged).is_linked(ino)
        };
        if !linked {
            Arc::make_mut(&mut self.staged.write()).forget(ino);
        }
    }

    fn merged<'a>(&'a self, staged: &'a Staged) -> Merged<'a> {
        Merged {
            base: &self.base,
            staged,
        }
    }

    fn judge<'a>(&self, last: &'a Last, anew: &'a Files) -> Judge<'a> {
        Judge {
            last,
            raw: self.options.raw,
            anew,
            again: false,
            left_out: None,
        }
    }

    fn read_staged(&self) -> RwLockReadGuard<'_, Arc<Staged>> {
        self.staged.read()
    }

    /// Answers what `read` does, which only reads, and is right about the database even if that
    /// loses bytes meanwhile.
    fn steady<T>(&self, read: impl FnMut() -> T) -> T {
        self.snapshot().map().steady(read)
    }

    /// The staged edits, for dropping them.
    fn unsealed(&self) -> Result<MappedRwLockWriteGuard<'_, Staged>> {
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        let staged = self.staged.write();
        if self.is_sealed() {
            return Err(Error::Sealed);
        }
        Ok(RwLockWriteGuard::map(staged, Arc::make_mut))
    }

    /// The staged edits, for changing them.
    fn edit(&self) -> Result<MappedRwLockWriteGuard<'_, Staged>> {
        let staged = self.unsealed()?;
        // No commit can come of it any more.
        if self.snapshot().map().cut().is_some() {
            return Err(Error::Lost);
        }
        let losses = self.snapshot().map().losses();
        self.losses_before_edit.store(losses, Ordering::Relaxed);
        Ok(staged)
    }

    /// Verifies that what was read of the database since the edit under way began can be believed.
    fn verify_steady(&self) -> Result<()> {
        let losses = self.losses_before_edit.load(Ordering::Relaxed);
        match self.snapshot().map().has_lost_since(losses) {
            true => Err(Error::Lost),
            false => Ok(()),
        }
    }

    /// Refuses an edit of the tree as it was at mounting, and of the fixed nodes.
    fn must_be_editable(&self, ino: Ino) -> Result<()> {
        if self.base.is_pristine(ino) || control::is_fixed(ino) {
            return Err(Error::ReadOnly);
        }
        Ok(())
    }

    /// The attributes that every node starts with.
    fn first_attrs(&self, kind: Kind) -> Attrs {
        let Options {
            uid,
            gid,
            file_mode,
            dir_mode,
            time,
            ..
        } = self.options;
        let mode = if kind == Kind::Directory {
            dir_mode
        } else {
            file_mode
        };
        Attrs {
            mode,
            uid,
            gid,
            atime: time,
            mtime: time,
            ctime: time,
        }
    }

    /// Whether the base has `key` in `dir`, which is about to be edited.
    ///
    /// # Errors
    /// Damage there that would keep the edit from being written.
    fn below_for_edit(&self, staged: &Staged, dir: Ino, key: &[u8]) -> Result<bool> {
        Ok(self.element_for_edit(staged, dir, key)?.is_some())
    }

    fn element_for_edit<'a>(
        &'a self,
        staged: &'a Staged,
        dir: Ino,
        key: &[u8],
    ) -> Result<Option<bolt::Element<'a>>> {
        if let Some(base_dir) = self.base.dir(dir)? {
            self.base.verify_editable(&base_dir, key)?;
        }
        match self.merged(staged).below(dir, key) {
            // Made before anybody knew: it can be taken back.
            Err(e) if dir::is_displaced(&e) && staged.entry(dir, key).is_some() => Ok(None),
            below => Ok(below?),
        }
    }

    /// As [`below_for_edit`](Self::below_for_edit) where `ino` is the base's node at `key`. Damage can
    /// have put a node where a look-up finds nothing, or another one: an edit would be made beside it,
    /// and what is listed would stay as it is.
    ///
    /// # Errors
    /// As there.
    fn own_below_for_edit(&self, staged: &Staged, dir: Ino, key: &[u8], ino: Ino) -> Result<bool> {
        let found = self.element_for_edit(staged, dir, key)?;
        match ino.element() {
            Some((_, offset)) if found.is_none_or(|found| found.offset != offset) => {
                let page = self.snapshot().pgid_at(offset);
                Err(bolt::Error::page(page, bolt::Damage::Displaced).into())
            }
            _ => Ok(found.is_some()),
        }
    }

    /// Enters `dir`, in which something is about to change, in its own directory, and so on up to
    /// the root.
    fn touch_up(&self, staged: &mut Staged, dir: Ino) -> Result<()> {
        let mut missing = Vec::new();
        let mut at = dir;
        while let Some((parent, key)) = self.merged(staged).place(at) {
            if staged.entry(parent, &key).is_some() {
                break;
            }
            let below = self.own_below_for_edit(staged, parent, &key, at)?;
            missing.push((parent, overlay::Key::from(&key[..]), at, below));
            at = parent;
        }
        // From the top down: an error on the way has left nothing half entered.
        for (parent, key, ino, below) in missing.into_iter().rev() {
            staged.set(parent, key, ino, below);
        }
        Ok(())
    }
}
