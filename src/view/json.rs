//! JSON values as indented text, by moving white space only.
//!
//! A JSON object or array is *shown* if its white space is that of a known [style](Style): then it can be taken out for
//! showing and put back for storing. What is shown is what `jq .` prints, two spaces a level and a final newline, but
//! numbers, escapes, the order of members and members that occur twice stay exactly as they are, since their bytes are copied. For every `v`
//!
//! ```text
//! render(v) gives text and style  =>  collapse(text, style) == v
//! ```
//!
//! What counts as JSON is RFC 8259, strictly: no byte order mark, no comment, no trailing comma, valid UTF-8, no raw
//! control character in a string. (It allows an escape of half a surrogate pair, `"\ud800"`, and so do we.)
//!
//! One walk does everything. It goes over the tokens with a bit a level for its memory, and calls a [`Sink`]
//! at each [`Slot`] between two tokens: measuring adds up what goes there, rewriting puts it there.

/// Deeper nesting is not shown, nor [collapsed](collapse): indentation takes room in the square of the depth, and hardly a reader takes
/// more (jq 1.6 stops at 256, Python at about 1,000).
pub const MAX_DEPTH: usize = 512;

/// A longer value, in bytes, is shown as it is stored: nobody reads it, and every `stat` would have to walk it.
pub const MAX_VALUE: usize = 32 << 20;

/// A value whose shown text would be longer, in bytes, is shown as it is stored: indentation can make a thousand bytes of one, and
/// 32 MiB of hostile value must not become 32 GiB of text.
pub const MAX_SHOWN: u64 = 128 << 20;

/// What stands behind the commas and colons of a stored value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Separators {
    /// Nothing, as Go writes it (`{"a":[1,2]}`).
    Compact,
    /// One space, as Python writes it (`{"a": [1, 2]}`).
    Spaced,
}

/// The white space of a stored value: enough to restore it from its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Behind each comma and colon. A value that has neither is [`Separators::Compact`].
    pub separators: Separators,
    /// Whether a line feed ends the value. There is no other white space.
    pub newline: bool,
}

/// What is known about a value that is shown indented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// How it is stored.
    pub style: Style,
    /// The length of the shown text in bytes, at most [`MAX_SHOWN`].
    pub len: u64,
}

/// Whether `value` is shown indented, and how long that text is; `None` if it is shown as it is stored.
///
/// Allocates nothing, and stops at the first byte that settles it: for anything but JSON mostly the first of all.
pub fn inspect(value: &[u8]) -> Option<Shown> {
    let mut measure = Measure { len: value.len() };
    let style = walk_stored(value, &mut measure)?;
    let len = (measure.len + usize::from(!style.newline)) as u64;
    (len <= MAX_SHOWN).then_some(Shown { style, len })
}

/// Appends the shown text of `value` to `out`; `None`, with `out` as it was, if it is shown as it is stored.
pub fn render(value: &[u8], out: &mut Vec<u8>) -> Option<Shown> {
    let start = out.len();
    if let Some(b'{' | b'[') = value.first() {
        // A guess that mostly does: growing by steps costs as much as all the rest.
        out.reserve(value.len().min(MAX_VALUE) * 2);
    }
    let mut rewrite = Rewrite {
        text: value,
        out,
        copied: 0,
        limit: MAX_SHOWN as usize + start,
        white: indented,
    };
    let shown = walk_stored(value, &mut rewrite).and_then(|style| {
        // A final newline, if there is one, is the last byte of the value and copied with it.
        rewrite.finish(value.len(), if style.newline { b"" } else { b"\n" })?;
        Some(Shown {
            style,
            len: (rewrite.out.len() - start) as u64,
        })
    });
    if shown.is_none() {
        out.truncate(start);
    }
    shown
}

/// The value of `style` that has the tokens of `text`, a JSON object or array with white space of any kind.
///
/// `None` if `text` is anything else, or nested deeper than [`MAX_DEPTH`].
pub fn collapse(text: &[u8], style: Style) -> Option<Vec<u8>> {
    match style.separators {
        Separators::Compact => rewrite_loose(text, style.newline, |_| b""),
        Separators::Spaced => rewrite_loose(text, style.newline, |slot| match slot {
            Slot::Comma(_) | Slot::Colon => b" ",
            Slot::Edge(_) | Slot::Tight => b"",
        }),
    }
}

