//! A database with a bit of everything, mounted, with a scratch directory beside it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use crate::common::mount::{BOLTFS, is_mounted, need_fuse};
use crate::common::process::{
    Output, PATIENCE, processes_with, run, run_within, script, wait_until,
};
use crate::common::tree::{Edit, Tree};
use crate::common::{Bulk, Options, Oracle, Rng, TempDir};

/// Whose fingers they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Whoever runs the tests.
    Caller,
    /// Debian's `nobody`, who mounts through `fusermount3`; the caller, if that is not root.
    Ordinary,
}

const NOBODY: u32 = 65_534;

/// A member as etcd stores it; its id does not fit a double.
pub const MEMBER_A: &str = r#"{"id":9223940723929199765,"peerURLs":["https://10.0.0.12:2380"]}"#;
/// Another, with all that a started member has.
pub const MEMBER_B: &str = r#"{"id":14897328164050071356,"peerURLs":["https://10.0.0.11:2380"],"name":"control-plane-1","clientURLs":["https://10.0.0.11:2379"]}"#;

/// The keys of [`MEMBER_A`] and [`MEMBER_B`] in `members`.
pub const A: &str = "members/80020537c70f3495";
pub const B: &str = "members/cebdf10928a06f3c";

/// A mounted database, what it is to hold in the end, and a place to work in.
pub struct Bench {
    user: User,
    /// `db`, `mnt`, `out` (a scratch directory) and `home` are in it.
    directory: TempDir,
    /// What the database held at the start.
    before: Tree,
    /// What it is to hold after the commit.
    expected: Tree,
}

impl Bench {
    /// The sample, mounted.
    #[track_caller]
    pub fn new(user: User) -> Bench {
        Bench::of(user, sample())
    }

    /// This content, mounted.
    #[track_caller]
    pub fn of(user: User, content: Tree) -> Bench {
        let bench = Bench::with_file(user, content, |file, content| {
            Oracle::shared().create(
                file,
                content,
                Options {
                    no_sync: true,
                    ..Options::default()
                },
            )
        });
        bench.mount(&[]);
        bench
    }

    /// Bucket `bucket-000000` with this many keys, mounted.
    #[track_caller]
    pub fn large(user: User, keys: u32) -> Bench {
        let bulk = Bulk {
            keys,
            value: 100,
            seed: 1,
            ..Bulk::default()
        };
        let mut bench = Bench::with_file(user, Tree::default(), |file, _| {
            Oracle::shared().create_bulk(
                file,
                &bulk,
                Options {
                    no_sync: true,
                    ..Options::default()
                },
            )
        });
        bench.before = Oracle::shared()
            .dump(&bench.database())
            .expect("bbolt reads it");
        bench.expected = bench.before.clone();
        bench.mount(&[]);
        bench
    }

    #[track_caller]
    fn with_file<E: std::fmt::Display>(
        user: User,
        content: Tree,
        create: impl FnOnce(&Path, &Tree) -> Result<(), E>,
    ) -> Bench {
        need_fuse();
        let directory = TempDir::new("tools");
        let bench = Bench {
            user,
            directory,
            expected: content.clone(),
            before: content,
        };
        for name in ["mnt", "out", "home"] {
            fs::create_dir(bench.directory.join(name)).expect("a directory can be made");
        }
        create(&bench.database(), &bench.before)
            .unwrap_or_else(|e| panic!("bbolt makes a database: {e}"));
        // Older than what a test writes: rsync and find compare times.
        let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
        let file = fs::File::options()
            .write(true)
            .open(bench.database())
            .expect("the database is there");
        file.set_modified(an_hour_ago).expect("its time can be set");
        fs::set_permissions(bench.database(), fs::Permissions::from_mode(0o644)).expect("chmod");
        if bench.is_other() {
            for name in ["", "db", "mnt", "out", "home"] {
                let path = bench.directory.join(name);
                chown(&path, Some(NOBODY), Some(NOBODY))
                    .unwrap_or_else(|e| panic!("chown {}: {e}", path.display()));
            }
        }
        bench
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.directory.join("db")
    }

    /// The mount point.
    pub fn point(&self) -> PathBuf {
        self.directory.join("mnt")
    }

    /// The scratch directory, `$OUT` in shell lines.
    pub fn out(&self) -> PathBuf {
        self.directory.join("out")
    }

    /// Another user than the one who runs the tests.
    fn is_other(&self) -> bool {
        self.user == User::Ordinary && is_root()
    }

    /// A command line as this user, with the mount in `$MNT`, the scratch directory in `$OUT`, and a home of its own.
    pub fn command(&self, program: &str) -> Command {
        let mut command = match self.is_other() {
            true => {
                let mut command = Command::new("setpriv");
                let id = NOBODY.to_string();
                command.args([
                    "--reuid",
                    &id,
                    "--regid",
                    &id,
                    "--clear-groups",
                    "--inh-caps=-all",
                    program,
                ]);
                command
            }
            false => Command::new(program),
        };
        command
            .env("MNT", self.point())
            .env("OUT", self.out())
            .env("HOME", self.directory.join("home"));
        command.envs([
            ("TERM", "xterm"),
            ("LC_ALL", "C.UTF-8"),
            ("GIT_PAGER", "cat"),
            ("EDITOR", "false"),
        ]);
        command.env_remove("TMPDIR").current_dir("/");
        command
    }

