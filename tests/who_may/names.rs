//! What stands in a database are names and values that somebody else chose: no name leads out of the mount, and nothing that we
//! say acts on a terminal.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::common::case::Case;
use crate::common::process::Output;
use crate::common::{Node, Options, Oracle, Tree};

/// Keys that would lead elsewhere, or do something, if they were names as they are.
const KEYS: [&[u8]; 22] = [
    b"..",
    b".",
    b"../../etc/passwd",
    b"a/../../etc",
    b"/etc/passwd",
    b"/",
    b"//",
    b"nul\0nul",
    b"\0",
    b"\x1b[2J",
    b"\x1b]0;title\x07",
    b"line\nline",
    b"\r",
    b"\x08\x08",
    b"\x7f",
    b"\xc2\x9b2J",
    b"\x9b2J",
    b"\xff\xfe",
    b".boltfs",
    b"%2F..",
    b"-rf",
    b"0x2e2e",
];

/// All [`KEYS`], as buckets in the root and as keys in each, with values that would do something too.
fn hostile() -> Tree {
    let mut bucket = Tree::default();
    for key in KEYS {
        let value = [b"\x1b[2J\x1b]0;owned\x07 ".as_slice(), key].concat();
        bucket.nodes.insert(key.to_vec(), Node::Value(value));
    }
    let json = "{\"a\":\"\\u001b[2J\",\"n\":9223940723929199765,\"\u{7f}\u{9b}2J\":1}";
    bucket
        .nodes
        .insert(b"json".to_vec(), Node::Value(json.into()));
    // Many enough for a page of its own.
    for n in 0..200 {
        let key = format!("\x1b[2J{n:03}").into_bytes();
        bucket.nodes.insert(key, Node::Value(vec![b'v'; 60]));
    }
    let mut tree = Tree::default();
    for key in KEYS {
        tree.nodes
            .insert(key.to_vec(), Node::Bucket(bucket.clone()));
    }
    tree
}

fn case() -> Case {
    Case::with(|db| {
        Oracle::shared()
            .create(db, &hostile(), Options::default())
            .expect("bbolt makes a database");
    })
}

fn acts(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
}

/// The keys below a directory, and fails the test for a name that is more than one.
fn keys(dir: &Path, depth: usize) -> Vec<BTreeSet<String>> {
    let mut found = vec![BTreeSet::new(); depth];
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().expect("a name is text");
        assert!(
            !name.contains(['/', '\0']) && !name.contains(acts),
            "{name:?}"
        );
        assert!(name != "." && name != "..", "{name:?}");
        let path = entry.path();
        let mut key = [0; 1000];
        let len = rustix::fs::getxattr(&path, "user.bbolt.key", &mut key).unwrap();
        let key = String::from_utf8(key[..len].to_vec()).unwrap();
        assert!(found[0].insert(key), "{name:?} is listed twice");
        let found_by_name = fs::symlink_metadata(dir.join(&name)).unwrap();
        assert_eq!(found_by_name.file_type(), entry.file_type().unwrap());
        if found_by_name.is_dir() {
            let below = keys(&path, depth - 1);
            for (all, new) in found[1..].iter_mut().zip(below) {
                assert!(
                    all.is_empty() || *all == new,
                    "{name:?} is not what it should be"
                );
                *all = new;
            }
        }
    }
    found
}

#[test]
fn no_name_leads_out_of_the_mount() {
    let case = case();
    case.sh("echo mine > passwd; mkdir etc; echo mine > etc/passwd; mkdir out; boltfs db mnt")
        .expect_success();
    let found = keys(&case.join("mnt"), 2);
    let hex = |key: &[u8]| key.iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(found[0], KEYS.map(hex).into());
    let all: BTreeSet<String> = match &hostile().nodes[KEYS[0]] {
        Node::Bucket(bucket) => bucket.nodes.keys().map(|key| hex(key)).collect(),
        Node::Value(_) => unreachable!("it is a bucket"),
    };
    assert_eq!(found[1], all);
    // With the tools that people copy and delete with, as they use them on any directory.
    let output = case.sh(
        "cp -a mnt/. out/cp; tar -C mnt -cf t . ; mkdir out/tar; tar -C out/tar -xf t; rsync -a mnt/ out/rsync
         diff -r out/cp mnt; diff -r out/tar mnt; diff -r out/rsync mnt; cd mnt; rm -rf -- * ..?*; ls -A; cd ..; cat passwd etc/passwd; ls -A",
    );
    assert_eq!(
        output.expect_success().text(),
        "mine\nmine\ndb\ndb.boltfs-journal\netc\nmnt\nout\npasswd\nt\n"
    );
    case.boltfs(&["umount", "mnt"]).expect_success();
    assert!(case.content().nodes.is_empty());
}

/// Fails the test if something in the output would act on a terminal, or `seen` is not in it.
#[track_caller]
fn assert_harmless(output: &Output, seen: &str) {
    for text in [&output.text(), &output.stderr] {
        assert!(!text.contains(acts), "{text:?}");
    }
    let said = format!("{}{}", output.text(), output.stderr);
    assert!(said.contains(seen), "{seen}: {output}");
}

/// The name of the bucket, and of the key, that would clear the screen.
const CLEAR: &str = "0x1b5b324a";

