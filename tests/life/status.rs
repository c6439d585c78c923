//! `boltfs status`.

use std::fs;

use crate::common::case::{Case, assert_failed, is_root, signal};
use crate::{as_ordinary_user, rich};

/// The lines but for the second, in which the time and the process are.
fn told(case: &Case, args: &[&str]) -> (String, String) {
    let output = case.boltfs(args).expect_success();
    assert_eq!(output.stderr, "");
    let text = output.text();
    let mut lines: Vec<_> = text.lines().collect();
    let how = lines.remove(1).to_owned();
    (lines.join("\n") + "\n", how)
}

#[test]
fn what_is_pending_is_told_as_a_person_reads_it() {
    let case = rich();
    let (db, mnt) = (case.db().display().to_string(), case.join("mnt"));
    let mnt = mnt.display();
    case.boltfs(&["db", "mnt"]).expect_success();
    let (text, how) = told(&case, &["status", "mnt"]);
    assert_eq!(
        text,
        format!("{db} is mounted on {mnt}\nNothing is pending.\n")
    );
    let pid = case.server();
    assert!(
        how.starts_with("  read-write, transaction 2, since 20"),
        "{how}"
    );
    assert!(how.ends_with(&format!(", boltfs pid {pid}")), "{how}");

    case.sh(
        "cd mnt; rm b/text; echo plain > b/json; echo longer text > b/line; : > b/4913; mkdir n
         mv c/deep c/moved; rmdir d; setfattr -n user.bbolt.sequence -v 7 c; echo n > b/empty",
    )
    .expect_success();
    let (text, _) = told(&case, &["status", "mnt/"]);
    let wanted = format!(
        "{db} is mounted on {mnt}
9 changes are pending:
  added    b/4913    0 bytes               looks like an editor's leftover
  changed  b/empty   0 → 1 byte            final newline left off
  changed  b/json    37 → 6 bytes          no longer JSON
  changed  b/line    14 → 12 bytes
  deleted  b/text    9 bytes
  changed  c/                              sequence 0 → 7
  moved    c/moved/                        from c/deep/
  deleted  d/
  added    n/
Look closer: boltfs diff {mnt}; commit: boltfs umount {mnt}; drop: boltfs umount --discard {mnt}
"
    );
    assert_eq!(text, wanted);

    // The same without a mount point: everything that boltfs has mounted.
    let all = case.boltfs(&["status"]).text();
    assert!(all.contains(&text[..text.find('\n').unwrap()]), "{all}");

    case.sh("echo commit > mnt/.boltfs/control; echo x > b && rm b; echo z > mnt/b/text")
        .expect_success();
    let (text, _) = told(&case, &["status", "mnt"]);
    assert!(
        text.contains("\n  committed since: up to transaction 3\n1 change is pending:\n  added    b/text  2 bytes\n"),
        "{text}"
    );
    case.boltfs(&["umount", "--discard", "mnt"])
        .expect_success();
}

#[test]
fn a_long_list_is_cut() {
    let case = Case::new();
    case.sh("boltfs db mnt; seq -f mnt/b/%04g 1000 | xargs touch")
        .expect_success();
    let text = case.boltfs(&["status", "mnt"]).expect_success().text();
    assert!(text.contains("1000 changes are pending:\n"), "{text}");
    assert!(text.contains("  added    b/0020  0 bytes\n"), "{text}");
    assert!(!text.contains("b/0021"), "{text}");
    let more = format!(
        "  … and 980 more: see {}/.boltfs/pending\n",
        case.join("mnt").display()
    );
    assert!(text.contains(&more), "{text}");
    case.boltfs(&["umount", "--discard", "mnt"])
        .expect_success();
}

#[test]
fn a_mount_that_takes_no_edits_says_so() {
    let case = rich();
    case.boltfs(&["-r", "--raw", "db", "mnt"]).expect_success();
    let (text, how) = told(&case, &["status", "mnt"]);
    assert!(text.ends_with("\nNothing is pending.\n"), "{text}");
    assert!(how.starts_with("  read-only, raw, transaction 2"), "{how}");
    case.boltfs(&["umount", "mnt"]).expect_success();
}

#[test]
fn edits_that_no_journal_holds_are_pointed_out() {
    if !is_root() {
        return not_as_user_but_root();
    }
    let case = Case::new();
    // A directory that only root could write to, and the database in it belongs to somebody else.
    let user = as_ordinary_user();
    case.sh(&format!(
        "mkdir dir; mv db dir/db; chown 65534 dir/db mnt; chmod 755 . dir; cp $(which boltfs) .; PATH=.:$PATH
         {user} boltfs dir/db mnt; {user} sh -c 'echo x > mnt/b/k'; {user} boltfs status mnt > said
         {user} boltfs umount --discard mnt"
    ))
    .expect_success();
    let said = fs::read_to_string(case.join("said")).unwrap();
    let wanted = "No journal of them could be written: they are lost if boltfs is killed.\n";
    assert!(said.contains(wanted), "{said}");
}

