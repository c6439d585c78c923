//! What a check finds, as values that read as sentences.

use std::fmt;

use super::super::pageset::PageSet;
use crate::view::name;

/// Findings of one severity that are kept; the others are counted only.
pub const KEPT: usize = 1000;
/// Bytes of bucket names that all kept findings may hold together: 1,000 findings in a bucket
/// 20,000 levels deep must not take gigabytes.
const NAME_BYTES: usize = 16 << 20;
/// Bytes of one key that are looked at to show it: far more than are shown.
const KEY_SHOWN: usize = 64 << 10;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing, nothing is wrong.
    Note,
    /// Against the rules of the format, and all content can be read.
    Warning,
    /// Content is damaged, or the next writer may destroy some.
    Error,
}

/// What kind of rule a finding is about. The rules P1 to P9 are those of a sound tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A page, an element or a bucket's value cannot be read: what it holds is lost.
    Unreadable,
    /// A page is used twice (P9): one of the two users shows the other's content.
    Shared,
    /// A page leads back to itself.
    Cycle,
    /// Keys out of order in a page, or outside what the branch above says (P1, P2).
    KeyOrder,
    /// An empty key in a branch page (P7).
    EmptyKey,
    /// Elements of a page share bytes: a size or position among them was altered.
    Overlap,
    /// The file ends before the pages in use do.
    Truncated,
    /// Pages below an inline bucket, which bbolt does not count as used.
    Hidden,
    /// The freelist cannot be read.
    FreelistUnreadable,
    /// The freelist holds page numbers that are no pages of the database.
    FreelistRange,
    /// The freelist holds a page more than once.
    FreelistTwice,
    /// The freelist holds a page that is in use: the next writer would overwrite it.
    FreelistLive,
    /// The key in a branch is lower than the first key of the child (P3).
    BranchKey,
    /// A branch with one child (P4).
    LoneChild,
    /// An empty leaf below a branch (P5).
    EmptyLeaf,
    /// Leaves of one bucket at different depths (P6).
    UnevenDepth,
    /// More elements, or a longer element, than bbolt can handle (P8).
    Oversize,
    /// A run of pages longer than its content needs.
    Surplus,
    /// Data that is not packed as every writer packs it.
    Gaps,
    /// Element flags that nobody knows.
    ElementFlags,
    /// A bucket's value longer than it must be.
    BucketValue,
    /// An inline bucket that bbolt would not have stored inline.
    Inline,
    /// A plain key where only buckets are expected.
    RootKey,
    /// Pages that nothing uses and the freelist does not list.
    Leak,
    /// One of the two metas is damaged, or cannot be used.
    Meta,
    /// The SHA-256 at the end of an etcd snapshot is not that of the bytes before it.
    SnapshotHash,
    /// Meta flags, which have no meaning.
    MetaFlags,
    /// Something behind the last page in use.
    Trailing,
    /// No freelist is stored.
    NoFreelist,
}

impl Kind {
    /// How bad a finding of this kind is.
    pub fn severity(self) -> Severity {
        use Kind::*;
        match self {
            Unreadable | Shared | Cycle | KeyOrder | EmptyKey | Overlap | Truncated | Hidden
            | FreelistUnreadable | FreelistRange | FreelistTwice | FreelistLive => Severity::Error,
            BranchKey | LoneChild | EmptyLeaf | UnevenDepth | Oversize | Surplus | Gaps
            | ElementFlags | BucketValue | Inline | RootKey | Leak | Meta | SnapshotHash => {
                Severity::Warning
            }
            MetaFlags | Trailing | NoFreelist => Severity::Note,
        }
    }

    /// The stored freelist must not be carried on.
    pub fn condemns_freelist(self) -> bool {
        use Kind::*;
        matches!(
            self,
            FreelistUnreadable | FreelistRange | FreelistTwice | FreelistLive
        )
    }

    /// Which pages are in use is no longer certain: some may hold content that can still be
    /// salvaged although nothing was found to reach them.
    pub fn hides_pages(self) -> bool {
        use Kind::*;
        matches!(
            self,
            Unreadable | Shared | Cycle | KeyOrder | EmptyKey | Overlap | Truncated
        )
    }
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A bucket: the names from the root down to it (none: the root bucket).
    Bucket(Vec<Vec<u8>>),
    /// The stored list of free pages.
    Freelist,
    /// The meta page in this slot.
    Meta(u8),
    /// The file as a whole.
    File,
}

/// One thing that a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of rule it is about; says how bad it is.
    pub kind: Kind,
    /// Where it was found.
    pub place: Place,
    /// The page it was found on, where there is one.
    pub pgid: Option<u64>,
    /// What is wrong, as the end of a sentence that names the place. Safe to print.
    pub text: String,
}

impl Finding {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.kind.severity()
    }

    /// The names from the root down to the bucket concerned; none for the root bucket and for
    /// what is not about a bucket.
    pub fn path(&self) -> &[Vec<u8>] {
        match &self.place {
            Place::Bucket(path) => path,
            _ => &[],
        }
    }
}

