//! Somebody else makes the database shorter while it is mounted: no signal ends us, what is gone is an error, what is left
//! is served, and no commit takes zeros for content.

mod common;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use boltfs::bolt::check;
use boltfs::bolt::{
    Changes, CommitError, CommitOptions, DbFile, Disk, Map, OpenOptions, Snapshot, commit,
    empty_database,
};
use boltfs::overlay::{Ino, Kind};
use boltfs::vfs::{Options, Vfs};

use common::build::{Build, paged, plain};
use common::commits::findings;
use common::mount::boltfs;
use common::rng::{Rng, seeded};
use common::staged::{Item, Staged};
use common::{Mount, Node, TempDir, Tree};

/// A database that another program cuts before the call with this number.
struct Cut {
    file: DbFile,
    calls: AtomicUsize,
    at: usize,
    to: u64,
}

impl Cut {
    fn call(&self) {
        if self.calls.fetch_add(1, Ordering::Relaxed) == self.at {
            self.cut();
        }
    }

    fn cut(&self) {
        let other = File::options().write(true).open(self.file.path()).unwrap();
        if other.metadata().unwrap().len() > self.to {
            other.set_len(self.to).unwrap();
        }
    }
}

impl Disk for Cut {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.call();
        self.file.write_all_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.call();
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.call();
        Ok(())
    }

    fn map(&self) -> io::Result<Map> {
        self.file.map()
    }
}

fn open(file: &Path) -> (DbFile, Snapshot) {
    let file = DbFile::open(file, true).unwrap();
    let snapshot = Snapshot::open(file.map().unwrap(), OpenOptions::default()).unwrap();
    (file, snapshot)
}

/// A database with free pages, of some hundred pages.
fn database(rng: &mut Rng, file: &Path, page_size: usize) -> Tree {
    fs::write(file, empty_database(page_size as u32)).unwrap();
    let mut tree = Tree::default();
    for _ in 0..rng.range(2, 4) {
        let (disk, base) = open(file);
        let mut staged = Staged::new(&tree, vec![]);
        let mut bucket = Staged::default();
        for n in 0..rng.range(50, 400) {
            let size = rng.below(page_size / 3);
            bucket
                .nodes
                .insert(format!("{n:04}").into_bytes(), Item::Value(rng.bytes(size)));
        }
        staged
            .nodes
            .insert(vec![b'a' + rng.below(3) as u8], Item::Bucket(bucket));
        let changes = staged.changes(&base, &tree);
        commit(&disk, &base, None, changes, &CommitOptions::default()).unwrap();
        tree = staged.tree();
    }
    tree
}

#[test]
fn no_commit_takes_what_was_cut_for_content() {
    let dir = TempDir::new("cut");
    let (mut refused, mut committed, mut unknown) = (0, 0, 0);
    seeded(250, |seed, rng| {
        let path = dir.join(&format!("{seed}.db"));
        let page_size = *rng.pick(&[512, 1024, 4096]);
        let tree = database(rng, &path, page_size);
        let (file, base) = open(&path);
        let (report, _) = findings(&base);
        let mut staged = Staged::new(&tree, vec![]);
        for _ in 0..rng.range(1, 4) {
            staged.mutate(rng, page_size);
        }
        // Writes of a megabyte at most: something this large makes several of them.
        if rng.one_in(4) {
            staged
                .nodes
                .insert(b"large".to_vec(), Item::Value(rng.bytes(3 << 20)));
        }
        let new = staged.tree();
        let len = file.size().unwrap() as usize;
        let most = if rng.one_in(3) { len + len / 4 } else { len };
        let disk = Cut {
            file,
            calls: AtomicUsize::new(0),
            at: rng.below(7),
            to: rng.below(most) as u64,
        };
        let options = CommitOptions {
            free: report.free.as_ref().filter(|_| rng.one_in(2)),
            ..CommitOptions::default()
        };
        let done = commit(&disk, &base, None, staged.changes(&base, &tree), &options);
        let was_cut = disk.calls.load(Ordering::Relaxed) > disk.at;
        match done {
            Ok(_) => {
                // Then nothing that matters was taken away.
                let (_, after) = open(&path);
                let reading = common::read::read(&after);
                let errors = &reading.errors;
                assert!(errors.is_empty(), "{:?} {}: {errors:?}", disk.at, disk.to);
                new.assert_same(&reading.tree, "content");
                committed += 1;
            }
            Err(CommitError::Changed { .. }) => {
                assert!(was_cut);
                refused += 1;
                // And never again in this mount.
                let nothing = Changes {
                    edits: Box::new(std::iter::empty()),
                    moved: Default::default(),
                };
                let again = commit(&disk, &base, None, nothing, &options);
                assert!(
                    matches!(again, Err(CommitError::Changed { .. })),
                    "{again:?}"
                );
            }
            Err(CommitError::Unknown { .. }) => {
                assert!(was_cut);
                unknown += 1;
            }
            Err(e) => panic!("{e}"),
        }
        fs::remove_file(&path).unwrap();
    });
    println!("{refused} refused, {committed} committed, {unknown} not known");
    assert!(refused + committed + unknown < 250 || refused > 50 && committed > 30 && unknown > 5);
}

