//! A file that comes into being whole, or not at all: without a name while it is written, where
//! the file system can do that, and under a hidden one otherwise.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::access::{ACCESS_LIST, LONGEST_LIST};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;

/// A file on its way to its place.
pub struct NewFile {
    file: File,
    place: PathBuf,
    /// The hidden name that it has meanwhile.
    hidden: Option<PathBuf>,
}

/// Why a file is not in its place, or may not be.
#[derive(Debug)]
pub enum PutError {
    /// It is not; nothing was changed.
    Not(io::Error),
    /// It is, and the file system does not say that it will be after a power cut.
    Unknown(io::Error),
}

impl NewFile {
    /// Starts a file that is to stand at `place`, for nobody else to read yet.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn start(place: &Path) -> io::Result<NewFile> {
        let directory = directory(place);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let (file, hidden) = match rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => (File::from(file), None),
            // Not every file system can; old kernels take the flag for a directory to be written.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                let hidden = hidden_name(place)?;
                remove_stale(place)?;
                let mut options = OpenOptions::new();
                options.read(true).write(true).create_new(true).mode(0o600);
                (options.open(&hidden)?, Some(hidden))
            }
            Err(e) => return Err(e.into()),
        };
        Ok(NewFile {
            file,
            place: place.to_owned(),
            hidden,
        })
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Fills it with the content of `source`, sharing its blocks where the file system can.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn fill(&self, source: &File) -> io::Result<()> {
        if rustix::fs::ioctl_ficlone(&self.file, source).is_ok() {
            return Ok(());
        }
        // Opened anew: a position of its own, and the same file even if its name is gone.
        let mut from = File::open(format!("/proc/self/fd/{}", source.as_raw_fd()))?;
        let mut to = &self.file;
        io::copy(&mut from, &mut to)?;
        Ok(())
    }

    /// Gives it owner, group, permissions and access list of `model`, as far as this user can. It is
    /// never more readable than that.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn look_like(&self, model: &File) -> io::Result<()> {
        let wanted = model.metadata()?;
        let mut mode = wanted.mode() & 0o777;
        let mine = self.file.metadata()?;
        if (mine.uid(), mine.gid()) != (wanted.uid(), wanted.gid()) {
            let owner = fchown(&self.file, Some(wanted.uid()), Some(wanted.gid()));
            if owner.is_err() && fchown(&self.file, None, Some(wanted.gid())).is_err() {
                // Those of another group, and those who are no longer kept out with the group.
                let group = mode >> 3 & 7;
                mode &= 0o700 | group;
            }
        }
        // A directory can have given it an access list of its own.
        let mut list = vec![0; LONGEST_LIST];
        let copied = match rustix::fs::fgetxattr(model, ACCESS_LIST, &mut list) {
            Ok(len) => {
                let list = list.get(..len).unwrap_or_default();
                rustix::fs::fsetxattr(&self.file, ACCESS_LIST, list, XattrFlags::empty())
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {
                match rustix::fs::fremovexattr(&self.file, ACCESS_LIST) {
                    Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
                    other => other,
                }
            }
            Err(e) => Err(e),
        };
        if copied.is_err() {
            mode &= 0o700;
        }
        self.file.set_permissions(fs::Permissions::from_mode(mode))
    }

    /// Puts it in its place, durably; with `replace` over the file that is there, otherwise only if
    /// there is none.
    ///
    /// # Errors
    /// [`PutError`]; of kind `AlreadyExists` where there is one.
    pub fn put(mut self, replace: bool) -> Result<(), PutError> {
        self.file.sync_all().map_err(PutError::Not)?;
        self.link(replace).map_err(PutError::Not)?;
        self.hidden = None;
        File::open(directory(&self.place))
            .and_then(|directory| directory.sync_all())
            .map_err(PutError::Unknown)
    }

    fn link(&mut self, replace: bool) -> io::Result<()> {
        if self.hidden.is_none() {
            if !replace {
                return self.name(&self.place);
            }
            let hidden = hidden_name(&self.place)?;
            remove_stale(&self.place)?;
            self.name(&hidden)?;
            self.hidden = Some(hidden);
        }
        let Some(hidden) = &self.hidden else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if replace {
            return fs::rename(hidden, &self.place);
        }
        match rustix::fs::renameat_with(CWD, hidden, CWD, &self.place, RenameFlags::NOREPLACE) {
            // Some file systems do not know the flag; a link refuses an existing name as well.
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::hard_link(hidden, &self.place)?;
                fs::remove_file(hidden)
            }
            other => Ok(other?),
        }
    }

    /// Gives the file without a name this one, which must be free.
    fn name(&self, name: &Path) -> io::Result<()> {
        let own = format!("/proc/self/fd/{}", self.file.as_fd().as_raw_fd());
        Ok(rustix::fs::linkat(
            CWD,
            own,
            CWD,
            name,
            AtFlags::SYMLINK_FOLLOW,
        )?)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            let _ = fs::remove_file(hidden);
        }
    }
}

/// Removes what a process that was killed may have left beside `place`. Only for who holds the
/// lock of the file there.
///
/// # Errors
/// What the operating system says.
pub fn remove_stale(place: &Path) -> io::Result<()> {
    let hidden = hidden_name(place)?;
    match fs::remove_file(&hidden) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            let what = format!("{} is in the way: {e}", hidden.display());
            Err(io::Error::new(e.kind(), what))
        }
        _ => Ok(()),
    }
}

fn directory(place: &Path) -> &Path {
    match place.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn hidden_name(place: &Path) -> io::Result<PathBuf> {
    let name = place.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".boltfs-new");
    Ok(place.with_file_name(hidden))
}
