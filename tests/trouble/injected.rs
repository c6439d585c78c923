//! A system call of the commit fails, or the process is killed at it: each call, of each kind that a commit makes.

use std::path::Path;

use crate::common::case::{Case, Running, assert_failed};
use crate::common::{Oracle, Tree};
use crate::database;

/// The calls by which a commit changes something on disk.
const CALLS: [&str; 6] = [
    "pwrite64",
    "ftruncate",
    "fallocate",
    "fdatasync",
    "fsync",
    "unlink",
];

/// How a commit comes about.
const COMMITS: [&str; 2] = ["echo commit > mnt/.boltfs/control", "boltfs umount mnt"];

/// An edit that takes pages from the list and adds some.
const EDIT: &str =
    "echo hello > mnt/b/k; rm mnt/b/key01?; head -c 20000 /dev/zero > mnt/b/large; mkdir mnt/n";

fn content(file: &Path) -> Tree {
    Oracle::shared().assert_sound(file);
    Oracle::shared().dump(file).expect("bbolt reads it")
}

/// Traces the process that serves the mount, and has its calls end as `how` says.
pub fn inject(case: &Case, call: &str, how: &str) -> Running {
    let server = case.server();
    let strace = case.start(&format!(
        "strace -f -p {server} -o trace -e trace={call} -e inject={call}:{how}"
    ));
    case.sh(&format!(
        "for task in /proc/{server}/task/*; do until grep -q 'TracerPid:[^0-9]*[1-9]' $task/status; do sleep 0.01; done; done"
    ))
    .expect_success();
    strace
}

/// The state without the edit, and with it.
fn old_and_new() -> (Tree, Tree) {
    let case = Case::with(database);
    let old = content(&case.db());
    case.sh(&format!("boltfs db mnt; {EDIT}; boltfs umount mnt"))
        .expect_success();
    (old, content(&case.db()))
}

#[test]
fn a_kill_at_any_step_of_a_commit_leaves_the_old_state_or_the_new_one_and_the_edits() {
    let (old, new) = old_and_new();
    let case = Case::with(database);
    let original = std::fs::read(case.db()).unwrap();
    let (mut olds, mut news) = (0, 0);
    for commit in COMMITS {
        for call in CALLS {
            for number in 1.. {
                assert!(number < 100, "it never ends");
                std::fs::write(case.db(), &original).unwrap();
                case.sh(&format!("boltfs db mnt; {EDIT}")).expect_success();
                let strace = inject(&case, call, &format!("signal=KILL:when={number}"));
                if case.sh(commit).is_success() {
                    drop(strace);
                    let _ = case.boltfs(&["umount", "mnt"]);
                    case.await_end();
                    break;
                }
                case.await_unserved();
                drop(strace);
                let what = format!("{commit}, {call} {number}");
                let is = content(&case.db());
                if commit == COMMITS[0] {
                    let dead = case.sh("ls mnt");
                    assert!(
                        dead.stderr.contains("Transport endpoint is not connected"),
                        "{what}: {dead}"
                    );
                    assert_failed(&case.boltfs(&["umount", "mnt"]), 1, " has died; ");
                }
                assert!(case.line().is_none(), "{what}");
                let journal = case.join("db.boltfs-journal").exists();
                if is.difference(&old).is_none() {
                    olds += 1;
                    assert!(journal, "{what}: the edits are lost");
                    case.sh("boltfs --recover db mnt; boltfs umount mnt")
                        .expect_success();
                } else {
                    news += 1;
                    new.assert_same(&is, &what);
                    // Nothing is asked: it is known to be committed. The journal goes.
                    case.sh("boltfs db mnt; [ -z \"$(cat mnt/.boltfs/pending)\" ]; boltfs umount mnt; [ \"$(echo db*)\" = db ]")
                        .expect_success();
                }
                new.assert_same(&content(&case.db()), &what);
            }
        }
    }
    println!(
        "killed at {} steps: {olds} times the old state, {news} times the new one",
        olds + news
    );
    assert!(olds > 8 && news > 2);
}

