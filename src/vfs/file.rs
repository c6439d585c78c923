//! Files: read, write, truncate.

use super::attr::drop_set_ids;
use super::shown::cut;
use super::{Error, Result, SetAttr, Vfs, control};
use crate::bolt;
use crate::journal::Op;
use crate::overlay::{Content, Ino, Key, Kind, Node, Staged};
use crate::view::text;
use std::borrow::Cow;
use std::cell::Cell;
use std::io;
use std::sync::Arc;

/// Longest content of a file, in bytes: bbolt cannot read an element of 2 GiB or more (header,
/// key and value together), and the longest key is 32,768 bytes.
pub const MAX_FILE: u64 = (1 << 31) - 1 - 16 - 32_768;

thread_local! {
    /// Where a thread that answers reads keeps the bytes of an answer: at most what the kernel asks
    /// for at once.
    static COPY: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Vfs {
    /// Hands up to `size` bytes at `offset` of the file `ino` to `reply`.
    ///
    /// # Errors
    /// [`Error::IsDirectory`], [`Error::Stale`]; [`Error::Damaged`] where what was written cannot be read
    /// back from the journal.
    pub fn read<T>(
        &self,
        ino: Ino,
        offset: u64,
        size: usize,
        reply: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        if control::is_fixed(ino) {
            let text = self.fixed_text(ino)?;
            return Ok(reply(cut(&text.bytes, offset, size)));
        }
        let staged = self.read_staged();
        if let Some(content) = staged.node(ino).and_then(|node| node.content.as_ref()) {
            // Under the lock: a second owner of the content would make the next write copy it.
            if let Some(bytes) = content.held() {
                return Ok(reply(cut(bytes, offset, size)));
            }
            let mut copy = COPY.take();
            let read = content.read(offset, size, &mut copy);
            drop(staged);
            let answer = read
                .map(|start| reply(cut(&copy, offset.saturating_sub(start), size)))
                .map_err(unreadable);
            COPY.set(copy);
            return answer;
        }
        drop(staged);
        // A copy: of what is handed to the kernel straight from the map, a part could be lost on the
        // way, and the request would never be answered.
        let mut copy = COPY.take();
        let copied = self.steady(|| match self.base.element(ino)? {
            Some(element) if element.is_bucket() => Err(Error::IsDirectory),
            Some(element) => {
                copy.clear();
                let keep = |bytes: &[u8]| copy.extend_from_slice(bytes);
                let raw = self.options.raw;
                self.shown.read(element.value, raw, offset, size, keep);
                Ok(())
            }
            None if ino.is_staged() => Err(Error::Stale),
            None => Err(Error::IsDirectory),
        });
        let answer = copied.map(|()| reply(&copy));
        COPY.set(copy);
        answer
    }

    /// Writes `data` at `offset`; a gap reads as zeros. `drop_ids`: the file loses its set-user-id
    /// and set-group-id bits by it.
    ///
    /// # Errors
    /// [`Error::TooBig`] past [`MAX_FILE`], [`Error::IsDirectory`], [`Error::ReadOnly`],
    /// [`Error::NoMemory`].
    pub fn write(&self, ino: Ino, offset: u64, data: &[u8], drop_ids: bool) -> Result<()> {
        self.must_be_editable(ino)?;
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|&end| end <= MAX_FILE);
        let end = end.ok_or(Error::TooBig)? as usize;
        let start = offset as usize; // not greater than end
        let mut staged = self.edit()?;
        self.must_take_content(&mut staged, ino)?;
        let by_pieces = self.can_keep(&staged, ino, offset, data);
        if by_pieces {
            let content = self.content_mut(&mut staged, ino, 0)?;
            content.reserve_pieces(data.len()).map_err(unreadable)?;
        } else {
            self.make_room(&mut staged, ino, end)?;
        }
        self.record_content(&staged, ino)?;
        let kept = self.record(&staged, |names| {
            let at = names.node(ino)?;
            Some(Op::Write {
                at,
                offset,
                data: Cow::Borrowed(data),
            })
        })?;
        match kept.filter(|_| by_pieces) {
            Some((kept, end)) => {
                let content = self.content_mut(&mut staged, ino, usize::MAX)?;
                content.append(&kept, end - data.len() as u64, data);
            }
            None => {
                if by_pieces {
                    // It went into no journal.
                    self.make_room(&mut staged, ino, end)?;
                }
                let content = self.content_mut(&mut staged, ino, usize::MAX)?;
                let content = content.held_mut().ok_or(Error::NoMemory)?;
                if start == content.len() {
                    content.extend_from_slice(data);
                } else {
                    if content.len() < end {
                        content.resize(end, 0);
                    }
                    content[start..end].copy_from_slice(data);
                }
            }
        }
        self.touch(&mut staged, ino, Kind::File);
        if drop_ids {
            drop_set_ids(self.attrs_mut(&mut staged, ino, Kind::File));
        }
        Ok(())
    }

    /// fallocate(2): extends the file, or with `FALLOC_FL_KEEP_SIZE` does nothing.
    ///
    /// # Errors
    /// [`Error::NotSupported`] for any other mode, [`Error::TooBig`].
    pub fn fallocate(&self, ino: Ino, offset: u64, length: u64, mode: i32) -> Result<()> {
        let end = offset.checked_add(length).filter(|&end| end <= MAX_FILE);
        let end = end.ok_or(Error::TooBig)?;
        match mode {
            0 if end > self.getattr(ino)?.size => self
                .setattr(
                    ino,
                    SetAttr {
                        size: Some(end),
                        ..SetAttr::default()
                    },
                )
                .map(drop),
            0 | libc::FALLOC_FL_KEEP_SIZE => Ok(()),
            _ => Err(Error::NotSupported),
        }
    }

    /// Cuts or extends the file `ino` to `size` bytes.
    pub(super) fn resize(&self, staged: &mut Staged, ino: Ino, size: u64) -> Result<()> {
        if size > MAX_FILE {
            return Err(Error::TooBig);
        }
        self.must_take_content(staged, ino)?;
        // Of what is emptied nothing need be read, nor be in the journal.
        let mut cut = None;
        if size > 0 {
            if size > self.content_len(staged, ino)? {
                self.make_room(staged, ino, size as usize)?;
            } else {
                cut = self.cut_copy(staged, ino, size as usize)?;
            }
            self.record_content(staged, ino)?;
        }
        self.record(staged, |names| {
            Some(Op::Resize {
                at: names.node(ino)?,
                size,
            })
        })?;
        let size = size as usize;
        if size == 0 {
            staged.node_mut(ino, Kind::File).content = Some(Arc::default());
            self.has_content_recorded(ino);
        } else if let Some(cut) = cut {
            staged.node_mut(ino, Kind::File).content = Some(Arc::new(cut));
        } else if let Some(content) = self.content_mut(staged, ino, size)?.held_mut() {
            content.resize(size, 0);
            if content.capacity() / 4 > size {
                content.shrink_to(size);
            }
        }
        self.touch(staged, ino, Kind::File);
        Ok(())
    }

    /// Refuses what is no file or lies where damage keeps an edit from being written. All that can
    /// fail comes before the journal, and the first change after it.
    fn must_take_content(&self, staged: &mut Staged, ino: Ino) -> Result<()> {
        let kind = match staged.node(ino) {
            Some(node) if node.content.is_some() => return Ok(()),
            Some(node) => Some(node.kind),
            None => self.merged(staged).kind(ino)?,
        };
        match kind {
            Some(Kind::File) => self.enter(staged, ino),
            Some(Kind::Directory) => Err(Error::IsDirectory),
            None => Err(Error::Stale),
        }
    }

    /// The content of the file `ino`, for changing it; of a base file that is its value as shown,
    /// of which the first `need` bytes are enough.
    fn content_mut<'a>(
        &self,
        staged: &'a mut Staged,
        ino: Ino,
        need: usize,
    ) -> Result<&'a mut Content> {
        let shown = match staged.node(ino) {
            Some(node) if node.content.is_some() => Vec::new(),
            _ => self.steady(|| match self.base.element(ino)? {
                Some(element) if need > 0 => {
                    let mut shown = text::shown(element.value, self.options.raw).into_owned();
                    shown.truncate(need);
                    Ok::<_, Error>(shown)
                }
                _ => Ok(Vec::new()),
            })?,
        };
        let content = &mut staged.node_mut(ino, Kind::File).content;
        Ok(Arc::make_mut(
            content.get_or_insert_with(|| Arc::new(Content::from(shown))),
        ))
    }

    /// Whether the content of the file `ino` need not be in memory once `data` is written at `offset`.
    fn can_keep(&self, staged: &Staged, ino: Ino, offset: u64, data: &[u8]) -> bool {
        let content = staged.node(ino).and_then(|node| node.content.as_ref());
        content.is_some_and(|content| {
            let kept = self.kept();
            kept.is_some_and(|kept| content.takes(offset, data, kept.as_ref()))
        })
    }

    /// Length in bytes of the content of the file `ino`, as it is shown.
    fn content_len(&self, staged: &Staged, ino: Ino) -> Result<u64> {
        match staged.node(ino).and_then(|node| node.content.as_ref()) {
            Some(content) => Ok(content.len() as u64),
            None => self.steady(|| {
                let value = self.base.element(ino)?.map_or(&[][..], |e| e.value);
                Ok(self.shown.len(value, self.options.raw))
            }),
        }
    }

    /// Has the content of the file `ino` in memory, with room for `len` bytes. That this cannot be must be
    /// known before the edit is in the journal; the content is as before.
    fn make_room(&self, staged: &mut Staged, ino: Ino, len: usize) -> Result<()> {
        if staged.node(ino).is_none_or(|node| node.content.is_none()) {
            self.content_mut(staged, ino, usize::MAX)?;
        }
        let node = staged.node_mut(ino, Kind::File);
        let Some(content) = &mut node.content else {
            return Ok(());
        };
        match Arc::get_mut(content) {
            Some(own) => own.hold(len),
            // Others have it too: the last commit, or somebody who tells what is pending.
            None => content.held_copy(len).map(|own| *content = Arc::new(own)),
        }
        .map_err(unreadable)
    }

    /// The first `size` bytes of the content of the file `ino`, where it is longer and cannot be cut in place:
    /// it is not in memory, or others have it too. That there is no memory for them must be known before
    /// the edit is in the journal.
    fn cut_copy(&self, staged: &Staged, ino: Ino, size: usize) -> Result<Option<Content>> {
        let content = match staged.node(ino) {
            Some(Node {
                content: Some(content),
                ..
            }) if content.len() > size => content,
            _ => return Ok(None),
        };
        if content.held().is_some() && Arc::strong_count(content) == 1 {
            return Ok(None);
        }
        content.first(size).map(Some).map_err(unreadable)
    }

    /// Enters the base node `ino`, of which something is about to be staged, in its directory.
    /// A node that was unlinked stays outside: what is written to it goes nowhere.
    pub(super) fn enter(&self, staged: &mut Staged, ino: Ino) -> Result<()> {
        let tree = self.merged(staged);
        let Some((dir, key)) = tree.place(ino) else {
            return Ok(());
        };
        if tree.staged.entry(dir, &key).is_some() || !tree.is_linked(ino) {
            return Ok(());
        }
        let key = Key::from(&key[..]);
        let below = self.own_below_for_edit(staged, dir, &key, ino)?;
        self.touch_up(staged, dir)?;
        staged.set(dir, key, ino, below);
        Ok(())
    }
}

/// Why a content cannot be had in memory.
pub(super) fn unreadable(e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::OutOfMemory => Error::NoMemory,
        _ => bolt::Error::io("read what was written to it back from the journal", e).into(),
    }
}
