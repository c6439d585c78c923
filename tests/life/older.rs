//! `--meta N`: the older of the two states that a database holds, to look at and as the base of a commit.

use std::fs;

use boltfs::bolt::Metas;
use serde_json::Value;

use crate::common::case::{Case, assert_failed, signal};
use crate::common::tree::Edit;
use crate::common::{Fixture, Options, Oracle, Tree};
use crate::rich;

/// A database at transaction 3 (meta page 1), beside which stands transaction 2 (meta page 0), as [`rich`] made it.
fn two_states() -> Case {
    let case = rich();
    let put = |key: &str, value: &str| Edit::Put {
        path: vec![b"b".to_vec()],
        key: key.into(),
        value: value.into(),
    };
    let newer = vec![
        put("text", "newer"),
        put("more", "in the newer state alone"),
        Edit::DeleteBucket {
            path: vec![b"d".to_vec()],
        },
    ];
    Oracle::shared()
        .edit(&case.db(), &[newer], Options::default())
        .expect("bbolt takes the edits");
    case
}

/// What transaction 2 holds.
fn older() -> Tree {
    rich().content()
}

/// What transaction 2 holds, and the edits that [`EDITS`] makes.
fn edited() -> Tree {
    let mut tree = older();
    let path = || vec![b"b".to_vec()];
    for edit in [
        Edit::Put {
            path: path(),
            key: b"line".to_vec(),
            value: b"edited\n".to_vec(),
        },
        Edit::Delete {
            path: path(),
            key: b"binary".to_vec(),
        },
        Edit::CreateBucket {
            path: vec![b"new".to_vec()],
        },
    ] {
        tree.apply(&edit).unwrap();
    }
    tree
}

const EDITS: &str = "echo edited > mnt/b/line; rm mnt/b/binary; mkdir mnt/new";

/// All pages of both states but the meta page that gave way are as they were, whatever was appended.
#[track_caller]
fn assert_kept(case: &Case, before: &[u8], slot: usize) {
    let after = fs::read(case.db()).unwrap();
    let metas = Metas::find(before).unwrap().slots;
    let pages = metas.iter().map(|meta| meta.unwrap().hwm).max().unwrap();
    for page in (0..pages as usize).filter(|page| *page != slot) {
        let bytes = page * 4096..(page + 1) * 4096;
        assert!(
            after[bytes.clone()] == before[bytes],
            "page {page} was written to"
        );
    }
}

#[test]
fn the_older_state_is_shown_and_nothing_is_touched() {
    let case = two_states();
    let before = fs::read(case.db()).unwrap();
    for option in ["--meta 0 -r", "-o ro,meta=0", "-r -o meta=0 --meta=0"] {
        let output = case.sh(&format!(
            "boltfs {option} db mnt; cat mnt/b/text; ls mnt mnt/b; boltfs status mnt; cat mnt/.boltfs/info >&2; boltfs umount mnt"
        ));
        let output = output.expect_success();
        let text = output.text();
        let listing = "mnt:\nb\nc\nd\n\nmnt/b:\nbinary\nempty\njson\nline\ntext\n";
        assert!(text.starts_with(&format!("some text{listing}")), "{output}");
        assert!(
            text.contains("\n  the older state, of meta page 0; transaction 3 is newer\n"),
            "{output}"
        );
        let said = format!(
            "boltfs: warning: this is the older state of {}: transaction 2, of meta page 0. Transaction 3 is newer.\n",
            case.db().display()
        );
        assert!(output.stderr.starts_with(&said), "{output}");
        assert!(output.stderr.contains("\"newer\": 3,"), "{output}");
    }
    // The current state by its meta page is nothing to speak of.
    let output =
        case.sh("boltfs --meta 1 db mnt; cat mnt/b/text; boltfs status mnt; boltfs umount mnt");
    let output = output.expect_success();
    assert!(output.text().starts_with("newer"), "{output}");
    assert!(!output.text().contains("older"), "{output}");
    assert!(output.stderr.starts_with("boltfs: nothing"), "{output}");
    let command = case.boltfs(&[
        "--meta",
        "0",
        "-r",
        "db",
        "--",
        "sh",
        "-c",
        "cat $BOLTFS_MOUNT/b/text",
    ]);
    assert_eq!(command.expect_success().text(), "some text");
    assert!(fs::read(case.db()).unwrap() == before);

    for wrong in ["--meta 2", "--meta", "-o meta=2", "-o meta"] {
        assert_eq!(case.sh(&format!("boltfs {wrong} db mnt")).code(), Some(2));
    }
    for create in ["--create --meta 0", "--create -o meta=0"] {
        assert_eq!(
            case.sh(&format!("boltfs {create} none mnt")).code(),
            Some(2)
        );
    }
    assert!(case.line().is_none() && !case.join("none").exists());
}

