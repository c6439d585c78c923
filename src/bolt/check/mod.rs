//! Proof that a committed tree is sound: all that `bbolt check` looks for, and what it misses.
//!
//! A check reads everything that a meta reaches, once, and says of each page of the file what it
//! is for: used, stored freelist, free, or leaked. It trusts nothing: on any file it ends, and it
//! takes memory for a few bits a page and a bounded number of findings.
//!
//! A sound tree is walked by all processors at once. As soon as one of them meets anything to
//! report, the walk is begun again by one thread alone, which knows where it is: a report is the
//! same each time, and names the bucket of each finding.

mod ground;
mod inspect;
mod marks;
mod report;
mod walk;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::error::{Error, Result};
use super::meta::{MetaError, NO_FREELIST};
use super::pageset::PageSet;
use super::snapshot::Snapshot;
use ground::{Ground, StoredList};
pub use report::{
    Counts, Finding, Findings, KEPT, Kind, Place, Severity, show_key, show_pages, show_path,
};
use walk::{Task, Walker};

/// Runs of pages between two reports of progress.
const TICK: u64 = 1024;
/// Databases of fewer pages are not worth a second thread.
const WORTH_THREADS: u64 = 2048;
/// Parts of the tree for each thread, so that none waits long for the last one.
const PARTS: usize = 32;

/// How to check.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Threads to walk a sound tree with; 0 for what is worth it, at most one a processor.
    pub threads: usize,
    /// Walk the state of the other meta even if this one is sound. If this one is not, the other
    /// is always walked.
    pub other_meta: bool,
}

/// How far a check has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Runs of pages that were looked at.
    pub done: u64,
    /// Pages that there may be to look at: at least as many as runs.
    pub pages: u64,
}

/// What a check found.
#[derive(Debug)]
pub struct Report {
    /// All findings, worst first.
    pub findings: Findings,
    /// What the database consists of.
    pub counts: Counts,
    /// The pages that the tree reaches, continuation pages included, the freelist's own not.
    pub reachable: PageSet,
    /// The pages that are proven to be free: nothing reaches them, and they are not the stored
    /// freelist's own. `None` where damage leaves it uncertain what is in use.
    pub free: Option<PageSet>,
    /// Pages from the high-water mark on that something damaged refers to or claims for its run: if
    /// they were written to, it would lead there.
    pub dangling: PageSet,
    /// The stored freelist is right, or none is stored. Leaked pages do not make it wrong.
    pub freelist_ok: bool,
    /// The state of the other meta, if it was looked at.
    pub other: Option<OtherMeta>,
    /// How often the tree was walked: once if there is nothing to report about it.
    pub walks: u32,
}

impl Report {
    /// No error and no warning.
    pub fn is_sound(&self) -> bool {
        self.worst() < Some(Severity::Warning)
    }

    /// The severity of the worst finding.
    pub fn worst(&self) -> Option<Severity> {
        [Severity::Error, Severity::Warning, Severity::Note]
            .into_iter()
            .find(|&s| self.findings.count(s) > 0)
    }
}

/// The other meta of a file, and whether its state can be gone back to.
#[derive(Debug)]
pub struct OtherMeta {
    /// Its slot, 0 or 1.
    pub slot: u8,
    /// What it is worth.
    pub state: OtherState,
}

/// What the other meta is worth.
#[derive(Debug)]
pub enum OtherState {
    /// The record itself is damaged.
    Invalid(MetaError),
    /// The record is right, and what it describes cannot be opened.
    Unusable(Error),
    /// Its tree was walked.
    Walked {
        /// Its transaction.
        txid: u64,
        /// Findings of severity error in its tree.
        errors: u64,
        /// Of severity warning.
        warnings: u64,
    },
}

impl OtherMeta {
    /// All content of its state can be read.
    pub fn is_sound(&self) -> bool {
        matches!(self.state, OtherState::Walked { errors: 0, .. })
    }
}

