//! Small files are put into the kernel's cache before they are read (src/fuse/prefetch.rs). Whatever others do to them
//! meanwhile, nobody may read bytes older than the last write that has returned, no write may be lost, and nothing may hang.

mod common;

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use boltfs::bolt::{
    BucketEdit, Changes, CommitOptions, DbFile, Disk, Edit, Snapshot, Source, commit,
    empty_database,
};
use common::mount::Mount;
use common::rng::Rng;
use common::temp::TempDir;

/// Files of the bucket. Each is stored at most once in a mount, so that it takes many mounts to meet a rare moment.
const FILES: usize = 6000;
/// Each file is made of records of so many bytes that tell which file and which write they are of.
const RECORD: usize = 16;
/// The kernel's unit: a write of all of it makes it valid before anybody hears of it.
const PAGE: usize = 4096;
const BUCKET: &[u8] = b"bucket";
/// Longest time without any progress.
const PATIENCE: Duration = Duration::from_secs(60);

fn record(file: usize, write: u64) -> [u8; RECORD] {
    let text = format!("{file:06} {write:08}\n");
    text.into_bytes().try_into().expect("16 bytes")
}

fn content(file: usize, write: u64, len: usize) -> Vec<u8> {
    record(file, write).repeat(len / RECORD)
}

fn key(file: usize) -> String {
    format!("key-{file:06}")
}

/// Where a file stands.
struct Expected {
    /// Odd while a write is under way.
    turn: AtomicU64,
    /// What is in it, when no write is under way.
    content: Mutex<Vec<u8>>,
}

impl Expected {
    fn content(&self) -> MutexGuard<'_, Vec<u8>> {
        self.content.lock().unwrap_or_else(|e| e.into_inner())
    }
}

struct Stress {
    bucket: PathBuf,
    files: Vec<Expected>,
    /// Where the readers are.
    readers: [AtomicUsize; 3],
    /// Grows with everything that is done.
    progress: AtomicU64,
    /// Reads that were compared, and those with a write in between.
    compared: AtomicU64,
    done: AtomicBool,
}

/// A database with one bucket of small files, mostly some to a page, a few that fill one.
fn database(path: &Path, rng: &mut Rng) -> Vec<Vec<u8>> {
    fs::write(path, empty_database(4096)).expect("a file can be written");
    let contents: Vec<Vec<u8>> = (0..FILES)
        .map(|file| {
            let records = match rng.below(20) {
                0 => PAGE / RECORD,
                1 => rng.range(PAGE / RECORD - 3, PAGE / RECORD + 1),
                2 => rng.range(30, 200),
                _ => rng.range(1, 20),
            };
            content(file, 0, records * RECORD)
        })
        .collect();
    let disk = DbFile::open(path, true).expect("it can be opened");
    let base = Snapshot::open(disk.map().expect("it can be mapped"), Default::default());
    let base = base.expect("it is a database");
    let keys: Vec<String> = (0..FILES).map(key).collect();
    let puts = keys.iter().zip(&contents).map(|(key, value)| {
        let (key, value) = (Cow::Borrowed(key.as_bytes()), Cow::Borrowed(&value[..]));
        Ok((key, Edit::Put(value)))
    });
    let bucket = BucketEdit {
        source: Source::New,
        sequence: None,
        edits: Box::new(puts),
    };
    let changes = Changes {
        edits: Box::new(std::iter::once(Ok((
            Cow::Borrowed(BUCKET),
            Edit::Bucket(bucket),
        )))),
        moved: Default::default(),
    };
    commit(&disk, &base, None, changes, &CommitOptions::default()).expect("it can be written");
    contents
}

impl Stress {
    fn new(mount: &Mount, contents: &[Vec<u8>]) -> Stress {
        let files = contents.iter().map(|content| Expected {
            turn: AtomicU64::new(0),
            content: Mutex::new(content.clone()),
        });
        Stress {
            bucket: mount.join("bucket"),
            files: files.collect(),
            readers: [0, FILES / 2, FILES / 4].map(AtomicUsize::new),
            progress: AtomicU64::new(0),
            compared: AtomicU64::new(0),
            done: AtomicBool::new(false),
        }
    }

    fn path(&self, file: usize) -> PathBuf {
        self.bucket.join(key(file))
    }

