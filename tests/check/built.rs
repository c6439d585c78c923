//! One file for each thing that bbolt's check does not see, and for each way to keep ours busy.

use boltfs::bolt::check::{Finding, Kind, OtherState, Report, Severity, other_meta};
use boltfs::bolt::page::BUCKET_FLAG;
use sha2::{Digest, Sha256};

use super::common::build::{Build, Item, inline, leaf_image, paged, plain};
use super::{all_text, open, run};

pub const PS: usize = 1024;

fn check_bytes(file: Vec<u8>) -> Report {
    run(&open(file).expect("the file opens"))
}

pub fn check(build: &Build) -> Report {
    check_bytes(build.file())
}

/// Exactly one finding but for notes, and about this.
#[track_caller]
fn only(report: &Report, kind: Kind, path: &[&str], pgid: u64) {
    let worse = report
        .findings
        .iter()
        .filter(|f| f.severity() > Severity::Note);
    let found: Vec<&Finding> = worse.collect();
    let [finding] = found[..] else {
        panic!("{}", all_text(report));
    };
    let at = (finding.kind, finding.pgid);
    assert_eq!(at, (kind, Some(pgid)), "{finding}");
    let path: Vec<Vec<u8>> = path.iter().map(|name| name.as_bytes().to_vec()).collect();
    assert_eq!(finding.path(), path, "{finding}");
}

#[track_caller]
fn has(report: &Report, kind: Kind, path: &[&str], pgid: u64) {
    let path: Vec<Vec<u8>> = path.iter().map(|name| name.as_bytes().to_vec()).collect();
    let found = |f: &&Finding| (f.kind, f.path(), f.pgid) == (kind, &path[..], Some(pgid));
    let text = all_text(report);
    assert!(report.findings.iter().any(|f| found(&f)), "{text}");
}

/// Keys `a` to `j` with values of 100 bytes, in a root, bucket `b`, branch and two leaves.
struct Sample {
    build: Build,
    root: u64,
    branch: u64,
    low: u64,
    high: u64,
}

fn ten(keys: &str) -> Vec<Item> {
    let value = [b'v'; 100];
    keys.bytes().map(|key| plain(&[key], &value)).collect()
}

fn sample() -> Sample {
    let mut build = Build::new(PS);
    let low = build.leaf(&ten("abcde"));
    let high = build.leaf(&ten("fghij"));
    let branch = build.branch(&[(b"a", low), (b"f", high)]);
    let root = build.leaf(&[paged(b"b", branch)]);
    build.root = root;
    Sample {
        build,
        root,
        branch,
        low,
        high,
    }
}

#[test]
fn the_sample_is_sound() {
    let mut s = sample();
    s.build.list(&[]);
    let report = check(&s.build);
    assert_eq!(all_text(&report), "");
    assert!(report.freelist_ok);
    let counts = report.counts;
    assert_eq!((counts.keys, counts.buckets, counts.height), (10, 1, 2));
    assert_eq!((counts.branches, counts.leaves, counts.free), (1, 3, 0));
    assert_eq!(report.reachable.len(), 4);
}

#[test]
fn a_freelist_with_impossible_ids() {
    for (ids, kind) in [
        (&[0u64][..], Kind::FreelistRange),
        (&[1], Kind::FreelistRange),
        (&[7], Kind::FreelistRange), // the high-water mark
        (&[u64::MAX], Kind::FreelistRange),
        (&[6], Kind::FreelistLive), // its own page
    ] {
        let mut s = sample();
        let list = s.build.list(ids);
        assert_eq!(list, 6);
        let report = check(&s.build);
        only(&report, kind, &[], list);
        assert!(!report.freelist_ok);
        assert!(report.free.is_some_and(|free| free.is_empty()));
    }
    let mut s = sample();
    let free = s.build.empty();
    let list = s.build.list(&[free, free]);
    only(&check(&s.build), Kind::FreelistTwice, &[], list);
}

#[test]
fn a_listed_page_that_is_in_use() {
    let mut s = sample();
    s.build.list(&[s.high]);
    let report = check(&s.build);
    only(&report, Kind::FreelistLive, &["b"], s.high);
    assert!(!report.freelist_ok);
    assert!(report.free.is_some_and(|free| free.is_empty()));

    // A continuation page, which bbolt's check does not look at.
    let mut build = Build::new(PS);
    let big = build.leaf(&[plain(b"k", &[b'v'; 2000])]);
    build.root = build.leaf(&[paged(b"b", big)]);
    build.list(&[big + 1]);
    only(&check(&build), Kind::FreelistLive, &["b"], big + 1);
}

