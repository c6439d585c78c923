//! Our words and the kernel's.

use super::FOREVER;
use crate::overlay::{Ino, Kind};
use crate::vfs::{Attr, Error, SetTime};
use fuser::{Errno, FileAttr, FileType, INodeNo, TimeOrNow};
use std::time::Duration;

/// The one table of errors to errno.
pub(super) fn errno(e: Error) -> Errno {
    match e {
        Error::NotFound => Errno::ENOENT,
        Error::Exists => Errno::EEXIST,
        Error::NotDirectory => Errno::ENOTDIR,
        Error::IsDirectory => Errno::EISDIR,
        Error::NotEmpty => Errno::ENOTEMPTY,
        Error::NotExecutable => Errno::EACCES,
        Error::NotPermitted => Errno::EPERM,
        Error::ReadOnly | Error::Sealed => Errno::EROFS,
        Error::NameTooLong => Errno::ENAMETOOLONG,
        Error::Invalid => Errno::EINVAL,
        Error::TooBig => Errno::EFBIG,
        Error::NoAttribute => Errno::ENODATA,
        Error::NotSupported => Errno::EOPNOTSUPP,
        Error::Stale => Errno::ESTALE,
        // Whoever knows the place has told them.
        Error::Damaged(_) | Error::Lost | Error::Incomplete => Errno::EIO,
        Error::NotCommitted => Errno::EIO,
        Error::NoMemory => Errno::ENOMEM,
        Error::Journal(e) => {
            log::warn!("an edit was refused, for the journal cannot be written: {e}");
            match e.raw_os_error() {
                Some(libc::ENOSPC) => Errno::ENOSPC,
                Some(libc::EDQUOT) => Errno::EDQUOT,
                Some(libc::EFBIG) => Errno::EFBIG,
                Some(libc::EMFILE) => Errno::EMFILE,
                Some(libc::ENFILE) => Errno::ENFILE,
                Some(libc::ENOMEM) => Errno::ENOMEM,
                _ => Errno::EIO,
            }
        }
    }
}

pub(super) fn ino(ino: INodeNo) -> Ino {
    Ino(ino.0)
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
    }
}

pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.size.div_ceil(512),
        atime: attr.attrs.atime,
        mtime: attr.attrs.mtime,
        ctime: attr.attrs.ctime,
        crtime: attr.attrs.ctime,
        kind: file_type(attr.kind),
        perm: attr.attrs.mode,
        nlink: attr.nlink,
        uid: attr.attrs.uid,
        gid: attr.attrs.gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

pub(super) fn ttl(attr: &Attr) -> Duration {
    if attr.volatile {
        Duration::ZERO
    } else {
        FOREVER
    }
}

pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::SpecificTime(time) => SetTime::At(time),
        TimeOrNow::Now => SetTime::Now,
    }
}
