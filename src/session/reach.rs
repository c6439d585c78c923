//! From a mount point that a person gives to the process that serves it.

use std::path::Path;

use super::control::{Client, Unreachable};
use super::failure::{Failure, Result};
use super::mountinfo::{self, Mount};
use super::mountpoint::{is_dead, no_table};
use super::{output, recovery};

/// The mount of ours at `given`, for the command `boltfs COMMAND`.
///
/// # Errors
/// When there is none.
pub fn mount_at(given: &Path, command: &str) -> Result<Mount> {
    let shown = given.display();
    let point = mountinfo::resolve(given).map_err(|e| {
        Failure::new(
            format!("{shown}: {e}"),
            "Give the directory it is mounted on.",
        )
    })?;
    let table = mountinfo::table().map_err(|e| no_table(&e))?;
    let there = table.iter().rfind(|mount| mount.point == point);
    match there {
        Some(mount) if mount.is_ours() => Ok(mount.clone()),
        Some(mount) => Err(Failure::new(
            format!(
                "what is mounted on {shown} is not boltfs's (type {})",
                mount.fstype
            ),
            match command {
                "umount" => format!("Unmount it with: umount {}", point.display()),
                _ => "Give the directory that a database is mounted on.".to_owned(),
            },
        )),
        None => Err(not_mounted(given, command, &point, &table)),
    }
}

fn not_mounted(given: &Path, command: &str, point: &Path, table: &[Mount]) -> Failure {
    let what = format!("nothing is mounted on {}", given.display());
    // The database was given, or a directory inside the mount.
    let meant = table
        .iter()
        .rfind(|m| m.is_ours() && (m.source == point || point.starts_with(&m.point)));
    if let Some(mount) = meant {
        let (source, point) = (
            mountinfo::shown(&mount.source),
            mountinfo::shown(&mount.point),
        );
        return Failure::new(
            what,
            format!("{source} is mounted on {point}: boltfs {command} {point}"),
        );
    }
    let ours: Vec<_> = table
        .iter()
        .filter(|mount| mount.is_ours())
        .map(|mount| mountinfo::shown(&mount.point))
        .collect();
    let next = if ours.is_empty() {
        "No database is mounted by boltfs at the moment.".to_owned()
    } else {
        format!("Mounted by boltfs: {}", ours.join(", "))
    };
    Failure::new(what, next)
}

/// What to say about a mount whose process has died, and what to do then.
pub fn dead(mount: &Mount) -> (String, String) {
    let (point, source) = (mount.point.display(), mountinfo::shown(&mount.source));
    let what =
        format!("the process that served {point} has died; {source} is as its last commit left it");
    let journal = recovery::path_of(&mount.source);
    let near = [mount.source.parent(), mount.point.parent()];
    let near: Vec<&Path> = near.into_iter().flatten().collect();
    let next = if journal.exists() {
        format!(
            "What was edited since then is in {}: mount {source} again with --recover.",
            mountinfo::shown(&journal)
        )
    } else if let Some(output) = output::left_behind(&mount.source, &near) {
        format!(
            "What was edited is in {}: mount {source} again with --output {} --recover.",
            mountinfo::shown(&recovery::path_of(&output)),
            mountinfo::shown(&output)
        )
    } else {
        format!(
            "Mount it again. (Of a mount with --output FILE, what was edited is in FILE{}.)",
            recovery::SUFFIX
        )
    };
    (what, next)
}

/// What to say to who comes when somebody else has just unmounted, and the report is given.
pub fn ended(mount: &Mount) -> Option<Failure> {
    let is_it = |other: &Mount| (other.id, other.device) == (mount.id, mount.device);
    let gone = mountinfo::table().is_ok_and(|table| !table.iter().any(is_it));
    gone.then(|| {
        let what = format!(
            "nothing is mounted on {} any more: somebody else has just unmounted it",
            mount.point.display()
        );
        Failure::new(what, "What became of the edits was told there.")
    })
}

/// Says that the process has died, and what to do then.
pub fn say_dead(mount: &Mount) -> Failure {
    let (what, next) = dead(mount);
    let point = mount.point.display();
    Failure::new(what, format!("Remove it: boltfs umount {point}. {next}"))
}

/// Connects to the process that serves `mount`. `otherwise` is what to do where it cannot be
/// asked, `if_dead` what becomes of a mount whose process has died.
///
/// # Errors
/// When it is another user's, does not answer, is not believed, or has died.
pub fn connect(
    mount: &Mount,
    otherwise: impl FnOnce() -> String,
    if_dead: impl FnOnce(&Mount) -> Failure,
) -> Result<Client> {
    let point = mount.point.display();
    let me = nix::unistd::geteuid().as_raw();
    if let Some(user) = mount.user_id().filter(|&user| me != 0 && me != user) {
        return Err(Failure::new(
            format!(
                "{point} was mounted by user {user}, and answers to that user and to root alone"
            ),
            "Nothing was done.",
        ));
    }
    Client::connect(mount).map_err(|e| match e {
        Unreachable::Nobody if is_dead(&mount.point) => if_dead(mount),
        Unreachable::Nobody => ended(mount).unwrap_or_else(|| {
            let what = format!("the process that serves {point} does not answer");
            Failure::new(what, otherwise())
        }),
        Unreachable::Impostor { user } => Failure::new(
            format!("a process of user {user} answers for {point}, which is not that user's"),
            format!("Not believed. {}", otherwise()),
        ),
        Unreachable::Io(e) => Failure::new(
            format!("cannot ask the process that serves {point}: {e}"),
            otherwise(),
        ),
    })
}
