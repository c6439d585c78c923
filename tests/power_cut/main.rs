//! The power goes, at any moment of a commit: the file then holds exactly the old content or exactly the new, passes the
//! check, opens in the real bbolt too, and takes the next commit. Writes and syncs that fail leave the old content.

#[path = "../common/mod.rs"]
mod common;
mod states;

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use boltfs::bolt::check::Severity;
use boltfs::bolt::{
    CommitError, CommitOptions, Committed, Disk, Error, Map, OpenOptions, PageSet, Snapshot,
    commit, empty_database,
};

use common::commits::{findings, pages};
use common::disk::{Fail, MemDisk, Op};
use common::rng::{Rng, seeded};
use common::staged::{Item, Staged};
use common::{Options, Oracle, TempDir, Tree};
use states::State;

const PAGE_SIZES: [usize; 7] = [512, 512, 1024, 1024, 4096, 4096, 16384];

/// What the file may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum May {
    Old,
    Either,
    New,
}

/// Opens `bytes` and holds it against the two contents. Answers the one it has.
///
/// # Errors
/// In words, why a power cut must not leave this.
fn verdict<'t>(bytes: &[u8], old: &'t Tree, new: &'t Tree, may: May) -> Result<&'t Tree, String> {
    let snapshot = open(bytes)?;
    let reading = common::read::read(&snapshot);
    if let Some((path, e)) = reading.errors.first() {
        return Err(format!("{path:?}: {e}"));
    }
    if let Some(path) = reading.lost.iter().chain(&reading.doubled).next() {
        return Err(format!("{path:?} is listed, and not found"));
    }
    let content = match (reading.tree == *new, reading.tree == *old) {
        (true, _) if may != May::Old => new,
        (_, true) if may != May::New => old,
        _ => {
            let difference = |tree: &Tree| tree.difference(&reading.tree).unwrap_or_default();
            let (old, new) = (difference(old), difference(new));
            return Err(format!("{may:?} content expected; old: {old}; new: {new}"));
        }
    };
    let (report, texts) = findings(&snapshot);
    if report.findings.count(Severity::Error) > 0 {
        return Err(format!("the check finds {texts:?}"));
    }
    Ok(content)
}

fn open(bytes: &[u8]) -> Result<Snapshot, String> {
    Snapshot::open(Map::from(bytes.to_vec()), OpenOptions::default()).map_err(|e| e.to_string())
}

/// Commits something more to the file, which holds `content`.
fn goes_on(rng: &mut Rng, bytes: &[u8], content: &Tree) -> Result<(), String> {
    let disk = MemDisk::new(bytes.to_vec());
    let base = open(bytes)?;
    let (report, _) = findings(&base);
    let mut live = pages(&base, &report);
    live.insert(u64::from(base.slot()));
    disk.guard(&live, base.page_size());
    let mut staged = Staged::new(content, vec![]);
    let key = rng.bytes(3);
    staged.nodes.insert(key, Item::Value(rng.bytes(40)));
    if let Some(name) = content.nodes.keys().next() {
        staged.nodes.remove(name);
    }
    let options = CommitOptions {
        free: report.free.as_ref().filter(|_| rng.one_in(2)),
        ..CommitOptions::default()
    };
    let done = commit(&disk, &base, None, staged.changes(&base, content), &options);
    done.map_err(|e| format!("the next commit: {e}"))?;
    let next = staged.tree();
    verdict(&disk.bytes(), &next, &next, May::New)
        .map_err(|e| format!("after the next commit: {e}"))?;
    Ok(())
}

/// A database, and the commits of one mount of it.
struct Case {
    disk: MemDisk,
    tree: Tree,
    page_size: usize,
}

