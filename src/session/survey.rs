//! What a commit's report says beside its counts.

use crate::overlay::Change;

/// What is staged, as far as the report of a commit needs it.
#[derive(Default)]
pub struct Survey {
    /// One line for each change that was not stored as it was written, or should not have been.
    remarkable: Vec<String>,
    more: u64,
}

impl Survey {
    /// Most remarks that are told.
    const TOLD: usize = 10;

    /// Takes one change in.
    pub fn add(&mut self, change: &Change<'_>) {
        let Some(remark) = change.pending.warning() else {
            return;
        };
        if self.remarkable.len() < Self::TOLD {
            self.remarkable.push(remark);
        } else {
            self.more += 1;
        }
    }

    /// What the person should look at.
    pub fn notes(self) -> Vec<String> {
        let mut notes = self.remarkable;
        if self.more > 0 {
            notes.push(format!("and {} more of this kind", self.more));
        }
        notes
    }
}
