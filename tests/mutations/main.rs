//! Damaged databases, through all that a mount does: opened, checked, walked, looked up, read, edited and committed.
//!
//! What each case must hold is that of the fuzzers' targets (`tests/fuzz/src/reader.rs` and `commit.rs`): no panic, so no read
//! past the file, whose bytes are a slice; nothing readable is lost; nothing that may still hold something is written to; what is
//! refused changes nothing. Here come a limit of time, one of memory, and figures.

#[path = "../common/mod.rs"]
mod common;
mod memory;
// With what it takes of tests/common, as the fuzzers compile it.
#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code, clippy::duplicate_mod)]
mod targets;

use std::collections::BTreeMap;
use std::fs;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use boltfs::vfs::Error;
use common::fs::{Fs, bucket, tree, value};
use common::{Fixture, Rng};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use targets::commit::{Outcome, mounted};
use targets::input::Input;
use targets::mutant::{self, FIXTURES};
use targets::reader;

/// Random mutations of sound databases.
const MUTATIONS: usize = 100_000;
/// As many at once.
const THREADS: usize = 2;
/// One in so many is of a larger fixture.
const LARGE: usize = 200;
/// What is large, in bytes.
const SMALL: usize = 40_000;
/// Edits and commits of each damaged fixture.
const EDITS: usize = 60;
/// Far more processor time than any case takes, on any machine.
const TIME: Duration = Duration::from_secs(20);
/// Memory that a case may take at once, in bytes, beside eight times the file: the disk and the maps hold it, and so does what
/// was read. An edit writes a few kilobytes.
const MEMORY: usize = 16 << 20;

/// What became of the cases.
#[derive(Default)]
struct Figures {
    cases: usize,
    committed: usize,
    /// How often for each reason, numbers left out.
    unopened: BTreeMap<String, usize>,
    refused: BTreeMap<String, usize>,
    too_large: usize,
    slowest: Duration,
    most_memory: usize,
}

impl Figures {
    /// `len`: the length of the file, in bytes.
    fn case(&mut self, what: &str, len: usize, run: impl FnOnce() -> Outcome) {
        let started = processor_time();
        let (outcome, memory) = memory::most_in(run);
        let took = processor_time() - started;
        assert!(took < TIME, "{what}: took {took:?}");
        assert!(
            memory < MEMORY + 8 * len,
            "{what}: took {memory} bytes of memory"
        );
        self.cases += 1;
        self.committed += outcome.committed;
        self.too_large += usize::from(outcome.too_large);
        if let Some(why) = outcome.unopened {
            *self.unopened.entry(kind(&why)).or_default() += 1;
        }
        for why in outcome.refused {
            *self.refused.entry(kind(&why)).or_default() += 1;
        }
        self.slowest = self.slowest.max(took);
        self.most_memory = self.most_memory.max(memory);
    }

    fn add(&mut self, other: Figures) {
        self.cases += other.cases;
        self.committed += other.committed;
        self.too_large += other.too_large;
        for (why, n) in other.unopened {
            *self.unopened.entry(why).or_default() += n;
        }
        for (why, n) in other.refused {
            *self.refused.entry(why).or_default() += n;
        }
        self.slowest = self.slowest.max(other.slowest);
        self.most_memory = self.most_memory.max(other.most_memory);
    }

    fn print(&self, what: &str) {
        println!(
            "{what}: {} cases, {} commits; {} with more entries than are looked at; the slowest took {:?}, \
             the most memory was {} KiB",
            self.cases,
            self.committed,
            self.too_large,
            self.slowest,
            self.most_memory >> 10
        );
        for (title, reasons) in [("not opened", &self.unopened), ("refused", &self.refused)] {
            println!("  {} {title}", reasons.values().sum::<usize>());
            for (why, n) in reasons {
                println!("    {n:7} {why}");
            }
        }
    }
}

/// What this thread has used.
fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("Linux knows it");
    let times = [usage.user_time(), usage.system_time()];
    let micros = times
        .map(|time| time.num_microseconds() as u64)
        .iter()
        .sum();
    Duration::from_micros(micros)
}

/// A message without its numbers.
fn kind(text: &str) -> String {
    let mut kind = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if kind.ends_with('N') => {}
            '0'..='9' => kind.push('N'),
            c => kind.push(c),
        }
    }
    kind
}

/// Bytes of an input: records of changes to the file, and edits.
fn input(rng: &mut Rng, fixture: usize) -> Vec<u8> {
    let changes = 1 + rng.below(3);
    let mut input = vec![fixture as u8, changes as u8];
    for _ in 0..changes {
        let at = if rng.one_in(2) {
            rng.below(100) // headers are where it matters
        } else {
            rng.below(1 << 16)
        };
        let value = match rng.below(4) {
            0 => rng.below(1 << 16),
            1 => rng.pick(&[0, 1, 0xffff, 0x7fff, 0x8000]).to_owned(),
            _ => rng.below(40),
        };
        input.push(rng.next() as u8);
        for n in [rng.below(1 << 16), at, value] {
            input.extend_from_slice(&(n as u16).to_le_bytes());
        }
    }
    let edits = rng.range(8, 80);
    input.extend_from_slice(&rng.bytes(edits));
    input
}

