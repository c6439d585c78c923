//! Where the edits of a mount go: into the database, into a copy, or nowhere.

use std::path::{Display, Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::failure::{Failure, Result};
use super::{output, recovery};

/// Where a commit writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// Into the database.
    Database {
        /// A copy of it from before the first commit is kept here.
        backup: Option<PathBuf>,
    },
    /// Into a copy of it, made here by the first commit; the database stays as it is.
    Output(PathBuf),
    /// Nowhere: it is only told what would be done.
    Nowhere,
}

impl Goal {
    /// Whether the database itself is written to.
    pub fn writes_database(&self) -> bool {
        matches!(self, Goal::Database { .. })
    }

    /// With files by absolute paths without links.
    ///
    /// # Errors
    /// When a file cannot be made there: it is there already, lies in the mount itself, or its
    /// directory cannot be written to.
    pub fn resolve(&self, database: &Path, point: &Path) -> Result<Goal> {
        let resolve = |given: &PathBuf, what| place(given, what, database, point);
        Ok(match self {
            Goal::Database { backup: None } | Goal::Nowhere => self.clone(),
            Goal::Database { backup: Some(file) } => Goal::Database {
                backup: Some(resolve(file, "backup")?),
            },
            Goal::Output(file) => Goal::Output(resolve(file, OUTPUT)?),
        })
    }
}

/// The word for the file of `--output`.
const OUTPUT: &str = "output";

/// What to do about an output file that exists, where a journal beside it waits.
fn waiting(path: &Path, shown: &Display<'_>, database: &Path) -> Option<String> {
    let journal = recovery::path_of(path);
    journal.symlink_metadata().ok()?;
    let holds = format!("{} holds edits of an earlier mount.", journal.display());
    if output::starts_from(&journal, path) {
        // That mount had made the file by a commit.
        return Some(format!(
            "{holds} They belong to {shown} as it is: boltfs --recover {shown} MOUNTPOINT"
        ));
    }
    output::starts_from(&journal, database).then(|| {
        format!(
            "{holds} Move {shown} away first, then mount again with --output {shown} --recover."
        )
    })
}

fn place(given: &Path, what: &str, database: &Path, point: &Path) -> Result<PathBuf> {
    let shown = given.display();
    let absolute = std::path::absolute(given)
        .map_err(|e| Failure::new(format!("the {what} file {shown}: {e}"), "Give a file."))?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        let what = format!("the {what} file {shown} is no file name");
        return Err(Failure::new(what, "Give a file."));
    };
    let parent = parent.canonicalize().map_err(|e| {
        let what = format!(
            "the {what} file {shown} cannot be made in {}: {e}",
            parent.display()
        );
        Failure::new(what, "Give a file in a directory that exists.")
    })?;
    let path = parent.join(name);
    if path.starts_with(point) {
        return Err(Failure::new(
            format!("the {what} file {shown} would lie in the mount itself"),
            "Give a file elsewhere.",
        ));
    }
    if path.symlink_metadata().is_ok() || path == recovery::path_of(database) {
        let next = match what {
            OUTPUT => waiting(&path, &shown, database),
            _ => None,
        };
        return Err(Failure::new(
            format!("the {what} file {shown} exists already, and is never replaced"),
            next.unwrap_or("Move it away, or give another name.".to_owned()),
        ));
    }
    access(&parent, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|e| {
        Failure::new(
            format!(
                "the {what} file {shown} cannot be made in {}: {}",
                parent.display(),
                e.desc()
            ),
            "Give a file in a directory that you can write to.",
        )
    })?;
    Ok(path)
}
