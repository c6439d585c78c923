//! A directory with a database `db` and an empty directory `mnt`, and the shell lines that are tried in it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::mount::{BOLTFS, need_fuse};
use super::oracle::{Options, Oracle};
use super::process::{Output, processes_with, run, script, wait_until};
use super::temp::TempDir;
use super::tree::{Node, Tree};

/// How long anything may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// A place to try `boltfs` in. What is mounted or still runs there at the end is taken away.
pub struct Case {
    dir: TempDir,
}

impl Case {
    /// A database with bucket `b`, in which key `k` holds `value`.
    pub fn new() -> Case {
        let mut bucket = Tree::default();
        bucket
            .nodes
            .insert(b"k".to_vec(), Node::Value(b"value".to_vec()));
        let mut tree = Tree::default();
        tree.nodes.insert(b"b".to_vec(), Node::Bucket(bucket));
        Case::with(|db| {
            Oracle::shared()
                .create(db, &tree, Options::default())
                .expect("bbolt makes a database");
        })
    }

    /// A database that `make` puts at the path it is given.
    pub fn with(make: impl FnOnce(&Path)) -> Case {
        need_fuse();
        let dir = TempDir::new("case");
        fs::create_dir(dir.join("mnt")).expect("an empty directory can be made");
        let case = Case { dir };
        make(&case.db());
        case
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in it.
    pub fn join(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    /// The database.
    pub fn db(&self) -> PathBuf {
        self.join("db")
    }

    /// A program that is to run in the directory and finds `boltfs` in its path.
    pub fn command(&self, program: &str) -> Command {
        let mut path = Path::new(BOLTFS)
            .parent()
            .expect("the program lies in a directory")
            .as_os_str()
            .to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = Command::new(program);
        command.current_dir(self.dir()).env("PATH", path);
        // For the few lines that need it, in tests that an ordinary user runs.
        command.env("as_root", if is_root() { "" } else { "sudo -n" });
        command
    }

    /// Runs `boltfs` in the directory.
    #[track_caller]
    pub fn boltfs(&self, args: &[&str]) -> Output {
        run(self.command(BOLTFS).args(args))
    }

    /// Runs lines of bash in the directory, up to the first that fails.
    #[track_caller]
    pub fn sh(&self, lines: &str) -> Output {
        run(self
            .command("bash")
            .args(["-euo", "pipefail", "-c", &script(lines)]))
    }

    /// Starts a line of bash in the directory, in a process group of its own.
    pub fn start(&self, line: &str) -> Running {
        use std::os::unix::process::CommandExt;
        let mut command = self.command("bash");
        let line = format!("exec {line}");
        command.args(["-c", &line]).process_group(0);
        Running::start(&mut command)
    }

    /// The line of `mnt` in the table of mounts, if something is mounted there.
    pub fn line(&self) -> Option<String> {
        self.line_of("mnt")
    }

    /// The line of a directory in the table of mounts.
    pub fn line_of(&self, name: &str) -> Option<String> {
        let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is there");
        let point = self.join(name);
        let line = table
            .lines()
            .rfind(|line| line.split(' ').nth(4) == point.to_str());
        line.map(str::to_owned)
    }

    /// Whether bbolt would have to wait to open the database.
    pub fn is_locked(&self) -> bool {
        let file = File::open(self.db()).expect("the database is there");
        // A lock taken here goes with the file.
        file.try_lock().is_err()
    }

    /// The processes that serve a mount here.
    pub fn servers(&self) -> Vec<i32> {
        processes_with(&[OsStr::new("--serving")])
            .into_iter()
            .filter(|pid| {
                // Not every command line has an absolute path; the open files do.
                let files = fs::read_dir(format!("/proc/{pid}/fd"))
                    .into_iter()
                    .flatten();
                files
                    .flatten()
                    .filter_map(|file| fs::read_link(file.path()).ok())
                    .any(|file| file.starts_with(self.dir()))
            })
            .collect()
    }

    /// The one process that serves the mount.
    #[track_caller]
    pub fn server(&self) -> i32 {
        let servers = self.servers();
        assert_eq!(servers.len(), 1, "{servers:?}");
        servers[0]
    }

    /// Waits until `mnt` is mounted.
    #[track_caller]
    pub fn await_mounted(&self) {
        wait_until("mnt is mounted", PATIENCE, || self.line().is_some());
    }

    /// Waits until bbolt would have to wait for the database.
    #[track_caller]
    pub fn await_locked(&self) {
        wait_until("the database is locked", PATIENCE, || self.is_locked());
    }

    /// Waits until the process that served the mount is gone, after it was killed.
    #[track_caller]
    pub fn await_unserved(&self) {
        wait_until("the lock is free", PATIENCE, || !self.is_locked());
    }

    /// Waits until `mnt` is not mounted and the database is free.
    #[track_caller]
    pub fn await_end(&self) {
        wait_until("the mount has ended", PATIENCE, || {
            self.line().is_none() && !self.is_locked()
        });
    }

    /// What the database holds, by bbolt, which must find it sound.
    #[track_caller]
    pub fn content(&self) -> Tree {
        Oracle::shared().assert_sound(&self.db());
        Oracle::shared()
            .dump(&self.db())
            .expect("bbolt reads the database")
    }

    /// The value of `key` in bucket `bucket`, by bbolt.
    #[track_caller]
    pub fn value(&self, bucket: &str, key: &str) -> Option<String> {
        self.content()
            .value(&[bucket.as_bytes().to_vec()], key.as_bytes())
            .map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        // Never commits on the way out of a failed test: kill first, then take the mounts away.
        for pid in self.servers() {
            let _ = run(Command::new("kill").args(["-9", &pid.to_string()]));
        }
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for point in table.lines().filter_map(|line| line.split(' ').nth(4)) {
            if Path::new(point).starts_with(self.dir()) {
                let gone = run(Command::new("fusermount3").args(["-u", "-z", "-q", point]));
                if !gone.is_success() {
                    let _ = run(Command::new("umount").args(["-i", "-l", point]));
                }
            }
        }
    }
}

/// Fails the test unless a command ended with `status` and said `said`.
#[track_caller]
pub fn assert_failed(output: &Output, status: i32, said: &str) {
    assert_eq!(output.code(), Some(status), "{output}");
    assert!(output.stderr.contains(said), "not {said:?} but {output}");
}

/// A process of ours, ended on drop with its group.
pub struct Running(Child);

impl Running {
    /// Starts it, with what it says on standard error to be [`read`](Self::end).
    pub fn start(command: &mut Command) -> Running {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        Running(child.unwrap_or_else(|e| panic!("cannot run {command:?}: {e}")))
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Sends it a signal, by name.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        signal(name, &self.id().to_string());
    }

    /// Sends its process group a signal, as a key of the terminal does.
    #[track_caller]
    pub fn signal_group(&self, name: &str) {
        signal(name, &format!("-{}", self.id()));
    }

    /// Waits for its end. Returns its exit status as a shell sees it, and what it said.
    #[track_caller]
    pub fn end(mut self) -> (i32, String) {
        use std::io::Read;
        use std::os::unix::process::ExitStatusExt;
        wait_until("a process has ended", PATIENCE, || !self.runs());
        let status = self.0.wait().expect("it has ended");
        let mut said = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            // Its own words only: a process that it left behind may keep the pipe open.
            let mut bytes = vec![0; 64 << 10];
            let n = stderr.read(&mut bytes).unwrap_or(0);
            said = String::from_utf8_lossy(&bytes[..n]).into_owned();
        }
        let code = status.code().or(status.signal().map(|signal| 128 + signal));
        (code.unwrap_or(-1), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.runs() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Whether the tests are run by root.
pub fn is_root() -> bool {
    run(Command::new("id").arg("-u")).text().trim() == "0"
}

/// Sends a signal, by name.
#[track_caller]
pub fn signal(name: &str, pid: &str) {
    run(Command::new("kill").args(["-s", name, "--", pid])).expect_success();
}
