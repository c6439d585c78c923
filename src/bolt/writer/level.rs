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
