//! The oracle itself: that it says what bbolt says, and that the plain map of the tests means the same as bbolt.

mod common;

use std::fs;

use common::oracle::Failure;
use common::rng::seeded;
use common::{Bulk, Edit, Node, Options, Oracle, Rng, TempDir, Tree};

#[test]
fn what_is_put_comes_back() {
    let oracle = Oracle::new();
    let dir = TempDir::new("oracle");
    let file = dir.join("db");
    let mut inner = Tree {
        seq: 7,
        ..Tree::default()
    };
    inner.nodes.insert(vec![0, 0xff], Node::Value(vec![]));
    inner
        .nodes
        .insert(b"deep".to_vec(), Node::Bucket(Tree::default()));
    let mut tree = Tree::default();
    tree.nodes.insert(b"outer/".to_vec(), Node::Bucket(inner));
    oracle
        .create(
            &file,
            &tree,
            Options {
                page_size: Some(1024),
                ..Options::default()
            },
        )
        .unwrap();
    tree.assert_same(&oracle.dump(&file).unwrap(), "dump");
    oracle.assert_sound(&file);
    assert_eq!(oracle.stats(&file).unwrap()["page_size"], 1024);
    assert!(
        oracle
            .pages(&file)
            .unwrap()
            .iter()
            .any(|page| page.kind == "freelist")
    );
}

#[test]
fn errors_and_panics_are_told_and_survived() {
    let oracle = Oracle::new();
    let dir = TempDir::new("oracle");
    let file = dir.join("db");
    assert!(
        matches!(oracle.dump(&file), Err(Failure::Error(text)) if text.contains("no such file"))
    );
    assert!(!file.exists());
    let path = vec![b"missing".to_vec()];
    let edit = Edit::Put {
        path,
        key: b"k".to_vec(),
        value: vec![],
    };
    let failure = oracle
        .edit(&file, &[vec![edit]], Options::default())
        .unwrap_err();
    assert!(
        matches!(&failure, Failure::Error(text) if text.contains("bucket not found")),
        "{failure}"
    );

    // A bucket whose root lies far out: bbolt's check dies in a goroutine of its own.
    let mut tree = Tree::default();
    let mut bucket = Tree::default();
    bucket
        .nodes
        .insert(b"k".to_vec(), Node::Value(vec![b'v'; 3000]));
    tree.nodes.insert(b"victim".to_vec(), Node::Bucket(bucket));
    let broken = dir.join("broken");
    oracle.create(&broken, &tree, Options::default()).unwrap();
    let mut bytes = fs::read(&broken).unwrap();
    let at = bytes.windows(6).rposition(|w| w == b"victim").unwrap() + 6;
    bytes[at..at + 8].copy_from_slice(&0x1_0000_0000_0000u64.to_le_bytes());
    fs::write(&broken, bytes).unwrap();
    assert!(matches!(oracle.check(&broken), Err(Failure::Panic(_))));
    assert!(
        oracle.check(&file).is_ok(),
        "the next request is answered by a new process"
    );
}

#[test]
fn the_plain_map_means_what_bbolt_means() {
    let oracle = Oracle::new();
    seeded(60, |seed, rng| {
        let dir = TempDir::new("map");
        let file = dir.join("db");
        let options = Options {
            page_size: Some(*rng.pick(&[512, 1024, 4096])),
            hashmap: rng.one_in(2),
            no_freelist_sync: rng.one_in(2),
            no_sync: true,
            ..Options::default()
        };
        let mut tree = Tree::default();
        // Below 1024 bytes a page a fresh file is too short for bbolt to open again until it has grown.
        let name = b"grown".to_vec();
        let growth = [
            Edit::CreateBucket {
                path: vec![name.clone()],
            },
            Edit::Put {
                path: vec![name],
                key: b"k".to_vec(),
                value: vec![0; 4096],
            },
        ];
        growth.iter().for_each(|edit| tree.apply(edit).unwrap());
        oracle.edit(&file, &[growth.to_vec()], options).unwrap();
        for _ in 0..rng.range(1, 5) {
            let edits: Vec<Edit> = (0..rng.range(1, 40))
                .filter_map(|_| valid_edit(rng, &mut tree))
                .collect();
            oracle
                .edit(&file, &[edits], options)
                .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        }
        tree.assert_same(&oracle.dump(&file).unwrap(), "bbolt against the map");
        oracle.assert_sound(&file);
        let probe = oracle.probe(&file, options).unwrap();
        assert_eq!(
            (probe.before, probe.write, probe.after),
            (vec![], Ok(()), vec![])
        );
    });
}

/// An edit that the tree accepts, applied to it.
fn valid_edit(rng: &mut Rng, tree: &mut Tree) -> Option<Edit> {
    let paths = tree.bucket_paths();
    let mut path = if paths.is_empty() || rng.one_in(8) {
        vec![]
    } else {
        rng.pick(&paths).clone()
    };
    let key = vec![b'a' + rng.below(12) as u8; rng.range(1, 3)];
    let size = if rng.one_in(6) {
        rng.below(5000)
    } else {
        rng.below(60)
    };
    let edit = match rng.below(10) {
        0..=5 => Edit::Put {
            path,
            key,
            value: rng.bytes(size),
        },
        6 => Edit::Delete { path, key },
        7 => Edit::SetSequence {
            path,
            seq: rng.next(),
        },
        8 if rng.one_in(3) => Edit::DeleteBucket { path },
        _ => {
            path.push(key);
            Edit::CreateBucket { path }
        }
    };
    tree.apply(&edit).is_ok().then_some(edit)
}

#[test]
fn bulk_databases_are_the_same_for_the_same_seed() {
    let oracle = Oracle::new();
    let dir = TempDir::new("bulk");
    let bulk = Bulk {
        buckets: 2,
        depth: 1,
        keys: 3000,
        value: 100,
        kind: "json",
        seed: 5,
        ..Bulk::default()
    };
    let (a, b) = (dir.join("a"), dir.join("b"));
    oracle.create_bulk(&a, &bulk, Options::default()).unwrap();
    oracle.create_bulk(&b, &bulk, Options::default()).unwrap();
    let content = oracle.dump(&a).unwrap();
    assert_eq!(content.count(), (12000, 4));
    content.assert_same(&oracle.dump(&b).unwrap(), "twice the same seed");
    let value = content
        .value(&[b"bucket-000000".to_vec()], b"key-00000000")
        .unwrap();
    serde_json::from_slice::<serde_json::Value>(value).expect("values of kind json are JSON");
    oracle.assert_sound(&a);
}
