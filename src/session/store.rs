//! The database behind a mount: what is served, and how it is committed.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::commit::Outcome;
use super::failure::{Failure, Result};
use super::mountinfo::shown;
use super::options::Owner;
use super::serve::MountRequest;
use crate::bolt::{
    CommitError, CommitOptions, Committed, DbFile, Disk, Error, Snapshot, check, writer,
};
use crate::overlay::Change;
use crate::vfs::{self, Vfs};

/// An open, locked database and the file system over it.
pub struct Store {
    file: DbFile,
    /// As the file was when we last looked or wrote.
    stamp: Mutex<Stamp>,
    vfs: Arc<Vfs>,
    /// The last transaction that was committed over the mounted snapshot.
    prior: Mutex<Option<Committed>>,
}

impl Store {
    /// The file system over `snapshot`, which was read from `file`, to be mounted at `point`.
    ///
    /// # Errors
    /// Where the file's owner and mode cannot be read.
    pub fn new(
        request: &MountRequest,
        point: &Path,
        file: DbFile,
        snapshot: Snapshot,
    ) -> Result<Store> {
        let path = file.path().to_owned();
        let metadata = file.file().metadata().map_err(|e| {
            Failure::new(format!("{}: {e}", path.display()), "Check the file's disk.")
        })?;
        let time = metadata.modified().unwrap_or(std::time::UNIX_EPOCH);
        let (uid, gid, mode) = (metadata.uid(), metadata.gid(), metadata.mode());
        let mut options = vfs::Options::of_file(uid, gid, mode, time);
        options.raw = request.raw;
        options.read_only = request.read_only;
        let Owner { uid, gid, umask } = request.owner;
        options.uid = uid.unwrap_or(options.uid);
        options.gid = gid.unwrap_or(options.gid);
        if let Some(umask) = umask {
            options.file_mode = 0o666 & !umask;
            options.dir_mode = 0o777 & !umask;
        }
        options.info = about(request, &path, point);
        let beside = path.clone();
        options.space = Some(Arc::new(move || {
            let s = rustix::fs::statvfs(&beside).ok()?;
            Some((
                s.f_bfree.saturating_mul(s.f_frsize),
                s.f_bavail.saturating_mul(s.f_frsize),
            ))
        }));
        Ok(Store {
            stamp: Mutex::new(Stamp::of(&metadata)),
            file,
            vfs: Arc::new(Vfs::new(snapshot, options)),
            prior: Mutex::default(),
        })
    }

    /// The file system.
    pub fn vfs(&self) -> Arc<Vfs> {
        self.vfs.clone()
    }

    /// The database's path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Refuses every further change. When it returns, none is under way.
    pub fn seal(&self) {
        self.vfs.seal();
    }

    /// How many changes are staged.
    ///
    /// # Errors
    /// Damage of the database where something is staged.
    pub fn staged(&self) -> Result<u64, Error> {
        self.vfs.pending_count()
    }

    /// Writes what is staged in one transaction. `None`: nothing was staged, and the file was not
    /// touched.
    ///
    /// # Errors
    /// Why nothing was committed, and what is still safe.
    pub fn commit(&self) -> Result<Option<Outcome>> {
        // Damage is told below.
        if self.vfs.settle().is_ok_and(|settled| settled) {
            return Ok(None);
        }
        let survey = self.survey();
        let mut prior = self.prior.lock();
        self.verify_undisturbed()?;
        let survey = survey.map_err(|e| self.not_committed(&e.into()))?;
        let done = self.with_options(|options| {
            let options = CommitOptions {
                before_meta: Some(&|meta| self.vfs.committing(meta)),
                ..*options
            };
            let file: &dyn Disk = &self.file;
            self.vfs.commit(file, |disk, base, changes| {
                writer::commit(disk, base, prior.as_ref(), changes, &options)
            })
        });
        // Even a commit that failed has written.
        if let Ok(metadata) = self.file.file().metadata() {
            *self.stamp.lock() = Stamp::of(&metadata);
        }
        let done = done.map_err(|e| self.not_committed(&e))?;
        let mut notes = survey.notes();
        if done.freelist_abandoned {
            notes.push(
                "the stored list of free pages was wrong and is left out; bbolt makes a new one \
                 when it opens the database"
                    .to_owned(),
            );
        }
        let outcome = Outcome {
            txid: done.meta.txid,
            stats: done.stats,
            notes,
        };
        *prior = Some(done);
        Ok(Some(outcome))
    }

