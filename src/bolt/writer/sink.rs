//! Where new pages go: allocated, laid out, and written in large sequential pieces.

use super::build::{Entry, Item};
use super::level::Piece;
use super::witness::Witness;
use crate::bolt::allocator::Allocator;
use crate::bolt::error::{Damage, Error, Result};
use crate::bolt::file::Disk;
use crate::bolt::freelist;
use crate::bolt::page::{BRANCH, FREELIST, HEADER, Header, LEAF};
use crate::bolt::pageset::PageSet;

/// Bytes that are gathered before they are written.
const BUFFER: usize = 1 << 20;
/// Largest element that bbolt can read: element header, key and value.
pub(super) const MAX_ELEMENT: usize = (1 << 31) - 1;
/// A piece of at least this many bytes is written from where it is.
const DIRECT: usize = 256 << 10;

/// Writes runs of pages.
pub(super) struct Sink<'d> {
    disk: &'d dyn Disk,
    page_size: usize,
    allocator: Allocator,
    /// Every page that this transaction wrote.
    written: PageSet,
    /// Bytes not yet on the disk, and the offset in the file where they belong.
    buffer: Vec<u8>,
    start: u64,
    /// One of each piece that was written.
    witnesses: Vec<Witness>,
}

/// What was written.
pub(super) struct Written {
    pub pages: PageSet,
    /// The high-water mark behind them.
    pub hwm: u64,
    pub witnesses: Vec<Witness>,
}

