//! A panic in a handler is a fault of ours. It must not end the mount, which would commit what may be
//! half changed: the request is answered EIO, and nothing is committed from then on.

use super::{BusyPoll, Fuse, Prefetch};
use crate::vfs::Vfs;
use fuser::{
    AccessFlags, BsdFileFlags, FileHandle, Filesystem, INodeNo, KernelConfig, LockOwner, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::any::Any;
use std::ffi::OsStr;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// Runs what answers a request to `vfs`. If that panics the reply is dropped, which answers EIO.
pub(super) fn guarded(vfs: &Vfs, answer: impl FnOnce()) {
    // What it may have left half changed is not used for anything that lasts.
    let Err(panic) = catch_unwind(AssertUnwindSafe(answer)) else {
        return;
    };
    if vfs.give_up() {
        log::error!(
            "boltfs failed in its own code ({}); please report this. No more edits are taken and \
             nothing is committed, for what is pending may be half done; the journal has all edits \
             that were answered. Unmount, and mount again with --recover",
            said(&*panic)
        );
    }
}

/// What a panic said.
pub fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no reason given")
}

/// The file system as it is mounted: each request is answered [`guarded`].
pub struct Guarded {
    fuse: Fuse,
    poll: BusyPoll,
}

impl Guarded {
    /// Guards `fuse`, whose requests `poll` waits for.
    pub fn new(fuse: Fuse, poll: BusyPoll) -> Guarded {
        Guarded { fuse, poll }
    }

    /// As [`Fuse::prefetch`].
    pub fn prefetch(&self) -> Arc<Prefetch> {
        self.fuse.prefetch()
    }
}

/// Bytes that are copied in about the time that it takes to wake a thread.
const SHORT: usize = 32 << 10;

/// Hands requests on. Behind `long` stands whether one may take long.
macro_rules! guard {
    ($($request:ident($($arg:ident: $type:ty),*) $(long $long:expr)?;)*) => {$(
        fn $request(&self, req: &Request, $($arg: $type),*) {
            $(if $long {
                self.poll.takes_long();
            })?
            guarded(&self.fuse.0, || self.fuse.$request(req, $($arg),*));
            self.poll.await_next();
        }
    )*};
}

impl Filesystem for Guarded {
    // Before the first request, and after the last one.
    fn init(&mut self, req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.fuse.init(req, config)
    }

    fn destroy(&mut self) {
        self.fuse.destroy();
    }

    // Each request that `Fuse` answers itself; one that is not here gets the answer of a file system
    // that does not know it.
    guard! {
        lookup(parent: INodeNo, name: &OsStr, reply: ReplyEntry);
        forget(node: INodeNo, lookups: u64);
        getattr(node: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr);
        setattr(
            node: INodeNo, mode: Option<u32>, uid: Option<u32>, gid: Option<u32>, size: Option<u64>,
            atime: Option<TimeOrNow>, mtime: Option<TimeOrNow>, ctime: Option<SystemTime>,
            fh: Option<FileHandle>, crtime: Option<SystemTime>, chgtime: Option<SystemTime>,
            bkuptime: Option<SystemTime>, flags: Option<BsdFileFlags>, reply: ReplyAttr
        );
        mknod(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry);
        mkdir(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry);
        unlink(parent: INodeNo, name: &OsStr, reply: ReplyEmpty);
        rmdir(parent: INodeNo, name: &OsStr, reply: ReplyEmpty);
        symlink(parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry);
        link(node: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry);
        rename(
            parent: INodeNo, name: &OsStr, new_parent: INodeNo, new_name: &OsStr,
            flags: RenameFlags, reply: ReplyEmpty
        );
        open(node: INodeNo, flags: OpenFlags, reply: ReplyOpen);
        opendir(node: INodeNo, flags: OpenFlags, reply: ReplyOpen);
        flush(node: INodeNo, fh: FileHandle, owner: LockOwner, reply: ReplyEmpty);
        read(
            node: INodeNo, fh: FileHandle, offset: u64, size: u32, flags: OpenFlags,
            owner: Option<LockOwner>, reply: ReplyData
        ) long size as usize > SHORT;
        write(
            node: INodeNo, fh: FileHandle, offset: u64, data: &[u8], how: WriteFlags,
            flags: OpenFlags, owner: Option<LockOwner>, reply: ReplyWrite
        ) long data.len() > SHORT;
        fsync(node: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) long true;
        fsyncdir(node: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) long true;
        readdir(node: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory);
        readdirplus(node: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectoryPlus);
        statfs(node: INodeNo, reply: ReplyStatfs);
        access(node: INodeNo, mask: AccessFlags, reply: ReplyEmpty);
        getxattr(node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr);
        listxattr(node: INodeNo, size: u32, reply: ReplyXattr);
        setxattr(
            node: INodeNo, name: &OsStr, value: &[u8], flags: i32, position: u32, reply: ReplyEmpty
        );
        removexattr(node: INodeNo, name: &OsStr, reply: ReplyEmpty);
        create(
            parent: INodeNo, name: &OsStr, mode: u32, umask: u32, flags: i32, reply: ReplyCreate
        );
        fallocate(
            node: INodeNo, fh: FileHandle, offset: u64, length: u64, mode: i32, reply: ReplyEmpty
        );
    }
}