#[test]
fn a_commit_over_the_older_state_holds_it_and_the_edits() {
    let case = two_states();
    let newer = case.content();
    let before = fs::read(case.db()).unwrap();
    let mounted = case.boltfs(&["--meta", "0", "db", "mnt"]).expect_success();
    let said = "A commit starts from it, and gives transaction 3 up: what 3 changed is lost then, unless you keep a copy";
    assert!(mounted.stderr.contains(said), "{mounted}");
    let status = case.sh(&format!("{EDITS}; boltfs status mnt"));
    let line =
        "\n  the older state, of meta page 0; transaction 3 is newer: a commit gives it up\n";
    assert!(status.expect_success().text().contains(line));
    let pending = case.sh("cut -f1,2 mnt/.boltfs/pending").text();
    assert_eq!(pending, "deleted\tb/binary\nchanged\tb/line\nadded\tnew/\n");
    // The meta page that stays is of the older state, so the number has the parity of the other one.
    let output = case.boltfs(&["umount", "mnt"]).expect_success();
    let report = format!(
        "boltfs: committed transaction 5 to {}: 0 keys added, 1 changed, 1 deleted; 1 bucket added, 0 moved, 0 \
         deleted\nboltfs: note: it starts from transaction 2 (meta page 0), and gives up transaction 3, which was newer\n",
        case.db().display()
    );
    assert_eq!(output.stderr, report);
    edited().assert_same(&case.content(), "what bbolt finds");
    assert_kept(&case, &before, 1);
    case.boltfs(&["check", "db"]).expect_success();
    let probe = Oracle::shared()
        .probe(&case.db(), Options::default())
        .unwrap();
    assert_eq!(
        (probe.before, probe.write, probe.after),
        (vec![], Ok(()), vec![])
    );

    // Tried first, put elsewhere, or with a copy of what is given up.
    fs::write(case.db(), &before).unwrap();
    let dry = case.sh(&format!(
        "boltfs --dry-run --meta 0 db mnt; {EDITS}; boltfs umount mnt"
    ));
    let dry = dry.expect_success().stderr;
    assert!(
        dry.contains("what would have been committed as transaction 5 to "),
        "{dry}"
    );
    assert!(dry.contains("and gives up transaction 3"), "{dry}");
    assert!(fs::read(case.db()).unwrap() == before);
    let output = case.sh(&format!(
        "boltfs --output out --meta 0 db mnt; {EDITS}; boltfs umount mnt"
    ));
    output.expect_success();
    assert!(fs::read(case.db()).unwrap() == before);
    Oracle::shared().assert_sound(&case.join("out"));
    edited().assert_same(
        &Oracle::shared().dump(&case.join("out")).unwrap(),
        "the copy",
    );
    case.sh(&format!(
        "boltfs --backup bak --meta 0 db mnt; {EDITS}; boltfs umount mnt"
    ))
    .expect_success();
    edited().assert_same(&case.content(), "beside a backup");
    newer.assert_same(
        &Oracle::shared().dump(&case.join("bak")).unwrap(),
        "the backup",
    );
    case.boltfs(&["--meta", "0", "db", "--", "true"])
        .expect_success();
}

#[test]
fn commits_in_mid_mount_start_from_it_too() {
    let case = two_states();
    case.boltfs(&["--meta", "0", "db", "mnt"]).expect_success();
    let committed =
        case.sh("echo 1 > mnt/b/one; echo commit > mnt/.boltfs/control; cat mnt/.boltfs/control");
    let text = committed.expect_success().text();
    assert!(text.contains("and gives up transaction 3"), "{text}");
    case.sh("cp db copy").expect_success();
    let info: Value = serde_json::from_str(&case.sh("cat mnt/.boltfs/info").text()).unwrap();
    assert_eq!(
        [&info["newer"], &info["txid"], &info["committed"]],
        [&Value::Null, &2.into(), &5.into()]
    );
    assert!(
        !case
            .sh("boltfs status mnt")
            .expect_success()
            .text()
            .contains("older state")
    );
    case.sh("echo 2 > mnt/b/two; rm mnt/b/one").expect_success();
    let report = case.boltfs(&["umount", "mnt"]).expect_success().stderr;
    assert!(report.contains("committed transaction 6 "), "{report}");
    assert!(!report.contains("gives up"), "{report}");
    let with = |key: &str, value: &str| {
        let mut tree = older();
        let (path, key, value) = (vec![b"b".to_vec()], key.into(), value.into());
        tree.apply(&Edit::Put { path, key, value }).unwrap();
        tree
    };
    Oracle::shared().assert_sound(&case.join("copy"));
    with("one", "1\n").assert_same(
        &Oracle::shared().dump(&case.join("copy")).unwrap(),
        "after the first",
    );
    with("two", "2\n").assert_same(&case.content(), "after the second");
}

