//! What is pending after a commit in mid-mount, and again after the process was killed: the same.

use std::fs;

use crate::common::case::{Case, signal};
use crate::common::{Node, Options, Oracle, Tree};

/// Kills the process that serves the mount, and takes the mount away.
pub fn kill(case: &Case) {
    signal("KILL", &case.server().to_string());
    case.await_unserved();
    let _ = case.boltfs(&["umount", "mnt"]);
}

/// A key whose name is cut can be made only where it was: that it was there is not to be forgotten with the commit.
#[test]
fn a_key_with_a_cut_name_that_was_made_anew_is_recovered() {
    let long = "long ".repeat(100);
    let case = Case::with(|db| {
        let value = |value: &str| Node::Value(value.into());
        let mut deep = Tree::default();
        deep.nodes.insert(b"k".to_vec(), value("deep"));
        let mut bucket = Tree::default();
        for key in [long.as_bytes(), &[1; 400], b"k"] {
            bucket.nodes.insert(key.to_vec(), value("value"));
        }
        bucket.nodes.insert([2; 400].into(), Node::Bucket(deep));
        let mut tree = Tree::default();
        tree.nodes.insert(b"b".to_vec(), Node::Bucket(bucket));
        Oracle::shared()
            .create(db, &tree, Options::default())
            .expect("bbolt makes a database");
    });
    let text = case.sh(
        "boltfs db mnt; cd mnt/b; text=$(ls | grep ^long) binary=$(ls | grep ^0x01) bucket=$(ls | grep ^0x02)
         rm -r \"$text\" $binary $bucket; echo commit > ../.boltfs/control
         echo anew > \"$text\"; mv k $binary; mkdir $bucket; echo inside > $bucket/new; mkdir n; mv $bucket n/short; mkdir $bucket
         cat ../.boltfs/pending",
    );
    let pending = text.expect_success().text();
    assert_eq!(pending.lines().count(), 7, "{pending}");
    kill(&case);
    let output = case.sh("boltfs --recover db mnt; cat mnt/.boltfs/pending; boltfs umount mnt");
    let mut recovered: Vec<_> = pending.lines().collect();
    let text = output.expect_success().text();
    let mut found: Vec<_> = text.lines().collect();
    recovered.sort_unstable();
    found.sort_unstable();
    assert!(found == recovered, "{found:#?}\n{recovered:#?}");
    let content = case.content();
    let b = [b"b".to_vec()];
    assert_eq!(content.value(&b, long.as_bytes()), Some(&b"anew\n"[..]));
    assert_eq!(content.value(&b, &[1; 400]), Some(&b"value"[..]));
    assert_eq!(content.value(&b, b"k"), None);
    assert!(content.bucket(&[b"b".to_vec(), vec![2; 400]]).is_some());
    let moved = [b"b".to_vec(), b"n".to_vec(), b"short".to_vec()];
    assert_eq!(content.value(&moved, b"new"), Some(&b"inside\n"[..]));
    assert!(!fs::exists(case.join("db.boltfs-journal")).unwrap());
}

/// A save is judged by the value that the database holds at that moment: so it comes to the same whether the mount lives on
/// or was killed and recovered.
#[test]
fn a_save_after_a_commit_is_judged_by_what_that_has_stored() {
    let edits = [
        // What was text is JSON now, and keeps the style that it was committed in.
        (
            r#"echo '{"a": 1}' > mnt/b/text"#,
            r#"printf '{\n  "a": 2\n}\n' > mnt/b/text"#,
            r#"{"a": 2}"#,
        ),
        // What was JSON is no longer: no style is kept.
        (
            "echo gone > mnt/b/json",
            r#"printf '{\n  "a": 2\n}\n' > mnt/b/json"#,
            "{\n  \"a\": 2\n}\n",
        ),
        // A key that was new, and has no final newline.
        ("printf new > mnt/b/new", "echo newer > mnt/b/new", "newer"),
        (
            "printf new > mnt/b/new",
            "mv mnt/b/new mnt/b/other; echo newer > mnt/b/other",
            "newer",
        ),
        // One that was there without one, and now has one, or was deleted.
        (
            "printf 'two\\n\\n' > mnt/b/text",
            "printf 'no newline' > mnt/b/text",
            "no newline",
        ),
        ("rm mnt/b/text", "echo anew > mnt/b/text", "anew\n"),
        (
            "mv mnt/b/json mnt/b/text",
            r#"printf '{"a": 3}' > mnt/b/text"#,
            r#"{"a":3}"#,
        ),
        (
            "rm mnt/b/text; mv mnt/b/json mnt/b/moved",
            "echo text > mnt/b/text",
            "text\n",
        ),
    ];
    for (first, then, value) in edits {
        let case = Case::with(|db| {
            let mut bucket = Tree::default();
            for (key, value) in [("text", "some text"), ("json", r#"{"a":1}"#)] {
                bucket.nodes.insert(key.into(), Node::Value(value.into()));
            }
            let mut tree = Tree::default();
            tree.nodes.insert(b"b".to_vec(), Node::Bucket(bucket));
            Oracle::shared()
                .create(db, &tree, Options::default())
                .expect("bbolt makes a database");
        });
        let key = then.rsplit('/').next().expect("a path ends in a key");
        let told = case.sh(&format!(
            "boltfs db mnt; {first}; echo commit > mnt/.boltfs/control; [ -z \"$(cat mnt/.boltfs/pending)\" ]; {then}; cat mnt/.boltfs/pending; cp db before"
        ));
        let told = told.expect_success().text();
        assert!(!told.is_empty(), "{first}; {then}");
        let journal = fs::read(case.join("db.boltfs-journal")).unwrap();
        case.boltfs(&["umount", "mnt"]).expect_success();
        assert_eq!(
            case.value("b", key).as_deref(),
            Some(value),
            "{first}; {then}"
        );
        let live = case.content();
        // As if it had been killed before that.
        fs::rename(case.join("before"), case.db()).unwrap();
        fs::write(case.join("db.boltfs-journal"), journal).unwrap();
        let recovered =
            case.sh("boltfs --recover db mnt; cat mnt/.boltfs/pending; boltfs umount mnt");
        assert_eq!(recovered.expect_success().text(), told, "{first}; {then}");
        live.assert_same(&case.content(), &format!("{first}; {then}"));
    }
}

/// What is not touched after a commit is as that has stored it, whatever it would come to if it were saved anew.
#[test]
fn a_second_commit_leaves_what_nobody_touched() {
    let case = Case::with(crate::database);
    let output = case.sh(
        "boltfs db mnt; printf 'two\\n\\n' > mnt/b/k; echo commit > mnt/.boltfs/control; echo x > mnt/b/l; cat mnt/.boltfs/pending
         cp mnt/b/k saved; cat saved > mnt/b/k; cat mnt/.boltfs/pending; boltfs umount mnt",
    );
    let line = "changed\tb/l\t5\t1\tfinal newline left off\n";
    assert_eq!(output.expect_success().text(), format!("{line}{line}"));
    assert_eq!(case.value("b", "k").as_deref(), Some("two\n"));
}
