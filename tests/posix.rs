//! The POSIX file-system test suite pjdfstest, as root, in a bucket of a mount that all users may use.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::fs::{bucket, tree};
use common::process::{again_as_root, run_within};
use common::{Mount, Oracle, TempDir};

/// The version that tests/pjdfstest.toml is written for, which scripts/test installs.
const VERSION: &str = "0.2.2";

/// How many tests that version has on Linux.
const TESTS: usize = 398;

/// What the suite passes over by itself: there are no hard links, and so there is no limit for them.
const SKIPPED: [&str; 1] = ["link::link_count_max"];

#[test]
fn pjdfstest() {
    if !nix::unistd::geteuid().is_root() {
        return again_as_root("pjdfstest");
    }
    let suite = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("target/tools/pjdfstest-{VERSION}/bin/pjdfstest"));
    assert!(
        suite.exists(),
        "{} is missing. scripts/test installs it; by hand: cargo install pjdfstest --version {VERSION} --locked --root \
         target/tools/pjdfstest-{VERSION}",
        suite.display()
    );
    let directory = TempDir::new("posix");
    let database = directory.join("db");
    let mount = Mount::new(&database, &["--create", "-o", "allow_other"]);
    let place = mount.join("bucket");
    fs::create_dir(&place).unwrap();
    // The suite's other users must get there.
    for on_the_way in [
        directory.path(),
        mount.path().parent().unwrap(),
        mount.path(),
        &place,
    ] {
        fs::set_permissions(on_the_way, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pjdfstest.toml");
    // Which names the file system refuses is seen from outside: the suite does not tell them.
    let trace = directory.join("trace");
    let run = |configuration: &Path, tests: &[String]| {
        let mut command = Command::new("strace");
        command
            .args([
                "-f",
                "--seccomp-bpf",
                "-qq",
                "-Z",
                "-e",
                "trace=%file",
                "-o",
            ])
            .arg(&trace)
            .arg(&suite)
            .arg("--configuration-file")
            .arg(configuration)
            .arg("--path")
            .arg(&place)
            .arg("--secondary-fs")
            .arg(directory.path())
            .env("NO_COLOR", "1")
            .env("PATH", path_with_mount(directory.path()))
            .args(tests);
        run_within(Duration::from_secs(300), &mut command)
    };

    let output = run(&configuration, &[]);
    let text = output.text();
    assert!(text.contains(&format!(" {TESTS} total")), "{output}");
    let (later, skipped): (Vec<_>, Vec<_>) = text
        .lines()
        .filter_map(|line| Some(line.strip_suffix(" skipped")?.trim()))
        .partition(|test| test.contains("::erofs_"));
    assert_eq!(skipped, SKIPPED, "{output}");
    let unlucky = unlucky(&text, &fs::read_to_string(&trace).unwrap());
    if unlucky.is_empty() {
        let failures = failures(&text).join("\n");
        assert!(output.is_success(), "{failures}\n{output}");
    } else {
        let again = run(
            &configuration,
            &[&["--exact".to_owned()], &unlucky[..]].concat(),
        );
        let failures = failures(&again.text()).join("\n");
        assert!(again.is_success(), "{failures}\n{again}");
    }

    // In one process with the others these fail: some of those leave files open for writing.
    let text = fs::read_to_string(&configuration).unwrap();
    let may_remount = text.replace("allow_remount = false", "allow_remount = true");
    assert_ne!(text, may_remount);
    let configuration = directory.join("pjdfstest.toml");
    fs::write(&configuration, may_remount).unwrap();
    let output = run(&configuration, &["::erofs_".to_owned()]);
    assert!(output.is_success(), "{output}");
    let passed = output
        .text()
        .lines()
        .filter(|line| line.ends_with(" ok"))
        .count();
    assert_eq!(passed, later.len(), "{output}");

    // It clears up behind itself.
    mount.umount();
    let empty = tree([("bucket", bucket([]))]);
    let oracle = Oracle::shared();
    oracle.assert_sound(&database);
    empty.assert_same(&oracle.dump(&database).unwrap(), "committed");
}

/// A search path on which `mount` does what mount(8) does without its helper. The suite makes the mount read-only with
/// `mount -o remount,ro`: the kernel can do that, and the suite is about what the file system answers then. Our helper
/// refuses it, as it could not make a mount writable that was not.
fn path_with_mount(directory: &Path) -> String {
    let mount = directory.join("mount");
    let path = std::env::var("PATH").unwrap_or_default();
    if !mount.exists() {
        fs::write(
            &mount,
            format!("#!/bin/sh\nPATH='{path}' exec mount -i \"$@\"\n"),
        )
        .unwrap();
        fs::set_permissions(&mount, fs::Permissions::from_mode(0o755)).unwrap();
    }
    format!("{}:{path}", directory.display())
}

/// The lines that tell of a test that did not do what it should.
fn failures(text: &str) -> Vec<&str> {
    let bad = |line: &&str| line.ends_with(" FAILED") || line.ends_with("PASSED UNEXPECTEDLY");
    text.lines().filter(bad).collect()
}

/// The suite makes up names of letters and digits. One in 3844 starts with `0x` and is not the name of any key, so that it
/// is refused (EINVAL). Where all failures come from that, these are the tests to be run once more: there is a refusal in
/// the trace for each.
fn unlucky(text: &str, trace: &str) -> Vec<String> {
    let refused = trace
        .lines()
        .filter(|line| line.contains("/0x") && line.contains(" EINVAL "))
        .count();
    let lines: Vec<_> = text.lines().collect();
    let failed = failures(text);
    let unlucky = lines.windows(2).filter_map(|pair| {
        let test = pair[0].strip_suffix(" FAILED")?.trim();
        // Some tests tell the error, some only that there was one where they made their file.
        let told = ["EINVAL", "Invalid argument", "is_ok()"];
        let may_be = told.iter().any(|words| pair[1].contains(words));
        may_be.then(|| format!("pjdfstest::tests::{test}"))
    });
    let unlucky: Vec<_> = unlucky.collect();
    if unlucky.len() == failed.len() && unlucky.len() <= refused {
        unlucky
    } else {
        Vec::new()
    }
}

#[test]
fn only_what_came_from_a_refused_name_is_run_again() {
    let one = "  a::b FAILED\nassertion failed: made.is_ok()\n  c::d ok\n";
    let refused =
        "7 mknodat(AT_FDCWD, \"/mnt/bucket/0xAb1\", S_IFREG|0644) = -1 EINVAL (Invalid argument)\n";
    let other = "7 mkdir(\"/mnt/bucket/ab1\", 0755) = -1 EINVAL (Invalid argument)\n7 open(\"/mnt/0x1\", 0) = -1 ENOENT (No such file)\n";
    assert_eq!(unlucky(one, refused), ["pjdfstest::tests::a::b"]);
    assert!(unlucky(one, other).is_empty());
    assert!(unlucky(one, "").is_empty());
    let two = format!("{one}  e::f FAILED\nEINVAL\n");
    assert!(unlucky(&two, refused).is_empty());
    assert_eq!(unlucky(&two, &format!("{refused}{refused}")).len(), 2);
    let real = format!("{one}  e::f FAILED\nexpected ENOTDIR\n");
    assert!(unlucky(&real, &format!("{refused}{refused}")).is_empty());
}
