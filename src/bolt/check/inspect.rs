//! One page as a whole: are its elements inside it, apart, in order, and what the branch above says?

use super::super::error::{Error, Result};
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

/// What the elements of a page are.
struct Scan<'a> {
    layout: Layout,
    keys: Keys<'a>,
    buckets: usize,
    plain: u64,
    /// An element was unreadable, and reported: what it occupies is not known.
    broken: bool,
    /// A key with flags that nobody knows, and them.
    strange: Option<(&'a [u8], u32)>,
    /// A key whose item ends too far from its header.
    too_far: Option<&'a [u8]>,
    /// A plain key that is too long.
    too_long: Option<&'a [u8]>,
}

/// Element `index`: its key, the length of key and value, and its flags if it is of a leaf.
fn item<'a>(page: &Page<'a>, index: usize) -> Result<(&'a [u8], usize, Option<u32>)> {
    if page.is_leaf() {
        let e = page.leaf(index)?;
        Ok((e.key, e.key.len() + e.value.len(), Some(e.flags)))
    } else {
        let child = page.child(index)?;
        Ok((child.key, child.key.len(), None))
    }
}

/// Where `part` starts in `page`, of which it is a part.
fn start(page: &Page<'_>, part: &[u8]) -> usize {
    part.as_ptr() as usize - page.bytes().as_ptr() as usize
}

