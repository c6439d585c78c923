//! A commit to a database that something has happened to: what could be read and was not edited can be read
//! afterwards, what was edited is as it was edited, no page is written to that may still hold something, and what is refused
//! leaves the file as it was.

use std::collections::HashSet;

use boltfs::bolt::check::{Finding, Kind, Options as CheckOptions, Report, Severity, check};
use boltfs::bolt::{
    CommitError, CommitOptions, Committed, Damage, Error, Map, OpenOptions, PageSet, Snapshot,
    commit,
};

use super::common::disk::MemDisk;
use super::common::read::{Reading, read_at_most, show};
use super::common::tree::{Node, Tree};
use super::edits::Mounted;
use super::input::Input;
use super::mutant;

/// Entries of the databases that are edited.
const ENTRIES: usize = 4000;

/// What became of a case.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Why the file cannot be opened.
    pub unopened: Option<String>,
    /// It has more entries than are looked at.
    pub too_large: bool,
    /// Commits that were made.
    pub committed: usize,
    /// Why commits were refused.
    pub refused: Vec<String>,
}

pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let file = mutant::database(&mut input);
    mounted(file, &mut input);
}

/// Mounts a file, edits it as `input` says, and commits.
pub fn mounted(file: Vec<u8>, input: &mut Input<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let base = match Snapshot::open(Map::from(file.clone()), OpenOptions::default()) {
        Ok(base) => base,
        Err(e) => {
            outcome.unopened = Some(e.to_string());
            return outcome;
        }
    };
    let Some(before) = read_at_most(&base, ENTRIES) else {
        outcome.too_large = true;
        return outcome;
    };
    let how = input.byte();
    let report = checked(&base);
    let case = Case {
        base,
        before,
        report,
        file,
    };
    let mut mounted = Mounted::new(case.base.clone(), &case.before, how & 2 == 0);
    let disk = MemDisk::new(case.file.clone());
    let mut prior: Option<Committed> = None;
    for _ in 0..=(how >> 2) % 3 {
        for _ in 0..input.byte() % 8 + 1 {
            mounted.edit(input);
        }
        case.guard(&disk, prior.as_ref());
        let bytes = disk.bytes();
        match case.commit(&mounted, &disk, prior.as_ref()) {
            Ok(done) => {
                case.judge(&mounted, &disk.snapshot(), &done);
                outcome.committed += 1;
                prior = Some(done);
            }
            Err(CommitError::NotCommitted(why)) => {
                case.is_untouched(&bytes, &disk.bytes(), &why);
                outcome.refused.push(why.to_string());
            }
            Err(e) => panic!("{e}"),
        }
    }
    outcome
}

fn checked(snapshot: &Snapshot) -> Report {
    check(
        snapshot,
        CheckOptions {
            threads: 1,
            other_meta: false,
        },
        &mut |_| {},
    )
}

struct Case {
    base: Snapshot,
    before: Reading,
    report: Report,
    file: Vec<u8>,
}

impl Case {
    fn commit(
        &self,
        mounted: &Mounted,
        disk: &MemDisk,
        prior: Option<&Committed>,
    ) -> Result<Committed, CommitError> {
        let options = CommitOptions {
            free: self.report.free.as_ref(),
            avoid: Some(&self.report.dangling),
            damaged: self.report.free.is_none(),
            abandon_freelist: !self.report.freelist_ok,
            ..CommitOptions::default()
        };
        mounted.vfs.commit(disk, |disk, base, changes| {
            commit(disk, base, prior, changes, &options)
        })
    }

    /// Every page that may hold something: all but those proved free.
    fn guard(&self, disk: &MemDisk, prior: Option<&Committed>) {
        disk.reset();
        let size = self.base.page_size();
        let mut precious: PageSet = (2..self.base.meta().hwm.min(1 << 20)).collect();
        for pgid in self.report.free.iter().flat_map(PageSet::iter) {
            precious.remove(pgid);
        }
        precious.insert(prior.map_or(self.base.slot(), |prior| prior.slot).into());
        disk.guard(&precious, size);
        if let Some(prior) = prior {
            disk.guard(prior.written(), size);
        }
    }

    /// A commit that was refused has left the metas alone, and the length of the file. (Of other pages it can have
    /// written to none that is guarded.)
    fn is_untouched(&self, before: &[u8], after: &[u8], why: &Error) {
        let metas = before.len().min(2 * self.base.page_size());
        let same = before.len() == after.len() && before[..metas] == after[..metas];
        assert!(same, "a commit that was refused ({why}) has written");
    }

    fn finds(&self, kinds: &[Kind]) -> bool {
        self.report.findings.iter().any(|f| kinds.contains(&f.kind))
    }

    /// There is damage in the light of which keys may change their places.
    fn is_disordered(&self) -> bool {
        self.finds(&[Kind::KeyOrder])
            || !self.report.dangling.is_empty()
            || !self.before.lost.is_empty()
            || !self.before.doubled.is_empty()
            || self.is_too_long()
    }

