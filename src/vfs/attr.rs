//! Attributes: stat, chmod, chown, utimes, truncate.

use super::{Error, Result, Vfs, control};
use crate::overlay::{Attrs, Found, Ino, Kind, Staged};
use std::time::SystemTime;

/// What stat(2) answers.
#[derive(Debug, Clone, Copy)]
pub struct Attr {
    /// The node.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Length of the content as it is shown, in bytes; 0 for a directory.
    pub size: u64,
    /// Owner, mode and times.
    pub attrs: Attrs,
    /// 1, as no key has two names, and 0 once it is unlinked. 1 for a directory says that the
    /// number of its sub-directories is not told: counting them would mean reading the bucket.
    pub nlink: u32,
    /// The content can change by itself: not to be cached.
    pub volatile: bool,
}

/// A new time.
#[derive(Debug, Clone, Copy)]
pub enum SetTime {
    /// The moment of the call.
    Now,
    /// This one.
    At(SystemTime),
}

impl SetTime {
    fn time(self) -> SystemTime {
        match self {
            SetTime::Now => SystemTime::now(),
            SetTime::At(time) => time,
        }
    }
}

/// What setattr changes.
#[derive(Debug, Clone, Copy, Default)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of content.
    pub mtime: Option<SetTime>,
    /// With a length: the file loses its set-user-id and set-group-id bits by it.
    pub drop_ids: bool,
}

impl Vfs {
    /// Attributes of `ino`.
    ///
    /// # Errors
    /// [`Error::Stale`] for a number that was never given out.
    pub fn getattr(&self, ino: Ino) -> Result<Attr> {
        if control::is_fixed(ino) {
            return self.fixed_attr(ino);
        }
        self.steady(|| self.steady_attr(ino))
    }

    /// Verifies that somebody may execute the file `ino`: what forbids it to root as well. In a
    /// directory everybody may search, as far as root is concerned.
    ///
    /// # Errors
    /// [`Error::NotExecutable`], and those of [`getattr`](Self::getattr).
    pub fn verify_executable(&self, ino: Ino) -> Result<()> {
        let attr = self.getattr(ino)?;
        match attr.kind == Kind::Directory || attr.attrs.mode & 0o111 != 0 {
            true => Ok(()),
            false => Err(Error::NotExecutable),
        }
    }

    fn steady_attr(&self, ino: Ino) -> Result<Attr> {
        let staged = self.read_staged();
        if ino == Ino::ROOT || ino == Ino::BASE_ROOT {
            let attrs = staged
                .node(ino)
                .and_then(|node| node.attrs.as_deref().copied());
            let attrs = attrs.unwrap_or_else(|| self.first_attrs(Kind::Directory));
            return Ok(Attr {
                ino,
                kind: Kind::Directory,
                size: 0,
                attrs,
                nlink: 1,
                volatile: false,
            });
        }
        let tree = self.merged(&staged);
        let found = tree.node(ino)?.ok_or(Error::Stale)?;
        let mut attr = self.attr(&staged, &found);
        if !staged.is_empty() && !self.base.is_pristine(ino) && !tree.is_linked(ino) {
            attr.nlink = 0;
        }
        Ok(attr)
    }

    /// Attributes of a node that was found in a directory.
    pub(super) fn attr(&self, staged: &Staged, found: &Found<'_>) -> Attr {
        let Found { ino, kind, element } = *found;
        let node = if staged.is_empty() {
            None
        } else {
            staged.node(ino)
        };
        let attrs = node.and_then(|node| node.attrs.as_deref().copied());
        let attrs = attrs.unwrap_or_else(|| self.first_attrs(kind));
        let content = node.and_then(|node| node.content.as_ref());
        let size = match (kind, content, element) {
            (Kind::Directory, ..) => 0,
            (_, Some(content), _) => content.len() as u64,
            (_, None, Some(element)) => self.shown.len(element.value, self.options.raw),
            (_, None, None) => 0,
        };
        Attr {
            ino,
            kind,
            size,
            attrs,
            nlink: 1,
            volatile: false,
        }
    }

