//! What a saved content means for the value that is stored.

use crate::common::fs::{Fs, bucket, options, tree, value};
use crate::common::tree::Tree;

const STORED: &str = r#"{"id":9372538179322589801,"name":"a","urls":["x","y"]}"#;
const SHOWN: &str = "{\n  \"id\": 9372538179322589801,\n  \"name\": \"a\",\n  \"urls\": [\n    \"x\",\n    \"y\"\n  ]\n}\n";

fn sample() -> Tree {
    tree([(
        "b",
        bucket([
            ("binary", value(b"\x00\x01\n")),
            ("compact", value(STORED)),
            ("line", value("a line\n")),
            ("odd", value("{ \"a\":1 }")),
            ("python", value("{\"a\": 1, \"b\": [2, 3]}\n")),
            ("text", value("3.5.0")),
        ]),
    )])
}

/// What is stored at `key` after `edit`, and the remark that `pending` makes, if there is a change.
fn after(key: &str, edit: impl Fn(&Fs)) -> (String, Option<String>) {
    let mut fs = Fs::new(&sample());
    edit(&fs);
    let of_key = |line: &String| line.split('\t').nth(1) == Some(&format!("b/{key}"));
    let line = fs.pending().into_iter().find(of_key);
    let remark = line.map(|line| line.rsplit('\t').next().unwrap_or_default().to_owned());
    let committed = fs.commit();
    let stored = committed
        .value(&[b"b".to_vec()], key.as_bytes())
        .unwrap_or(b"(none)");
    (String::from_utf8_lossy(stored).into_owned(), remark)
}

/// Saving `content` at `key` stores `stored`, in whichever way it is saved; `remark` is what `pending` says of it.
#[track_caller]
fn saved(key: &str, content: &str, stored: &str, remark: Option<&str>) {
    let path = format!("b/{key}");
    let edits: [&dyn Fn(&Fs); 4] = [
        &|fs| _ = fs.save(&path, content).unwrap(),
        &|fs| _ = fs.save_by_rename(&path, content).unwrap(),
        // Piece by piece, with something else in between.
        &|fs| {
            let ino = fs.save(&path, "{").unwrap();
            for (at, byte) in content.bytes().enumerate() {
                fs.vfs.write(ino, at as u64, &[byte], false).unwrap();
            }
            fs.truncate(ino, content.len() as u64).unwrap();
        },
        // The old file gets out of the way, and goes at the end.
        &|fs| {
            if fs.at(&path).is_ok() {
                fs.mv(&path, &format!("{path}.old")).unwrap();
            }
            fs.save(&path, content).unwrap();
            let _ = fs.rm(&format!("{path}.old"));
        },
    ];
    for (way, edit) in edits.iter().enumerate() {
        let found = after(key, edit);
        assert_eq!(
            found,
            (stored.to_owned(), remark.map(str::to_owned)),
            "{key}, way {way}: {content:?}"
        );
    }
}

#[test]
fn json_is_shown_indented_and_anything_else_as_it_is() {
    let fs = Fs::new(&sample());
    assert_eq!(fs.text("b/compact"), SHOWN);
    assert_eq!(
        fs.text("b/python"),
        "{\n  \"a\": 1,\n  \"b\": [\n    2,\n    3\n  ]\n}\n"
    );
    assert_eq!(fs.text("b/odd"), "{ \"a\":1 }");
    assert_eq!(fs.text("b/text"), "3.5.0");
    assert_eq!(fs.read("b/binary").unwrap(), b"\x00\x01\n");
    for key in fs.ls("b") {
        let path = format!("b/{key}");
        let size = fs.stat(&path).unwrap().size;
        assert_eq!(
            size,
            fs.read(&path).unwrap().len() as u64,
            "{key}: the size is that of what is shown"
        );
    }
}

#[test]
fn saving_what_was_read_changes_nothing() {
    for key in ["binary", "compact", "line", "odd", "python", "text"] {
        let path = format!("b/{key}");
        let (_, remark) = after(key, |fs| {
            let content = fs.read(&path).unwrap();
            fs.save_by_rename(&path, &content).unwrap();
            fs.save(&path, &content).unwrap();
        });
        assert_eq!(remark, None, "{key}");
    }
    saved("compact", STORED, STORED, None);
    saved("compact", &SHOWN.replace("  ", "\t"), STORED, None);
    saved("text", "3.5.0\n", "3.5.0", None);
}

#[test]
fn json_keeps_the_style_of_its_key() {
    let changed = SHOWN.replace("\"a\"", "\"b\"");
    saved(
        "compact",
        &changed,
        &STORED.replace("\"a\"", "\"b\""),
        Some(""),
    );
    saved("compact", "[1, 2]", "[1,2]", Some(""));
    saved(
        "python",
        "{\"a\":1,\n\"b\":[]}",
        "{\"a\": 1, \"b\": []}\n",
        Some(""),
    );
    saved(
        "odd",
        "{\n  \"a\": 2\n}\n",
        "{\n  \"a\": 2\n}",
        Some("final newline left off"),
    );
}

