//! What can be wrong with a database, as values: every error names the page or the meta it was
//! found on, so that a message can say where to look.

use std::{fmt, io};

/// A result whose error says what is wrong with the database.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a database, or one part of it, cannot be used.
#[derive(Debug)]
pub enum Error {
    /// The operating system refused.
    Io {
        /// What was being done, as a verb phrase: "write page 12".
        doing: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The file cannot be opened as a bbolt database.
    Open(OpenError),
    /// One page, or something on it, is damaged. The rest of the database may be sound.
    Page {
        /// The first page of the damaged run.
        pgid: u64,
        /// What is wrong with it.
        damage: Damage,
    },
    /// An edit cannot be written in this format (a key or value past bbolt's limits).
    Limit(String),
}

/// Why a file as a whole is not a bbolt database that can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenError {
    /// The file has no bytes.
    Empty,
    /// All bytes where the metas must be are zero: creation was interrupted.
    NeverInitialised,
    /// No meta with bbolt's magic number: some other kind of file.
    NotBolt,
    /// Written on a big-endian machine (s390x, ppc64): every number has the other byte order.
    BigEndian,
    /// The format version is not 2.
    Version(u32),
    /// Both metas have the magic number, and neither has a right checksum.
    Checksum,
    /// The meta's page size is no power of two from 512 B to 16 MiB.
    PageSize(u32),
    /// The two metas name different page sizes.
    PageSizeConflict(u32, u32),
    /// The file ends before the high-water mark of the meta.
    Truncated {
        /// Bytes that the meta says are in use.
        need: u64,
        /// Bytes the file has.
        have: u64,
        /// The other meta describes a state that lies wholly inside the file.
        other_fits: bool,
    },
    /// The meta's high-water mark cannot be right.
    HighWaterMark(u64),
    /// The root bucket's page is outside the pages in use.
    Root {
        /// The page the meta names.
        root: u64,
        /// The first page never allocated.
        hwm: u64,
    },
    /// The meta in this slot was asked for and is not valid.
    NoSuchMeta(u8),
}

