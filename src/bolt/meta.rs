//! Metas: the two records that name the roots of the two last committed states.
//!
//! ```text
//! 0 u32 magic | 4 u32 version | 8 u32 page size | 12 u32 flags
//! 16 u64 root pgid | 24 u64 root sequence | 32 u64 freelist pgid | 40 u64 high-water mark
//! 48 u64 txid | 56 u64 checksum: FNV-1a 64 of the 56 bytes before it
//! ```
//!
//! The record follows the 16-byte header of pages 0 and 1. The state of a file is the valid meta
//! with the higher txid; nothing but the checksum makes a meta valid to bbolt, so what it names
//! is verified here too before it is used.

use super::error::{OpenError, Result};
use super::page::{HEADER, Header, META, u32_at, u64_at};

/// First bytes of a meta record.
pub const MAGIC: u32 = 0xED0C_DAED;
/// The one format version there is.
pub const VERSION: u32 = 2;
/// Bytes of a meta record.
pub const META_LEN: usize = 64;
/// The freelist pgid that says that none is stored.
pub const NO_FREELIST: u64 = u64::MAX;
/// Smallest page size that is read.
pub const MIN_PAGE_SIZE: u32 = 512;
/// Largest page size that is read.
pub const MAX_PAGE_SIZE: u32 = 16 << 20;

/// FNV-1a, 64 bits: the checksum of a meta.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| {
        (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A meta record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Page size in bytes.
    pub page_size: u32,
    /// 0, or 4 after `bbolt surgery meta update`; without meaning.
    pub flags: u32,
    /// Root page of the root bucket.
    pub root: u64,
    /// Sequence of the root bucket: always 0 in files by bbolt, carried on here.
    pub sequence: u64,
    /// First page of the freelist, or [`NO_FREELIST`].
    pub freelist: u64,
    /// The high-water mark: first page never allocated.
    pub hwm: u64,
    /// Number of the transaction that wrote this state.
    pub txid: u64,
}

/// Why a meta record is not valid, in bbolt's order of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaError {
    /// The file ends before the record does.
    Missing,
    /// Not bbolt's magic number.
    Magic,
    /// Another version.
    Version(u32),
    /// The checksum does not match.
    Checksum,
}

impl std::fmt::Display for MetaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MetaError::Missing => write!(f, "the file ends before it"),
            MetaError::Magic => write!(f, "no magic number"),
            MetaError::Version(v) => write!(f, "version mismatch ({v})"),
            MetaError::Checksum => write!(f, "checksum error"),
        }
    }
}

impl Meta {
    /// Reads the record of the meta page that starts at `b`.
    ///
    /// # Errors
    /// The first of bbolt's tests that fails.
    pub fn read(b: &[u8]) -> Result<Meta, MetaError> {
        let record = b.get(HEADER..HEADER + META_LEN).ok_or(MetaError::Missing)?;
        let u32_of = |off| u32_at(record, off).ok_or(MetaError::Missing);
        let u64_of = |off| u64_at(record, off).ok_or(MetaError::Missing);
        if u32_of(0)? != MAGIC {
            return Err(MetaError::Magic);
        }
        match u32_of(4)? {
            VERSION => {}
            other => return Err(MetaError::Version(other)),
        }
        if u64_of(56)? != fnv1a(&record[..56]) {
            return Err(MetaError::Checksum);
        }
        Ok(Meta {
            page_size: u32_of(8)?,
            flags: u32_of(12)?,
            root: u64_of(16)?,
            sequence: u64_of(24)?,
            freelist: u64_of(32)?,
            hwm: u64_of(40)?,
            txid: u64_of(48)?,
        })
    }

    /// The page of this meta for `slot`, header and checksum included; the rest of the page is
    /// zeros. `page_size` bytes long, and at least 80.
    pub fn to_page(&self, slot: u8) -> Vec<u8> {
        let header = Header {
            id: u64::from(slot),
            flags: META,
            count: 0,
            overflow: 0,
        };
        let mut b = Vec::with_capacity(self.page_size as usize);
        b.extend_from_slice(&header.to_bytes());
        for n in [MAGIC, VERSION, self.page_size, self.flags] {
            b.extend_from_slice(&n.to_le_bytes());
        }
        for n in [self.root, self.sequence, self.freelist, self.hwm, self.txid] {
            b.extend_from_slice(&n.to_le_bytes());
        }
        let sum = fnv1a(&b[HEADER..]);
        b.extend_from_slice(&sum.to_le_bytes());
        b.resize(b.len().max(self.page_size as usize), 0);
        b
    }

