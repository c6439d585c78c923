//! The walk over everything that a meta reaches: each page once, with an explicit stack.
//!
//! A page is looked at as a whole when it is entered (`inspect`), then its children are. A run is
//! entered at most once, whatever leads to it, so the walk ends on any file; the stack holds at
//! most one frame for each page and for each level of inline buckets.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use super::super::bucket::{BUCKET_HEADER, BucketRef, inline_page};
use super::super::error::{Damage, Error};
use super::super::page::{Element, Header, Page};
use super::super::pageset::PageSet;
use super::super::snapshot::MAX_LEVELS;
use super::ground::Ground;
use super::report::{Counts, Findings, Kind, Place, Severity, show_key};

/// Most inline buckets one inside the other that are followed. bbolt writes none.
const MAX_INLINE: u32 = 256;

/// How far past the high-water mark references are remembered, in pages: further than one commit
/// can grow the file.
const DANGLING: u64 = 1 << 28;

/// A page whose children are being walked.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    page: Page<'a>,
    /// Index of the next child, or of the next element that may be a bucket.
    next: usize,
    bounds: Bounds<'a>,
    /// What `inspect` said about the page.
    seen: Seen,
}

/// A bucket on the way to the page in hand.
#[derive(Clone, Copy)]
pub(super) struct Nest<'a> {
    name: &'a [u8],
    /// Root page, 0 for an inline bucket.
    root: u64,
    /// How many buckets it is in: 0 for the root bucket.
    depth: u64,
    /// Level of the first leaf that was met, 0 before that.
    leaf_level: u32,
    /// A leaf at another level was reported.
    uneven: bool,
    /// How many buckets from the outermost inline one to this one, 0 outside.
    inline: u32,
    /// Other threads walk other parts of this bucket.
    split: bool,
}

/// A part of the tree for one thread.
pub(super) struct Task<'a> {
    frame: Frame<'a>,
    nest: Nest<'a>,
}

/// What a page must fit in with.
#[derive(Clone, Copy)]
pub(super) struct Bounds<'a> {
    /// The key that the branch above has for the page.
    pub(super) first: Option<&'a [u8]>,
    /// All keys of the page must be lower, if the branches above say so.
    pub(super) below: Option<&'a [u8]>,
    /// 1 for the bucket's root page.
    pub(super) level: u32,
    /// The page is in the value of an inline bucket.
    pub(super) inline: bool,
}

impl Bounds<'_> {
    /// Those of a bucket's root page.
    const ROOT: Bounds<'static> = Bounds {
        first: None,
        below: None,
        level: 1,
        inline: false,
    };
}

/// What to know about a page to walk its children.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    /// Number of elements with the bucket flag.
    pub(super) buckets: usize,
    /// Keys are out of order: what they say about the children's keys means nothing.
    pub(super) unsorted: bool,
    /// Elements share bytes: what is inline in one is in others as well.
    pub(super) overlap: bool,
}

pub(super) struct Walker<'g, 'a> {
    pub(super) ground: &'g Ground<'a>,
    stack: Vec<Frame<'a>>,
    nests: Vec<Nest<'a>>,
    pub(super) findings: Findings,
    pub(super) counts: Counts,
    /// By root page, the leaf level of each bucket that several threads share.
    pub(super) leaf_levels: HashMap<u64, u32>,
    /// Pages of which the first user is wanted, and the users.
    pub(super) wanted: HashMap<u64, Option<Place>>,
    /// Pages past the high-water mark that something refers to, or claims for its run.
    pub(super) dangling: PageSet,
}

impl<'g, 'a> Walker<'g, 'a> {
    pub(super) fn new(ground: &'g Ground<'a>) -> Walker<'g, 'a> {
        Walker {
            ground,
            stack: Vec::new(),
            nests: Vec::new(),
            findings: Findings::default(),
            counts: Counts::default(),
            leaf_levels: HashMap::new(),
            wanted: HashMap::new(),
            dangling: PageSet::new(),
        }
    }

    /// Pages that the file has, behind the high-water mark too, the last one whole or not.
    fn pages_in_file(&self) -> u64 {
        let snapshot = self.ground.snapshot;
        snapshot.file_len().div_ceil(snapshot.page_size() as u64)
    }

