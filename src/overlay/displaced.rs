//! Keys that damage has put where no look-up goes: on a page that the branches above have for other ones.
//!
//! They are listed, and can be read. An edit would be made in another place, so that the bucket had
//! the key twice: it is refused, wherever it is known that a bucket has such keys. A listing tells,
//! and so does a check.

use super::base::{Base, BaseDir};
use super::ino::Ino;
use super::merged::{Found, Merged};
use crate::bolt::{Bucket, Damage, Element, Error, Result};
use std::sync::Arc;

/// The keys of a bucket that no look-up finds.
pub struct Displaced {
    /// The offsets of their elements, in the order of the keys.
    offsets: Vec<u64>,
}

impl Displaced {
    fn of(bucket: Bucket<'_>) -> Displaced {
        let elements = bucket.iter().filter_map(Result::ok);
        let mut displaced: Vec<(&[u8], u64)> = elements
            .filter(|element| matches!(bucket.get(element.key), Ok(None)))
            .map(|element| (element.key, element.offset))
            .collect();
        displaced.sort_unstable();
        let offsets = displaced.into_iter().map(|(_, offset)| offset).collect();
        Displaced { offsets }
    }
}

impl Base {
    /// The element of `dir` with this key, where no look-up finds it; `None` also where it is not known
    /// that the bucket has such keys.
    pub fn displaced<'a>(&'a self, dir: &BaseDir<'a>, key: &[u8]) -> Option<Element<'a>> {
        let known = self.of_disordered(dir, |d| d.clone())?;
        let displaced = match known {
            Some(displaced) => displaced,
            None => {
                let map = self.snapshot().map();
                let found = Arc::new(map.steady(|| Displaced::of(dir.bucket)));
                self.of_disordered(dir, |d| *d = Some(found.clone()));
                found
            }
        };
        let element = |offset| self.snapshot().element_at(offset).ok();
        let offsets = &displaced.offsets;
        let at = offsets.partition_point(|&at| element(at).is_some_and(|e| e.key < key));
        element(*offsets.get(at)?).filter(|e| e.key == key)
    }

    /// Verifies that `key`, which a look-up in `dir` has not found, is not in another place there.
    ///
    /// # Errors
    /// [`Damage::Displaced`].
    pub fn verify_absent(&self, dir: &BaseDir<'_>, key: &[u8]) -> Result<()> {
        match self.displaced(dir, key) {
            Some(element) => {
                let page = self.snapshot().pgid_at(element.offset);
                Err(Error::page(page, Damage::Displaced))
            }
            None => Ok(()),
        }
    }

    /// Notes that a check has found keys out of order in the bucket at the end of this path from the root.
    pub fn note_disordered(&self, path: &[Vec<u8>]) {
        let mut bucket = self.snapshot().root();
        for name in path {
            let below = bucket.get(name).ok().flatten();
            match below.and_then(|element| bucket.sub_bucket(&element).ok()) {
                Some(below) => bucket = below,
                None => return, // no look-up will come to it either
            }
        }
        self.set_value_disordered(bucket.at().value_offset);
    }
}

impl<'a> Merged<'a> {
    /// The node at `key` of `dir` that is to be read alone, as no look-up finds it.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn displaced(&self, dir: Ino, key: &[u8]) -> Result<Option<Found<'a>>> {
        let Some(base_dir) = self.base.dir(dir)? else {
            return Ok(None);
        };
        match self.base.displaced(&base_dir, key) {
            Some(element) => self.node(base_dir.ino(&element)?),
            None => Ok(None),
        }
    }
}
