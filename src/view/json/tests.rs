//! JSON: what jq prints, every style, every near miss, and the law over random documents against serde_json.

use super::*;
use crate::view::testing::Rng;

const COMPACT: Style = Style {
    separators: Separators::Compact,
    newline: false,
};
const SPACED: Style = Style {
    separators: Separators::Spaced,
    newline: false,
};
const STYLES: [Style; 4] = [
    COMPACT,
    Style {
        newline: true,
        ..COMPACT
    },
    SPACED,
    Style {
        newline: true,
        ..SPACED
    },
];

/// What is shown of a value, having checked all that must hold of it.
fn show(value: &[u8]) -> Option<(Vec<u8>, Style)> {
    let inspected = inspect(value);
    let mut out = b"before".to_vec();
    let rendered = render(value, &mut out);
    assert_eq!(inspected, rendered);
    let text = out.strip_prefix(b"before").expect("what was there stays");
    let Some(shown) = rendered else {
        assert!(text.is_empty());
        return None;
    };
    assert_eq!(shown.len, text.len() as u64);
    assert!(
        collapse(text, shown.style).as_deref() == Some(value),
        "the law"
    );
    Some((text.to_vec(), shown.style))
}

/// Compact values and what `jq .` (1.6) prints of them.
#[test]
fn looks_like_jq() {
    let table: &[(&str, &str)] = &[
        (r#"{}"#, "{}\n"),
        (r#"[]"#, "[]\n"),
        (r#"[1]"#, "[\n  1\n]\n"),
        (r#"{"a":1}"#, "{\n  \"a\": 1\n}\n"),
        (r#"[[]]"#, "[\n  []\n]\n"),
        (r#"[{}]"#, "[\n  {}\n]\n"),
        (r#"{"a":{}}"#, "{\n  \"a\": {}\n}\n"),
        (r#"{"a":[],"b":{}}"#, "{\n  \"a\": [],\n  \"b\": {}\n}\n"),
        (
            r#"[[],[[]],{"a":[{}]}]"#,
            "[\n  [],\n  [\n    []\n  ],\n  {\n    \"a\": [\n      {}\n    ]\n  }\n]\n",
        ),
        (
            r#"{"id":7,"peerURLs":["http://10.0.0.1:2380"],"name":"etcd-1","isLearner":true}"#,
            "{\n  \"id\": 7,\n  \"peerURLs\": [\n    \"http://10.0.0.1:2380\"\n  ],\n  \"name\": \"etcd-1\",\n  \"isLearner\": true\n}\n",
        ),
        (
            r#"[true,false,null,-1,0,1.5,"x"]"#,
            "[\n  true,\n  false,\n  null,\n  -1,\n  0,\n  1.5,\n  \"x\"\n]\n",
        ),
        (
            r#"{"a b":" {[,:]} ","":""}"#,
            "{\n  \"a b\": \" {[,:]} \",\n  \"\": \"\"\n}\n",
        ),
        (
            r#"["\"\\\n\t","日本 💩"]"#,
            "[\n  \"\\\"\\\\\\n\\t\",\n  \"日本 💩\"\n]\n",
        ),
        (
            r#"{"a":[1,[2,{"b":[3,4]}],5],"c":{"d":{"e":null}}}"#,
            "{\n  \"a\": [\n    1,\n    [\n      2,\n      {\n        \"b\": [\n          3,\n          4\n        ]\n      }\n    ],\n    5\n  ],\n  \"c\": {\n    \"d\": {\n      \"e\": null\n    }\n  }\n}\n",
        ),
    ];
    for (value, want) in table {
        let (text, style) = show(value.as_bytes()).expect(value);
        assert_eq!(
            (String::from_utf8(text).as_deref(), style),
            (Ok(*want), COMPACT)
        );
        for style in STYLES {
            let stored = collapse(want.as_bytes(), style).expect("valid");
            let (text, _) = show(&stored).expect(value);
            assert_eq!(text, want.as_bytes());
            assert_eq!(stored.ends_with(b"\n"), style.newline);
        }
    }
}

#[test]
fn styles() {
    let table: &[(&str, Option<Style>)] = &[
        (r#"{"a":1,"b":[2,3]}"#, Some(STYLES[0])),
        ("{\"a\":1,\"b\":[2,3]}\n", Some(STYLES[1])),
        (r#"{"a": 1, "b": [2, 3]}"#, Some(STYLES[2])),
        ("{\"a\": 1, \"b\": [2, 3]}\n", Some(STYLES[3])),
        (r#"{"a": 1}"#, Some(SPACED)),
        (r#"[1, 2]"#, Some(SPACED)),
        // Nothing tells the styles apart.
        ("{}", Some(STYLES[0])),
        ("[]\n", Some(STYLES[1])),
        ("[1]", Some(STYLES[0])),
        ("[[{}]]\n", Some(STYLES[1])),
        // White space of no known style.
        (r#"{"a":1, "b":2}"#, None),
        (r#"{"a": 1,"b": 2}"#, None),
        (r#"{"a": 1, "b":2}"#, None),
        (r#"{"a":1,"b": 2}"#, None),
        (r#"{"a" : 1}"#, None),
        (r#"{"a":  1}"#, None),
        ("{\"a\":\t1}", None),
        ("[1,\n2]", None),
        ("[ 1]", None),
        ("[1 ]", None),
        ("[1 ,2]", None),
        ("[ ]", None),
        ("{ }", None),
        (" []", None),
        ("\n[]", None),
        ("[] ", None),
        ("[]\n\n", None),
        ("[]\r\n", None),
        ("[]\r", None),
        ("{\n  \"a\": 1\n}\n", None),
        ("{\n  \"a\": 1\n}", None),
    ];
    for (value, want) in table {
        assert_eq!(
            show(value.as_bytes()).map(|(_, style)| style),
            *want,
            "{value:?}"
        );
        let compact = collapse(value.as_bytes(), COMPACT).expect("all of these are JSON");
        assert!(show(&compact).is_some_and(|(_, style)| style == COMPACT));
    }
}

/// Things that a reader who parses and prints again would change.
#[test]
fn tokens_stay_as_they_are() {
    for value in [
        r#"{"id":10501334649042878790,"n":123456789012345678901234567890}"#,
        r#"[1e999,-1E-400,1.0,1.10,-0,-0.0,0e0,1E+2,1e-2,0.10e+01]"#,
        r#"{"a":1,"a":2,"a":1}"#,
        r#"{"b":1,"a":2,"2":3,"10":4}"#,
        r#"["\u0041\u00e9\/\u003c\u0026","\ud83d\udca9","\uD83D\uDCA9"]"#,
        r#"["\ud800","\udc00\ud800","\u0000"]"#,
        "[\"\u{7f}\u{85}\u{2028}\u{feff}\u{ffff}\u{10ffff}\"]",
        r#"{"":{"":[""]}}"#,
    ] {
        let (text, _) = show(value.as_bytes()).expect(value);
        let tokens = |bytes: &[u8]| -> Vec<u8> {
            bytes
                .iter()
                .copied()
                .filter(|b| !b" \n".contains(b))
                .collect()
        };
        assert_eq!(tokens(&text), value.as_bytes());
    }
}

/// No JSON, or no object or array: shown as stored, and nothing to collapse.
#[test]
fn near_misses() {
    #[rustfmt::skip]
    let table: &[&[u8]] = &[
        b"", b" ", b"\n", b"7", b"-7\n", b"true", b"null", b"\"a\"", b"hello", b"{", b"}", b"[", b"]", b"[[]",
        b"[]]", b"[}", b"{]", b"{[]}", b"[1,2", b"[1,2}", b"[,]", b"[1,]", b"[,1]", b"[1,,2]", b"[1 2]",
        b"[1:2]", b"{,}", b"{\"a\"}", b"{\"a\":}", b"{\"a\":1,}", b"{\"a\",1}", b"{\"a\"::1}", b"{:1}",
        b"{a:1}", b"{'a':1}", b"{1:1}", b"{null:1}", b"{\"a\":1 \"b\":2}", b"{\"a\":1,,\"b\":2}",
        b"{\"a\":1:2}", b"{[]:1}", b"{\"a\":1", b"{\"a\"", b"{\"a", b"[\"a]", b"[\"a\\\"]", b"[']", b"[nul]",
        b"[nulll]", b"[tru]", b"[True]", b"[NULL]", b"[fals]", b"[falsey]", b"[NaN]", b"[nan]", b"[Infinity]",
        b"[-Infinity]", b"[undefined]", b"[-]", b"[+1]", b"[01]", b"[-01]", b"[00]", b"[1.]", b"[.1]", b"[-.1]",
        b"[1.e1]", b"[1e]", b"[1e+]", b"[1E-]", b"[1e1.5]", b"[1ee1]", b"[0x10]", b"[1_000]", b"[1.2.3]",
        b"[--1]", b"[1-]", b"[1f]", b"[\"\\a\"]", b"[\"\\x41\"]", b"[\"\\u\"]", b"[\"\\u12\"]", b"[\"\\u123\"]",
        b"[\"\\u123g\"]", b"[\"\\U0041\"]", b"[\"\\", b"[\"\\u00", b"[\"\\ud800\\u\"]", b"[\"\\'\"]",
        b"[\"a\nb\"]", b"[\"a\tb\"]", b"[\"\0\"]", b"[\"\x1f\"]", b"[\"0123456\x01890\"]", b"[\"\xff\"]",
        b"[\"\xc3\"]", b"[\"\xc3(\"]", b"[\"\xed\xa0\x80\"]", b"[\"\xc0\xaf\"]", b"[\"\xf4\x90\x80\x80\"]",
        b"[\"0123456789abcdef\xe2\x82\"]", b"[\xc3\xa9]", b"[1,\xc2\xa02]", b"\xef\xbb\xbf[]",
        b"\xef\xbb\xbf{\"a\":1}", b"\xff\xfe[\0]\0", b"[]x", b"[]\0", b"{}\0", b"[][]", b"{}{}",
        b"{\"a\":1}\n{\"b\":2}\n", b"[]//c", b"[/**/]", b"[1,//c\n2]", b"[]#", b"[\x0c]", b"[\x0b1]",
        b"[1]\xff", b"(1)", b"<a/>", b"[\"a\",\n\"b\"", b"[*]", b"[\\n]", b"{\"a\":\"b\"}}", b"[\"x\"]]",
        b"[1]]", b"{\"a\":[}]", b"[{]}",
    ];
    for &value in table {
        assert_eq!(show(value), None, "{:?}", String::from_utf8_lossy(value));
        for style in STYLES {
            assert_eq!(
                collapse(value, style),
                None,
                "{:?}",
                String::from_utf8_lossy(value)
            );
        }
    }
}

/// Strings of every length around the eight bytes that are looked at together, with what ends them at every place.
#[test]
fn strings_of_every_length() {
    for len in 0..40 {
        let plain = vec![b'a'; len];
        let value = [b"[\"", &plain[..], b"\"]"].concat();
        assert!(show(&value).is_some());
        for at in 0..len {
            let with = |piece: &[u8]| {
                [b"[\"", &plain[..at], piece, &plain[at + 1..], b"\",\"b\"]"].concat()
            };
            for piece in [
                &b"\\\""[..],
                b"\\\\",
                b"\\u0041",
                "\u{7f}".as_bytes(),
                b" ",
                b"!",
                b"#",
                b"[",
                b"]",
                "é".as_bytes(),
                "💩".as_bytes(),
            ] {
                assert!(show(&with(piece)).is_some(), "{piece:?} at {at} of {len}");
            }
            for piece in [
                &b"\""[..],
                b"\x1f",
                b"\0",
                b"\n",
                b"\x80",
                b"\xff",
                b"\xc3",
                b"\\q",
            ] {
                assert!(show(&with(piece)).is_none(), "{piece:?} at {at} of {len}");
            }
        }
    }
}

#[test]
fn limits() {
    let nested = |depth: usize, inner: &str| {
        [
            &b"[".repeat(depth)[..],
            inner.as_bytes(),
            &b"]".repeat(depth)[..],
        ]
        .concat()
    };
    for inner in ["", "1", "1,2"] {
        assert!(show(&nested(MAX_DEPTH, inner)).is_some());
        let deeper = nested(MAX_DEPTH + 1, inner);
        assert!(show(&deeper).is_none() && collapse(&deeper, COMPACT).is_none());
    }
    let objects = [
        &b"{\"a\":".repeat(MAX_DEPTH)[..],
        b"1",
        &b"}".repeat(MAX_DEPTH)[..],
    ]
    .concat();
    assert!(show(&objects).is_some());
    // What opens must close as what it is, at every depth.
    let mut mixed = nested(MAX_DEPTH, "1");
    let last = mixed.len() - 1;
    for at in 0..MAX_DEPTH {
        mixed[last - at] = b'}';
        assert!(show(&mixed).is_none(), "at {at}");
        mixed[last - at] = b']';
    }
    // Endless opening ends the walk at once, and so does endless text.
    assert!(show(&b"[".repeat(1 << 20)).is_none());

    let string = |len: usize| [b"[\"", &b"a".repeat(len - 4)[..], b"\"]"].concat();
    assert!(show(&string(MAX_VALUE)).is_some());
    assert!(show(&string(MAX_VALUE + 1)).is_none());

    // Each "1," is shown on a line of its own, of 4 + 2 * depth bytes less the value's own.
    let lines = |count: usize| nested(MAX_DEPTH, "1,".repeat(count).trim_end_matches(','));
    let line = 1 + 2 * MAX_DEPTH + 2;
    let ends = inspect(&lines(1)).expect("shown").len - line as u64;
    let most = (MAX_SHOWN - ends) as usize / line;
    let len = |count| inspect(&lines(count)).map(|shown| shown.len);
    assert_eq!(len(most), Some(ends + (most * line) as u64));
    assert_eq!(len(most + 1), None);
    assert!(show(&lines(most + 1)).is_none());
}

/// A document as a tree, to be printed by a second printer that knows nothing of the first.
enum Tree {
    Scalar(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    fn random(rng: &mut Rng, depth: usize) -> Tree {
        let scalar = depth == 0 || rng.below(3) == 0;
        match (scalar, rng.below(2)) {
            (true, _) => Tree::Scalar(Self::scalar(rng)),
            (_, 0) => Tree::Array(
                (0..rng.below(5))
                    .map(|_| Self::random(rng, depth - 1))
                    .collect(),
            ),
            _ => Tree::Object(
                (0..rng.below(5))
                    .map(|_| (Self::string(rng), Self::random(rng, depth - 1)))
                    .collect(),
            ),
        }
    }

    fn string(rng: &mut Rng) -> String {
        let pieces = [
            "a",
            "b",
            "long enough for several steps",
            " ",
            ", ",
            ": ",
            "{",
            "]",
            "\\n",
            "\\\"",
            "\\\\",
            "\\u0041",
            "\\/",
            "é",
            "日本",
            "💩",
            "\u{7f}",
        ];
        let text: String = (0..rng.below(4)).map(|_| rng.pick(&pieces)).collect();
        format!("\"{text}\"")
    }

    fn scalar(rng: &mut Rng) -> String {
        match rng.below(4) {
            0 => rng.pick(&["true", "false", "null"]).to_owned(),
            1 => Self::string(rng),
            2 => (rng.next() as i64 - (1 << 40)).to_string(),
            _ => rng
                .pick(&[
                    "0",
                    "-0",
                    "1.5",
                    "1e5",
                    "-1.25E-3",
                    "18446744073709551615",
                    "0.1e+1",
                ])
                .to_owned(),
        }
    }

    /// Prints with `colon` and `comma` between, and line breaks if `indent` (the depth) is there.
    fn print(&self, out: &mut String, comma: &str, colon: &str, indent: Option<usize>) {
        let line = |out: &mut String, by: usize| {
            if let Some(depth) = indent {
                out.push('\n');
                out.push_str(&"  ".repeat(depth + by));
            }
        };
        let inner = indent.map(|depth| depth + 1);
        match self {
            Tree::Scalar(token) => out.push_str(token),
            Tree::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { comma } else { "" });
                    line(out, 1);
                    item.print(out, comma, colon, inner);
                }
                if !items.is_empty() {
                    line(out, 0);
                }
                out.push(']');
            }
            Tree::Object(members) => {
                out.push('{');
                for (i, (name, item)) in members.iter().enumerate() {
                    out.push_str(if i > 0 { comma } else { "" });
                    line(out, 1);
                    out.push_str(name);
                    out.push_str(colon);
                    item.print(out, comma, colon, inner);
                }
                if !members.is_empty() {
                    line(out, 0);
                }
                out.push('}');
            }
        }
    }

    fn printed(&self, comma: &str, colon: &str, indent: Option<usize>, end: &str) -> Vec<u8> {
        let mut out = String::new();
        self.print(&mut out, comma, colon, indent);
        out.push_str(end);
        out.into_bytes()
    }
}

#[test]
fn random_documents_in_every_style() {
    let mut rng = Rng::new(10);
    let mut long = 0;
    for _ in 0..5_000 {
        let tree = Tree::Array(vec![Tree::random(&mut rng, 6)]);
        let want = tree.printed(",", ": ", Some(0), "\n");
        for style in STYLES {
            let end = if style.newline { "\n" } else { "" };
            let value = match style.separators {
                Separators::Compact => tree.printed(",", ":", None, end),
                Separators::Spaced => tree.printed(", ", ": ", None, end),
            };
            let (text, found) = show(&value).expect("valid and in a known style");
            assert_eq!(String::from_utf8(text), String::from_utf8(want.clone()));
            assert!(
                found == style
                    || found
                        == Style {
                            separators: Separators::Compact,
                            ..style
                        }
            );
            for from in [&want, &tree.printed(" ,\t", "\r\n: ", Some(3), " \n ")] {
                assert!(collapse(from, style).is_some_and(|back| back == value));
            }
            long += usize::from(value.len() > 500);
        }
        // jq's form too, as serde_json prints it; its numbers may differ, so only where there are none to change.
        let compact = tree.printed(",", ":", None, "");
        let parsed: serde_json::Value = serde_json::from_slice(&compact).expect("valid");
        if serde_json::to_vec(&parsed).is_ok_and(|again| again == compact) {
            assert_eq!(
                serde_json::to_vec_pretty(&parsed).expect("prints"),
                want[..want.len() - 1]
            );
        }
    }
    assert!(long > 500, "{long}");
}

/// Whether serde_json takes a text for an object or array; `None` if it refuses it for its meaning, not its grammar.
fn serde_judges(text: &[u8]) -> Option<Result<serde_json::Value, serde_json::Error>> {
    let judged = serde_json::from_slice::<serde_json::Value>(text);
    if let Err(error) = &judged {
        let meaning = [
            "number out of range",
            "lone leading surrogate",
            "unexpected end of hex escape",
        ];
        let error = error.to_string();
        if meaning.iter().any(|m| error.starts_with(m)) {
            return None;
        }
    }
    Some(judged)
}

/// Every text that can be made of a few bytes, in a frame: the whole grammar, bit by bit.
#[test]
fn every_short_text_is_judged_as_serde_json_does() {
    // What is before, the bytes to choose from, how many at most, what is behind, and how many are valid at least.
    type Frame = (&'static [u8], &'static [u8], usize, &'static [u8], usize);
    let frames: [Frame; 4] = [
        (b"", b"[]{},:\"1 \n", 6, b"", 1_000),
        (b"[", b"01-+.eE", 6, b"]", 1_000),
        (b"[\"", b"\\u\"/n0aF", 6, b"\"]", 10_000),
        (b"{\"a\":", b"truefalsn1}", 5, b"}", 10),
    ];
    for (before, alphabet, longest, behind, least) in frames {
        let mut valid = 0;
        for len in 0..=longest {
            for mut n in 0..alphabet.len().pow(len as u32) {
                let mut text = before.to_vec();
                for _ in 0..len {
                    text.push(alphabet[n % alphabet.len()]);
                    n /= alphabet.len();
                }
                text.extend_from_slice(behind);
                let ours = collapse(&text, COMPACT);
                if inspect(&text).is_some() {
                    assert!(show(&text).is_some() && ours.is_some());
                }
                if let Some(judged) = serde_judges(&text) {
                    let want = judged.is_ok_and(|value| value.is_array() || value.is_object());
                    assert_eq!(ours.is_some(), want, "{:?}", String::from_utf8_lossy(&text));
                }
                valid += usize::from(ours.is_some());
            }
        }
        assert!(
            valid >= least,
            "{valid} of {:?}",
            String::from_utf8_lossy(alphabet)
        );
    }
}

/// Documents with random damage: valid for us if and only if serde_json takes them.
#[test]
fn mutated_documents_are_judged_as_serde_json_does() {
    let mut rng = Rng::new(11);
    let (mut valid, mut invalid, mut beyond_grammar) = (0, 0, 0);
    for _ in 0..60_000 {
        let tree = Tree::Array(vec![Tree::random(&mut rng, 4)]);
        let mut text = match rng.below(3) {
            0 => tree.printed(",", ":", None, ""),
            1 => tree.printed(", ", ": ", None, "\n"),
            _ => tree.printed(",", ": ", Some(0), "\n"),
        };
        for _ in 0..rng.below(3) {
            let at = rng.below(text.len());
            match rng.below(5) {
                0 => text[at] = rng.next() as u8,
                1 => text[at] = rng.pick(b"{}[],:\"\\0123456789-+.eEutrfn/ \n\t\x80"),
                2 => text.insert(at, rng.pick(b"{}[],:\"\\0123456789-+.eEutrfn/ \n\t\x80")),
                3 => text.truncate(at),
                _ => drop(text.remove(at)),
            }
            if text.is_empty() {
                break;
            }
        }
        let ours = collapse(&text, COMPACT);
        if show(&text).is_some() {
            assert!(ours.is_some());
        }
        match serde_judges(&text) {
            None => beyond_grammar += 1,
            Some(Err(error)) => {
                assert!(
                    ours.is_none(),
                    "{error}: {:?}",
                    String::from_utf8_lossy(&text)
                );
                invalid += 1;
            }
            Some(Ok(value)) => {
                let container = value.is_array() || value.is_object();
                assert_eq!(
                    ours.is_some(),
                    container,
                    "{:?}",
                    String::from_utf8_lossy(&text)
                );
                if let Some(ours) = ours {
                    let same: serde_json::Value =
                        serde_json::from_slice(&ours).expect("still valid");
                    assert_eq!(same, value);
                    valid += 1;
                }
            }
        }
    }
    let all = format!("{valid} {invalid} {beyond_grammar}");
    assert!(
        valid > 10_000 && invalid > 10_000 && beyond_grammar < 1_000,
        "{all}"
    );
}
