//! Edits of a mounted database, and beside them a model of what it must hold.

use std::collections::HashSet;
use std::time::UNIX_EPOCH;

use boltfs::bolt::Snapshot;
use boltfs::overlay::{Ino, Kind, Which};
use boltfs::vfs::{Error, Options, RenameMode, Result, SetAttr, SetXattr, Vfs};
use boltfs::view::name;

use super::common::read::{Reading, show};
use super::common::tree::{Node, Tree};
use super::input::Input;

type Path = Vec<Vec<u8>>;

/// A mount without a kernel.
pub struct Mounted {
    pub vfs: Vfs,
    /// What it must hold: all that could be read at first, and what edits made of it.
    pub tree: Tree,
    /// The last names of all that was edited.
    pub touched: HashSet<Vec<u8>>,
    /// The last names of what is listed, and look-up finds nothing or another element there.
    pub displaced: HashSet<Vec<u8>>,
    raw: bool,
}

impl Mounted {
    pub fn new(snapshot: Snapshot, before: &Reading, raw: bool) -> Mounted {
        let mut options = Options::of_file(0, 0, 0o644, UNIX_EPOCH);
        options.raw = raw;
        let displaced = before.lost.iter().chain(&before.doubled);
        Mounted {
            vfs: Vfs::new(snapshot, options),
            tree: before.tree.clone(),
            touched: HashSet::new(),
            displaced: displaced.filter_map(|path| path.last().cloned()).collect(),
            raw,
        }
    }

    /// Values that are saved are stored as they are written.
    pub fn is_raw(&self) -> bool {
        self.raw
    }

    /// Makes the edit that the input names, if it is possible.
    pub fn edit(&mut self, input: &mut Input<'_>) {
        let op = input.byte();
        let path = self.bucket(input);
        let Ok(dir) = self.resolve(&path) else { return };
        // What is refused is refused whole.
        let _ = match op % 13 {
            0 | 1 => self.save(input, &path, dir),
            2 => self.patch(input, &path, dir),
            3 => self.resize(input, &path, dir),
            4 => self
                .key(input, &path)
                .map_or(Ok(()), |key| self.unlink(&path, dir, &key)),
            5 => self.mkdir(input, &path, dir),
            6 => self.remove_all(&path),
            7 | 8 => self.rename(input, &path, dir),
            9 => self.sequence(input, &path, dir),
            10 => self.fill(input, &path, dir),
            11 => self.thin(input, &path, dir),
            _ => self
                .vfs
                .pending(Which::All, &mut |_| {})
                .map_err(Error::from),
        };
    }

    /// The path of some bucket.
    fn bucket(&self, input: &mut Input<'_>) -> Path {
        fn below(tree: &Tree, path: &mut Path, paths: &mut Vec<Path>) {
            if paths.len() < 250 {
                paths.push(path.clone());
                for (name, node) in &tree.nodes {
                    if let Node::Bucket(sub) = node {
                        path.push(name.clone());
                        below(sub, path, paths);
                        path.pop();
                    }
                }
            }
        }
        let mut paths = Vec::new();
        below(&self.tree, &mut Vec::new(), &mut paths);
        input.pick(&paths).cloned().unwrap_or_default()
    }

    fn resolve(&self, path: &Path) -> Result<Ino> {
        let (mut dir, mut at_root) = (Ino::ROOT, true);
        for key in path {
            dir = self.vfs.lookup(dir, &name::encode(key, at_root))?.ino;
            at_root = false;
        }
        Ok(dir)
    }

    /// A key that is there, or a new one.
    fn key(&self, input: &mut Input<'_>, path: &Path) -> Option<Vec<u8>> {
        let n = input.byte();
        let keys: Vec<_> = self.tree.bucket(path)?.nodes.keys().collect();
        match n {
            0xff => Some(vec![input.byte() | 1; 300]),
            0xc0.. => {
                Some(input.take(usize::from(n & 15) + 1).to_vec()).filter(|key| !key.is_empty())
            }
            _ => keys
                .get(usize::from(n) % keys.len().max(1))
                .map(|key| key.to_vec()),
        }
    }

    fn content(input: &mut Input<'_>) -> Vec<u8> {
        match input.byte() {
            n @ 0xc0.. => vec![n; usize::from(n - 0xbf) * 37],
            n => input.take(usize::from(n)).to_vec(),
        }
    }

    fn set(&mut self, path: &Path, key: &[u8], node: Option<Node>) {
        self.touched.insert(key.to_vec());
        let bucket = self
            .tree
            .bucket_mut(path)
            .expect("the model has the bucket");
        match node {
            Some(node) => drop(bucket.nodes.insert(key.to_vec(), node)),
            None => drop(bucket.nodes.remove(key)),
        }
    }

