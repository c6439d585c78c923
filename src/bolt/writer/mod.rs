//! The writer: all changes of a mount as one transaction.
//!
//! Not a mutable tree, as bbolt's, but one pass: the sorted changes of each bucket are merged with
//! the pages they fall in (`merge`), and the new tree is built from left to right,
//! bottom-up, every page written once (`build`, `level`). What does
//! not change is kept by reference. Nothing that the committed state reaches is overwritten, so the
//! new state comes into being with one write: that of its meta ([`commit`]).

mod build;
mod commit;
mod level;
mod merge;
mod old;
mod sink;
mod transaction;
mod verify;
mod witness;

use super::check::Report;
use super::error::Error;
use super::meta::Meta;
use super::pageset::PageSet;
use std::fmt;

pub use commit::commit;

/// How to commit.
#[derive(Clone, Copy, Default)]
pub struct CommitOptions<'o> {
    /// The pages of `[2, high-water mark)` of the base that no bucket reaches, if the structural
    /// check has proved it, and that no page is reached twice. Only then free pages are reused;
    /// else pages are appended.
    pub free: Option<&'o PageSet>,
    /// Pages from the high-water mark on that something damaged refers to, as the check found them.
    /// They are not written to: what refers to them would suddenly have other content.
    pub avoid: Option<&'o PageSet>,
    /// The check found damage that leaves it uncertain which pages are in use. The commit then proves,
    /// at the cost of a walk through the whole database, that nothing of what it replaces comes
    /// back through a page that leads where it must not.
    pub damaged: bool,
    /// Store no freelist, as the one of the base is known to be wrong. (A base that stores none
    /// stays so in any case.)
    pub abandon_freelist: bool,
    /// Called with the meta of the new state when all but the meta is durable, right before it is
    /// written. An error keeps it from being written.
    pub before_meta: Option<&'o BeforeMeta<'o>>,
}

impl<'o> CommitOptions<'o> {
    /// What a check of the base has proved, or has shown to be uncertain.
    pub fn proven_by(report: &'o Report) -> CommitOptions<'o> {
        CommitOptions {
            free: report.free.as_ref(),
            avoid: Some(&report.dangling),
            damaged: report.free.is_none(),
            abandon_freelist: !report.freelist_ok,
            before_meta: None,
        }
    }
}

/// What is to be done before a new state becomes visible.
pub type BeforeMeta<'o> = dyn Fn(&Meta) -> Result<(), Error> + 'o;

/// What a transaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Keys that were not there before.
    pub keys_added: u64,
    /// Keys that have a new value.
    pub keys_changed: u64,
    /// Keys that are gone, those in deleted buckets among them.
    pub keys_deleted: u64,
    /// Buckets that were not there before.
    pub buckets_added: u64,
    /// Buckets that are gone, those in deleted buckets among them.
    pub buckets_deleted: u64,
    /// Buckets that were moved to another place.
    pub buckets_moved: u64,
    /// Pages written, the freelist's among them, the meta's not.
    pub pages_written: u64,
    /// Pages of the base that the new state no longer has.
    pub pages_freed: u64,
    /// Bytes written, the meta's page among them.
    pub bytes_written: u64,
}

/// A transaction that is durable.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The meta of the new state.
    pub meta: Meta,
    /// The slot (0 or 1) where it stands.
    pub slot: u8,
    /// What was done.
    pub stats: Stats,
    /// A freelist was stored before, and is not any more: it could not be trusted.
    pub freelist_abandoned: bool,
    /// Every page that the transaction wrote: live until the next one is durable.
    written: PageSet,
    /// The two metas as they stand in the file now.
    metas: [Option<Meta>; 2],
}

impl Committed {
    /// Every page of the file that the transaction wrote, its meta's aside.
    pub fn written(&self) -> &PageSet {
        &self.written
    }
}

/// Why a transaction is not, or may not be, durable.
#[derive(Debug)]
pub enum CommitError {
    /// Nothing was committed; the state before stands, no page of it was touched.
    NotCommitted(Error),
    /// The file is not as it was when it was opened: something that takes no lock wrote to it, or
    /// cut it. Nothing was written.
    Changed {
        /// What differs.
        what: String,
    },
    /// The last write, or the sync after it, failed: what the disk holds now is not known.
    Unknown {
        /// What failed.
        why: Error,
        /// The transaction that the file shows now, read back; `None` where that failed too.
        shows: Option<u64>,
        /// The transaction that was being committed.
        txid: u64,
    },
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommitError::NotCommitted(why) => {
                write!(f, "nothing was committed, the database is as it was: {why}")
            }
            CommitError::Changed { what } => write!(
                f,
                "nothing was committed: another program changed the database meanwhile ({what})"
            ),
            CommitError::Unknown { why, shows, txid } => {
                write!(
                    f,
                    "it is not known whether the commit of transaction {txid} is durable: {why}. "
                )?;
                match shows {
                    Some(shows) => write!(f, "The file shows transaction {shows}"),
                    None => write!(f, "The file's metas cannot be read back"),
                }?;
                write!(f, "; the state before is intact on every page but the meta")
            }
        }
    }
}

impl std::error::Error for CommitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CommitError::NotCommitted(why) | CommitError::Unknown { why, .. } => Some(why),
            CommitError::Changed { .. } => None,
        }
    }
}

impl From<Error> for CommitError {
    fn from(why: Error) -> Self {
        CommitError::NotCommitted(why)
    }
}
