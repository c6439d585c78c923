//! What the control file can be told: `commit` and `discard`, without an unmount.

use std::sync::{Arc, OnceLock};

use fuser::Notifier;
use parking_lot::Mutex;

use super::commit;
use super::logging;
use super::store::Store;
use crate::fuse::{self, Control};
use crate::vfs::Error;

/// Carries out commands for one mount.
pub(super) struct Commands {
    store: Arc<Store>,
    /// One command at a time.
    busy: Mutex<()>,
    kernel: OnceLock<Notifier>,
}

impl Commands {
    pub fn new(store: Arc<Store>) -> Commands {
        Commands {
            store,
            busy: Mutex::default(),
            kernel: OnceLock::new(),
        }
    }

    /// The mount is live; `kernel` is the way to tell it that something changed.
    pub fn live(&self, kernel: Notifier) {
        let _ = self.kernel.set(kernel);
    }

    /// What is safe after a commit that failed.
    fn still_pending(&self) -> String {
        let journal = match self.store.journal() {
            Some(path) if self.store.vfs().has_whole_journal() => {
                format!(", and kept in {}", path.display())
            }
            _ => String::new(),
        };
        if self.store.vfs().is_sealed() {
            return format!(
                " Your edits are still to be seen{journal}. No more are taken: unmount."
            );
        }
        format!(" Your edits are still pending{journal}; write commit again when that is mended.")
    }

    fn discard(&self) -> Result<(), Error> {
        let count = self.store.staged();
        let forgotten = self.store.vfs().discard()?;
        if let Some(kernel) = self.kernel.get() {
            fuse::forget(kernel, &forgotten);
        }
        let discarded = match count {
            Some(1) => "discarded 1 change".to_owned(),
            Some(count) => format!("discarded {count} changes"),
            // What cannot be told can be dropped.
            None => "discarded all changes".to_owned(),
        };
        self.store.vfs().set_outcome(&discarded);
        Ok(())
    }
}

impl Control for Commands {
    fn command(&self, command: &[u8]) -> Result<(), Error> {
        let _alone = self.busy.lock();
        match command.trim_ascii() {
            b"commit" => {
                let mut report = commit::committed(&self.store);
                if report.failed {
                    report.message.push_str(&self.still_pending());
                }
                self.store.vfs().set_outcome(&report.message);
                if report.failed {
                    log::error!("{}", report.message);
                    return Err(Error::NotCommitted);
                }
                if !log::log_enabled!(log::Level::Info) {
                    logging::record_report(&report);
                }
                log::info!("{}", report.message);
                Ok(())
            }
            b"discard" => self.discard(),
            other => {
                let other = String::from_utf8_lossy(other);
                let told = format!("unknown command {other:?}: write commit or discard");
                self.store.vfs().set_outcome(&told);
                log::warn!("control: {told}");
                Err(Error::Invalid)
            }
        }
    }
}