/// Whether a check of `snapshot` takes so little time (0.1 s) that nobody notices.
pub fn is_quick(snapshot: &Snapshot) -> bool {
    const QUICKLY_READ: u64 = 128 << 20;
    snapshot
        .meta()
        .bytes_in_use()
        .is_some_and(|bytes| bytes <= QUICKLY_READ)
}

/// Checks the state of `snapshot`, which may have been opened with `allow_truncated`.
pub fn check(snapshot: &Snapshot, options: Options, progress: &mut dyn FnMut(Progress)) -> Report {
    // What the disk could not read is known when it is looked at again.
    let map = snapshot.map();
    map.steady(|| check_once(snapshot, options, progress))
}

fn check_once(snapshot: &Snapshot, options: Options, progress: &mut dyn FnMut(Progress)) -> Report {
    let mut findings = Findings::default();
    ground::metas(snapshot, &mut findings);
    ground::extent(snapshot, &mut findings);
    let list = StoredList::read(snapshot, &mut findings);
    let before = findings.clone();

    let mut ground = Ground::new(snapshot, &list);
    let threads = match options.threads {
        0 if ground.pages < WORTH_THREADS => 1,
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let (mut counts, mut walks) = (None, 1);
    if threads > 1 {
        counts = walk_together(&ground, threads, progress);
        if counts.is_none() {
            walks += 1;
            ground = Ground::new(snapshot, &list);
        }
    }
    let mut dangling = PageSet::new();
    let mut counts = counts.unwrap_or_else(|| {
        let mut walker = Walker::new(&ground);
        walker.findings = before;
        let counts = walk_alone(&mut walker, progress);
        findings = std::mem::take(&mut walker.findings);
        dangling = std::mem::take(&mut walker.dangling);
        name_first_users(snapshot, &list, &mut findings, progress);
        counts
    });

    let reachable = ground.claimed.to_set();
    let free = free_pages(&ground, &reachable, &list, &mut findings, &mut counts);
    let mut report = Report {
        free: (!findings.hide_pages()).then_some(free),
        freelist_ok: !findings.condemn_freelist(),
        findings,
        counts,
        reachable,
        dangling,
        other: None,
        walks,
    };
    if options.other_meta || report.findings.count(Severity::Error) > 0 {
        report.other = Some(other_meta(snapshot, progress));
    }
    report.findings.sort();
    report
}

/// Walks the state of the meta that `snapshot` does not use.
pub fn other_meta(snapshot: &Snapshot, progress: &mut dyn FnMut(Progress)) -> OtherMeta {
    let slot = 1 - snapshot.slot().min(1);
    let mut walk = || -> Result<OtherState> {
        let other = match snapshot.metas().slots[usize::from(slot)] {
            Err(why) => return Ok(OtherState::Invalid(why)),
            Ok(_) => ground::open_slot(snapshot, slot)?,
        };
        // Its freelist is of no matter for what can be read.
        let list = StoredList::default();
        let ground = Ground::new(&other, &list);
        let mut walker = Walker::new(&ground);
        walk_alone(&mut walker, progress);
        Ok(OtherState::Walked {
            txid: other.meta().txid,
            errors: walker.findings.count(Severity::Error),
            warnings: walker.findings.count(Severity::Warning),
        })
    };
    OtherMeta {
        slot,
        state: walk().unwrap_or_else(OtherState::Unusable),
    }
}

fn walk_alone(walker: &mut Walker<'_, '_>, progress: &mut dyn FnMut(Progress)) -> Counts {
    walker.enter_root();
    let ground = walker.ground;
    walker.run(&mut ticker(ground, progress));
    walker.counts
}

/// Walks with several threads. `None` if there is anything to report.
fn walk_together<'a>(
    ground: &Ground<'a>,
    threads: usize,
    progress: &mut dyn FnMut(Progress),
) -> Option<Counts> {
    let mut first = Walker::new(ground);
    first.enter_root();
    let parts: Vec<Mutex<Option<Task<'a>>>> = first
        .split(threads * PARTS)
        .into_iter()
        .map(|task| Mutex::new(Some(task)))
        .collect();
    let next = AtomicUsize::new(0);
    let work = |walker: &mut Walker<'_, 'a>, tick: &mut dyn FnMut()| {
        while let Some(part) = parts.get(next.fetch_add(1, Relaxed)) {
            let task = part.lock().ok().and_then(|mut part| part.take());
            if let Some(task) = task {
                walker.run_task(task, tick);
            }
            if !walker.findings.is_empty() {
                ground.stop.store(true, Relaxed);
            }
        }
    };
    let mut walkers = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut walker = Walker::new(ground);
                    work(&mut walker, &mut || {});
                    walker
                })
            })
            .collect();
        work(&mut first, &mut ticker(ground, progress));
        let mut walkers = vec![Some(first)];
        walkers.extend(others.into_iter().map(|other| other.join().ok()));
        walkers
    });
    let mut counts = Counts::default();
    let mut levels = HashMap::new();
    for walker in walkers.drain(..) {
        let walker = walker?; // a thread that panicked proved nothing
        if !walker.findings.is_empty() {
            return None;
        }
        counts.merge(&walker.counts);
        for (root, level) in walker.leaf_levels {
            if *levels.entry(root).or_insert(level) != level {
                return None; // leaves at different depths (P6) in the parts of two threads
            }
        }
    }
    Some(counts)
}

