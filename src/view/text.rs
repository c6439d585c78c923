//! What is shown of a value, and what a saved content means for the value it replaces.
//!
//! What is shown is text wherever the value can be restored from it byte for byte: a JSON object or array
//! [in a known style](json) is shown indented, anything else as it is stored.
//!
//! A saved content is taken for the next value of its key by these rules, of which the first that fits counts:
//!
//! | the key's value before | the content | stored | [`Note`] |
//! | --- | --- | --- | --- |
//! | any | equal to it | as before | `Unchanged` |
//! | any, with `raw` | other | the content | `AsWritten` |
//! | none: a new key | exactly what is shown of a compact JSON value | that value | `JsonCompacted` |
//! | none: a new key | other | the content | `AsWritten` |
//! | JSON that is shown indented | the same JSON but for white space | as before | `Unchanged` |
//! | JSON that is shown indented | other JSON | in the style of the value before | `JsonStyleKept` |
//! | JSON that is shown indented | not a JSON object or array | the content | `NoLongerJson` |
//! | text without a final newline | that text and a newline | as before | `Unchanged` |
//! | text without a final newline | other text with a final newline | without that newline | `NewlineLeftOff` |
//! | other | other | the content | `AsWritten` |
//!
//! *Text* is valid UTF-8 without control characters other than tab, line feed and carriage return; the empty value is text without a
//! final newline. A newline that is left off is the last one alone, and it is the line feed together with a carriage return before it: an
//! editor that ends lines so put both there, and a lone carriage return would be nobody's wish. (If the value
//! before ended in a carriage return itself, only the line feed goes.)

use std::borrow::Cow;

use super::json;

/// What becomes of a saved content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<'a> {
    /// The value to store: the bytes of the value before if [`Note::Unchanged`].
    pub bytes: Cow<'a, [u8]>,
    /// How it came from the content.
    pub note: Note,
}

/// How a value to store came from a saved content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// It is the content.
    AsWritten,
    /// The content means the value that is there already: nothing is to be stored.
    Unchanged,
    /// The content is JSON; its white space is now as it was in the value before.
    JsonStyleKept,
    /// A new key with JSON as it is shown: stored compact.
    JsonCompacted,
    /// It is the content, which is not a JSON object or array (or is nested deeper than [`json::MAX_DEPTH`]), where the value before was one.
    NoLongerJson,
    /// It is the content without the newline at its end, which the value before had not either.
    NewlineLeftOff,
}

/// The value to store for a key whose value was `previous` (`None` for a new key) and whose file now holds `content`.
///
/// See the module for the rules. With `raw` nothing is translated.
pub fn stored<'a>(content: &'a [u8], previous: Option<&'a [u8]>, raw: bool) -> Stored<'a> {
    let as_written = |note| Stored {
        bytes: Cow::Borrowed(content),
        note,
    };
    let Some(previous) = previous else {
        return match compacted(content) {
            Some(value) if !raw => Stored {
                bytes: Cow::Owned(value),
                note: Note::JsonCompacted,
            },
            _ => as_written(Note::AsWritten),
        };
    };
    let unchanged = Stored {
        bytes: Cow::Borrowed(previous),
        note: Note::Unchanged,
    };
    if content == previous {
        return unchanged;
    }
    if raw {
        return as_written(Note::AsWritten);
    }
    if let Some(shown) = json::inspect(previous) {
        // This also recognizes what is shown of the value before: it collapses to that value.
        return match json::collapse(content, shown.style) {
            Some(value) if value == previous => unchanged,
            Some(value) => Stored {
                bytes: Cow::Owned(value),
                note: Note::JsonStyleKept,
            },
            None => as_written(Note::NoLongerJson),
        };
    }
    match without_newline(content, previous) {
        Some(value) if value == previous => unchanged,
        Some(value) => Stored {
            bytes: Cow::Borrowed(value),
            note: Note::NewlineLeftOff,
        },
        None => as_written(Note::AsWritten),
    }
}

