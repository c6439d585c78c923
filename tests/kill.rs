//! The process dies at any moment: what had returned to its caller is there after recovery.

mod common;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use common::mount::boltfs;
use common::process::run;
use common::rng::seeded;
use common::{Mount, Node, Options, Oracle, Rng, TempDir, Tree};

/// One system call that changes the tree. Each is one request to the file system, so that it is done or not.
#[derive(Debug, Clone)]
enum Op {
    Create(PathBuf),
    Mkdir(PathBuf),
    Unlink(PathBuf),
    Rmdir(PathBuf),
    Rename(PathBuf, PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    Truncate(PathBuf, u64),
}

fn keys(path: &Path) -> Vec<Vec<u8>> {
    let names = path.iter().map(|name| name.as_encoded_bytes().to_vec());
    names.collect()
}

/// The bucket and key of a path.
fn split(path: &Path) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut keys = keys(path);
    let key = keys.pop().expect("a path has a name");
    (keys, key)
}

fn take(tree: &mut Tree, path: &Path) -> Node {
    let (bucket, key) = split(path);
    let bucket = tree.bucket_mut(&bucket).expect("the bucket is there");
    bucket.nodes.remove(&key).expect("the node is there")
}

fn put(tree: &mut Tree, path: &Path, node: Node) {
    let (bucket, key) = split(path);
    let bucket = tree.bucket_mut(&bucket).expect("the bucket is there");
    bucket.nodes.insert(key, node);
}

fn value<'a>(tree: &'a mut Tree, path: &Path) -> &'a mut Vec<u8> {
    let (bucket, key) = split(path);
    let bucket = tree.bucket_mut(&bucket).expect("the bucket is there");
    match bucket.nodes.get_mut(&key) {
        Some(Node::Value(value)) => value,
        other => panic!("{path:?} is {other:?}"),
    }
}

impl Op {
    /// What it does to the model.
    fn apply(&self, tree: &mut Tree) {
        match self {
            Op::Create(path) => put(tree, path, Node::Value(Vec::new())),
            Op::Mkdir(path) => put(tree, path, Node::Bucket(Tree::default())),
            Op::Unlink(path) | Op::Rmdir(path) => drop(take(tree, path)),
            Op::Rename(from, to) => {
                let node = take(tree, from);
                put(tree, to, node);
            }
            Op::Write(path, offset, data) => {
                let (value, start) = (value(tree, path), *offset as usize);
                value.resize(value.len().max(start + data.len()), 0);
                value[start..start + data.len()].copy_from_slice(data);
            }
            Op::Truncate(path, size) => value(tree, path).resize(*size as usize, 0),
        }
    }

    /// Does it below `root`.
    fn run(&self, root: &Path) -> io::Result<()> {
        match self {
            Op::Create(path) => OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(root.join(path))
                .map(drop),
            Op::Mkdir(path) => fs::create_dir(root.join(path)),
            Op::Unlink(path) => fs::remove_file(root.join(path)),
            Op::Rmdir(path) => fs::remove_dir(root.join(path)),
            Op::Rename(from, to) => fs::rename(root.join(from), root.join(to)),
            Op::Write(path, offset, data) => {
                let file = OpenOptions::new().write(true).open(root.join(path))?;
                let written = file.write_at(data, *offset)?;
                assert_eq!(written, data.len());
                Ok(())
            }
            Op::Truncate(path, size) => OpenOptions::new()
                .write(true)
                .open(root.join(path))?
                .set_len(*size),
        }
    }
}

/// All buckets and all keys below the root.
fn paths(tree: &Tree) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut buckets, mut keys) = (Vec::new(), Vec::new());
    let mut rest = vec![(PathBuf::new(), tree)];
    while let Some((path, tree)) = rest.pop() {
        for (key, node) in &tree.nodes {
            let path = path.join(std::str::from_utf8(key).expect("names here are text"));
            match node {
                Node::Value(_) => keys.push(path),
                Node::Bucket(sub) => {
                    buckets.push(path.clone());
                    rest.push((path, sub));
                }
            }
        }
    }
    (buckets, keys)
}