#[test]
fn a_killed_mount_of_it_is_recovered_with_the_same_meta_page_alone() {
    let case = two_states();
    let kill = |options: &str, edits: &str| {
        case.sh(&format!("boltfs {options} db mnt; {edits}"))
            .expect_success();
        signal("KILL", &case.server().to_string());
        case.await_unserved();
        let _ = case.boltfs(&["umount", "mnt"]);
    };
    let before = fs::read(case.db()).unwrap();
    let refuse = |options: &str, said: &[&str]| {
        for decision in ["", "--recover"] {
            let output = case.sh(&format!("boltfs {options} {decision} db mnt"));
            assert_failed(&output, 1, said[0]);
            said.iter()
                .for_each(|said| assert!(output.stderr.contains(said), "{output}"));
        }
        assert!(case.line().is_none() && case.join("db.boltfs-journal").exists());
    };
    kill("--meta 0", EDITS);
    refuse(
        "",
        &[
            "start from transaction 2, its older state: it was changed since, or mounted with --meta then; this is transaction 3",
            "mount with --meta 0 and with --recover; a commit then gives transaction 3 up.",
        ],
    );
    assert!(fs::read(case.db()).unwrap() == before);
    case.sh("boltfs --meta 0 --recover db mnt; boltfs umount mnt")
        .expect_success();
    edited().assert_same(&case.content(), "recovered");
    assert_kept(&case, &before, 1);

    // The other way round.
    fs::write(case.db(), &before).unwrap();
    kill("", "echo x > mnt/b/x");
    refuse(
        "--meta 0",
        &[
            "start from transaction 3, its current state; this is",
            "mount without --meta and with --recover",
        ],
    );
    case.sh("boltfs --meta 0 --discard db mnt; boltfs umount mnt; not [ -e db.boltfs-journal ]")
        .expect_success();
    assert!(fs::read(case.db()).unwrap() == before);

    // After a commit the journal starts from that.
    kill(
        "--meta 0",
        "rm mnt/b/text; echo commit > mnt/.boltfs/control; echo x > mnt/b/x",
    );
    refuse(
        "--meta 0",
        &["start from transaction 5, its current state; this is"],
    );
    case.sh("boltfs --recover db mnt; [ -e mnt/b/x ]; not [ -e mnt/b/text ]; boltfs umount mnt")
        .expect_success();
    assert_eq!(case.value("b", "x").as_deref(), Some("x\n"));
}

#[test]
fn a_commit_over_it_that_fails_says_how_to_mount_again() {
    let case = two_states();
    case.sh("boltfs --meta 0 db mnt; echo x > mnt/b/x; sleep 0.02; printf '\\1' | dd of=db bs=1 seek=9000 conv=notrunc status=none")
        .expect_success();
    let output = case.boltfs(&["umount", "mnt"]);
    assert_failed(&output, 1, "NOT COMMITTED: ");
    assert_failed(
        &output,
        1,
        "db.boltfs-journal: mount again with --meta 0 --recover.",
    );
}

/// The newest state is damaged: the older one is named where that is told.
#[test]
fn it_is_named_where_the_newer_one_is_damaged() {
    let (_directory, path) = Fixture::named("shared-bucket-root.db").copy();
    let case = Case::with(|db| fs::rename(&path, db).unwrap());
    let db = case.db().display().to_string();
    let mounted = case.boltfs(&["-r", "db", "mnt"]).expect_success();
    let said = format!("has no such error: boltfs --meta 1 -r {db} MOUNTPOINT. ");
    assert!(mounted.stderr.contains(&said), "{mounted}");
    case.sh("boltfs umount mnt; boltfs --meta 1 db mnt; echo x > mnt/good/x; boltfs umount mnt; boltfs check db")
        .expect_success();
    Oracle::shared().assert_sound(&case.db());

    // A meta page that leads nowhere.
    let case = two_states();
    let mut bytes = fs::read(case.db()).unwrap();
    let mut newer = Metas::find(&bytes).unwrap().get(1).unwrap();
    newer.root = 1 << 30;
    bytes[4096..8192].copy_from_slice(&newer.to_page(1));
    fs::write(case.db(), &bytes).unwrap();
    let db = case.db().display().to_string();
    let look = format!("look at it with: boltfs --meta 0 -r {db} MOUNTPOINT");
    assert_failed(&case.boltfs(&["db", "mnt"]), 1, &look);
    assert_failed(&case.boltfs(&["--meta", "1", "db", "mnt"]), 1, &look);
    case.sh("boltfs --meta 0 db mnt; echo x > mnt/b/x; boltfs umount mnt")
        .expect_success();
    assert_eq!(case.value("b", "x").as_deref(), Some("x\n"));
    // One that is none.
    bytes[4096..8192].fill(0);
    fs::write(case.db(), &bytes).unwrap();
    assert_failed(
        &case.boltfs(&["--meta", "1", "db", "mnt"]),
        1,
        "meta page 1 is not valid. The other meta page leads to a tree.",
    );
}

#[test]
fn the_hash_of_a_snapshot_is_renewed() {
    let (_directory, path) = Fixture::named("etcd-snapshot.db").copy();
    let case = Case::with(|db| fs::rename(&path, db).unwrap());
    let before = fs::read(case.db()).unwrap();
    case.sh("boltfs --meta 1 db mnt; echo x > mnt/cluster/x; boltfs umount mnt")
        .expect_success();
    let output = case.boltfs(&["check", "db"]);
    assert!(output.text().contains("a SHA-256 that matches"), "{output}");
    let len = fs::metadata(case.db()).unwrap().len();
    assert!(len % 512 == 32 && fs::read(case.db()).unwrap() != before);
}
