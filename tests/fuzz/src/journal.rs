//! Journals: any bytes as one are read without harm and made again over a database; what a mount wrote into one is there again
//! after it was killed; what is cut off or altered at the end costs what was behind it, and nothing before it, and that is found.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use boltfs::bolt::{Map, OpenOptions, Snapshot};
use boltfs::journal::{Journal, Op, Origin, Place, Reader};
use boltfs::overlay::Which;
use boltfs::vfs::{Options, Vfs};

use super::common::beside::{Beside, Shared};
use super::common::disk::MemDisk;
use super::common::read::read_at_most;
use super::edits::Mounted;
use super::input::Input;
use super::mutant::{self, FIXTURES};

/// Longest file that a journal may make here: a mount takes 2 GiB, and memory for it.
const LONGEST: u64 = 1 << 20;

pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    match input.byte() % 4 {
        0 => drop(replay(&mount(1), input.rest())),
        1 => records(&mut input),
        2 => operations(&mut input),
        _ => killed(&mut input),
    }
}

fn mount(which: u8) -> Vfs {
    let file = FIXTURES[usize::from(which) % FIXTURES.len()].1.to_vec();
    let snapshot =
        Snapshot::open(Map::from(file), OpenOptions::default()).expect("a fixture that opens");
    let mut options = Options::of_file(0, 0, 0o644, UNIX_EPOCH);
    options.raw = which & 0x80 != 0;
    Vfs::new(snapshot, options)
}

/// Reads a journal to its end; answers its operations and how many bytes they take.
fn read(journal: &[u8]) -> (Vec<Op<'_>>, u64) {
    let Some(mut reader) = Reader::new(journal) else {
        return (Vec::new(), 0);
    };
    let ops = reader.by_ref().collect();
    assert!(reader.next().is_none(), "the end is the end");
    assert_eq!(reader.valid_len() + reader.rest(), journal.len() as u64);
    (ops, reader.valid_len())
}

/// Makes the operations of a journal again, as recovering does, and all that follows.
fn replay(vfs: &Vfs, journal: &[u8]) -> Option<Vec<String>> {
    let (ops, _) = read(journal);
    let long = |op: &Op<'_>| match op {
        Op::Write { offset, data, .. } => offset.saturating_add(data.len() as u64) > LONGEST,
        Op::Resize { size, .. } => *size > LONGEST,
        _ => false,
    };
    if ops
        .iter()
        .filter(|op| matches!(op, Op::Write { .. } | Op::Resize { .. }))
        .count()
        > 64
        || ops.iter().any(long)
    {
        return None;
    }
    let mut reader = Reader::new(journal)?;
    let made = vfs.replay(&mut reader);
    let pending = pending(vfs);
    vfs.discard().expect("what is pending can be dropped");
    assert_eq!(self::pending(vfs), Some(Vec::new()));
    made.ok().and(pending)
}

fn pending(vfs: &Vfs) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    let told = vfs.pending(Which::All, &mut |change| {
        lines.push(format!("{} {:?}", change.pending, change.new))
    });
    told.ok().map(|()| lines)
}

fn start(vfs: &Vfs) -> (Arc<MemDisk>, Journal) {
    let disk = Arc::<MemDisk>::default();
    let origin = Origin::of(vfs.snapshot().meta(), vfs.options().raw);
    let journal =
        Journal::start(Box::new(Shared(disk.clone())), origin).expect("memory does not fail");
    (disk, journal)
}

/// Records with any payload and a right checksum.
fn records(input: &mut Input<'_>) {
    let vfs = mount(input.byte());
    let (disk, _) = start(&vfs);
    let mut journal = disk.bytes();
    while !input.is_empty() && journal.len() < 100_000 {
        let len = usize::from(input.byte());
        let payload = input.take(len);
        journal.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        journal.extend_from_slice(&checksum(payload).to_le_bytes());
        journal.extend_from_slice(payload);
    }
    replay(&vfs, &journal);
}

/// CRC-32, as in every record.
fn checksum(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| crc >> 1 ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1));
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), bit)
    })
}

