//! The file system without a mount: [`Vfs`] over a database in memory, driven by path as a shell user thinks.

use std::io;
use std::sync::{Arc, Mutex};

use boltfs::bolt::{CommitError, CommitOptions, Committed, Disk, Map, commit, empty_database};
use boltfs::journal::{Origin, Reader};
use boltfs::overlay::{Files, Ino, Kind};
use boltfs::vfs::{Attr, Error, JournalPlace, Options, RenameMode, Result, SetAttr, Vfs};

use super::beside::Beside;
use super::commits;
use super::disk::MemDisk;
use super::fixture::Fixture;
use super::staged::{Item, Staged};
use super::tree::{Node, Tree};

/// User and group that tests create as.
pub const USER: (u32, u32) = (1000, 1001);

/// A file system over a database in memory.
pub struct Fs {
    /// It.
    pub vfs: Vfs,
    /// What a commit writes to.
    pub disk: MemDisk,
    prior: Option<Committed>,
    journal: Beside,
}

/// A bucket with these entries.
pub fn bucket<const N: usize>(entries: [(&str, Node); N]) -> Node {
    Node::Bucket(tree(entries))
}

/// A key's value.
pub fn value(bytes: impl AsRef<[u8]>) -> Node {
    Node::Value(bytes.as_ref().to_vec())
}

/// A database with these entries.
pub fn tree<const N: usize>(entries: [(&str, Node); N]) -> Tree {
    let nodes = entries
        .into_iter()
        .map(|(key, node)| (key.as_bytes().to_vec(), node));
    Tree {
        seq: 0,
        nodes: nodes.collect(),
    }
}

/// A database file of this content, by our own writer.
pub fn database(content: &Tree, page_size: u32) -> Vec<u8> {
    fn made(tree: &Tree) -> Staged {
        let item = |node: &Node| match node {
            Node::Value(value) => Item::Value(value.clone()),
            Node::Bucket(sub) => Item::Bucket(made(sub)),
        };
        let nodes = tree.nodes.iter();
        Staged {
            seq: tree.seq,
            origin: None,
            nodes: nodes.map(|(key, node)| (key.clone(), item(node))).collect(),
        }
    }
    let disk = MemDisk::new(empty_database(page_size));
    let (base, nothing) = (disk.snapshot(), Tree::default());
    let staged = Staged {
        origin: Some(Vec::new()),
        ..made(content)
    };
    let changes = staged.changes(&base, &nothing);
    commit(&disk, &base, None, changes, &CommitOptions::default()).expect("a database is written");
    disk.bytes()
}

/// What a database file that belongs to root and is readable by all gives.
pub fn options() -> Options {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    Options::of_file(0, 0, 0o644, time)
}

impl Fs {
    /// Over a database of this content.
    pub fn new(content: &Tree) -> Fs {
        Fs::with(content, options())
    }

    /// Over a database of this content, with other options.
    pub fn with(content: &Tree, options: Options) -> Fs {
        Fs::over(database(content, 4096), options)
    }

    /// Over a database file.
    pub fn over(bytes: Vec<u8>, options: Options) -> Fs {
        let disk = MemDisk::new(bytes);
        Fs {
            vfs: Vfs::new(disk.snapshot(), options),
            disk,
            prior: None,
            journal: Beside::default(),
        }
    }

    /// Keeps a journal from now on.
    pub fn keep_journal(&self) {
        self.vfs.keep_journal(Box::new(self.journal.clone()), None);
    }

    /// The journal, while there is one.
    pub fn journal(&self) -> Option<Arc<MemDisk>> {
        self.journal.disk()
    }

    /// What a new mount of the database finds after the process was killed now: the edits of the journal, made again.
    pub fn recover(&self) -> Fs {
        let recovered = Fs::over(self.disk.bytes(), self.vfs.options().clone());
        if let Some(journal) = self.journal() {
            let journal = journal.bytes();
            let mut reader = Reader::new(&journal).expect("a journal starts with its header");
            let (meta, raw) = (recovered.vfs.snapshot().meta(), self.vfs.options().raw);
            assert_eq!(reader.origin(), Origin::of(meta, raw));
            let made = recovered.vfs.replay(&mut reader);
            made.unwrap_or_else(|(number, e)| panic!("operation {number} of the journal: {e:?}"));
            assert_eq!(reader.rest(), 0, "all of the journal was read");
        }
        recovered
    }

