//! The end of a mount: what was staged is committed, or dropped, and one report says what became
//! of it.

use std::path::Path;

use super::failure::Failure;

/// How many of something were added, changed and deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// New ones.
    pub added: u64,
    /// Those that were there before and hold something else now.
    pub changed: u64,
    /// Those that are no more.
    pub deleted: u64,
}

impl Counts {
    fn any(self) -> bool {
        self != Counts::default()
    }
}

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The number of the transaction that holds it.
    pub txid: u64,
    /// Keys, those in new and deleted buckets included.
    pub keys: Counts,
    /// Buckets; a changed one has a new sequence or name.
    pub buckets: Counts,
    /// What the person should look at: leftovers of editors, a line end left off.
    pub notes: Vec<String>,
}

/// The staged edits of one mount, seen from the session that ends it.
pub trait Store: Send + Sync {
    /// Refuses every further change. When it returns, none is under way.
    fn seal(&self);

    /// How many changes are staged.
    fn staged(&self) -> u64;

    /// Writes what is staged in one transaction. `None`: nothing was staged, and the file was not
    /// touched.
    ///
    /// # Errors
    /// Why nothing was committed, and what is still safe.
    fn commit(&self) -> Result<Option<Outcome>, Failure>;

    /// Gives the lock on the database back. Nothing is read or written after it.
    fn release(&self);
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

/// Commits or drops what is staged in `store`, gives the lock back and says what happened.
pub fn finish(store: &dyn Store, database: &Path, discard: bool) -> Report {
    store.seal();
    let report = if discard {
        discarded(store, database)
    } else {
        committed(store, database)
    };
    store.release();
    report
}

fn discarded(store: &dyn Store, database: &Path) -> Report {
    let database = database.display();
    let message = match store.staged() {
        0 => format!("nothing to discard, {database} is unchanged"),
        1 => format!("discarded 1 change, {database} is unchanged"),
        n => format!("discarded {n} changes, {database} is unchanged"),
    };
    Report {
        failed: false,
        message,
    }
}

/// Commits what is staged in `store` and says what happened; the mount goes on.
pub fn committed(store: &dyn Store, database: &Path) -> Report {
    match store.commit() {
        Ok(None) => Report {
            failed: false,
            message: format!("nothing to commit, {} is unchanged", database.display()),
        },
        Ok(Some(outcome)) => Report {
            failed: false,
            message: describe(&outcome, database),
        },
        Err(failure) => Report {
            failed: true,
            message: format!("NOT COMMITTED: {failure}"),
        },
    }
}

fn describe(outcome: &Outcome, database: &Path) -> String {
    let Outcome {
        txid,
        keys,
        buckets,
        notes,
    } = outcome;
    let mut text = format!(
        "committed transaction {txid} to {}: {} {} added, {} changed, {} deleted",
        database.display(),
        keys.added,
        if keys.added == 1 { "key" } else { "keys" },
        keys.changed,
        keys.deleted
    );
    if buckets.any() {
        text.push_str(&format!(
            "; {} {} added, {} changed, {} deleted",
            buckets.added,
            if buckets.added == 1 {
                "bucket"
            } else {
                "buckets"
            },
            buckets.changed,
            buckets.deleted
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
    fn the_line_counts_what_was_done() {
        let outcome = Outcome {
            txid: 1234,
            keys: Counts {
                added: 0,
                changed: 1,
                deleted: 2,
            },
            ..Outcome::default()
        };
        assert_eq!(
            describe(&outcome, Path::new("/db")),
            "committed transaction 1234 to /db: 0 keys added, 1 changed, 2 deleted"
        );
        let outcome = Outcome {
            txid: 1,
            keys: Counts {
                added: 1,
                ..Counts::default()
            },
            buckets: Counts {
                added: 1,
                ..Counts::default()
            },
            notes: vec!["look at 4913".to_owned()],
        };
        assert_eq!(
            describe(&outcome, Path::new("/db")),
            "committed transaction 1 to /db: 1 key added, 0 changed, 0 deleted; \
             1 bucket added, 0 changed, 0 deleted\nboltfs: note: look at 4913"
        );
    }
}
