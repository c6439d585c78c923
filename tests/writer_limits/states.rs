//! Freelists, metas and the states between them, and what a commit refuses.

use super::*;

/// Freelists of every length around the limits of their form and of a page.
#[test]
fn freelists_of_every_length() {
    let dir = TempDir::new("freelist");
    let file = dir.join("db");
    let mut lengths = HashSet::new();
    for (page_size, targets, rounds) in [
        (512, 58..=74, 4),
        (512, 122..=138, 4),
        (1024, 120..=136, 4),
        (512, 65_548..=65_557, 1),
    ] {
        for target in targets {
            let disk = new(page_size);
            let value = vec![b'v'; (target - 3) * page_size - 32];
            commit_all(&disk, vec![bucket("b", From::New, vec![put("k", value)])]);
            commit_all(
                &disk,
                vec![bucket("b", From::Existing, vec![gone(b"k".to_vec())])],
            );
            for n in 0..rounds {
                let done = commit_all(
                    &disk,
                    vec![bucket("b", From::Existing, vec![put("k", vec![n; 200])])],
                );
                let now = disk.snapshot();
                let ids = now.freelist().unwrap().unwrap().len() as u64;
                lengths.insert(ids);
                let (report, _) = findings(&now);
                assert_eq!(
                    (ids, report.counts.leaked),
                    (report.counts.free, 0),
                    "{:?}",
                    done.stats
                );
            }
            if target % 3 == 0 {
                fs::write(&file, disk.bytes()).unwrap();
                Oracle::shared().assert_sound(&file);
            }
        }
    }
    for length in [62, 63, 126, 65_533, 65_534, 65_535, 65_536, 65_537] {
        assert!(
            lengths.contains(&length),
            "no list of {length}: {lengths:?}"
        );
    }
}

/// Copies made by bbolt's Tx.WriteTo have their current meta in slot 0 whatever its number is, and equal ones occur.
#[test]
fn the_current_meta_is_never_overwritten() {
    let built = new(1024);
    for n in 0..3 {
        commit_all(
            &built,
            vec![bucket(format!("b{n}"), From::New, vec![put("k", "v")])],
        );
    }
    let now = built.snapshot();
    let meta = *now.meta();
    let with = |slots: [u64; 2]| {
        let mut bytes = built.bytes();
        for (slot, txid) in slots.into_iter().enumerate() {
            let page = boltfs::bolt::Meta { txid, ..meta }.to_page(slot as u8);
            bytes[slot * 1024..slot * 1024 + page.len()].copy_from_slice(&page);
        }
        MemDisk::new(bytes)
    };
    for (slots, expected) in [
        ([7, 6], 9),
        ([8, 7], 9),
        ([6, 7], 8),
        ([7, 8], 10),
        ([7, 7], 9),
        ([8, 8], 9),
        ([0, 0], 1),
        ([u64::MAX - 1, 3], u64::MAX),
    ] {
        let disk = with(slots);
        let base = disk.snapshot();
        let mut live = pages(&base, &findings(&base).0);
        live.insert(u64::from(base.slot()));
        disk.guard(&live, 1024);
        let list = [put("new", "v")];
        let changes = Changes {
            edits: edits(&base, &list),
            moved: HashSet::new(),
        };
        let done = commit(&disk, &base, None, changes, &CommitOptions::default()).unwrap();
        assert_eq!(done.meta.txid, expected, "{slots:?}");
        assert_eq!(u64::from(done.slot), expected % 2);
        assert_eq!(sound(&disk).count(), (4, 3));
    }
    let disk = with([3, u64::MAX]);
    let before = disk.bytes();
    assert!(matches!(
        try_commit(&disk, vec![put("new", "v")], HashSet::new()),
        Err(CommitError::NotCommitted(_))
    ));
    assert!(disk.bytes() == before);
}

