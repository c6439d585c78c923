//! Bad input: each refusal says what is wrong and what to do next, and leaves nothing behind.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::case::{Case, assert_failed, signal};

#[test]
fn what_is_no_database_is_refused() {
    let case = Case::new();
    let whole = fs::read(case.db()).unwrap();
    let refuse = |db: &str, said: &str| {
        let output = case.boltfs(&[db, "mnt"]);
        assert_failed(&output, 1, said);
        assert!(output.stderr.starts_with("boltfs: "), "{output}");
        assert!(case.line().is_none());
    };
    refuse(
        "none",
        "none does not exist. Check the path; --create makes",
    );
    refuse("none/none", "none/none does not exist. Check the path");
    refuse(".", ". is a directory. Did you mean ./db?");
    refuse("mnt", "mnt is a directory. Give a database file.");
    refuse(
        "/dev/null",
        "/dev/null is not a regular file. Give a database file.",
    );
    let file = |content: &[u8]| fs::write(case.join("bad"), content).unwrap();
    file(b"");
    refuse(
        "bad",
        "the file is empty (0 bytes). There is nothing in it.",
    );
    file("this is text\n".repeat(1000).as_bytes());
    refuse("bad", "not a bbolt database. Check the path");
    file(&vec![0; whole.len()]);
    refuse(
        "bad",
        "its creation as a database was never finished. There is nothing in it.",
    );
    file(&whole[..whole.len() / 2]);
    refuse(
        "bad",
        "(a torn copy). Copy it again while nothing writes to it",
    );
    let mut broken = whole.clone();
    broken[60] ^= 1;
    broken[4096 + 60] ^= 1;
    file(&broken);
    refuse(
        "bad",
        "both meta pages are damaged. Take another copy or a backup",
    );
    case.sh("mkfifo fifo").expect_success();
    refuse("fifo", "fifo is not a regular file");
    assert_eq!(fs::read(case.db()).unwrap(), whole);
}

#[test]
fn one_damaged_meta_is_warned_about() {
    let case = Case::new();
    let mut bytes = fs::read(case.db()).unwrap();
    bytes[4096 + 60] ^= 1;
    fs::write(case.db(), bytes).unwrap();
    let output = case.boltfs(&["-r", "db", "mnt"]).expect_success();
    assert!(
        output.stderr.contains("warning: meta page 1 of "),
        "{output}"
    );
    assert_eq!(case.sh("ls mnt").expect_success().text(), "b\n");
}

#[test]
fn where_nothing_can_be_mounted_is_refused() {
    let case = Case::new();
    let refuse = |point: &str, said: &str| {
        let output = case.boltfs(&["db", point]);
        assert_failed(&output, 1, said);
        assert!(output.stderr.starts_with("boltfs: "), "{output}");
    };
    refuse(
        "none",
        "the mount point none does not exist. Create it: mkdir none",
    );
    refuse("none/none", "the mount point none/none does not exist.");
    refuse("db", "db is not a directory. Give a directory to mount on");
    refuse("db/x", "leads through a file. Give a directory to mount on");
    refuse(".", ". holds the database itself (");
    refuse(
        "/proc",
        "/proc is a mount point already (type proc, proc). Mount on another",
    );
    case.boltfs(&["db", "mnt"]).expect_success();
    let again = format!(
        "Unmount it first: boltfs umount {}",
        case.join("mnt").display()
    );
    refuse("mnt", &again);
    case.sh("mkdir other").expect_success();
    let there = format!(
        "{} is mounted on {}",
        case.db().display(),
        case.join("mnt").display()
    );
    refuse("other", &there);
    case.boltfs(&["umount", "mnt"]).expect_success();
    let output = case
        .sh("touch other/file; boltfs db other")
        .expect_success();
    assert!(
        output
            .stderr
            .contains("other is not empty: what is in it is hidden"),
        "{output}"
    );
    case.boltfs(&["umount", "other"]).expect_success();
    assert!(case.join("other/file").exists());
}