/// An operation that can be done on `tree`.
fn choose(rng: &mut Rng, tree: &Tree, serial: &mut u32) -> Op {
    let (buckets, keys) = paths(tree);
    *serial += 1;
    let new = |bucket: &Path| bucket.join(format!("n{serial}"));
    loop {
        let bucket = (!buckets.is_empty()).then(|| rng.pick(&buckets).clone());
        let key = (!keys.is_empty()).then(|| rng.pick(&keys).clone());
        return match (rng.below(12), bucket, key) {
            (0..=2, Some(bucket), _) => Op::Create(new(&bucket)),
            (3, Some(bucket), _) if bucket.iter().count() < 4 => Op::Mkdir(new(&bucket)),
            (3, None, _) => Op::Mkdir(new(Path::new(""))),
            (4, _, Some(key)) => Op::Unlink(key),
            (5, Some(bucket), _) => match tree.bucket(&self::keys(&bucket)) {
                Some(content) if content.nodes.is_empty() => Op::Rmdir(bucket),
                _ => continue,
            },
            (6, Some(bucket), Some(key)) => Op::Rename(key, new(&bucket)),
            (7, Some(bucket), _) => {
                let target = rng.pick(&buckets).clone();
                if target.starts_with(&bucket) {
                    continue;
                }
                Op::Rename(bucket, new(&target))
            }
            (8, _, Some(key)) => Op::Rename(key, rng.pick(&keys).clone()),
            (9, _, Some(key)) => Op::Truncate(key, rng.below(6000) as u64),
            (10.., _, Some(key)) => {
                // Inside one page: the kernel makes one request of it.
                let (page, start) = (rng.below(3) * 4096, rng.below(4000));
                let len = rng.range(1, 4096 - start);
                Op::Write(key, (page + start) as u64, rng.bytes(len))
            }
            _ => continue,
        };
    }
}

/// What was done before the process died.
struct Script {
    /// The tree after each operation that returned, the first before any.
    states: Vec<Tree>,
    /// The one that was under way.
    interrupted: Option<Op>,
    /// Index of the state at the last fsync that returned, and the journal's length then.
    synced: (usize, u64),
}

/// Runs random operations below `root` until the file system is gone.
fn busy(seed: u64, start: Tree, root: &Path, journal: &Path, sync: bool) -> Script {
    let mut rng = Rng::new(seed);
    let mut serial = 0;
    let mut script = Script {
        states: vec![start],
        interrupted: None,
        synced: (0, 0),
    };
    loop {
        let tree = script.states.last().expect("there is always one");
        let op = choose(&mut rng, tree, &mut serial);
        if let Err(e) = op.run(root) {
            let gone = [libc::ENOTCONN, libc::ECONNABORTED, libc::EINTR, libc::EIO];
            let gone = e.raw_os_error().is_some_and(|errno| gone.contains(&errno));
            assert!(gone, "{op:?} failed while the file system was there: {e}");
            script.interrupted = Some(op);
            return script;
        }
        let mut tree = tree.clone();
        op.apply(&mut tree);
        script.states.push(tree);
        if sync && rng.one_in(20) && File::open(root).and_then(|dir| dir.sync_all()).is_ok() {
            let len = fs::metadata(journal).map_or(0, |m| m.len());
            script.synced = (script.states.len() - 1, len);
        }
    }
}

fn first_tree(rng: &mut Rng) -> Tree {
    let mut tree = Tree::default();
    for bucket in 0..3 {
        let mut content = Tree::default();
        for key in 0..rng.below(40) {
            let value = rng.range(0, 300);
            content
                .nodes
                .insert(format!("k{key}").into(), Node::Value(rng.bytes(value)));
        }
        tree.nodes
            .insert(format!("b{bucket}").into(), Node::Bucket(content));
    }
    tree
}

/// A database on which a script ran until its mount was killed.
struct Killed {
    _dir: TempDir,
    database: PathBuf,
    journal: PathBuf,
    script: Script,
}

fn killed(seed: u64, rng: &mut Rng, sync: bool) -> Killed {
    let dir = TempDir::new("kill");
    let database = dir.join("db");
    let journal = dir.join("db.boltfs-journal");
    let tree = first_tree(rng);
    let options = Options::default();
    Oracle::shared()
        .create(&database, &tree, options)
        .expect("bbolt makes a database");
    let mount = Mount::new(&database, &["--raw"]);
    let root = mount.path().to_owned();
    let (done, script) = mpsc::channel();
    let path = journal.clone();
    std::thread::spawn(move || done.send(busy(seed, tree, &root, &path, sync)));
    std::thread::sleep(Duration::from_micros(rng.below(60_000) as u64));
    for pid in mount.processes() {
        run(Command::new("kill").args(["-9", &pid.to_string()])).expect_success();
    }
    let script = script.recv_timeout(Duration::from_secs(60));
    let script = script.expect("the script ends when the file system is gone");
    drop(mount);
    Killed {
        _dir: dir,
        database,
        journal,
        script,
    }
}

