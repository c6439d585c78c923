//! A committed state of a database, read in place: the tree below one meta.
//!
//! Nothing is trusted: each page is verified when it is reached (its number, its kind, that its
//! run lies inside the pages in use and inside the file), each element when it is read. An error
//! concerns the one subtree it was found in.

use super::bucket::{BucketRef, inline_page};
use super::cursor::Cursor;
use super::error::{Damage, Error, OpenError, Result};
use super::freelist;
use super::map::Map;
use super::meta::{Meta, Metas, NO_FREELIST};
use super::page::{self, Element, HEADER, Header, Page};

/// Most levels of pages in one bucket that are followed. A real tree has fewer than ten.
pub const MAX_LEVELS: usize = 256;

/// How to open a database.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenOptions {
    /// The meta to use (0 or 1) instead of the current one.
    pub meta: Option<u8>,
    /// Open a file that ends before its high-water mark; what is cut off reads as damaged.
    pub allow_truncated: bool,
}

/// A committed state of a database.
#[derive(Clone)]
pub struct Snapshot {
    map: Map,
    metas: Metas,
    slot: u8,
    meta: Meta,
    /// Bytes of the map that hold pages in use: at most `hwm * page size`.
    in_use: usize,
}

impl Snapshot {
    /// Opens the current state of the database in `map`, or the one `options` ask for.
    ///
    /// # Errors
    /// [`Error::Open`]: why the file as a whole cannot be used.
    pub fn open(map: Map, options: OpenOptions) -> Result<Snapshot> {
        let metas = Metas::find(&map)?;
        let slot = match options.meta {
            Some(slot) => slot,
            None => metas.current().ok_or_else(|| match metas.slots[0] {
                Err(super::meta::MetaError::Version(v)) => OpenError::Version(v),
                _ => OpenError::Checksum,
            })?,
        };
        let meta = metas.get(slot).ok_or(OpenError::NoSuchMeta(slot))?;
        let have = map.len() as u64;
        // Far above any file there is: keeps all arithmetic on pages far from overflowing.
        const MOST_PAGES: u64 = 1 << 40;
        let need = match meta.bytes_in_use() {
            Some(need) if (3..=MOST_PAGES).contains(&meta.hwm) => need,
            _ => return Err(OpenError::HighWaterMark(meta.hwm).into()),
        };
        if meta.root < 2 || meta.root >= meta.hwm {
            return Err(OpenError::Root {
                root: meta.root,
                hwm: meta.hwm,
            }
            .into());
        }
        if need > have && !options.allow_truncated {
            let other = metas.get(1 - slot.min(1));
            let other_fits = other
                .and_then(|m| m.bytes_in_use())
                .is_some_and(|len| len <= have);
            return Err(OpenError::Truncated {
                need,
                have,
                other_fits,
            }
            .into());
        }
        let in_use = need.min(have) as usize;
        Ok(Snapshot {
            map,
            metas,
            slot,
            meta,
            in_use,
        })
    }

    /// The meta of this state.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Both metas of the file, as they were at opening.
    pub fn metas(&self) -> &Metas {
        &self.metas
    }

    /// The slot (0 or 1) of this state's meta.
    pub fn slot(&self) -> u8 {
        self.slot
    }

    /// The meta of the current state, where this is not it but the older one.
    pub fn newer(&self) -> Option<Meta> {
        let current = self.metas.get(self.metas.current()?)?;
        (current != self.meta).then_some(current)
    }

    /// The file ended before the pages in use do when it was opened.
    pub fn is_cut(&self) -> bool {
        self.meta
            .bytes_in_use()
            .is_none_or(|need| need > self.in_use as u64)
    }

    /// Page size in bytes.
    pub fn page_size(&self) -> usize {
        self.metas.page_size as usize
    }

    /// Bytes of the file at opening, with whatever follows the high-water mark.
    pub fn file_len(&self) -> u64 {
        self.map.len() as u64
    }

    /// The file's bytes.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// The page on which the byte at `offset` lies, for messages.
    pub fn pgid_at(&self, offset: u64) -> u64 {
        offset / u64::from(self.metas.page_size)
    }

    /// Verifies that none of these bytes, all of them in the map, is known to be lost.
    fn verify_there(&self, pgid: u64, start: usize, len: usize) -> Result<()> {
        let end = start.saturating_add(len);
        if !self.map.has_lost(start..end) {
            return Ok(());
        }
        Err(Error::page(
            pgid,
            match self.map.cut() {
                Some(cut) if cut < end as u64 => Damage::Gone,
                _ => Damage::Unreadable,
            },
        ))
    }

