//! The files that a reader will want next.

use super::{Result, Vfs};
use crate::overlay::Ino;

/// A file as it was at mounting, which nobody has edited.
pub struct Sibling<'a> {
    /// The node.
    pub ino: Ino,
    /// The page of the database that its element is on.
    pub page: u64,
    /// All that is shown of it.
    pub content: &'a [u8],
}

impl Vfs {
    /// The page of the database that the element of `ino` is on; `None` for a node that is not of
    /// the base.
    pub fn page_of(&self, ino: Ino) -> Option<u64> {
        let (_, offset) = ino.element()?;
        Some(self.snapshot().pgid_at(offset))
    }

    /// Hands the files from `first` on, in the order in which its directory lists them, to `each`,
    /// until that answers `false`: those of the base that are neither empty nor longer than
    /// `longest` bytes, and of which nothing is staged.
    ///
    /// # Errors
    /// Damage at `first`; a listing ends at any further on.
    pub fn siblings(
        &self,
        first: Ino,
        longest: usize,
        each: &mut dyn FnMut(Sibling<'_>) -> bool,
    ) -> Result<()> {
        let Some((dir, _)) = self.base.origin(first) else {
            return Ok(());
        };
        let (Some(dir), Some(element)) = (self.base.dir(dir)?, self.base.element(first)?) else {
            return Ok(());
        };
        let elements = dir.bucket.iter_after(&element).map_while(|e| e.ok());
        for element in std::iter::once(element).chain(elements) {
            if element.is_bucket() || element.value.is_empty() || element.value.len() > longest {
                continue;
            }
            let ino = dir.ino(&element)?;
            let raw = self.options.raw;
            let is_staged = self.read_staged().node(ino).is_some();
            let fits = || self.shown.len(element.value, raw) <= longest as u64;
            if is_staged || !fits() {
                continue;
            }
            let page = self.snapshot().pgid_at(element.offset);
            let more = self.shown.read(element.value, raw, 0, longest, |content| {
                each(Sibling { ino, page, content })
            });
            if !more {
                break;
            }
        }
        Ok(())
    }
}