impl Case {
    /// A database with a history: free pages, buckets in buckets, long values.
    fn random(rng: &mut Rng) -> Case {
        let page_size = *rng.pick(&PAGE_SIZES);
        let mut case = Case {
            disk: MemDisk::new(empty_database(page_size as u32)),
            tree: Tree::default(),
            page_size,
        };
        for _ in 0..rng.range(1, 4) {
            let (proof, mut staged) = (case.proof(), Staged::new(&case.tree, vec![]));
            staged.mutate(rng, page_size.min(1024));
            case.only_buckets_in_root(&mut staged);
            let options = CommitOptions {
                free: proof.as_ref(),
                abandon_freelist: rng.one_in(6),
                ..CommitOptions::default()
            };
            let base = case.disk.snapshot();
            let changes = staged.changes(&base, &case.tree);
            commit(&case.disk, &base, None, changes, &options).expect("the disk is healthy");
            case.tree = staged.tree();
        }
        if rng.one_in(3) {
            case.as_written_to_a_backup(rng);
        }
        case.disk.reset();
        case
    }

    /// bbolt can make no keys in the root.
    fn only_buckets_in_root(&self, staged: &mut Staged) {
        staged
            .nodes
            .retain(|_, item| matches!(item, Item::Bucket(_)));
    }

    /// As `Tx.WriteTo` leaves it, for backups and etcd's snapshots: the current state in slot 0 whatever its number, and
    /// the same state as the transaction before it in slot 1.
    fn as_written_to_a_backup(&mut self, rng: &mut Rng) {
        let meta = *self.disk.snapshot().meta();
        let mut bytes = self.disk.bytes();
        bytes.truncate((meta.hwm as usize * self.page_size).max(4096));
        let txid = meta.txid + rng.below(2) as u64;
        for (slot, txid) in [(0, txid), (1, txid - 1)] {
            let page = boltfs::bolt::Meta { txid, ..meta }.to_page(slot as u8);
            bytes[slot * self.page_size..][..page.len()].copy_from_slice(&page);
        }
        self.disk = MemDisk::new(bytes);
    }

    fn proof(&self) -> Option<PageSet> {
        findings(&self.disk.snapshot()).0.free
    }
}

/// Figures for the end of the test.
#[derive(Default, Debug)]
struct Counted {
    commits: usize,
    states: usize,
    old: usize,
    new: usize,
    went_on: usize,
    by_bbolt: usize,
    written_by_bbolt: usize,
    failures: usize,
}

/// One commit in all its power cuts. `ops` turned `before`, which held `old`, into a file with `new`.
struct Cuts<'a> {
    before: &'a [u8],
    ops: &'a [Op],
    old: &'a Tree,
    new: &'a Tree,
    page_size: usize,
}

impl Cuts<'_> {
    /// What the file may hold when the power goes after the `done` first calls.
    fn may(&self, done: usize) -> May {
        let is_meta =
            |op: &Op| matches!(op, Op::Write { offset, .. } if *offset < 2 * self.page_size as u64);
        match self.ops[..done].iter().rposition(is_meta) {
            None => May::Old,
            Some(meta) if self.ops[meta..done].contains(&Op::Sync) => May::New,
            Some(_) => May::Either,
        }
    }

    fn each(&self, rng: &mut Rng, judge: &mut dyn FnMut(&mut Rng, State, May)) {
        let mut seen = HashSet::new();
        for done in 0..=self.ops.len() {
            let mut states = Vec::new();
            states::after(rng, self.before, self.ops, done, &mut seen, &mut |state| {
                states.push(state);
            });
            for state in states {
                judge(rng, state, self.may(done));
            }
        }
    }

    /// Builds and judges all of them.
    fn judge(&self, rng: &mut Rng, real: &mut Real<'_>, counted: &mut Counted) {
        self.each(rng, &mut |rng, state, may| {
            let fails = |why: String| -> ! { panic!("{}: {why}", state.how) };
            let content =
                verdict(&state.bytes, self.old, self.new, may).unwrap_or_else(|e| fails(e));
            counted.states += 1;
            counted.old += usize::from(content == self.old);
            counted.new += usize::from(content == self.new);
            goes_on(rng, &state.bytes, content).unwrap_or_else(|e| fails(e));
            counted.went_on += 1;
            real.judge(&state, content, counted)
                .unwrap_or_else(|e| fails(e));
        });
    }
}

