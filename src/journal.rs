//! The edits on disk until they are committed: `DB.boltfs-journal`, beside the database.
//!
//! Every operation is appended before it is answered, so that the process can die at any moment
//! and lose nothing that had returned to its caller; `fsync` makes what was appended durable.
//! What was written is read back from here ([`Kept`]), for the mount that lives. Operations are
//! kept rather than what they made, for an edit means something only when a change
//! set is taken from all of them.
//!
//! ```text
//! header   0 magic (16 bytes) | 16 u32 flags | 20 u32 0 | 24 u64 txid | 32 u64 checksum of the meta
//!          40 u32 crc32 of the 40 bytes before it | 44 u32 0
//! record   0 u32 length of the payload | 4 u32 crc32 of the payload | 8 payload
//! payload  u8 operation, then numbers (LEB128) and places (number of a directory, length, key)
//! ```
//!
//! A directory gets a number by a record of its own before the first operation in it, the root is
//! number 0. The number stays with the directory when it is moved, and a deep tree costs no long
//! paths.
//!
//! All fixed numbers are little-endian. The header names the committed state that the operations
//! start from. A record that is cut short or does not match its checksum ends the journal: it was
//! being written when the machine stopped, unless more follows it ([`Reader::is_damaged`]).

mod behind;
mod kept;

pub use behind::Behind;
pub use kept::{Kept, Piece, is_lost, lost};

use crate::bolt::{Disk, Meta};
use std::borrow::Cow;
use std::io;
use std::sync::Arc;

const MAGIC: &[u8; 16] = b"boltfs journal 1";
const HEADER: usize = 48;
const RECORD: usize = 8;
/// Data up to this length is copied to be written together with its record.
const TOGETHER: usize = 32 << 10;
/// Header flag: values were shown as stored.
const RAW: u32 = 1;

/// A key of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    /// The directory's number in this journal.
    pub dir: u64,
    /// The key in it.
    pub key: Cow<'a, [u8]>,
}

/// The number of the root directory.
pub const ROOT: u64 = 0;

/// One operation. Places are those at the moment of the operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op<'a> {
    /// The directory at this place has this number from here on.
    Directory {
        /// Where.
        at: Place<'a>,
        /// Its number, which no other has.
        number: u64,
    },
    /// An empty file was made.
    Create {
        /// Where.
        at: Place<'a>,
    },
    /// An empty directory was made.
    Mkdir {
        /// Where.
        at: Place<'a>,
    },
    /// A file was removed.
    Unlink {
        /// Which.
        at: Place<'a>,
    },
    /// An empty directory was removed.
    Rmdir {
        /// Which.
        at: Place<'a>,
    },
    /// A node got another name.
    Rename {
        /// The old one.
        from: Place<'a>,
        /// The new one.
        to: Place<'a>,
        /// The two changed places.
        exchange: bool,
    },
    /// Bytes were written to a file.
    Write {
        /// Which.
        at: Place<'a>,
        /// Where, in bytes.
        offset: u64,
        /// What.
        data: Cow<'a, [u8]>,
    },
    /// A file was cut or extended.
    Resize {
        /// Which.
        at: Place<'a>,
        /// Its new length in bytes.
        size: u64,
    },
    /// A bucket got a sequence number.
    Sequence {
        /// Which.
        at: Place<'a>,
        /// The number.
        sequence: u64,
    },
    /// A commit of all the operations before was about to become visible, as the state with this
    /// meta. If the database shows it, the operations are done with.
    Commit {
        /// The transaction number.
        txid: u64,
        /// The checksum of the meta.
        checksum: u64,
    },
}

/// The committed state that a journal starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Transaction number.
    pub txid: u64,
    /// Checksum of the meta.
    pub checksum: u64,
    /// Values were shown as stored: the operations mean something else if they are not.
    pub raw: bool,
}

