//! A set of page numbers: a bitmap that takes memory only where it has members.

use std::iter::FusedIterator;

/// Words of one block of the bitmap, each of 64 pages.
const WORDS: usize = 1024;
/// Pages of one block.
const BLOCK: u64 = WORDS as u64 * 64;

type Words = Box<[u64; WORDS]>;

/// A set of page numbers.
///
/// A block of 8 KiB for each 65,536 pages between which there are members, so that a set over a
/// sparse file of terabytes stays small. Members come from page numbers that were found below the
/// high-water mark, which [`Snapshot`](super::Snapshot) bounds to 2^40.
#[derive(Clone, Default)]
pub struct PageSet {
    blocks: Vec<Option<Words>>,
    len: u64,
}

impl PageSet {
    /// The empty set.
    pub fn new() -> PageSet {
        PageSet::default()
    }

    fn place(pgid: u64) -> (usize, usize, u64) {
        let bit = 1 << (pgid % 64);
        let word = (pgid % BLOCK / 64) as usize;
        ((pgid / BLOCK) as usize, word, bit)
    }

    /// Adds a page; `false` if it was a member already.
    pub fn insert(&mut self, pgid: u64) -> bool {
        let (block, word, bit) = Self::place(pgid);
        if block >= self.blocks.len() {
            self.blocks.resize_with(block + 1, || None);
        }
        let words = self.blocks[block].get_or_insert_with(|| Box::new([0; WORDS]));
        let new = words[word] & bit == 0;
        words[word] |= bit;
        self.len += u64::from(new);
        new
    }

    /// Adds the `count` pages from `first` on; `false` if any of them was a member already.
    pub fn insert_run(&mut self, first: u64, count: u64) -> bool {
        let before = self.len;
        for pgid in first..first.saturating_add(count) {
            self.insert(pgid);
        }
        self.len - before == count
    }

    /// Takes a page out; `false` if it was no member.
    pub fn remove(&mut self, pgid: u64) -> bool {
        let (block, word, bit) = Self::place(pgid);
        let Some(Some(words)) = self.blocks.get_mut(block) else {
            return false;
        };
        let was = words[word] & bit != 0;
        words[word] &= !bit;
        self.len -= u64::from(was);
        was
    }

    /// Takes the `count` pages from `first` on out.
    pub fn remove_run(&mut self, first: u64, count: u64) {
        for pgid in first..first.saturating_add(count) {
            self.remove(pgid);
        }
    }

    /// The page is a member.
    pub fn contains(&self, pgid: u64) -> bool {
        let (block, word, bit) = Self::place(pgid);
        let words = self.blocks.get(block).and_then(Option::as_ref);
        words.is_some_and(|words| words[word] & bit != 0)
    }

    /// Number of members.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// No member.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The lowest member that is not below `from`.
    pub fn next_from(&self, from: u64) -> Option<u64> {
        self.scan(from, |word| word, 0)
    }

    /// The lowest page not below `from` that is no member.
    fn next_absent(&self, from: u64) -> u64 {
        let end = self.blocks.len() as u64 * BLOCK;
        self.scan(from, |word| !word, u64::MAX)
            .unwrap_or(end)
            .max(from)
    }

    /// The first page from `from` on whose bit of `pick(word)` is set; `empty` is what `pick` makes
    /// of a block without members.
    fn scan(&self, from: u64, pick: impl Fn(u64) -> u64, empty: u64) -> Option<u64> {
        let (first, mut word, bit) = Self::place(from);
        let mut mask = !(bit - 1); // the bits from `from` on, in the first word
        for (block, words) in self.blocks.iter().enumerate().skip(first) {
            match words {
                None if empty == 0 => {}
                None => return Some((block as u64 * BLOCK).max(from)),
                Some(words) => {
                    for (i, &w) in words.iter().enumerate().skip(word) {
                        let found = pick(w) & mask;
                        mask = u64::MAX;
                        if found != 0 {
                            let bit = u64::from(found.trailing_zeros());
                            return Some(block as u64 * BLOCK + i as u64 * 64 + bit);
                        }
                    }
                }
            }
            (word, mask) = (0, u64::MAX);
        }
        None
    }

