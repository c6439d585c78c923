//! The permissions of a database file, as far as a mode can tell them.
//!
//! A mount has no access lists. In the mode of a file that has one, the bits of the group are the
//! list's mask: taken as they are they would let the group do what the list allows somebody else.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;

/// The extended attribute that holds the access list.
pub const ACCESS_LIST: &str = "system.posix_acl_access";

/// Longest extended attribute, in bytes.
pub const LONGEST_LIST: usize = 64 << 10;

/// The mode of `file`, without what its access list denies somebody whom the mode would let.
///
/// # Errors
/// What the operating system says.
pub fn mode(file: &File) -> io::Result<u32> {
    let mode = file.metadata()?.mode();
    let mut list = vec![0; LONGEST_LIST];
    match rustix::fs::fgetxattr(file, ACCESS_LIST, &mut list) {
        Ok(len) => Ok(narrowed(mode, list.get(..len).unwrap_or_default())),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(mode),
        Err(e) => Err(e.into()),
    }
}

/// `mode` without what `list` denies. An access list is a version, 2, and entries of a tag (u16),
/// permissions (u16) and a user or group (u32), little-endian (linux/posix_acl_xattr.h).
fn narrowed(mode: u32, list: &[u8]) -> u32 {
    const NAMED_USER: u16 = 0x02;
    const GROUP: u16 = 0x04;
    const NAMED_GROUP: u16 = 0x08;
    let (mut group, mut other) = (mode >> 3 & 7, mode & 7);
    let mask = group;
    let Some((&[2, 0, 0, 0], entries)) = list.split_first_chunk() else {
        return mode & !0o077;
    };
    for entry in entries.chunks_exact(8) {
        let &[tag_low, tag_high, low, high, ..] = entry else {
            continue;
        };
        let allowed = u32::from(u16::from_le_bytes([low, high])) & mask;
        match u16::from_le_bytes([tag_low, tag_high]) {
            GROUP => group &= allowed,
            // He may be one of the group.
            NAMED_USER => (group, other) = (group & allowed, other & allowed),
            NAMED_GROUP => other &= allowed,
            _ => {}
        }
    }
    mode & !0o077 | group << 3 | other
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of these tags and permissions.
    fn list(entries: &[(u16, u16)]) -> Vec<u8> {
        let mut list = vec![2, 0, 0, 0];
        for (tag, allowed) in entries {
            list.extend(tag.to_le_bytes());
            list.extend(allowed.to_le_bytes());
            list.extend(7u32.to_le_bytes());
        }
        list
    }

    #[test]
    fn a_mode_says_no_more_than_the_list() {
        const USER: u16 = 0x01;
        const MASK: u16 = 0x10;
        const OTHER: u16 = 0x20;
        let of = |mode, named: (u16, u16), group| {
            let entries = [(USER, 6), named, (0x04, group), (MASK, 6), (OTHER, 4)];
            narrowed(mode, &list(&entries))
        };
        // One user may read: nobody else may.
        assert_eq!(of(0o100_660, (0x02, 4), 0), 0o100_600);
        // One user is kept out, whatever group he is in.
        assert_eq!(of(0o664, (0x02, 0), 6), 0o600);
        // A group is kept out: somebody in the file's own group as well may read.
        assert_eq!(of(0o664, (0x08, 0), 6), 0o660);
        assert_eq!(of(0o664, (0x08, 6), 4), 0o644);
        // The mask counts for those who are named.
        assert_eq!(of(0o604, (0x02, 6), 6), 0o600);
        for unknown in [&b""[..], &[3, 0, 0, 0], &[2, 0]] {
            assert_eq!(narrowed(0o666, unknown), 0o600);
        }
        assert_eq!(narrowed(0o666, &[2, 0, 0, 0, 4, 0]), 0o666);
    }
}
