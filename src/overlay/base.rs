//! The base: the mounted snapshot, by inode number.

use super::displaced::Displaced;
use super::ino::{Ino, MAX_SLOTS};
use super::order::{Elements, Order};
use crate::bolt::meta::fnv1a;
use crate::bolt::{Bucket, BucketRef, Damage, Element, Error, Result, Snapshot};
use crate::view::name;
use parking_lot::RwLock;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The slot of the root directory.
const ROOT_SLOT: u32 = 0;
/// The slot of the root of the tree as it was at mounting.
const BASE_ROOT_SLOT: u32 = 1;

/// The mounted snapshot and the directories of it that were visited.
pub struct Base {
    snapshot: Snapshot,
    dirs: RwLock<Dirs>,
    /// Pages whose keys are known to be in order, each at its number modulo the length.
    in_order: Box<[AtomicU64; 256]>,
}

/// Every directory gets a slot when something in it is first asked for.
struct Dirs {
    slots: Vec<Dir>,
    by_ino: HashMap<Ino, u32>,
    /// The root pages of the directories in `slots`.
    roots: HashSet<u64>,
    /// Buckets in which a check has found keys out of order, by the place of their value.
    disordered: HashSet<u64>,
}

#[derive(Clone)]
struct Dir {
    ino: Ino,
    bucket: BucketRef,
    /// Part of the tree as it was at mounting: staged edits do not apply.
    pristine: bool,
    /// A listing has met damage in this bucket.
    damaged: bool,
    /// Made when a name that is cut is looked up.
    long_names: Option<Arc<LongNames>>,
    /// A listing or a check has met keys out of order.
    disordered: bool,
    /// Made when a key is not found although keys are out of order.
    displaced: Option<Arc<Displaced>>,
    /// Damage has kept something in it from being removed.
    refused: bool,
    /// Made when a listing of a bucket whose keys are out of order is gone on with.
    order: Option<Arc<Order>>,
}

/// A directory of the base.
#[derive(Clone, Copy)]
pub struct BaseDir<'a> {
    slot: u32,
    /// Its content.
    pub bucket: Bucket<'a>,
}

impl BaseDir<'_> {
    /// Whether `ino` is the number of an element of this directory.
    pub fn has(&self, ino: Ino) -> bool {
        ino.element().is_some_and(|(slot, _)| slot == self.slot)
    }

    /// The number of the node that `element` of this directory is.
    ///
    /// # Errors
    /// [`Damage::OutOfRange`] for an element past 1 TiB: no inode number can carry it.
    pub fn ino(&self, element: &Element<'_>) -> Result<Ino> {
        Ino::of_base(self.slot, element.offset).ok_or_else(|| {
            let snapshot = self.bucket.snapshot();
            let damage = Damage::OutOfRange {
                hwm: snapshot.meta().hwm,
            };
            Error::page(snapshot.pgid_at(element.offset), damage)
        })
    }
}

impl Base {
    /// The base of a mount of `snapshot`.
    pub fn new(snapshot: Snapshot) -> Base {
        let bucket = snapshot.root_ref();
        let dir = |ino, pristine| Dir {
            ino,
            bucket,
            pristine,
            damaged: false,
            long_names: None,
            disordered: false,
            displaced: None,
            refused: false,
            order: None,
        };
        let slots = vec![dir(Ino::ROOT, false), dir(Ino::BASE_ROOT, true)];
        let by_ino = [(Ino::ROOT, ROOT_SLOT), (Ino::BASE_ROOT, BASE_ROOT_SLOT)].into();
        let in_order = Box::new([const { AtomicU64::new(0) }; 256]);
        Base {
            snapshot,
            dirs: RwLock::new(Dirs {
                slots,
                by_ino,
                roots: HashSet::from([bucket.root]),
                disordered: HashSet::new(),
            }),
            in_order,
        }
    }

