//! Pages: the unit of the file, read in place with every bound checked.
//!
//! ```text
//! header   0 u64 id | 8 u16 flags | 10 u16 count | 12 u32 overflow
//! leaf     0 u32 flags | 4 u32 pos | 8 u32 ksize | 12 u32 vsize      16 bytes an element
//! branch   0 u32 pos | 4 u32 ksize | 8 u64 child                     16 bytes an element
//! ```
//!
//! `count` element headers follow the page header, then the data. `pos` counts from the start of
//! the element header itself; a leaf value follows its key. All numbers are little-endian here:
//! a file in the other byte order is refused on opening.
//!
//! A *run* is a logical page: the page with the header and its `overflow` continuation pages.

use super::error::{Damage, Error, Result};

/// Bytes of a page header, and of one element header.
pub const HEADER: usize = 16;
/// Offsets in the page header.
pub(crate) const ID: usize = 0;
pub(crate) const FLAGS: usize = 8;
pub(crate) const COUNT: usize = 10;
pub(crate) const OVERFLOW: usize = 12;

/// Page flags: exactly one is set.
pub const BRANCH: u16 = 0x01;
/// A page of keys and values.
pub const LEAF: u16 = 0x02;
/// One of the two pages with a meta.
pub const META: u16 = 0x04;
/// The list of free pages.
pub const FREELIST: u16 = 0x10;

/// Leaf element flag: the value is a bucket.
pub const BUCKET_FLAG: u32 = 0x01;

/// Most elements of one page that bbolt can write (it panics above).
pub const MAX_COUNT: usize = 65534;

/// Reads a number at `off`; `None` where the bytes end before it does.
pub fn u16_at(b: &[u8], off: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*b.get(off..)?.first_chunk()?))
}

/// Reads a number at `off`; `None` where the bytes end before it does.
pub fn u32_at(b: &[u8], off: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*b.get(off..)?.first_chunk()?))
}

/// Reads a number at `off`; `None` where the bytes end before it does.
pub fn u64_at(b: &[u8], off: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*b.get(off..)?.first_chunk()?))
}

/// The fields of a page header as stored, nothing verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The page's own number (0 in an inline page).
    pub id: u64,
    /// The kind of page.
    pub flags: u16,
    /// Number of elements.
    pub count: u16,
    /// Continuation pages of the run.
    pub overflow: u32,
}

impl Header {
    /// Reads the header at the start of `b`; `None` if there are fewer than 16 bytes.
    pub fn read(b: &[u8]) -> Option<Header> {
        Some(Header {
            id: u64_at(b, ID)?,
            flags: u16_at(b, FLAGS)?,
            count: u16_at(b, COUNT)?,
            overflow: u32_at(b, OVERFLOW)?,
        })
    }

    /// The 16 bytes as stored.
    pub fn to_bytes(self) -> [u8; HEADER] {
        let mut b = [0; HEADER];
        b[ID..FLAGS].copy_from_slice(&self.id.to_le_bytes());
        b[FLAGS..COUNT].copy_from_slice(&self.flags.to_le_bytes());
        b[COUNT..OVERFLOW].copy_from_slice(&self.count.to_le_bytes());
        b[OVERFLOW..].copy_from_slice(&self.overflow.to_le_bytes());
        b
    }
}

/// One entry of a leaf page: a key with its value, or a bucket.
#[derive(Debug, Clone, Copy)]
pub struct Element<'a> {
    /// Flags as stored; bbolt knows bit 0 alone and ignores the others.
    pub flags: u32,
    /// The key, never empty.
    pub key: &'a [u8],
    /// The value, or the bucket's header with its inline page.
    pub value: &'a [u8],
    /// Where the element header lies in the file, in bytes.
    pub offset: u64,
    /// Where the value lies in the file, in bytes.
    pub value_offset: u64,
}

impl Element<'_> {
    /// The value is a bucket.
    pub fn is_bucket(&self) -> bool {
        self.flags & BUCKET_FLAG != 0
    }
}

/// One entry of a branch page.
#[derive(Debug, Clone, Copy)]
pub struct Child<'a> {
    /// The smallest key below the child (bbolt keeps it equal to the child's first key).
    pub key: &'a [u8],
    /// The child's page number.
    pub pgid: u64,
}

/// A leaf or branch page whose header and element array were found sound.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// For messages: the page's number, or that of the page an inline page lies on.
    pgid: u64,
    leaf: bool,
    count: usize,
    /// Continuation pages of the run (0 for an inline page).
    overflow: u32,
    /// Where `bytes` starts in the file.
    offset: u64,
    /// The whole run, or the inline page's image.
    bytes: &'a [u8],
}

