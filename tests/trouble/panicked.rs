//! A fault in our own code, while a request is answered. There is none that we know of; but a program cannot go on without random
//! numbers where it needs the first one, and the system can be made to have none.

use std::fs;

use crate::common::case::{Case, assert_failed};
use crate::database;
use crate::injected::inject;

/// A set needs one, the first on each thread.
const FAULT: &str = "error=EIO";

#[test]
fn a_fault_of_ours_fails_one_request_and_commits_nothing() {
    // On a thread that answers requests, and on one that carries out a command.
    for request in ["cat mnt/.boltfs/info", "echo discard > mnt/.boltfs/control"] {
        let case = Case::with(database);
        let before = fs::read(case.db()).unwrap();
        case.sh("boltfs db mnt; echo first > mnt/b/k; mkdir mnt/new; rm mnt/b/l")
            .expect_success();
        crate::recovered::kill(&case);
        // The edits are made again before there is any thread.
        case.sh("boltfs --recover db mnt").expect_success();
        let strace = inject(&case, "getrandom", FAULT);
        let failed = case.sh(request);
        drop(strace);
        let trace = fs::read_to_string(case.join("trace")).unwrap();
        assert!(trace.contains("(INJECTED)"), "{request}: {trace}");
        assert!(failed.stderr.contains("Input/output error"), "{failed}");
        // The mount is there, for looking; edits are refused, and what was answered before is seen.
        let output = case.sh(
            "cat mnt/b/k; ls mnt; if echo x > mnt/b/k; then exit 9; fi; if mkdir mnt/other; then exit 9; fi
             if echo commit > mnt/.boltfs/control; then exit 9; fi; cat mnt/.boltfs/control; grep -c . mnt/b/key000",
        );
        let output = output.expect_success();
        let text = output.text();
        let journal = format!("{}.boltfs-journal", case.db().display());
        let told = format!(
            "first\nb\nnew\nNOT COMMITTED: boltfs failed in its own code while it answered a request, and what is pending may be \
             half done; please report this. Nothing was written. Your edits are still to be seen, and kept in {journal}. No more are \
             taken: unmount.\n1\n"
        );
        assert_eq!(text, told);
        assert_eq!(
            output.stderr.matches("Read-only file system").count(),
            2,
            "{output}"
        );
        let ended = case.boltfs(&["umount", "mnt"]);
        assert_failed(
            &ended,
            1,
            "boltfs: NOT COMMITTED: boltfs failed in its own code ",
        );
        assert_failed(
            &ended,
            1,
            &format!("Your edits are safe in {journal}: mount again with --recover."),
        );
        assert!(
            fs::read(case.db()).unwrap() == before,
            "{request}: the database was written to"
        );
        case.sh("boltfs --recover db mnt; [ \"$(wc -l < mnt/.boltfs/pending)\" = 3 ]; boltfs umount mnt")
            .expect_success();
        assert_eq!(case.value("b", "k").as_deref(), Some("first"));
        assert_eq!(case.value("b", "l"), None);
    }
}

/// The command to the control file runs on a thread of its own, which may not be to be had, or fail.
#[test]
fn a_command_without_a_thread_is_an_error_and_nothing_more() {
    let case = Case::with(database);
    case.sh("boltfs db mnt; echo first > mnt/b/k")
        .expect_success();
    let strace = inject(&case, "clone,clone3", "error=EAGAIN");
    let failed = case.sh("echo commit > mnt/.boltfs/control");
    drop(strace);
    assert!(failed.stderr.contains("Input/output error"), "{failed}");
    case.sh("echo second > mnt/b/l; echo commit > mnt/.boltfs/control; boltfs umount mnt")
        .expect_success();
    assert_eq!(case.value("b", "l").as_deref(), Some("second"));
}
