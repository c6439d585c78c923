//! Waiting for the next request without sleeping, for a moment.
//!
//! Who removes or makes many files sends one request after the other, each as soon as the last one is
//! answered. To be woken for it costs more than to answer it: some tens of microseconds where the
//! processor that was left idle is a virtual one. So after an answer a thread asks for the next
//! request before it sleeps, as `SO_BUSY_POLL` does for a socket: about as long as it
//! would take to be woken, so that what is lost where nothing comes is no more than that, and only while
//! requests come that close to each other. An idle mount uses no processor.
//!
//! One thread asks. Another one that slept in its `read(2)` meanwhile would be woken by each request in
//! vain, at the caller's expense, so it stays [away](AWAY) from there: until a request comes that takes
//! long, or for a few milliseconds, as it may be needed beside one that turns out to.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::{Condvar, Mutex};
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long the next request is asked for.
const MOMENT: Duration = Duration::from_micros(50);
/// Where two requests were answered within this time, the next one is taken to come soon.
const CLOSE: Duration = Duration::from_micros(150);
/// How long a thread stays away that is not needed: so long may another request have to wait where one
/// takes long of which that was not known.
const AWAY: Duration = Duration::from_millis(5);

/// How the threads that answer requests wait for the next one.
pub struct BusyPoll {
    /// The FUSE device; `None` where waiting this way would be in the way of whoever is waited for.
    device: Option<OwnedFd>,
    start: Instant,
    /// When a request was answered last, in nanoseconds after `start`.
    answered: AtomicU64,
    /// A thread is asking.
    asking: AtomicBool,
    /// Number of threads that are away.
    away: Mutex<usize>,
    needed: Condvar,
}

impl BusyPoll {
    /// Asks `device`, unless there is but one processor, or no device: then a thread goes to sleep at once.
    pub fn new(device: Option<OwnedFd>) -> BusyPoll {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        BusyPoll {
            device: device.filter(|_| processors > 1),
            start: Instant::now(),
            answered: AtomicU64::new(0),
            asking: AtomicBool::new(false),
            away: Mutex::new(0),
            needed: Condvar::new(),
        }
    }

    /// To be called ahead of what may take long: another thread may be needed meanwhile.
    pub(super) fn takes_long(&self) {
        if *self.away.lock() > 0 {
            self.needed.notify_all();
        }
    }

    /// To be called after an answer. Returns when there is a request, or none came for a moment.
    pub(super) fn await_next(&self) {
        let Some(device) = &self.device else {
            return;
        };
        let now = self.start.elapsed();
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let before = Duration::from_nanos(self.answered.swap(nanos, Ordering::Relaxed));
        if now.saturating_sub(before) > CLOSE {
            return;
        }
        if self.asking.swap(true, Ordering::Acquire) {
            let mut away = self.away.lock();
            *away += 1;
            self.needed.wait_for(&mut away, AWAY);
            *away -= 1;
            return;
        }
        let mut asked = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
        // The end of the connection is an answer too.
        while poll(&mut asked, PollTimeout::ZERO) == Ok(0) {
            if self.start.elapsed().saturating_sub(now) > MOMENT {
                break;
            }
        }
        self.asking.store(false, Ordering::Release);
    }
}
