//! `.boltfs`: there, and not listed.

use boltfs::overlay::Kind;
use boltfs::vfs::Error;

use crate::common::fs::{Fs, bucket, options, tree, value};
use crate::common::tree::Tree;
use crate::refused;

fn sample() -> Tree {
    tree([
        (
            "b",
            bucket([
                ("json", value("{\"a\":1}")),
                ("k", value("v")),
                ("old", value("12345")),
            ]),
        ),
        ("c", bucket([])),
    ])
}

#[test]
fn it_is_there_and_not_listed() {
    let fs = Fs::new(&sample());
    assert_eq!(fs.ls(""), ["b", "c"]);
    assert_eq!(fs.ls(".boltfs"), ["base", "control", "info", "pending"]);
    assert_eq!(fs.ls(".boltfs/base"), ["b", "c"]);
    refused!(fs.at(".boltfs/none"), Error::NotFound);
    refused!(fs.at(".boltfs/base/.boltfs"), Error::NotFound);
    refused!(fs.at("b/.boltfs"), Error::NotFound);
    for (path, kind) in [
        ("", Kind::Directory),
        ("/base", Kind::Directory),
        ("/info", Kind::File),
        ("/pending", Kind::File),
    ] {
        assert_eq!(fs.stat(&format!(".boltfs{path}")).unwrap().kind, kind);
    }
    let info = fs.stat(".boltfs/info").unwrap();
    assert_eq!(info.size, fs.read(".boltfs/info").unwrap().len() as u64);
}

#[test]
fn nothing_can_be_made_or_removed_in_it() {
    let fs = Fs::new(&sample());
    refused!(fs.create(".boltfs/x"), Error::ReadOnly);
    refused!(fs.mkdir(".boltfs/x"), Error::ReadOnly);
    refused!(fs.rm(".boltfs/pending"), Error::NotPermitted);
    refused!(fs.mv("b/k", ".boltfs/k"), Error::ReadOnly);
    refused!(fs.mv(".boltfs/info", "b/info"), Error::NotPermitted);
    assert!(fs.save(".boltfs/pending", "x").is_err());
    assert!(fs.save(".boltfs/info", "x").is_err());
}

#[test]
fn pending_has_one_line_a_change_in_five_columns() {
    let fs = Fs::new(&sample());
    assert!(fs.pending().is_empty());
    fs.save("b/json", "[ 1 ]").unwrap();
    fs.save("b/.k.swp", "vim").unwrap();
    fs.rm("b/old").unwrap();
    fs.mv("b", "moved").unwrap();
    fs.mkdir("c/a%2Fb").unwrap();
    fs.save("c/a%2Fb/0x00", "").unwrap();
    fs.save("moved/k", "oops\n").unwrap();
    assert_eq!(
        fs.pending(),
        [
            "added\tc/a%2Fb/\t-\t-\t",
            "added\tc/a%2Fb/0x00\t-\t0\t",
            "moved\tmoved/\t-\t-\tfrom b/",
            "added\tmoved/.k.swp\t-\t3\tlooks like an editor's leftover",
            "changed\tmoved/json\t7\t3\t",
            "changed\tmoved/k\t1\t4\tfinal newline left off",
            "deleted\tmoved/old\t5\t-\t",
        ]
    );
}

#[test]
fn what_is_changed_back_is_no_change() {
    let fs = Fs::new(&sample());
    fs.save("b/k", "other").unwrap();
    fs.save("b/k", "v").unwrap();
    fs.save("b/new", "x").unwrap();
    fs.rm("b/new").unwrap();
    fs.rm("b/old").unwrap();
    fs.save("b/old", "12345").unwrap();
    fs.mv("b/json", "c/json").unwrap();
    fs.mv("c/json", "b/json").unwrap();
    fs.mv("c", "b/c").unwrap();
    fs.mv("b/c", "c").unwrap();
    fs.mkdir("d").unwrap();
    fs.rmdir("d").unwrap();
    assert_eq!(fs.pending(), Vec::<String>::new());
}

#[test]
fn base_is_the_tree_as_it_was_and_cannot_be_changed() {
    let mut fs = Fs::new(&sample());
    fs.save("b/k", "edited").unwrap();
    fs.mv("b/k", "b/moved").unwrap();
    fs.rm("b/old").unwrap();
    fs.rmdir("c").unwrap();
    fs.commit();
    assert_eq!(fs.ls(".boltfs/base"), ["b", "c"]);
    assert_eq!(fs.ls(".boltfs/base/b"), ["json", "k", "old"]);
    assert_eq!(fs.text(".boltfs/base/b/k"), "v");
    assert_eq!(fs.text(".boltfs/base/b/json"), "{\n  \"a\": 1\n}\n");
    let old = fs.at(".boltfs/base/b/old").unwrap();
    refused!(fs.vfs.write(old, 0, b"x", false), Error::ReadOnly);
    refused!(fs.truncate(old, 0), Error::ReadOnly);
    refused!(fs.rm(".boltfs/base/b/old"), Error::ReadOnly);
    refused!(fs.rmdir(".boltfs/base/c"), Error::ReadOnly);
    refused!(fs.mv(".boltfs/base/b/old", "b/old"), Error::ReadOnly);
    refused!(fs.mv("b/moved", ".boltfs/base/b/new"), Error::ReadOnly);
    refused!(fs.create(".boltfs/base/b/new"), Error::ReadOnly);
    refused!(fs.mkdir(".boltfs/base/new"), Error::ReadOnly);
    // A copy undoes the deletion, and the change.
    let copy = fs.read(".boltfs/base/b/old").unwrap();
    fs.save("b/old", copy).unwrap();
    assert_eq!(fs.text("b/old"), "12345");
}

#[test]
fn info_is_json() {
    let mut named = options();
    named.info.insert("database".to_owned(), "/some/db".into());
    let fs = Fs::with(&sample(), named);
    fs.save("b/new", "x").unwrap();
    let info: serde_json::Value = serde_json::from_str(&fs.text(".boltfs/info")).unwrap();
    assert_eq!(info["database"], "/some/db");
    assert_eq!(
        (&info["page_size"], &info["pending"]),
        (&4096.into(), &1.into())
    );
    assert_eq!(
        (&info["read_only"], &info["raw"]),
        (&false.into(), &false.into())
    );
    assert_eq!(info["pid"], std::process::id());
    for field in ["txid", "meta", "file_size", "pages"] {
        assert!(info[field].is_u64(), "{field}: {info}");
    }
}