    /// The mounted snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The base element of `ino`; `None` for a root and for a staged or fixed node.
    ///
    /// # Errors
    /// [`Damage::ElementOutside`] for a number that was never given out.
    pub fn element(&self, ino: Ino) -> Result<Option<Element<'_>>> {
        ino.element()
            .map(|(_, offset)| self.snapshot.element_at(offset))
            .transpose()
    }

    /// The content of the directory `ino` in the base; `None` for a staged or fixed node and for
    /// one that is no directory.
    ///
    /// # Errors
    /// What is wrong with the bucket's value, [`Damage::BucketCycle`] for a bucket inside itself.
    pub fn dir(&self, ino: Ino) -> Result<Option<BaseDir<'_>>> {
        let known = {
            let dirs = self.dirs.read();
            let slot = dirs.by_ino.get(&ino).copied();
            slot.and_then(|slot| Some((slot, dirs.slots.get(slot as usize)?.bucket)))
        };
        if let Some((slot, at)) = known {
            return Ok(Some(BaseDir {
                slot,
                bucket: self.snapshot.bucket(at),
            }));
        }
        let Some((parent, offset)) = ino.element() else {
            return Ok(None);
        };
        let at = self.snapshot.map().steady(|| {
            let element = self.snapshot.element_at(offset)?;
            let bucket = element.is_bucket();
            bucket
                .then(|| self.snapshot.bucket_ref(&element))
                .transpose()
        })?;
        let Some(at) = at else {
            return Ok(None);
        };
        let slot = self.dirs.write().add(ino, parent, at)?;
        Ok(Some(BaseDir {
            slot,
            bucket: self.snapshot.bucket(at),
        }))
    }

    /// Where the base has `ino`: its directory and its key. `None` for a root and for a staged or
    /// fixed node.
    pub fn origin(&self, ino: Ino) -> Option<(Ino, &[u8])> {
        let (slot, offset) = ino.element()?;
        let parent = self.dirs.read().slots.get(slot as usize)?.ino;
        Some((parent, self.snapshot.element_at(offset).ok()?.key))
    }

    /// Part of the tree as it was at mounting: staged edits do not apply to it.
    pub fn is_pristine(&self, ino: Ino) -> bool {
        let Some((slot, _)) = ino.element() else {
            return ino == Ino::BASE_ROOT;
        };
        self.dirs
            .read()
            .slots
            .get(slot as usize)
            .is_some_and(|dir| dir.pristine)
    }

    /// The element of `dir` with this key.
    ///
    /// # Errors
    /// What is wrong with a page on the way; [`Damage::Displaced`] for a key that is known to be in
    /// another place.
    pub fn find<'a>(&'a self, dir: &BaseDir<'a>, key: &[u8]) -> Result<Option<Element<'a>>> {
        let mut visited = Vec::new();
        let found = dir.bucket.get_knowing(key, self.known(&mut visited))?;
        if found.is_none() {
            self.set_known(dir, &visited);
            self.verify_absent(dir, key)?;
        }
        Ok(found)
    }

    /// Verifies that an edit at `key` of `dir` can be written back: the pages on the way to it are
    /// sound and in order. Refusing the edit is better than failing the commit.
    ///
    /// # Errors
    /// What is wrong with the first page that is not sound.
    pub fn verify_editable(&self, dir: &BaseDir<'_>, key: &[u8]) -> Result<()> {
        let mut visited = Vec::new();
        dir.bucket.verify_path(key, self.known(&mut visited))?;
        self.set_known(dir, &visited);
        Ok(())
    }

    /// Answers whether a page is known to be in order, and notes in `visited` that one that is not
    /// was asked for.
    fn known<'v>(&'v self, visited: &'v mut Vec<u64>) -> impl FnMut(u64) -> bool + 'v {
        move |pgid| {
            let known = self.place_of(pgid).load(Ordering::Relaxed) == pgid;
            if !known {
                visited.push(pgid);
            }
            known
        }
    }

    /// Notes that the pages `visited` on the way to a key of `dir` were found to be in order.
    fn set_known(&self, dir: &BaseDir<'_>, visited: &[u64]) {
        // The page inside a value has no number of its own.
        if !dir.bucket.at().is_inline() {
            for &pgid in visited {
                self.place_of(pgid).store(pgid, Ordering::Relaxed);
            }
        }
    }

    fn place_of(&self, pgid: u64) -> &AtomicU64 {
        &self.in_order[pgid as usize % self.in_order.len()]
    }

    /// The key of `dir` whose name is longer than a file name may be and is shown as `name`: cut,
    /// with `hash` at its end.
    ///
    /// # Errors
    /// What is wrong with the bucket, where that leaves open whether the key is there.
    pub fn find_long(&self, dir: &BaseDir<'_>, name: &[u8], hash: u64) -> Result<Option<Vec<u8>>> {
        let known = self
            .dirs
            .read()
            .slots
            .get(dir.slot as usize)
            .and_then(|d| d.long_names.clone());
        let index = match known {
            Some(index) => index,
            None => {
                let index = self.snapshot.map().steady(|| Arc::new(LongNames::of(dir)));
                if let Some(d) = self.dirs.write().slots.get_mut(dir.slot as usize) {
                    d.long_names = Some(index.clone());
                }
                index
            }
        };
        let first = index.keys.partition_point(|&(h, _)| h < hash);
        for &(_, offset) in index.keys[first..].iter().take_while(|&&(h, _)| h == hash) {
            let key = self.snapshot.element_at(offset)?.key;
            if name::encode(key, false) == name {
                return Ok(Some(key.to_owned()));
            }
        }
        // It may stand where nothing can be read.
        let damage = || dir.bucket.iter().find_map(Result::err);
        match index.complete {
            true => Ok(None),
            false => damage().map_or(Ok(None), Err),
        }
    }

    /// The elements of `dir`, in the order of listings.
    pub fn elements<'a>(&'a self, dir: &BaseDir<'a>) -> Elements<'a> {
        Elements::Walk(dir.bucket.iter())
    }

    /// Those behind the element at `offset`, which a listing has answered.
    ///
    /// # Errors
    /// For an offset that was never answered.
    pub fn elements_after<'a>(&'a self, dir: &BaseDir<'a>, offset: u64) -> Result<Elements<'a>> {
        let element = self.snapshot.element_at(offset)?;
        let known = {
            let dirs = self.dirs.read();
            let slot = dirs.slots.get(dir.slot as usize);
            slot.filter(|d| d.disordered).map(|d| d.order.clone())
        };
        let order = match known {
            // A seek finds the place again.
            None => return Ok(Elements::Walk(dir.bucket.iter_after(&element))),
            Some(Some(order)) => order,
            Some(None) => {
                let order = Arc::new(self.snapshot.map().steady(|| Order::of(dir.bucket)));
                if let Some(d) = self.dirs.write().slots.get_mut(dir.slot as usize) {
                    d.damaged |= !order.is_complete();
                    d.order = Some(order.clone());
                }
                order
            }
        };
        Ok(Elements::after(&self.snapshot, order, offset))
    }

    /// Notes that a listing of `dir` has met keys out of order.
    pub fn set_disordered(&self, dir: &BaseDir<'_>) {
        if let Some(d) = self.dirs.write().slots.get_mut(dir.slot as usize) {
            d.disordered = true;
        }
    }

    /// As [`set_disordered`](Self::set_disordered) for the bucket whose value lies there.
    pub(super) fn set_value_disordered(&self, value_offset: u64) {
        let dirs = &mut *self.dirs.write();
        dirs.disordered.insert(value_offset);
        let known = dirs.slots.iter_mut();
        for dir in known.filter(|d| d.bucket.value_offset == value_offset) {
            dir.disordered = true;
        }
    }

    /// Hands what is known of the keys of `dir` that no look-up finds to `look`, if keys are out of order.
    pub(super) fn of_disordered<T>(
        &self,
        dir: &BaseDir<'_>,
        look: impl FnOnce(&mut Option<Arc<Displaced>>) -> T,
    ) -> Option<T> {
        let slot = dir.slot as usize;
        if !self.dirs.read().slots.get(slot)?.disordered {
            return None;
        }
        Some(look(&mut self.dirs.write().slots.get_mut(slot)?.displaced))
    }

    /// Notes that damage has kept something in `dir` from being removed.
    pub fn set_refused(&self, dir: &BaseDir<'_>) {
        if let Some(dir) = self.dirs.write().slots.get_mut(dir.slot as usize) {
            dir.refused = true;
        }
    }

    /// Damage has kept something in `dir` from being removed.
    pub fn has_refused(&self, dir: &BaseDir<'_>) -> bool {
        let dirs = self.dirs.read();
        dirs.slots.get(dir.slot as usize).is_some_and(|d| d.refused)
    }

    /// Notes that a listing of `dir` has met damage.
    pub fn set_damaged(&self, dir: &BaseDir<'_>) {
        if let Some(dir) = self.dirs.write().slots.get_mut(dir.slot as usize) {
            dir.damaged = true;
        }
    }

    /// A listing of `dir` has met damage: it cannot be complete.
    pub fn is_damaged(&self, dir: &BaseDir<'_>) -> bool {
        self.dirs
            .read()
            .slots
            .get(dir.slot as usize)
            .is_some_and(|d| d.damaged)
    }
}