impl Origin {
    /// The state that `meta` describes.
    pub fn of(meta: &Meta, raw: bool) -> Origin {
        Origin {
            txid: meta.txid,
            checksum: meta.checksum(),
            raw,
        }
    }

    fn to_bytes(self) -> [u8; HEADER] {
        let mut b = [0; HEADER];
        b[..16].copy_from_slice(MAGIC);
        b[16..20].copy_from_slice(&(if self.raw { RAW } else { 0 }).to_le_bytes());
        b[24..32].copy_from_slice(&self.txid.to_le_bytes());
        b[32..40].copy_from_slice(&self.checksum.to_le_bytes());
        let crc = crc32fast::hash(&b[..40]);
        b[40..44].copy_from_slice(&crc.to_le_bytes());
        b
    }

    fn read(bytes: &[u8]) -> Option<Origin> {
        let b: &[u8; HEADER] = bytes.first_chunk()?;
        let crc = u32::from_le_bytes(*b[40..].first_chunk()?);
        if !b.starts_with(MAGIC) || crc != crc32fast::hash(&b[..40]) {
            return None;
        }
        let flags = u32::from_le_bytes(*b[16..].first_chunk()?);
        let txid = u64::from_le_bytes(*b[24..].first_chunk()?);
        let checksum = u64::from_le_bytes(*b[32..].first_chunk()?);
        Some(Origin {
            txid,
            checksum,
            raw: flags & RAW != 0,
        })
    }
}

/// A journal that is being written.
pub struct Journal {
    disk: Arc<dyn Disk>,
    kept: Arc<Kept>,
    /// Bytes that are whole records; what is behind them, if anything, is overwritten.
    len: u64,
    buffer: Vec<u8>,
}

impl Journal {
    /// Starts a journal on `disk`, which is empty. The header is durable from here on.
    ///
    /// # Errors
    /// What the disk says.
    pub fn start(disk: Box<dyn Disk>, origin: Origin) -> io::Result<Journal> {
        disk.write_all_at(&origin.to_bytes(), 0)?;
        disk.sync()?;
        Ok(Journal::on(disk, HEADER as u64))
    }

    /// Goes on with a journal of which the first `len` bytes were [read](Reader::valid_len).
    ///
    /// # Errors
    /// What the disk says.
    pub fn resume(disk: Box<dyn Disk>, len: u64) -> io::Result<Journal> {
        disk.set_len(len)?;
        Ok(Journal::on(disk, len))
    }

    fn on(disk: Box<dyn Disk>, len: u64) -> Journal {
        let disk: Arc<dyn Disk> = Arc::from(disk);
        Journal {
            kept: Arc::new(Kept::new(Arc::clone(&disk))),
            disk,
            len,
            buffer: Vec::new(),
        }
    }

    /// What was appended, for reading it back. The data of a write is the last of its record.
    pub fn kept(&self) -> &Arc<Kept> {
        &self.kept
    }

    /// Appends `op`. It survives the death of the process from here on.
    ///
    /// # Errors
    /// What the disk says; the journal is as before then.
    pub fn append(&mut self, op: &Op<'_>) -> io::Result<()> {
        let mut record = std::mem::take(&mut self.buffer);
        record.clear();
        record.resize(RECORD, 0);
        let data: &[u8] = encode(op, &mut record);
        let done = self.write(&mut record, data);
        record.shrink_to(TOGETHER * 2);
        self.buffer = record;
        done
    }