/// A place between two tokens, by what it is when shown. The number is the depth of what follows.
#[derive(Clone, Copy)]
enum Slot {
    /// Behind an opening bracket, or before a closing one: a line break.
    Edge(usize),
    /// Behind a comma: a line break.
    Comma(usize),
    /// Behind a colon: a space.
    Colon,
    /// Any other, among them the one between two brackets with nothing in between: nothing.
    Tight,
}

/// What a [`walk`] is for.
trait Sink {
    /// A slot, with white space of the text from `end` (of the token before) to `next` (the token behind).
    /// `None` ends the walk.
    fn slot(&mut self, end: usize, next: usize, slot: Slot) -> Option<()>;
}

/// A line feed, and the indentation of the deepest level.
static BREAK: [u8; 1 + 2 * MAX_DEPTH] = {
    let mut bytes = [b' '; 1 + 2 * MAX_DEPTH];
    bytes[0] = b'\n';
    bytes
};

/// What a slot holds in a shown text.
fn indented(slot: Slot) -> &'static [u8] {
    match slot {
        Slot::Edge(depth) | Slot::Comma(depth) => &BREAK[..1 + 2 * depth.min(MAX_DEPTH)],
        Slot::Colon => b" ",
        Slot::Tight => b"",
    }
}

/// Adds up the length of the shown text.
struct Measure {
    /// The length of the text, with the slots so far as they are shown.
    len: usize,
}

impl Sink for Measure {
    #[inline(always)]
    fn slot(&mut self, end: usize, next: usize, slot: Slot) -> Option<()> {
        // Up to MAX_VALUE bytes and slots of up to BREAK.len() each: far from any overflow.
        self.len += match slot {
            Slot::Edge(depth) | Slot::Comma(depth) => 1 + 2 * depth,
            Slot::Colon => 1,
            Slot::Tight => 0,
        };
        self.len -= next - end;
        Some(())
    }
}

/// Copies the text with other white space.
struct Rewrite<'t, 'o, W> {
    text: &'t [u8],
    out: &'o mut Vec<u8>,
    /// How much of the text has been copied, or left out.
    copied: usize,
    /// `out` must not grow longer than this.
    limit: usize,
    /// What to put into a slot.
    white: W,
}

impl<W: Fn(Slot) -> &'static [u8]> Rewrite<'_, '_, W> {
    /// Copies the text up to `end`, and puts `white` behind it.
    #[inline(always)]
    fn finish(&mut self, end: usize, white: &[u8]) -> Option<()> {
        self.out.extend_from_slice(self.text.get(self.copied..end)?);
        self.out.extend_from_slice(white);
        (self.out.len() <= self.limit).then_some(())
    }
}

impl<W: Fn(Slot) -> &'static [u8]> Sink for Rewrite<'_, '_, W> {
    #[inline(always)]
    fn slot(&mut self, end: usize, next: usize, slot: Slot) -> Option<()> {
        let white = (self.white)(slot);
        if !white.is_empty() || end != next {
            self.finish(end, white)?;
            self.copied = next;
        }
        Some(())
    }
}

fn rewrite_loose(
    text: &[u8],
    newline: bool,
    white: impl Fn(Slot) -> &'static [u8],
) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rewrite = Rewrite {
        text,
        out: &mut out,
        copied: 0,
        limit: usize::MAX,
        white,
    };
    let end = walk::<true, _>(text, &mut rewrite)?.end;
    if skip_white(text, end) != text.len() {
        return None;
    }
    rewrite.finish(end, if newline { b"\n" } else { b"" })?;
    Some(out)
}

/// Walks a value as it is stored; its style, if it has one.
fn walk_stored(value: &[u8], sink: &mut impl Sink) -> Option<Style> {
    if value.len() > MAX_VALUE {
        return None;
    }
    let Walked {
        end,
        separators,
        spaces,
    } = walk::<false, _>(value, sink)?;
    let newline = match value.get(end..)? {
        b"" => false,
        b"\n" => true,
        _ => return None,
    };
    let separators = match spaces {
        0 => Separators::Compact,
        _ if spaces == separators => Separators::Spaced,
        _ => return None,
    };
    Some(Style {
        separators,
        newline,
    })
}