#[test]
fn an_error_at_any_step_of_a_commit_is_told_and_the_edits_are_kept() {
    let (old, new) = old_and_new();
    let case = Case::with(database);
    let original = std::fs::read(case.db()).unwrap();
    let (mut failed, mut unknown) = (0, 0);
    for commit in COMMITS {
        for (call, error, said) in [
            ("pwrite64", "EIO", "Input/output error"),
            ("pwrite64", "ENOSPC", "Make room on its disk."),
            ("pwrite64", "EDQUOT", "Make room on its disk."),
            ("ftruncate", "EIO", "Input/output error"),
            ("fdatasync", "EIO", "Input/output error"),
            ("fsync", "EIO", "Input/output error"),
        ] {
            for number in 1.. {
                assert!(number < 100, "it never ends");
                std::fs::write(case.db(), &original).unwrap();
                case.sh(&format!("boltfs db mnt; {EDIT}")).expect_success();
                let strace = inject(&case, call, &format!("error={error}:when={number}"));
                let output = case.sh(commit);
                let what = format!("{commit}, {error} at {call} {number}");
                let trace = std::fs::read_to_string(case.join("trace")).unwrap();
                drop(strace);
                if !trace.contains("(INJECTED)") {
                    assert!(output.is_success(), "{what}: {output}");
                    let _ = case.boltfs(&["umount", "mnt"]);
                    case.await_end();
                    break;
                }
                // The last call makes durable that the journal is gone, after the commit.
                if output.is_success() {
                    assert_eq!((call, number), ("fsync", 1), "{what}: {output}");
                    let _ = case.boltfs(&["umount", "mnt"]);
                    case.await_end();
                    new.assert_same(&content(&case.db()), &what);
                    continue;
                }
                failed += 1;
                assert!(case.join("db.boltfs-journal").exists(), "{what}");
                case.sh("cp db copy").expect_success();
                let is = content(&case.join("copy"));
                if commit == COMMITS[0] {
                    assert_eq!(output.code(), Some(1), "{what}: {output}");
                    let told = case.sh("cat mnt/.boltfs/control; wc -l < mnt/.boltfs/pending");
                    let text = told.expect_success().text();
                    assert!(text.starts_with("NOT COMMITTED: "), "{what}: {text}");
                    assert!(text.contains(said), "{what}: {text}");
                    // The last step of all: what has been done cannot be taken back, nor built on.
                    let made = text.contains("The file shows transaction 5;");
                    let kept = match made {
                        true => " Your edits are still to be seen, and kept in ",
                        false => " Your edits are still pending, and kept in ",
                    };
                    assert!(text.contains(kept), "{what}: {text}");
                    assert!(text.ends_with("\n13\n"), "{what}: {text}");
                    unknown += u32::from(text.contains("it is not known whether"));
                    assert_old_unless_unknown(&is, &old, &new, &text, &what);
                    if made {
                        let refused = case.sh("not sh -c 'echo x > mnt/b/k'; not sh -c 'echo commit > mnt/.boltfs/control'; cat mnt/.boltfs/control");
                        assert!(
                            refused.stderr.contains("Read-only file system"),
                            "{what}: {refused}"
                        );
                        assert_eq!(refused.text(), text.trim_end_matches("13\n"), "{what}");
                        assert_failed(
                            &case.boltfs(&["umount", "mnt"]),
                            1,
                            "it is not known whether",
                        );
                        case.sh("boltfs db mnt; [ -z \"$(cat mnt/.boltfs/pending)\" ]; boltfs umount mnt")
                            .expect_success();
                        new.assert_same(&content(&case.db()), &what);
                        continue;
                    }
                    // What was in the way is gone: the next try takes it all.
                    case.sh("echo commit > mnt/.boltfs/control || { cat mnt/.boltfs/control; exit 1; }; boltfs umount mnt")
                        .expect_success();
                } else {
                    assert_failed(&output, 1, "boltfs: NOT COMMITTED: ");
                    assert_failed(&output, 1, said);
                    assert_failed(
                        &output,
                        1,
                        "/db.boltfs-journal: mount again with --recover.",
                    );
                    assert_old_unless_unknown(&is, &old, &new, &output.stderr, &what);
                    case.sh("boltfs --recover db mnt; boltfs umount mnt")
                        .expect_success();
                }
                new.assert_same(&content(&case.db()), &what);
                assert!(!case.join("db.boltfs-journal").exists(), "{what}");
            }
        }
    }
    println!(
        "{failed} calls have failed, after {unknown} of them it was not known what is durable"
    );
    assert!(failed > 30 && unknown > 0);
}

/// Only where the last step failed, and that is told, it may be that the commit was made.
#[track_caller]
fn assert_old_unless_unknown(is: &Tree, old: &Tree, new: &Tree, told: &str, what: &str) {
    if told.contains("it is not known whether the commit of transaction ") {
        let shown = match told.contains("The file shows transaction 4;") {
            true => old,
            false => new,
        };
        shown.assert_same(is, what);
    } else {
        assert!(told.contains(" is as it was."), "{what}: {told}");
        old.assert_same(is, what);
    }
}

#[test]
fn a_commit_that_takes_long_says_so() {
    let case = Case::with(database);
    case.sh("boltfs db mnt; echo hello > mnt/b/k")
        .expect_success();
    let strace = inject(&case, "fdatasync", "delay_enter=3s:when=1");
    let output = case.boltfs(&["umount", "mnt"]).expect_success();
    drop(strace);
    let lines: Vec<_> = output.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{output}");
    assert!(
        lines[0].starts_with("boltfs: still at work on ")
            && lines[0].ends_with("db: all of a database is read before the first commit to it"),
        "{output}"
    );
    assert!(
        lines[1].starts_with("boltfs: committed transaction "),
        "{output}"
    );
}

/// Who drops the edits waits for no commit, and is told of none.
#[test]
fn a_discard_that_takes_long_speaks_of_no_commit() {
    let case = Case::with(database);
    case.sh("boltfs db mnt; echo hello > mnt/b/k")
        .expect_success();
    let strace = inject(&case, "unlink,unlinkat", "delay_enter=3s:when=1");
    let output = case
        .boltfs(&["umount", "--discard", "mnt"])
        .expect_success();
    drop(strace);
    let trace = std::fs::read_to_string(case.join("trace")).unwrap();
    assert!(trace.contains("db.boltfs-journal"), "{trace}");
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
    assert!(!output.stderr.contains("at work"), "{output}");
}
