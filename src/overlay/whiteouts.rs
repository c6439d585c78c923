//! The keys of a directory that are deleted: a set of keys in order, in little memory.
//!
//! Keys that are deleted together mostly follow each other, as in a listing, and begin alike. They
//! are kept in blocks of neighbours, and in a block each key but the first by what differs from the
//! one before it: the length of what they share, the length of the rest (both in 7 bits a byte, the
//! lowest first, the top bit set on all but the last), and the rest. So a key takes some 10 bytes, not
//! the 130 that it would take in a tree of its own. Nothing here is read from a database but the keys.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Most keys of a block: what a look-up goes through.
const MOST_KEYS: usize = 64;
/// A block with so many bytes behind its first key takes no more, for the sake of long keys.
const FULL: usize = 4096;

/// A set of keys.
#[derive(Debug, Clone, Default)]
pub struct Whiteouts {
    /// By their first keys. All keys of a block come before the first of the next.
    blocks: BTreeMap<Box<[u8]>, Block>,
}

#[derive(Debug, Clone)]
struct Block {
    /// The keys behind the first.
    rest: Vec<u8>,
    /// How many keys there are, with the first.
    count: usize,
    last: Vec<u8>,
}

impl Whiteouts {
    /// There is no key.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Whether `key` is one of them.
    pub fn contains(&self, key: &[u8]) -> bool {
        let Some((first, block)) = self.block_of(key) else {
            return false;
        };
        let mut keys = block.keys(first);
        while let Some(there) = keys.step() {
            if there >= key {
                return there == key;
            }
        }
        false
    }

    /// The block that `key` is in, if it is in one.
    fn block_of(&self, key: &[u8]) -> Option<(&[u8], &Block)> {
        let (first, block) = self.blocks.range::<[u8], _>(up_to(key)).next_back()?;
        (key <= &block.last[..]).then_some((first, block))
    }

    /// Adds `key`, if it is not there.
    pub fn insert(&mut self, key: &[u8]) {
        let before = self.blocks.range_mut::<[u8], _>(up_to(key)).next_back();
        let mut into = None;
        if let Some((first, block)) = before {
            if key <= &block.last[..] {
                into = Some(first.clone());
            } else if !block.is_full() {
                return block.push(key);
            } else {
                block.rest.shrink_to_fit();
            }
        }
        if into.is_none() {
            let behind = self
                .blocks
                .range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded))
                .next();
            into = behind
                .filter(|(_, block)| !block.is_full())
                .map(|(first, _)| first.clone());
        }
        match into {
            Some(first) => self.change(&first, |keys| {
                if let Err(at) = keys.binary_search_by(|there| there[..].cmp(key)) {
                    keys.insert(at, key.to_vec());
                }
            }),
            None => drop(self.blocks.insert(key.into(), Block::of(key))),
        }
    }

    /// Takes `key` out, if it is there.
    pub fn remove(&mut self, key: &[u8]) {
        if let Some((first, _)) = self.block_of(key) {
            let first = first.to_owned();
            self.change(&first, |keys| keys.retain(|there| there != key));
        }
    }

    /// Makes the block with this first key anew, of keys that `change` leaves in order and between
    /// the blocks beside it. One that was full becomes two.
    fn change(&mut self, first: &[u8], change: impl FnOnce(&mut Vec<Vec<u8>>)) {
        let Some(block) = self.blocks.remove(first) else {
            return;
        };
        let mut keys = block.keys(first).collect();
        change(&mut keys);
        let most = match block.is_full() {
            true => keys.len().div_ceil(2),
            false => keys.len(),
        };
        for part in keys.chunks(most.max(1)) {
            let mut keys = part.iter();
            if let Some(first) = keys.next() {
                let mut block = Block::of(first);
                keys.for_each(|key| block.push(key));
                self.blocks.insert(first[..].into(), block);
            }
        }
    }

    /// The keys from `from` on, in order.
    pub fn range<'a>(&'a self, from: Bound<&[u8]>) -> impl Iterator<Item = Vec<u8>> + use<'a> {
        let start = match from {
            Bound::Included(key) | Bound::Excluded(key) => self.block_of(key),
            Bound::Unbounded => None,
        };
        let blocks = match start {
            Some((first, _)) => (Bound::Included(first), Bound::Unbounded),
            None => (from, Bound::Unbounded),
        };
        let blocks = self.blocks.range::<[u8], _>(blocks);
        let from = from.map(<[u8]>::to_vec);
        blocks
            .flat_map(|(first, block)| block.keys(first))
            .skip_while(move |key| match &from {
                Bound::Included(from) => key < from,
                Bound::Excluded(from) => key <= from,
                Bound::Unbounded => false,
            })
    }
}

impl Block {
    fn of(first: &[u8]) -> Block {
        Block {
            rest: Vec::new(),
            count: 1,
            last: first.to_vec(),
        }
    }

    fn is_full(&self) -> bool {
        self.count >= MOST_KEYS || self.rest.len() >= FULL
    }

    /// Adds `key`, which comes behind all others.
    fn push(&mut self, key: &[u8]) {
        let alike = self.last.iter().zip(key).take_while(|(a, b)| a == b);
        let shared = alike.count();
        let rest = &key[shared..];
        put(&mut self.rest, shared);
        put(&mut self.rest, rest.len());
        self.rest.extend_from_slice(rest);
        self.last.truncate(shared);
        self.last.extend_from_slice(rest);
        self.count += 1;
    }

    /// The keys of this block, whose first is `first`.
    fn keys(&self, first: &[u8]) -> Keys<'_> {
        Keys {
            key: first.to_vec(),
            rest: &self.rest,
            started: false,
        }
    }
}

/// The keys of a block.
struct Keys<'a> {
    key: Vec<u8>,
    /// What comes behind `key`.
    rest: &'a [u8],
    /// `key` was answered.
    started: bool,
}

impl Keys<'_> {
    /// As `next`, without a copy.
    fn step(&mut self) -> Option<&[u8]> {
        if self.started {
            if self.rest.is_empty() {
                return None;
            }
            let (shared, len) = (take(&mut self.rest), take(&mut self.rest));
            let (own, rest) = self.rest.split_at(len);
            self.key.truncate(shared);
            self.key.extend_from_slice(own);
            self.rest = rest;
        }
        self.started = true;
        Some(&self.key)
    }
}

impl Iterator for Keys<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.step().map(<[u8]>::to_vec)
    }
}

fn up_to(key: &[u8]) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Unbounded, Bound::Included(key))
}

fn put(bytes: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> usize {
    let (mut number, mut shift) = (0, 0);
    while let Some((&byte, rest)) = bytes.split_first() {
        *bytes = rest;
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
    }
    number
}

#[cfg(test)]
mod tests;