impl Dirs {
    fn add(&mut self, ino: Ino, parent: u32, bucket: BucketRef) -> Result<u32> {
        if let Some(&slot) = self.by_ino.get(&ino) {
            return Ok(slot); // another thread was faster
        }
        let error = |damage| Error::page(bucket.root, damage);
        let slot = self.slots.len() as u32;
        let pristine = self.slots.get(parent as usize).map(|dir| dir.pristine);
        let (true, Some(pristine)) = (slot < MAX_SLOTS, pristine) else {
            return Err(error(Damage::TooDeep));
        };
        // Few have a root page that another directory has: the walk up would take too long for each.
        let is_known = !bucket.is_inline() && !self.roots.insert(bucket.root);
        let mut ancestor = parent;
        while let Some(dir) = self.slots.get(ancestor as usize).filter(|_| is_known) {
            if dir.bucket.root == bucket.root {
                return Err(error(Damage::BucketCycle));
            }
            match dir.ino.element() {
                Some((slot, _)) => ancestor = slot,
                None => break,
            }
        }
        let disordered = self.disordered.contains(&bucket.value_offset);
        self.slots.push(Dir {
            ino,
            bucket,
            pristine,
            damaged: false,
            long_names: None,
            disordered,
            displaced: None,
            refused: false,
            order: None,
        });
        self.by_ino.insert(ino, slot);
        Ok(slot)
    }
}

/// The keys of a bucket whose names are cut.
struct LongNames {
    /// (hash, element offset), sorted.
    keys: Vec<(u64, u64)>,
    /// All of the bucket could be read.
    complete: bool,
}

impl LongNames {
    fn of(dir: &BaseDir<'_>) -> LongNames {
        let (mut keys, mut complete) = (Vec::new(), true);
        for element in dir.bucket.iter() {
            match element {
                Ok(element) if name::is_cut(element.key) => {
                    keys.push((fnv1a(element.key), element.offset));
                }
                Ok(_) => {}
                Err(_) => complete = false,
            }
        }
        keys.sort_unstable();
        LongNames { keys, complete }
    }
}