    fn step(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads a file, and compares it if nobody wrote to it meanwhile.
    fn read(&self, file: usize, how: impl FnOnce(&Path) -> Vec<u8>) {
        let expected = &self.files[file];
        let before = expected.turn.load(Ordering::SeqCst);
        let found = how(&self.path(file));
        self.step();
        let content = expected.content();
        if before % 2 == 1 || expected.turn.load(Ordering::SeqCst) != before {
            return;
        }
        self.compared.fetch_add(1, Ordering::Relaxed);
        assert_same(file, &found, &content);
    }

    /// Reads every file once, from where this reader starts.
    fn walk(&self, reader: usize, how: impl Fn(&Path) -> Vec<u8>) {
        let start = self.readers[reader].load(Ordering::Relaxed);
        for n in 0..FILES {
            let file = (start + n) % FILES;
            self.readers[reader].store(file, Ordering::Relaxed);
            self.read(file, &how);
        }
    }

    /// Writes to files close to where a reader is.
    fn write(&self, writer: usize, writers: usize, rng: &mut Rng) {
        let mut write = writer as u64 + 1;
        while !self.done.load(Ordering::Relaxed) {
            let reader = rng.below(self.readers.len());
            let near = self.readers[reader].load(Ordering::Relaxed) + rng.below(80);
            // No two write to one file.
            let file = near % FILES / writers * writers + writer;
            if file >= FILES {
                continue;
            }
            write += writers as u64;
            let expected = &self.files[file];
            expected.turn.fetch_add(1, Ordering::SeqCst);
            let old = expected.content().clone();
            let new = change(&self.path(file), file, write, old, rng);
            *expected.content() = new;
            expected.turn.fetch_add(1, Ordering::SeqCst);
            self.step();
            if rng.one_in(4) {
                self.read(file, |path| fs::read(path).expect("it can be read"));
            }
            if rng.one_in(3) {
                thread::sleep(Duration::from_micros(rng.below(300) as u64));
            }
        }
    }
}

/// One write of some kind; answers what must be in the file then.
fn change(path: &Path, file: usize, write: u64, old: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
    let open = || {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .open(path)
            .expect("it can be opened")
    };
    let put = |mut all: Vec<u8>, at: usize, bytes: &[u8]| {
        all.resize(all.len().max(at + bytes.len()), 0);
        all[at..at + bytes.len()].copy_from_slice(bytes);
        all
    };
    let records = old.len() / RECORD;
    match rng.below(8) {
        0 => {
            let bytes = content(file, write, old.len());
            open().write_all_at(&bytes, 0).expect("it can be written");
            bytes
        }
        1 => {
            let at = rng.below(records + 1) * RECORD;
            let bytes = content(file, write, RECORD);
            open()
                .write_all_at(&bytes, at as u64)
                .expect("it can be written");
            put(old, at, &bytes)
        }
        2 | 3 => {
            let bytes = content(file, write, PAGE);
            open().write_all_at(&bytes, 0).expect("it can be written");
            put(old, 0, &bytes)
        }
        4 => {
            let len = rng.below(records + 1) * RECORD;
            open().set_len(len as u64).expect("it can be cut");
            old[..len].to_vec()
        }
        5 => {
            let bytes = content(file, write, rng.below(40) * RECORD);
            fs::write(path, &bytes).expect("it can be written");
            bytes
        }
        6 => {
            let bytes = content(file, write, rng.range(1, 10) * RECORD);
            let mut options = OpenOptions::new();
            let mut end = options.append(true).open(path).expect("it can be opened");
            end.write_all(&bytes).expect("it can be written");
            let at = old.len();
            put(old, at, &bytes)
        }
        _ => {
            if old.is_empty() {
                return old;
            }
            let bytes = content(file, write, old.len());
            // SAFETY: nobody shortens the file: this thread is the only one that writes to it.
            #[allow(unsafe_code)]
            let mut map = unsafe { memmap2::MmapMut::map_mut(&open()) }.expect("it can be mapped");
            map.copy_from_slice(&bytes);
            map.flush().expect("it can be written");
            bytes
        }
    }
}

#[track_caller]
fn assert_same(file: usize, found: &[u8], expected: &[u8]) {
    if found == expected {
        return;
    }
    let at = found
        .iter()
        .zip(expected)
        .take_while(|(a, b)| a == b)
        .count()
        / RECORD
        * RECORD;
    let show = |bytes: &[u8]| {
        let record = bytes.get(at..(at + RECORD).min(bytes.len()));
        record.unwrap_or_default().escape_ascii().to_string()
    };
    panic!(
        "file {file}: {} bytes, expected {}; at {at} {:?}, expected {:?}",
        found.len(),
        expected.len(),
        show(found),
        show(expected)
    );
}

fn by_read(path: &Path) -> Vec<u8> {
    fs::read(path).expect("it can be read")
}

fn by_map(path: &Path) -> Vec<u8> {
    let file = File::open(path).expect("it can be opened");
    let len = file.metadata().expect("it has a length").len();
    if len == 0 {
        return Vec::new();
    }
    // SAFETY: not read here: where the file is cut meanwhile that would be a signal.
    #[allow(unsafe_code)]
    let map = unsafe { memmap2::Mmap::map(&file) }.expect("it can be mapped");
    let memory = File::open("/proc/self/mem").expect("/proc is there");
    let mut all = vec![0; map.len()];
    match memory.read_exact_at(&mut all, map.as_ptr() as u64) {
        Ok(()) => all,
        // It was cut: what is there now is compared if nobody is at it any more.
        Err(_) => by_read(path),
    }
}

/// Page by page out of the kernel's cache, without a copy to us.
fn by_sendfile(path: &Path) -> Vec<u8> {
    let from = File::open(path).expect("it can be opened");
    let flags = nix::sys::memfd::MFdFlags::empty();
    let to = nix::sys::memfd::memfd_create("copy", flags).expect("memory is to be had");
    while nix::sys::sendfile::sendfile(&to, &from, None, 1 << 16).expect("it can be sent") > 0 {}
    let (mut to, mut all) = (File::from(to), Vec::new());
    to.rewind().expect("a memory file has a start");
    to.read_to_end(&mut all).expect("it can be read");
    all
}

/// Past the kernel's cache.
fn by_direct(path: &Path) -> Vec<u8> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(nix::libc::O_DIRECT);
    let mut file = options.open(path).expect("it can be opened");
    let mut all = Vec::new();
    file.read_to_end(&mut all).expect("it can be read");
    all
}

