//! One page as a whole: are its elements inside it, apart, in order, and what the branch above says?

use super::super::page::{BUCKET_FLAG, HEADER, MAX_COUNT, Page};
use super::report::{Kind, show_key};
use super::walk::{Bounds, Seen, Walker};

/// Most bytes from an element's header to the end of its value that bbolt can read.
const MAX_REACH: usize = (1 << 31) - 1;
/// Longest key that bbolt takes. Bucket names may be longer.
const MAX_KEY: usize = 32768;

/// How the data of a page lies.
struct Layout {
    /// Where the next item starts if items are packed.
    next: usize,
    packed: bool,
    /// The end of the last item.
    used: usize,
}

impl Layout {
    fn item(&mut self, start: usize, len: usize) {
        self.packed &= start == self.next;
        self.next = start + len;
        self.used = self.used.max(self.next);
    }
}

impl<'a> Walker<'_, 'a> {
    /// Looks at all elements of `page`.
    pub(super) fn inspect(&mut self, page: &Page<'a>, bounds: Bounds<'a>) -> Seen {
        let Bounds {
            first,
            below,
            level,
            inline,
        } = bounds;
        let count = page.count();
        let floor = HEADER + HEADER * count;
        let mut layout = Layout {
            next: floor,
            packed: true,
            used: floor,
        };
        let mut keys = Keys::default();
        let (mut buckets, mut plain, mut strange) = (0usize, 0u64, None);
        let (mut too_far, mut too_long) = (None, None);
        let mut broken = false;
        let run = page.bytes().as_ptr() as usize;
        for index in 0..count {
            let (key, len) = if page.is_leaf() {
                match page.leaf(index) {
                    Ok(e) => {
                        if e.is_bucket() {
                            buckets += 1;
                        } else {
                            plain += 1;
                            if e.key.len() > MAX_KEY {
                                too_long = Some(e.key);
                            }
                        }
                        if e.flags & !BUCKET_FLAG != 0 {
                            strange = strange.or(Some((e.key, e.flags)));
                        }
                        (e.key, e.key.len() + e.value.len())
                    }
                    Err(e) => {
                        broken = true;
                        self.lost_element(page, e, keys.last);
                        continue;
                    }
                }
            } else {
                match page.child(index) {
                    Ok(c) => (c.key, c.key.len()),
                    Err(e) => {
                        broken = true;
                        self.lost_element(page, e, keys.last);
                        continue;
                    }
                }
            };
            // Both are parts of one slice, so the difference is the key's place in the run.
            let start = key.as_ptr() as usize - run;
            layout.item(start, len);
            if start + len - (HEADER + HEADER * index) > MAX_REACH {
                too_far = Some(key);
            }
            keys.next(index, key);
        }
        self.counts.keys += plain;
        if !inline {
            self.counts.used += layout.used as u64;
        }
        let mut seen = Seen {
            buckets,
            unsorted: keys.out_of_order > 0,
            overlap: false,
        };
        let pgid = page.pgid();
        self.order(pgid, &keys, first, below);
        if let Some((key, flags)) = strange {
            self.bucket(Kind::ElementFlags, pgid, || {
                let key = show_key(key);
                format!("page {pgid}: {key} has flags {flags:#x}, bbolt knows only 0 and 1")
            });
        }
        if let Some(key) = too_far {
            self.bucket(Kind::Oversize, pgid, || {
                let key = show_key(key);
                format!("page {pgid}: {key} reaches past 2 GiB; bbolt fails when it reads it")
            });
        }
        if let Some(key) = too_long {
            self.bucket(Kind::Oversize, pgid, || {
                let (name, len) = (show_key(key), key.len());
                format!("page {pgid}: {name} has {len} bytes, bbolt takes keys up to {MAX_KEY}")
            });
        }
        if count > MAX_COUNT {
            self.bucket(Kind::Oversize, pgid, || {
                format!("page {pgid} has {count} elements, bbolt can write {MAX_COUNT}")
            });
        }
        if page.is_leaf() {
            if plain > 0 && self.in_root() {
                self.bucket(Kind::RootKey, pgid, || {
                    format!(
                        "page {pgid} holds {plain} plain key{} where only buckets belong; `bbolt \
                         stats` and `bbolt compact` crash on that",
                        if plain == 1 { "" } else { "s" }
                    )
                });
            }
            if count == 0 && level > 1 {
                self.bucket(Kind::EmptyLeaf, pgid, || {
                    format!(
                        "leaf page {pgid} is empty: bbolt can read it, its next write may damage \
                         the file"
                    )
                });
            }
            self.leaf_at(pgid, level);
        } else if count == 1 {
            self.bucket(Kind::LoneChild, pgid, || {
                format!(
                    "branch page {pgid} has one child only: bbolt can read it, its next write may \
                     fail or damage the file"
                )
            });
        }
        self.counts.height = self.counts.height.max(level);
        if broken {
            // What the unreadable elements occupy is not known.
            return seen;
        }
        seen.overlap = self.layout(page, &layout, inline);
        seen
    }

    fn lost_element(&mut self, page: &Page<'a>, e: super::super::Error, last: Option<&[u8]>) {
        self.bucket(Kind::Unreadable, page.pgid(), || {
            let what = if page.is_leaf() {
                "this element"
            } else {
                "what is below it"
            };
            match last {
                Some(key) => format!("{e}, behind {}; {what} cannot be read", show_key(key)),
                None => format!("{e}; {what} cannot be read"),
            }
        });
    }

    /// P1 to P3 and P7.
    fn order(&mut self, pgid: u64, keys: &Keys<'_>, first: Option<&[u8]>, below: Option<&[u8]>) {
        if let Some((index, key, previous)) = keys.offender {
            let more = keys.out_of_order - 1;
            self.bucket(Kind::KeyOrder, pgid, || {
                let (a, b) = (show_key(key), show_key(previous));
                let relation = if key == previous { "again" } else { "behind" };
                let more = match more {
                    0 => String::new(),
                    n => format!(", and {n} more"),
                };
                format!(
                    "page {pgid} has its keys out of order: element {index} is {a} {relation} \
                     {b}{more}; look-ups may miss keys"
                )
            });
        }
        if let Some(index) = keys.empty {
            self.bucket(Kind::EmptyKey, pgid, || {
                format!("page {pgid} has an empty key (element {index}); bbolt's next write fails")
            });
        }
        if let (Some(lowest), Some(said)) = (keys.first, first) {
            match lowest.cmp(said) {
                std::cmp::Ordering::Less => self.bucket(Kind::KeyOrder, pgid, || {
                    let (a, b) = (show_key(lowest), show_key(said));
                    format!(
                        "page {pgid} starts with {a}, the branch above says {b}: it may be an \
                         older copy of the page, and look-ups miss keys on it"
                    )
                }),
                std::cmp::Ordering::Greater => self.bucket(Kind::BranchKey, pgid, || {
                    let (a, b) = (show_key(lowest), show_key(said));
                    format!(
                        "page {pgid} starts with {a}, the branch above says {b}: bbolt can read \
                         it, its next write may damage the file"
                    )
                }),
                std::cmp::Ordering::Equal => {}
            }
        }
        if let (Some(highest), Some(below)) = (keys.highest, below)
            && highest >= below
        {
            self.bucket(Kind::KeyOrder, pgid, || {
                let (a, b) = (show_key(highest), show_key(below));
                format!(
                    "page {pgid} holds {a}, and its neighbour begins with {b}: it may be an older \
                     copy of the page, and look-ups miss keys on it"
                )
            });
        }
    }

    /// How the data lies; `true` if elements share bytes.
    fn layout(&mut self, page: &Page<'a>, layout: &Layout, inline: bool) -> bool {
        let (pgid, len, used) = (page.pgid(), page.bytes().len(), layout.used);
        if inline {
            if used < len {
                self.bucket(Kind::BucketValue, pgid, || {
                    format!(
                        "its inline page on page {pgid} has {len} bytes, and content for {used}"
                    )
                });
            }
        } else {
            let ps = self.ground.snapshot.page_size();
            // Old boltdb took one page more where the content fills its pages exactly.
            let fits = used / ps + 1;
            if len / ps > fits {
                self.bucket(Kind::Surplus, pgid, || {
                    format!(
                        "page {pgid} claims {} pages, its content needs {}",
                        len / ps,
                        used.div_ceil(ps)
                    )
                });
            }
        }
        // Nothing is stored there, so every writer leaves zeros. (A look at all of it would cost
        // more than the rest of the check; a shortened value shows right behind its end.)
        let behind = page.bytes().get(used..).unwrap_or_default();
        if behind.iter().take(64).any(|&b| b != 0) && !inline {
            self.bucket(Kind::Gaps, pgid, || {
                format!(
                    "page {pgid} has data behind its last item: a size on it may have been \
                     altered, and a value be shorter than it was"
                )
            });
        }
        if layout.packed {
            return false;
        }
        let mut items: Vec<(usize, usize)> = Vec::with_capacity(page.count());
        let run = page.bytes().as_ptr() as usize;
        for index in 0..page.count() {
            let item = if page.is_leaf() {
                page.leaf(index)
                    .map(|e| (e.key, e.key.len() + e.value.len()))
            } else {
                page.child(index).map(|c| (c.key, c.key.len()))
            };
            if let Ok((key, len)) = item {
                let start = key.as_ptr() as usize - run;
                items.push((start, start + len));
            }
        }
        items.sort_unstable();
        let overlap = items.windows(2).any(|pair| pair[1].0 < pair[0].1);
        if overlap {
            self.bucket(Kind::Overlap, pgid, || {
                format!(
                    "page {pgid} has elements that share bytes: a size or a position on it was \
                     altered, and a key or value is wrong"
                )
            });
        } else {
            self.bucket(Kind::Gaps, pgid, || {
                format!(
                    "page {pgid} does not hold its data one behind the other, as bbolt writes it: \
                     a size on it may have been altered, and a value be shorter than it was"
                )
            });
        }
        overlap
    }
}

/// The keys of a page, one after the other.
#[derive(Default)]
struct Keys<'a> {
    first: Option<&'a [u8]>,
    last: Option<&'a [u8]>,
    /// The greatest, if not the last: that of a page out of order.
    highest: Option<&'a [u8]>,
    /// Index of an empty key.
    empty: Option<usize>,
    out_of_order: usize,
    /// The first key that is not greater than the one before it, and that one.
    offender: Option<(usize, &'a [u8], &'a [u8])>,
}

impl<'a> Keys<'a> {
    fn next(&mut self, index: usize, key: &'a [u8]) {
        match self.last {
            Some(last) if last >= key => {
                self.out_of_order += 1;
                self.offender = self.offender.or(Some((index, key, last)));
            }
            Some(_) => {}
            None => self.first = Some(key),
        }
        if key.is_empty() {
            self.empty = Some(index);
        }
        self.last = Some(key);
        if self.out_of_order == 0 || self.highest.is_none_or(|h| h < key) {
            self.highest = Some(key);
        }
    }
}
