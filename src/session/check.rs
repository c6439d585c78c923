//! `boltfs check DB`: is the file sound, and if not, which bucket is damaged and what to do.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::advice::{COPY_AGAIN, look, unusable};
use super::failure::{Failure, Result};
use super::terminal::visible;
use super::{database, lock};
use crate::bolt::check::{self, Kind, OtherState, Report, Severity, check};
use crate::bolt::{DbFile, Disk, Map, OpenOptions, Snapshot};

/// No errors were found; warnings do not count.
const NO_ERRORS: u8 = 0;
/// Errors were found.
const ERRORS: u8 = 1;

/// A check takes this long before it shows how far it has come.
const PATIENCE: Duration = Duration::from_millis(500);
const REFRESH: Duration = Duration::from_millis(100);

/// Checks the database at `path` and prints what it finds; the exit status.
///
/// Findings and summary go to standard output, progress to standard error if that is a terminal.
/// `meta` is the slot of the meta to use in place of the current one, `wait` the longest time to
/// wait for the lock, which is held as long as the check takes.
///
/// # Errors
/// When the file cannot be opened as a database at all.
pub fn run_check(path: &Path, meta: Option<u8>, wait: Duration) -> Result<u8> {
    let file = database::open_file(&database::find(path, false)?, false)?;
    lock::take(&file, wait)?;
    let map = map(&file)?;
    let options = OpenOptions {
        meta,
        allow_truncated: true,
    };
    let snapshot = match Snapshot::open(map.clone(), options) {
        Ok(snapshot) => snapshot,
        Err(e) => return Err(unusable(path, &map, meta, &e)),
    };
    let on_terminal = io::stderr().is_terminal();
    let first = on_terminal.then(|| Instant::now() + PATIENCE);
    let mut progress = ProgressLine::new(path, io::stderr(), first);
    let report = check(&snapshot, Default::default(), &mut |p| progress.show(p));
    progress.erase();
    if snapshot.map().has_lost_since(0) && snapshot.map().cut().is_some() {
        let what = format!("{} was made shorter by another program", path.display());
        return Err(Failure::new(
            format!("{what} while it was checked"),
            "Stop that program, and check again.",
        ));
    }
    // Who closed the other end has seen enough; the exit status still says the rest.
    let said = told(path, &snapshot, &report);
    let _ = io::stdout().write_all(visible(&said).as_bytes());
    Ok(match report.findings.count(Severity::Error) {
        0 => NO_ERRORS,
        _ => ERRORS,
    })
}

fn map(file: &DbFile) -> Result<Map> {
    file.map().map_err(|e| {
        let what = format!("cannot map {}: {e}", file.path().display());
        Failure::new(what, "Copy it to a local disk and try there.")
    })
}

fn told(path: &Path, snapshot: &Snapshot, report: &Report) -> String {
    let mut lines: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    match report.findings.dropped() {
        0 => {}
        n => lines.push(format!("… and {n} more")),
    }
    lines.push(format!(
        "{}: {}. {}",
        path.display(),
        verdict(report),
        facts(snapshot, report)
    ));
    lines.extend(advice(path, snapshot, report));
    lines.push(String::new());
    lines.join("\n")
}

fn verdict(report: &Report) -> String {
    let count = |severity, what: &str| match report.findings.count(severity) {
        0 => None,
        1 => Some(format!("1 {what}")),
        n => Some(format!("{n} {what}s")),
    };
    let counts = [
        count(Severity::Error, "error"),
        count(Severity::Warning, "warning"),
    ];
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    if counts.is_empty() {
        "sound".into()
    } else {
        counts.join(", ")
    }
}

fn facts(snapshot: &Snapshot, report: &Report) -> String {
    let counts = &report.counts;
    let meta = snapshot.meta();
    let plural = |n: u64, one: &str, many: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    };
    let inline = match counts.inline_buckets {
        0 => String::new(),
        n => format!(" ({n} inline)"),
    };
    format!(
        "Transaction {} (meta {}): {}{inline}, {}; {} pages of {} bytes: {} branch, {} leaf, {} \
         overflow, {} freelist, {} free; at most {}, pages {} % full.",
        meta.txid,
        snapshot.slot(),
        plural(counts.buckets + counts.inline_buckets, "bucket", "buckets"),
        plural(counts.keys, "key", "keys"),
        meta.hwm,
        snapshot.page_size(),
        counts.branches,
        counts.leaves,
        counts.overflow,
        counts.freelist,
        counts.free,
        plural(u64::from(counts.height), "level", "levels"),
        counts.fill(),
    )
}

