//! boltfs: look into a bbolt database and repair it, as a directory tree.
//!
//! The layout is the architecture. A module imports only from its own floor or a lower one:
//!
//! | floor | modules | owns |
//! | --- | --- | --- |
//! | 0 | `bolt::{page,meta,bucket,freelist}`, [`view`] | bytes to typed views and back |
//! | 1 | `bolt::file` | the one seam to the disk |
//! | 2 | `bolt::{snapshot,cursor,writer,allocator,check}` | reading a committed tree, writing the next, proving one sound |
//! | 3 | [`overlay`], [`journal`] | staged edits over a snapshot; the edits on disk until committed |
//! | 4 | [`vfs`] | what a file system does, by inode number, without a mount |
//! | 5 | [`fuse`] | the kernel's requests handed to `vfs`; the one table of errors to errno |
//! | 6 | [`session`], [`cli`] | the life of one mount, and the command line |

pub mod bolt;
pub mod cli;
pub mod fuse;
pub mod journal;
pub mod overlay;
pub mod session;
pub mod vfs;
pub mod view;
