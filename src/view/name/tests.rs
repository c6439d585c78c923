//! Names: a table for each rule, and the law over random keys and names.

use super::*;
use crate::view::testing::Rng;

fn name(key: impl AsRef<[u8]>) -> String {
    String::from_utf8(encode(key.as_ref(), false)).expect("names are UTF-8")
}

#[test]
fn table_of_names() {
    let table: &[(&[u8], &str)] = &[
        (b"a", "a"),
        (b"920c1b791dddb17e", "920c1b791dddb17e"),
        (b" ", " "),
        (b"-rf", "-rf"),
        (b"a b\\c\"'*", "a b\\c\"'*"),
        (b"/", "%2F"),
        (b"/registry/pods/x", "%2Fregistry%2Fpods%2Fx"),
        (b"a/../b", "a%2F..%2Fb"),
        (b"%", "%25"),
        (b"%2F", "%252F"),
        (b"%~0123456789abcdef", "%25~0123456789abcdef"),
        (b".", "%2E"),
        (b"..", "%2E%2E"),
        (b"...", "..."),
        (b"./", ".%2F"),
        (b".boltfs", ".boltfs"),
        (b".boltfs2", ".boltfs2"),
        (b"0", "0"),
        (b"0x", "%30x"),
        (b"0x10", "%30x10"),
        (b"0x/", "%30x%2F"),
        (b"0X10", "0X10"),
        (b"a0x", "a0x"),
        ("日本".as_bytes(), "日本"),
        ("café".as_bytes(), "café"),
        ("cafe\u{301}".as_bytes(), "cafe\u{301}"),
        ("0x日本".as_bytes(), "%30x日本"),
        ("\u{202e}".as_bytes(), "\u{202e}"),
        ("\u{feff}".as_bytes(), "\u{feff}"),
        ("💩".as_bytes(), "💩"),
        (b"\0", "0x00"),
        (b"a\0", "0x6100"),
        (b"\n", "0x0a"),
        (b"a\tb", "0x610962"),
        (b"\x1b[31m", "0x1b5b33316d"),
        (b"\x7f", "0x7f"),
        ("\u{80}".as_bytes(), "0xc280"),
        ("\u{85}".as_bytes(), "0xc285"),
        ("\u{9b}31m".as_bytes(), "0xc29b33316d"),
        ("\u{9f}".as_bytes(), "0xc29f"),
        ("\u{a0}".as_bytes(), "\u{a0}"),
        (b"\xff", "0xff"),
        (b"\xc3(", "0xc328"),
        (b"\xe2\x82", "0xe282"),
        (b"\xed\xa0\x80", "0xeda080"),
        (b"0x\xff", "0x3078ff"),
        (
            b"\0\0\0\0\0\0\0\x05_\0\0\0\0\0\0\0\0",
            "0x00000000000000055f0000000000000000",
        ),
    ];
    for (key, want) in table {
        assert_eq!(name(key), *want, "{key:?}");
        assert_eq!(
            decode(want.as_bytes(), false),
            Ok(Decoded::Key(key.to_vec())),
            "{want}"
        );
    }
}

#[test]
fn the_control_directory_is_reserved_at_the_root_alone() {
    assert_eq!(encode(b".boltfs", true), b"%2Eboltfs");
    assert_eq!(
        decode(b"%2Eboltfs", true),
        Ok(Decoded::Key(b".boltfs".to_vec()))
    );
    assert_eq!(decode(b".boltfs", true), Err(NameError::NotCanonical));
    assert_eq!(decode(b"%2Eboltfs", false), Err(NameError::NotCanonical));
    assert_eq!(encode(b".boltfsx", true), b".boltfsx");
}

