//! What is said of damage: once for each place, with the bucket and the page, and what to do.

use std::fs;

use boltfs::bolt::page::{Header, LEAF};

use crate::common::case::{Case, assert_failed, signal};
use crate::common::process::wait_until;
use crate::common::{Bulk, Fixture, Mount, Options, Oracle};
use crate::failing::Failing;
use crate::{PATIENCE, mount, read, said, values};

/// Bucket `bad` has a page of zeros; the rest is sound.
fn zeroed() -> Case {
    let (_directory, path) = Fixture::named("page-zeroed.db").copy();
    Case::with(|db| fs::rename(&path, db).unwrap())
}

#[test]
fn a_small_database_is_looked_at_before_it_is_mounted() {
    let case = zeroed();
    let shown = case.db().display().to_string();
    mount(&case, "");
    let first = said(&case);
    let start = format!("boltfs: warning: {shown} is damaged: bucket bad: page 9 is all zeros");
    assert!(first.starts_with(&start), "{first}");
    assert!(
        first.contains("What is not can be read and edited."),
        "{first}"
    );
    assert!(
        first.ends_with(&format!("All of it: boltfs check {shown}\n")),
        "{first}"
    );
    // Neither whoever reads nor a commit says it again.
    for _ in 0..3 {
        let _ = read(&case.join("mnt"));
        case.sh("echo $RANDOM > mnt/good/new; echo commit > mnt/.boltfs/control")
            .expect_success();
    }
    let committed = said(&case).replace(&first, "");
    let mut lines = committed.lines();
    assert!(!lines.any(|line| line.contains("damage")), "{committed}");
    let status = case.boltfs(&["status", "mnt"]).expect_success().text();
    let lines = "\n  damage: bucket bad: page 9 is all zeros (a write that never reached the disk)";
    assert!(status.contains(lines), "{status}");
    assert!(
        status.contains(&format!("\n  all of it: boltfs check {shown}\n")),
        "{status}"
    );
    case.boltfs(&["umount", "mnt"]).expect_success();

    let sound = Case::new();
    mount(&sound, "");
    assert!(!sound.boltfs(&["status", "mnt"]).text().contains("damage"));
    assert_eq!(said(&sound), "");
}

/// A database of this many keys of a kilobyte in one bucket, with one leaf in the middle zeroed.
fn large(keys: u32) -> (Case, u64) {
    let bulk = Bulk {
        keys,
        value: 1000,
        seed: 7,
        ..Bulk::default()
    };
    let mut zeroed = 0;
    let case = Case::with(|db| {
        Oracle::shared()
            .create_bulk(db, &bulk, Options::default())
            .expect("bbolt makes it");
        let mut bytes = fs::read(db).unwrap();
        let leaves = bytes.chunks(4096).enumerate().filter(|(_, page)| {
            Header::read(page).is_some_and(|header| {
                header.flags == LEAF && header.overflow == 0 && header.count > 1
            })
        });
        let leaves: Vec<usize> = leaves.map(|(number, _)| number).collect();
        let page = leaves[leaves.len() / 2];
        bytes[page * 4096..][..4096].fill(0);
        fs::write(db, bytes).unwrap();
        zeroed = page as u64;
    });
    (case, zeroed)
}

#[test]
fn a_larger_one_is_looked_at_while_it_is_mounted() {
    let (case, page) = large(20_000);
    assert!(fs::metadata(case.db()).unwrap().len() > 20 << 20);
    mount(&case, "");
    let status = || case.boltfs(&["status", "mnt"]).expect_success().text();
    wait_until("the damage is told", PATIENCE, || {
        status().contains("damage: ")
    });
    let line = format!("\n  damage: bucket bucket-000000: page {page} is all zeros");
    assert!(status().contains(&line), "{}", status());
    wait_until("it is said", PATIENCE, || said(&case).ends_with('\n'));
    let words = format!("is damaged: bucket bucket-000000: page {page} is all zeros");
    assert!(said(&case).contains(&words), "{}", said(&case));
    // Once: not when the place is come upon, and not at a commit.
    assert_failed(&case.sh("ls mnt/bucket-000000"), 2, "Input/output error");
    case.sh("echo x > mnt/bucket-000000/key-00000000; mkdir mnt/new; boltfs umount mnt")
        .expect_success();
    case.await_end();
    assert_eq!(said(&case).matches("damage").count(), 1, "{}", said(&case));
    // Nothing waits for it.
    for _ in 0..5 {
        case.sh("boltfs db mnt; boltfs umount mnt; boltfs db -- true")
            .expect_success();
    }
}

/// Damage that is come upon before a check could tell of it.
#[test]
fn each_place_is_told_once_when_it_is_come_upon() {
    // A file with holes is as good as one of this size: nothing but the size keeps the check away.
    let case = zeroed();
    let mut bytes = fs::read(case.db()).unwrap();
    let mut metas = boltfs::bolt::Metas::find(&bytes).unwrap();
    for (slot, meta) in metas.slots.iter_mut().enumerate() {
        let meta = meta.as_mut().unwrap();
        meta.hwm = 3 << 20;
        let page = meta.to_page(slot as u8);
        bytes[slot * 1024..][..1024].copy_from_slice(&page);
    }
    fs::write(case.db(), bytes).unwrap();
    let file = fs::File::options().write(true).open(case.db()).unwrap();
    file.set_len(3 << 30).unwrap();
    mount(&case, "");
    assert_eq!(said(&case), "");
    for _ in 0..3 {
        assert_failed(&case.sh("ls mnt/bad"), 2, "Input/output error");
        let _ = read(&case.join("mnt"));
    }
    let shown = case.db().display().to_string();
    let words = format!(
        "boltfs: warning: damage in bucket bad: page 9 is all zeros (a write that never reached the disk). What lies \
         there reads as an input/output error, the rest is served. All of it: boltfs check {shown}\n"
    );
    assert_eq!(said(&case), words);
    let status = case.boltfs(&["status", "mnt"]).expect_success().text();
    assert!(
        status.contains("\n  damage: bucket bad: page 9 is all zeros"),
        "{status}"
    );
    case.boltfs(&["umount", "mnt"]).expect_success();
}

