//! Whether the file was made shorter while a commit was at work.
//!
//! Its length cannot tell: what the commit itself writes behind the cut makes the file long again,
//! with zeros between. But a byte that was not zero, and that nobody writes to, then is. So one is
//! remembered from behind everything that the commit reads, and one from the end of each piece that
//! it writes. If all of them are in their places at the end, the file was never cut below any of
//! them, and what was read was not made up.

use crate::bolt::error::{Error, Result};
use crate::bolt::file::Disk;
use crate::bolt::snapshot::Snapshot;

/// A byte that is not zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Witness {
    offset: u64,
    byte: u8,
}

impl Witness {
    /// The last byte of `bytes`, which lie at `offset` of the file, that is not zero.
    pub fn last_of(bytes: &[u8], offset: u64) -> Option<Witness> {
        // By the line: mostly there are many that are all zero, or none.
        const LINE: usize = 64;
        let is_zero = |line: &[u8]| line.iter().fold(0, |any, &byte| any | byte) == 0;
        let behind: usize = bytes
            .rchunks(LINE)
            .take_while(|line| is_zero(line))
            .map(<[u8]>::len)
            .sum();
        let rest = bytes.get(..bytes.len() - behind)?;
        let at = rest.iter().rposition(|&byte| byte != 0)?;
        Some(Witness {
            offset: offset + at as u64,
            byte: *rest.get(at)?,
        })
    }

    /// The last byte of `base` that is not zero and on no page that was or may be written to. None if
    /// there is none in a long stretch at the end: no database has one.
    pub fn of_base(base: &Snapshot, is_written_to: impl Fn(u64) -> bool) -> Option<Witness> {
        const STRETCH: u64 = 16 << 20;
        let size = base.page_size() as u64;
        let pages = 2..base.meta().hwm.min(base.file_len() / size);
        let mut pages = pages.rev().take((STRETCH / size) as usize);
        pages.find_map(|pgid| {
            let start = pgid * size;
            let page = base
                .map()
                .get(start as usize..(start + size) as usize)
                .filter(|_| !is_written_to(pgid))?;
            Witness::last_of(page, start)
        })
    }

    /// The byte is where it was.
    ///
    /// # Errors
    /// What the disk says.
    pub fn is_there(&self, disk: &dyn Disk) -> Result<bool> {
        let mut byte = [0];
        match disk.read_exact_at(&mut byte, self.offset) {
            Ok(()) => Ok(byte == [self.byte]),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(Error::io("read back what was written", e)),
        }
    }
}