#[test]
fn what_is_no_json_any_more_is_stored_as_written_and_pointed_out() {
    saved(
        "compact",
        "{\"id\": oops}\n",
        "{\"id\": oops}\n",
        Some("no longer JSON"),
    );
    saved("python", "", "", Some("no longer JSON"));
    saved("compact", "3.5.0\n", "3.5.0\n", Some("no longer JSON"));
}

#[test]
fn one_newline_at_the_end_of_a_text_without_one_is_left_off() {
    saved("text", "3.6.0\n", "3.6.0", Some("final newline left off"));
    saved(
        "text",
        "3.6.0\n\n",
        "3.6.0\n",
        Some("final newline left off"),
    );
    saved("text", "3.6.0", "3.6.0", Some(""));
    saved("text", "\n", "", Some("final newline left off"));
    saved("line", "other\n", "other\n", Some(""));
    saved("line", "other", "other", Some(""));
    saved("text", "\u{1}\n", "\u{1}\n", Some(""));
}

#[test]
fn a_new_key_gets_what_was_written() {
    saved("new", "text\n", "text\n", Some(""));
    saved("new", "", "", Some(""));
    saved("new", STORED, STORED, Some(""));
    saved("new", "{\"a\": 1}\n", "{\"a\": 1}\n", Some(""));
    saved("new", SHOWN, STORED, Some("stored as compact JSON"));
}

#[test]
fn a_value_that_is_only_moved_is_not_touched() {
    for key in ["binary", "compact", "line", "odd", "python", "text"] {
        let before = sample()
            .value(&[b"b".to_vec()], key.as_bytes())
            .unwrap()
            .to_vec();
        let (stored, _) = after("moved", |fs| fs.mv(&format!("b/{key}"), "b/moved").unwrap());
        assert_eq!(stored, String::from_utf8_lossy(&before), "{key}");
        // Over another, of any other style.
        for other in ["compact", "python", "text"] {
            let (stored, _) = after(other, |fs| {
                fs.mv(&format!("b/{key}"), &format!("b/{other}")).unwrap()
            });
            assert_eq!(
                stored,
                String::from_utf8_lossy(&before),
                "{key} over {other}"
            );
        }
    }
    // A copy is new content, and what is edited follows the style it had.
    let (stored, _) = after("moved", |fs| {
        fs.mv("b/text", "b/moved").unwrap();
        fs.save("b/moved", "3.6.0\n").unwrap();
    });
    assert_eq!(stored, "3.6.0");
}

#[test]
fn a_bucket_that_is_replaced_by_its_copy_keeps_the_styles() {
    let (stored, _) = after("text", |fs| {
        fs.mkdir("copy").unwrap();
        for key in fs.ls("b") {
            let content = fs.read(&format!("b/{key}")).unwrap();
            fs.save(&format!("copy/{key}"), content).unwrap();
        }
        fs.save("copy/text", "3.6.0\n").unwrap();
        fs.rm_r("b").unwrap();
        fs.mv("copy", "b").unwrap();
        assert_eq!(fs.text("b/compact"), SHOWN);
    });
    assert_eq!(stored, "3.6.0");
}

#[test]
fn you_read_what_you_wrote() {
    let mut fs = Fs::new(&sample());
    let contents = ["{\"a\":1}", "3.6.0\n", "[ ]", "", "\u{0}", SHOWN];
    for key in ["binary", "compact", "line", "new", "python", "text"] {
        for content in contents {
            let path = format!("b/{key}");
            fs.save(&path, content).unwrap();
            assert_eq!(fs.text(&path), content);
        }
    }
    fs.save("b/text", "3.7.0\n").unwrap();
    fs.commit();
    assert_eq!(fs.text("b/text"), "3.7.0\n", "after a commit too");
}

#[test]
fn raw_shows_and_stores_the_bytes() {
    let mut raw = options();
    raw.raw = true;
    let mut fs = Fs::with(&sample(), raw);
    for key in fs.ls("b") {
        let stored = sample()
            .value(&[b"b".to_vec()], key.as_bytes())
            .unwrap()
            .to_vec();
        assert_eq!(fs.read(&format!("b/{key}")).unwrap(), stored);
    }
    let contents = [
        ("compact", "{\n  \"a\": 1\n}\n"),
        ("text", "3.6.0\n"),
        ("new", SHOWN),
        ("python", "no JSON"),
    ];
    for (key, content) in contents {
        fs.save(&format!("b/{key}"), content).unwrap();
    }
    assert!(
        fs.pending().iter().all(|line| line.ends_with('\t')),
        "{:?}",
        fs.pending()
    );
    let committed = fs.commit();
    for (key, content) in contents {
        assert_eq!(
            committed.value(&[b"b".to_vec()], key.as_bytes()),
            Some(content.as_bytes()),
            "{key}"
        );
    }
}
