//! What was written to a file.
//!
//! The bytes are in the journal before a write is answered. A content that was written from its
//! start to its end, one write behind the other, is therefore not kept in memory again: only where
//! in the journal its pieces lie. Anything else, and what is not in a journal, is kept in memory.

use crate::bolt;
use crate::journal::{Kept, Piece, is_lost};
use std::borrow::Cow;
use std::io;
use std::sync::Arc;

/// Bytes per piece, on average, below which a content is kept in memory: knowing where the bytes are
/// would take as much as the bytes.
const SHORT: usize = 128;

/// The content of a file, as it is shown. Shorter than 2 GiB.
#[derive(Debug, Clone)]
pub struct Content(Form);

#[derive(Debug, Clone)]
enum Form {
    Held(Vec<u8>),
    /// There is at least one piece.
    Kept(Arc<Kept>, Vec<Piece>),
}

/// Whether this error says that a content cannot be read back from the journal.
pub fn says_lost(e: &bolt::Error) -> bool {
    matches!(e, bolt::Error::Io { source, .. } if is_lost(source))
}

impl Default for Content {
    fn default() -> Self {
        Content(Form::Held(Vec::new()))
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Content(Form::Held(bytes))
    }
}

impl Content {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Held(bytes) => bytes.len(),
            Form::Kept(_, pieces) => pieces.last().map_or(0, |last| last.end() as usize),
        }
    }

    /// There is no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes; read where they are not in memory.
    ///
    /// # Errors
    /// They cannot be read back from the journal as they were written
    /// ([`is_lost`]), or there is no memory for them.
    pub fn bytes(&self) -> io::Result<Cow<'_, [u8]>> {
        match &self.0 {
            Form::Held(bytes) => Ok(Cow::Borrowed(bytes)),
            Form::Kept(..) => Ok(Cow::Owned(self.copied(self.len())?)),
        }
    }

    /// Whether it starts with these bytes. What has to be read for that is in memory one piece at a time.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn starts_with(&self, bytes: &[u8]) -> io::Result<bool> {
        let (kept, pieces) = match &self.0 {
            Form::Held(held) => return Ok(held.starts_with(bytes)),
            Form::Kept(kept, pieces) => (kept, pieces),
        };
        if bytes.len() > self.len() {
            return Ok(false);
        }
        let mut rest = bytes;
        let (mut at, mut piece_bytes) = (0, Vec::new());
        for piece in pieces {
            if rest.is_empty() {
                break;
            }
            piece_bytes.clear();
            kept.read(*piece, at, &mut piece_bytes)?;
            at = piece.end();
            let (first, behind) = rest.split_at(rest.len().min(piece_bytes.len()));
            if !piece_bytes.starts_with(first) {
                return Ok(false);
            }
            rest = behind;
        }
        Ok(true)
    }

    /// Whether it is just these bytes.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn is(&self, bytes: &[u8]) -> io::Result<bool> {
        Ok(self.len() == bytes.len() && self.starts_with(bytes)?)
    }

    /// Whether it could not be read when somebody tried last. Reads nothing.
    pub fn is_known_lost(&self) -> bool {
        match &self.0 {
            Form::Held(_) => false,
            Form::Kept(kept, pieces) => kept.has_lost(pieces),
        }
    }

    /// All bytes, if they are in memory.
    pub fn held(&self) -> Option<&[u8]> {
        match &self.0 {
            Form::Held(bytes) => Some(bytes),
            Form::Kept(..) => None,
        }
    }

    /// Reads what has to be read for the `size` bytes at `offset` into `out`, which is cleared.
    ///
    /// # Returns
    /// The offset of its first byte.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn read(&self, offset: u64, size: usize, out: &mut Vec<u8>) -> io::Result<u64> {
        out.clear();
        let end = offset.saturating_add(size as u64);
        let (kept, pieces) = match &self.0 {
            Form::Held(bytes) => {
                out.extend_from_slice(bytes);
                return Ok(0);
            }
            Form::Kept(kept, pieces) => (kept, pieces),
        };
        let first = pieces.partition_point(|piece| u64::from(piece.end()) <= offset);
        let mut at = first
            .checked_sub(1)
            .and_then(|before| pieces.get(before))
            .map_or(0, Piece::end);
        let start = at.into();
        for piece in pieces.iter().skip(first) {
            if u64::from(at) >= end {
                break;
            }
            kept.read(*piece, at, out)?;
            at = piece.end();
        }
        Ok(start)
    }

    /// A copy of the bytes with room for `len`.
    fn copied(&self, len: usize) -> io::Result<Vec<u8>> {
        self.copied_first(self.len(), len)
    }

    /// A copy of the first `size` bytes with room for `len`.
    fn copied_first(&self, size: usize, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match &self.0 {
            Form::Held(held) => {
                let held = held.get(..size).unwrap_or(held);
                bytes.try_reserve_exact(len.max(held.len()))?;
                bytes.extend_from_slice(held);
            }
            Form::Kept(kept, pieces) => {
                // A piece is read as a whole.
                let whole = pieces.partition_point(|piece| (piece.end() as usize) < size) + 1;
                let pieces = pieces.get(..whole).unwrap_or(pieces);
                let end = pieces.last().map_or(0, |last| last.end() as usize);
                bytes.try_reserve_exact(len.max(end))?;
                let mut at = 0;
                for piece in pieces {
                    kept.read(*piece, at, &mut bytes)?;
                    at = piece.end();
                }
                bytes.truncate(size);
                if bytes.capacity() / 4 > size.max(len) {
                    bytes.shrink_to(size.max(len));
                }
            }
        }
        Ok(bytes)
    }

    /// A copy of the first `size` bytes, in memory.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn first(&self, size: usize) -> io::Result<Content> {
        self.copied_first(size, 0).map(Content::from)
    }

    /// Whether it is kept as pieces once `data` is written at `start`, if the journal keeps them as `kept`
    /// (`None`: it is yet to be begun).
    pub fn takes(&self, start: u64, data: &[u8], kept: Option<&Arc<Kept>>) -> bool {
        let len = self.len();
        let (is_same, pieces) = match &self.0 {
            Form::Held(bytes) => (bytes.is_empty(), 0),
            Form::Kept(own, pieces) => (
                kept.is_some_and(|kept| Arc::ptr_eq(own, kept)),
                pieces.len(),
            ),
        };
        let pieces = pieces.saturating_add(Piece::count(data.len()));
        is_same
            && start == len as u64
            && !data.is_empty()
            && pieces.saturating_mul(SHORT) <= len.saturating_add(data.len())
    }

    /// Takes the memory that [`append`](Self::append) needs for `len` bytes.
    ///
    /// # Errors
    /// There is none.
    pub fn reserve_pieces(&mut self, len: usize) -> io::Result<()> {
        if let Form::Kept(_, pieces) = &mut self.0 {
            pieces.try_reserve(Piece::count(len))?;
        }
        Ok(())
    }

    /// Notes that `data`, which it [takes](Self::takes), is at `at` of the journal behind `kept`.
    pub fn append(&mut self, kept: &Arc<Kept>, at: u64, data: &[u8]) {
        let start = self.len() as u32;
        let new = Piece::of(data, at, start);
        match &mut self.0 {
            Form::Kept(_, pieces) => pieces.extend(new),
            Form::Held(_) => self.0 = Form::Kept(Arc::clone(kept), new.collect()),
        }
    }

    /// Has the bytes in memory, with room for `len`.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes); it is as before then.
    pub fn hold(&mut self, len: usize) -> io::Result<()> {
        match &mut self.0 {
            Form::Held(bytes) => bytes.try_reserve(len.saturating_sub(bytes.len()))?,
            Form::Kept(..) => self.0 = Form::Held(self.copied(len)?),
        }
        Ok(())
    }

    /// A copy that has the bytes in memory, with room for `len`.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn held_copy(&self, len: usize) -> io::Result<Content> {
        self.copied(len).map(Content::from)
    }

    /// All bytes, for changing them, if they [are in memory](Self::hold).
    pub fn held_mut(&mut self) -> Option<&mut Vec<u8>> {
        match &mut self.0 {
            Form::Held(bytes) => Some(bytes),
            Form::Kept(..) => None,
        }
    }
}
