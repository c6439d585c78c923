//! Staged edits over a snapshot.
