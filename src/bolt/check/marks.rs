//! A set of page numbers that several threads fill at once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::super::pageset::PageSet;

/// Words of one block, each of 64 pages.
const WORDS: usize = 1024;
const BLOCK: u64 = WORDS as u64 * 64;

type Words = Box<[AtomicU64; WORDS]>;

/// Page numbers below a bound, in blocks that take memory only once they have a member.
///
/// The order in which threads see each other's members is of no matter, only that each page is
/// new to exactly one of them: relaxed read-modify-writes do.
pub(super) struct Marks {
    blocks: Vec<OnceLock<Words>>,
}

impl Marks {
    /// The empty set of pages below `end`.
    pub(super) fn new(end: u64) -> Marks {
        let blocks = end.div_ceil(BLOCK);
        Marks {
            blocks: (0..blocks).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Adds a page; `false` if it was a member already, or is not below the bound.
    pub(super) fn insert(&self, pgid: u64) -> bool {
        let Some(block) = self.blocks.get((pgid / BLOCK) as usize) else {
            return false;
        };
        let words = block.get_or_init(|| Box::new([const { AtomicU64::new(0) }; WORDS]));
        let bit = 1 << (pgid % 64);
        words[(pgid % BLOCK / 64) as usize].fetch_or(bit, Relaxed) & bit == 0
    }

    /// The members as a plain set.
    pub(super) fn to_set(&self) -> PageSet {
        let mut set = PageSet::new();
        for (n, block) in self.blocks.iter().enumerate() {
            for (i, word) in block.get().iter().flat_map(|w| w.iter()).enumerate() {
                let mut word = word.load(Relaxed);
                while word != 0 {
                    let bit = u64::from(word.trailing_zeros());
                    set.insert(n as u64 * BLOCK + i as u64 * 64 + bit);
                    word &= word - 1;
                }
            }
        }
        set
    }
}