/// The disk cannot read a page: what is on it is an error, the rest is served, can be edited and committed.
#[test]
fn a_disk_that_fails_to_read() {
    // A bucket of many leaves, and a small one beside it.
    let case = Case::with(|db| {
        let bulk = Bulk {
            buckets: 2,
            keys: 400,
            value: 500,
            seed: 3,
            ..Bulk::default()
        };
        Oracle::shared()
            .create_bulk(db, &bulk, Options::default())
            .expect("bbolt makes it");
    });
    let content = values(&case.content());
    let pages = Oracle::shared().pages(&case.db()).unwrap();
    let leaves: Vec<u64> = pages
        .iter()
        .filter(|page| page.kind == "leaf")
        .map(|page| page.id)
        .collect();
    // The first leaf of a bucket: a page of the machine, as of the database.
    let bad = leaves[3];
    let bytes = fs::read(case.db()).unwrap();
    let lost = bytes[bad as usize * 4096..][..4096].to_vec();
    let disk = Failing::new(bytes, bad * 4096..(bad + 1) * 4096);
    let mount = Mount::new(disk.path(), &["--raw"]);
    let words = format!(": page {bad} cannot be read from the disk (input/output error)");
    assert!(mount.said.contains(&words), "{}", mount.said);
    assert!(
        mount.said.contains(" is damaged: bucket bucket-00000"),
        "{}",
        mount.said
    );
    let (found, failed) = read(mount.path());
    assert!(failed > 0 && disk.failed() > 0);
    assert!(found.len() < 800 && found.len() > 780, "{}", found.len());
    assert!(
        found
            .iter()
            .all(|(path, value)| content.get(path) == Some(value))
    );

    // Beside it.
    let other = found.keys().last().unwrap();
    fs::write(mount.join(other), "edited").unwrap();
    fs::create_dir(mount.join("new")).unwrap();
    fs::write(mount.join("new/key"), "value").unwrap();
    let report = mount.umount();
    assert!(report.contains("committed transaction"), "{report}");
    let after = disk.bytes();
    assert!(
        after[bad as usize * 4096..][..4096] == lost[..],
        "what may be salvaged was overwritten"
    );
    drop(disk);
    // On a disk that reads again nothing is missing.
    fs::write(case.db(), after).unwrap();
    let mut expected = content;
    expected.insert(other.clone(), b"edited".to_vec());
    expected.insert("new/key".to_owned(), b"value".to_vec());
    let now = Oracle::shared().dump(&case.db()).expect("bbolt reads it");
    assert!(values(&now) == expected);

    // What has to be read as a whole cannot be: the edits are kept.
    let bytes = fs::read(case.db()).unwrap();
    let disk = Failing::new(bytes, bad * 4096..(bad + 1) * 4096);
    let out = case.join("out");
    let mount = Mount::new(disk.path(), &["--output", out.to_str().unwrap()]);
    fs::write(mount.join("new/key"), "again").unwrap();
    let output = mount.umount_with(&[]).expect_failure();
    assert!(
        output
            .stderr
            .contains("NOT COMMITTED: cannot make a new file for"),
        "{output}"
    );
    assert!(output.stderr.contains("Your edits are safe in"), "{output}");
    assert!(!out.exists() && case.join("out.boltfs-journal").exists());
}

/// The disk cannot read a page of the journal that a killed mount has left: what is on it is not taken for nothing.
#[test]
fn a_journal_that_the_disk_fails_to_read() {
    let case = zeroed();
    case.sh("boltfs db mnt; for n in $(seq 200); do echo value $n > mnt/good/n$n; done")
        .expect_success();
    signal("KILL", &case.server().to_string());
    case.await_unserved();
    let _ = case.boltfs(&["umount", "mnt"]);
    let journal = fs::read(case.join("db.boltfs-journal")).unwrap();
    assert!(journal.len() > 4096);
    fs::remove_file(case.join("db.boltfs-journal")).unwrap();
    let mut short = journal.clone();
    short.truncate(4000);
    // All that there is, and the last part of more.
    for (journal, bad) in [(short, 0..4096), (journal, 4096..1 << 20)] {
        let disk = Failing::new(journal.clone(), bad);
        let out = disk.path().with_file_name("out");
        let out = out.to_str().unwrap();
        for option in ["--recover", "--discard"] {
            let refused = case.boltfs(&[option, "--output", out, "db", "mnt"]);
            let what = format!("boltfs: not all of {out}.boltfs-journal, which may hold edits of");
            assert_failed(&refused, 1, &what);
            assert_failed(&refused, 1, "can be read: its disk fails");
        }
        assert!(disk.bytes() == journal);
        let shown = case.boltfs(&["journal", disk.path().to_str().unwrap()]);
        assert_failed(&shown, 1, "db can be read: it was cut, or its disk fails.");
    }
}