    /// Bytes of the file that this state uses; `None` where the product overflows.
    pub fn bytes_in_use(&self) -> Option<u64> {
        self.hwm.checked_mul(u64::from(self.page_size))
    }

    /// The checksum as stored.
    pub fn checksum(&self) -> u64 {
        let page = self.to_page(0);
        u64_at(&page, HEADER + 56).unwrap_or(0)
    }
}

/// The two metas of a file, and which page size they stand at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metas {
    /// Page size in bytes: a power of two, [`MIN_PAGE_SIZE`] to [`MAX_PAGE_SIZE`].
    pub page_size: u32,
    /// The record of each slot.
    pub slots: [Result<Meta, MetaError>; 2],
}

impl Metas {
    /// Finds the page size and the metas of `file`, as bbolt 1.5 does and more carefully: a meta
    /// 1 counts only where its position is its page size and its page carries number 1.
    ///
    /// # Errors
    /// Why the file is no database that can be opened.
    pub fn find(file: &[u8]) -> Result<Metas, OpenError> {
        if file.is_empty() {
            return Err(OpenError::Empty);
        }
        let first = Meta::read(file);
        let second = second_meta(file);
        let page_size = match (&first, second) {
            // A meta 1 inside what meta 0 takes for page 0: one of the two is lying.
            (Ok(a), Some(b)) if b < a.page_size => {
                return Err(OpenError::PageSizeConflict(a.page_size, b));
            }
            (Ok(a), _) if valid_page_size(a.page_size) => a.page_size,
            (_, Some(b)) => b,
            (Ok(a), None) => return Err(OpenError::PageSize(a.page_size)),
            (Err(e), None) => return Err(why_not(file, *e)),
        };
        let at = |slot: usize| {
            file.get(slot * page_size as usize..)
                .ok_or(MetaError::Missing)
        };
        let read = |slot| {
            let meta = at(slot).and_then(Meta::read)?;
            // A record for another page size is not a meta of this file.
            if meta.page_size == page_size {
                Ok(meta)
            } else {
                Err(MetaError::Magic)
            }
        };
        Ok(Metas {
            page_size,
            slots: [read(0), read(1)],
        })
    }

    /// The slot of the current state: the valid meta with the higher txid, slot 0 on a tie.
    pub fn current(&self) -> Option<u8> {
        match self.slots {
            [Ok(a), Ok(b)] => Some(u8::from(b.txid > a.txid)),
            [Ok(_), Err(_)] => Some(0),
            [Err(_), Ok(_)] => Some(1),
            [Err(_), Err(_)] => None,
        }
    }

    /// The meta in `slot`, if it is valid.
    pub fn get(&self, slot: u8) -> Option<Meta> {
        self.slots
            .get(usize::from(slot))
            .and_then(|m| m.as_ref().ok())
            .copied()
    }
}

fn valid_page_size(n: u32) -> bool {
    n.is_power_of_two() && (MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&n)
}

/// The page size of a meta 1 found by trying each possible position.
fn second_meta(file: &[u8]) -> Option<u32> {
    let sizes = (0..)
        .map(|i| MIN_PAGE_SIZE << i)
        .take_while(|&n| n <= MAX_PAGE_SIZE);
    sizes.into_iter().find(|&size| {
        let Some(page) = file.get(size as usize..) else {
            return false;
        };
        let id = Header::read(page).map(|h| h.id);
        id == Some(1) && Meta::read(page).is_ok_and(|m| m.page_size == size)
    })
}

/// Names what a file without a valid meta is.
fn why_not(file: &[u8], first: MetaError) -> OpenError {
    let record = file.get(HEADER..HEADER + META_LEN);
    if record.and_then(|r| u32_at(r, 0)) == Some(MAGIC.swap_bytes()) {
        return OpenError::BigEndian;
    }
    match first {
        MetaError::Version(v) => OpenError::Version(v),
        MetaError::Checksum => OpenError::Checksum,
        _ if file.iter().take(4096).all(|&b| b == 0) => OpenError::NeverInitialised,
        _ => OpenError::NotBolt,
    }
}
