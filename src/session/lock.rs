//! The lock that bbolt takes on an open database, and who holds it when we cannot have it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::failure::{Failure, Result};
use super::mountinfo::{self, Mount};
use super::process;
use crate::bolt::DbFile;

/// How long to wait between two tries, as bbolt does.
const RETRY: Duration = Duration::from_millis(50);

/// Takes bbolt's lock on `file`, exclusive or shared as it was opened. Held until the file is
/// closed.
///
/// # Errors
/// When another process holds it and still does so after `patience`: the message names it.
pub fn take(file: &DbFile, patience: Duration) -> Result<()> {
    let give_up = Instant::now().checked_add(patience);
    loop {
        match file.try_lock() {
            Ok(true) => return Ok(()),
            Ok(false) if give_up.is_none_or(|time| Instant::now() < time) => {
                std::thread::sleep(RETRY.min(patience));
            }
            Ok(false) => return Err(in_use(file.file(), file.path(), patience)),
            Err(e) => {
                return Err(Failure::new(
                    format!("cannot lock {}: {e}", file.path().display()),
                    "The file system it lies on may not know locks: work on a copy elsewhere.",
                ));
            }
        }
    }
}

fn in_use(file: &File, path: &Path, waited: Duration) -> Failure {
    let shown = path.display();
    let table = mountinfo::table().unwrap_or_default();
    if let Some(point) = mounted_at(&table, file, path) {
        return Failure::new(
            format!("{shown} is mounted on {point} already"),
            format!("Work there, or unmount it first: boltfs umount {point}"),
        );
    }
    let holders = holders(file);
    let mut what = format!("{shown} is in use");
    let (mut etcd, mut hidden) = (false, false);
    for (i, &pid) in holders.iter().enumerate() {
        let name = process::name(pid);
        etcd |= name == "etcd";
        if name == "boltfs"
            && let Ok(theirs) = mountinfo::of_process(pid)
        {
            // Perhaps another mount namespace has it.
            if let Some(point) = mounted_at(&theirs, file, path) {
                return Failure::new(
                    format!(
                        "{shown} is mounted on {point} already, by boltfs (pid {pid}), in another mount namespace"
                    ),
                    format!("Unmount it there first: boltfs umount {point}"),
                );
            }
            // A check has the lock, and never a mount.
            hidden = process::argument(pid, 1).is_none_or(|word| word != "check");
        }
        let _ = write!(
            what,
            "{} {name} (pid {pid})",
            if i == 0 { " by" } else { "," }
        );
    }
    if holders.is_empty() {
        what.push_str(" by a process that cannot be seen from here");
    }
    let next = if etcd {
        "Stop etcd first, or save a snapshot and edit that: etcdctl snapshot save FILE."
    } else if hidden {
        "It has no mount in the directory tree: after umount -l it ends, and commits, when nothing uses \
         it any more."
    } else {
        "Stop that process first."
    };
    // What is left of the time asked for: nearly all of it.
    let wait = match waited.as_millis().div_ceil(1000) {
        0 => "(--wait SECONDS waits for the lock.)".to_owned(),
        1 => "It still has the lock after 1 second.".to_owned(),
        n => format!("It still has the lock after {n} seconds."),
    };
    Failure::new(what, format!("{next} {wait}"))
}

/// Where we serve this database, by whatever name, if we do.
fn mounted_at(table: &[Mount], file: &File, path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let number = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let same = |source: &Path| {
        let theirs = fs::metadata(source).map(number).ok();
        theirs.is_some() && theirs == file.metadata().map(number).ok()
    };
    let mount = table
        .iter()
        .rfind(|m| m.is_ours() && (m.source == path || same(&m.source)))?;
    Some(mountinfo::shown(&mount.point))
}

/// The processes that hold a lock on `file`; where that cannot be found out, those that have it
/// open.
fn holders(file: &File) -> Vec<u32> {
    let Ok(metadata) = file.metadata() else {
        return Vec::new();
    };
    let table = fs::read_to_string("/proc/locks").unwrap_or_default();
    let mut pids = lockers(&table, metadata.dev(), metadata.ino());
    // The process that took a lock may have ended and left it to a child.
    pids.retain(|&pid| process::is_alive(pid));
    if pids.is_empty() {
        pids = process::with_file_open(metadata.dev(), metadata.ino());
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// The processes of the FLOCK lines for one file in `/proc/locks`. A line reads
/// `1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF`; one that waits has `->` after the number.
fn lockers(table: &str, device: u64, inode: u64) -> Vec<u32> {
    let (major, minor) = (libc::major(device), libc::minor(device));
    let wanted = format!("{major:02x}:{minor:02x}:{inode}");
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            match fields[..] {
                [_, "FLOCK", _, _, pid, file, ..] if file == wanted => pid.parse().ok(),
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
1: POSIX  ADVISORY  WRITE 11 fd:01:77 0 EOF
2: FLOCK  ADVISORY  WRITE 12 fd:01:77 0 EOF
2: -> FLOCK  ADVISORY  WRITE 13 fd:01:77 0 EOF
3: FLOCK  ADVISORY  READ  14 fd:01:78 0 EOF
4: FLOCK  ADVISORY  READ  15 00:2a:77 0 EOF
";

    #[test]
    fn only_holders_of_this_files_flock_are_named() {
        assert_eq!(lockers(TABLE, libc::makedev(0xfd, 1), 77), [12]);
        assert_eq!(lockers(TABLE, libc::makedev(0xfd, 1), 78), [14]);
        assert_eq!(lockers(TABLE, libc::makedev(0, 0x2a), 77), [15]);
        assert!(lockers(TABLE, libc::makedev(0, 0x2a), 78).is_empty());
    }
}
