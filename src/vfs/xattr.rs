//! Extended attributes: the key's bytes, and a bucket's sequence number.

use super::{Error, Result, Vfs, control};
use crate::journal::Op;
use crate::overlay::{Found, Ino, Kind, Staged};

/// The key's bytes in lower-case hex; on everything but the root. Setting it has no effect: it is
/// refused, but on what this mount created, where tools that copy attributes do it.
const KEY: &[u8] = b"user.bbolt.key";
/// A bucket's sequence number in decimal; on every bucket but the root, whose number bbolt never
/// stores.
const SEQUENCE: &[u8] = b"user.bbolt.sequence";

/// What is to happen where the attribute exists or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetXattr {
    /// Set it in either case.
    Any,
    /// `XATTR_CREATE`: refuse if it exists.
    Create,
    /// `XATTR_REPLACE`: refuse if it does not exist.
    Replace,
}

impl Vfs {
    /// The value of an extended attribute.
    ///
    /// # Errors
    /// [`Error::NoAttribute`]; [`Error::NotSupported`] for a name outside `user.`, which tells `ls -l`
    /// not to ask for the access list of every single file.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        if !name.starts_with(b"user.") {
            return Err(Error::NotSupported);
        }
        if control::is_fixed(ino) || super::dir::is_root(ino) {
            return Err(Error::NoAttribute);
        }
        self.steady(|| self.steady_xattr(ino, name))
    }

    fn steady_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        let staged = self.read_staged();
        let tree = self.merged(&staged);
        match name {
            KEY => {
                let (_, key) = tree.place(ino).ok_or(Error::Stale)?;
                let hex = key.iter().flat_map(|b| [b >> 4, b & 15]);
                let digit = |n: u8| b"0123456789abcdef"[usize::from(n)];
                Ok(hex.map(digit).collect())
            }
            SEQUENCE => {
                let found = tree.node(ino)?.ok_or(Error::Stale)?;
                if found.kind != Kind::Directory {
                    return Err(Error::NoAttribute);
                }
                Ok(self.sequence(&staged, &found)?.to_string().into_bytes())
            }
            _ => Err(Error::NoAttribute),
        }
    }

    fn sequence(&self, staged: &Staged, found: &Found<'_>) -> Result<u64> {
        let new = staged.node(found.ino).and_then(|node| node.sequence);
        match (new, self.base.dir(found.ino)?) {
            (Some(sequence), _) => Ok(sequence),
            (None, Some(dir)) => Ok(dir.bucket.sequence()),
            (None, None) => Ok(0),
        }
    }

    /// The names of the extended attributes, each ended by a zero byte.
    ///
    /// # Errors
    /// [`Error::Stale`] for a number that was never given out.
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<u8>> {
        if control::is_fixed(ino) || super::dir::is_root(ino) {
            return Ok(Vec::new());
        }
        let kind = self.steady(|| self.merged(&self.read_staged()).kind(ino))?;
        let mut names = [KEY, &[0]].concat();
        if kind.ok_or(Error::Stale)? == Kind::Directory {
            names.extend_from_slice(SEQUENCE);
            names.push(0);
        }
        Ok(names)
    }

    /// Sets a bucket's sequence number.
    ///
    /// # Errors
    /// [`Error::NotSupported`] for any other attribute, as a file system without that name space
    /// answers; [`Error::Invalid`] for what is no number.
    pub fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], how: SetXattr) -> Result<()> {
        if name == KEY
            && let Ok(key) = self.getxattr(ino, KEY)
        {
            // `mv` from another file system, `cp -a`, `rsync -X` and `tar --xattrs` set what they
            // found on the original, rsync before the file has its name.
            return match ino.is_staged() || key == value {
                true => Ok(()),
                false => Err(Error::NotPermitted),
            };
        }
        let is_bucket = name == SEQUENCE && self.getxattr(ino, SEQUENCE).is_ok();
        if !is_bucket {
            return Err(Error::NotSupported);
        }
        if how == SetXattr::Create {
            return Err(Error::Exists);
        }
        let text = str::from_utf8(value).map_err(|_| Error::Invalid)?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let sequence = text.parse().ok().filter(|_| digits).ok_or(Error::Invalid)?;
        self.set_sequence(ino, sequence)
    }

    /// Sets the sequence number of the bucket `ino`.
    pub(super) fn set_sequence(&self, ino: Ino, sequence: u64) -> Result<()> {
        self.must_be_editable(ino)?;
        let mut staged = self.edit()?;
        self.enter(&mut staged, ino)?;
        self.record(&staged, |names| {
            Some(Op::Sequence {
                at: names.node(ino)?,
                sequence,
            })
        })?;
        staged.node_mut(ino, Kind::Directory).sequence = Some(sequence);
        Ok(())
    }

    /// Refuses to remove an extended attribute: a key and a sequence number are always there.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] for ours, [`Error::NoAttribute`] for any other.
    pub fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        match self.getxattr(ino, name) {
            Ok(_) => Err(Error::NotPermitted),
            Err(e) => Err(e),
        }
    }
}