    fn get(&self, path: &Path, key: &[u8]) -> Option<&Node> {
        self.tree.bucket(path)?.nodes.get(key)
    }

    /// Look-up may find another element than the walk that the model was made from, here or on the way.
    fn is_displaced(&self, path: &Path, key: &[u8]) -> bool {
        self.displaced.contains(key) || path.iter().any(|key| self.displaced.contains(key))
    }

    /// Look-up answers as the model does, but for what damage has put where it does not belong.
    fn lookup(&self, path: &Path, dir: Ino, key: &[u8]) -> Result<Option<(Ino, Kind)>> {
        let found = match self.vfs.lookup(dir, &name::encode(key, path.is_empty())) {
            Ok(attr) => Some((attr.ino, attr.kind)),
            Err(Error::NotFound) => None,
            Err(e) => return Err(e),
        };
        let expected = self.get(path, key).map(|node| match node {
            Node::Value(_) => Kind::File,
            Node::Bucket(_) => Kind::Directory,
        });
        let same = found.map(|(_, kind)| kind) == expected;
        assert!(
            same || self.is_displaced(path, key),
            "{} in {}: {found:?}",
            key.escape_ascii(),
            show(path)
        );
        Ok(found)
    }

    fn put(&mut self, path: &Path, dir: Ino, key: &[u8], content: &[u8]) -> Result<()> {
        let ino = match self.lookup(path, dir, key)? {
            Some((ino, _)) => {
                self.vfs.setattr(
                    ino,
                    SetAttr {
                        size: Some(0),
                        ..SetAttr::default()
                    },
                )?;
                ino
            }
            None => {
                self.vfs
                    .create(dir, &name::encode(key, path.is_empty()), 0o600, 0, 0)?
                    .ino
            }
        };
        self.set(path, key, Some(Node::Value(Vec::new())));
        self.vfs.write(ino, 0, content, false)?;
        self.set(path, key, Some(Node::Value(content.to_vec())));
        self.reads(ino, content);
        Ok(())
    }

    /// What was written is read back.
    fn reads(&self, ino: Ino, content: &[u8]) {
        let read = self.vfs.read(ino, 0, content.len() + 10, <[u8]>::to_vec);
        assert_eq!(read.expect("it can be read"), content);
    }

    fn save(&mut self, input: &mut Input<'_>, path: &Path, dir: Ino) -> Result<()> {
        let Some(key) = self.key(input, path) else {
            return Ok(());
        };
        self.put(path, dir, &key, &Self::content(input))
    }

    fn patch(&mut self, input: &mut Input<'_>, path: &Path, dir: Ino) -> Result<()> {
        let (key, offset) = (self.key(input, path), input.u16() % 5000);
        let data = Self::content(input);
        let Some(key) = key.filter(|_| self.raw) else {
            return Ok(());
        };
        let Some((ino, Kind::File)) = self.lookup(path, dir, &key)? else {
            return Ok(());
        };
        self.vfs.write(ino, offset as u64, &data, false)?;
        let Some(Node::Value(old)) = self.get(path, &key) else {
            return Ok(());
        };
        let mut now = old.clone();
        now.resize(now.len().max(offset + data.len()), 0);
        now[offset..offset + data.len()].copy_from_slice(&data);
        if !self.is_displaced(path, &key) {
            self.reads(ino, &now);
        }
        self.set(path, &key, Some(Node::Value(now)));
        Ok(())
    }

    fn resize(&mut self, input: &mut Input<'_>, path: &Path, dir: Ino) -> Result<()> {
        let (key, size) = (self.key(input, path), input.u16());
        let Some(key) = key.filter(|_| self.raw) else {
            return Ok(());
        };
        let Some((ino, _)) = self.lookup(path, dir, &key)? else {
            return Ok(());
        };
        self.vfs.setattr(
            ino,
            SetAttr {
                size: Some(size as u64),
                ..SetAttr::default()
            },
        )?;
        let Some(Node::Value(old)) = self.get(path, &key) else {
            return Ok(());
        };
        let mut now = old.clone();
        now.resize(size, 0);
        self.set(path, &key, Some(Node::Value(now)));
        Ok(())
    }

    fn unlink(&mut self, path: &Path, dir: Ino, key: &[u8]) -> Result<()> {
        self.lookup(path, dir, key)?;
        self.vfs.unlink(dir, &name::encode(key, path.is_empty()))?;
        self.set(path, key, None);
        Ok(())
    }

    fn mkdir(&mut self, input: &mut Input<'_>, path: &Path, dir: Ino) -> Result<()> {
        let Some(key) = self.key(input, path) else {
            return Ok(());
        };
        self.vfs
            .mkdir(dir, &name::encode(&key, path.is_empty()), 0o700, 0, 0)?;
        assert!(self.get(path, &key).is_none() || self.is_displaced(path, &key));
        self.set(path, &key, Some(Node::Bucket(Tree::default())));
        Ok(())
    }

