//! The real bbolt: tests/oracle, built once and kept running.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::tree::{Edit, Node, Tree, from_hex, to_hex};

/// Where Debian's golang-*-dev packages put their sources.
const GOPATH: &str = "/usr/share/gocode";

/// Longest time that an answer may take; a cycle of pages keeps bbolt busy for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running `oracle serve`. It may be shared between threads; requests wait for each other.
pub struct Oracle {
    process: Mutex<Option<Process>>,
}

/// How bbolt opens or creates a file; the default is bbolt's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Of a file that does not exist yet; `None`: the system's. Below 1024 bytes bbolt cannot open the file again before
    /// it has grown to 4096 bytes: put something of that size in the first transaction.
    pub page_size: Option<u32>,
    /// FreelistType: hashmap in place of array.
    pub hashmap: bool,
    /// Do not store the freelist.
    pub no_freelist_sync: bool,
    /// How full pages are packed, 0.1 to 1.0; `None`: bbolt's default, 0.5.
    pub fill_percent: Option<f64>,
    /// No fsync: for tests that do not cut the power.
    pub no_sync: bool,
}

/// A large database made from a seed; see tests/oracle/bulk.go.
#[derive(Clone, Debug, Default)]
pub struct Bulk {
    /// `bucket-000000`, …; 0 means 1.
    pub buckets: u32,
    /// Levels of a sub-bucket `sub` below each, with as many keys.
    pub depth: u32,
    /// Keys in each bucket.
    pub keys: u32,
    /// `"text"`: key-00000000, …; `"binary"`: 8 bytes, big-endian; `"random"`: 16 bytes. Empty: text.
    pub key: &'static str,
    /// Bytes of each value.
    pub value: u32,
    /// `"random"`: bytes; `"json"`: a compact object. Empty: random.
    pub kind: &'static str,
    /// The same seed gives the same content.
    pub seed: i64,
}

/// Why bbolt gave no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An error that bbolt (or opening the file) returned.
    Error(String),
    /// bbolt panicked or the process died; the text says how.
    Panic(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Error(text) => write!(f, "bbolt: {text}"),
            Failure::Panic(text) => write!(f, "bbolt panics: {text}"),
        }
    }
}

/// What bbolt does when it may write to a copy of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Errors of check before writing.
    pub before: Vec<String>,
    /// `Ok`, or how writing failed.
    pub write: Result<(), String>,
    /// Errors of check after writing.
    pub after: Vec<String>,
}

/// A run of pages as bbolt sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Page number.
    pub id: u64,
    /// `meta`, `freelist`, `branch`, `leaf` or `free`.
    pub kind: String,
    /// Elements.
    pub count: u64,
    /// Further pages in the run.
    pub overflow: u64,
}

struct Process {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
}

impl Oracle {
    /// Builds the program if need be and starts it with the first request.
    pub fn new() -> Self {
        program();
        Oracle {
            process: Mutex::new(None),
        }
    }