/// As [`stored`], of bytes that were read for it alone, perhaps: what is stored of them is not copied.
pub fn stored_of<'a>(
    content: Cow<'a, [u8]>,
    previous: Option<Cow<'a, [u8]>>,
    raw: bool,
) -> Stored<'a> {
    let Stored { bytes, note } = stored(&content, previous.as_deref(), raw);
    let len = bytes.len();
    let made = match bytes {
        Cow::Owned(made) => Some(made),
        Cow::Borrowed(_) => None,
    };
    let bytes = match (made, previous) {
        (Some(made), _) => Cow::Owned(made),
        (None, Some(previous)) if note == Note::Unchanged => previous,
        (None, _) => match content {
            Cow::Borrowed(content) => Cow::Borrowed(content.get(..len).unwrap_or(content)),
            Cow::Owned(mut content) => {
                content.truncate(len);
                Cow::Owned(content)
            }
        },
    };
    Stored { bytes, note }
}

/// How a stored value comes from its content, where neither is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipe {
    /// The first so many bytes of it: a newline is left off.
    Cut(usize),
    /// Its tokens in this style.
    Style(json::Style),
}

impl Recipe {
    /// That by which `stored` comes from `content`, if there is one. There is none of a value that was not
    /// made from this content, and of JSON that is too long to be shown indented.
    pub fn of(content: &[u8], stored: &[u8]) -> Option<Recipe> {
        if content.starts_with(stored) {
            return Some(Recipe::Cut(stored.len()));
        }
        let style = json::inspect(stored)?.style;
        let made = json::collapse(content, style)?;
        (made == stored).then_some(Recipe::Style(style))
    }

    /// The stored value again; `None` for another content than it is the recipe [of](Self::of).
    pub fn make(self, mut content: Cow<'_, [u8]>) -> Option<Cow<'_, [u8]>> {
        match self {
            Recipe::Style(style) => json::collapse(&content, style).map(Cow::Owned),
            Recipe::Cut(len) => {
                match &mut content {
                    Cow::Borrowed(bytes) => *bytes = bytes.get(..len)?,
                    Cow::Owned(bytes) if len > bytes.len() => return None,
                    Cow::Owned(bytes) => bytes.truncate(len),
                }
                Some(content)
            }
        }
    }
}

/// The length in bytes of what is shown of `value`. Allocates nothing.
pub fn shown_len(value: &[u8], raw: bool) -> u64 {
    match json::inspect(value) {
        Some(shown) if !raw => shown.len,
        _ => value.len() as u64,
    }
}

/// What is shown of `value`: borrowed if that is the value itself.
pub fn shown(value: &[u8], raw: bool) -> Cow<'_, [u8]> {
    let mut text = Vec::new();
    match raw {
        false if json::render(value, &mut text).is_some() => Cow::Owned(text),
        _ => Cow::Borrowed(value),
    }
}

/// The compact JSON value that `content` is the shown text of.
fn compacted(content: &[u8]) -> Option<Vec<u8>> {
    // Spares other large files the walk.
    if !matches!(content, [b'{' | b'[', .., b'\n']) {
        return None;
    }
    let style = json::Style {
        separators: json::Separators::Compact,
        newline: false,
    };
    let value = json::collapse(content, style)?;
    (*shown(&value, false) == *content).then_some(value)
}

/// `content` without its final newline, if that is to be left off.
fn without_newline<'a>(content: &'a [u8], previous: &[u8]) -> Option<&'a [u8]> {
    let rest = content.strip_suffix(b"\n")?;
    if previous.ends_with(b"\n") || !is_text(previous) || !is_text(rest) {
        return None;
    }
    match rest.strip_suffix(b"\r") {
        Some(line) if !previous.ends_with(b"\r") => Some(line),
        _ => Some(rest),
    }
}

/// Whether an editor can be trusted to bring these bytes back.
fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| {
        !text
            .chars()
            .any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r'))
    })
}

#[cfg(test)]
mod tests;