/// The state of the older meta may be the base of a commit: until that is durable, nothing of the newer one may be lost.
#[test]
fn a_commit_on_the_older_meta() {
    let disk = new(1024);
    for n in 0..6 {
        let value = vec![b'v'; 3000];
        commit_all(
            &disk,
            vec![bucket(format!("b{n}"), From::New, vec![put("k", value)])],
        );
        commit_all(
            &disk,
            vec![bucket(
                format!("b{n}"),
                From::Existing,
                vec![put("k", "small")],
            )],
        );
    }
    let newer = disk.snapshot();
    let meta = Some(1 - newer.slot());
    let options = OpenOptions {
        meta,
        ..OpenOptions::default()
    };
    let base = Snapshot::open(Map::from(disk.bytes()), options).unwrap();
    let tree = read(&base).tree;
    let report = findings(&base).0;
    let mut live = pages(&newer, &findings(&newer).0);
    live.extend(pages(&base, &report).iter());
    live.insert(u64::from(base.slot()));
    disk.reset();
    disk.guard(&live, 1024);
    let mut staged = Staged::new(&tree, vec![]);
    let add = |staged: &mut Staged, n: u8| {
        let item = common::staged::Item::Value(vec![n; 700]);
        staged
            .bucket_mut(&[b"b1".to_vec()])
            .nodes
            .insert(vec![n], item);
    };
    add(&mut staged, 1);
    let options = CommitOptions {
        free: report.free.as_ref(),
        ..CommitOptions::default()
    };
    let first = commit(&disk, &base, None, staged.changes(&base, &tree), &options).unwrap();
    assert!(first.meta.txid > newer.meta().txid && first.slot != base.slot());
    judge(&disk.snapshot(), &staged.tree(), true);

    // A second commit of the same mount may use what only the newer state had.
    disk.reset();
    let mut live: PageSet = pages(&base, &report);
    live.extend(first.written().iter());
    live.insert(u64::from(first.slot));
    disk.guard(&live, 1024);
    add(&mut staged, 2);
    let changes = staged.changes(&base, &tree);
    let second = commit(&disk, &base, Some(&first), changes, &options).unwrap();
    assert_eq!(second.meta.txid, first.meta.txid + 1);
    judge(&disk.snapshot(), &staged.tree(), true);
}

/// A change set that says one thing and its opposite is refused, and nothing is written.
#[test]
fn contradictions_are_refused() {
    let disk = new(1024);
    let inner = vec![bucket("sub", From::New, vec![put("k", vec![1; 600])])];
    commit_all(
        &disk,
        vec![
            bucket("a", From::New, inner),
            bucket("b", From::New, vec![]),
            put("key", "v"),
        ],
    );
    let before = disk.bytes();
    let base = disk.snapshot();
    let a = base.root().get(b"a").unwrap().unwrap();
    let key = base.root().get(b"key").unwrap().unwrap();
    let moved = || HashSet::from([a.offset]);
    let none = HashSet::new;
    let cases: Vec<(&str, Vec<Named>, HashSet<u64>)> = vec![
        ("descending", vec![put("z", "v"), put("y", "v")], none()),
        ("twice", vec![put("y", "v"), put("y", "v")], none()),
        ("absent", vec![bucket("c", From::Existing, vec![])], none()),
        ("a key", vec![bucket("key", From::Existing, vec![])], none()),
        (
            "unannounced",
            vec![bucket("c", From::Moved(a.offset), vec![])],
            none(),
        ),
        (
            "moved and kept",
            vec![bucket("c", From::Moved(a.offset), vec![])],
            moved(),
        ),
        ("nowhere", vec![gone(b"a".to_vec())], moved()),
        (
            "two places",
            vec![
                gone(b"a".to_vec()),
                bucket("c", From::Moved(a.offset), vec![]),
                bucket("d", From::Moved(a.offset), vec![]),
            ],
            moved(),
        ),
        (
            "no bucket",
            vec![bucket("c", From::Moved(key.offset), vec![])],
            HashSet::from([key.offset]),
        ),
    ];
    for (what, list, moved) in cases {
        let done = try_commit(&disk, list, moved);
        assert!(matches!(done, Err(CommitError::NotCommitted(_))), "{what}");
        assert!(disk.bytes() == before, "{what}: the file was changed");
    }
}

/// Somebody who takes no lock wrote to the file, or cut it, while it was mounted.
#[test]
fn a_file_that_changed_is_left_alone() {
    let disk = new(1024);
    commit_all(
        &disk,
        vec![bucket("a", From::New, vec![put("k", vec![1; 600])])],
    );
    let base = disk.snapshot();
    let others = MemDisk::new(disk.bytes());
    commit_all(&others, vec![put("other", "v")]);
    let mut cut = disk.bytes();
    cut.truncate(cut.len() - 1024);
    for now in [others.bytes(), cut] {
        let disk = MemDisk::new(now.clone());
        let list = [put("mine", "v")];
        let changes = Changes {
            edits: edits(&base, &list),
            moved: HashSet::new(),
        };
        let done = commit(&disk, &base, None, changes, &CommitOptions::default());
        assert!(matches!(done, Err(CommitError::Changed { .. })));
        assert!(disk.bytes() == now);
    }
}
