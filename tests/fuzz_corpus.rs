//! What the fuzzers of `tests/fuzz` have found worth keeping, replayed through the same functions: inputs that reach
//! every part of a target, and those that once broke a promise. `scripts/fuzz` looks for more.

#[path = "fuzz/src/lib.rs"]
#[allow(dead_code)]
mod targets;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Far more than any input takes, on any machine, however busy.
const LIMIT: Duration = Duration::from_secs(300);

fn replay(target: &str, run: fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let mut inputs: Vec<PathBuf> = Vec::new();
    for kept in ["corpus", "regressions"] {
        let directory = fuzz.join(kept).join(target);
        let entries = match fs::read_dir(&directory) {
            // A target that never broke a promise has no directory of regressions.
            Err(e) if e.kind() == ErrorKind::NotFound && kept == "regressions" => continue,
            other => other.unwrap_or_else(|e| panic!("cannot read {}: {e}", directory.display())),
        };
        inputs.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    inputs.sort();
    let mut slowest = Duration::ZERO;
    for path in &inputs {
        let input = fs::read(path).expect("an input can be read");
        let guard = Named(path);
        let started = Instant::now();
        run(&input);
        drop(guard);
        let took = started.elapsed();
        assert!(took < LIMIT, "{}: took {took:?}", path.display());
        slowest = slowest.max(took);
    }
    println!(
        "{target}: {} inputs, the slowest took {slowest:?}",
        inputs.len()
    );
    assert!(inputs.len() > 20, "the corpus is gone");
}

/// Says which input it was.
struct Named<'a>(&'a Path);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("input: {}", self.0.display());
        }
    }
}

#[test]
fn reader() {
    replay("reader", targets::reader::run);
}

#[test]
fn commit() {
    replay("commit", targets::commit::run);
}

#[test]
fn journal() {
    replay("journal", targets::journal::run);
}

#[test]
fn names() {
    replay("names", targets::names::run);
}

#[test]
fn json() {
    replay("json", targets::json::run);
}
