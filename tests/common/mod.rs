//! What the tests share: the real bbolt as an oracle, databases as plain nested maps, temporary directories, seeds.

// Each test binary compiles this module for itself and uses its own part of it.
#![allow(dead_code, unused_imports)]

pub mod beside;
pub mod build;
pub mod case;
pub mod commits;
pub mod disk;
pub mod etcd;
pub mod fixture;
pub mod fs;
pub mod mount;
pub mod oracle;
pub mod process;
pub mod read;
pub mod rng;
pub mod staged;
pub mod temp;
pub mod tree;

pub use etcd::Etcd;
pub use fixture::Fixture;
pub use fs::Fs;
pub use mount::Mount;
pub use oracle::{Bulk, Options, Oracle};
pub use rng::Rng;
pub use temp::TempDir;
pub use tree::{Edit, Node, Tree};
