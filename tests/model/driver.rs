//! Random operations on the file system and the model, side by side.

mod judge;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use boltfs::overlay::{Ino, Kind};
use boltfs::vfs::{Error, RenameMode};
use boltfs::view::name;

use super::{Body, Id, Model, ROOT, Refusal, key, word};
use crate::common::fs::Fs;
use crate::common::rng::Rng;
use crate::common::tree::Tree;

/// The file system and the model, side by side.
pub struct Driver {
    fs: Fs,
    base: Tree,
    model: Model,
    /// The model at the last commit.
    committed: Model,
    ever_committed: bool,
    /// The numbers that the file system gave to the nodes that were looked up.
    inos: HashMap<Id, Ino>,
    /// Files that were unlinked while open.
    open: Vec<Id>,
}

impl Driver {
    pub fn new(fs: Fs, base: Tree, raw: bool) -> Driver {
        fs.keep_journal();
        let model = Model::new(&base, raw);
        Driver {
            fs,
            base,
            committed: model.clone(),
            model,
            ever_committed: false,
            inos: HashMap::from([(ROOT, Ino::ROOT)]),
            open: Vec::new(),
        }
    }

    /// The number of a node that is linked, by looking it up along its path, which must find the same as ever.
    fn ino(&mut self, id: Id) -> Ino {
        let mut at = Ino::ROOT;
        let mut node = ROOT;
        for key in self.model.path(id) {
            let found = self.fs.vfs.lookup(at, &name::encode(&key, node == ROOT));
            at = found
                .unwrap_or_else(|e| panic!("look-up of {}: {e:?}", key.escape_ascii()))
                .ino;
            node = self.model.entries(node)[&key];
            let known = *self.inos.entry(node).or_insert(at);
            assert_eq!(known, at, "a node keeps its number");
        }
        at
    }

    fn dir(&mut self, rng: &mut Rng) -> Id {
        let dirs = self.model.linked(true);
        *rng.pick(&dirs)
    }

    /// A key for an operation in `dir`: mostly one that is there.
    fn key(&self, rng: &mut Rng, dir: Id) -> Vec<u8> {
        let keys: Vec<_> = self.model.entries(dir).keys().collect();
        if keys.is_empty() || rng.one_in(3) {
            key(rng)
        } else {
            rng.pick(&keys).to_vec()
        }
    }

    /// One random operation.
    pub fn step(&mut self, rng: &mut Rng) {
        match rng.below(40) {
            0..=4 => self.create(rng, false),
            5..=6 => self.create(rng, true),
            7..=12 => self.write(rng),
            13..=15 => self.truncate(rng),
            16..=18 => self.remove(rng, false),
            19..=21 => self.remove(rng, true),
            22..=27 => self.rename(rng),
            28..=29 => self.read_while_changing(rng),
            30 => self.clear(rng),
            31 => self.sequence(rng),
            32..=33 => self.write_to_unlinked(rng),
            34..=35 => self.forget(rng),
            36 => self.not_a_name(rng),
            37 if rng.one_in(4) => self.check(),
            37 if rng.one_in(4) => self.kill(),
            38 if rng.one_in(8) => self.commit(),
            39 if rng.one_in(8) => self.discard(),
            _ => {}
        }
    }

    #[track_caller]
    fn agree<T>(found: Result<T, Error>, expected: Result<(), Refusal>) -> Option<T> {
        match (found, expected) {
            (Ok(found), Ok(())) => Some(found),
            (Err(e), Err(refusal)) => {
                assert_eq!(word(&e), refusal);
                None
            }
            (Ok(_), Err(refusal)) => panic!("not refused: {refusal}"),
            (Err(e), Ok(())) => panic!("refused: {e:?}"),
        }
    }

    /// The name of `key` in `dir`, and whether a new entry can have it.
    fn name(&self, dir: Id, key: &[u8]) -> (Vec<u8>, bool) {
        let name = name::encode(key, dir == ROOT);
        // The name of a long key is cut, and stands for a key that is there, or in the base, alone.
        let in_base = match &self.model.nodes[dir] {
            Body::Dir {
                origin: Some(origin),
                ..
            } => origin.tree.nodes.contains_key(key),
            _ => false,
        };
        let known = in_base || self.model.entries(dir).contains_key(key);
        (name, key.len() <= 255 || known)
    }

