//! A disk that fails: a file system with one file, `db`, a part of which cannot be read. It is also there as the journal of
//! `out`.

use std::ffi::OsStr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation,
    INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyWrite,
    Request, TimeOrNow, WriteFlags,
};

use crate::common::TempDir;

const DB: INodeNo = INodeNo(2);

/// It is there as long as this lives.
pub struct Failing {
    state: Arc<Mutex<State>>,
    path: PathBuf,
    session: Option<BackgroundSession>,
    _directory: TempDir,
}

struct State {
    bytes: Vec<u8>,
    bad: Range<u64>,
    failed: u64,
}

impl Failing {
    /// A file of these bytes, of which those in `bad` cannot be read.
    pub fn new(bytes: Vec<u8>, bad: Range<u64>) -> Failing {
        crate::common::mount::need_fuse();
        let directory = TempDir::new("failing");
        let state = Arc::new(Mutex::new(State {
            bytes,
            bad,
            failed: 0,
        }));
        let config = fuser::Config::default();
        let session = fuser::spawn_mount(Disk(state.clone()), directory.path(), &config);
        Failing {
            state,
            path: directory.join("db"),
            session: Some(session.expect("it can be mounted")),
            _directory: directory,
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it holds, the unreadable part too.
    pub fn bytes(&self) -> Vec<u8> {
        lock(&self.state).bytes.clone()
    }

    /// How many reads have failed.
    pub fn failed(&self) -> u64 {
        lock(&self.state).failed
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        drop(self.session.take()); // unmounts, before the directory goes
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Disk(Arc<Mutex<State>>);

impl Disk {
    fn attr(&self, node: INodeNo) -> FileAttr {
        let (kind, perm) = match node {
            DB => (FileType::RegularFile, 0o600),
            _ => (FileType::Directory, 0o755),
        };
        let size = lock(&self.0).bytes.len() as u64;
        let time = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: node,
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Disk {
    fn lookup(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name == "db" || name == "out.boltfs-journal" {
            true => reply.entry(&Duration::ZERO, &self.attr(DB), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, node: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::ZERO, &self.attr(node));
    }

    fn setattr(
        &self,
        _req: &Request,
        node: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if let Some(size) = size {
            lock(&self.0).bytes.resize(size as usize, 0);
        }
        reply.attr(&Duration::ZERO, &self.attr(node));
    }

    fn read(
        &self,
        _req: &Request,
        _node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut state = lock(&self.0);
        let end = (offset + u64::from(size)).min(state.bytes.len() as u64);
        if state.bad.start < end && offset < state.bad.end {
            state.failed += 1;
            return reply.error(Errno::EIO);
        }
        reply.data(&state.bytes[(offset as usize).min(end as usize)..end as usize]);
    }

    fn write(
        &self,
        _req: &Request,
        _node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = lock(&self.0);
        let (start, end) = (offset as usize, offset as usize + data.len());
        if state.bytes.len() < end {
            state.bytes.resize(end, 0);
        }
        state.bytes[start..end].copy_from_slice(data);
        reply.written(data.len() as u32);
    }

    fn fsync(
        &self,
        _req: &Request,
        _node: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }
}
