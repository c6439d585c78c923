//! Keys and file names.
//!
//! A bbolt key is any string of 1 to 32,768 bytes; a file name is 1 to 255 bytes without `/` and NUL, and neither
//! `.` nor `..`. The two are tied so that **each key has one name, and each name stands for one key or for none**:
//!
//! 1. A key that is *text* (valid UTF-8 without control characters) is shown as it is, but for `/` (`%2F`) and `%`
//!    (`%25`). The keys `.` and `..` become `%2E` and `%2E%2E`, a leading `0x` becomes `%30x`, and at the root
//!    `.boltfs`, the name of the control directory, becomes `%2Eboltfs`. No other escape exists.
//! 2. Any other key is shown as `0x` and all of its bytes in lower-case hex, so that fixed-width binary keys (an etcd
//!    revision, a big-endian number) list in key order.
//! 3. A name that would exceed 255 bytes is cut, at a character, an escape or a hex pair, to at most 237 bytes and ends in
//!    `%~` and the 16 hex digits of the [FNV-1a](fnv1a) hash of the key. `%~` occurs nowhere else, since `%` is always escaped.
//!
//! A control character is what Unicode calls one (category Cc: C0, DEL and C1), because a terminal acts on these: `ls`, `grep -l`
//! and `cp -v` print names as they are, and a hostile database must not send escape sequences that way. Invisible
//! and bidirectional format characters (U+200E, U+202E, U+FEFF, …) are shown as they are: no terminal takes them for a command, they are part of
//! ordinary right-to-left and emoji text, and every file system allows them.
//!
//! Whether two keys get the same hashed name is up to the hash: FNV-1a is not cryptographic, so a hostile database can hold two
//! keys longer than a name that start alike and have the same hash. They then share a name, which finds one of them.

use crate::bolt::meta::fnv1a;
use std::fmt;

/// The longest file name, in bytes (Linux's `NAME_MAX`).
pub const MAX_NAME: usize = 255;
/// Longest path, in bytes, that a system call takes.
pub const MAX_PATH: usize = 4095;

/// What follows the cut in the name of a long key: `%~` and 16 hex digits.
const HASH_LEN: usize = 18;

/// The shown part of a long key's name is at most this long.
const MAX_CUT: usize = MAX_NAME - HASH_LEN;

/// The shown part of a long text key is at least this long: what did not fit after it has at most 4 bytes.
const MIN_TEXT_CUT: usize = MAX_CUT - 3;

/// The shown part of a long binary key has just this length: `0x` and whole pairs.
const HEX_CUT: usize = MAX_CUT - (MAX_CUT - 2) % 2;

/// Starts the name of a key that is not text.
const HEX_PREFIX: &[u8] = b"0x";

/// The name of the control directory in the root.
const CONTROL_DIR: &[u8] = b".boltfs";

/// What a name says about the key it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// The key itself, all of it; never empty.
    Key(Vec<u8>),
    /// The name of a key too long to be shown whole. The key, if there is one, starts with `prefix`, is longer than it, has
    /// the hash `hash`, and [`encode`] gives this name for it: whoever looks it up must check the last of these.
    Hashed {
        /// The bytes of the key that the shown part of the name stands for.
        prefix: Vec<u8>,
        /// [`fnv1a`] of the whole key.
        hash: u64,
    },
}

/// Why a name stands for no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// Longer than [`MAX_NAME`] bytes (ENAMETOOLONG).
    TooLong,
    /// Not the one name of any key (EINVAL where it would be created, ENOENT where it is looked up).
    NotCanonical,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameError::TooLong => "the name is longer than 255 bytes",
            NameError::NotCanonical => {
                "not the name of any key: a key is written as it is, but '/' as %2F, '%' as %25, \
                 and a key that is not text as 0x and lower-case hex"
            }
        })
    }
}

impl std::error::Error for NameError {}

/// The name of `key`; `at_root` if the key is in the root bucket. See the module for the rules.
///
/// Never empty, `.` or `..`, never longer than [`MAX_NAME`], and without `/`, NUL and control characters, whatever the key.
/// The empty key, which bbolt does not allow, gets the name `0x`, which [`decode`] refuses.
pub fn encode(key: &[u8], at_root: bool) -> Vec<u8> {
    let mut name = Vec::new();
    encode_into(&mut name, key, at_root);
    name
}

/// Whether the name of `key`, in a directory other than the root, is longer than [`MAX_NAME`] and
/// therefore shown cut, with a hash at its end.
pub fn is_cut(key: &[u8]) -> bool {
    // An escape takes at most three bytes for one.
    key.len() > MAX_NAME / 3 && split_hash(&encode(key, false)).is_some()
}

