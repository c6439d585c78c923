//! What three shells complete, asked from the shells themselves.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::common::TempDir;
use super::common::process::{run, sh};
use super::printed;

/// A directory with the completions of `shell`, a database and a mount point.
fn place(shell: &str, file: &str) -> TempDir {
    let dir = TempDir::new(shell);
    fs::write(dir.join(file), printed(&["--generate", shell])).unwrap();
    fs::create_dir_all(dir.join("files/my-mnt")).unwrap();
    fs::write(dir.join("files/my-db"), "").unwrap();
    dir
}

/// What bash offers for the last of the words.
fn bash(dir: &Path, words: &[&str]) -> Vec<String> {
    let last = words.len() - 1;
    let script = format!(
        "source ../boltfs; COMP_WORDS=({}); COMP_CWORD={last}
         _boltfs boltfs '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"; complete -p boltfs",
        words.join(" "),
        words[last],
        words[last - 1],
    );
    let output = sh(&dir.join("files"), &script).expect_success();
    // Where it has nothing to offer, readline falls back to file names.
    assert!(output.text().contains("-o default"), "{output}");
    output.text().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes() {
    let dir = place("bash", "boltfs");
    let offers = |words: &[&str]| bash(dir.path(), words);
    assert!(offers(&["boltfs", "um"]).contains(&"umount".to_owned()));
    assert!(offers(&["boltfs", "--rea"]).contains(&"--read-only".to_owned()));
    assert!(offers(&["boltfs", "umount", "--d"]).contains(&"--discard".to_owned()));
    let all = offers(&["boltfs", "-"]).join(" ");
    assert!(
        !all.contains("serving") && !all.contains("generate"),
        "{all}"
    );
}

#[test]
fn fish_completes() {
    let dir = place("fish", "boltfs.fish");
    let offers = |line: &str| {
        let script = format!("source ../boltfs.fish; complete -C '{line}'");
        let output = run(Command::new("fish")
            .args(["--no-config", "-c", &script])
            .env("HOME", dir.path())
            .current_dir(dir.join("files")));
        output.expect_success().text()
    };
    assert!(offers("boltfs um").contains("umount\t"));
    assert!(offers("boltfs --rea").contains("--read-only\t"));
    assert!(offers("boltfs umount --d").contains("--discard\t"));
    assert!(offers("boltfs my").contains("my-db"));
    assert!(offers("boltfs my-db my-m").contains("my-mnt/"));
    let all = offers("boltfs -");
    assert!(
        !all.contains("serving") && !all.contains("generate"),
        "{all}"
    );
}

/// zsh completes only on a terminal: a line is typed there, with tabs, and what the shell makes of it comes out as the
/// arguments of a function.
#[test]
fn zsh_completes() {
    let dir = place("zsh", "_boltfs");
    let typed = |line: &str| {
        let rc = "PS1= RPS1= PROMPT_EOL_MARK=; unset zle_bracketed_paste
            fpath=(.. $fpath); autoload -U compinit; compinit -D -u; boltfs() { print -r -- \"<$*>\" > ../out }";
        fs::write(dir.join(".zshrc"), rc).unwrap();
        let script = format!(
            "(sleep 1; printf '{line}'; sleep 2; printf '\\n'; sleep 1; printf 'exit\\n') | script -qec 'zsh -i' /dev/null"
        );
        let output = run(Command::new("bash")
            .args(["-c", &script])
            .env("ZDOTDIR", dir.path())
            .env("TERM", "dumb")
            .current_dir(dir.join("files")));
        fs::read_to_string(dir.join("out")).unwrap_or_else(|e| panic!("{e}: {output}"))
    };
    assert_eq!(typed("boltfs um\\t my-m\\t").trim(), "<umount my-mnt>");
    assert_eq!(typed("boltfs my-d\\t my-m\\t").trim(), "<my-db my-mnt>");
    assert_eq!(
        typed("boltfs --read\\t my-d\\t my-m\\t").trim(),
        "<--read-only my-db my-mnt>"
    );
    assert_eq!(
        typed("boltfs umount --dis\\t my-m\\t").trim(),
        "<umount --discard my-mnt>"
    );
}
