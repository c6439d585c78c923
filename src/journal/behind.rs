//! What can still be read of a journal behind a record that is not right: whether that was only being
//! written when the machine stopped, or is damage with more behind it.

use super::{Op, Payload, RECORD};

/// So many times its own length, and [`SURE`], may be hashed in looking for records. What was written to
/// files is in a journal too, and can be made to look like the starts of long records.
const TIMES: u64 = 8;
const SURE: u64 = 64 << 20;
/// Longest payload that is looked for first, in bytes: all but a few are shorter, as the kernel writes less
/// at a time. Random bytes look like the start of one of any length often enough to be hashed for ever.
pub(super) const USUAL: usize = 4 << 20;
/// What a file system leaves where nothing was written.
const ZEROS: [u8; 4096] = [0; 4096];

/// The records that are found behind one that is not right. Nothing says that they are all; and one
/// may be found inside of what was written to a file.
pub struct Behind<'a> {
    bytes: &'a [u8],
    /// Where it was begun.
    start: usize,
    at: usize,
    /// Where no record ends before, one with a payload of at most so many bytes is looked for.
    longest: usize,
    /// There was one. If there was none, longer ones are looked for.
    found: bool,
    /// The record at `at` starts where the one before it ends.
    in_step: bool,
    /// So many bytes may still be hashed.
    left: u64,
}

impl<'a> Behind<'a> {
    /// Looks on from `at`, where a record should start.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Behind<'a> {
        let left = (bytes.len() as u64)
            .saturating_mul(TIMES)
            .saturating_add(SURE);
        Behind {
            bytes,
            start: at,
            at,
            longest: USUAL,
            found: false,
            in_step: true,
            left,
        }
    }

    /// Whether there was more to look through than may be done: then nobody knows what is behind.
    pub fn gave_up(&self) -> bool {
        self.left == 0
    }

    /// The next record that there is from `at` on.
    fn look(&mut self) -> Option<Op<'a>> {
        while self.at < self.bytes.len() && !self.gave_up() {
            if let Some((op, end)) = self.here() {
                (self.at, self.in_step) = (end, true);
                return Some(op);
            }
            let is_empty = self.bytes[self.at..].starts_with(&ZEROS);
            // No record starts with the length 0.
            self.at += if is_empty { ZEROS.len() - 3 } else { 1 };
            self.in_step = false;
        }
        None
    }

    /// The record at `at`, or the one behind it if that is only damaged inside.
    fn here(&mut self) -> Option<(Op<'a>, usize)> {
        let (_, payload) = frame(self.bytes, self.at)?;
        if payload.len() > self.longest && !self.in_step {
            return None;
        }
        let here = self.record(self.at);
        if here.is_some() || !self.in_step {
            return here;
        }
        // Its length may be right all the same.
        self.record(self.at + RECORD + payload.len())
    }

    /// The record at `at`, if there is a right one, and where it ends.
    fn record(&mut self, at: usize) -> Option<(Op<'a>, usize)> {
        let (crc, payload) = frame(self.bytes, at)?;
        // What is no operation by its form need not be hashed.
        let op = Payload(payload).op()?;
        self.left = self.left.saturating_sub(payload.len() as u64);
        let is_right = !self.gave_up() && crc32fast::hash(payload) == crc;
        is_right.then(|| (op, at + RECORD + payload.len()))
    }
}

impl<'a> Iterator for Behind<'a> {
    type Item = Op<'a>;

    fn next(&mut self) -> Option<Op<'a>> {
        loop {
            let found = self.look();
            if found.is_some() || self.found || self.gave_up() || self.longest == usize::MAX {
                self.found |= found.is_some();
                return found;
            }
            (self.at, self.in_step, self.longest) = (self.start, true, usize::MAX);
        }
    }
}

/// The checksum and the payload of the record at `at`, if it is there to its end, and not empty.
pub(super) fn frame(bytes: &[u8], at: usize) -> Option<(u32, &[u8])> {
    let (len, rest) = bytes.get(at..)?.split_first_chunk()?;
    let (crc, rest) = rest.split_first_chunk()?;
    let payload = rest.get(..u32::from_le_bytes(*len) as usize)?;
    (!payload.is_empty()).then_some((u32::from_le_bytes(*crc), payload))
}

/// Whether what starts at `at`, where no right record is, is anything else than what a crash leaves: a
/// record that is cut short by the end of the file, or zeros and remains of what was written, with
/// nothing right behind.
pub(super) fn is_damage(bytes: &[u8], at: usize) -> bool {
    if let Some((crc, payload)) = frame(bytes, at) {
        // Right, and yet nothing that we write; or all there and wrong, where a crash would have left
        // the end out.
        let ends = at + RECORD + payload.len() == bytes.len();
        let is_all_there = ends && payload.last() != Some(&0);
        if is_all_there || crc32fast::hash(payload) == crc {
            return true;
        }
    }
    let mut behind = Behind::new(bytes, at);
    behind.next().is_some() || behind.gave_up()
}