    /// Hands `commit` what is known about the free pages of the database.
    fn with_options<T>(&self, commit: impl FnOnce(&CommitOptions<'_>) -> T) -> T {
        let base = self.vfs.snapshot();
        // A small commit to a huge file is not to wait; pages are appended then.
        let proof =
            check::is_quick(base).then(|| check::check(base, Default::default(), &mut |_| ()));
        if let Some(proof) = &proof
            && !proof.is_sound()
        {
            log::warn!(
                "{0} has damage beside what you changed; see boltfs check {0}",
                self.path().display()
            );
        }
        commit(&CommitOptions {
            free: proof.as_ref().and_then(|proof| proof.free.as_ref()),
            avoid: proof.as_ref().map(|proof| &proof.dangling),
            damaged: proof.as_ref().is_some_and(|proof| proof.free.is_none()),
            abandon_freelist: proof.as_ref().is_some_and(|proof| !proof.freelist_ok),
            ..Default::default()
        })
    }

    /// The journal that holds the edits, if it will be found by the next mount of the database.
    pub fn journal(&self) -> Option<PathBuf> {
        let found = self.vfs.has_journal() && self.file.is_in_place().unwrap_or(false);
        found.then(|| super::recovery::path_of(self.path()))
    }

    /// The edits are not wanted any more.
    pub fn drop_edits(&self) {
        self.vfs.drop_journal();
    }

    /// Puts the database with the edits into a new file, as they could not be put where they
    /// belong: beside it, or else where temporary files go. Only at the end of a mount.
    pub fn rescue(&self) -> Option<PathBuf> {
        let mut name = self.path().file_name()?.to_owned();
        name.push(format!(".rescued-{}", std::process::id()));
        let places = [self.path().parent()?.to_owned(), std::env::temp_dir()];
        places
            .into_iter()
            .map(|place| place.join(&name))
            .find(|path| {
                let written = self.write_copy(path);
                if let Err(e) = &written {
                    log::warn!("cannot put the edits into {}: {e}", path.display());
                    let _ = fs::remove_file(path);
                }
                written.is_ok()
            })
    }

    /// Makes a copy of the database with the edits at `path`, where no file must be.
    fn write_copy(&self, path: &Path) -> Result<()> {
        let cannot = |e: io::Error| Failure::new(e.to_string(), "");
        // Opened anew: a position of its own, and the same file even if its name is gone.
        let open = format!("/proc/self/fd/{}", self.file.file().as_raw_fd());
        let mut from = File::open(open).map_err(cannot)?;
        let mut options = fs::OpenOptions::new();
        let mut to = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(cannot)?;
        io::copy(&mut from, &mut to).map_err(cannot)?;
        to.sync_all().map_err(cannot)?;
        let copy = DbFile::open(path, true).map_err(cannot)?;
        let disk: &dyn Disk = &copy;
        let prior = self.prior.lock();
        self.with_options(|options| {
            self.vfs.copy(disk, |disk, base, changes| {
                writer::commit(disk, base, prior.as_ref(), changes, options)
            })
        })
        .map(drop)
        .map_err(|e| self.not_committed(&e))
    }

    /// Gives the lock on the database back. Nothing is read or written after it.
    pub fn release(&self) {
        if let Err(e) = self.file.file().unlock() {
            log::warn!("{}: cannot release the lock: {e}", self.path().display());
        }
    }

    /// What is staged, as far as the report needs it.
    fn survey(&self) -> Result<Survey, Error> {
        let mut survey = Survey::default();
        self.vfs.pending(&mut |change| survey.add(&change))?;
        Ok(survey)
    }

    /// The file is where it was, and nobody but us has written to it.
    fn verify_undisturbed(&self) -> Result<()> {
        let gone = |e: io::Error| {
            let what = format!("{} cannot be found any more: {e}", self.path().display());
            Failure::new(what, "Nothing was written.")
        };
        if !self.file.is_in_place().map_err(gone)? {
            return Err(self.replaced());
        }
        let was = *self.stamp.lock();
        let is = Stamp::of(&self.file.file().metadata().map_err(gone)?);
        let cut = self.vfs.snapshot().map().cut().unwrap_or(is.len);
        let what = match cut.min(is.len) {
            len if len < was.len => format!("it had {} bytes and was cut to {len}", was.len),
            _ if is != was => "it was changed after the last time that we wrote or read".to_owned(),
            _ => return Ok(()),
        };
        Err(self.not_committed(&CommitError::Changed { what }))
    }

    fn replaced(&self) -> Failure {
        let shown = self.path().display();
        let what = match fs::symlink_metadata(self.path()) {
            Ok(_) => format!("another file was put in the place of {shown} while it was mounted"),
            Err(_) => format!("{shown} was moved or deleted while it was mounted"),
        };
        Failure::new(what, "Nothing was written to it.")
    }

    fn not_committed(&self, e: &CommitError) -> Failure {
        let shown = self.path().display();
        match e {
            CommitError::NotCommitted(why) => {
                let next = match why {
                    Error::Io { source, .. } if is_full(source) => "Make room on its disk.",
                    _ => "",
                };
                Failure::new(format!("{why}. {shown} is as it was"), next)
            }
            CommitError::Changed { what } => Failure::new(
                format!(
                    "another program wrote to {shown} while it was mounted, without taking the \
                     lock ({what})"
                ),
                format!(
                    "Nothing was written to it. See what it holds now: boltfs check {shown} (your \
                     edits fit the database as it was mounted, transaction {})",
                    self.vfs.snapshot().meta().txid
                ),
            ),
            CommitError::Unknown { .. } => Failure::new(
                format!("{shown}: {e}"),
                format!("Its disk fails. Copy the file to another one, then: boltfs check {shown}"),
            ),
        }
    }
}

/// What the operating system knows of a file's content: something in it changes with every write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    len: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Stamp {
        Stamp {
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// What `.boltfs/info` says about a mount that stays so for its life.
fn about(request: &MountRequest, database: &Path, point: &Path) -> Map<String, Value> {
    let now = Timestamp::now();
    let started = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mode = if request.read_only {
        "read-only"
    } else {
        "read-write"
    };
    let about = [
        ("database", json!(shown(database))),
        ("mountpoint", json!(shown(point))),
        ("mode", json!(mode)),
        ("started", json!(started.to_string())),
        ("user", json!(nix::unistd::geteuid().as_raw())),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
    ];
    about
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn is_full(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// What is staged, as far as the report of a commit needs it.
#[derive(Default)]
struct Survey {
    /// One line for each change that was not stored as it was written, or should not have been.
    remarkable: Vec<String>,
    more: u64,
}

impl Survey {
    /// Most remarks that are told.
    const TOLD: usize = 10;

    fn add(&mut self, change: &Change<'_>) {
        let Some(remark) = change.pending.warning() else {
            return;
        };
        if self.remarkable.len() < Self::TOLD {
            self.remarkable.push(remark);
        } else {
            self.more += 1;
        }
    }

    fn notes(self) -> Vec<String> {
        let mut notes = self.remarkable;
        if self.more > 0 {
            notes.push(format!("and {} more of this kind", self.more));
        }
        notes
    }
}
