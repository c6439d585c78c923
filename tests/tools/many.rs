//! A hundred thousand keys.

use crate::bench::{Bench, User};

const KEYS: u32 = 100_000;

#[test]
fn rm_of_a_bucket_with_100_000_keys() {
    let mut bench = Bench::large(User::Caller, KEYS);
    bench.sh("rm -r bucket-000000");
    assert_eq!(bench.sh("ls -A"), "");
    bench.assert_pending(&["deleted bucket-000000/"]);
    bench.expect_no_bucket("bucket-000000");
    bench.commit();
}

#[test]
fn mv_of_a_bucket_with_100_000_keys() {
    let mut bench = Bench::large(User::Caller, KEYS);
    bench.sh("mv bucket-000000 renamed");
    bench.assert_pending(&["moved renamed/ from bucket-000000/"]);
    let content = bench.expected("bucket-000000").clone();
    bench.expect_no_bucket("bucket-000000");
    bench.expect_bucket("renamed");
    *bench.expected("renamed") = content;
    bench.commit();
}

/// Globs, completion, listings that are edited while they are read, and many processes at once.
#[test]
fn looking_at_and_thinning_out_100_000_keys() {
    let mut bench = Bench::large(User::Caller, KEYS);
    assert_eq!(bench.sh("cd bucket-000000; set -- *; echo $#; ls -U | wc -l; ls -f | sort | uniq -d | wc -l; find . -type f | wc -l"), "100000\n100000\n0\n100000\n");
    assert_eq!(
        bench.sh("compgen -f bucket-000000/key-000999 | wc -l"),
        "100\n"
    );
    assert_eq!(
        bench.sh("cd bucket-000000; ls -l key-0000001? | wc -l; du -s --apparent-size . | cut -f1"),
        "10\n9766\n"
    );
    bench.sh("cd bucket-000000; find . -name 'key-*[1-9]' -delete");
    assert_eq!(bench.sh("ls bucket-000000 | wc -l"), "10000\n");
    bench.sh("cd bucket-000000; ls -f | grep 00$ | xargs -P 4 -n 50 rm");
    bench.sh("cd bucket-000000; seq -f new-%06g 2000 | xargs -P 4 -n 100 touch");
    bench.sh("cd bucket-000000; ls | grep ^key | sed -n 1,400p | xargs -P 4 -n 20 sed -i 's/^/x/'");
    assert_eq!(bench.sh("ls bucket-000000 | wc -l"), "11000\n");
    let nodes = &mut bench.expected("bucket-000000").nodes;
    nodes.retain(|key, _| key.ends_with(b"0") && !key.ends_with(b"00"));
    let first: Vec<_> = nodes.keys().take(400).cloned().collect();
    for key in first {
        let Some(crate::common::Node::Value(value)) = nodes.get_mut(&key) else {
            panic!("no key")
        };
        *value = with_x_before_each_line(value);
    }
    for number in 1..=2000 {
        bench.expect(&format!("bucket-000000/new-{number:06}"), "");
    }
    bench.commit();
}

/// What `sed s/^/x/` makes of it.
fn with_x_before_each_line(value: &[u8]) -> Vec<u8> {
    let lines = value.split_inclusive(|&byte| byte == b'\n');
    lines.flat_map(|line| [b"x", line].concat()).collect()
}

/// As many creates.
#[test]
fn cp_of_a_bucket_with_20_000_keys() {
    let mut bench = Bench::large(User::Caller, 20_000);
    bench.sh("cp -r bucket-000000 copy");
    let content = bench.expected("bucket-000000").clone();
    bench.expect_bucket("copy");
    *bench.expected("copy") = content;
    bench.commit();
}
