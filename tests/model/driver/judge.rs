//! What the file system shows, holds and commits, beside what the model says.

use boltfs::overlay::Which;
use boltfs::view::name;

use super::super::{ROOT, Told};
use super::Driver;
use crate::common::fs::Fs;

impl Driver {
    /// Compares everything that can be seen.
    pub(super) fn check(&mut self) {
        for dir in self.model.linked(true) {
            let at = self.ino(dir);
            let (mut names, end) = self.fs.list(at, 7);
            end.unwrap();
            names.sort();
            let entries = self.model.entries(dir).clone();
            let mut expected: Vec<_> = entries
                .keys()
                .map(|key| name::encode(key, dir == ROOT))
                .collect();
            expected.sort();
            assert_eq!(names, expected);
            for id in entries.into_values() {
                let ino = self.ino(id);
                let attr = self.fs.vfs.getattr(ino).unwrap();
                assert_eq!(attr.nlink, 1);
                if !self.model.is_dir(id) {
                    let shown = self.model.shown(id);
                    assert_eq!(attr.size, shown.len() as u64);
                    assert_eq!(self.fs.read_node(ino).unwrap(), shown);
                }
            }
        }
        if !self.ever_committed {
            let mut told = Vec::new();
            let pending = self.fs.vfs.pending(Which::All, &mut |change| {
                let p = change.pending;
                told.push(Told {
                    kind: p.kind,
                    path: p.path.to_vec(),
                    bucket: p.bucket,
                    old_len: p.old_len,
                    new_len: p.new_len,
                    from: p.from,
                });
            });
            pending.unwrap();
            let expected = self.model.pending(&self.base);
            for (told, expected) in told.iter().zip(&expected) {
                assert_eq!(told, expected);
            }
            assert_eq!(told.len(), expected.len());
        }
        // The tree as it was has not changed.
        let base = self.fs.at(".boltfs/base").unwrap();
        assert_eq!(
            self.fs.list(base, usize::MAX).0.len(),
            self.base.nodes.len()
        );
    }

    pub(super) fn commit(&mut self) {
        let expected = self.model.tree(&self.base, ROOT);
        expected.assert_same(&self.fs.commit(), "the database after the commit");
        self.model.committed(&self.base);
        self.committed = self.model.clone();
        self.ever_committed = true;
        assert_eq!(self.fs.vfs.pending_count().unwrap(), 0);
    }

    pub(super) fn discard(&mut self) {
        self.fs.vfs.discard().unwrap();
        self.model = self.committed.clone();
        // Nodes made since are gone, and the kernel forgets what it knew.
        let nodes = self.model.nodes.len();
        self.inos.retain(|id, _| *id < nodes);
        self.open.clear();
        assert_eq!(self.fs.vfs.pending_count().unwrap(), 0);
    }

    /// Kills the process: whoever mounts the database next finds every edit again.
    pub(super) fn kill(&self) {
        let mut recovered = self.fs.recover();
        let told = |fs: &Fs| {
            let mut told = Vec::new();
            let pending = fs.vfs.pending(Which::All, &mut |change| {
                told.push(change.pending.to_string())
            });
            pending.unwrap();
            told
        };
        assert_eq!(told(&recovered), told(&self.fs));
        let expected = self.model.tree(&self.base, ROOT);
        expected.assert_same(&recovered.commit(), "the database after recovery");
    }

    /// Compares everything, commits, and compares what the database holds.
    pub fn finish(&mut self) {
        self.check();
        self.kill();
        self.commit();
        self.kill();
        self.check();
    }
}
