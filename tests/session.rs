//! The life of a mount: the real command, the real kernel, the real bbolt beside it.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::case::{Case, assert_failed, is_root, signal};
use common::{Oracle, Tree};

#[test]
fn the_command_returns_when_the_mount_is_live_and_umount_when_it_is_over() {
    let case = Case::new();
    let before = fs::metadata(case.db()).unwrap();
    let content = fs::read(case.db()).unwrap();
    let output = case.boltfs(&["db", "mnt"]).expect_success();
    assert_eq!((output.text().as_str(), output.stderr.as_str()), ("", ""));
    let line = case.line().expect("live when the command returns");
    let source = format!(" - fuse.boltfs {} rw,", case.db().display());
    assert!(line.contains(&source), "{line}");
    assert!(line.contains(" rw,nosuid,nodev,"), "{line}");
    // Where root alone is let in there is nothing to look up them for.
    let checked = line.contains(",default_permissions");
    assert_eq!(checked, !common::case::is_root(), "{line}");
    assert!(case.is_locked());
    assert_eq!(case.sh("cat mnt/b/k").text(), "value");
    // It keeps neither the directory it was started in nor the terminal's session.
    let server = case.server();
    let directory = fs::read_link(format!("/proc/{server}/cwd")).unwrap();
    assert_eq!(directory, Path::new("/"));
    let stat = fs::read_to_string(format!("/proc/{server}/stat")).unwrap();
    assert!(stat.starts_with(&format!("{server} (boltfs) ")), "{stat}");
    let session = stat.split(' ').nth(5).unwrap();
    assert_eq!(session, server.to_string());

    let output = case.boltfs(&["umount", "mnt"]).expect_success();
    // The lock is free at once, not a moment later.
    assert!(!case.is_locked());
    assert!(case.line().is_none());
    let report = format!(
        "boltfs: nothing to commit, {} is unchanged\n",
        case.db().display()
    );
    assert_eq!(output.stderr, report);
    let after = fs::metadata(case.db()).unwrap();
    assert_eq!(fs::read(case.db()).unwrap(), content);
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
}

#[test]
fn umount_commits_and_says_what_it_did() {
    let case = Case::new();
    case.boltfs(&["db", "mnt"]).expect_success();
    case.sh("rm mnt/b/k; echo new > mnt/b/n; mkdir mnt/c; echo x > mnt/c/4913");
    // Nothing reaches the database before.
    let before = fs::read(case.db()).unwrap();
    let output = case.boltfs(&["umount", "mnt"]).expect_success();
    let said = format!(
        "boltfs: committed transaction 3 to {}: 2 keys added, 0 changed, 1 deleted; 1 bucket \
         added, 0 moved, 0 deleted\nboltfs: note: c/4913: looks like an editor's leftover; delete \
         it if you did not mean it\n",
        case.db().display()
    );
    assert_eq!(output.stderr, said);
    assert_ne!(fs::read(case.db()).unwrap(), before);
    assert_eq!(case.value("b", "k"), None);
    assert_eq!(case.value("b", "n").as_deref(), Some("new\n"));
    assert_eq!(case.value("c", "4913").as_deref(), Some("x\n"));
}

#[test]
fn umount_discard_drops_everything() {
    let case = Case::new();
    let before = fs::read(case.db()).unwrap();
    case.sh("boltfs db mnt; rm mnt/b/k; echo new > mnt/b/n");
    let output = case
        .boltfs(&["umount", "--discard", "mnt"])
        .expect_success();
    assert!(
        output.stderr.starts_with("boltfs: discarded 2 changes, "),
        "{output}"
    );
    assert_eq!(fs::read(case.db()).unwrap(), before);
    assert!(case.line().is_none() && !case.is_locked());
}

#[test]
fn a_refused_discard_is_forgotten() {
    let case = Case::new();
    case.sh("boltfs db mnt; echo new > mnt/b/n");
    let user = case.start("env -C mnt sleep 600");
    let output = case.boltfs(&["umount", "--discard", "mnt"]);
    assert_failed(&output, 1, "is in use");
    drop(user);
    let output = case.boltfs(&["umount", "mnt"]).expect_success();
    assert!(output.stderr.contains("committed transaction"), "{output}");
    assert_eq!(case.value("b", "n").as_deref(), Some("new\n"));
}

#[test]
fn paths_are_taken_from_the_directory_of_the_caller() {
    let case = Case::new();
    case.sh("mkdir sub; ln -s ../mnt sub/link; cd sub; boltfs ../db link/")
        .expect_success();
    assert!(case.line().is_some());
    case.sh("cd sub; boltfs umount link").expect_success();
    assert!(case.line().is_none());
}

