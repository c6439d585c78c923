//! The journal that an earlier mount left behind: whether its edits are in the database already,
//! can be made pending again, or do not fit it any more.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::failure::{Failure, Result};
use super::goal::Goal;
use super::store::Store;
use super::terminal::visible;
use crate::bolt::{DbFile, Disk, Map, Metas, Snapshot};
use crate::journal::{self, Journal, Op, Origin, Place, Reader};
use crate::vfs::{JournalPlace, Resumed};
use crate::view::name;

/// What to do with the edits of an earlier mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// Make them pending again.
    Recover,
    /// Drop them.
    Discard,
    /// Ask on the terminal; without one, refuse to mount.
    Ask,
}

/// Where the journal of the database at `database` lies.
pub fn path_of(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".boltfs-journal");
    path.into()
}

/// A journal beside its database.
struct Beside(PathBuf);

impl JournalPlace for Beside {
    fn create(&mut self) -> io::Result<Box<dyn Disk>> {
        // Never through a link, never over a file that is there, for nobody else to read.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.0)?;
        // Two mounts that share a database's lock may have the same copy in mind.
        file.try_lock()?;
        sync_directory(&self.0)?;
        Ok(Box::new(DbFile::from_file(file, &self.0)))
    }

    fn remove(&mut self) -> io::Result<()> {
        fs::remove_file(&self.0)?;
        sync_directory(&self.0)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Looks for a journal beside the database of `store`, does with it what `unfinished` says, and
/// keeps one from here on.
///
/// # Errors
/// The journal's edits wait for a decision, or cannot be made again.
pub fn prepare(store: &Store, unfinished: Unfinished) -> Result<()> {
    let path = path_of(store.target());
    let vfs = store.vfs();
    let dry = *store.goal() == Goal::Nowhere;
    if vfs.options().read_only || dry {
        // Whatever it is, looking at the database does not need it.
        if path.symlink_metadata().is_ok() {
            log::warn!(
                "{} has edits of an earlier mount that were never committed; they are not shown \
                 here. Mount without {} to recover them",
                path.display(),
                if dry { "--dry-run" } else { "-r" }
            );
        }
        return Ok(());
    }
    let mut resumed = None;
    if let Some((file, bytes)) = open(&path, store)? {
        match state(&bytes, vfs.snapshot()) {
            State::Nothing => remove(&path)?,
            State::Committed(txid) => {
                remove(&path)?;
                log::info!(
                    "an earlier mount was killed right after it committed transaction {txid}"
                );
            }
            State::Foreign => return Err(foreign(&path)),
            State::Pending(reader) => {
                let decision = match unfinished {
                    Unfinished::Ask => ask(&path, &bytes)?,
                    decided => decided,
                };
                if decision == Unfinished::Discard {
                    remove(&path)?;
                    log::warn!("dropped the edits in {}", path.display());
                } else {
                    resumed = Some(recover(store, &path, file, reader)?);
                }
            }
            State::Other(_) | State::Changed(_) if unfinished == Unfinished::Discard => {
                remove(&path)?;
                log::warn!("dropped the edits in {}", path.display());
            }
            State::Other(origin) => return Err(of_other_state(&path, store, origin)),
            State::Changed(origin) => return Err(changed(&path, store, origin)),
        }
    }
    if resumed.is_none() {
        warn_if_not_writable(&path);
    }
    vfs.keep_journal(Box::new(Beside(path)), resumed);
    Ok(())
}

/// How a journal stands to the database it lies beside.
enum State<'a> {
    /// It holds no edit.
    Nothing,
    /// It is no journal.
    Foreign,
    /// Its edits are in the database, as this transaction.
    Committed(u64),
    /// Its edits start from the state that the database is in.
    Pending(Reader<'a>),
    /// They start from that of the other meta page.
    Other(Origin),
    /// They start from one that the database does not have any more.
    Changed(Origin),
}

fn state<'a>(bytes: &'a [u8], snapshot: &Snapshot) -> State<'a> {
    let Some(mut reader) = Reader::new(bytes) else {
        return if journal::is_begun(bytes) {
            State::Nothing
        } else {
            State::Foreign
        };
    };
    let origin = reader.origin();
    let mut edits = 0;
    for op in reader.by_ref() {
        match op {
            Op::Commit { txid, checksum } if is_there(snapshot.metas(), txid, checksum) => {
                return State::Committed(txid);
            }
            Op::Commit { .. } => {}
            Op::Directory { .. } => {}
            _ => edits += 1,
        }
    }
    if edits == 0 {
        State::Nothing
    } else if origin.txid == snapshot.meta().txid && origin.checksum == snapshot.meta().checksum() {
        Reader::new(bytes).map_or(State::Foreign, State::Pending)
    } else if is_there(snapshot.metas(), origin.txid, origin.checksum) {
        State::Other(origin)
    } else {
        State::Changed(origin)
    }
}

