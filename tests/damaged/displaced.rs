//! A key where no look-up goes for it, in a real mount: what can be done with it, and with its bucket.

use std::fs;

use crate::common::Fixture;
use crate::common::case::{Case, assert_failed};

/// A page of bucket `bad` begins with the key `aaaa`, which belongs before all of its keys.
fn stale() -> Case {
    let (_directory, path) = Fixture::named("page-stale.db").copy();
    Case::with(|db| fs::rename(&path, db).unwrap())
}

#[test]
fn a_displaced_key_is_read_and_never_edited() {
    for first in ["true", "ls mnt/bad > /dev/null"] {
        let case = stale();
        case.sh(&format!(
            "boltfs db mnt; {first}; test -n \"$(cat mnt/bad/aaaa)\""
        ))
        .expect_success();
        for line in [
            "rm mnt/bad/aaaa",
            "mv mnt/bad/aaaa mnt/good/",
            "mv mnt/bad/key-000 mnt/bad/aaaa",
            "echo NEW > mnt/bad/aaaa",
            "truncate -s 0 mnt/bad/aaaa",
        ] {
            assert_failed(&case.sh(line), 1, "Input/output error");
        }
        let status = case
            .sh("echo x > mnt/bad/zz; boltfs umount mnt; boltfs db mnt; ls mnt/bad | grep -c aaaa; boltfs umount mnt");
        assert_eq!(status.expect_success().text(), "1\n");
    }
}

/// What a commit that damage refuses advises to do.
#[test]
fn its_bucket_can_be_copied_and_removed() {
    let case = stale();
    case.sh("boltfs db mnt").expect_success();
    // Not empty, and nothing was tried yet.
    assert_failed(&case.sh("rmdir mnt/bad"), 1, "not empty");
    case.sh("mkdir mnt/new; cp -r mnt/bad/* mnt/new/")
        .expect_success();
    assert_failed(
        &case.sh("rm -r mnt/bad"),
        1,
        "cannot remove 'mnt/bad/aaaa': Input/output error",
    );
    let undone = case.sh("rmdir mnt/bad; mv mnt/new mnt/bad; ls mnt/bad; boltfs umount mnt");
    let listed = undone.expect_success().text();
    assert!(listed.starts_with("aaaa\n"), "{listed}");
    let now = case.sh("boltfs db mnt; ls mnt/bad; echo NEW > mnt/bad/aaaa; boltfs umount mnt; not sh -c 'boltfs check db | grep ^error'");
    assert_eq!(now.expect_success().text(), listed);
    assert_eq!(case.value("bad", "aaaa").as_deref(), Some("NEW"));
}

/// The journal of a mount that was killed has it too.
#[test]
fn its_removal_is_recovered() {
    let case = stale();
    case.sh("boltfs db mnt; rm -r mnt/bad 2> /dev/null || rmdir mnt/bad; mkdir mnt/bad; echo x > mnt/bad/x")
        .expect_success();
    let pid = case.server();
    crate::common::case::signal("KILL", &pid.to_string());
    let found = case.sh(
        "fusermount3 -u mnt 2> /dev/null || true; boltfs --recover db mnt; boltfs umount mnt
         boltfs -r db mnt; ls mnt/bad; cat mnt/bad/x; boltfs umount mnt",
    );
    assert_eq!(found.expect_success().text(), "x\nx\n");
}
