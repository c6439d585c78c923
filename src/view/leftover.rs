//! Names of files that editors and tools make beside the one they work on.
//!
//! In a directory they are litter. In a database they are stray keys, and a program that takes every key of a bucket for
//! its own dies of one: etcd, of `4913` or `8e9e05c52164694d.bak` in its bucket `members`.

/// Ends of the names under which tools, and people, keep what they are about to change.
const BACKUPS: [&[u8]; 7] = [b"~", b".bak", b".old", b".orig", b".rej", b".save", b".tmp"];

/// Whether a key looks like such a file, which should have been removed.
pub fn is_leftover(key: &[u8]) -> bool {
    let backup = |end: &&[u8]| key.len() > end.len() && key.ends_with(end);
    // vim's probe for a directory that it may write to
    key == b"4913"
        || BACKUPS.iter().any(backup)
        || is_swap_file(key)
        // emacs: the lock of NAME, and its unsaved content
        || (key.starts_with(b".#") && key.len() > 2)
        || (key.len() > 2 && key.starts_with(b"#") && key.ends_with(b"#"))
        // NFS: unlinked while it was open
        || (key.starts_with(b".nfs") && key.len() > 4)
        // sed -i, mktemp, gedit
        || has_random_end(key, b"sed", 6)
        || has_random_end(key, b"tmp.", 10)
        || has_random_end(key, b".goutputstream-", 6)
        || is_partial_transfer(key)
}

/// vim, and nano: `.NAME.swp`, `.NAME.swo` and so on.
fn is_swap_file(key: &[u8]) -> bool {
    let Some((name, [b'.', b's', b'w', b'a'..=b'p'])) = key.split_last_chunk() else {
        return false;
    };
    name.len() > 1 && name.starts_with(b".")
}

fn has_random_end(key: &[u8], start: &[u8], len: usize) -> bool {
    let end = key.strip_prefix(start);
    end.is_some_and(|end| end.len() == len && end.iter().all(u8::is_ascii_alphanumeric))
}

/// rsync: `.NAME.` and six random letters and digits; letters in lower case alone are taken for a word.
fn is_partial_transfer(key: &[u8]) -> bool {
    let Some((name, end)) = key.split_last_chunk::<7>() else {
        return false;
    };
    let [b'.', random @ ..] = end else {
        return false;
    };
    name.len() > 1
        && name.starts_with(b".")
        && random.iter().all(u8::is_ascii_alphanumeric)
        && random.iter().any(u8::is_ascii_alphabetic)
        && random.iter().any(|b| !b.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::is_leftover;

    #[test]
    fn what_tools_leave_is_known() {
        for name in [
            "4913",
            "a~",
            "a.bak",
            "a.orig",
            "a.tmp",
            ".a.swp",
            ".a.swo",
            ".a.b.swa",
            ".#a",
            "#a#",
            ".nfs0000",
            "sedAb3dEf",
            "tmp.0aB3dEfGh9",
            ".goutputstream-A1B2C3",
            ".a.XhB2c3",
            ".a.b.aaaaa1",
        ] {
            assert!(is_leftover(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn other_names_are_not_suspected() {
        for name in [
            "",
            "a",
            "~",
            ".bak",
            ".swp",
            "a.swp",
            "..swp",
            ".a.swq",
            ".a.swift",
            "49130",
            ".#",
            "##",
            "#a",
            ".nfs",
            "sedan",
            "sediment",
            "sed-12345",
            "tmp.1",
            ".a.config",
            ".a.123456",
            "..abcde1",
            "a.b.abcde1",
            "bak",
            "8e9e05c52164694d",
        ] {
            assert!(!is_leftover(name.as_bytes()), "{name}");
        }
    }
}
