//! Renames: entries move, never bytes.

use super::dir::Called;
use super::{Error, Result, Vfs};
use crate::journal::Op;
use crate::overlay::{Ino, Key, Kind, Staged};

/// What is to happen where the new name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// The old file, or empty directory, gives way.
    Replace,
    /// `RENAME_NOREPLACE`: refuse.
    NoReplace,
    /// `RENAME_EXCHANGE`: the two change places.
    Exchange,
}

/// One end of a rename: a key of a directory.
struct End {
    dir: Ino,
    key: Key,
}

impl Vfs {
    /// Renames `name` in `dir` to `new_name` in `new_dir`.
    ///
    /// # Errors
    /// As rename(2); [`Error::NotPermitted`] for a file that would come to the root.
    pub fn rename(
        &self,
        dir: Ino,
        name: &[u8],
        new_dir: Ino,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        let (from, to) = (Called::Name(name), Called::Name(new_name));
        self.move_entry((dir, from), (new_dir, to), mode)
    }

    /// Renames what is called so in one directory to what is called so in another.
    pub(super) fn move_entry(
        &self,
        (dir, name): (Ino, Called<'_>),
        (new_dir, new_name): (Ino, Called<'_>),
        mode: RenameMode,
    ) -> Result<()> {
        if name.is_fixed(dir) || new_name.is_fixed(new_dir) {
            return Err(Error::NotPermitted);
        }
        self.must_be_editable(dir)?;
        self.must_be_editable(new_dir)?;
        let mut staged = self.edit()?;
        self.must_be_directory(&staged, new_dir)?;
        let key = self.key(&staged, dir, name)?.ok_or(Error::NotFound)?;
        let from = End {
            dir,
            key: key.into(),
        };
        let source = self
            .merged(&staged)
            .find(dir, &from.key)?
            .ok_or(Error::NotFound)?;
        let (source, source_kind) = (source.ino, source.kind);
        let to = End {
            dir: new_dir,
            key: self.new_key(&staged, new_dir, new_name)?,
        };
        let target = self
            .merged(&staged)
            .find(new_dir, &to.key)?
            .map(|f| (f.ino, f.kind));
        if target.is_some_and(|(ino, _)| ino == source) {
            return Ok(()); // both names are one
        }
        self.may_move(&staged, source, source_kind, new_dir)?;
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(Error::Exists),
            (RenameMode::Exchange, None) => return Err(Error::NotFound),
            (RenameMode::Exchange, Some((other, kind))) => {
                self.may_move(&staged, other, kind, dir)?;
            }
            (RenameMode::Replace, Some((other, kind))) => match (source_kind, kind) {
                (Kind::File, Kind::Directory) => return Err(Error::IsDirectory),
                (Kind::Directory, Kind::File) => return Err(Error::NotDirectory),
                (Kind::Directory, Kind::Directory) => {
                    self.must_be_empty(&staged, other, new_name)?
                }
                (Kind::File, Kind::File) => {}
            },
            (_, None) => {}
        }
        // Everything that can fail comes before the first change.
        let from_below = self.below_for_edit(&staged, from.dir, &from.key)?;
        let to_below = self.below_for_edit(&staged, to.dir, &to.key)?;
        self.touch_up(&mut staged, from.dir)?;
        self.touch_up(&mut staged, to.dir)?;
        self.record(&staged, |names| {
            Some(Op::Rename {
                from: names.entry(from.dir, &from.key)?,
                to: names.entry(to.dir, &to.key)?,
                exchange: mode == RenameMode::Exchange,
            })
        })?;
        match (mode, target) {
            (RenameMode::Exchange, Some((other, kind))) => {
                put(&mut staged, &from, other, kind, from_below);
                self.touch_attrs(&mut staged, other, kind);
            }
            _ => {
                if let Some((other, Kind::Directory)) = target {
                    staged.remove_dir(other);
                }
                staged.clear(from.dir, &from.key, from_below);
            }
        }
        put(&mut staged, &to, source, source_kind, to_below);
        self.touch_attrs(&mut staged, source, source_kind);
        self.touch(&mut staged, dir, Kind::Directory);
        self.touch(&mut staged, new_dir, Kind::Directory);
        Ok(())
    }

    /// Whether the node may come to `dir`.
    fn may_move(&self, staged: &Staged, ino: Ino, kind: Kind, dir: Ino) -> Result<()> {
        if kind == Kind::File && dir == Ino::ROOT {
            return Err(Error::NotPermitted);
        }
        if kind == Kind::Directory && self.merged(staged).is_inside(dir, ino) {
            return Err(Error::Invalid);
        }
        Ok(())
    }
}

fn put(staged: &mut Staged, end: &End, ino: Ino, kind: Kind, below: bool) {
    staged.set(end.dir, end.key.clone(), ino, below);
    staged.node_mut(ino, kind).place = Some((end.dir, end.key.clone()));
}
