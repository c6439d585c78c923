//! A disk for dry runs: what is written stays in memory, and is read back from there.

use std::collections::BTreeMap;
use std::io;

use parking_lot::Mutex;

use crate::bolt::{DbFile, Disk, Map};

/// Bytes that are kept together.
const BLOCK: usize = 4096;

/// A database file that takes writes and does not change.
pub struct Rehearsal<'a> {
    file: &'a DbFile,
    state: Mutex<State>,
}

struct State {
    len: u64,
    /// Blocks that were written to, by their number.
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
}

impl<'a> Rehearsal<'a> {
    /// Over `file` as it is.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn new(file: &'a DbFile) -> io::Result<Rehearsal<'a>> {
        let len = file.size()?;
        let blocks = BTreeMap::new();
        Ok(Rehearsal {
            file,
            state: Mutex::new(State { len, blocks }),
        })
    }

    /// The block of the file as it is; zeros behind its end.
    fn original(&self, number: u64) -> io::Result<Box<[u8; BLOCK]>> {
        let mut block = Box::new([0; BLOCK]);
        let start = number * BLOCK as u64;
        let there = self.file.size()?.saturating_sub(start).min(BLOCK as u64) as usize;
        if let Some(part) = block.get_mut(..there) {
            self.file.read_exact_at(part, start)?;
        }
        Ok(block)
    }
}

/// The blocks that `len` bytes from `offset` on lie in: number, place in the block, and how many.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let (mut at, mut left) = (offset, len);
    std::iter::from_fn(move || {
        let (number, start) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
        let count = left.min(BLOCK - start);
        at += count as u64;
        left -= count;
        (count > 0).then_some((number, start, count))
    })
}

impl Disk for Rehearsal<'_> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.state.lock().len)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state.lock();
        if offset.saturating_add(buf.len() as u64) > state.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = buf;
        for (number, start, count) in pieces(offset, rest.len()) {
            let original;
            let block = match state.blocks.get(&number) {
                Some(block) => block,
                None => {
                    original = self.original(number)?;
                    &original
                }
            };
            let (piece, behind) = rest.split_at_mut(count);
            piece.copy_from_slice(&block[start..start + count]);
            rest = behind;
        }
        Ok(())
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut rest = buf;
        for (number, start, count) in pieces(offset, buf.len()) {
            let block = match state.blocks.entry(number) {
                std::collections::btree_map::Entry::Occupied(block) => block.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(self.original(number)?)
                }
            };
            let (piece, behind) = rest.split_at(count);
            block[start..start + count].copy_from_slice(piece);
            rest = behind;
        }
        state.len = state.len.max(offset + buf.len() as u64);
        Ok(())
    }

    /// Bytes that are cut off come back if it grows again: nobody relies on that here.
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state.lock().len = len;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self) -> io::Result<Map> {
        let mut bytes = vec![0; usize::try_from(self.size()?).unwrap_or(usize::MAX)];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_written_is_read_back_and_the_file_stays() {
        let path = std::env::temp_dir().join(format!("boltfs-rehearsal-{}", std::process::id()));
        let before: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
        fs::write(&path, &before).unwrap();
        let file = DbFile::open(&path, false).unwrap();
        let disk = Rehearsal::new(&file).unwrap();
        let mut wanted = before.clone();
        for (offset, len, byte) in [(0, 1, 1), (4090, 12, 2), (8191, 4098, 3), (20_000, 5, 4)] {
            let bytes = vec![byte; len];
            disk.write_all_at(&bytes, offset as u64).unwrap();
            wanted.resize(wanted.len().max(offset + len), 0);
            wanted[offset..offset + len].copy_from_slice(&bytes);
            assert_eq!(disk.map().unwrap()[..], wanted);
        }
        disk.set_len(30_000).unwrap();
        assert_eq!(disk.size().unwrap(), 30_000);
        assert!(disk.read_exact_at(&mut [0; 2], 29_999).is_err());
        assert_eq!(fs::read(&path).unwrap(), before);
        fs::remove_file(path).unwrap();
    }
}