#[test]
fn what_is_pending_acts_on_no_terminal() {
    let case = case();
    case.sh(&format!(
        r#"
        boltfs db mnt; cd mnt/{CLEAR}; rm {CLEAR}; printf '{{"a": "\e[2J", "n": 9223940723929200000}}' > json; echo $'\e[2J' > '%2F'
        echo $'\e[2J' > .$'\302\240'.swp; mv ../0x1b5d303b7469746c6507 ../moved; rmdir ../0xc29b324a 2> /dev/null || true
        "#
    ))
    .expect_success();
    for line in [
        "cat mnt/.boltfs/pending",
        "boltfs status mnt",
        "boltfs status || true",
        "boltfs diff mnt || true",
        "boltfs journal db.boltfs-journal",
        "ls -lR mnt",
        "boltfs db 2>&1 || true; boltfs --recover db mnt 2>&1 || true; ls mnt",
    ] {
        assert_harmless(&case.sh(line).expect_success(), CLEAR.split_at(4).0);
    }
    // A journal that is asked about is summed up.
    let server = case.server().to_string();
    crate::common::case::signal("KILL", &server);
    case.await_unserved();
    let asked = case
        .sh("boltfs umount mnt || true; boltfs db mnt")
        .expect_failure();
    assert_harmless(&asked, "rename 0x1b5d303b7469746c6507 to moved");
    let mut report = case
        .sh("boltfs --recover db mnt; boltfs umount mnt")
        .expect_success();
    assert_harmless(&report, "1 key added");
    assert_harmless(&report, "json: was JSON and is not any more");
    // What has been said to the control file is said again.
    report = case.sh(
        "boltfs -f db mnt 2> said & until [ -e mnt/.boltfs ]; do sleep 0.05; done
         printf 'x\\e[2J\\n\\r\\302\\2332J' > mnt/.boltfs/control || true; cat mnt/.boltfs/control; boltfs umount mnt; wait; cat said",
    );
    assert_harmless(&report, "unknown command \"x\\u{1b}[2J");
}

/// Damage is told by the name of the bucket: by the check, when it is mounted, and when it is come upon.
#[test]
fn what_is_said_of_damage_acts_on_no_terminal() {
    let case = case();
    let mut bytes = fs::read(case.db()).unwrap();
    let mut broken = 0;
    for page in bytes.chunks_mut(4096).skip(4) {
        let marks = page.windows(5).any(|w| w == b"\x1b[2J1");
        // The flags of a leaf page, the others being a branch, a meta, a list of free pages.
        if marks && page[8..10] == [2, 0] {
            page[8..10].copy_from_slice(&[0, 0]);
            broken += 1;
        }
    }
    assert!(broken > 3, "{broken} pages broken");
    fs::write(case.db(), bytes).unwrap();
    assert_harmless(&case.sh("boltfs check db || true"), CLEAR);
    let output = case.sh(
        "boltfs -f db mnt 2> said & until [ -e mnt/.boltfs ]; do sleep 0.05; done
         ls -R mnt > /dev/null 2>&1 || true; boltfs umount mnt; wait; cat said",
    );
    assert_harmless(&output, "What lies there reads as an input/output error");
    assert_harmless(&output, CLEAR);
}

/// Names of files and of processes come from somebody else too.
#[test]
fn who_is_in_the_way_acts_on_no_terminal() {
    let case = case();
    case.sh(
        "cp $(which sleep) $'s\\e[2J\\302\\2332J'; cp db $'d\\e[2J\\302\\2332J'; mkdir $'m\\e[2J'",
    )
    .expect_success();
    let shown = "s^[[2J<U+009B>2J (pid ";
    let holder = case.start("flock --no-fork db ./s$'\\e'[2J$'\\302\\233'2J 600");
    case.await_locked();
    crate::common::process::wait_until(
        "it has its name",
        std::time::Duration::from_secs(30),
        || fs::read(format!("/proc/{}/comm", holder.id())).is_ok_and(|comm| comm[0] == b's'),
    );
    assert_harmless(&case.boltfs(&["db", "mnt"]), shown);
    drop(holder);
    let output = case.sh(
        "d=$(echo d[!b]*) m=$(echo m[!n]*); boltfs \"$d\" \"$m\"; boltfs status || true; boltfs \"$d\" mnt 2>&1 || true
         cd \"$m\"; ../s* 600 > /dev/null 2>&1 & sleeper=$!; cd ..
         until [ \"$(head -c 2 /proc/$sleeper/comm)\" = $'s\\e' ]; do sleep 0.05; done
         boltfs umount \"$m\" 2>&1 || kill $sleeper; wait $sleeper || true; boltfs umount \"$m\"; boltfs check \"$d\"",
    );
    let output = output.expect_success();
    assert_harmless(&output, "/d^[[2J<U+009B>2J is mounted on ");
    assert_harmless(&output, "/m^[[2J is in use: s^[[2J<U+009B>2J (pid ");
    let bytes = std::ffi::OsStr::from_bytes(b"no\x1b[2J");
    let output = crate::common::process::run(case.command("boltfs").arg(bytes).arg("mnt"));
    assert_harmless(&output, "no^[[2J does not exist");
}
