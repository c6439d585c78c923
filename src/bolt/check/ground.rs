//! What a check knows before it walks the tree: the metas, the extent of the file, the freelist.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::super::meta::{Meta, NO_FREELIST};
use super::super::page::{Header, META};
use super::super::pageset::PageSet;
use super::super::snapshot::{OpenOptions, Snapshot};
use super::super::trailer;
use super::marks::Marks;
use super::report::{Findings, Kind, Place, show_pages};

/// Most bytes behind the pages in use that are looked at: one growth step of bbolt.
const TRAILING: usize = 16 << 20;

/// What the walkers of one check share.
pub(super) struct Ground<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// Pages that are below the high-water mark and begin inside the file: nothing is allocated
    /// by a number that the file's length does not vouch for.
    pub(super) pages: u64,
    /// The ids of the stored freelist that are pages of the database.
    pub(super) listed: &'a PageSet,
    /// The stored freelist's own pages.
    pub(super) list_run: Range<u64>,
    /// Every page of every run that was reached.
    pub(super) claimed: Marks,
    /// The first page of every run that was reached.
    pub(super) started: Marks,
    /// Runs reached so far.
    pub(super) done: AtomicU64,
    /// Somebody found something that only a walk by one thread alone reports well.
    pub(super) stop: AtomicBool,
}

impl<'a> Ground<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, list: &'a StoredList) -> Ground<'a> {
        let pages = pages_in_file(snapshot);
        Ground {
            snapshot,
            pages,
            listed: &list.listed,
            list_run: list.run.clone(),
            claimed: Marks::new(pages),
            started: Marks::new(pages),
            done: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }
}

/// Pages below the high-water mark that begin inside the file.
pub(super) fn pages_in_file(snapshot: &Snapshot) -> u64 {
    let in_file = snapshot.file_len().div_ceil(snapshot.page_size() as u64);
    snapshot.meta().hwm.min(in_file)
}

/// The stored freelist, verified as far as that goes without the tree.
#[derive(Default)]
pub(super) struct StoredList {
    /// Its ids that are pages of the database.
    pub(super) listed: PageSet,
    /// Its own pages.
    pub(super) run: Range<u64>,
    /// A list is stored, and cannot be read.
    pub(super) unreadable: bool,
}

impl StoredList {
    pub(super) fn read(snapshot: &Snapshot, findings: &mut Findings) -> StoredList {
        let mut list = StoredList::default();
        let (pages, hwm) = (pages_in_file(snapshot), snapshot.meta().hwm);
        let pgid = snapshot.meta().freelist;
        if pgid == NO_FREELIST {
            findings.add(Kind::NoFreelist, || {
                let text = "none is stored (NoFreelistSync); free pages are known by a walk only";
                (Place::Freelist, None, text.into())
            });
            return list;
        }
        if (2..pages).contains(&pgid) {
            list.run = pgid..pgid + 1;
        }
        let ids = snapshot
            .run(pgid)
            .and_then(|(header, _)| Ok((header, snapshot.freelist()?)));
        let (header, ids) = match ids {
            Ok((header, Some(ids))) => (header, ids),
            Ok((_, None)) => return list,
            Err(e) => {
                list.unreadable = true;
                findings.add(Kind::FreelistUnreadable, || {
                    let text = format!(
                        "{e}. No content is lost by it; bbolt does not open the file for writing, \
                         boltfs makes do without the list"
                    );
                    (Place::Freelist, Some(pgid), text)
                });
                return list;
            }
        };
        list.run = pgid..pgid + 1 + u64::from(header.overflow);
        let (mut twice, mut own) = (PageSet::new(), PageSet::new());
        let (mut outside, mut first_outside) = (0u64, None);
        for id in ids {
            if id < 2 || id >= hwm {
                outside += 1;
                first_outside = first_outside.or(Some(id));
            } else if id >= pages {
                // Cut off with the end of the file, which is reported as such.
            } else if !list.listed.insert(id) {
                twice.insert(id);
            } else if list.run.contains(&id) {
                own.insert(id);
            }
        }
        let mut add =
            |kind, text: String| findings.add(kind, || (Place::Freelist, Some(pgid), text));
        if let Some(first) = first_outside {
            let text = format!(
                "page {pgid} lists {outside} number{} outside the database's pages (2 to {}), the \
                 first is {first}; bbolt's next write may destroy the file with it",
                if outside == 1 { "" } else { "s" },
                hwm.saturating_sub(1),
            );
            add(Kind::FreelistRange, text);
        }
        if !twice.is_empty() {
            let text = format!(
                "page {pgid} lists pages more than once: {}; bbolt's next writes would put two \
                 things in one place",
                show_pages(&twice)
            );
            add(Kind::FreelistTwice, text);
        }
        if !own.is_empty() {
            let text = format!("page {pgid} lists pages of its own: {}", show_pages(&own));
            add(Kind::FreelistLive, text);
        }
        list
    }
}

