//! Any bytes as a database: opened, checked, walked, looked up and read, with every way of opening it.

use std::time::UNIX_EPOCH;

use boltfs::bolt::check::{Options as CheckOptions, Severity, check};
use boltfs::bolt::{Map, OpenOptions, Snapshot};
use boltfs::overlay::{Ino, Kind};
use boltfs::vfs::{Error, Options, Vfs};

use super::common::read::{read_at_most, show};
use super::input::Input;
use super::mutant;

/// Entries that are read: damage can make a database of any number of them.
const ENTRIES: usize = 4000;

pub fn run(input: &[u8]) {
    database(mutant::database(&mut Input::new(input)));
}

/// Does to a file all that reading does.
pub fn database(file: Vec<u8>) {
    let map = Map::from(file);
    let mut seen = None;
    for (meta, allow_truncated) in [
        (None, false),
        (None, true),
        (Some(0), true),
        (Some(1), true),
    ] {
        let options = OpenOptions {
            meta,
            allow_truncated,
        };
        match Snapshot::open(map.clone(), options) {
            Ok(snapshot) if seen != Some(snapshot.slot()) => {
                seen = Some(snapshot.slot());
                state(&snapshot);
            }
            Ok(_) => {}
            Err(e) => is_harmless(&e.to_string()),
        }
    }
    let _ = Snapshot::open(
        map,
        OpenOptions {
            meta: Some(7),
            allow_truncated: true,
        },
    );
}

fn state(snapshot: &Snapshot) {
    let report = check(
        snapshot,
        CheckOptions {
            threads: 1,
            other_meta: true,
        },
        &mut |_| {},
    );
    let hwm = snapshot.meta().hwm;
    assert!(report.reachable.iter().all(|pgid| (2..hwm).contains(&pgid)));
    if let Some(free) = &report.free {
        assert!(!free.intersects(&report.reachable));
        assert!(free.iter().all(|pgid| (2..hwm).contains(&pgid)));
    }
    assert!(report.dangling.iter().all(|pgid| pgid >= hwm));
    report
        .findings
        .iter()
        .for_each(|finding| is_harmless(&finding.to_string()));
    let errors = report.findings.count(Severity::Error);
    let _ = snapshot.freelist().map(|ids| ids.map(|ids| ids.count()));

    if let Some(reading) = read_at_most(snapshot, ENTRIES) {
        for (path, error) in &reading.errors {
            is_harmless(&error.to_string());
            assert!(
                errors > 0,
                "{}: reading fails ({error}), the check does not",
                show(path)
            );
        }
        let hidden = reading.lost.iter().chain(&reading.doubled).next();
        assert!(
            hidden.is_none() || errors > 0,
            "look-up and walk differ, the check sees nothing: {hidden:?}"
        );
    }
    Walk {
        vfs: Vfs::new(snapshot.clone(), Options::of_file(0, 0, 0o644, UNIX_EPOCH)),
        left: ENTRIES,
    }
    .all();
}

/// What is said goes to a terminal.
fn is_harmless(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

/// What `find`, `ls -l` and `grep -r` do.
struct Walk {
    vfs: Vfs,
    /// Entries that may still be met.
    left: usize,
}

impl Walk {
    fn all(&mut self) {
        let mut dirs = vec![(Ino::ROOT, 0)];
        while let Some((dir, depth)) = dirs.pop() {
            let room = [1000, 7, 1][depth % 3];
            for (name, ino) in self.list(dir, room) {
                self.node(dir, &name, ino);
                if self
                    .vfs
                    .getattr(ino)
                    .is_ok_and(|attr| attr.kind == Kind::Directory)
                {
                    dirs.push((ino, depth + 1));
                }
            }
            if self.left == 0 {
                return;
            }
        }
    }

    /// The entries of a directory, `room` at a time; each name once.
    fn list(&mut self, dir: Ino, room: usize) -> Vec<(Vec<u8>, Ino)> {
        let mut entries: Vec<(Vec<u8>, Ino)> = Vec::new();
        let mut cookie = 0;
        loop {
            let (before, mut left) = (cookie, room);
            let _ = self.vfs.readdir(dir, cookie, &mut |entry| {
                if left == 0 || self.left == 0 {
                    return false;
                }
                left -= 1;
                self.left -= 1;
                cookie = entry.cookie;
                if entry.name != b"." && entry.name != b".." {
                    entries.push((entry.name.to_vec(), entry.attr.ino));
                }
                true
            });
            if cookie == before || self.left == 0 {
                break;
            }
        }
        let mut inos: Vec<_> = entries.iter().map(|(_, ino)| ino).collect();
        inos.sort_unstable();
        assert!(
            inos.windows(2).all(|pair| pair[0] != pair[1]),
            "an element is listed twice"
        );
        entries
    }

    fn node(&mut self, dir: Ino, name: &[u8], ino: Ino) {
        let vfs = &self.vfs;
        match vfs.lookup(dir, name) {
            Ok(attr) => drop(vfs.getattr(attr.ino)),
            Err(Error::NotFound | Error::Damaged(_)) => {}
            Err(e) => panic!("{}: {e}", name.escape_ascii()),
        }
        let _ = (vfs.lookup(ino, b"name"), vfs.listxattr(ino));
        let _ = (
            vfs.getxattr(ino, b"user.bbolt.key"),
            vfs.getxattr(ino, b"user.bbolt.sequence"),
        );
        let Ok(attr) = vfs.getattr(ino) else { return };
        let read = |offset, size| vfs.read(ino, offset, size, |bytes| bytes.len());
        match attr.kind {
            Kind::File => {
                let len = read(0, 1 << 17).expect("a file can be read");
                assert_eq!(len as u64, attr.size.min(1 << 17));
                assert_eq!(read(attr.size, 100).ok(), Some(0));
                assert_eq!(read(u64::MAX, 100).ok(), Some(0));
            }
            Kind::Directory => assert!(read(0, 10).is_err()),
        }
    }
}
