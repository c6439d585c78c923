//! A lot at once: many operations, many processes, many keys, one large value, deep and wide trees. The server's own
//! memory is printed, and bounded by what was staged, not by what was looked at.

mod common;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::process::run_within;
use common::rng::seeded;
use common::{Bulk, Mount, Node, Options, Oracle, TempDir, Tree};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};

/// Anonymous memory of the process that serves `mount`, in MiB.
fn memory(mount: &Mount) -> u64 {
    let pid = mount.processes()[0];
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .expect("a number");
    kib.parse::<u64>().expect("a number") / 1024
}

fn database(dir: &TempDir, content: &Tree) -> std::path::PathBuf {
    let database = dir.join("db");
    Oracle::shared()
        .create(&database, content, Options::default())
        .expect("bbolt makes it");
    database
}

fn one_bucket(values: &[(&str, &[u8])]) -> Tree {
    let mut bucket = Tree::default();
    for (key, value) in values {
        bucket
            .nodes
            .insert(key.as_bytes().to_vec(), Node::Value(value.to_vec()));
    }
    let mut tree = Tree::default();
    tree.nodes.insert(b"b".to_vec(), Node::Bucket(bucket));
    tree
}

#[test]
fn a_million_random_reads_writes_truncations_and_maps_of_one_value() {
    const OPERATIONS: usize = 1_000_000;
    const MOST: usize = 256 << 10;
    seeded(1, |_, rng| {
        let dir = TempDir::new("fsx");
        let database = database(&dir, &one_bucket(&[("value", b"")]));
        let mount = Mount::new(&database, &["--raw"]);
        let path = mount.join("b/value");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .expect("it opens");
        let mut model: Vec<u8> = Vec::new();
        let mut buffer = vec![0; MOST];
        for number in 0..OPERATIONS {
            // Small ones mostly: a million large ones would only measure memory.
            let room = if rng.one_in(500) { MOST } else { 4 << 10 };
            let at = rng.below(MOST - 1);
            let len = rng.range(1, room.min(MOST - at));
            match rng.below(16) {
                0..=5 => {
                    let got = file
                        .read_at(&mut buffer[..len], at as u64)
                        .expect("it reads");
                    let expected = model.get(at..).unwrap_or_default();
                    let expected = &expected[..expected.len().min(len)];
                    assert!(
                        buffer[..got] == *expected,
                        "operation {number}: read of {len} at {at}"
                    );
                }
                6..=12 => {
                    let data = rng.bytes(len);
                    file.write_all_at(&data, at as u64).expect("it writes");
                    model.resize(model.len().max(at + len), 0);
                    model[at..at + len].copy_from_slice(&data);
                }
                13 => {
                    file.set_len(at as u64).expect("it truncates");
                    model.resize(at, 0);
                }
                14 if at < model.len() => {
                    // SAFETY: nothing else changes the file while the map is there.
                    let map = unsafe { memmap2::Mmap::map(&file) }.expect("it maps");
                    let end = (at + len).min(model.len());
                    assert!(
                        map[at..end] == model[at..end],
                        "operation {number}: map at {at}"
                    );
                }
                15 if at < model.len() => {
                    // SAFETY: as above.
                    let mut map = unsafe { memmap2::MmapMut::map_mut(&file) }.expect("it maps");
                    let end = (at + len).min(model.len());
                    let data = rng.bytes(end - at);
                    map[at..end].copy_from_slice(&data);
                    map.flush().expect("it syncs");
                    model[at..end].copy_from_slice(&data);
                }
                _ => {
                    let len = fs::metadata(&path).expect("it is there").len();
                    assert_eq!(len, model.len() as u64, "operation {number}: length");
                }
            }
        }
        println!("fsx: {OPERATIONS} operations, {} MiB", memory(&mount));
        assert!(memory(&mount) < 64, "a value of 256 KiB was edited");
        drop(file);
        mount.umount();
        let found = Oracle::shared().dump(&database).expect("bbolt reads it");
        one_bucket(&[("value", &model)]).assert_same(&found, "the value in the database");
    });
}

