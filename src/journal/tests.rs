use super::behind::USUAL;
use super::*;
use crate::bolt::Map;
use parking_lot::Mutex;
use std::sync::Arc;

/// A disk in memory that refuses to grow past a limit.
#[derive(Clone)]
struct Memory(Arc<Mutex<Vec<u8>>>, usize);

impl Disk for Memory {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.lock().len() as u64)
    }
    fn read_exact_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let (mut bytes, offset) = (self.0.lock(), offset as usize);
        if offset >= self.1 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let end = (offset + buf.len()).min(self.1);
        let len = bytes.len().max(end);
        bytes.resize(len, 0);
        bytes[offset..end].copy_from_slice(&buf[..end - offset]);
        if end == self.1 {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().resize(len as usize, 0);
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn map(&self) -> io::Result<Map> {
        Ok(self.0.lock().clone().into())
    }
}

fn ops() -> Vec<Op<'static>> {
    let at = || Place {
        dir: 300,
        key: Cow::Borrowed(b"8e9e05c52164694d"),
    };
    let write = |len| Op::Write {
        at: at(),
        offset: 1 << 40,
        data: vec![7; len].into(),
    };
    vec![
        Op::Directory {
            at: at(),
            number: 301,
        },
        Op::Create { at: at() },
        Op::Mkdir { at: at() },
        Op::Unlink { at: at() },
        Op::Rmdir { at: at() },
        Op::Rename {
            from: at(),
            to: at(),
            exchange: false,
        },
        Op::Rename {
            from: at(),
            to: at(),
            exchange: true,
        },
        write(0),
        write(5),
        write(TOGETHER + 1),
        Op::Resize { at: at(), size: 0 },
        Op::Sequence {
            at: at(),
            sequence: u64::MAX,
        },
        Op::Commit {
            txid: 3,
            checksum: u64::MAX,
        },
    ]
}

const ORIGIN: Origin = Origin {
    txid: 9,
    checksum: 0x1234_5678_9abc_def0,
    raw: true,
};

fn written() -> Vec<u8> {
    let memory = Memory(Arc::default(), usize::MAX);
    let mut journal = Journal::start(Box::new(memory.clone()), ORIGIN).unwrap();
    ops().iter().for_each(|op| journal.append(op).unwrap());
    let bytes = memory.0.lock().clone();
    assert_eq!(bytes.len() as u64, journal.len);
    bytes
}

#[test]
fn what_is_appended_is_read_back() {
    let bytes = written();
    let mut reader = Reader::new(&bytes).unwrap();
    assert_eq!(reader.origin(), ORIGIN);
    assert_eq!(reader.by_ref().collect::<Vec<_>>(), ops());
    assert_eq!((reader.valid_len(), reader.rest()), (bytes.len() as u64, 0));
}

#[test]
fn a_journal_cut_anywhere_loses_only_the_record_that_is_cut() {
    let bytes = written();
    let mut ends = vec![];
    let mut reader = Reader::new(&bytes).unwrap();
    while reader.next().is_some() {
        ends.push(reader.valid_len() as usize);
    }
    for len in (0..ends[8] + 20).chain([bytes.len() - 1]) {
        let whole = ends.iter().filter(|&&end| end <= len).count();
        match Reader::new(&bytes[..len]) {
            None => assert!(len < HEADER),
            Some(reader) => assert_eq!(reader.collect::<Vec<_>>(), ops()[..whole]),
        }
    }
}

#[test]
fn a_flipped_bit_ends_the_journal_before_its_record() {
    let bytes = written();
    let mut first = Reader::new(&bytes).unwrap();
    first.next();
    let first_end = first.valid_len() as usize;
    for bit in 0..first_end * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let unused = (44..48).contains(&(bit / 8));
        match Reader::new(&bytes) {
            None => assert!(bit / 8 < 44),
            Some(reader) => assert_eq!(reader.count(), if unused { ops().len() } else { 0 }),
        }
    }
}

fn ends(bytes: &[u8]) -> Vec<usize> {
    let mut reader = Reader::new(bytes).unwrap();
    let mut ends = vec![HEADER];
    while reader.next().is_some() {
        ends.push(reader.valid_len() as usize);
    }
    ends
}

/// A reader of all of `bytes`, at its end.
fn read(bytes: &[u8]) -> Reader<'_> {
    let mut reader = Reader::new(bytes).unwrap();
    reader.by_ref().for_each(drop);
    reader
}

