//! Long JSON values as they are shown, kept while somebody reads them piece by piece.

use crate::view::text;
use parking_lot::Mutex;
use std::borrow::Cow;
use std::sync::Arc;

/// Values up to this length are shown anew for each read: it costs less than looking them up, even where deep nesting
/// makes 2 MiB of text of one.
const SMALL: usize = 4 << 10;
/// Texts up to this length are not kept: they are read in one or two pieces.
const SHORT: usize = 64 << 10;
/// Most bytes of shown text that are kept.
const KEPT: usize = 16 << 20;

/// The long values that were shown last.
#[derive(Default)]
pub struct ShownCache {
    /// Latest last.
    texts: Mutex<Vec<(ValueId, Arc<[u8]>)>>,
}

/// Where a value lies in memory, and its length: the map never moves.
type ValueId = (usize, usize);

fn id(value: &[u8]) -> ValueId {
    (value.as_ptr() as usize, value.len())
}

impl ShownCache {
    /// Length of `value` as it is shown.
    pub fn len(&self, value: &[u8], raw: bool) -> u64 {
        if value.len() > SMALL
            && let Some(text) = self.get(value)
        {
            return text.len() as u64;
        }
        text::shown_len(value, raw)
    }

    /// Hands the bytes `[offset, offset + size)` of `value`, as it is shown, to `reply`.
    pub fn read<T>(
        &self,
        value: &[u8],
        raw: bool,
        offset: u64,
        size: usize,
        reply: impl FnOnce(&[u8]) -> T,
    ) -> T {
        if value.len() > SMALL
            && let Some(text) = self.get(value)
        {
            return reply(cut(&text, offset, size));
        }
        match text::shown(value, raw) {
            Cow::Borrowed(bytes) => reply(cut(bytes, offset, size)),
            Cow::Owned(text) => {
                let answer = reply(cut(&text, offset, size));
                if value.len() > SMALL && text.len() > SHORT {
                    self.put(value, text.into());
                }
                answer
            }
        }
    }

    fn get(&self, value: &[u8]) -> Option<Arc<[u8]>> {
        let key = id(value);
        let texts = self.texts.lock();
        texts
            .iter()
            .rev()
            .find(|(k, _)| *k == key)
            .map(|(_, text)| text.clone())
    }

    fn put(&self, value: &[u8], text: Arc<[u8]>) {
        let key = id(value);
        let mut texts = self.texts.lock();
        texts.retain(|(k, _)| *k != key);
        texts.push((key, text));
        // The latest stays whatever its length, or reading it in pieces would be quadratic.
        let mut kept: usize = texts.iter().map(|(_, text)| text.len()).sum();
        while kept > KEPT && texts.len() > 1 {
            kept -= texts.remove(0).1.len();
        }
    }
}

/// The part of `bytes` that a read of `size` at `offset` answers.
pub fn cut(bytes: &[u8], offset: u64, size: usize) -> &[u8] {
    let start = usize::try_from(offset)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    let end = start.saturating_add(size).min(bytes.len());
    &bytes[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_shown_once_for_all_its_pieces() {
        let value = format!("[{}1]", "1,".repeat(SHORT)).into_bytes();
        let whole = text::shown(&value, false).into_owned();
        assert!(whole.len() > value.len());
        let cache = ShownCache::default();
        let mut pieces = Vec::new();
        let mut first = None;
        for offset in (0..whole.len()).step_by(SHORT / 2) {
            cache.read(&value, false, offset as u64, SHORT / 2, |bytes| {
                pieces.extend_from_slice(bytes);
                if offset > 0 {
                    // Where the text starts in memory: it stays the same one.
                    let start = bytes.as_ptr() as usize - offset;
                    assert_eq!(*first.get_or_insert(start), start);
                }
            });
        }
        assert!(pieces == whole);
        assert_eq!(cache.len(&value, false), whole.len() as u64);
    }

    #[test]
    fn a_text_is_kept_by_its_own_length() {
        let cache = ShownCache::default();
        // Deep inside brackets each short line is indented far.
        let deep = |lines: usize| {
            let lines = vec!["1"; lines].join(",");
            format!("{0}{lines}{1}", "[".repeat(400), "]".repeat(400)).into_bytes()
        };
        let (long, short) = (deep(5000), vec![b'['; 60_000]);
        for (value, kept) in [(&long, true), (&short, false)] {
            let len = text::shown_len(value, false);
            assert_eq!(len > SHORT as u64, kept);
            assert_eq!(cache.read(value, false, 0, 10, <[u8]>::len), 10);
            assert_eq!(
                cache.get(value).map(|text| text.len() as u64),
                kept.then_some(len)
            );
            assert_eq!(cache.len(value, false), len);
            let end = cache.read(value, false, len - 3, 10, <[u8]>::len);
            assert_eq!(end, 3);
        }
    }
}
