//! Each edit is in the journal before it is answered.

use super::dir::Called;
use super::file::unreadable;
use super::{Error, RenameMode, Result, Vfs};
use crate::bolt::{self, Disk, Meta};
use crate::journal::{self, Journal, Kept, Op, Origin, Place, Reader};
use crate::overlay::{Ino, Kind, Merged, Staged};
use crate::view::name;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

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

    /// Where it is, for messages.
    fn path(&self) -> &std::path::Path;
}

/// The journal of a mount.
#[derive(Default)]
pub(super) struct Journaled {
    place: Option<Box<dyn JournalPlace>>,
    journal: Option<Journal>,
    /// The end in it, in bytes, of the edits of an earlier mount, while it has them.
    recovered: Option<u64>,
    origin: Option<Origin>,
    /// The last transaction that was committed.
    committed: Option<u64>,
    /// The number that each directory has in the journal.
    dirs: HashMap<Ino, u64>,
    /// Files whose content was staged before this journal. What the database shows of them may
    /// differ from it, in white space and line ends.
    older: HashSet<Ino>,
}

/// A journal whose operations were made again, to be gone on with.
pub struct Resumed {
    /// The journal, behind its last operation.
    pub journal: Journal,
    /// What [`Vfs::replay`] answered.
    pub replayed: Replayed,
}

/// The operations of a journal were made again.
pub struct Replayed {
    /// How many there were.
    pub count: u64,
    dirs: HashMap<u64, Ino>,
}

/// Finds what an operation is to be called in the journal.
pub(super) struct Names<'a, 'd> {
    tree: Merged<'a>,
    dirs: &'d HashMap<Ino, u64>,
    /// Directories that have no number yet, each after the one it is in.
    new: Vec<(Ino, Op<'a>)>,
}

impl<'a> Names<'a, '_> {
    /// The place of `key` in `dir`; `None` for a directory that was removed.
    pub fn entry(&mut self, dir: Ino, key: &'a [u8]) -> Option<Place<'a>> {
        Some(Place {
            dir: self.number(dir)?,
            key: Cow::Borrowed(key),
        })
    }

    /// The place of `ino`; `None` for a node that was unlinked.
    pub fn node(&mut self, ino: Ino) -> Option<Place<'a>> {
        let (dir, key) = self.tree.place(ino).filter(|_| self.tree.is_linked(ino))?;
        Some(Place {
            dir: self.number(dir)?,
            key,
        })
    }

    fn number(&mut self, dir: Ino) -> Option<u64> {
        let known = self.dirs.len() as u64;
        let mut missing = Vec::new();
        let mut at = dir;
        let mut number = loop {
            if at == Ino::ROOT {
                break journal::ROOT;
            }
            if let Some(&number) = self.dirs.get(&at) {
                break number;
            }
            if let Some(index) = self.new.iter().position(|(ino, _)| *ino == at) {
                break known + 1 + index as u64;
            }
            let (parent, key) = self.tree.place(at)?;
            missing.push((at, key));
            at = parent;
        };
        for (ino, key) in missing.into_iter().rev() {
            let at = Place { dir: number, key };
            number = known + 1 + self.new.len() as u64;
            self.new.push((ino, Op::Directory { at, number }));
        }
        Some(number)
    }
}

impl Vfs {
    /// Keeps a journal at `place` from now on.
    pub fn keep_journal(&self, place: Box<dyn JournalPlace>, resumed: Option<Resumed>) {
        let origin = Some(Origin::of(self.snapshot().meta(), self.options.raw));
        let mut journaled = Journaled {
            place: Some(place),
            origin,
            ..Journaled::default()
        };
        if let Some(Resumed { journal, replayed }) = resumed {
            journaled.recovered = Some(journal.end());
            journaled.journal = Some(journal);
            journaled.dirs = replayed
                .dirs
                .into_iter()
                .map(|(number, ino)| (ino, number))
                .collect();
        }
        *self.journal.lock() = journaled;
    }

    /// Appends operations on `staged` to the journal, all or none. They are asked for only where
    /// there is one.
    ///
    /// # Returns
    /// Where they can be read back, and where the last of them ends there; `None` if they went into no
    /// journal.
    pub(super) fn record<'a, Ops: IntoIterator<Item = Op<'a>>>(
        &'a self,
        staged: &'a Staged,
        ops: impl FnOnce(&mut Names<'a, '_>) -> Ops,
    ) -> Result<Option<(Arc<Kept>, u64)>> {
        let mut journaled = self.journal.lock();
        if journaled.place.is_none() {
            return self.verify_steady().map(|()| None);
        }
        let journaled = &mut *journaled;
        if journaled.journal.is_none() {
            match journaled.start() {
                Ok(journal) => journaled.journal = Some(journal),
                // There will be room again.
                Err(e) if is_full(&e) => return Err(Error::Journal(e)),
                Err(e) => {
                    log::warn!(
                        "edits are kept in memory alone, for no journal can be written beside the \
                         database ({e}): they are lost if boltfs is killed before the unmount"
                    );
                    journaled.place = None;
                    return self.verify_steady().map(|()| None);
                }
            }
        }
        let Some(journal) = &mut journaled.journal else {
            return Ok(None);
        };
        let mut names = Names {
            tree: self.merged(staged),
            dirs: &journaled.dirs,
            new: Vec::new(),
        };
        let mut ops = ops(&mut names).into_iter().peekable();
        let new = names.new;
        if ops.peek().is_none() {
            return Ok(None);
        }
        // Nothing must come into it that was made of lost bytes.
        self.verify_steady()?;
        for (ino, directory) in new {
            journal.append(&directory).map_err(Error::Journal)?;
            let number = journaled.dirs.len() as u64 + 1;
            journaled.dirs.insert(ino, number);
        }
        let before = journal.end();
        for op in ops {
            if let Err(e) = journal.append(&op) {
                journal.cut(before);
                return Err(Error::Journal(e));
            }
        }
        Ok(Some((Arc::clone(journal.kept()), journal.end())))
    }

