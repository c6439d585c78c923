//! What a journal holds of the bytes that were written, read back from it: they need not be in
//! memory a second time.

use crate::bolt::{Disk, Map};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Longest piece in bytes: what has to be read to verify any byte of it.
const LONGEST: usize = 128 << 10;
/// So many pieces are read one by one before the file is mapped anew, as it has grown: a map costs
/// more than one of them, and far less than all of them.
const BEFORE_MAP: u32 = 32;

/// The file of a journal, for reading back what was appended. It can be read for as long as somebody
/// has it, whether the journal was removed meanwhile or not.
pub struct Kept(Mutex<Source>);

struct Source {
    /// `None` once it is closed.
    disk: Option<Arc<dyn Disk>>,
    map: Option<Map>,
    /// Pieces read since it was mapped, that the map does not reach.
    missed: u32,
    /// Where the pieces lie that could not be read when they were tried last.
    lost: BTreeSet<u64>,
}

/// Some bytes of a content that lie in a journal, one behind the other.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// Where they start in the file.
    at: u64,
    /// Where they end in the content.
    end: u32,
    crc: u32,
}

/// What was written cannot be read back as it was: somebody has changed or cut the journal, or its
/// disk fails. [`is_lost`] tells it from other errors.
#[derive(Debug)]
struct Lost(Option<io::Error>);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the journal was cut by another program")
            }
            Some(e) => e.fmt(f),
            None => f.write_str("the journal was changed by another program, or its disk fails"),
        }
    }
}

impl std::error::Error for Lost {}

/// Whether this error says that what was written cannot be read back from a journal.
pub fn is_lost(e: &io::Error) -> bool {
    e.get_ref().is_some_and(|inner| inner.is::<Lost>())
}

/// That it cannot, where that is known already.
pub fn lost() -> io::Error {
    io::Error::other(Lost(None))
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

impl Kept {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Kept {
        Kept(Mutex::new(Source {
            disk: Some(disk),
            map: None,
            missed: 0,
            lost: BTreeSet::new(),
        }))
    }

    /// Nothing is appended any more, and the file is removed: has it mapped, which is all that is needed to
    /// read it back, and closes it. There may be many like it.
    pub(super) fn settle(&self) {
        let mut source = self.0.lock();
        let map = source.disk.as_ref().and_then(|disk| disk.map().ok());
        // Where it cannot be mapped it stays open.
        if let Some(map) = map {
            (source.disk, source.map) = (None, Some(map));
            if let Some(map) = &mut source.map {
                map.close_file();
            }
        }
    }

    /// Lets go of the file, and of the lock on it. Nothing can be read back any more.
    pub fn close(&self) {
        let mut source = self.0.lock();
        (source.disk, source.map) = (None, None);
    }

    /// Appends the bytes of `piece`, which starts at `start` of its content, to `out`.
    ///
    /// # Errors
    /// They are not those that were written ([`is_lost`]), or there is no memory for them. `out` is as
    /// before then.
    pub fn read(&self, piece: Piece, start: u32, out: &mut Vec<u8>) -> io::Result<()> {
        let read = self.try_read(piece, start, out);
        match &read {
            Ok(()) => self.0.lock().found(piece),
            Err(e) if is_lost(e) => drop(self.0.lock().lost.insert(piece.at)),
            Err(_) => {}
        }
        read
    }

    /// Whether one of these pieces could not be read when it was tried last.
    pub fn has_lost(&self, pieces: &[Piece]) -> bool {
        let source = self.0.lock();
        !source.lost.is_empty() && pieces.iter().any(|piece| source.lost.contains(&piece.at))
    }

    fn try_read(&self, piece: Piece, start: u32, out: &mut Vec<u8>) -> io::Result<()> {
        let len = piece.end.saturating_sub(start) as usize;
        let before = out.len();
        out.try_reserve(len)?;
        let (is_mapped, disk) = self.0.lock().copy(piece.at, len, out);
        if is_mapped {
            if crc32fast::hash(&out[before..]) == piece.crc {
                return Ok(());
            }
            // What the map has lost stays lost in it; the disk may have it yet.
            out.truncate(before);
        }
        out.resize(before + len, 0);
        let read = match disk {
            Some(disk) => disk
                .read_exact_at(&mut out[before..], piece.at)
                .map(|()| true),
            None if is_mapped => Ok(false),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        let lost = match read {
            Ok(true) if crc32fast::hash(&out[before..]) == piece.crc => return Ok(()),
            Ok(_) => None,
            Err(e) => Some(e),
        };
        out.truncate(before);
        Err(io::Error::other(Lost(lost)))
    }
}

impl Source {
    fn found(&mut self, piece: Piece) {
        if !self.lost.is_empty() {
            self.lost.remove(&piece.at);
        }
    }

    /// Appends `len` bytes at `at` to `out`, if they are mapped. A copy is taken before it is verified:
    /// others can still write to the file.
    ///
    /// # Returns
    /// Whether they are, and where they can be read if they are not.
    fn copy(&mut self, at: u64, len: usize, out: &mut Vec<u8>) -> (bool, Option<Arc<dyn Disk>>) {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let range = start..start.saturating_add(len);
        let reaches = |map: &Option<Map>| map.as_ref().is_some_and(|map| range.end <= map.len());
        if !reaches(&self.map) {
            self.missed += 1;
            if self.missed >= BEFORE_MAP {
                // Where it cannot be mapped it is read.
                self.map = self.disk.as_ref().and_then(|disk| disk.map().ok());
                self.missed = 0;
            }
        }
        let bytes = self.map.as_ref().and_then(|map| map.get(range));
        let is_mapped = bytes.is_some();
        out.extend_from_slice(bytes.unwrap_or_default());
        (is_mapped, self.disk.clone())
    }
}

impl Piece {
    /// The number of pieces that `len` bytes make.
    pub fn count(len: usize) -> usize {
        len.div_ceil(LONGEST)
    }

    /// The pieces of `data`, which lies at `at` of the file and behind `start` bytes of the content.
    pub fn of(data: &[u8], at: u64, start: u32) -> impl Iterator<Item = Piece> {
        let mut piece = Piece {
            at,
            end: start,
            crc: 0,
        };
        let mut next = at;
        data.chunks(LONGEST).map(move |chunk| {
            piece = Piece {
                at: next,
                // A content is shorter than 2 GiB.
                end: piece.end + chunk.len() as u32,
                crc: crc32fast::hash(chunk),
            };
            next += chunk.len() as u64;
            piece
        })
    }

    /// Where it ends in the content.
    pub fn end(&self) -> u32 {
        self.end
    }
}