/// Fails when nothing goes on for a long time: after ending the server, so that whoever waits for it wakes up.
fn watch(stress: &Stress, server: &[i32], done: &AtomicBool) {
    let (mut last, mut since) = (0, Instant::now());
    while !done.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(50));
        let now = stress.progress.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > PATIENCE {
            for pid in server {
                let pid = nix::unistd::Pid::from_raw(*pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            panic!("nothing has gone on for {PATIENCE:?}: a deadlock");
        }
    }
}

/// One mount: everybody reads all files while others write to those that are about to be read.
fn round(database: &Path, contents: &mut Vec<Vec<u8>>, rng: &mut Rng) -> u64 {
    let mount = Mount::new(database, &["--raw"]);
    let stress = Stress::new(&mount, contents);
    // The kernel knows every file from here on; it takes stores for no other.
    assert_eq!(
        fs::read_dir(&stress.bucket)
            .expect("it can be listed")
            .count(),
        FILES
    );
    let server = mount.processes();
    let done = AtomicBool::new(false);
    const WRITERS: usize = 2;
    let seeds: Vec<u64> = (0..WRITERS).map(|_| rng.next()).collect();
    thread::scope(|scope| {
        scope.spawn(|| watch(&stress, &server, &done));
        let stress = &stress;
        let writers: Vec<_> = seeds
            .into_iter()
            .enumerate()
            .map(|(n, seed)| scope.spawn(move || stress.write(n, WRITERS, &mut Rng::new(seed))))
            .collect();
        let readers = [
            scope.spawn(|| stress.walk(0, by_read)),
            scope.spawn(|| stress.walk(1, by_map)),
            scope.spawn(|| stress.walk(2, by_sendfile)),
        ];
        let readers = readers.map(|reader| reader.join());
        stress.done.store(true, Ordering::Relaxed);
        let writers: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        // What the kernel has, and what we have.
        if readers.iter().chain(&writers).all(Result::is_ok) {
            (0..FILES).for_each(|file| stress.read(file, by_read));
            (0..FILES).for_each(|file| stress.read(file, by_direct));
        }
        done.store(true, Ordering::Relaxed);
        for thread in readers.into_iter().chain(writers) {
            if let Err(panic) = thread {
                std::panic::resume_unwind(panic);
            }
        }
    });
    *contents = stress
        .files
        .iter()
        .map(|file| file.content().clone())
        .collect();
    mount.umount();
    stress.compared.into_inner()
}

#[test]
fn nobody_reads_old_bytes_and_no_write_is_lost() {
    common::rng::seeded(1, |_, rng| {
        let directory = TempDir::new("prefetch");
        let path = directory.join("db");
        let mut contents = database(&path, rng);
        let seconds = std::env::var("BOLTFS_STRESS_SECONDS");
        let seconds = seconds.ok().and_then(|s| s.parse().ok()).unwrap_or(10);
        let (started, mut compared) = (Instant::now(), 0);
        while compared == 0 || started.elapsed() < Duration::from_secs(seconds) {
            compared += round(&path, &mut contents, rng);
        }
        let file = File::open(&path).expect("the database is there");
        let map = boltfs::bolt::Map::of(&file).expect("it can be mapped");
        let snapshot = Snapshot::open(map, Default::default()).expect("it is a database");
        let bucket = snapshot.root().get(BUCKET).expect("it can be read");
        let bucket = snapshot
            .root()
            .sub_bucket(&bucket.expect("the bucket is there"));
        let bucket = bucket.expect("it is a bucket");
        for (file, content) in contents.iter().enumerate() {
            let element = bucket.get(key(file).as_bytes()).expect("it can be read");
            assert_same(file, element.expect("the key is there").value, content);
        }
        assert!(compared > FILES as u64, "{compared} reads were compared");
    });
}