#[test]
fn names_of_no_key() {
    #[rustfmt::skip]
    let table: &[&[u8]] = &[
        b"", b".", b"..", b"/", b"a/b", b"%", b"a%", b"%2", b"%4", b"%41", b"%2f", b"%2E.", b".%2E",
        b"%2E%2E%2E", b"%2Ea", b"%30", b"%30X", b"%300", b"a%2E", b"a%30x", b"%30%78", b"%7E", b"%%", b"%~",
        b"0x", b"0x0", b"0x000", b"0xZZ", b"0xAB", b"0xFF", b"0xfF", b"0x61", b"0x2f", b"0x2e", b"0xe697a5",
        b"0xff ", b"a\nb", b"\0", b"\x7f", b"\x1b[31m", b"\xff", b"\xc3(", b"\xc2\x85", b"a%~0123456789abcdef",
        b"%~0123456789abcdef", b"0xff%~0123456789abcdef",
    ];
    for &n in table {
        assert_eq!(
            decode(n, false),
            Err(NameError::NotCanonical),
            "{:?}",
            String::from_utf8_lossy(n)
        );
        assert_eq!(
            decode(n, true),
            Err(NameError::NotCanonical),
            "{:?}",
            String::from_utf8_lossy(n)
        );
    }
    assert_eq!(decode(&[b'a'; 256], false), Err(NameError::TooLong));
    assert_eq!(decode(&[0xff; 256], false), Err(NameError::TooLong));
    assert!(decode(&[b'a'; 255], false).is_ok());
    assert_eq!(encode(b"", false), b"0x");
    assert_eq!(encode(b"", true), b"0x");
}

#[test]
fn fnv1a_is_the_published_one() {
    assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
}

/// The shown part of each long key below, at the exact length where it starts to be cut.
#[test]
fn long_keys_are_cut_at_a_boundary() {
    let check = |key: Vec<u8>, shown: String, prefix: &[u8]| {
        let hash = fnv1a(&key);
        let want = format!("{shown}%~{hash:016x}");
        assert_eq!(name(&key), want);
        assert!(want.len() <= MAX_NAME);
        let decoded = decode(want.as_bytes(), false);
        assert_eq!(
            decoded,
            Ok(Decoded::Hashed {
                prefix: prefix.to_vec(),
                hash
            })
        );
        assert!(key.starts_with(prefix) && key.len() > prefix.len());
    };
    assert_eq!(name("k".repeat(255)), "k".repeat(255));
    check(vec![b'k'; 256], "k".repeat(237), &[b'k'; 237]);
    check(vec![b'k'; 32768], "k".repeat(237), &[b'k'; 237]);
    assert_eq!(name("/".repeat(85)), "%2F".repeat(85));
    check(vec![b'/'; 86], "%2F".repeat(79), &[b'/'; 79]);
    // A name of 256 to 258 bytes, the cut falling inside an escape.
    check(
        [b"x".repeat(236), vec![b'/'; 7]].concat(),
        "x".repeat(236),
        &[b'x'; 236],
    );
    check(
        [b"x".repeat(235), vec![b'/'; 7]].concat(),
        "x".repeat(235),
        &[b'x'; 235],
    );
    check(
        [b"x".repeat(234), vec![b'/'; 8]].concat(),
        format!("{}%2F", "x".repeat(234)),
        &[&[b'x'; 234][..], b"/"].concat(),
    );
    assert_eq!(name("é".repeat(127)), "é".repeat(127));
    check(
        "é".repeat(128).into(),
        "é".repeat(118),
        "é".repeat(118).as_bytes(),
    );
    check(
        "日".repeat(86).into(),
        "日".repeat(79),
        "日".repeat(79).as_bytes(),
    );
    check(
        "💩".repeat(64).into(),
        "💩".repeat(59),
        "💩".repeat(59).as_bytes(),
    );
    check(
        format!("xx{}", "💩".repeat(64)).into(),
        format!("xx{}", "💩".repeat(58)),
        format!("xx{}", "💩".repeat(58)).as_bytes(),
    );
    // The escaped head counts like any other escape.
    assert_eq!(
        name(format!("0x{}", "k".repeat(251))),
        format!("%30x{}", "k".repeat(251))
    );
    check(
        [b"0x".to_vec(), vec![b'k'; 252]].concat(),
        format!("%30x{}", "k".repeat(233)),
        &[b"0x".to_vec(), vec![b'k'; 233]].concat(),
    );
    assert_eq!(name([0xff; 126]), format!("0x{}", "ff".repeat(126)));
    check(
        vec![0xff; 127],
        format!("0x{}", "ff".repeat(117)),
        &[0xff; 117],
    );
    // Text up to the cut, binary behind it.
    check(
        [vec![b'a'; 300], vec![0]].concat(),
        format!("0x{}", "61".repeat(117)),
        &[b'a'; 117],
    );
}