/// One of the metas is that of transaction `txid`.
fn is_there(metas: &Metas, txid: u64, checksum: u64) -> bool {
    let all = [metas.get(0), metas.get(1)];
    all.iter()
        .flatten()
        .any(|meta| meta.txid == txid && meta.checksum() == checksum)
}

/// Opens the journal at `path`, if there is one. What lies there is believed only of ourselves, and
/// by root also of the database's owner, who needs no journal to change it.
fn open(path: &Path, store: &Store) -> Result<Option<(DbFile, Map)>> {
    let shown = path.display();
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        // A link, a directory, a socket.
        Err(e)
            if matches!(
                e.raw_os_error(),
                Some(libc::ELOOP | libc::EISDIR | libc::ENXIO)
            ) =>
        {
            return Err(foreign(path));
        }
        Err(e) => {
            return Err(Failure::new(
                format!("{shown}, which may hold edits of an earlier mount, cannot be opened: {e}"),
                "Mount as the user who made them, or move it away.",
            ));
        }
    };
    let metadata = file
        .metadata()
        .map_err(|e| Failure::new(format!("{shown}: {e}"), ""))?;
    let me = nix::unistd::geteuid().as_raw();
    let owner = store.base.file().metadata().map_or(me, |m| m.uid());
    let believed = metadata.uid() == me || (me == 0 && metadata.uid() == owner);
    if !metadata.is_file() || !believed {
        return Err(foreign(path));
    }
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return Err(Failure::new(
            format!("{shown} is being written by another mount"),
            "See what is mounted: boltfs status",
        ));
    }
    let map = Map::of(&file).map_err(|e| Failure::new(format!("cannot read {shown}: {e}"), ""))?;
    Ok(Some((DbFile::from_file(file, path), map)))
}

fn foreign(path: &Path) -> Failure {
    Failure::new(
        format!(
            "{} is not a journal that boltfs made for you",
            path.display()
        ),
        "Look at it, and move it away.",
    )
}

/// The journal starts from the state that is not mounted, of the two that the database has.
fn of_other_state(path: &Path, store: &Store, origin: Origin) -> Failure {
    let (journal, database) = (path.display(), store.path().display());
    let vfs = store.vfs();
    let base = vfs.snapshot();
    let txid = base.meta().txid;
    let (which, with) = match base.newer() {
        Some(_) => (
            "its current state",
            "To take them up, mount without --meta and with --recover.".to_owned(),
        ),
        None => (
            "its older state: it was changed since, or mounted with --meta then",
            format!(
                "To take them up over the older state, mount with --meta {} and with --recover; a \
                 commit then gives transaction {txid} up.",
                1 - base.slot().min(1)
            ),
        ),
    };
    Failure::new(
        format!(
            "{journal} holds edits of an earlier mount of {database} that start from transaction {}, \
             {which}; this is transaction {txid}",
            origin.txid
        ),
        format!(
            "They are not mixed. {with} To drop them, add --discard. See them with: boltfs journal \
             {journal}"
        ),
    )
}

fn changed(path: &Path, store: &Store, origin: Origin) -> Failure {
    let (journal, database) = (path.display(), store.path().display());
    let txid = store.vfs().snapshot().meta().txid;
    Failure::new(
        format!(
            "{journal} holds edits of an earlier mount that start from transaction {}, but \
             {database} was changed since and shows transaction {txid}",
            origin.txid
        ),
        format!(
            "They are not mixed. See them with: boltfs journal {journal}. To mount, move the \
             journal away, or drop it: boltfs --discard {database} MOUNTPOINT"
        ),
    )
}

