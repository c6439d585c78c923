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