#[test]
fn a_freelist_that_is_not_to_be_read() {
    let mut s = sample();
    let list = s.build.list(&[]);
    s.build.put(list, 10, 2, 0xFFFF);
    s.build.put(list, 16, 8, 1 << 60);
    let report = check(&s.build);
    only(&report, Kind::FreelistUnreadable, &[], list);
    assert!(!report.freelist_ok);

    s.build.freelist = 1 << 50;
    has(&check(&s.build), Kind::FreelistUnreadable, &[], 1 << 50);
    s.build.freelist = s.low;
    has(&check(&s.build), Kind::FreelistUnreadable, &[], s.low);
}

#[test]
fn a_tree_that_uses_the_freelists_pages() {
    let mut s = sample();
    let list = s.build.list(&[]);
    s.build.put(s.root, 12, 4, 1);
    let report = check(&s.build);
    has(&report, Kind::FreelistLive, &[], list);
    has(&report, Kind::Surplus, &[], s.root);
}

#[test]
fn leaked_and_free_pages() {
    let mut s = sample();
    let (listed, leaked) = (s.build.empty(), s.build.empty());
    s.build.list(&[listed]);
    let report = check(&s.build);
    only(&report, Kind::Leak, &[], leaked);
    assert!(report.freelist_ok);
    assert_eq!((report.counts.free, report.counts.leaked), (2, 1));
    let free = report.free.expect("nothing hides pages");
    assert!(free.iter().eq([listed, leaked]));

    s.build.freelist = u64::MAX;
    let report = check(&s.build);
    assert!(report.is_sound(), "{}", all_text(&report));
    assert_eq!(report.counts.free, 3);
    assert!(report.freelist_ok);
}

/// The element header of `index` on a page.
fn element(index: usize) -> usize {
    16 + 16 * index
}

#[test]
fn elements_that_leave_their_page_or_share_bytes() {
    let spoil = |field: usize, number: u64| {
        let mut s = sample();
        s.build.put(s.low, element(2) + field, 4, number);
        (check(&s.build), s.low)
    };
    for (field, number) in [
        (4, 1000), // pos past the page
        (4, 0),    // pos into the element headers
        (4, 0xFFFF_FFFF),
        (8, 2000), // ksize
        (8, 0),
        (8, 0xFFFF_FFFF),
        (12, 2000), // vsize
        (12, 0xFFFF_FFFF),
    ] {
        let (report, low) = spoil(field, number);
        has(&report, Kind::Unreadable, &["b"], low);
        assert!(report.free.is_none());
    }
    // Within the page: the next item's bytes, or fewer than its own.
    let (report, low) = spoil(12, 101);
    only(&report, Kind::Overlap, &["b"], low);
    let (report, low) = spoil(12, 99);
    only(&report, Kind::Gaps, &["b"], low);
    // The last item has no neighbour, only zeros behind it.
    let mut s = sample();
    s.build.put(s.low, element(4) + 12, 4, 99);
    only(&check(&s.build), Kind::Gaps, &["b"], s.low);
}

#[test]
fn keys_out_of_order() {
    let mut s = sample();
    let low = s.build.leaf(&ten("acbde"));
    s.build.put(s.branch, element(0) + 8, 8, low);
    let report = check(&s.build);
    only(&report, Kind::KeyOrder, &["b"], low);
    assert!(all_text(&report).contains("element 2 is \"b\" behind \"c\""));
    assert!(report.free.is_none());

    // Below what the branch says, and not below the next child.
    for keys in ["Abcde", "abcdf", "abcdx"] {
        let mut s = sample();
        let low = s.build.leaf(&ten(keys));
        s.build.put(s.branch, element(0) + 8, 8, low);
        only(&check(&s.build), Kind::KeyOrder, &["b"], low);
    }
    // The bound holds through levels: the last leaf below a branch, against the branch's neighbour.
    let mut build = Build::new(PS);
    let leaves = ["ab", "cx", "ef", "gh"].map(|keys| build.leaf(&ten(keys)));
    let left = build.branch(&[(b"a", leaves[0]), (b"c", leaves[1])]);
    let right = build.branch(&[(b"e", leaves[2]), (b"g", leaves[3])]);
    let top = build.branch(&[(b"a", left), (b"e", right)]);
    build.root = build.leaf(&[paged(b"b", top)]);
    only(&check(&build), Kind::KeyOrder, &["b"], leaves[1]);
}