    fn create(&mut self, rng: &mut Rng, dirs: bool) {
        let dir = self.dir(rng);
        let key = self.key(rng, dir);
        let at = self.ino(dir);
        let (name, possible) = self.name(dir, &key);
        let expected = if dir == ROOT && !dirs {
            Err("not permitted")
        } else if self.model.entries(dir).contains_key(&key) {
            Err("exists")
        } else if !possible {
            Err("name too long")
        } else {
            Ok(())
        };
        let found = if dirs {
            self.fs.vfs.mkdir(at, &name, 0o755, 0, 0)
        } else {
            self.fs.vfs.create(at, &name, 0o644, 0, 0)
        };
        if let Some(attr) = Driver::agree(found, expected) {
            let body = if dirs {
                Body::Dir {
                    entries: BTreeMap::new(),
                    origin: None,
                    seq: 0,
                }
            } else {
                Body::File {
                    content: Some(Vec::new()),
                    own: None,
                }
            };
            let id = self.model.add(body);
            self.model.link(dir, key, id);
            assert!(
                !self.inos.values().any(|ino| *ino == attr.ino),
                "a new number"
            );
            self.inos.insert(id, attr.ino);
        }
    }

    fn file(&mut self, rng: &mut Rng) -> Option<(Id, Ino)> {
        let files = self.model.linked(false);
        if files.is_empty() {
            return None;
        }
        let id = *rng.pick(&files);
        Some((id, self.ino(id)))
    }

    fn write(&mut self, rng: &mut Rng) {
        let Some((id, ino)) = self.file(rng) else {
            return;
        };
        self.write_at(rng, id, ino);
    }

    fn write_at(&mut self, rng: &mut Rng, id: Id, ino: Ino) {
        let len = self.model.shown(id).len();
        let data = crate::value(rng, !self.model.raw);
        let offset = match rng.below(3) {
            0 => 0,
            1 => len,
            _ => rng.below(len + 30),
        };
        // Over all of it, as an editor that saves in place.
        if rng.one_in(3) {
            self.resize(id, ino, 0);
            return self.put(id, ino, 0, &data);
        }
        self.put(id, ino, offset, &data);
    }

    fn put(&mut self, id: Id, ino: Ino, offset: usize, data: &[u8]) {
        self.fs.vfs.write(ino, offset as u64, data, false).unwrap();
        let content = self.model.content_mut(id);
        let end = offset + data.len();
        content.resize(content.len().max(end), 0);
        content[offset..end].copy_from_slice(data);
    }

    fn resize(&mut self, id: Id, ino: Ino, size: usize) {
        let attr = self.fs.truncate(ino, size as u64).unwrap();
        assert_eq!(attr.size, size as u64);
        self.model.content_mut(id).resize(size, 0);
    }

    fn truncate(&mut self, rng: &mut Rng) {
        let Some((id, ino)) = self.file(rng) else {
            return;
        };
        let len = self.model.shown(id).len();
        let size = [0, len, rng.below(len + 10)][rng.below(3)];
        self.resize(id, ino, size);
    }

    fn remove(&mut self, rng: &mut Rng, dirs: bool) {
        let dir = self.dir(rng);
        let key = self.key(rng, dir);
        self.remove_at(dir, &key, dirs);
    }

    fn remove_at(&mut self, dir: Id, key: &[u8], dirs: bool) {
        let at = self.ino(dir);
        let child = self.model.entries(dir).get(key).copied();
        if let Some(child) = child {
            self.ino(child); // an open file has a number
        }
        let expected = match child {
            None => Err("not found"),
            Some(id) if dirs && !self.model.is_dir(id) => Err("not a directory"),
            Some(id) if dirs && !self.model.entries(id).is_empty() => Err("not empty"),
            Some(id) if !dirs && self.model.is_dir(id) => Err("is a directory"),
            Some(_) => Ok(()),
        };
        let name = name::encode(key, dir == ROOT);
        let found = if dirs {
            self.fs.vfs.rmdir(at, &name)
        } else {
            self.fs.vfs.unlink(at, &name)
        };
        if Driver::agree(found, expected).is_some() {
            let id = self.model.unlink(dir, key).expect("it was there");
            if !dirs {
                self.open.push(id);
            }
        }
    }

    fn rename(&mut self, rng: &mut Rng) {
        let (dir, new_dir) = (self.dir(rng), self.dir(rng));
        let (key, new_key) = (self.key(rng, dir), self.key(rng, new_dir));
        let mode = [
            RenameMode::Replace,
            RenameMode::Replace,
            RenameMode::NoReplace,
            RenameMode::Exchange,
        ][rng.below(4)];
        self.rename_at((dir, &key), (new_dir, &new_key), mode);
    }

