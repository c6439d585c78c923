//! Inode numbers without a table.
//!
//! ```text
//! 0 | slot (23 bits) | offset of the leaf element in the file (40 bits)     a base node
//! 1 | serial number (63 bits)                                               a staged node
//! ```
//!
//! The slot names the directory through which the node was reached (a bucket root shared by two
//! damaged buckets has one offset and two numbers). No element lies below offset 1024, so small
//! numbers are free for the nodes that are always there.

/// The number of a node, stable for the life of the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

const STAGED: u64 = 1 << 63;
const OFFSET_BITS: u32 = 40;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;
/// Numbers below are not elements of the base.
const FIRST_OFFSET: u64 = 1024;

/// Directories that can be visited in one mount.
pub const MAX_SLOTS: u32 = 1 << 23;

impl Ino {
    /// The mount's root directory: the database's root bucket.
    pub const ROOT: Ino = Ino(1);
    /// The root of the tree as it was at mounting.
    pub const BASE_ROOT: Ino = Ino(2);
    /// The first of the numbers that are free for other fixed nodes; they end at 1023.
    pub const FIRST_FIXED: Ino = Ino(3);

    /// The number of the base node whose element lies at `offset`, reached through directory
    /// `slot`. `None` past 1 TiB or 2^23 directories.
    pub fn of_base(slot: u32, offset: u64) -> Option<Ino> {
        let fits = slot < MAX_SLOTS && (FIRST_OFFSET..=OFFSET_MASK).contains(&offset);
        fits.then_some(Ino(u64::from(slot) << OFFSET_BITS | offset))
    }

    /// The number of the staged node with this serial number.
    pub fn of_staged(serial: u64) -> Ino {
        Ino(STAGED | serial)
    }

    /// A node that this mount created.
    pub fn is_staged(self) -> bool {
        self.0 & STAGED != 0
    }

    /// Slot and element offset of a base node; `None` for a staged or fixed one.
    pub fn element(self) -> Option<(u32, u64)> {
        let offset = self.0 & OFFSET_MASK;
        let slot = (self.0 >> OFFSET_BITS) as u32; // at most 23 bits where not staged
        (!self.is_staged() && offset >= FIRST_OFFSET).then_some((slot, offset))
    }
}
