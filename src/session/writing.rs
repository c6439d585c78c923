//! Committing what is staged: into the database, into a new file beside it or elsewhere, or, in a
//! dry run, nowhere.
//!
//! An etcd snapshot ends in a hash of all that is before it, so no order of writes in place would
//! leave a right one at every moment. Such a file is copied, the copy is committed to and gets its
//! hash, and then takes the place of the file, locked already. The mounted tree stays that of
//! the old file.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use super::commit::Outcome;
use super::damage;
use super::failure::{Failure, Result};
use super::goal::Goal;
use super::newfile::{NewFile, PutError};
use super::rehearsal::Rehearsal;
use super::store::{Stamp, Store, WRONG_HASH, Written};
use super::survey::Survey;
use crate::bolt::{
    CommitError, CommitOptions, Committed, DbFile, Disk, Error, Meta, check, trailer, writer,
};
use crate::fuse::said;
use crate::journal::is_lost;
use crate::overlay::Files;
use crate::vfs::Moment;

/// A new file with the edits that could not be committed.
pub struct Rescued {
    /// Where it is.
    pub path: PathBuf,
    /// The keys that do not have in it what was written to them, as that is lost.
    pub without: Vec<String>,
}

/// What is told where the survey failed for this reason, and the commit did not.
fn unsurveyed(why: &str) -> Vec<String> {
    vec![format!(
        "whether all was stored as it was written could not be seen ({why})"
    )]
}

/// Smallest file that bbolt opens, in bytes.
const MIN_FILE: u64 = 4096;

impl Store {
    /// Writes what is staged in one transaction. `None`: nothing was staged, and no file was
    /// touched.
    ///
    /// # Errors
    /// Why nothing was committed, and what is still safe.
    pub fn commit(&self) -> Result<Option<Outcome>> {
        if self.vfs.is_broken() {
            return Err(Failure::new(
                "boltfs failed in its own code while it answered a request, and what is pending may \
                 be half done; please report this",
                "Nothing was written.",
            ));
        }
        // Damage is told below.
        if self.vfs.settle().is_ok_and(|settled| settled) {
            return Ok(None);
        }
        // What only the report tells keeps nobody waiting: the writer runs beside it.
        let moment = self.vfs.moment();
        let survey = || self.survey(&moment);
        thread::scope(|scope| {
            let surveyor = thread::Builder::new().spawn_scoped(scope, survey);
            let outcome = self.write();
            let (notes, counted) = match surveyor {
                Ok(surveyor) => surveyor
                    .join()
                    .unwrap_or_else(|panic| (unsurveyed(said(&*panic)), None)),
                Err(_) => survey(),
            };
            let mut outcome = outcome?;
            outcome.notes.splice(..0, notes);
            if let Some(since) = counted {
                // The writer starts from the mounted tree each time.
                outcome.stats = writer::Stats {
                    pages_written: outcome.stats.pages_written,
                    pages_freed: outcome.stats.pages_freed,
                    bytes_written: outcome.stats.bytes_written,
                    ..since
                };
            }
            Ok(Some(outcome))
        })
    }

    fn write(&self) -> Result<Outcome> {
        let mut written = self.written.lock();
        if let Some(failure) = &written.unknown {
            return Err(failure.clone());
        }
        self.verify_undisturbed(&written)?;
        let mut notes = Vec::new();
        if let Goal::Database { backup: Some(file) } = &self.goal
            && !written.backed_up
        {
            self.back_up(file)?;
            written.backed_up = true;
            notes.push(format!(
                "the database as it was before is kept in {}",
                file.display()
            ));
        }
        let done = if self.goal == Goal::Nowhere {
            self.rehearse(&written)
        } else if self.writes_anew() {
            let replace = self.goal.writes_database() || written.file.is_some();
            self.write_anew(&written, self.target(), replace, None)
                .map(|(done, file)| {
                    written.file = Some(file);
                    done
                })
        } else {
            self.write_in_place(&written)
        };
        // Even a commit that failed has written.
        if let Ok(metadata) = written.file_or(&self.base).file().metadata() {
            written.stamp = Stamp::of(&metadata);
        }
        let done = done.map_err(|e| {
            let failure = self.not_committed(&e);
            if let CommitError::Unknown { txid, shows, .. } = e
                && shows.is_none_or(|shown| shown == txid)
            {
                // The journal ends here: whoever finds it must not take more for committed.
                self.vfs.seal();
                written.unknown = Some(failure.clone());
            }
            failure
        })?;
        let base = self.vfs.snapshot();
        let newer = base.newer().filter(|_| written.prior.is_none());
        if let Some(newer) = newer {
            notes.push(format!(
                "it starts from transaction {} (meta page {}), and gives up transaction {}, which was \
                 newer",
                base.meta().txid,
                base.slot(),
                newer.txid
            ));
        }
        // That of an older state is given up, right or wrong.
        if done.freelist_abandoned && base.newer().is_none() {
            notes.push(
                "the stored list of free pages was wrong and is left out; bbolt makes a new one \
                 when it opens the database"
                    .to_owned(),
            );
        }
        if self.writes_anew() && self.trailer() == Some(false) {
            notes.push(format!(
                "{WRONG_HASH}, and is left out: restore needs --skip-hash-check, and `boltfs check` \
                 or a comparison must show whether the values are right"
            ));
        }
        let dry = self.goal == Goal::Nowhere;
        let outcome = Outcome {
            txid: done.meta.txid,
            stats: done.stats,
            notes,
            dry,
        };
        if !dry {
            written.prior = Some(done);
        }
        Ok(outcome)
    }