    fn rename_at(
        &mut self,
        (dir, key): (Id, &[u8]),
        (new_dir, new_key): (Id, &[u8]),
        mode: RenameMode,
    ) {
        let (at, new_at) = (self.ino(dir), self.ino(new_dir));
        let source = self.model.entries(dir).get(key).copied();
        let target = self.model.entries(new_dir).get(new_key).copied();
        for id in source.into_iter().chain(target) {
            self.ino(id);
        }
        let (new_name, possible) = self.name(new_dir, new_key);
        let model = &self.model;
        let may_move = |id: Id, to: Id| {
            if to == ROOT && !model.is_dir(id) {
                Err("not permitted")
            } else if model.is_dir(id) && model.is_inside(to, id) {
                Err("invalid")
            } else {
                Ok(())
            }
        };
        let expected = || {
            let source = source.ok_or("not found")?;
            if !possible {
                return Err("name too long");
            }
            if target == Some(source) {
                return Ok(());
            }
            may_move(source, new_dir)?;
            match (mode, target) {
                (RenameMode::NoReplace, Some(_)) => Err("exists"),
                (RenameMode::Exchange, None) => Err("not found"),
                (RenameMode::Exchange, Some(other)) => may_move(other, dir),
                (RenameMode::Replace, Some(other)) => {
                    match (model.is_dir(source), model.is_dir(other)) {
                        (false, true) => Err("is a directory"),
                        (true, false) => Err("not a directory"),
                        (true, true) if !model.entries(other).is_empty() => Err("not empty"),
                        _ => Ok(()),
                    }
                }
                (_, None) => Ok(()),
            }
        };
        let expected = expected();
        let name = name::encode(key, dir == ROOT);
        let found = self.fs.vfs.rename(at, &name, new_at, &new_name, mode);
        if Driver::agree(found, expected).is_none() || target == source {
            return;
        }
        let source = self.model.unlink(dir, key).expect("it was there");
        if let Some(other) = self.model.unlink(new_dir, new_key) {
            match mode {
                RenameMode::Exchange => self.model.link(dir, key.to_vec(), other),
                _ if !self.model.is_dir(other) => self.open.push(other),
                _ => {}
            }
        }
        self.model.link(new_dir, new_key.to_vec(), source);
    }

    /// Lists a directory with little room at a time, while entries come and go.
    fn read_while_changing(&mut self, rng: &mut Rng) {
        let dir = self.dir(rng);
        let at = self.ino(dir);
        let mut steady: BTreeSet<Vec<u8>> = self.model.entries(dir).keys().cloned().collect();
        let mut seen = BTreeMap::new();
        let mut cookie = 0;
        let in_base = match &self.model.nodes[dir] {
            Body::Dir {
                origin: Some(origin),
                ..
            } => origin.tree.nodes.len(),
            _ => 0,
        };
        let (mut calls, most) = (0, steady.len() + in_base + 3);
        loop {
            let mut left = rng.range(1, 6);
            let mut batch = Vec::new();
            let listed = self.fs.vfs.readdir(at, cookie, &mut |entry| {
                if left == 0 {
                    return false;
                }
                left -= 1;
                cookie = entry.cookie;
                batch.push((entry.name.to_vec(), entry.attr));
                true
            });
            listed.unwrap();
            if batch.is_empty() {
                break;
            }
            for (name, attr) in batch {
                if name == b"." || name == b".." {
                    continue;
                }
                let entries = self.model.entries(dir);
                let (key, &id) = entries
                    .iter()
                    .find(|(key, _)| name::encode(key, dir == ROOT) == name)
                    .unwrap_or_else(|| panic!("{} is not there", name.escape_ascii()));
                let known = *self.inos.entry(id).or_insert(attr.ino);
                assert_eq!((known, attr.nlink), (attr.ino, 1));
                assert_eq!(attr.kind == Kind::Directory, self.model.is_dir(id));
                if attr.kind == Kind::File {
                    assert_eq!(attr.size, self.model.shown(id).len() as u64);
                }
                *seen.entry(key.clone()).or_insert(0) += 1;
            }
            calls += 1;
            assert!(calls <= most, "the listing does not end");
            if rng.one_in(2) {
                let key = self.key(rng, dir);
                steady.remove(&key);
                match rng.below(4) {
                    0 => self.remove_at(dir, &key, false),
                    1 => self.remove_at(dir, &key, true),
                    2 => {
                        let new = self.key(rng, dir);
                        steady.remove(&new);
                        self.rename_at((dir, &key), (dir, &new), RenameMode::Replace);
                    }
                    _ => self.create(rng, false),
                }
            }
        }
        for key in steady {
            let times = seen.get(&key).copied().unwrap_or(0);
            assert_eq!(times, 1, "{} was there all the time", key.escape_ascii());
        }
    }

