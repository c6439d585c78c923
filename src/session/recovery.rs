//! The journal that an earlier mount left behind: whether its edits are in the database already,
//! can be made pending again, or do not fit it any more.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::edits::summary;
use super::failure::{Failure, Result};
use super::goal::Goal;
use super::newfile::{NewFile, PutError};
use super::output;
use super::store::Store;
use super::terminal::visible;
use crate::bolt::{DbFile, Disk, Map, Metas, Snapshot};
use crate::journal::{self, Journal, Op, Origin, Reader};
use crate::vfs::{JournalPlace, Resumed};

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

/// What the name of a journal ends in.
pub const SUFFIX: &str = ".boltfs-journal";

/// Where the journal of the database at `database` lies.
pub fn path_of(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(SUFFIX);
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
        if let Err(e) = sync_directory(&self.0) {
            // There would be no journal as long as it is in the way.
            let _ = fs::remove_file(&self.0);
            return Err(e);
        }
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
                if vfs.options().read_only {
                    "-r"
                } else {
                    "--dry-run"
                }
            );
        }
        return Ok(());
    }
    let mut resumed = None;
    if let Some((file, bytes)) = open(&path, store)? {
        let (state, damage) = state(&bytes, vfs.snapshot());
        if bytes.has_lost_since(0) {
            return Err(unreadable(&path));
        }
        match state {
            State::Nothing => {
                remove(&path)?;
                if unfinished == Unfinished::Recover {
                    log::warn!("nothing to recover: {} held no edit", path.display());
                }
            }
            State::Committed(txid) => {
                let kept = damage.map(|damage| keep(&path, &file).map(|kept| (damage, kept)));
                let kept = kept.transpose()?;
                remove(&path)?;
                log::info!(
                    "the edits of an earlier mount are in {} already, as transaction {txid}",
                    store.path().display()
                );
                if let Some((damage, kept)) = kept {
                    log::warn!(
                        "its journal was damaged at byte {}, and is kept as {}. Remove that when you have \
                         seen that nothing is missing: boltfs journal {}",
                        damage.at,
                        kept.display(),
                        kept.display()
                    );
                }
            }
            State::Foreign => return Err(foreign(&path)),
            State::Headless => return Err(headless(&path)),
            State::Pending(reader) => {
                let decision = match unfinished {
                    Unfinished::Ask => ask(&path, &bytes, damage.as_ref())?,
                    decided => decided,
                };
                if decision == Unfinished::Discard {
                    discard(&path, damage.as_ref())?;
                } else {
                    resumed = Some(recover(store, &path, file, reader, damage.as_ref())?);
                }
            }
            State::Other(_) | State::Changed(_) if unfinished == Unfinished::Discard => {
                discard(&path, damage.as_ref())?;
            }
            State::Other(origin) => return Err(of_other_state(&path, store, origin)),
            State::Changed(origin) => return Err(changed(&path, store, origin)),
        }
    } else if unfinished == Unfinished::Recover {
        let near: Vec<_> = [store.path().parent(), path.parent()]
            .into_iter()
            .flatten()
            .collect();
        let other = output::left_behind(store.path(), &near).map_or(String::new(), |output| {
            format!(
                ". {} holds edits of an earlier mount: take them up with --output {} --recover",
                path_of(&output).display(),
                output.display()
            )
        });
        log::warn!(
            "nothing to recover: {} does not exist{other}",
            path.display()
        );
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
    /// It has edits, and nobody knows of which state.
    Headless,
    /// Its edits are in the database, as this transaction.
    Committed(u64),
    /// Its edits start from the state that the database is in.
    Pending(Reader<'a>),
    /// They start from that of the other meta page.
    Other(Origin),
    /// They start from one that the database does not have any more.
    Changed(Origin),
}

/// There is a part of a journal that cannot be made again, and was not only being written when the
/// machine stopped.
struct Damage {
    /// Where it starts, in bytes. What comes before is right.
    at: u64,
    /// How many bytes there are from there on.
    bytes: u64,
    /// How many edits were found among them.
    edits: u64,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let edits = match self.edits {
            0 => "no edit".to_owned(),
            1 => "1 edit".to_owned(),
            n => format!("{n} edits"),
        };
        write!(
            f,
            "damaged at byte {}; in the {} bytes from there on {edits} can still be seen",
            self.at, self.bytes
        )
    }
}