    /// Where what is recorded now can be read back: `Some(None)` from a journal that is yet to be begun,
    /// `None` from nowhere.
    pub(super) fn kept(&self) -> Option<Option<Arc<Kept>>> {
        let journaled = self.journal.lock();
        journaled.place.as_ref()?;
        Some(journaled.journal.as_ref().map(|j| Arc::clone(j.kept())))
    }

    /// To be called before an edit of the content of `ino` is recorded: the journal must have what
    /// it starts from.
    pub(super) fn record_content(&self, staged: &Staged, ino: Ino) -> Result<()> {
        let older = self.journal.lock().older.contains(&ino);
        let content = staged.node(ino).and_then(|node| node.content.as_ref());
        let Some(content) = content.filter(|_| older) else {
            return Ok(());
        };
        let content = content.bytes().map_err(unreadable)?;
        self.record(staged, |names| {
            let at = names.node(ino);
            let empty = at.clone().map(|at| Op::Resize { at, size: 0 });
            let whole = at.map(|at| Op::Write {
                at,
                offset: 0,
                data: content,
            });
            empty.into_iter().chain(whole)
        })?;
        self.has_content_recorded(ino);
        Ok(())
    }

    /// The journal has what an edit of the content of `ino` starts from.
    pub(super) fn has_content_recorded(&self, ino: Ino) {
        self.journal.lock().older.remove(&ino);
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

    /// The edits are committed, as the state with `meta`, or dropped: the journal goes. `staged` is
    /// what a later edit starts from.
    pub(super) fn end_journal(&self, meta: Option<&Meta>, staged: &Staged) {
        let mut journaled = self.journal.lock();
        if let Some(meta) = meta {
            journaled.origin = Some(Origin::of(meta, self.options.raw));
            journaled.committed = Some(meta.txid);
        }
        journaled.dirs.clear();
        journaled.recovered = None;
        let files = staged.nodes().filter(|(_, node)| node.content.is_some());
        journaled.older = files.map(|(ino, _)| ino).collect();
        let Some(journal) = journaled.journal.take() else {
            return;
        };
        if let Some(place) = &mut journaled.place
            && let Err(e) = place.remove()
        {
            log::warn!("the journal cannot be removed ({e}); its edits are done with");
        }
        journal.finish();
    }

    /// The edits are to be dropped: the journal goes.
    pub fn drop_journal(&self) {
        self.end_journal(None, &self.read_staged());
    }

    /// The journal has edits of an earlier mount that were made again.
    pub fn has_recovered(&self) -> bool {
        self.journal.lock().recovered.is_some()
    }

    /// The edits of this mount are to be dropped, and those of an earlier one that were made again
    /// stay in the journal. Nothing is to be edited after it.
    ///
    /// # Returns
    /// The journal; `None` where it has no such edits, or they are committed or dropped.
    ///
    /// # Errors
    /// What the disk says: the journal may hold all edits then.
    pub fn keep_recovered(&self) -> io::Result<Option<PathBuf>> {
        let mut journaled = self.journal.lock();
        let Journaled {
            place: Some(place),
            journal: Some(journal),
            recovered: Some(end),
            ..
        } = &mut *journaled
        else {
            return Ok(None);
        };
        journal.shorten(*end)?;
        Ok(Some(place.path().to_owned()))
    }

    /// Lets go of the journal at the end of a mount. It stays where it is, for the next one.
    pub fn close_journal(&self) {
        if let Some(journal) = self.journal.lock().journal.take() {
            journal.kept().close();
        }
    }

    /// Whether there is a journal, and a later mount would find all of it: every edit since the last
    /// commit. Reads it from start to end.
    pub fn has_whole_journal(&self) -> bool {
        let found = self.journal.lock().journal.as_ref().map(Journal::found);
        found.is_some_and(|found| found.is_whole())
    }

    /// Where the files `inos` are, by the names of the mount, in order.
    pub fn paths(&self, inos: &[Ino]) -> Vec<String> {
        let staged = self.read_staged();
        let tree = self.merged(&staged);
        let mut paths: Vec<_> = inos.iter().filter_map(|&ino| tree.path(ino)).collect();
        paths.sort();
        let shown = |path: &Vec<Cow<'_, [u8]>>| name::path(path.iter().map(|key| &**key));
        paths.iter().map(shown).collect()
    }

    /// There is a journal with all edits since the last commit.
    pub fn has_journal(&self) -> bool {
        self.journal.lock().journal.is_some()
    }

    /// Where the journal is, while there is one.
    pub fn journal_path(&self) -> Option<PathBuf> {
        let journaled = self.journal.lock();
        let place = journaled.place.as_ref()?;
        journaled.journal.as_ref()?;
        Some(place.path().to_owned())
    }

    /// The last transaction that this mount has committed.
    pub fn committed_txid(&self) -> Option<u64> {
        self.journal.lock().committed
    }

    /// Makes the edits of a journal again, as pending ones.
    ///
    /// # Errors
    /// The first operation that could not be made again, with its number: the journal does not fit
    /// the database.
    pub fn replay(&self, journal: &mut Reader<'_>) -> Result<Replayed, (u64, Error)> {
        let dirs = HashMap::new();
        let mut replayed = Replayed { count: 0, dirs };
        for (number, op) in (1..).zip(journal) {
            self.apply(&op, &mut replayed).map_err(|e| (number, e))?;
        }
        Ok(replayed)
    }

    fn apply(&self, op: &Op<'_>, replayed: &mut Replayed) -> Result<()> {
        let (uid, gid) = (self.options.uid, self.options.gid);
        let (file, dir) = (self.options.file_mode.into(), self.options.dir_mode.into());
        replayed.count += 1;
        match op {
            Op::Directory { at, number } => {
                replayed.count -= 1;
                let ino = self.node_at(at, replayed)?;
                if *number != replayed.dirs.len() as u64 + 1 {
                    return Err(Error::Invalid);
                }
                replayed.dirs.insert(*number, ino);
                Ok(())
            }
            Op::Create { at } => {
                let (parent, key) = replayed.entry(at)?;
                self.make(parent, key, Kind::File, file, uid, gid).map(drop)
            }
            Op::Mkdir { at } => {
                let (parent, key) = replayed.entry(at)?;
                self.make(parent, key, Kind::Directory, dir, uid, gid)
                    .map(drop)
            }
            Op::Unlink { at } => {
                let (parent, key) = replayed.entry(at)?;
                self.remove(parent, key, Kind::File)
            }
            Op::Rmdir { at } => {
                let (parent, key) = replayed.entry(at)?;
                self.remove(parent, key, Kind::Directory)
            }
            Op::Rename { from, to, exchange } => {
                let mode = if *exchange {
                    RenameMode::Exchange
                } else {
                    RenameMode::Replace
                };
                self.move_entry(replayed.entry(from)?, replayed.entry(to)?, mode)
            }
            Op::Write { at, offset, data } => {
                self.write(self.node_at(at, replayed)?, *offset, data, false)
            }
            Op::Resize { at, size } => {
                let set = super::SetAttr {
                    size: Some(*size),
                    ..Default::default()
                };
                self.setattr(self.node_at(at, replayed)?, set).map(drop)
            }
            Op::Sequence { at, sequence } => {
                self.set_sequence(self.node_at(at, replayed)?, *sequence)
            }
            // It did not become visible, or the journal would not be replayed.
            Op::Commit { .. } => {
                replayed.count -= 1;
                Ok(())
            }
        }
    }

    /// The node at `place`.
    fn node_at(&self, place: &Place<'_>, replayed: &Replayed) -> Result<Ino> {
        let dir = replayed.dir(place)?;
        let staged = self.read_staged();
        Ok(self
            .merged(&staged)
            .find(dir, &place.key)?
            .ok_or(Error::NotFound)?
            .ino)
    }
}

impl Replayed {
    fn dir(&self, place: &Place<'_>) -> Result<Ino> {
        match place.dir {
            journal::ROOT => Ok(Ino::ROOT),
            number => self.dirs.get(&number).copied().ok_or(Error::Invalid),
        }
    }

    /// The directory and the key of the entry at `place`. Not its name: that of a long key leads to
    /// it only while it is there.
    fn entry<'a>(&self, place: &'a Place<'_>) -> Result<(Ino, Called<'a>)> {
        Ok((self.dir(place)?, Called::Key(&place.key)))
    }
}

impl Journaled {
    fn start(&mut self) -> io::Result<Journal> {
        let (Some(place), Some(origin)) = (&mut self.place, self.origin) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let disk = place.create()?;
        Journal::start(disk, origin).inspect_err(|_| drop(place.remove()))
    }
}

/// There is no room for more on the disk or in memory, or in what this user or process may take of it.
fn is_full(e: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, OutOfMemory, QuotaExceeded, StorageFull};
    matches!(
        e.kind(),
        StorageFull | QuotaExceeded | FileTooLarge | OutOfMemory
    ) || matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
