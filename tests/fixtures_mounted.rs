//! Every database of tests/fixtures through a real mount: names and values as the manifest has them, damage as EIO on the
//! damaged path alone, a refusal in words, and a file that is not touched by looking at it.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use common::tree::{from_hex, to_hex};
use common::{Fixture, Mount};

/// What a directory shows, or must show: a name with the length and SHA-256 of a file, or with what is below.
type Listing = BTreeMap<Vec<u8>, Shown>;

#[derive(Debug, PartialEq)]
enum Shown {
    File(u64, String),
    Directory(Listing),
}

/// The file name of a key, by the rules and not by our code.
fn name_of(key: &[u8], at_root: bool) -> Vec<u8> {
    let text = std::str::from_utf8(key)
        .ok()
        .filter(|text| !text.chars().any(char::is_control));
    let parts: Vec<Vec<u8>> = match text {
        Some("." | "..") => vec![b"%2E".repeat(key.len())],
        Some(text) => {
            let starts = [("0x", "%30"), (".boltfs", "%2E")];
            let escape_first = starts.iter().find(|(start, _)| match *start {
                ".boltfs" => at_root && text == ".boltfs",
                start => text.starts_with(start),
            });
            let parts = text
                .char_indices()
                .map(|(at, c)| match (at, c, escape_first) {
                    (0, _, Some((_, escape))) => escape.to_string(),
                    (_, '/', _) => "%2F".to_string(),
                    (_, '%', _) => "%25".to_string(),
                    (_, c, _) => c.to_string(),
                });
            parts.map(String::into_bytes).collect()
        }
        None => std::iter::once(b"0x".to_vec())
            .chain(key.iter().map(|byte| to_hex(&[*byte]).into_bytes()))
            .collect(),
    };
    let whole = parts.concat();
    if whole.len() <= 255 {
        return whole;
    }
    let mut name = Vec::new();
    for part in parts {
        if name.len() + part.len() > 255 - 18 {
            break;
        }
        name.extend(part);
    }
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    name.extend(format!("%~{hash:016x}").bytes());
    name
}

fn expected(bucket: &Value, at_root: bool) -> Listing {
    let none = serde_json::Map::new();
    let entries = |field: &str| bucket[field].as_object().unwrap_or(&none).clone();
    let files = entries("keys").into_iter().map(|(key, value)| {
        let sum = value["sha256"].as_str().unwrap().to_string();
        (
            name_of(&from_hex(&key), at_root),
            Shown::File(value["len"].as_u64().unwrap(), sum),
        )
    });
    let directories = entries("buckets").into_iter().map(|(key, sub)| {
        (
            name_of(&from_hex(&key), at_root),
            Shown::Directory(expected(&sub, false)),
        )
    });
    files.chain(directories).collect()
}

/// Reads all of it; errors are noted with their path. No name may come twice.
fn shown(directory: &Path, errors: &mut Vec<(PathBuf, io::Error)>) -> Listing {
    let mut listing = Listing::new();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            errors.push((directory.to_path_buf(), error));
            return listing;
        }
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                errors.push((directory.to_path_buf(), error));
                continue;
            }
        };
        let path = entry.path();
        let is_directory = entry
            .file_type()
            .expect("the kind comes with the name")
            .is_dir();
        let what = if is_directory {
            Some(Shown::Directory(shown(&path, errors)))
        } else {
            match fs::read(&path).and_then(|bytes| Ok((bytes, fs::metadata(&path)?))) {
                Ok((bytes, metadata)) => {
                    assert_eq!(bytes.len() as u64, metadata.len(), "{}", path.display());
                    Some(Shown::File(metadata.len(), to_hex(&Sha256::digest(&bytes))))
                }
                Err(error) => {
                    errors.push((path.clone(), error));
                    None
                }
            }
        };
        if let Some(what) = what {
            let before = listing.insert(entry.file_name().as_bytes().to_vec(), what);
            assert!(before.is_none(), "{} comes twice", path.display());
        }
    }
    listing
}

/// Length, times and bytes of a file.
fn state(file: &Path) -> (Vec<u8>, std::time::SystemTime) {
    let metadata: Metadata = fs::metadata(file).unwrap();
    (fs::read(file).unwrap(), metadata.modified().unwrap())
}

