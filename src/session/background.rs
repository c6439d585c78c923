//! Into the background without fork(2), which a process with threads must not do: the command
//! starts itself once more as the process that serves, waits until that one says that the mount
//! is live, and ends.
//!
//! The serving process's standard output is the pipe it says so on. Its standard error is the
//! terminal's until the mount is live, so errors before that point need no other way.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};

use super::failure::{Failure, Result};

/// The hidden first argument of the process that serves.
pub const SERVING: &str = "--serving";

const LIVE: &[u8] = b"live\n";

/// Starts the serving process with these arguments, and returns when its mount is live.
///
/// # Errors
/// [`NotLive::Told`] with the exit status when it ended before that point and has said why itself.
pub fn start(args: &[OsString]) -> Result<(), NotLive> {
    let cannot = |e: io::Error| {
        NotLive::Failed(Failure::new(
            format!("cannot start the process that serves the mount: {e}"),
            "Run it in the foreground: boltfs -f DB MOUNTPOINT",
        ))
    };
    let (mut status, theirs) = io::pipe().map_err(cannot)?;
    // Through /proc it is the running binary even if the file was replaced meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("boltfs")
        .arg(SERVING)
        .args(args)
        .stdin(Stdio::null())
        .stdout(theirs);
    let mut child = command.spawn().map_err(cannot)?;
    drop(command);
    let mut said = Vec::new();
    let mut buffer = [0u8; 16];
    while said != LIVE {
        match status.read(&mut buffer) {
            Ok(0) => return Err(not_live(child.wait().map_err(cannot)?)),
            Ok(n) => said.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(cannot(e)),
        }
    }
    Ok(())
}

/// Why the serving process has no live mount.
#[derive(Debug)]
pub enum NotLive {
    /// It ended with this exit status, and has told the person why.
    Told(u8),
    /// Nobody has told the person yet.
    Failed(Failure),
}

fn not_live(status: ExitStatus) -> NotLive {
    match status.code() {
        // It never ends well without a live mount.
        Some(code) => NotLive::Told(
            u8::try_from(code)
                .ok()
                .filter(|&code| code != 0)
                .unwrap_or(1),
        ),
        None => NotLive::Failed(Failure::new(
            format!(
                "the process that was to serve the mount was killed by signal {}",
                status.signal().unwrap_or_default()
            ),
            "Nothing is mounted. Try it in the foreground for more: boltfs -f -v DB MOUNTPOINT",
        )),
    }
}

/// To be called first thing in the serving process, before it opens anything: leaves behind what
/// the shell that started it had open (a script's lock file, say).
pub fn leave_callers_files() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let numbers: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&number| number > 2)
        .collect();
    for number in numbers {
        // One of them was the listing itself, closed by now.
        let _ = nix::unistd::close(number);
    }
    // Through /proc/self/exe the kernel named us "exe".
    let _ = nix::sys::prctl::set_name(c"boltfs");
}

/// The serving process leaves the terminal's session and directory and says that the mount is live.
///
/// From here on standard error stays only if it is a terminal: a pipe would keep
/// `out=$(boltfs db mnt 2>&1)` waiting until the mount's end.
///
/// # Errors
/// When nobody waits for it any more: whoever started it was interrupted, and the mount is to go.
pub fn is_live() -> io::Result<()> {
    // Fails only for a process that leads a group already, which is then away from the terminal.
    let _ = nix::unistd::setsid();
    std::env::set_current_dir("/")?;
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    io::stdout().write_all(LIVE)?;
    io::stdout().flush()?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    if !io::stderr().is_terminal() {
        nix::unistd::dup2_stderr(&null)?;
    }
    Ok(())
}