/// The path of a bucket or key for a message: the names of its keys from the root down. A name has
/// no control characters, so the path can go to a terminal. Of a path that is longer than any
/// that a program can open ([`MAX_PATH`] bytes) the end is told, `…/` before it: the paths of buckets
/// that are nested thousands of times would fill memory and screens.
pub fn path<'a>(
    keys: impl DoubleEndedIterator<Item = &'a [u8]> + ExactSizeIterator + Clone,
) -> String {
    const SHOWN: usize = 1000;
    /// Shortest and longest name, each with the slash before it.
    const NAME: [usize; 2] = [1 + 1, 1 + MAX_NAME];
    // So many of the last names go into so many bytes; each name is looked at only where that matters.
    let last = |mut room: usize| {
        let names = keys.clone().enumerate().rev();
        let lengths = names.map(|(depth, key)| 1 + encode(key, depth == 0).len());
        let fit = lengths.take_while(|&length| {
            let left = room.checked_sub(length);
            room = left.unwrap_or(0);
            left.is_some()
        });
        fit.count()
    };
    let count = keys.len();
    let most = MAX_PATH + 1; // there is no slash before the first
    let is_long = count > most / NAME[1] && (count > most / NAME[0] || last(most) < count);
    let (mut first, mut path) = (0, Vec::new());
    if is_long {
        first = count - last(SHOWN);
        path.extend_from_slice("…/".as_bytes());
    }
    for (depth, key) in keys.clone().enumerate().skip(first) {
        if depth > first {
            path.push(b'/');
        }
        encode_into(&mut path, key, depth == 0);
    }
    String::from_utf8_lossy(&path).into_owned()
}

/// Appends [`encode`]'s name of `key` to `out`, with at most one allocation.
pub fn encode_into(out: &mut Vec<u8>, key: &[u8], at_root: bool) {
    if is_its_own_name(key, at_root) {
        out.extend_from_slice(key);
    } else if let Some(text) = as_text(key) {
        encode_text(out, text, at_root);
    } else {
        encode_hex(out, key);
    }
}

/// The key that `name` stands for; `at_root` if it is a name in the root directory.
///
/// Finding a key this way proves that the name is the one that [`encode`] gives that key. (Of a
/// [hashed](Decoded::Hashed) name only its form is proved.)
///
/// # Errors
/// [`NameError`] when no key has this name.
pub fn decode(name: &[u8], at_root: bool) -> Result<Decoded, NameError> {
    if name.len() > MAX_NAME {
        return Err(NameError::TooLong);
    }
    if is_its_own_name(name, at_root) {
        return Ok(Decoded::Key(name.to_vec()));
    }
    if let Some((shown, hash)) = split_hash(name) {
        let prefix = decode_prefix(shown, at_root).ok_or(NameError::NotCanonical)?;
        return Ok(Decoded::Hashed { prefix, hash });
    }
    let key = match name.strip_prefix(HEX_PREFIX) {
        Some(digits) => unhex(digits),
        None => unescape(name),
    };
    // Encoding again is the whole test: it refuses text in hex, needless escapes, control characters and the rest.
    match key {
        Some(key) if !key.is_empty() && encode(&key, at_root) == name => Ok(Decoded::Key(key)),
        _ => Err(NameError::NotCanonical),
    }
}

/// The fast path of both directions: printable ASCII that needs no escape at all.
fn is_its_own_name(key: &[u8], at_root: bool) -> bool {
    // Without a branch per byte, so that the compiler makes vector instructions of it.
    let plain = key.iter().fold(true, |plain, &b| {
        plain & (0x20..0x7f).contains(&b) & (b != b'/') & (b != b'%')
    });
    plain && key.len() <= MAX_NAME && !key.is_empty() && escaped_head(key, at_root) == 0
}

/// How many leading bytes of a text key are escaped only because of where they are.
fn escaped_head(key: &[u8], at_root: bool) -> usize {
    match key {
        b".." => 2,
        b"." | [b'0', b'x', ..] => 1,
        _ if at_root && key == CONTROL_DIR => 1,
        _ => 0,
    }
}

/// The key as text, if it is shown as such.
fn as_text(key: &[u8]) -> Option<&str> {
    // Without a branch per byte again. C1 is the one control character that is no ASCII: 0xC2 and a byte below 0xA0.
    let (mut control, mut before) = (false, 0);
    for &b in key {
        control |= (b < 0x20) | (b == 0x7f) | ((before == 0xc2) & (b < 0xa0));
        before = b;
    }
    if control || key.is_empty() {
        None
    } else {
        std::str::from_utf8(key).ok()
    }
}

