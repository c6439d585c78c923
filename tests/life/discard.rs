//! `boltfs umount --discard`, and a mount that cannot be unmounted because somebody uses it.

use std::fs;
use std::time::Duration;

use crate::common::case::assert_failed;
use crate::common::process::wait_until;
use crate::common::{Oracle, Tree};
use crate::rich;

#[test]
fn a_discard_leaves_the_database_byte_for_byte_and_no_journal() {
    let case = rich();
    let before = fs::read(case.db()).unwrap();
    let time = fs::metadata(case.db()).unwrap().modified().unwrap();
    case.sh(
        "boltfs db mnt; cd mnt; rm -r b c; rmdir d; mkdir n; seq 100000 > n/k; sync n/k
         [ -s ../db.boltfs-journal ]",
    )
    .expect_success();
    let output = case
        .boltfs(&["umount", "--discard", "mnt"])
        .expect_success();
    let said = format!(
        "boltfs: discarded 5 changes, {} is unchanged\n",
        case.db().display()
    );
    assert_eq!(output.stderr, said);
    assert!(case.line().is_none() && !case.is_locked());
    assert!(fs::read(case.db()).unwrap() == before);
    assert_eq!(fs::metadata(case.db()).unwrap().modified().unwrap(), time);
    assert!(!case.join("db.boltfs-journal").exists());
    // Nothing to be asked about at the next mount.
    let output = case.sh("boltfs db mnt; cat mnt/.boltfs/pending; boltfs umount --discard mnt");
    let output = output.expect_success();
    assert_eq!(output.text(), "");
    assert!(output.stderr.contains("nothing to discard, "), "{output}");
}

#[test]
fn what_was_committed_before_stays() {
    let case = rich();
    case.sh("boltfs db mnt; echo one > mnt/b/new; echo commit > mnt/.boltfs/control; echo two > mnt/b/new; rm mnt/b/text")
        .expect_success();
    let committed = fs::read(case.db()).unwrap();
    let output = case
        .boltfs(&["umount", "--discard", "mnt"])
        .expect_success();
    let said = format!(
        "boltfs: discarded 2 changes, {} stays at transaction 3, which this mount committed\n",
        case.db().display()
    );
    assert_eq!(output.stderr, said);
    assert!(fs::read(case.db()).unwrap() == committed);
    assert_eq!(case.value("b", "new").as_deref(), Some("one\n"));
    assert_eq!(case.value("b", "text").as_deref(), Some("some text"));
}