    /// Over a fixture.
    pub fn of_fixture(name: &str) -> Fs {
        let (_directory, file) = Fixture::named(name).copy();
        Fs::over(
            std::fs::read(file).expect("the copy can be read"),
            options(),
        )
    }

    /// The node at `path`, as file names from the root.
    pub fn at(&self, path: &str) -> Result<Ino> {
        self.attr_at(path.as_bytes()).map(|attr| attr.ino)
    }

    /// What stat(2) says of `path`.
    pub fn stat(&self, path: &str) -> Result<Attr> {
        self.vfs.getattr(self.at(path)?)
    }

    fn attr_at(&self, path: &[u8]) -> Result<Attr> {
        let names = path.split(|&b| b == b'/').filter(|name| !name.is_empty());
        names.fold(self.vfs.getattr(Ino::ROOT), |dir, name| {
            self.vfs.lookup(dir?.ino, name)
        })
    }

    /// The directory that `path` lies in, and its last name.
    pub fn split<'p>(&self, path: &'p str) -> Result<(Ino, &'p [u8])> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.at(dir)?, name.as_bytes()))
    }

    /// The content of a file.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        self.read_node(self.at(path)?)
    }

    /// The content of a file by number, read in pieces.
    pub fn read_node(&self, ino: Ino) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        loop {
            let offset = content.len() as u64;
            let piece = self.vfs.read(ino, offset, 4096, <[u8]>::to_vec)?;
            if piece.is_empty() {
                return Ok(content);
            }
            content.extend(piece);
        }
    }

    /// The content of a file that must be text.
    #[track_caller]
    pub fn text(&self, path: &str) -> String {
        let content = self.read(path).unwrap_or_else(|e| panic!("{path}: {e:?}"));
        String::from_utf8(content).expect("text")
    }

    /// What `> path` and a write do: makes the file or empties it, then writes.
    pub fn save(&self, path: &str, content: impl AsRef<[u8]>) -> Result<Ino> {
        let ino = match self.at(path) {
            Ok(ino) => {
                self.truncate(ino, 0)?;
                ino
            }
            Err(Error::NotFound) => self.create(path)?,
            Err(e) => return Err(e),
        };
        self.vfs.write(ino, 0, content.as_ref(), false)?;
        Ok(ino)
    }

    /// What an editor does: writes a temporary file beside it and renames that.
    pub fn save_by_rename(&self, path: &str, content: impl AsRef<[u8]>) -> Result<Ino> {
        let ino = self.save(&format!("{path}.tmp"), content)?;
        self.mv(&format!("{path}.tmp"), path)?;
        Ok(ino)
    }

    /// The same by way of a temporary file of any name.
    pub fn save_by_rename_from(&self, temporary: &str, path: &str, content: &str) -> Result<Ino> {
        let ino = self.save(temporary, content)?;
        self.mv(temporary, path)?;
        Ok(ino)
    }

    /// Cuts or extends a file.
    pub fn truncate(&self, ino: Ino, size: u64) -> Result<Attr> {
        let set = SetAttr {
            size: Some(size),
            ..SetAttr::default()
        };
        self.vfs.setattr(ino, set)
    }

    /// Makes an empty file.
    pub fn create(&self, path: &str) -> Result<Ino> {
        let (dir, name) = self.split(path)?;
        let (uid, gid) = USER;
        Ok(self.vfs.create(dir, name, 0o644, uid, gid)?.ino)
    }

    /// Makes a directory.
    pub fn mkdir(&self, path: &str) -> Result<Ino> {
        let (dir, name) = self.split(path)?;
        let (uid, gid) = USER;
        Ok(self.vfs.mkdir(dir, name, 0o755, uid, gid)?.ino)
    }

    /// Removes a file.
    pub fn rm(&self, path: &str) -> Result<()> {
        let (dir, name) = self.split(path)?;
        self.vfs.unlink(dir, name)
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, path: &str) -> Result<()> {
        let (dir, name) = self.split(path)?;
        self.vfs.rmdir(dir, name)
    }

    /// Removes all there is.
    pub fn rm_r(&self, path: &str) -> Result<()> {
        if self.stat(path)?.kind == Kind::File {
            return self.rm(path);
        }
        for name in self.ls(path) {
            self.rm_r(&format!("{path}/{name}"))?;
        }
        self.rmdir(path)
    }

    /// Renames, replacing what is there.
    pub fn mv(&self, from: &str, to: &str) -> Result<()> {
        self.rename(from, to, RenameMode::Replace)
    }

    /// Renames.
    pub fn rename(&self, from: &str, to: &str, mode: RenameMode) -> Result<()> {
        let ((dir, name), (new_dir, new_name)) = (self.split(from)?, self.split(to)?);
        self.vfs.rename(dir, name, new_dir, new_name, mode)
    }

    /// The names in a directory, sorted.
    #[track_caller]
    pub fn ls(&self, path: &str) -> Vec<String> {
        let dir = self.at(path).unwrap_or_else(|e| panic!("{path}: {e:?}"));
        let (names, end) = self.list(dir, usize::MAX);
        end.unwrap_or_else(|e| panic!("{path}: {e:?}"));
        let text = |name| String::from_utf8(name).expect("a name of text");
        let mut names: Vec<_> = names.into_iter().map(text).collect();
        names.sort();
        names
    }

    /// The names in a directory in the order in which they are listed, `.` and `..` left out, and how it ended; `room`
    /// entries at a time.
    pub fn list(&self, dir: Ino, room: usize) -> (Vec<Vec<u8>>, Result<()>) {
        let mut names = Vec::new();
        let mut cookie = 0;
        loop {
            let before = cookie;
            let mut left = room;
            let end = self.vfs.readdir(dir, cookie, &mut |entry| {
                if left == 0 {
                    return false;
                }
                left -= 1;
                cookie = entry.cookie;
                if entry.name != b"." && entry.name != b".." {
                    names.push(entry.name.to_vec());
                }
                true
            });
            // As the kernel does: an error counts only where nothing came before it.
            if cookie == before {
                return (names, end);
            }
        }
    }

    /// The lines of `.boltfs/pending`.
    #[track_caller]
    pub fn pending(&self) -> Vec<String> {
        self.text(".boltfs/pending")
            .lines()
            .map(str::to_owned)
            .collect()
    }
    /// Commits, and reads back what the database holds then; fails the test unless it is sound.
    #[track_caller]
    pub fn commit(&mut self) -> Tree {
        self.try_commit().unwrap_or_else(|e| panic!("commit: {e}"));
        let after = self.disk.snapshot();
        let content = super::read::read(&after).tree;
        commits::judge(&after, &content, true);
        content
    }

    /// Commits to a database that is damaged, and returns the file.
    #[track_caller]
    pub fn commit_unjudged(&mut self) -> Vec<u8> {
        self.try_commit().unwrap_or_else(|e| panic!("commit: {e}"));
        self.disk.bytes()
    }

    /// Commits.
    pub fn try_commit(&mut self) -> std::result::Result<(), CommitError> {
        let (report, _) = commits::findings(self.vfs.snapshot());
        self.try_commit_with(&CommitOptions::proven_by(&report))
    }

    /// Puts the database with the edits into a copy, leaving out what is lost: what it holds then, and the keys of which something
    /// was left out.
    #[track_caller]
    pub fn salvage(&self) -> (Tree, Vec<String>) {
        let (report, _) = commits::findings(self.vfs.snapshot());
        let options = CommitOptions::proven_by(&report);
        let copy = MemDisk::new(self.disk.bytes());
        let left_out = Files::default();
        let prior = self.prior.as_ref();
        let done = self
            .vfs
            .copy(&copy, Some(&left_out), |disk, base, changes| {
                commit(disk, base, prior, changes, &options)
            });
        done.unwrap_or_else(|e: CommitError| panic!("salvage: {e}"));
        let after = copy.snapshot();
        let content = super::read::read(&after).tree;
        commits::judge(&after, &content, true);
        (content, self.vfs.paths(&left_out.all()))
    }

    /// Commits, knowing this much about the database.
    pub fn try_commit_with(
        &mut self,
        options: &CommitOptions<'_>,
    ) -> std::result::Result<(), CommitError> {
        let prior = self.prior.as_ref();
        let done = self.vfs.commit(&self.disk, |disk, base, changes| {
            commit(disk, base, prior, changes, options)
        });
        self.prior = Some(done?);
        Ok(())
    }
}
