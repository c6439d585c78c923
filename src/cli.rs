//! The command line.

mod generate;
mod helper;
mod manual;
mod mistakes;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, CommandFactory, Parser, Subcommand, error::ErrorKind};

use crate::session::{
    self, Failure, Goal, Mode, MountRequest, NotLive, Options, Unfinished, Unmount, say,
};
use helper::Helper;

/// Everything went well, and what was to be committed is committed.
pub const SUCCESS: u8 = 0;
/// Nothing was mounted; or the commit failed; or `check` found errors.
pub const FAILURE: u8 = 1;
/// The command line was not understood.
pub const USAGE: u8 = 2;
/// `diff` could not show what is pending, or `check` not check, as diff(1) has it.
pub const TROUBLE: u8 = 2;
/// With a command: boltfs itself failed, before the command or in committing its edits.
pub const FAILURE_WITH_COMMAND: u8 = 125;

const STORY: &str = "\
Mount, edit, unmount: all edits are committed in one transaction, or none.
What grep has named is removed here, of an etcd that has lost its quorum:

    boltfs db mnt/
    grep -L name mnt/members/*
    rm mnt/members/920c1b791dddb17e
    boltfs umount mnt";

const USAGES: &str = "\
boltfs [OPTIONS] DB MOUNTPOINT
       boltfs [OPTIONS] DB [MOUNTPOINT] -- COMMAND...
       boltfs umount [--discard] MOUNTPOINT";

const EXIT_STATUS: &str = "\
Exit status: 0 done; 1 not mounted, not committed, or errors found; 2 wrong
usage, or no check. With COMMAND its own; 125 boltfs failed, 126 or 127 not run.";

#[derive(Debug, Parser)]
#[command(
    name = "boltfs",
    version,
    about = "Mount a bbolt database (etcd, containerd, Consul, Vault, …) as a directory tree",
    before_help = STORY,
    after_help = EXIT_STATUS,
    override_usage = USAGES,
    help_template = "{about}.\n{before-help}{usage-heading} {usage}\n\n{all-args}\n{after-help}",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    subcommand_value_name = "COMMAND",
    disable_help_subcommand = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    /// The database file
    #[arg(value_name = "DB", required = true, hide = true)]
    database: Option<PathBuf>,

    /// The directory to mount it on
    #[arg(
        value_name = "MOUNTPOINT",
        required_unless_present = "run",
        hide = true
    )]
    point: Option<PathBuf>,

    /// Mount, run this, commit if it exits with 0, else discard
    #[arg(value_name = "COMMAND", last = true, hide = true)]
    run: Vec<OsString>,

    /// Stay in the foreground; Ctrl-C unmounts and commits
    #[arg(short, long)]
    foreground: bool,

    /// Look only: shared lock, no changes
    #[arg(short, long)]
    read_only: bool,

    /// Make a new, empty database first
    #[arg(long, conflicts_with = "read_only")]
    create: bool,

    /// Mount the state of meta page N, 0 or 1 (else the newer)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=1), conflicts_with = "create")]
    meta: Option<u8>,

    /// Show and store values as they are (no JSON indenting)
    #[arg(long)]
    raw: bool,

    /// Keep a copy from before the commit (never over a file)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["output", "dry_run", "read_only", "create"])]
    backup: Option<PathBuf>,

    /// Commit into a copy, not into DB (never over a file)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dry_run", "read_only", "create"])]
    output: Option<PathBuf>,

    /// Only tell what would be committed
    #[arg(long, conflicts_with_all = ["read_only", "create", "recover", "discard"])]
    dry_run: bool,

    /// Wait for the database's lock
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "0",
        hide_default_value = true
    )]
    wait: u64,

    /// Take up the edits of a mount that was killed (else asks)
    #[arg(long, conflicts_with_all = ["discard", "read_only"])]
    recover: bool,

    /// Drop the edits of a mount that was killed
    #[arg(long, conflicts_with = "read_only")]
    discard: bool,

    /// Options as mount(8) passes them: ro, allow_other, raw, …
    #[arg(short = 'o', value_name = "OPTIONS", action = ArgAction::Append)]
    options: Vec<OsString>,

    /// Say more (twice: every request)
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look for damage
    ///
    /// Exit status: 0 no errors (there may be warnings), 1 errors, 2 it could not be checked.
    Check {
        /// The database file
        #[arg(value_name = "DB")]
        database: PathBuf,

        /// Check the state of this meta page, 0 or 1 (default: the newer one)
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=1))]
        meta: Option<u8>,

        /// Wait for the database's lock
        #[arg(
            long,
            value_name = "SECONDS",
            default_value = "0",
            hide_default_value = true
        )]
        wait: u64,
    },

    /// Show the edits in a journal that a killed mount has left
    ///
    /// Those that are found behind damage are marked with ?, and are not recovered. Exit status: 1 if there
    /// is damage.
    Journal {
        /// The journal: DB.boltfs-journal
        #[arg(value_name = "JOURNAL")]
        journal: PathBuf,
    },

    /// Show what is mounted and what is pending
    Status {
        /// Where the database is mounted (default: everywhere)
        #[arg(value_name = "MOUNTPOINT")]
        point: Option<PathBuf>,
    },

    /// Show what is pending as a unified diff
    ///
    /// Text values are compared by their lines (JSON as the mount shows it), all others by length and
    /// SHA-256. Exit status: 0 nothing is pending, 1 something is, 2 trouble.
    Diff {
        /// Where the database is mounted
        #[arg(value_name = "MOUNTPOINT")]
        point: PathBuf,
    },

    /// Commit what was edited and unmount
    Umount {
        /// Where the database is mounted
        #[arg(value_name = "MOUNTPOINT")]
        point: PathBuf,

        /// Drop what was edited instead
        #[arg(long)]
        discard: bool,
    },
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    ExitCode::from(match args.split_first() {
        Some((first, args)) if first == session::SERVING => {
            session::leave_callers_files();
            run_with(args, Process::Serving)
        }
        Some((first, command)) if first == session::EXECUTE => execute(command),
        Some((first, kinds)) if first == generate::FLAG => generate(kinds),
        _ => match Helper::called(&name) {
            None => run_first(&args),
            Some(helper) => run_helper(helper, args),
        },
    })
}

/// Which of the two processes of a mount in the background this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    /// The one that was called, and starts the other.
    First,
    /// The one that stays.
    Serving,
}

/// Runs `boltfs` as it was typed, if that can be meant. Returns its exit status.
fn run_first(args: &[OsString]) -> u8 {
    if let Some(args) = mistakes::help(args) {
        return run_with(&args, Process::First);
    }
    let command = Cli::command();
    let commands: Vec<_> = command
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect();
    if let Some(message) = mistakes::told(args, &commands) {
        say(&message);
        return USAGE;
    }
    run_with(args, Process::First)
}

/// Runs `boltfs` with these arguments. Returns its exit status.
fn run_with(args: &[OsString], process: Process) -> u8 {
    let words = std::iter::once(OsString::from("boltfs")).chain(args.iter().cloned());
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(e) => return usage(&e),
    };
    session::start_logging(cli.verbose);
    dispatch(cli, args, process).unwrap_or_else(|failure| {
        say(&failure);
        FAILURE
    })
}

/// Does what mount(8) or umount(8) want of their helper. Returns its exit status.
fn run_helper(helper: Helper, args: Vec<OsString>) -> u8 {
    let misused = |message: String| {
        say(&message);
        helper::USAGE
    };
    match helper {
        Helper::Mount => match helper::mount_args(args) {
            Ok(Some(args)) => helper::status(run_with(&args, Process::First)),
            Ok(None) => helper::SUCCESS,
            Err(message) => misused(message),
        },
        Helper::Umount => match helper::umount_request(args) {
            Ok((point, how)) => {
                session::start_logging(0);
                helper::status(umount(&point, how).unwrap_or_else(|failure| {
                    say(&failure);
                    FAILURE
                }))
            }
            Err(message) => misused(message),
        },
    }
}

/// Becomes the command that a database was mounted for.
fn execute(args: &[OsString]) -> u8 {
    let (open_files, command) = match args {
        [open_files, command @ ..] => (open_files.as_os_str(), command),
        [] => (OsStr::new(""), args),
    };
    let (status, e) = session::execute(open_files, command);
    let name = command.first().map(|name| name.display().to_string());
    say(&format!("cannot run {}: {e}", name.unwrap_or_default()));
    status
}

/// Prints what packages are made with.
fn generate(kinds: &[OsString]) -> u8 {
    let [kind] = kinds else {
        say(&format!("usage: boltfs {} KIND", generate::FLAG));
        return USAGE;
    };
    match generate::print(kind, Cli::command()) {
        Ok(()) => SUCCESS,
        Err(e) => {
            say(&e);
            match e.kind() {
                std::io::ErrorKind::InvalidInput => USAGE,
                _ => FAILURE,
            }
        }
    }
}

fn usage(e: &clap::Error) -> u8 {
    let _ = e.print();
    match e.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => SUCCESS,
        _ => USAGE,
    }
}

/// `args` is what `cli` was made of.
fn dispatch(cli: Cli, args: &[OsString], process: Process) -> session::Result<u8> {
    match cli.command {
        Some(Command::Check {
            database,
            meta,
            wait,
        }) => Ok(or_trouble(session::run_check(
            &database,
            meta,
            Duration::from_secs(wait),
        ))),
        Some(Command::Umount { point, discard }) => {
            let how = Unmount {
                discard,
                ..Unmount::default()
            };
            umount(&point, how)
        }
        Some(Command::Journal { journal }) => session::show_journal(&journal),
        Some(Command::Status { point }) => session::run_status(point.as_deref()),
        Some(Command::Diff { point }) => Ok(or_trouble(session::run_diff(&point))),
        None => mount(cli, args, process),
    }
}

/// The exit status of what answers a question with its own.
fn or_trouble(answer: session::Result<u8>) -> u8 {
    answer.unwrap_or_else(|failure| {
        say(&failure);
        TROUBLE
    })
}

fn umount(point: &Path, how: Unmount) -> session::Result<u8> {
    let report = session::umount(point, how)?;
    say(&report.message);
    Ok(report.exit_status())
}

/// What an option of ours and one behind `-o` say differently.
fn said_twice(cli: &Cli, options: &Options) -> Option<&'static str> {
    let (meta, backup) = (options.meta, &options.backup);
    if cli.meta.is_some() && meta.is_some() && cli.meta != meta {
        return Some("--meta and -o meta=N name different meta pages");
    }
    if cli.backup.is_some() && backup.is_some() && cli.backup != *backup {
        return Some("--backup and -o backup=FILE name different files");
    }
    if backup.is_some() && (cli.output.is_some() || cli.dry_run) {
        return Some(
            "-o backup=FILE cannot be used with --output or --dry-run: the database itself is not written",
        );
    }
    None
}

fn mount(cli: Cli, args: &[OsString], process: Process) -> session::Result<u8> {
    let mut options = Options::default();
    for list in &cli.options {
        if let Err(e) = options.add(list) {
            return Ok(usage(&Cli::command().error(ErrorKind::InvalidValue, e)));
        }
    }
    if let Some(e) = said_twice(&cli, &options) {
        return Ok(usage(&Cli::command().error(ErrorKind::ArgumentConflict, e)));
    }
    let goal = match (cli.output, cli.dry_run) {
        (Some(file), _) => Goal::Output(file),
        (None, true) => Goal::Nowhere,
        (None, false) => Goal::Database {
            backup: cli.backup.or(options.backup),
        },
    };
    let meta = cli.meta.or(options.meta);
    if cli.create && meta.is_some() {
        let e = "a new database has no older state: --create and -o meta=N exclude each other";
        return Ok(usage(&Cli::command().error(ErrorKind::ArgumentConflict, e)));
    }
    let Some(database) = cli.database else {
        return Err(Failure::new("no database given", "See boltfs --help"));
    };
    let with_command = !cli.run.is_empty();
    let mode = if with_command {
        Mode::Command(cli.run)
    } else if process == Process::Serving {
        Mode::Background
    } else if cli.foreground {
        Mode::Front
    } else {
        return match session::start_in_background(args) {
            Ok(()) => Ok(SUCCESS),
            Err(NotLive::Told(status)) => Ok(status),
            Err(NotLive::Failed(failure)) => Err(failure),
        };
    };
    let request = MountRequest {
        database,
        point: cli.point,
        meta,
        create: cli.create,
        read_only: cli.read_only || options.read_only,
        goal,
        no_exec: options.no_exec,
        allow: options.allow,
        raw: cli.raw || options.raw,
        prefetch: !options.no_prefetch,
        owner: options.owner,
        wait: Duration::from_secs(cli.wait),
        unfinished: match (cli.recover, cli.discard) {
            (true, _) => Unfinished::Recover,
            (_, true) => Unfinished::Discard,
            _ => Unfinished::Ask,
        },
        mode,
    };
    match session::run(&request) {
        Err(failure) if with_command => {
            say(&failure);
            Ok(FAILURE_WITH_COMMAND)
        }
        Err(failure) => Err(failure),
        Ok(ended) if with_command && ended.report.failed => Ok(FAILURE_WITH_COMMAND),
        Ok(ended) => Ok(ended.command.unwrap_or(ended.report.exit_status())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_fits_a_screen() {
        let help = Cli::command().term_width(80).render_help().to_string();
        assert!(help.contains("boltfs db mnt/\n"), "{help}");
        assert!(
            help.lines().count() <= 40,
            "{} lines:\n{help}",
            help.lines().count()
        );
        assert!(
            help.lines().all(|line| line.chars().count() <= 80),
            "{help}"
        );
    }

    fn parse(args: &str) -> Cli {
        Cli::try_parse_from(args.split(' ')).unwrap()
    }

    #[test]
    fn a_database_may_have_the_name_of_a_command() {
        let cli = parse("boltfs ./umount mnt");
        assert!(cli.command.is_none());
        assert_eq!(cli.database.unwrap(), PathBuf::from("./umount"));
        assert!(parse("boltfs umount mnt").command.is_some());
        assert_eq!(
            parse("boltfs db umount").point.unwrap(),
            PathBuf::from("umount")
        );
    }

    #[test]
    fn options_may_come_last_as_mount_gives_them() {
        let cli = parse("boltfs db mnt -o ro,allow_other,dev,suid");
        assert_eq!(cli.options, ["ro,allow_other,dev,suid"]);
    }
}
