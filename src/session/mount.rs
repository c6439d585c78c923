//! Mounting and unmounting, for root with mount(2) and umount2(2), for anybody else through
//! `fusermount3`.
//!
//! We mount ourselves rather than through fuser: its mounts by root read `fuse` in the table of
//! mounts, not `fuse.boltfs`, and `umount` could then not find our helper.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use super::failure::{Failure, Result};
use super::mountinfo::{self, Device, Mount};

/// Who may use the mount besides the user who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Allow {
    /// Nobody, not even root: FUSE's default.
    #[default]
    Owner,
    /// Root (`-o allow_root`).
    Root,
    /// Everybody whom the owner and mode of the database file let (`-o allow_other`).
    Other,
}

/// What is to be mounted where.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The database, absolute: the source shown in the table of mounts.
    pub source: PathBuf,
    /// The mount point, from [`mountinfo::resolve`].
    pub point: PathBuf,
    /// The kernel refuses every change.
    pub read_only: bool,
    /// The kernel refuses to execute files.
    pub no_exec: bool,
    /// Who may use it.
    pub allow: Allow,
    /// Put small files into the kernel's cache before they are read.
    pub prefetch: bool,
}

/// The `fusermount3` that works for ordinary users, of package fuse3.
const FUSERMOUNT: &str = "fusermount3";

/// Mounts, and returns the connection to the kernel and the mount's line in the table.
///
/// # Errors
/// Why it cannot be mounted; nothing is left mounted then.
pub fn mount(plan: &Plan) -> Result<(OwnedFd, Mount)> {
    let device = if nix::unistd::geteuid().is_root() {
        match direct(plan) {
            // Root without the right to mount (in a container): the setuid helper may have it.
            Err(Errno::EPERM) => through_fusermount(plan)?,
            other => other.map_err(|e| no_fuse(plan, e))?,
        }
    } else {
        through_fusermount(plan)?
    };
    match mountinfo::at(&plan.point) {
        Ok(Some(mount)) if mount.is_ours() => Ok((device, mount)),
        found => {
            drop(device);
            let _ = unmount(&plan.point, Manner::Lazy);
            Err(Failure::new(
                format!(
                    "{} was mounted but is not in /proc/self/mountinfo ({found:?})",
                    plan.point.display()
                ),
                "Is /proc mounted? It was unmounted again.",
            ))
        }
    }
}

/// Lets the kernel read ahead as much as one request may ask for, not just its usual 128 KiB: a long
/// value is read twice as fast. Only root may; where that is not possible all is well without it.
///
/// To be called once the kernel was answered what it asks at the start: that takes it back.
pub fn read_ahead(device: Device) {
    let setting = format!("/sys/class/bdi/{device}/read_ahead_kb");
    let kib = crate::fuse::MAX_TRANSFER >> 10;
    if let Err(e) = std::fs::write(&setting, kib.to_string()) {
        log::debug!("{setting}: {e}");
    }
}

/// Mounts with mount(2).
fn direct(plan: &Plan) -> Result<OwnedFd, Errno> {
    let device = open_device()?;
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, plan.read_only);
    flags.set(MsFlags::MS_NOEXEC, plan.no_exec);
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={}",
        device.as_raw_fd(),
        nix::unistd::getuid(),
        nix::unistd::getgid(),
    );
    // Where root alone is let in, permissions forbid nothing but to execute, which the kernel and
    // `access` look after. To look at those of a directory it would ask us for them again
    // after each change in it: one request in three of an `rm -r`.
    if plan.allow != Allow::Owner {
        data.push_str(",default_permissions,allow_other");
    }
    nix::mount::mount(
        Some(plan.source.as_path()),
        plan.point.as_path(),
        Some(mountinfo::FSTYPE),
        flags,
        Some(data.as_str()),
    )?;
    Ok(device)
}

fn open_device() -> Result<OwnedFd, Errno> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .map(OwnedFd::from)
        .map_err(|e| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

/// Whether `/dev/fuse` can be opened here, so that each event loop can have a queue of its own.
pub fn device_opens() -> bool {
    open_device().is_ok()
}

fn no_fuse(plan: &Plan, e: Errno) -> Failure {
    let what = format!("cannot mount on {}: {}", plan.point.display(), e.desc());
    match e {
        Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => Failure::new(
            what,
            "The kernel's FUSE is not there: run `modprobe fuse`, or give the container \
             --device /dev/fuse --cap-add SYS_ADMIN.",
        ),
        Errno::EPERM | Errno::EACCES => Failure::new(
            what,
            "Mounting is not permitted here: a container needs --device /dev/fuse --cap-add \
             SYS_ADMIN.",
        ),
        _ => Failure::new(what, "Nothing was mounted, and the database is unchanged."),
    }
}

/// Mounts through `fusermount3`, which sends the connection to the kernel over a socket.
fn through_fusermount(plan: &Plan) -> Result<OwnedFd> {
    let mut options = OsString::from("nosuid,nodev,default_permissions,subtype=boltfs");
    if plan.read_only {
        options.push(",ro");
    }
    if plan.no_exec {
        options.push(",noexec");
    }
    if plan.allow != Allow::Owner {
        options.push(",allow_other");
    }
    options.push(",fsname=");
    options.push(escape(plan.source.as_os_str()));

    let cannot =
        |e: io::Error| Failure::new(format!("cannot mount on {}: {e}", plan.point.display()), "");
    let (ours, theirs) = UnixStream::pair().map_err(cannot)?;
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty()).map_err(|e| cannot(e.into()))?;
    let mut args = vec![OsString::from("-o"), options, OsString::from("--")];
    args.push(plan.point.clone().into_os_string());
    let output = fusermount(&args, Some(&theirs))?;
    drop(theirs);
    if !output.status.success() {
        return Err(fusermount_failed(plan, &output));
    }
    receive_device(&ours).map_err(cannot)
}