fn ticker<'p>(ground: &'p Ground<'_>, progress: &'p mut dyn FnMut(Progress)) -> impl FnMut() + 'p {
    let mut shown = 0;
    move || {
        let done = ground.done.load(Relaxed);
        if done >= shown + TICK {
            shown = done;
            progress(Progress {
                done,
                pages: ground.pages,
            });
        }
    }
}

/// Says in each finding about a page with two users who the first one was: another walk tells.
fn name_first_users(
    snapshot: &Snapshot,
    list: &StoredList,
    findings: &mut Findings,
    progress: &mut dyn FnMut(Progress),
) {
    let twice = |f: &&mut Finding| f.kind == Kind::Shared;
    let wanted: HashMap<u64, Option<Place>> = findings
        .kept_mut()
        .iter_mut()
        .filter(twice)
        .filter_map(|f| Some((f.pgid?, None)))
        .collect();
    if wanted.is_empty() {
        return;
    }
    let ground = Ground::new(snapshot, list);
    let mut walker = Walker::new(&ground);
    walker.wanted = wanted;
    walk_alone(&mut walker, progress);
    for finding in findings.kept_mut().iter_mut().filter(twice) {
        let user = finding.pgid.and_then(|pgid| walker.wanted.get(&pgid));
        if let Some(Some(user)) = user {
            let text = if *user == finding.place {
                "; the other one is in this bucket too".into()
            } else {
                format!("; the other one is in {user}")
            };
            finding.text.push_str(&text);
        }
    }
}

/// The pages that nothing reaches, and what the stored freelist says about them.
fn free_pages(
    ground: &Ground<'_>,
    reachable: &PageSet,
    list: &StoredList,
    findings: &mut Findings,
    counts: &mut Counts,
) -> PageSet {
    let mut free = reachable.absent_in(2, ground.pages);
    let run = &ground.list_run;
    free.remove_run(run.start, run.end - run.start);
    counts.free = free.len();
    counts.freelist = run.end - run.start;
    if ground.snapshot.meta().freelist == NO_FREELIST || list.unreadable {
        return free;
    }
    let mut leaked = PageSet::new();
    leaked.extend(free.iter().filter(|&pgid| !list.listed.contains(pgid)));
    counts.leaked = leaked.len();
    if !leaked.is_empty() {
        let damaged = findings.hide_pages();
        findings.add(Kind::Leak, || {
            let n = leaked.len();
            let why = if damaged {
                "some may hold what was lost by the damage"
            } else {
                "harmless, but bbolt never uses them again"
            };
            let text = format!(
                "{n} page{} neither in use nor listed as free: {}; {why}",
                if n == 1 { " is" } else { "s are" },
                show_pages(&leaked)
            );
            (Place::File, leaked.next_from(0), text)
        });
    }
    free
}