impl<'d> Sink<'d> {
    pub fn new(disk: &'d dyn Disk, page_size: usize, allocator: Allocator) -> Sink<'d> {
        Sink {
            disk,
            page_size,
            allocator,
            written: PageSet::new(),
            buffer: Vec::with_capacity(BUFFER),
            start: 0,
            witnesses: Vec::new(),
        }
    }

    pub fn page_size(&self) -> usize {
        self.page_size
    }

    pub fn allocator(&self) -> &Allocator {
        &self.allocator
    }

    pub fn written(&self) -> &PageSet {
        &self.written
    }

    /// Writes what is not written yet.
    pub fn finish(mut self) -> Result<Written> {
        self.flush()?;
        Ok(Written {
            pages: self.written,
            hwm: self.allocator.hwm(),
            witnesses: self.witnesses,
        })
    }

    /// Allocates a run for `size` bytes and moves to it. The same run twice, or a page that is not
    /// the allocator's to give, would destroy a committed state.
    fn begin(&mut self, size: usize) -> Result<(u64, u32)> {
        let pages = size.div_ceil(self.page_size) as u64;
        let overflow = u32::try_from(pages - 1)
            .map_err(|_| Error::Limit("a page of more than 2^32 pages".into()))?;
        let pgid = self.allocator.allocate(pages);
        assert!(self.written.insert_run(pgid, pages), "page {pgid} twice");
        let offset = pgid
            .checked_mul(self.page_size as u64)
            .ok_or_else(|| Error::Limit("a file of more than 2^64 bytes".into()))?;
        if offset != self.start + self.buffer.len() as u64 {
            self.flush()?;
            self.start = offset;
        }
        Ok((pgid, overflow))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() >= DIRECT {
            self.flush()?;
            self.write(bytes)
        } else {
            self.buffer.extend_from_slice(bytes);
            if self.buffer.len() >= BUFFER {
                self.flush()?;
            }
            Ok(())
        }
    }

    /// Ends a run of `size` bytes: zeros up to the end of its last page.
    fn end(&mut self, size: usize) -> Result<()> {
        let rest = size.next_multiple_of(self.page_size) - size;
        self.buffer.resize(self.buffer.len() + rest, 0);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    /// Reads a run that was written, and forgets it: nothing refers to it any more.
    pub fn take_back(&mut self, pgid: u64) -> Result<(Header, Vec<u8>)> {
        let (header, bytes) = self.read_back(pgid)?;
        self.written
            .remove_run(pgid, u64::from(header.overflow) + 1);
        Ok((header, bytes))
    }

    /// Reads a run that was written.
    pub fn read_back(&mut self, pgid: u64) -> Result<(Header, Vec<u8>)> {
        self.flush()?;
        let read = |bytes: &mut [u8]| {
            let done = self.disk.read_exact_at(bytes, pgid * self.page_size as u64);
            done.map_err(|e| Error::io(format!("read page {pgid} back"), e))
        };
        let mut first = [0; HEADER];
        read(&mut first)?;
        match Header::read(&first) {
            Some(header) if header.id == pgid => {
                let mut bytes = vec![0; (header.overflow as usize + 1) * self.page_size];
                read(&mut bytes)?;
                Ok((header, bytes))
            }
            _ => Err(Error::page(pgid, Damage::Gone)),
        }
    }

    fn flush(&mut self) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let done = self.write(&buffer);
        buffer.clear();
        self.buffer = buffer;
        done
    }

    /// Writes at `start` and moves on behind it.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.disk.write_all_at(bytes, self.start).map_err(|e| {
            let first = self.start / self.page_size as u64;
            Error::io(format!("write the pages from {first} on"), e)
        })?;
        self.witnesses.extend(Witness::last_of(bytes, self.start));
        self.start += bytes.len() as u64;
        Ok(())
    }

    fn header(&mut self, flags: u16, count: usize, size: usize) -> Result<u64> {
        let count = u16::try_from(count)
            .map_err(|_| Error::Limit(format!("a page of {count} elements")))?;
        if size > HEADER + MAX_ELEMENT {
            let text = format!("a page of {size} bytes; bbolt reads none larger than 2 GiB");
            return Err(Error::Limit(text));
        }
        let (id, overflow) = self.begin(size)?;
        let header = Header {
            id,
            flags,
            count,
            overflow,
        };
        self.put(&header.to_bytes())?;
        Ok(id)
    }

    /// Writes a leaf page.
    pub fn leaf(&mut self, items: &[Item<'_>]) -> Result<u64> {
        let size = HEADER + items.iter().map(Piece::size).sum::<usize>();
        let id = self.header(LEAF, items.len(), size)?;
        for header in element_headers(items) {
            self.put(&header)?;
        }
        for item in items {
            self.put(&item.key)?;
            self.put(&item.value)?;
        }
        self.end(size)?;
        Ok(id)
    }

    /// Writes a branch page.
    pub fn branch(&mut self, entries: &[Entry<'_>]) -> Result<u64> {
        let size = HEADER + entries.iter().map(Piece::size).sum::<usize>();
        let id = self.header(BRANCH, entries.len(), size)?;
        let mut pos = HEADER * entries.len();
        for entry in entries {
            let mut header = [0; HEADER];
            header[..4].copy_from_slice(&(pos as u32).to_le_bytes());
            header[4..8].copy_from_slice(&(entry.key.len() as u32).to_le_bytes());
            header[8..].copy_from_slice(&entry.pgid.to_le_bytes());
            self.put(&header)?;
            pos = pos + entry.key.len() - HEADER;
        }
        for entry in entries {
            self.put(&entry.key)?;
        }
        self.end(size)?;
        Ok(id)
    }

    /// Writes a freelist of the pages in `free`, but for those it is itself written to.
    pub fn freelist(&mut self, free: &mut PageSet) -> Result<u64> {
        let size = freelist::size(free.len() as usize);
        let (id, overflow) = self.begin(size)?;
        free.remove_run(id, u64::from(overflow) + 1);
        let count = free.len();
        let long = count >= u64::from(freelist::LONG);
        let header = Header {
            id,
            flags: FREELIST,
            count: if long { freelist::LONG } else { count as u16 },
            overflow,
        };
        self.put(&header.to_bytes())?;
        if long {
            self.put(&count.to_le_bytes())?;
        }
        for pgid in free.iter() {
            self.put(&pgid.to_le_bytes())?;
        }
        // The run may be longer than its content, by the ids of its own pages.
        let used = HEADER + 8 * (count as usize + usize::from(long));
        let run = (overflow as usize + 1) * self.page_size;
        for _ in 0..(run - used) / 8 {
            self.put(&[0; 8])?;
        }
        Ok(id)
    }
}

/// The element headers of a leaf page, data packed behind them in order.
pub(super) fn element_headers(items: &[Item<'_>]) -> impl Iterator<Item = [u8; HEADER]> {
    let mut pos = HEADER * items.len();
    items.iter().map(move |item| {
        let mut header = [0; HEADER];
        let (ksize, vsize) = (item.key.len(), item.value.len());
        // `header` has refused what does not fit.
        for (at, n) in [item.flags, pos as u32, ksize as u32, vsize as u32]
            .into_iter()
            .enumerate()
        {
            header[4 * at..4 * at + 4].copy_from_slice(&n.to_le_bytes());
        }
        pos = pos + ksize + vsize - HEADER;
        header
    })
}
