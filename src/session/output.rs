//! The file that `--output` names. It is made by the first commit, so before that there is nothing
//! to lock, and nothing in the table of mounts tells of it.

use std::fs::{self, File};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::control::Client;
use super::failure::{Failure, Result};
use super::mountinfo::{self, Mount};
use super::recovery;
use crate::bolt::{DbFile, Disk, Map, OpenOptions, Snapshot};
use crate::journal::Reader;

/// The sign that a mount of this machine has an output file: a name that goes with its process. Where
/// two containers share a directory and not their network, the lock on the journal alone is left.
pub struct Claim {
    _listener: UnixListener,
}

/// How often, and how long each time, to wait for a process that is about to end.
const TRIES: u32 = 10;
const A_MOMENT: Duration = Duration::from_millis(20);

/// How long a process that serves another mount may take to say what its output is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Takes `path`, of which the directory exists, for the output of this mount.
///
/// # Errors
/// Another mount has it.
pub fn claim(path: &Path) -> Result<Option<Claim>> {
    for _ in 0..TRIES {
        match name(path).and_then(|name| UnixListener::bind_addr(&name)) {
            Ok(listener) => {
                return Ok(Some(Claim {
                    _listener: listener,
                }));
            }
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => thread::sleep(A_MOMENT),
            Err(e) => {
                log::debug!("{} cannot be claimed: {e}", path.display());
                return Ok(None);
            }
        }
    }
    let shown = path.display();
    Err(match mount_with(path) {
        Some(point) => Failure::new(
            format!("{shown} is already the output of the mount on {point}"),
            format!("Give another name, or unmount that first: boltfs umount {point}"),
        ),
        None => Failure::new(
            format!("{shown} is already the output of another mount"),
            "Give another name, or unmount that first. See what is mounted: boltfs status",
        ),
    })
}

/// The same for each path that leads to the place.
fn name(path: &Path) -> io::Result<SocketAddr> {
    let directory = fs::metadata(path.parent().unwrap_or(Path::new("/")))?;
    let file = path.file_name().unwrap_or_default();
    let hash = Sha256::digest(file.as_encoded_bytes());
    let (device, inode) = (directory.dev(), directory.ino());
    SocketAddr::from_abstract_name(format!("boltfs/output/{device}:{inode}/{hash:x}"))
}

/// Where the mount is that has this output, if it answers to this user.
fn mount_with(output: &Path) -> Option<String> {
    let table = mountinfo::table().ok()?;
    let has_it = |mount: &&Mount| {
        let info = Client::connect(mount).ok().and_then(|mut client| {
            client.give_up_after(ANSWER_TIMEOUT).ok()?;
            client.status(0).ok()
        });
        info.is_some_and(|status| status["info"]["output"] == mountinfo::shown(output))
    };
    let mount = table.iter().filter(|mount| mount.is_ours()).find(has_it)?;
    Some(mountinfo::shown(&mount.point))
}

/// Whether the edits in `journal` start from a state that `database` has.
pub fn starts_from(journal: &Path, database: &Path) -> bool {
    let origin = File::open(journal)
        .and_then(|file| Map::of(&file))
        .ok()
        .and_then(|bytes| Reader::new(&bytes).map(|reader| reader.origin()));
    let options = OpenOptions {
        meta: None,
        allow_truncated: true,
    };
    let snapshot = DbFile::open(database, false)
        .and_then(|file| file.map())
        .ok()
        .and_then(|map| Snapshot::open(map, options).ok());
    match (origin, snapshot) {
        (Some(origin), Some(snapshot)) => {
            recovery::is_there(snapshot.metas(), origin.txid, origin.checksum)
        }
        _ => false,
    }
}

/// The output of a mount of `database` that was killed, if its journal lies in one of these
/// directories. Nobody knows any more what it was called.
pub fn left_behind(database: &Path, directories: &[&Path]) -> Option<PathBuf> {
    let journals = directories
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()));
    journals
        .filter(|path| path.symlink_metadata().is_ok_and(|m| m.is_file()))
        .find_map(|path| {
            let name = path.file_name()?.to_str()?;
            let output = path.with_file_name(name.strip_suffix(recovery::SUFFIX)?);
            let lives = File::open(&path).ok()?.try_lock_shared().is_err();
            // Beside a file it is that file's.
            let is_it = !lives && output.symlink_metadata().is_err();
            (is_it && starts_from(&path, database)).then_some(output)
        })
}