    /// Changes attributes, and cuts or extends a file.
    ///
    /// # Errors
    /// [`Error::IsDirectory`] and [`Error::TooBig`] for a length, [`Error::ReadOnly`].
    pub fn setattr(&self, ino: Ino, set: SetAttr) -> Result<Attr> {
        if control::is_fixed(ino) {
            return self.fixed_setattr(ino, set);
        }
        self.must_be_editable(ino)?;
        let mut staged = self.edit()?;
        if let Some(size) = set.size {
            self.resize(&mut staged, ino, size)?;
        }
        let kind = self.merged(&staged).kind(ino)?.ok_or(Error::Stale)?;
        let only_size = set.mode.is_none()
            && set.uid.is_none()
            && set.gid.is_none()
            && set.atime.is_none()
            && set.mtime.is_none();
        if !only_size {
            let now = SystemTime::now();
            let attrs = self.attrs_mut(&mut staged, ino, kind);
            if let Some(mode) = set.mode {
                attrs.mode = (mode & 0o7777) as u16;
            }
            if kind == Kind::File && (set.uid.is_some() || set.gid.is_some()) {
                drop_set_ids(attrs);
            }
            attrs.uid = set.uid.unwrap_or(attrs.uid);
            attrs.gid = set.gid.unwrap_or(attrs.gid);
            attrs.atime = set.atime.map_or(attrs.atime, SetTime::time);
            attrs.mtime = set.mtime.map_or(attrs.mtime, SetTime::time);
            attrs.ctime = now;
        }
        if set.size.is_some() && set.drop_ids {
            drop_set_ids(self.attrs_mut(&mut staged, ino, kind));
        }
        drop(staged);
        self.getattr(ino)
    }

    /// The attributes of `ino`, for changing them.
    pub(super) fn attrs_mut<'a>(
        &self,
        staged: &'a mut Staged,
        ino: Ino,
        kind: Kind,
    ) -> &'a mut Attrs {
        let first = self.first_attrs(kind);
        staged
            .node_mut(ino, kind)
            .attrs
            .get_or_insert_with(|| Box::new(first))
    }

    /// An attribute of `ino`, or its name, has just changed.
    pub(super) fn touch_attrs(&self, staged: &mut Staged, ino: Ino, kind: Kind) {
        self.attrs_mut(staged, ino, kind).ctime = SystemTime::now();
    }

    /// The content of `ino`, or what is in it, has just changed.
    pub(super) fn touch(&self, staged: &mut Staged, ino: Ino, kind: Kind) {
        let now = SystemTime::now();
        let attrs = self.attrs_mut(staged, ino, kind);
        attrs.mtime = now;
        attrs.ctime = now;
    }
}

/// What happens to set-user-id and set-group-id when somebody else writes to a file or it gets
/// another owner. Set-group-id without execution by the group means something else and stays.
pub(super) fn drop_set_ids(attrs: &mut Attrs) {
    attrs.mode &= !0o4000;
    if attrs.mode & 0o010 != 0 {
        attrs.mode &= !0o2000;
    }
}

/// What statfs(2) answers.
#[derive(Debug, Clone, Copy)]
pub struct StatFs {
    /// Bytes of a block: the database's page size.
    pub block_size: u32,
    /// Pages of the database, and what its file system has free.
    pub blocks: u64,
    /// Blocks free.
    pub free: u64,
    /// Blocks free to ordinary users.
    pub available: u64,
    /// Longest name, in bytes.
    pub name_max: u32,
}

impl Vfs {
    /// How large the database is and how far it can grow.
    pub fn statfs(&self) -> StatFs {
        let meta = self.snapshot().meta();
        let block_size = meta.page_size;
        let space = self.options.space.as_ref().and_then(|space| space());
        let (free, available) = space.unwrap_or((0, 0));
        let blocks = |bytes: u64| bytes / u64::from(block_size.max(1));
        StatFs {
            block_size,
            blocks: meta.hwm.saturating_add(blocks(free)),
            free: blocks(free),
            available: blocks(available),
            name_max: crate::view::name::MAX_NAME as u32,
        }
    }
}
