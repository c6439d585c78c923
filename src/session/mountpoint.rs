//! Whether a directory can serve as the mount point of a database: said before anything is
//! mounted, with what to do about it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::failure::{Failure, Result};
use super::mountinfo;

/// The mount point as an absolute path without links.
///
/// `database` is the database's own absolute path without links.
///
/// # Errors
/// When `given` does not exist, is no directory, has something mounted on it already, or holds
/// the database.
pub fn check(given: &Path, database: &Path) -> Result<PathBuf> {
    let shown = given.display();
    let point = mountinfo::resolve(given).map_err(|e| unusable(given, &e))?;
    if let Some(mount) = mountinfo::at(&point).map_err(|e| no_table(&e))? {
        let source = mountinfo::shown(&mount.source);
        if !mount.is_ours() {
            return Err(Failure::new(
                format!(
                    "{shown} is a mount point already (type {}, {source})",
                    mount.fstype
                ),
                "Mount on another directory.",
            ));
        }
        return Err(if is_dead(&point) {
            Failure::new(
                format!("{shown} still carries a mount of {source} whose process has died"),
                format!("Unmount it first: boltfs umount {}", point.display()),
            )
        } else {
            Failure::new(
                format!("{source} is mounted on {shown} already"),
                format!("Unmount it first: boltfs umount {}", point.display()),
            )
        });
    }
    let metadata = fs::metadata(&point).map_err(|e| unusable(given, &e))?;
    if !metadata.is_dir() {
        return Err(Failure::new(
            format!("{shown} is not a directory"),
            "Give a directory to mount on, after the database: boltfs DB MOUNTPOINT",
        ));
    }
    if database.starts_with(&point) {
        return Err(Failure::new(
            format!("{shown} holds the database itself ({})", database.display()),
            "The mount would hide it: mount on another directory, such as an empty one beside it.",
        ));
    }
    warn_if_not_empty(&point);
    Ok(point)
}

/// A mount point of our own, removed on drop.
#[derive(Debug)]
pub struct Private(PathBuf);

impl Private {
    /// Makes an empty directory that only this user can enter.
    ///
    /// # Errors
    /// When none can be made.
    pub fn new() -> Result<Private> {
        let template = std::env::temp_dir().join("boltfs-XXXXXX");
        nix::unistd::mkdtemp(&template).map(Private).map_err(|e| {
            Failure::new(
                format!(
                    "cannot make a mount point {}: {}",
                    template.display(),
                    e.desc()
                ),
                "Give a directory to mount on: boltfs DB MOUNTPOINT -- COMMAND",
            )
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // Never recursive: should it still be mounted, nothing in it is ours to remove.
        if let Err(e) = fs::remove_dir(&self.0) {
            log::warn!("cannot remove {}: {e}", self.0.display());
        }
    }
}

fn warn_if_not_empty(point: &Path) {
    if let Ok(mut entries) = fs::read_dir(point)
        && entries.next().is_some()
    {
        log::warn!(
            "{} is not empty: what is in it is hidden until you unmount",
            point.display()
        );
    }
}

fn unusable(given: &Path, e: &io::Error) -> Failure {
    let shown = given.display();
    match e.kind() {
        io::ErrorKind::NotFound => Failure::new(
            format!("the mount point {shown} does not exist"),
            format!("Create it: mkdir {shown}"),
        ),
        io::ErrorKind::PermissionDenied => Failure::new(
            format!("the mount point {shown} cannot be reached: permission denied"),
            "Mount on a directory of your own.",
        ),
        io::ErrorKind::NotADirectory => Failure::new(
            format!("the way to {shown} leads through a file"),
            "Give a directory to mount on, after the database: boltfs DB MOUNTPOINT",
        ),
        _ => Failure::new(
            format!("the mount point {shown} cannot be used: {e}"),
            "Mount on another directory.",
        ),
    }
}

/// A table that cannot be read: nothing of a mount's life is safe without it.
pub fn no_table(e: &io::Error) -> Failure {
    Failure::new(
        format!("cannot read /proc/self/mountinfo: {e}"),
        "boltfs needs /proc: mount -t proc proc /proc",
    )
}

/// What this user types to unmount something that boltfs cannot be asked about.
pub fn unmount_command(point: &Path) -> String {
    let program = if nix::unistd::geteuid().is_root() {
        "umount"
    } else {
        "fusermount3 -u"
    };
    format!("{program} {}", point.display())
}

/// The process behind the mount at `point` is gone. The kernel then answers ENOTCONN, but to what
/// it need not ask that process it goes on answering what it knows.
pub(super) fn is_dead(point: &Path) -> bool {
    rustix::fs::statvfs(point).is_err_and(|e| e == rustix::io::Errno::NOTCONN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(given: &str) -> String {
        check(Path::new(given), Path::new("/proc/self/db"))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        assert_eq!(
            refused("/no/such/dir"),
            "the mount point /no/such/dir does not exist. Create it: mkdir /no/such/dir"
        );
        assert!(refused("/proc").starts_with("/proc is a mount point already (type proc"));
        assert!(refused("/etc/passwd").starts_with("/etc/passwd is not a directory. Give"));
        assert!(refused("/etc/passwd/x").starts_with("the way to /etc/passwd/x leads through"));
        assert!(
            check(Path::new("/proc/sys"), Path::new("/proc/sys/db"))
                .unwrap_err()
                .to_string()
                .starts_with("/proc/sys holds the database itself (/proc/sys/db)")
        );
    }
}