    /// One for the whole test binary, for tests that ask seldom.
    pub fn shared() -> &'static Oracle {
        static SHARED: OnceLock<Oracle> = OnceLock::new();
        SHARED.get_or_init(Oracle::new)
    }

    /// The whole content, opened read-only.
    pub fn dump(&self, file: &Path) -> Result<Tree, Failure> {
        let answer = self.ask(json!({"op": "dump", "file": path(file)}))?;
        Ok(tree_from_json(&answer))
    }

    /// The content as the fixtures' manifest has it: with length and SHA-256 in place of values.
    pub fn dump_hashed(&self, file: &Path) -> Result<Value, Failure> {
        self.ask(json!({"op": "dump", "file": path(file), "hash": true}))
    }

    /// Everything that bbolt's check finds, and what a walk by cursor, look-up and seek finds; opened read-only.
    pub fn check(&self, file: &Path) -> Result<Vec<String>, Failure> {
        let answer = self.ask(json!({"op": "check", "file": path(file)}))?;
        Ok(strings(&answer["errors"]))
    }

    /// Fails the test unless check finds nothing.
    #[track_caller]
    pub fn assert_sound(&self, file: &Path) {
        match self.check(file) {
            Ok(errors) if errors.is_empty() => {}
            Ok(errors) => panic!("bbolt check of {}: {errors:#?}", file.display()),
            Err(failure) => panic!("bbolt check of {}: {failure}", file.display()),
        }
    }

    /// Opens a copy for writing, lets bbolt put, delete and create all over it, and checks before and after.
    pub fn probe(&self, file: &Path, options: Options) -> Result<Probe, Failure> {
        let answer = self.ask(json!({
            "op": "check", "mode": "rw-copy", "file": path(file), "options": options.json(),
        }))?;
        let write = answer["write"]
            .as_str()
            .expect("the oracle says how writing went");
        Ok(Probe {
            before: strings(&answer["errors"]),
            write: if write == "ok" {
                Ok(())
            } else {
                Err(write.to_string())
            },
            after: strings(&answer["errors_after"]),
        })
    }

    /// Applies each list of edits in one transaction; a missing file is created. The first error ends it and rolls that
    /// transaction back. Returns how long each `db.Update` took.
    pub fn edit(
        &self,
        file: &Path,
        script: &[Vec<Edit>],
        options: Options,
    ) -> Result<Vec<Duration>, Failure> {
        let script: Vec<Value> = script
            .iter()
            .map(|edits| edits.iter().map(edit_json).collect())
            .collect();
        let answer = self.ask(json!({
            "op": "edit", "file": path(file), "script": script, "options": options.json(),
        }))?;
        let times = answer["update_ns"]
            .as_array()
            .expect("the oracle times each transaction");
        Ok(times
            .iter()
            .map(|t| Duration::from_nanos(t.as_u64().unwrap_or(0)))
            .collect())
    }

    /// Makes a file of this content.
    pub fn create(&self, file: &Path, content: &Tree, options: Options) -> Result<(), Failure> {
        assert!(!file.exists(), "{} is there already", file.display());
        self.edit(file, &[content.as_edits()], options).map(|_| ())
    }

    /// Makes a large file, fast.
    pub fn create_bulk(&self, file: &Path, bulk: &Bulk, options: Options) -> Result<(), Failure> {
        assert!(!file.exists(), "{} is there already", file.display());
        let bulk = json!({
            "buckets": bulk.buckets, "depth": bulk.depth, "keys": bulk.keys, "key": bulk.key,
            "value": bulk.value, "kind": bulk.kind, "seed": bulk.seed,
        });
        self.ask(
            json!({"op": "create", "file": path(file), "bulk": bulk, "options": options.json()}),
        )
        .map(|_| ())
    }

    /// Every run of pages, free pages one by one.
    pub fn pages(&self, file: &Path) -> Result<Vec<Page>, Failure> {
        let answer = self.ask(json!({"op": "pages", "file": path(file)}))?;
        let pages = answer.as_array().expect("the oracle lists pages");
        Ok(pages
            .iter()
            .map(|page| Page {
                id: page["id"].as_u64().unwrap_or(0),
                kind: page["type"].as_str().unwrap_or("").to_string(),
                count: page["count"].as_u64().unwrap_or(0),
                overflow: page["overflow"].as_u64().unwrap_or(0),
            })
            .collect())
    }

    /// bbolt's statistics: `page_size`, `txid`, `size` (high-water mark in bytes) and `buckets` (bbolt's BucketStats).
    pub fn stats(&self, file: &Path) -> Result<Value, Failure> {
        self.ask(json!({"op": "stats", "file": path(file)}))
    }

    /// Sends one request and waits for its answer. A process that died is replaced at the next request.
    fn ask(&self, request: Value) -> Result<Value, Failure> {
        let mut slot = self
            .process
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut process = slot.take().unwrap_or_else(Process::start);
        // A broken pipe shows below, as an answer that does not come.
        let _ = writeln!(process.stdin, "{request}").and_then(|()| process.stdin.flush());
        let line = match process.answers.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                return Err(Failure::Panic(format!("no answer within {PATIENCE:?}")));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::Panic(process.last_words()));
            }
        };
        let mut answer: Value = serde_json::from_str(&line).expect("the oracle answers in JSON");
        if let Some(text) = answer["panic"].as_str() {
            return Err(Failure::Panic(text.to_string()));
        }
        *slot = Some(process);
        match answer["error"].as_str() {
            Some(text) => Err(Failure::Error(text.to_string())),
            None => Ok(answer["result"].take()),
        }
    }
}

impl Default for Oracle {
    fn default() -> Self {
        Self::new()
    }
}

