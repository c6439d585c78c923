//! The end of a mount: what was staged is committed, or dropped, and one report says what became
//! of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::failure::Failure;
use super::goal::Goal;
use super::store::Store;
use super::writing::Rescued;
use crate::bolt::writer::Stats;
use crate::fuse::said;

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The number of the transaction that holds it.
    pub txid: u64,
    /// How many keys and buckets, and how much was written.
    pub stats: Stats,
    /// What the person should look at: leftovers of editors, a line end left off.
    pub notes: Vec<String>,
    /// Nothing was written: this is what would have been done.
    pub dry: bool,
}

/// What became of the edits: told to whoever waits for the end of the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whether something that was to be committed was not.
    pub failed: bool,
    /// What happened, without the leading `boltfs: `. One line, and one more for each note.
    pub message: String,
}

impl Report {
    /// The exit status that goes with it.
    pub fn exit_status(&self) -> u8 {
        self.failed.into()
    }
}

/// What is to become of what is staged at the end of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is committed.
    Commit,
    /// It is dropped, as somebody asked.
    Discard,
    /// What the mount's command did is dropped, for it failed. What was taken up from the journal of
    /// an earlier mount is not the command's, and stays there.
    CommandFailed,
}

/// Commits or drops what is staged in `store` at the end of its mount, gives the lock back and
/// says what happened.
pub fn finish(store: &Store, end: End) -> Report {
    store.seal();
    let report = match end {
        End::Commit => {
            let mut report = committed(store);
            if report.failed {
                report.message.push(' ');
                report.message.push_str(&what_is_safe(store));
            }
            report
        }
        End::Discard => discarded(store),
        End::CommandFailed => failed(store),
    };
    store.release();
    report
}

/// Drops what a command did.
fn failed(store: &Store) -> Report {
    let journal = store.vfs().journal_path();
    let message = match (store.keep_recovered(), journal) {
        (Ok(Some(journal)), _) => format!(
            "discarded what the command did, {}. The edits that were recovered are still in {}: {}.",
            unchanged(store),
            journal.display(),
            store.again()
        ),
        (Err(e), Some(journal)) => format!(
            "what the command did could not be taken out of {} ({e}): it is there with the edits that \
             were recovered",
            journal.display()
        ),
        _ => return discarded(store),
    };
    Report {
        failed: false,
        message,
    }
}

/// Where the edits are that could not be committed at the end of a mount.
fn what_is_safe(store: &Store) -> String {
    if *store.goal() == Goal::Nowhere {
        return "It was a dry run: the edits are dropped.".to_owned();
    }
    let journal = store.journal().map(|path| path.display().to_string());
    let again = store.again();
    if let Some(journal) = &journal
        && store.vfs().has_whole_journal()
    {
        return format!("Your edits are safe in {journal}: {again}.");
    }
    let mut said = match guarded(|| store.rescue()) {
        Ok(Some(Rescued { path, without })) if without.is_empty() => format!(
            "Your edits are safe: {} is the database as it was mounted, with them.",
            path.display()
        ),
        Ok(Some(Rescued { path, without })) => format!(
            "{} is the database as it was mounted, with your edits but for what was written to {}, \
             which is lost.",
            path.display(),
            listed(&without)
        ),
        _ if journal.is_none() => "What was staged is lost with this mount.".to_owned(),
        _ => String::new(),
    };
    if let Some(journal) = journal {
        let also = match said.is_empty() {
            true => "What is left of your edits is in",
            false => " What is left of the journal is kept too, in",
        };
        said.push_str(&format!(
            "{also} {journal}: see it with `boltfs journal {journal}`, and \
             {again} to have what comes before the damage."
        ));
    }
    said
}

/// The first of these keys, and how many more there are.
fn listed(keys: &[String]) -> String {
    /// More than anybody reads in one line.
    const MOST: usize = 20;
    let first = keys.get(..MOST).unwrap_or(keys).join(", ");
    match keys.len().saturating_sub(MOST) {
        0 => first,
        more => format!("{first}, and {more} more"),
    }
}

