//! `boltfs check` as a person or a script runs it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::common::mount::BOLTFS;
use super::common::process::{Output, run};
use super::common::{Fixture, TempDir};

fn boltfs() -> Command {
    Command::new(BOLTFS)
}

fn check(path: &Path) -> Output {
    run(boltfs().arg("check").arg(path))
}

#[track_caller]
fn exits(output: &Output, status: i32) {
    assert_eq!(output.code(), Some(status), "{output}");
}

#[test]
fn sound_files_pass_and_are_not_touched() {
    for name in ["three-levels.db", "nofreelistsync.db", "etcd-snapshot.db"] {
        let (_directory, path) = Fixture::named(name).copy();
        // Reading is enough.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("may be changed");
        let before = (
            fs::read(&path).unwrap(),
            fs::metadata(&path).unwrap().modified().unwrap(),
        );
        let output = check(&path);
        exits(&output, 0);
        assert!(output.text().contains(": sound. Transaction "), "{output}");
        // Progress belongs on a terminal.
        assert_eq!(output.stderr, "");
        let after = (
            fs::read(&path).unwrap(),
            fs::metadata(&path).unwrap().modified().unwrap(),
        );
        assert!(before == after, "{name} was changed");
    }
}

#[test]
fn damage_is_named_with_what_to_do() {
    let (_directory, path) = Fixture::named("page-zeroed.db").copy();
    let output = check(&path);
    exits(&output, 1);
    assert!(
        output.text().starts_with(
            "error: bucket bad: page 9 is all zeros (a write that never reached the disk); the \
             keys from \"key-010\" to before \"key-021\" of this bucket cannot be read\n"
        ),
        "{output}"
    );
    assert!(
        output
            .text()
            .contains("/page-zeroed.db: 1 error. Transaction 4 (meta 0): ")
    );
    assert!(
        output.text().contains("can be read: boltfs -r "),
        "{output}"
    );

    let (_directory, path) = Fixture::named("freelist-live-page.db").copy();
    let output = check(&path);
    exits(&output, 1);
    assert!(
        output
            .text()
            .contains("a commit by boltfs does without this freelist"),
        "{output}"
    );
    // A leak is no danger: no error, and no success without a word.
    let (_directory, path) = Fixture::named("freelist-missing.db").copy();
    let output = check(&path);
    exits(&output, 0);
    assert!(
        output
            .text()
            .starts_with("warning: file: 1 page is neither in use nor listed")
    );
}

#[test]
fn no_more_is_promised_than_a_check_can_tell() {
    // The newer meta page is damaged: what its transaction did is lost.
    let (_directory, path) = Fixture::named("meta-active-bad-checksum.db").copy();
    let output = check(&path);
    assert!(
        output
            .text()
            .ends_with("\nAll content of transaction 3 can be read.\n"),
        "{output}"
    );
    // A value that says it is shorter than what lies there.
    let (_directory, path) = Fixture::named("freelist-missing.db").copy();
    let mut bytes = fs::read(&path).unwrap();
    let value_size = 6 * 1024 + 16 + 3 * 16 + 12;
    bytes[value_size] -= 1;
    fs::write(&path, bytes).unwrap();
    let output = check(&path);
    assert!(
        output.text().ends_with(
            "\nAll keys can be read; whether their values are whole, only a comparison can show.\n"
        ),
        "{output}"
    );
}

#[test]
fn the_other_state_can_be_checked() {
    let (_directory, path) = Fixture::named("shared-bucket-root.db").copy();
    let output = check(&path);
    exits(&output, 1);
    let next = format!(
        "has no such error. Look at it with: boltfs --meta 1 -r {} MOUNTPOINT\n",
        path.display()
    );
    assert!(output.text().ends_with(&next), "{output}");
    let output = run(boltfs().args(["check", "--meta", "1"]).arg(&path));
    exits(&output, 0);
    assert!(output.text().contains("Transaction 3 (meta 1)"), "{output}");
}

#[test]
fn files_that_are_no_database() {
    let directory = TempDir::new("check");
    let missing = check(&directory.path().join("missing"));
    exits(&missing, 2);
    assert!(missing.stderr.contains("does not exist"), "{missing}");
    exits(&check(directory.path()), 2);
    for name in [
        "zero-length.db",
        "random-16k.db",
        "big-endian-s390x.db",
        "meta-hwm-huge.db",
    ] {
        let (_directory, path) = Fixture::named(name).copy();
        let output = check(&path);
        exits(&output, 2);
        assert!(output.stderr.starts_with("boltfs: "), "{output}");
        assert_eq!(output.text(), "");
        // It must not send the person in a circle.
        assert!(!output.stderr.contains("boltfs check"), "{output}");
    }
    exits(&run(boltfs().arg("check")), 2);
    exits(&run(boltfs().args(["check", "--meta", "2", "db"])), 2);
}

#[test]
fn a_cut_file_is_checked_as_far_as_it_goes() {
    let (_directory, path) = Fixture::named("three-levels.db").copy();
    let len = fs::metadata(&path).unwrap().len();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(len / 3)
        .unwrap();
    let output = check(&path);
    exits(&output, 1);
    assert!(
        output.text().contains("error: file: ends after "),
        "{output}"
    );
    assert!(
        output.text().contains("Copy it again")
            && output.text().contains("can be read: boltfs -r "),
        "{output}"
    );
}

#[test]
fn a_database_in_use_is_not_waited_for() {
    let (_directory, path) = Fixture::named("one-bucket.db").copy();
    let holder = File::options().read(true).write(true).open(&path).unwrap();
    holder.lock().expect("nobody else has it");
    let output = check(&path);
    exits(&output, 2);
    let who = format!("(pid {})", std::process::id());
    assert!(
        output.stderr.contains("is in use by ") && output.stderr.contains(&who),
        "{output}"
    );
    // Other readers are no hindrance.
    holder.unlock().unwrap();
    holder.lock_shared().unwrap();
    exits(&check(&path), 0);
}
