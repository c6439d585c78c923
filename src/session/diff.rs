//! `boltfs diff MNT`: what is pending, as a unified diff of what the mount shows.
//!
//! The side of `a/` is the tree as the last commit left it, that of `b/` the tree as the next one
//! will. Of values that are text there are lines, which `patch` takes; of all others there is
//! one line with lengths and hashes.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use similar::{ChangeTag, TextDiff};

use super::change::{self, Told};
use super::failure::{Failure, Result};
use super::reach;
use super::side::Side;
use super::terminal::{visible, wants_colours};
use crate::view::text;

/// Nothing is pending.
const SAME: u8 = 0;
/// Something is, and was shown.
const DIFFERENT: u8 = 1;

/// After this long the lines of one value are compared more coarsely.
const PATIENCE: Duration = Duration::from_secs(3);

/// Shows what is pending in the mount at `given`; the exit status.
///
/// # Errors
/// When nothing of ours is mounted there, or the process that serves it does not tell.
pub fn run_diff(given: &Path) -> Result<u8> {
    let mount = reach::mount_at(given, "diff")?;
    let point = mount.point.display();
    let otherwise =
        || format!("Compare the trees: diff -r {point}/.boltfs/base/BUCKET {point}/BUCKET");
    let mut client = reach::connect(&mount, otherwise, reach::say_dead)?;
    let cannot = |e: io::Error| {
        let what =
            format!("the process that serves {point} does not tell all that is pending: {e}");
        Failure::new(what, otherwise())
    };
    let raw = client.status(0).map_err(cannot)?["info"]["raw"] == true;
    let mut diff = Diff {
        out: BufWriter::new(io::stdout().lock()),
        raw,
        colours: wants_colours(),
    };
    let mut changes = 0u64;
    // An error of our own output is kept apart: who closed it has seen enough.
    let mut closed = None;
    let told = client.changes(&mut |value, sides| {
        let change = change::from_json(value).ok_or(io::ErrorKind::InvalidData)?;
        changes += 1;
        diff.show(&change, sides)
            .inspect_err(|e| closed = Some(e.kind()))
    });
    let flushed = diff.out.flush();
    match closed.or(flushed.err().map(|e| e.kind())) {
        Some(io::ErrorKind::BrokenPipe) => return Ok(DIFFERENT),
        Some(kind) => {
            let what = format!("cannot write to standard output: {kind}");
            return Err(Failure::new(what, ""));
        }
        None => {}
    }
    told.map_err(cannot)?;
    Ok(if changes == 0 { SAME } else { DIFFERENT })
}

/// How a part of the output is coloured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Header,
    Hunk,
    Removed,
    Added,
    Plain,
}

struct Diff<W> {
    out: W,
    /// Values are shown as stored.
    raw: bool,
    colours: bool,
}

impl<W: Write> Diff<W> {
    fn show(&mut self, change: &Told, sides: [Option<Side<'_>>; 2]) -> io::Result<()> {
        for remark in &change.remarks {
            self.line(
                Part::Header,
                &format!("Note on b/{}: {remark}", change.path),
            )?;
        }
        if change.bucket {
            return self.bucket(change);
        }
        let [old, new] = sides;
        let texts = [&old, &new].map(|side| side.as_ref().map(|side| self.text(side)));
        match texts {
            [None, None] => Ok(()),
            [Some(None), _] | [_, Some(None)] => self.hashes(change, "differ", old, new),
            [old_text, new_text] => {
                let [a, b] = [old_text, new_text].map(Option::flatten);
                let lines = [&a, &b].map(|text| lines(text.as_deref().unwrap_or_default()));
                if lines[0] == lines[1] {
                    let how = "are shown alike and stored differently";
                    return self.hashes(change, how, old, new);
                }
                self.header(&change.path, a.is_some(), b.is_some())?;
                self.hunks(&lines)
            }
        }
    }

    /// What is shown of a value, if it is text.
    fn text(&self, side: &Side<'_>) -> Option<String> {
        let Side::Whole(bytes) = side else {
            return None;
        };
        let shown = match text::shown(bytes, self.raw) {
            Cow::Owned(text) => text,
            Cow::Borrowed(bytes) => bytes.to_vec(),
        };
        let text = String::from_utf8(shown).ok()?;
        // What text may have in it: coloured log lines and form feeds too, but no bytes that are
        // text by chance.
        let odd = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\x0c' | '\x1b');
        (!text.contains(odd)).then_some(text)
    }

    fn bucket(&mut self, change: &Told) -> io::Result<()> {
        let path = &change.path;
        let told = match (change.kind.as_str(), &change.from) {
            ("added", _) => Some(format!("Bucket b/{path} is new")),
            ("deleted", _) => Some(format!("Bucket a/{path} is deleted with all that is in it")),
            ("moved", Some(from)) => Some(format!("Bucket a/{from} is moved to b/{path}")),
            _ => None,
        };
        if let Some(told) = told {
            self.line(Part::Header, &told)?;
        }
        if let Some([old, new]) = change.sequence {
            let told = format!("Sequence of bucket b/{path} is {new}, was {old}");
            self.line(Part::Header, &told)?;
        }
        Ok(())
    }

    /// Values that are not shown as lines.
    fn hashes(
        &mut self,
        change: &Told,
        how: &str,
        old: Option<Side<'_>>,
        new: Option<Side<'_>>,
    ) -> io::Result<()> {
        let path = &change.path;
        let side = |side: Side<'_>| match side.length() {
            0 => "empty".to_owned(),
            1 => format!("1 byte, sha256 {}", side.sha256()),
            len => format!("{len} bytes, sha256 {}", side.sha256()),
        };
        let told = match (old.map(side), new.map(side)) {
            (Some(old), Some(new)) => {
                format!("Values a/{path} and b/{path} {how}: {old}; {new}")
            }
            (Some(old), None) => format!("Key a/{path} is deleted: {old}"),
            (None, Some(new)) => format!("Key b/{path} is new: {new}"),
            (None, None) => return Ok(()),
        };
        self.line(Part::Header, &told)
    }

