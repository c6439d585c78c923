//! Proof, where the base is damaged, that the new tree keeps clear of what it replaces.
//!
//! A page that leads back to one of its ancestors is kept by reference as any other. If the ancestor
//! was rewritten, its old content would come back to life below the new. That a page of another
//! bucket, which is untouched, was replaced here does no harm: it stays what it was there.

use super::transaction::Transaction;
use crate::bolt::bucket::{BucketRef, inline_page};
use crate::bolt::error::{Damage, Error, Result};
use crate::bolt::page::{Element, Page};
use crate::bolt::pageset::PageSet;

/// A page to be visited.
struct Visit {
    pgid: u64,
    /// How many buckets it is in, the root bucket not counted.
    depth: usize,
    /// The root page of its bucket.
    is_root: bool,
    /// Its bucket was rewritten.
    rewritten: bool,
}

/// Walks everything that the root page `root` of the new tree reaches.
///
/// # Errors
/// [`Damage::Shared`] and [`Damage::BucketCycle`] with the page that was replaced and is still
/// reached; what reading back new pages says.
pub(super) fn verify(tx: &mut Transaction<'_>, root: u64) -> Result<()> {
    // In untouched buckets, and in rewritten ones.
    let mut seen = [PageSet::new(), PageSet::new()];
    // The old root pages of the buckets from the root bucket down to the one in hand.
    let mut path: Vec<u64> = Vec::new();
    let mut next = vec![bucket(tx, root, 0)];
    while let Some(visit) = next.pop() {
        let Visit { pgid, depth, .. } = visit;
        let (fresh, freed) = (tx.sink.written().contains(pgid), tx.freed().contains(pgid));
        if visit.is_root {
            path.truncate(depth);
            if path.contains(&pgid) {
                return Err(Error::page(pgid, Damage::BucketCycle));
            }
            path.push(tx.replaced.get(&pgid).copied().unwrap_or(pgid));
        }
        if freed && visit.rewritten {
            return Err(Error::page(pgid, Damage::Shared));
        }
        let is_page = fresh || pgid < tx.base().meta().hwm;
        if !is_page || !seen[usize::from(visit.rewritten)].insert(pgid) {
            continue;
        }
        if fresh {
            let (header, bytes) = tx.sink.read_back(pgid)?;
            let offset = pgid * tx.page_size() as u64;
            follow(
                tx,
                &visit,
                &Page::new(pgid, header, offset, &bytes)?,
                &mut next,
            );
        } else if let Ok(page) = tx.base().page(pgid) {
            follow(tx, &visit, &page, &mut next);
        }
    }
    Ok(())
}

fn bucket(tx: &Transaction<'_>, root: u64, depth: usize) -> Visit {
    Visit {
        pgid: root,
        depth,
        is_root: true,
        rewritten: tx.replaced.contains_key(&root),
    }
}

/// Notes the pages that this one leads to.
fn follow(tx: &Transaction<'_>, visit: &Visit, page: &Page<'_>, next: &mut Vec<Visit>) {
    if !page.is_leaf() {
        let children = (0..page.count()).filter_map(|i| page.child(i).ok());
        next.extend(children.map(|child| Visit {
            pgid: child.pgid,
            is_root: false,
            ..*visit
        }));
        return;
    }
    let elements = (0..page.count()).filter_map(|i| page.leaf(i).ok());
    let mut buckets: Vec<_> = elements.filter(Element::is_bucket).collect();
    while let Some(element) = buckets.pop() {
        let Ok(at) = BucketRef::read(&element, page.pgid()) else {
            continue;
        };
        if !at.is_inline() {
            next.push(bucket(tx, at.root, visit.depth + 1));
        } else if let Ok(image) = inline_page(page.pgid(), element.value, 0) {
            let inside = (0..image.count()).filter_map(|i| image.leaf(i).ok());
            buckets.extend(inside.filter(Element::is_bucket));
        }
    }
}
