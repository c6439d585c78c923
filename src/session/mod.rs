//! The life of one mount: lock, mount, background, signals, unmount, commit, report.
//!
//! The order matters, and is this everywhere: what can be refused is refused before anything is
//! mounted; the session with the kernel has ended (or the store is sealed) before the commit
//! starts; the lock on the database is held until the commit is over; whoever waits is told after
//! the lock is free.

mod access;
mod advice;
mod answers;
mod background;
mod change;
mod check;
mod commands;
mod commit;
mod control;
mod damage;
mod database;
mod diff;
mod edits;
mod failure;
mod goal;
mod limits;
mod lock;
mod logging;
mod mount;
mod mountinfo;
mod mountpoint;
mod newfile;
mod options;
mod output;
mod patience;
mod process;
mod reach;
mod recovery;
mod rehearsal;
mod serve;
mod side;
mod signals;
mod status;
mod store;
mod survey;
mod terminal;
mod umount;
mod watch;
mod writing;

pub use background::{NotLive, SERVING, leave_callers_files, start as start_in_background};
pub use check::run_check;
pub use commit::{Outcome, Report};
pub use diff::run_diff;
pub use failure::{Failure, Result};
pub use goal::Goal;
pub use logging::{say, start as start_logging};
pub use mount::Allow;
pub use options::{OptionError, Options, Owner};
pub use status::run_status;
pub use umount::{Unmount, umount};

pub use watch::{EXECUTE, execute};

pub use edits::show as show_journal;
pub use recovery::Unfinished;
pub use serve::{Ended, Mode, MountRequest, run};
