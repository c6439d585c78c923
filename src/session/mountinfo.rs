//! The kernel's table of mounts, `/proc/self/mountinfo`, and paths resolved without touching what
//! is mounted there: a mount whose process has died answers every question with an error.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// The type our mounts carry in the table, for root too.
pub const FSTYPE: &str = "fuse.boltfs";

/// A device number, the name of a mounted file system while it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    /// Major number; 0 for all file systems without a block device.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The kernel's number of this mount, as in the `mnt_id` of `/proc/PID/fdinfo`.
    pub id: u64,
    /// The file system mounted.
    pub device: Device,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Its type, such as `fuse.boltfs`.
    pub fstype: String,
    /// Its source: for ours the path of the database.
    pub source: PathBuf,
    /// The options of the file system (not of the mount), separated by commas.
    pub super_options: String,
}

impl Mount {
    /// Whether boltfs serves it.
    pub fn is_ours(&self) -> bool {
        self.fstype == FSTYPE
    }

    /// The user that mounted it (`user_id=`), for a FUSE mount.
    pub fn user_id(&self) -> Option<u32> {
        self.super_options
            .split(',')
            .find_map(|option| option.strip_prefix("user_id=")?.parse().ok())
    }
}

/// All mounts this process sees, later ones (which hide earlier ones at the same place) last.
///
/// # Errors
/// Those of reading `/proc/self/mountinfo`.
pub fn table() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

/// All mounts that another process sees.
///
/// # Errors
/// Those of reading its table: it may have ended, or be another user's.
pub fn of_process(pid: u32) -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read(format!("/proc/{pid}/mountinfo"))?))
}

/// The mount at `point`, a path from [`resolve`]: the topmost if there are several.
///
/// # Errors
/// Those of reading the table.
pub fn at(point: &Path) -> io::Result<Option<Mount>> {
    Ok(table()?.into_iter().rfind(|mount| mount.point == point))
}

fn parse(table: &[u8]) -> Vec<Mount> {
    table
        .split(|&byte| byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

/// A line is `ID PARENT MAJ:MIN ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPER_OPTIONS`.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = text(fields.next()?).parse().ok()?;
    let _parent = fields.next()?;
    let device = text(fields.next()?);
    let (major, minor) = device.split_once(':')?;
    let device = Device {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    };
    let _root = fields.next()?;
    let point = path(fields.next()?);
    let mut fields = fields.skip_while(|&field| field != b"-").skip(1);
    let fstype = text(fields.next()?);
    let source = path(fields.next()?);
    let super_options = text(fields.next().unwrap_or_default());
    Some(Mount {
        id,
        device,
        point,
        fstype,
        source,
        super_options,
    })
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}

/// Blanks, line ends and backslashes are written as `\` and three octal digits.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// The absolute path of a directory that may be a mount, as the table of mounts writes it. The
/// directory itself is not looked into, only what leads to it.
///
/// # Errors
/// When a directory on the way to it cannot be resolved.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    // As many links as the kernel follows.
    for _ in 0..40 {
        let Some(Component::Normal(name)) = path.components().next_back() else {
            return path.canonicalize();
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let resolved = parent.canonicalize()?.join(name);
        match fs::read_link(&resolved) {
            Ok(target) => path = resolved.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => return Ok(resolved),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// A path from the table is no path of the user's: shown as it is, with what is not UTF-8 replaced.
pub fn shown(path: &Path) -> String {
    String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let line = br"36 35 0:51 / /mnt/a\040b rw,nosuid shared:1 master:2 - fuse.boltfs /tmp/my\134db rw,user_id=1000,group_id=0";
        let mount = parse_line(line).unwrap();
        assert_eq!(mount.id, 36);
        assert_eq!(
            mount.device,
            Device {
                major: 0,
                minor: 51
            }
        );
        assert_eq!(mount.point, Path::new("/mnt/a b"));
        assert_eq!(mount.source, Path::new(r"/tmp/my\db"));
        assert_eq!(mount.user_id(), Some(1000));
        assert!(mount.is_ours());
    }

    #[test]
    fn a_line_without_tags_or_source_options() {
        let mount = parse_line(b"1 2 8:1 / / rw - ext4 /dev/sda1 rw").unwrap();
        assert_eq!(mount.point, Path::new("/"));
        assert_eq!(mount.user_id(), None);
        assert!(parse_line(b"").is_none());
        assert!(parse_line(b"1 2 8:1 / / rw").is_none());
    }

    #[test]
    fn the_real_table_has_proc() {
        assert_eq!(at(Path::new("/proc")).unwrap().unwrap().fstype, "proc");
    }

    #[test]
    fn resolving_follows_links_and_keeps_the_last_name() {
        assert_eq!(
            resolve(Path::new("/proc/self/../../proc/")).unwrap(),
            Path::new("/proc")
        );
        assert_eq!(
            resolve(Path::new("/proc/self/root")).unwrap(),
            Path::new("/")
        );
        assert_eq!(
            resolve(Path::new("/no-such-name")).unwrap(),
            Path::new("/no-such-name")
        );
        assert!(resolve(Path::new("/no-such-dir/name")).is_err());
    }
}