/// Creates, renames and deletes names of its own among everybody's, and prints what must stand at the end.
const WORKER: &str = r#"
import os, random, sys, time
me, root, seconds, seed = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
random.seed(seed)
buckets, mine, serial, operations = ["b0", "b1", "b2", "b3"], {}, 0, 0
end = time.monotonic() + seconds
while time.monotonic() < end:
    operations += 1
    what = random.randrange(10)
    if what < 4 or not mine:
        serial += 1
        path = "%s/%s-%d" % (random.choice(buckets), me, serial)
        value = "%s %d\n" % (me, random.randrange(1 << 60))
        with open(root + "/" + path, "x") as file:
            file.write(value)
        mine[path] = value
    elif what < 6:
        path = random.choice(list(mine))
        os.unlink(root + "/" + path)
        del mine[path]
    elif what < 9:
        path = random.choice(list(mine))
        serial += 1
        target = "%s/%s-%d" % (random.choice(buckets), me, serial)
        if random.randrange(3) == 0 and len(mine) > 1:
            target = random.choice(list(mine))
        if target == path:
            continue
        os.rename(root + "/" + path, root + "/" + target)
        mine[target] = mine.pop(path)
    else:
        names = set(os.listdir(root + "/" + random.choice(buckets)))
        path = random.choice(list(mine))
        with open(root + "/" + path) as file:
            assert file.read() == mine[path], path
for path, value in sorted(mine.items()):
    print("%s\t%s" % (path, value.strip()))
print(operations, file=sys.stderr)
"#;

#[test]
fn sixteen_processes_in_the_same_buckets() {
    seeded(1, |seed, _| {
        let dir = TempDir::new("processes");
        let mut tree = Tree::default();
        for bucket in 0..4 {
            tree.nodes
                .insert(format!("b{bucket}").into(), Node::Bucket(Tree::default()));
        }
        let database = database(&dir, &tree);
        let mount = Mount::new(&database, &["--raw"]);
        let workers: Vec<_> = (0..16)
            .map(|number| {
                let root = mount.path().to_owned();
                std::thread::spawn(move || {
                    let (name, seed) = (format!("w{number}"), (seed + number).to_string());
                    let mut python = Command::new("python3");
                    python
                        .args(["-c", WORKER, &name])
                        .arg(&root)
                        .args(["8", &seed]);
                    run_within(Duration::from_secs(120), &mut python).expect_success()
                })
            })
            .collect();
        let mut operations = 0;
        for worker in workers {
            let output = worker.join().expect("the worker ends");
            operations += output.stderr.trim().parse::<u64>().expect("a number");
            for line in output.text().lines() {
                let (path, value) = line.split_once('\t').expect("a path and a value");
                let (bucket, key) = path.split_once('/').expect("a bucket and a key");
                let bucket = tree.bucket_mut(&[bucket.into()]).expect("it is there");
                bucket
                    .nodes
                    .insert(key.into(), Node::Value(format!("{value}\n").into()));
            }
        }
        println!(
            "16 processes: {operations} operations, {} MiB",
            memory(&mount)
        );
        mount.umount();
        let found = Oracle::shared().dump(&database).expect("bbolt reads it");
        tree.assert_same(&found, "what the workers left");
        Oracle::shared().assert_sound(&database);
    });
}

#[test]
fn a_bucket_of_a_million_keys_listed_grepped_and_half_deleted() {
    const KEYS: u64 = 1_000_000;
    let dir = TempDir::new("million");
    let database = dir.join("db");
    let bulk = Bulk {
        keys: KEYS as u32,
        value: 100,
        seed: 1,
        ..Bulk::default()
    };
    Oracle::shared()
        .create_bulk(&database, &bulk, Options::default())
        .expect("bbolt makes it");
    let mount = Mount::new(&database, &[]);
    let minutes = Duration::from_secs(300);
    let sh = |line: &str| {
        let mut bash = Command::new("bash");
        bash.args(["-c", line]).current_dir(mount.path());
        run_within(minutes, &mut bash).expect_success().text()
    };
    let bucket = sh("ls -d */").trim().trim_end_matches('/').to_owned();
    assert_eq!(
        sh(&format!("ls -U {bucket} | wc -l")).trim(),
        KEYS.to_string()
    );
    let listed = memory(&mount);
    assert_eq!(
        sh(&format!("find {bucket} -type f -size +0 | wc -l")).trim(),
        KEYS.to_string()
    );
    // Random bytes: no value is this text. grep reads each of them to find out.
    assert_eq!(
        sh(&format!(
            "grep -rc --include='*' no-such-text {bucket} | wc -l"
        ))
        .trim(),
        KEYS.to_string()
    );
    let read = memory(&mount);
    sh(&format!("find {bucket} -type f -name '*[02468]' -delete"));
    assert_eq!(
        sh(&format!("ls -U {bucket} | wc -l")).trim(),
        (KEYS / 2).to_string()
    );
    let deleted = memory(&mount);
    println!(
        "a million keys: {listed} MiB after listing, {read} MiB after reading, {deleted} MiB with half of them deleted"
    );
    assert!(read < 24, "looking costs memory: {read} MiB");
    assert!(
        deleted < read + 128,
        "a deletion costs more than its key and a little: {deleted} MiB"
    );
    let report = mount.umount();
    assert!(
        report.contains(&format!("{} deleted", KEYS / 2)),
        "{report}"
    );
    Oracle::shared().assert_sound(&database);
    let stats = Oracle::shared().stats(&database).expect("bbolt reads it");
    assert!(
        stats.to_string().contains(&(KEYS / 2).to_string()),
        "{stats}"
    );
}