fn state<'a>(bytes: &'a [u8], snapshot: &Snapshot) -> (State<'a>, Option<Damage>) {
    let Some(mut reader) = Reader::new(bytes) else {
        let state = if journal::is_begun(bytes) {
            State::Nothing
        } else if journal::without_header(bytes).is_some() {
            State::Headless
        } else {
            State::Foreign
        };
        return (state, None);
    };
    let origin = reader.origin();
    let mut committed = None;
    let mut note = |op: &Op<'_>, edits: &mut u64| match *op {
        // Only the journal's own: what was written to a file may be another journal.
        Op::Commit { txid, checksum } => {
            let is_own = txid > origin.txid && is_there(snapshot.metas(), txid, checksum);
            committed = committed.or(is_own.then_some(txid));
        }
        Op::Directory { .. } => {}
        _ => *edits += 1,
    };
    let (mut edits, mut behind) = (0, 0);
    for op in reader.by_ref() {
        note(&op, &mut edits);
    }
    let is_damaged = reader.is_damaged();
    if is_damaged {
        for op in reader.behind() {
            note(&op, &mut behind);
        }
    }
    let damage = is_damaged.then(|| Damage {
        at: reader.valid_len(),
        bytes: reader.rest(),
        edits: behind,
    });
    let state = if let Some(txid) = committed {
        State::Committed(txid)
    } else if edits == 0 && damage.is_none() {
        State::Nothing
    } else if origin.txid == snapshot.meta().txid && origin.checksum == snapshot.meta().checksum() {
        Reader::new(bytes).map_or(State::Foreign, State::Pending)
    } else if is_there(snapshot.metas(), origin.txid, origin.checksum) {
        State::Other(origin)
    } else {
        State::Changed(origin)
    };
    (state, damage)
}

/// One of the metas is that of transaction `txid`.
pub fn is_there(metas: &Metas, txid: u64, checksum: u64) -> bool {
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

fn headless(path: &Path) -> Failure {
    let shown = path.display();
    Failure::new(
        format!(
            "the start of {shown} is damaged: it holds edits of an earlier mount, and which state of the \
             database they start from is not known"
        ),
        format!("See them with: boltfs journal {shown}. To mount, move it away."),
    )
}

fn unreadable(path: &Path) -> Failure {
    Failure::new(
        format!(
            "not all of {}, which may hold edits of an earlier mount, can be read: its disk fails, or \
             another program cuts it",
            path.display()
        ),
        "Nothing was changed. Copy what can be read of it to another disk, and move it away.",
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

fn recover(
    store: &Store,
    path: &Path,
    file: DbFile,
    mut reader: Reader<'_>,
    damage: Option<&Damage>,
) -> Result<Resumed> {
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
    if let Some(damage) = damage {
        let kept = keep(path, &file)?;
        log::warn!(
            "{journal} is {damage}. They could not be recovered with what comes before, and are kept: \
             the whole journal as it was is now {0}. See what it holds: boltfs journal {0}",
            kept.display()
        );
    } else if lost > 0 {
        log::warn!(
            "the last {lost} bytes of {journal} were not complete, as when the machine stops while an \
             operation is written"
        );
    }
    let changes = vfs
        .pending_count()
        .map_err(|e| Failure::new(e.to_string(), ""))?;
    log::warn!(
        "recovered {} of an earlier mount: {}, see .boltfs/pending in the mount",
        match replayed.count {
            1 => "1 operation".to_owned(),
            n => format!("{n} operations"),
        },
        match changes {
            1 => "1 change is pending".to_owned(),
            n => format!("{n} changes are pending"),
        }
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

fn discard(path: &Path, damage: Option<&Damage>) -> Result<()> {
    remove(path)?;
    let path = path.display();
    match damage {
        Some(damage) => log::warn!("dropped the edits in {path}, which was {damage}"),
        None => log::warn!("dropped the edits in {path}"),
    }
    Ok(())
}

/// Keeps the journal at `path` as it is under another name beside it, durably and never in the place of
/// a file.
///
/// # Returns
/// That name.
fn keep(path: &Path, file: &DbFile) -> Result<PathBuf> {
    /// Nobody has kept so many.
    const MOST: u32 = 1000;
    let cannot = |e: io::Error| {
        Failure::new(
            format!(
                "{} is damaged, and cannot be kept under another name beside it: {e}",
                path.display()
            ),
            "Nothing was changed. Make room for a copy of it there.",
        )
    };
    for number in 1..=MOST {
        let mut name = path.as_os_str().to_owned();
        name.push(match number {
            1 => ".damaged".to_owned(),
            n => format!(".damaged-{n}"),
        });
        let name = PathBuf::from(name);
        if name.symlink_metadata().is_ok() {
            continue;
        }
        let new = NewFile::start(&name).map_err(cannot)?;
        new.fill(file.file())
            .and_then(|()| new.look_like(file.file()))
            .map_err(cannot)?;
        match new.put(false) {
            Ok(()) => return Ok(name),
            Err(PutError::Not(e)) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(PutError::Not(e) | PutError::Unknown(e)) => return Err(cannot(e)),
        }
    }
    Err(cannot(io::ErrorKind::AlreadyExists.into()))
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
fn ask(path: &Path, bytes: &[u8], damage: Option<&Damage>) -> Result<Unfinished> {
    let shown = path.display();
    let summary = summary(bytes);
    let holds = match damage {
        None => format!("{shown} holds {summary}, never committed"),
        Some(damage) => {
            format!("{shown} is {damage}. Before that it holds {summary}, never committed")
        }
    };
    let next = match damage {
        None => "Mount with --recover to have them pending again, or with --discard to drop them.",
        Some(_) => {
            "Mount with --recover to have those before the damage pending again and the damaged journal \
             kept under another name, or with --discard to drop all of them."
        }
    };
    let undecided = || {
        Failure::new(
            &holds,
            format!("{next} See them all: boltfs journal {shown}"),
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