    /// Mounts it.
    #[track_caller]
    pub fn mount(&self, options: &[&str]) {
        run(self
            .command(boltfs(self.is_other()))
            .args(options)
            .arg(self.database())
            .arg(self.point()))
        .expect_success();
        assert!(is_mounted(&self.point()));
    }

    /// Runs a line of bash in the mount, however it ends.
    #[track_caller]
    pub fn try_sh(&self, line: &str) -> Output {
        // Root may not even enter another user's mount, so the shell goes there by itself.
        let line = script(&format!("cd \"$MNT\"\n{line}"));
        run_within(
            PATIENCE,
            self.command("bash").args(["-euo", "pipefail", "-c", &line]),
        )
    }

    /// Runs a line of bash in the mount, which must succeed and say nothing on standard error; what it printed.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        let output = self.try_sh(line).expect_success();
        assert!(output.stderr.is_empty(), "{output}");
        output.text()
    }

    /// Runs a line of bash in the mount, which must fail with this in its message.
    #[track_caller]
    pub fn fails(&self, line: &str, message: &str) {
        let output = self.try_sh(line).expect_failure();
        assert!(
            output.stderr.contains(message),
            "no `{message}` in {output}"
        );
    }

    /// The lines of `.boltfs/pending`, columns divided by one space, empty ones left out.
    #[track_caller]
    pub fn pending(&self) -> Vec<String> {
        let columns = |line: &str| {
            line.split('\t')
                .filter(|column| !matches!(*column, "" | "-"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        self.sh("cat .boltfs/pending")
            .lines()
            .map(columns)
            .collect()
    }

    /// Waits until no process has its working directory in the mount.
    #[track_caller]
    pub fn wait_until_nobody_is_there(&self) {
        let is_there = |pid: &str| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|at| at.starts_with(self.point()))
        };
        wait_until("nobody is in the mount", PATIENCE, || {
            let processes = fs::read_dir("/proc").expect("/proc is there").flatten();
            !processes
                .filter_map(|entry| entry.file_name().into_string().ok())
                .any(|pid| is_there(&pid))
        });
    }

    /// Fails the test unless exactly this is pending.
    #[track_caller]
    pub fn assert_pending(&self, expected: &[&str]) {
        assert_eq!(self.pending(), expected);
    }

    /// The key at `path` is to have this value in the end.
    pub fn expect(&mut self, path: &str, value: impl AsRef<[u8]>) {
        let (path, key) = split(path);
        self.apply(Edit::Put {
            path,
            key,
            value: value.as_ref().to_vec(),
        });
    }

    /// The key at `path` is to be gone in the end.
    pub fn expect_no(&mut self, path: &str) {
        let (path, key) = split(path);
        self.apply(Edit::Delete { path, key });
    }

    /// There is to be a bucket at `path`, empty unless more is expected.
    pub fn expect_bucket(&mut self, path: &str) {
        self.apply(Edit::CreateBucket { path: keys(path) });
    }

    /// The bucket at `path` is to be gone in the end.
    pub fn expect_no_bucket(&mut self, path: &str) {
        self.apply(Edit::DeleteBucket { path: keys(path) });
    }

    /// The bucket at `path`, as it is to be in the end.
    pub fn expected(&mut self, path: &str) -> &mut Tree {
        self.expected
            .bucket_mut(&keys(path))
            .expect("there is such a bucket")
    }

    fn apply(&mut self, edit: Edit) {
        self.expected
            .apply(&edit)
            .unwrap_or_else(|e| panic!("{edit:?}: {e}"));
    }

    /// Unmounts. What was expected, and nothing else, is in the database then, and it is sound. Returns the report.
    #[track_caller]
    pub fn commit(mut self) -> String {
        self.end()
    }

    #[track_caller]
    fn end(&mut self) -> String {
        let pending = self.pending();
        let old = self.state_of_file();
        let output = run(self
            .command(boltfs(self.is_other()))
            .arg("umount")
            .arg(self.point()))
        .expect_success();
        assert!(!is_mounted(&self.point()), "{output}\nstill mounted");
        let found = Oracle::shared()
            .dump(&self.database())
            .unwrap_or_else(|e| panic!("{output}\n{e}"));
        self.expected.assert_same(
            &found,
            &format!("{output}\npending was {pending:#?}\nthe database"),
        );
        Oracle::shared().assert_sound(&self.database());
        if pending.is_empty() {
            assert!(output.stderr.contains("nothing to commit"), "{output}");
            assert!(
                old == self.state_of_file(),
                "{output}\nthe file was written to"
            );
        } else {
            assert!(output.stderr.contains("committed transaction"), "{output}");
        }
        self.before = found;
        output.stderr
    }

    /// Commits, and mounts it once more with these options.
    #[track_caller]
    pub fn commit_and_mount(&mut self, options: &[&str]) {
        self.end();
        self.mount(options);
    }

    fn state_of_file(&self) -> (Vec<u8>, u64, SystemTime) {
        let metadata = fs::metadata(self.database()).expect("the database is there");
        let content = fs::read(self.database()).expect("the database is readable");
        (
            content,
            metadata.ino(),
            metadata.modified().expect("it has a time"),
        )
    }

    /// [`commit`](Bench::commit), where nothing is to be committed.
    #[track_caller]
    pub fn commit_nothing(self) {
        assert!(self.expected == self.before, "the test expects a change");
        self.assert_pending(&[]);
        self.commit();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let point = self.point();
        let processes = || processes_with(&[point.as_os_str()]);
        if is_mounted(&point) {
            // Never commits on the way out of a failed test: kill first, then take the mount away.
            for pid in processes() {
                let _ = run(Command::new("kill").args(["-9", &pid.to_string()]));
            }
            let unmounted = run(Command::new("fusermount3")
                .args(["-u", "-z", "-q"])
                .arg(&point));
            if !unmounted.is_success() {
                let _ = run(Command::new("umount").args(["-i", "-l"]).arg(&point));
            }
        }
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The program under test; for another user a copy, if the build directory is closed to that user.
fn boltfs(other: bool) -> &'static str {
    static OPEN_TO_ALL: OnceLock<PathBuf> = OnceLock::new();
    if !other {
        return BOLTFS;
    }
    let program = OPEN_TO_ALL.get_or_init(|| {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            BOLTFS,
            "--help",
        ]);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if status.expect("setpriv of util-linux runs").success() {
            return BOLTFS.into();
        }
        // One name for all runs, so that they do not fill the disk.
        let directory = std::env::temp_dir().join("boltfs-tools-program");
        fs::create_dir_all(&directory).expect("a directory can be made");
        let (fresh, program) = (
            directory.join(std::process::id().to_string()),
            directory.join("boltfs"),
        );
        fs::copy(BOLTFS, &fresh).expect("the program can be copied");
        fs::rename(&fresh, &program).expect("and moved into place");
        program
    });
    program.to_str().expect("a plain path")
}

