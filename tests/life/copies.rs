//! `--backup`, `--output`, `--dry-run`: what is kept, what is left alone, what is only told.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::common::case::{assert_failed, signal};
use crate::common::{Oracle, Tree};
use crate::rich;

fn dump(file: &Path) -> Tree {
    Oracle::shared().assert_sound(file);
    Oracle::shared().dump(file).expect("bbolt reads it")
}

fn value(file: &Path, key: &str) -> Option<String> {
    let tree = dump(file);
    let value = tree.value(&[b"b".to_vec()], key.as_bytes())?;
    Some(String::from_utf8_lossy(value).into_owned())
}

#[test]
fn a_backup_is_the_database_from_before_the_first_commit() {
    let case = rich();
    let before = fs::read(case.db()).unwrap();
    for (number, options) in ["--backup", "-o backup="].into_iter().enumerate() {
        let bak = case.join(&format!("bak{number}"));
        let space = if options.ends_with('=') { "" } else { " " };
        let option = format!("{options}{space}bak{number}");
        case.sh(&format!(
            "chmod 640 db; boltfs {option} db mnt; echo one > mnt/b/new"
        ))
        .expect_success();
        assert!(!bak.exists(), "nothing is committed yet");
        let now = fs::read(case.db()).unwrap();
        case.sh("echo commit > mnt/.boltfs/control")
            .expect_success();
        assert!(fs::read(&bak).unwrap() == now);
        case.sh("echo two > mnt/b/new").expect_success();
        let output = case.boltfs(&["umount", "mnt"]).expect_success();
        // It is told once, with the commit before which it was made.
        assert!(!output.stderr.contains("is kept in"), "{output}");
        assert!(
            fs::read(&bak).unwrap() == now,
            "only the first commit makes one"
        );
        let metadata = fs::metadata(&bak).unwrap();
        let db = fs::metadata(case.db()).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o640);
        assert_eq!((metadata.uid(), metadata.gid()), (db.uid(), db.gid()));
        assert_eq!(case.value("b", "new").as_deref(), Some("two\n"));
        case.sh("boltfs db mnt; rm mnt/b/new; boltfs umount mnt")
            .expect_success();
    }
    assert!(fs::read(case.join("bak0")).unwrap() == before);
    let told = case.sh("boltfs --backup bak db mnt; echo x > mnt/b/text; boltfs umount mnt");
    let note = format!(
        "\nboltfs: note: the database as it was before is kept in {}\n",
        case.join("bak").display()
    );
    assert!(told.expect_success().stderr.contains(&note));
    // What it says of itself, and no backup where nothing is committed.
    let quiet = case.sh(
        "boltfs --backup none db mnt; grep -c '\"backup\": \".*/none\"' mnt/.boltfs/info; boltfs umount mnt
         boltfs --backup none db mnt; echo x > mnt/b/y; boltfs umount --discard mnt; boltfs -o ro,backup=none db mnt; boltfs umount mnt",
    );
    assert_eq!(quiet.expect_success().text(), "1\n");
    assert!(!case.join("none").exists());
    // With a command.
    case.sh("boltfs --backup cmd db -- sh -c 'echo z > $BOLTFS_MOUNT/b/z'; boltfs --backup failed db -- false || true")
        .expect_success();
    assert!(case.join("cmd").exists() && !case.join("failed").exists());
}

#[test]
fn a_file_that_is_there_is_never_replaced() {
    let case = rich();
    case.sh("echo mine > there; ln -s nowhere link; mkdir dir ro; ln -s dir linked")
        .expect_success();
    let before = fs::read(case.db()).unwrap();
    for option in ["--backup", "--output"] {
        let refuse = |file: &str, said: &str| {
            assert_failed(&case.boltfs(&[option, file, "db", "mnt"]), 1, said);
            assert!(case.line().is_none() && !case.is_locked());
        };
        for file in [
            "there",
            "link",
            "dir",
            "db",
            "./mnt/../db",
            "db.boltfs-journal",
        ] {
            refuse(
                file,
                "exists already, and is never replaced. Move it away, or give another name.",
            );
        }
        refuse("none/file", "Give a file in a directory that exists.");
        refuse("mnt/file", "would lie in the mount itself");
        refuse("..", "is no file name");
        for other in ["--read-only", "--create"] {
            assert_failed(
                &case.boltfs(&[option, "new", other, "db", "mnt"]),
                2,
                "cannot be used with",
            );
        }
        // One that appears while it is mounted.
        let output = case.sh(&format!(
            "boltfs {option} new db mnt; echo x > mnt/b/text; ln -s there new
             not sh -c 'echo commit > mnt/.boltfs/control'; cat mnt/.boltfs/control; cat mnt/.boltfs/pending; rm new
             boltfs umount mnt; [ -f new ]; rm new"
        ));
        let output = output.expect_success();
        let text = output.text();
        assert!(text.starts_with("NOT COMMITTED: "), "{output}");
        assert!(
            text.contains(" Your edits are still pending, and kept in "),
            "{output}"
        );
        assert!(text.contains("\nchanged\tb/text\t9\t1\t"), "{output}");
        assert!(output.stderr.contains("committed transaction"), "{output}");
        if option == "--output" {
            assert!(
                fs::read(case.db()).unwrap() != before,
                "the backup's commit was made"
            );
        } else {
            case.sh("boltfs db mnt; printf 'some text' > mnt/b/text; boltfs umount mnt")
                .expect_success();
        }
    }
    assert_eq!(fs::read_to_string(case.join("there")).unwrap(), "mine\n");
    assert!(!case.join("nowhere").exists());
}