    /// The members, ascending.
    pub fn iter(&self) -> impl FusedIterator<Item = u64> + '_ {
        self.runs().flat_map(|(first, count)| first..first + count)
    }

    /// The maximal runs of consecutive members, ascending: the first page, and how many.
    pub fn runs(&self) -> impl FusedIterator<Item = (u64, u64)> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let first = self.next_from(at)?;
            at = self.next_absent(first);
            Some((first, at - first))
        })
        .fuse()
    }

    /// The lowest `first` not below `from` such that the `count` pages from it on are members.
    pub fn first_fit(&self, count: u64, from: u64) -> Option<u64> {
        let mut at = from;
        loop {
            let first = self.next_from(at)?;
            if count <= 1 {
                return Some(first);
            }
            at = self.next_absent(first);
            if at - first >= count {
                return Some(first);
            }
        }
    }

    /// The pages of `[low, high)` that are no members.
    pub fn absent_in(&self, low: u64, high: u64) -> PageSet {
        let mut absent = PageSet::new();
        let mut at = low;
        while at < high {
            let first = self.next_absent(at);
            let end = self.next_from(first).unwrap_or(high).min(high);
            if first < end {
                absent.insert_run(first, end - first);
            }
            at = end.max(first);
        }
        absent
    }

    /// Some page is a member of both.
    pub fn intersects(&self, other: &PageSet) -> bool {
        let pairs = self.blocks.iter().zip(&other.blocks);
        pairs.into_iter().any(|pair| match pair {
            (Some(a), Some(b)) => a.iter().zip(b.iter()).any(|(a, b)| a & b != 0),
            _ => false,
        })
    }
}

impl Extend<u64> for PageSet {
    fn extend<I: IntoIterator<Item = u64>>(&mut self, pages: I) {
        for pgid in pages {
            self.insert(pgid);
        }
    }
}

impl FromIterator<u64> for PageSet {
    fn from_iter<I: IntoIterator<Item = u64>>(pages: I) -> PageSet {
        let mut set = PageSet::new();
        set.extend(pages);
        set
    }
}

impl std::fmt::Debug for PageSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ranges = self.runs().map(|(first, count)| first..first + count);
        f.debug_set().entries(ranges).finish()
    }
}

impl PartialEq for PageSet {
    fn eq(&self, other: &PageSet) -> bool {
        self.len == other.len && self.runs().eq(other.runs())
    }
}

impl Eq for PageSet {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn agrees_with_a_plain_set() {
        // Pages close together, across words and blocks, and far apart.
        let mut state = 1u64;
        let mut random = move |n: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 33) % n
        };
        for span in [70, 200, 70_000, 10_000_000] {
            let (mut set, mut model) = (PageSet::new(), BTreeSet::new());
            for _ in 0..3000 {
                let pgid = random(span);
                if random(3) == 0 {
                    assert_eq!(set.remove(pgid), model.remove(&pgid));
                } else {
                    assert_eq!(set.insert(pgid), model.insert(pgid));
                }
                assert_eq!(set.contains(pgid), model.contains(&pgid));
            }
            assert_eq!(set.len(), model.len() as u64);
            assert!(set.iter().eq(model.iter().copied()));
            for _ in 0..200 {
                let (from, n) = (random(span + 70), 1 + random(6));
                let fit = |&first: &u64| (first..first + n).all(|p| model.contains(&p));
                let expected = model.range(from..).copied().find(fit);
                assert_eq!(set.first_fit(n, from), expected, "{n} pages from {from}");
            }
            if span <= 70_000 {
                let absent = set.absent_in(5, span + 100);
                let expected = (5..span + 100).filter(|p| !model.contains(p));
                assert!(absent.iter().eq(expected));
                assert!(!absent.intersects(&set));
                assert!(set.is_empty() || set.intersects(&set.clone()));
            }
        }
    }

    #[test]
    fn a_distant_member_costs_little() {
        let mut set = PageSet::new();
        assert!(set.insert((1 << 40) - 1));
        assert!(set.insert_run(3, 4));
        assert!(!set.insert_run(6, 2));
        assert_eq!(set.runs().collect::<Vec<_>>(), [(3, 5), ((1 << 40) - 1, 1)]);
        assert_eq!(set.blocks.iter().flatten().count(), 2);
    }
}