#[test]
fn nothing_readable_is_lost_by_100_000_mutations_of_sound_databases() {
    let is_healthy = |name: &str| {
        let mut healthy = Fixture::of_class("healthy");
        healthy.any(|fixture| fixture.name().strip_suffix(".db") == Some(name))
    };
    let healthy = (0..FIXTURES.len()).filter(|&n| is_healthy(FIXTURES[n].0));
    let (small, large): (Vec<usize>, Vec<usize>) =
        healthy.partition(|&n| FIXTURES[n].1.len() <= SMALL);
    assert!(small.len() > 8 && large.len() > 3);
    let work = || {
        let mut figures = Figures::default();
        common::rng::seeded(MUTATIONS / THREADS, |seed, rng| {
            let among = if rng.one_in(LARGE) { &large } else { &small };
            let fixture = *rng.pick(among);
            let input = input(rng, fixture);
            figures.case(&format!("seed {seed}"), FIXTURES[fixture].1.len(), || {
                let mut input = Input::new(&input);
                let file = mutant::database(&mut input);
                reader::database(file.clone());
                mounted(file, &mut input)
            });
        });
        figures
    };
    let mut figures = Figures::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(done) => figures.add(done),
                Err(panic) => resume_unwind(panic),
            }
        }
    });
    figures.print("mutations of sound databases");
    if figures.cases == MUTATIONS {
        assert!(
            figures.committed > MUTATIONS / 4,
            "hardly anything was committed"
        );
        assert!(
            figures.refused.values().sum::<usize>() > MUTATIONS / 1000,
            "hardly anything was refused"
        );
        assert!(
            figures.too_large < MUTATIONS / 100,
            "too much is not looked at"
        );
    }
}

#[test]
fn nothing_readable_is_lost_by_edits_of_any_fixture() {
    let mut figures = Figures::default();
    for fixture in Fixture::all() {
        let (_directory, path) = fixture.copy();
        let file = fs::read(path).expect("the copy can be read");
        let edits = match fixture.class() {
            "corrupt" => EDITS,
            _ if file.len() > 1 << 20 => 1,
            _ => EDITS / 10,
        };
        reader::database(file.clone());
        for n in 0..edits {
            let mut rng = Rng::new(n as u64);
            let input = rng.bytes(100);
            let what = format!("{} {n}", fixture.name());
            figures.case(&what, file.len(), || {
                mounted(file.clone(), &mut Input::new(&input))
            });
        }
    }
    figures.print("edits of fixtures");
}

/// What was committed is kept as it was: what is left of it after a cut is a copy, and no more is copied than that.
#[test]
fn a_cut_takes_memory_for_what_is_left_alone() {
    let mut fs = Fs::new(&tree([("b", bucket([]))]));
    fs.keep_journal();
    // One is in memory, one in the journal alone.
    let (held, kept) = (fs.create("b/held"), fs.create("b/kept"));
    let (held, kept) = (held.expect("it is made"), kept.expect("it is made"));
    let whole = vec![b'x'; 4 << 20];
    fs.vfs.write(held, 1, &whole, false).expect("it is written");
    fs.vfs.write(held, 0, b"x", false).expect("it is written");
    fs.vfs.write(kept, 0, &whole, false).expect("it is written");
    for is_committed in [false, true] {
        if is_committed {
            // A map is a copy here.
            fs.journal().expect("there is one").refuse_maps();
            fs.commit();
        }
        let pending = fs.pending();
        for ino in [kept, held] {
            if ino == held && !is_committed {
                continue; // it is cut where it is
            }
            let journal = fs.journal().map(|journal| journal.bytes());
            memory::with_at_most(1 << 20, || {
                let refused = fs.truncate(ino, 3 << 20);
                assert!(matches!(refused, Err(Error::NoMemory)), "{refused:?}");
            });
            assert_eq!(fs.journal().map(|journal| journal.bytes()), journal);
            assert_eq!(fs.pending(), pending);
        }
    }

    // Somebody else has it: who is told what was pending just now.
    let fs = Fs::new(&tree([("b", bucket([]))]));
    let ino = fs.save("b/held", &whole).expect("there is memory");
    let moment = fs.vfs.moment();
    let (cut, most) = memory::most_in(|| fs.truncate(ino, 1 << 10));
    cut.expect("there is memory");
    assert!(most < 1 << 20, "{most} bytes");
    assert_eq!(fs.read("b/held").expect("it is there"), [b'x'; 1 << 10]);
    drop(moment);
}

/// What does not fit into memory is refused, and nothing has happened: not to the file, nor in the journal.
#[test]
fn an_edit_for_which_there_is_no_memory_is_refused() {
    let small = value(b"{\"a\":1}");
    let mut fs = Fs::new(&tree([(
        "b",
        bucket([("old", small), ("json", value("{}"))]),
    )]));
    fs.keep_journal();
    let committed = fs.save("b/committed", "before").expect("there is memory");
    fs.commit();
    let new = fs.save("b/new", "before").expect("there is memory");
    // It is in the journal, until something is changed inside it.
    let kept = fs.save("b/kept", [b'x'; 1000]).expect("there is memory");
    let old = fs.at("b/old").expect("it is there");
    let (pending, journal) = (fs.pending(), fs.journal().expect("there is one").bytes());
    for ino in [old, new, committed, kept] {
        let content = fs.read_node(ino).expect("it can be read");
        memory::with_at_most(1 << 20, || {
            for offset in [2 << 20, 1 << 30] {
                let written = fs.vfs.write(ino, offset, b"far behind", false);
                assert!(matches!(written, Err(Error::NoMemory)), "{written:?}");
                let longer = fs.truncate(ino, offset);
                assert!(matches!(longer, Err(Error::NoMemory)), "{longer:?}");
            }
        });
        assert_eq!(fs.read_node(ino).expect("it can be read"), content);
    }
    assert_eq!(fs.pending(), pending);
    assert_eq!(fs.journal().expect("there is one").bytes(), journal);
    // What fits is taken.
    memory::with_at_most(1 << 20, || fs.vfs.write(old, 1 << 18, b"x", false)).expect("it fits");
    fs.commit();
}
