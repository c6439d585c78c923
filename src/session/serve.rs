//! One mount from beginning to end.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use fuser::{Filesystem, Notifier, SessionACL};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::fuse::Fuse;

use super::commands::Commands;
use super::commit::{self, Report, Store};
use super::control::{Respond, Server};
use super::failure::{Failure, Result};
use super::mount::{self, Allow, Manner, Plan, Refused};
use super::mountinfo::{self, Mount};
use super::store::Database;
use super::{background, database, mountpoint, process, signals};

/// Threads that answer the kernel.
const EVENT_LOOPS: usize = 2;

/// How long the kernel may take to end the session after an unmount. It takes longer only when
/// another mount namespace still has the mount.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// What `boltfs [OPTIONS] DB MOUNTPOINT` asks for.
#[derive(Debug, Clone)]
pub struct MountRequest {
    /// The database, as given.
    pub database: PathBuf,
    /// The mount point, as given.
    pub point: PathBuf,
    /// Make the database first; refused if it exists.
    pub create: bool,
    /// Take a shared lock, and let nothing be changed.
    pub read_only: bool,
    /// Let nothing be executed.
    pub no_exec: bool,
    /// Who may use the mount.
    pub allow: Allow,
    /// Show and store values as they are.
    pub raw: bool,
    /// How long to wait for the database's lock.
    pub wait: Duration,
    /// Whether this is the process that serves in the background.
    pub in_background: bool,
}

/// What happens to a mount.
enum Event {
    /// The kernel has ended the session.
    Ended(SessionEnd),
    /// Somebody wants it to end.
    Signal(Signal),
    /// `boltfs umount` has unmounted; the kernel is about to end the session.
    Unmounted,
}

enum SessionEnd {
    Unmounted,
    Failed(io::Error),
}

/// A file system ready to be mounted.
pub(super) struct Served<F> {
    pub filesystem: F,
    pub store: Arc<dyn Store>,
    /// Given the way to tell the kernel that something changed.
    pub on_live: Box<dyn FnOnce(Notifier)>,
}

/// Takes a mount away again when it cannot go live.
struct Undo<'a>(Option<&'a Mount>);

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

/// Serves until the mount's end, commits, and reports.
pub(super) fn serve<F: Filesystem>(
    request: &MountRequest,
    plan: &Plan,
    served: Served<F>,
) -> Result<Report> {
    let cannot = |what: &str, e: io::Error| {
        Failure::new(
            format!("{what}: {e}"),
            "It was unmounted again; the database is unchanged.",
        )
    };
    let blocked = signals::block().map_err(|e| cannot("cannot block signals", e.into()))?;
    let (device, mount) = mount::mount(plan)?;
    let mut undo = Undo(Some(&mount));

    let Served {
        filesystem,
        store,
        on_live,
    } = served;
    let acl = match plan.allow {
        Allow::Owner => SessionACL::Owner,
        Allow::Root => SessionACL::RootAndOwner,
        Allow::Other => SessionACL::All,
    };
    let mut config = fuser::Config::default();
    config.acl = acl;
    config.n_threads = Some(EVENT_LOOPS);
    config.clone_fd = mount::device_opens();
    let session = fuser::Session::from_fd(filesystem, device, acl, config)
        .map_err(|e| cannot("the kernel's FUSE does not talk to us", e))?;
    on_live(session.notifier());

    let (events, happened) = mpsc::channel();
    let ended = events.clone();
    thread::Builder::new()
        .name("session".to_owned())
        .spawn(move || {
            let end = match session.run() {
                Ok(()) => SessionEnd::Unmounted,
                Err(e) => SessionEnd::Failed(e),
            };
            let _ = ended.send(Event::Ended(end));
        })
        .map_err(|e| cannot("cannot start a thread", e))?;
    let server = listen(&mount, &plan.source, &events);
    blocked
        .wait_each(move |signal| {
            let _ = events.send(Event::Signal(signal));
        })
        .map_err(|e| cannot("cannot start a thread", e))?;

    if request.in_background {
        background::is_live().map_err(|e| cannot("whoever started this is gone", e))?;
    } else if io::stderr().is_terminal() {
        say(&format!(
            "{} is mounted on {}; Ctrl-C unmounts and commits",
            plan.source.display(),
            plan.point.display()
        ));
    }
    undo.0 = None;

    let end = until_end(&happened, &mount, &*store);
    Ok(conclude(end, server, &*store, plan, request.in_background))
}

