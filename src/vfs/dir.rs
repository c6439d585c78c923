//! Directories: look up, list, create, remove.

use super::{Attr, Error, Result, Vfs, control};
use crate::bolt::{self, Damage};
use crate::journal::Op;
use crate::overlay::{Attrs, Found, Ino, Key, Kind, Node, Position, Staged};
use crate::view::name::{self, Decoded};
use std::sync::Arc;
use std::time::SystemTime;

/// One entry of a listing, as it is handed to the kernel.
pub struct DirEntry<'a> {
    /// File name, not terminated.
    pub name: &'a [u8],
    /// Where the listing goes on behind this entry: to be handed to the next call.
    pub cookie: u64,
    /// What stat(2) answers for it.
    pub attr: Attr,
}

/// Longest key that bbolt takes, in bytes.
const MAX_KEY: usize = 32_768;

/// Bit of a cookie that stands behind a staged entry. A cookie is a positive file offset to the
/// kernel, so bit 63 is not to be had.
const STAGED_COOKIE: u64 = 1 << 62;
const COOKIE_DOT: u64 = 1;
const COOKIE_DOT_DOT: u64 = 2;

fn position(cookie: u64) -> Position {
    match cookie {
        0..=COOKIE_DOT_DOT => Position::Start,
        c if c & STAGED_COOKIE != 0 => Position::Staged(c & !STAGED_COOKIE),
        offset => Position::Base(offset),
    }
}

fn cookie(position: Position) -> u64 {
    match position {
        Position::Start => COOKIE_DOT_DOT,
        Position::Base(offset) => offset,
        Position::Staged(number) => STAGED_COOKIE | number,
    }
}

/// How an entry of a directory is called: by its name, or, as in a journal, by its key.
#[derive(Clone, Copy)]
pub(super) enum Called<'a> {
    Name(&'a [u8]),
    Key(&'a [u8]),
}

impl Called<'_> {
    /// A name in `dir` that stands for no key.
    pub fn is_fixed(self, dir: Ino) -> bool {
        match self {
            Called::Name(name) => control::lookup(dir, name).is_some(),
            Called::Key(_) => false,
        }
    }
}

/// A key that can be read, and not edited.
pub(super) fn is_displaced(e: &bolt::Error) -> bool {
    matches!(e, bolt::Error::Page { damage, .. } if *damage == Damage::Displaced)
}

/// The root bucket of the tree as it stands, or as it was at mounting.
pub(super) fn is_root(dir: Ino) -> bool {
    dir == Ino::ROOT || dir == Ino::BASE_ROOT
}

impl Vfs {
    /// The node called `name` in the directory `dir`.
    ///
    /// # Errors
    /// [`Error::NotFound`], also for a name that no key can have.
    pub fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Attr> {
        if let Some(ino) = control::lookup(dir, name) {
            return self.getattr(ino);
        }
        if control::is_fixed(dir) {
            return Err(Error::NotFound);
        }
        self.steady(|| {
            let staged = self.read_staged();
            let found = match self.find(&staged, dir, name) {
                Err(Error::Damaged(e)) if is_displaced(&e) => {
                    let key = self.key(&staged, dir, Called::Name(name))?;
                    let key = key.ok_or(Error::NotFound)?;
                    self.merged(&staged).displaced(dir, &key)
                }
                found => Ok(found?),
            };
            let found = found?.ok_or(Error::NotFound)?;
            Ok(self.attr(&staged, &found))
        })
    }