    /// A run claims more pages than there are. When there are as many it can be read again, and they are those of others.
    fn is_too_long(&self) -> bool {
        let mut errors = self.before.errors.iter();
        errors.any(|(_, e)| {
            matches!(
                e,
                Error::Page {
                    damage: Damage::OverflowPastEnd { .. },
                    ..
                }
            )
        })
    }

    /// Something damaged refers to a page behind the pages in use, and that is one of them now: what was there before can
    /// be read again, with whatever damage is below it, or nothing is there. In no case does it lead to a page of the commit.
    fn comes_to_light(&self, after: &Snapshot, done: &Committed) -> bool {
        let hwm = after.meta().hwm;
        let mut dangling = self.report.dangling.runs();
        dangling.any(|(first, count)| {
            let end = first.saturating_add(count).min(hwm);
            let written = (first..end).find(|&page| done.written().contains(page));
            assert!(written.is_none(), "{written:?} was damage's");
            first < end
        })
    }

    fn judge(&self, mounted: &Mounted, after: &Snapshot, done: &Committed) {
        let found =
            read_at_most(after, 4 * ENTRIES).expect("no more than before and what was added");
        let disordered = self.is_disordered();
        self.has(
            mounted,
            &mounted.tree,
            &found.tree,
            &mut Vec::new(),
            disordered,
        );
        if !disordered {
            let (lost, errors) = (found.lost.first(), &found.errors);
            assert!(
                lost.is_none() && found.doubled.is_empty(),
                "{lost:?} {:?}",
                found.doubled
            );
            assert!(
                errors.len() <= self.before.errors.len(),
                "{errors:?}, before {:?}",
                self.before.errors
            );
        }
        let errors = |report: &Report| {
            let findings = report.findings.iter().cloned();
            let errors = findings.filter(|f| f.severity() == Severity::Error);
            errors.collect::<Vec<_>>()
        };
        let was: HashSet<Kind> = errors(&self.report).iter().map(|f| f.kind).collect();
        let is = checked(after);
        let loose = self.is_too_long();
        let in_light = self.comes_to_light(after, done);
        // Where there was damage before, in the bucket or in one above it, wherever that is now.
        let damaged = |finding: &Finding| {
            let mut names = finding.path().iter();
            let mut errors = self.before.errors.iter();
            errors.any(|(path, _)| finding.path().starts_with(path))
                || names.any(|name| mounted.touched.contains(name))
        };
        // Of a page with other damage the check does not tell what more is wrong on it.
        let unread = !self.before.errors.is_empty();
        let known = |finding: &Finding| {
            was.contains(&finding.kind)
                || loose
                || (in_light && damaged(finding))
                || (finding.kind == Kind::Unreadable && unread)
        };
        let new = errors(&is).into_iter().find(|finding| !known(finding));
        let told = |report: &Report| {
            let lines = report.findings.iter().map(ToString::to_string);
            lines.collect::<Vec<_>>().join("\n  ")
        };
        assert!(
            new.is_none(),
            "{new:?}; before:\n  {}\nafter the commit:\n  {}",
            told(&self.report),
            told(&is)
        );
    }

    /// All of `expected` is there; with it nothing else, unless keys may have come to light.
    fn has(
        &self,
        mounted: &Mounted,
        expected: &Tree,
        found: &Tree,
        path: &mut Vec<Vec<u8>>,
        disordered: bool,
    ) {
        // Where look-up finds another than the walk, an edit is one of the other.
        let displaced = path.iter().any(|name| mounted.displaced.contains(name));
        let is_open = |name: &Vec<u8>| {
            let displaced = displaced || mounted.displaced.contains(name);
            mounted.touched.contains(name) && (!mounted.is_raw() || displaced)
        };
        let is_lost = |name: &Vec<u8>| {
            let displaced = displaced || mounted.displaced.contains(name);
            mounted.touched.contains(name) && displaced
        };
        for (name, node) in &expected.nodes {
            path.push(name.clone());
            match (node, found.nodes.get(name)) {
                (Node::Bucket(expected), Some(Node::Bucket(found))) => {
                    assert!(
                        expected.seq == found.seq || disordered,
                        "sequence of {}",
                        show(path)
                    );
                    self.has(mounted, expected, found, path, disordered);
                }
                (Node::Value(_), Some(Node::Value(_))) if is_open(name) => {}
                _ if is_lost(name) => {}
                (expected, found) => assert_eq!(Some(expected), found, "{}", show(path)),
            }
            path.pop();
        }
        if !disordered {
            let extra = found
                .nodes
                .keys()
                .find(|name| !expected.nodes.contains_key(*name));
            assert!(
                extra.is_none(),
                "{extra:?} has come to light in {}",
                show(path)
            );
        }
    }
}