/// What no commit has changed.
fn unchanged(store: &Store) -> String {
    let target = store.target().display();
    match (store.vfs().committed_txid(), store.goal()) {
        (Some(txid), _) => {
            format!("{target} stays at transaction {txid}, which this mount committed")
        }
        (None, Goal::Output(_)) => format!("{target} was not made"),
        (None, _) => format!("{target} is unchanged"),
    }
}

fn discarded(store: &Store) -> Report {
    let what = match store.staged() {
        Some(0) => "nothing to discard".to_owned(),
        Some(1) => "discarded 1 change".to_owned(),
        Some(n) => format!("discarded {n} changes"),
        None => "discarded all changes".to_owned(),
    };
    let message = format!("{what}, {}", unchanged(store));
    store.drop_edits();
    Report {
        failed: false,
        message,
    }
}

/// Runs `step`, and answers what a panic in it said: whoever waits for the outcome must be told one.
fn guarded<T>(step: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(step)).map_err(|panic| said(&*panic).to_owned())
}

/// Commits what is staged in `store` and says what happened.
pub fn committed(store: &Store) -> Report {
    let commit = guarded(|| store.commit()).unwrap_or_else(|panic| {
        Err(Failure::new(
            format!("boltfs failed in its own code ({panic}); please report this"),
            "The state before the commit is intact.",
        ))
    });
    let (failed, message) = match commit {
        Ok(None) => {
            let more = match store.vfs().committed_txid() {
                Some(_) => " more",
                None => "",
            };
            (
                false,
                format!("nothing{more} to commit, {}", unchanged(store)),
            )
        }
        Ok(Some(outcome)) => (false, describe(&outcome, store.target(), store.path())),
        Err(failure) => (true, format!("NOT COMMITTED: {failure}")),
    };
    Report { failed, message }
}

fn describe(outcome: &Outcome, target: &Path, database: &Path) -> String {
    let Outcome {
        txid, stats, notes, ..
    } = outcome;
    let many = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let done = if outcome.dry {
        "dry run, nothing was written; what would have been committed as"
    } else {
        "committed"
    };
    let copy = if target == database {
        String::new()
    } else {
        format!(", a copy of {}", database.display())
    };
    let mut text = format!(
        "{done} transaction {txid} to {}{copy}: {} added, {} changed, {} deleted",
        target.display(),
        many(stats.keys_added, "key"),
        stats.keys_changed,
        stats.keys_deleted
    );
    if stats.buckets_added + stats.buckets_moved + stats.buckets_deleted > 0 {
        text.push_str(&format!(
            "; {} added, {} moved, {} deleted",
            many(stats.buckets_added, "bucket"),
            stats.buckets_moved,
            stats.buckets_deleted
        ));
    }
    for note in notes {
        text.push_str("\nboltfs: note: ");
        text.push_str(note);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_outcome() {
        assert_eq!(guarded(|| 7), Ok(7));
        assert_eq!(
            guarded(|| panic!("at {}", 7)),
            Err::<(), _>("at 7".to_owned())
        );
        assert_eq!(
            guarded(|| panic!("plain")),
            Err::<(), _>("plain".to_owned())
        );
    }

    #[test]
    fn the_line_counts_what_was_done() {
        let stats = Stats {
            keys_changed: 1,
            keys_deleted: 2,
            ..Stats::default()
        };
        let outcome = Outcome {
            txid: 1234,
            stats,
            notes: Vec::new(),
            dry: false,
        };
        assert_eq!(
            describe(&outcome, Path::new("/db"), Path::new("/db")),
            "committed transaction 1234 to /db: 0 keys added, 1 changed, 2 deleted"
        );
        let stats = Stats {
            keys_added: 1,
            buckets_added: 1,
            ..Stats::default()
        };
        let outcome = Outcome {
            txid: 1,
            stats,
            notes: vec!["look at 4913".to_owned()],
            dry: false,
        };
        assert_eq!(
            describe(&outcome, Path::new("/db"), Path::new("/db")),
            "committed transaction 1 to /db: 1 key added, 0 changed, 0 deleted; \
             1 bucket added, 0 moved, 0 deleted\nboltfs: note: look at 4913"
        );
    }
}
