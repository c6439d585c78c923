//! Every database of tests/fixtures against MANIFEST.json: what is sound is read exactly, what is damaged is named, and
//! nothing that lies beside the damage is lost.

mod common;

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use boltfs::bolt::{Bucket, Map, OpenOptions, Snapshot};
use serde_json::{Map as Object, Value, json};
use sha2::{Digest, Sha256};

use common::read::{self, Reading, show};
use common::rng::seeded;
use common::tree::{from_hex, to_hex};
use common::{Fixture, Node, Oracle, TempDir, Tree};

/// The content of a bucket in the manifest's form.
fn described(bucket: Bucket<'_>) -> Value {
    let (mut keys, mut buckets) = (Object::new(), Object::new());
    for element in bucket.iter() {
        let element = element.expect("the bucket is readable");
        let name = to_hex(element.key);
        if element.is_bucket() {
            let sub = bucket
                .sub_bucket(&element)
                .expect("the sub-bucket is readable");
            buckets.insert(name, described(sub));
        } else {
            let sum = to_hex(&Sha256::digest(element.value));
            keys.insert(name, json!({"len": element.value.len(), "sha256": sum}));
        }
    }
    json!({"seq": bucket.sequence(), "inline": bucket.at().is_inline(), "keys": keys, "buckets": buckets})
}

fn is_refused_by_design(fixture: &Fixture) -> bool {
    fixture.text("byte_order") == "big"
}

#[test]
fn the_files_are_those_of_the_manifest() {
    let mut count = 0;
    for fixture in Fixture::all() {
        let (_dir, file) = fixture.copy();
        let bytes = fs::read(&file).unwrap();
        assert_eq!(
            Some(bytes.len() as u64),
            fixture.number("size"),
            "{}",
            fixture.name()
        );
        assert_eq!(
            to_hex(&Sha256::digest(&bytes)),
            fixture.text("sha256"),
            "{}",
            fixture.name()
        );
        count += 1;
    }
    assert_eq!(count, 106);
}

