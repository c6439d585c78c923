//! Opening the database of a mount: what can be wrong with it, in words, and with what to do next.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags};

use super::advice::unusable;
use super::failure::{Failure, Result};
use super::lock;
use crate::bolt::{DbFile, Disk, OpenOptions, Snapshot, empty_database};

/// The absolute path, without links, of the database given. `to_edit`: it would do to make a new one.
///
/// # Errors
/// When there is no such regular file.
pub fn find(given: &Path, to_edit: bool) -> Result<PathBuf> {
    let shown = given.display();
    let path = given.canonicalize().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Failure::new(
            format!("{shown} does not exist"),
            match to_edit {
                true => "Check the path; --create makes a new, empty database.",
                false => "Check the path.",
            },
        ),
        io::ErrorKind::PermissionDenied => no_permission(given, "reached"),
        _ => Failure::new(format!("{shown}: {e}"), "Check the path."),
    })?;
    let kind = fs::metadata(&path)
        .map_err(|e| Failure::new(format!("{shown}: {e}"), "Check the path."))?
        .file_type();
    if kind.is_dir() {
        let etcd = ["member/snap/db", "snap/db", "db"].map(|below| given.join(below));
        let next = match etcd.iter().find(|path| path.is_file()) {
            Some(path) => format!("Did you mean {}?", path.display()),
            None => "Give a database file.".to_owned(),
        };
        return Err(Failure::new(format!("{shown} is a directory"), next));
    }
    if !kind.is_file() {
        return Err(Failure::new(
            format!("{shown} is not a regular file"),
            "Give a database file.",
        ));
    }
    Ok(path)
}

fn no_permission(path: &Path, what: &str) -> Failure {
    Failure::new(
        format!("{} cannot be {what}: permission denied", path.display()),
        "Run boltfs as a user who may (sudo boltfs …), or work on a copy that is yours.",
    )
}

/// Opens the database, takes its lock and reads the state that `options` ask for.
///
/// # Errors
/// Why it cannot be used.
pub fn open(
    path: &Path,
    write: bool,
    options: OpenOptions,
    patience: Duration,
) -> Result<(DbFile, Snapshot)> {
    let shown = path.display();
    let started = Instant::now();
    let file = loop {
        let file = open_file(path, write)?;
        lock::take(&file, patience.saturating_sub(started.elapsed()))?;
        // Who held the lock may have put a new file in the place of this one.
        if file.is_in_place().unwrap_or(true) {
            break file;
        }
    };
    let map = file.map().map_err(|e| {
        Failure::new(
            format!("cannot map {shown}: {e}"),
            "Copy it to a local disk and try there.",
        )
    })?;
    let snapshot =
        Snapshot::open(map.clone(), options).map_err(|e| unusable(path, &map, options.meta, &e))?;
    if let Some(slot) = snapshot.metas().slots.iter().position(|slot| slot.is_err()) {
        log::warn!(
            "meta page {slot} of {shown} is damaged; this is transaction {}, of the other one",
            snapshot.meta().txid
        );
    }
    Ok((file, snapshot))
}

/// Opens the file without taking its lock.
///
/// # Errors
/// Why it cannot be opened.
pub fn open_file(path: &Path, write: bool) -> Result<DbFile> {
    DbFile::open(path, write).map_err(|e| cannot_open(path, write, &e))
}

fn cannot_open(path: &Path, write: bool, e: &io::Error) -> Failure {
    let shown = path.display();
    let readable = write && DbFile::open(path, false).is_ok();
    match e.raw_os_error() {
        Some(libc::EACCES | libc::EPERM | libc::EROFS) if readable => Failure::new(
            format!("{shown} cannot be written: {e}"),
            "To look only, mount it with -r; to edit it, work on a copy or as a user who may \
             write it.",
        ),
        Some(libc::EACCES | libc::EPERM) => no_permission(path, "opened"),
        _ => Failure::new(format!("cannot open {shown}: {e}"), "Check the path."),
    }
}

/// Says that an older state is mounted, where it is.
pub fn warn_of_newer(path: &Path, snapshot: &Snapshot, read_only: bool) {
    let Some(newer) = snapshot.newer() else {
        return;
    };
    let commit = if read_only {
        String::new()
    } else {
        format!(
            " A commit starts from it, and gives transaction {0} up: what {0} changed is lost then, \
             unless you keep a copy (--backup FILE)",
            newer.txid
        )
    };
    log::warn!(
        "this is the older state of {}: transaction {}, of meta page {}. Transaction {} is newer.{commit}",
        path.display(),
        snapshot.meta().txid,
        snapshot.slot(),
        newer.txid,
    );
}

