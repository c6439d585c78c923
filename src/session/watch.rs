//! Waiting for the end of a mount: by an unmount, a signal, or the end of a command.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use super::mount::{self, Manner, Refused};
use super::mountinfo::{self, Mount};
use super::store::Store;
use super::{limits, mountpoint, process};

/// How long the kernel may take to end the session after an unmount. It takes longer only when
/// another mount namespace still has the mount.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// What happens to a mount.
pub enum Event {
    /// The kernel has ended the session.
    Ended(SessionEnd),
    /// Somebody wants it to end.
    Signal(Signal),
    /// `boltfs umount` has unmounted; the kernel is about to end the session.
    Unmounted,
    /// The command that the mount was made for has ended.
    Command(ExitStatus),
}

/// How the conversation with the kernel ended.
pub enum SessionEnd {
    /// As it should. Or it goes on, but the store is sealed.
    Unmounted,
    /// By an error on our side; the mount may still be there.
    Failed(io::Error),
}

/// Takes a mount away again when it cannot go live.
pub struct Undo<'a>(pub Option<&'a Mount>);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(mount) = self.0
            && let Err(e) = mount::unmount(&mount.point, Manner::Lazy)
            && e != Refused::NotMounted
        {
            log::warn!(
                "{} stays mounted: {e}. Unmount it with {}",
                mount.point.display(),
                mountpoint::unmount_command(&mount.point)
            );
        }
    }
}

/// The hidden first argument of the process that becomes the command. Behind it comes how many files
/// that may have open.
pub const EXECUTE: &str = "--execute";

/// Becomes `command`, with no signal blocked and with the limit `open_files` of those who started us.
/// Returns only if that is not possible, with the exit status for it.
pub fn execute(open_files: &OsStr, command: &[OsString]) -> (u8, io::Error) {
    let Some((program, args)) = command.split_first() else {
        return (127, io::ErrorKind::InvalidInput.into());
    };
    limits::give_back_open_files(&open_files.to_string_lossy());
    let e = match SigSet::all().thread_unblock() {
        Ok(()) => Command::new(program).args(args).exec(),
        Err(e) => e.into(),
    };
    (
        if e.kind() == io::ErrorKind::NotFound {
            127
        } else {
            126
        },
        e,
    )
}

/// A command that runs while the database is mounted.
pub struct Running {
    pid: Pid,
}

impl Running {
    /// Starts it, with the mount point in `BOLTFS_MOUNT`; its end becomes an [`Event::Command`].
    ///
    /// # Errors
    /// When no process can be started. A command that cannot be run ends with 126 or 127, as in
    /// env(1).
    pub fn start(command: &[OsString], point: &Path, events: Sender<Event>) -> io::Result<Running> {
        // Not directly: it would inherit our blocked signals.
        let mut child = Command::new("/proc/self/exe")
            .arg(EXECUTE)
            .arg(limits::open_files_before())
            .args(command)
            .env("BOLTFS_MOUNT", point)
            .spawn()?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let wait = move || {
            let status = child.wait().unwrap_or(ExitStatus::from_raw(0x7f00));
            let _ = events.send(Event::Command(status));
        };
        thread::Builder::new()
            .name("command".to_owned())
            .spawn(wait)?;
        Ok(Running { pid })
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// Passes a signal on. Those that a key of the terminal sends, it has got already.
    fn signal(&self, signal: Signal) {
        if !matches!(signal, Signal::SIGINT | Signal::SIGQUIT) {
            let _ = kill(self.pid, signal);
        }
    }
}

/// Waits until nothing can be changed through the mount any more, and a command, if there is one,
/// has ended. Returns its exit status as a shell sees it.
pub fn until_end(
    happened: &Receiver<Event>,
    mount: &Mount,
    store: &Store,
    command: Option<Running>,
) -> (SessionEnd, Option<u8>) {
    let mut command = command;
    let mut status = None;
    let mut ended = None;
    let mut timeout = Duration::MAX;
    loop {
        match happened.recv_timeout(timeout) {
            Ok(Event::Ended(end)) if command.is_none() => return (end, status),
            Ok(Event::Ended(end)) => {
                // Somebody else unmounted. Only the command's end says what the edits are worth.
                log::warn!(
                    "{} was unmounted while the command runs: what that does there from now on is \
                     not in the database. Its exit status decides about the edits before",
                    mount.point.display()
                );
                ended = Some(end);
                timeout = Duration::MAX;
            }
            Ok(Event::Unmounted) => timeout = END_TIMEOUT,
            Ok(event @ (Event::Signal(_) | Event::Command(_))) => {
                match (event, &command) {
                    (Event::Signal(signal), Some(running)) => {
                        running.signal(signal);
                        continue;
                    }
                    (Event::Command(exit), _) => {
                        command = None;
                        status = Some(shell_status(exit));
                    }
                    _ => {}
                }
                if let Some(end) = ended.take() {
                    return (end, status);
                }
                if unmount_everywhere(mount, store) {
                    return (SessionEnd::Unmounted, status);
                }
                timeout = END_TIMEOUT;
            }
            Err(RecvTimeoutError::Timeout) if command.is_some() => timeout = Duration::MAX,
            Err(RecvTimeoutError::Timeout) => {
                log::warn!(
                    "{} is still used, or mounted in another mount namespace; no more changes are taken",
                    mount.point.display()
                );
                store.seal();
                return (SessionEnd::Unmounted, status);
            }
            Err(RecvTimeoutError::Disconnected) => {
                let e = io::Error::other("the session's thread is gone");
                return (SessionEnd::Failed(e), status);
            }
        }
    }
}

fn shell_status(exit: ExitStatus) -> u8 {
    let code = exit
        .code()
        .or_else(|| Some(128 + exit.signal()?))
        .unwrap_or(255);
    u8::try_from(code).unwrap_or(255)
}

/// Unmounts at every place in the directory tree. Where processes use it, it is only taken out of
/// the tree, after everything written was handed over, and no change is taken from then on.
/// Returns whether the latter was so: the session then need not end.
fn unmount_everywhere(mount: &Mount, store: &Store) -> bool {
    let table = mountinfo::table().unwrap_or_else(|_| vec![mount.clone()]);
    let places = table
        .iter()
        .filter(|place| place.device == mount.device)
        .rev();
    let mut sealed = false;
    for place in places {
        match mount::unmount(&place.point, Manner::Plain) {
            Ok(()) | Err(Refused::NotMounted) => continue,
            Err(Refused::Busy) => {
                for user in process::users(place) {
                    log::warn!("{} is in use: {user}", place.point.display());
                }
            }
            Err(Refused::Other(reason)) => {
                log::warn!("{} cannot be unmounted: {reason}", place.point.display());
            }
        }
        if let Err(e) = mount::flush(&place.point) {
            log::warn!("cannot flush {}: {e}", place.point.display());
        }
        store.seal();
        sealed = true;
        drop(Undo(Some(place)));
    }
    sealed
}
