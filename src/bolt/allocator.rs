//! Which pages a transaction may write to.
//!
//! Only pages that no state still needed reaches: those proved free by the check, and those past
//! the high-water mark. A page freed by the transaction itself is never among them, for the state
//! before it must stand until the new meta is durable. And no page that something damaged refers to
//! past the high-water mark: it would suddenly lead somewhere.

use super::pageset::PageSet;
use std::collections::BTreeMap;

/// Hands out runs of pages, lowest first; where none is long enough, from the high-water mark on.
pub struct Allocator {
    available: PageSet,
    hwm: u64,
    avoid: PageSet,
    /// For a run of the length on the left there is no room below the page on the right. It only
    /// rises, since nothing comes back to `available`; what holds for a length holds for longer ones.
    no_room_below: BTreeMap<u64, u64>,
}

impl Allocator {
    /// Hands out `available`, then pages from `hwm` on, but none of `avoid`.
    pub fn new(mut available: PageSet, hwm: u64, avoid: PageSet) -> Allocator {
        for (first, count) in avoid.runs() {
            available.remove_run(first, count);
        }
        Allocator {
            available,
            hwm,
            avoid,
            no_room_below: BTreeMap::new(),
        }
    }

    /// First page never handed out.
    pub fn hwm(&self) -> u64 {
        self.hwm
    }

    /// Pages that may still be handed out below the high-water mark.
    pub fn available(&self) -> &PageSet {
        &self.available
    }

    /// The first page of a run of `count` pages (at least one).
    pub fn allocate(&mut self, count: u64) -> u64 {
        let floors = self.no_room_below.range(..=count).map(|(_, &page)| page);
        let from = floors.max().unwrap_or(0);
        match self.available.first_fit(count, from) {
            Some(first) => {
                self.available.remove_run(first, count);
                self.no_room_below.insert(count, first + count);
                first
            }
            None => {
                self.no_room_below.insert(count, u64::MAX);
                while let Some(page) = self.avoid.next_from(self.hwm)
                    && page - self.hwm < count
                {
                    self.hwm = page + 1;
                }
                let first = self.hwm;
                self.hwm += count;
                first
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lowest_fit_then_the_end() {
        let mut a = Allocator::new(
            [3, 5, 6, 7, 9, 10].into_iter().collect(),
            12,
            PageSet::new(),
        );
        assert_eq!(a.allocate(2), 5);
        assert_eq!(a.allocate(1), 3);
        assert_eq!(a.allocate(3), 12);
        assert_eq!(a.allocate(2), 9);
        assert_eq!(a.allocate(2), 15);
        assert_eq!(a.allocate(1), 7);
        assert_eq!(a.allocate(1), 17);
        assert_eq!((a.hwm(), a.available().len()), (18, 0));
    }

    #[test]
    fn what_is_to_be_avoided_is_stepped_over() {
        let avoid = [4, 11, 14].into_iter().collect();
        let mut a = Allocator::new([3, 4, 5].into_iter().collect(), 10, avoid);
        assert_eq!(
            [2, 1, 1, 1, 4].map(|count| a.allocate(count)),
            [12, 3, 5, 15, 16]
        );
    }

    #[test]
    fn every_answer_is_the_lowest_fit() {
        let mut state = 7u64;
        let mut random = move |n: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 33) % n
        };
        for _ in 0..50 {
            let mut model: PageSet = (0..300).map(|_| 2 + random(500)).collect();
            let mut a = Allocator::new(model.clone(), 600, PageSet::new());
            for _ in 0..120 {
                let count = 1 + random(5);
                let fit = model.first_fit(count, 0);
                let expected = fit.unwrap_or(a.hwm());
                assert_eq!(a.allocate(count), expected);
                model.remove_run(expected, count);
            }
        }
    }
}
