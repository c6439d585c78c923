//! What this process may take of the machine.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit before it was raised.
static BEFORE: OnceLock<Option<u64>> = OnceLock::new();

/// Lets this process have as many open files as it may. What is on unless somebody raises it, 1024, is
/// made for programs that use select(2).
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if BEFORE.set(limit.current).is_err() || limit.current == limit.maximum {
        return;
    }
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(e) = setrlimit(Resource::Nofile, all) {
        log::debug!("no more open files than {:?}: {e}", limit.current);
    }
}

/// How many open files were allowed before, for [`give_back_open_files`] in a program that we start: a
/// number, or nothing where there was no limit.
pub fn open_files_before() -> String {
    let before = BEFORE.get().copied().flatten();
    before.map(|limit| limit.to_string()).unwrap_or_default()
}

/// Puts the limit to what [`open_files_before`] said.
pub fn give_back_open_files(before: &str) {
    let limit = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: before.parse().ok(),
        ..limit
    };
    // Where it cannot be, the program has more of them than it asked for.
    let _ = setrlimit(Resource::Nofile, limit);
}