/// Whether a byte is escaped wherever it stands.
fn is_escaped(byte: u8) -> bool {
    byte == b'/' || byte == b'%'
}

fn encode_text(out: &mut Vec<u8>, text: &str, at_root: bool) {
    let key = text.as_bytes();
    let head = escaped_head(key, at_root);
    let escapes = head + key.iter().filter(|&&b| is_escaped(b)).count();
    if key.len() + 2 * escapes <= MAX_NAME {
        out.reserve(key.len() + 2 * escapes);
        push_escaped(out, key, head);
        return;
    }
    // Too long: what still fits, in whole characters. (The escaped head is ASCII, and no part of it is escaped otherwise.)
    let (mut cut, mut len) = (0, 2 * head);
    for c in text.chars() {
        len += if c == '/' || c == '%' {
            3
        } else {
            c.len_utf8()
        };
        if len > MAX_CUT {
            break;
        }
        cut += c.len_utf8();
    }
    out.reserve(MAX_NAME);
    push_escaped(out, &key[..cut], head);
    push_hash(out, key);
}

/// Appends a text key as it is, but for its first `head` bytes and those that are escaped anywhere.
fn push_escaped(out: &mut Vec<u8>, key: &[u8], head: usize) {
    const UPPER: &[u8; 16] = b"0123456789ABCDEF";
    let escape = |b: u8| [b'%', UPPER[usize::from(b >> 4)], UPPER[usize::from(b & 15)]];
    let (head, mut rest) = key.split_at(head);
    for &b in head {
        out.extend_from_slice(&escape(b));
    }
    while let Some(at) = rest.iter().position(|&b| is_escaped(b)) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&escape(rest[at]));
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn encode_hex(out: &mut Vec<u8>, key: &[u8]) {
    let whole = HEX_PREFIX.len() + 2 * key.len() <= MAX_NAME;
    let shown = if whole {
        key
    } else {
        &key[..(HEX_CUT - HEX_PREFIX.len()) / 2]
    };
    out.reserve(HEX_PREFIX.len() + 2 * shown.len() + if whole { 0 } else { HASH_LEN });
    out.extend_from_slice(HEX_PREFIX);
    push_hex(out, shown);
    if !whole {
        push_hash(out, key);
    }
}

fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const LOWER: &[u8; 16] = b"0123456789abcdef";
    let start = out.len();
    out.resize(start + 2 * bytes.len(), 0);
    let (pairs, _) = out[start..].as_chunks_mut::<2>();
    for (pair, &b) in pairs.iter_mut().zip(bytes) {
        *pair = [LOWER[usize::from(b >> 4)], LOWER[usize::from(b & 15)]];
    }
}

fn push_hash(out: &mut Vec<u8>, key: &[u8]) {
    out.extend_from_slice(b"%~");
    push_hex(out, &fnv1a(key).to_be_bytes());
}

/// The shown part and the hash of a name of the form of a long key's.
fn split_hash(name: &[u8]) -> Option<(&[u8], u64)> {
    let (shown, tail) = name.split_at_checked(name.len().checked_sub(HASH_LEN)?)?;
    let hash = unhex(tail.strip_prefix(b"%~")?)?;
    Some((shown, u64::from_be_bytes(hash.try_into().ok()?)))
}

/// The bytes that the shown part of a long key's name stands for, if a long key can be shown so.
fn decode_prefix(shown: &[u8], at_root: bool) -> Option<Vec<u8>> {
    if let Some(digits) = shown.strip_prefix(HEX_PREFIX) {
        // Any bytes will do: what makes the key binary may lie behind the cut.
        return if shown.len() == HEX_CUT {
            unhex(digits)
        } else {
            None
        };
    }
    if !(MIN_TEXT_CUT..=MAX_CUT).contains(&shown.len()) {
        return None;
    }
    let prefix = unescape(shown)?;
    (encode(&prefix, at_root) == shown).then_some(prefix)
}

/// The bytes of lower-case hex digits.
fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_chunks::<2>();
    let digit = |d: u8| match d {
        b'0'..=b'9' => Some(d - b'0'),
        b'a'..=b'f' => Some(d - b'a' + 10),
        _ => None,
    };
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?))
        .collect()
}

/// Undoes every escape that can occur, wherever it stands; the caller proves the result by encoding it.
fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            key.push(*first);
            continue;
        }
        let (escape, after) = rest.split_first_chunk::<2>()?;
        rest = after;
        key.push(match escape {
            b"2F" => b'/',
            b"25" => b'%',
            b"2E" => b'.',
            b"30" => b'0',
            _ => return None,
        });
    }
    Some(key)
}

#[cfg(test)]
mod tests;