/// An ordinary user makes a directory unwritable for himself.
fn not_as_user_but_root() {
    let case = Case::new();
    case.sh(
        "mkdir dir; mv db dir/db; chmod 500 dir; boltfs dir/db mnt; echo x > mnt/b/k
         boltfs status mnt > said; boltfs umount --discard mnt; chmod 700 dir",
    )
    .expect_success();
    let said = fs::read_to_string(case.join("said")).unwrap();
    assert!(
        said.contains("No journal of them could be written"),
        "{said}"
    );
}

/// Root cannot look into a user's mount, and is told all the same; another user is not.
#[test]
fn root_is_told_about_the_mount_of_a_user() {
    let case = Case::new();
    let user = as_ordinary_user();
    let root = if is_root() {
        ""
    } else {
        "sudo -n env PATH=$PATH"
    };
    case.sh(&format!(
        "cp $(which boltfs) .; PATH=$PWD:$PATH; chmod 755 .; $as_root chown -R 65534 db mnt; $as_root chmod 777 .
         [ -z '{user}' ] && $as_root chown $(id -u) db mnt
         {user} boltfs db mnt; {user} sh -c 'echo x > mnt/b/k'
         {root} ls mnt > listed 2>&1 || true
         {root} boltfs status mnt > said; {root} boltfs diff mnt > shown || [ $? = 1 ]
         $as_root setpriv --reuid=1 --regid=1 --clear-groups $(which boltfs) status $PWD/mnt > other 2>&1 || echo $? >> other
         {user} boltfs umount mnt"
    ))
    .expect_success();
    let read = |name| fs::read_to_string(case.join(name)).unwrap();
    assert!(
        read("listed").contains("Permission denied"),
        "{}",
        read("listed")
    );
    assert!(
        read("said").contains("1 change is pending:\n  changed  b/k  5 → 1 byte"),
        "{}",
        read("said")
    );
    assert!(read("shown").contains("-value\n"), "{}", read("shown"));
    let other = read("other");
    assert!(
        other.starts_with("boltfs: ") && other.ends_with("\n1\n"),
        "{other}"
    );
    assert!(!other.contains("b/k"), "{other}");
}

#[test]
fn what_cannot_be_told_is_a_failure_with_a_way_on() {
    let case = Case::new();
    let mnt = case.join("mnt").display().to_string();
    for command in ["status", "diff"] {
        let status = if command == "diff" { 2 } else { 1 };
        let refuse = |point: &str, said: &str| {
            assert_failed(&case.boltfs(&[command, point]), status, said);
        };
        refuse("none", "nothing is mounted on none.");
        refuse("mnt", "nothing is mounted on mnt.");
        refuse(
            "/proc",
            "what is mounted on /proc is not boltfs's (type proc). Give the directory",
        );
        case.boltfs(&["db", "mnt"]).expect_success();
        case.sh("echo x > mnt/b/k").expect_success();
        // The database, or a directory inside the mount, was given.
        refuse(
            "db",
            &format!("is mounted on {mnt}: boltfs {command} {mnt}"),
        );
        refuse(
            "mnt/b",
            &format!("is mounted on {mnt}: boltfs {command} {mnt}"),
        );
        signal("KILL", &case.server().to_string());
        case.await_unserved();
        let journal = format!("{}.boltfs-journal", case.db().display());
        refuse("mnt", "has died; ");
        refuse(
            "mnt",
            &format!(
                "Remove it: boltfs umount {mnt}. What was edited since then is in {journal}: mount "
            ),
        );
        assert!(case.line().is_some(), "it was only asked about");
        let output = case.boltfs(&["umount", "mnt"]);
        assert_failed(
            &output,
            1,
            "The dead mount was removed. What was edited since then is in ",
        );
        let output = case.sh("boltfs --recover db mnt; boltfs umount --discard mnt");
        output.expect_success();
    }
    // One that is dead is told among the others.
    case.sh("boltfs db mnt").expect_success();
    signal("KILL", &case.server().to_string());
    case.await_unserved();
    let output = case.boltfs(&["status"]);
    assert_eq!(output.code(), Some(1), "{output}");
    let said = format!("the process that served {mnt} has died");
    assert!(output.text().contains(&said), "{output}");
    assert_failed(&case.boltfs(&["umount", "mnt"]), 1, "Mount it again.");
}

#[test]
fn where_a_commit_goes_is_told() {
    let case = rich();
    let mnt = case.join("mnt");
    let mnt = mnt.display();
    case.sh("boltfs --dry-run db mnt; rm mnt/b/text")
        .expect_success();
    let (text, _) = told(&case, &["status", "mnt"]);
    let next = format!(
        "\nLook closer: boltfs diff {mnt}; tell what would be committed: boltfs umount {mnt}\n"
    );
    assert!(text.ends_with(&next), "{text}");
    case.sh("boltfs umount mnt; boltfs --output out db mnt; rm mnt/b/text")
        .expect_success();
    let (text, _) = told(&case, &["status", "mnt"]);
    let into = format!("\n  commits into {}\n", case.join("out").display());
    assert!(text.contains(&into), "{text}");
    assert!(
        text.contains(&format!("; commit: boltfs umount {mnt}; ")),
        "{text}"
    );
}