/// Operations that are written are read back, and a journal that is cut or altered has those that come before.
fn operations(input: &mut Input<'_>) {
    let vfs = mount(input.byte());
    let (harm, at) = (input.byte(), input.u16());
    let (disk, mut journal) = start(&vfs);
    let (mut ops, mut ends) = (Vec::new(), Vec::new());
    while !input.is_empty() && ops.len() < 64 {
        let op = operation(input);
        journal.append(&op).expect("memory does not fail");
        ops.push(op);
        ends.push(journal.end());
    }
    let mut bytes = disk.bytes();
    let (read_back, end) = read(&bytes);
    assert_eq!((&read_back, end), (&ops, journal.end()));
    let at = 48 + at % (bytes.len() - 47);
    match harm % 4 {
        0 => bytes.truncate(at),
        1 => bytes.extend_from_slice(&ops.len().to_le_bytes()),
        2 => match bytes.get_mut(at) {
            Some(byte) => *byte ^= harm | 4,
            None => bytes.push(harm),
        },
        _ => {}
    }
    let sound = match harm % 4 {
        0 | 2 => ends.iter().take_while(|&&end| end <= at as u64).count(),
        _ => ops.len(),
    };
    let (found, _) = read(&bytes);
    assert!(found.len() >= sound && found[..sound] == ops[..sound]);
    assert!(
        harm % 4 == 2 || found.len() == sound,
        "{} operations of {sound}",
        found.len()
    );
    judge_end(&bytes, harm, at, &ops, &ends);
    replay(&vfs, &bytes);
}

/// What is cut off is no damage; what is altered is, and what comes behind it is found.
fn judge_end(bytes: &[u8], harm: u8, at: usize, ops: &[Op<'_>], ends: &[u64]) {
    let Some(mut reader) = Reader::new(bytes) else {
        return;
    };
    reader.by_ref().for_each(drop);
    let damaged = reader.is_damaged();
    let found: Vec<_> = reader.behind().collect();
    assert!(damaged || found.is_empty());
    let number = ends.iter().take_while(|&&end| end <= at as u64).count();
    if harm % 4 == 2 && number + 1 < ops.len() {
        assert!(damaged, "operation {number} of {} is altered", ops.len());
        assert_eq!(found.last(), ops.last());
        let start = if number == 0 { 48 } else { ends[number - 1] };
        // With its length right, no more and no less.
        if at as u64 >= start + 4 {
            assert_eq!(found, ops[number + 1..]);
        }
    } else if harm % 4 == 3 {
        assert!(!damaged);
    }
}

fn operation(input: &mut Input<'_>) -> Op<'static> {
    let code = input.byte();
    let place = |input: &mut Input<'_>| {
        let dir = u64::from(input.byte() % 8);
        let len = usize::from(input.byte() % 32);
        let key = match input.take(len) {
            [] => b"key-001".to_vec(),
            key => key.to_vec(),
        };
        Place {
            dir,
            key: Cow::Owned(key),
        }
    };
    let at = place(input);
    match code % 11 {
        0 => Op::Directory {
            at,
            number: input.byte().into(),
        },
        1 => Op::Create { at },
        2 => Op::Mkdir { at },
        3 => Op::Unlink { at },
        4 => Op::Rmdir { at },
        5 => Op::Rename {
            from: at,
            to: place(input),
            exchange: code & 0x80 != 0,
        },
        6 | 7 => {
            let (offset, len) = (input.u16() as u64, usize::from(input.byte()));
            let times = if code == 0xff { 300 } else { 1 };
            Op::Write {
                at,
                offset,
                data: Cow::Owned(input.take(len).repeat(times)),
            }
        }
        8 => Op::Resize {
            at,
            size: input.u16() as u64,
        },
        9 => Op::Sequence {
            at,
            sequence: u64::from(input.u32()) << (code % 32),
        },
        _ => Op::Commit {
            txid: input.byte().into(),
            checksum: input.u32().into(),
        },
    }
}

/// The edits of a mount that is killed are pending again in the next one.
fn killed(input: &mut Input<'_>) {
    let file = mutant::database(input);
    let Ok(base) = Snapshot::open(Map::from(file), OpenOptions::default()) else {
        return;
    };
    let Some(before) = read_at_most(&base, 4000) else {
        return;
    };
    let how = input.byte();
    let mut mounted = Mounted::new(base.clone(), &before, how & 1 == 0);
    let beside = Beside::default();
    mounted.vfs.keep_journal(Box::new(beside.clone()), None);
    for _ in 0..how >> 4 {
        mounted.edit(input);
    }
    let Some(journal) = beside.disk() else {
        return;
    };
    let journal = journal.bytes();
    let again = Vfs::new(base, mounted.vfs.options().clone());
    let mut reader = Reader::new(&journal).expect("a journal starts with its header");
    if let Err((number, e)) = again.replay(&mut reader) {
        panic!("operation {number} of the journal: {e}");
    }
    assert_eq!(reader.rest(), 0, "all of the journal was read");
    assert_eq!(pending(&mounted.vfs), pending(&again));
}