#[test]
fn shapes_that_bbolt_does_not_survive() {
    // P3: the branch says "b", the leaf starts with "c".
    let mut s = sample();
    let low = s.build.leaf(&ten("cde"));
    s.build.put(s.branch, element(0) + 8, 8, low);
    let report = check(&s.build);
    only(&report, Kind::BranchKey, &["b"], low);
    assert_eq!(report.worst(), Some(Severity::Warning));
    assert!(!report.is_sound());
    assert!(report.free.is_some());

    // P4, P5.
    let mut s = sample();
    let lone = s.build.branch(&[(b"a", s.low)]);
    s.build.put(s.branch, element(0) + 8, 8, lone);
    let report = check(&s.build);
    has(&report, Kind::LoneChild, &["b"], lone);
    has(&report, Kind::UnevenDepth, &["b"], s.high); // P6
    let mut s = sample();
    let none = s.build.leaf(&[]);
    s.build.put(s.branch, element(0) + 8, 8, none);
    only(&check(&s.build), Kind::EmptyLeaf, &["b"], none);

    // P7 in a branch, and a branch without children.
    let mut s = sample();
    s.build.put(s.branch, element(0) + 4, 4, 0);
    has(&check(&s.build), Kind::EmptyKey, &["b"], s.branch);
    let mut s = sample();
    s.build.put(s.branch, 10, 2, 0);
    only(&check(&s.build), Kind::Unreadable, &["b"], s.branch);

    // P8.
    let mut build = Build::new(PS);
    let many: Vec<Item> = (0..65535u32)
        .map(|n| plain(&n.to_be_bytes(), b""))
        .collect();
    let leaf = build.leaf(&many);
    build.root = build.leaf(&[paged(b"b", leaf)]);
    only(&check(&build), Kind::Oversize, &["b"], leaf);
    let mut build = Build::new(PS);
    let leaf = build.leaf(&[plain(&[b'k'; 32769], b"")]);
    build.root = build.leaf(&[paged(b"b", leaf)]);
    only(&check(&build), Kind::Oversize, &["b"], leaf);
}

#[test]
fn runs_that_are_too_long() {
    let mut s = sample();
    s.build.put(s.low, 12, 4, 1);
    let report = check(&s.build);
    has(&report, Kind::Shared, &["b"], s.high);
    has(&report, Kind::Surplus, &["b"], s.low);
    assert!(report.free.is_none());
    assert!(all_text(&report).contains("page 3 is used in two places; the other one is in this"));

    let mut s = sample();
    s.build.empty();
    s.build.put(s.root, 12, 4, 1);
    only(&check(&s.build), Kind::Surplus, &[], s.root);

    let mut s = sample();
    s.build.put(s.high, 12, 4, 0xFFFF_FFFF);
    only(&check(&s.build), Kind::Unreadable, &["b"], s.high);
}

#[test]
fn pages_in_two_buckets() {
    let mut s = sample();
    s.build.root = s
        .build
        .leaf(&[paged(b"b", s.branch), paged(b"c", s.branch)]);
    let report = check(&s.build);
    only(&report, Kind::Shared, &["c"], s.branch);
    let text = all_text(&report);
    assert!(
        text.contains("used in two places; the other one is in bucket b"),
        "{text}"
    );
}

#[test]
fn cycles() {
    let mut s = sample();
    s.build.put(s.branch, element(1) + 8, 8, s.branch);
    has(&check(&s.build), Kind::Cycle, &["b"], s.branch);
    // A bucket that contains itself, and one that is its own root page.
    let mut build = Build::new(PS);
    let inside = build.next();
    build.leaf(&[paged(b"c", inside + 1)]);
    build.leaf(&[paged(b"d", inside)]);
    build.root = build.leaf(&[paged(b"b", inside)]);
    only(&check(&build), Kind::Cycle, &["b", "c", "d"], inside);
}

