//! Who may look, who may write, and what a database, or a stranger beside it, can do to whoever mounts it.
//!
//! The ordinary user here is a stranger: the database is root's.

#[path = "../common/mod.rs"]
mod common;
mod look;
mod names;
mod planted;
mod written;

use std::fs;

use common::case::Case;
use common::process::{Output, again_as_root, run};

/// What every script here starts with: a stranger, and a `db` that is made anew.
const PREAMBLE: &str = r#"
nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups env PATH=/usr/bin:/bin "$@"; }
fresh() { rm -rf db* bak* out*; cp orig db; }
"#;

/// A directory that everybody may enter and nobody but root may write to, with `orig`: bucket `b`, in which key `k` holds
/// `value`. The program lies where a stranger can run it.
fn case() -> Case {
    let case = Case::new();
    case.sh("chmod 755 .; cp \"$(command -v boltfs)\" boltfs; chmod 755 boltfs; cp db orig; chmod 600 db orig")
        .expect_success();
    case
}

/// Runs lines of bash, up to the first that fails.
#[track_caller]
fn script(case: &Case, lines: &str) -> Output {
    fs::write(
        case.join("script"),
        common::process::script(&[PREAMBLE, lines].concat()),
    )
    .expect("a file can be written");
    run(case.command("bash").args(["-euo", "pipefail", "script"]))
}

/// Whether the test is run by root; if not, it has been run again as root.
fn by_root(test: &str) -> bool {
    let root = common::case::is_root();
    if !root {
        again_as_root(test);
    }
    root
}
