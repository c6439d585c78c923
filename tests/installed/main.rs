//! What is installed, and what it tells about itself: the help, the man page, the completions of three shells.

#[path = "../common/mod.rs"]
mod common;

mod completions;
mod install;
mod manual;

use std::process::Command;

use common::mount::BOLTFS;
use common::process::run;

/// Standard output of `boltfs`, which must succeed.
#[track_caller]
fn printed(args: &[&str]) -> String {
    run(Command::new(BOLTFS).args(args)).expect_success().text()
}

#[test]
fn help_shows_the_story_on_one_screen() {
    let help = printed(&["--help"]);
    let story = "    boltfs db mnt/
    grep -L name mnt/members/*
    rm mnt/members/920c1b791dddb17e
    boltfs umount mnt\n";
    assert!(help.contains(story), "{help}");
    // Whoever has another database must not look for this file.
    assert!(
        help.contains("What grep has named is removed here"),
        "{help}"
    );
    assert!(help.contains("Exit status: "), "{help}");
    assert!(help.lines().count() <= 45, "{help}");
    assert!(
        help.lines().all(|line| line.chars().count() <= 80),
        "{help}"
    );
    assert_eq!(printed(&["-h"]), help);
}

#[test]
fn the_version_is_that_of_the_crate() {
    let version = format!("boltfs {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(printed(&["--version"]), version);
    assert_eq!(printed(&["-V"]), version);
}

#[test]
fn only_what_there_is_can_be_generated() {
    for wrong in [
        &["--generate"][..],
        &["--generate", "csh"],
        &["--generate", "man", "bash"],
    ] {
        let output = run(Command::new(BOLTFS).args(wrong));
        assert_eq!(output.code(), Some(2), "{output}");
        assert!(output.stderr.starts_with("boltfs: "), "{output}");
        assert_eq!(output.text(), "");
    }
}