/// Warns about a database that must not be edited where it lies: etcd's log still knows what an
/// edit takes away.
pub fn warn_if_in_data_directory(path: &Path) {
    let member = path
        .parent()
        .filter(|snap| snap.file_name().is_some_and(|name| name == "snap"))
        .and_then(Path::parent);
    if let Some(member) = member
        && member.join("wal").is_dir()
    {
        log::warn!(
            "{} lies in an etcd data directory, whose log (wal) still knows what you change: etcd \
             may panic or find no leader afterwards. Edit a copy, and restore that: etcdutl \
             (before etcd 3.5: etcdctl) snapshot restore COPY --skip-hash-check --data-dir NEW",
            path.display()
        );
    }
}

/// Makes a new, empty database. A crash leaves no file, or a whole one.
///
/// # Errors
/// When there is a file already, or it cannot be written.
pub fn create(path: &Path) -> Result<()> {
    let shown = path.display();
    let exists = || {
        Failure::new(
            format!("{shown} exists already"),
            "Mount it without --create, or give another name.",
        )
    };
    if path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let cannot = |e: io::Error| {
        Failure::new(
            format!("cannot create {shown}: {e}"),
            "Check the directory it is to lie in.",
        )
    };
    let name = path
        .file_name()
        .ok_or_else(|| cannot(io::ErrorKind::InvalidInput.into()))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".boltfs-{}", std::process::id()));
    let temporary = directory.join(temporary);
    let made = write_new(&temporary).and_then(|()| {
        rustix::fs::renameat_with(CWD, &temporary, CWD, path, RenameFlags::NOREPLACE)
            .map_err(io::Error::from)
            // Some file systems do not know NOREPLACE; a link refuses an existing name as well.
            .or_else(|e| match e.raw_os_error() {
                Some(libc::EINVAL | libc::ENOSYS) => {
                    fs::hard_link(&temporary, path)?;
                    fs::remove_file(&temporary)
                }
                _ => Err(e),
            })?;
        fs::File::open(directory)?.sync_all()
    });
    made.map_err(|e| {
        let _ = fs::remove_file(&temporary);
        if e.kind() == io::ErrorKind::AlreadyExists {
            exists()
        } else {
            cannot(e)
        }
    })
}

fn write_new(path: &Path) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    // The system's page size, as bbolt does; all there are fit 32 bits.
    let page_size = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
    file.write_all(&empty_database(page_size))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("boltfs-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_new_database_is_whole_and_replaces_nothing() {
        let directory = directory("create");
        let path = directory.join("db");
        create(&path).unwrap();
        let (_file, snapshot) = open(&path, true, OpenOptions::default(), Duration::ZERO).unwrap();
        assert_eq!(snapshot.meta().txid, 1);
        assert_eq!(snapshot.root().iter().count(), 0);
        assert_eq!(
            create(&path).unwrap_err().to_string(),
            format!(
                "{} exists already. Mount it without --create, or give another name.",
                path.display()
            )
        );
        assert_eq!(
            fs::read_dir(&directory).unwrap().count(),
            1,
            "a temporary file was left"
        );
        assert!(create(&directory.join("no/db")).is_err());
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_is_no_database_is_told_with_what_to_do() {
        let directory = directory("refuse");
        let find = |path: &Path| super::find(path, true).unwrap_err().to_string();
        let missing = directory.join("missing");
        assert!(
            find(&missing)
                .ends_with("does not exist. Check the path; --create makes a new, empty database.")
        );
        assert!(find(&directory).ends_with("is a directory. Give a database file."));
        fs::create_dir_all(directory.join("member/snap")).unwrap();
        fs::write(directory.join("member/snap/db"), "").unwrap();
        assert!(find(&directory).ends_with("member/snap/db?"));
        assert!(find(Path::new("/dev/null")).starts_with("/dev/null is not a regular file."));

        let file = directory.join("file");
        let refuse = |content: &[u8]| {
            fs::write(&file, content).unwrap();
            open(&file, true, OpenOptions::default(), Duration::ZERO)
                .err()
                .unwrap()
                .to_string()
        };
        assert!(refuse(b"").contains("the file is empty (0 bytes). There is nothing in it. Take"));
        assert!(refuse(&[b'a'; 9000]).contains("not a bbolt database. Check the path"));
        assert!(refuse(b"text").contains("not a bbolt database. Check the path"));
        assert!(refuse(&[0; 16384]).contains("never finished. There is nothing in it."));
        let whole = empty_database(4096);
        let torn = refuse(&whole[..whole.len() - 1]);
        assert!(
            torn.contains("(a torn copy). Copy it again while nothing writes to it"),
            "{torn}"
        );
        fs::remove_dir_all(directory).unwrap();
    }
}
