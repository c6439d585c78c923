//! What to do about a database that cannot be used, or not as a whole.

use std::path::Path;

use super::failure::Failure;
use crate::bolt::{Error, Map, OpenError, OpenOptions, Snapshot};

/// For a file that was not copied as a whole.
pub const COPY_AGAIN: &str =
    "Copy it again while nothing writes to it, or take a snapshot (etcdctl snapshot save).";
const ANOTHER: &str = "Take another copy or a backup of the database.";

/// The command that shows the state of meta page `meta`, or the current one, and changes nothing.
pub fn look(path: &Path, meta: Option<u8>) -> String {
    let meta = meta.map_or(String::new(), |slot| format!("--meta {slot} "));
    format!("boltfs {meta}-r {} MOUNTPOINT", path.display())
}

/// What an error at opening the database in `map` means for the person, who asked for the state of
/// meta page `meta`, or for the current one.
pub fn unusable(path: &Path, map: &Map, meta: Option<u8>, e: &Error) -> Failure {
    let shown = path.display();
    let next = match e {
        Error::Open(e) => advice(path, map, meta, *e),
        _ => format!("Find out more with: boltfs check {shown}"),
    };
    Failure::new(format!("{shown}: {e}"), next)
}

fn advice(path: &Path, map: &Map, meta: Option<u8>, e: OpenError) -> String {
    let shown = path.display();
    // Perhaps the state of the other meta is better: of a file that was cut off, whole.
    let allow_truncated = !matches!(e, OpenError::Truncated { .. });
    let can_open = |&slot: &u8| {
        let options = OpenOptions {
            meta: Some(slot),
            allow_truncated,
        };
        Snapshot::open(map.clone(), options).is_ok()
    };
    let mut others = [0, 1].into_iter().filter(|&slot| meta != Some(slot));
    let other = others.find(can_open);
    match e {
        OpenError::Empty | OpenError::NeverInitialised => format!(
            "There is nothing in it. {ANOTHER} To start with a new one, remove the file and use \
             --create."
        ),
        OpenError::NotBolt => {
            "Check the path: bbolt databases start with the bytes ED DA 0C ED at \
                               offset 16. (etcd keeps its own at member/snap/db.)"
                .to_owned()
        }
        OpenError::BigEndian => "Mount it on a machine of the kind that wrote it.".to_owned(),
        OpenError::Version(_) => {
            "No released bbolt writes that: the file is damaged, or not a bbolt database."
                .to_owned()
        }
        OpenError::Truncated { other_fits, .. } => {
            let other = match other.filter(|_| other_fits) {
                Some(slot) => format!(
                    ". The other state of the file, of meta page {slot}, lies wholly in it: {}",
                    look(path, Some(slot))
                ),
                None => String::new(),
            };
            format!(
                "{COPY_AGAIN} It cannot be edited as it is; what is left can be looked at, and \
                 copied out: {}{other}",
                look(path, meta)
            )
        }
        OpenError::Checksum => ANOTHER.to_owned(),
        OpenError::PageSize(_)
        | OpenError::PageSizeConflict(..)
        | OpenError::HighWaterMark(_)
        | OpenError::Root { .. }
        | OpenError::NoSuchMeta(_) => match other {
            Some(slot) => format!(
                "The other meta page leads to a tree. See what that is worth with: boltfs check \
                 --meta {slot} {shown}, and look at it with: {}",
                look(path, Some(slot))
            ),
            None => format!("Neither meta page leads to a tree. {ANOTHER}"),
        },
    }
}
