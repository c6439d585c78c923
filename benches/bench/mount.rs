//! A database mounted by the boltfs that is measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program that is measured.
pub const BOLTFS: &str = env!("CARGO_BIN_EXE_boltfs");

/// A live mount; what was staged is dropped with it.
pub struct Mount {
    point: PathBuf,
    /// The process that serves it.
    pub pid: u32,
}

impl Mount {
    /// Mounts `database` on an empty directory beside it.
    pub fn new(database: &Path, options: &[&str]) -> Mount {
        let mut mount = Mount {
            point: Mount::point(database),
            pid: 0,
        };
        mount.start(database, options);
        mount.pid = mount.server();
        mount
    }

    /// An empty directory to mount `database` on.
    pub fn point(database: &Path) -> PathBuf {
        let point = database.with_extension(format!("mnt-{}", std::process::id()));
        fs::create_dir_all(&point).expect("a mount point can be made");
        point
    }

    /// Mounts and does nothing else; the process is not known then.
    pub fn only(database: &Path, point: PathBuf) -> Mount {
        let mount = Mount { point, pid: 0 };
        mount.start(database, &[]);
        mount
    }

    fn start(&self, database: &Path, options: &[&str]) {
        let mut command = Command::new(BOLTFS);
        run(command.args(options).arg(database).arg(&self.point));
    }

    fn server(&self) -> u32 {
        let info = fs::read_to_string(self.point.join(".boltfs/info")).expect("it is mounted");
        let info: serde_json::Value = serde_json::from_str(&info).expect("info is JSON");
        info["pid"].as_u64().expect("info has the process's id") as u32
    }

    /// The bucket that every database here has.
    pub fn bucket(&self) -> PathBuf {
        self.point.join("bucket-000000")
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// Commits what is staged, without an unmount.
    pub fn commit(&self) {
        fs::write(self.point.join(".boltfs/control"), "commit").expect("the commit succeeds");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let mut unmount = Command::new(BOLTFS);
        unmount.args(["umount", "--discard"]).arg(&self.point);
        let done = unmount.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !done.is_ok_and(|status| status.success()) {
            let _ = Command::new("fusermount3")
                .args(["-u", "-z"])
                .arg(&self.point)
                .status();
        }
        let _ = fs::remove_dir(&self.point);
    }
}

/// Runs a program that must succeed.
pub fn run(command: &mut Command) -> Vec<u8> {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{said}",
        output.status
    );
    output.stdout
}