#[test]
fn a_database_with_the_name_of_a_command_is_given_with_a_path() {
    let case = Case::new();
    case.sh("mv db umount; boltfs ./umount mnt; boltfs umount mnt; mv umount db")
        .expect_success();
}

#[test]
fn readers_share_the_lock() {
    let case = Case::new();
    case.boltfs(&["-r", "db", "mnt"]).expect_success();
    let line = case.line().unwrap();
    assert!(line.contains(" ro,nosuid,nodev,"), "{line}");
    case.sh("mkdir two three").expect_success();
    case.boltfs(&["-o", "ro", "db", "two"]).expect_success();
    assert_failed(&case.boltfs(&["db", "three"]), 1, "is mounted on");
    assert_failed(&case.sh("echo x > mnt/b/k"), 1, "Read-only file system");
    assert_failed(&case.sh("rm mnt/b/k"), 1, "Read-only file system");
    case.boltfs(&["umount", "mnt"]).expect_success();
    assert!(case.is_locked());
    case.boltfs(&["umount", "two"]).expect_success();
    assert!(!case.is_locked());
}

#[test]
fn whatever_unmounts_commits() {
    let case = Case::new();
    let unmounts = if is_root() {
        &["umount mnt", "umount -l mnt", "fusermount3 -u mnt"][..]
    } else {
        &["fusermount3 -u mnt", "fusermount3 -uz mnt"]
    };
    for unmount in unmounts {
        case.sh(&format!(
            "boltfs db mnt; echo '{unmount}' > mnt/b/k; {unmount}"
        ))
        .expect_success();
        case.await_end();
        // A text without a final newline keeps having none.
        assert_eq!(case.value("b", "k").as_deref(), Some(*unmount));
    }
}

#[test]
fn signals_commit() {
    let case = Case::new();
    for name in ["INT", "TERM", "HUP"] {
        let front = case.start("boltfs -f db mnt");
        case.await_mounted();
        case.sh(&format!("echo {name} > mnt/b/k")).expect_success();
        front.signal(name);
        let (status, said) = front.end();
        assert_eq!(status, 0, "{said}");
        assert!(said.contains("committed transaction"), "{said}");
        assert!(case.line().is_none());
        assert_eq!(case.value("b", "k").as_deref(), Some(name));
    }
    // In the background as well.
    case.sh("boltfs db mnt; echo background > mnt/b/k")
        .expect_success();
    signal("TERM", &case.server().to_string());
    case.await_end();
    assert_eq!(case.value("b", "k").as_deref(), Some("background"));
}

#[test]
fn a_busy_mount_is_refused_by_name_and_stays() {
    let case = Case::new();
    case.boltfs(&["db", "mnt"]).expect_success();
    let users = [
        ("env -C mnt sleep 600", "has its working directory in it"),
        ("sleep 600 < mnt/b/k", "mnt/b/k open"),
    ];
    for (line, does) in users {
        let user = case.start(line);
        let who = format!("sleep (pid {}) has ", user.id());
        // It is not sleep at first, but the shell that becomes it, and does not use the mount yet.
        common::process::wait_until("sleep runs", std::time::Duration::from_secs(30), || {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", user.id()));
            name.is_ok_and(|name| name.trim() == "sleep")
        });
        let output = case.boltfs(&["umount", "mnt"]);
        assert_failed(&output, 1, &who);
        assert_failed(&output, 1, does);
        assert!(case.line().is_some());
    }
    case.boltfs(&["umount", "mnt"]).expect_success();
}

#[test]
fn a_signal_ends_a_busy_mount_too() {
    let case = Case::new();
    let front = case.start("boltfs -f db mnt");
    case.await_mounted();
    let user = case.start("sleep 600 > mnt/b/k");
    case.sh(&format!(
        "until readlink /proc/{}/fd/1 | grep mnt/b/k; do sleep 0.05; done; echo more > mnt/b/more",
        user.id()
    ))
    .expect_success();
    let start = Instant::now();
    front.signal("TERM");
    let (status, said) = front.end();
    assert_eq!(status, 0, "{said}");
    assert!(start.elapsed() < Duration::from_secs(4), "{said}");
    let who = format!("is in use: sleep (pid {})", user.id());
    assert!(said.contains(&who), "{said}");
    assert!(said.contains("committed transaction"), "{said}");
    assert!(case.line().is_none());
    assert_eq!(case.value("b", "more").as_deref(), Some("more\n"));
}