#[test]
fn behind_damage_everything_is_found() {
    let (bytes, ops) = (written(), ops());
    let ends = ends(&bytes);
    for (number, record) in ends.windows(2).enumerate() {
        let (start, end) = (record[0], record[1]);
        for at in (start..end).step_by(1 + (end - start) / 50) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            let reader = read(&bytes);
            assert_eq!(reader.valid_len(), start as u64);
            let found: Vec<_> = reader.behind().collect();
            // A length that is too long, of the last record, is that of one that was cut short.
            let is_long = number + 1 == ops.len() && at < start + 4;
            assert_eq!(reader.is_damaged(), !is_long, "record {number}, byte {at}");
            assert_eq!(found, ops[number + 1..], "record {number}, byte {at}");
        }
    }
}

#[test]
fn what_a_crash_leaves_is_no_damage() {
    let bytes = written();
    let ends = ends(&bytes);
    let cuts = (HEADER..ends[9] + 20).chain(ends[9]..bytes.len());
    for cut in cuts.step_by(7).chain([bytes.len()]) {
        assert!(!read(&bytes[..cut]).is_damaged(), "cut at {cut}");
        let mut torn = bytes[..cut].to_vec();
        torn.resize(bytes.len() + 5000, 0);
        assert!(!read(&torn).is_damaged(), "zeros from {cut} on");
    }
    // The data of a long write comes before its record.
    let mut torn = bytes[..ends[9]].to_vec();
    torn.resize(torn.len() + 30, 0);
    torn.resize(torn.len() + 100_000, b'x');
    assert!(!read(&torn).is_damaged());
}

/// What is right by its checksum and no operation was written by somebody who knows more.
#[test]
fn an_operation_that_nobody_knows_is_damage() {
    let mut bytes = written();
    let payload = b"\x0bnew";
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    assert!(read(&bytes).is_damaged());
}

/// What was written to a file may be anything, and what follows it is found all the same; and a record longer than usual is.
#[test]
fn random_bytes_do_not_hide_what_is_behind_them() {
    let place = || Place {
        dir: 0,
        key: Cow::Borrowed(b"k"),
    };
    let mut state = 1u64;
    let mut random = |len: usize| -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (state >> 33) as u8
        };
        (0..len).map(|_| next()).collect()
    };
    let mut write = |len| Op::Write {
        at: place(),
        offset: 0,
        data: random(len).into(),
    };
    let first = write(1 << 20);
    for behind in [
        (0..40).map(|_| write(1 << 20)).collect(),
        vec![write(USUAL + 1)],
    ] {
        let memory = Memory(Arc::default(), usize::MAX);
        let mut journal = Journal::start(Box::new(memory.clone()), ORIGIN).unwrap();
        journal.append(&first).unwrap();
        for op in &behind {
            journal.append(op).unwrap();
        }
        let mut bytes = memory.0.lock().clone();
        bytes[HEADER] ^= 1;
        let reader = read(&bytes);
        let found: Vec<_> = reader.behind().collect();
        assert_eq!(found.len(), behind.len());
        assert!(found == behind && reader.is_damaged());
    }
}

/// Content that looks like the starts of long records costs no more than a few times its length, and where
/// not all could be looked at nobody says that there is nothing.
#[test]
fn looking_on_is_bounded() {
    let mut bytes = written();
    let start = [
        &0x0040_0000u32.to_le_bytes()[..],
        &[0; 4],
        &[6, 0, 1, b'a', 0],
    ]
    .concat();
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend(start.repeat((6 << 20) / start.len()));
    let reader = read(&bytes);
    let mut behind = reader.behind();
    assert_eq!(behind.next(), None);
    assert!(behind.gave_up());
    assert!(reader.is_damaged());
}

#[test]
fn a_full_disk_leaves_whole_records() {
    let len = written().len();
    for limit in HEADER + 1..1024.min(len) {
        let memory = Memory(Arc::default(), limit);
        let mut journal = Journal::start(Box::new(memory.clone()), ORIGIN).unwrap();
        let done = ops()
            .iter()
            .take_while(|op| journal.append(op).is_ok())
            .count();
        assert!(done < ops().len());
        let bytes = memory.0.lock().clone();
        assert_eq!(
            bytes.len() as u64,
            journal.len,
            "a part of a record was left"
        );
        assert_eq!(
            Reader::new(&bytes).unwrap().collect::<Vec<_>>(),
            ops()[..done]
        );
    }
}

#[test]
fn hostile_payloads_are_refused() {
    for payload in [
        &b""[..],
        b"\x0a",
        b"\x01",
        b"\x01\x00",
        b"\x01\x00\xff\xff\xff\xff\x0f",
        b"\x01\x00\x00",
        b"\x01\x00\x02a",
        b"\x01\x00\x01ab",
        b"\x07\x00\x01a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
        b"\x05\x00\x01a\x00\x01b\x02",
    ] {
        assert_eq!(Payload(payload).op(), None, "{payload:?}");
    }
}
