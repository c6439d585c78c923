//! Names: each key has one, each name stands for one key or for none.
//!
//! The first byte says how the rest is to be taken: as a key, or as two keys, and whether they are in the root.

use boltfs::bolt::meta::fnv1a;
use boltfs::view::name::{Decoded, MAX_NAME, NameError, decode, encode, is_cut, path};

use super::input::Input;

/// Longest key that there can be.
const MAX_KEY: usize = 32_768;

pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mode = input.byte();
    let at_root = mode & 1 != 0;
    let repeat = if mode & 2 != 0 { input.u16() } else { 1 };
    let bytes = input.rest();
    let mut key = bytes.repeat(repeat.min(MAX_KEY / bytes.len().max(1)).max(1));
    key.truncate(MAX_KEY);
    as_key(&key, at_root);
    as_name(bytes, at_root);
    // Any two keys that share no hash have two names.
    let (one, other) = key.split_at(key.len() / 2);
    let same = encode(one, at_root) == encode(other, at_root);
    assert!(!same || one == other || (is_cut(one) && fnv1a(one) == fnv1a(other)));
    let name = encode(&key, at_root);
    if let Some(last) = key.last_mut() {
        *last ^= 1 << (mode >> 5);
        assert_ne!(name, encode(&key, at_root), "{key:?}");
    }
}

fn as_key(key: &[u8], at_root: bool) {
    let name = encode(key, at_root);
    is_file_name(&name);
    assert_eq!(
        is_cut(key),
        encode(key, false).len() > 237 && is_hashed(&encode(key, false))
    );
    let text = path([key, key].into_iter());
    assert!(!text.chars().any(char::is_control), "{text:?}");
    match decode(&name, at_root) {
        Ok(Decoded::Key(found)) => assert_eq!(found, key),
        Ok(Decoded::Hashed { prefix, hash }) => {
            assert!(
                key.len() > prefix.len() && key.starts_with(&prefix),
                "{key:?}"
            );
            assert_eq!(hash, fnv1a(key));
        }
        Err(e) => assert!(key.is_empty(), "{key:?}: {e}"),
    }
}

/// Whatever the kernel asks for: a name that is taken for a key is the one name of that key.
fn as_name(name: &[u8], at_root: bool) {
    match decode(name, at_root) {
        Ok(Decoded::Key(key)) => {
            assert!(!key.is_empty());
            assert_eq!(encode(&key, at_root), name, "{key:?}");
            is_file_name(name);
        }
        Ok(Decoded::Hashed { prefix, .. }) => {
            assert!(prefix.len() <= MAX_NAME && is_hashed(name));
            is_file_name(name);
        }
        Err(NameError::TooLong) => assert!(name.len() > MAX_NAME),
        Err(NameError::NotCanonical) => assert!(name.len() <= MAX_NAME),
    }
}

fn is_hashed(name: &[u8]) -> bool {
    let start = name.len().saturating_sub(18);
    name.get(start..start + 2) == Some(b"%~")
}

fn is_file_name(name: &[u8]) {
    assert!((1..=MAX_NAME).contains(&name.len()), "{name:?}");
    assert!(name != b"." && name != b"..");
    assert!(!name.contains(&b'/') && !name.contains(&0), "{name:?}");
    let text = std::str::from_utf8(name);
    assert!(
        text.is_ok_and(|text| !text.chars().any(char::is_control)),
        "{name:?}"
    );
}