/// What is wrong with a page, or with one element of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The page number is below 2 or not below the high-water mark.
    OutOfRange {
        /// The first page never allocated.
        hwm: u64,
    },
    /// The file ends before the page does.
    PastEndOfFile,
    /// All zero: a write that never reached the disk.
    Zeroed,
    /// The header carries another page's number.
    WrongId {
        /// The number found.
        found: u64,
    },
    /// The header's flags are not those of the kind of page that belongs here.
    WrongKind {
        /// The flags found.
        found: u16,
        /// What must be here: "a leaf or branch page".
        want: &'static str,
    },
    /// The run of pages goes past the high-water mark.
    OverflowPastEnd {
        /// The overflow count found.
        overflow: u32,
    },
    /// The header array of `count` elements does not fit the run.
    CountPastEnd {
        /// The count found.
        count: usize,
    },
    /// More elements lie on the page than its header says.
    CountTooLow {
        /// The count found.
        count: usize,
    },
    /// A branch page without a child.
    NoChild,
    /// The key or value of an element is outside its run.
    ElementOutside {
        /// The element's index on the page.
        index: usize,
    },
    /// An element with an empty key.
    EmptyKey {
        /// The element's index on the page.
        index: usize,
    },
    /// A key that is not greater than the one before it.
    Unsorted {
        /// The index of the offending element.
        index: usize,
    },
    /// A key that stands where no look-up goes for it.
    Displaced,
    /// A page that is its own ancestor.
    Cycle,
    /// A page that is part of two buckets, or of one twice.
    Shared,
    /// More levels of branch pages than any database has.
    TooDeep,
    /// A bucket's value is too short for its header or its inline page.
    BucketValue {
        /// The length found.
        len: usize,
    },
    /// A bucket that contains itself.
    BucketCycle,
    /// The pages cannot be read any more: somebody else made the file shorter.
    Gone,
    /// The disk cannot read the pages.
    Unreadable,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Damage::OutOfRange { hwm } => {
                write!(
                    f,
                    "is outside the pages in use (2 to {})",
                    hwm.saturating_sub(1)
                )
            }
            Damage::PastEndOfFile => write!(f, "lies past the end of the file"),
            Damage::Zeroed => write!(f, "is all zeros (a write that never reached the disk)"),
            Damage::WrongId { found } => write!(f, "carries the number of page {found}"),
            Damage::WrongKind { found, want } => {
                write!(f, "has flags {found:#x} where {want} must be")
            }
            Damage::OverflowPastEnd { overflow } => {
                write!(
                    f,
                    "claims {overflow} overflow pages, more than the database has"
                )
            }
            Damage::CountPastEnd { count } => {
                write!(f, "claims {count} elements, more than it has room for")
            }
            Damage::CountTooLow { count: 0 } => write!(f, "says it is empty but holds data"),
            Damage::CountTooLow { count } => {
                let s = if count == 1 { "" } else { "s" };
                write!(f, "says it has {count} element{s} but holds more")
            }
            Damage::NoChild => write!(f, "is a branch page without a child"),
            Damage::ElementOutside { index } => {
                write!(f, "has element {index} reaching outside the page")
            }
            Damage::EmptyKey { index } => write!(f, "has an empty key (element {index})"),
            Damage::Unsorted { index } => {
                write!(f, "has its keys out of order (element {index})")
            }
            Damage::Displaced => write!(f, "holds a key that belongs to another page"),
            Damage::Cycle => write!(f, "is its own ancestor"),
            Damage::Shared => write!(f, "is used in two places"),
            Damage::TooDeep => write!(f, "lies below more branch levels than a database can have"),
            Damage::BucketValue { len } => {
                write!(f, "holds a bucket whose value is damaged ({len} bytes)")
            }
            Damage::BucketCycle => write!(f, "is the root of a bucket that contains itself"),
            Damage::Gone => {
                write!(
                    f,
                    "cannot be read any more: the file was made shorter by another program"
                )
            }
            Damage::Unreadable => write!(f, "cannot be read from the disk (input/output error)"),
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            OpenError::Empty => write!(f, "the file is empty (0 bytes)"),
            OpenError::NeverInitialised => write!(
                f,
                "the file starts with zeros only: its creation as a database was never finished"
            ),
            OpenError::NotBolt => write!(f, "not a bbolt database"),
            OpenError::BigEndian => write!(
                f,
                "a bbolt database written on a big-endian machine (such as s390x); bbolt files \
                 are not portable between byte orders"
            ),
            OpenError::Version(v) => {
                write!(
                    f,
                    "version mismatch: the file has format version {v}, bbolt's is 2"
                )
            }
            OpenError::Checksum => write!(f, "checksum error: both meta pages are damaged"),
            OpenError::PageSize(n) => write!(
                f,
                "invalid page size {n} in the meta page (must be a power of two, 512 to 16777216)"
            ),
            OpenError::PageSizeConflict(a, b) => {
                write!(
                    f,
                    "the two meta pages name different page sizes ({a} and {b})"
                )
            }
            OpenError::Truncated { need, have, .. } => write!(
                f,
                "truncated: the meta page says {need} bytes are in use, the file has {have}. It \
                 was cut short, or copied while it was being written (a torn copy)"
            ),
            OpenError::HighWaterMark(n) => {
                write!(f, "the meta page's high-water mark {n} cannot be right")
            }
            OpenError::Root { root, hwm } => write!(
                f,
                "the meta page names page {root} as the root, and pages end at {hwm}"
            ),
            OpenError::NoSuchMeta(slot) => write!(f, "meta page {slot} is not valid"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { doing, source } => write!(f, "cannot {doing}: {source}"),
            Error::Open(e) => e.fmt(f),
            Error::Page { pgid, damage } => write!(f, "page {pgid} {damage}"),
            Error::Limit(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<OpenError> for Error {
    fn from(e: OpenError) -> Self {
        Error::Open(e)
    }
}

impl Error {
    /// An I/O error with what was being done.
    pub fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Error::Io {
            doing: doing.into(),
            source,
        }
    }

    /// Bytes were lost while they were needed.
    pub fn lost() -> Self {
        let why = "it was cut short by another program, or its disk fails";
        Error::io("rely on what the file holds", io::Error::other(why))
    }

    /// Damage found on page `pgid`.
    pub fn page(pgid: u64, damage: Damage) -> Self {
        Error::Page { pgid, damage }
    }
}