#[test]
fn output_leaves_the_database_byte_for_byte() {
    let case = rich();
    let (before, time) = (
        fs::read(case.db()).unwrap(),
        fs::metadata(case.db()).unwrap().modified().unwrap(),
    );
    let out = case.join("out");
    case.sh("chmod 440 db; boltfs --output out db mnt; rm mnt/b/text; echo 1 > mnt/b/new; mv mnt/c/deep mnt/moved")
        .expect_success();
    assert!(!out.exists());
    assert!(case.join("out.boltfs-journal").exists() && !case.join("db.boltfs-journal").exists());
    // Others may look at the database meanwhile.
    case.sh("mkdir two; boltfs -r db two; cat two/b/text; boltfs umount two")
        .expect_success();
    case.sh("echo commit > mnt/.boltfs/control; grep -q '/out, a copy of ' mnt/.boltfs/control")
        .expect_success();
    // Locked like a database in use, and whole.
    assert!(fs::File::open(&out).unwrap().try_lock_shared().is_err());
    case.sh("echo 2 > mnt/b/new; rmdir mnt/d").expect_success();
    let output = case.boltfs(&["umount", "mnt"]).expect_success();
    let said = format!(
        "boltfs: committed transaction 4 to {}, a copy of {}: ",
        out.display(),
        case.db().display()
    );
    assert!(output.stderr.starts_with(&said), "{output}");
    assert!(fs::read(case.db()).unwrap() == before);
    assert_eq!(fs::metadata(case.db()).unwrap().modified().unwrap(), time);
    assert_eq!(
        fs::metadata(&out).unwrap().permissions().mode() & 0o7777,
        0o440
    );
    assert_eq!(value(&out, "text"), None);
    assert_eq!(value(&out, "new").as_deref(), Some("2\n"));
    assert!(dump(&out).bucket(&[b"d".to_vec()]).is_none());
    let names = case.sh("ls -A").text();
    assert_eq!(names, "db\nmnt\nout\ntwo\n", "something is left");

    // Nothing to commit, or discarded: no copy.
    let output = case.sh(
        "boltfs --output none db mnt; boltfs umount mnt; boltfs --output none db mnt; rm mnt/b/text; boltfs umount --discard mnt
         boltfs --output none db -- sh -c 'rm $BOLTFS_MOUNT/b/text; exit 3' || [ $? = 3 ]",
    );
    let none = case.join("none").display().to_string();
    let stderr = output.expect_success().stderr;
    assert!(
        stderr.contains(&format!("nothing to commit, {none} was not made")),
        "{stderr}"
    );
    assert!(
        stderr.contains(&format!("discarded 1 change, {none} was not made")),
        "{stderr}"
    );
    assert!(!case.join("none").exists());
    case.sh("boltfs --output cmd db -- sh -c 'rm $BOLTFS_MOUNT/b/text'")
        .expect_success();
    assert_eq!(value(&case.join("cmd"), "text"), None);
    assert!(fs::read(case.db()).unwrap() == before);
}

