//! What a saved content means: a row for each rule and for what lies next to it, and the laws over random contents.

use super::*;
use crate::view::testing::Rng;

const INDENTED: &[u8] = b"{\n  \"id\": 10501334649042878790,\n  \"isLearner\": true\n}\n";
const COMPACT: &[u8] = b"{\"id\":10501334649042878790,\"isLearner\":true}";
const SPACED: &[u8] = b"{\"id\": 10501334649042878790, \"isLearner\": true}";

#[test]
fn every_rule() {
    use Note::*;
    type Row = (&'static [u8], Option<&'static [u8]>, &'static [u8], Note);
    let table: &[Row] = &[
        // A new key.
        (b"", None, b"", AsWritten),
        (b"3.4.0\n", None, b"3.4.0\n", AsWritten),
        (b"\n", None, b"\n", AsWritten),
        (INDENTED, None, COMPACT, JsonCompacted),
        (COMPACT, None, COMPACT, AsWritten),
        (SPACED, None, SPACED, AsWritten),
        (b"{\"a\":1}\n", None, b"{\"a\":1}\n", AsWritten),
        (b"{\n  \"a\": 1\n}", None, b"{\n  \"a\": 1\n}", AsWritten),
        (
            b"{\n  \"a\": 1\n}\n\n",
            None,
            b"{\n  \"a\": 1\n}\n\n",
            AsWritten,
        ),
        (
            b"{\n    \"a\": 1\n}\n",
            None,
            b"{\n    \"a\": 1\n}\n",
            AsWritten,
        ),
        (
            b"{\n\t\"a\": 1\n}\n",
            None,
            b"{\n\t\"a\": 1\n}\n",
            AsWritten,
        ),
        (
            b"{\r\n  \"a\": 1\r\n}\r\n",
            None,
            b"{\r\n  \"a\": 1\r\n}\r\n",
            AsWritten,
        ),
        (b"{}\n", None, b"{}", JsonCompacted),
        (b"[]\n", None, b"[]", JsonCompacted),
        (b"[ ]\n", None, b"[ ]\n", AsWritten),
        (b"[\n]\n", None, b"[\n]\n", AsWritten),
        (b"7\n", None, b"7\n", AsWritten),
        (
            b"{\n  \"a\": 1,\n}\n",
            None,
            b"{\n  \"a\": 1,\n}\n",
            AsWritten,
        ),
        // A value that is shown indented.
        (INDENTED, Some(COMPACT), COMPACT, Unchanged),
        (COMPACT, Some(COMPACT), COMPACT, Unchanged),
        (SPACED, Some(COMPACT), COMPACT, Unchanged),
        (INDENTED, Some(SPACED), SPACED, Unchanged),
        (COMPACT, Some(SPACED), SPACED, Unchanged),
        (b"\t[ 1\r\n,2 ]", Some(b"[1, 2]\n"), b"[1, 2]\n", Unchanged),
        (
            b"[\n  1,\n  3\n]\n",
            Some(b"[1,2]"),
            b"[1,3]",
            JsonStyleKept,
        ),
        (
            b"[\n  1,\n  3\n]\n",
            Some(b"[1, 2]"),
            b"[1, 3]",
            JsonStyleKept,
        ),
        (
            b"[\n  1,\n  3\n]\n",
            Some(b"[1,2]\n"),
            b"[1,3]\n",
            JsonStyleKept,
        ),
        (
            b"[\n  1,\n  3\n]\n",
            Some(b"[1, 2]\n"),
            b"[1, 3]\n",
            JsonStyleKept,
        ),
        (b"[1,3]", Some(b"[1, 2]\n"), b"[1, 3]\n", JsonStyleKept),
        (b"[1, 3]\n", Some(b"{}"), b"[1,3]", JsonStyleKept),
        (b"{}", Some(COMPACT), b"{}", JsonStyleKept),
        (b"[1,3", Some(b"[1,2]"), b"[1,3", NoLongerJson),
        (b"[1,3]x\n", Some(b"[1,2]"), b"[1,3]x\n", NoLongerJson),
        (b"7\n", Some(b"[1,2]"), b"7\n", NoLongerJson),
        (b"text\n", Some(b"[1,2]"), b"text\n", NoLongerJson),
        (b"", Some(b"{}"), b"", NoLongerJson),
        (b"\xff", Some(b"{}\n"), b"\xff", NoLongerJson),
        // Text without a final newline.
        (b"3.4.0\n", Some(b"3.4.0"), b"3.4.0", Unchanged),
        (b"3.4.0", Some(b"3.4.0"), b"3.4.0", Unchanged),
        (b"3.5.0\n", Some(b"3.4.0"), b"3.5.0", NewlineLeftOff),
        (b"3.5.0", Some(b"3.4.0"), b"3.5.0", AsWritten),
        (b"3.5.0\n\n", Some(b"3.4.0"), b"3.5.0\n", NewlineLeftOff),
        (b"3.4.0\n\n", Some(b"3.4.0"), b"3.4.0\n", NewlineLeftOff),
        (b"\n", Some(b"3.4.0"), b"", NewlineLeftOff),
        (b"", Some(b"3.4.0"), b"", AsWritten),
        (b"a\nb\n", Some(b"a"), b"a\nb", NewlineLeftOff),
        (b"a\nb\n", Some(b"a\nc"), b"a\nb", NewlineLeftOff),
        (
            "né\n".as_bytes(),
            Some("é\t".as_bytes()),
            "né".as_bytes(),
            NewlineLeftOff,
        ),
        (b"42\n", Some(b"41"), b"42", NewlineLeftOff),
        (b"[\n  1\n]\n", Some(b"text"), b"[\n  1\n]", NewlineLeftOff),
        // Odd JSON is text like any other.
        (b"[ 1,2 ]\n", Some(b"[ 1,2 ]"), b"[ 1,2 ]", Unchanged),
        (b"[ 1,3 ]\n", Some(b"[ 1,2 ]"), b"[ 1,3 ]", NewlineLeftOff),
        // The empty value counts as such.
        (b"", Some(b""), b"", Unchanged),
        (b"\n", Some(b""), b"", Unchanged),
        (b"x\n", Some(b""), b"x", NewlineLeftOff),
        (b"x", Some(b""), b"x", AsWritten),
        // Carriage returns.
        (b"a\r\n", Some(b"a"), b"a", Unchanged),
        (b"b\r\n", Some(b"a"), b"b", NewlineLeftOff),
        (b"a\r\nc\r\n", Some(b"a\r\nb"), b"a\r\nc", NewlineLeftOff),
        (b"a\r\n", Some(b"a\r"), b"a\r", Unchanged),
        (b"b\r\n", Some(b"a\r"), b"b\r", NewlineLeftOff),
        (b"a\r", Some(b"a"), b"a\r", AsWritten),
        // Text that ends in a newline, and bytes that are not text.
        (b"b\n", Some(b"a\n"), b"b\n", AsWritten),
        (b"b", Some(b"a\n"), b"b", AsWritten),
        (b"a\n\n", Some(b"a\n"), b"a\n\n", AsWritten),
        (b"b\n", Some(b"a\0"), b"b\n", AsWritten),
        (b"b\n", Some(b"\xff"), b"b\n", AsWritten),
        (b"b\n", Some(b"\x1b[0m"), b"b\n", AsWritten),
        (b"b\n", Some(b"\x7f"), b"b\n", AsWritten),
        (b"b\n", Some("\u{85}".as_bytes()), b"b\n", AsWritten),
        (b"\0\n", Some(b"a"), b"\0\n", AsWritten),
        (b"\xff\n", Some(b"a"), b"\xff\n", AsWritten),
        (b"\x01\n", Some(b"\x01"), b"\x01\n", AsWritten),
    ];
    for &(content, previous, want, note) in table {
        let text = String::from_utf8_lossy;
        let row = format!("{:?} over {:?}", text(content), previous.map(text));
        let got = stored(content, previous, false);
        assert_eq!(
            (&*text(&got.bytes), got.note),
            (&*text(want), note),
            "{row}"
        );

        let raw = stored(content, previous, true);
        let unchanged = previous == Some(content);
        assert_eq!(&*raw.bytes, content, "{row}");
        assert_eq!(
            raw.note,
            if unchanged { Unchanged } else { AsWritten },
            "{row}"
        );
    }
}

#[test]
fn what_is_shown() {
    assert_eq!(*shown(COMPACT, false), *INDENTED);
    assert_eq!(*shown(SPACED, false), *INDENTED);
    assert_eq!(shown(COMPACT, true), Cow::Borrowed(COMPACT));
    assert_eq!(shown_len(COMPACT, false), INDENTED.len() as u64);
    assert_eq!(shown_len(COMPACT, true), COMPACT.len() as u64);
    for value in [
        &b""[..],
        b"text",
        b"7",
        b"null",
        b"\"a\"",
        b"\xff\0",
        b"{",
        b"[1, 2,3]",
    ] {
        assert!(matches!(shown(value, false), Cow::Borrowed(v) if v == value));
        assert_eq!(shown_len(value, false), value.len() as u64);
    }
}

#[test]
fn a_value_too_deep_is_no_json_to_us() {
    let deep = [
        vec![b'['; json::MAX_DEPTH + 1],
        vec![b']'; json::MAX_DEPTH + 1],
    ]
    .concat();
    assert!(*shown(&deep, false) == *deep);
    assert_eq!(stored(&deep, Some(b"[]"), false).note, Note::NoLongerJson);
    assert!(*stored(&deep, Some(b"[]"), false).bytes == *deep);
}

/// Values of every kind that there is a rule for.
fn random_value(rng: &mut Rng) -> Vec<u8> {
    let pieces: &[&[u8]] = &[
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"a\"",
        b"1",
        b"{}",
        b"[1,2]",
        b"{\"a\":[]}",
        b" ",
        b"  ",
        b"\n",
        b"\r\n",
        b"x",
        b"\0",
        b"\xff",
        "é".as_bytes(),
    ];
    (0..rng.below(6))
        .flat_map(|_| rng.pick(pieces).to_vec())
        .collect()
}

/// What must hold whatever is saved: what is read is saved unchanged, also with the newline an editor adds to text, and what is
/// stored differs from the content by white space alone.
#[test]
fn laws_on_random_values() {
    let mut rng = Rng::new(20);
    let mut notes = std::collections::HashMap::new();
    for _ in 0..200_000 {
        let (previous, content) = (random_value(&mut rng), random_value(&mut rng));
        let text = shown(&previous, false);
        assert_eq!(shown_len(&previous, false), text.len() as u64);
        for read in [&*text, &*previous] {
            let back = stored(read, Some(&previous), false);
            assert_eq!((&*back.bytes, back.note), (&*previous, Note::Unchanged));
        }
        if is_text(&previous) && !previous.ends_with(b"\n") {
            let with_newline = [&*previous, b"\n"].concat();
            assert_eq!(
                stored(&with_newline, Some(&previous), false).note,
                Note::Unchanged
            );
        }
        for before in [None, Some(&*previous)] {
            let got = stored(&content, before, false);
            *notes.entry(format!("{:?}", got.note)).or_insert(0) += 1;
            match got.note {
                Note::AsWritten | Note::NoLongerJson => assert_eq!(*got.bytes, *content),
                Note::Unchanged => assert_eq!(Some(&*got.bytes), before),
                Note::JsonCompacted => assert_eq!(*shown(&got.bytes, false), *content),
                Note::NewlineLeftOff => {
                    assert!(content.starts_with(&got.bytes) && content.len() - got.bytes.len() <= 2)
                }
                Note::JsonStyleKept => {
                    let style = |v: &[u8]| json::inspect(v).map(|shown| shown.style.newline);
                    assert_eq!(style(&got.bytes), before.and_then(style));
                    assert!(style(&got.bytes).is_some());
                }
            }
            // But for what is as it was, it can be made again from the content.
            let recipe = Recipe::of(&content, &got.bytes);
            assert!(recipe.is_some() || got.note == Note::Unchanged);
            for content in [Cow::Borrowed(&content[..]), Cow::Owned(content.clone())] {
                let again = recipe.map(|recipe| recipe.make(content).unwrap());
                assert!(again.is_none_or(|again| again == got.bytes));
            }
            // Saving it again changes nothing.
            assert_eq!(
                stored(&shown(&got.bytes, false), Some(&got.bytes), false).note,
                Note::Unchanged
            );
        }
    }
    assert_eq!(notes.len(), 6, "{notes:?}");
    assert!(notes.values().all(|&n| n > 50), "{notes:?}");
}
