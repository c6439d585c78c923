//! What a person does a hundred thousand times over must take a hundred thousand times as long, not the square of it. Each
//! case takes about a second; were it quadratic, it would take many minutes, and the patience below would end it.

mod common;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use boltfs::overlay::Ino;
use boltfs::view::name;
use common::fs::{Fs, bucket, tree, value};
use common::tree::{Node, Tree};

const MANY: usize = 100_000;
/// Far more than a loaded machine takes, far less than the square of [`MANY`].
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `work`, and fails the test if it is not over when patience is.
fn in_time(work: impl FnOnce() + Send + 'static) {
    let (over, wait) = mpsc::channel();
    let worker = thread::spawn(move || {
        work();
        let _ = over.send(());
    });
    match wait.recv_timeout(PATIENCE) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("not over after {PATIENCE:?}"),
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => worker.join().expect("it succeeds"),
    }
}

/// A bucket `b` with [`MANY`] keys, by `key`.
fn full(key: impl Fn(usize) -> Vec<u8>) -> Tree {
    let nodes = (0..MANY).map(|n| (key(n), Node::Value(b"value".to_vec())));
    let b = Tree {
        seq: 0,
        nodes: nodes.collect(),
    };
    tree([("b", Node::Bucket(b))])
}

fn number(n: usize) -> Vec<u8> {
    format!("key-{n:06}").into_bytes()
}

/// The first `room` names of `dir` behind `cookie`, and where they end.
fn names(fs: &Fs, dir: Ino, cookie: u64, room: usize) -> (Vec<Vec<u8>>, u64) {
    let (mut names, mut end) = (Vec::new(), cookie);
    let listed = fs.vfs.readdir(dir, cookie, &mut |entry| {
        end = entry.cookie;
        if entry.name != b"." && entry.name != b".." {
            names.push(entry.name.to_vec());
        }
        names.len() < room
    });
    listed.expect("it can be listed");
    (names, end)
}

#[test]
fn a_directory_that_is_emptied_while_it_is_read() {
    in_time(|| {
        let mut fs = Fs::new(&full(number));
        let dir = fs.at("b").expect("it is there");
        let (mut cookie, mut removed) = (0, 0);
        loop {
            let (names, end) = names(&fs, dir, cookie, 1);
            let Some(name) = names.first() else { break };
            fs.vfs.unlink(dir, name).expect("it is there");
            (cookie, removed) = (end, removed + 1);
        }
        assert_eq!(removed, MANY);
        assert!(fs.ls("b").is_empty());
        assert_eq!(fs.commit().nodes.len(), 1);
    });
}

#[test]
fn a_directory_whose_first_entry_is_taken_out_until_there_is_none() {
    in_time(|| {
        let fs = Fs::new(&full(number));
        let dir = fs.at("b").expect("it is there");
        let mut removed = 0;
        while let Some(name) = names(&fs, dir, 0, 1).0.first() {
            fs.vfs.unlink(dir, name).expect("it is there");
            removed += 1;
        }
        assert_eq!(removed, MANY);
    });
}

#[test]
fn a_directory_that_is_filled_and_emptied_file_by_file() {
    in_time(|| {
        let mut fs = Fs::new(&tree([("b", bucket([]))]));
        let dir = fs.at("b").expect("it is there");
        for n in 0..MANY {
            let made = fs.vfs.create(dir, &number(n), 0o644, 0, 0);
            made.expect("it can be made");
        }
        assert_eq!(fs.ls("b").len(), MANY);
        for n in 0..MANY {
            fs.vfs.unlink(dir, &number(n)).expect("it is there");
        }
        assert!(fs.ls("b").is_empty());
        fs.commit();
    });
}

#[test]
fn a_file_that_is_appended_to() {
    in_time(|| {
        const LINE: &[u8] = b"one hundred bytes, more or less, are what a line of a log has; this one has a few less than that\n";
        let mut fs = Fs::new(&tree([("b", bucket([("log", value(LINE))]))]));
        fs.keep_journal();
        let ino = fs.at("b/log").expect("it is there");
        for n in 1..MANY {
            let end = (n * LINE.len()) as u64;
            fs.vfs
                .write(ino, end, LINE, false)
                .expect("it can be written");
        }
        let after = fs.commit();
        let expected = tree([("b", bucket([("log", value(LINE.repeat(MANY)))]))]);
        expected.assert_same(&after, "the database after the commit");
    });
}

#[test]
fn long_names_that_share_a_prefix() {
    in_time(|| {
        let key = |n: usize| [&b"x".repeat(400)[..], &number(n)].concat();
        let mut fs = Fs::new(&full(key));
        let dir = fs.at("b").expect("it is there");
        for n in 0..MANY {
            let name = name::encode(&key(n), false);
            assert!(name.len() <= 255);
            let found = fs.vfs.lookup(dir, &name).expect("it is there");
            if n % 2 == 0 {
                let written = fs.vfs.write(found.ino, 0, b"V", false);
                written.expect("it can be written");
            }
        }
        let after = fs.commit();
        let Some(Node::Bucket(b)) = after.nodes.get(&b"b"[..]) else {
            panic!("the bucket is gone");
        };
        let changed = b
            .nodes
            .values()
            .filter(|node| matches!(node, Node::Value(v) if v == b"Value"));
        assert_eq!((b.nodes.len(), changed.count()), (MANY, MANY / 2));
    });
}

#[test]
fn buckets_made_inside_each_other_and_beside_each_other() {
    in_time(|| {
        let mut fs = Fs::new(&tree([("b", bucket([]))]));
        let mut dir = fs.at("b").expect("it is there");
        for n in 0..MANY {
            let made = fs.vfs.mkdir(dir, &number(n), 0o755, 0, 0);
            let made = made.expect("it can be made");
            if n % 100 == 0 {
                dir = made.ino;
            }
        }
        assert_eq!(fs.vfs.pending_count().expect("it is sound"), MANY as u64);
        fs.try_commit().expect("it can be committed");
        assert_eq!(fs.vfs.pending_count().expect("it is sound"), 0);
    });
}