/// A bucket's path as it is under a mount, safe to print.
pub fn show_path(path: &[Vec<u8>]) -> String {
    let mut out = Vec::new();
    for (depth, part) in path.iter().enumerate() {
        if depth > 0 {
            out.push(b'/');
        }
        name::encode_into(&mut out, part, depth == 0);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A key as its file name, in quotes, safe to print.
pub fn show_key(key: &[u8]) -> String {
    let name = name::encode(key.get(..KEY_SHOWN).unwrap_or(key), false);
    format!("\"{}\"", String::from_utf8_lossy(&name))
}

/// The first runs of `pages` as text: `3, 7 to 9, …`.
pub fn show_pages(pages: &PageSet) -> String {
    const SHOWN: usize = 8;
    let mut runs = pages.runs();
    let shown: Vec<String> = runs
        .by_ref()
        .take(SHOWN)
        .map(|(first, count)| match count {
            1 => first.to_string(),
            2 => format!("{first}, {}", first + 1),
            _ => format!("{first} to {}", first + count - 1),
        })
        .collect();
    let more = if runs.next().is_some() { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Bucket(path) if path.is_empty() => f.write_str("root bucket"),
            Place::Bucket(path) => write!(f, "bucket {}", show_path(path)),
            Place::Freelist => f.write_str("freelist"),
            Place::Meta(slot) => write!(f, "meta {slot}"),
            Place::File => f.write_str("file"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.severity(), self.place, self.text)
    }
}

/// The findings of a check: as many as are kept, and how many there were.
#[derive(Debug, Default, Clone)]
pub struct Findings {
    kept: Vec<Finding>,
    name_bytes: usize,
    counts: [u64; 3],
    kept_counts: [usize; 3],
    condemns_freelist: bool,
    hides_pages: bool,
}

impl Findings {
    /// Counts a finding, and keeps it if there is room: only then `describe` is called.
    pub(super) fn add(
        &mut self,
        kind: Kind,
        describe: impl FnOnce() -> (Place, Option<u64>, String),
    ) {
        let rank = kind.severity() as usize;
        self.counts[rank] += 1;
        self.condemns_freelist |= kind.condemns_freelist();
        self.hides_pages |= kind.hides_pages();
        if self.kept_counts[rank] >= KEPT || self.name_bytes >= NAME_BYTES {
            return;
        }
        let (place, pgid, text) = describe();
        if let Place::Bucket(path) = &place {
            let bytes = |name: &Vec<u8>| name.len() + size_of::<Vec<u8>>();
            self.name_bytes += path.iter().map(bytes).sum::<usize>();
        }
        self.kept_counts[rank] += 1;
        self.kept.push(Finding {
            kind,
            place,
            pgid,
            text,
        });
    }

    /// A finding of this severity would only be counted.
    pub(super) fn is_full(&self, severity: Severity) -> bool {
        self.kept_counts[severity as usize] >= KEPT || self.name_bytes >= NAME_BYTES
    }

    pub(super) fn kept_mut(&mut self) -> &mut Vec<Finding> {
        &mut self.kept
    }

    /// Puts the worst first, each severity in the order found.
    pub(super) fn sort(&mut self) {
        self.kept.sort_by_key(|f| std::cmp::Reverse(f.severity()));
    }

    /// Nothing found at all.
    pub fn is_empty(&self) -> bool {
        self.counts == [0; 3]
    }

    /// The findings that were kept, worst first: at most [`KEPT`] of each severity.
    pub fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.kept.iter()
    }

    /// How many findings of this severity there were, kept or not.
    pub fn count(&self, severity: Severity) -> u64 {
        self.counts[severity as usize]
    }

    /// How many findings were counted and not kept.
    pub fn dropped(&self) -> u64 {
        self.counts.iter().sum::<u64>() - self.kept.len() as u64
    }

    /// See [`Kind::condemns_freelist`].
    pub(super) fn condemn_freelist(&self) -> bool {
        self.condemns_freelist
    }

    /// See [`Kind::hides_pages`].
    pub(super) fn hide_pages(&self) -> bool {
        self.hides_pages
    }
}

/// What a database consists of. The root bucket is not counted as one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Buckets with pages of their own.
    pub buckets: u64,
    /// Buckets inside the value of their element.
    pub inline_buckets: u64,
    /// Plain keys, those in inline buckets among them.
    pub keys: u64,
    /// Branch pages (runs).
    pub branches: u64,
    /// Leaf pages (runs), without those inside inline buckets.
    pub leaves: u64,
    /// Continuation pages of branch and leaf runs.
    pub overflow: u64,
    /// Bytes of all branch and leaf runs.
    pub allocated: u64,
    /// Bytes of them that hold content.
    pub used: u64,
    /// Most levels of pages in any one bucket.
    pub height: u32,
    /// Most buckets one inside the other (1: buckets in the root alone).
    pub depth: u64,
    /// Pages of the longest run.
    pub longest_run: u64,
    /// Pages that nothing reaches, without the freelist's own.
    pub free: u64,
    /// Pages that nothing reaches and the stored freelist does not list.
    pub leaked: u64,
    /// Pages of the stored freelist itself.
    pub freelist: u64,
}

impl Counts {
    pub(super) fn merge(&mut self, other: &Counts) {
        self.buckets += other.buckets;
        self.inline_buckets += other.inline_buckets;
        self.keys += other.keys;
        self.branches += other.branches;
        self.leaves += other.leaves;
        self.overflow += other.overflow;
        self.allocated += other.allocated;
        self.used += other.used;
        self.height = self.height.max(other.height);
        self.depth = self.depth.max(other.depth);
        self.longest_run = self.longest_run.max(other.longest_run);
    }

    /// How full the branch and leaf pages are, in percent.
    pub fn fill(&self) -> u64 {
        let percent = u128::from(self.used) * 100;
        percent.checked_div(u128::from(self.allocated)).unwrap_or(0) as u64
    }
}