fn listen(mount: &Mount, database: &Path, events: &Sender<Event>) -> Option<Server> {
    let answers = Answers {
        database: database.to_owned(),
        events: events.clone(),
    };
    match Server::start(mount.device, Box::new(answers)) {
        Ok(server) => Some(server),
        Err(e) => {
            log::warn!(
                "`boltfs umount` will not work for {} ({e}); `{}` commits as well",
                mount.point.display(),
                mountpoint::unmount_command(&mount.point)
            );
            None
        }
    }
}

struct Answers {
    database: PathBuf,
    events: Sender<Event>,
}

impl Respond for Answers {
    fn serving(&self) -> Value {
        json!({
            "database": mountinfo::shown(&self.database),
            "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
        })
    }

    fn unmounted(&self) {
        let _ = self.events.send(Event::Unmounted);
    }
}

/// Waits until nothing can be changed through the mount any more.
fn until_end(happened: &Receiver<Event>, mount: &Mount, store: &dyn Store) -> SessionEnd {
    let mut timeout = Duration::MAX;
    loop {
        match happened.recv_timeout(timeout) {
            Ok(Event::Ended(end)) => return end,
            Ok(Event::Unmounted) => timeout = END_TIMEOUT,
            Ok(Event::Signal(signal)) => {
                log::info!("{signal}: unmounting {}", mount.point.display());
                if unmount_everywhere(mount, store) {
                    return SessionEnd::Unmounted;
                }
                timeout = END_TIMEOUT;
            }
            Err(RecvTimeoutError::Timeout) => {
                log::warn!(
                    "{} is still mounted in another namespace; no more changes are taken",
                    mount.point.display()
                );
                store.seal();
                return SessionEnd::Unmounted;
            }
            Err(RecvTimeoutError::Disconnected) => {
                return SessionEnd::Failed(io::Error::other("the session's thread is gone"));
            }
        }
    }
}

/// Unmounts at every place in the directory tree. Where processes use it, it is only taken out of
/// the tree, after everything written was handed over, and no change is taken from then on.
/// Returns whether the latter was so: the session then need not end.
fn unmount_everywhere(mount: &Mount, store: &dyn Store) -> bool {
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

/// Commits and tells whoever waits.
fn conclude(
    end: SessionEnd,
    server: Option<Server>,
    store: &dyn Store,
    plan: &Plan,
    in_background: bool,
) -> Report {
    if let SessionEnd::Failed(e) = &end {
        log::error!("the conversation with the kernel ended early: {e}");
        store.seal();
        drop(Undo(
            mountinfo::at(&plan.point)
                .ok()
                .flatten()
                .filter(Mount::is_ours)
                .as_ref(),
        ));
    }
    let waiters = server.map(Server::end);
    let discard = waiters
        .as_ref()
        .is_some_and(|waiters| waiters.want_discard());
    let report = commit::finish(store, &plan.source, discard);
    let heard = waiters.is_some_and(|waiters| waiters.tell(&report));
    if !(heard && in_background) {
        say(&report.message);
    }
    report
}

/// Says something on standard error, which may be a terminal that has been closed.
fn say(message: &str) {
    let _ = writeln!(io::stderr(), "boltfs: {message}");
}

/// Mounts a database and serves it to its end.
///
/// # Errors
/// Why nothing was mounted.
pub fn run(request: &MountRequest) -> Result<Report> {
    if request.create {
        database::create(&request.database)?;
    }
    let result = mount_and_serve(request);
    if request.create && result.is_err() {
        // It never went live, and nobody has put anything in it.
        let _ = std::fs::remove_file(&request.database);
    }
    result
}

fn mount_and_serve(request: &MountRequest) -> Result<Report> {
    let source = database::find(&request.database)?;
    let point = mountpoint::check(&request.point, &source)?;
    let (file, snapshot) = database::open(&source, !request.read_only, request.wait)?;
    if !request.read_only {
        database::warn_if_in_data_directory(&source);
    }
    let plan = Plan {
        source,
        point,
        read_only: request.read_only,
        no_exec: request.no_exec,
        allow: request.allow,
    };
    let database = Arc::new(Database::new(request, file, snapshot)?);
    let (store, shown) = (database.clone(), plan.source.clone());
    let commit = Box::new(move || commit::committed(&*store, &shown));
    let commands = Arc::new(Commands::new(database.vfs(), commit));
    let live = commands.clone();
    let served = Served {
        filesystem: Fuse::new(database.vfs(), commands),
        store: database,
        on_live: Box::new(move |kernel| live.live(kernel)),
    };
    serve(request, &plan, served)
}