#[test]
fn a_killed_mount_with_output_is_recovered() {
    let case = rich();
    case.sh("boltfs --output out db mnt; echo 1 > mnt/b/new")
        .expect_success();
    signal("KILL", &case.server().to_string());
    case.await_unserved();
    let again = format!(
        "What was edited is in {0}.boltfs-journal: mount {1} again with --output {0} --recover.",
        case.join("out").display(),
        case.db().display()
    );
    assert_failed(&case.boltfs(&["status", "mnt"]), 1, &again);
    assert_failed(&case.boltfs(&["umount", "mnt"]), 1, &again);
    // By another name they are not there, which is said.
    let other =
        case.sh("boltfs --output other --recover db mnt; not ls mnt/b/new; boltfs umount mnt");
    let told = format!(
        "nothing to recover: {0}.boltfs-journal does not exist. {1}.boltfs-journal holds edits of an earlier mount: take \
         them up with --output {1} --recover\n",
        case.join("other").display(),
        case.join("out").display()
    );
    let other = other.expect_success();
    assert!(other.stderr.contains(&told), "{other}");
    let asked = case.boltfs(&["--output", "out", "db", "mnt"]);
    assert_failed(&asked, 1, "Mount with --recover");
    case.sh("boltfs --output out --recover db mnt; boltfs umount mnt")
        .expect_success();
    assert_eq!(value(&case.join("out"), "new").as_deref(), Some("1\n"));
    assert!(!case.join("out.boltfs-journal").exists());
}

#[test]
fn a_dry_run_tells_and_writes_nothing() {
    let case = rich();
    let before = fs::read(case.db()).unwrap();
    case.sh(
        "chmod 440 db; boltfs --dry-run db mnt; rm mnt/b/text; echo x > mnt/b/4913; mkdir mnt/new",
    )
    .expect_success();
    assert!(!case.join("db.boltfs-journal").exists());
    let counts = "1 key added, 0 changed, 1 deleted; 1 bucket added, 0 moved, 0 deleted";
    let told = format!(
        "dry run, nothing was written; what would have been committed as transaction 3 to {}: {counts}\nboltfs: note: \
         b/4913: looks like an editor's leftover; delete it if you did not mean it\n",
        case.db().display()
    );
    let control = case.sh(
        "echo commit > mnt/.boltfs/control; cat mnt/.boltfs/control; wc -l < mnt/.boltfs/pending",
    );
    assert_eq!(control.expect_success().text(), format!("{told}3\n"));
    let output = case.boltfs(&["umount", "mnt"]).expect_success();
    assert_eq!(output.stderr, format!("boltfs: {told}"));
    let status = case
        .sh("boltfs --dry-run db mnt; boltfs status mnt; boltfs umount mnt")
        .expect_success();
    assert!(status.text().contains("\n  dry-run, "), "{status}");
    assert!(status.stderr.contains("nothing to commit, "), "{status}");
    let command = case
        .sh("boltfs --dry-run db -- sh -c 'rm -r $BOLTFS_MOUNT/b'")
        .expect_success();
    assert!(
        command
            .stderr
            .contains("0 keys added, 0 changed, 5 deleted; 0 buckets added, 0 moved, 1 deleted"),
        "{command}"
    );
    let failed = case.sh("boltfs --dry-run db -- sh -c 'rm -r $BOLTFS_MOUNT/b; exit 4'");
    assert_failed(&failed, 4, "discarded 1 change");
    assert!(fs::read(case.db()).unwrap() == before);
    // A commit of the same is told with the same numbers.
    let output = case.sh("chmod 640 db; boltfs db -- sh -c 'rm $BOLTFS_MOUNT/b/text; echo x > $BOLTFS_MOUNT/b/4913; mkdir $BOLTFS_MOUNT/new'");
    assert!(output.expect_success().stderr.contains(&format!(
        "committed transaction 3 to {}: {counts}\n",
        case.db().display()
    )));
}

/// As root, on a disk of its own: every step that a full disk can stop leaves the edits and the database.
#[test]
fn a_full_disk_is_told_with_what_is_safe() {
    for (option, said) in [
        ("--backup /full/bak", "the backup"),
        ("--output /full/out", "cannot make a new file for"),
    ] {
        let case = rich();
        let option = option.replace("/full", &case.join("full").display().to_string());
        case.sh(&format!(
            "mkdir full; $as_root mount -t tmpfs -o size=1m,mode=777 tmpfs full; boltfs {option} db mnt; echo new > mnt/b/text
             head -c 2M /dev/zero > full/filler || true"
        ))
        .expect_success();
        let before = fs::read(case.db()).unwrap();
        let output = case.sh(
            "not sh -c 'echo commit > mnt/.boltfs/control'; cat mnt/.boltfs/control; cat mnt/.boltfs/pending",
        );
        let text = output.expect_success().text();
        assert!(
            text.starts_with("NOT COMMITTED: ") && text.contains(said),
            "{text}"
        );
        assert!(text.contains("Make room on its disk."), "{text}");
        assert!(text.contains("Your edits are still pending"), "{text}");
        assert!(text.contains("changed\tb/text\t9\t3\t"), "{text}");
        assert!(fs::read(case.db()).unwrap() == before);
        let output = case.sh("rm full/filler; boltfs umount mnt; ls -A full; $as_root umount full");
        let output = output.expect_success();
        assert!(
            output.stderr.contains("committed transaction 3"),
            "{output}"
        );
        assert_eq!(output.text().lines().count(), 1, "{output}");
    }
}

