//! The one seam to the disk: open, lock, map, write, sync.
//!
//! Everything above reads a database through a [`Map`] and writes it through a [`Disk`], so that
//! tests can put a disk in its place that forgets, tears and refuses.

use super::map::Map;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file as the writer needs it. Offsets and lengths are bytes.
pub trait Disk: Send + Sync {
    /// Length of the file.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buf` from `offset`; an error if the file ends before.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `buf` at `offset`, growing the file where it ends before.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file, or grows it with a hole.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes all that was written durable, the file's length with it. After an error nothing may
    /// be assumed about any write since the last success, and the call is not to be repeated: the
    /// kernel may have dropped the pages.
    fn sync(&self) -> io::Result<()>;

    /// The bytes of the file as they are now, for reading.
    fn map(&self) -> io::Result<Map>;
}

/// A database file, opened as bbolt opens it.
#[derive(Debug)]
pub struct DbFile {
    file: Arc<File>,
    path: PathBuf,
    writable: bool,
}

impl DbFile {
    /// Opens an existing database for reading, or for reading and writing. Takes no lock.
    ///
    /// # Errors
    /// What `open(2)` says.
    pub fn open(path: &Path, write: bool) -> io::Result<DbFile> {
        // O_NONBLOCK: opening a FIFO must fail later by its kind, not hang here.
        let file = OpenOptions::new()
            .read(true)
            .write(write)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(path)?;
        Ok(DbFile {
            file: Arc::new(file),
            path: path.to_owned(),
            writable: write,
        })
    }

    /// A file that is open for reading and writing already.
    pub fn from_file(file: File, path: &Path) -> DbFile {
        DbFile {
            file: Arc::new(file),
            path: path.to_owned(),
            writable: true,
        }
    }

    /// Takes bbolt's lock without waiting: `flock(2)` on the database file, exclusive for
    /// writing and shared for reading. Held until the file is dropped.
    ///
    /// # Returns
    /// `false` if another process holds it.
    ///
    /// # Errors
    /// Anything else that `flock(2)` says.
    pub fn try_lock(&self) -> io::Result<bool> {
        let taken = if self.writable {
            self.file.try_lock()
        } else {
            self.file.try_lock_shared()
        };
        match taken {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opened for writing.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The path still names the file that is open: nobody has put another one in its place.
    ///
    /// # Errors
    /// What `stat(2)` says, but for a path that is gone: that is `false`.
    pub fn is_in_place(&self) -> io::Result<bool> {
        let mine = self.file.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (mine.dev(), mine.ino())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}

impl Disk for DbFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(&*self.file, buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&*self.file, buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        // fdatasync: it makes the length durable too, as far as reading back needs it.
        self.file.sync_data()
    }

    fn map(&self) -> io::Result<Map> {
        // One descriptor for both.
        Map::shared(Arc::clone(&self.file))
    }
}
