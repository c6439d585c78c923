//! The journal is changed or cut by somebody while the mount relies on it.

use std::fs;

use crate::common::case::{Case, assert_failed};
use crate::database;

/// How the journal comes to harm, and what then says why it cannot be read.
const HARMS: [(&str, &str); 2] = [
    (
        "truncate -s 1000 db.boltfs-journal",
        "the journal was cut by another program",
    ),
    (
        "printf harm | dd of=db.boltfs-journal bs=1 seek=5000 conv=notrunc status=none",
        "the journal was changed by another program, or its disk fails",
    ),
];

/// The kernel has what was written in its cache until that is dropped.
const FORGET: &str = "$as_root sh -c 'echo 1 > /proc/sys/vm/drop_caches'";

#[test]
fn a_journal_that_is_harmed_commits_nothing_until_the_key_is_written_again() {
    for (harm, why) in HARMS {
        let case = Case::with(database);
        let before = fs::read(case.db()).unwrap();
        let output = case.sh(&format!(
            "boltfs db mnt; echo short > mnt/b/k; head -c 10000 /dev/zero | tr '\\0' x > mnt/b/long; {harm}; {FORGET}
             if cat mnt/b/long > read 2> said; then exit 9; fi; cat said; cat mnt/b/k
             if cat mnt/.boltfs/pending 2> /dev/null; then exit 9; fi
             if echo commit > mnt/.boltfs/control; then exit 9; fi; cat mnt/.boltfs/control"
        ));
        let output = output.expect_success();
        assert_eq!(
            output.text(),
            format!(
                "cat: mnt/b/long: Input/output error\nshort\nNOT COMMITTED: cannot read what was written to b/long back from the \
                 journal: {why}. {} is as it was. Write that key again, or take its old value back (see .boltfs/base), and commit \
                 again. Your edits are still pending; write commit again when that is mended.\n",
                case.db().display()
            ),
            "{harm}"
        );
        assert!(fs::read(case.db()).unwrap() == before, "{harm}");
        case.sh("head -c 20000 /dev/zero | tr '\\0' y > mnt/b/long; boltfs umount mnt")
            .expect_success();
        assert_eq!(case.value("b", "k").as_deref(), Some("short"));
        assert_eq!(case.value("b", "long"), Some("y".repeat(20_000)), "{harm}");
        assert_eq!(case.sh("ls -A | grep journal || true").text(), "", "{harm}");
    }
}