/// The database's own disk is full when it is committed, in mid-mount and at the end.
#[test]
fn a_commit_that_does_not_fit_is_told_and_can_be_made_later() {
    let case = rich();
    case.sh("mkdir full; $as_root mount -t tmpfs -o size=2m,mode=777 tmpfs full; cp db full/db; boltfs full/db mnt
         head -c 600K /dev/urandom > mnt/b/large; echo new > mnt/b/text; head -c 3M /dev/zero > full/filler || true")
        .expect_success();
    let db = case.join("full/db");
    let before = dump(&case.db());
    // Pages that nothing reaches may have been written to.
    let assert_as_it_was = || {
        case.sh("cp full/db now").expect_success();
        before.assert_same(&dump(&case.join("now")), "the database");
    };
    assert_as_it_was();
    let output = case.sh(
        "not sh -c 'echo commit > mnt/.boltfs/control'; cat mnt/.boltfs/control; wc -l < mnt/.boltfs/pending",
    );
    let text = output.expect_success().text();
    assert!(text.starts_with("NOT COMMITTED: "), "{text}");
    assert!(
        text.contains(&format!(
            "{} is as it was. Make room on its disk.",
            db.display()
        )),
        "{text}"
    );
    let journal = format!("{}.boltfs-journal", db.display());
    let safe = format!(
        "Your edits are still pending, and kept in {journal}; write commit again when that is mended.\n2\n"
    );
    assert!(text.ends_with(&safe), "{text}");
    assert_as_it_was();
    let output = case.boltfs(&["umount", "mnt"]);
    assert_failed(&output, 1, "NOT COMMITTED: ");
    assert_failed(
        &output,
        1,
        &format!("Your edits are safe in {journal}: mount again with --recover."),
    );
    assert_as_it_was();
    let output = case.sh("rm full/filler; boltfs --recover full/db mnt; boltfs umount mnt; cp full/db db; ls -A full; $as_root umount full");
    let output = output.expect_success();
    assert!(
        output.stderr.contains("committed transaction 3"),
        "{output}"
    );
    assert_eq!(output.text(), "db\n");
    assert_eq!(case.value("b", "text").as_deref(), Some("new"));
    let large = case.content();
    assert_eq!(
        large.value(&[b"b".to_vec()], b"large").map(<[u8]>::len),
        Some(600 << 10)
    );
}

/// The file need not be there yet, nor its journal.
#[test]
fn an_output_file_has_one_mount() {
    let case = rich();
    case.sh("mkdir two link; ln -s . linked; cp db other; boltfs --output out db mnt")
        .expect_success();
    let (out, point) = (case.join("out"), case.join("mnt"));
    let refused = format!(
        "{} is already the output of the mount on {1}. Give another name, or unmount that first: boltfs \
         umount {1}",
        out.display(),
        point.display()
    );
    for db in ["db", "other"] {
        let second = case.boltfs(&["--output", "linked/out", db, "two"]);
        assert_failed(&second, 1, &refused);
        assert!(case.line_of("two").is_none());
    }
    // Another name, in the same place.
    case.sh("boltfs --output out2 db two; echo 2 > two/b/new; boltfs umount two")
        .expect_success();
    // It stays so when the journal goes, and while there is one.
    case.sh("echo 1 > mnt/b/new; echo discard > mnt/.boltfs/control; echo 1 > mnt/b/new")
        .expect_success();
    assert_failed(&case.boltfs(&["--output", "out", "db", "two"]), 1, &refused);
    case.boltfs(&["umount", "mnt"]).expect_success();
    assert_eq!(value(&out, "new").as_deref(), Some("1\n"));
    assert_eq!(value(&case.join("out2"), "new").as_deref(), Some("2\n"));
    // It is free again as soon as the mount has ended, in whatever way.
    case.sh(
        "boltfs --output free db mnt; boltfs umount mnt; boltfs --output free db mnt; echo x > mnt/b/text; boltfs umount --discard mnt
         boltfs --output free db mnt",
    )
    .expect_success();
    signal("KILL", &case.server().to_string());
    case.sh("until (boltfs status mnt 2>&1 || true) | grep 'has died'; do sleep 0.05; done; boltfs umount mnt || true; boltfs --output free db mnt; boltfs umount mnt")
        .expect_success();
}

/// No journal can be made where something else has its name.
#[test]
fn a_journal_that_is_missing_is_told_with_output_as_well() {
    for option in ["", "--output out"] {
        let case = rich();
        let name = if option.is_empty() { "db" } else { "out" };
        let status = case.sh(&format!(
            "boltfs {option} db mnt; mkdir {name}.boltfs-journal; echo x > mnt/b/text; boltfs status mnt; boltfs umount mnt"
        ));
        let told = "No journal of them could be written: they are lost if boltfs is killed.\n";
        assert!(
            status.clone().expect_success().text().contains(told),
            "{status}"
        );
    }
}

/// Only the journal of this database, of a mount that is dead, is named; and where it lies elsewhere, the way to it.
#[test]
fn no_other_journal_is_taken_for_that_of_a_killed_mount() {
    let case = rich();
    case.sh(
        "mkdir two far; cp db other; boltfs other two; echo 1 > two/b/new; boltfs umount two; cp other third; cp other fourth
         boltfs --output lives db two; echo 1 > two/b/new",
    )
    .expect_success();
    let lives = case.server();
    let kill = |mount: &str| {
        case.sh(mount).expect_success();
        let server = case.servers().into_iter().find(|&pid| pid != lives);
        signal("KILL", &server.expect("a mount").to_string());
        case.sh("until (boltfs status mnt 2>&1 || true) | grep 'has died'; do sleep 0.05; done")
            .expect_success();
        case.boltfs(&["umount", "mnt"])
    };
    // The journal of a later state, beside its own file and without that.
    let _ = kill("boltfs --output foreign other mnt; echo 2 > mnt/b/new");
    let _ = kill("boltfs third mnt; echo 2 > mnt/b/new");
    let output = kill("boltfs --output far/out db mnt; echo 2 > mnt/b/new");
    assert_failed(
        &output,
        1,
        "Mount it again. (Of a mount with --output FILE, what was edited is in FILE.boltfs-journal.)",
    );
    assert!(case.join("far/out.boltfs-journal").exists());
    case.sh("boltfs --recover --output far/out db mnt; boltfs umount mnt; boltfs umount two")
        .expect_success();
    assert_eq!(value(&case.join("far/out"), "new").as_deref(), Some("2\n"));
}

#[test]
fn an_output_that_is_in_the_way_of_its_journal_is_to_be_moved_away() {
    let case = rich();
    let (out, db) = (case.join("out"), case.db());
    let (out, db) = (out.display(), db.display());
    let output =
        case.sh("boltfs --output out db mnt; echo 1 > mnt/b/new; echo x > out; boltfs umount mnt");
    let next = format!(
        "Your edits are safe in {out}.boltfs-journal: move {out} away first, then mount again with --output {out} \
         --recover.\n"
    );
    assert_failed(&output, 1, &next);
    for option in ["--recover", "--discard"] {
        let refused = case.boltfs(&["--output", "out", option, "db", "mnt"]);
        let next = format!(
            "{out}.boltfs-journal holds edits of an earlier mount. Move out away first, then mount again with \
             --output out --recover.\n"
        );
        assert_failed(&refused, 1, &next);
    }
    // Nothing to recover is said so.
    for (options, name) in [("--output another", "another"), ("", "db")] {
        let output = case.sh(&format!(
            "boltfs {options} --recover db mnt; boltfs umount mnt"
        ));
        let told = format!(
            "boltfs: warning: nothing to recover: {}.boltfs-journal does not exist\n",
            case.join(name).display()
        );
        assert!(
            output.clone().expect_success().stderr.contains(&told),
            "{output}"
        );
    }
    // One that this mount has made, and edits after that.
    case.sh("rm out; boltfs --output out --recover db mnt; echo commit > mnt/.boltfs/control; echo 2 > mnt/b/new")
        .expect_success();
    signal("KILL", &case.server().to_string());
    case.sh("until (boltfs status mnt 2>&1 || true) | grep 'has died'; do sleep 0.05; done; boltfs umount mnt || true").expect_success();
    let refused = case.boltfs(&["--output", "out", "--recover", "db", "mnt"]);
    assert_failed(
        &refused,
        1,
        "They belong to out as it is: boltfs --recover out MOUNTPOINT\n",
    );
    case.sh("boltfs --recover out mnt; boltfs umount mnt")
        .expect_success();
    assert_eq!(
        value(&case.join("out"), "new").as_deref(),
        Some("2\n"),
        "{db}"
    );
}