impl Killed {
    /// Recovers, commits, and reads the result with bbolt.
    fn recovered(&self) -> Tree {
        let mount = Mount::new(&self.database, &["--raw", "--recover"]);
        mount.umount();
        assert!(
            !self.journal.exists(),
            "the journal is still there after the commit"
        );
        let oracle = Oracle::shared();
        oracle.assert_sound(&self.database);
        oracle.dump(&self.database).expect("bbolt reads it")
    }
}

#[test]
fn every_operation_that_returned_is_there_after_a_kill() {
    let (mut kills, mut operations) = (0, 0);
    seeded(200, |seed, rng| {
        let killed = killed(seed, rng, false);
        let found = killed.recovered();
        let last = killed.script.states.last().expect("there is always one");
        if found != *last {
            let op = killed
                .script
                .interrupted
                .as_ref()
                .expect("the script was interrupted");
            let mut after = last.clone();
            op.apply(&mut after);
            after.assert_same(&found, "neither before nor after the interrupted operation");
        }
        kills += 1;
        operations += killed.script.states.len() - 1;
    });
    println!("{kills} kills, {operations} operations that had returned, none lost");
}

#[test]
fn every_operation_before_the_last_fsync_is_there_after_a_power_cut() {
    let (mut cuts, mut lost) = (0, 0);
    seeded(40, |seed, rng| {
        let killed = killed(seed, rng, true);
        let (state, len) = killed.script.synced;
        let journal = fs::read(&killed.journal).unwrap_or_default();
        if journal.len() < 48 {
            // Killed before the first operation was answered.
            assert_eq!(
                killed.script.states.len(),
                1,
                "operations returned without a journal"
            );
            return;
        }
        // What was not synced may have reached the disk in any part: kept up to some point, and behind it zeros or
        // rubbish, up to some length.
        // The header is durable before the first operation is answered.
        let (len, whole) = (len.max(48) as usize, journal.len());
        let kept = rng.range(len, whole);
        let mut torn = journal[..kept].to_vec();
        if rng.one_in(2) {
            torn.resize(rng.range(kept, whole), 0);
        } else {
            let rubbish = rng.range(0, 600).min(whole - kept);
            torn.extend(rng.bytes(rubbish));
        }
        fs::write(&killed.journal, torn).expect("the journal can be replaced");
        let found = killed.recovered();
        let after = killed.script.states[state..]
            .iter()
            .position(|tree| *tree == found);
        let mut last = killed
            .script
            .states
            .last()
            .expect("there is always one")
            .clone();
        if after.is_none() {
            // The interrupted operation was in the journal too.
            killed
                .script
                .interrupted
                .as_ref()
                .expect("it was interrupted")
                .apply(&mut last);
            last.assert_same(&found, "no state since the last fsync");
        }
        cuts += 1;
        lost += killed.script.states.len() - 1 - state - after.unwrap_or(0);
    });
    println!("{cuts} power cuts, {lost} operations after the last fsync lost, none before it");
}

