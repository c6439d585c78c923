//! A database mounted by the real `boltfs`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::process::{Output, processes_with, run, wait_until};
use super::temp::TempDir;

/// The program under test.
pub const BOLTFS: &str = env!("CARGO_BIN_EXE_boltfs");

/// A live mount in a temporary directory; unmounted, without fail, on drop.
pub struct Mount {
    point: PathBuf,
    /// What `boltfs` said while mounting, warnings for instance.
    pub said: String,
    _directory: TempDir,
}

impl Mount {
    /// Mounts `database`; fails the test when that fails. `options` go before the database.
    #[track_caller]
    pub fn new(database: &Path, options: &[&str]) -> Mount {
        match Mount::try_new(database, options) {
            Ok(mount) => mount,
            Err(output) => panic!("{output}"),
        }
    }

    /// Mounts `database` in the background.
    ///
    /// # Errors
    /// What was said by a `boltfs` that failed.
    #[track_caller]
    pub fn try_new(database: &Path, options: &[&str]) -> Result<Mount, Output> {
        let directory = TempDir::new("mount");
        let point = directory.join("mnt");
        fs::create_dir(&point).expect("an empty directory can be made");
        let mut mount = Mount {
            point,
            said: String::new(),
            _directory: directory,
        };
        let output = boltfs().args(options).arg(database).arg(&mount.point).run();
        if !output.is_success() {
            assert!(
                !is_mounted(&mount.point),
                "{output}\nfailed, and is mounted all the same"
            );
            return Err(output);
        }
        assert!(
            is_mounted(&mount.point),
            "{output}\nreturned, and nothing is mounted"
        );
        mount.said = output.stderr;
        Ok(mount)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// A path in it.
    pub fn join(&self, path: &str) -> PathBuf {
        self.point.join(path)
    }

    /// A path in it that need not be text.
    pub fn join_bytes(&self, path: &[u8]) -> PathBuf {
        self.point.join(OsStr::from_bytes(path))
    }

    /// Runs a line of bash in it, which must succeed, and returns what it printed.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        super::process::sh(&self.point, line)
            .expect_success()
            .text()
    }

    /// `boltfs umount`, which must succeed; returns its report.
    ///
    /// A test on another thread may be starting a program: between fork and exec that child has a copy of every file open in
    /// this process, and what this test had open in the mount is then in use for a moment longer.
    #[track_caller]
    pub fn umount(self) -> String {
        let started = Instant::now();
        let mut output = self.umount_with(&[]);
        while output.stderr.contains(" is in use") && started.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
            output = self.umount_with(&[]);
        }
        let output = output.expect_success();
        assert!(!is_mounted(&self.point), "{output}\nstill mounted");
        output.stderr
    }

    /// `boltfs umount` with options, however it ends.
    #[track_caller]
    pub fn umount_with(&self, options: &[&str]) -> Output {
        boltfs().arg("umount").args(options).arg(&self.point).run()
    }

    /// The processes that serve it.
    pub fn processes(&self) -> Vec<i32> {
        processes_with(&[self.point.as_os_str()])
    }

    /// Waits until the processes that serve it are gone, after an unmount that does not wait by itself.
    #[track_caller]
    pub fn wait_until_gone(&self) {
        wait_until("boltfs has ended", Duration::from_secs(30), || {
            self.processes().is_empty()
        });
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if is_mounted(&self.point) {
            // Never commits on the way out of a failed test: kill first, then take the mount away.
            for pid in self.processes() {
                let _ = run(Command::new("kill").args(["-9", &pid.to_string()]));
            }
            let unmounted = run(Command::new("fusermount3")
                .args(["-u", "-z", "-q"])
                .arg(&self.point));
            if !unmounted.is_success() {
                let _ = run(Command::new("umount").args(["-i", "-l"]).arg(&self.point));
            }
        }
        for pid in self.processes() {
            let _ = run(Command::new("kill").args(["-9", &pid.to_string()]));
        }
    }
}

/// A command line of `boltfs`, to be run.
pub struct Boltfs(Command);

/// Starts a command line of `boltfs`.
pub fn boltfs() -> Boltfs {
    need_fuse();
    Boltfs(Command::new(BOLTFS))
}

impl Boltfs {
    /// One argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Boltfs {
        self.0.arg(argument);
        self
    }

    /// Several arguments.
    pub fn args(mut self, arguments: &[&str]) -> Boltfs {
        self.0.args(arguments);
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(mut self) -> Output {
        run(&mut self.0)
    }

    /// The command, to be run otherwise.
    pub fn command(self) -> Command {
        self.0
    }
}

/// Whether something is mounted on this very directory.
pub fn is_mounted(point: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is there");
    // Temporary directories have no character that the table escapes.
    table
        .lines()
        .any(|line| line.split(' ').nth(4) == point.to_str())
}

/// Fails the test, and says what to do, where file systems cannot be mounted. Never skips it.
#[track_caller]
pub fn need_fuse() {
    if let Err(e) = File::options().read(true).write(true).open("/dev/fuse") {
        panic!(
            "/dev/fuse cannot be opened ({e}), so nothing can be mounted. As root: modprobe fuse; chmod 666 /dev/fuse. In a \
             container: run it with --device /dev/fuse --cap-add SYS_ADMIN. scripts/test does what it can of this."
        );
    }
}
