//! The commit, step by step.

use super::merge::merge;
use super::sink::{Sink, Written};
use super::transaction::{Transaction, extent};
use super::verify::verify;
use super::witness::Witness;
use super::{CommitError, CommitOptions, Committed, Stats};
use crate::bolt::allocator::Allocator;
use crate::bolt::edit::Changes;
use crate::bolt::error::{Error, Result};
use crate::bolt::file::Disk;
use crate::bolt::freelist;
use crate::bolt::meta::{META_LEN, Meta, NO_FREELIST};
use crate::bolt::page::{FREELIST, HEADER};
use crate::bolt::pageset::PageSet;
use crate::bolt::snapshot::Snapshot;

/// Smallest file that bbolt opens, in bytes.
const MIN_FILE: u64 = 4096;

/// Commits `changes` to the database on `disk`, of which `base` is a state, as one transaction.
///
/// `prior` is the last transaction that was committed on the same base, if there is one: the base
/// stays readable as long as it is in use, so `changes` are always relative to it and take the
/// place of what `prior` committed.
///
/// # Errors
/// [`CommitError`]: whether the state before stands, or that it is not known.
pub fn commit<'a>(
    disk: &'a dyn Disk,
    base: &'a Snapshot,
    prior: Option<&Committed>,
    changes: Changes<'a>,
    options: &CommitOptions<'_>,
) -> Result<Committed, CommitError> {
    let job = Job {
        disk,
        base,
        prior,
        options,
    };
    // 1. The file must be what it was.
    let losses = base.map().losses();
    let before = job.verify_unchanged()?;
    let (txid, slot) = job.next_transaction()?;
    let allocator = job.allocator();
    let witness = Witness::of_base(base, |page| {
        allocator.available().contains(page)
            || prior.is_some_and(|prior| prior.written.contains(page))
    });
    if let Some(changed) = job.lost_since(losses) {
        return Err(changed);
    }
    // 2. to 4. Build and write the pages, make them durable.
    let prepared = job.prepare(changes, txid, before, allocator);
    let prepared = prepared
        .map_err(CommitError::from)
        .and_then(|mut prepared| {
            prepared.witnesses.extend(witness);
            job.verify_not_cut(&prepared.witnesses, prepared.len)?;
            options
                .before_meta
                .map_or(Ok(()), |call| call(&prepared.meta))?;
            Ok(prepared)
        });
    let prepared = prepared.map_err(|e| {
        // Whatever came of it, this is why.
        let lost = job.lost_since(losses);
        let lost = lost.or_else(|| job.verify_not_cut(witness.as_slice(), 0).err());
        job.cut_off(before);
        lost.unwrap_or(e)
    })?;
    if let Some(changed) = job.lost_since(losses) {
        job.cut_off(before);
        return Err(changed);
    }
    // 5. The new state comes into being with its meta.
    let page = prepared.meta.to_page(slot);
    let offset = u64::from(slot) * base.page_size() as u64;
    let done = disk
        .write_all_at(&page, offset)
        .map_err(|e| Error::io(format!("write meta page {slot}"), e))
        .and_then(|()| sync(disk, "the meta page"))
        .and_then(
            |()| match job.verify_not_cut(&prepared.witnesses, prepared.len) {
                Ok(()) => Ok(()),
                Err(CommitError::NotCommitted(why)) => Err(why),
                Err(_) => Err(Error::lost()),
            },
        );
    match done {
        Ok(()) => Ok(job.committed(prepared, slot)),
        Err(why) => Err(CommitError::Unknown {
            why,
            shows: job.read_metas().ok().and_then(|metas| current(&metas)),
            txid,
        }),
    }
}

fn sync(disk: &dyn Disk, what: &str) -> Result<()> {
    disk.sync()
        .map_err(|e| Error::io(format!("make {what} durable (sync)"), e))
}

/// The transaction number that these metas make current.
fn current(metas: &[Option<Meta>; 2]) -> Option<u64> {
    metas.iter().flatten().map(|meta| meta.txid).max()
}

