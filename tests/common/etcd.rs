//! A real etcd (Debian's etcd-server and etcd-client), on ports of its own on 127.0.0.1.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::process::{Output, free_port, run, wait_until};

const NEEDS: &str =
    "the tests run a real etcd: apt-get install etcd-server etcd-client (scripts/test does it)";

/// A running etcd of one member; killed on drop.
pub struct Etcd {
    child: Child,
    /// Its data directory.
    pub data: PathBuf,
    name: String,
    client: String,
    peer: String,
    log: PathBuf,
}

impl Etcd {
    /// Starts a new cluster of one in `data`, which must not exist; waits until it answers.
    #[track_caller]
    pub fn start_new(data: &Path, name: &str) -> Etcd {
        let peer = format!("http://127.0.0.1:{}", free_port());
        Etcd::start_with(data, name, &peer, true)
    }

    /// Starts from the data directory that another one left or [`restore`] made, with the peer address it knows; waits until it
    /// answers.
    #[track_caller]
    pub fn start_existing(data: &Path, name: &str, peer: &str) -> Etcd {
        let etcd = Etcd::start_with(data, name, peer, false);
        etcd.wait_until_healthy();
        etcd
    }

    fn start_with(data: &Path, name: &str, peer: &str, new: bool) -> Etcd {
        let client = format!("http://127.0.0.1:{}", free_port());
        let log = data.with_extension("log");
        let out =
            File::create(&log).unwrap_or_else(|e| panic!("cannot create {}: {e}", log.display()));
        let mut command = Command::new("etcd");
        command
            .args(["--name", name, "--data-dir"])
            .arg(data)
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                peer,
                "--initial-advertise-peer-urls",
                peer,
            ])
            .stdin(Stdio::null())
            .stderr(out.try_clone().expect("a descriptor can be doubled"))
            .stdout(out);
        if cfg!(target_arch = "aarch64") {
            command.env("ETCD_UNSUPPORTED_ARCH", "arm64");
        }
        if new {
            command.args(["--initial-cluster", &format!("{name}={peer}")]);
        }
        let child = command
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run etcd: {e}; {NEEDS}"));
        let etcd = Etcd {
            child,
            data: data.to_path_buf(),
            name: name.to_string(),
            client,
            peer: peer.to_string(),
            log,
        };
        if new {
            etcd.wait_until_healthy();
        }
        etcd
    }

    /// The address that members reach it by.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// The member's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its database lies.
    pub fn database(&self) -> PathBuf {
        self.data.join("member/snap/db")
    }

    /// Runs etcdctl against it.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        run(etcdctl()
            .args(["--endpoints", &self.client, "--command-timeout=10s"])
            .args(arguments))
    }

    /// Runs etcdctl, which must succeed, and returns what it printed.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        assert!(
            output.is_success(),
            "{output}\netcd's log ends:\n{}",
            self.end_of_log()
        );
        output.text()
    }

    /// Every key and value, in order, as etcdctl prints them with `-w json`.
    #[track_caller]
    pub fn everything(&self) -> serde_json::Value {
        let text = self.ask(&["get", "", "--prefix", "-w", "json"]);
        let mut answer: serde_json::Value =
            serde_json::from_str(&text).expect("etcdctl prints JSON");
        answer["kvs"].take()
    }

    /// Kills it, as a machine that loses its power.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    #[track_caller]
    fn wait_until_healthy(&self) {
        let healthy = || {
            let url = &self.client;
            run(etcdctl().args([
                "--endpoints",
                url,
                "--command-timeout=1s",
                "endpoint",
                "health",
            ]))
            .is_success()
        };
        wait_until(
            &format!("etcd is healthy; its log is {}", self.log.display()),
            Duration::from_secs(60),
            healthy,
        );
    }

    fn end_of_log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("etcd's log ends:\n{}", self.end_of_log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// etcdctl with the interface of version 3.
pub fn etcdctl() -> Command {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3");
    command
}

/// `etcdctl snapshot restore --skip-hash-check` of a copied database into a new data directory.
#[track_caller]
pub fn restore(database: &Path, data: &Path, name: &str, peer: &str) {
    run(etcdctl()
        .args(["snapshot", "restore"])
        .arg(database)
        .args(["--skip-hash-check", "--data-dir"])
        .arg(data)
        .args([
            "--name",
            name,
            "--initial-cluster",
            &format!("{name}={peer}"),
        ])
        .args(["--initial-advertise-peer-urls", peer]))
    .expect_success();
}