fn recover(store: &Store, path: &Path, file: DbFile, mut reader: Reader<'_>) -> Result<Resumed> {
    let (vfs, journal) = (store.vfs(), path.display());
    if reader.origin().raw != vfs.options().raw {
        let (with, without) = if reader.origin().raw {
            ("with", "Add")
        } else {
            ("without", "Omit")
        };
        return Err(Failure::new(
            format!("the edits in {journal} were made {with} --raw, and mean something else"),
            format!("{without} --raw to recover them; --discard drops them."),
        ));
    }
    let replayed = vfs.replay(&mut reader).map_err(|(number, e)| {
        Failure::new(
            format!("operation {number} of {journal} cannot be made again: {e}"),
            format!(
                "Nothing was changed. See the operations with: boltfs journal {journal}. \
                 --discard drops them."
            ),
        )
    })?;
    let cannot = |e: io::Error| Failure::new(format!("cannot go on with {journal}: {e}"), "");
    let (lost, valid) = (reader.rest(), reader.valid_len());
    if lost > 0 {
        log::warn!(
            "the last {lost} bytes of {journal} were not complete: one operation was under way"
        );
    }
    let changes = vfs
        .pending_count()
        .map_err(|e| Failure::new(e.to_string(), ""))?;
    log::warn!(
        "recovered {} operations of an earlier mount: {changes} changes are pending, see \
         .boltfs/pending in the mount",
        replayed.count
    );
    let journal = Journal::resume(Box::new(file), valid).map_err(cannot)?;
    Ok(Resumed { journal, replayed })
}

fn remove(path: &Path) -> Result<()> {
    Beside(path.to_owned()).remove().map_err(|e| {
        Failure::new(
            format!("cannot remove {}: {e}", path.display()),
            "Remove it yourself.",
        )
    })
}

fn warn_if_not_writable(path: &Path) {
    let parent = path.parent().unwrap_or(Path::new("/"));
    if let Err(e) = nix::unistd::access(parent, nix::unistd::AccessFlags::W_OK) {
        log::warn!(
            "no journal can be kept in {} ({}): edits are lost if boltfs is killed before the \
             unmount",
            parent.display(),
            e.desc()
        );
    }
}

/// Says what the journal holds and lets the person decide.
fn ask(path: &Path, bytes: &[u8]) -> Result<Unfinished> {
    let holds = format!(
        "{} holds {} that were never committed",
        path.display(),
        summary(bytes)
    );
    let undecided = || {
        let next = "Mount with --recover to have them pending again, or with --discard to drop \
                    them.";
        Failure::new(
            &holds,
            format!("{next} See them all: boltfs journal {}", path.display()),
        )
    };
    if !io::stderr().is_terminal() {
        return Err(undecided());
    }
    let Ok(terminal) = OpenOptions::new().read(true).write(true).open("/dev/tty") else {
        return Err(undecided());
    };
    let mut answers = BufReader::new(&terminal).lines();
    let question = format!(
        "boltfs: {holds}.\nRecover them [r], discard them [d], or leave all as it is [q]? "
    );
    while (&terminal).write_all(visible(&question).as_bytes()).is_ok() {
        match answers
            .next()
            .transpose()
            .ok()
            .flatten()
            .as_deref()
            .map(str::trim)
        {
            Some("r" | "R" | "recover") => return Ok(Unfinished::Recover),
            Some("d" | "D" | "discard") => return Ok(Unfinished::Discard),
            Some("q" | "Q") | None => break,
            Some(_) => {}
        }
    }
    Err(undecided())
}

/// How many operations a journal holds, and the last of them.
fn summary(bytes: &[u8]) -> String {
    const SHOWN: usize = 5;
    let all = Reader::new(bytes).into_iter().flatten();
    let mut words = Words::default();
    let lines: Vec<String> = all.filter_map(|op| words.say(&op)).collect();
    let last = &lines[lines.len().saturating_sub(SHOWN)..];
    let more = if last.len() < lines.len() {
        "…; "
    } else {
        ""
    };
    let edits = if lines.len() == 1 {
        "1 edit"
    } else {
        &format!("{} edits", lines.len())
    };
    format!("{edits} of an earlier mount ({more}{})", last.join("; "))
}

