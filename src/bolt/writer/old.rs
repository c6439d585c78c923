//! The old tree as it really is: what can be read of it, and what of that can be trusted.
//!
//! bbolt takes the shape of a tree for granted and breaks one that has another: a branch key that
//! is not the first key below, a branch with one child, an empty leaf, leaves at different depths.
//! Here nothing is taken for granted that a look at the pages can tell.

use super::level::LARGE;
use super::transaction::Transaction;
use crate::bolt::error::{Damage, Error, Result};
use crate::bolt::page::{self, Page};
use crate::bolt::snapshot::MAX_LEVELS;
use std::cmp::Ordering;

/// A page of the old tree as its parent has it.
#[derive(Clone, Copy)]
pub(super) struct Child<'a> {
    pub pgid: u64,
    /// The first key of the page; what the parent says it is, where the page does not fit in.
    pub key: &'a [u8],
    /// What the parent says the first key is.
    pub claimed: &'a [u8],
    /// The page, if it can be read and fits in between its neighbours.
    pub page: Option<Page<'a>>,
}

impl<'a> Child<'a> {
    /// The child as the parent has it: its page is better left alone.
    pub fn as_claimed(self) -> Child<'a> {
        Child {
            key: self.claimed,
            page: None,
            ..self
        }
    }
}