#[test]
fn inside_inline_buckets() {
    let with = |item: Item| {
        let mut build = Build::new(4096);
        let below = build.leaf(&[paged(b"a", 3), item]);
        build.leaf(&ten("ab"));
        build.root = build.leaf(&[paged(b"b", below)]);
        (check(&build), below)
    };
    let (report, _) = with(inline(b"x", &ten("ab")));
    assert!(report.is_sound(), "{}", all_text(&report));
    assert_eq!((report.counts.inline_buckets, report.counts.keys), (1, 4));

    let (report, page) = with(inline(b"x", &ten("ba")));
    only(&report, Kind::KeyOrder, &["b", "x"], page);
    let (report, page) = with(inline(b"x", &[inline(b"y", &[])]));
    only(&report, Kind::Inline, &["b", "x", "y"], page);
    let (report, page) = with(inline(b"x", &[paged(b"y", 3)]));
    has(&report, Kind::Hidden, &["b", "x", "y"], page);
    has(&report, Kind::Shared, &["b", "x", "y"], 3);
    let (report, page) = with(inline(b"x", &[plain(b"k", &[b'v'; 1000])]));
    only(&report, Kind::Inline, &["b", "x"], page);

    let spoilt = |offset: usize, byte: u8| {
        let mut item = inline(b"x", &ten("ab"));
        item.value[offset] = byte;
        with(item)
    };
    let (report, page) = spoilt(16, 1); // number
    only(&report, Kind::Inline, &["b", "x"], page);
    let (report, page) = spoilt(28, 1); // overflow
    only(&report, Kind::Inline, &["b", "x"], page);
    let (report, page) = spoilt(24, 1); // a branch
    only(&report, Kind::Unreadable, &["b", "x"], page);
    let (report, page) = spoilt(26, 50); // count
    only(&report, Kind::Unreadable, &["b", "x"], page);
    let (report, page) = spoilt(48 + 12, 101); // the last vsize: out of the value
    only(&report, Kind::Unreadable, &["b", "x"], page);
    let (report, page) = spoilt(48 + 12, 99);
    only(&report, Kind::BucketValue, &["b", "x"], page);
    let (report, page) = spoilt(32 + 12, 101);
    only(&report, Kind::Overlap, &["b", "x"], page);
}

#[test]
fn bucket_values_of_the_wrong_length() {
    let with = |value: Vec<u8>| {
        let mut s = sample();
        let item = Item {
            flags: BUCKET_FLAG,
            key: b"b".to_vec(),
            value,
        };
        s.build.root = s.build.leaf(&[item]);
        (check(&s.build), s.build.root)
    };
    let header = |root: u64| [root.to_le_bytes(), [0; 8]].concat();
    let (report, root) = with(header(4)[..15].to_vec());
    only(&report, Kind::Unreadable, &["b"], root);
    let (report, root) = with(vec![]);
    only(&report, Kind::Unreadable, &["b"], root);
    let (report, root) = with([header(4), vec![0]].concat());
    only(&report, Kind::BucketValue, &["b"], root);
    let (report, root) = with(header(0));
    only(&report, Kind::Unreadable, &["b"], root);
    let short = [header(0), leaf_image(0, 0, &[])[..15].to_vec()].concat();
    let (report, root) = with(short);
    only(&report, Kind::Unreadable, &["b"], root);
    let longer = [header(0), leaf_image(0, 0, &[]), vec![0]].concat();
    let (report, root) = with(longer);
    only(&report, Kind::BucketValue, &["b"], root);
    for root in [1, 7, u64::MAX, 1 << 63] {
        let (report, _) = with(header(root));
        only(&report, Kind::Unreadable, &["b"], root);
    }
}

#[test]
fn pages_of_another_kind_or_number() {
    for flags in [0, 1, 3, 4, 8, 16, 0x8002] {
        let mut s = sample();
        s.build.put(s.low, 8, 2, flags);
        let report = check(&s.build);
        has(&report, Kind::Unreadable, &["b"], s.low);
    }
    let mut s = sample();
    s.build.put(s.low, 0, 8, s.high);
    let report = check(&s.build);
    only(&report, Kind::Unreadable, &["b"], s.low);
    let text = all_text(&report);
    assert!(
        text.contains("page 2 carries the number of page 3; the keys from \"a\" to before \"f\"")
    );
    let mut s = sample();
    s.build.at(s.high)[..PS].fill(0);
    let report = check(&s.build);
    only(&report, Kind::Unreadable, &["b"], s.high);
    assert!(
        all_text(&report).contains("all zeros"),
        "{}",
        all_text(&report)
    );
}

#[test]
fn plain_keys_in_the_root_and_unknown_flags() {
    let mut s = sample();
    s.build.root = s.build.leaf(&[plain(b"a", b"v"), paged(b"b", s.branch)]);
    only(&check(&s.build), Kind::RootKey, &[], s.build.root);
    let mut s = sample();
    s.build.put(s.low, element(1), 4, 0x8000_0002);
    only(&check(&s.build), Kind::ElementFlags, &["b"], s.low);
}

#[test]
fn the_other_meta() {
    let mut s = sample();
    s.build.list(&[]);
    // Damaged.
    let mut file = s.build.file();
    file[PS + 16 + 50] ^= 1;
    let report = check_bytes(file.clone());
    only(&report, Kind::Meta, &[], 1);
    // Its page has another header.
    let mut file = s.build.file();
    file[PS] = 9;
    only(&check_bytes(file), Kind::Meta, &[], 1);
    // Right checksum, and nothing in it that can be.
    let mut second = s.build.meta(1);
    second.root = 99;
    let report = check_bytes(s.build.file_with(s.build.meta(2), second));
    only(&report, Kind::Meta, &[], 1);
    second.root = s.root;
    second.flags = 4;
    let report = check_bytes(s.build.file_with(s.build.meta(2), second));
    assert!(report.is_sound());
    assert_eq!(report.worst(), Some(Severity::Note));
}

