//! Names that the tables of src/view/name/tests.rs do not try: those of a directory's entries.

use boltfs::vfs::Error;
use boltfs::view::name;

use crate::common::fs::{Fs, bucket, tree, value};
use crate::common::tree::{Node, Tree};
use crate::refused;

fn with(keys: &[&[u8]]) -> Tree {
    let nodes = keys.iter().map(|key| (key.to_vec(), value("v")));
    let sub = Tree {
        seq: 0,
        nodes: nodes.collect(),
    };
    let mut content = tree([("b", bucket([]))]);
    content.nodes.insert(b"b".to_vec(), Node::Bucket(sub));
    content
}

#[test]
fn every_key_is_found_by_the_name_it_is_listed_with() {
    let keys: [&[u8]; 12] = [
        b"plain",
        b"a/b",
        b"50%",
        b".",
        b"..",
        b"0x00",
        b"\x00\xff",
        b"\n",
        "ünï".as_bytes(),
        b" ",
        b".boltfs",
        b"\xff",
    ];
    let mut fs = Fs::new(&with(&keys));
    let names = fs.list(fs.at("b").unwrap(), 3).0;
    assert_eq!(names.len(), keys.len());
    for key in keys {
        let shown = String::from_utf8(name::encode(key, false)).unwrap();
        assert!(names.contains(&shown.clone().into_bytes()), "{shown}");
        let path = format!("b/{shown}");
        assert_eq!(fs.text(&path), "v");
        fs.save(&path, "edited").unwrap();
    }
    let committed = fs.commit();
    for key in keys {
        assert_eq!(committed.value(&[b"b".to_vec()], key), Some(&b"edited"[..]));
    }
}

#[test]
fn a_name_that_is_no_keys_is_refused() {
    let fs = Fs::new(&with(&[b"A", b"k"]));
    for bad in [
        "%41",
        "a%2fb",
        "%",
        "%2Ex",
        "0x41",
        "0xAB",
        "0x1",
        "0x",
        "tab\t",
        "x%~0000000000000000",
    ] {
        let path = format!("b/{bad}");
        refused!(fs.at(&path), Error::NotFound);
        refused!(fs.create(&path), Error::Invalid);
        refused!(fs.mkdir(&path), Error::Invalid);
        refused!(fs.mv("b/k", &path), Error::Invalid);
        refused!(fs.mv(&path, "b/l"), Error::NotFound);
        refused!(fs.rm(&path), Error::NotFound);
    }
    let long = format!("b/{}", "x".repeat(256));
    refused!(fs.at(&long), Error::NameTooLong);
    refused!(fs.create(&long), Error::NameTooLong);
    refused!(fs.mv("b/k", &long), Error::NameTooLong);
    fs.create(&format!("b/{}", "x".repeat(255))).unwrap();
    assert_eq!(fs.ls("b").len(), 3);
}

#[test]
fn a_long_name_works_for_a_key_that_is_there() {
    let key = "long ".repeat(100).into_bytes();
    let binary = vec![1; 500];
    let mut fs = Fs::new(&with(&[&key, &binary, b"k"]));
    let path = |key: &[u8]| format!("b/{}", String::from_utf8(name::encode(key, false)).unwrap());
    for key in [&key, &binary] {
        let path = path(key);
        assert_eq!((path.len() > 240, fs.text(&path)), (true, "v".to_owned()));
        fs.save(&path, "edited").unwrap();
        fs.save_by_rename_from("b/temporary", &path, "renamed over")
            .unwrap();
        assert_eq!(fs.text(&path), "renamed over");
    }
    // Gone, it can come back by its name, as a copy from the tree as it was does it.
    fs.rm(&path(&binary)).unwrap();
    refused!(fs.at(&path(&binary)), Error::NotFound);
    fs.save(&path(&binary), "back").unwrap();
    fs.mv(&path(&key), "b/short").unwrap();
    let committed = fs.commit();
    let at = [b"b".to_vec()];
    assert_eq!(committed.value(&at, &binary), Some(&b"back"[..]));
    assert_eq!(
        (committed.value(&at, b"short"), committed.value(&at, &key)),
        (Some(&b"renamed over"[..]), None)
    );
    // Elsewhere, and for a key that there never was, it cannot be made.
    fs.mkdir("c").unwrap();
    let elsewhere = path(&binary).replacen('b', "c", 1);
    refused!(fs.create(&elsewhere), Error::NameTooLong);
    refused!(fs.mv("b/k", &elsewhere), Error::NameTooLong);
    refused!(fs.create(&path(&[2; 500])), Error::NameTooLong);
}

/// A long name is cut at one place only: another prefix with the right hash is not the key's name.
#[test]
fn a_long_name_that_is_cut_elsewhere_is_not_found() {
    let key = [b'x'; 300];
    let fs = Fs::new(&with(&[&key]));
    let shown = String::from_utf8(name::encode(&key, false)).unwrap();
    fs.at(&format!("b/{shown}")).unwrap();
    refused!(fs.at(&format!("b/{}", &shown[1..])), Error::NotFound);
    refused!(fs.create(&format!("b/{}", &shown[1..])), Error::NameTooLong);
}

/// The key is known by the bucket that held it; one with a name of up to 255 bytes can be made anywhere.
#[test]
fn a_long_name_does_not_come_back_in_a_new_bucket() {
    let (long, binary, most) = ([b'x'; 300], [0xff; 127], [0xff; 126]);
    let fs = Fs::new(&with(&[&long, &binary, &most]));
    let names = fs.ls("b");
    let longest = names.iter().map(String::len).max();
    assert_eq!(longest, Some(255));
    fs.rm_r("b").unwrap();
    fs.mkdir("b").unwrap();
    let mut made = Vec::new();
    for name in &names {
        match fs.save(&format!("b/{name}"), "again") {
            Ok(_) => made.push(name.as_str()),
            Err(Error::NameTooLong) => {}
            Err(e) => panic!("{name}: {e}"),
        }
    }
    assert_eq!(made, [format!("0x{}", "ff".repeat(126))]);
}

#[test]
fn the_name_of_the_control_directory_is_taken_in_the_root_alone() {
    let mut fs = Fs::new(&with(&[b"k"]));
    refused!(fs.mkdir(".boltfs"), Error::Exists);
    refused!(fs.rmdir(".boltfs"), Error::NotPermitted);
    refused!(fs.mv("b", ".boltfs"), Error::NotPermitted);
    refused!(fs.mv(".boltfs", "c"), Error::NotPermitted);
    fs.mkdir("%2Eboltfs").unwrap();
    fs.save("b/.boltfs", "a key").unwrap();
    assert_eq!(fs.ls(""), ["%2Eboltfs", "b"]);
    let committed = fs.commit();
    assert!(committed.bucket(&[b".boltfs".to_vec()]).is_some());
    assert_eq!(
        committed.value(&[b"b".to_vec()], b".boltfs"),
        Some(&b"a key"[..])
    );
}
