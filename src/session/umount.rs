//! `boltfs umount MNT`: unmounts, waits until the edits are committed, and says what became of
//! them.

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::commit::Report;
use super::control::Ends;
use super::failure::{Failure, Result};
use super::mount::{self, Manner, Refused};
use super::mountinfo::{self, Mount};
use super::mountpoint::{no_table, unmount_command};
use super::{patience, process, reach};

/// How to unmount, and what becomes of the edits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unmount {
    /// Drop the edits.
    pub discard: bool,
    /// If it is in use, take it out of the directory tree all the same: its end, and the commit,
    /// then come when nothing uses it any more (`umount -l`).
    pub lazy: bool,
    /// If the process that serves it does not answer, cut it off from the kernel (`umount -f`).
    pub force: bool,
}

/// How long a process that serves a mount may take to answer before force is used.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a mount may be found busy without a user before that is believed, and how long to wait
/// each time.
const PASSERS_BY: u32 = 10;
const A_MOMENT: Duration = Duration::from_millis(20);

/// Unmounts what is mounted at `given` and returns the report of the process that served it.
///
/// # Errors
/// When nothing of ours is mounted there, when it is in use (it stays as it was), and when the
/// serving process ended without a report.
pub fn umount(given: &Path, how: Unmount) -> Result<Report> {
    let mount = reach::mount_at(given, "umount")?;
    // Standing in it ourselves would keep it busy.
    std::env::set_current_dir("/")
        .map_err(|e| Failure::new(format!("cannot change to /: {e}"), ""))?;
    let otherwise = || {
        format!(
            "Unmount with `{}`, which commits as well; the commit is done when `flock {} true` \
             returns.",
            unmount_command(&mount.point),
            mountinfo::shown(&mount.source)
        )
    };
    let mut client = reach::connect(&mount, otherwise, remove_dead)?;
    let patience = how.force.then_some(ANSWER_TIMEOUT);
    match client.wait(how.discard, patience) {
        Err(e) if how.force && e.kind() == io::ErrorKind::WouldBlock => {
            return Err(cut_off(&mount));
        }
        Err(e) => return Err(reach::ended(&mount).unwrap_or_else(|| broke_off(&mount, &e))),
        Ok(Ends::WithCommand(pid)) => return Err(of_command(&mount, pid)),
        Ok(Ends::Unmounted) => {}
    }
    match client.turn(patience) {
        // Whoever has the turn does not come to an end either.
        Err(e) if how.force && e.kind() == io::ErrorKind::WouldBlock => {}
        Err(e) => return Err(broke_off(&mount, &e)),
        Ok(Some(report)) => return Ok(report),
        Ok(None) => {}
    }
    refuse_if_elsewhere(&mount)?;
    client
        .share_with_children()
        .map_err(|e| broke_off(&mount, &e))?;
    match unmount_plainly(&mount) {
        // Not mounted: somebody was quicker, and the report is under way.
        Ok(()) | Err(Refused::NotMounted) => {}
        Err(Refused::Busy) if how.lazy && !how.discard => return detach(&mount),
        Err(Refused::Busy) => return Err(busy(&mount)),
        Err(Refused::Other(reason)) => {
            return Err(Failure::new(
                format!("cannot unmount {}: {reason}", mount.point.display()),
                "It stays mounted, and what is staged stays staged.",
            ));
        }
    }
    client.unmounted();
    let report = match how.discard {
        // No commit is waited for.
        true => client.report(),
        false => patience::committing(&mount.source, || client.report()),
    };
    report.map_err(|e| broke_off(&mount, &e))
}

/// Unmounts if nothing uses it. Who only looks at the mount point, as `ls` of the directory around
/// it does, uses it for a moment too, and is gone by the time that users are looked for.
fn unmount_plainly(mount: &Mount) -> Result<(), Refused> {
    for _ in 0..PASSERS_BY {
        match mount::unmount(&mount.point, Manner::Plain) {
            Err(Refused::Busy) if process::users(mount).is_empty() => thread::sleep(A_MOMENT),
            other => return other,
        }
    }
    mount::unmount(&mount.point, Manner::Plain)
}