/// What a commit is given, but for the changes.
struct Job<'a, 'o> {
    disk: &'a dyn Disk,
    base: &'a Snapshot,
    prior: Option<&'o Committed>,
    options: &'o CommitOptions<'o>,
}

/// A state that is durable but for its meta.
struct Prepared {
    meta: Meta,
    stats: Stats,
    written: PageSet,
    witnesses: Vec<Witness>,
    /// Bytes that the file must have.
    len: u64,
}

impl<'a> Job<'a, '_> {
    /// The metas as they must stand in the file.
    fn metas(&self) -> [Option<Meta>; 2] {
        match self.prior {
            Some(prior) => prior.metas,
            None => [self.base.metas().get(0), self.base.metas().get(1)],
        }
    }

    /// The metas as they do stand there.
    fn read_metas(&self) -> Result<[Option<Meta>; 2]> {
        let size = self.base.page_size() as u64;
        let mut metas = [None; 2];
        for (slot, meta) in metas.iter_mut().enumerate() {
            let mut bytes = [0; HEADER + META_LEN];
            self.disk
                .read_exact_at(&mut bytes, slot as u64 * size)
                .map_err(|e| Error::io(format!("read meta page {slot}"), e))?;
            let read = Meta::read(&bytes).ok();
            *meta = read.filter(|meta| u64::from(meta.page_size) == size);
        }
        Ok(metas)
    }

    fn size(&self) -> Result<u64> {
        let size = self.disk.size();
        size.map_err(|e| Error::io("read the length of the file", e))
    }

    /// Nobody has written to the file or cut it. Answers its length in bytes.
    fn verify_unchanged(&self) -> Result<u64, CommitError> {
        let size = self.size()?;
        let prior = self.prior.and_then(|prior| prior.meta.bytes_in_use());
        let least = self.base.file_len().max(prior.unwrap_or(0));
        if size < least {
            let what = format!("it had {least} bytes and has {size}");
            return Err(CommitError::Changed { what });
        }
        let (expected, found) = (self.metas(), self.read_metas()?);
        if expected != found {
            let show = |metas| match current(metas) {
                Some(txid) => format!("transaction {txid}"),
                None => "no valid meta".into(),
            };
            let what = format!("it was at {}, now {}", show(&expected), show(&found));
            return Err(CommitError::Changed { what });
        }
        Ok(size)
    }

    /// What the base has lost since it had so many losses. Something else may have been lost
    /// before: that is damage, beside which a commit is possible; not so in a file that was cut.
    fn lost_since(&self, losses: usize) -> Option<CommitError> {
        let map = self.base.map();
        let lost = map.has_lost_since(losses);
        match map.cut() {
            Some(cut) => Some(CommitError::Changed {
                what: format!("it had {} bytes and was cut to {cut}", map.len()),
            }),
            None => lost.then(|| Error::lost().into()),
        }
    }

    /// Nobody has cut the file since these bytes were there, and it has `len` bytes.
    fn verify_not_cut(&self, witnesses: &[Witness], len: u64) -> Result<(), CommitError> {
        let mut cut = self.size()? < len;
        for witness in witnesses {
            cut |= !witness.is_there(self.disk)?;
        }
        if !cut {
            return Ok(());
        }
        // Zeros stand where bytes were, from a place on that cannot be told any more.
        self.base.map().give_up();
        let what = "it was cut while the commit was at work".to_owned();
        Err(CommitError::Changed { what })
    }

    /// Takes back what was appended. Nobody sees it, so a failure only costs space. The length of a
    /// file that another program cut is left alone.
    fn cut_off(&self, before: u64) {
        let is_ours = self.base.map().cut().is_none();
        if is_ours && self.disk.size().is_ok_and(|size| size > before) {
            let _ = self.disk.set_len(before);
        }
    }

    /// The slot with the meta that the next transaction must leave alone.
    fn live_slot(&self) -> u8 {
        self.prior.map_or(self.base.slot(), |prior| prior.slot)
    }

    /// Number of the next transaction, and the slot of its meta. bbolt takes slot `txid % 2`, so
    /// the number must be one whose slot is not that of the state to be kept: in a copy made by
    /// `Tx.WriteTo` that takes a step of two.
    fn next_transaction(&self) -> Result<(u64, u8)> {
        let last = current(&self.metas()).unwrap_or(self.base.meta().txid);
        let step = |n: u64| {
            let next = last.checked_add(n);
            next.ok_or_else(|| Error::Limit("transaction numbers are exhausted".into()))
        };
        let slot = |txid: u64| (txid % 2) as u8;
        let mut txid = step(1)?;
        if slot(txid) == self.live_slot() {
            txid = step(2)?;
        }
        Ok((txid, slot(txid)))
    }

    /// The run of the base's freelist: first page and number of pages, if that is what is there.
    fn old_freelist(&self) -> Option<(u64, u64)> {
        let pgid = self.base.meta().freelist;
        let (header, run) = self.base.run(pgid).ok()?;
        let ids = freelist::ids(pgid, run).ok()?;
        let claimed = run.len() / self.base.page_size();
        let pages = match self.options.free {
            Some(_) => claimed as u64,
            None => {
                // bbolt counts the ids before it takes the list's own pages out, and allocates for
                // one more.
                let (used, most) = (ids.len(), ids.len().saturating_add(claimed));
                let (used, most) = (freelist::size(used), freelist::size(most) + 1);
                extent(run, used, most, self.base.page_size())
            }
        };
        (header.flags == FREELIST).then_some((pgid, pages))
    }

    /// The pages that may be written to: those that neither the base reaches, nor `prior`, nor the
    /// state of a newer meta. Where the base is not the newest state, the newest stays as it is on
    /// every page, for as long as the base is mounted: who went back to an older state may have done
    /// so in error. Its meta alone gives way, not that of the base: if that write is torn, the file
    /// is at the base, which is the state that was chosen.
    fn allocator(&self) -> Allocator {
        let base_hwm = self.base.meta().hwm;
        let mut hwm = self.prior.map_or(base_hwm, |prior| prior.meta.hwm);
        let mut available = PageSet::new();
        if let Some(newer) = self.base.newer() {
            // It may use any page that the file has.
            let pages = self.base.file_len().div_ceil(self.base.page_size() as u64);
            hwm = hwm.max(newer.hwm.min(pages));
        } else {
            if let Some(free) = self.options.free {
                available = free.clone();
            }
            available.insert_run(base_hwm, hwm.saturating_sub(base_hwm));
            for page in [0, 1] {
                available.remove(page);
            }
            if let Some((first, pages)) = self.old_freelist() {
                available.remove_run(first, pages);
            }
            if let Some(prior) = self.prior {
                for (first, pages) in prior.written.runs() {
                    available.remove_run(first, pages);
                }
            }
        }
        Allocator::new(
            available,
            hwm,
            self.options.avoid.cloned().unwrap_or_default(),
        )
    }

    /// Everything but the meta: pages built, written and durable.
    fn prepare(
        &self,
        changes: Changes<'a>,
        txid: u64,
        before: u64,
        allocator: Allocator,
    ) -> Result<Prepared> {
        // 2. The tree.
        let page_size = self.base.page_size();
        let sink = Sink::new(self.disk, page_size, allocator);
        let proven = self.options.free.is_some();
        let mut tx = Transaction::new(self.base, sink, changes.moved, proven);
        let root = merge(&mut tx, changes.edits)?;
        if tx.placed.len() != tx.moved.len() {
            let text = "a bucket was moved away and put nowhere".to_owned();
            return Err(Error::Limit(text));
        }
        if self.options.damaged {
            verify(&mut tx, root)?;
        }
        // 3. The freelist: what neither the new tree reaches, nor the list itself.
        let freelist = match self.free_pages(&tx) {
            Some(mut free) => tx.sink.freelist(&mut free)?,
            None => NO_FREELIST,
        };
        let mut stats = tx.stats;
        stats.pages_freed = tx.freed().len();
        let Written {
            pages: written,
            hwm,
            witnesses,
        } = tx.sink.finish()?;
        stats.pages_written = written.len();
        stats.bytes_written = (written.len() + 1) * page_size as u64;
        let meta = Meta {
            root,
            freelist,
            hwm,
            txid,
            ..*self.base.meta()
        };
        // 4. All of it durable, with the length of the file.
        let in_use = meta
            .bytes_in_use()
            .ok_or_else(|| Error::Limit("a file of more than 2^64 bytes".into()))?;
        let grown = || {
            Error::io(
                "read the length of the file",
                std::io::Error::last_os_error(),
            )
        };
        let size = self.disk.size().map_err(|_| grown())?;
        let need = in_use.max(MIN_FILE).max(before);
        if size < need {
            self.disk
                .set_len(need)
                .map_err(|e| Error::io(format!("grow the file to {need} bytes"), e))?;
        }
        sync(self.disk, "the new pages")?;
        Ok(Prepared {
            meta,
            stats,
            written,
            witnesses,
            len: need,
        })
    }

    fn committed(&self, prepared: Prepared, slot: u8) -> Committed {
        let Prepared {
            meta,
            stats,
            written,
            ..
        } = prepared;
        let mut metas = self.metas();
        if let Some(place) = metas.get_mut(usize::from(slot)) {
            *place = Some(meta);
        }
        let stored_before = self.base.meta().freelist != NO_FREELIST;
        Committed {
            meta,
            slot,
            stats,
            freelist_abandoned: stored_before && meta.freelist == NO_FREELIST,
            written,
            metas,
        }
    }

    /// The pages to be listed as free; `None` where no list is to be stored, or none can be trusted.
    fn free_pages(&self, tx: &Transaction<'_>) -> Option<PageSet> {
        let base = self.base.meta();
        let given_up = self.options.abandon_freelist || self.base.newer().is_some();
        if base.freelist == NO_FREELIST || given_up || tx.is_shared() {
            return None;
        }
        let mut free = match self.options.free {
            Some(free) => free.clone(),
            None => self.stored_free_pages()?,
        };
        if free.intersects(tx.freed()) || free.intersects(tx.kept()) {
            return None;
        }
        // Where there is damage, what is replaced may be in use elsewhere, and something may refer to the
        // list as if it were its own page: all of it stays as it is, and costs space.
        if !self.options.damaged {
            free.extend(tx.freed().iter());
            if let Some((first, pages)) = self.old_freelist() {
                free.insert_run(first, pages);
            }
        }
        let hwm = tx.sink.allocator().hwm();
        free.insert_run(base.hwm, hwm.saturating_sub(base.hwm));
        for (first, pages) in tx.sink.written().runs() {
            free.remove_run(first, pages);
        }
        for (first, pages) in self.options.avoid.iter().flat_map(|avoid| avoid.runs()) {
            free.remove_run(first, pages);
        }
        free.remove(0);
        free.remove(1);
        Some(free)
    }

    /// The list that the base stores, if nothing is obviously wrong with it: it has each page once,
    /// none outside the pages in use, and not the pages it is written on.
    fn stored_free_pages(&self) -> Option<PageSet> {
        let hwm = self.base.meta().hwm;
        let ids = self.base.freelist().ok()??;
        let mut free = PageSet::new();
        for pgid in ids {
            if !(2..hwm).contains(&pgid) || !free.insert(pgid) {
                return None;
            }
        }
        let (header, _) = self.base.run(self.base.meta().freelist).ok()?;
        let first = self.base.meta().freelist;
        let own = first..=first + u64::from(header.overflow);
        own.into_iter()
            .all(|pgid| !free.contains(pgid))
            .then_some(free)
    }
}