impl<'a> Page<'a> {
    /// Takes `bytes`, a run that starts at `offset` in the file, for the page `pgid`. The caller
    /// has verified the id and cut `bytes` to the run.
    pub(crate) fn new(pgid: u64, header: Header, offset: u64, bytes: &'a [u8]) -> Result<Page<'a>> {
        let count = usize::from(header.count);
        let leaf = match header.flags {
            LEAF => true,
            BRANCH => false,
            found => {
                let want = "a leaf or branch page";
                return Err(Error::page(pgid, Damage::WrongKind { found, want }));
            }
        };
        // count is at most 65535, so this cannot overflow.
        if HEADER + HEADER * count > bytes.len() {
            return Err(Error::page(pgid, Damage::CountPastEnd { count }));
        }
        if !leaf && count == 0 {
            return Err(Error::page(pgid, Damage::NoChild));
        }
        let page = Page {
            pgid,
            leaf,
            count,
            overflow: header.overflow,
            offset,
            bytes,
        };
        if count == 0 {
            page.verify_count()?;
        }
        Ok(page)
    }

    /// The page's number; for an inline page, that of the page that its bucket's value lies on.
    pub fn pgid(&self) -> u64 {
        self.pgid
    }

    /// A leaf, not a branch.
    pub fn is_leaf(&self) -> bool {
        self.leaf
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Continuation pages of the run.
    pub fn overflow(&self) -> u32 {
        self.overflow
    }

    /// Where the page starts in the file, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes of the run.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn err(&self, damage: Damage) -> Error {
        Error::page(self.pgid, damage)
    }

    /// Verifies that no element lies behind the last one: then the count is too low, and what the page
    /// leaves unsaid would be lost for good if it were written anew. Every writer puts the data
    /// right behind the headers, in their order, and zeros behind that, so nothing else looks like
    /// this. (`bbolt surgery clear-page-elements` leaves it, which makes elements unseen.)
    ///
    /// # Errors
    /// [`Damage::CountTooLow`].
    pub fn verify_count(&self) -> Result<()> {
        match self.has_more() {
            true => Err(self.err(Damage::CountTooLow { count: self.count })),
            false => Ok(()),
        }
    }

    /// What follows the last element header is one more, whose data follows the data of the last.
    fn has_more(&self) -> bool {
        let next = HEADER + HEADER * self.count;
        let Some(h) = self.bytes.get(next..).and_then(|b| b.first_chunk()) else {
            return false;
        };
        let within = |(start, len): (u64, u64)| start + len <= self.bytes.len() as u64;
        let Some((start, len)) = self.place(next, h).filter(|&place| within(place)) else {
            return false;
        };
        let Some(last) = self.count.checked_sub(1) else {
            let before = start - next as u64;
            return before > 0 && before.is_multiple_of(HEADER as u64) && len > 0;
        };
        let place = |index| {
            self.element(index)
                .ok()
                .and_then(|(at, h)| self.place(at, h))
        };
        let is_behind = |(at, _): (u64, u64)| at >= (next + HEADER) as u64;
        place(0).is_some_and(is_behind) && place(last).is_some_and(|(at, len)| at + len == start)
    }

    /// Where the data of the element with header `h` at `at` starts in `bytes`, and its length; `None`
    /// where no writer could have made such a header.
    fn place(&self, at: usize, h: &[u8; HEADER]) -> Option<(u64, u64)> {
        let [flags, pos, ksize, vsize] = match (self.leaf, words(h)) {
            (true, words) => words,
            (false, [pos, ksize, ..]) => [0, pos, ksize, 0],
        };
        let is_known = flags & !BUCKET_FLAG == 0 && ksize > 0;
        is_known.then_some((
            at as u64 + u64::from(pos),
            u64::from(ksize) + u64::from(vsize),
        ))
    }

    /// Cuts `[start, start + len)` out of the data area of the run.
    fn data(&self, index: usize, start: u64, len: u64) -> Result<&'a [u8]> {
        let floor = (HEADER + HEADER * self.count) as u64;
        let end = start.checked_add(len);
        end.filter(|_| start >= floor)
            .and_then(|end| {
                self.bytes
                    .get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
            })
            .ok_or_else(|| self.err(Damage::ElementOutside { index }))
    }

    /// Start of element header `index` in `bytes`, and the header.
    fn element(&self, index: usize) -> Result<(usize, &'a [u8; HEADER])> {
        let at = HEADER + HEADER * index;
        let header = self.bytes.get(at..).and_then(|b| b.first_chunk());
        match header {
            Some(header) if index < self.count => Ok((at, header)),
            _ => Err(self.err(Damage::ElementOutside { index })),
        }
    }