/// All that a walk through the file system finds: contents by path, and the paths that cannot be read.
fn walk(vfs: &Vfs) -> (Vec<(String, Vec<u8>)>, usize) {
    let (mut found, mut errors) = (Vec::new(), 0);
    let mut dirs = vec![(String::new(), Ino::ROOT)];
    while let Some((path, dir)) = dirs.pop() {
        let mut entries = Vec::new();
        let listed = vfs.readdir(dir, 0, &mut |entry| {
            if entry.name != b"." && entry.name != b".." {
                let name = String::from_utf8_lossy(entry.name).into_owned();
                entries.push((name, entry.attr));
            }
            true
        });
        errors += usize::from(listed.is_err());
        for (name, attr) in entries {
            let path = format!("{path}/{name}");
            match (vfs.lookup(dir, name.as_bytes()), attr.kind) {
                (Err(_), _) => errors += 1,
                (Ok(_), Kind::Directory) => dirs.push((path, attr.ino)),
                (Ok(found_attr), Kind::File) => {
                    assert_eq!((found_attr.ino, found_attr.size), (attr.ino, attr.size));
                    match vfs.read(attr.ino, 0, 1 << 20, <[u8]>::to_vec) {
                        Ok(bytes) => {
                            assert_eq!(bytes.len() as u64, attr.size, "{path}");
                            found.push((path, bytes));
                        }
                        Err(_) => errors += 1,
                    }
                }
            }
        }
    }
    (found, errors)
}

#[test]
fn what_is_left_is_served_and_what_is_gone_is_an_error_while_it_shrinks() {
    let dir = TempDir::new("shrink");
    seeded(6, |seed, rng| {
        let path = dir.join(&format!("{seed}.db"));
        database(rng, &path, 4096);
        let (file, base) = open(&path);
        let len = file.size().unwrap();
        let options = Options::of_file(0, 0, 0o600, std::time::SystemTime::UNIX_EPOCH);
        let vfs = Vfs::new(base, options);
        let (whole, errors) = walk(&vfs);
        assert!(errors == 0 && whole.len() > 50);
        let whole: std::collections::BTreeMap<_, _> = whole.into_iter().collect();
        let end = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !end.load(Ordering::Relaxed) {
                        for (path, bytes) in walk(&vfs).0 {
                            assert_eq!(whole.get(&path), Some(&bytes), "{path}");
                        }
                    }
                });
            }
            let mut now = len;
            let other = File::options().write(true).open(&path).unwrap();
            while now > 9000 {
                now -= rng.range(1, 9000) as u64;
                other.set_len(now).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
            end.store(true, Ordering::Relaxed);
        });
        let (left, errors) = walk(&vfs);
        assert!(errors > 0, "something is gone");
        assert!(left.len() < whole.len());
        assert!(vfs.create(Ino::ROOT, b"x", 0o600, 0, 0).is_err());
        assert!(vfs.mkdir(Ino::ROOT, b"x", 0o700, 0, 0).is_err());
    });
}

