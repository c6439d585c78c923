//! What takes long says so.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::logging::say;
use super::mountinfo::shown;

/// How long somebody may be left without a word.
const A_WHILE: Duration = Duration::from_secs(2);

/// Runs `work`, which waits for a commit to `database`, or for the rehearsal of one, and says so if it takes longer than
/// people wait without wondering: before the first of a mount all of the database is read.
pub fn committing<T>(database: &Path, work: impl FnOnce() -> T) -> T {
    let message = format!(
        "still at work on {}: all of a database is read before the first commit to it",
        shown(database)
    );
    let (done, end) = mpsc::channel::<()>();
    let tell = move || {
        if end.recv_timeout(A_WHILE) == Err(RecvTimeoutError::Timeout) {
            say(&message);
        }
    };
    // Without a thread nothing is said, and nothing else is different.
    let teller = thread::Builder::new().spawn(tell);
    let result = work();
    drop(done);
    if let Ok(teller) = teller {
        // What it says must not come after the outcome.
        let _ = teller.join();
    }
    result
}