impl Process {
    fn start() -> Process {
        let mut child = Command::new(program())
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the oracle starts");
        let stdin = child.stdin.take().expect("stdin is a pipe");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let (send, answers) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            while matches!(stdout.read_line(&mut line), Ok(n) if n > 0) {
                if send.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Process {
            child,
            stdin,
            answers,
        }
    }

    /// What a dead process left on stderr: the first lines say what happened, the rest is a stack.
    fn last_words(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            text = String::from_utf8_lossy(&bytes)
                .lines()
                .take(3)
                .collect::<Vec<_>>()
                .join("; ");
        }
        format!("the process died: {text}")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Options {
    fn json(self) -> Value {
        json!({
            "page_size": self.page_size.unwrap_or(0),
            "freelist_type": if self.hashmap { "hashmap" } else { "array" },
            "no_freelist_sync": self.no_freelist_sync,
            "fill_percent": self.fill_percent.unwrap_or(0.0),
            "no_sync": self.no_sync,
        })
    }
}

fn edit_json(edit: &Edit) -> Value {
    let names = |path: &[Vec<u8>]| path.iter().map(|name| to_hex(name)).collect::<Vec<_>>();
    match edit {
        Edit::Put { path, key, value } => {
            json!({"do": "put", "path": names(path), "key": to_hex(key), "value": to_hex(value)})
        }
        Edit::Delete { path, key } => {
            json!({"do": "delete", "path": names(path), "key": to_hex(key)})
        }
        Edit::CreateBucket { path } => json!({"do": "create-bucket", "path": names(path)}),
        Edit::DeleteBucket { path } => json!({"do": "delete-bucket", "path": names(path)}),
        Edit::SetSequence { path, seq } => {
            json!({"do": "set-sequence", "path": names(path), "seq": seq})
        }
    }
}

fn tree_from_json(bucket: &Value) -> Tree {
    let none = Map::new();
    let mut tree = Tree {
        seq: bucket["seq"].as_u64().unwrap_or(0),
        ..Tree::default()
    };
    for (key, value) in bucket["keys"].as_object().unwrap_or(&none) {
        let value = from_hex(
            value
                .as_str()
                .expect("a dump without hashes has values in hex"),
        );
        tree.nodes.insert(from_hex(key), Node::Value(value));
    }
    for (name, sub) in bucket["buckets"].as_object().unwrap_or(&none) {
        let before = tree
            .nodes
            .insert(from_hex(name), Node::Bucket(tree_from_json(sub)));
        assert!(
            before.is_none(),
            "bbolt lists {name} as a key and as a bucket"
        );
    }
    tree
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .map(|text| text.as_str().unwrap_or("").to_string())
        .collect()
}

fn path(file: &Path) -> &str {
    file.to_str().expect("test files have names in UTF-8")
}

/// The built program, `target/oracle/oracle`; built anew when a source is newer.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(build)
}

fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("target/tmp has a parent");
    let directory = target.join("oracle");
    fs::create_dir_all(&directory)
        .unwrap_or_else(|e| panic!("cannot create {}: {e}", directory.display()));
    let program = directory.join("oracle");
    let sources = sources();
    let modified = |file: &Path| fs::metadata(file).and_then(|m| m.modified()).ok();
    if let Some(built) = modified(&program)
        && sources
            .iter()
            .all(|source| modified(source).is_some_and(|changed| changed < built))
    {
        return program;
    }
    let needs = "The tests compare with the real bbolt: apt-get install golang-go golang-github-coreos-bbolt-dev \
                 (scripts/test does it).";
    let bbolt = Path::new(GOPATH).join("src/go.etcd.io/bbolt");
    assert!(bbolt.is_dir(), "{} is missing. {needs}", bbolt.display());
    // Two test binaries may build at once: each under a name of its own, then moved into place.
    let fresh = directory.join(format!("oracle.{}", std::process::id()));
    let output = Command::new("go")
        .args([OsStr::new("build"), OsStr::new("-o"), fresh.as_os_str()])
        .args(&sources)
        .env("GO111MODULE", "off")
        .env("GOPATH", GOPATH)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "")
        .env("GOCACHE", directory.join("go-cache"))
        .output()
        .unwrap_or_else(|e| panic!("cannot run go: {e}. {needs}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "go build of tests/oracle failed: {errors}\n{needs}"
    );
    fs::rename(&fresh, &program).unwrap_or_else(|e| panic!("cannot move {}: {e}", fresh.display()));
    program
}

fn sources() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle");
    let entries = fs::read_dir(&directory)
        .unwrap_or_else(|e| panic!("cannot read {}: {e}", directory.display()));
    let files = entries.map(|entry| entry.expect("a directory entry").path());
    files
        .filter(|file| file.extension() == Some(OsStr::new("go")))
        .collect()
}