    /// Enters the root bucket. Follow with [`run`](Self::run) or [`split`](Self::split).
    pub(super) fn enter_root(&mut self) {
        let root = self.ground.snapshot.root_ref().root;
        self.nests.push(Nest {
            name: &[],
            root,
            depth: 0,
            leaf_level: 0,
            uneven: false,
            inline: 0,
            split: false,
        });
        if !self.enter(root, Bounds::ROOT) {
            self.nests.pop();
        }
    }

    /// Walks all that was entered. `tick` is called after each page.
    pub(super) fn run(&mut self, tick: &mut dyn FnMut()) {
        while !self.stack.is_empty() {
            if self.step() {
                tick();
            }
        }
    }

    /// Walks one task of a split.
    pub(super) fn run_task(&mut self, task: Task<'a>, tick: &mut dyn FnMut()) {
        self.nests.push(task.nest);
        self.stack.push(task.frame);
        while !self.stack.is_empty() && !self.ground.stop.load(Relaxed) {
            if self.step() {
                tick();
            }
        }
        self.nests.clear();
        self.stack.clear();
    }

    /// Cuts what was entered into at least `want` parts, if the upper levels of the tree give as
    /// many. Paths are lost: findings are to be looked for again by a walk without a split.
    pub(super) fn split(&mut self, want: usize) -> Vec<Task<'a>> {
        let mut parts = std::collections::VecDeque::new();
        let take_top = |this: &mut Self| {
            let frame = this.stack.pop()?;
            let nest = this.nests.last_mut()?;
            nest.split = true;
            Some(Task { frame, nest: *nest })
        };
        parts.extend(take_top(self));
        let mut left = want; // parts that lead to no further ones must not keep us for ever
        while parts.len() < want && left > 0 {
            let Some(Task { frame, nest }) = parts.pop_front() else {
                break;
            };
            left -= 1;
            self.nests = vec![nest];
            self.stack = vec![frame];
            while !self.stack.is_empty() {
                self.step();
                if self.stack.len() > 1 {
                    parts.extend(take_top(self));
                    self.nests.truncate(1);
                }
            }
        }
        parts.into()
    }

    /// Looks at the next child of the page on top; `true` if a page was entered for it.
    fn step(&mut self) -> bool {
        let Some(frame) = self.stack.last_mut() else {
            return false;
        };
        let index = frame.next;
        if index >= frame.page.count() {
            if frame.bounds.level == 1 {
                self.nests.pop();
            }
            self.stack.pop();
            return false;
        }
        frame.next += 1;
        let frame = *frame;
        if !frame.page.is_leaf() {
            // An element that cannot be read was reported by `inspect`.
            let Ok(child) = frame.page.child(index) else {
                return false;
            };
            let next = frame.page.child(index + 1).ok().map(|c| c.key);
            let below = if frame.seen.unsorted {
                None
            } else {
                next.or(frame.bounds.below)
            };
            let bounds = Bounds {
                first: Some(child.key),
                below,
                level: frame.bounds.level + 1,
                inline: false,
            };
            self.enter(child.pgid, bounds);
            return true;
        }
        let Ok(element) = frame.page.leaf(index) else {
            return false;
        };
        if element.is_bucket() {
            self.enter_bucket(&element, &frame);
            return true;
        }
        false
    }

    fn enter_bucket(&mut self, element: &Element<'a>, frame: &Frame<'a>) {
        let Some(&outer) = self.nests.last() else {
            return;
        };
        let pgid = frame.page.pgid();
        let at = BucketRef::read(element, pgid);
        self.nests.push(Nest {
            name: element.key,
            root: at.as_ref().map_or(0, |at| at.root),
            depth: outer.depth + 1,
            leaf_level: 0,
            uneven: false,
            inline: outer.inline,
            split: false,
        });
        self.counts.depth = self.counts.depth.max(outer.depth + 1);
        let entered = match at {
            Err(e) => {
                self.bucket(Kind::Unreadable, pgid, || e.to_string());
                false
            }
            Ok(at) if at.is_inline() => self.enter_inline(element, frame, outer.inline + 1),
            Ok(at) => {
                self.counts.buckets += 1;
                if at.value_len != BUCKET_HEADER {
                    self.bucket(Kind::BucketValue, pgid, || {
                        format!(
                            "its value on page {pgid} has {} bytes, {BUCKET_HEADER} belong there",
                            at.value_len
                        )
                    });
                }
                if outer.inline > 0 {
                    self.bucket(Kind::Hidden, pgid, || {
                        format!(
                            "has its pages (from page {} on) below an inline bucket, where bbolt \
                             does not look for pages in use: its next write may destroy them",
                            at.root
                        )
                    });
                }
                self.enter(at.root, Bounds::ROOT)
            }
        };
        if !entered {
            self.nests.pop();
        }
    }

    fn enter_inline(&mut self, element: &Element<'a>, frame: &Frame<'a>, inline: u32) -> bool {
        let (pgid, value) = (frame.page.pgid(), element.value);
        self.counts.inline_buckets += 1;
        if frame.seen.overlap {
            return false;
        }
        if inline > MAX_INLINE {
            let e = Error::page(pgid, Damage::TooDeep);
            self.bucket(Kind::Unreadable, pgid, || e.to_string());
            return false;
        }
        if let Some(nest) = self.nests.last_mut() {
            nest.inline = inline;
        }
        if inline > 1 {
            self.bucket(Kind::Inline, pgid, || {
                format!("is inside an inline bucket (on page {pgid}), which bbolt never writes")
            });
        }
        let page = match inline_page(pgid, value, element.value_offset) {
            Ok(page) => page,
            Err(e) => {
                self.bucket(Kind::Unreadable, pgid, || format!("its inline page: {e}"));
                return false;
            }
        };
        let image = page.bytes();
        let limit = self.ground.snapshot.page_size() / 4;
        if image.len() > limit {
            self.bucket(Kind::Inline, pgid, || {
                format!(
                    "is inline on page {pgid} with {} bytes, bbolt keeps at most {limit} inline",
                    image.len()
                )
            });
        }
        if let Some(header) = Header::read(image)
            && (header.id, header.overflow) != (0, 0)
        {
            self.bucket(Kind::Inline, pgid, || {
                format!(
                    "its inline page on page {pgid} has number {} and {} overflow pages, both \
                     must be 0",
                    header.id, header.overflow
                )
            });
        }
        let bounds = Bounds {
            inline: true,
            ..Bounds::ROOT
        };
        let seen = self.inspect(&page, bounds);
        if seen.buckets == 0 {
            return false;
        }
        self.stack.push(Frame {
            page,
            next: 0,
            bounds,
            seen,
        });
        true
    }

    /// Enters the run at `pgid`: claims its pages, looks at it, and puts it on the stack if there
    /// is more below it.
    fn enter(&mut self, pgid: u64, bounds: Bounds<'a>) -> bool {
        let lost = |this: &mut Self, e: Error| {
            this.bucket(Kind::Unreadable, pgid, || {
                let keys = match (bounds.first, bounds.below) {
                    (Some(a), Some(b)) => {
                        format!("; the keys from {} to before {}", show_key(a), show_key(b))
                    }
                    (Some(a), None) => format!("; the keys from {} on", show_key(a)),
                    (None, _) => "; all keys".into(),
                };
                format!("{e}{keys} of this bucket cannot be read")
            });
            false
        };
        let hwm = self.ground.snapshot.meta().hwm;
        if pgid < 2 || pgid >= hwm {
            if (hwm..hwm.saturating_add(DANGLING)).contains(&pgid) {
                self.dangling.insert(pgid);
            }
            // If the page is there, what it leads to may be there too, behind the pages in use.
            let in_file = self.pages_in_file();
            if (hwm..in_file).contains(&pgid) {
                self.dangling.insert_run(hwm, (in_file - hwm).min(DANGLING));
            }
            return lost(self, Error::page(pgid, Damage::OutOfRange { hwm }));
        }
        if pgid >= self.ground.pages {
            return lost(self, Error::page(pgid, Damage::PastEndOfFile));
        }
        let new = self.claim(pgid);
        if !self.ground.started.insert(pgid) {
            self.again(pgid);
            return false;
        }
        if !new {
            self.shared(pgid, pgid);
        }
        self.ground.done.fetch_add(1, Relaxed);
        if bounds.level as usize > MAX_LEVELS {
            return lost(self, Error::page(pgid, Damage::TooDeep));
        }
        let page = match self.ground.snapshot.page(pgid) {
            Ok(page) => page,
            Err(e) => {
                if let Error::Page {
                    damage: Damage::OverflowPastEnd { overflow },
                    ..
                } = e
                {
                    // Its tail may still be there, behind the pages in use.
                    let end = self.pages_in_file().min(pgid + 1 + u64::from(overflow));
                    let count = end.saturating_sub(hwm).min(DANGLING);
                    self.dangling.insert_run(hwm, count);
                }
                return lost(self, e);
            }
        };
        let overflow = u64::from(page.overflow());
        for next in pgid + 1..=pgid + overflow {
            if !self.claim(next) {
                self.shared(next, pgid);
                // Not further: many runs that each claim the rest of the file would take for ever.
                break;
            }
        }
        let counts = &mut self.counts;
        counts.overflow += overflow;
        counts.longest_run = counts.longest_run.max(overflow + 1);
        counts.allocated += page.bytes().len() as u64;
        if page.is_leaf() {
            counts.leaves += 1;
        } else {
            counts.branches += 1;
        }
        let seen = self.inspect(&page, bounds);
        if page.is_leaf() && seen.buckets == 0 {
            return false;
        }
        self.stack.push(Frame {
            page,
            next: 0,
            bounds,
            seen,
        });
        true
    }

    /// Marks a page as used; `false` if it was.
    fn claim(&mut self, pgid: u64) -> bool {
        if !self.ground.claimed.insert(pgid) {
            return false;
        }
        if self.ground.listed.contains(pgid) {
            self.bucket(Kind::FreelistLive, pgid, || {
                format!(
                    "page {pgid} is in use and the freelist lists it as free: bbolt's next write \
                     may destroy it"
                )
            });
        }
        if self.ground.list_run.contains(&pgid) {
            self.bucket(Kind::FreelistLive, pgid, || {
                format!("page {pgid} is also used by the freelist: bbolt's next write frees it")
            });
        }
        if !self.wanted.is_empty() && self.wanted.contains_key(&pgid) {
            let place = self.place();
            self.wanted.insert(pgid, Some(place));
        }
        true
    }

    /// The run that starts at `pgid` was entered before.
    fn again(&mut self, pgid: u64) {
        // A look through a deep stack for each of many findings would take for ever.
        let cycle = !self.findings.is_full(Severity::Error)
            && self.stack.iter().any(|f| f.page.pgid() == pgid);
        if cycle {
            self.bucket(Kind::Cycle, pgid, || {
                format!(
                    "page {pgid} leads back to itself; the keys that belong here cannot be read"
                )
            });
        } else {
            self.shared(pgid, pgid);
        }
    }

    fn shared(&mut self, page: u64, pgid: u64) {
        self.bucket(Kind::Shared, page, || {
            if page == pgid {
                format!("page {page} is used in two places")
            } else {
                format!("page {page} is used in two places, here by the run that starts at {pgid}")
            }
        });
    }

    /// The leaf page in hand is at `level`.
    pub(super) fn leaf_at(&mut self, pgid: u64, level: u32) {
        let Some(nest) = self.nests.last_mut() else {
            return;
        };
        if nest.leaf_level == 0 {
            nest.leaf_level = level;
            if nest.split {
                nest.leaf_level = *self.leaf_levels.entry(nest.root).or_insert(level);
            }
        }
        let first = nest.leaf_level;
        if first != level && !nest.uneven {
            nest.uneven = true;
            self.bucket(Kind::UnevenDepth, pgid, || {
                format!(
                    "leaf page {pgid} is at level {level}, others are at {first}: bbolt can read \
                     it, its next write may lose keys"
                )
            });
        }
    }

    /// Adds a finding about the bucket in hand.
    pub(super) fn bucket(&mut self, kind: Kind, pgid: u64, text: impl FnOnce() -> String) {
        let nests = &self.nests;
        self.findings
            .add(kind, || (path(nests), Some(pgid), text()));
    }

    fn place(&self) -> Place {
        path(&self.nests)
    }

    pub(super) fn in_root(&self) -> bool {
        self.nests.last().is_some_and(|nest| nest.depth == 0)
    }
}

/// The bucket that is innermost. Names are cut where they would take memory out of all proportion
/// to what is ever shown of them.
fn path(nests: &[Nest<'_>]) -> Place {
    const WHOLE: usize = 64 << 10;
    const ALL_WHOLE: usize = 1 << 20;
    const HEAD: usize = 64;
    let mut bytes = 0;
    let kept = nests.iter().skip(1).map(|nest| {
        let limit = if bytes < ALL_WHOLE { WHOLE } else { HEAD };
        let name = nest.name.get(..limit).unwrap_or(nest.name);
        bytes += name.len();
        name.to_vec()
    });
    Place::Bucket(kept.collect())
}