    fn write_in_place(&self, written: &Written) -> Result<Committed, CommitError> {
        self.with_options(|options| {
            let note = |meta: &Meta| self.vfs.committing(meta);
            let options = CommitOptions {
                before_meta: Some(&note),
                ..*options
            };
            self.vfs.commit(&self.base, |disk, base, changes| {
                writer::commit(disk, base, written.prior.as_ref(), changes, &options)
            })
        })
    }

    /// The whole commit, but that nothing is written: what is staged stays staged.
    fn rehearse(&self, written: &Written) -> Result<Committed, CommitError> {
        let dry = Rehearsal::new(&self.base)
            .map_err(|e| CommitError::NotCommitted(Error::io("read the database", e)))?;
        self.with_options(|options| {
            self.vfs.copy(&dry, None, |disk, base, changes| {
                writer::commit(disk, base, written.prior.as_ref(), changes, options)
            })
        })
    }

    /// Commits to a copy of the last state, and puts it at `place` when it is whole. With `left_out`
    /// what is staged stays staged, and what the journal has lost of it is left out and noted there;
    /// otherwise it is committed then.
    fn write_anew(
        &self,
        written: &Written,
        place: &Path,
        replace: bool,
        left_out: Option<&Files>,
    ) -> Result<(Committed, DbFile), CommitError> {
        let source = written.file_or(&self.base).file();
        let shown = place.display();
        let cannot = |doing: &str| {
            let doing = doing.to_owned();
            move |e| CommitError::NotCommitted(Error::io(doing, e))
        };
        let making = format!("make a new file for {shown}");
        let new = NewFile::start(place).map_err(cannot(&making))?;
        new.fill(source).map_err(cannot(&making))?;
        let copy = new.file().try_clone().map_err(cannot(&making))?;
        let copy = DbFile::from_file(copy, place);
        // Nobody knows it yet: whoever opens it in its place waits for us.
        copy.try_lock().map_err(cannot("lock the new file"))?;
        let mounted = self.vfs.snapshot().file_len();
        if copy.size().map_err(cannot(&making))? < mounted {
            // The last commit has cut it to its pages; the mounted state takes more.
            copy.set_len(mounted).map_err(cannot(&making))?;
        }
        let put = |done: &Committed| -> Result<(), CommitError> {
            self.renew_trailer(&copy, &done.meta)
                .map_err(cannot("put the hash at the end of the new file"))?;
            new.look_like(source)
                .map_err(cannot("give the new file its owner and permissions"))?;
            new.put(replace).map_err(|e| {
                let doing = format!("put the new file in its place, {shown}");
                match e {
                    PutError::Not(e) => Error::io(doing, e).into(),
                    PutError::Unknown(e) => CommitError::Unknown {
                        why: Error::io(doing, e),
                        shows: Some(done.meta.txid),
                        txid: done.meta.txid,
                    },
                }
            })
        };
        let done = self.with_options(|options| {
            let note = |meta: &Meta| self.vfs.committing(meta);
            let options = CommitOptions {
                before_meta: if left_out.is_none() {
                    Some(&note)
                } else {
                    None
                },
                ..*options
            };
            let prior = written.prior.as_ref();
            if left_out.is_none() {
                self.vfs.commit(&copy, |disk, base, changes| {
                    let done = writer::commit(disk, base, prior, changes, &options)?;
                    put(&done).map(|()| done)
                })
            } else {
                self.vfs.copy(&copy, left_out, |disk, base, changes| {
                    let done = writer::commit(disk, base, prior, changes, &options)?;
                    put(&done).map(|()| done)
                })
            }
        })?;
        Ok((done, copy))
    }