/// Says operations in words, in the order in which they are in the journal.
#[derive(Default)]
struct Words {
    /// The path of each directory that has a number.
    dirs: HashMap<u64, Vec<Vec<u8>>>,
}

impl Words {
    fn keys(&self, place: &Place<'_>) -> Vec<Vec<u8>> {
        let mut keys = self.dirs.get(&place.dir).cloned().unwrap_or_default();
        keys.push(place.key.to_vec());
        keys
    }

    fn path(&self, place: &Place<'_>) -> String {
        name::path(self.keys(place).iter().map(|key| &key[..]))
    }

    /// One operation in words; nothing for a note that is no edit.
    fn say(&mut self, op: &Op<'_>) -> Option<String> {
        Some(match op {
            Op::Directory { at, number } => {
                self.dirs.insert(*number, self.keys(at));
                return None;
            }
            Op::Create { at } => format!("create {}", self.path(at)),
            Op::Mkdir { at } => format!("mkdir {}/", self.path(at)),
            Op::Unlink { at } => format!("unlink {}", self.path(at)),
            Op::Rmdir { at } => format!("rmdir {}/", self.path(at)),
            Op::Rename { from, to, exchange } => {
                let (a, b) = (self.path(from), self.path(to));
                self.moved(from, to, *exchange);
                if *exchange {
                    format!("exchange {a} and {b}")
                } else {
                    format!("rename {a} to {b}")
                }
            }
            Op::Write { at, offset, data } => {
                format!("write {}: {} bytes at {offset}", self.path(at), data.len())
            }
            Op::Resize { at, size } => format!("truncate {} to {size} bytes", self.path(at)),
            Op::Sequence { at, sequence } => {
                format!("sequence of {}/ is {sequence}", self.path(at))
            }
            Op::Commit { .. } => return None,
        })
    }

    /// A directory keeps its number when it, or one above it, gets another name.
    fn moved(&mut self, from: &Place<'_>, to: &Place<'_>, exchange: bool) {
        let (from, to) = (self.keys(from), self.keys(to));
        for path in self.dirs.values_mut() {
            if let Some(rest) = path.strip_prefix(&from[..]) {
                *path = [&to, rest].concat();
            } else if let Some(rest) = path.strip_prefix(&to[..]).filter(|_| exchange) {
                *path = [&from, rest].concat();
            }
        }
    }
}

/// Prints the operations of the journal at `path`, one a line, with the start of what was written.
///
/// # Errors
/// It cannot be read, or is none.
pub fn show(path: &Path) -> Result<u8> {
    let cannot = |e: io::Error| Failure::new(format!("cannot read {}: {e}", path.display()), "");
    let map = File::open(path)
        .and_then(|file| Map::of(&file))
        .map_err(cannot)?;
    let Some(mut reader) = Reader::new(&map) else {
        return Err(Failure::new(
            format!("{} is not a journal of boltfs", path.display()),
            "",
        ));
    };
    let mut out = io::stdout().lock();
    let mut words = Words::default();
    let origin = reader.origin();
    let shown = if origin.raw { ", values as stored" } else { "" };
    writeln!(out, "edits of transaction {}{shown}:", origin.txid).map_err(cannot)?;
    for op in reader.by_ref() {
        if let Some(line) = words.say(&op) {
            writeln!(out, "{line}").map_err(cannot)?;
        }
        if let Op::Write { data, .. } = &op {
            const START: usize = 200;
            let start = &data[..data.len().min(START)];
            let more = if data.len() > START { " …" } else { "" };
            writeln!(out, "    {}{more}", start.escape_ascii()).map_err(cannot)?;
        }
    }
    if reader.rest() > 0 {
        writeln!(out, "{} bytes at the end are not complete", reader.rest()).map_err(cannot)?;
    }
    Ok(0)
}