    /// The node called `name` in `dir`.
    pub(super) fn find<'a>(
        &'a self,
        staged: &'a Staged,
        dir: Ino,
        name: &[u8],
    ) -> Result<Option<Found<'a>>> {
        match self.key(staged, dir, Called::Name(name))? {
            Some(key) => Ok(self.merged(staged).find(dir, &key)?),
            None => Ok(None),
        }
    }

    /// The key of what is called `called` in `dir`; `None` for a name that no key there has.
    pub(super) fn key(
        &self,
        staged: &Staged,
        dir: Ino,
        called: Called<'_>,
    ) -> Result<Option<Vec<u8>>> {
        let name = match called {
            Called::Name(name) => name,
            Called::Key(key) if key.len() > MAX_KEY => return Err(Error::NameTooLong),
            Called::Key(key) => return Ok(Some(key.to_vec())),
        };
        let (prefix, hash) = match name::decode(name, is_root(dir)) {
            Ok(Decoded::Key(key)) => return Ok(Some(key)),
            Ok(Decoded::Hashed { prefix, hash }) => (prefix, hash),
            Err(name::NameError::TooLong) => return Err(Error::NameTooLong),
            Err(name::NameError::NotCanonical) => return Ok(None),
        };
        // The base has an index of such names. A key that only this mount has is rarely one, for none
        // can be made by its name.
        let in_base = match self.base.dir(dir)? {
            Some(base_dir) => self.base.find_long(&base_dir, name, hash),
            None => Ok(None),
        };
        if let Ok(Some(key)) = in_base {
            return Ok(Some(key));
        }
        let entries = staged.entries(dir, std::ops::Bound::Included(&prefix));
        let mut with_prefix = entries.take_while(|(key, _)| key.starts_with(&prefix));
        match with_prefix.find(|(key, _)| name::encode(key, is_root(dir)) == name) {
            Some((key, _)) => Ok(Some(key.to_vec())),
            None => Ok(in_base?),
        }
    }

    /// Hands the entries of `dir` behind `cookie` (0: from the start) to `each`, until that
    /// answers `false` for one it has no room for.
    ///
    /// # Errors
    /// [`Error::Incomplete`] once all that is readable of a damaged bucket has been listed.
    pub fn readdir(
        &self,
        dir: Ino,
        cookie_from: u64,
        each: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        if cookie_from < COOKIE_DOT {
            let attr = self.getattr(dir)?;
            if attr.kind != Kind::Directory {
                return Err(Error::NotDirectory);
            }
            if !each(DirEntry {
                name: b".",
                cookie: COOKIE_DOT,
                attr,
            }) {
                return Ok(());
            }
        }
        if cookie_from < COOKIE_DOT_DOT {
            // The kernel knows the parent and looks at the name alone.
            let attr = self.getattr(dir)?;
            if !each(DirEntry {
                name: b"..",
                cookie: COOKIE_DOT_DOT,
                attr,
            }) {
                return Ok(());
            }
        }
        if control::is_fixed(dir) {
            return self.fixed_readdir(dir, cookie_from, each);
        }
        let map = self.snapshot().map();
        let losses = map.losses();
        let listed = self.list(dir, cookie_from, &mut |entry| {
            // What was made of zeros that came in the place of lost bytes is not handed out.
            map.losses() == losses && each(entry)
        });
        match map.has_lost_since(losses) {
            true => Err(Error::Lost),
            false => listed,
        }
    }

    fn list(
        &self,
        dir: Ino,
        cookie_from: u64,
        each: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let staged = self.read_staged();
        let listing = self.merged(&staged).list(dir, position(cookie_from))?;
        let mut buffer = Vec::with_capacity(name::MAX_NAME);
        let mut damaged = false;
        for entry in listing {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) => {
                    self.note_damage(&staged, dir, &e);
                    if let Some(dir) = self.base.dir(dir)? {
                        self.base.set_damaged(&dir);
                    }
                    damaged = true;
                    continue;
                }
            };
            buffer.clear();
            name::encode_into(&mut buffer, entry.key, is_root(dir));
            let attr = self.attr(&staged, &entry.found);
            let cookie = cookie(entry.position);
            if !each(DirEntry {
                name: &buffer,
                cookie,
                attr,
            }) {
                return Ok(());
            }
        }
        if damaged
            || self
                .base
                .dir(dir)?
                .is_some_and(|d| self.base.is_damaged(&d))
        {
            // So that nobody takes the listing for complete.
            return Err(Error::Incomplete);
        }
        Ok(())
    }

    /// Makes an empty file.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] in the root, where only buckets can be; [`Error::Exists`],
    /// [`Error::NameTooLong`], [`Error::Invalid`] for a name that is not the one name of its key.
    pub fn create(&self, dir: Ino, name: &[u8], mode: u32, uid: u32, gid: u32) -> Result<Attr> {
        self.make(dir, Called::Name(name), Kind::File, mode, uid, gid)
    }

    /// Makes an empty directory: a bucket.
    ///
    /// # Errors
    /// As [`create`](Self::create), but buckets are allowed in the root.
    pub fn mkdir(&self, dir: Ino, name: &[u8], mode: u32, uid: u32, gid: u32) -> Result<Attr> {
        self.make(dir, Called::Name(name), Kind::Directory, mode, uid, gid)
    }

    /// Makes what is called `called` in `dir`, empty.
    pub(super) fn make(
        &self,
        dir: Ino,
        called: Called<'_>,
        kind: Kind,
        mode: u32,
        uid: u32,
        gid: u32,
    ) -> Result<Attr> {
        if called.is_fixed(dir) {
            return Err(Error::Exists);
        }
        self.must_be_editable(dir)?;
        if dir == Ino::ROOT && kind == Kind::File {
            return Err(Error::NotPermitted);
        }
        let mut staged = self.edit()?;
        self.must_be_directory(&staged, dir)?;
        let key = self.new_key(&staged, dir, called)?;
        if self.merged(&staged).find(dir, &key)?.is_some() {
            return Err(Error::Exists);
        }
        let below = self.below_for_edit(&staged, dir, &key)?;
        self.touch_up(&mut staged, dir)?;
        self.record(&staged, |names| {
            let at = names.entry(dir, &key)?;
            Some(match kind {
                Kind::File => Op::Create { at },
                Kind::Directory => Op::Mkdir { at },
            })
        })?;
        let now = SystemTime::now();
        let above = staged.node(dir).and_then(|node| node.attrs.as_deref());
        let mut attrs = Attrs {
            mode: (mode & 0o7777) as u16,
            uid,
            gid,
            atime: now,
            mtime: now,
            ctime: now,
        };
        // What is made in a set-group-id directory belongs to its group.
        if let Some(above) = above.filter(|above| above.mode & 0o2000 != 0) {
            attrs.gid = above.gid;
            if kind == Kind::Directory {
                attrs.mode |= 0o2000;
            }
        }
        let mut node = Node::new(kind);
        node.attrs = Some(Box::new(attrs));
        if kind == Kind::File {
            node.content = Some(Arc::default());
        }
        node.place = Some((dir, key.clone()));
        let ino = staged.add(node);
        staged.set(dir, key, ino, below);
        self.touch(&mut staged, dir, Kind::Directory);
        Ok(Attr {
            ino,
            kind,
            size: 0,
            attrs,
            nlink: 1,
            volatile: false,
        })
    }

    /// The key that a new entry called `called` gets.
    pub(super) fn new_key(&self, staged: &Staged, dir: Ino, called: Called<'_>) -> Result<Key> {
        let cut = match called {
            Called::Name(name) => {
                matches!(name::decode(name, is_root(dir))?, Decoded::Hashed { .. })
            }
            Called::Key(_) => false,
        };
        match self.key(staged, dir, called)? {
            Some(key) => Ok(key.into()),
            // The name of a key that is already there may be used, a new one cannot be made of it.
            None if cut => Err(Error::NameTooLong),
            None => Err(Error::Invalid),
        }
    }

    pub(super) fn must_be_directory(&self, staged: &Staged, ino: Ino) -> Result<()> {
        if staged.is_removed(ino) {
            return Err(Error::NotFound);
        }
        match self.merged(staged).kind(ino)? {
            Some(Kind::Directory) => Ok(()),
            Some(Kind::File) => Err(Error::NotDirectory),
            None => Err(Error::Stale),
        }
    }

    /// Removes a file.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IsDirectory`].
    pub fn unlink(&self, dir: Ino, name: &[u8]) -> Result<()> {
        self.remove(dir, Called::Name(name), Kind::File)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotDirectory`], [`Error::NotEmpty`].
    pub fn rmdir(&self, dir: Ino, name: &[u8]) -> Result<()> {
        self.remove(dir, Called::Name(name), Kind::Directory)
    }

    /// Removes what is called `called` in `dir`; a directory only if it is empty.
    pub(super) fn remove(&self, dir: Ino, called: Called<'_>, kind: Kind) -> Result<()> {
        if called.is_fixed(dir) {
            return Err(Error::NotPermitted);
        }
        self.must_be_editable(dir)?;
        let removed = self.remove_entry(dir, called, kind);
        if matches!(removed, Err(Error::Damaged(_)))
            && let Some(dir) = self.base.dir(dir)?
        {
            self.base.set_refused(&dir);
        }
        removed
    }

    fn remove_entry(&self, dir: Ino, called: Called<'_>, kind: Kind) -> Result<()> {
        let mut staged = self.edit()?;
        let key = self.key(&staged, dir, called)?.ok_or(Error::NotFound)?;
        let found = self
            .merged(&staged)
            .find(dir, &key)?
            .ok_or(Error::NotFound)?;
        let ino = found.ino;
        match (kind, found.kind) {
            (Kind::File, Kind::Directory) => return Err(Error::IsDirectory),
            (Kind::Directory, Kind::File) => return Err(Error::NotDirectory),
            (Kind::Directory, Kind::Directory) => self.must_be_empty(&staged, ino, called)?,
            (Kind::File, Kind::File) => {}
        }
        self.take_out(&mut staged, dir, &key, ino, kind)?;
        self.touch(&mut staged, dir, Kind::Directory);
        Ok(())
    }

    /// Takes the node `ino` away from `key` of `dir`.
    pub(super) fn take_out(
        &self,
        staged: &mut Staged,
        dir: Ino,
        key: &[u8],
        ino: Ino,
        kind: Kind,
    ) -> Result<()> {
        let below = self.below_for_edit(staged, dir, key)?;
        self.touch_up(staged, dir)?;
        self.record(staged, |names| {
            let at = names.entry(dir, key)?;
            Some(match kind {
                Kind::File => Op::Unlink { at },
                Kind::Directory => Op::Rmdir { at },
            })
        })?;
        staged.clear(dir, key, below);
        if kind == Kind::Directory {
            staged.remove_dir(ino);
        }
        Ok(())
    }

    /// What cannot be read does not keep a bucket from being removed: who removes it by name after
    /// all that was readable is gone means it. Nor does what damage keeps from being removed, once that
    /// was refused. A journal calls it by its key: there it was decided.
    pub(super) fn must_be_empty(
        &self,
        staged: &Staged,
        dir: Ino,
        called: Called<'_>,
    ) -> Result<()> {
        let listing = match self.merged(staged).list(dir, Position::Start) {
            Ok(listing) => listing,
            Err(_) => return Ok(()),
        };
        let base_dir = self.base.dir(dir).ok().flatten();
        let refused = base_dir.is_some_and(|base_dir| self.base.has_refused(&base_dir));
        let spare = refused || matches!(called, Called::Key(_));
        let counts = |key: &[u8]| !spare || self.below_for_edit(staged, dir, key).is_ok();
        let mut entries = listing.filter_map(Result::ok);
        match entries.any(|entry| counts(entry.key)) {
            true => Err(Error::NotEmpty),
            false => Ok(()),
        }
    }
}
