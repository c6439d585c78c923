//! A new, empty database.

use super::meta::Meta;
use super::page::{FREELIST, HEADER, Header, LEAF};

/// Smallest file that bbolt opens again, in bytes.
const MIN_FILE: usize = 4096;

/// The bytes of an empty database, as bbolt creates it: two metas, an empty freelist, an empty root
/// bucket. `page_size` in bytes must be a power of two, 512 to 16 MiB.
///
/// Write them to a temporary file, sync that and rename it: no half of it is a database.
pub fn empty_database(page_size: u32) -> Vec<u8> {
    let meta = |txid| Meta {
        page_size,
        flags: 0,
        root: 3,
        sequence: 0,
        freelist: 2,
        hwm: 4,
        txid,
    };
    let page = |id, flags| {
        let (count, overflow) = (0, 0);
        let header = Header {
            id,
            flags,
            count,
            overflow,
        };
        let mut page = header.to_bytes().to_vec();
        page.resize(page_size.max(HEADER as u32) as usize, 0);
        page
    };
    let mut bytes = [
        meta(0).to_page(0),
        meta(1).to_page(1),
        page(2, FREELIST),
        page(3, LEAF),
    ]
    .concat();
    bytes.resize(bytes.len().max(MIN_FILE), 0);
    bytes
}
