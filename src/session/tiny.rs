//! Stand-in until the real file system lands.
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::bolt::{DbFile, Snapshot};
use fuser::*;

use super::commit::{Outcome, Report, Store};
use super::failure::{Failure, Result};
use super::mount::Plan;
use super::serve::{MountRequest, Served, serve};

struct Tiny;

fn attr(ino: u64) -> FileAttr {
    let dir = ino == 1;
    FileAttr {
        ino: INodeNo(ino),
        size: if dir { 0 } else { 6 },
        blocks: 1,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: if dir {
            FileType::Directory
        } else {
            FileType::RegularFile
        },
        perm: if dir { 0o700 } else { 0o600 },
        nlink: 1,
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Tiny {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo(1) && name == "hello" {
            reply.entry(&Duration::from_secs(60), &attr(2), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }
    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::from_secs(60), &attr(ino.0));
    }
    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        _: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        reply.data(b"hello\n".get(offset as usize..).unwrap_or_default());
    }
    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if offset == 0 {
            let _ = reply.add(INodeNo(2), 1, FileType::RegularFile, "hello");
        }
        reply.ok();
    }
}

struct Nothing(DbFile, #[allow(dead_code)] Snapshot);

impl Store for Nothing {
    fn seal(&self) {}
    fn staged(&self) -> u64 {
        0
    }
    fn commit(&self) -> Result<Option<Outcome>, Failure> {
        Ok(None)
    }
    fn release(&self) {
        self.0.file().unlock().unwrap();
    }
}

pub(super) fn serve_tiny(
    request: &MountRequest,
    plan: &Plan,
    file: DbFile,
    snapshot: Snapshot,
) -> Result<Report> {
    let store = Arc::new(Nothing(file, snapshot));
    serve(
        request,
        plan,
        Served {
            filesystem: Tiny,
            store,
            on_live: Box::new(|_| ()),
        },
    )
}