/// To wait for the end of a command in that command would be to wait for ever.
fn of_command(mount: &Mount, pid: Option<u64>) -> Failure {
    let point = mountinfo::shown(&mount.point);
    let pid = pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
    Failure::new(
        format!("{point} belongs to a running command{pid} and ends with it"),
        format!(
            "To commit now: echo commit > {point}/.boltfs/control; to drop the edits: let the \
             command exit with a status other than 0."
        ),
    )
}

/// The same file system mounted at two places (mount --bind) ends only with the last of them.
fn refuse_if_elsewhere(mount: &Mount) -> Result<()> {
    let table = mountinfo::table().map_err(|e| no_table(&e))?;
    match table
        .iter()
        .find(|other| other.device == mount.device && other.id != mount.id)
    {
        None => Ok(()),
        Some(other) => Err(Failure::new(
            format!(
                "{} is mounted on {} as well",
                mountinfo::shown(&mount.source),
                mountinfo::shown(&other.point)
            ),
            format!(
                "Unmount that first: umount {}",
                mountinfo::shown(&other.point)
            ),
        )),
    }
}

fn busy(mount: &Mount) -> Failure {
    Failure::new(
        format!("{} is in use: {}", mount.point.display(), users(mount)),
        "Leave it or end that, and try again. It is still mounted, and nothing is lost.",
    )
}

fn users(mount: &Mount) -> String {
    let users: Vec<_> = process::users(mount)
        .iter()
        .map(ToString::to_string)
        .collect();
    if users.is_empty() {
        "by a process that cannot be seen from here".to_owned()
    } else {
        users.join(", ")
    }
}

/// Takes a mount that is in use out of the directory tree.
fn detach(mount: &Mount) -> Result<Report> {
    let (point, users) = (mount.point.display(), users(mount));
    match mount::unmount(&mount.point, Manner::Lazy) {
        Ok(()) | Err(Refused::NotMounted) => Ok(Report {
            failed: false,
            message: format!(
                "{point} was taken out of the directory tree, and is still in use: {users}. The \
                 edits are committed when that has ended; `flock {} true` waits for it",
                mountinfo::shown(&mount.source)
            ),
        }),
        Err(refused) => Err(Failure::new(
            format!("cannot unmount {point}: {refused}"),
            "It stays mounted, and what is staged stays staged.",
        )),
    }
}

/// Ends a mount whose process hangs: what waits for an answer from it gets an error.
fn cut_off(mount: &Mount) -> Failure {
    let (point, source) = (mount.point.display(), mountinfo::shown(&mount.source));
    let what = format!("the process that serves {point} does not answer");
    match mount::unmount(&mount.point, Manner::Force) {
        Ok(()) | Err(Refused::NotMounted) => Failure::new(
            format!("{what}, and was cut off"),
            format!(
                "It commits the edits if it comes back to life; if it is killed, mounting {source} \
                 again finds them in its journal."
            ),
        ),
        Err(refused) => Failure::new(
            format!("{what}, and {point} cannot be unmounted: {refused}"),
            "It stays mounted.",
        ),
    }
}

/// Takes away a mount whose process is gone.
fn remove_dead(mount: &Mount) -> Failure {
    let (what, next) = reach::dead(mount);
    match mount::unmount(&mount.point, Manner::Lazy) {
        Ok(()) => Failure::new(what, format!("The dead mount was removed. {next}")),
        Err(_) => Failure::new(
            what,
            format!(
                "Remove the dead mount: {}. {next}",
                unmount_command(&mount.point)
            ),
        ),
    }
}

fn broke_off(mount: &Mount, e: &io::Error) -> Failure {
    let source = mountinfo::shown(&mount.source);
    let what = match e.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => format!(
            "the process that serves {source} ended without saying whether the edits were committed"
        ),
        _ => format!("the conversation with the process that serves {source} broke off: {e}"),
    };
    Failure::new(
        what,
        format!(
            "The database holds all of the edits or none of them: look with `boltfs -r {source} \
             MOUNTPOINT` before you go on."
        ),
    )
}
