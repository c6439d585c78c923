//! The database behind a mount: what is served, and how it is committed.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::commit::{Outcome, Store};
use super::failure::{Failure, Result};
use super::serve::MountRequest;
use crate::bolt::{DbFile, Snapshot};
use crate::vfs::{self, Vfs};

/// An open, locked database and the file system over it.
pub(super) struct Database {
    file: DbFile,
    path: PathBuf,
    vfs: Arc<Vfs>,
}

impl Database {
    /// The file system over `snapshot`, which was read from `file`.
    ///
    /// # Errors
    /// Where the file's owner and mode cannot be read.
    pub fn new(request: &MountRequest, file: DbFile, snapshot: Snapshot) -> Result<Database> {
        let path = file.path().to_owned();
        let metadata = file.file().metadata().map_err(|e| {
            Failure::new(format!("{}: {e}", path.display()), "Check the file's disk.")
        })?;
        let time = metadata.modified().unwrap_or(std::time::UNIX_EPOCH);
        let (uid, gid, mode) = (metadata.uid(), metadata.gid(), metadata.mode());
        let mut options = vfs::Options::of_file(uid, gid, mode, time);
        options.raw = request.raw;
        options.read_only = request.read_only;
        let shown = path.to_string_lossy().into_owned();
        options.info.insert("database".to_owned(), shown.into());
        let beside = path.clone();
        options.space = Some(Arc::new(move || {
            let s = rustix::fs::statvfs(&beside).ok()?;
            Some((
                s.f_bfree.saturating_mul(s.f_frsize),
                s.f_bavail.saturating_mul(s.f_frsize),
            ))
        }));
        Ok(Database {
            file,
            path,
            vfs: Arc::new(Vfs::new(snapshot, options)),
        })
    }

    /// The file system.
    pub fn vfs(&self) -> Arc<Vfs> {
        self.vfs.clone()
    }
}

impl Store for Database {
    fn seal(&self) {
        self.vfs.seal();
    }

    fn staged(&self) -> u64 {
        self.vfs.pending_count().unwrap_or(u64::MAX)
    }

    fn commit(&self) -> Result<Option<Outcome>> {
        if self.staged() == 0 {
            return Ok(None);
        }
        Err(Failure::new(
            format!("{}: no writer yet", self.path.display()),
            "",
        ))
    }

    fn release(&self) {
        if let Err(e) = self.file.file().unlock() {
            log::warn!("{}: cannot release the lock: {e}", self.path.display());
        }
    }
}