    fn write(&mut self, record: &mut Vec<u8>, data: &[u8]) -> io::Result<()> {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&record[RECORD..]);
        crc.update(data);
        let payload = u32::try_from(record.len() - RECORD + data.len())
            .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        record[..4].copy_from_slice(&payload.to_le_bytes());
        record[4..8].copy_from_slice(&crc.finalize().to_le_bytes());
        let written = if data.len() <= TOGETHER {
            record.extend_from_slice(data);
            self.disk.write_all_at(record, self.len)
        } else {
            let behind = self.len + record.len() as u64;
            // The record counts only once all of it is there: the order does not matter.
            self.disk
                .write_all_at(data, behind)
                .and_then(|()| self.disk.write_all_at(record, self.len))
        };
        if let Err(e) = written {
            let _ = self.disk.set_len(self.len);
            return Err(e);
        }
        self.len += RECORD as u64 + u64::from(payload);
        Ok(())
    }

    /// What a later mount would find of it: to be asked for at leisure.
    pub fn found(&self) -> Found {
        Found {
            disk: Arc::clone(&self.disk),
            len: self.len,
        }
    }

    /// Where the next record goes, in bytes.
    pub fn end(&self) -> u64 {
        self.len
    }

    /// Takes back what was appended since the [end](Self::end) was here.
    pub fn cut(&mut self, end: u64) {
        self.len = end;
        let _ = self.disk.set_len(end);
    }

    /// Takes back what was appended since the [end](Self::end) was here, durably.
    ///
    /// # Errors
    /// What the disk says; all of it may be there then.
    pub fn shorten(&mut self, end: u64) -> io::Result<()> {
        self.disk.set_len(end)?;
        self.len = end;
        self.disk.sync()
    }

    /// Nothing is appended any more, and the file is removed. What is still [kept](Self::kept) takes no
    /// descriptor from here on.
    pub fn finish(self) {
        if Arc::strong_count(&self.kept) > 1 {
            self.kept.settle();
        }
    }

    /// Makes all that was appended durable.
    ///
    /// # Errors
    /// What the disk says.
    pub fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }
}

/// A journal as it should be found.
pub struct Found {
    disk: Arc<dyn Disk>,
    len: u64,
}

impl Found {
    /// Whether every record is there as it was appended. Reads all of it; what cannot be read is not
    /// there.
    pub fn is_whole(&self) -> bool {
        let Ok(map) = self.disk.map() else {
            return false;
        };
        Reader::new(&map).is_some_and(|mut reader| {
            reader.by_ref().for_each(drop);
            reader.valid_len() == self.len
        })
    }
}

