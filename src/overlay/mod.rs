//! Staged edits over a snapshot.
//!
//! | word | meaning |
//! | --- | --- |
//! | base | the committed tree of the mounted meta: read-only, never changed while mounted |
//! | staged | the edits of this mount, in memory, until they are committed or discarded; long content is in the journal |
//! | node | a bucket (directory) or a key (file), whether of the base or staged |
//! | whiteout | a staged deletion that hides a base element |
//! | position | where a listing stands between two entries; survives any change of the directory |
//!
//! Nodes are known by their inode number alone. That of a base node carries the place of its
//! element in the file ([`ino`]), so nothing is kept for what is only looked at.
//!
//! Renames move entries, never bytes: a bucket is moved, or removed, by touching one entry.

pub mod base;
pub mod changes;
pub mod content;
pub mod count;
pub mod displaced;
pub mod ino;
pub mod last;
pub mod merged;
pub mod order;
pub mod pending;
pub mod staged;
pub mod whiteouts;

pub use base::Base;
pub use changes::{Files, Judge, changes};
pub use content::{Content, says_lost};
pub use count::count;
pub use ino::Ino;
pub use last::Last;
pub use merged::{Found, Merged, Position};
pub use pending::{Change, Kind as PendingKind, Pending, Which, pending};
pub use staged::{Attrs, Entry, Key, Kind, Node, Staged};