#[test]
fn without_a_word_the_edits_of_a_killed_mount_are_neither_taken_up_nor_dropped() {
    let killed = killed(7, &mut Rng::new(7), false);
    let journal = fs::read(&killed.journal).expect("there is a journal");
    let before = fs::read(&killed.database).expect("the database is there");
    let mountpoint = TempDir::new("refused");
    let output = boltfs()
        .args(&["--raw"])
        .arg(&killed.database)
        .arg(mountpoint.path())
        .run();
    let output = output.expect_failure();
    assert_eq!(output.code(), Some(1));
    for word in [
        "never committed",
        "--recover",
        "--discard",
        "boltfs journal",
    ] {
        assert!(output.stderr.contains(word), "{output}");
    }
    assert_eq!(
        fs::read(&killed.journal).expect("there is a journal"),
        journal
    );

    let shown = boltfs()
        .args(&["journal"])
        .arg(&killed.journal)
        .run()
        .expect_success();
    assert!(shown.text().lines().count() > 1, "{shown}");

    // Looking without changing is always possible, and says what it does not show.
    let mount = Mount::new(&killed.database, &["--raw", "-r"]);
    assert!(mount.said.contains("never committed"), "{}", mount.said);
    mount.umount();
    assert_eq!(
        fs::read(&killed.journal).expect("there is a journal"),
        journal
    );

    let mount = Mount::new(&killed.database, &["--raw", "--discard"]);
    assert!(mount.said.contains("dropped"), "{}", mount.said);
    mount.umount();
    assert!(!killed.journal.exists());
    assert_eq!(
        fs::read(&killed.database).expect("the database is there"),
        before
    );
}

#[test]
fn edits_are_not_mixed_with_a_database_that_was_changed_since() {
    let killed = killed(8, &mut Rng::new(8), false);
    let edit = common::Edit::CreateBucket {
        path: vec![b"since".to_vec()],
    };
    let again = common::Edit::CreateBucket {
        path: vec![b"again".to_vec()],
    };
    // Two transactions: after one, the state that the edits start from would still be there.
    Oracle::shared()
        .edit(
            &killed.database,
            &[vec![edit], vec![again]],
            Options::default(),
        )
        .expect("bbolt edits it");
    let before = fs::read(&killed.database).expect("the database is there");
    let mountpoint = TempDir::new("refused");
    let output = boltfs()
        .args(&["--raw", "--recover"])
        .arg(&killed.database)
        .arg(mountpoint.path())
        .run()
        .expect_failure();
    for word in ["changed since", "not mixed", "boltfs journal"] {
        assert!(output.stderr.contains(word), "{output}");
    }
    assert!(killed.journal.exists(), "the journal was not kept");
    assert_eq!(
        fs::read(&killed.database).expect("the database is there"),
        before
    );
}

#[test]
fn a_journal_whose_commit_had_happened_is_done_with() {
    let dir = TempDir::new("done");
    let database = dir.join("db");
    let journal = dir.join("db.boltfs-journal");
    let tree = first_tree(&mut Rng::new(9));
    Oracle::shared()
        .create(&database, &tree, Options::default())
        .expect("bbolt makes a database");
    let mount = Mount::new(&database, &["--raw"]);
    fs::write(mount.join("b0/new"), "x").expect("a key can be made");
    // A second name keeps the journal, as it is after the commit's note and before its removal.
    fs::hard_link(&journal, dir.join("kept")).expect("the journal can be linked");
    mount.umount();
    assert!(!journal.exists());
    let committed = fs::read(&database).expect("the database is there");
    fs::rename(dir.join("kept"), &journal).expect("the journal can be put back");

    let mount = Mount::new(&database, &["--raw", "--recover"]);
    assert_eq!(
        fs::read_to_string(mount.join(".boltfs/pending")).expect("it can be read"),
        ""
    );
    mount.umount();
    assert!(!journal.exists(), "the journal is still there");
    assert_eq!(
        fs::read(&database).expect("the database is there"),
        committed
    );
}

#[test]
fn a_folder_that_cannot_be_written_is_a_warning() {
    // A read-only bind mount of the folder, but for the database: only root can make one.
    let dir = TempDir::new("readonly");
    let database = dir.join("db");
    let tree = first_tree(&mut Rng::new(10));
    Oracle::shared()
        .create(&database, &tree, Options::default())
        .expect("bbolt makes a database");
    let folder = dir.join("folder");
    let script = format!(
        "set -e; mkdir {0}; touch {0}/db; mount --bind {0} {0}; mount --bind {1} {0}/db; \
         mount -o remount,bind,ro {0}; mkdir {2}; {3} --raw {0}/db {2}; echo x > {2}/b0/new; {3} umount {2}",
        folder.display(),
        database.display(),
        dir.join("mnt").display(),
        common::mount::BOLTFS,
    );
    let output =
        run(Command::new("unshare").args(["-m", "--propagation", "slave", "bash", "-c", &script]))
            .expect_success();
    assert!(output.stderr.contains("no journal can be kept"), "{output}");
    assert!(output.stderr.contains("1 key added"), "{output}");
}