    fn header(&mut self, path: &str, old: bool, new: bool) -> io::Result<()> {
        // As diff(1) does it: the end of a name with blanks is known by the tab behind it.
        let end = if path.contains(' ') { "\t" } else { "" };
        let name = |side, there| match there {
            true => format!("{side}/{path}{end}"),
            false => "/dev/null".to_owned(),
        };
        self.line(Part::Header, &format!("--- {}", name('a', old)))?;
        self.line(Part::Header, &format!("+++ {}", name('b', new)))
    }

    fn hunks(&mut self, lines: &[Vec<&str>; 2]) -> io::Result<()> {
        let [old, new] = lines;
        let diff = TextDiff::configure()
            .timeout(PATIENCE)
            .diff_slices(old, new);
        for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
            self.line(Part::Hunk, &hunk.header().to_string())?;
            for change in hunk.iter_changes() {
                let (sign, part) = match change.tag() {
                    ChangeTag::Equal => (' ', Part::Plain),
                    ChangeTag::Delete => ('-', Part::Removed),
                    ChangeTag::Insert => ('+', Part::Added),
                };
                let whole = change.value().strip_suffix('\n');
                let text = visible(whole.unwrap_or(change.value()));
                self.line(part, &format!("{sign}{text}"))?;
                if whole.is_none() {
                    self.line(Part::Plain, "\\ No newline at end of file")?;
                }
            }
        }
        Ok(())
    }

    fn line(&mut self, part: Part, text: &str) -> io::Result<()> {
        let colour = match part {
            Part::Header => "\x1b[1m",
            Part::Hunk => "\x1b[36m",
            Part::Removed => "\x1b[31m",
            Part::Added => "\x1b[32m",
            Part::Plain => "",
        };
        if self.colours && part != Part::Plain {
            writeln!(self.out, "{colour}{text}\x1b[m")
        } else {
            writeln!(self.out, "{text}")
        }
    }
}

