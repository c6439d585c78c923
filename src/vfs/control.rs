//! `.boltfs` in the root: there, but not listed. What is pending, what is mounted, the tree as it
//! was, and a file that takes commands.

use super::{Attr, DirEntry, Error, Result, SetAttr, Vfs};
use crate::bolt::check;
use crate::overlay::{Attrs, Ino, Kind, Which};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

/// The name of the control directory.
pub const NAME: &[u8] = b".boltfs";

const DIR: Ino = Ino::FIRST_FIXED;
const PENDING: Ino = Ino(DIR.0 + 1);
const INFO: Ino = Ino(DIR.0 + 2);
const CONTROL: Ino = Ino(DIR.0 + 3);

/// What the directory holds. The tree as it was at mounting is a node of the base.
const ENTRIES: [(&[u8], Ino); 4] = [
    (b"base", Ino::BASE_ROOT),
    (b"control", CONTROL),
    (b"info", INFO),
    (b"pending", PENDING),
];

/// The fixed files as they were read last.
#[derive(Default)]
pub(super) struct Texts(Mutex<HashMap<Ino, Text>>);

/// The content of a fixed file.
#[derive(Clone)]
pub(super) struct Text {
    state: State,
    made: SystemTime,
    pub(super) bytes: Arc<[u8]>,
}

impl Text {
    fn new(state: State, bytes: Vec<u8>) -> Text {
        Text {
            state,
            made: SystemTime::now(),
            bytes: bytes.into(),
        }
    }
}

/// What a content was made from: the versions of what is staged and of what was committed.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct State {
    staged: u64,
    committed: u64,
}

/// A node that is neither of the base nor staged, but always there.
pub(super) fn is_fixed(ino: Ino) -> bool {
    (DIR..=CONTROL).contains(&ino)
}

/// The file that takes commands.
pub fn is_control(ino: Ino) -> bool {
    ino == CONTROL
}

/// The fixed node called `name` in `dir`.
pub(super) fn lookup(dir: Ino, name: &[u8]) -> Option<Ino> {
    match dir {
        Ino::ROOT => (name == NAME).then_some(DIR),
        DIR => ENTRIES
            .iter()
            .find(|(n, _)| *n == name)
            .map(|&(_, ino)| ino),
        _ => None,
    }
}

impl Vfs {
    pub(super) fn fixed_attr(&self, ino: Ino) -> Result<Attr> {
        let kind = if ino == DIR {
            Kind::Directory
        } else {
            Kind::File
        };
        let (size, time) = match ino {
            DIR => (0, self.options.time),
            _ => {
                let text = self.fixed_text(ino)?;
                (text.bytes.len() as u64, text.made)
            }
        };
        let mode = match ino {
            DIR => self.options.dir_mode & 0o555,
            CONTROL => self.options.file_mode & 0o666,
            _ => self.options.file_mode & 0o444,
        };
        // The kernel keeps what it has read of such a file until size or time are others.
        let attrs = Attrs {
            mode,
            mtime: time,
            ctime: time,
            ..self.first_attrs(kind)
        };
        Ok(Attr {
            ino,
            kind,
            size,
            attrs,
            nlink: 1,
            volatile: kind == Kind::File,
        })
    }

    pub(super) fn fixed_setattr(&self, ino: Ino, set: SetAttr) -> Result<Attr> {
        // `echo commit > control` truncates first.
        let only_size = set.mode.is_none() && set.uid.is_none() && set.gid.is_none();
        if ino == CONTROL && only_size {
            return self.fixed_attr(ino);
        }
        Err(Error::NotPermitted)
    }

    pub(super) fn fixed_readdir(
        &self,
        dir: Ino,
        cookie: u64,
        each: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        if dir != DIR {
            return Err(Error::NotDirectory);
        }
        // Cookies 1 and 2 are `.` and `..`.
        for (index, (name, ino)) in ENTRIES.iter().enumerate() {
            let next = index as u64 + 3;
            let attr = self.getattr(*ino)?;
            if next > cookie
                && !each(DirEntry {
                    name,
                    cookie: next,
                    attr,
                })
            {
                break;
            }
        }
        Ok(())
    }

    /// The content of a fixed file: made anew when something was staged or committed since the
    /// last time, and not for each piece of it that is read.
    pub(super) fn fixed_text(&self, ino: Ino) -> Result<Text> {
        let mut texts = self.texts.0.lock();
        let state = match ino {
            DIR => return Err(Error::IsDirectory),
            CONTROL => State::default(), // stays until the next command
            _ => State {
                staged: self.staged.read().version(),
                committed: self.committed.read().staged().version(),
            },
        };
        if let Some(text) = texts.get(&ino).filter(|text| text.state == state) {
            return Ok(text.clone());
        }
        let bytes = match ino {
            INFO => {
                let info = self.info()?;
                let mut text = serde_json::to_vec_pretty(&info).map_err(|_| Error::Invalid)?;
                text.push(b'\n');
                text
            }
            PENDING => {
                let mut lines = String::new();
                self.pending(Which::All, &mut |item| {
                    lines.push_str(&format!("{}\n", item.pending))
                })?;
                lines.into_bytes()
            }
            _ => Vec::new(),
        };
        let text = Text::new(state, bytes);
        texts.insert(ino, text.clone());
        Ok(text)
    }

    /// Sets what reading the control file tells: the outcome of the last command, in words.
    pub fn set_outcome(&self, outcome: &str) {
        let text = Text::new(State::default(), format!("{outcome}\n").into_bytes());
        self.texts.0.lock().insert(CONTROL, text);
    }

    /// What is mounted, how, and what is staged: the content of `.boltfs/info`.
    ///
    /// # Errors
    /// Damage of the base where something is staged.
    pub fn info(&self) -> Result<serde_json::Map<String, Value>> {
        let snapshot = self.base.snapshot();
        let meta = snapshot.meta();
        let counts = self.counts.get_or_init(|| {
            let counted = check::is_quick(snapshot);
            counted.then(|| check::check(snapshot, Default::default(), &mut |_| ()).counts)
        });
        // A commit has taken its place.
        let newer = snapshot.newer().filter(|_| self.committed_txid().is_none());
        let mut info = self.options.info.clone();
        for (key, value) in [
            ("pid", json!(std::process::id())),
            ("read_only", json!(self.options.read_only)),
            ("raw", json!(self.options.raw)),
            ("journal", json!(self.journal_path())),
            ("pending", json!(self.pending_count()?)),
            ("committed", json!(self.committed_txid())),
            ("txid", json!(meta.txid)),
            ("meta", json!(snapshot.slot())),
            ("newer", json!(newer.map(|meta| meta.txid))),
            ("page_size", json!(meta.page_size)),
            ("pages", json!(meta.hwm)),
            ("file_size", json!(snapshot.file_len())),
            (
                "freelist_stored",
                json!(meta.freelist != crate::bolt::meta::NO_FREELIST),
            ),
            (
                "buckets",
                json!(counts.map(|counts| counts.buckets + counts.inline_buckets)),
            ),
            ("keys", json!(counts.map(|counts| counts.keys))),
        ] {
            info.insert(key.to_owned(), value);
        }
        Ok(info)
    }
}
