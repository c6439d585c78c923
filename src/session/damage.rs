//! Damage of a database that is mounted: when it is looked for, and what is said of it.
//!
//! A small database is checked before it is mounted. For a larger one that would take too long: it is
//! checked while the mount is live, by a thread that stays in the background in every respect. One that
//! is larger still is left to the first commit and to `boltfs check`, for reading all of it would
//! drive out of memory what others need. What is damaged is also told when it is come upon
//! ([`Vfs::note`]).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::advice::{COPY_AGAIN, look};
use super::store::Store;
use crate::bolt::check::{self, Kind, Report, Severity, check};
use crate::bolt::{Disk, OpenOptions, Snapshot};
use crate::vfs::Vfs;

/// So many bytes are read before anybody notices.
const AT_ONCE: u64 = 16 << 20;
/// So many bytes are read in the background.
const IN_BACKGROUND: u64 = 1 << 30;
/// Findings that are remembered one by one.
const REMEMBERED: usize = 10;

fn bytes_to_read(snapshot: &Snapshot) -> u64 {
    let in_use = snapshot.meta().bytes_in_use().unwrap_or(u64::MAX);
    in_use.min(snapshot.file_len())
}

/// Says in words what is damaged, where looking for it takes no noticeable time, and that the file
/// was cut off, if it was.
pub fn look_at_once(store: &Store) {
    let vfs = store.vfs();
    let base = vfs.snapshot();
    if base.is_cut() {
        let fits = base.metas().get(1 - base.slot()).filter(|other| {
            let need = other.bytes_in_use();
            need.is_some_and(|need| need <= base.file_len())
        });
        let other = match fits {
            Some(_) => format!(" {}", other_state(store.path(), 1 - base.slot())),
            None => String::new(),
        };
        let shown = store.path().display();
        log::warn!(
            "{shown} is cut off: {} bytes are in use, and it has {}. What is missing reads as an \
             input/output error, the rest can be read and copied out. {COPY_AGAIN}{other} What is \
             missing: boltfs check {shown}",
            base.meta().bytes_in_use().unwrap_or(u64::MAX),
            base.file_len(),
        );
    }
    if bytes_to_read(base) <= AT_ONCE {
        store.check();
    }
}

fn other_state(path: &Path, slot: u8) -> String {
    format!(
        "Its other state, that of meta page {slot}, has no such error: {}.",
        look(path, Some(slot))
    )
}

/// Says what a check of the mounted state found, once in the life of a mount.
pub fn tell(vfs: &Vfs, path: &Path, report: &Report) {
    let errors = report.findings.count(Severity::Error);
    let found = report.findings.iter();
    let mut found = found.filter(|finding| finding.severity() == Severity::Error);
    let lines = found.clone().take(REMEMBERED);
    let lines = lines.map(|found| (found.pgid, format!("{}: {}", found.place, found.text)));
    let (true, Some(first)) = (vfs.note_check(lines), found.next()) else {
        return;
    };
    let disorder = report.findings.iter();
    for found in disorder.filter(|found| found.kind == Kind::KeyOrder) {
        vfs.note_disordered(found.path());
    }
    if vfs.snapshot().is_cut() {
        return; // that was told, and explains the rest
    }
    let more = match errors {
        1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    let other = match &report.other {
        Some(other) if other.is_sound() => format!("{} ", other_state(path, other.slot)),
        _ => String::new(),
    };
    let edited = if vfs.options().read_only {
        ""
    } else {
        " and edited"
    };
    log::warn!(
        "{0} is damaged: {1}: {2}{more}. What is not can be read{edited}. If this is a copy that was \
         made while a program wrote to the database, it is torn: copy it again while nothing does. \
         {other}All of it: boltfs check {0}",
        path.display(),
        first.place,
        first.text
    );
}

/// A check in the background. When this is dropped it does nothing any more.
pub struct Looking(Arc<AtomicBool>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Checks a database of a size that is not looked at before mounting, and tells what is damaged.
pub fn look_in_background(store: &Arc<Store>) -> Option<Looking> {
    let vfs = store.vfs();
    let base = vfs.snapshot();
    if !(AT_ONCE + 1..=IN_BACKGROUND).contains(&bytes_to_read(base)) {
        return None;
    }
    let options = OpenOptions {
        meta: Some(base.slot()),
        allow_truncated: base.is_cut(),
    };
    // A map of its own: what was looked at stays in nobody's account when it is done.
    let map = store.base.map().ok()?;
    let snapshot = Snapshot::open(map, options).ok()?;
    if snapshot.meta() != base.meta() {
        return None; // somebody has written to it: the commit tells
    }
    let end = Arc::new(AtomicBool::new(false));
    let (store, ended) = (Arc::clone(store), Arc::clone(&end));
    let work = move || {
        let mut pace = Pace::start(&ended);
        let options = check::Options {
            threads: 1,
            ..check::Options::default()
        };
        let report = check(&snapshot, options, &mut |_| pace.keep());
        // Where it was cut meanwhile, whoever comes upon that tells.
        if !ended.load(Ordering::Relaxed) && snapshot.map().cut().is_none() {
            tell(&store.vfs, store.path(), store.proof.get_or_init(|| report));
        }
    };
    let started = thread::Builder::new().name("check".to_owned()).spawn(work);
    if let Err(e) = started {
        log::debug!("no check in the background: {e}");
    }
    Some(Looking(end))
}

/// Sees to it that a thread disturbs nobody: it yields to every other one that has work to do, rests
/// most of the time so that the disk is free for others, and stops for good when it is to end. The
/// process ends without it.
struct Pace<'a> {
    ended: &'a AtomicBool,
    since: Instant,
}

impl Pace<'_> {
    /// Rests so many times as long as it worked.
    const REST: u32 = 3;
    const LONGEST_REST: Duration = Duration::from_secs(1);
    const LOWEST_PRIORITY: i32 = 19;

    fn start(ended: &AtomicBool) -> Pace<'_> {
        // For this thread alone, as Linux has it.
        if let Err(e) = rustix::process::setpriority_process(None, Self::LOWEST_PRIORITY) {
            log::debug!("a check in the background keeps its priority: {e}");
        }
        Pace {
            ended,
            since: Instant::now(),
        }
    }

    fn keep(&mut self) {
        let worked = self.since.elapsed();
        thread::sleep(worked.saturating_mul(Self::REST).min(Self::LONGEST_REST));
        while self.ended.load(Ordering::Relaxed) {
            thread::park();
        }
        self.since = Instant::now();
    }
}
