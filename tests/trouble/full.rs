//! No room: on the disk, or in what a process may take of it.

use std::fs;
use std::path::Path;

use crate::common::case::{Case, assert_failed};
use crate::common::{Oracle, Tree};
use crate::database;

fn dump(file: &Path) -> Tree {
    Oracle::shared().assert_sound(file);
    Oracle::shared().dump(file).expect("bbolt reads it")
}

/// Fills the rest of a file system, to the last byte.
const FILL: &str = "fill() { for size in 64K 4K 512 1; do dd if=/dev/zero bs=$size of=full/filler-$size 2> /dev/null || true; done; }";

#[test]
fn a_limit_to_the_size_of_files_is_an_error_and_not_the_end() {
    let case = Case::with(database);
    let before = dump(&case.db());
    let blocks = fs::metadata(case.db()).unwrap().len() / 1024 + 8;
    // The journal reaches it first: what does not fit is refused whole.
    let output = case.sh(&format!(
        "(ulimit -f {blocks}; boltfs db mnt); echo new > mnt/b/k; cp mnt/.boltfs/pending was
         if head -c 100K /dev/zero > mnt/b/large; then exit 9; fi
         ls -s mnt/b/large; rm mnt/b/large; cmp mnt/.boltfs/pending was; boltfs umount mnt"
    ));
    let output = output.expect_success();
    assert!(output.stderr.contains("File too large"), "{output}");
    assert!(
        output.stderr.contains("0 keys added, 1 changed, 0 deleted"),
        "{output}"
    );

    // A commit reaches it.
    let grown = dump(&case.db());
    let output = case.sh(&format!(
        "for n in $(seq 30); do head -c 1000 /dev/zero | tr '\\0' x > n$n; done; cp db was.db
         (ulimit -f {blocks}; boltfs db mnt); cp n* mnt/b; boltfs umount mnt"
    ));
    assert_failed(&output, 1, "NOT COMMITTED: ");
    assert_failed(&output, 1, "File too large");
    assert_failed(
        &output,
        1,
        "Mount it again with a higher limit (ulimit -f). Your edits are safe in ",
    );
    assert_failed(&output, 1, "db.boltfs-journal: mount again with --recover.");
    grown.assert_same(&dump(&case.db()), "after the commit that failed");
    let output = case
        .sh("boltfs --recover db mnt; boltfs umount mnt")
        .expect_success();
    assert!(output.stderr.contains("30 keys added"), "{output}");
    let (before, after) = (before.count(), dump(&case.db()).count());
    assert_eq!((after.0, after.1), (before.0 + 30, before.1));

    // Nothing is left of a database that could not be made.
    let output = case.sh("ulimit -f 1; boltfs --create new mnt");
    assert_failed(&output, 1, "cannot create new: File too large");
    assert_eq!(case.sh("ls -A | grep new || true").text(), "");
}

/// Where the journal cannot even be begun, the first edit is refused, as any other one.
#[test]
fn the_first_edit_on_a_full_disk_is_refused_and_leaves_nothing() {
    let case = Case::with(database);
    let output = case.sh(&format!(
        "{FILL}; mkdir full; $as_root mount -t tmpfs -o size=256k,mode=777 tmpfs full; cp db full/db; boltfs full/db mnt; fill
         if touch mnt/b/new 2> said; then exit 9; fi; cat said; if rm mnt/b/k 2> /dev/null; then exit 9; fi
         if echo x > mnt/b/k; then exit 9; fi; if mkdir mnt/new 2> /dev/null; then exit 9; fi
         cat mnt/b/k; echo; cat mnt/.boltfs/pending; ls -A full | grep -v filler; cmp db full/db
         rm full/filler*; echo later > mnt/b/k; [ -s full/db.boltfs-journal ]; boltfs umount mnt; cp full/db db; ls -A full; $as_root umount -l full"
    ));
    let output = output.expect_success();
    let text = output.text();
    let refused = "touch: cannot touch 'mnt/b/new': No space left on device\n";
    assert_eq!(text, format!("{refused}value\ndb\ndb\n"), "{output}");
    assert_eq!(case.value("b", "k").as_deref(), Some("later"));
}

