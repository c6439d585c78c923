//! The journal that a killed mount has left is damaged: not at its end, as by a crash, but with edits behind it.

use std::fs;
use std::ops::Range;

use crate::common::case::{Case, assert_failed};
use crate::database;
use crate::recovered::kill;

/// A killed mount with ten new keys, `n1` to `n10`, each one a few records.
fn killed() -> (Case, Vec<u8>) {
    let case = Case::with(database);
    case.sh("boltfs db mnt; for n in $(seq 10); do echo value $n > mnt/b/n$n; done")
        .expect_success();
    kill(&case);
    let journal = fs::read(case.join("db.boltfs-journal")).unwrap();
    (case, journal)
}

/// Where the records of a journal lie.
fn records(journal: &[u8]) -> Vec<Range<usize>> {
    let (mut at, mut records) = (48, Vec::new());
    while let Some(len) = journal.get(at..at + 4) {
        let end = at + 8 + u32::from_le_bytes(len.try_into().unwrap()) as usize;
        records.push(at..end);
        at = end;
    }
    records
}

/// The record, by its number, that holds `text`.
fn record_with(journal: &[u8], text: &str) -> usize {
    let has = |range: &Range<usize>| {
        let mut windows = journal[range.clone()].windows(text.len());
        windows.any(|window| window == text.as_bytes())
    };
    records(journal).iter().position(has).expect("it is there")
}

fn plant(case: &Case, journal: &[u8]) {
    fs::write(case.join("db.boltfs-journal"), journal).unwrap();
}

