//! The database behind a mount: what is served, and what commits have made of it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use nix::unistd::AccessFlags;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::access;
use super::failure::{Failure, Result};
use super::goal::Goal;
use super::mountinfo::shown;
use super::newfile;
use super::options::Owner;
use super::output::{self, Claim};
use super::serve::MountRequest;
use crate::bolt::{Committed, DbFile, Snapshot, check, trailer};
use crate::vfs::{self, Vfs};

/// An open, locked database and the file system over it.
pub struct Store {
    /// The mounted file. Where commits make a new one, it has no name any more, or another one.
    pub(super) base: DbFile,
    pub(super) goal: Goal,
    pub(super) vfs: Arc<Vfs>,
    pub(super) written: Mutex<Written>,
    /// What a check of the mounted state has found, once there was one.
    pub(super) proof: OnceLock<check::Report>,
    /// The sign that the output file is this mount's.
    claim: Mutex<Option<Claim>>,
    /// Whether the hash at the end matches, once somebody asked; `None`: there is none.
    trailer: OnceLock<Option<bool>>,
}

/// What the commits of this mount have left.
pub(super) struct Written {
    /// The file with them, where that is not the mounted one.
    pub file: Option<DbFile>,
    /// As that file, or the mounted one, was when we last looked or wrote.
    pub stamp: Stamp,
    /// The last transaction, over the mounted snapshot.
    pub prior: Option<Committed>,
    /// The backup is made.
    pub backed_up: bool,
    /// A commit can be seen in the file, and the disk does not say that it will be after a power
    /// cut. Nothing can be built on that.
    pub unknown: Option<Failure>,
}

impl Written {
    /// The file that holds the last commit: this one, or else `base`.
    pub fn file_or<'a>(&'a self, base: &'a DbFile) -> &'a DbFile {
        self.file.as_ref().unwrap_or(base)
    }
}

impl Store {
    /// The file system over `snapshot`, which was read from `file`, to be mounted at `point`.
    ///
    /// # Errors
    /// Where the file's owner and mode cannot be read, or another mount has the output file.
    pub fn new(
        request: &MountRequest,
        goal: Goal,
        point: &Path,
        file: DbFile,
        snapshot: Snapshot,
    ) -> Result<Store> {
        let path = file.path().to_owned();
        let unreadable = |e: io::Error| {
            Failure::new(format!("{}: {e}", path.display()), "Check the file's disk.")
        };
        let metadata = file.file().metadata().map_err(unreadable)?;
        let mode = access::mode(file.file()).map_err(unreadable)?;
        let time = metadata.modified().unwrap_or(std::time::UNIX_EPOCH);
        let (uid, gid) = (metadata.uid(), metadata.gid());
        let mut options = vfs::Options::of_file(uid, gid, mode, time);
        options.raw = request.raw;
        options.read_only = request.read_only;
        let Owner { uid, gid, umask } = request.owner;
        let me = nix::unistd::geteuid();
        if !request.read_only && !goal.writes_database() && uid.is_none() && !me.is_root() {
            // Who may read the database may edit what becomes of it elsewhere.
            options.uid = me.as_raw();
            options.file_mode |= 0o600;
            options.dir_mode |= 0o700;
        }
        options.uid = uid.unwrap_or(options.uid);
        options.gid = gid.unwrap_or(options.gid);
        if let Some(umask) = umask {
            options.file_mode = 0o666 & !umask;
            options.dir_mode = 0o777 & !umask;
        }
        options.info = about(request, &goal, &path, point);
        let beside = match &goal {
            Goal::Output(output) => output.parent().unwrap_or(&path).to_owned(),
            _ => path.clone(),
        };
        options.space = Some(Arc::new(move || {
            let s = rustix::fs::statvfs(&beside).ok()?;
            Some((
                s.f_bfree.saturating_mul(s.f_frsize),
                s.f_bavail.saturating_mul(s.f_frsize),
            ))
        }));
        let claim = match &goal {
            Goal::Output(file) => output::claim(file)?,
            _ => None,
        };
        let store = Store {
            claim: Mutex::new(claim),
            base: file,
            goal,
            vfs: Arc::new(Vfs::new(snapshot, options)),
            written: Mutex::new(Written {
                file: None,
                stamp: Stamp::of(&metadata),
                prior: None,
                backed_up: false,
                unknown: None,
            }),
            proof: OnceLock::new(),
            trailer: OnceLock::new(),
        };
        if !request.read_only {
            store.look_at_trailer()?;
        }
        Ok(store)
    }

    /// Whether the file ends in a hash, as an etcd snapshot does, and it matches. Reads the whole
    /// file the first time.
    pub(super) fn trailer(&self) -> Option<bool> {
        *self
            .trailer
            .get_or_init(|| trailer::matches(self.vfs.snapshot()))
    }

    /// A commit makes a new file, and puts it in its place when it is whole.
    pub(super) fn writes_anew(&self) -> bool {
        matches!(self.goal, Goal::Output(_)) || trailer::is_there(self.vfs.snapshot())
    }

