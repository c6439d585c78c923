//! Edits that were recovered, under a command that fails.

use std::fs;

use crate::common::case::{Case, assert_failed, signal};
use crate::rich;

/// A killed mount that has left key `b/kept` in the journal.
fn killed() -> Case {
    let case = rich();
    case.sh("boltfs db mnt; echo kept > mnt/b/kept")
        .expect_success();
    signal("KILL", &case.server().to_string());
    case.await_unserved();
    let _ = case.boltfs(&["umount", "mnt"]);
    case
}

fn journal(case: &Case) -> String {
    case.boltfs(&["journal", "db.boltfs-journal"])
        .expect_success()
        .text()
}

#[test]
fn a_command_that_fails_leaves_the_recovered_edits_in_the_journal() {
    let case = killed();
    let (before, edits) = (fs::read(case.db()).unwrap(), journal(&case));
    let kept = format!(
        "boltfs: discarded what the command did, {} is unchanged. The edits that were recovered are still in \
         {}: mount again with --recover.\n",
        case.db().display(),
        case.join("db.boltfs-journal").display()
    );
    // A command that cannot be run, one that fails, and one that is killed.
    for (command, status) in [
        ("no-such-program -r foo", 127),
        (
            "sh -c 'cat mnt/b/kept; echo more > mnt/b/more; rm -r mnt/b/kept mnt/c; mkdir mnt/new; exit 3'",
            3,
        ),
        ("sh -c 'echo more >> mnt/b/kept; kill -KILL $$'", 137),
    ] {
        let output = case.sh(&format!("boltfs --recover db mnt -- {command}"));
        assert_failed(&output, status, &kept);
        assert_eq!(journal(&case), edits, "{command}");
        assert!(fs::read(case.db()).unwrap() == before);
    }
    // Who does not ask for them is told of them, as before.
    assert_failed(&case.boltfs(&["db", "mnt"]), 1, "Mount with --recover");
    let output = case.sh("boltfs --recover db mnt -- sh -c 'rm mnt/b/text'");
    output.expect_success();
    assert_eq!(case.value("b", "kept").as_deref(), Some("kept\n"));
    assert_eq!(case.value("b", "text"), None);
    assert!(!case.join("db.boltfs-journal").exists());
}

#[test]
fn what_the_command_has_committed_or_discarded_itself_is_done_with() {
    let case = killed();
    let output = case.sh(
        "boltfs --recover db mnt -- sh -c 'echo commit > mnt/.boltfs/control; echo more > mnt/b/more; exit 3'",
    );
    assert_failed(&output, 3, "discarded 1 change, ");
    assert_eq!(case.value("b", "kept").as_deref(), Some("kept\n"));
    assert_eq!(case.value("b", "more"), None);
    assert!(!case.join("db.boltfs-journal").exists());

    let case = killed();
    let output = case.sh(
        "boltfs --recover db mnt -- sh -c 'echo discard > mnt/.boltfs/control; echo more > mnt/b/more; exit 3'",
    );
    assert_failed(&output, 3, "discarded 1 change, ");
    assert_eq!(case.value("b", "kept"), None);
    assert!(!case.join("db.boltfs-journal").exists());
}

#[test]
fn a_journal_that_waits_is_told_in_the_words_that_fit() {
    let case = killed();
    let holds = format!(
        "boltfs: {} holds 2 edits of an earlier mount (create b/kept; write b/kept: 5 bytes at 0), never \
         committed. Mount with --recover to have them pending again, or with --discard to drop them.",
        case.join("db.boltfs-journal").display()
    );
    assert_failed(&case.boltfs(&["db", "mnt"]), 1, &holds);
    for option in ["-r", "--dry-run"] {
        let output = case.sh(&format!("boltfs {option} db mnt; boltfs umount mnt"));
        let told = format!("they are not shown here. Mount without {option} to recover them\n");
        assert!(
            output.clone().expect_success().stderr.contains(&told),
            "{output}"
        );
    }
    let output = case.sh("boltfs --recover db mnt; rm mnt/b/kept; boltfs umount mnt");
    let told = "boltfs: warning: recovered 2 operations of an earlier mount: 1 change is pending, see \
                .boltfs/pending in the mount\n";
    assert!(
        output.clone().expect_success().stderr.contains(told),
        "{output}"
    );
    case.sh("boltfs db mnt; rm mnt/b/text").expect_success();
    signal("KILL", &case.server().to_string());
    case.await_unserved();
    let _ = case.boltfs(&["umount", "mnt"]);
    let output = case.sh("boltfs --recover db mnt; boltfs umount mnt");
    let told = "recovered 1 operation of an earlier mount: 1 change is pending, ";
    assert!(
        output.clone().expect_success().stderr.contains(told),
        "{output}"
    );
}