#[test]
fn sound_and_recoverable_files_show_what_they_hold_and_are_not_touched() {
    for class in ["healthy", "quirk", "recoverable"] {
        for fixture in Fixture::of_class(class).filter(|f| f.text("byte_order") != "big") {
            let name = fixture.name();
            let (_dir, file) = fixture.copy();
            let before = state(&file);
            let mount = Mount::new(&file, &["--raw"]);
            let mut errors = Vec::new();
            let listing = shown(mount.path(), &mut errors);
            assert!(errors.is_empty(), "{name}: {errors:?}");
            assert!(
                listing == expected(&fixture.entry["content"], true),
                "{name}: {listing:?}"
            );
            let report = mount.umount();
            assert!(report.contains("nothing to commit"), "{name}: {report}");
            assert!(state(&file) == before, "{name}: looking at it changed it");
        }
    }
}

#[test]
fn damage_is_an_error_on_the_damaged_path_alone() {
    for fixture in Fixture::of_class("corrupt").filter(|f| f.entry["content"].is_object()) {
        let name = fixture.name();
        let (_dir, file) = fixture.copy();
        let before = state(&file);
        let mount = Mount::new(&file, &["--raw"]);
        let mut errors = Vec::new();
        let mut listing = shown(mount.path(), &mut errors);
        for (key, what) in expected(&fixture.entry["content"], true) {
            assert_eq!(
                listing.remove(&key),
                Some(what),
                "{name}: {}",
                key.escape_ascii()
            );
        }
        let bad: PathBuf = match fixture.entry["bad_path"].as_array() {
            Some(path) => {
                let names = path
                    .iter()
                    .map(|key| String::from_utf8(from_hex(key.as_str().unwrap())).unwrap());
                std::iter::once(mount.path().to_path_buf())
                    .chain(names.map(PathBuf::from))
                    .collect()
            }
            None => mount.join("bad"),
        };
        for (path, error) in &errors {
            assert!(
                path.starts_with(&bad),
                "{name}: {}: {error}",
                path.display()
            );
            assert_eq!(
                error.raw_os_error(),
                Some(libc::EIO),
                "{name}: {}: {error}",
                path.display()
            );
        }
        if fixture.text("expect").starts_with("error")
            && !fixture.text("expect").contains("or an empty")
        {
            assert!(!errors.is_empty(), "{name}: the damage is not seen");
        }
        mount.umount();
        assert!(state(&file) == before, "{name}: looking at it changed it");
    }
}

#[test]
fn what_cannot_be_opened_is_refused_in_words_and_nothing_is_mounted() {
    let unusable = Fixture::of_class("corrupt").filter(|f| !f.entry["content"].is_object());
    let foreign = Fixture::all().filter(|f| f.text("byte_order") == "big");
    let mut count = 0;
    for fixture in unusable.chain(foreign) {
        let (_dir, file) = fixture.copy();
        let before = state(&file);
        // What is left of a file that was cut off can be looked at: tests/damaged/cut.rs.
        let is_cut = fixture.name().starts_with("truncated");
        let tried: &[&[&str]] = if is_cut { &[&[]] } else { &[&[], &["-r"]] };
        for options in tried {
            let refused = Mount::try_new(&file, options).err();
            let refused = refused.unwrap_or_else(|| panic!("{} is mounted", fixture.name()));
            assert_eq!(refused.code(), Some(1), "{refused}");
            // The file, what is wrong with it, what to do next: three things to say, in one message.
            assert!(refused.stderr.starts_with("boltfs: "), "{refused}");
            assert!(refused.stderr.contains(file.to_str().unwrap()), "{refused}");
            assert!(
                refused.stderr.trim_end().matches(". ").count() >= 1,
                "what to do is not said: {refused}"
            );
        }
        assert!(state(&file) == before, "{}: it was changed", fixture.name());
        count += 1;
    }
    assert_eq!(count, 10);
}

#[test]
fn damage_is_told_in_words_when_mounting() {
    let (_dir, file) = Fixture::named("page-zeroed.db").copy();
    let mount = Mount::new(&file, &[]);
    for words in [
        " is damaged: bucket bad",
        "all zeros",
        "torn",
        "boltfs check",
    ] {
        assert!(mount.said.contains(words), "{}", mount.said);
    }
    mount.umount();
    let (_dir, file) = Fixture::named("ps-4096.db").copy();
    let mount = Mount::new(&file, &[]);
    assert_eq!(mount.said, "");
    mount.umount();
}
