//! Where our messages go: to standard error, and, once a mount lives in the background, to syslog
//! too. The terminal that it was started from may be gone by then, and the report of a commit
//! after a plain `umount` must be found by somebody.

use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::commit::Report;
use super::terminal::visible;

/// Where the system's log daemon listens. It need not be there.
const SOCKET: &str = "/dev/log";

/// The facility of a background process (`LOG_DAEMON`).
const FACILITY: u8 = 3;

/// Log daemons cut longer lines, or drop them.
const LONGEST: usize = 8000;

/// How bad a line in syslog is.
#[derive(Debug, Clone, Copy)]
enum Severity {
    Critical = 2,
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
    Debug = 7,
}

impl From<Level> for Severity {
    fn from(level: Level) -> Severity {
        match level {
            Level::Error => Severity::Error,
            Level::Warn => Severity::Warning,
            Level::Info => Severity::Info,
            Level::Debug | Level::Trace => Severity::Debug,
        }
    }
}

/// Set when the mount lives in the background.
static SYSLOG: OnceLock<Syslog> = OnceLock::new();

/// Starts logging to standard error. Warnings and errors are shown; with `verbose` 1 more, with 2
/// every request. `RUST_LOG` decides over it.
pub fn start(verbose: u8) {
    let mut builder = env_logger::Builder::new();
    let level = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        _ => LevelFilter::Debug,
    };
    builder
        .filter_level(LevelFilter::Warn)
        .filter_module("boltfs", level);
    // It warns of each kind of request that is answered by its default: nothing for a terminal.
    let of_fuser = if verbose > 1 {
        level
    } else {
        LevelFilter::Error
    };
    builder.filter_module("fuser", of_fuser);
    builder.parse_default_env();
    builder.format(|out, record| writeln!(out, "boltfs: {}", visible(&text(record))));
    let terminal = builder.build();
    let most = terminal.filter();
    if log::set_boxed_logger(Box::new(Both { terminal })).is_ok() {
        log::set_max_level(most);
    }
}

/// From now on what is logged goes to syslog too, and a panic's message as well: standard error
/// may lead nowhere.
pub fn start_syslog() {
    if SYSLOG.set(Syslog::new()).is_err() {
        return;
    }
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        send(Severity::Critical, panic);
        before(panic);
    }));
}

/// Says something on standard error, which may be a terminal that has been closed. Nothing in it
/// acts on that.
pub fn say(message: &impl Display) {
    let _ = writeln!(io::stderr(), "boltfs: {}", visible(&message.to_string()));
}

/// Puts into syslog what became of the edits.
pub fn record_report(report: &Report) {
    let severity = if report.failed {
        Severity::Error
    } else {
        Severity::Notice
    };
    send(severity, &report.message);
}

/// Puts an event in the life of a mount into syslog.
pub fn record_event(message: &impl Display) {
    send(Severity::Info, message);
}

fn send(severity: Severity, message: &impl Display) {
    if let Some(syslog) = SYSLOG.get() {
        syslog.send(severity, &message.to_string());
    }
}

/// A log line reads like our other messages.
fn text(record: &Record<'_>) -> String {
    match record.level() {
        Level::Error | Level::Info => record.args().to_string(),
        Level::Warn => format!("warning: {}", record.args()),
        level @ (Level::Debug | Level::Trace) => format!(
            "{}: {}: {}",
            level.as_str().to_lowercase(),
            record.target(),
            record.args()
        ),
    }
}

struct Both {
    terminal: env_logger::Logger,
}

impl Log for Both {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.terminal.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.terminal.matches(record) {
            self.terminal.log(record);
            send(record.level().into(), &text(record));
        }
    }

    fn flush(&self) {
        self.terminal.flush();
    }
}

/// A socket to the log daemon. Each line is a datagram, sent without waiting: a log daemon that
/// hangs, or is not there, must never keep a commit from being made.
#[derive(Debug)]
struct Syslog(Option<UnixDatagram>);

impl Syslog {
    fn new() -> Syslog {
        let socket = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        Syslog(socket.ok())
    }

    fn send(&self, severity: Severity, message: &str) {
        let Some(socket) = &self.0 else { return };
        for line in message.lines() {
            // The daemon adds the time.
            let datagram = datagram(std::process::id(), severity, line);
            // By path each time: the daemon may have been started anew.
            let _ = socket.send_to(datagram.as_bytes(), SOCKET);
        }
    }
}

fn datagram(pid: u32, severity: Severity, line: &str) -> String {
    let line = visible(line.strip_prefix("boltfs: ").unwrap_or(line));
    let end = (0..=line.len().min(LONGEST))
        .rev()
        .find(|&end| line.is_char_boundary(end));
    let line = line.get(..end.unwrap_or(0)).unwrap_or_default();
    let priority = FACILITY * 8 + severity as u8;
    format!("<{priority}>boltfs[{pid}]: {line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_syslog() {
        let line = datagram(12, Severity::Notice, "boltfs: note: look");
        assert_eq!(line, "<29>boltfs[12]: note: look");
        let acts = datagram(12, Severity::Notice, "a\x1b[2J\rb");
        assert_eq!(acts, "<29>boltfs[12]: a^[[2J^Mb");
        let long = datagram(12, Severity::Error, &"ä".repeat(LONGEST));
        assert_eq!(long.len(), "<27>boltfs[12]: ".len() + LONGEST);
    }
}
