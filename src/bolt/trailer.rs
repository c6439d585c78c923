//! What `etcdctl snapshot save` puts behind a database: the SHA-256 of all bytes before it.
//!
//! ```text
//! pages, hwm * page size bytes (a multiple of 512) | 32 bytes SHA-256 of them
//! ```
//!
//! etcd knows such a file by its length alone: 32 more than a multiple of 512.

use super::snapshot::Snapshot;
use sha2::{Digest, Sha256};

/// Length of the hash in bytes.
pub const LEN: usize = 32;

/// The file ends as an etcd snapshot does, in a hash behind whole sectors of database, right or
/// wrong.
pub fn is_there(snapshot: &Snapshot) -> bool {
    split(snapshot).is_some()
}

/// The file ends as an etcd snapshot does: does the hash match? `None` where it does not. Reads
/// the whole file.
pub fn matches(snapshot: &Snapshot) -> Option<bool> {
    let (content, hash) = split(snapshot)?;
    Some(of(content) == *hash)
}

/// The hash of `content`.
pub fn of(content: &[u8]) -> [u8; LEN] {
    Sha256::digest(content).into()
}

fn split(snapshot: &Snapshot) -> Option<(&[u8], &[u8; LEN])> {
    let file: &[u8] = snapshot.map();
    let (content, hash) = file.split_last_chunk()?;
    let need = snapshot.meta().bytes_in_use()?;
    (content.len() % 512 == 0 && content.len() as u64 >= need).then_some((content, hash))
}
