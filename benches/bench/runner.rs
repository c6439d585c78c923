//! Measures rows, in turn within each round, and keeps their medians.

use super::measure::{Sample, median};
use std::path::Path;

/// What is to be reached.
#[derive(Clone, Copy)]
pub enum Goal {
    /// At most this many times what the reference takes.
    Times(f64),
    /// At most so many seconds more than the reference.
    Over(f64),
    /// At most so many seconds.
    Within(f64),
    /// At most this part of the reference's memory.
    Memory(f64),
    /// At most so many bytes.
    Bytes(u64),
}

/// What one row came to: medians.
pub struct Outcome {
    pub name: String,
    pub goal: Goal,
    /// Ours, and what it is compared with.
    pub ours: Sample,
    pub reference: Option<(&'static str, Sample)>,
    /// The median of the ratios of each round, not the ratio of the medians.
    pub ratio: f64,
    pub cpu_ratio: f64,
}

/// Measures rows, in turn within each round.
pub struct Runner<'a> {
    pub rounds: usize,
    wanted: &'a dyn Fn(&str) -> bool,
    results: &'a mut Vec<Outcome>,
}

/// Does its work once.
pub type Contestant<'a> = &'a mut dyn FnMut() -> Sample;

impl<'a> Runner<'a> {
    pub fn new(
        rounds: usize,
        wanted: &'a dyn Fn(&str) -> bool,
        results: &'a mut Vec<Outcome>,
    ) -> Self {
        Runner {
            rounds,
            wanted,
            results,
        }
    }

    /// Whether one of these rows is asked for.
    pub fn wants(&self, names: &[&str]) -> bool {
        names.iter().any(|name| (self.wanted)(name))
    }

    /// One row that both contestants have.
    pub fn row(
        &mut self,
        name: &str,
        goal: Goal,
        ours: Contestant<'_>,
        reference: Option<(&'static str, Contestant<'_>)>,
    ) {
        if !self.wants(&[name]) {
            return;
        }
        eprint!("{name} ");
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        let who = reference.as_ref().map(|(who, _)| *who);
        let mut reference = reference.map(|(_, contestant)| contestant);
        for round in 0..self.rounds {
            // Who comes second finds warmer caches: each in its turn.
            if round % 2 == 0 {
                mine.push(ours());
            }
            if let Some(reference) = &mut reference {
                theirs.push(reference());
            }
            if round % 2 == 1 {
                mine.push(ours());
            }
            eprint!(".");
        }
        eprintln!();
        self.add(name, goal, &mine, who.map(|who| (who, &theirs[..])));
    }

    /// A row whose samples were taken elsewhere.
    pub fn add(
        &mut self,
        name: &str,
        goal: Goal,
        ours: &[Sample],
        reference: Option<(&'static str, &[Sample])>,
    ) {
        let middle = |samples: &[Sample]| Sample {
            wall: median(samples.iter().map(|s| s.wall)),
            cpu: median(samples.iter().map(|s| s.cpu)),
            memory: median(samples.iter().map(|s| s.memory as f64)) as u64,
        };
        let ratio = |of: fn(&Sample) -> f64| {
            let pairs = reference
                .iter()
                .flat_map(|(_, theirs)| ours.iter().zip(*theirs));
            median(pairs.map(|(a, b)| of(a) / of(b)))
        };
        let of: fn(&Sample) -> f64 = match goal {
            Goal::Memory(_) => |s| s.memory as f64,
            _ => |s| s.wall,
        };
        self.results.push(Outcome {
            name: name.to_owned(),
            goal,
            ours: middle(ours),
            ratio: ratio(of),
            cpu_ratio: ratio(|s| s.cpu),
            reference: reference.map(|(who, samples)| (who, middle(samples))),
        });
    }
}

/// A path as a shell takes it: those here have no character that means anything to one.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}

/// `n` with a comma at each thousand.
pub fn thousand(n: u32) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
