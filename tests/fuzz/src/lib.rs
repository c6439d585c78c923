//! What the fuzzers run. Each target is one function from any bytes to nothing, which panics where a promise is broken.
//!
//! `scripts/fuzz` runs them under libFuzzer; `tests/fuzz_corpus.rs` replays the inputs of `corpus/` and `regressions/` in
//! every run of the tests, through the same functions.

pub mod commit;
pub mod common;
pub mod edits;
pub mod input;
pub mod journal;
pub mod json;
pub mod mutant;
pub mod names;
pub mod reader;
