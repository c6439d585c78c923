//! The kernel's requests handed to [`vfs`](crate::vfs), and the one table of errors to errno.
//!
//! No `open`, no `opendir`: both are answered "not implemented", once, after which the kernel
//! sends neither them nor `release` nor `flush`, and keeps its caches. Everything that changes,
//! changes through the kernel, so what it has cached stays true for ever; only the files of
//! `.boltfs` change by themselves, and their attributes are not cached.

mod busypoll;
mod convert;
mod guard;
mod prefetch;

pub use busypoll::BusyPoll;
pub use guard::{Guarded, said};
pub use prefetch::Prefetch;

use crate::vfs::{Attr, Error, Forgotten, RenameMode, Result, SetAttr, SetXattr, Vfs};
use convert::{errno, file_attr, file_type, ino, set_time, ttl};
use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileHandle, Filesystem, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, Notifier, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, Version, WriteFlags,
};
use guard::guarded;
use prefetch::Touch;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long the kernel may take a name or an attribute for true: always.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
/// A number is never given to another node.
const GENERATION: Generation = Generation(0);
/// Largest write, and largest read-ahead, in bytes.
pub const MAX_TRANSFER: u32 = 1 << 20;

/// What the kernel must be able to do.
const NEEDED: InitFlags = InitFlags::FUSE_NO_OPEN_SUPPORT.union(InitFlags::FUSE_NO_OPENDIR_SUPPORT);

/// What is asked of the kernel where it can.
const WANTED: InitFlags = InitFlags::FUSE_ASYNC_READ
    .union(InitFlags::FUSE_BIG_WRITES)
    .union(InitFlags::FUSE_MAX_PAGES)
    .union(InitFlags::FUSE_DO_READDIRPLUS)
    .union(InitFlags::FUSE_PARALLEL_DIROPS)
    .union(InitFlags::FUSE_AUTO_INVAL_DATA)
    // The umask is applied here, so that `mkdir -m` and default modes come out right.
    .union(InitFlags::FUSE_DONT_MASK)
    // Set-user-id bits are dropped here: saves a request for an attribute before each write.
    .union(InitFlags::FUSE_HANDLE_KILLPRIV_V2);

/// Carries out what is written to the control file.
pub trait Control: Send + Sync {
    /// Carries out `command`, the bytes of one write.
    ///
    /// # Errors
    /// Why it was not done; reading the control file tells the same in words.
    fn command(&self, command: &[u8]) -> Result<()>;
}

/// The file system as the kernel drives it.
pub struct Fuse(Arc<Vfs>, Arc<dyn Control>, Arc<Prefetch>);

impl Fuse {
    /// Serves `vfs`, and hands commands to `control`.
    pub fn new(vfs: Arc<Vfs>, control: Arc<dyn Control>) -> Fuse {
        let prefetch = Arc::new(Prefetch::new(vfs.clone()));
        Fuse(vfs, control, prefetch)
    }

    /// What puts small files into the kernel's cache, to be started once the session is live.
    pub fn prefetch(&self) -> Arc<Prefetch> {
        self.2.clone()
    }

    /// What the kernel is told of an operation on `at` that failed. Damage is told in words too.
    fn errno(&self, at: INodeNo, e: Error) -> Errno {
        self.0.note(ino(at), &e);
        errno(e)
    }

    fn empty(&self, at: INodeNo, result: Result<()>, reply: ReplyEmpty) {
        match result {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(self.errno(at, e)),
        }
    }

    fn entry(&self, at: INodeNo, result: Result<Attr>, reply: ReplyEntry) {
        match result {
            Ok(attr) => {
                let ttl = ttl(&attr);
                // The name stays; only what it stands for may change.
                reply.entry_with_ttls(&ttl, &FOREVER, &file_attr(&attr), GENERATION);
            }
            Err(e) => reply.error(self.errno(at, e)),
        }
    }

    fn xattr(&self, at: INodeNo, result: Result<Vec<u8>>, size: u32, reply: ReplyXattr) {
        match result {
            // A value of at most a key's hex, 65,536 bytes.
            Ok(value) if size == 0 => reply.size(value.len() as u32),
            Ok(value) if value.len() <= size as usize => reply.data(&value),
            Ok(_) => reply.error(Errno::ERANGE),
            Err(e) => reply.error(self.errno(at, e)),
        }
    }
}

