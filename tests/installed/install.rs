//! `scripts/install`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::common::TempDir;
use super::common::mount::BOLTFS;
use super::common::process::{Output, run};

/// Runs the script with the program under test, so that nothing is built.
#[track_caller]
fn install(destdir: Option<&Path>, args: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install");
    let mut command = Command::new(script);
    command.args(args).env("BINARY", BOLTFS).current_dir("/");
    match destdir {
        Some(destdir) => command.env("DESTDIR", destdir),
        None => command.env_remove("DESTDIR"),
    };
    run(&mut command)
}

/// The files and links below a directory, sorted.
fn files(dir: &Path) -> Vec<String> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), found);
            } else {
                found.push(entry.path());
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, &mut found);
    let mut names: Vec<_> = found
        .iter()
        .map(|path| path.strip_prefix(dir).unwrap().display().to_string())
        .collect();
    names.sort();
    names
}

const FILES: [&str; 5] = [
    "bin/boltfs",
    "share/bash-completion/completions/boltfs",
    "share/fish/vendor_completions.d/boltfs.fish",
    "share/man/man1/boltfs.1",
    "share/zsh/site-functions/_boltfs",
];

#[test]
fn for_the_whole_system_with_helpers() {
    let dir = TempDir::new("install");
    let sbin = fs::canonicalize("/sbin").unwrap();
    let sbin = sbin.strip_prefix("/").unwrap();
    for prefix in ["/usr/local", "/usr"] {
        let args = if prefix == "/usr" { &["/usr"][..] } else { &[] };
        let output = install(Some(dir.path()), args).expect_success();
        let below = |path: &str| format!("{}/{path}", &prefix[1..]);
        let mut wanted: Vec<_> = FILES.map(below).to_vec();
        for helper in ["mount.fuse.boltfs", "umount.fuse.boltfs"] {
            wanted.push(below(&format!("share/man/man8/{helper}.8")));
            wanted.push(sbin.join(helper).display().to_string());
            let link = fs::read_link(dir.path().join(sbin).join(helper)).unwrap();
            assert_eq!(link, Path::new(prefix).join("bin/boltfs"));
        }
        wanted.sort();
        assert_eq!(files(dir.path()), wanted, "{output}");
        // It names each.
        assert_eq!(output.text().lines().count(), wanted.len(), "{output}");
        let binary = fs::metadata(dir.join(&below("bin/boltfs"))).unwrap();
        assert_eq!(binary.permissions().mode() & 0o7777, 0o755);
        let again = install(Some(dir.path()), args).expect_success();
        assert_eq!(again.text(), output.text());
        let man = run(Command::new("man")
            .args(["-M"])
            .arg(dir.join(&below("share/man")))
            .args(["8", "umount.fuse.boltfs"]));
        assert!(man.expect_success().text().contains("EXIT STATUS"));

        let mut args = args.to_vec();
        args.insert(0, "--uninstall");
        install(Some(dir.path()), &args).expect_success();
        assert_eq!(files(dir.path()), Vec::<String>::new());
    }
}

#[test]
fn for_oneself_without_helpers() {
    let dir = TempDir::new("install");
    let prefix = dir.join("home/.local");
    let prefix = prefix.to_str().unwrap();
    let output = install(None, &[prefix]).expect_success();
    assert_eq!(files(Path::new(prefix)), FILES);
    for said in ["Without helpers in /sbin", "bin is not in your PATH"] {
        assert!(output.text().contains(said), "{output}");
    }
    let program = Path::new(prefix).join("bin/boltfs");
    let version = run(Command::new(program).arg("--version")).expect_success();
    assert!(version.text().starts_with("boltfs "));
    // It is asked for twice.
    install(None, &["--uninstall", prefix]).expect_success();
    assert_eq!(files(Path::new(prefix)), Vec::<String>::new());
    install(None, &["--uninstall", prefix]).expect_success();
}

#[test]
fn another_helper_is_left_alone() {
    let dir = TempDir::new("install");
    install(Some(dir.path()), &["/opt/boltfs"]).expect_success();
    install(Some(dir.path()), &["/usr/local"]).expect_success();
    install(Some(dir.path()), &["--uninstall", "/opt/boltfs"]).expect_success();
    let left = files(dir.path());
    assert!(
        left.iter()
            .any(|file| file.ends_with("sbin/umount.fuse.boltfs")),
        "{left:?}"
    );
    assert!(
        !left.iter().any(|file| file.starts_with("opt/")),
        "{left:?}"
    );
}

#[test]
fn wrong_usage() {
    for wrong in [&["relative"][..], &["--help"], &["/a", "/b"]] {
        let output = install(Some(Path::new("/no/such/place")), wrong).expect_failure();
        assert!(!output.stderr.is_empty(), "{output}");
    }
    let output = install(None, &["/proc/boltfs"]).expect_failure();
    assert!(output.stderr.contains("is not yours to write"), "{output}");
}