#[test]
fn sound_and_recoverable_files_read_exactly() {
    for class in ["healthy", "quirk", "recoverable"] {
        for fixture in Fixture::of_class(class).filter(|f| !is_refused_by_design(f)) {
            let name = fixture.name();
            let (_dir, file) = fixture.copy();
            let snapshot = read::open(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
            let reading = read::read(&snapshot);
            assert!(reading.errors.is_empty(), "{name}: {:?}", reading.errors);
            assert!(
                reading.lost.is_empty(),
                "{name}: look-up misses {:?}",
                reading.lost
            );
            assert!(reading.doubled.is_empty(), "{name}: {:?}", reading.doubled);
            assert_eq!(
                described(snapshot.root()),
                fixture.entry["content"],
                "{name}"
            );
        }
    }
}

#[test]
fn metas_and_freelists_are_those_of_the_manifest() {
    // Freelists whose page says nothing that could be believed.
    let unreadable = [
        "freelist-zeroed.db",
        "freelist-count-huge.db",
        "freelist-count-past-page.db",
    ];
    for class in ["healthy", "quirk", "recoverable"] {
        for fixture in Fixture::of_class(class).filter(|f| !is_refused_by_design(f)) {
            let name = fixture.name();
            let (_dir, file) = fixture.copy();
            let snapshot = read::open(&file).unwrap();
            let meta = snapshot.meta();
            assert_eq!(
                Some(snapshot.page_size() as u64),
                fixture.number("page_size"),
                "{name}"
            );
            assert_eq!(
                Some(u64::from(snapshot.slot())),
                fixture.number("active_meta"),
                "{name}"
            );
            assert_eq!(Some(meta.txid), fixture.number("txid"), "{name}");
            assert_eq!(Some(meta.root), fixture.number("root_pgid"), "{name}");
            assert_eq!(Some(meta.hwm), fixture.number("hwm"), "{name}");
            match snapshot.freelist() {
                Ok(None) => assert_eq!(fixture.text("freelist"), "none", "{name}"),
                Ok(Some(ids)) => {
                    assert_eq!(
                        meta.freelist.to_string(),
                        fixture.text("freelist"),
                        "{name}"
                    );
                    assert_eq!(
                        Some(ids.len() as u64),
                        fixture.number("free_count"),
                        "{name}"
                    );
                }
                Err(error) => {
                    assert!(unreadable.contains(&name), "{name}: {error}");
                    let text = error.to_string();
                    assert!(
                        text.contains(&format!("page {}", meta.freelist)),
                        "{name}: {text}"
                    );
                }
            }
        }
    }
}

#[test]
fn bbolt_reads_the_same_from_healthy_files() {
    let oracle = Oracle::new();
    for fixture in Fixture::of_class("healthy") {
        let (_dir, file) = fixture.copy();
        let theirs = oracle
            .dump(&file)
            .unwrap_or_else(|e| panic!("{}: {e}", fixture.name()));
        theirs.assert_same(&read::read_all(&file), fixture.name());
        oracle.assert_sound(&file);
    }
}

#[test]
fn a_big_endian_file_is_refused_and_says_why() {
    let (_dir, file) = Fixture::named("big-endian-s390x.db").copy();
    let text = refusal(&file);
    assert!(text.contains("big-endian"), "{text}");
}

/// Files that cannot be opened at all, and what the message must say.
const REFUSED: &[(&str, &str)] = &[
    (
        "meta-both-version-3.db",
        "version mismatch: the file has format version 3",
    ),
    ("meta-checksum-zero.db", "checksum error"),
    ("meta-root-past-hwm.db", "page 23 as the root"),
    ("meta-hwm-huge.db", "high-water mark 4611686018427387904"),
    ("meta-pagesize-0.db", "invalid page size 0"),
    ("meta-pagesize-mismatch.db", "page sizes (4096 and 1024)"),
    (
        "truncated-2-pages.db",
        "truncated: the meta page says 18432 bytes are in use, the file has 2048",
    ),
    ("zero-length.db", "empty (0 bytes)"),
    ("random-16k.db", "not a bbolt database"),
];

/// Files of which a part cannot be read: where the error must appear, what it must say, and how many entries of bucket
/// `bad`, which has 63 when it is sound, must stay readable. The tree of `bad` is a branch, page 10, over six leaves.
struct Damaged(&'static str, &'static str, &'static str, usize);

const DAMAGED: &[Damaged] = &[
    Damaged(
        "cycle-branch-self.db",
        "/bad",
        "page 10 is its own ancestor",
        52,
    ),
    Damaged(
        "cycle-branch-ancestor.db",
        "/bad",
        "page 10 is its own ancestor",
        52,
    ),
    Damaged(
        "leaf-count-0.db",
        "/bad",
        "page 6 says it is empty but holds data",
        52,
    ),
    Damaged("leaf-flags-0.db", "/bad", "page 6 has flags 0x0", 52),
    Damaged(
        "leaf-flags-branch-and-leaf.db",
        "/bad",
        "page 9 has flags 0x3",
        52,
    ),
    Damaged(
        "leaf-flags-freelist.db",
        "/bad",
        "page 6 has flags 0x10",
        52,
    ),
    Damaged("leaf-flags-8.db", "/bad", "page 6 has flags 0x8", 52),
    Damaged(
        "leaf-flags-leaf-and-high-bit.db",
        "/bad",
        "page 6 has flags 0x8002",
        52,
    ),
    Damaged(
        "page-id-mismatch.db",
        "/bad",
        "page 6 carries the number of page 7",
        52,
    ),
    Damaged("page-zeroed.db", "/bad", "page 9 is all zeros", 52),
    Damaged("branch-zeroed.db", "/bad", "page 13 is all zeros", 0),
    Damaged(
        "branch-child-huge.db",
        "/bad",
        "page 18014398509481983 is outside",
        52,
    ),
    Damaged("branch-child-meta.db", "/bad", "page 0 is outside", 52),
    Damaged(
        "branch-count-0.db",
        "/bad",
        "page 10 is a branch page without a child",
        0,
    ),
    Damaged(
        "branch-count-too-large.db",
        "/bad",
        "page 10 claims 4000 elements",
        0,
    ),
    Damaged(
        "leaf-count-too-large.db",
        "/bad",
        "page 6 claims 65534 elements",
        52,
    ),
    Damaged(
        "leaf-overflow-huge.db",
        "/bad",
        "page 6 claims 4294967295 overflow pages",
        52,
    ),
    Damaged(
        "elem-pos-past-page.db",
        "/bad",
        "page 6 has element 1 reaching outside",
        62,
    ),
    Damaged(
        "elem-pos-past-file.db",
        "/bad",
        "page 6 has element 1 reaching outside",
        62,
    ),
    Damaged(
        "elem-pos-max.db",
        "/bad",
        "page 6 has element 1 reaching outside",
        62,
    ),
    Damaged(
        "elem-ksize-past-page.db",
        "/bad",
        "page 9 has element 1 reaching outside",
        62,
    ),
    Damaged(
        "elem-vsize-max.db",
        "/bad",
        "page 6 has element 1 reaching outside",
        62,
    ),
    Damaged("bucket-root-past-hwm.db", "/bad", "page 19 is outside", 0),
    Damaged(
        "bucket-root-is-freelist.db",
        "/bad",
        "page 17 has flags 0x10",
        0,
    ),
    Damaged("bucket-value-short.db", "/bad", "damaged (8 bytes)", 0),
    Damaged("inline-short.db", "/bad/tiny", "damaged (24 bytes)", 63),
    Damaged(
        "inline-root-0-no-page.db",
        "/bad/tiny",
        "damaged (16 bytes)",
        63,
    ),
    Damaged("inline-wrong-flags.db", "/bad/tiny", "has flags 0x1", 63),
    Damaged(
        "inline-count-large.db",
        "/bad/tiny",
        "claims 50 elements",
        63,
    ),
    Damaged(
        "inline-pos-past-value.db",
        "/bad/tiny",
        "has element 0 reaching outside",
        63,
    ),
    Damaged(
        "bucket-flag-on-plain.db",
        "/bad/key-011",
        "is outside the pages in use",
        63,
    ),
];

/// Files whose damage plain reading need not see; what is read must be what the pages hold, once each.
const UNSEEN: &[&str] = &[
    "shared-bucket-root.db",
    "leaf-unsorted.db",
    "branch-unsorted.db",
    "leaf-key-past-next.db",
    "page-stale.db",
    "leaf-overflow-1.db",
];

#[test]
fn every_corrupt_file_is_dealt_with_below() {
    let mut listed: Vec<&str> = REFUSED.iter().map(|(name, _)| *name).collect();
    listed.extend(DAMAGED.iter().map(|damaged| damaged.0));
    listed.extend(UNSEEN);
    listed.sort_unstable();
    let mut corrupt: Vec<&str> = Fixture::of_class("corrupt").map(|f| f.name()).collect();
    corrupt.sort_unstable();
    assert_eq!(listed, corrupt);
}

#[test]
fn files_without_a_usable_meta_are_refused() {
    for &(name, words) in REFUSED {
        let (_dir, file) = Fixture::named(name).copy();
        let text = refusal(&file);
        assert!(text.contains(words), "{name}: {text}");
    }
}

#[test]
fn damage_is_named_and_all_else_is_readable() {
    let sound = sound_content();
    for &Damaged(name, place, words, readable) in DAMAGED {
        let fixture = Fixture::named(name);
        let (reading, snapshot) = reading_of(&fixture);
        let place_found = reading.errors.iter().any(|(path, error)| {
            show(path) == place
                && error.to_string().contains(words)
                && error.to_string().contains("page ")
        });
        assert!(
            place_found,
            "{name}: no {words:?} at {place}, but {:?}",
            reading.errors
        );
        let bad_path = fixture.entry["bad_path"]
            .as_array()
            .expect("a damaged file has a bad path");
        let bad_path: Vec<_> = bad_path
            .iter()
            .map(|name| from_hex(name.as_str().unwrap()))
            .collect();
        // One error, at the damaged place: every name that is listed is also found by look-up.
        let places: Vec<_> = reading.errors.iter().map(|(path, _)| path).collect();
        assert_eq!(places, [&bad_path], "{name}: {:?}", reading.errors);
        assert_eq!(show(&bad_path), place, "{name}");
        assert!(reading.lost.is_empty(), "{name}: {:?}", reading.lost);
        let bad = reading
            .tree
            .bucket(&[b"bad".to_vec()])
            .expect("the name of the bad bucket is readable");
        assert_eq!(bad.nodes.len(), readable, "{name}: entries of bad");
        nothing_is_invented(name, &reading, &sound);
        undamaged_part_is_exact(&fixture, &snapshot);
    }
}

#[test]
fn damage_that_reading_cannot_see_loses_nothing() {
    let sound = sound_content();
    for &name in UNSEEN {
        let fixture = Fixture::named(name);
        let (reading, snapshot) = reading_of(&fixture);
        undamaged_part_is_exact(&fixture, &snapshot);
        let bad = reading.tree.bucket(&[b"bad".to_vec()]).unwrap();
        // How many entries the pages of bad hold, and how many of them no look-up by key can reach.
        let (entries, lost) = match name {
            // Both buckets show the content of good.
            "shared-bucket-root.db" => (sound.bucket(&[b"good".to_vec()]).unwrap().nodes.len(), 0),
            // One leaf of 11 entries is an old page with one key, which sorts before its place.
            "page-stale.db" => (53, 1),
            // The last key of a leaf sorts behind the leaves that follow.
            "leaf-key-past-next.db" => (63, 1),
            _ => (63, 0),
        };
        assert_eq!(
            (bad.nodes.len(), reading.lost.len()),
            (entries, lost),
            "{name}"
        );
        for (path, error) in &reading.errors {
            assert!(
                path.starts_with(&[b"bad".to_vec()]),
                "{name}: {}: {error}",
                show(path)
            );
            assert!(
                error.to_string().contains("out of order"),
                "{name}: {}: {error}",
                show(path)
            );
        }
    }
}

/// What the damaged files held before they were damaged.
fn sound_content() -> Tree {
    let (_dir, file) = Fixture::named("freelist-missing.db").copy();
    read::read_all(&file)
}

fn reading_of(fixture: &Fixture) -> (Reading, Snapshot) {
    let (_dir, file) = fixture.copy();
    let started = Instant::now();
    let snapshot = read::open(&file).unwrap_or_else(|e| panic!("{}: {e}", fixture.name()));
    let reading = read::read(&snapshot);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{}: took {:?}",
        fixture.name(),
        started.elapsed()
    );
    (reading, snapshot)
}

/// The manifest's content of a corrupt file is the part that must stay readable.
fn undamaged_part_is_exact(fixture: &Fixture, snapshot: &Snapshot) {
    let expected = fixture.entry["content"]["buckets"]
        .as_object()
        .expect("there is an undamaged part");
    assert!(!expected.is_empty(), "{}", fixture.name());
    for (name, content) in expected {
        let element = snapshot
            .root()
            .get(&from_hex(name))
            .unwrap()
            .expect("the bucket is found");
        let bucket = snapshot.root().sub_bucket(&element).unwrap();
        assert_eq!(
            &described(bucket),
            content,
            "{}: bucket {name}",
            fixture.name()
        );
    }
}

/// Whatever is read from a damaged bucket was there, with that value.
fn nothing_is_invented(name: &str, reading: &Reading, sound: &Tree) {
    let bad = [b"bad".to_vec()];
    let sound = sound.bucket(&bad).unwrap();
    for (key, node) in &reading.tree.bucket(&bad).unwrap().nodes {
        match (node, sound.nodes.get(key)) {
            (_, None) => panic!("{name}: {} was never there", key.escape_ascii()),
            (Node::Value(found), Some(Node::Value(value))) => {
                assert_eq!(found, value, "{name}: {}", key.escape_ascii());
            }
            (Node::Value(_), Some(Node::Bucket(_))) => {
                panic!("{name}: {} was a bucket", key.escape_ascii())
            }
            // A bucket whose content is damaged is empty here; a key that carries the bucket flag reads as one.
            (Node::Bucket(found), other) => {
                let same = matches!(other, Some(Node::Bucket(sub)) if sub == found);
                assert!(
                    same || found.nodes.is_empty(),
                    "{name}: {}",
                    key.escape_ascii()
                );
            }
        }
    }
}

fn refusal(file: &Path) -> String {
    match read::open(file) {
        Ok(_) => panic!("{} is opened", file.display()),
        Err(error) => error.to_string(),
    }
}

/// Any bytes may be in a file: reading ends, and ends without a panic.
#[test]
fn random_damage_never_panics() {
    let originals: Vec<Vec<u8>> = Fixture::all()
        .filter(|fixture| {
            fixture
                .number("size")
                .is_some_and(|size| (4096..=65536).contains(&size))
        })
        .map(|fixture| {
            let (_dir, file) = fixture.copy();
            fs::read(file).unwrap()
        })
        .collect();
    let dir = TempDir::new("damage");
    let file = dir.join("db");
    seeded(3000, |seed, rng| {
        let mut bytes = rng.pick(&originals).clone();
        for _ in 0..rng.range(1, 8) {
            // Most of the file is data; the numbers that matter lie at the start of pages.
            let at = match rng.below(3) {
                0 => rng.below(bytes.len()),
                1 => rng.below(bytes.len() / 1024) * 1024 + rng.below(80),
                _ => rng.below(bytes.len() / 1024) * 1024 + rng.below(8) * 16 + rng.below(16),
            };
            let small = [rng.below(20) as u8, 0, 0xff];
            let byte = if rng.one_in(2) {
                *rng.pick(&small)
            } else {
                rng.next() as u8
            };
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
        }
        if rng.one_in(10) {
            bytes.truncate(rng.below(bytes.len()));
        }
        fs::write(&file, &bytes).unwrap();
        let started = Instant::now();
        let map = Map::of(&File::open(&file).unwrap());
        for options in [
            OpenOptions::default(),
            OpenOptions {
                allow_truncated: true,
                ..OpenOptions::default()
            },
            OpenOptions {
                meta: Some(rng.below(2) as u8),
                allow_truncated: true,
            },
        ] {
            if let Ok(snapshot) = map
                .as_ref()
                .map_err(|e| e.to_string())
                .and_then(|map| Snapshot::open(map.clone(), options).map_err(|e| e.to_string()))
            {
                let _ = read::read(&snapshot);
                let _ = snapshot.freelist().map(|ids| ids.map(|ids| ids.count()));
            }
        }
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "seed {seed}: took {:?}",
            started.elapsed()
        );
    });
}

/// The member of the sample that README.md says the story removes.
#[test]
fn the_sample_has_the_member_that_the_readme_names() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tree = read::read_all(&project.join("tests/fixtures/etcd-sample.db"));
    let members = tree.bucket(&[b"members".to_vec()]).unwrap();
    let nameless = members.nodes.iter().filter(|(_, node)| match node {
        Node::Value(value) => !String::from_utf8_lossy(value).contains("name"),
        Node::Bucket(_) => false,
    });
    let nameless: Vec<_> = nameless.map(|(key, _)| key).collect();
    let [dead] = nameless[..] else {
        panic!("{nameless:?}")
    };
    let readme = fs::read_to_string(project.join("README.md")).unwrap();
    let named = format!(
        "`tests/fixtures/etcd-sample.db`, it is\n`members/{}`",
        String::from_utf8_lossy(dead)
    );
    assert!(readme.contains(&named), "{named}");
}