#[test]
fn what_is_behind_deleted_keys_is_listed_where_those_are_gone() {
    let dir = TempDir::new("marked");
    let path = dir.join("db");
    let name = |n: usize| format!("{n:02}").into_bytes();
    let items: Vec<_> = (0..40).map(|n| plain(&name(n), b"value")).collect();
    let mut build = Build::new(4096);
    let behind = build.leaf(&items[20..]);
    // The first leaf is the last page of the file.
    let first = build.next() + 2;
    let branch = build.branch(&[(b"00", first), (b"20", behind)]);
    build.root = build.leaf(&[paged(b"bucket", branch)]);
    assert_eq!(build.leaf(&items[..20]), first);
    fs::write(&path, build.file()).unwrap();

    let (_file, base) = open(&path);
    let options = Options::of_file(0, 0, 0o600, std::time::SystemTime::UNIX_EPOCH);
    let vfs = Vfs::new(base, options);
    let bucket = vfs.lookup(Ino::ROOT, b"bucket").unwrap().ino;
    for n in 0..10 {
        vfs.unlink(bucket, &name(n)).unwrap();
    }
    let list = || {
        let mut names = Vec::new();
        let end = vfs.readdir(bucket, 0, &mut |entry| {
            names.push(entry.name.to_vec());
            true
        });
        (names.into_iter().skip(2).collect::<Vec<_>>(), end)
    };
    // This one notes how far the bucket is empty from its start on.
    let (names, end) = list();
    assert_eq!(names, (10..40).map(name).collect::<Vec<_>>());
    assert!(end.is_ok());
    let other = File::options().write(true).open(&path).unwrap();
    other.set_len(first * 4096).unwrap();
    let (names, end) = list();
    assert_eq!(names, (20..40).map(name).collect::<Vec<_>>());
    assert!(end.is_err());
}

/// A database of some megabytes whose values tell where they belong, bucket behind bucket, with the root at the start.
fn large(file: &Path, buckets: usize, keys: usize) -> Tree {
    fs::write(file, empty_database(4096)).unwrap();
    let mut tree = Tree::default();
    let mut commit_to = |change: &dyn Fn(&mut Staged)| {
        let (disk, base) = open(file);
        let free = findings(&base).0.free;
        let mut staged = Staged::new(&tree, vec![]);
        change(&mut staged);
        let options = CommitOptions {
            free: free.as_ref(),
            ..CommitOptions::default()
        };
        commit(&disk, &base, None, staged.changes(&base, &tree), &options).unwrap();
        tree = staged.tree();
    };
    let junk = |staged: &mut Staged| {
        let mut bucket = Staged::default();
        bucket
            .nodes
            .insert(b"k".to_vec(), Item::Value(vec![b'x'; 100_000]));
        staged.nodes.insert(b"junk".to_vec(), Item::Bucket(bucket));
    };
    commit_to(&junk);
    for b in 0..buckets {
        commit_to(&|staged| {
            let mut bucket = Staged::default();
            for n in 0..keys {
                let value = format!("bucket {b} key {n:06} ").repeat(20);
                bucket.nodes.insert(
                    format!("{n:06}").into_bytes(),
                    Item::Value(value.into_bytes()),
                );
            }
            staged
                .nodes
                .insert(format!("b{b}").into_bytes(), Item::Bucket(bucket));
        });
    }
    commit_to(&|staged| drop(staged.nodes.remove(&b"junk"[..])));
    commit_to(&|staged| {
        staged
            .nodes
            .extend([(b"last".to_vec(), Item::Bucket(Staged::default()))])
    });
    tree
}