impl<'a> Transaction<'a> {
    /// The children of a branch page, with the first keys that are really there (bbolt takes them for
    /// granted, and breaks the tree where a branch has another one). A key that is not between the
    /// neighbours' is not taken over, since that would hide keys of theirs; `low` is where the page's
    /// own neighbour to the left may end, if the page itself does not fit in.
    ///
    /// # Errors
    /// An element that cannot be read or is out of order; a child that was met already, so that the
    /// new tree would have its content twice.
    pub fn children(&self, page: &Page<'a>, low: Option<&[u8]>) -> Result<Vec<Child<'a>>> {
        page.verify_order()?;
        let mut children: Vec<Child<'a>> = Vec::with_capacity(page.count());
        for index in 0..page.count() {
            let (pgid, claimed) = page.child(index).map(|child| (child.pgid, child.key))?;
            if self.freed().contains(pgid) {
                return Err(Error::page(pgid, Damage::Shared));
            }
            let below = self.base().page(pgid).ok();
            let first = below.map(|page| self.edge(page, Edge::First, &mut { BUDGET }, 0));
            let mut child = Child {
                pgid,
                key: first.and_then(Found::key).unwrap_or(claimed),
                claimed,
                page: below,
            };
            let fits = match child.key.cmp(claimed) {
                Ordering::Equal => true,
                Ordering::Greater => {
                    let mut next = (index + 1..page.count()).map(|next| page.key(next));
                    next.next().transpose()?.is_none_or(|next| child.key < next)
                }
                Ordering::Less => {
                    low.is_none_or(|low| low <= child.key) && self.is_right_of(&children, child.key)
                }
            };
            if !fits {
                child = child.as_claimed();
            }
            children.push(child);
        }
        Ok(children)
    }

    /// Every key below `children` is known to be lower than `key`.
    fn is_right_of(&self, children: &[Child<'a>], key: &[u8]) -> bool {
        let mut budget = BUDGET;
        let last = children.iter().rev().map(|child| match child.page {
            Some(page) => self.edge(page, Edge::Last, &mut budget, 0),
            None => Found::Unknown,
        });
        match last.into_iter().find(|last| !matches!(last, Found::None)) {
            Some(Found::Key(last)) => last < key,
            Some(_) => false,
            None => true,
        }
    }

    /// The first or the last key below `page`, which is `depth` levels below where the search began.
    fn edge(&self, page: Page<'a>, edge: Edge, budget: &mut u32, depth: usize) -> Found<'a> {
        if *budget == 0 || depth > MAX_LEVELS {
            return Found::Unknown;
        }
        *budget -= 1;
        if matches!(edge, Edge::Last) && page.verify_count().is_err() {
            return Found::Unknown;
        }
        for n in 0..page.count() {
            let index = match edge {
                Edge::First => n,
                Edge::Last => page.count() - 1 - n,
            };
            let found = if page.is_leaf() {
                page.key(index).map_or(Found::Unknown, Found::Key)
            } else {
                match page
                    .child(index)
                    .and_then(|child| self.base().page(child.pgid))
                {
                    Ok(child) => self.edge(child, edge, budget, depth + 1),
                    Err(_) => Found::Unknown,
                }
            };
            if !matches!(found, Found::None) {
                return found;
            }
        }
        Found::None
    }

    /// How many levels the leaves are below `page`: along the first children that can be read.
    pub fn level_of(&self, page: Page<'a>) -> Result<usize> {
        let mut page = page;
        for level in 0..MAX_LEVELS {
            if page.is_leaf() {
                return Ok(level);
            }
            let children = (0..page.count()).filter_map(|i| page.child(i).ok());
            match children
                .filter_map(|c| self.base().page(c.pgid).ok())
                .next()
            {
                Some(child) => page = child,
                // Nothing below can be read, so nothing below will be changed either.
                None => return Ok(level + 1),
            }
        }
        Err(Error::page(page.pgid(), Damage::TooDeep))
    }

    /// Every element of the page can be read, their keys ascend, and nothing of it was met before.
    pub fn is_sound(&self, page: &Page<'a>) -> bool {
        let is_new = |pgid| !self.freed().contains(pgid);
        let are_new = |child: Result<page::Child<'_>>| child.is_ok_and(|child| is_new(child.pgid));
        page.used().is_ok()
            && page.verify_order().is_ok()
            && is_new(page.pgid())
            && (page.is_leaf() || (0..page.count()).all(|i| are_new(page.child(i))))
    }

    /// An old page whose content may be moved to a new one for the sake of a neighbour.
    pub fn may_take_in(&self, page: &Page<'a>) -> bool {
        !is_large(page) && self.is_sound(page)
    }

    /// As [`may_take_in`](Self::may_take_in) for a page that was kept with the first key `key`.
    pub fn may_take_in_again(&self, page: &Page<'a>, key: &[u8]) -> bool {
        let first = self.edge(*page, Edge::First, &mut { BUDGET }, 0);
        self.may_take_in(page) && first.key() == Some(key)
    }

    /// What is wrong with one of these pages, which could not be taken in. 0 stands for none.
    pub fn why_not_taken_in(&self, pages: [u64; 2]) -> Error {
        let pages = pages.into_iter().filter(|&pgid| pgid != 0);
        let why = |pgid| match self.base().page(pgid) {
            Err(e) => Some(e),
            Ok(_) if self.freed().contains(pgid) => Some(Error::page(pgid, Damage::Shared)),
            Ok(page) => page.used().err().or(page.verify_order().err()),
        };
        let found = pages.clone().find_map(why);
        found.unwrap_or_else(|| Error::page(pages.max().unwrap_or(0), Damage::NoChild))
    }
}

/// A leaf that is not worth copying for the sake of a small neighbour.
fn is_large(page: &Page<'_>) -> bool {
    page.is_leaf() && page.overflow() as usize >= LARGE
}

/// Pages that a search for the first or last key may look at. More than one for each level only
/// where damage left empty pages.
const BUDGET: u32 = 4096;

/// Which end of a subtree.
#[derive(Clone, Copy)]
enum Edge {
    First,
    Last,
}

/// The key at one end of a subtree.
enum Found<'a> {
    Key(&'a [u8]),
    /// There is none: only empty leaves.
    None,
    /// It cannot be read.
    Unknown,
}

impl<'a> Found<'a> {
    fn key(self) -> Option<&'a [u8]> {
        match self {
            Found::Key(key) => Some(key),
            _ => None,
        }
    }
}