/// Appends the payload of `op` to `out`, but for the data of a write, which it answers.
fn encode<'a>(op: &'a Op<'_>, out: &mut Vec<u8>) -> &'a [u8] {
    let (code, places, numbers): (u8, [Option<&Place<'_>>; 2], [Option<u64>; 2]) = match op {
        Op::Directory { at, number } => (0, [Some(at), None], [Some(*number), None]),
        Op::Create { at } => (1, [Some(at), None], [None; 2]),
        Op::Mkdir { at } => (2, [Some(at), None], [None; 2]),
        Op::Unlink { at } => (3, [Some(at), None], [None; 2]),
        Op::Rmdir { at } => (4, [Some(at), None], [None; 2]),
        Op::Rename { from, to, exchange } => {
            (5, [Some(from), Some(to)], [Some((*exchange).into()), None])
        }
        Op::Write { at, offset, .. } => (6, [Some(at), None], [Some(*offset), None]),
        Op::Resize { at, size } => (7, [Some(at), None], [Some(*size), None]),
        Op::Sequence { at, sequence } => (8, [Some(at), None], [Some(*sequence), None]),
        Op::Commit { txid, checksum } => (9, [None; 2], [Some(*txid), Some(*checksum)]),
    };
    out.push(code);
    for place in places.into_iter().flatten() {
        put_number(out, place.dir);
        put_number(out, place.key.len() as u64);
        out.extend_from_slice(&place.key);
    }
    numbers
        .into_iter()
        .flatten()
        .for_each(|n| put_number(out, n));
    match op {
        Op::Write { data, .. } => data,
        _ => &[],
    }
}

fn put_number(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Whether these bytes, which start with no whole header, are a journal all the same: the machine
/// stopped when it was begun.
pub fn is_begun(bytes: &[u8]) -> bool {
    let magic = bytes.get(..MAGIC.len()).unwrap_or(bytes);
    (MAGIC.starts_with(magic) && bytes.len() < HEADER) || bytes.iter().all(|&b| b == 0)
}

/// The records of a journal whose header is damaged: `None` if what would be the first of them is none.
pub fn without_header(bytes: &[u8]) -> Option<Behind<'_>> {
    record(bytes, HEADER)?;
    Some(Behind::new(bytes, HEADER))
}

/// The record at `at`, if there is a right one, and where it ends.
fn record(bytes: &[u8], at: usize) -> Option<(Op<'_>, usize)> {
    let (crc, payload) = behind::frame(bytes, at)?;
    if crc != crc32fast::hash(payload) {
        return None;
    }
    Some((Payload(payload).op()?, at + RECORD + payload.len()))
}

/// What a journal holds. Nothing in it is trusted.
pub struct Reader<'a> {
    origin: Origin,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads the header; `None` if the bytes do not start with a whole one.
    pub fn new(bytes: &'a [u8]) -> Option<Reader<'a>> {
        Some(Reader {
            origin: Origin::read(bytes)?,
            bytes,
            at: HEADER,
        })
    }

    /// The state that the operations start from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Length of the header and of the records read so far.
    pub fn valid_len(&self) -> u64 {
        self.at as u64
    }

    /// Bytes behind the last record read.
    pub fn rest(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    /// Once all are read: whether what is [left](Self::rest) is more than the record that was being
    /// written when the machine stopped. A journal of which that is true is to be kept: it holds, or
    /// may hold, edits that were answered.
    pub fn is_damaged(&self) -> bool {
        self.rest() > 0 && behind::is_damage(self.bytes, self.at)
    }

    /// Once all are read: what can still be read of what is [left](Self::rest).
    pub fn behind(&self) -> Behind<'a> {
        Behind::new(self.bytes, self.at)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Op<'a>;

    fn next(&mut self) -> Option<Op<'a>> {
        let (op, end) = record(self.bytes, self.at)?;
        self.at = end;
        Some(op)
    }
}

/// The part of a payload that is not read yet.
struct Payload<'a>(&'a [u8]);

impl<'a> Payload<'a> {
    fn op(mut self) -> Option<Op<'a>> {
        let (&code, rest) = self.0.split_first()?;
        self.0 = rest;
        let op = match code {
            0 => Op::Directory {
                at: self.place()?,
                number: self.number()?,
            },
            1 => Op::Create { at: self.place()? },
            2 => Op::Mkdir { at: self.place()? },
            3 => Op::Unlink { at: self.place()? },
            4 => Op::Rmdir { at: self.place()? },
            5 => {
                let (from, to) = (self.place()?, self.place()?);
                let exchange = match self.number()? {
                    0 => false,
                    1 => true,
                    _ => return None,
                };
                Op::Rename { from, to, exchange }
            }
            6 => {
                let (at, offset) = (self.place()?, self.number()?);
                let data = Cow::Borrowed(std::mem::take(&mut self.0));
                Op::Write { at, offset, data }
            }
            7 => Op::Resize {
                at: self.place()?,
                size: self.number()?,
            },
            8 => Op::Sequence {
                at: self.place()?,
                sequence: self.number()?,
            },
            9 => Op::Commit {
                txid: self.number()?,
                checksum: self.number()?,
            },
            _ => return None,
        };
        self.0.is_empty().then_some(op)
    }

    fn number(&mut self) -> Option<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let (&b, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(b & 0x7f);
            n |= bits.checked_shl(shift).filter(|n| n >> shift == bits)?;
            if b & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }

    fn place(&mut self) -> Option<Place<'a>> {
        let dir = self.number()?;
        let len = usize::try_from(self.number()?).ok()?;
        let (key, rest) = self.0.split_at_checked(len).filter(|_| len > 0)?;
        self.0 = rest;
        Some(Place {
            dir,
            key: Cow::Borrowed(key),
        })
    }
}

#[cfg(test)]
mod tests;
