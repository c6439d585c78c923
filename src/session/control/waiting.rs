//! Who waits for the end of a mount, and whose turn it is to bring it about.

use std::io;
use std::os::unix::net::UnixStream;

use parking_lot::{Condvar, Mutex};
use serde_json::Value;

use super::send;

/// A connection that is to be told the report.
pub(super) struct Waiter {
    pub number: u64,
    pub stream: UnixStream,
    pub discard: bool,
}

/// Those who wait; and the report, once there is one.
#[derive(Default)]
pub(super) struct Waiting(Mutex<State>);

#[derive(Default)]
struct State {
    waiters: Vec<Waiter>,
    report: Option<Value>,
}

impl Waiting {
    /// Sends `answer` to one more who waits. Whoever comes after the report hears it at once.
    pub fn add(&self, mut waiter: Waiter, answer: &Value) -> io::Result<()> {
        let mut state = self.0.lock();
        if let Some(report) = &state.report {
            return send(&mut waiter.stream, &[answer, report]);
        }
        // Registered before the answer: whoever has it may unmount at once.
        let mut stream = waiter.stream.try_clone()?;
        state.waiters.retain(|other| other.number != waiter.number);
        state.waiters.push(waiter);
        send(&mut stream, &[answer])
    }

    /// A connection has ended.
    pub fn remove(&self, number: u64) {
        self.0.lock().waiters.retain(|other| other.number != number);
    }

    /// Nobody waits.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.lock().waiters.is_empty()
    }

    /// Those who wait now, and are not told what the others are.
    pub fn take(&self) -> Vec<Waiter> {
        std::mem::take(&mut self.0.lock().waiters)
    }

    /// From now on this is the report; returns those who came too late to be taken.
    pub fn end(&self, report: &Value) -> Vec<Waiter> {
        let mut state = self.0.lock();
        state.report = Some(report.clone());
        std::mem::take(&mut state.waiters)
    }
}

/// Who may try to unmount. Two who try at once keep the mount busy for each other.
#[derive(Default)]
pub(super) struct Turn {
    /// The number of a connection.
    holder: Mutex<Option<u64>>,
    free: Condvar,
}

impl Turn {
    /// Waits until it is this connection's turn.
    pub fn take(&self, number: u64) {
        let mut holder = self.holder.lock();
        while holder.is_some_and(|other| other != number) {
            self.free.wait(&mut holder);
        }
        *holder = Some(number);
    }

    /// A connection has ended: it is the next one's turn.
    pub fn leave(&self, number: u64) {
        let mut holder = self.holder.lock();
        if *holder == Some(number) {
            *holder = None;
            self.free.notify_one();
        }
    }
}
