//! The edits in a journal, in words.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, StdoutLock, Write};
use std::path::Path;

use super::failure::{Failure, Result};
use crate::bolt::Map;
use crate::journal::{self, Behind, Op, Place, ROOT, Reader};
use crate::view::name;

/// How many operations a journal holds, and the last of them.
pub fn summary(bytes: &[u8]) -> String {
    const SHOWN: usize = 5;
    let all = Reader::new(bytes).into_iter().flatten();
    let mut words = Words::default();
    let lines: Vec<String> = all.filter_map(|op| words.say(&op)).collect();
    let last = &lines[lines.len().saturating_sub(SHOWN)..];
    let more = if last.len() < lines.len() {
        "…; "
    } else {
        ""
    };
    let edits = if lines.len() == 1 {
        "1 edit"
    } else {
        &format!("{} edits", lines.len())
    };
    if lines.is_empty() {
        return "no edit".to_owned();
    }
    format!("{edits} of an earlier mount ({more}{})", last.join("; "))
}

/// Says operations in words, in the order in which they are in the journal.
#[derive(Default)]
struct Words {
    /// The path of each directory that has a number.
    dirs: HashMap<u64, Vec<Vec<u8>>>,
}

impl Words {
    fn keys(&self, place: &Place<'_>) -> Vec<Vec<u8>> {
        let mut keys = self.dirs.get(&place.dir).cloned().unwrap_or_default();
        keys.push(place.key.to_vec());
        keys
    }

    fn path(&self, place: &Place<'_>) -> String {
        let path = name::path(self.keys(place).iter().map(|key| &key[..]));
        match self.knows(place.dir) {
            true => path,
            false => format!("(directory {})/{path}", place.dir),
        }
    }

    /// Whether it was said which directory has this number.
    fn knows(&self, dir: u64) -> bool {
        dir == ROOT || self.dirs.contains_key(&dir)
    }

    /// One operation in words; nothing for a note that is no edit.
    fn say(&mut self, op: &Op<'_>) -> Option<String> {
        Some(match op {
            Op::Directory { at, number } => {
                if self.knows(at.dir) {
                    self.dirs.insert(*number, self.keys(at));
                }
                return None;
            }
            Op::Create { at } => format!("create {}", self.path(at)),
            Op::Mkdir { at } => format!("mkdir {}/", self.path(at)),
            Op::Unlink { at } => format!("unlink {}", self.path(at)),
            Op::Rmdir { at } => format!("rmdir {}/", self.path(at)),
            Op::Rename { from, to, exchange } => {
                let (a, b) = (self.path(from), self.path(to));
                self.moved(from, to, *exchange);
                if *exchange {
                    format!("exchange {a} and {b}")
                } else {
                    format!("rename {a} to {b}")
                }
            }
            Op::Write { at, offset, data } => {
                format!("write {}: {} bytes at {offset}", self.path(at), data.len())
            }
            Op::Resize { at, size } => format!("truncate {} to {size} bytes", self.path(at)),
            Op::Sequence { at, sequence } => {
                format!("sequence of {}/ is {sequence}", self.path(at))
            }
            Op::Commit { .. } => return None,
        })
    }

    /// A directory keeps its number when it, or one above it, gets another name.
    fn moved(&mut self, from: &Place<'_>, to: &Place<'_>, exchange: bool) {
        let (from, to) = (self.keys(from), self.keys(to));
        for path in self.dirs.values_mut() {
            if let Some(rest) = path.strip_prefix(&from[..]) {
                *path = [&to, rest].concat();
            } else if let Some(rest) = path.strip_prefix(&to[..]).filter(|_| exchange) {
                *path = [&from, rest].concat();
            }
        }
    }
}

/// Prints the operations of the journal at `path`, one a line, with the start of what was written. What
/// is found behind damage is marked.
///
/// # Returns
/// The exit status: 1 if it is damaged.
///
/// # Errors
/// It cannot be read, or is none.
pub fn show(path: &Path) -> Result<u8> {
    let cannot = |e: io::Error| Failure::new(format!("cannot read {}: {e}", path.display()), "");
    let map = File::open(path)
        .and_then(|file| Map::of(&file))
        .map_err(cannot)?;
    let mut out = Printed {
        out: io::stdout().lock(),
        words: Words::default(),
    };
    let status = out.journal(&map).map_err(cannot)?;
    let unread = map.has_lost_since(0);
    if status.is_none() || unread {
        let shown = path.display();
        return Err(match unread {
            true => Failure::new(
                format!("not all of {shown} can be read: it was cut, or its disk fails"),
                "What was shown is not all of it.",
            ),
            false => Failure::new(format!("{shown} is not a journal of boltfs"), ""),
        });
    }
    Ok(status.unwrap_or_default())
}

/// The operations of a journal on their way out.
struct Printed<'a> {
    out: StdoutLock<'a>,
    words: Words,
}

impl Printed<'_> {
    /// Prints all of a journal. Answers the exit status; `None` if it is none.
    fn journal(&mut self, bytes: &[u8]) -> io::Result<Option<u8>> {
        let Some(mut reader) = Reader::new(bytes) else {
            let Some(found) = journal::without_header(bytes) else {
                return Ok(None);
            };
            writeln!(
                self.out,
                "DAMAGED at its start: which transaction these edits are of is not known"
            )?;
            self.behind(found)?;
            return Ok(Some(1));
        };
        let origin = reader.origin();
        let shown = if origin.raw { ", values as stored" } else { "" };
        writeln!(self.out, "edits of transaction {}{shown}:", origin.txid)?;
        for op in reader.by_ref() {
            self.op("", &op)?;
        }
        let (at, rest) = (reader.valid_len(), reader.rest());
        if reader.is_damaged() {
            writeln!(
                self.out,
                "DAMAGED at byte {at}: the {rest} bytes from there on are not recovered"
            )?;
            self.behind(reader.behind())?;
            return Ok(Some(1));
        }
        if rest > 0 {
            writeln!(self.out, "{rest} bytes at the end are not complete")?;
        }
        Ok(Some(0))
    }

    fn behind(&mut self, mut found: Behind<'_>) -> io::Result<()> {
        writeln!(
            self.out,
            "What follows was found behind it; there may have been more, and paths may be others:"
        )?;
        for op in found.by_ref() {
            self.op("? ", &op)?;
        }
        if found.gave_up() {
            writeln!(self.out, "? …")?;
        }
        Ok(())
    }

    fn op(&mut self, mark: &str, op: &Op<'_>) -> io::Result<()> {
        const START: usize = 200;
        if let Some(line) = self.words.say(op) {
            writeln!(self.out, "{mark}{line}")?;
        }
        if let Op::Write { data, .. } = op {
            let start = &data[..data.len().min(START)];
            let more = if data.len() > START { " …" } else { "" };
            writeln!(self.out, "{mark}    {}{more}", start.escape_ascii())?;
        }
        Ok(())
    }
}