#[test]
fn control_discard_drops_what_is_staged_and_the_mount_goes_on() {
    let case = rich();
    let before = Oracle::shared().dump(&case.db()).unwrap();
    case.sh(
        "boltfs db mnt; cd mnt; echo x > b/new; rm b/text; mv c/deep n; rmdir d; cat b/new > /dev/null
         [ -e ../db.boltfs-journal ]; echo discard > .boltfs/control
         [ \"$(cat .boltfs/control)\" = 'discarded 4 changes' ]; [ -z \"$(cat .boltfs/pending)\" ]
         not [ -e ../db.boltfs-journal ]; not [ -e b/new ]; not [ -e n ]; [ -d d ]; [ \"$(cat c/deep/k)\" = v ]
         [ \"$(cat b/text)\" = 'some text' ]; diff -r .boltfs/base/b b; diff -r .boltfs/base/c c
         echo after > b/after",
    )
    .expect_success();
    case.boltfs(&["umount", "mnt"]).expect_success();
    let mut wanted: Tree = before;
    wanted
        .apply(&crate::common::Edit::Put {
            path: vec![b"b".to_vec()],
            key: b"after".to_vec(),
            value: b"after\n".to_vec(),
        })
        .unwrap();
    wanted.assert_same(&case.content(), "only what followed the discard");
}

/// Every way of using a mount is named, with and without `--discard`, and changes nothing.
#[test]
fn a_busy_mount_is_refused_by_name_and_stays_as_it_was() {
    let case = rich();
    case.sh("boltfs db mnt; echo staged > mnt/b/text; cp $(which sleep) mnt/b/prog; chmod +x mnt/b/prog")
        .expect_success();
    let pending = || fs::read_to_string(case.join("mnt/.boltfs/pending")).unwrap();
    let before = pending();
    let users = [
        (
            "env -C mnt/b sleep 600".to_owned(),
            "sleep",
            "has its working directory in it",
        ),
        (
            "sleep 600 < mnt/b/line".to_owned(),
            "sleep",
            "mnt/b/line open",
        ),
        (
            "sleep 600 3>> mnt/b/text".to_owned(),
            "sleep",
            "mnt/b/text open",
        ),
        (
            "mnt/b/prog 600".to_owned(),
            "prog",
            "has a file of it mapped",
        ),
    ];
    for (line, name, does) in users {
        let user = case.start(&line);
        // It is not that program at first, but the shell that becomes it.
        let comm = format!("/proc/{}/comm", user.id());
        wait_until("it uses the mount", Duration::from_secs(30), || {
            let named = fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == name);
            named
                && (name != "python3" || fs::read(case.join("mapped")).is_ok_and(|m| !m.is_empty()))
        });
        let who = format!("{name} (pid {}) has ", user.id());
        for options in [&["umount", "mnt"][..], &["umount", "--discard", "mnt"]] {
            let output = case.boltfs(options);
            assert_failed(&output, 1, "is in use: ");
            assert_failed(&output, 1, &who);
            assert_failed(&output, 1, does);
            assert_failed(
                &output,
                1,
                "Leave it or end that, and try again. It is still mounted, and nothing is lost.",
            );
            assert!(case.line().is_some() && case.is_locked());
            assert_eq!(pending(), before);
            case.sh("echo staged > mnt/b/text; [ \"$(cat mnt/b/text)\" = staged ]")
                .expect_success();
        }
    }
    let output = case.boltfs(&["umount", "mnt"]).expect_success();
    assert!(
        output.stderr.contains("1 key added, 1 changed, 0 deleted"),
        "{output}"
    );
    assert_eq!(case.value("b", "text").as_deref(), Some("staged"));
}

/// They take turns. Whoever comes when it is done is told the same, or, when the process has ended, that nothing is mounted.
#[test]
fn two_who_unmount_at_once_are_both_told_and_a_discard_wins() {
    let case = rich();
    let (mut both, mut discards) = (0, 0);
    for round in 0..50 {
        case.sh("boltfs db mnt; echo x > mnt/b/text")
            .expect_success();
        let output = case.sh(
            "set +e; (boltfs umount mnt 2> one; echo $? >> one) & (boltfs umount --discard mnt 2> two; echo $? >> two) & wait; cat one two",
        );
        let text = output.expect_success().text();
        case.await_end();
        // On a machine that is busy a commit takes long, which is told too.
        let told = text
            .lines()
            .filter(|line| !line.contains(": still at work on "));
        let told: Vec<_> = told.collect();
        let [one, ended, two, ended_too] = told[..] else {
            panic!("round {round}: {text}")
        };
        let late = |line: &str| line.starts_with("boltfs: nothing is mounted on ");
        match (late(one), late(two)) {
            // It was heard, when the first had unmounted already.
            (false, false) if two.contains("NOT DISCARDED, for ") => {
                assert_eq!((ended, ended_too), ("0", "1"), "{text}");
                assert_eq!(
                    two.split_once(" before: "),
                    Some((
                        "boltfs: NOT DISCARDED, for somebody else had unmounted",
                        &one[8..]
                    ))
                );
            }
            (false, false) => assert_eq!((one, ended, ended_too), (two, "0", "0"), "{text}"),
            (true, false) => assert_eq!((ended, ended_too), ("1", "0"), "{text}"),
            (false, true) => assert_eq!((ended, ended_too), ("0", "1"), "{text}"),
            (true, true) => panic!("round {round}: {text}"),
        }
        both += u32::from(!late(one) && !late(two));
        let discarded = one.contains("discarded 1 change") || two.contains("discarded 1 change");
        discards += u32::from(discarded);
        assert!(
            discarded || one.contains("committed transaction "),
            "{text}"
        );
        let missed = late(two) || two.contains("NOT DISCARDED, for ");
        assert_eq!(discarded, !missed, "{text}");
        let value = case.value("b", "text");
        let expected = if discarded { "some text" } else { "x" };
        assert_eq!(value.as_deref(), Some(expected), "{text}");
        case.sh("boltfs db mnt; printf 'some text' > mnt/b/text; boltfs umount mnt")
            .expect_success();
    }
    println!("50 rounds: both were told {both} times, {discards} discards");
    assert!(both > 0);
}

/// One that finds the mount in use gives its turn back.
#[test]
fn a_turn_that_came_to_nothing_is_given_back() {
    let case = rich();
    case.sh("boltfs db mnt; echo x > mnt/b/text")
        .expect_success();
    let user = case.start("env -C mnt/b sleep 600");
    let comm = format!("/proc/{}/comm", user.id());
    wait_until("it uses the mount", Duration::from_secs(30), || {
        fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == "sleep")
    });
    let output =
        case.sh("for n in 1 2 3 4; do boltfs umount mnt 2> said$n & done; wait; cat said?");
    let text = output.expect_success().text();
    assert_eq!(text.matches(" is in use: sleep (pid ").count(), 4, "{text}");
    drop(user);
    case.boltfs(&["umount", "mnt"]).expect_success();
    assert_eq!(case.value("b", "text").as_deref(), Some("x"));
}
