//! What a disk can hold after the power went: all that was synced, and of the rest any part.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::common::disk::{Op, apply};
use crate::common::rng::Rng;

/// What a disk writes in one go: all of it or nothing.
const SECTOR: usize = 512;
/// Up to this many sectors, every combination of lost and kept ones is built.
const FEW: usize = 6;
/// Where there are more, this many combinations are drawn.
const DRAWN: usize = 60;

/// One way the file may look after a power cut.
pub struct State {
    /// The file.
    pub bytes: Vec<u8>,
    /// What was lost and kept, for messages.
    pub how: String,
    /// A sector was written in part, which no healthy disk does.
    pub torn_within_sector: bool,
}

/// A part of a write that reaches the disk whole or not at all.
struct Piece<'a> {
    start: usize,
    bytes: &'a [u8],
}

/// Calls `each` with every state that a power cut can leave after the `done` first of `ops`, or a sample of them.
/// `seen` holds what was handed out before: no state comes twice.
pub fn after(
    rng: &mut Rng,
    before: &[u8],
    ops: &[Op],
    done: usize,
    seen: &mut HashSet<u64>,
    each: &mut dyn FnMut(State),
) {
    let synced = ops[..done].iter().rposition(|op| *op == Op::Sync);
    let (durable_ops, loose) = ops[..done].split_at(synced.map_or(0, |sync| sync + 1));
    let mut durable = before.to_vec();
    durable_ops.iter().for_each(|op| apply(&mut durable, op));
    let pieces = pieces(loose);
    let lengths = lengths(durable.len(), loose);
    let mut hand_out = |bytes: Vec<u8>, how: String, torn_within_sector| {
        let mut hash = DefaultHasher::new();
        bytes.hash(&mut hash);
        if seen.insert(hash.finish()) {
            each(State {
                bytes,
                how,
                torn_within_sector,
            });
        }
    };
    let mut build = |kept: &dyn Fn(usize) -> bool, len: usize, garbage: bool| {
        let mut file = durable.clone();
        let most = pieces.iter().map(|piece| piece.start + piece.bytes.len());
        file.resize(most.max().unwrap_or(0).max(len).max(file.len()), 0);
        if garbage {
            // Blocks that were given to the file before anything was written to them.
            file[durable.len()..].fill(0xa5);
        }
        let mut shown = String::new();
        for (n, piece) in pieces.iter().enumerate() {
            shown.push(if kept(n) { '#' } else { '.' });
            if kept(n) {
                file[piece.start..piece.start + piece.bytes.len()].copy_from_slice(piece.bytes);
            }
        }
        file.truncate(len);
        hand_out(
            file,
            format!("after call {done}: {shown}, {len} bytes"),
            false,
        );
    };
    let n = pieces.len();
    if n <= FEW {
        for set in 0..1_u32 << n {
            for &len in &lengths {
                build(&|piece| set >> piece & 1 == 1, len, false);
            }
        }
    } else {
        for drawn in 0..DRAWN {
            let len = *rng.pick(&lengths);
            let garbage = rng.one_in(3);
            let (cut, one, seed) = (rng.below(n + 1), rng.below(n), rng.next());
            let density = rng.range(1, 9) as u64;
            match drawn {
                0 => build(&|_| false, len, garbage),
                1 => build(&|_| true, lengths[lengths.len() - 1], false),
                2 => build(&|piece| piece != one, len, garbage),
                3 => build(&|piece| piece == one, len, garbage),
                4..14 => build(&|piece| piece < cut, len, garbage),
                14..24 => build(&|piece| piece >= cut, len, garbage),
                _ => {
                    let draw = |piece| Rng::new(seed ^ piece as u64).next() % 10 < density;
                    build(&draw, len, garbage);
                }
            }
        }
    }
    // A last write that is short, as that of a meta, torn anywhere.
    if let Some(Op::Write { offset, bytes }) = loose.last()
        && loose.len() == 1
    {
        let at = *offset as usize;
        for _ in 0..6 {
            let part = rng.range(1, bytes.len().min(90));
            let (mut head, mut tail) = (durable.clone(), durable.clone());
            for file in [&mut head, &mut tail] {
                file.resize(file.len().max(at + bytes.len()), 0);
            }
            head[at..at + part].copy_from_slice(&bytes[..part]);
            tail[at + part..at + bytes.len()].copy_from_slice(&bytes[part..]);
            hand_out(head, format!("the first {part} bytes of call {done}"), true);
            hand_out(
                tail,
                format!("call {done} without its first {part} bytes"),
                true,
            );
        }
    }
}

fn pieces(loose: &[Op]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for op in loose {
        let Op::Write { offset, bytes } = op else {
            continue;
        };
        let (mut start, mut rest) = (*offset as usize, &bytes[..]);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((SECTOR - start % SECTOR).min(rest.len()));
            pieces.push(Piece {
                start,
                bytes: piece,
            });
            (start, rest) = (start + piece.len(), behind);
        }
    }
    pieces
}

/// The lengths that the file can have: that of the synced state, and those after each call since.
fn lengths(durable: usize, loose: &[Op]) -> Vec<usize> {
    let mut lengths = vec![durable];
    let mut now = durable;
    for op in loose {
        now = match op {
            Op::Write { offset, bytes } => now.max(*offset as usize + bytes.len()),
            Op::SetLen(len) => *len as usize,
            Op::Sync | Op::Failed => now,
        };
        lengths.push(now);
    }
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}