/// Reads every file of the tree through the mount: right, or an error of the kind EIO.
fn read_through(point: &Path, tree: &Tree) -> (usize, usize) {
    let (mut right, mut failed) = (0, 0);
    for (name, node) in &tree.nodes {
        let Node::Bucket(bucket) = node else { continue };
        let directory = point.join(String::from_utf8_lossy(name).as_ref());
        for (key, value) in &bucket.nodes {
            let Node::Value(value) = value else { continue };
            match fs::read(directory.join(String::from_utf8_lossy(key).as_ref())) {
                Ok(found) => {
                    assert!(found == *value, "{}", key.escape_ascii());
                    right += 1;
                }
                Err(e) => {
                    assert_eq!(e.raw_os_error(), Some(libc::EIO), "{e}");
                    failed += 1;
                }
            }
        }
    }
    (right, failed)
}

#[test]
fn a_mount_outlives_the_truncation_of_its_database() {
    let dir = TempDir::new("truncated");
    for (round, part) in [95, 60, 30, 2].into_iter().enumerate() {
        let file = dir.join(&format!("{round}.db"));
        let tree = large(&file, 4, 1500);
        let len = fs::metadata(&file).unwrap().len();
        let mount = Mount::new(&file, &[]);
        fs::write(mount.join("b0/new"), "an edit that is to be kept").unwrap();
        let end = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    // Whatever it says of files that are gone, it must not hang.
                    common::process::sh(mount.path(), "grep -r nothing . >/dev/null 2>&1 || true");
                    common::process::sh(mount.path(), "ls -lR . >/dev/null 2>&1 || true");
                }
            });
            let other = File::options().write(true).open(&file).unwrap();
            for percent in (part..100).rev() {
                other.set_len(len * percent / 100 - percent).unwrap();
                std::thread::sleep(Duration::from_millis(10));
            }
            end.store(true, Ordering::Relaxed);
        });
        let started = Instant::now();
        let (right, failed) = read_through(mount.path(), &tree);
        println!("cut to {part} %: {right} files can be read, {failed} cannot");
        assert!(started.elapsed() < Duration::from_secs(60));
        // What the kernel has read it still knows; the commit was written last to first.
        // Each fourth of the file has one bucket.
        assert!(right + failed == 6000 && right >= 1500 * (part as usize / 25));
        assert!(
            failed > 0 || part > 90,
            "the kernel may know the rest of the last bucket"
        );
        // So do the tree as it was, and whatever asks for what is pending.
        let (right, failed) = read_through(&mount.join(".boltfs/base"), &tree);
        assert!(right + failed == 6000 && failed > 0, "{right} {failed}");
        for command in ["diff", "status"] {
            let output = boltfs().arg(command).arg(mount.path()).run();
            assert!(matches!(output.code(), Some(0..=2)), "{output}");
        }
        for read in ["pending", "info", "control"] {
            match fs::read(mount.join(".boltfs").join(read)) {
                Ok(_) => {}
                Err(e) => assert_eq!(e.raw_os_error(), Some(libc::EIO), "{read}: {e}"),
            }
        }
        let commit = fs::write(mount.join(".boltfs/control"), "commit");
        assert_eq!(commit.unwrap_err().raw_os_error(), Some(libc::EIO));
        assert_eq!(mount.processes().len(), 1, "it is served all the while");
        let output = mount.umount_with(&[]).expect_failure();
        assert_eq!(output.code(), Some(1), "{output}");
        assert!(output.stderr.contains("NOT COMMITTED"), "{output}");
        assert!(output.stderr.contains("was cut to"), "{output}");
        assert!(output.stderr.contains("Your edits are safe in"), "{output}");
        mount.wait_until_gone();
    }
}