    /// Ends a new file as etcd ends its snapshots, if the mounted one was such: the pages in use, and
    /// the hash of them. A hash that was wrong is not made a right one, but left out.
    fn renew_trailer(&self, copy: &DbFile, meta: &Meta) -> io::Result<()> {
        let Some(matched) = self.trailer() else {
            return Ok(());
        };
        let in_use = meta.bytes_in_use().ok_or(io::ErrorKind::FileTooLarge)?;
        let len = in_use.max(MIN_FILE);
        copy.set_len(len)?;
        if matched {
            let hash = trailer::of(&copy.map()?);
            copy.write_all_at(&hash, len)?;
        }
        Ok(())
    }

    /// Copies the database as it is before anything is written.
    fn back_up(&self, place: &Path) -> Result<()> {
        let cannot = |e: io::Error| {
            let what = format!("the backup {} cannot be made: {e}", place.display());
            let next = match e.kind() {
                io::ErrorKind::AlreadyExists => "It is never replaced: move it away.",
                _ => room_for(&e).unwrap_or("Nothing was committed."),
            };
            Failure::new(what, next)
        };
        let new = NewFile::start(place).map_err(cannot)?;
        new.fill(self.base.file()).map_err(cannot)?;
        new.look_like(self.base.file()).map_err(cannot)?;
        new.put(false).map_err(|e| match e {
            PutError::Not(e) | PutError::Unknown(e) => cannot(e),
        })
    }

