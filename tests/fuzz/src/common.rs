//! The parts of `tests/common` that need neither the program nor the real bbolt.
#![allow(dead_code)]

#[path = "../../common/beside.rs"]
pub mod beside;
#[path = "../../common/build.rs"]
pub mod build;
#[path = "../../common/disk.rs"]
pub mod disk;
#[path = "../../common/read.rs"]
pub mod read;
#[path = "../../common/tree.rs"]
pub mod tree;
