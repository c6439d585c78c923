//! Each edit is in the journal before it is answered.

use super::{Error, RenameMode, Result, Vfs};
use crate::bolt::{self, Disk, Meta};
use crate::journal::{Journal, Op, Origin, Path, Reader};
use crate::overlay::{Ino, Staged};
use crate::view::name;
use std::borrow::Cow;
use std::io;

/// Where the journal of a mount lies. It is there only while something is staged.
pub trait JournalPlace: Send {
    /// Makes an empty journal file.
    ///
    /// # Errors
    /// What the operating system says.
    fn create(&mut self) -> io::Result<Box<dyn Disk>>;

    /// Removes the journal file.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove(&mut self) -> io::Result<()>;
}

/// The journal of a mount.
#[derive(Default)]
pub(super) struct Journaled {
    place: Option<Box<dyn JournalPlace>>,
    journal: Option<Journal>,
    origin: Option<Origin>,
}

impl Vfs {
    /// Keeps a journal at `place` from now on; `resumed` is one whose operations were
    /// [replayed](Self::replay).
    pub fn keep_journal(&self, place: Box<dyn JournalPlace>, resumed: Option<Journal>) {
        let origin = Some(Origin::of(self.snapshot().meta(), self.options.raw));
        *self.journal.lock() = Journaled {
            place: Some(place),
            journal: resumed,
            origin,
        };
    }

