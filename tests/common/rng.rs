//! Random numbers that can be had again: a failing test prints its seed, and `BOLTFS_SEED` replays it.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64: small, and good enough to shuffle test cases.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 {
            0
        } else {
            (self.next() % n as u64) as usize
        }
    }

    /// A number in `low..=high`.
    pub fn range(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of them, which must not be none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(n + 8);
        while out.len() < n {
            out.extend_from_slice(&self.next().to_le_bytes());
        }
        out.truncate(n);
        out
    }
}

/// Prints the seed when the test fails.
pub struct SeedGuard(u64);

impl Drop for SeedGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "seed {0}; to see it again: BOLTFS_SEED={0} cargo test …",
                self.0
            );
        }
    }
}

/// Runs `case` with `cases` seeds, each with its own generator. `BOLTFS_SEED=n` runs that one alone;
/// `BOLTFS_CASES=n` changes how many. The seeds differ from run to run unless `BOLTFS_SEED_BASE` fixes them.
pub fn seeded(cases: usize, mut case: impl FnMut(u64, &mut Rng)) {
    let mut run = |seed| {
        let _guard = SeedGuard(seed);
        case(seed, &mut Rng::new(seed));
    };
    if let Some(seed) = from_environment("BOLTFS_SEED") {
        return run(seed);
    }
    let cases = from_environment("BOLTFS_CASES").unwrap_or(cases as u64);
    let base = from_environment("BOLTFS_SEED_BASE").unwrap_or_else(|| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("the clock is past 1970");
        Rng::new(now.as_nanos() as u64).next() >> 16
    });
    for n in 0..cases {
        run(base.wrapping_add(n));
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")),
    )
}