/// The real bbolt, which sees one state in many.
struct Real<'d> {
    oracle: &'static Oracle,
    directory: &'d Path,
}

impl Real<'_> {
    /// One state in so many is read and checked by bbolt, and one of so many of those written to.
    const ASKED: usize = 25;
    const WRITTEN: usize = 5;

    fn judge(
        &mut self,
        state: &State,
        content: &Tree,
        counted: &mut Counted,
    ) -> Result<(), String> {
        // bbolt 1.3 finds the page size in the first meta alone, so half a sector there is too much for it.
        if !counted.states.is_multiple_of(Self::ASKED) || state.torn_within_sector {
            return Ok(());
        }
        let file = self.directory.join("db");
        fs::write(&file, &state.bytes).map_err(|e| e.to_string())?;
        let theirs = self.oracle.dump(&file).map_err(|e| e.to_string())?;
        if let Some(difference) = content.difference(&theirs) {
            return Err(format!("bbolt reads another content: {difference}"));
        }
        let errors = self.oracle.check(&file).map_err(|e| e.to_string())?;
        if !errors.is_empty() {
            return Err(format!("bbolt's check finds {errors:?}"));
        }
        counted.by_bbolt += 1;
        if counted.by_bbolt.is_multiple_of(Self::WRITTEN) {
            let options = Options {
                no_sync: true,
                ..Options::default()
            };
            let probe = self
                .oracle
                .probe(&file, options)
                .map_err(|e| e.to_string())?;
            if probe.write.is_err() || !probe.after.is_empty() {
                return Err(format!("bbolt writes to it, and then: {probe:?}"));
            }
            counted.written_by_bbolt += 1;
        }
        Ok(())
    }
}

#[test]
fn every_power_cut_leaves_the_old_content_or_the_new() {
    let directory = TempDir::new("power-cut");
    let mut real = Real {
        oracle: Oracle::shared(),
        directory: directory.path(),
    };
    let mut counted = Counted::default();
    // So many that chance does not bring the counts below what is asked of them at the end.
    seeded(900, |_, rng| {
        let mut case = Case::random(rng);
        let (base, proof) = (case.disk.snapshot(), case.proof());
        let options = CommitOptions {
            free: proof.as_ref().filter(|_| !rng.one_in(3)),
            abandon_freelist: rng.one_in(10),
            ..CommitOptions::default()
        };
        // One mount: the second commit is made over the same base, beside what the first one wrote.
        let mut staged = Staged::new(&case.tree, vec![]);
        let (mut prior, mut old): (Option<Committed>, Tree) = (None, case.tree.clone());
        for _ in 0..rng.range(1, 3) {
            staged.mutate(rng, case.page_size.min(1024));
            case.only_buckets_in_root(&mut staged);
            let before = case.disk.bytes();
            case.disk.reset();
            let changes = staged.changes(&base, &case.tree);
            let done = commit(&case.disk, &base, prior.as_ref(), changes, &options);
            prior = Some(done.expect("the disk is healthy"));
            let (new, ops) = (staged.tree(), case.disk.ops());
            let cuts = Cuts {
                before: &before,
                ops: &ops,
                old: &old,
                new: &new,
                page_size: case.page_size,
            };
            cuts.judge(rng, &mut real, &mut counted);
            counted.commits += 1;
            old = new;
        }
        case.tree = old;
    });
    println!("{counted:?}");
    if counted.commits > 500 {
        assert!(counted.states >= 20_000, "{counted:?}");
        assert!(counted.old > 1000 && counted.new > 1000, "{counted:?}");
        assert!(
            counted.by_bbolt > 400 && counted.written_by_bbolt > 50,
            "{counted:?}"
        );
    }
}