/// What a walk has found.
struct Walked {
    /// Where the last token ends. What follows has not been looked at.
    end: usize,
    /// How many commas and colons there are.
    separators: usize,
    /// How many of them have white space behind them.
    spaces: usize,
}

/// Goes over the tokens of an object or array, proving that it is one.
///
/// If `LOOSE`, white space may be anywhere; else only a single space behind a comma or colon.
fn walk<const LOOSE: bool, S: Sink>(text: &[u8], sink: &mut S) -> Option<Walked> {
    let mut walker = Walker::<LOOSE, S> {
        text,
        sink,
        open: Nesting::default(),
        separators: 0,
        spaces: 0,
        wide: 0,
    };
    let end = walker.document()?;
    let Walker {
        separators,
        spaces,
        wide,
        ..
    } = walker;
    // Everything outside of strings is ASCII by now, and no byte of a longer character looks like a quote.
    if wide & HIGH != 0 && std::str::from_utf8(text).is_err() {
        return None;
    }
    Some(Walked {
        end,
        separators,
        spaces,
    })
}

struct Walker<'t, 's, const LOOSE: bool, S> {
    text: &'t [u8],
    sink: &'s mut S,
    open: Nesting,
    separators: usize,
    spaces: usize,
    /// All bytes of strings or-ed together, in each of eight places: the top bits say whether they are ASCII.
    wide: u64,
}

impl<const LOOSE: bool, S: Sink> Walker<'_, '_, LOOSE, S> {
    /// The whole object or array; where it ends.
    fn document(&mut self) -> Option<usize> {
        let text = self.text;
        let mut at = self.tight(0)?;
        if !matches!(text.get(at), Some(b'{' | b'[')) {
            return None;
        }
        // A value starts here, or there is an error.
        'value: loop {
            match *text.get(at)? {
                bracket @ (b'{' | b'[') => {
                    if self.open.depth == MAX_DEPTH {
                        return None;
                    }
                    let end = at + 1;
                    at = self.skip(end);
                    // Both closing brackets come two places behind their opening ones.
                    if *text.get(at)? == bracket + 2 {
                        self.sink.slot(end, at, Slot::Tight)?;
                        at += 1;
                    } else {
                        let object = bracket == b'{';
                        self.open.push(object)?;
                        self.sink.slot(end, at, Slot::Edge(self.open.depth))?;
                        if object {
                            at = self.member_name(at)?;
                        }
                        continue 'value;
                    }
                }
                b'"' => at = self.string(at + 1)?,
                b'-' | b'0'..=b'9' => at = number(text, at)?,
                b't' => at = literal(text, at, b"true")?,
                b'f' => at = literal(text, at, b"false")?,
                b'n' => at = literal(text, at, b"null")?,
                _ => return None,
            }
            // A value has ended: go on to the next one, or close what it is the last of.
            while self.open.depth > 0 {
                let end = at;
                at = self.skip(end);
                match *text.get(at)? {
                    b',' => {
                        if LOOSE {
                            self.sink.slot(end, at, Slot::Tight)?;
                        }
                        at = self.separator(at + 1, Slot::Comma(self.open.depth))?;
                        if self.open.object {
                            at = self.member_name(at)?;
                        }
                        continue 'value;
                    }
                    bracket @ (b'}' | b']') if (bracket == b'}') == self.open.object => {
                        self.open.pop();
                        self.sink.slot(end, at, Slot::Edge(self.open.depth))?;
                        at += 1;
                    }
                    _ => return None,
                }
            }
            return Some(at);
        }
    }

    /// The name of a member, and the colon behind it; where its value starts.
    #[inline(always)]
    fn member_name(&mut self, at: usize) -> Option<usize> {
        if *self.text.get(at)? != b'"' {
            return None;
        }
        let end = self.string(at + 1)?;
        let at = self.tight(end)?;
        if *self.text.get(at)? != b':' {
            return None;
        }
        self.separator(at + 1, Slot::Colon)
    }

    /// What is behind a comma or colon; where the next token starts.
    #[inline(always)]
    fn separator(&mut self, end: usize, slot: Slot) -> Option<usize> {
        let next = if LOOSE {
            self.skip(end)
        } else {
            end + usize::from(self.text.get(end) == Some(&b' '))
        };
        self.separators += 1;
        self.spaces += usize::from(next != end);
        self.sink.slot(end, next, slot)?;
        Some(next)
    }

    /// A slot that is empty when shown; where the next token starts.
    #[inline(always)]
    fn tight(&mut self, end: usize) -> Option<usize> {
        let next = self.skip(end);
        if LOOSE {
            self.sink.slot(end, next, Slot::Tight)?;
        }
        Some(next)
    }

    #[inline(always)]
    fn skip(&self, at: usize) -> usize {
        if LOOSE { skip_white(self.text, at) } else { at }
    }

    /// A string from behind its opening quote; where it ends, behind the closing one.
    #[inline(always)]
    fn string(&mut self, mut at: usize) -> Option<usize> {
        let text = self.text;
        loop {
            while let Some(eight) = text.get(at..).and_then(|rest| rest.first_chunk()) {
                let eight = u64::from_le_bytes(*eight);
                self.wide |= eight;
                let ends = string_ends(eight);
                if ends != 0 {
                    at += ends.trailing_zeros() as usize / 8;
                    break;
                }
                at += 8;
            }
            match *text.get(at)? {
                b'"' => return Some(at + 1),
                b'\\' => at = escape(text, at + 1)?,
                0..0x20 => return None,
                byte => {
                    self.wide |= u64::from(byte);
                    at += 1;
                }
            }
        }
    }
}