#[test]
fn a_command_decides_what_its_edits_are_worth() {
    let case = Case::new();
    let output = case.boltfs(&[
        "db",
        "--",
        "sh",
        "-c",
        "cd \"$BOLTFS_MOUNT\" && echo one > b/k && pwd",
    ]);
    let output = output.expect_success();
    let point = output.text();
    assert!(!Path::new(point.trim()).exists(), "{point} is left");
    assert!(output.stderr.contains("committed transaction"), "{output}");
    assert_eq!(case.value("b", "k").as_deref(), Some("one"));

    let output = case.sh("boltfs db mnt -- sh -c 'echo two > mnt/b/k; exit 7'");
    assert_failed(&output, 7, "discarded 1 change");
    assert!(case.line().is_none() && !case.is_locked());
    let output = case.sh("boltfs db mnt -- sh -c 'echo two > mnt/b/k; kill -TERM $$'");
    assert_failed(&output, 128 + 15, "discarded 1 change");
    assert_failed(
        &case.sh("boltfs db -- no-such-program"),
        127,
        "cannot run no-such-program",
    );
    assert_failed(&case.sh("boltfs db -- ./db"), 126, "cannot run ./db");
    assert_failed(&case.sh("boltfs none -- true"), 125, "none does not exist");
    assert_eq!(case.value("b", "k").as_deref(), Some("one"));

    // A commit that fails is boltfs's failure, not the command's.
    let output = case.sh("boltfs db mnt -- sh -c 'echo two > mnt/b/k; mv db away'");
    assert_failed(&output, 125, "was moved or deleted while it was mounted");
    case.sh("mv away db").expect_success();
    assert_eq!(case.value("b", "k").as_deref(), Some("one"));
}

#[test]
fn signals_reach_the_command_and_not_the_mount() {
    let case = Case::new();
    let run = case.start("boltfs db mnt -- sh -c 'echo x > mnt/b/k; exec sleep 600'");
    case.await_mounted();
    case.sh("until grep -q x mnt/b/k; do sleep 0.05; done")
        .expect_success();
    // Ctrl-C goes to the whole process group.
    run.signal_group("INT");
    let (status, said) = run.end();
    assert_eq!(status, 128 + 2, "{said}");
    assert!(said.contains("discarded 1 change"), "{said}");
    let run = case.start("boltfs db mnt -- sleep 600");
    case.await_mounted();
    std::thread::sleep(Duration::from_millis(200));
    run.signal("TERM");
    let (status, said) = run.end();
    assert_eq!(status, 128 + 15, "{said}");
    assert!(case.line().is_none() && !case.is_locked());
    assert_eq!(case.value("b", "k").as_deref(), Some("value"));
}

#[test]
fn unmounting_under_a_command_leaves_the_decision_to_it() {
    let case = Case::new();
    let output = case.sh("boltfs db mnt -- sh -c 'echo x > mnt/b/k; fusermount3 -u mnt; exit 3'");
    assert_failed(&output, 3, "discarded 1 change");
    // The command goes on until it is told.
    let output = case.sh(
        "touch said; boltfs db mnt -- sh -c 'echo x > mnt/b/k; fusermount3 -u mnt
         until grep \"was unmounted while the command runs: \" said; do sleep 0.05; done' 2> said; cat said",
    );
    let output = output.expect_success();
    assert!(output.text().contains("committed"), "{output}");
    assert_eq!(case.value("b", "k").as_deref(), Some("x"));
}