#[test]
fn a_journal_that_is_harmed_at_the_end_of_a_mount_is_told_and_kept() {
    for (harm, _) in HARMS {
        let case = Case::with(database);
        let before = fs::read(case.db()).unwrap();
        case.sh(&format!(
            "boltfs db mnt; echo first > mnt/b/first; head -c 10000 /dev/zero | tr '\\0' x > mnt/b/k; cp mnt/b/k mnt/b/long
             for n in $(seq 100); do echo $n > mnt/b/$n; done; {harm}"
        ))
        .expect_success();
        let ended = case.boltfs(&["umount", "mnt"]);
        let journal = format!("{}.boltfs-journal", case.db().display());
        assert_failed(
            &ended,
            1,
            "boltfs: NOT COMMITTED: cannot read what was written to b/k back from the journal: ",
        );
        // What is cut off is that of both.
        let lost = match harm.starts_with("truncate") {
            true => "b/k, b/long",
            false => "b/k",
        };
        assert_failed(
            &ended,
            1,
            &format!(
                " is the database as it was mounted, with your edits but for what was written to {lost}, which is lost. What is left \
                 of the journal is kept too, in {journal}: see it with `boltfs journal {journal}`, and mount again with --recover to \
                 have what comes before the damage."
            ),
        );
        assert!(fs::read(case.db()).unwrap() == before, "{harm}");
        // All that was edited behind the damage too.
        case.sh("mkdir rescued; boltfs -r db.rescued-* rescued; cat rescued/b/first > all; for n in $(seq 100); do cat rescued/b/$n >> all; done
             { echo first; seq 100; } | cmp - all; cat rescued/b/k > k; ls rescued/b > names; boltfs umount rescued")
            .expect_success();
        assert_eq!(fs::read(case.join("k")).unwrap(), b"value", "{harm}");
        let names = fs::read_to_string(case.join("names")).unwrap();
        let has_long = names.lines().any(|name| name == "long");
        assert_eq!(has_long, lost == "b/k", "{harm}: {names}");

        case.sh("boltfs --recover db mnt; cat mnt/.boltfs/pending > was; boltfs umount mnt")
            .expect_success();
        assert_eq!(
            case.value("b", "first").as_deref(),
            Some("first\n"),
            "{harm}"
        );
    }
}

/// A key that was written again is not lost, but the journal is not what a new mount can start from any more.
#[test]
fn edits_behind_what_was_lost_and_written_again_are_not_said_to_be_safe_in_the_journal() {
    let (harm, _) = HARMS[1];
    let case = Case::with(database);
    case.sh(&format!(
        "boltfs db mnt; head -c 10000 /dev/zero | tr '\\0' x > mnt/b/long; {harm}
         head -c 20000 /dev/zero | tr '\\0' y > mnt/b/long; echo behind > mnt/b/k; touch db"
    ))
    .expect_success();
    let ended = case.boltfs(&["umount", "mnt"]);
    assert_failed(&ended, 1, "NOT COMMITTED: another program wrote to ");
    assert_failed(
        &ended,
        1,
        " is the database as it was mounted, with them. What is left of the journal is kept too, in ",
    );
    case.sh("mv db.rescued-* db").expect_success();
    assert_eq!(case.value("b", "k").as_deref(), Some("behind"));
    assert_eq!(case.value("b", "long"), Some("y".repeat(20_000)));
}

/// However often it is read, and whoever asks what is pending.
#[test]
fn each_key_that_is_lost_is_told_once_by_name() {
    for (harm, why) in HARMS {
        let case = Case::with(database);
        let output = case.sh(&format!(
            "boltfs -f db mnt 2> log & for n in $(seq 600); do mountpoint -q mnt && break; sleep 0.1; done
             echo short > mnt/b/k; for key in one two; do head -c 10000 /dev/zero | tr '\\0' x > mnt/b/$key; done
             truncate -s 16000 db.boltfs-journal; {harm}; {FORGET}
             for n in 1 2 3; do for key in one two; do if cat mnt/b/$key; then exit 9; fi; done; cat mnt/.boltfs/pending || true; done 2> tried
             for key in one two; do echo again > mnt/b/$key; done
             boltfs status mnt > status; boltfs umount mnt; wait; grep 'what was written' log; grep -c lost status || true"
        ));
        let second = "the journal was cut by another program";
        let told = |key: &str, why: &str| {
            format!(
                "boltfs: what was written to b/{key} cannot be read back from the journal ({why}). It reads as an \
                 input/output error, and nothing is committed before it is written again, removed, or given its old value again \
                 (see .boltfs/base)\n"
            )
        };
        let wanted = told("one", why) + &told("two", second) + "0\n";
        assert_eq!(output.expect_success().text(), wanted, "{harm}");
        assert_eq!(case.value("b", "two").as_deref(), Some("again\n"));
    }
}

#[test]
fn what_a_harmed_journal_held_can_be_discarded() {
    for (harm, _) in HARMS {
        let case = Case::with(database);
        let output = case.sh(&format!(
            "boltfs db mnt; head -c 10000 /dev/zero | tr '\\0' x > mnt/b/k; {harm}
             echo discard > mnt/.boltfs/control; cat mnt/.boltfs/control mnt/b/k; boltfs umount mnt"
        ));
        let output = output.expect_success();
        assert_eq!(output.text(), "discarded all changes\nvalue", "{harm}");
        assert_eq!(case.value("b", "k").as_deref(), Some("value"), "{harm}");
    }
}