#[test]
fn one_value_of_a_gibibyte() {
    const SIZE: u64 = 1 << 30;
    let dir = TempDir::new("gibibyte");
    let database = database(&dir, &one_bucket(&[("small", b"x")]));
    // Each piece says where it is, so that none can stand in for another.
    let piece = |number: u64| -> Vec<u8> {
        (0..(1 << 20) / 8)
            .flat_map(|word| (number << 32 | word).to_le_bytes())
            .collect()
    };
    let verify = |path: &Path| {
        let file = File::open(path).expect("it opens");
        assert_eq!(file.metadata().expect("it is there").len(), SIZE);
        let mut buffer = vec![0; 1 << 20];
        for number in 0..SIZE >> 20 {
            file.read_exact_at(&mut buffer, number << 20)
                .expect("it reads");
            assert!(buffer == piece(number), "piece {number}");
        }
    };
    let mount = Mount::new(&database, &[]);
    let file = File::create(mount.join("b/big")).expect("it can be made");
    for number in 0..SIZE >> 20 {
        file.write_all_at(&piece(number), number << 20)
            .expect("it writes");
    }
    drop(file);
    verify(&mount.join("b/big"));
    let staged = memory(&mount);
    mount.umount();

    let mount = Mount::new(&database, &["-r"]);
    verify(&mount.join("b/big"));
    assert_eq!(fs::read(mount.join("b/small")).expect("it reads"), b"x");
    println!(
        "a gibibyte: {staged} MiB while it is staged, {} MiB when it is read",
        memory(&mount)
    );
    assert!(
        staged < 64,
        "it is in the journal, and needs no memory: {staged} MiB"
    );
    assert!(memory(&mount) < 24);
    mount.umount();
    Oracle::shared().assert_sound(&database);
}

/// Processor time that the server has used, in hundredths of a second.
fn ticks(mount: &Mount) -> u64 {
    let pid = mount.processes()[0];
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the server runs");
    let (_, behind) = stat.rsplit_once(") ").expect("a name in brackets");
    let used = behind.split(' ').skip(11).take(2);
    used.map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum()
}

#[test]
fn what_waits_awake_for_the_next_request_sleeps_soon() {
    let dir = TempDir::new("idle");
    let database = database(&dir, &one_bucket(&[]));
    let mount = Mount::new(&database, &[]);
    // One request after the other, from two sides, among them some that take longer.
    std::thread::scope(|scope| {
        for side in 0..2 {
            let bucket = mount.path().join("b");
            scope.spawn(move || {
                for n in 0..2_000 {
                    let file = bucket.join(format!("{side}-{n}"));
                    let length = if n % 100 == 0 { 1 << 20 } else { 10 };
                    fs::write(&file, vec![b'x'; length]).unwrap();
                    assert_eq!(fs::read(&file).unwrap().len(), length);
                    if n % 2 == 0 {
                        fs::remove_file(&file).unwrap();
                    }
                }
            });
        }
    });
    let used = ticks(&mount);
    std::thread::sleep(Duration::from_secs(2));
    let idle = ticks(&mount) - used;
    assert!(idle < 30, "{idle} hundredths of a second in two seconds");
    assert_eq!(fs::read_dir(mount.path().join("b")).unwrap().count(), 2_000);
    mount.umount();
}

