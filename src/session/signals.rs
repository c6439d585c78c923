//! The signals that end a mount: they are blocked in every thread and waited for in one, so that
//! none of them interrupts a commit.

use super::limits;
use nix::sys::signal::{SigSet, Signal};

/// The signals that unmount and commit.
const ENDING: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
];

/// The ending signals, blocked.
#[derive(Debug, Clone, Copy)]
pub struct Blocked(SigSet);

/// Blocks them in this thread and all that it starts. To be called before any thread is started
/// and before anything is mounted; one that arrives between waits for [`Blocked::wait_each`].
pub fn block() -> nix::Result<Blocked> {
    let set: SigSet = ENDING.into_iter().collect();
    set.thread_block()?;
    Ok(Blocked(set))
}

/// Makes a file past `ulimit -f` an error of the write, not the end of us, and takes as many open files
/// as there may be. To be called before anything is written.
pub fn survive_limits() {
    if let Err(e) = SigSet::from(Signal::SIGXFSZ).thread_block() {
        log::warn!("cannot block SIGXFSZ: {}", e.desc());
    }
    limits::raise_open_files();
}

impl Blocked {
    /// Calls `on_signal` for each that arrives, on a thread of its own.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn wait_each(self, on_signal: impl Fn(Signal) + Send + 'static) -> std::io::Result<()> {
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                while let Ok(signal) = self.0.wait() {
                    on_signal(signal);
                }
            })?;
        Ok(())
    }
}
