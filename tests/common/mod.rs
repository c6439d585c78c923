//! What the tests share: the real bbolt as an oracle, databases as plain nested maps, temporary directories, seeds.

// Each test binary compiles this module for itself and uses its own part of it.
#![allow(dead_code)]

pub mod oracle;
pub mod rng;
pub mod temp;
pub mod tree;

pub use oracle::{Bulk, Options, Oracle};
pub use rng::Rng;
pub use temp::TempDir;
pub use tree::{Edit, Node, Tree};