/// Every kind of edit, tried where there is no room for it: it has not happened, and nothing of it.
#[test]
fn an_edit_that_does_not_fit_has_not_happened() {
    let case = Case::with(database);
    let long = "n".repeat(250);
    case.sh(&format!(
        "{FILL}; mkdir full; $as_root mount -t tmpfs -o size=256k,mode=777 tmpfs full; cp db full/db; boltfs full/db mnt
         echo first > mnt/b/k; mkdir mnt/b/sub mnt/b/d{long}; touch mnt/b/f{long}; fill
         # What is left of the journal's last page.
         for n in $(seq 400); do printf x >> mnt/b/l || break; done 2> /dev/null
         [ $n -lt 400 ]"
    ))
    .expect_success();
    let state = "find mnt -printf '%p %y %s\\n' | sort; cat mnt/b/k mnt/b/l mnt/.boltfs/pending; getfattr -Rd mnt/b/sub; stat -c %s full/db.boltfs-journal";
    let before = case.sh(state).expect_success().text();
    for edit in [
        format!("touch mnt/b/{long}"),
        format!("mkdir mnt/{long}"),
        format!("rm mnt/b/f{long}"),
        format!("rmdir mnt/b/d{long}"),
        format!("mv mnt/b/k mnt/b/{long}"),
        format!("mv mnt/b/sub mnt/{long}"),
        format!("mv mnt/b/f{long} mnt/b/k"),
        format!(
            "mv --exchange mnt/b/f{long} mnt/b/k 2>&1 || python3 -c 'import os; os.rename(\"mnt/b/f{long}\", \"mnt/b/k\")'"
        ),
        format!("truncate -s 7 mnt/b/f{long}"),
        "head -c 5000 /dev/zero >> mnt/b/k".to_owned(),
        "head -c 300K /dev/zero > mnt/b/sub/new".to_owned(),
        format!("setfattr -n user.bbolt.sequence -v 7 mnt/b/d{long}"),
    ] {
        let output = case.sh(&edit);
        assert!(!output.is_success(), "{output}");
        assert!(
            output.stderr.contains("No space left on device"),
            "{output}"
        );
        let after = case.sh(state).expect_success().text();
        assert_eq!(after, before, "{edit}");
    }
    // And nothing else is the matter: with room, all of it works, and is committed.
    case.sh("rm full/filler*; echo end > mnt/b/sub/new; boltfs umount mnt; cp full/db db; ls -A full; $as_root umount -l full")
        .expect_success();
    assert_eq!(case.value("b", "k").as_deref(), Some("first"));
}

/// A snapshot is replaced by a new file, for which there must be room.
#[test]
fn a_snapshot_that_cannot_be_made_anew_stays() {
    let case = Case::with(|db| {
        let fixtures = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/etcd-snapshot.db"
        );
        fs::copy(fixtures, db).expect("the fixture is there");
    });
    let output = case.sh(&format!(
        "{FILL}; mkdir full; size=$(stat -c %s db); $as_root mount -t tmpfs -o size=$((size + 100000)),mode=777 tmpfs full; cp db full/db
         boltfs full/db mnt; mkdir mnt/new; fill; ls -A full > was; boltfs umount mnt || echo $?; cmp db full/db; ls -A full | cmp - was
         rm full/filler*; mv full/db .; mv full/db.boltfs-journal .; $as_root umount -l full; boltfs --recover db mnt; boltfs umount mnt; boltfs check db"
    ));
    let output = output.expect_success();
    assert!(output.text().starts_with("1\n"), "{output}");
    assert!(output.stderr.contains("NOT COMMITTED: "), "{output}");
    assert!(
        output
            .stderr
            .contains("Make room on its disk. Your edits are safe in "),
        "{output}"
    );
    assert!(output.stderr.contains("1 bucket added"), "{output}");
}

/// Each commit in mid-mount takes a journal away that what was written is still read from: that costs no open file, of which
/// there are few here. In the end there is a journal as ever, and a command to unmount is heard.
#[test]
fn many_commits_with_few_open_files_lose_nothing() {
    let case = Case::with(database);
    let output = case.sh(
        "(ulimit -n 64; boltfs db mnt); yes long | head -c 1000 > long || true
         for n in $(seq 200); do { echo $n; cat long; } > one; cp one mnt/b/n$n; echo commit > mnt/.boltfs/control; done
         echo last > mnt/b/k; [ -s db.boltfs-journal ]; $as_root sh -c 'echo 1 > /proc/sys/vm/drop_caches'
         for n in $(seq 200); do { echo $n; cat long; } | cmp - mnt/b/n$n; done; timeout 60 boltfs umount mnt; ls db*",
    );
    let output = output.expect_success();
    assert_eq!(output.text(), "db\n", "{output}");
    let content = case.content();
    let b = [b"b".to_vec()];
    for n in 1..=200 {
        let value = content.value(&b, format!("n{n}").as_bytes());
        assert!(value.is_some_and(
            |value| value.starts_with(format!("{n}\nlong\n").as_bytes()) && value.len() > 1000
        ));
    }
    assert_eq!(content.value(&b, b"k"), Some(&b"last"[..]));
}

/// A limit that was only meant for who asks for no more is raised, and put back for the command that is run.
#[test]
fn the_limit_to_open_files_is_raised_as_far_as_it_may_be() {
    let case = Case::with(database);
    case.sh("(ulimit -Sn 64; ulimit -Hn 300; boltfs db mnt)")
        .expect_success();
    let limits = fs::read_to_string(format!("/proc/{}/limits", case.server())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<_> = line.unwrap().split_whitespace().collect();
    assert_eq!(words[3..5], ["300", "300"], "{limits}");
    let output = case.sh("boltfs umount mnt; ulimit -Sn 64; ulimit -Hn 300; boltfs db -- sh -c 'ulimit -Sn; ulimit -Hn'");
    assert_eq!(output.expect_success().text(), "64\n300\n");
}