    /// `rm -r` of what is in a directory.
    fn clear(&mut self, rng: &mut Rng) {
        let dir = self.dir(rng);
        if dir == ROOT {
            return;
        }
        self.clear_dir(dir);
        if let Some((above, key)) = self.model.parent.get(&dir).cloned()
            && rng.one_in(2)
        {
            self.remove_at(above, &key, true);
            if rng.one_in(2) {
                // And made again.
                let at = self.ino(above);
                let (name, _) = self.name(above, &key);
                if key.len() <= 255 {
                    let attr = self.fs.vfs.mkdir(at, &name, 0o755, 0, 0).unwrap();
                    let body = Body::Dir {
                        entries: BTreeMap::new(),
                        origin: None,
                        seq: 0,
                    };
                    let id = self.model.add(body);
                    self.model.link(above, key, id);
                    self.inos.insert(id, attr.ino);
                }
            }
        }
    }

    fn clear_dir(&mut self, dir: Id) {
        for (key, id) in self.model.entries(dir).clone() {
            if self.model.is_dir(id) {
                self.clear_dir(id);
                self.remove_at(dir, &key, true);
            } else {
                self.remove_at(dir, &key, false);
            }
        }
    }

    fn sequence(&mut self, rng: &mut Rng) {
        let dir = self.dir(rng);
        if dir == ROOT {
            return;
        }
        let ino = self.ino(dir);
        let new = [0, 7, u64::MAX, rng.next()][rng.below(4)];
        let (attribute, how) = (b"user.bbolt.sequence", boltfs::vfs::SetXattr::Any);
        let text = new.to_string();
        self.fs
            .vfs
            .setxattr(ino, attribute, text.as_bytes(), how)
            .unwrap();
        assert_eq!(
            self.fs.vfs.getxattr(ino, attribute).unwrap(),
            text.as_bytes()
        );
        if let Body::Dir { seq, .. } = &mut self.model.nodes[dir] {
            *seq = new;
        }
    }

    fn write_to_unlinked(&mut self, rng: &mut Rng) {
        if self.open.is_empty() {
            return;
        }
        let id = *rng.pick(&self.open);
        let ino = self.inos[&id];
        if rng.one_in(3) {
            self.write_at(rng, id, ino);
        }
        assert_eq!(self.fs.read_node(ino).unwrap(), self.model.shown(id));
        assert_eq!(self.fs.vfs.getattr(ino).unwrap().nlink, 0);
    }

    /// The kernel closes and forgets: nothing that is linked may suffer.
    fn forget(&mut self, rng: &mut Rng) {
        if !self.open.is_empty() && rng.one_in(2) {
            let id = self.open.remove(rng.below(self.open.len()));
            self.fs.vfs.forget(self.inos[&id]);
        } else {
            let dirs = rng.one_in(2);
            let all = self.model.linked(dirs);
            if !all.is_empty() {
                let ino = self.ino(*rng.pick(&all));
                self.fs.vfs.forget(ino);
            }
        }
    }

    fn not_a_name(&mut self, rng: &mut Rng) {
        let dir = self.dir(rng);
        let at = self.ino(dir);
        let names: [&[u8]; 6] = [b"%41", b"0x41", b"0xAB", b"0x", b"a%2fb", b"\x01"];
        let bad = *rng.pick(&names);
        assert!(matches!(self.fs.vfs.lookup(at, bad), Err(Error::NotFound)));
        assert!(matches!(self.fs.vfs.unlink(at, bad), Err(Error::NotFound)));
        assert!(matches!(
            self.fs.vfs.mkdir(at, bad, 0o755, 0, 0),
            Err(Error::Invalid)
        ));
        let long = [b'x'; 256];
        assert!(matches!(
            self.fs.vfs.lookup(at, &long),
            Err(Error::NameTooLong)
        ));
        assert!(matches!(
            self.fs.vfs.mkdir(at, &long, 0o755, 0, 0),
            Err(Error::NameTooLong)
        ));
    }
}