/// The lines of a text, each with its end.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: &str, path: &str) -> Told {
        Told {
            kind: kind.to_owned(),
            path: path.to_owned(),
            bucket: path.ends_with('/'),
            from: None,
            old_len: None,
            new_len: None,
            sequence: None,
            remarks: Vec::new(),
        }
    }

    fn shown_with(change: &Told, values: [Option<&[u8]>; 2], raw: bool, colours: bool) -> String {
        let out = Vec::new();
        let mut diff = Diff { out, raw, colours };
        diff.show(change, values.map(|value| value.map(Side::of)))
            .unwrap();
        String::from_utf8(diff.out).unwrap()
    }

    fn shown(path: &str, old: Option<&str>, new: Option<&str>) -> String {
        let values = [old, new].map(|value| value.map(str::as_bytes));
        shown_with(&told("", path), values, false, false)
    }

    #[test]
    fn text_is_shown_by_its_lines() {
        assert_eq!(
            shown("b/k", Some("a\nb\n"), Some("a\nc\n")),
            "--- a/b/k\n+++ b/b/k\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
        );
        assert_eq!(
            shown("b/k", Some("a"), Some("b\n")),
            "--- a/b/k\n+++ b/b/k\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n"
        );
        assert_eq!(
            shown("b/k", None, Some("x")),
            "--- /dev/null\n+++ b/b/k\n@@ -0,0 +1 @@\n+x\n\\ No newline at end of file\n"
        );
        assert_eq!(
            shown("b/a b", Some("x\n"), None),
            "--- a/b/a b\t\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
        );
        assert_eq!(shown("b/k", None, Some("")), "Key b/b/k is new: empty\n");
        assert_eq!(
            shown("b/k", Some(""), None),
            "Key a/b/k is deleted: empty\n"
        );
    }

    #[test]
    fn json_is_shown_indented_unless_raw() {
        let values = [Some(&br#"{"a":1,"b":2}"#[..]), Some(br#"{"a":1,"b":3}"#)];
        assert_eq!(
            shown_with(&told("", "k"), values, false, false),
            "--- a/k\n+++ b/k\n@@ -1,4 +1,4 @@\n {\n   \"a\": 1,\n-  \"b\": 2\n+  \"b\": 3\n }\n"
        );
        let no_end = "\n\\ No newline at end of file\n";
        assert_eq!(
            shown_with(&told("", "k"), values, true, false),
            format!(
                "--- a/k\n+++ b/k\n@@ -1 +1 @@\n-{{\"a\":1,\"b\":2}}{no_end}+{{\"a\":1,\"b\":3}}{no_end}"
            )
        );
        let alike = shown("k", Some(r#"{"a":1}"#), Some("{\"a\": 1}\n"));
        let start = "Values a/k and b/k are shown alike and stored differently: 7 bytes, sha256 ";
        assert!(alike.starts_with(start), "{alike}");
    }

    #[test]
    fn what_is_no_text_is_told_by_length_and_hash() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let nul = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        assert_eq!(
            shown("k", Some("abc"), Some("\0")),
            format!("Values a/k and b/k differ: 3 bytes, sha256 {abc}; 1 byte, sha256 {nul}\n")
        );
        assert_eq!(
            shown_with(&told("", "k"), [None, Some(b"\0")], false, false),
            format!("Key b/k is new: 1 byte, sha256 {nul}\n")
        );
        let latin = shown_with(&told("", "k"), [Some(b"\xfc"), None], false, false);
        assert!(latin.starts_with("Key a/k is deleted: 1 byte,"), "{latin}");
        // Protobuf that happens to be UTF-8.
        assert!(shown("k", None, Some("\x0a\x05hello\x12")).starts_with("Key b/k is new: 8 bytes"));
    }

    #[test]
    fn nothing_acts_on_the_terminal() {
        let text = shown("k", Some("a\r\n"), Some("\x1b[2Ja\rb\x0c\n"));
        assert_eq!(text, "--- a/k\n+++ b/k\n@@ -1 +1 @@\n-a^M\n+^[[2Ja^Mb^L\n");
        let values = [None, Some(&b"\x1b]0;x\n"[..])];
        let coloured = shown_with(&told("", "k"), values, false, true);
        let plain = coloured.replace("\x1b[1m", "").replace("\x1b[36m", "");
        let plain = plain.replace("\x1b[32m", "").replace("\x1b[m", "");
        assert!(
            !plain.contains('\x1b') && coloured.len() > plain.len(),
            "{coloured:?}"
        );
    }

    #[test]
    fn buckets_are_told_in_words() {
        let shown = |change: &Told| shown_with(change, [None, None], false, false);
        assert_eq!(shown(&told("added", "n/")), "Bucket b/n/ is new\n");
        assert_eq!(
            shown(&told("deleted", "o/")),
            "Bucket a/o/ is deleted with all that is in it\n"
        );
        let mut moved = told("moved", "n/");
        moved.from = Some("o/".to_owned());
        moved.sequence = Some([0, 3]);
        assert_eq!(
            shown(&moved),
            "Bucket a/o/ is moved to b/n/\nSequence of bucket b/n/ is 3, was 0\n"
        );
        let mut changed = told("changed", "n/");
        changed.sequence = Some([4, 3]);
        assert_eq!(shown(&changed), "Sequence of bucket b/n/ is 3, was 4\n");
    }

    #[test]
    fn a_hard_pair_of_values_does_not_take_for_ever() {
        let text = |salt: u64| {
            let numbers = (0..400_000u64).map(|n| n.wrapping_mul(salt) % 977);
            numbers.map(|n| format!("{n}\n")).collect::<String>()
        };
        let started = std::time::Instant::now();
        let diff = shown("k", Some(&text(7919)), Some(&text(104_729)));
        assert!(diff.starts_with("--- a/k\n"));
        assert!(started.elapsed() < PATIENCE * 10, "{:?}", started.elapsed());
    }
}
