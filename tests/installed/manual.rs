//! The man page.

use std::fs;
use std::process::Command;

use super::common::TempDir;
use super::common::process::{Output, run};
use super::printed;

/// The page as a terminal shows it, without bold and underlined characters' marks, its words divided by single blanks.
fn shown() -> (Output, String) {
    let dir = TempDir::new("man");
    let page = dir.join("boltfs.1");
    fs::write(&page, printed(&["--generate", "man"])).unwrap();
    let output = run(Command::new("man")
        .args(["--warnings=w", "-l"])
        .arg(&page)
        .env("MANWIDTH", "80")
        .env("MAN_KEEP_FORMATTING", "")
        .env("MANROFFOPT", "-c")
        .env("LC_ALL", "C.UTF-8"))
    .expect_success();
    let mut text = String::new();
    for character in output.text().chars() {
        match character {
            '\u{8}' => drop(text.pop()),
            other => text.push(other),
        }
    }
    (output, text)
}

#[test]
fn it_is_set_without_a_warning() {
    let (output, text) = shown();
    assert_eq!(output.stderr, "");
    let wide = text.lines().find(|line| line.chars().count() > 80);
    assert_eq!(wide, None);
    let version = format!("boltfs {}", env!("CARGO_PKG_VERSION"));
    let foot = text.trim_end().lines().last().unwrap_or_default();
    assert!(foot.starts_with(&version), "{foot}");
}

#[test]
fn it_tells_the_story_and_explains_all() {
    let (_, text) = shown();
    let at = |heading: &str| {
        let line = format!("\n{heading}\n");
        text.find(&line)
            .unwrap_or_else(|| panic!("no {heading} in {text}"))
    };
    let sections = [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "COMMANDS",
        "MOUNT OPTIONS",
        "SEMANTICS",
        "FILES",
        "ENVIRONMENT",
        "EXIT STATUS",
        "EXAMPLES",
        "SEE ALSO",
    ];
    let places: Vec<_> = sections.iter().map(|section| at(section)).collect();
    assert!(places.is_sorted(), "{text}");
    for line in [
        "boltfs db mnt/",
        "grep -L name mnt/members/*",
        "rm mnt/members/920c1b791dddb17e",
        "boltfs umount mnt",
    ] {
        assert!(
            text.contains(&format!("\n           {line}\n")),
            "no {line} in {text}"
        );
    }
    for words in [
        ".boltfs/",
        ".boltfs-journal",
        "125, 126, 127",
        "umask=OCTAL",
        "BOLTFS_MOUNT",
        "length and SHA-256",
    ] {
        assert!(text.contains(words), "no {words} in {text}");
    }
    // Typed as they stand: no typographic hyphens or quotation marks.
    assert!(
        text.contains("boltfs db -- sh -c 'rm \"$BOLTFS_MOUNT\"/members"),
        "{text}"
    );
    assert!(
        !text.contains(['\u{2010}', '\u{2212}', '\u{2019}']) || !text.contains('`'),
        "{text}"
    );
}

/// Every statement of SEMANTICS.md stands in the page, without the names of its tests.
#[test]
fn it_has_what_can_be_relied_on() {
    let (_, text) = shown();
    let semantics = include_str!("../SEMANTICS.md");
    let labels: Vec<_> = semantics
        .lines()
        .filter_map(|line| Some(line.strip_prefix("- **")?.split_once("**")?.0))
        .collect();
    assert!(labels.len() > 50, "{labels:?}");
    for label in labels {
        assert!(
            text.contains(&format!("\n       {label} ")),
            "no {label} in {text}"
        );
    }
    let heading = "\n   What there is not\n";
    assert!(text.contains(heading), "{text}");
    assert!(
        !text.contains("::") && !text.contains("tests/vfs"),
        "{text}"
    );
}

/// Every option that the help has stands in the page, and the page names none that does not exist.
#[test]
fn it_has_every_option() {
    let (_, text) = shown();
    // The tools that it speaks of have options too.
    let (before, rest) = text.split_once("\nSEMANTICS\n").unwrap();
    let (_, after) = rest.split_once("\nFILES\n").unwrap();
    let text = format!("{before}\n{after}");
    let help = printed(&["--help"]);
    let options = |text: &str| -> Vec<String> {
        text.split(|c: char| c.is_whitespace() || ",();`/[]".contains(c))
            .filter(|word| word.len() > 2 && word.starts_with("--"))
            .map(|word| word.trim_end_matches(['.', ':']).to_owned())
            .collect()
    };
    let (in_page, in_help) = (options(&text), options(&help));
    let subs =
        ["check", "journal", "status", "diff", "umount"].map(|sub| printed(&[sub, "--help"]));
    let in_subs: Vec<_> = subs.iter().flat_map(|help| options(help)).collect();
    for option in in_help.iter().chain(&in_subs) {
        assert!(in_page.contains(option), "{option} is not in {text}");
    }
    for option in &in_page {
        let known = in_help.contains(option) || in_subs.contains(option);
        // etcdctl's.
        assert!(
            known || option == "--skip-hash-check",
            "{option} is in {text}"
        );
    }
}
