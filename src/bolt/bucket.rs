//! Buckets: a leaf element with the bucket flag, whose value starts with a 16-byte header.
//!
//! ```text
//! 0 u64 root pgid | 8 u64 sequence | 16 … a whole leaf page, if root is 0 (an inline bucket)
//! ```

use super::error::{Damage, Error, Result};
use super::page::{Element, HEADER, Header, LEAF, Page, u64_at};

/// Bytes of a bucket header.
pub const BUCKET_HEADER: usize = 16;

/// Where a bucket's content lies: all that is needed to open it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketRef {
    /// Root page, or 0 for an inline bucket.
    pub root: u64,
    /// The bucket's sequence number (u64, wraps).
    pub sequence: u64,
    /// Where the value lies in the file, in bytes (0 for the root bucket, which has none).
    pub value_offset: u64,
    /// Length of the value in bytes.
    pub value_len: usize,
}

impl BucketRef {
    /// Reads the bucket header of `element`. `pgid` is the page the element is on, for messages.
    ///
    /// # Errors
    /// [`Damage::BucketValue`] for a value of less than 16 bytes, or of less than 32 with root 0.
    pub fn read(element: &Element<'_>, pgid: u64) -> Result<BucketRef> {
        let value = element.value;
        let damaged = || Error::page(pgid, Damage::BucketValue { len: value.len() });
        let root = u64_at(value, 0).ok_or_else(damaged)?;
        let sequence = u64_at(value, 8).ok_or_else(damaged)?;
        if root == 0 && value.len() < BUCKET_HEADER + HEADER {
            return Err(damaged());
        }
        let value_offset = element.value_offset;
        Ok(BucketRef {
            root,
            sequence,
            value_offset,
            value_len: value.len(),
        })
    }

    /// The bucket's only page is inside its value.
    pub fn is_inline(&self) -> bool {
        self.root == 0
    }
}

/// The page inside the value of an inline bucket, which lies at `offset` of the file.
pub(crate) fn inline_page(pgid: u64, value: &[u8], offset: u64) -> Result<Page<'_>> {
    let damaged = || Error::page(pgid, Damage::BucketValue { len: value.len() });
    let image = value.get(BUCKET_HEADER..).ok_or_else(damaged)?;
    let header = Header::read(image).ok_or_else(damaged)?;
    if header.flags != LEAF {
        let want = "an inline leaf page";
        return Err(Error::page(
            pgid,
            Damage::WrongKind {
                found: header.flags,
                want,
            },
        ));
    }
    Page::new(
        pgid,
        Header {
            overflow: 0,
            ..header
        },
        offset + BUCKET_HEADER as u64,
        image,
    )
}