#[track_caller]
fn assert_is(case: &Case, file: &str, content: &[u8]) {
    let found = fs::read(case.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    assert!(found == content, "{file} is another one");
}

/// From the first record on nothing can be made again: it is as if the journal held nothing, and yet it does.
#[test]
fn a_journal_whose_first_record_is_damaged_is_kept() {
    let (case, mut journal) = killed();
    let before = fs::read(case.db()).unwrap();
    journal[57] ^= 0x20;
    plant(&case, &journal);
    let refused = case.boltfs(&["db", "mnt"]);
    let path = case.join("db.boltfs-journal");
    let said = format!(
        "boltfs: {} is damaged at byte 48; in the {} bytes from there on 20 edits can still be seen. Before that it \
         holds no edit, never committed. Mount with --recover to have those before the damage pending again and the \
         damaged journal kept under another name, or with --discard to drop all of them. See them all: boltfs journal {}\n",
        path.display(),
        journal.len() - 48,
        path.display()
    );
    assert_failed(&refused, 1, &said);
    assert_is(&case, "db.boltfs-journal", &journal);

    let shown = case.boltfs(&["journal", "db.boltfs-journal"]);
    assert_eq!(shown.code(), Some(1));
    let text = shown.text();
    assert!(text.contains("\nDAMAGED at byte 48: "), "{text}");
    assert_eq!(
        text.matches("\n? write (directory 1)/n").count(),
        10,
        "{text}"
    );
    assert!(text.contains("\n?     value 7\\n\n"), "{text}");

    for kept in ["damaged", "damaged-2"] {
        plant(&case, &journal);
        let output = case.sh(
            "boltfs --recover db mnt; cat mnt/.boltfs/pending; boltfs umount mnt; stat -c %a db.boltfs-journal.*",
        );
        let output = output.expect_success();
        assert!(output.text().starts_with("600\n"), "{output}");
        let kept = format!("db.boltfs-journal.{kept}");
        let path = case.join(&kept);
        let said = format!("is now {}", path.display());
        assert!(output.stderr.contains(&said), "{output}");
        assert!(output.stderr.contains("recovered 0 operations"), "{output}");
        assert_is(&case, &kept, &journal);
        assert!(!fs::exists(case.join("db.boltfs-journal")).unwrap());
        assert!(fs::read(case.db()).unwrap() == before);
    }
}

#[test]
fn what_comes_before_damage_is_recovered_and_the_rest_is_kept() {
    let (_, journal) = killed();
    let number = record_with(&journal, "value 5");
    let record = records(&journal)[number].clone();
    // In its length, in its checksum, in its payload.
    for at in [record.start, record.start + 4, record.end - 2] {
        let (case, _) = killed();
        let mut journal = journal.clone();
        journal[at] ^= 1;
        plant(&case, &journal);
        let output = case
            .sh("boltfs --recover db mnt; boltfs umount mnt")
            .expect_success();
        let said = format!(
            "is damaged at byte {}; in the {} bytes from there on 10 edits can still be seen",
            record.start,
            journal.len() - record.start
        );
        assert!(output.stderr.contains(&said), "{output}");
        for n in 1..=10 {
            let wanted = match n {
                1..=4 => Some(format!("value {n}\n")),
                5 => Some(String::new()),
                _ => None,
            };
            assert_eq!(case.value("b", &format!("n{n}")), wanted, "{n}, {at}");
        }
        assert_is(&case, "db.boltfs-journal.damaged", &journal);
        let shown = case.boltfs(&["journal", "db.boltfs-journal.damaged"]);
        let text = shown.text();
        assert!(text.contains("\nwrite b/n4: 8 bytes at 0\n"), "{text}");
        assert!(text.contains("\n? write b/n6: 8 bytes at 0\n"), "{text}");
        assert!(!text.contains("value 5"), "{text}");
    }
}

/// What a crash leaves at the end is cut off, and nothing is kept: nothing of it was answered.
#[test]
fn a_torn_end_is_no_damage() {
    let (_, journal) = killed();
    let number = record_with(&journal, "value 10");
    let last = records(&journal)[number].clone();
    assert_eq!(last.end, journal.len());
    let zeros = |from: usize| [&journal[..from], &vec![0; journal.len() - from][..]].concat();
    for torn in [
        journal[..last.end - 3].to_vec(),
        journal[..last.start + 5].to_vec(),
        zeros(last.start),
        zeros(last.end - 3),
    ] {
        let (case, _) = killed();
        plant(&case, &torn);
        let shown = case.boltfs(&["journal", "db.boltfs-journal"]);
        let text = shown.expect_success().text();
        assert!(
            text.contains(" bytes at the end are not complete"),
            "{text}"
        );
        let output = case
            .sh("boltfs --recover db mnt; boltfs umount mnt; ls")
            .expect_success();
        assert!(output.stderr.contains("were not complete"), "{output}");
        assert_eq!(output.text(), "db\nmnt\n");
        assert_eq!(case.value("b", "n9").as_deref(), Some("value 9\n"));
        assert_eq!(case.value("b", "n10").as_deref(), Some(""));
    }
}

/// The note of the commit lies behind the damage: the edits are in the database all the same.
#[test]
fn a_commit_noted_behind_damage_is_known() {
    let case = Case::with(database);
    case.sh("boltfs db mnt; echo first > mnt/b/n1; echo second > mnt/b/n2; ln db.boltfs-journal noted; boltfs umount mnt; mv noted db.boltfs-journal")
        .expect_success();
    let committed = fs::read(case.db()).unwrap();
    let mut journal = fs::read(case.join("db.boltfs-journal")).unwrap();
    journal[57] ^= 0x20;
    plant(&case, &journal);
    let output = case
        .sh("boltfs db mnt; cat mnt/.boltfs/pending; boltfs umount mnt; ls")
        .expect_success();
    assert_eq!(output.text(), "db\ndb.boltfs-journal.damaged\nmnt\n");
    assert!(
        output.stderr.contains("its journal was damaged at byte 48"),
        "{output}"
    );
    assert_is(&case, "db.boltfs-journal.damaged", &journal);
    assert!(fs::read(case.db()).unwrap() == committed);
}

#[test]
fn a_damaged_journal_can_be_discarded_and_that_is_said() {
    let (case, mut journal) = killed();
    journal[57] ^= 0x20;
    plant(&case, &journal);
    let output = case
        .sh("boltfs --discard db mnt; cat mnt/.boltfs/pending; boltfs umount mnt; ls")
        .expect_success();
    assert_eq!(output.text(), "db\nmnt\n");
    let said = "db.boltfs-journal, which was damaged at byte 48; in the ";
    assert!(output.stderr.contains(said), "{output}");
}

#[test]
fn a_journal_with_a_damaged_header_is_shown_and_left_alone() {
    let (case, mut journal) = killed();
    journal[30] ^= 1;
    plant(&case, &journal);
    for option in ["--recover", "--discard"] {
        let refused = case.boltfs(&[option, "db", "mnt"]);
        assert_failed(&refused, 1, "the start of ");
        assert_failed(&refused, 1, "db.boltfs-journal is damaged: it holds edits");
        assert_is(&case, "db.boltfs-journal", &journal);
    }
    let shown = case.boltfs(&["journal", "db.boltfs-journal"]);
    assert_eq!(shown.code(), Some(1), "{shown}");
    let text = shown.text();
    assert!(text.starts_with("DAMAGED at its start: "), "{text}");
    assert!(text.contains("\n? write b/n10: 9 bytes at 0\n"), "{text}");
}

/// Where the damaged journal cannot be kept, it is not touched.
#[test]
fn without_room_to_keep_a_damaged_journal_nothing_is_changed() {
    let (case, mut journal) = killed();
    let at = records(&journal)[3].start + 9;
    journal[at] ^= 1;
    // Longer than a page: a file system that is full takes no copy of it.
    journal.resize(20_000, 0);
    plant(&case, &journal);
    let output = case.sh(
        "mkdir full; $as_root mount -t tmpfs -o size=256k,mode=777 tmpfs full; cp db full; mv db.boltfs-journal full
         dd if=/dev/zero bs=4K of=full/filler 2> /dev/null || true
         boltfs --recover full/db mnt && exit 9; ls -A full; cp full/db.boltfs-journal .; $as_root umount -l full",
    );
    let output = output.expect_success();
    assert_eq!(output.text(), "db\ndb.boltfs-journal\nfiller\n");
    let said =
        "is damaged, and cannot be kept under another name beside it: No space left on device";
    assert!(output.stderr.contains(said), "{output}");
    assert_is(&case, "db.boltfs-journal", &journal);
}