/// What to do next.
fn advice(path: &Path, snapshot: &Snapshot, report: &Report) -> Vec<String> {
    let shown = path.display();
    let mut lines = Vec::new();
    // Needed to come back to an older state.
    let slot = snapshot.newer().map(|_| snapshot.slot());
    let has = |test: fn(Kind) -> bool| report.findings.iter().any(|f| test(f.kind));
    let errors = report.findings.count(Severity::Error) > 0;
    // There may have been a later transaction.
    let of = match has(|kind| kind == Kind::Meta) {
        true => format!(" of transaction {}", snapshot.meta().txid),
        false => String::new(),
    };
    let content = match has(|kind| kind == Kind::Gaps) {
        true => format!(
            "All keys{of} can be read; whether their values are whole, only a comparison can show"
        ),
        false => format!("All content{of} can be read"),
    };
    if has(|kind| kind == Kind::Truncated) {
        lines.push(format!(
            "{COPY_AGAIN} What is cut off cannot be brought back; what is left can be read: {}",
            look(path, slot)
        ));
    } else if has(Kind::hides_pages) {
        lines.push(format!(
            "Keep this file as it is, and work on a copy. What is not named above can be read: \
             {}",
            look(path, slot)
        ));
    } else if has(Kind::condemns_freelist) {
        lines.push(format!(
            "{content}, and a commit by boltfs does without this freelist. Let no other program \
             write to {shown} before."
        ));
    } else if errors {
        lines.push(format!(
            "{content}. Let no other program than boltfs write to {shown}."
        ));
    } else if has(|kind| kind == Kind::SnapshotHash) {
        lines.push("The tree is whole; whether the values are, only a comparison can show.".into());
    } else if report.findings.count(Severity::Warning) > 0 {
        lines.push(format!("{content}."));
    }
    if let Some(other) = &report.other
        && errors
    {
        let slot = other.slot;
        lines.push(match &other.state {
            OtherState::Walked {
                txid, errors: 0, ..
            } => format!(
                "The file's other state (transaction {txid}, meta {slot}) has no such error. Look at \
                 it with: {}",
                look(path, Some(slot))
            ),
            OtherState::Walked { txid, errors, .. } => format!(
                "The file's other state (transaction {txid}, meta {slot}) is damaged too, with \
                 {errors} error{}.",
                if *errors == 1 { "" } else { "s" }
            ),
            OtherState::Invalid(why) => {
                format!("There is no other state to go back to: meta {slot} is damaged ({why}).")
            }
            OtherState::Unusable(e) => {
                format!("The file's other state (meta {slot}) cannot be used: {e}.")
            }
        });
    }
    lines
}

/// One line on the terminal that says how far a check has come.
struct ProgressLine<W> {
    out: W,
    name: String,
    /// When to show it next; `None` where nobody looks.
    next: Option<Instant>,
    shown: bool,
}

impl<W: Write> ProgressLine<W> {
    fn new(path: &Path, out: W, next: Option<Instant>) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        ProgressLine {
            out,
            name: name.chars().filter(|c| !c.is_control()).collect(),
            next,
            shown: false,
        }
    }

    fn show(&mut self, progress: check::Progress) {
        let now = Instant::now();
        if self.next.is_some_and(|next| next <= now) {
            self.next = Some(now + REFRESH);
            self.shown = true;
            let percent = progress.done.saturating_mul(100) / progress.pages.max(1);
            let _ = write!(self.out, "\r\x1b[Kchecking {}: {percent} %", self.name)
                .and_then(|()| self.out.flush());
        }
    }

    fn erase(&mut self) {
        if self.shown {
            let _ = write!(self.out, "\r\x1b[K").and_then(|()| self.out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_one_line_that_goes_away() {
        let at = |done| check::Progress { done, pages: 200 };
        let path = Path::new("/tmp/a\x1b[2Jb");
        let mut line = ProgressLine::new(path, Vec::new(), Some(Instant::now()));
        line.show(at(84));
        line.show(at(85)); // too soon to be seen
        line.erase();
        assert_eq!(line.out, b"\r\x1b[Kchecking a[2Jb: 42 %\r\x1b[K");

        for next in [None, Some(Instant::now() + REFRESH * 100)] {
            let mut line = ProgressLine::new(path, Vec::new(), next);
            line.show(at(84));
            line.erase();
            assert!(line.out.is_empty());
        }
    }
}
