//! Running other programs: with a limit in time, and with their output in the message when they fail.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a program left.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// How it ended; `None`: it did not within the time given, and was killed.
    pub status: Option<ExitStatus>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// It exited with 0.
    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// The exit status; `None` when it was killed.
    pub fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The output of a program that succeeded; fails the test otherwise.
    #[track_caller]
    pub fn expect_success(self) -> Output {
        assert!(self.is_success(), "{self}");
        self
    }

    /// Fails the test when the program did not fail, or did not end.
    #[track_caller]
    pub fn expect_failure(self) -> Output {
        assert!(
            self.status.is_some_and(|status| !status.success()),
            "{self}"
        );
        self
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = match self.status {
            Some(status) => status.to_string(),
            None => "did not end in time".to_string(),
        };
        write!(
            f,
            "`{}`: {ended}\nstdout: {}\nstderr: {}",
            self.command,
            self.text(),
            self.stderr
        )
    }
}

/// Runs to the end, at most [`PATIENCE`].
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    run_within(PATIENCE, command)
}

/// Runs to the end, or kills it after `patience`. Output goes through files, not pipes: a program that stays in the
/// background and keeps them open does not keep us waiting.
#[track_caller]
pub fn run_within(patience: Duration, command: &mut Command) -> Output {
    let line = std::iter::once(command.get_program()).chain(command.get_args());
    let line = line
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ");
    let (mut stdout, mut stderr) = (nameless_file(), nameless_file());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().expect("a descriptor can be doubled"))
        .stderr(stderr.try_clone().expect("a descriptor can be doubled"))
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run `{line}`: {e}"));
    let started = Instant::now();
    let status = loop {
        match child.try_wait().expect("a child can be waited for") {
            Some(status) => break Some(status),
            None if started.elapsed() > patience => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let read = |file: &mut File| {
        let mut bytes = Vec::new();
        file.rewind()
            .and_then(|()| file.read_to_end(&mut bytes))
            .expect("a temporary file is readable");
        bytes
    };
    let stdout = read(&mut stdout);
    let stderr = String::from_utf8_lossy(&read(&mut stderr)).into_owned();
    Output {
        command: line,
        status,
        stdout,
        stderr,
    }
}

/// A script for bash of `lines`, in which `not` is in front of a command that must fail.
///
/// After `!`, bash goes on whatever the command did, so a line that begins with that asserts nothing.
#[track_caller]
pub fn script(lines: &str) -> String {
    const NOT: &str = "not() { if \"$@\"; then echo \"succeeded: $*\" >&2; exit 1; fi; }\n";
    let commands = lines.split(['\n', ';']).flat_map(|part| part.split("&&"));
    for command in commands.map(str::trim_start) {
        assert!(
            !command.starts_with("! "),
            "this asserts nothing, say `not`: {command}"
        );
    }
    [NOT, lines].concat()
}

/// Runs a [`script`], stopping at the first command that fails, in `directory`.
#[track_caller]
pub fn sh(directory: &Path, line: &str) -> Output {
    run(Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script(line)])
        .current_dir(directory))
}

/// Runs a test of this test binary again, as root, for what only root can do.
#[track_caller]
pub fn again_as_root(test: &str) {
    let myself = std::env::current_exe().expect("a test knows its own file");
    let output = run_within(
        Duration::from_secs(600),
        Command::new("sudo")
            .arg("-n")
            .arg(myself)
            .args(["--exact", test, "--nocapture"]),
    );
    assert!(
        output.is_success(),
        "{test} must run as root, here through `sudo -n`:\n{output}"
    );
}

/// Waits until `done` is true; fails the test with `what` when that takes longer than `patience`.
#[track_caller]
pub fn wait_until(what: &str, patience: Duration, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(
            started.elapsed() < patience,
            "waited {patience:?} in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The numbers of the processes whose command line holds all these words.
pub fn processes_with(words: &[&OsStr]) -> Vec<i32> {
    let processes = fs::read_dir("/proc").expect("/proc is there");
    let numbers = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments: Vec<_> = line.split(|&byte| byte == 0).collect();
            words
                .iter()
                .all(|word| arguments.contains(&word.as_encoded_bytes()))
        })
        .collect()
}

/// A port on 127.0.0.1 that nobody listens on now.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}

/// An open file that is gone when it is closed.
fn nameless_file() -> File {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("boltfs-output-{}-{number}", std::process::id()));
    let file = File::options()
        .read(true)
        .append(true)
        .create_new(true)
        .open(&path);
    let file = file.unwrap_or_else(|e| panic!("cannot create {}: {e}", path.display()));
    let _ = fs::remove_file(&path);
    file
}