#[test]
fn twenty_thousand_buckets_beside_each_other() {
    const BUCKETS: u32 = 20_000;
    let dir = TempDir::new("buckets");
    let database = database(&dir, &Tree::default());
    let started = Instant::now();
    let mount = Mount::new(&database, &[]);
    for number in 0..BUCKETS {
        fs::create_dir(mount.join(&format!("sibling-{number}"))).expect("it can be made");
    }
    println!(
        "{BUCKETS} buckets: {} MiB, {:?}",
        memory(&mount),
        started.elapsed()
    );
    let report = mount.umount();
    assert!(report.contains("20000 buckets added"), "{report}");
    let mount = Mount::new(&database, &["-r"]);
    assert_eq!(mount.sh("ls -U | wc -l").trim(), BUCKETS.to_string());
    mount.umount();
    Oracle::shared().assert_sound(&database);
}

/// How deep the buckets called `n` go below `directory`, by relative steps: no path is as long.
fn depth(directory: &Path) -> u32 {
    let mut at = File::open(directory).expect("it opens");
    let mut depth = 0;
    while let Ok(next) = openat(&at, "n", OFlag::O_DIRECTORY, Mode::empty()) {
        at = next.into();
        depth += 1;
    }
    depth
}

#[test]
fn twenty_thousand_buckets_inside_each_other() {
    const NESTED: u32 = 20_000;
    let dir = TempDir::new("nested");
    let database = database(&dir, &Tree::default());
    let boltfs = |words: &[&str], of: &Path| common::mount::boltfs().args(words).arg(of).run();
    let mut clock = Instant::now();
    let mut step = |what: &str, mount: &Mount| {
        println!("{what}: {} MiB, {:?}", memory(mount), clock.elapsed());
        assert!(memory(mount) < 100, "{what}");
        clock = Instant::now();
    };
    let mount = Mount::new(&database, &[]);
    let mut at = File::open(mount.path()).expect("it opens");
    for _ in 0..NESTED {
        mkdirat(&at, "n", Mode::from_bits_truncate(0o755)).expect("it can be made");
        at = openat(&at, "n", OFlag::O_DIRECTORY, Mode::empty())
            .expect("it opens")
            .into();
    }
    drop(at);
    step("made", &mount);
    let look = |mount: &Mount| {
        // One line a bucket, of a path that nobody can open the end.
        let pending = fs::read_to_string(mount.join(".boltfs/pending")).expect("it is text");
        assert_eq!(pending.lines().count(), NESTED as usize);
        assert!(pending.len() < 40 << 20, "{}", pending.len());
        let status = boltfs(&["status"], mount.path()).expect_success().text();
        assert!(status.contains("20000 changes are pending:"), "{status}");
        let diff = boltfs(&["diff"], mount.path());
        assert_eq!(diff.code(), Some(1));
        assert_eq!(
            mount.sh("find n -type d -printf x | wc -c").trim(),
            NESTED.to_string()
        );
    };
    look(&mount);
    step("pending, status, diff, find", &mount);
    let report = mount.umount();
    assert!(report.contains("20000 buckets added"), "{report}");

    let check = boltfs(&["check"], &database).expect_success();
    assert!(check.text().contains("20000 buckets"), "{check}");
    let mount = Mount::new(&database, &[]);
    assert_eq!(depth(mount.path()), NESTED);
    step("committed, checked and walked down again", &mount);
    fs::create_dir(mount.join("beside")).expect("it can be made");
    assert_eq!(depth(mount.path()), NESTED);
    assert_eq!(depth(&mount.join(".boltfs/base")), NESTED);
    step("walked down beside an edit", &mount);
    mount.sh("rmdir beside; rm -r n");
    step("removed", &mount);
    let pending = fs::read_to_string(mount.join(".boltfs/pending")).expect("it is text");
    assert!(pending.starts_with("deleted\tn/\t"), "{pending}");
    assert_eq!(pending.lines().count(), 1);
    let report = mount.umount();
    assert!(report.contains("20000 deleted"), "{report}");
    Oracle::shared().assert_sound(&database);
}