    /// The bytes of the run that starts at page `pgid`, and its header. The page's number and the
    /// extent of the run are verified, its kind is not.
    ///
    /// # Errors
    /// [`Error::Page`] with what is wrong.
    pub fn run(&self, pgid: u64) -> Result<(Header, &[u8])> {
        let err = |damage| Err(Error::page(pgid, damage));
        let hwm = self.meta.hwm;
        if pgid < 2 || pgid >= hwm {
            return err(Damage::OutOfRange { hwm });
        }
        let ps = self.page_size();
        // pgid < hwm <= 2^40 and ps <= 2^24: no overflow.
        let start = pgid as usize * ps;
        let rest = self.map.get(start..self.in_use).unwrap_or_default();
        self.verify_there(pgid, start, rest.len().min(ps))?;
        let Some(header) = Header::read(rest) else {
            return err(Damage::PastEndOfFile);
        };
        if header.id != pgid {
            let zero = rest
                .get(..ps)
                .is_some_and(|page| page.iter().all(|&b| b == 0));
            let found = header.id;
            return err(if zero {
                Damage::Zeroed
            } else {
                Damage::WrongId { found }
            });
        }
        if u64::from(header.overflow) >= hwm - pgid {
            return err(Damage::OverflowPastEnd {
                overflow: header.overflow,
            });
        }
        match rest.get(..(header.overflow as usize + 1) * ps) {
            Some(run) => self
                .verify_there(pgid, start, run.len())
                .map(|()| (header, run)),
            None => err(Damage::PastEndOfFile),
        }
    }

    /// The leaf or branch page `pgid`.
    ///
    /// # Errors
    /// [`Error::Page`] with what is wrong.
    pub fn page(&self, pgid: u64) -> Result<Page<'_>> {
        let (header, run) = self.run(pgid)?;
        Page::new(pgid, header, pgid * self.page_size() as u64, run)
    }

    /// The stored freelist's ids, in the order stored and not verified; `None` where none is
    /// stored.
    ///
    /// # Errors
    /// [`Error::Page`] where the freelist's run is damaged.
    pub fn freelist(&self) -> Result<Option<impl ExactSizeIterator<Item = u64> + '_>> {
        let pgid = self.meta.freelist;
        if pgid == NO_FREELIST {
            return Ok(None);
        }
        let (_, run) = self.run(pgid)?;
        freelist::ids(pgid, run).map(Some)
    }

    /// Where the root bucket's content lies.
    pub fn root_ref(&self) -> BucketRef {
        let Meta { root, sequence, .. } = self.meta;
        BucketRef {
            root,
            sequence,
            value_offset: 0,
            value_len: 0,
        }
    }

    /// The root bucket.
    pub fn root(&self) -> Bucket<'_> {
        self.bucket(self.root_ref())
    }

    /// The bucket that `at` stands for.
    pub fn bucket(&self, at: BucketRef) -> Bucket<'_> {
        Bucket { snapshot: self, at }
    }

    /// The bucket in the value of `element`.
    ///
    /// # Errors
    /// [`Damage::BucketValue`] where the value is too short.
    pub fn bucket_ref(&self, element: &Element<'_>) -> Result<BucketRef> {
        BucketRef::read(element, self.pgid_at(element.offset))
    }

    /// The element whose header lies at `offset` of the file, as a cursor gave it out.
    ///
    /// # Errors
    /// [`Damage::ElementOutside`] where it reaches out of the pages in use.
    pub fn element_at(&self, offset: u64) -> Result<Element<'_>> {
        let pgid = self.pgid_at(offset);
        let outside = || Error::page(pgid, Damage::ElementOutside { index: 0 });
        let pages = self.map.get(..self.in_use).unwrap_or_default();
        let at = usize::try_from(offset).map_err(|_| outside())?;
        if at < 2 * self.page_size() || at >= pages.len() {
            return Err(outside());
        }
        self.verify_there(pgid, at, HEADER)?;
        let element = page::element_at(pages, offset).ok_or_else(outside)?;
        let key = element.value_offset as usize - element.key.len();
        self.verify_there(pgid, key, element.key.len() + element.value.len())?;
        Ok(element)
    }
}

