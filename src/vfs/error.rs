//! Why a file-system operation is refused, in words. `fuse` has the one table to errno.

use crate::bolt;
use crate::view::name::NameError;

/// A result of a file-system operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation is refused.
#[derive(Debug)]
pub enum Error {
    /// No such key or bucket.
    NotFound,
    /// The name is taken.
    Exists,
    /// A key where a bucket is needed.
    NotDirectory,
    /// A bucket where a key is needed.
    IsDirectory,
    /// The bucket is not empty.
    NotEmpty,
    /// Its permissions let nobody execute it.
    NotExecutable,
    /// The format has no place for it: a key in the root, a link, a device.
    NotPermitted,
    /// The mount, or this part of it, is read-only.
    ReadOnly,
    /// No key can have this name: too long.
    NameTooLong,
    /// No key can have this name, or the arguments contradict each other.
    Invalid,
    /// Past bbolt's limit for a value.
    TooBig,
    /// The database is damaged here.
    Damaged(bolt::Error),
    /// The database lost bytes, cut by another program or on a failing disk, while they were read;
    /// or the edit is refused, as one that was cut takes no commit.
    Lost,
    /// The listing of a damaged bucket ends here: all that is readable has been listed.
    Incomplete,
    /// No such extended attribute.
    NoAttribute,
    /// Not a kind of operation that this file system has.
    NotSupported,
    /// A number that was never given out, or whose node is gone.
    Stale,
    /// The edit cannot be written to the journal, so it was not made.
    Journal(std::io::Error),
    /// A commit failed; what was staged still is.
    NotCommitted,
    /// The mount is ending and takes no more edits.
    Sealed,
    /// There is not enough memory for what is to be staged.
    NoMemory,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Error::NotFound => "no such key or bucket",
            Error::Exists => "the name is taken",
            Error::NotDirectory => "a key, not a bucket",
            Error::IsDirectory => "a bucket, not a key",
            Error::NotEmpty => "the bucket is not empty",
            Error::NotExecutable => "nobody may execute it",
            Error::NotPermitted => "not possible in a bbolt database",
            Error::ReadOnly => "read-only",
            Error::NameTooLong => "the name is too long",
            Error::Invalid => "no key can have this name",
            Error::TooBig => "past bbolt's limit for a value",
            Error::Damaged(e) => return e.fmt(f),
            Error::Lost => "the database was cut short while it was mounted",
            Error::Incomplete => "the bucket is damaged and cannot be listed in full",
            Error::NoAttribute => "no such attribute",
            Error::NotSupported => "not supported",
            Error::Stale => "no such node",
            Error::Journal(e) => return write!(f, "the journal cannot be written: {e}"),
            Error::NotCommitted => "not committed",
            Error::Sealed => "the mount is ending",
            Error::NoMemory => "not enough memory",
        })
    }
}

impl std::error::Error for Error {}

impl From<bolt::Error> for Error {
    fn from(e: bolt::Error) -> Self {
        Error::Damaged(e)
    }
}

impl From<NameError> for Error {
    fn from(e: NameError) -> Self {
        match e {
            NameError::TooLong => Error::NameTooLong,
            NameError::NotCanonical => Error::Invalid,
        }
    }
}