/// Keys divided by slashes; none is the root.
fn keys(path: &str) -> Vec<Vec<u8>> {
    path.split('/')
        .filter(|key| !key.is_empty())
        .map(|key| key.as_bytes().to_vec())
        .collect()
}

fn split(path: &str) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut path = keys(path);
    let key = path.pop().expect("a path is not empty");
    (path, key)
}

/// A bit of everything: etcd's buckets, styles of JSON, odd names, binary keys and values, several pages, nesting, sequences.
pub fn sample() -> Tree {
    let mut tree = Tree::default();
    let mut put = |path: &[&[u8]], key: &[u8], value: &[u8]| {
        for depth in 1..=path.len() {
            let path: Vec<_> = path[..depth].iter().map(|name| name.to_vec()).collect();
            if tree.bucket(&path).is_none() {
                tree.apply(&Edit::CreateBucket { path }).expect("a bucket");
            }
        }
        if !key.is_empty() {
            let path = path.iter().map(|name| name.to_vec()).collect();
            tree.apply(&Edit::Put {
                path,
                key: key.to_vec(),
                value: value.to_vec(),
            })
            .expect("a key");
        }
    };
    put(&[b"members"], b"80020537c70f3495", MEMBER_A.as_bytes());
    put(&[b"members"], b"cebdf10928a06f3c", MEMBER_B.as_bytes());
    put(&[b"cluster"], b"clusterVersion", b"3.5.0");
    put(
        &[b"config"],
        b"python",
        br#"{"log": "debug", "ports": [80, 443]}"#,
    );
    put(&[b"config"], b"with-newline", b"{\"log\":\"debug\"}\n");
    put(&[b"config"], b"lines", b"one\ntwo\nthree\n");
    put(&[b"config"], b"empty", b"");
    put(&[b"config"], b"two words", b"words\n");
    put(&[b"config"], "schlüssel".as_bytes(), "wörter\n".as_bytes());
    put(&[b"config"], b"a/b", b"slash\n");
    put(&[b"config", b"nested"], b"deep", b"one level\n");
    put(
        &[b"config", b"nested", b"deeper"],
        b"deepest",
        b"two levels\n",
    );
    put(&[b"hollow"], b"", b"");
    let mut rng = Rng::new(1);
    for number in 0..20u64 {
        put(
            &[b"key"],
            &(number << 8).to_be_bytes(),
            &rng.bytes(number as usize * 97),
        );
    }
    put(&[b"large"], b"blob", &rng.bytes(300_000));
    for number in 0..300 {
        put(
            &[b"rows"],
            format!("row-{number:03}").as_bytes(),
            format!("this is row {number}\n").repeat(8).as_bytes(),
        );
    }
    tree.bucket_mut(&keys("config/nested"))
        .expect("made above")
        .seq = 7;
    tree
}