impl<'a> Walker<'_, 'a> {
    /// Looks at the whole of `page`.
    pub(super) fn inspect(&mut self, page: &Page<'a>, bounds: Bounds<'a>) -> Seen {
        let mut scan = self.scan(page);
        self.counts.keys += scan.plain;
        self.counts.height = self.counts.height.max(bounds.level);
        if !bounds.inline {
            self.counts.used += scan.layout.used as u64;
        }
        if let Err(e) = page.verify_count() {
            scan.broken = true;
            let (last, below) = (scan.keys.last, bounds.below);
            self.bucket(Kind::Unreadable, page.pgid(), || {
                let from = last.map_or("all keys".to_owned(), |key| {
                    format!("the keys behind {}", show_key(key))
                });
                let to = below.map_or(String::new(), |key| {
                    format!(", to before {},", show_key(key))
                });
                format!("{e}; {from}{to} of this bucket cannot be read")
            });
        }
        self.order(page.pgid(), &scan.keys, &bounds);
        self.elements(page, &scan);
        self.shape(page, &bounds);
        if !scan.broken {
            self.extent(page, scan.layout.used, bounds.inline);
        }
        Seen {
            buckets: scan.buckets,
            unsorted: scan.keys.out_of_order > 0,
            overlap: !scan.layout.packed && self.unpacked(page, scan.broken),
        }
    }

    /// Reads all elements, and reports those that cannot be read.
    fn scan(&mut self, page: &Page<'a>) -> Scan<'a> {
        let floor = HEADER + HEADER * page.count();
        let mut scan = Scan {
            layout: Layout {
                next: floor,
                packed: true,
                used: floor,
            },
            keys: Keys::default(),
            buckets: 0,
            plain: 0,
            broken: false,
            strange: None,
            too_far: None,
            too_long: None,
        };
        for index in 0..page.count() {
            let (key, len, flags) = match item(page, index) {
                Ok(item) => item,
                Err(e) => {
                    scan.broken = true;
                    self.lost_element(page, e, scan.keys.last);
                    continue;
                }
            };
            match flags {
                Some(flags) if flags & BUCKET_FLAG != 0 => scan.buckets += 1,
                Some(_) => {
                    scan.plain += 1;
                    if key.len() > MAX_KEY {
                        scan.too_long = Some(key);
                    }
                }
                None => {}
            }
            if let Some(flags) = flags.filter(|flags| flags & !BUCKET_FLAG != 0) {
                scan.strange = scan.strange.or(Some((key, flags)));
            }
            let start = start(page, key);
            scan.layout.item(start, len);
            if start + len - (HEADER + HEADER * index) > MAX_REACH {
                scan.too_far = Some(key);
            }
            scan.keys.next(index, key);
        }
        scan
    }

    /// Flags and limits (P8), and plain keys in the root.
    fn elements(&mut self, page: &Page<'a>, scan: &Scan<'a>) {
        let (pgid, count, plain) = (page.pgid(), page.count(), scan.plain);
        if let Some((key, flags)) = scan.strange {
            self.bucket(Kind::ElementFlags, pgid, || {
                let key = show_key(key);
                format!("page {pgid}: {key} has flags {flags:#x}, bbolt knows only 0 and 1")
            });
        }
        if let Some(key) = scan.too_far {
            self.bucket(Kind::Oversize, pgid, || {
                let key = show_key(key);
                format!("page {pgid}: {key} reaches past 2 GiB; bbolt fails when it reads it")
            });
        }
        if let Some(key) = scan.too_long {
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
        if plain > 0 && self.in_root() {
            self.bucket(Kind::RootKey, pgid, || {
                format!(
                    "page {pgid} holds {plain} plain key{} where only buckets belong; `bbolt \
                     stats` and `bbolt compact` crash on that",
                    if plain == 1 { "" } else { "s" }
                )
            });
        }
    }

    /// P4 to P6.
    fn shape(&mut self, page: &Page<'a>, bounds: &Bounds<'a>) {
        let pgid = page.pgid();
        match (page.is_leaf(), page.count()) {
            (true, count) => {
                if count == 0 && bounds.level > 1 {
                    self.bucket(Kind::EmptyLeaf, pgid, || {
                        format!(
                            "leaf page {pgid} is empty: bbolt can read it, its next write may \
                             damage the file"
                        )
                    });
                }
                self.leaf_at(pgid, bounds.level);
            }
            (false, 1) => self.bucket(Kind::LoneChild, pgid, || {
                format!(
                    "branch page {pgid} has one child only: bbolt can read it, its next write may \
                     fail or damage the file"
                )
            }),
            (false, _) => {}
        }
    }

    fn lost_element(&mut self, page: &Page<'a>, e: Error, last: Option<&[u8]>) {
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
    fn order(&mut self, pgid: u64, keys: &Keys<'_>, bounds: &Bounds<'_>) {
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
        if let (Some(lowest), Some(said)) = (keys.first, bounds.first) {
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
        if let (Some(highest), Some(below)) = (keys.highest, bounds.below)
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

    /// The run, or the inline page, is as long as its content needs, and zero behind it.
    fn extent(&mut self, page: &Page<'a>, used: usize, inline: bool) {
        let (pgid, len) = (page.pgid(), page.bytes().len());
        if inline {
            if used < len {
                self.bucket(Kind::BucketValue, pgid, || {
                    format!(
                        "its inline page on page {pgid} has {len} bytes, and content for {used}"
                    )
                });
            }
            return;
        }
        let ps = self.ground.snapshot.page_size();
        // Old boltdb took one page more where the content fills its pages exactly.
        if len / ps > used / ps + 1 {
            self.bucket(Kind::Surplus, pgid, || {
                let (pages, need) = (len / ps, used.div_ceil(ps));
                format!("page {pgid} claims {pages} pages, its content needs {need}")
            });
        }
        // Nothing is stored there, so every writer leaves zeros. (A look at all of it would cost
        // more than the rest of the check; a shortened value shows right behind its end.)
        let behind = page.bytes().get(used..).unwrap_or_default();
        if behind.iter().take(64).any(|&b| b != 0) {
            self.bucket(Kind::Gaps, pgid, || {
                format!(
                    "page {pgid} has data behind its last item: a size on it may have been \
                     altered, and a value be shorter than it was"
                )
            });
        }
    }

    /// Looks at data that does not lie in the order of the elements; `true` if elements share
    /// bytes. `broken` if there are gaps because elements are unreadable.
    fn unpacked(&mut self, page: &Page<'a>, broken: bool) -> bool {
        let pgid = page.pgid();
        let mut items: Vec<(usize, usize)> = (0..page.count())
            .filter_map(|index| item(page, index).ok())
            .map(|(key, len, _)| (start(page, key), start(page, key) + len))
            .collect();
        items.sort_unstable();
        let overlap = items.windows(2).any(|pair| pair[1].0 < pair[0].1);
        if overlap {
            self.bucket(Kind::Overlap, pgid, || {
                format!(
                    "page {pgid} has elements that share bytes: a size or a position on it was \
                     altered, and a key or value is wrong"
                )
            });
        } else if !broken {
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
