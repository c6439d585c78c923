//! What can still be read of a journal behind a record that is not right: whether that was only being
//! written when the machine stopped, or is damage with more behind it.

use super::{Op, Payload, RECORD};

/// So many times its own length, and [`SURE`], may be hashed in looking for records. What was written to
/// files is in a journal too, and can be made to look like the starts of long records.
const TIMES: u64 = 8;
const SURE: u64 = 64 << 20;

/// The records that are found behind one that is not right. Nothing says that they are all; and one
/// may be found inside of what was written to a file.
pub struct Behind<'a> {
    bytes: &'a [u8],
    at: usize,
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
            at,
            in_step: true,
            left,
        }
    }

    /// Whether there was more to look through than may be done: then nobody knows what is behind.
    pub fn gave_up(&self) -> bool {
        self.left == 0
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
        while self.at < self.bytes.len() && !self.gave_up() {
            let mut found = self.record(self.at);
            if found.is_none() && self.in_step {
                // Its length may be right all the same.
                let next = frame(self.bytes, self.at).map(|(_, payload)| payload.len());
                found = next.and_then(|len| self.record(self.at + RECORD + len));
            }
            if let Some((op, end)) = found {
                (self.at, self.in_step) = (end, true);
                return Some(op);
            }
            self.at += 1;
            self.in_step = false;
        }
        None
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