/// The judge above is no rubber stamp: of a writer that does not sync, that overwrites what is in use, or that writes the
/// meta first, it finds bad states.
#[test]
fn a_careless_writer_is_found_out() {
    type Spoil = fn(Vec<Op>) -> Vec<Op>;
    let spoilt: [(&str, Spoil); 3] = [
        ("no sync before the meta", |mut ops| {
            let sync = ops.iter().position(|op| *op == Op::Sync);
            ops.remove(sync.expect("there is a sync"));
            ops
        }),
        ("the meta before the pages", |mut ops| {
            let meta = ops.len() - 2;
            let (meta, sync) = (ops.remove(meta), ops.remove(meta));
            ops.insert(0, sync);
            ops.insert(0, meta);
            ops
        }),
        ("no sync after the meta", |mut ops| {
            ops.pop();
            ops.push(Op::SetLen(u64::MAX)); // never reached, stands for the return to the caller
            ops
        }),
    ];
    for (what, spoil) in spoilt {
        let (mut found, mut commits) = (0, 0);
        seeded(12, |_, rng| {
            let case = Case::random(rng);
            let (before, base) = (case.disk.bytes(), case.disk.snapshot());
            let mut staged = Staged::new(&case.tree, vec![]);
            staged
                .nodes
                .insert(b"one more".to_vec(), Item::Value(rng.bytes(900)));
            let changes = staged.changes(&base, &case.tree);
            commit(&case.disk, &base, None, changes, &CommitOptions::default()).unwrap();
            let mut ops = spoil(case.disk.ops());
            let returned = ops.pop_if(|op| *op == Op::SetLen(u64::MAX)).is_some();
            let new = staged.tree();
            let cuts = Cuts {
                before: &before,
                ops: &ops,
                old: &case.tree,
                new: &new,
                page_size: case.page_size,
            };
            let mut bad = false;
            cuts.each(rng, &mut |_, state, may| {
                let may = if returned { May::New } else { may };
                bad |= verdict(&state.bytes, &case.tree, &new, may).is_err();
            });
            found += usize::from(bad);
            commits += 1;
        });
        assert_eq!(found, commits, "{what} goes unnoticed");
    }
}