#[test]
fn a_check_of_a_file_that_shrinks_ends() {
    let dir = TempDir::new("check-shrinks");
    let file = dir.join("db");
    large(&file, 4, 6000);
    let whole = fs::read(&file).unwrap();
    let len = whole.len() as u64;
    for (threads, percent) in [(1, 90), (1, 50), (1, 1), (2, 90), (2, 50), (2, 1)] {
        fs::write(&file, &whole).unwrap();
        let (_file, snapshot) = open(&file);
        let cut = || {
            let other = File::options().write(true).open(&file).unwrap();
            other.set_len(len * percent / 100).unwrap();
        };
        let options = check::Options {
            threads,
            ..check::Options::default()
        };
        if threads == 1 {
            // In the middle of it.
            let mut once = Some(cut);
            let report = check::check(&snapshot, options, &mut |_| {
                once.take().into_iter().for_each(|cut| cut());
            });
            assert!(once.is_none(), "the check was over before");
            assert!(!report.is_sound(), "{percent}");
        } else {
            // At any moment.
            std::thread::scope(|scope| {
                scope.spawn(cut);
                check::check(&snapshot, options, &mut |_| {});
            });
        }
        assert!(snapshot.map().has_lost_since(0));
        assert_eq!(snapshot.map().cut(), Some(len * percent / 100));
    }
    // The command, whenever it comes.
    for round in 0..8 {
        fs::write(&file, &whole).unwrap();
        let output = std::thread::scope(|scope| {
            let check = scope.spawn(|| boltfs().arg("check").arg(&file).run());
            let other = File::options().write(true).open(&file).unwrap();
            std::thread::sleep(Duration::from_millis(round));
            other.set_len(whole.len() as u64 / 2).unwrap();
            check.join().unwrap()
        });
        assert!(matches!(output.code(), Some(0..=2)), "{output}");
    }
}

/// Written to by something that takes no lock, in place: the commit is refused, and the edits wait in the journal.
#[test]
fn a_commit_is_refused_after_a_foreign_write() {
    let dir = TempDir::new("foreign");
    let file = dir.join("db");
    large(&file, 1, 100);
    type Foreign = fn(&Path);
    let foreign: [(&str, Foreign, &str); 5] = [
        (
            // Cannot be told from a write to the middle.
            "touched",
            |file| {
                let other = File::options().write(true).open(file).unwrap();
                other.set_modified(std::time::SystemTime::now()).unwrap();
            },
            "or its time was",
        ),
        (
            "one byte",
            |file| {
                let other = File::options().write(true).open(file).unwrap();
                other.write_all_at(b"?", 40_000).unwrap();
            },
            "it was changed",
        ),
        (
            "longer",
            |file| {
                let other = File::options().append(true).open(file).unwrap();
                other
                    .write_all_at(&[0; 4096], other.metadata().unwrap().len())
                    .unwrap();
            },
            "it was changed",
        ),
        (
            "replaced",
            |file| {
                let new = file.with_extension("new");
                fs::copy(file, &new).unwrap();
                fs::rename(new, file).unwrap();
            },
            "another file was put in the place",
        ),
        (
            "gone",
            |file| fs::rename(file, file.with_extension("moved")).unwrap(),
            "was moved or deleted",
        ),
    ];
    for (what, write, said) in foreign {
        let mount = Mount::new(&file, &[]);
        fs::write(mount.join("b0/000001"), "changed").unwrap();
        std::thread::sleep(Duration::from_millis(20));
        write(&file);
        let before = fs::read(&file).ok();
        let output = mount.umount_with(&[]).expect_failure();
        assert_eq!(output.code(), Some(1), "{what}: {output}");
        assert!(output.stderr.contains("NOT COMMITTED"), "{what}: {output}");
        assert!(output.stderr.contains(said), "{what}: {output}");
        assert!(
            output.stderr.contains("Your edits are safe"),
            "{what}: {output}"
        );
        mount.wait_until_gone();
        assert_eq!(fs::read(&file).ok(), before, "{what}: it was written to");
        if what == "gone" {
            break;
        }
        if what == "replaced" {
            let rescued = fs::read_dir(dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().path());
            let rescued = rescued
                .into_iter()
                .find(|path| path.to_string_lossy().contains("rescued"));
            let rescued = Mount::new(&rescued.expect("the edits are in a file"), &["-r"]);
            assert_eq!(fs::read(rescued.join("b0/000001")).unwrap(), b"changed");
            rescued.umount();
            fs::remove_file(dir.join("db.boltfs-journal")).unwrap();
            continue;
        }
        let mount = Mount::new(&file, &["--recover"]);
        assert_eq!(
            fs::read(mount.join("b0/000001")).unwrap(),
            b"changed",
            "{what}"
        );
        mount.umount_with(&["--discard"]).expect_success();
    }
}
