//! One mount from beginning to end.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use fuser::SessionACL;

use crate::bolt::OpenOptions;
use crate::fuse::{BusyPoll, Fuse, Guarded};

use super::answers::Answers;
use super::commands::Commands;
use super::commit::{self, End, Report};
use super::control::{self, Server};
use super::failure::{Failure, Result};
use super::goal::Goal;
use super::logging::{self, say};
use super::mount::{self, Allow, Plan};
use super::mountinfo::{self, Mount};
use super::options::Owner;
use super::recovery::{self, Unfinished};
use super::store::Store;
use super::watch::{Event, Running, SessionEnd, Undo, until_end};
use super::{background, damage, database, mountpoint, patience, signals};

/// Threads that answer the kernel.
const EVENT_LOOPS: usize = 2;

/// What `boltfs [OPTIONS] DB MOUNTPOINT` asks for.
#[derive(Debug, Clone)]
pub struct MountRequest {
    /// The database, as given.
    pub database: PathBuf,
    /// The mount point, as given. `None`, for a command only: a private one, made and removed.
    pub point: Option<PathBuf>,
    /// The meta page (0 or 1) whose state is mounted, in place of the current one.
    pub meta: Option<u8>,
    /// Make the database first; refused if it exists.
    pub create: bool,
    /// Take a shared lock, and let nothing be changed.
    pub read_only: bool,
    /// Where commits go. Nothing is committed if `read_only`.
    pub goal: Goal,
    /// Let nothing be executed.
    pub no_exec: bool,
    /// Who may use the mount.
    pub allow: Allow,
    /// Show and store values as they are.
    pub raw: bool,
    /// Put small files into the kernel's cache before they are read.
    pub prefetch: bool,
    /// Whose keys and buckets are.
    pub owner: Owner,
    /// How long to wait for the database's lock.
    pub wait: Duration,
    /// What to do with the edits of an earlier mount that was killed.
    pub unfinished: Unfinished,
    /// How the mount is lived with.
    pub mode: Mode,
}

/// How a mount is lived with.
#[derive(Debug, Clone)]
pub enum Mode {
    /// In this process, until somebody unmounts or Ctrl-C is typed.
    Front,
    /// In this process, which then leaves the terminal.
    Background,
    /// For the time of a command: committed if it exits with 0, discarded otherwise.
    Command(Vec<OsString>),
}

/// How it ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// What became of the edits.
    pub report: Report,
    /// The exit status of the command, if there was one.
    pub command: Option<u8>,
}

/// Serves until the mount's end, commits, and reports.
fn serve(mode: &Mode, plan: &Plan, store: &Arc<Store>) -> Result<Ended> {
    let cannot = |what: &str, e: io::Error| {
        Failure::new(
            format!("{what}: {e}"),
            "It was unmounted again; the database is unchanged.",
        )
    };
    let blocked = signals::block().map_err(|e| cannot("cannot block signals", e.into()))?;
    let (device, mount) = mount::mount(plan)?;
    let mut undo = Undo(Some(&mount));

    let acl = match plan.allow {
        Allow::Owner => SessionACL::Owner,
        Allow::Root => SessionACL::RootAndOwner,
        Allow::Other => SessionACL::All,
    };
    let mut config = fuser::Config::default();
    config.acl = acl;
    config.n_threads = Some(EVENT_LOOPS);
    config.clone_fd = mount::device_opens();
    let commands = Arc::new(Commands::new(Arc::clone(store)));
    // Without it the threads sleep at once.
    let poll = BusyPoll::new(device.try_clone().ok());
    let filesystem = Guarded::new(Fuse::new(store.vfs(), commands.clone()), poll);
    let prefetch = filesystem.prefetch();
    let also_device = match plan.prefetch {
        true => device.try_clone().map(Some),
        false => Ok(None),
    };
    let session = fuser::Session::from_fd(filesystem, device, acl, config)
        .map_err(|e| cannot("the kernel's FUSE does not talk to us", e))?;
    mount::read_ahead(mount.device);
    commands.live(session.notifier());
    let started = also_device.and_then(|device| device.map_or(Ok(()), |d| prefetch.start(d)));
    if let Err(e) = started {
        log::info!("small files are not prefetched: {e}");
    }

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
    let pid = matches!(mode, Mode::Command(_)).then(Arc::<OnceLock<u32>>::default);
    let server = listen(&mount, store, &events, pid.clone());
    let signalled = events.clone();
    blocked
        .wait_each(move |signal| {
            let _ = signalled.send(Event::Signal(signal));
        })
        .map_err(|e| cannot("cannot start a thread", e))?;

    let command = match mode {
        Mode::Background => {
            background::is_live().map_err(|e| cannot("whoever started this is gone", e))?;
            logging::start_syslog();
            logging::record_event(&mounted_on(plan));
            None
        }
        Mode::Front => {
            announce(plan);
            None
        }
        Mode::Command(command) => Some(
            Running::start(command, &plan.point, events.clone())
                .map_err(|e| cannot("cannot start a process", e))?,
        ),
    };
    if let (Some(pid), Some(running)) = (pid, &command) {
        let _ = pid.set(running.id());
    }
    drop(events);
    undo.0 = None;
    let looking = damage::look_in_background(store);

    let (end, status) = until_end(&happened, &mount, store, command);
    drop(looking);
    let failed = status.is_some_and(|status| status != 0);
    let in_background = matches!(mode, Mode::Background);
    let report = conclude(end, server, store, plan, failed, in_background);
    Ok(Ended {
        report,
        command: status,
    })
}