#[test]
fn hashed_names_of_a_wrong_form() {
    let hash = "%~0123456789abcdef";
    let ok = |shown: String| decode(format!("{shown}{hash}").as_bytes(), false).is_ok();
    assert!(ok("k".repeat(237)) && ok("k".repeat(234)) && ok(format!("0x{}", "61".repeat(117))));
    assert!(!ok("k".repeat(233)));
    assert!(!ok(format!("0x{}", "61".repeat(116))));
    assert!(!ok(format!("0x{}6", "61".repeat(117))));
    assert!(!ok(format!("0x{}", "6A".repeat(117))));
    assert!(!ok(format!("{}%2", "k".repeat(235))));
    assert!(!ok(format!("{}%41", "k".repeat(234))));
    assert!(!ok(format!("{}\n", "k".repeat(236))));
    for tail in [
        "%~0123456789ABCDEF",
        "%~0123456789abcde",
        "%~0123456789abcdeg",
        "~%0123456789abcdef",
    ] {
        let n = format!("{}{tail}", "k".repeat(236));
        assert_eq!(
            decode(n.as_bytes(), false),
            Err(NameError::NotCanonical),
            "{n}"
        );
    }
}

/// What every name must be, and the way back from it.
fn check_law(key: &[u8], at_root: bool) -> Vec<u8> {
    let n = encode(key, at_root);
    assert!(!n.is_empty() && n.len() <= MAX_NAME && n != b"." && n != b"..");
    assert!(!n.contains(&b'/') && !n.contains(&0));
    assert!(
        !std::str::from_utf8(&n)
            .expect("UTF-8")
            .chars()
            .any(char::is_control)
    );
    assert!(!(at_root && n == CONTROL_DIR));
    let mut appended = b"before".to_vec();
    encode_into(&mut appended, key, at_root);
    assert_eq!(appended.strip_prefix(b"before"), Some(&n[..]));
    match decode(&n, at_root) {
        Ok(Decoded::Key(k)) => assert_eq!(k, key),
        Ok(Decoded::Hashed { prefix, hash }) => {
            assert!(key.starts_with(&prefix) && key.len() > prefix.len());
            assert_eq!(hash, fnv1a(key));
        }
        Err(error) => panic!("{key:?} is named {n:?}, which is refused: {error}"),
    }
    n
}

#[test]
fn every_short_key_has_a_name_of_its_own() {
    let mut seen = std::collections::HashMap::new();
    let mut keys: Vec<Vec<u8>> = (0..=255).map(|b| vec![b]).collect();
    keys.extend((0..=65535_u16).map(|n| n.to_be_bytes().to_vec()));
    for key in keys {
        for at_root in [false, true] {
            let n = check_law(&key, at_root);
            assert_eq!(seen.entry(n).or_insert_with(|| key.clone()), &key);
        }
    }
}

#[test]
fn every_short_name_is_canonical_or_refused() {
    let alphabet = b"%0123456789EFefx.~/aA\0\n\x80\xc2\xc3\xa9";
    let mut names = vec![vec![]];
    for _ in 0..4 {
        let longer: Vec<Vec<u8>> = names
            .iter()
            .flat_map(|n: &Vec<u8>| alphabet.iter().map(|&b| [n.as_slice(), &[b]].concat()))
            .collect();
        names = longer;
        let mut accepted = 0;
        for n in &names {
            if let Ok(decoded) = decode(n, false) {
                let Decoded::Key(key) = decoded else {
                    panic!("{n:?}")
                };
                assert_eq!(&encode(&key, false), n);
                accepted += 1;
            }
        }
        assert!(accepted > 10 && accepted < names.len());
    }
}

