//! Random edits made through a real mount, as a program would make them, and on a plain map beside it. What the commit
//! writes is judged by bbolt: the content must be the map's, its check must find nothing, and it must be able to write on.

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use common::rng::seeded;
use common::tree::to_hex;
use common::{Edit, Mount, Node, Options, Oracle, Rng, TempDir, Tree};

type Path = Vec<Vec<u8>>;

/// Keys are text that stands for itself, or bytes that no text has.
fn random_key(rng: &mut Rng) -> Vec<u8> {
    if rng.one_in(4) {
        vec![0, rng.below(40) as u8, 0xff]
    } else {
        let length = if rng.one_in(10) {
            rng.range(30, 200)
        } else {
            rng.range(1, 3)
        };
        (0..length).map(|_| b'a' + rng.below(4) as u8).collect()
    }
}

fn random_value(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.below(10) {
        0 => 0,
        1 => rng.below(20_000),
        2 => rng.below(2_000),
        _ => rng.below(100),
    };
    rng.bytes(length)
}

fn file_name(key: &[u8]) -> Vec<u8> {
    if key.first() == Some(&0) {
        format!("0x{}", to_hex(key)).into_bytes()
    } else {
        key.to_vec()
    }
}

fn place(mount: &Mount, path: &[Vec<u8>]) -> PathBuf {
    let names = path
        .iter()
        .map(|key| PathBuf::from(std::ffi::OsString::from_vec(file_name(key))));
    std::iter::once(mount.path().to_path_buf())
        .chain(names)
        .collect()
}

fn below(path: &[Vec<u8>], key: &[u8]) -> Path {
    path.iter().cloned().chain([key.to_vec()]).collect()
}

/// One random edit, made in the mount and in the tree.
fn edit(rng: &mut Rng, mount: &Mount, tree: &mut Tree) {
    let buckets = tree.bucket_paths();
    let bucket = if buckets.is_empty() {
        vec![]
    } else {
        rng.pick(&buckets).clone()
    };
    let keys: Vec<Vec<u8>> = tree
        .bucket(&bucket)
        .unwrap()
        .nodes
        .keys()
        .cloned()
        .collect();
    // An entry that is there, or one that mostly is not.
    let key = if !keys.is_empty() && rng.one_in(2) {
        rng.pick(&keys).clone()
    } else {
        random_key(rng)
    };
    let target = place(mount, &below(&bucket, &key));
    let there = tree.bucket(&bucket).unwrap().nodes.get(&key).cloned();
    match (rng.below(12), there) {
        // A new bucket, in the root as well.
        (0, _) => {
            let parent = if rng.one_in(3) { vec![] } else { bucket };
            let path = below(&parent, &key);
            let made = fs::create_dir(place(mount, &path));
            let expected = tree.apply(&Edit::CreateBucket { path: path.clone() });
            assert_eq!(made.is_ok(), expected.is_ok(), "mkdir {path:?}: {made:?}");
        }
        (1, Some(Node::Bucket(_))) if rng.one_in(3) => {
            fs::remove_dir_all(&target).unwrap();
            tree.apply(&Edit::DeleteBucket {
                path: below(&bucket, &key),
            })
            .unwrap();
        }
        // A bucket moves, with all that is in it.
        (2 | 3, Some(Node::Bucket(moved))) => {
            let parents: Vec<Path> = buckets
                .iter()
                .filter(|path| !path.starts_with(&below(&bucket, &key)))
                .cloned()
                .collect();
            let parent = if rng.one_in(4) {
                vec![]
            } else {
                rng.pick(&parents).clone()
            };
            let name = random_key(rng);
            if tree.bucket(&parent).unwrap().nodes.contains_key(&name) {
                return;
            }
            fs::rename(&target, place(mount, &below(&parent, &name))).unwrap();
            tree.bucket_mut(&bucket).unwrap().nodes.remove(&key);
            tree.bucket_mut(&parent)
                .unwrap()
                .nodes
                .insert(name, Node::Bucket(moved));
        }
        (_, Some(Node::Bucket(_))) => {
            assert!(fs::remove_file(&target).is_err(), "unlink of a bucket");
            assert!(File::create(&target).is_err(), "writing to a bucket");
        }
        // The root takes no keys.
        _ if bucket.is_empty() => assert!(File::create(&target).is_err(), "a key in the root"),
        (0..=3, Some(Node::Value(_))) => {
            fs::remove_file(&target).unwrap();
            tree.apply(&Edit::Delete { path: bucket, key }).unwrap();
        }
        // A key moves, over another one perhaps.
        (4 | 5, Some(Node::Value(value))) => {
            let parent = rng.pick(&buckets).clone();
            let name = random_key(rng);
            if let Some(Node::Bucket(_)) = tree.bucket(&parent).unwrap().nodes.get(&name) {
                return;
            }
            fs::rename(&target, place(mount, &below(&parent, &name))).unwrap();
            if (&parent, &name) != (&bucket, &key) {
                tree.bucket_mut(&bucket).unwrap().nodes.remove(&key);
                tree.bucket_mut(&parent)
                    .unwrap()
                    .nodes
                    .insert(name, Node::Value(value));
            }
        }
        (6, Some(Node::Value(mut value))) => {
            let more = random_value(rng);
            OpenOptions::new()
                .append(true)
                .open(&target)
                .unwrap()
                .write_all(&more)
                .unwrap();
            value.extend(more);
            tree.apply(&Edit::Put {
                path: bucket,
                key,
                value,
            })
            .unwrap();
        }
        (7, Some(Node::Value(mut value))) => {
            let length = rng.below(3_000);
            OpenOptions::new()
                .write(true)
                .open(&target)
                .unwrap()
                .set_len(length as u64)
                .unwrap();
            value.resize(length, 0);
            tree.apply(&Edit::Put {
                path: bucket,
                key,
                value,
            })
            .unwrap();
        }
        // A write in the middle, or behind the end.
        (8, Some(Node::Value(mut value))) => {
            let (at, bytes) = (rng.below(3_000), rng.bytes(50));
            OpenOptions::new()
                .write(true)
                .open(&target)
                .unwrap()
                .write_all_at(&bytes, at as u64)
                .unwrap();
            value.resize(value.len().max(at + bytes.len()), 0);
            value[at..at + bytes.len()].copy_from_slice(&bytes);
            tree.apply(&Edit::Put {
                path: bucket,
                key,
                value,
            })
            .unwrap();
        }
        _ => {
            let value = random_value(rng);
            fs::write(&target, &value).unwrap();
            tree.apply(&Edit::Put {
                path: bucket,
                key,
                value,
            })
            .unwrap();
        }
    }
}

