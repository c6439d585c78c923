//! Command lines in which a word is taken for a database that was meant for a command.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The command for "show the help", which clap would take for a database.
const HELP: &str = "help";

/// What people type for what: `…` stands for the words behind it.
const MEANT: &[(&str, &str)] = &[
    ("unmount", "boltfs umount …"),
    ("commit", "boltfs umount …"),
    ("save", "boltfs umount …"),
    ("stop", "boltfs umount …"),
    ("discard", "boltfs umount --discard …"),
    ("abort", "boltfs umount --discard …"),
    ("mount", "boltfs …"),
    ("recover", "boltfs --recover …"),
    ("create", "boltfs --create …"),
    ("list", "boltfs status …"),
    ("ls", "boltfs status …"),
    ("info", "boltfs status …"),
    ("pending", "boltfs status …"),
    ("verify", "boltfs check …"),
    ("fsck", "boltfs check …"),
];

/// The arguments that `boltfs help [COMMAND]` stands for.
pub fn help(args: &[OsString]) -> Option<Vec<OsString>> {
    let (first, rest) = args.split_first()?;
    (first == HELP && !exists(first)).then(|| {
        let command = rest.first().cloned();
        let help = OsString::from("--help");
        command.into_iter().chain([help]).collect()
    })
}

/// What is wrong with a command line that could be parsed all the same; `commands` are those there are.
pub fn told(args: &[OsString], commands: &[&str]) -> Option<String> {
    let (first, rest) = args.split_first()?;
    let is_command = commands.iter().any(|command| first == command);
    if !is_command && args.last().is_some_and(|last| last == "--") {
        return Some("no command after --: is a variable empty?".to_owned());
    }
    let word = first.to_str().filter(|word| is_plain(word))?;
    let creates = args.iter().any(|arg| arg == "--create");
    if is_command || creates || exists(first) {
        return None;
    }
    let line = match MEANT.iter().find(|(typed, _)| *typed == word) {
        Some((_, line)) => (*line).to_owned(),
        None => format!("boltfs {} …", closest(word, commands)?),
    };
    let rest = rest.iter().map(|word| word.to_string_lossy());
    let line = line.replace('…', &rest.collect::<Vec<_>>().join(" "));
    let more = match (word, args.get(1)) {
        ("commit", Some(point)) => format!(
            ", or, to go on after it, `echo commit > {}/.boltfs/control`",
            point.display()
        ),
        _ => String::new(),
    };
    Some(format!(
        "{word} is neither a file nor a command; did you mean `{}`{more}?",
        line.trim_end()
    ))
}

fn exists(path: &OsStr) -> bool {
    Path::new(path).symlink_metadata().is_ok()
}

/// Whether it could be meant for a command: a file has a `.` or a `/` more often than not.
fn is_plain(word: &str) -> bool {
    !word.starts_with('-') && !word.contains(['/', '.'])
}

/// The command that `word` is one slip away from; of a long word, two.
fn closest<'a>(word: &str, commands: &[&'a str]) -> Option<&'a str> {
    let most = if word.len() < 5 { 1 } else { 2 };
    let slips = |command: &&&str| slips(word.as_bytes(), command.as_bytes());
    let closest = commands.iter().min_by_key(slips)?;
    (slips(&closest) <= most).then_some(closest)
}

/// How many bytes must be put in, left out, or be others (Levenshtein).
fn slips(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        let mut left = i + 1;
        for (y, pair) in b.iter().zip(row.windows(2)) {
            let &[diagonal, above] = pair else { continue };
            left = (left + 1)
                .min(above + 1)
                .min(diagonal + usize::from(x != y));
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMANDS: [&str; 5] = ["check", "journal", "status", "diff", "umount"];

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn slips_are_counted() {
        for (a, b, wanted) in [
            ("", "", 0),
            ("diff", "diff", 0),
            ("dif", "diff", 1),
            ("chekc", "check", 2),
            ("abc", "", 3),
            ("", "abc", 3),
            ("unmount", "umount", 1),
        ] {
            assert_eq!(slips(a.as_bytes(), b.as_bytes()), wanted, "{a} {b}");
        }
    }

    #[test]
    fn what_is_near_a_command_is_told() {
        let told = |line| told(&words(line), &COMMANDS);
        let meant = |line| {
            let told = told(line).unwrap_or_else(|| panic!("{line}"));
            let (_, meant) = told.split_once("did you mean `").unwrap();
            meant.split_once('`').unwrap().0.to_owned()
        };
        assert_eq!(meant("unmount mnt"), "boltfs umount mnt");
        assert_eq!(meant("commit mnt"), "boltfs umount mnt");
        assert_eq!(meant("discard mnt"), "boltfs umount --discard mnt");
        assert_eq!(meant("mount db mnt -r"), "boltfs db mnt -r");
        assert_eq!(meant("stauts"), "boltfs status");
        assert_eq!(meant("dif mnt"), "boltfs diff mnt");
        for fine in [
            "umount mnt",
            "check --",
            "db mnt",
            "./unmount mnt",
            "unmount.db mnt",
            "--create unmount mnt",
            "unmount mnt --create",
            "src mnt",
            "db mnt -- ls",
            "",
        ] {
            assert_eq!(told(fine), None, "{fine}");
        }
        assert!(told("db mnt --").is_some_and(|told| told.starts_with("no command after --")));
    }

    #[test]
    fn help_is_a_command() {
        assert_eq!(help(&words("help")), Some(words("--help")));
        assert_eq!(help(&words("help umount")), Some(words("umount --help")));
        assert_eq!(help(&words("db help")), None);
    }
}