/// In the value of an option, `fusermount3` takes a backslash before a comma or a backslash.
fn escape(value: &OsStr) -> OsString {
    let mut escaped = Vec::with_capacity(value.len());
    for &byte in value.as_bytes() {
        if matches!(byte, b',' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    OsString::from_vec(escaped)
}

fn fusermount(args: &[OsString], socket: Option<&UnixStream>) -> Result<Output> {
    let run = |program: &str| {
        let mut command = Command::new(program);
        command.args(args).env("LC_ALL", "C").stdin(Stdio::null());
        if let Some(socket) = socket {
            command.env("_FUSE_COMMFD", socket.as_raw_fd().to_string());
        }
        command.output()
    };
    run(FUSERMOUNT)
        .or_else(|e| match e.kind() {
            io::ErrorKind::NotFound => run(&format!("/bin/{FUSERMOUNT}")),
            _ => Err(e),
        })
        .map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Failure::new(
                format!("{FUSERMOUNT} is not installed, and only root can mount without it"),
                "Install it (Debian, Ubuntu, Fedora: package fuse3), or run boltfs as root.",
            ),
            _ => Failure::new(
                format!("cannot run {FUSERMOUNT}: {e}"),
                "Run boltfs as root.",
            ),
        })
}

fn fusermount_failed(plan: &Plan, output: &Output) -> Failure {
    let message = fusermount_message(output);
    let what = format!("cannot mount on {}: {message}", plan.point.display());
    let next = if message.contains("user_allow_other") {
        "Ask root to put a line `user_allow_other` into /etc/fuse.conf, or mount without \
         -o allow_other."
    } else if message.contains("no write access") || message.contains("not owned") {
        "Mount on a directory of your own."
    } else if message.contains("/dev/fuse: Permission denied") {
        "Ask root to let users open it (chmod 666 /dev/fuse, as most systems have it), or run \
         boltfs as root."
    } else if message.contains("/dev/fuse") || message.contains("device not found") {
        "The kernel's FUSE is not there: run `modprobe fuse` as root, or give the container \
         --device /dev/fuse --cap-add SYS_ADMIN."
    } else if message.contains("Operation not permitted") {
        "Mounting is not permitted here: a container needs --device /dev/fuse --cap-add SYS_ADMIN."
    } else {
        "Nothing was mounted, and the database is unchanged."
    };
    Failure::new(what, next)
}

fn fusermount_message(output: &Output) -> String {
    let message = String::from_utf8_lossy(&output.stderr);
    let message = message.trim();
    let message = message.strip_prefix("fusermount3: ").unwrap_or(message);
    match message {
        "" => format!("fusermount3 ended with {}", output.status),
        message => message.to_owned(),
    }
}

fn receive_device(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8];
    rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        })
        .ok_or_else(|| io::Error::other("fusermount3 passed no connection to the kernel"))
}

/// How to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Only if nothing uses it.
    Plain,
    /// Take it out of the directory tree now; processes that use it keep what they have.
    Lazy,
    /// End its connection to the process that serves it, then as plainly. Only root can.
    Force,
}

/// Why something could not be unmounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// A process has a file of it open, or its working directory in it.
    Busy,
    /// It is not mounted (any more).
    NotMounted,
    /// Another reason, in words.
    Other(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Busy => f.write_str("it is in use"),
            Refused::NotMounted => f.write_str("it is not mounted"),
            Refused::Other(reason) => f.write_str(reason),
        }
    }
}

/// Unmounts what is mounted at `point`.
///
/// # Errors
/// Why it stays mounted.
pub fn unmount(point: &Path, manner: Manner) -> Result<(), Refused> {
    let mut flags = MntFlags::UMOUNT_NOFOLLOW;
    flags.set(MntFlags::MNT_DETACH, manner == Manner::Lazy);
    flags.set(MntFlags::MNT_FORCE, manner == Manner::Force);
    match nix::mount::umount2(point, flags) {
        Ok(()) => return Ok(()),
        Err(Errno::EPERM) => {}
        Err(Errno::EBUSY) => return Err(Refused::Busy),
        Err(Errno::EINVAL | Errno::ENOENT) => return Err(Refused::NotMounted),
        Err(e) => return Err(Refused::Other(e.desc().to_owned())),
    }
    let mut args = vec![OsString::from("-u")];
    if manner == Manner::Lazy {
        args.push(OsString::from("-z"));
    }
    args.push(OsString::from("--"));
    args.push(point.as_os_str().to_owned());
    let output = fusermount(&args, None).map_err(|failure| Refused::Other(failure.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let message = fusermount_message(&output);
    if message.contains("Device or resource busy") {
        Err(Refused::Busy)
    } else if message.contains("not found in") || message.contains("Invalid argument") {
        Err(Refused::NotMounted)
    } else {
        Err(Refused::Other(message))
    }
}

/// Has everything that programs wrote through the mount handed to us: the kernel may still hold
/// pages of mapped files back.
///
/// # Errors
/// When the mount cannot be opened or the kernel reports a failed write.
pub fn flush(point: &Path) -> io::Result<()> {
    let root = File::open(point)?;
    Ok(nix::unistd::syncfs(root.as_fd())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_backslashes_in_the_source_are_escaped() {
        assert_eq!(escape(OsStr::new(r"/a,b\c d")), OsStr::new(r"/a\,b\\c d"));
    }

    #[test]
    fn what_is_not_mounted_is_told_as_such() {
        let refused = unmount(Path::new("/proc/self"), Manner::Plain).unwrap_err();
        assert_eq!(refused, Refused::NotMounted);
    }
}