    /// Hands `commit` what is known about the pages of the database.
    fn with_options<T>(&self, commit: impl FnOnce(&CommitOptions<'_>) -> T) -> T {
        // However large the file is: without a walk over all of it, nobody knows whether a page that is
        // replaced is reached in another way too, and holds what is read there.
        commit(&CommitOptions::proven_by(self.check()))
    }

    /// What is to be known about the mounted state, and tells the damage that is among it.
    pub(super) fn check(&self) -> &check::Report {
        let base = self.vfs.snapshot();
        let proof = self
            .proof
            .get_or_init(|| check::check(base, check::Options::default(), &mut |_| ()));
        damage::tell(&self.vfs, self.path(), proof);
        proof
    }

    /// Puts the database with the edits into a new file, as they could not be put where they
    /// belong: beside it, or else where temporary files go. Only at the end of a mount.
    pub fn rescue(&self) -> Option<Rescued> {
        let target = self.target();
        let mut name = target.file_name()?.to_owned();
        name.push(format!(".rescued-{}", std::process::id()));
        let written = self.written.lock();
        let places = [target.parent()?.to_owned(), std::env::temp_dir()];
        places.into_iter().find_map(|place| {
            let path = place.join(&name);
            let left_out = Files::default();
            match self.write_anew(&written, &path, false, Some(&left_out)) {
                Ok((done, _)) => {
                    let without = self.vfs.paths(&left_out.all());
                    // Whoever puts it in the database's place is not asked about a journal of edits
                    // that it has. Beside any other file they are as they were.
                    if without.is_empty()
                        && let Err(e) = self.vfs.committing(&done.meta)
                    {
                        log::warn!("cannot note in the journal that its edits are rescued: {e}");
                    }
                    Some(Rescued { path, without })
                }
                Err(e) => {
                    let e = self.not_committed(&e);
                    log::warn!("cannot put the edits into {}: {e}", path.display());
                    None
                }
            }
        })
    }

    /// What the person should look at, of what is staged; and how much was changed since the last commit
    /// of this mount, if it is not the first.
    fn survey(&self, moment: &Moment) -> (Vec<String>, Option<writer::Stats>) {
        let mut survey = Survey::default();
        let counted = self
            .vfs
            .survey_at(moment, &mut |change| survey.add(&change));
        let mut notes = survey.notes();
        let counted = counted.unwrap_or_else(|e| {
            notes.extend(unsurveyed(&e.to_string()));
            None
        });
        (notes, counted)
    }

    /// The file is where it was, and nobody but us has written to it.
    ///
    /// The file's time decides. A program that follows bbolt's order changes a meta as well, which
    /// the writer sees; one that writes into the middle of the file does not, and nothing but the time
    /// tells. So `touch` keeps a commit from being made, too: it cannot be told from that. It costs
    /// no edit, as the journal fits a database whose metas are the same.
    fn verify_undisturbed(&self, written: &Written) -> Result<()> {
        let file = written.file_or(&self.base);
        let gone = |e: io::Error| {
            let what = format!("{} cannot be found any more: {e}", file.path().display());
            Failure::new(what, "Nothing was written.")
        };
        let must_stay = self.goal.writes_database() || written.file.is_some();
        if must_stay && !file.is_in_place().map_err(gone)? {
            return Err(replaced(file.path()));
        }
        let was = written.stamp;
        let is = Stamp::of(&file.file().metadata().map_err(gone)?);
        let cut = match written.file {
            None => self.vfs.snapshot().map().cut(),
            Some(_) => None,
        };
        let cut = cut.unwrap_or(is.len);
        let what = match cut.min(is.len) {
            len if len < was.len => format!("it had {} bytes and was cut to {len}", was.len),
            _ if is != was => {
                "it was changed after the last time that we wrote or read, or its time was"
                    .to_owned()
            }
            _ => return Ok(()),
        };
        Err(self.not_committed(&CommitError::Changed { what }))
    }

    /// The bucket that page `pgid` is damaged in, for the start of a message.
    fn place_of(&self, pgid: u64) -> String {
        let mut found = self.check().findings.iter();
        match found.find(|found| found.pgid == Some(pgid)) {
            Some(found) => format!("{}: ", found.place),
            None => String::new(),
        }
    }

    fn not_committed(&self, e: &CommitError) -> Failure {
        let shown = self.path().display();
        let target = self.target().display();
        match e {
            CommitError::NotCommitted(why) => {
                let (place, next) = match why {
                    Error::Io { source, .. } if is_lost(source) => (String::new(), WRITE_AGAIN),
                    Error::Io { source, .. } => {
                        (String::new(), room_for(source).unwrap_or_default())
                    }
                    Error::Page { pgid, .. } => (self.place_of(*pgid), AVOID_DAMAGE),
                    _ => (String::new(), ""),
                };
                Failure::new(format!("{place}{why}. {shown} is as it was"), next)
            }
            CommitError::Changed { what } => Failure::new(
                format!(
                    "another program wrote to {target} while it was mounted, without taking the \
                     lock ({what})"
                ),
                format!(
                    "Nothing was written to it. See what it holds now: boltfs check {target} (your \
                     edits fit the database as it was mounted, transaction {}).",
                    self.vfs.snapshot().meta().txid
                ),
            ),
            CommitError::Unknown { why, .. } => {
                let room = match why {
                    Error::Io { source, .. } => room_for(source),
                    _ => None,
                };
                let first = room.unwrap_or("Its disk fails: copy the file to another one.");
                Failure::new(
                    format!("{target}: {e}"),
                    format!("{first} See what it holds now: `boltfs check {target}`."),
                )
            }
        }
    }
}

/// What to do where an edit cannot be written beside damage. `cp -r BUCKET` would copy nothing of one
/// that cannot be listed in full.
const AVOID_DAMAGE: &str = "That bucket is damaged, and it or one in it was edited: copy what it \
                            shows to a new bucket (cp -r BUCKET/* NEW/) and remove it (rm -r, then \
                            rmdir), or take back what was edited in it (see .boltfs/base), and \
                            commit again.";

/// What to do where the journal has lost what was written.
const WRITE_AGAIN: &str = "Write that key again, or take its old value back (see .boltfs/base), and \
                           commit again.";

fn replaced(path: &Path) -> Failure {
    let shown = path.display();
    let what = match path.symlink_metadata() {
        Ok(_) => format!("another file was put in the place of {shown} while it was mounted"),
        Err(_) => format!("{shown} was moved or deleted while it was mounted"),
    };
    Failure::new(what, "Nothing was written to it.")
}

/// What to do about a file that could not grow.
fn room_for(e: &io::Error) -> Option<&'static str> {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some("Make room on its disk."),
        io::ErrorKind::FileTooLarge => Some("Mount it again with a higher limit (ulimit -f)."),
        _ => None,
    }
}
