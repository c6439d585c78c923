//! How many keys and buckets the difference between two trees comes to, by the rules of the writer,
//! which counts what a transaction does to the tree that was mounted.

use super::ino::Ino;
use super::merged::{Merged, Position};
use super::pending::{Change, Kind};
use super::staged;
use crate::bolt::writer::Stats;

/// Counts `change`, a difference between the trees `old` and `new`.
pub fn count(stats: &mut Stats, old: Merged<'_>, new: Merged<'_>, change: &Change<'_>) {
    let Stats {
        keys_added,
        keys_changed,
        keys_deleted,
        buckets_added,
        buckets_deleted,
        buckets_moved,
        ..
    } = stats;
    let counter = match (change.pending.kind, change.pending.bucket) {
        (Kind::Added, false) => keys_added,
        (Kind::Changed, false) => keys_changed,
        (Kind::Deleted, false) => keys_deleted,
        (Kind::Added, true) => buckets_added,
        (Kind::Moved, _) => buckets_moved,
        (Kind::Changed, true) => return, // its sequence number
        (Kind::Deleted, true) => {
            if let Some(ino) = change.gone {
                all_in(ino, old, new, keys_deleted, buckets_deleted);
            }
            return;
        }
    };
    *counter += 1;
}

/// Counts the bucket `ino` of `old` with all that is in it, but for the buckets that live on in `new`.
/// What damage keeps from being read is not counted.
fn all_in(ino: Ino, old: Merged<'_>, new: Merged<'_>, keys: &mut u64, buckets: &mut u64) {
    let mut left = vec![ino];
    while let Some(dir) = left.pop() {
        *buckets += 1;
        let Ok(list) = old.list(dir, Position::Start) else {
            continue;
        };
        // What was taken out of it before it went. Of a directory that is gone nothing is staged any more.
        let is_elsewhere = |ino| {
            let place = new.place(ino).map(|(parent, _)| parent);
            place.is_some_and(|parent| parent != dir) && new.is_linked(ino)
        };
        for found in list.flatten().map(|entry| entry.found) {
            match found.kind {
                staged::Kind::File => *keys += 1,
                staged::Kind::Directory if is_elsewhere(found.ino) => {}
                staged::Kind::Directory => left.push(found.ino),
            }
        }
    }
}
