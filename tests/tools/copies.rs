//! cp, install, tar and busybox: contents that go from place to place.

use crate::bench::{A, B, Bench, MEMBER_A, MEMBER_B, sample};
use crate::common::tree::Node;

as_everybody! {
    fn cp_of_a_key(user) {
        let mut bench = Bench::new(user);
        bench.sh(&format!("cp {A} members/copy; cp config/lines cluster/; cp config/empty config/empty-too; cp large/blob config/blob"));
        bench.sh("cp 'key/0x0000000000001300' 'key/0x0000000000009900'; cp config/python config/lines config/nested");
        // Over an existing key, whose style counts; from outside; from nowhere.
        bench.sh(&format!("cp {B} {A}; echo 3.4.27 >\"$OUT\"/v; cp \"$OUT\"/v cluster/clusterVersion; cp /dev/null config/two\\ words"));
        bench.expect("members/copy", MEMBER_A);
        bench.expect(A, MEMBER_B);
        bench.expect("cluster/lines", "one\ntwo\nthree\n");
        bench.expect("cluster/clusterVersion", "3.4.27");
        bench.expect("config/empty-too", "");
        bench.expect("config/two words", "");
        let sample = sample();
        bench.expect("config/blob", sample.value(&[b"large".to_vec()], b"blob").expect("it is there"));
        let value = Node::Value(sample.value(&[b"key".to_vec()], &0x1300u64.to_be_bytes()).expect("it is there").to_vec());
        bench.expected("key").nodes.insert(0x9900u64.to_be_bytes().to_vec(), value);
        // A copy has nothing but its own content to tell a style by: shown JSON becomes compact, other JSON stays as it is.
        bench.expect("config/nested/python", r#"{"log":"debug","ports":[80,443]}"#);
        bench.expect("config/nested/lines", "one\ntwo\nthree\n");
        bench.commit();
    }

    fn cp_of_a_bucket(user) {
        let mut bench = Bench::new(user);
        bench.sh("cp -r config copy; cp -r rows config/nested/; cp -r key hollow members/");
        let mut config = bench.expected("config").clone();
        bench.expect_bucket("copy");
        // cp -r copies no extended attributes: the sequence is that of a new bucket.
        if let Some(Node::Bucket(nested)) = config.nodes.get_mut(&b"nested"[..]) {
            nested.seq = 0;
        }
        compacted(&mut config.nodes);
        *bench.expected("copy") = config;
        let (rows, key) = (bench.expected("rows").clone(), bench.expected("key").clone());
        bench.expect_bucket("config/nested/rows");
        *bench.expected("config/nested/rows") = rows;
        bench.expect_bucket("members/key");
        *bench.expected("members/key") = key;
        bench.expect_bucket("members/hollow");
        assert_eq!(bench.sh("diff -r rows config/nested/rows; diff -r key members/key"), "");
        bench.commit();
    }

    /// Modes and times are there as long as the mount is; sequences come along for good.
    fn cp_with_attributes(user) {
        let mut bench = Bench::new(user);
        bench.sh("chmod 600 config/lines; touch -d @1000000000 config/lines; cp -a config copy");
        assert_eq!(bench.sh("stat -c '%a %Y' copy/lines"), "600 1000000000\n");
        assert_eq!(bench.sh("diff -r config copy"), "");
        let mut config = bench.expected("config").clone();
        compacted(&mut config.nodes);
        bench.expect_bucket("copy");
        *bench.expected("copy") = config;
        bench.commit();
    }

    /// Out of the mount and in again.
    fn cp_out_and_back(user) {
        let bench = Bench::new(user);
        bench.sh("cp -a . \"$OUT\"/all; diff -r . \"$OUT\"/all");
        bench.sh("cp -a \"$OUT\"/all/. .; cp -rT \"$OUT\"/all .");
        bench.commit_nothing();
    }

    /// Holes and shared blocks are things that a database does not have; the bytes are all that counts.
    fn cp_of_holes(user) {
        let mut bench = Bench::new(user);
        bench.sh("truncate -s 1M \"$OUT\"/hole; echo end >>\"$OUT\"/hole; cp \"$OUT\"/hole config; cp --sparse=always config/hole config/hole-too; cp --reflink=auto config/hole rows");
        bench.sh("cmp config/hole \"$OUT\"/hole; cp --sparse=always config/hole \"$OUT\"/again; cmp \"$OUT\"/again rows/hole; tar cS config | tar x -C \"$OUT\"; cmp \"$OUT\"/config/hole-too config/hole");
        bench.fails("cp --reflink=always config/hole config/clone", "failed to clone");
        bench.sh("rm -f config/clone");
        let value = [&[0; 1 << 20][..], b"end\n"].concat();
        for path in ["config/hole", "config/hole-too", "rows/hole"] {
            bench.expect(path, &value);
        }
        bench.commit();
    }

    fn install_program(user) {
        let mut bench = Bench::new(user);
        bench.sh("echo 3.4.27 >\"$OUT\"/v; install -m 640 \"$OUT\"/v cluster/clusterVersion; install -D \"$OUT\"/v new/sub/v");
        bench.expect("cluster/clusterVersion", "3.4.27");
        bench.expect_bucket("new");
        bench.expect_bucket("new/sub");
        bench.expect("new/sub/v", "3.4.27\n");
        bench.commit();
    }

    fn tar_out_and_in(user) {
        let mut bench = Bench::new(user);
        bench.sh("tar c . | tar x -C \"$OUT\"; diff -r . \"$OUT\"");
        // In again, over everything: nothing has changed.
        bench.sh("tar c -C \"$OUT\" . | tar x");
        bench.assert_pending(&[]);
        // As a restore of buckets that were removed.
        bench.sh("tar czf \"$OUT\"/backup.tgz .; rm -r config rows members key");
        bench.sh("tar xzf \"$OUT\"/backup.tgz; diff -r rows .boltfs/base/rows; diff -r key .boltfs/base/key; diff -r config .boltfs/base/config");
        bench.expected("config/nested").seq = 0;
        bench.commit();
    }

    /// With extended attributes, the sequence comes back too.
    fn tar_with_attributes(user) {
        let bench = Bench::new(user);
        bench.sh("tar c --xattrs --xattrs-include='user.*' -f \"$OUT\"/all.tar .; rm -r config; tar x --xattrs --xattrs-include='user.*' -f \"$OUT\"/all.tar");
        bench.commit();
    }

    fn busybox(user) {
        let mut bench = Bench::new(user);
        bench.sh("busybox cp -a rows copied; busybox mv copied moved; busybox sed -i s/5/6/ cluster/clusterVersion");
        bench.sh("busybox tar c moved | busybox tar x -C \"$OUT\"; busybox diff -r moved \"$OUT\"/moved; busybox rm -r rows");
        bench.sh("busybox find moved -name 'row-1*' -exec busybox rm {} +; busybox cp -r \"$OUT\"/moved rows");
        let rows = bench.expected("rows").clone();
        bench.expect_bucket("moved");
        *bench.expected("moved") = rows;
        bench.expected("moved").nodes.retain(|key, _| !key.starts_with(b"row-1"));
        bench.expect("cluster/clusterVersion", "3.6.0");
        bench.commit();
    }
}

/// What a copy of shown JSON is stored as.
fn compacted(nodes: &mut std::collections::BTreeMap<Vec<u8>, Node>) {
    nodes.insert(
        b"python".to_vec(),
        Node::Value(br#"{"log":"debug","ports":[80,443]}"#.to_vec()),
    );
    nodes.insert(
        b"with-newline".to_vec(),
        Node::Value(br#"{"log":"debug"}"#.to_vec()),
    );
}