    /// Element `index` of a leaf page.
    ///
    /// # Errors
    /// [`Damage::ElementOutside`] if it reaches out of the run, [`Damage::EmptyKey`].
    pub fn leaf(&self, index: usize) -> Result<Element<'a>> {
        let (at, h) = self.element(index)?;
        let [flags, pos, ksize, vsize] = words(h);
        let start = at as u64 + u64::from(pos);
        let (ksize, vsize) = (u64::from(ksize), u64::from(vsize));
        let data = self.data(index, start, ksize + vsize)?;
        // ksize is at most data.len(), which fits usize.
        let (key, value) = data.split_at(ksize as usize);
        if key.is_empty() {
            return Err(self.err(Damage::EmptyKey { index }));
        }
        let offset = self.offset + at as u64;
        Ok(Element {
            flags,
            key,
            value,
            offset,
            value_offset: self.offset + start + ksize,
        })
    }

    /// Element `index` of a branch page.
    ///
    /// # Errors
    /// [`Damage::ElementOutside`] if its key reaches out of the run. The child's number is not
    /// verified here: [`Snapshot::page`](super::Snapshot::page) does.
    pub fn child(&self, index: usize) -> Result<Child<'a>> {
        let (at, h) = self.element(index)?;
        let [pos, ksize, lo, hi] = words(h);
        let key = self.data(index, at as u64 + u64::from(pos), u64::from(ksize))?;
        Ok(Child {
            key,
            pgid: u64::from(lo) | u64::from(hi) << 32,
        })
    }

    /// The key of element `index`, whatever the kind of page.
    ///
    /// # Errors
    /// As [`leaf`](Self::leaf) and [`child`](Self::child).
    pub fn key(&self, index: usize) -> Result<&'a [u8]> {
        if self.leaf {
            Ok(self.leaf(index)?.key)
        } else {
            Ok(self.child(index)?.key)
        }
    }

    /// The first element whose key is not less than `key`, by binary search: `Ok` if it is equal.
    pub fn search(&self, key: &[u8]) -> Result<std::result::Result<usize, usize>> {
        let (mut lo, mut hi) = (0, self.count);
        while lo < hi {
            let mid = lo + (hi - lo) / 2;
            match self.key(mid)?.cmp(key) {
                std::cmp::Ordering::Less => lo = mid + 1,
                std::cmp::Ordering::Equal => return Ok(Ok(mid)),
                std::cmp::Ordering::Greater => hi = mid,
            }
        }
        Ok(Err(lo))
    }

    /// The child to follow for `key`: the last one whose key is not greater, or the first.
    pub fn child_for(&self, key: &[u8]) -> Result<usize> {
        Ok(match self.search(key)? {
            Ok(index) => index,
            Err(index) => index.saturating_sub(1),
        })
    }

    /// Verifies that the keys ascend strictly, and that they are all there.
    ///
    /// # Errors
    /// [`Damage::Unsorted`] with the first element that is not greater than the one before it;
    /// [`Damage::CountTooLow`].
    pub fn verify_order(&self) -> Result<()> {
        self.verify_count()?;
        let mut previous: Option<&[u8]> = None;
        for index in 0..self.count {
            let key = self.key(index)?;
            if previous.is_some_and(|p| p >= key) {
                return Err(self.err(Damage::Unsorted { index }));
            }
            previous = Some(key);
        }
        Ok(())
    }

    /// Bytes from the start of the run to the end of its last data: what the content needs.
    ///
    /// # Errors
    /// An element that reaches out of the run; [`Damage::CountTooLow`].
    pub fn used(&self) -> Result<usize> {
        self.verify_count()?;
        let mut used = HEADER + HEADER * self.count;
        for index in 0..self.count {
            let data = if self.leaf {
                let e = self.leaf(index)?;
                (e.value_offset - self.offset) as usize + e.value.len()
            } else {
                let (at, h) = self.element(index)?;
                let [pos, ksize, ..] = words(h);
                at + pos as usize + ksize as usize
            };
            used = used.max(data);
        }
        Ok(used)
    }
}

/// Reads the leaf element header that lies at `offset` of `file`, whatever page it is on.
///
/// The number comes from outside (an inode number), so nothing but the bounds of `file` is taken
/// for granted; `None` where the element reaches out of them.
pub(crate) fn element_at(file: &[u8], offset: u64) -> Option<Element<'_>> {
    let at = usize::try_from(offset).ok()?;
    let h = file.get(at..)?.first_chunk()?;
    let [flags, pos, ksize, vsize] = words(h);
    let start = at.checked_add(pos as usize)?;
    let mid = start.checked_add(ksize as usize)?;
    let end = mid.checked_add(vsize as usize)?;
    let (key, value) = (file.get(start..mid)?, file.get(mid..end)?);
    (!key.is_empty()).then_some(Element {
        flags,
        key,
        value,
        offset,
        value_offset: mid as u64,
    })
}

fn words(h: &[u8; HEADER]) -> [u32; 4] {
    let w = |i: usize| u32::from_le_bytes([h[i], h[i + 1], h[i + 2], h[i + 3]]);
    [w(0), w(4), w(8), w(12)]
}