#[test]
fn the_mount_of_a_command_ends_with_that_alone() {
    let case = Case::new();
    let start = Instant::now();
    let output = case.sh(
        "boltfs db mnt -- bash -c 'echo x > mnt/b/k; if boltfs umount mnt || boltfs umount --discard mnt; then exit 0; fi
         echo commit > mnt/.boltfs/control; echo y > mnt/b/k; if timeout 10 boltfs umount --discard mnt; then exit 0; fi
         [ -e mnt/b ] && exit 3' ||
         [ $? = 3 ]",
    );
    let output = output.expect_success();
    let point = case.join("mnt");
    let refused = format!(
        ") and ends with it. To commit now: echo commit > {}/.boltfs/control; to drop the edits: let \
         the command exit with a status other than 0.\n",
        point.display()
    );
    assert_eq!(output.stderr.matches(&refused).count(), 3, "{output}");
    let named = format!(
        "boltfs: {} belongs to a running command (pid ",
        point.display()
    );
    assert_eq!(output.stderr.matches(&named).count(), 3, "{output}");
    assert!(output.stderr.contains("discarded 1 change"), "{output}");
    assert_eq!(case.value("b", "k").as_deref(), Some("x"));
    // From outside as well; a refused discard decides nothing.
    let run = case
        .start("boltfs db mnt -- bash -c 'echo z > mnt/b/k; until [ -e go ]; do sleep 0.05; done'");
    case.await_mounted();
    case.sh("until grep -q z mnt/b/k; do sleep 0.05; done")
        .expect_success();
    let discard = case.boltfs(&["umount", "--discard", "mnt"]);
    assert_failed(&discard, 1, &named);
    assert!(case.line().is_some());
    case.sh("touch go").expect_success();
    let (status, said) = run.end();
    assert_eq!(status, 0, "{said}");
    assert_eq!(case.value("b", "k").as_deref(), Some("z"));
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_discard_that_has_unmounted_is_obeyed_even_if_it_is_killed() {
    let case = Case::new();
    let before = fs::read(case.db()).unwrap();
    // A copy of the mount elsewhere keeps it from ending at once.
    let lines = "boltfs db mnt; echo new > mnt/b/k
        $as_root unshare -m --propagation private sleep 600 > /dev/null 2>&1 & ns=$!
        until grep -q sleep /proc/$ns/comm || pgrep -P $ns sleep; do sleep 0.05; done
        boltfs umount --discard mnt & umount=$!
        while grep -q \"fuse.boltfs $PWD/db \" /proc/self/mountinfo; do sleep 0.01; done
        kill -9 $umount; wait $umount || true; sleep 0.3; kill $ns";
    case.sh(lines).expect_success();
    case.await_end();
    assert!(fs::read(case.db()).unwrap() == before);
    assert!(!case.join("db.boltfs-journal").exists());
}

#[test]
fn what_cannot_be_committed_in_its_place_is_put_beside_it() {
    let case = Case::new();
    case.sh("boltfs db mnt; echo mine > mnt/b/k; cp db other; mv other db")
        .expect_success();
    let before = fs::read(case.db()).unwrap();
    let output = case.boltfs(&["umount", "mnt"]);
    assert_failed(
        &output,
        1,
        "NOT COMMITTED: another file was put in the place of",
    );
    assert_failed(&output, 1, "Your edits are safe: ");
    assert_eq!(fs::read(case.db()).unwrap(), before);
    // In the place of the database it is known to have what the journal beside that has.
    assert!(case.join("db.boltfs-journal").exists());
    case.sh("cp db other; mv db.rescued-* db").expect_success();
    assert_eq!(case.value("b", "k").as_deref(), Some("mine"));
    case.sh("cp db.boltfs-journal other.boltfs-journal; boltfs db mnt; boltfs umount mnt")
        .expect_success();
    assert!(!case.join("db.boltfs-journal").exists());
    // Beside the database as it was, the edits are still to be had.
    case.sh("boltfs --recover other mnt; grep -q mine mnt/b/k; boltfs umount mnt")
        .expect_success();
}

#[test]
fn an_interrupted_start_leaves_nothing() {
    let case = Case::new();
    let holder = case.start("flock --no-fork db sleep 600");
    case.await_locked();
    let waiting = case.start("boltfs --wait 600 db mnt");
    std::thread::sleep(Duration::from_millis(300));
    waiting.signal_group("INT");
    assert_eq!(waiting.end().0, 128 + 2);
    drop(holder);
    std::thread::sleep(Duration::from_millis(300));
    assert!(case.line().is_none() && !case.is_locked());
}

#[test]
fn nothing_of_the_caller_is_kept() {
    let case = Case::new();
    // Would wait for ever if standard error stayed open, or for the lock if descriptor 9 did.
    let output = case.sh(
        "exec 9>lock; flock 9; out=$(boltfs db mnt 2>&1); echo \"[$out]\"; exec 9>&-
         flock -n lock echo free; boltfs umount mnt",
    );
    assert_eq!(output.expect_success().text(), "[]\nfree\n");
}

#[test]
fn a_dead_mount_is_recognised() {
    let case = Case::new();
    case.boltfs(&["db", "mnt"]).expect_success();
    signal("KILL", &case.server().to_string());
    common::process::wait_until("the lock is free", Duration::from_secs(30), || {
        !case.is_locked()
    });
    let output = case.boltfs(&["db", "mnt"]);
    assert_failed(&output, 1, "whose process has died. Unmount it first: ");
    assert_failed(&case.boltfs(&["umount", "mnt"]), 1, "has died");
    assert!(case.line().is_none());
    case.sh("boltfs db mnt; boltfs umount mnt").expect_success();
}

#[test]
fn umount_fails_loudly_when_the_report_never_comes() {
    let case = Case::new();
    case.boltfs(&["db", "mnt"]).expect_success();
    let server = case.server().to_string();
    signal("STOP", &server);
    let client = case.start("boltfs umount mnt");
    std::thread::sleep(Duration::from_millis(300));
    signal("KILL", &server);
    let (status, said) = client.end();
    assert_eq!(status, 1, "{said}");
    let wanted = "ended without saying whether the edits were committed";
    assert!(said.contains(wanted), "{said}");
}

#[test]
fn a_new_database_can_be_made() {
    let case = Case::with(|_| ());
    case.sh("boltfs --create db mnt; mkdir mnt/first; echo x > mnt/first/key; boltfs umount mnt")
        .expect_success();
    assert_eq!(case.value("first", "key").as_deref(), Some("x\n"));
    assert_failed(
        &case.boltfs(&["--create", "db", "mnt"]),
        1,
        "exists already. Mount it without --create",
    );
    let output = case
        .sh("boltfs --create empty mnt; boltfs umount mnt")
        .expect_success();
    assert!(output.stderr.contains("nothing to commit"), "{output}");
    let empty = Oracle::shared().dump(&case.join("empty")).unwrap();
    Tree::default().assert_same(&empty, "a new database");
    // What could not be mounted is not left behind.
    let output = case.boltfs(&["--create", "other", "none"]);
    assert_failed(&output, 1, "does not exist. Create it: mkdir");
    assert!(!case.join("other").exists());
}

#[test]
fn a_second_place_in_the_tree_is_told() {
    let case = Case::new();
    let output = case.sh(
        "boltfs db mnt; mkdir second; $as_root mount --bind mnt second
         not boltfs umount mnt 2> said; cat said; $as_root umount second; boltfs umount mnt",
    );
    assert!(output.expect_success().text().contains("/second as well"));
}

#[test]
fn a_copy_of_the_mount_in_another_namespace_does_not_keep_the_edits() {
    let case = Case::new();
    let lines = "boltfs db mnt; echo new > mnt/b/k
        $as_root unshare -m --propagation private sleep 600 > /dev/null 2>&1 & ns=$!
        until grep -q sleep /proc/$ns/comm || pgrep -P $ns sleep; do sleep 0.05; done
        boltfs umount mnt; kill $ns";
    let output = case.sh(lines).expect_success();
    assert!(output.stderr.contains("committed transaction"), "{output}");
    assert!(case.line().is_none() && !case.is_locked());
    assert_eq!(case.value("b", "k").as_deref(), Some("new"));
}

#[test]
fn what_nobody_may_execute_root_may_not() {
    let case = Case::new();
    case.boltfs(&["db", "mnt"]).expect_success();
    case.sh("test -x mnt/b && test -r mnt/b/k && test -w mnt/b/k && cd mnt/b")
        .expect_success();
    assert_failed(&case.sh("test -x mnt/b/k"), 1, "");
    assert_failed(
        &case.sh("printf '#!/bin/sh\necho ran' > mnt/b/k; mnt/b/k"),
        126,
        "Permission denied",
    );
    let ran = case.sh("chmod u+x mnt/b/k && test -x mnt/b/k && mnt/b/k && chmod a-x mnt/b/k");
    assert_eq!(ran.expect_success().text(), "ran\n");
    assert_failed(&case.sh("test -x mnt/b/k"), 1, "");
    case.boltfs(&["umount", "--discard", "mnt"])
        .expect_success();
}

#[test]
fn small_files_are_prefetched_unless_that_is_not_wanted() {
    for (options, prefetches) in [(&[][..], true), (&["-o", "noprefetch"][..], false)] {
        let case = Case::new();
        case.boltfs(&[options, &["db", "mnt"]].concat())
            .expect_success();
        let threads = fs::read_dir(format!("/proc/{}/task", case.server())).unwrap();
        let mut names =
            threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")).unwrap());
        assert_eq!(names.any(|name| name == "prefetch\n"), prefetches);
        assert_eq!(case.sh("cat mnt/b/k").text(), "value");
        case.boltfs(&["umount", "mnt"]).expect_success();
    }
}