    /// Appends `op` to the journal. The path it needs is asked for only where there is one.
    pub(super) fn record<'a>(&self, op: impl FnOnce() -> Option<Op<'a>>) -> Result<()> {
        let mut journaled = self.journal.lock();
        if journaled.place.is_none() {
            return Ok(());
        }
        let Some(op) = op() else { return Ok(()) };
        if journaled.journal.is_none() {
            match journaled.start() {
                Ok(journal) => journaled.journal = Some(journal),
                Err(e) => {
                    log::warn!(
                        "edits are kept in memory alone, for no journal can be written beside the \
                         database ({e}): they are lost if boltfs is killed before the unmount"
                    );
                    journaled.place = None;
                    return Ok(());
                }
            }
        }
        match &mut journaled.journal {
            Some(journal) => journal.append(&op).map_err(Error::Journal),
            None => Ok(()),
        }
    }

    /// Makes every edit that has been answered durable.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub fn sync(&self) -> Result<()> {
        match &self.journal.lock().journal {
            Some(journal) => journal.sync().map_err(Error::Journal),
            None => Ok(()),
        }
    }

    /// Notes that the state with `meta`, which holds all edits, is about to become visible. The
    /// writer must call this before it writes the meta: a journal found later then tells whether
    /// its edits are in the database.
    ///
    /// # Errors
    /// [`bolt::Error::Io`]: the commit must not go on.
    pub fn committing(&self, meta: &Meta) -> bolt::Result<()> {
        let mut journaled = self.journal.lock();
        let Some(journal) = &mut journaled.journal else {
            return Ok(());
        };
        let op = Op::Commit {
            txid: meta.txid,
            checksum: meta.checksum(),
        };
        let noted = journal.append(&op).and_then(|()| journal.sync());
        noted.map_err(|e| bolt::Error::io("write the journal", e))
    }

    /// The edits are committed, as the state with `meta`, or dropped: the journal goes.
    pub(super) fn end_journal(&self, meta: Option<&Meta>) {
        let mut journaled = self.journal.lock();
        if let Some(meta) = meta {
            journaled.origin = Some(Origin::of(meta, self.options.raw));
        }
        if journaled.journal.take().is_some()
            && let Some(place) = &mut journaled.place
            && let Err(e) = place.remove()
        {
            log::warn!("the journal cannot be removed ({e}); its edits are done with");
        }
    }

    /// The edits are to be dropped: the journal goes.
    pub fn drop_journal(&self) {
        self.end_journal(None);
    }

    /// There is a journal with all edits since the last commit.
    pub fn has_journal(&self) -> bool {
        self.journal.lock().journal.is_some()
    }

    /// Makes the edits of a journal again, as pending ones.
    ///
    /// # Returns
    /// How many operations there were.
    ///
    /// # Errors
    /// The first operation that could not be made again, with its number: the journal does not fit
    /// the database.
    pub fn replay(&self, journal: &mut Reader<'_>) -> Result<u64, (u64, Error)> {
        let mut count = 0;
        for op in journal {
            count += 1;
            self.apply(&op).map_err(|e| (count, e))?;
        }
        Ok(count)
    }

    fn apply(&self, op: &Op<'_>) -> Result<()> {
        let (uid, gid) = (self.options.uid, self.options.gid);
        let (file, dir) = (self.options.file_mode.into(), self.options.dir_mode.into());
        match op {
            Op::Create { path } => {
                let (parent, name) = self.entry_at(path)?;
                self.create(parent, &name, file, uid, gid).map(drop)
            }
            Op::Mkdir { path } => {
                let (parent, name) = self.entry_at(path)?;
                self.mkdir(parent, &name, dir, uid, gid).map(drop)
            }
            Op::Unlink { path } => {
                let (parent, name) = self.entry_at(path)?;
                self.unlink(parent, &name)
            }
            Op::Rmdir { path } => {
                let (parent, name) = self.entry_at(path)?;
                self.rmdir(parent, &name)
            }
            Op::Rename { from, to, exchange } => {
                let ((dir, name), (new_dir, new_name)) = (self.entry_at(from)?, self.entry_at(to)?);
                let mode = if *exchange {
                    RenameMode::Exchange
                } else {
                    RenameMode::Replace
                };
                self.rename(dir, &name, new_dir, &new_name, mode)
            }
            Op::Write { path, offset, data } => {
                self.write(self.node_at(path)?, *offset, data, false)
            }
            Op::Resize { path, size } => {
                let set = super::SetAttr {
                    size: Some(*size),
                    ..Default::default()
                };
                self.setattr(self.node_at(path)?, set).map(drop)
            }
            Op::Sequence { path, sequence } => self.set_sequence(self.node_at(path)?, *sequence),
            // It did not become visible, or the journal would not be replayed.
            Op::Commit { .. } => Ok(()),
        }
    }

    /// The node at `path`.
    fn node_at(&self, path: &[Cow<'_, [u8]>]) -> Result<Ino> {
        let staged = self.read_staged();
        let tree = self.merged(&staged);
        path.iter().try_fold(Ino::ROOT, |dir, key| {
            Ok(tree.find(dir, key)?.ok_or(Error::NotFound)?.ino)
        })
    }

    /// The directory and the name of the entry at `path`.
    fn entry_at(&self, path: &[Cow<'_, [u8]>]) -> Result<(Ino, Vec<u8>)> {
        let (key, dir) = path.split_last().ok_or(Error::Invalid)?;
        let dir = self.node_at(dir)?;
        Ok((dir, name::encode(key, super::dir::is_root(dir))))
    }

    /// The path of `ino`, for the journal; `None` for a node that was unlinked.
    pub(super) fn path<'a>(&'a self, staged: &'a Staged, ino: Ino) -> Option<Path<'a>> {
        self.merged(staged).path(ino)
    }

    /// The path of `key` in `dir`, for the journal.
    pub(super) fn path_in<'a>(
        &'a self,
        staged: &'a Staged,
        dir: Ino,
        key: &'a [u8],
    ) -> Option<Path<'a>> {
        let mut path = self.path(staged, dir)?;
        path.push(Cow::Borrowed(key));
        Some(path)
    }
}

impl Journaled {
    fn start(&mut self) -> io::Result<Journal> {
        let (Some(place), Some(origin)) = (&mut self.place, self.origin) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        Journal::start(place.create()?, origin)
    }
}
