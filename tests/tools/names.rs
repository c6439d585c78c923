//! Keys whose names are longer than a file name may be, and mounts of another kind: raw, read-only.

use crate::bench::{A, Bench, MEMBER_A, sample};
use crate::common::Tree;
use crate::common::tree::{Edit, Node};

const BUCKET: &str = "long";

/// Keys whose names do not fit, two of which differ behind what is shown.
fn long_keys() -> [Vec<u8>; 4] {
    let text = "a".repeat(299);
    [
        format!("{text}a").into(),
        format!("{text}b").into(),
        "ü".repeat(200).into(),
        (1..=200).collect(),
    ]
}

fn with_long_keys() -> Tree {
    let path = vec![BUCKET.as_bytes().to_vec()];
    let mut tree = sample();
    tree.apply(&Edit::CreateBucket { path: path.clone() })
        .expect("a bucket");
    for (number, key) in long_keys().into_iter().enumerate() {
        let value = format!("{{\"number\":{number}}}").into_bytes();
        tree.apply(&Edit::Put {
            path: path.clone(),
            key,
            value,
        })
        .expect("a key");
    }
    tree
}

as_everybody! {
    fn long_names(user) {
        let mut bench = Bench::of(user, with_long_keys());
        assert_eq!(bench.sh("ls long | wc -l; ls long | awk 'length > 255' | wc -l; cat long/* | jq -c .number | sort | tr -d '\\n'"), "4\n0\n0123");
        // There and back again changes nothing.
        bench.sh("cd long; for f in *; do mv \"$f\" t; mv t \"$f\"; cp \"$f\" \"$OUT\"; rm \"$f\"; cp \"$OUT/$f\" .; sed -i s/absent/x/ \"$f\"; done");
        bench.sh("rsync -a long/ \"$OUT\"/all/; rsync -a --delete \"$OUT\"/all/ long/; tar c long | tar x");
        bench.assert_pending(&[]);
        bench.sh("cd long; for f in *; do sed -i 's/\"number\"/\"n\"/' \"$f\"; perl -pi -e 's/: /: 7/' \"$f\"; done");
        bench.sh("cd long; for f in *; do vim -es -c '%s/7/8/' -c wq \"$f\"; done");
        bench.sh("mv long moved; rm moved/ü*");
        // Under a new name they can live only if that is short enough.
        bench.fails("cp -r moved copy", "File name too long");
        bench.sh("rm -r copy");
        for (number, key) in long_keys().into_iter().enumerate() {
            bench.expected(BUCKET).nodes.insert(key, Node::Value(format!("{{\"n\":8{number}}}").into_bytes()));
        }
        bench.expected(BUCKET).nodes.remove("ü".repeat(200).as_bytes());
        let moved = bench.expected(BUCKET).clone();
        bench.expect_no_bucket(BUCKET);
        bench.expect_bucket("moved");
        *bench.expected("moved") = moved;
        bench.commit();
    }

    /// `--raw`: bytes as they are stored, and stored as they are written.
    fn raw(user) {
        let mut bench = Bench::new(user);
        bench.commit_and_mount(&["--raw"]);
        assert_eq!(bench.sh(&format!("cat {A}")), MEMBER_A);
        bench.sh(&format!("sed -i s/10.0.0.12/10.0.0.99/ {A}; echo 3.4.27 >cluster/clusterVersion; jq -c . config/python >\"$OUT\"/t; cp \"$OUT\"/t config/python"));
        bench.expect(A, MEMBER_A.replace("10.0.0.12", "10.0.0.99"));
        bench.expect("cluster/clusterVersion", "3.4.27\n");
        bench.expect("config/python", "{\"log\":\"debug\",\"ports\":[80,443]}\n");
        bench.commit();
    }

    /// `-r`: every edit is refused as on any read-only mount.
    fn read_only(user) {
        let mut bench = Bench::new(user);
        bench.commit_and_mount(&["-r"]);
        for line in [
            "echo x >config/lines", "touch config/new", "mkdir new", "rm config/lines", "rm -rf config", "rmdir hollow", "mv config x",
            "chmod 600 config/lines", "truncate -s 0 config/lines", "sed -i s/one/x/ config/lines", "cp config/lines config/x",
            "setfattr -n user.bbolt.sequence -v 9 config",
        ] {
            bench.fails(line, "Read-only file system");
        }
        bench.sh("grep -r one config >/dev/null; vim -R -es -c q config/lines; ls -lR >/dev/null; rsync -a ./ \"$OUT\"/all/; diff -r . \"$OUT\"/all");
        bench.commit_nothing();
    }
}
