//! A disk in memory that records what is done to it, guards what must not be touched, and fails on demand.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use boltfs::bolt::{Disk, Map, OpenOptions, PageSet, Snapshot};

/// One call that changes the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Write {
        offset: u64,
        bytes: Vec<u8>,
    },
    SetLen(u64),
    Sync,
    /// A call that failed and did nothing.
    Failed,
}

/// The disk.
#[derive(Default)]
pub struct MemDisk {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    ops: Vec<Op>,
    guarded: Vec<Range<u64>>,
    fail: Option<Fail>,
    unmappable: bool,
}

/// How a call fails.
#[derive(Clone, Copy, Debug)]
pub struct Fail {
    /// The call that fails: how many are made before it.
    pub at: usize,
    /// How many bytes get through if it is a write.
    pub through: usize,
    /// The error number.
    pub errno: i32,
}

impl MemDisk {
    /// A file of these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        let disk = MemDisk::default();
        disk.lock().bytes = bytes;
        disk
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The file as it is now.
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// Its current state.
    pub fn snapshot(&self) -> Snapshot {
        let map = Map::from(self.bytes());
        Snapshot::open(map, OpenOptions::default()).expect("what the writer left can be opened")
    }

    /// Forgets what was recorded and guarded.
    pub fn reset(&self) {
        let mut state = self.lock();
        state.ops.clear();
        state.guarded.clear();
        state.fail = None;
    }

    /// From now on writing to these pages fails the test.
    pub fn guard(&self, pages: &PageSet, page_size: usize) {
        let size = page_size as u64;
        let ranges = pages
            .runs()
            .map(|(first, n)| first * size..(first + n) * size);
        self.lock().guarded.extend(ranges);
    }

    /// One call from now on fails.
    pub fn fail(&self, mut fail: Fail) {
        let mut state = self.lock();
        fail.at += state.ops.len();
        state.fail = Some(fail);
    }

    /// It cannot be mapped from now on, as where there is no room for that. So whoever reads it sees what becomes of it: a map
    /// is a copy here.
    pub fn refuse_maps(&self) {
        self.lock().unmappable = true;
    }

    /// What was done since the last reset.
    pub fn ops(&self) -> Vec<Op> {
        self.lock().ops.clone()
    }
}

/// Does `op` to a file.
pub fn apply(bytes: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write { offset, bytes: new } => {
            let (start, end) = (*offset as usize, *offset as usize + new.len());
            bytes.resize(bytes.len().max(end), 0);
            bytes[start..end].copy_from_slice(new);
        }
        Op::SetLen(len) => bytes.resize(*len as usize, 0),
        Op::Sync | Op::Failed => {}
    }
}

impl State {
    fn perform(&mut self, op: Op) -> io::Result<()> {
        if let Op::Write { offset, bytes } = &op {
            let end = offset + bytes.len() as u64;
            let hit = self
                .guarded
                .iter()
                .find(|r| r.start < end && *offset < r.end);
            assert!(
                hit.is_none(),
                "{offset}..{end} overwrites live pages {hit:?}"
            );
        }
        let fails = self.fail.filter(|fail| fail.at == self.ops.len());
        let done = match (fails, op) {
            (None, op) => op,
            (Some(fail), Op::Write { offset, mut bytes }) if fail.through > 0 => {
                bytes.truncate(fail.through);
                Op::Write { offset, bytes }
            }
            (Some(_), _) => Op::Failed,
        };
        apply(&mut self.bytes, &done);
        self.ops.push(done);
        match fails {
            Some(fail) => Err(io::Error::from_raw_os_error(fail.errno)),
            None => Ok(()),
        }
    }
}

impl Disk for MemDisk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.lock().bytes.len() as u64)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.lock();
        let from = state.bytes.get(offset as usize..).unwrap_or_default();
        let found = from.get(..buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(found);
        Ok(())
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let bytes = buf.to_vec();
        self.lock().perform(Op::Write { offset, bytes })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.lock().perform(Op::SetLen(len))
    }

    fn sync(&self) -> io::Result<()> {
        self.lock().perform(Op::Sync)
    }

    fn map(&self) -> io::Result<Map> {
        let unmappable = self.lock().unmappable;
        match unmappable {
            true => Err(io::ErrorKind::OutOfMemory.into()),
            false => Ok(Map::from(self.bytes())),
        }
    }
}
