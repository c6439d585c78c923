//! One level of a tree under construction: content that is not written yet, and where to cut it.
//!
//! What must hold: after a cut, what stays behind is not under-filled. So whatever is under-filled
//! has never been cut, and what stands to its left is an old page, which can be taken in.

use crate::bolt::page::{HEADER, MAX_COUNT};

/// Content larger than this many pages keeps a leaf of its own, and is never copied for the sake
/// of a small neighbour.
pub(super) const LARGE: usize = 8;

/// One element of a page.
pub(super) trait Piece {
    /// Fewest elements of a page that is not the root.
    const FEWEST: usize;

    /// Bytes on the page, element header included.
    fn size(&self) -> usize;
}

/// Pieces in key order: those of the next page (`head`), and those behind it (`rest`).
pub(super) struct Level<T> {
    page_size: usize,
    head: Vec<T>,
    head_size: usize,
    /// `head` takes pieces up to this size: one page, or as many as its content needs anyway.
    limit: usize,
    rest: Vec<T>,
    rest_size: usize,
}

impl<T: Piece> Level<T> {
    pub fn new(page_size: usize) -> Level<T> {
        Level {
            page_size,
            head: Vec::new(),
            head_size: HEADER,
            limit: page_size,
            rest: Vec::new(),
            rest_size: HEADER,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    pub fn len(&self) -> usize {
        self.head.len() + self.rest.len()
    }

    pub fn last(&self) -> Option<&T> {
        self.rest.last().or(self.head.last())
    }

    /// All of it goes on one page.
    pub fn is_one_page(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes of all of it as one page, header included.
    pub fn size(&self) -> usize {
        self.head_size + self.rest_size - HEADER
    }

    /// Too little to stand as a page while there are others.
    pub fn is_underfull(&self) -> bool {
        self.too_little(self.len(), self.size())
    }

    /// A quarter of a page, as bbolt has it. Where a page is large and its elements tiny, a quarter
    /// of the elements that a page can have is enough.
    fn too_little(&self, count: usize, size: usize) -> bool {
        count < T::FEWEST || (size < self.page_size / 4 && count < MAX_COUNT / 4)
    }

    fn is_large(&self, size: usize) -> bool {
        size > LARGE * self.page_size
    }

    /// `head` may take a piece of this size.
    fn has_room(&self, size: usize) -> bool {
        let count = self.head.len();
        if count < T::FEWEST {
            return true;
        }
        if count >= MAX_COUNT || (T::FEWEST == 1 && self.is_large(self.head_size.max(size))) {
            return false;
        }
        self.head_size + size <= self.limit || self.too_little(count, self.head_size)
    }

    pub fn push(&mut self, piece: T) {
        let size = piece.size();
        if self.rest.is_empty() && self.has_room(size) {
            self.head.push(piece);
            self.head_size += size;
            self.limit = self
                .limit
                .max(self.head_size.next_multiple_of(self.page_size));
        } else {
            self.rest.push(piece);
            self.rest_size += size;
        }
    }

    /// Takes the next page off, if enough stays behind.
    pub fn cut(&mut self) -> Option<Vec<T>> {
        if self.rest.is_empty() || self.too_little(self.rest.len(), self.rest_size) {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let head = std::mem::replace(self, Level::new(self.page_size)).head;
        rest.into_iter().for_each(|piece| self.push(piece));
        Some(head)
    }

    /// Takes all there is, in order.
    pub fn take(&mut self) -> Vec<T> {
        let Level { mut head, rest, .. } = std::mem::replace(self, Level::new(self.page_size));
        head.extend(rest);
        head
    }

    /// Takes the last piece off.
    pub fn pop(&mut self) -> Option<T> {
        let mut all = self.take();
        let last = all.pop();
        all.into_iter().for_each(|piece| self.push(piece));
        last
    }

    /// Takes all there is as pages: one, or two that share it so that neither is under-filled
    /// where that can be.
    pub fn flush(&mut self) -> Vec<Vec<T>> {
        let mut all = std::mem::replace(self, Level::new(self.page_size));
        let mut moved = Vec::new();
        while !all.rest.is_empty() && all.too_little(all.rest.len() + moved.len(), all.rest_size) {
            let Some(last) = all.head.last().filter(|_| all.head.len() > T::FEWEST) else {
                break;
            };
            let size = last.size();
            let needed = all.rest.len() + moved.len() < T::FEWEST;
            let fits = all.rest_size + size <= all.page_size
                && !all.too_little(all.head.len() - 1, all.head_size - size);
            if !needed && !fits {
                break;
            }
            all.head_size -= size;
            all.rest_size += size;
            moved.extend(all.head.pop());
        }
        let rest: Vec<T> = moved.into_iter().rev().chain(all.rest).collect();
        if rest.is_empty() {
            vec![all.head]
        } else if rest.len() < T::FEWEST {
            all.head.extend(rest);
            vec![all.head]
        } else {
            vec![all.head, rest]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number and a size in bytes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Leaf(usize, usize);
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Branch(usize, usize);

    impl Piece for Leaf {
        const FEWEST: usize = 1;

        fn size(&self) -> usize {
            self.1
        }
    }

    impl Piece for Branch {
        const FEWEST: usize = 2;

        fn size(&self) -> usize {
            self.1
        }
    }

    fn size<T: Piece>(page: &[T]) -> usize {
        HEADER + page.iter().map(Piece::size).sum::<usize>()
    }

    fn too_little<T: Piece>(page: &[T], page_size: usize) -> bool {
        Level::<T>::new(page_size).too_little(page.len(), size(page))
    }

    /// Pushes all, cutting as the builder does; answers the pages, those of the flush last.
    fn pages<T: Piece + Copy + std::fmt::Debug>(page_size: usize, all: &[T]) -> Vec<Vec<T>> {
        let largest = all.iter().map(Piece::size).max().unwrap_or(0);
        let mut level = Level::new(page_size);
        let mut pages = Vec::new();
        for &piece in all {
            level.push(piece);
            while let Some(page) = level.cut() {
                assert!(!level.is_underfull(), "too little is left behind {page:?}");
                pages.push(page);
            }
            assert_eq!(level.last().map(Piece::size), Some(piece.size()));
            // What is pending never grows far past a page and what must stay behind.
            assert!(level.size() <= 2 * page_size + 4 * largest);
        }
        pages.extend(level.flush());
        assert!(level.is_empty());
        pages
    }

    fn sizes(seed: u64, most: usize) -> impl Iterator<Item = usize> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            17 + (state >> 33) as usize % most
        })
    }

    #[test]
    fn every_page_is_neither_too_full_nor_too_empty() {
        for seed in 0..400 {
            let page_size = 512;
            let most = [10, 60, 200, 500, 2000, 9000][seed as usize % 6];
            let count = 1 + seed as usize % 90;
            let sizes: Vec<_> = sizes(seed, most).take(count).collect();
            let leaves: Vec<_> = sizes.iter().enumerate().map(|(n, &s)| Leaf(n, s)).collect();
            let found = pages(page_size, &leaves);
            assert_eq!(found.concat(), leaves);
            for page in &found {
                // More than one page for one piece, for the sake of what is too little before it,
                // or where the last page has room.
                let (last, before) = page.split_last().expect("no page is empty");
                let runs = |page: &[Leaf]| size(page).div_ceil(page_size);
                let fits = runs(page) == 1 || before.is_empty();
                let fits = fits || too_little(before, page_size) || runs(before) == runs(page);
                assert!(fits, "{last:?} does not fit in {page:?}");
                if page
                    .iter()
                    .any(|p| HEADER + p.1 > LARGE * page_size + HEADER)
                {
                    assert_eq!(page.len(), 1, "large, and not alone: {page:?}");
                }
            }
            let branches: Vec<_> = sizes
                .iter()
                .enumerate()
                .map(|(n, &s)| Branch(n, s))
                .collect();
            let found = pages(page_size, &branches);
            assert_eq!(found.concat(), branches);
            for page in &found {
                assert!(page.len() >= 2 || found.len() == 1, "{found:?}");
            }
        }
    }

    #[test]
    fn what_fits_one_page_stays_on_one() {
        for total in 2..40 {
            let fits = vec![Leaf(0, (512 - HEADER) / total); total];
            assert_eq!(pages(512, &fits).len(), 1);
        }
        // One byte more makes two, and neither is too small.
        let mut more = vec![Leaf(0, 31); 16];
        assert_eq!(size(&more), 512);
        more.push(Leaf(1, 17));
        let found = pages(512, &more);
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|page| !too_little(page, 512)));
    }

    #[test]
    fn no_page_has_more_elements_than_bbolt_can_write() {
        let many = vec![Leaf(0, 17); 3 * MAX_COUNT + 5];
        let found = pages(16 << 20, &many);
        assert!(found.iter().all(|page| page.len() <= MAX_COUNT));
        assert!(found.iter().all(|page| page.len() >= MAX_COUNT / 4));
        assert_eq!(found.concat().len(), many.len());
    }

    #[test]
    fn the_last_piece_comes_off() {
        let mut level = Level::new(512);
        for n in 0..3 {
            level.push(Branch(n, 400));
        }
        assert!(!level.is_one_page());
        assert_eq!(level.pop(), Some(Branch(2, 400)));
        assert_eq!((level.len(), level.size()), (2, 816));
        assert_eq!(level.take(), [Branch(0, 400), Branch(1, 400)]);
        assert_eq!(level.pop(), None);
    }
}
