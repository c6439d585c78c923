//! JSON and texts: what is shown can be stored back byte for byte, and an edit keeps the style.
//!
//! The first bytes say how the rest is divided into a value and what is saved over it, and how the value is made
//! larger than a fuzzer would make it.

use std::borrow::Cow;
use std::time::UNIX_EPOCH;

use boltfs::bolt::{Map, OpenOptions, Snapshot};
use boltfs::overlay::Ino;
use boltfs::vfs::{Options, Vfs};
use boltfs::view::json::{MAX_SHOWN, Separators, Style, collapse, inspect, render};
use boltfs::view::number::rounded;
use boltfs::view::text::{Note, shown, shown_len, stored};

use super::common::build::{Build, paged, plain};
use super::input::Input;

pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let (mode, n, at) = (input.byte(), input.u16(), input.u16());
    let bytes = input.rest();
    let (value, content) = bytes.split_at(at.min(bytes.len()));
    let value = &*enlarged(value, mode, n);
    renders(value);
    let content = match mode & 0b110_0000 {
        // What an editor does: the shown text with something else in a place of it.
        0b010_0000 => {
            let mut text = shown(value, false).into_owned();
            let at = n % (text.len() + 1);
            let end = (at + n % 7).min(text.len());
            text.splice(at..end, content.iter().copied());
            text
        }
        0b100_0000 => shown(content, false).into_owned(),
        _ => content.to_vec(),
    };
    saves(&content, Some(value));
    saves(&content, None);
    saves(&shown(value, false), Some(value));
    if let Some(number) = std::str::from_utf8(value)
        .ok()
        .and_then(|_| rounded(value, &content))
    {
        assert!(
            value
                .windows(number.len())
                .any(|at| at == number.as_bytes())
        );
    }
    if mode & 0b1000_0000 != 0 {
        in_a_mount(value, n);
    }
}

/// The value as it is, as an array of many, or deep inside brackets.
fn enlarged(value: &[u8], mode: u8, n: usize) -> Cow<'_, [u8]> {
    let comma: &[u8] = if mode & 4 == 0 { b"," } else { b", " };
    match mode & 3 {
        1 => {
            // Enough to be kept while it is read, and never many megabytes of white space.
            let most = if value.len() < 30 { 100_000 } else { 10_000 };
            let times = n.min(most / (value.len() + 2));
            Cow::Owned(
                [
                    b"[",
                    &[value, comma].concat().repeat(times)[..],
                    value,
                    b"]",
                ]
                .concat(),
            )
        }
        2 => Cow::Owned([&b"[".repeat(n % 600), value, &b"]".repeat(n % 600)].concat()),
        3 => Cow::Owned([&br#"{"a":"#.repeat(n % 600), value, &b"}".repeat(n % 600)].concat()),
        _ => Cow::Borrowed(value),
    }
}

fn renders(value: &[u8]) {
    let mut text = b"before".to_vec();
    let known = render(value, &mut text);
    assert_eq!(known, inspect(value));
    assert_eq!(&text[..6], b"before");
    let text = &text[6..];
    assert_eq!(shown_len(value, false), shown(value, false).len() as u64);
    assert_eq!(*shown(value, true), *value);
    let parsed = serde_json::from_slice::<serde_json::Value>(value).ok();
    let Some(known) = known else {
        assert!(text.is_empty());
        let compact = parsed
            .filter(|parsed| parsed.is_array() || parsed.is_object())
            .and_then(|_| collapse(value, COMPACT));
        assert!(
            compact.is_none_or(|compact| compact != value),
            "it is compact JSON"
        );
        return;
    };
    assert!(known.len == text.len() as u64 && known.len <= MAX_SHOWN);
    assert_eq!(collapse(text, known.style).as_deref(), Some(value));
    assert_eq!(*shown(value, false), *text);
    assert!(text.ends_with(b"\n"));
    if let Some(parsed) = parsed {
        let again: serde_json::Value = serde_json::from_slice(text).expect("still JSON");
        assert_eq!(again, parsed);
    }
}

const COMPACT: Style = Style {
    separators: Separators::Compact,
    newline: false,
};

/// The value that a saved content becomes.
fn saves(content: &[u8], previous: Option<&[u8]>) {
    let raw = stored(content, previous, true);
    assert_eq!(*raw.bytes, *content);
    let now = stored(content, previous, false);
    let value = &*now.bytes;
    match now.note {
        Note::AsWritten => assert_eq!(value, content),
        Note::Unchanged => assert_eq!(Some(value), previous),
        Note::JsonStyleKept => {
            let style = inspect(previous.expect("a value before"))
                .expect("it was shown")
                .style;
            assert_eq!(collapse(value, COMPACT), collapse(content, COMPACT));
            assert_eq!(collapse(value, style).as_deref(), Some(value));
        }
        Note::JsonCompacted => assert_eq!(*shown(value, false), *content),
        Note::NoLongerJson => {
            assert_eq!(value, content);
            assert!(collapse(content, COMPACT).is_none());
        }
        Note::NewlineLeftOff => {
            let end = content.strip_prefix(value).expect("the same up to the end");
            assert!(end == b"\n" || end == b"\r\n");
        }
    }
    // Saving what is shown of it changes nothing any more.
    let again = stored(&shown(value, false), Some(value), false).note;
    assert_eq!(again, Note::Unchanged);
}

/// What is read in pieces is the whole.
fn in_a_mount(value: &[u8], piece: usize) {
    let mut build = Build::new(4096);
    let leaf = build.leaf(&[plain(b"v", value)]);
    build.root = build.leaf(&[paged(b"b", leaf)]);
    let snapshot = Snapshot::open(Map::from(build.file()), OpenOptions::default());
    let vfs = Vfs::new(
        snapshot.expect("it opens"),
        Options::of_file(0, 0, 0o644, UNIX_EPOCH),
    );
    let bucket = vfs.lookup(Ino::ROOT, b"b").expect("the bucket").ino;
    let file = vfs.lookup(bucket, b"v").expect("the value");
    let whole = shown(value, false);
    assert_eq!(file.size, whole.len() as u64);
    let piece = (piece % 5000).max(whole.len() / 16 + 1);
    let mut offset = 0;
    loop {
        let read = vfs
            .read(file.ino, offset as u64, piece, <[u8]>::to_vec)
            .expect("it can be read");
        let end = (offset + piece).min(whole.len());
        assert_eq!(read, whole[offset..end]);
        offset = end;
        if read.is_empty() {
            return;
        }
    }
}