/// Makes the kernel forget what a discard has changed.
///
/// Not to be called from a thread that answers requests: the kernel takes locks for it that a
/// process may hold while it waits for an answer.
pub fn forget(kernel: &Notifier, forgotten: &Forgotten) {
    for (dir, name) in &forgotten.names {
        // What the kernel does not know it need not forget: ENOENT.
        let _ = kernel.inval_entry(INodeNo(dir.0), OsStr::from_bytes(name));
    }
    for node in &forgotten.nodes {
        let _ = kernel.inval_inode(INodeNo(node.0), 0, 0);
    }
}

impl Filesystem for Fuse {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        config.add_capabilities(NEEDED).map_err(|_| {
            io::Error::new(
                io::ErrorKind::Unsupported,
                "this kernel's FUSE is too old (Linux 5.1)",
            )
        })?;
        let _ = config.add_capabilities(WANTED & config.capabilities());
        let Version(major, minor) = config.kernel_abi();
        self.2.kernel(major, minor);
        // Where the kernel allows less it says so by the error, and keeps its own value.
        let _ = config.set_max_write(MAX_TRANSFER);
        if let Err(most) = config.set_max_readahead(MAX_TRANSFER) {
            let _ = config.set_max_readahead(most);
        }
        Ok(())
    }

    fn destroy(&mut self) {
        self.2.stop();
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(parent, self.0.lookup(ino(parent), name.as_bytes()), reply);
    }

    fn forget(&self, _req: &Request, node: INodeNo, _nlookup: u64) {
        self.0.forget(ino(node));
    }

    fn getattr(&self, _req: &Request, node: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.getattr(ino(node)) {
            Ok(attr) => reply.attr(&ttl(&attr), &file_attr(&attr)),
            Err(e) => reply.error(self.errno(node, e)),
        }
    }

    fn setattr(
        &self,
        req: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (atime, mtime) = (atime.map(set_time), mtime.map(set_time));
        let set = SetAttr {
            mode,
            uid,
            gid,
            size,
            atime,
            mtime,
            // Who is no superuser cannot leave them on a file that he changes.
            drop_ids: req.uid() != 0,
        };
        let (vfs, node) = (self.0.clone(), ino(node));
        // It may be carried out on a thread of its own.
        let change = move || {
            guarded(&vfs, || match vfs.setattr(node, set) {
                Ok(attr) => reply.attr(&ttl(&attr), &file_attr(&attr)),
                Err(e) => {
                    vfs.note(node, &e);
                    reply.error(errno(e));
                }
            });
        };
        match size {
            Some(_) => self.2.before_resize(node, change),
            None => change(),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        if mode & libc::S_IFMT != libc::S_IFREG {
            return reply.error(errno(Error::NotPermitted));
        }
        let mode = mode & !umask;
        self.entry(
            parent,
            self.0
                .create(ino(parent), name.as_bytes(), mode, req.uid(), req.gid()),
            reply,
        );
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let mode = mode & !umask;
        self.entry(
            parent,
            self.0
                .mkdir(ino(parent), name.as_bytes(), mode, req.uid(), req.gid()),
            reply,
        );
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(parent, self.0.unlink(ino(parent), name.as_bytes()), reply);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(parent, self.0.rmdir(ino(parent), name.as_bytes()), reply);
    }

    fn symlink(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _link_name: &OsStr,
        _target: &Path,
        reply: ReplyEntry,
    ) {
        reply.error(errno(Error::NotPermitted));
    }

    fn link(
        &self,
        _req: &Request,
        _node: INodeNo,
        _new_parent: INodeNo,
        _new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        reply.error(errno(Error::NotPermitted));
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = match flags {
            f if f.is_empty() => RenameMode::Replace,
            RenameFlags::RENAME_NOREPLACE => RenameMode::NoReplace,
            RenameFlags::RENAME_EXCHANGE => RenameMode::Exchange,
            _ => return reply.error(errno(Error::Invalid)),
        };
        let (name, new_name) = (name.as_bytes(), new_name.as_bytes());
        self.empty(
            parent,
            self.0
                .rename(ino(parent), name, ino(new_parent), new_name, mode),
            reply,
        );
    }

    fn open(&self, _req: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS); // see the head of this file
    }

    fn opendir(&self, _req: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn flush(
        &self,
        _req: &Request,
        _node: INodeNo,
        _fh: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.2.touch(ino(node), Touch::Read);
        let mut reply = Some(reply);
        let read = self.0.read(ino(node), offset, size as usize, |bytes| {
            if let Some(reply) = reply.take() {
                reply.data(bytes);
            }
        });
        if let (Err(e), Some(reply)) = (read, reply) {
            reply.error(self.errno(node, e));
        }
    }

    fn write(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if crate::vfs::is_control(ino(node)) {
            // On a thread of its own: see `forget`.
            let (vfs, control) = (self.0.clone(), self.1.clone());
            let command = data.to_vec();
            let carry_out = move || {
                guarded(&vfs, || match control.command(&command) {
                    Ok(()) => reply.written(command.len() as u32),
                    Err(e) => reply.error(errno(e)),
                });
            };
            // Without a thread the reply is dropped, which answers the request with an error.
            if let Err(e) = std::thread::Builder::new().spawn(carry_out) {
                log::warn!("cannot carry out a command: {e}");
            }
            return;
        }
        self.2.touch(ino(node), Touch::Write);
        let drop_ids = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        match self.0.write(ino(node), offset, data, drop_ids) {
            Ok(()) => reply.written(data.len() as u32), // at most MAX_TRANSFER
            Err(e) => reply.error(self.errno(node, e)),
        }
    }

    fn fsync(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.empty(node, self.0.sync(), reply);
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.empty(node, self.0.sync(), reply);
    }

    fn readdir(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut any = false;
        let listed = self.0.readdir(ino(node), offset, &mut |e| {
            let name = OsStr::from_bytes(e.name);
            let kind = file_type(e.attr.kind);
            let full = reply.add(INodeNo(e.attr.ino.0), e.cookie, kind, name);
            any |= !full;
            !full
        });
        match listed {
            // What was listed first counts: the error comes again at the end.
            Err(e) if !any || matches!(e, Error::Lost) => reply.error(self.errno(node, e)),
            _ => reply.ok(),
        }
    }

    fn readdirplus(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let mut any = false;
        let listed = self.0.readdir(ino(node), offset, &mut |e| {
            let (name, attr) = (OsStr::from_bytes(e.name), file_attr(&e.attr));
            let full = reply.add(attr.ino, e.cookie, name, &ttl(&e.attr), &attr, GENERATION);
            any |= !full;
            !full
        });
        match listed {
            Err(e) if !any || matches!(e, Error::Lost) => reply.error(self.errno(node, e)),
            _ => reply.ok(),
        }
    }

    fn statfs(&self, _req: &Request, _node: INodeNo, reply: ReplyStatfs) {
        let s = self.0.statfs();
        reply.statfs(
            s.blocks,
            s.free,
            s.available,
            0,
            0,
            s.block_size,
            s.name_max,
            s.block_size,
        );
    }

    /// Asked only where root alone is let in, and the kernel does not look at permissions itself.
    /// Root may do all but execute what nobody may.
    fn access(&self, _req: &Request, node: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let may = match mask.contains(AccessFlags::X_OK) {
            true => self.0.verify_executable(ino(node)),
            false => Ok(()),
        };
        self.empty(node, may, reply);
    }

    /// Never answered ENOSYS: that the kernel asks for `security.capability` ahead of the first
    /// write to an inode is what keeps stores away from it, see [`prefetch`].
    fn getxattr(&self, _req: &Request, node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if name == "security.capability" {
            self.2.touch(ino(node), Touch::Write);
        }
        self.xattr(
            node,
            self.0.getxattr(ino(node), name.as_bytes()),
            size,
            reply,
        );
    }

    fn listxattr(&self, _req: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        self.xattr(node, self.0.listxattr(ino(node)), size, reply);
    }

    fn setxattr(
        &self,
        _req: &Request,
        node: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let how = match flags {
            libc::XATTR_CREATE => SetXattr::Create,
            libc::XATTR_REPLACE => SetXattr::Replace,
            _ => SetXattr::Any,
        };
        self.empty(
            node,
            self.0.setxattr(ino(node), name.as_bytes(), value, how),
            reply,
        );
    }

    fn removexattr(&self, _req: &Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(node, self.0.removexattr(ino(node), name.as_bytes()), reply);
    }

    /// The kernel then makes a file with `mknod` and opens it as any other, of which nobody hears: one
    /// request in place of two.
    fn create(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.2.touch(ino(node), Touch::Write);
        self.empty(
            node,
            self.0.fallocate(ino(node), offset, length, mode),
            reply,
        );
    }
}
