//! etcd snapshots: a database with its SHA-256 behind it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use boltfs::bolt::{Map, OpenOptions, Snapshot, trailer};

use crate::common::case::{Case, assert_failed};
use crate::common::etcd::{Etcd, etcdctl};
use crate::common::process::{free_port, run};
use crate::common::{Oracle, TempDir, Tree};

/// What a real etcd saves: 200 keys, one of them deleted.
fn saved(place: &Path) {
    let dir = TempDir::new("snapshot");
    let etcd = Etcd::start_new(&dir.join("data"), "one");
    for number in 0..200 {
        etcd.ask(&["put", &format!("/k/{number}"), &"v".repeat(number)]);
    }
    etcd.ask(&["del", "/k/7"]);
    etcd.ask(&["snapshot", "save", place.to_str().expect("UTF-8")]);
    etcd.kill();
}

/// Whether the file ends in a right hash; it must be pages and 32 bytes.
#[track_caller]
fn assert_right(file: &Path) {
    let snapshot = Snapshot::open(
        Map::of(&File::open(file).unwrap()).unwrap(),
        OpenOptions::default(),
    )
    .unwrap();
    assert_eq!(
        trailer::matches(&snapshot),
        Some(true),
        "{}",
        file.display()
    );
    let in_use = snapshot.meta().bytes_in_use().unwrap();
    assert_eq!(fs::metadata(file).unwrap().len(), in_use + 32);
}

/// `etcdctl snapshot restore` with its check of the hash, and an etcd that starts from it.
fn restore(case: &Case, file: &Path) -> Etcd {
    let data = case.join("restored");
    let _ = fs::remove_dir_all(&data);
    let peer = format!("http://127.0.0.1:{}", free_port());
    run(etcdctl()
        .args(["snapshot", "restore"])
        .arg(file)
        .arg("--data-dir")
        .arg(&data)
        .args(["--name", "one", "--initial-cluster", &format!("one={peer}")])
        .args(["--initial-advertise-peer-urls", &peer]))
    .expect_success();
    Etcd::start_existing(&data, "one", &peer)
}

fn content(file: &Path) -> Tree {
    // bbolt takes no notice of what is behind the pages.
    Oracle::shared().assert_sound(file);
    Oracle::shared().dump(file).expect("bbolt reads it")
}

#[test]
fn an_edited_snapshot_is_restored_with_its_hash_checked() {
    let case = Case::with(saved);
    assert_right(&case.db());
    case.sh("chmod 604 db; $as_root chown 1:2 db 2> /dev/null || true")
        .expect_success();
    let before = fs::metadata(case.db()).unwrap();
    let wanted = content(&case.db());
    // Looking changes nothing.
    let bytes = fs::read(case.db()).unwrap();
    case.sh("boltfs db mnt; ls mnt/key > /dev/null; touch mnt/key; boltfs umount mnt")
        .expect_success();
    assert!(fs::read(case.db()).unwrap() == bytes);

    case.sh("mkdir two; boltfs db mnt; ls mnt/key | sed -n 1p > first; echo hello > mnt/meta/note")
        .expect_success();
    let first = fs::read_to_string(case.join("first")).unwrap();
    let first = first.trim();
    // In mid-mount: the new file is in its place, locked and right, and the mount goes on with the old tree below.
    case.sh("echo commit > mnt/.boltfs/control")
        .expect_success();
    assert_right(&case.db());
    assert!(
        case.is_locked(),
        "the new file is locked as the old one was"
    );
    assert_failed(&case.boltfs(&["db", "two"]), 1, "is mounted on");
    case.sh(&format!("[ -e mnt/meta/note ]; not [ -e mnt/.boltfs/base/meta/note ]; rm mnt/key/{first}; echo commit > mnt/.boltfs/control"))
        .expect_success();
    assert_right(&case.db());
    case.sh("rm mnt/meta/note").expect_success();
    let output = case.boltfs(&["umount", "mnt"]).expect_success();
    assert!(output.stderr.contains("committed transaction"), "{output}");
    assert_right(&case.db());
    let after = fs::metadata(case.db()).unwrap();
    assert_eq!(
        (after.mode(), after.uid(), after.gid()),
        (before.mode(), before.uid(), before.gid())
    );
    assert!(!case.is_locked());
    let key: Vec<u8> = (2..first.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&first[at..at + 2], 16).unwrap())
        .collect();
    let mut edited = wanted.clone();
    edited
        .apply(&crate::common::Edit::Delete {
            path: vec![b"key".to_vec()],
            key,
        })
        .unwrap();
    edited.assert_same(&content(&case.db()), "the edited snapshot");
    assert_eq!(
        case.sh("ls -A").text(),
        "db\nfirst\nmnt\ntwo\n",
        "something is left"
    );

    let etcd = restore(&case, &case.db());
    assert_eq!(etcd.ask(&["get", "/k/5"]), "/k/5\nvvvvv\n");
    etcd.kill();
}