/// One bucket of a snapshot.
#[derive(Clone, Copy)]
pub struct Bucket<'a> {
    snapshot: &'a Snapshot,
    at: BucketRef,
}

impl<'a> Bucket<'a> {
    /// Where the bucket's content lies.
    pub fn at(&self) -> BucketRef {
        self.at
    }

    /// The snapshot it is part of.
    pub fn snapshot(&self) -> &'a Snapshot {
        self.snapshot
    }

    /// The bucket's sequence number.
    pub fn sequence(&self) -> u64 {
        self.at.sequence
    }

    /// The bucket's root page, inline or not.
    ///
    /// # Errors
    /// [`Error::Page`] with what is wrong with it.
    pub fn root_page(&self) -> Result<Page<'a>> {
        if self.at.root != 0 {
            return self.snapshot.page(self.at.root);
        }
        let offset = self.at.value_offset;
        let pgid = self.snapshot.pgid_at(offset);
        let len = self.at.value_len;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.checked_add(len);
        let value = end.and_then(|end| self.snapshot.map.get(start..end));
        let value = value.ok_or_else(|| Error::page(pgid, Damage::BucketValue { len }))?;
        self.snapshot.verify_there(pgid, start, len)?;
        inline_page(pgid, value, offset)
    }

    /// The element with this key.
    ///
    /// A miss is answered `None` only if the keys on the way there are in order; on a page where
    /// they are not, or one cannot be read, the leaf is searched from end to end.
    ///
    /// # Errors
    /// [`Error::Page`] where a page on the way is damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<Element<'a>>> {
        self.get_knowing(key, |_| false)
    }

    /// As [`get`](Self::get). `known` answers whether a page is known to be in order: a miss then
    /// takes no look at each of its keys.
    ///
    /// # Errors
    /// As there.
    pub fn get_knowing(
        &self,
        key: &[u8],
        known: impl FnMut(u64) -> bool,
    ) -> Result<Option<Element<'a>>> {
        let mut page = self.root_page()?;
        for _ in 0..MAX_LEVELS {
            if !page.is_leaf() {
                page = self.snapshot.page(page.child(page.child_for(key)?)?.pgid)?;
                continue;
            }
            if let Ok(Ok(index)) = page.search(key) {
                return page.leaf(index).map(Some);
            }
            let Err(damage) = self.verify_path(key, known) else {
                return Ok(None);
            };
            // One damaged element must not hide the sound ones beside it.
            let mut sound = (0..page.count()).filter_map(|index| page.leaf(index).ok());
            return match sound.find(|element| element.key == key) {
                Some(element) => Ok(Some(element)),
                None => Err(damage),
            };
        }
        Err(Error::page(page.pgid(), Damage::TooDeep))
    }

    /// Verifies that the keys are in order on every page from the root to where `key` belongs: an
    /// edit there can be written back. `known` answers whether a page was verified before.
    ///
    /// # Errors
    /// What is wrong with the first page that is not sound.
    pub fn verify_path(&self, key: &[u8], mut known: impl FnMut(u64) -> bool) -> Result<()> {
        let mut page = self.root_page()?;
        for _ in 0..MAX_LEVELS {
            if self.at.is_inline() || !known(page.pgid()) {
                page.verify_order()?;
            }
            if page.is_leaf() {
                return Ok(());
            }
            page = self.snapshot.page(page.child(page.child_for(key)?)?.pgid)?;
        }
        Err(Error::page(page.pgid(), Damage::TooDeep))
    }

    /// All elements, in the order of their keys.
    pub fn iter(&self) -> Cursor<'a> {
        Cursor::first(*self)
    }

    /// The elements from the first whose key is not less than `key`.
    pub fn iter_from(&self, key: &[u8]) -> Cursor<'a> {
        Cursor::seek(*self, key)
    }

    /// The elements behind `element`, which a walk over this bucket has answered.
    pub fn iter_after(&self, element: &Element<'a>) -> Cursor<'a> {
        Cursor::after(*self, element)
    }

    /// The sub-bucket in the value of `element`, which is of this bucket.
    ///
    /// # Errors
    /// [`Damage::BucketValue`] where the value is too short.
    pub fn sub_bucket(&self, element: &Element<'_>) -> Result<Bucket<'a>> {
        Ok(self.snapshot.bucket(self.snapshot.bucket_ref(element)?))
    }
}