    /// `rm -r` and `rmdir`: what cannot be removed stays, until the bucket goes.
    fn remove_all(&mut self, path: &Path) -> Result<()> {
        let Some((last, parent)) = path.split_last() else {
            return Ok(());
        };
        let (parent, dir) = (parent.to_vec(), self.resolve(path)?);
        let keys: Vec<_> = self
            .tree
            .bucket(path)
            .into_iter()
            .flat_map(|b| b.nodes.keys().cloned())
            .collect();
        let mut refused = HashSet::new();
        for key in keys {
            let removed = match self.get(path, &key) {
                Some(Node::Bucket(_)) => {
                    let mut below = path.clone();
                    below.push(key.clone());
                    self.remove_all(&below)
                }
                _ => self.unlink(path, dir, &key),
            };
            if matches!(removed, Err(Error::Damaged(_) | Error::NotEmpty)) {
                refused.insert(key);
            }
        }
        self.vfs.rmdir(
            self.resolve(&parent)?,
            &name::encode(last, parent.is_empty()),
        )?;
        let bucket = self.tree.bucket(path);
        let mut left = bucket.into_iter().flat_map(|bucket| bucket.nodes.keys());
        assert!(
            left.all(|key| refused.contains(key) || self.is_displaced(path, key))
                || self.is_displaced(&parent, last),
            "{} was not empty",
            show(path)
        );
        self.set(&parent, last, None);
        Ok(())
    }

    fn rename(&mut self, input: &mut Input<'_>, path: &Path, dir: Ino) -> Result<()> {
        let (key, to, mode) = (self.key(input, path), self.bucket(input), input.byte());
        let new_key = self.key(input, &to);
        let (Some(key), Some(new_key)) = (key, new_key) else {
            return Ok(());
        };
        let new_dir = self.resolve(&to)?;
        let mode = match mode % 4 {
            0 => RenameMode::NoReplace,
            1 => RenameMode::Exchange,
            _ => RenameMode::Replace,
        };
        self.lookup(path, dir, &key)?;
        self.lookup(&to, new_dir, &new_key)?;
        let (name, new_name) = (
            name::encode(&key, path.is_empty()),
            name::encode(&new_key, to.is_empty()),
        );
        self.vfs.rename(dir, &name, new_dir, &new_name, mode)?;
        if (path, &key) == (&to, &new_key) {
            return Ok(());
        }
        // What is taken from a place where look-up finds another than the walk is one of the other.
        if self.is_displaced(path, &key) || self.is_displaced(&to, &new_key) {
            self.displaced.extend([key.clone(), new_key.clone()]);
        }
        let (one, other) = (
            self.get(path, &key).cloned(),
            self.get(&to, &new_key).cloned(),
        );
        match mode {
            RenameMode::Exchange => {
                self.set(&to, &new_key, one);
                self.set(path, &key, other);
            }
            _ => {
                self.set(path, &key, None);
                self.set(&to, &new_key, one);
            }
        }
        Ok(())
    }

    fn sequence(&mut self, input: &mut Input<'_>, path: &Path, dir: Ino) -> Result<()> {
        let sequence = u64::from(input.u32());
        let text = sequence.to_string();
        self.vfs
            .setxattr(dir, b"user.bbolt.sequence", text.as_bytes(), SetXattr::Any)?;
        self.tree.bucket_mut(path).expect("the model has it").seq = sequence;
        Ok(())
    }

    /// New keys in a row: pages are split.
    fn fill(&mut self, input: &mut Input<'_>, path: &Path, dir: Ino) -> Result<()> {
        let (start, count, len) = (input.byte(), input.byte() % 64, usize::from(input.byte()));
        for n in 0..count {
            let key = [b"key-", &[start][..], &[n]].concat();
            self.put(path, dir, &key, &vec![n; len])?;
        }
        Ok(())
    }

    /// Takes keys in a row away: pages are merged.
    fn thin(&mut self, input: &mut Input<'_>, path: &Path, dir: Ino) -> Result<()> {
        let (from, count) = (usize::from(input.byte()), usize::from(input.byte()));
        let Some(bucket) = self.tree.bucket(path) else {
            return Ok(());
        };
        let values = bucket
            .nodes
            .iter()
            .filter(|(_, node)| matches!(node, Node::Value(_)));
        let keys: Vec<_> = values
            .map(|(key, _)| key.clone())
            .skip(from)
            .take(count)
            .collect();
        for key in keys {
            let _ = self.unlink(path, dir, &key);
        }
        Ok(())
    }
}