const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

/// Finds quotes, backslashes and control characters in eight bytes at once.
///
/// The lowest top bit that is set is that of the first such byte. (Bits above it may be wrong: the subtractions borrow.)
#[inline(always)]
const fn string_ends(eight: u64) -> u64 {
    let quote = (eight ^ (LOW * b'"' as u64)).wrapping_sub(LOW);
    let backslash = (eight ^ (LOW * b'\\' as u64)).wrapping_sub(LOW);
    let control = eight.wrapping_sub(LOW * 0x20);
    (quote | backslash | control) & !eight & HIGH
}

/// The rest of an escape, from behind the backslash.
fn escape(text: &[u8], at: usize) -> Option<usize> {
    match *text.get(at)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 1),
        b'u' => {
            let digits = text.get(at + 1..at + 5)?;
            digits.iter().all(u8::is_ascii_hexdigit).then_some(at + 5)
        }
        _ => None,
    }
}

#[inline(always)]
fn number(text: &[u8], mut at: usize) -> Option<usize> {
    if *text.get(at)? == b'-' {
        at += 1;
    }
    at = if *text.get(at)? == b'0' {
        at + 1
    } else {
        digits(text, at)?
    };
    if text.get(at) == Some(&b'.') {
        at = digits(text, at + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = text.get(at) {
            at += 1;
        }
        at = digits(text, at)?;
    }
    Some(at)
}

/// One digit or more.
#[inline(always)]
fn digits(text: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    while text.get(end).is_some_and(u8::is_ascii_digit) {
        end += 1;
    }
    (end > at).then_some(end)
}

#[inline(always)]
fn literal(text: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    text.get(at..)?.starts_with(word).then_some(at + word.len())
}

#[inline(always)]
fn skip_white(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\t' | b'\r') = text.get(at) {
        at += 1;
    }
    at
}

/// The brackets that are open, a bit each.
#[derive(Default)]
struct Nesting {
    /// Whether the one at each depth, from 0, is an object's, for all but the innermost.
    outer: [u64; MAX_DEPTH / 64],
    /// How many are open.
    depth: usize,
    /// Whether the innermost is an object's.
    object: bool,
}

impl Nesting {
    #[inline(always)]
    fn push(&mut self, object: bool) -> Option<()> {
        let word = self.outer.get_mut(self.depth / 64)?;
        let bit = 1 << (self.depth % 64);
        *word = if self.object {
            *word | bit
        } else {
            *word & !bit
        };
        self.object = object;
        self.depth += 1;
        Some(())
    }

    /// Must follow a push of its own.
    #[inline(always)]
    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.object = self
            .outer
            .get(self.depth / 64)
            .is_some_and(|word| word >> (self.depth % 64) & 1 == 1);
    }
}

#[cfg(test)]
mod tests;
