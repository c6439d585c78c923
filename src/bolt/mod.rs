//! The bbolt file format: reading a committed tree, writing the next one, proving one sound.
//!
//! Floors, lower first: typed views of bytes ([`page`], [`meta`], [`bucket`], [`freelist`]); the
//! seam to the disk ([`file`], [`map`]); reading ([`Snapshot`], [`Cursor`]), writing and checking.

pub mod allocator;
pub mod bucket;
pub mod check;
pub mod create;
pub mod cursor;
pub mod edit;
pub mod error;
pub mod file;
pub mod freelist;
pub mod map;
pub mod meta;
pub mod page;
pub mod pageset;
pub mod snapshot;
pub mod trailer;
pub mod writer;

pub use bucket::BucketRef;
pub use create::empty_database;
pub use cursor::Cursor;
pub use edit::{BucketEdit, Changes, Edit, Edits, Source};
pub use error::{Damage, Error, OpenError, Result};
pub use file::{DbFile, Disk};
pub use map::Map;
pub use meta::{Meta, Metas};
pub use page::Element;
pub use pageset::PageSet;
pub use snapshot::{Bucket, OpenOptions, Snapshot};
pub use writer::{CommitError, CommitOptions, Committed, commit};
