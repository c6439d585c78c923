//! What a mount in the background says, and where: on the terminal that started it, and in syslog, which is here a socket of
//! the test's in place of /dev/log.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use common::case::{Case, is_root};
use common::mount::BOLTFS;
use common::process::{Output, run};

/// Runs lines of bash as root in the case's directory, in a mount namespace in which /dev/log is the socket `log` there.
#[track_caller]
fn sh(case: &Case, lines: &str) -> Output {
    let prelude = "
        export PATH=$(dirname $boltfs):$PATH
        mkdir devices; mount --rbind /dev devices; mount -t tmpfs none /dev
        for name in null zero fuse random urandom tty ptmx; do
            touch /dev/$name; mount --bind devices/$name /dev/$name
        done
        touch /dev/log; mount --bind log /dev/log
        await_free() { timeout 20 flock db true; }
        ";
    let script = common::process::script(&format!("{prelude}{lines}"));
    let boltfs = format!("boltfs={BOLTFS}");
    let mut words = vec!["unshare", "-m", "--propagation", "slave", "env"];
    words.extend([&boltfs, "bash", "-euo", "pipefail", "-c", &script]);
    if !is_root() {
        words.splice(0..0, ["sudo", "-n"]);
    }
    run(Command::new(words[0])
        .args(&words[1..])
        .current_dir(case.dir()))
}

/// A case with a log daemon, of which nobody reads before it is asked for what it has got.
struct Logged {
    case: Case,
    socket: UnixDatagram,
}

impl Logged {
    fn new() -> Logged {
        let case = Case::new();
        let socket = UnixDatagram::bind(case.join("log")).expect("a socket can be made");
        fs::set_permissions(case.join("log"), fs::Permissions::from_mode(0o666)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        Logged { case, socket }
    }

    /// Runs the lines, and returns what was logged, a line each, with `PID` in place of the number.
    #[track_caller]
    fn log_of(&self, lines: &str) -> Vec<String> {
        sh(&self.case, lines).expect_success();
        let mut buffer = [0; 65536];
        let datagrams = std::iter::from_fn(|| {
            let length = self.socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        });
        datagrams.map(|line| without_pid(&line)).collect()
    }
}

fn without_pid(line: &str) -> String {
    let (before, rest) = line.split_once('[').expect("a process is named");
    let (pid, after) = rest.split_once(']').expect("a process is named");
    assert!(pid.parse::<u32>().is_ok(), "{line}");
    format!("{before}[PID]{after}")
}

#[test]
fn the_report_of_a_commit_that_nobody_waited_for_is_in_syslog() {
    let logged = Logged::new();
    let db = logged.case.db();
    let db = db.display();
    let log = logged.log_of(
        "boltfs db mnt 2> /dev/null; echo new > mnt/b/k; echo x > mnt/b/4913; umount -i mnt; await_free",
    );
    let mounted = format!(
        "<30>boltfs[PID]: {db} is mounted on {}",
        logged.case.join("mnt").display()
    );
    let committed = format!(
        "<29>boltfs[PID]: committed transaction 3 to {db}: 1 key added, 1 changed, 0 deleted"
    );
    let note = "<29>boltfs[PID]: note: b/4913: looks like an editor's leftover; delete it if you did not mean it";
    assert_eq!(log[..2], [mounted, committed]);
    assert!(log.iter().any(|line| line == note), "{log:?}");
}

#[test]
fn a_failed_commit_and_warnings_are_in_syslog() {
    let logged = Logged::new();
    let log = logged.log_of(
        "boltfs db mnt 2> /dev/null; echo new > mnt/b/k; cp db other; mv other db; umount -i mnt
         for n in $(seq 200); do ls db.rescued-* 2> /dev/null && break; sleep 0.1; done; sleep 0.5",
    );
    let failed = log
        .iter()
        .any(|line| line.starts_with("<27>boltfs[PID]: NOT COMMITTED: another file was put"));
    assert!(failed, "{log:?}");

    let logged = Logged::new();
    let log =
        logged.log_of("boltfs db mnt; echo nonsense > mnt/.boltfs/control || boltfs umount mnt");
    let warned = log
        .iter()
        .any(|line| line.starts_with("<28>boltfs[PID]: warning: control: unknown command"));
    assert!(warned, "{log:?}");
}

#[test]
fn a_commit_through_control_is_in_syslog_once() {
    let logged = Logged::new();
    for verbose in ["", "-v"] {
        let log = logged.log_of(&format!(
            "boltfs {verbose} db mnt; echo '{verbose}new' > mnt/b/k; echo commit > mnt/.boltfs/control
             boltfs umount mnt; umount -R devices; rmdir devices"
        ));
        let commits = log
            .iter()
            .filter(|line| line.contains("committed transaction"));
        assert_eq!(commits.count(), 1, "{log:?}");
    }
}

#[test]
fn more_is_said_when_asked_for_and_a_log_that_nobody_reads_keeps_nobody_waiting() {
    let logged = Logged::new();
    let log = logged.log_of(
        "boltfs -vv db mnt 2> said
         for n in $(seq 50); do echo $n > mnt/b/$n; done; boltfs umount mnt; umount -R devices; rmdir devices",
    );
    assert!(
        log.iter()
            .any(|line| line.starts_with("<31>boltfs[PID]: debug: ")),
        "{log:?}"
    );
    let log = logged.log_of("RUST_LOG=off boltfs -v db mnt; echo x > mnt/b/k; boltfs umount mnt");
    assert_eq!(log.len(), 2, "{log:?}");
}

#[test]
fn the_foreground_and_commands_leave_syslog_alone() {
    let logged = Logged::new();
    let log = logged.log_of("boltfs db mnt -- sh -c 'echo x > mnt/b/k'; boltfs umount mnt || true");
    assert!(log.is_empty(), "{log:?}");
}

#[test]
fn the_terminal_that_started_it_is_told() {
    let case = Case::new();
    let line = "boltfs db mnt; echo new > mnt/b/k; fusermount3 -u mnt; flock db true; sleep 0.5";
    let output = run(case.command("script").args(["-qec", line, "said"]));
    let output = output.expect_success();
    let said = fs::read_to_string(case.join("said")).unwrap();
    assert!(
        said.contains("boltfs: committed transaction 3"),
        "{said:?} {output}"
    );
    // What somebody waits for is said once.
    let line = "boltfs db mnt; echo newer > mnt/b/k; boltfs umount mnt; sleep 0.5";
    run(case.command("script").args(["-qec", line, "said"])).expect_success();
    let said = fs::read_to_string(case.join("said")).unwrap();
    assert_eq!(said.matches("committed transaction").count(), 1, "{said:?}");
}