/// A commit over the older state: before it the newest one is there, after it the new one, and if its meta is torn the
/// older one. No page of the newest is written to, by a second commit neither.
#[test]
fn an_older_state_as_the_base() {
    let (mut states, mut commits) = (0, 0);
    seeded(150, |_, rng| {
        let case = Case::random(rng);
        let older = case.disk.snapshot();
        let mut staged = Staged::new(&case.tree, vec![]);
        staged.mutate(rng, case.page_size.min(1024));
        let proof = case.proof();
        let options = CommitOptions {
            free: proof.as_ref(),
            ..CommitOptions::default()
        };
        let changes = staged.changes(&older, &case.tree);
        let newest = commit(&case.disk, &older, None, changes, &options);
        let newest = newest.expect("the disk is healthy");
        let newest_tree = staged.tree();
        let before = case.disk.bytes();
        let open = OpenOptions {
            meta: Some(older.slot()),
            ..OpenOptions::default()
        };
        let base = Snapshot::open(Map::from(before.clone()), open).unwrap();
        let now = case.disk.snapshot();
        let mut live = pages(&now, &findings(&now).0);
        let (report, _) = findings(&base);
        live.extend(pages(&base, &report).iter());
        live.insert(u64::from(base.slot()));
        let mut staged = Staged::new(&case.tree, vec![]);
        let (mut prior, mut old): (Option<Committed>, Tree) = (None, newest_tree);
        for round in 0..2 {
            staged.mutate(rng, case.page_size.min(1024));
            let before = case.disk.bytes();
            case.disk.reset();
            if round == 0 {
                case.disk.guard(&live, case.page_size);
            } else {
                live.remove(u64::from(base.slot()));
                case.disk.guard(&live, case.page_size);
            }
            let options = CommitOptions {
                free: report.free.as_ref(),
                ..CommitOptions::default()
            };
            let changes = staged.changes(&base, &case.tree);
            let done = commit(&case.disk, &base, prior.as_ref(), changes, &options);
            let done = done.expect("the disk is healthy");
            assert!(done.meta.txid > newest.meta.txid);
            assert_eq!(done.meta.freelist, u64::MAX);
            let (new, ops) = (staged.tree(), case.disk.ops());
            let cuts = Cuts {
                before: &before,
                ops: &ops,
                old: &old,
                new: &new,
                page_size: case.page_size,
            };
            cuts.each(rng, &mut |_, state, may| {
                let as_is = verdict(&state.bytes, &old, &new, may);
                let torn = state.torn_within_sector && round == 0;
                let chosen = as_is.is_err()
                    && torn
                    && verdict(&state.bytes, &case.tree, &case.tree, may).is_ok();
                assert!(as_is.is_ok() || chosen, "{}: {as_is:?}", state.how);
                states += 1;
            });
            commits += 1;
            old = new;
            prior = Some(done);
        }
    });
    println!("{commits} commits over an older state, {states} states");
    assert!(commits < 300 || states > 3000);
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Every call of a commit fails once, writes with a part of them done: the old content stays, the error says what is
/// known, a power cut then does no harm, and the next try succeeds.
#[test]
fn failing_writes_and_syncs_leave_the_old_content() {
    let mut counted = Counted::default();
    let directory = TempDir::new("failing");
    let mut real = Real {
        oracle: Oracle::shared(),
        directory: directory.path(),
    };
    seeded(60, |_, rng| {
        let case = Case::random(rng);
        let (before, proof) = (case.disk.bytes(), case.proof());
        let mut staged = Staged::new(&case.tree, vec![]);
        staged.mutate(rng, case.page_size.min(1024));
        case.only_buckets_in_root(&mut staged);
        let (old, new) = (&case.tree, &staged.tree());
        let options = CommitOptions {
            free: proof.as_ref().filter(|_| rng.one_in(2)),
            ..CommitOptions::default()
        };
        let run = |disk: &MemDisk| {
            let base = disk.snapshot();
            commit(disk, &base, None, staged.changes(&base, old), &options)
        };
        run(&case.disk).expect("the disk is healthy");
        let calls = case.disk.ops();
        for (at, call) in calls.iter().enumerate() {
            let (disk, errno) = (MemDisk::new(before.clone()), *rng.pick(&[EIO, ENOSPC]));
            let through = match call {
                Op::Write { bytes, .. } => *rng.pick(&[0, 1, bytes.len() / 2, bytes.len()]),
                _ => 0,
            };
            let fail = Fail { at, through, errno };
            disk.fail(fail);
            let what = format!("{fail:?} of {call:?}");
            let error = run(&disk)
                .err()
                .unwrap_or_else(|| panic!("{what}: no error"));
            counted.failures += 1;
            let is_ours = |why: &Error| matches!(why, Error::Io { source, .. } if source.raw_os_error() == Some(errno));
            let last = at >= calls.len() - 2;
            let may = match &error {
                CommitError::NotCommitted(why) if !last => {
                    assert!(is_ours(why), "{what}: {why}");
                    assert_eq!(
                        disk.size().unwrap(),
                        before.len() as u64,
                        "{what}: not cut back"
                    );
                    May::Old
                }
                CommitError::Unknown { why, .. } if last => {
                    assert!(is_ours(why), "{what}: {why}");
                    May::Either
                }
                other => panic!("{what}: {other}"),
            };
            verdict(&disk.bytes(), old, new, may).unwrap_or_else(|e| panic!("{what}: {e}"));
            let ops = disk.ops();
            let cuts = Cuts {
                before: &before,
                ops: &ops,
                old,
                new,
                page_size: case.page_size,
            };
            cuts.judge(rng, &mut real, &mut counted);
            if may == May::Old {
                disk.reset();
                run(&disk).unwrap_or_else(|e| panic!("{what}, and again: {e}"));
                verdict(&disk.bytes(), new, new, May::New)
                    .unwrap_or_else(|e| panic!("{what}, and again: {e}"));
            }
        }
        counted.commits += 1;
    });
    println!("{counted:?}");
    assert!(counted.failures > 3 * counted.commits);
}
