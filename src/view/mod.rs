//! How a database looks to a person, and back: [key to file name](name), [JSON value to indented text](json), and
//! [what a saved content means for the value it replaces](text). And what tools do on the way, which a person is to be
//! told: [files left beside others](leftover), [numbers rounded](number).
//!
//! Everything here is a pure function of bytes: no I/O, no state, nothing kept. The bytes are those of a database,
//! which may be hostile, so nothing here recurses, panics, or makes more than a bounded multiple of what it was given.

pub mod json;
pub mod leftover;
pub mod name;
pub mod number;
pub mod text;

#[cfg(test)]
pub(crate) mod testing {
    /// xorshift64*: random enough, and the same on every run.
    pub struct Rng(u64);

    impl Rng {
        pub fn new(seed: u64) -> Rng {
            Rng(0x9e37_79b9_7f4a_7c15 ^ seed)
        }

        pub fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
        }

        pub fn below(&mut self, n: usize) -> usize {
            (self.next() % n as u64) as usize
        }

        pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
            from[self.below(from.len())]
        }
    }
}
