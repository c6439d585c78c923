//! Other processes, as `/proc` shows them: to name who is in the way. All of it is best effort:
//! what this user may not see is left out.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::change::line;
use super::mountinfo::{self, Mount};

/// The name of a process's command, such as `etcd`.
pub fn name(pid: u32) -> String {
    match fs::read(format!("/proc/{pid}/comm")) {
        Ok(comm) => line(String::from_utf8_lossy(&comm).trim_end()).into_owned(),
        Err(_) => "a process".to_owned(),
    }
}

/// Word `number` of a process's command line, where word 0 is its own name.
pub fn argument(pid: u32, number: usize) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let word = line.split(|&byte| byte == 0).nth(number)?;
    Some(String::from_utf8_lossy(word).into_owned())
}

/// Whether there is such a process.
pub fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut pids: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| pid != std::process::id())
        .collect();
    pids.sort_unstable();
    pids
}

/// The numbers and paths below `/proc/PID/fd`.
fn descriptors(pid: u32) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().into_string().ok()?, entry.path()))
        })
        .collect()
}

/// The other processes that have the file with this device and inode number open.
pub fn with_file_open(device: u64, inode: u64) -> Vec<u32> {
    let is_it = |path: &PathBuf| {
        // Only a regular file can be it; following a link to anything else could block.
        fs::read_link(path).is_ok_and(|target| target.has_root())
            && fs::metadata(path).is_ok_and(|m| m.dev() == device && m.ino() == inode)
    };
    all()
        .into_iter()
        .filter(|&pid| descriptors(pid).iter().any(|(_, path)| is_it(path)))
        .collect()
}

/// A process that keeps a mount from being unmounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub pid: u32,
    /// Its command's name.
    pub name: String,
    /// What it does there, as a verb phrase: "has its working directory in it".
    pub does: String,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}) {}", self.name, self.pid, self.does)
    }
}

/// The other processes that use a mount, found without a question to the file system mounted.
pub fn users(mount: &Mount) -> Vec<User> {
    all()
        .into_iter()
        .filter_map(|pid| {
            Some(User {
                pid,
                name: name(pid),
                does: use_of(pid, mount)?,
            })
        })
        .collect()
}

fn use_of(pid: u32, mount: &Mount) -> Option<String> {
    for (link, does) in [
        ("cwd", "has its working directory in it"),
        ("root", "has its root directory in it"),
    ] {
        if mount_of(&format!("/proc/{pid}/{link}")) == Some(mount.id) {
            return Some(does.to_owned());
        }
    }
    for (number, path) in descriptors(pid) {
        if mount_in(&format!("/proc/{pid}/fdinfo/{number}")) == Some(mount.id) {
            let open = fs::read_link(path).unwrap_or_else(|_| mount.point.clone());
            return Some(format!("has {} open", line(&mountinfo::shown(&open))));
        }
    }
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let device = format!("{:02x}:{:02x}", mount.device.major, mount.device.minor);
    maps.lines()
        .any(|line| line.split_whitespace().nth(3) == Some(&device))
        .then(|| "has a file of it mapped".to_owned())
}

/// The mount that a link of `/proc` leads to. Opening it as a place only asks the file system
/// nothing.
fn mount_of(link: &str) -> Option<u64> {
    let place: File = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(link)
        .ok()?;
    mount_in(&format!("/proc/self/fdinfo/{}", place.as_raw_fd()))
}

fn mount_in(fdinfo: &str) -> Option<u64> {
    fs::read_to_string(fdinfo)
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_found_by_what_it_holds() {
        let path = std::env::temp_dir().join(format!("boltfs-open-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        let metadata = file.metadata().unwrap();
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::from(file))
            .current_dir("/proc/sys")
            .spawn()
            .unwrap();
        let open = with_file_open(metadata.dev(), metadata.ino());
        let proc = mountinfo::at(Path::new("/proc")).unwrap().unwrap();
        let users = users(&proc);
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_file(path).unwrap();

        assert_eq!(open, [child.id()]);
        let user = users.iter().find(|user| user.pid == child.id()).unwrap();
        assert_eq!(
            user.to_string(),
            format!("sleep (pid {}) has its working directory in it", child.id())
        );
        assert!(!is_alive(child.id()));
    }
}
