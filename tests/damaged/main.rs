//! Damaged databases in a real mount: what can be read is served, what cannot is an error and is told once, and edits
//! beside it take nothing away.

mod beside;
#[path = "../common/mod.rs"]
mod common;
mod count;
mod cut;
mod displaced;
mod failing;
mod told;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use common::case::Case;
use common::process::wait_until;
use common::{Node, Tree};

/// How long anything may take that happens by itself.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Mounts `db` on `mnt` in the foreground, where nothing that is said gets lost: it is in the file `said`.
#[track_caller]
pub fn mount(case: &Case, options: &str) {
    case.sh(&format!("boltfs -f {options} db mnt > /dev/null 2> said &"))
        .expect_success();
    case.await_mounted();
    // It is mounted a moment before anybody answers.
    wait_until("it answers", PATIENCE, || {
        case.boltfs(&["status", "mnt"]).is_success()
    });
}

/// What it has said so far.
#[track_caller]
pub fn said(case: &Case) -> String {
    fs::read_to_string(case.join("said")).unwrap()
}

/// What can be read below `directory`, by path, and how many places cannot: each of those must be EIO.
pub fn read(directory: &Path) -> (BTreeMap<String, Vec<u8>>, usize) {
    let (mut found, mut failed) = (BTreeMap::new(), 0);
    let mut is_there = |e: &std::io::Error, path: &Path| {
        assert_eq!(e.raw_os_error(), Some(libc::EIO), "{}: {e}", path.display());
        failed += 1;
    };
    let mut directories = vec![directory.to_path_buf()];
    while let Some(at) = directories.pop() {
        let entries = match fs::read_dir(&at) {
            Ok(entries) => entries,
            Err(e) => {
                is_there(&e, &at);
                continue;
            }
        };
        for entry in entries {
            let path = match entry {
                Ok(entry) => entry.path(),
                Err(e) => {
                    is_there(&e, &at);
                    continue;
                }
            };
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            match fs::read(&path) {
                Ok(bytes) => {
                    let name = path.strip_prefix(directory).unwrap().to_str().unwrap();
                    found.insert(name.to_owned(), bytes);
                }
                Err(e) => is_there(&e, &path),
            }
        }
    }
    (found, failed)
}

/// All values of `tree` by path, where the keys are names as they are.
pub fn values(tree: &Tree) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for (key, node) in &tree.nodes {
        let key = String::from_utf8(key.clone()).expect("a key that is a name");
        match node {
            Node::Value(value) => drop(all.insert(key, value.clone())),
            Node::Bucket(bucket) => {
                let below = values(bucket).into_iter();
                all.extend(below.map(|(path, value)| (format!("{key}/{path}"), value)));
            }
        }
    }
    all
}
