//! What a commit takes: edits of buckets, in key order.

use super::error::Result;
use super::page::Element;
use std::borrow::Cow;
use std::collections::HashSet;

/// Edits of one bucket, their keys strictly ascending. They are made while the commit runs, so
/// that nothing of what they carry need be copied before.
pub type Edits<'a> = Box<dyn Iterator<Item = Result<(Cow<'a, [u8]>, Edit<'a>)>> + 'a>;

/// What becomes of one key of a bucket.
pub enum Edit<'a> {
    /// The key goes away, or the bucket with all that is in it. Nothing happens if there is none.
    Delete,
    /// The key has this value from now on.
    Put(Cow<'a, [u8]>),
    /// A bucket is here from now on, with this content.
    Bucket(BucketEdit<'a>),
}

/// Where a bucket's content comes from, before it is edited.
pub enum Source<'a> {
    /// The bucket that is at this key already.
    Existing,
    /// An empty one, in place of whatever is at this key.
    New,
    /// A bucket of the same snapshot from another place. Its pages are taken over, not copied.
    Moved(Element<'a>),
}

/// A bucket and the edits of what is in it.
pub struct BucketEdit<'a> {
    /// What it starts from.
    pub source: Source<'a>,
    /// Its new sequence number; `None` leaves it as it is, 0 for a new bucket.
    pub sequence: Option<u64>,
    /// What changes in it.
    pub edits: Edits<'a>,
}

/// All edits of one commit.
pub struct Changes<'a> {
    /// Those of the root bucket.
    pub edits: Edits<'a>,
    /// The [offsets](Element::offset) of the bucket elements that live on at another place by
    /// [`Source::Moved`]: where they were, their pages are not freed.
    pub moved: HashSet<u64>,
}