#[test]
fn the_other_state_is_walked_when_this_one_is_damaged() {
    let mut s = sample();
    let old = s.build.meta(7);
    let low = s.build.leaf(&ten("acbde"));
    let branch = s.build.branch(&[(b"a", low), (b"f", s.high)]);
    s.build.root = s.build.leaf(&[paged(b"b", branch)]);
    let report = check_bytes(s.build.file_with(s.build.meta(8), old));
    has(&report, Kind::KeyOrder, &["b"], low);
    let other = report.other.expect("the other meta was looked at");
    assert!(other.is_sound(), "{other:?}");
    assert_eq!(other.slot, 1);
    assert!(matches!(
        other.state,
        OtherState::Walked {
            txid: 7,
            errors: 0,
            warnings: 0
        }
    ));

    s.build.put(s.high, 0, 8, 77);
    let snapshot = open(s.build.file_with(s.build.meta(8), old)).expect("opens");
    let other = other_meta(&snapshot, &mut |_| {});
    assert!(
        matches!(other.state, OtherState::Walked { errors: 1, .. }),
        "{other:?}"
    );
    let mut file = s.build.file_with(s.build.meta(8), old);
    file[PS + 16] = 0;
    let other = other_meta(&open(file).expect("opens"), &mut |_| {});
    assert!(matches!(other.state, OtherState::Invalid(_)), "{other:?}");
}

#[test]
fn a_file_that_was_cut() {
    let mut s = sample();
    s.build.root = s.root;
    let mut file = s.build.file();
    let whole = file.len();
    file.truncate(s.high as usize * PS + 100);
    let report = check_bytes(file);
    assert!(report.findings.iter().any(|f| f.kind == Kind::Truncated));
    has(&report, Kind::Unreadable, &[], s.root);
    assert!(report.free.is_none());
    // Only what nobody uses is gone.
    let mut s = sample();
    s.build.empty();
    let mut file = s.build.file();
    file.truncate(whole);
    let report = check_bytes(file);
    assert!(report.findings.iter().any(|f| f.kind == Kind::Truncated));
    assert_eq!(report.findings.count(Severity::Error), 1);
    // A high-water mark that no file vouches for costs no memory.
    s.build.hwm = Some(1 << 40);
    s.build.list(&[(1 << 40) - 1, 12345678]);
    let report = check_bytes(s.build.file());
    assert!(report.findings.iter().any(|f| f.kind == Kind::Truncated));
    assert_eq!(report.counts.keys, 10);
}

#[test]
fn what_follows_the_pages_in_use() {
    let mut s = sample();
    s.build.list(&[]);
    let file = s.build.file();
    let with = |tail: &[u8]| check_bytes([&file[..], tail].concat());
    let report = with(&[0; 5000]);
    assert!(report.findings.is_empty(), "{}", all_text(&report));
    let report = with(b"interrupted");
    assert_eq!(report.worst(), Some(Severity::Note));

    let hash: [u8; 32] = Sha256::digest(&file).into();
    let report = with(&hash);
    assert_eq!(report.worst(), Some(Severity::Note));
    assert!(all_text(&report).contains("an etcd snapshot"));
    let mut wrong = hash;
    wrong[31] ^= 1;
    let report = with(&wrong);
    assert_eq!(report.worst(), Some(Severity::Warning));
    assert!(report.findings.iter().any(|f| f.kind == Kind::SnapshotHash));
}

#[test]
fn names_are_never_printed_raw() {
    let name = b"\x1b[2J\xe2\x80\xae\n/..";
    let mut build = Build::new(PS);
    let leaf = build.leaf(&[plain(b"\x1b]0;x\x07", b""), plain(b"\x1b", b"")]);
    build.root = build.leaf(&[paged(name, leaf)]);
    let report = check(&build);
    has_path(&report, &[name]);
    let text = all_text(&report);
    let clean = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
    assert!(text.chars().all(clean), "{text:?}");
}

fn has_path(report: &Report, path: &[&[u8]]) {
    let is = |f: &Finding| f.path().iter().map(Vec::as_slice).eq(path.iter().copied());
    assert!(report.findings.iter().any(is), "{}", all_text(report));
}