fn shown(directory: &std::path::Path) -> Tree {
    let mut tree = Tree::default();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_vec();
        let key = match name.strip_prefix(b"0x") {
            Some(hex) => common::tree::from_hex(std::str::from_utf8(hex).unwrap()),
            None => name,
        };
        let node = if entry.file_type().unwrap().is_dir() {
            Node::Bucket(shown(&entry.path()))
        } else {
            Node::Value(fs::read(entry.path()).unwrap())
        };
        tree.nodes.insert(key, node);
    }
    tree
}

/// A directory does not show a bucket's sequence.
fn without_sequences(tree: &Tree) -> Tree {
    let nodes = tree.nodes.iter().map(|(key, node)| match node {
        Node::Bucket(sub) => (key.clone(), Node::Bucket(without_sequences(sub))),
        value => (key.clone(), value.clone()),
    });
    Tree {
        seq: 0,
        nodes: nodes.collect(),
    }
}

#[test]
fn what_is_edited_in_a_mount_is_what_bbolt_finds() {
    let oracle = Oracle::new();
    seeded(15, |seed, rng| {
        let dir = TempDir::new("edits");
        let file = dir.join("db");
        let options = Options {
            page_size: Some(*rng.pick(&[1024, 4096, 16384])),
            hashmap: rng.one_in(2),
            no_freelist_sync: rng.one_in(3),
            no_sync: true,
            ..Options::default()
        };
        let mut tree = Tree::default();
        for _ in 0..rng.below(150) {
            let paths = tree.bucket_paths();
            let mut path = if paths.is_empty() || rng.one_in(9) {
                vec![]
            } else {
                rng.pick(&paths).clone()
            };
            let key = random_key(rng);
            let edit = match rng.below(8) {
                0 => Edit::SetSequence {
                    path,
                    seq: rng.next(),
                },
                1 => {
                    path.push(key);
                    Edit::CreateBucket { path }
                }
                _ => Edit::Put {
                    path,
                    key,
                    value: random_value(rng),
                },
            };
            let _ = tree.apply(&edit);
        }
        oracle.create(&file, &tree, options).unwrap();
        for round in 0..3 {
            let what = format!("seed {seed}, round {round}");
            let before = tree.clone();
            let mount = Mount::new(&file, &["--raw"]);
            for _ in 0..rng.range(1, 80) {
                edit(rng, &mount, &mut tree);
            }
            without_sequences(&tree).assert_same(
                &shown(mount.path()),
                &format!("{what}: what the mount shows"),
            );
            if rng.one_in(5) {
                let report = mount.umount_with(&["--discard"]).expect_success();
                assert!(report.stderr.contains("discard"), "{report}");
                tree = before;
            } else {
                mount.umount();
            }
            tree.assert_same(
                &oracle.dump(&file).unwrap(),
                &format!("{what}: what bbolt finds"),
            );
            oracle.assert_sound(&file);
            let probe = oracle.probe(&file, options).unwrap();
            assert_eq!(
                (probe.before, probe.write, probe.after),
                (vec![], Ok(()), vec![]),
                "{what}"
            );
            // And back: bbolt edits what we wrote.
            if let Some(path) = tree.bucket_paths().first() {
                let edit = Edit::Put {
                    path: path.clone(),
                    key: b"from bbolt".to_vec(),
                    value: rng.bytes(300),
                };
                tree.apply(&edit).unwrap();
                oracle.edit(&file, &[vec![edit]], options).unwrap();
            }
        }
    });
}
