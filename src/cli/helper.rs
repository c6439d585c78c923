//! The helpers that mount(8) and umount(8) look for in /sbin: this same program, by another name.
//!
//! `mount -t fuse.boltfs DB MOUNTPOINT -o OPTIONS`, or a line of /etc/fstab, runs
//! `mount.fuse.boltfs DB MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`.
//! Without it, mount(8) runs `mount.fuse`, which runs `boltfs`: that works too where fuse3 is
//! installed and `boltfs` is in the shell's path, but takes no `-f` and `-s`.
//!
//! `umount MOUNTPOINT` runs `umount.fuse.boltfs MOUNTPOINT [-nlfvr] [-N NAMESPACE] [-t TYPE]`, and
//! is done when that is: so it returns when the edits are committed. Without it, the kernel lets
//! `umount` go before that.
//!
//! Exit statuses are those of mount(8).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::session::{self, Unmount};

/// Everything went well.
pub const SUCCESS: u8 = 0;
/// Wrong usage.
pub const USAGE: u8 = 1;
/// Not mounted, not unmounted, or not committed.
pub const FAILURE: u8 = 32;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Helper {
    /// `mount.fuse.boltfs`.
    Mount,
    /// `umount.fuse.boltfs`.
    Umount,
}

impl Helper {
    /// The helper that a program called `name` is.
    pub fn called(name: &OsStr) -> Option<Helper> {
        match Path::new(name).file_name()?.as_bytes() {
            b"mount.fuse.boltfs" => Some(Helper::Mount),
            b"umount.fuse.boltfs" => Some(Helper::Umount),
            _ => None,
        }
    }
}

/// What a helper is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Request {
    operands: Vec<OsString>,
    options: Vec<OsString>,
    sloppy: bool,
    fake: bool,
    force: bool,
    lazy: bool,
    verbose: bool,
}

/// Flags may stand in one word (`-fv`), a value in the same word or the next.
fn parse(helper: Helper, args: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    let mut request = Request::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let flags = match arg.as_bytes() {
            [b'-', flags @ ..] if !flags.is_empty() => flags,
            _ => {
                request.operands.push(arg);
                continue;
            }
        };
        let mut flags = flags.iter();
        while let Some(&flag) = flags.next() {
            let mut value = || match flags.as_slice() {
                [] => args
                    .next()
                    .ok_or("a value is missing after the last option"),
                rest => Ok(OsStr::from_bytes(rest).to_owned()),
            };
            match (flag, helper) {
                (b'o', Helper::Mount) => request.options.push(value()?),
                (b't', _) => drop(value()?),
                (b'N', _) => return Err("-N (another namespace) is not supported".to_owned()),
                (b'n', _) | (b'r', Helper::Umount) => continue,
                (b'v', _) => request.verbose = true,
                (b's', Helper::Mount) => request.sloppy = true,
                (b'f', Helper::Mount) => request.fake = true,
                (b'f', Helper::Umount) => request.force = true,
                (b'l', Helper::Umount) => request.lazy = true,
                _ => return Err(format!("unknown option '-{}'", char::from(flag))),
            }
            if matches!(flag, b'o' | b't') {
                break;
            }
        }
    }
    Ok(request)
}

/// The arguments of the `boltfs` that does what a mount helper is asked for. `None`: nothing is to
/// be done.
///
/// # Errors
/// What is wrong with the command line.
pub fn mount_args(
    args: impl IntoIterator<Item = OsString>,
) -> Result<Option<Vec<OsString>>, String> {
    let request = parse(Helper::Mount, args)?;
    let [database, point] = &request.operands[..] else {
        return Err("usage: mount.fuse.boltfs DB MOUNTPOINT [-sfnv] [-o OPTIONS]".to_owned());
    };
    let mut lists = request.options;
    if request.sloppy {
        for list in &mut lists {
            *list = session::Options::known(list);
        }
    }
    let mut options = session::Options::default();
    lists
        .iter()
        .try_for_each(|list| options.add(list))
        .map_err(|e| e.to_string())?;
    if request.fake {
        return Ok(None);
    }
    // Never taken for an option or a command.
    let here = |path: &OsString| Path::new(".").join(path).into_os_string();
    let mut words = vec![here(database), here(point)];
    for list in lists {
        words.extend([OsString::from("-o"), list]);
    }
    if request.verbose {
        words.push(OsString::from("-v"));
    }
    Ok(Some(words))
}

/// What an unmount helper is asked to unmount, and how.
///
/// # Errors
/// What is wrong with the command line.
pub fn umount_request(
    args: impl IntoIterator<Item = OsString>,
) -> Result<(PathBuf, Unmount), String> {
    let request = parse(Helper::Umount, args)?;
    let [point] = &request.operands[..] else {
        return Err("usage: umount.fuse.boltfs MOUNTPOINT [-flnrv]".to_owned());
    };
    let how = Unmount {
        discard: false,
        lazy: request.lazy,
        force: request.force,
    };
    Ok((PathBuf::from(point), how))
}

/// The helper's exit status for what `boltfs` would exit with.
pub fn status(boltfs: u8) -> u8 {
    match boltfs {
        super::SUCCESS => SUCCESS,
        super::USAGE => USAGE,
        _ => FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn a_helper_is_known_by_its_name() {
        let called = |name: &str| Helper::called(OsStr::new(name));
        assert_eq!(called("/sbin/mount.fuse.boltfs"), Some(Helper::Mount));
        assert_eq!(called("umount.fuse.boltfs"), Some(Helper::Umount));
        assert_eq!(called("/usr/bin/boltfs"), None);
        assert_eq!(called(""), None);
    }

    #[test]
    fn mount_is_translated() {
        let args = |line| mount_args(words(line)).map(|args| args.unwrap_or_default());
        assert_eq!(
            args("/db /mnt -o rw,noexec,user -t fuse.boltfs"),
            Ok(words("/db /mnt -o rw,noexec,user"))
        );
        assert_eq!(
            args("umount -n -vs /mnt -oro,hm"),
            Ok(words("./umount /mnt -o ro -v"))
        );
        assert_eq!(mount_args(words("/db /mnt -f -o rw")), Ok(None));
        assert!(args("/db /mnt -f -o what").is_err());
        assert!(args("/db").is_err() && args("/db /mnt -o").is_err());
        assert!(args("/db /mnt -l").is_err() && args("/db /mnt -N x").is_err());
    }

    #[test]
    fn umount_is_understood() {
        let (point, how) = umount_request(words("/mnt -lf -n -t fuse.boltfs")).unwrap();
        assert_eq!(point, Path::new("/mnt"));
        let wanted = Unmount {
            discard: false,
            lazy: true,
            force: true,
        };
        assert_eq!(how, wanted);
        assert!(umount_request(words("/a /b")).is_err());
    }
}
