//! What our own reader finds in a file, as a plain tree.

use std::fs::File;
use std::path::Path;

use boltfs::bolt::{Bucket, Damage, Error, Map, OpenOptions, Snapshot};

use super::tree::{Node, Tree};

/// A readable part of a database, and what could not be read.
#[derive(Debug, Default)]
pub struct Reading {
    /// All that could be read.
    pub tree: Tree,
    /// Errors, each with the path of the bucket or key that it was met at.
    pub errors: Vec<(Vec<Vec<u8>>, Error)>,
    /// Listed, and not found by look-up: keys that lie outside of what the branch above promises.
    pub lost: Vec<Vec<Vec<u8>>>,
    /// Look-up finds another element of the same key than the walk does.
    pub doubled: Vec<Vec<Vec<u8>>>,
    /// Entries that may still be read.
    left: usize,
}

/// The current state of `file`.
///
/// # Errors
/// Why the file as a whole cannot be used.
pub fn open(file: &Path) -> Result<Snapshot, Error> {
    let file = File::open(file).unwrap_or_else(|e| panic!("cannot open {}: {e}", file.display()));
    let map = Map::of(&file).map_err(|e| Error::io("map the file", e))?;
    Snapshot::open(map, OpenOptions::default())
}

/// Reads all that can be read; every key is read by the walk and once more by look-up.
pub fn read(snapshot: &Snapshot) -> Reading {
    read_at_most(snapshot, usize::MAX).expect("there is no end to reading")
}

/// As [`read`]; `None` if there are more than `entries`, which damage can make any number of: buckets
/// that several others lead to have all their entries several times.
pub fn read_at_most(snapshot: &Snapshot, entries: usize) -> Option<Reading> {
    let mut reading = Reading {
        left: entries,
        ..Reading::default()
    };
    reading.tree = reading.bucket(snapshot.root(), &mut Vec::new(), &mut Vec::new());
    (reading.left > 0).then_some(reading)
}

/// Reads a file that is to have no error.
#[track_caller]
pub fn read_all(file: &Path) -> Tree {
    let snapshot = open(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let reading = read(&snapshot);
    if let Some((path, error)) = reading.errors.first() {
        panic!("{}: {}: {error}", file.display(), show(path));
    }
    if let Some(path) = reading.lost.iter().chain(&reading.doubled).next() {
        panic!(
            "{}: {}: listed, and not found there by look-up",
            file.display(),
            show(path)
        );
    }
    reading.tree
}

impl Reading {
    /// `above`: the root pages of the buckets on the way here, since a damaged bucket can contain itself.
    fn bucket(
        &mut self,
        bucket: Bucket<'_>,
        path: &mut Vec<Vec<u8>>,
        above: &mut Vec<u64>,
    ) -> Tree {
        let mut tree = Tree {
            seq: bucket.sequence(),
            ..Tree::default()
        };
        let root = bucket.at().root;
        if root != 0 && above.contains(&root) {
            self.errors
                .push((path.clone(), Error::page(root, Damage::BucketCycle)));
            return tree;
        }
        above.push(root);
        for element in bucket.iter() {
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                return tree;
            }
            let element = match element {
                Ok(element) => element,
                Err(error) => {
                    self.errors.push((path.clone(), error));
                    continue;
                }
            };
            path.push(element.key.to_vec());
            match bucket.get(element.key) {
                // Of two elements with one key, which only damage can make, the other one.
                Ok(Some(found)) if found.offset != element.offset => {
                    self.doubled.push(path.clone())
                }
                Ok(Some(_)) => {}
                Ok(None) => self.lost.push(path.clone()),
                Err(error) => self.errors.push((path.clone(), error)),
            }
            let node = if element.is_bucket() {
                match bucket.sub_bucket(&element) {
                    Ok(sub) => Node::Bucket(self.bucket(sub, path, above)),
                    Err(error) => {
                        self.errors.push((path.clone(), error));
                        Node::Bucket(Tree::default())
                    }
                }
            } else {
                Node::Value(element.value.to_vec())
            };
            let before = tree.nodes.insert(element.key.to_vec(), node);
            assert!(before.is_none(), "{}: listed twice", show(path));
            path.pop();
        }
        above.pop();
        tree
    }
}

/// A path for a message.
pub fn show(path: &[Vec<u8>]) -> String {
    path.iter()
        .map(|name| format!("/{}", name.escape_ascii()))
        .collect()
}
