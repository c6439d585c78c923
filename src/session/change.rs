//! One pending change as the serving process tells it to the commands that show it.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::terminal::visible;
use crate::overlay::Pending;
use crate::view::name;

/// A change, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// `added`, `changed`, `deleted` or `moved`.
    pub kind: String,
    /// Where it is, by the names of the mount; a bucket's ends in `/`.
    pub path: String,
    /// A bucket, not a key.
    pub bucket: bool,
    /// Where a moved bucket was.
    pub from: Option<String>,
    /// Length of the value in the database, in bytes.
    pub old_len: Option<u64>,
    /// Length of the value to be stored, in bytes.
    pub new_len: Option<u64>,
    /// Old and new sequence number of a bucket, where they differ.
    pub sequence: Option<[u64; 2]>,
    /// What is to be said about the content.
    pub remarks: Vec<String>,
}

/// The words for one change.
pub fn to_json(pending: &Pending) -> Value {
    let from = pending.from.as_ref().map(|from| {
        let path = name::path(from.iter().map(|key| &key[..]));
        format!("{path}/")
    });
    json!({
        "kind": pending.kind.name(),
        "path": pending.shown_path(),
        "bucket": pending.bucket,
        "from": from,
        "old_len": pending.old_len,
        "new_len": pending.new_len,
        "sequence": pending.sequence,
        "remarks": pending.content_remarks(),
    })
}

/// Takes the words apart. They may come from another user's process: nothing in them acts on a
/// terminal afterwards. `None`: that is no change.
pub fn from_json(value: &Value) -> Option<Told> {
    let text = |value: &Value| value.as_str().map(|text| line(text).into_owned());
    let sequence = match &value["sequence"] {
        Value::Array(pair) => Some([pair.first()?.as_u64()?, pair.get(1)?.as_u64()?]),
        _ => None,
    };
    Some(Told {
        kind: text(&value["kind"])?,
        path: text(&value["path"])?,
        bucket: value["bucket"].as_bool()?,
        from: text(&value["from"]),
        old_len: value["old_len"].as_u64(),
        new_len: value["new_len"].as_u64(),
        sequence,
        remarks: value["remarks"]
            .as_array()?
            .iter()
            .filter_map(text)
            .collect(),
    })
}

/// One line of another process's words, safe for a terminal.
pub fn line(text: &str) -> Cow<'_, str> {
    match visible(text) {
        shown if shown.contains(['\n', '\t']) => Cow::Owned(shown.replace(['\n', '\t'], " ")),
        shown => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::PendingKind as Kind;
    use crate::view::text::Note;

    #[test]
    fn a_change_is_told_and_understood() {
        let pending = Pending {
            kind: Kind::Moved,
            path: vec![b"new".to_vec(), vec![0xff]].into(),
            bucket: true,
            old_len: None,
            lost: false,
            new_len: Some(7),
            note: Note::NoLongerJson,
            leftover: false,
            rounded: None,
            from: Some(vec![b"o/d".to_vec()]),
            sequence: Some([3, u64::MAX]),
        };
        let told = from_json(&to_json(&pending)).unwrap();
        let wanted = Told {
            kind: "moved".to_owned(),
            path: "new/0xff/".to_owned(),
            bucket: true,
            from: Some("o%2Fd/".to_owned()),
            old_len: None,
            new_len: Some(7),
            sequence: Some([3, u64::MAX]),
            remarks: vec!["no longer JSON".to_owned()],
        };
        assert_eq!(told, wanted);
    }

    #[test]
    fn what_is_told_by_a_stranger_is_harmless() {
        let value = json!({
            "kind": "added\x1b]0;", "path": "a\nb\x1b[2J", "bucket": false, "remarks": ["\r", 7]
        });
        let told = from_json(&value).unwrap();
        assert_eq!(told.path, "a b^[[2J");
        assert_eq!(told.kind, "added^[]0;");
        assert_eq!(told.remarks, ["^M"]);
        for no_change in [
            json!(null),
            json!({}),
            json!({ "kind": "added", "path": 7, "bucket": false, "remarks": [] }),
            json!({ "kind": "x", "path": "", "bucket": true, "remarks": [], "sequence": [1] }),
        ] {
            assert_eq!(from_json(&no_change), None);
        }
    }
}
