//! What the process that serves a mount answers to the commands that ask it.

use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::change;
use super::control::{ChangesError, EachChange, Respond};
use super::mountinfo::{self, Mount};
use super::watch::Event;
use crate::overlay::{Change, Which};
use crate::vfs::Vfs;

/// Answers for one mount.
pub struct Answers {
    /// The database.
    pub database: PathBuf,
    /// What is mounted.
    pub vfs: Arc<Vfs>,
    /// Its line in the table of mounts.
    pub mount: Mount,
    /// The number of the command that it was made for, once that runs.
    pub command: Option<Arc<OnceLock<u32>>>,
    /// Where the end of the mount is waited for.
    pub events: Sender<Event>,
}

impl Respond for Answers {
    fn serving(&self) -> Value {
        json!({
            "database": mountinfo::shown(&self.database),
            "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
        })
    }

    fn command(&self) -> Option<Value> {
        let pid = self.command.as_ref()?.get();
        Some(json!({ "pid": pid }))
    }

    fn is_mounted(&self) -> bool {
        // Where the table cannot be read nobody can have unmounted by it either.
        mountinfo::table().map_or(true, |table| {
            table.iter().any(|at| at.device == self.mount.device)
        })
    }

    fn unmounted(&self) {
        let _ = self.events.send(Event::Unmounted);
    }

    fn status(&self, most: usize) -> Result<Value, String> {
        let info = self.vfs.info().map_err(|e| e.to_string())?;
        let mut changes = Vec::new();
        self.vfs
            .pending(Which::All, &mut |change| {
                if changes.len() < most {
                    changes.push(change::to_json(&change.pending));
                }
            })
            .map_err(|e| e.to_string())?;
        let damage = self.vfs.damage();
        let lost = self.vfs.lost();
        let lost = lost.get(..most).unwrap_or(&lost);
        Ok(json!({ "info": info, "changes": changes, "damage": damage, "lost": lost }))
    }

    fn changes(&self, each: &mut EachChange<'_>) -> Result<Value, ChangesError> {
        let mut broken = None;
        let mut tell = |change: Change<'_>| {
            if broken.is_none() {
                let told = change::to_json(&change.pending);
                broken = each(told, [change.old, change.new]).err();
            }
        };
        // Whoever listens may take his time.
        let moment = self.vfs.moment();
        let all = self.vfs.pending_at(&moment, Which::All, &mut tell);
        match broken {
            Some(e) => Err(ChangesError::Io(e)),
            None => match all {
                Ok(()) => Ok(json!({})),
                Err(e) => Err(ChangesError::Told(e.to_string())),
            },
        }
    }
}