#[test]
fn output_and_backup_of_a_snapshot_are_snapshots() {
    let case = Case::with(saved);
    let before = fs::read(case.db()).unwrap();
    case.sh("boltfs --output out db mnt; rm mnt/key/$(ls mnt/key | tail -1); boltfs umount mnt")
        .expect_success();
    assert!(fs::read(case.db()).unwrap() == before);
    assert_right(&case.join("out"));
    case.sh("boltfs --backup bak db mnt; rm mnt/key/$(ls mnt/key | tail -1); boltfs umount mnt")
        .expect_success();
    assert!(fs::read(case.join("bak")).unwrap() == before);
    content(&case.db()).assert_same(&content(&case.join("out")), "the same edit");
    restore(&case, &case.join("out")).kill();
}

#[test]
fn a_hash_that_was_wrong_is_left_out_and_never_blessed() {
    let case = Case::with(saved);
    case.sh("printf X | dd of=db bs=1 seek=$(($(stat -c %s db) - 5)) conv=notrunc")
        .expect_success();
    let output = case
        .sh("boltfs db mnt; echo x > mnt/meta/note; boltfs umount mnt")
        .expect_success();
    let warning = "boltfs: warning: ";
    assert!(output.stderr.starts_with(warning), "{output}");
    assert!(
        output
            .stderr
            .contains("does not match what is before it; a commit leaves it out\n"),
        "{output}"
    );
    assert!(
        output
            .stderr
            .contains("and is left out: restore needs --skip-hash-check"),
        "{output}"
    );
    let len = fs::metadata(case.db()).unwrap().len();
    assert_eq!(len % 512, 0, "etcd would take the end for a hash");
    content(&case.db());
    let refused = run(etcdctl()
        .args(["snapshot", "restore"])
        .arg(case.db())
        .arg("--data-dir")
        .arg(case.join("data")));
    assert!(!refused.is_success(), "{refused}");
    assert!(refused.stderr.contains("hash"), "{refused}");
}

/// Killed at each system call of a commit that writes: the file is the old snapshot or the new one, with a right hash, and the
/// next mount knows which.
#[test]
fn a_kill_at_any_moment_leaves_one_of_two_right_snapshots() {
    let case = Case::with(saved);
    let old = content(&case.db());
    let original = fs::read(case.db()).unwrap();
    let calls = [
        "ioctl",
        "copy_file_range",
        "sendfile",
        "flock",
        "ftruncate",
        "pwrite64",
        "write",
        "fdatasync",
        "fsync",
        "fchown",
        "fchmod",
        "fremovexattr",
        "linkat",
        "rename",
        "renameat2",
        "unlink",
    ];
    let (mut olds, mut news) = (0, 0);
    for call in calls {
        for number in 1.. {
            assert!(number < 100, "it never ends");
            fs::write(case.db(), &original).unwrap();
            case.sh("boltfs db mnt; echo hello > mnt/meta/note")
                .expect_success();
            let server = case.server();
            let strace = case.start(&format!(
                "strace -f -p {server} -o /dev/null -e trace={call} -e inject={call}:signal=KILL:when={number}"
            ));
            case.sh(&format!("until grep -q 'TracerPid:[^0-9]*[1-9]' /proc/{server}/status; do sleep 0.01; done; sleep 0.05"))
                .expect_success();
            if case.sh("echo commit > mnt/.boltfs/control").is_success() {
                drop(strace);
                case.boltfs(&["umount", "mnt"]).expect_success();
                break;
            }
            case.await_unserved();
            drop(strace);
            assert_right(&case.db());
            let is = content(&case.db());
            let _ = case.boltfs(&["umount", "mnt"]);
            let journal = case.join("db.boltfs-journal").exists();
            if is == old {
                olds += 1;
                assert!(journal, "{call} {number}: the edit is lost");
                case.sh("boltfs --recover db mnt; boltfs umount mnt")
                    .expect_success();
            } else {
                news += 1;
                // Nothing is asked: it is known to be committed.
                case.sh("boltfs db mnt; [ -z \"$(cat mnt/.boltfs/pending)\" ]; boltfs umount mnt")
                    .expect_success();
            }
            assert_right(&case.db());
            let edited = content(&case.db());
            let note = edited.value(&[b"meta".to_vec()], b"note");
            assert_eq!(note, Some(&b"hello\n"[..]), "{call} {number}");
            let left = case.sh("ls -A").text();
            assert_eq!(left, "db\nmnt\n", "{call} {number}: something is left");
        }
    }
    assert!(
        olds >= 5 && news >= 2,
        "{olds} old and {news} new ones were met"
    );
    restore(&case, &case.db()).kill();
}