/// Looks at both metas and the headers of their pages.
pub(super) fn metas(snapshot: &Snapshot, findings: &mut Findings) {
    for slot in [0u8, 1] {
        let mut add = |kind, text: String| {
            findings.add(kind, || (Place::Meta(slot), Some(u64::from(slot)), text));
        };
        let meta = match snapshot.metas().slots[usize::from(slot)] {
            Ok(meta) => meta,
            Err(why) => {
                let text = format!(
                    "is damaged: {why}. The state of meta {} is used; there is none to go back \
                     to, and if a commit was interrupted here its changes are lost",
                    snapshot.slot()
                );
                add(Kind::Meta, text);
                continue;
            }
        };
        let start = usize::from(slot) * snapshot.page_size();
        let header = snapshot.map().get(start..).and_then(Header::read);
        if let Some(header) = header
            && (header.id, header.flags) != (u64::from(slot), META)
        {
            let text = format!(
                "its page has a wrong header (number {}, flags {:#x}); the record itself is right",
                header.id, header.flags
            );
            add(Kind::Meta, text);
        }
        if meta.flags != 0 {
            let text = format!("has flags {:#x}, which have no meaning", meta.flags);
            add(Kind::MetaFlags, text);
        }
        if slot != snapshot.slot()
            && let Err(e) = open_slot(snapshot, slot)
        {
            let text = format!("its checksum is right, and what it describes cannot be used: {e}");
            add(Kind::Meta, text);
        }
    }
}

/// The state of the meta in `slot`, if it can be opened.
pub(super) fn open_slot(snapshot: &Snapshot, slot: u8) -> super::super::Result<Snapshot> {
    let options = OpenOptions {
        meta: Some(slot),
        allow_truncated: false,
    };
    Snapshot::open(snapshot.map().clone(), options)
}

/// Looks at the end of the file: cut off, or with something behind the pages in use.
pub(super) fn extent(snapshot: &Snapshot, findings: &mut Findings) {
    let mut add = |kind, text: String| findings.add(kind, || (Place::File, None, text));
    let Meta { hwm, .. } = *snapshot.meta();
    let have = snapshot.file_len();
    // hwm is at most 2^40 and the page size at most 2^24.
    let need = hwm.saturating_mul(snapshot.page_size() as u64);
    if have < need {
        let text = format!(
            "ends after {have} bytes, {need} are in use: it was cut short, or copied while it was \
             being written (a torn copy)"
        );
        add(Kind::Truncated, text);
        return;
    }
    let rest = snapshot.map().get(need as usize..).unwrap_or_default();
    if let Some(matches) = trailer::matches(snapshot) {
        if matches {
            let text = "ends in a SHA-256 that matches all bytes before it: an etcd snapshot";
            add(Kind::Trailing, text.into());
        } else {
            let text = "ends in 32 bytes as an etcd snapshot does, and they are not the SHA-256 \
                        of what is before them: it was changed after it was taken, or values in it \
                        are damaged. `etcdutl snapshot restore` (before etcd 3.5 `etcdctl`) \
                        refuses it without --skip-hash-check";
            add(Kind::SnapshotHash, text.into());
        }
        return;
    }
    let looked_at = &rest[..rest.len().min(TRAILING)];
    if looked_at.iter().any(|&b| b != 0) {
        let text = format!(
            "has data behind the pages in use (from byte {need} on), as an interrupted commit \
             leaves it; harmless"
        );
        add(Kind::Trailing, text);
    }
}