fn announce(plan: &Plan) {
    if io::stderr().is_terminal() {
        say(&format!(
            "{}; Ctrl-C unmounts and commits",
            mounted_on(plan)
        ));
    }
}

fn mounted_on(plan: &Plan) -> String {
    let (source, point) = (plan.source.display(), plan.point.display());
    format!("{source} is mounted on {point}")
}

fn listen(
    mount: &Mount,
    store: &Store,
    events: &Sender<Event>,
    command: Option<Arc<OnceLock<u32>>>,
) -> Option<Server> {
    let answers = Answers {
        database: store.path().to_owned(),
        vfs: store.vfs(),
        mount: mount.clone(),
        command,
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

/// Commits and tells whoever waits.
fn conclude(
    end: SessionEnd,
    server: Option<Server>,
    store: &Store,
    plan: &Plan,
    command_failed: bool,
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
    let discard = waiters.as_ref().is_some_and(control::Waiters::want_discard);
    let end = match (command_failed, discard) {
        (true, _) => End::CommandFailed,
        (false, true) => End::Discard,
        (false, false) => End::Commit,
    };
    let finish = || commit::finish(store, end);
    let report = match in_background || end != End::Commit {
        true => finish(),
        false => patience::committing(store.target(), finish),
    };
    let heard = waiters.is_some_and(|waiters| waiters.tell(&report));
    if !(heard && in_background) {
        say(&report.message);
    }
    logging::record_report(&report);
    report
}

/// Mounts a database and serves it to its end.
///
/// # Errors
/// Why nothing was mounted.
pub fn run(request: &MountRequest) -> Result<Ended> {
    signals::survive_limits();
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

fn mount_and_serve(request: &MountRequest) -> Result<Ended> {
    let to_edit = !request.read_only && request.meta.is_none();
    let to_edit = to_edit && request.goal == Goal::Database { backup: None };
    let source = database::find(&request.database, to_edit)?;
    let private;
    let given = match &request.point {
        Some(point) => point,
        None => {
            private = mountpoint::Private::new()?;
            private.path()
        }
    };
    let point = mountpoint::check(given, &source)?;
    let goal = match request.read_only {
        true => Goal::Nowhere,
        false => request.goal.resolve(&source, &point)?,
    };
    let writes = goal.writes_database();
    let options = OpenOptions {
        meta: request.meta,
        // An edit would have to rely on what is not there.
        allow_truncated: request.read_only,
    };
    let (file, snapshot) = database::open(&source, writes, options, request.wait)?;
    database::warn_of_newer(&source, &snapshot, request.read_only);
    if writes {
        database::warn_if_in_data_directory(&source);
    }
    let plan = Plan {
        source,
        point,
        read_only: request.read_only,
        no_exec: request.no_exec,
        allow: request.allow,
        prefetch: request.prefetch,
    };
    let store = Arc::new(Store::new(request, goal, &plan.point, file, snapshot)?);
    damage::look_at_once(&store);
    recovery::prepare(&store, request.unfinished)?;
    serve(&request.mode, &plan, &store)
}