#[test]
fn wrong_usage_is_status_2() {
    let case = Case::new();
    let usage = |args: &[&str], said: &str| assert_failed(&case.boltfs(args), 2, said);
    usage(&[], "Usage");
    usage(&["--frobnicate", "db", "mnt"], "--frobnicate");
    usage(
        &["-o", "ro,frobnicate", "db", "mnt"],
        "unknown mount option 'frobnicate'",
    );
    usage(&["db"], "MOUNTPOINT");
    usage(&["umount"], "MOUNTPOINT");
    usage(&["-r", "--create", "db", "mnt"], "cannot be used with");
    usage(
        &["--meta", "1", "-o", "meta=0", "db", "mnt"],
        "different meta pages",
    );
    usage(
        &["--backup", "a", "-o", "backup=b", "db", "mnt"],
        "different files",
    );
    for option in [&["--dry-run"][..], &["--output", "out"]] {
        let args = [option, &["-o", "backup=b", "db", "mnt"]].concat();
        usage(&args, "-o backup=FILE cannot be used with");
    }
    let help = case.boltfs(&["--help"]).expect_success().text();
    assert!(help.contains("rm mnt/members/920c1b791dddb17e"), "{help}");
    let version = case.boltfs(&["--version"]).expect_success().text();
    assert_eq!(version, format!("boltfs {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_word_that_is_no_database_is_taken_for_the_command_that_was_meant() {
    let case = Case::new();
    let meant = |args: &[&str], said: &str| {
        let output = case.boltfs(args);
        let word = args[0];
        let told =
            format!("boltfs: {word} is neither a file nor a command; did you mean {said}?\n");
        assert_failed(&output, 2, &told);
    };
    case.boltfs(&["db", "mnt"]).expect_success();
    meant(&["unmount", "mnt"], "`boltfs umount mnt`");
    meant(
        &["commit", "mnt"],
        "`boltfs umount mnt`, or, to go on after it, `echo commit > mnt/.boltfs/control`",
    );
    meant(&["staus"], "`boltfs status`");
    meant(&["mount", "db", "mnt"], "`boltfs db mnt`");
    case.boltfs(&["umount", "mnt"]).expect_success();
    // A file is a file, whatever it is called.
    case.sh("cp db unmount; boltfs unmount mnt; boltfs umount mnt")
        .expect_success();
    let help = case.boltfs(&["--help"]).expect_success().text();
    assert_eq!(case.boltfs(&["help"]).expect_success().text(), help);
    let help = case.boltfs(&["umount", "--help"]).expect_success().text();
    assert_eq!(
        case.boltfs(&["help", "umount"]).expect_success().text(),
        help
    );
    // A new one is only offered where one could be made.
    for args in [
        &["check", "none"][..],
        &["-r", "none", "mnt"],
        &["--dry-run", "none", "mnt"],
    ] {
        let status = if args[0] == "check" { 2 } else { 1 };
        assert_failed(
            &case.boltfs(args),
            status,
            "none does not exist. Check the path.\n",
        );
    }
}

#[test]
fn an_empty_command_is_wrong_usage() {
    let case = Case::new();
    for line in ["boltfs db mnt -- $nothing", "boltfs db -- $nothing"] {
        let output = case.sh(&format!("nothing=; {line}"));
        assert_failed(
            &output,
            2,
            "boltfs: no command after --: is a variable empty?\n",
        );
        assert!(case.line().is_none());
    }
}

#[test]
fn umount_tells_what_is_wrong() {
    let case = Case::new();
    let refuse = |point: &str, said: &str| assert_failed(&case.boltfs(&["umount", point]), 1, said);
    refuse("none/none", "Give the directory it is mounted on.");
    refuse("mnt", "nothing is mounted on mnt. ");
    refuse(
        "/proc",
        "is not boltfs's (type proc). Unmount it with: umount /proc",
    );
    case.boltfs(&["db", "mnt"]).expect_success();
    let hint = format!("boltfs umount {}", case.join("mnt").display());
    refuse("db", &hint);
    refuse("mnt/b", &hint);
    assert!(case.line().is_some());
    case.boltfs(&["umount", "mnt/"]).expect_success();
}

#[test]
fn who_holds_the_lock_is_named_and_can_be_waited_for() {
    let case = Case::new();
    let holder = case.start("flock --no-fork db sleep 600");
    case.await_locked();
    let who = format!(
        "is in use by sleep (pid {}). Stop that process first.",
        holder.id()
    );
    let start = Instant::now();
    assert_failed(&case.boltfs(&["db", "mnt"]), 1, &who);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_failed(&case.boltfs(&["-r", "db", "mnt"]), 1, &who);
    let start = Instant::now();
    let waited = format!("{who} It still has the lock after 1 second.\n");
    assert_failed(&case.boltfs(&["--wait", "1", "db", "mnt"]), 1, &waited);
    assert!(start.elapsed() >= Duration::from_secs(1));

    let mut waiting = case.start("boltfs --wait 60 db mnt");
    std::thread::sleep(Duration::from_millis(300));
    assert!(waiting.runs() && case.line().is_none());
    drop(holder);
    assert_eq!(waiting.end(), (0, String::new()));
    case.boltfs(&["umount", "mnt"]).expect_success();
}

#[test]
fn a_mount_is_named_by_whatever_name_its_database_is_given() {
    let case = Case::new();
    case.sh("ln db hard; mkdir other; boltfs db mnt")
        .expect_success();
    let named = format!(
        "/hard is mounted on {0} already. Work there, or unmount it first: boltfs umount {0}\n",
        case.join("mnt").display()
    );
    assert_failed(&case.boltfs(&["hard", "other"]), 1, &named);
    let server = case.server();
    let user = case.start("sleep 600 < mnt/b/k");
    case.sh(&format!(
        "until readlink /proc/{}/fd/0 | grep mnt/b/k; do sleep 0.05; done; fusermount3 -uz mnt",
        user.id()
    ))
    .expect_success();
    let hidden = format!(
        "/db is in use by boltfs (pid {server}). It has no mount in the directory tree: after umount -l it ends, and commits, when \
         nothing uses it any more. (--wait SECONDS waits for the lock.)\n"
    );
    assert_failed(&case.boltfs(&["db", "other"]), 1, &hidden);
    drop(user);
    case.sh("boltfs --wait 60 db other; boltfs umount other")
        .expect_success();
    // In another mount namespace.
    case.sh("$as_root unshare -m --propagation slave env PATH=\"$PATH\" boltfs db mnt")
        .expect_success();
    assert!(case.line().is_none());
    let server = case.server();
    let there = format!(
        "/db is mounted on {0} already, by boltfs (pid {server}), in another mount namespace. Unmount it there \
         first: boltfs umount {0}\n",
        case.join("mnt").display()
    );
    assert_failed(&case.boltfs(&["db", "other"]), 1, &there);
    case.sh(&format!("$as_root kill -TERM {server}"))
        .expect_success();
    case.await_end();
    // A check has none.
    case.sh("cp /bin/bash boltfs; mkfifo fifo; echo 'read -r line < fifo' > check")
        .expect_success();
    let check = case.start("bash -c 'exec 9< db; flock 9; exec ./boltfs check'");
    let comm = format!("/proc/{}/comm", check.id());
    common::process::wait_until("it has the lock", Duration::from_secs(30), || {
        fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == "boltfs")
    });
    let stop = format!(
        "/db is in use by boltfs (pid {}). Stop that process first. (--wait",
        check.id()
    );
    assert_failed(&case.boltfs(&["db", "other"]), 1, &stop);
}

#[test]
fn a_lock_left_to_another_process_is_traced() {
    let case = Case::new();
    // The process that took the lock ends; its child still has the file open.
    let pid = case.sh("exec 9<db; flock 9; sleep 600 > /dev/null 2>&1 & echo $!");
    let pid = pid.text().trim().to_owned();
    let output = case.boltfs(&["db", "mnt"]);
    signal("KILL", &pid);
    assert_failed(&output, 1, &format!("is in use by sleep (pid {pid})"));
}

#[test]
fn an_etcd_data_directory_is_warned_about() {
    let case = Case::new();
    case.sh("mkdir -p data/member/snap data/member/wal; cp db data/member/snap/db")
        .expect_success();
    let db = "data/member/snap/db";
    let output = case.boltfs(&[db, "mnt"]).expect_success();
    assert!(output.stderr.starts_with("boltfs: warning: "), "{output}");
    assert!(
        output.stderr.contains("Edit a copy, and restore that"),
        "{output}"
    );
    case.boltfs(&["umount", "mnt"]).expect_success();
    let output = case.boltfs(&["-r", db, "mnt"]).expect_success();
    assert_eq!(output.stderr, "");
    case.boltfs(&["umount", "mnt"]).expect_success();
    assert_failed(
        &case.boltfs(&["data", "mnt"]),
        1,
        "data is a directory. Did you mean data/member/snap/db?",
    );
}

/// Runs lines of bash as root, in a mount namespace of their own. It sees unmounts outside: a copy
/// of another test's mount would keep that alive.
fn in_namespace(case: &Case, lines: &str) -> common::process::Output {
    fs::write(case.join("script"), common::process::script(lines)).unwrap();
    let line = "$as_root env \"PATH=$PATH\" unshare -m --propagation slave \
                bash -euo pipefail script";
    case.sh(line)
}

#[test]
fn an_ordinary_user_mounts_through_fusermount3() {
    let case = Case::new();
    // As on an ordinary system, everybody may open /dev/fuse; the program lies where they can run it.
    let output = in_namespace(
        &case,
        r#"
        mknod fuse c 10 229; chmod 666 fuse; mount --bind fuse /dev/fuse
        cp "$(command -v boltfs)" .; mkdir user user/mnt; mv db user/db
        chmod 755 .; chown -R 65534:65534 user
        user="setpriv --reuid=65534 --regid=65534 --clear-groups"
        user() { $user "$@"; }
        user ./boltfs user/db user/mnt
        grep -o "fuse.boltfs $PWD.*" /proc/self/mountinfo
        user cat user/mnt/b/k; echo
        not ls user/mnt/b 2> /dev/null
        $user sh -c 'cd user/mnt; exec sleep 600' & sleeper=$!
        until [ "$(readlink /proc/$sleeper/cwd)" = "$PWD/user/mnt" ]; do sleep 0.05; done
        not user ./boltfs umount user/mnt 2> busy
        grep -o "has its working directory in it" busy
        kill $sleeper; wait $sleeper || true
        user ./boltfs umount user/mnt 2>&1
        $user ./boltfs -f user/db user/mnt & front=$!
        until grep -q "fuse.boltfs $PWD" /proc/self/mountinfo; do sleep 0.05; done
        kill -TERM $front; wait $front
        not grep "fuse.boltfs $PWD" /proc/self/mountinfo
        user ./boltfs user/db user/mnt; ./boltfs umount user/mnt 2>&1
        not user ./boltfs -o allow_other user/db user/mnt 2>&1
        chmod 600 fuse; not user ./boltfs user/db user/mnt 2>&1
        chown 0 user/db; chmod 644 user/db; not user ./boltfs user/db user/mnt 2>&1
        chmod 600 user/db; not user ./boltfs user/db user/mnt 2>&1
        "#,
    )
    .expect_success();
    let db = case.join("user/db");
    let db = db.display();
    let text = output.text();
    let mut lines = text.lines();
    let wanted = format!("fuse.boltfs {db} rw,user_id=65534,group_id=65534,default_permissions");
    assert_eq!(lines.next(), Some(wanted.as_str()), "{output}");
    assert_eq!(lines.next(), Some("value"), "{output}");
    assert_eq!(
        lines.next(),
        Some("has its working directory in it"),
        "{output}"
    );
    let nothing = format!("boltfs: nothing to commit, {db} is unchanged");
    assert_eq!(lines.next(), Some(nothing.as_str()), "{output}");
    assert_eq!(lines.next(), Some(nothing.as_str()), "{output}");
    for wanted in [
        "Ask root to put a line `user_allow_other` into /etc/fuse.conf",
        "Ask root to let users open it (chmod 666 /dev/fuse",
        "cannot be written: Permission denied (os error 13). To look only, mount it with -r",
        "cannot be opened: permission denied. Run boltfs as a user who may",
    ] {
        assert!(
            lines.next().is_some_and(|line| line.contains(wanted)),
            "{wanted} {output}"
        );
    }
    assert_eq!(lines.next(), None, "{output}");
}

/// An ordinary user unmounts through `fusermount3`, which goes on when `boltfs umount` is killed.
#[test]
fn a_discard_is_obeyed_whoever_comes_to_unmount_for_it() {
    let case = Case::new();
    let before = fs::read(case.db()).unwrap();
    in_namespace(
        &case,
        r#"
        mknod fuse c 10 229; chmod 666 fuse; mount --bind fuse /dev/fuse
        cp "$(command -v boltfs)" .; mkdir slow user user/mnt; mv db user/db; chmod 755 .
        printf '#!/bin/bash
touch user/begun; until [ -e user/go ]; do sleep 0.05; done; exec /bin/fusermount3 "$@"
' > slow/fusermount3
        sed -i "s|user/|$PWD/user/|g" slow/fusermount3; chmod 755 slow slow/fusermount3; chown -R 65534:65534 user
        user="setpriv --reuid=65534 --regid=65534 --clear-groups"
        $user ./boltfs user/db user/mnt; $user sh -c 'echo new > user/mnt/b/k'
        PATH="$PWD/slow:$PATH" $user ./boltfs umount --discard user/mnt & umount=$!
        until [ -e user/begun ]; do sleep 0.05; done
        kill -9 $umount; wait $umount || true; sleep 0.3; touch user/go
        while grep -q "fuse.boltfs $PWD/user/db " /proc/self/mountinfo; do sleep 0.05; done
        flock user/db true; cp user/db db; not ls user/db.boltfs-journal
        "#,
    )
    .expect_success();
    assert!(fs::read(case.db()).unwrap() == before);
}

#[test]
fn who_may_only_read_the_database_edits_a_copy_of_it() {
    let case = Case::new();
    let output = in_namespace(
        &case,
        r#"
        mknod fuse c 10 229; chmod 666 fuse; mount --bind fuse /dev/fuse
        cp "$(command -v boltfs)" .; mkdir user user/mnt; mv db user/db; chmod 755 .
        chown 65534:65534 user user/mnt; chown 0:0 user/db; chmod 444 user/db
        user() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
        for option in "--output user/out" --dry-run; do
            user ./boltfs $option user/db user/mnt
            user stat -c '%u %g %a' user/mnt/b user/mnt/b/k
            user sh -c 'cd user/mnt; echo new > b/k; mkdir c; echo x > c/x; mv b/k c'
            user ./boltfs umount user/mnt 2>&1
        done
        stat -c '%u %a' user/out
        user ./boltfs -r user/out user/mnt; user cat user/mnt/c/k; echo; user ./boltfs umount user/mnt
        user ./boltfs --dry-run -o umask=277 user/db user/mnt; user stat -c '%u %a' user/mnt/b/k
        not user sh -c 'echo new > user/mnt/b/k' 2> /dev/null
        user ./boltfs umount user/mnt
        "#,
    )
    .expect_success();
    let text = output.text();
    let shown = "65534 0 755\n65534 0 644\n";
    assert_eq!(text.matches(shown).count(), 2, "{output}");
    assert!(
        text.contains("\nboltfs: committed transaction "),
        "{output}"
    );
    assert!(
        text.contains("\nboltfs: dry run, nothing was written; "),
        "{output}"
    );
    // It cannot be given the group of the database.
    assert!(text.ends_with("\n65534 404\nnew\n65534 400\n"), "{output}");
}

#[test]
fn mount_8_mounts_through_its_helper() {
    let case = Case::new();
    // mount(8) looks in a path of its own.
    let output = in_namespace(
        &case,
        r#"
        boltfs=$(command -v boltfs); mount -t tmpfs none /usr/local/bin; cp "$boltfs" /usr/local/bin
        mount -t fuse.boltfs -o ro,allow_other,nofail,x-anything db mnt
        grep -o "[^ ]* - fuse.boltfs $PWD.*" /proc/self/mountinfo
        cat mnt/b/k
        umount mnt; flock db true
        not mount -t fuse.boltfs none mnt 2>&1
        "#,
    )
    .expect_success();
    let wanted = format!(
        "- fuse.boltfs {} ro,user_id=0,group_id=0,default_permissions,allow_other\nvalue",
        case.db().display()
    );
    assert!(output.text().contains(&wanted), "{output}");
    assert!(output.text().contains("none does not exist."), "{output}");
    assert!(case.line().is_none() && !case.is_locked());
}

#[test]
fn root_is_bound_by_the_owner_and_mode_of_the_file_only_for_others() {
    let case = Case::new();
    let output = in_namespace(
        &case,
        r#"
        chown 0 db; chmod 755 .; chmod 600 db; boltfs -o allow_other db mnt
        not setpriv --reuid=65534 --regid=65534 --clear-groups cat mnt/b/k 2>&1
        boltfs umount mnt; chmod 644 db; boltfs -o allow_other db mnt
        setpriv --reuid=65534 --regid=65534 --clear-groups cat mnt/b/k
        not setpriv --reuid=65534 --regid=65534 --clear-groups sh -c 'echo x > mnt/b/k' 2> /dev/null
        boltfs umount mnt
        "#,
    )
    .expect_success();
    let text = output.text();
    assert!(
        text.contains("Permission denied") && text.ends_with("value"),
        "{output}"
    );
    assert!(Path::new(&case.db()).exists());
}
