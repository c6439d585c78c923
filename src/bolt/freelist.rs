//! The freelist: a run with the ids of the pages that no state in use reaches.
//!
//! `count` u64 ids follow the page header; a `count` of 65535 says that the true number is the
//! u64 at 16 and the ids start at 24. bbolt writes the long form from 65535 ids on, and reads it
//! for any number.

use super::error::{Damage, Error, Result};
use super::page::{FREELIST, HEADER, Header, u64_at};

/// The `count` of a freelist whose true number of ids follows the header.
pub const LONG: u16 = 0xFFFF;

/// The ids of the freelist run `bytes`, as stored: neither sorted nor verified.
///
/// # Errors
/// [`Damage::WrongKind`], or [`Damage::CountPastEnd`] if the ids do not fit the run.
pub fn ids(pgid: u64, bytes: &[u8]) -> Result<impl ExactSizeIterator<Item = u64> + '_> {
    let past = |count| Error::page(pgid, Damage::CountPastEnd { count });
    let header = Header::read(bytes).ok_or_else(|| past(0))?;
    if header.flags != FREELIST {
        let want = "a freelist page";
        return Err(Error::page(
            pgid,
            Damage::WrongKind {
                found: header.flags,
                want,
            },
        ));
    }
    let (count, start) = match header.count {
        LONG => {
            let n = u64_at(bytes, HEADER).ok_or_else(|| past(usize::from(LONG)))?;
            (usize::try_from(n).unwrap_or(usize::MAX), HEADER + 8)
        }
        n => (usize::from(n), HEADER),
    };
    let data = bytes.get(start..).unwrap_or_default();
    let ids = count
        .checked_mul(8)
        .and_then(|len| data.get(..len))
        .ok_or_else(|| past(count))?;
    Ok(ids.chunks_exact(8).map(|b| u64_at(b, 0).unwrap_or(0)))
}

/// Bytes of a freelist with `n` ids, page header included.
pub fn size(n: usize) -> usize {
    HEADER + 8 * if n < usize::from(LONG) { n } else { n + 1 }
}