/// Keys from pieces that meet every rule, and around every length where a rule sets in.
fn random_key(rng: &mut Rng) -> Vec<u8> {
    let pieces: &[&[u8]] = &[
        b"a",
        b"k",
        b"0x",
        b"0",
        b"x",
        b".",
        b"..",
        b"/",
        b"%",
        b"%2F",
        b"%~",
        b"%30",
        b"0123456789abcdef",
        b".boltfs",
        b" ",
        "é".as_bytes(),
        "日".as_bytes(),
        "💩".as_bytes(),
        "\u{202e}".as_bytes(),
        b"\0",
        b"\n",
        b"\xff",
        b"\xc3",
        "\u{85}".as_bytes(),
    ];
    // Most keys are text, or nearly nothing but binary keys would come of it.
    let usable = if rng.below(3) == 0 {
        pieces.len()
    } else {
        pieces.len() - 5
    };
    let len = rng.pick(&[
        1, 2, 3, 8, 84, 117, 126, 127, 234, 237, 254, 255, 256, 300, 1000,
    ]);
    let mut key = Vec::new();
    let run = rng.below(2) == 0;
    let again = rng.below(usable);
    while key.len() < len {
        let i = if run && rng.below(50) != 0 {
            again
        } else {
            rng.below(usable)
        };
        key.extend_from_slice(pieces[i]);
    }
    key
}

#[test]
fn law_on_random_keys() {
    let mut rng = Rng::new(1);
    let (mut whole, mut hashed) = (0, 0);
    for _ in 0..30_000 {
        let key = random_key(&mut rng);
        let at_root = rng.below(2) == 0;
        match decode(&check_law(&key, at_root), at_root) {
            Ok(Decoded::Key(_)) => whole += 1,
            _ => hashed += 1,
        }
    }
    assert!(whole > 5_000 && hashed > 5_000, "{whole} {hashed}");
}

#[test]
fn law_on_random_names() {
    let mut rng = Rng::new(2);
    let mut accepted = 0;
    for _ in 0..30_000 {
        let key = random_key(&mut rng);
        let mut n = encode(&key, false);
        // One random change in most of them: what is still accepted must still be the one name of its key.
        let at = rng.below(n.len());
        match rng.below(4) {
            0 => n[at] = rng.pick(b"%0123456789abcdefABCDEF~x./\0\xc3"),
            1 => drop(n.remove(at)),
            2 => n.insert(at, rng.pick(b"%0123456789abcdef~x./")),
            _ => {}
        }
        match decode(&n, false) {
            Ok(Decoded::Key(k)) => {
                assert_eq!(encode(&k, false), n);
                accepted += 1;
            }
            Ok(Decoded::Hashed { prefix, .. }) => {
                let tail = n.len() - HASH_LEN;
                assert!(
                    n.len() > MIN_TEXT_CUT
                        && &n[tail..tail + 2] == b"%~"
                        && prefix.len() <= MAX_CUT
                );
            }
            Err(NameError::TooLong) => assert!(n.len() > MAX_NAME),
            Err(NameError::NotCanonical) => {}
        }
    }
    assert!(accepted > 3_000, "{accepted}");
}

#[test]
fn binary_keys_list_in_key_order() {
    let mut rng = Rng::new(3);
    let mut keys: Vec<[u8; 8]> = (0..1000)
        .map(|_| (rng.next() << 11).to_be_bytes())
        .collect();
    keys.sort_unstable();
    let hex = |k: &[u8; 8]| {
        let mut n = Vec::new();
        encode_hex(&mut n, k);
        n
    };
    assert!(keys.is_sorted_by_key(hex));
}

#[test]
fn a_path_that_nobody_can_open_is_told_by_its_end() {
    let shown = |keys: &[&[u8]]| path(keys.iter().copied());
    assert_eq!(shown(&[]), "");
    assert_eq!(shown(&[b"a/b", b"\xff", b".boltfs"]), "a%2Fb/0xff/.boltfs");
    // 4,095 bytes can be opened, 4,097 cannot.
    let n: &[u8] = b"n";
    assert_eq!(shown(&vec![n; 2048]), format!("{}n", "n/".repeat(2047)));
    let long = shown(&vec![n; 2049]);
    let wide: &[u8] = &[b'w'; 255];
    assert_eq!(shown(&[wide; 16]).len(), 16 * 256 - 1);
    assert_eq!(shown(&[wide; 17]).len(), "…/".len() + 3 * 256 - 1);
    assert_eq!(long, format!("…/{}n", "n/".repeat(499)));
    let mut keys = vec![n; 100_000];
    assert_eq!(shown(&keys), long);
    keys.push(&[0xff; 100]);
    assert_eq!(shown(&keys).len(), "…/".len() + 998);
    assert!(shown(&keys).ends_with(&format!("/n/0x{}", "ff".repeat(100))));
}