    /// Says early what a commit to an etcd snapshot would come upon.
    fn look_at_trailer(&self) -> Result<()> {
        let base = self.vfs.snapshot();
        let database = self.path();
        if !self.goal.writes_database() || !trailer::is_there(base) {
            return Ok(());
        }
        let shown = database.display();
        if let Some(directory) = database.parent()
            && let Err(e) = nix::unistd::access(directory, AccessFlags::W_OK | AccessFlags::X_OK)
        {
            return Err(Failure::new(
                format!(
                    "{shown} is an etcd snapshot, which a commit replaces by a new file, and none \
                     can be made in {}: {}",
                    directory.display(),
                    e.desc()
                ),
                "To look only, mount it with -r; to edit it, work on a copy, or add --output FILE.",
            ));
        }
        if let Err(e) = newfile::remove_stale(database) {
            log::warn!("cannot remove what an interrupted commit left beside {shown}: {e}");
        }
        // The hash of a huge file is looked at when something is committed.
        if check::is_quick(base) && self.trailer() == Some(false) {
            log::warn!("{shown}: {WRONG_HASH}; a commit leaves it out");
        }
        Ok(())
    }

    /// The file system.
    pub fn vfs(&self) -> Arc<Vfs> {
        self.vfs.clone()
    }

    /// The database's path.
    pub fn path(&self) -> &Path {
        self.base.path()
    }

    /// The file that commits make or change.
    pub fn target(&self) -> &Path {
        match &self.goal {
            Goal::Output(output) => output,
            _ => self.path(),
        }
    }

    /// Where commits go.
    pub fn goal(&self) -> &Goal {
        &self.goal
    }

    /// What to do to take up the journal of this mount, as the middle of a sentence.
    pub fn again(&self) -> String {
        if self.vfs.committed_txid().is_some() {
            // The journal starts from what the target shows.
            return match &self.goal {
                Goal::Output(file) => format!("mount {} with --recover", file.display()),
                _ => "mount again with --recover".to_owned(),
            };
        }
        let (mut first, mut options) = (String::new(), String::new());
        if let Goal::Output(file) = &self.goal {
            let shown = file.display();
            options = format!("--output {shown} ");
            if file.symlink_metadata().is_ok() {
                first = format!("move {shown} away first, then ");
            }
        }
        let base = self.vfs.snapshot();
        if base.newer().is_some() {
            options.push_str(&format!("--meta {} ", base.slot()));
        }
        format!("{first}mount again with {options}--recover")
    }

    /// Refuses every further change. When it returns, none is under way.
    pub fn seal(&self) {
        self.vfs.seal();
    }

    /// How many changes are staged, for a message; `None` where that is not known at once.
    pub fn staged(&self) -> Option<u64> {
        self.vfs.pending_count_at_hand()
    }

    /// The journal that holds the edits, if the next mount will find that they fit.
    pub fn journal(&self) -> Option<PathBuf> {
        let written = self.written.lock();
        let file = written.file_or(&self.base);
        let found = self.vfs.has_journal() && file.is_in_place().unwrap_or(false);
        found.then(|| super::recovery::path_of(self.target()))
    }

    /// Drops the edits of this mount, but not those of an earlier one that it has taken up. Answers
    /// where these are now, if there are any that are not committed.
    ///
    /// # Errors
    /// All of them are still in the journal, and why.
    pub fn keep_recovered(&self) -> io::Result<Option<PathBuf>> {
        if self.vfs.has_recovered() && self.written.lock().unknown.is_some() {
            return Err(io::Error::other("a commit of it may have been made"));
        }
        self.vfs.keep_recovered()
    }

    /// The edits are not wanted any more.
    pub fn drop_edits(&self) {
        self.vfs.drop_journal();
    }

    /// Gives the locks on the journal and the database back. Nothing is read or written after it.
    pub fn release(&self) {
        self.vfs.close_journal();
        drop(self.claim.lock().take());
        let written = self.written.lock();
        for file in [Some(&self.base), written.file.as_ref()]
            .into_iter()
            .flatten()
        {
            if let Err(e) = file.file().unlock() {
                log::warn!("{}: cannot release the lock: {e}", file.path().display());
            }
        }
    }
}

/// What is said of an etcd snapshot that was changed after it was taken.
pub(super) const WRONG_HASH: &str =
    "the SHA-256 at its end, as of an etcd snapshot, does not match what is before it";

/// What the operating system knows of a file's content: something in it changes with every write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Length in bytes.
    pub len: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl Stamp {
    /// Of a file.
    pub fn of(metadata: &fs::Metadata) -> Stamp {
        Stamp {
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// What `.boltfs/info` says about a mount that stays so for its life.
fn about(request: &MountRequest, goal: &Goal, database: &Path, point: &Path) -> Map<String, Value> {
    let now = Timestamp::now();
    let started = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let (mut output, mut backup) = (None, None);
    let mode = match goal {
        _ if request.read_only => "read-only",
        Goal::Database { backup: file } => {
            backup = file.as_deref().map(shown);
            "read-write"
        }
        Goal::Output(file) => {
            output = Some(shown(file));
            "output"
        }
        Goal::Nowhere => "dry-run",
    };
    let about = [
        ("database", json!(shown(database))),
        ("mountpoint", json!(shown(point))),
        ("mode", json!(mode)),
        ("output", json!(output)),
        ("backup", json!(backup)),
        ("started", json!(started.to_string())),
        ("user", json!(nix::unistd::geteuid().as_raw())),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
    ];
    about
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}
