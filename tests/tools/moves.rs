//! mv and rm: keys and buckets that change their places, and that go.

use crate::bench::{A, B, Bench, MEMBER_A, MEMBER_B};

/// Takes a key or bucket out of what is expected, and puts it somewhere else.
fn carry(bench: &mut Bench, from: (&str, &str), to: (&str, &str)) {
    let node = bench
        .expected(from.0)
        .nodes
        .remove(from.1.as_bytes())
        .expect("it is there");
    bench
        .expected(to.0)
        .nodes
        .insert(to.1.as_bytes().to_vec(), node);
}

as_everybody! {
    /// The bytes move as they are, whatever they show as.
    fn mv_of_a_key(user) {
        let mut bench = Bench::new(user);
        bench.sh("mv config/python config/nested/python; mv config/lines config/renamed; mv config/with-newline rows/; mv large/blob config");
        bench.sh("mv config/nested/deep config/two\\ words; mv rows/row-000 hollow/");
        carry(&mut bench, ("config", "python"), ("config/nested", "python"));
        carry(&mut bench, ("config", "lines"), ("config", "renamed"));
        carry(&mut bench, ("config", "with-newline"), ("rows", "with-newline"));
        carry(&mut bench, ("large", "blob"), ("config", "blob"));
        carry(&mut bench, ("config/nested", "deep"), ("config", "two words"));
        carry(&mut bench, ("rows", "row-000"), ("hollow", "row-000"));
        bench.commit();
    }

    /// A rename over an existing key: the new bytes count, not the style of what they replace.
    fn mv_over_a_key(user) {
        let mut bench = Bench::new(user);
        bench.sh(&format!("mv {A} {B}; mv config/python config/with-newline; mv -n config/lines config/empty || true; mv -f config/lines cluster/clusterVersion"));
        bench.expect_no(A);
        bench.expect(B, MEMBER_A);
        carry(&mut bench, ("config", "python"), ("config", "with-newline"));
        carry(&mut bench, ("config", "lines"), ("cluster", "clusterVersion"));
        bench.commit();
    }

    /// Three moves that swap two values, and three that change nothing in the end.
    fn mv_in_a_circle(user) {
        let mut bench = Bench::new(user);
        bench.sh(&format!("mv {A} members/t; mv {B} {A}; mv members/t {B}"));
        bench.sh("mv config/python config/t; mv config/t config/python; mv rows t; mv t rows; mv config/nested t; mv t config/nested");
        bench.assert_pending(&[&format!("changed {A} 64 130"), &format!("changed {B} 130 64")]);
        bench.expect(A, MEMBER_B);
        bench.expect(B, MEMBER_A);
        bench.commit();
    }

    /// `mv -b` keeps what is replaced under NAME~.
    fn mv_with_a_backup(user) {
        let mut bench = Bench::new(user);
        bench.sh("mv -b config/lines cluster/clusterVersion");
        bench.assert_pending(&[
            "changed cluster/clusterVersion 5 14",
            "added cluster/clusterVersion~ 5 looks like an editor's leftover",
            "deleted config/lines 14",
        ]);
        bench.expect("cluster/clusterVersion~", "3.5.0");
        carry(&mut bench, ("config", "lines"), ("cluster", "clusterVersion"));
        bench.commit();
    }

    fn mv_out_and_in(user) {
        let mut bench = Bench::new(user);
        bench.sh("mv config/lines rows \"$OUT\"");
        assert_eq!(bench.sh("ls; ls config/lines 2>&1 || true"), "cluster\nconfig\nhollow\nkey\nlarge\nmembers\nls: cannot access 'config/lines': No such file or directory\n");
        bench.sh("rm \"$OUT\"/rows/row-1*; mv \"$OUT\"/lines config/back; mv \"$OUT\"/rows .");
        carry(&mut bench, ("config", "lines"), ("config", "back"));
        bench.expected("rows").nodes.retain(|key, _| !key.starts_with(b"row-1"));
        bench.commit();
    }

    /// With everything in it, sequence included, and edited before and after.
    fn mv_of_a_bucket(user) {
        let mut bench = Bench::new(user);
        bench.sh("echo before >>config/nested/deep; mv config renamed; echo after >>renamed/nested/deep; mv key rows members");
        bench.sh("mv renamed/nested/deeper hollow; rm members/rows/row-00*; mv hollow/deeper top; mv members/key/0x0000000000001300 top/");
        assert_eq!(bench.sh("getfattr --only-values -n user.bbolt.sequence renamed/nested"), "7");
        bench.expect("config/nested/deep", "one level\nbefore\nafter\n");
        carry(&mut bench, ("", "config"), ("", "renamed"));
        carry(&mut bench, ("", "key"), ("members", "key"));
        carry(&mut bench, ("", "rows"), ("members", "rows"));
        carry(&mut bench, ("renamed/nested", "deeper"), ("", "top"));
        bench.expected("members/rows").nodes.retain(|key, _| !key.starts_with(b"row-00"));
        let key = 0x1300u64.to_be_bytes();
        let value = bench.expected("members/key").nodes.remove(&key[..]).expect("it is there");
        bench.expected("top").nodes.insert(key.to_vec(), value);
        bench.commit();
    }

    fn mv_of_a_bucket_into_itself(user) {
        let bench = Bench::new(user);
        bench.fails("mv config config/nested", "subdirectory of itself");
        bench.fails("mv rows rows/x", "subdirectory of itself");
        bench.fails("mv config/lines rows/row-001/x", "Not a directory");
        bench.fails("mv config/lines .", "Operation not permitted");
        bench.fails("mv rows config/lines", "cannot overwrite non-directory");
        bench.fails("mv -T config/lines rows", "cannot overwrite directory");
        bench.commit_nothing();
    }

    /// mv puts a bucket *into* one that exists. Over it only if that is empty: nothing can be lost.
    fn mv_of_a_bucket_over_another(user) {
        let mut bench = Bench::new(user);
        bench.fails("mv -T rows config", "Directory not empty");
        bench.fails("mkdir rows/config; echo x >rows/config/x; mv config rows", "Directory not empty");
        bench.sh("rm -r rows/config");
        bench.assert_pending(&[]);
        bench.sh("mv -T rows hollow; mkdir empty; mv -T key empty; rm -r members; mkdir members; mv -T config members");
        let mut take = |path: &str| bench.expected(path).clone();
        let (rows, key, config) = (take("rows"), take("key"), take("config"));
        for gone in ["rows", "key", "config"] {
            bench.expect_no_bucket(gone);
        }
        *bench.expected("hollow") = rows;
        *bench.expected("members") = config;
        bench.expect_bucket("empty");
        *bench.expected("empty") = key;
        bench.commit();
    }

    fn rm_and_rmdir(user) {
        let mut bench = Bench::new(user);
        bench.fails("rm rows", "Is a directory");
        bench.fails("rmdir rows", "Directory not empty");
        bench.fails("rm config/absent", "No such file or directory");
        bench.fails("rmdir config/lines", "Not a directory");
        bench.sh(&format!("rm {A} config/'two words' config/a%2Fb config/schlüssel; rm -f absent; rmdir hollow; rm -r config/nested key"));
        bench.expect_no(A);
        bench.expect_no("config/two words");
        bench.expect_no("config/schlüssel");
        bench.expected("config").nodes.remove(&b"a/b"[..]).expect("it is there");
        for bucket in ["hollow", "config/nested", "key"] {
            bench.expect_no_bucket(bucket);
        }
        bench.assert_pending(&[
            "deleted config/a%2Fb 6",
            "deleted config/nested/",
            "deleted config/schlüssel 8",
            "deleted config/two words 6",
            "deleted hollow/",
            "deleted key/",
            &format!("deleted {A} 64"),
        ]);
        bench.commit();
    }

    fn find_delete(user) {
        let mut bench = Bench::new(user);
        bench.sh("find rows -name 'row-1*' -delete; find config key -type f -empty -delete; find . -type d -empty -delete");
        bench.sh("find config/nested -delete; find members -newer rows -delete; find rows -type f -size +1k -exec false {} +");
        bench.expected("rows").nodes.retain(|key, _| !key.starts_with(b"row-1"));
        bench.expect_no("config/empty");
        bench.expected("key").nodes.remove(&[0; 8][..]).expect("it is empty");
        bench.expect_no_bucket("hollow");
        bench.expect_no_bucket("config/nested");
        bench.commit();
    }

    /// Everything: an empty database is one too, and is filled again.
    fn rm_of_everything(user) {
        let mut bench = Bench::new(user);
        bench.sh("rm -rf -- *");
        assert_eq!(bench.sh("ls -A"), "");
        for bucket in ["cluster", "config", "hollow", "key", "large", "members", "rows"] {
            bench.expect_no_bucket(bucket);
        }
        bench.commit_and_mount(&[]);
        bench.sh("mkdir -p a/b/c; echo x >a/b/c/d");
        for bucket in ["a", "a/b", "a/b/c"] {
            bench.expect_bucket(bucket);
        }
        bench.expect("a/b/c/d", "x\n");
        bench.commit();
    }

    /// Emptied and filled again it is the same bucket, with its sequence.
    fn a_bucket_filled_anew(user) {
        let mut bench = Bench::new(user);
        bench.sh("rm -r config/nested/*; echo new >config/nested/new; rm rows/*; echo x >rows/x");
        bench.expected("config/nested").nodes.clear();
        bench.expect("config/nested/new", "new\n");
        bench.expected("rows").nodes.clear();
        bench.expect("rows/x", "x\n");
        bench.commit();
    }

    /// The sequence of a bucket is an extended attribute.
    fn sequences(user) {
        let mut bench = Bench::new(user);
        assert_eq!(bench.sh("getfattr --only-values -n user.bbolt.sequence config/nested; getfattr --only-values -n user.bbolt.key rows/row-000"), "7726f772d303030");
        bench.sh("setfattr -n user.bbolt.sequence -v 8 config/nested; setfattr -n user.bbolt.sequence -v 18446744073709551615 hollow; mkdir new; setfattr -n user.bbolt.sequence -v 1 new");
        bench.fails("setfattr -n user.bbolt.sequence -v -1 hollow", "Invalid argument");
        bench.fails("setfattr -n user.bbolt.key -v 41 rows/row-000", "Operation not permitted");
        bench.fails("setfattr -n user.other -v x rows/row-000", "not supported");
        bench.assert_pending(&[
            "changed config/nested/ sequence 8 (was 7)",
            "changed hollow/ sequence 18446744073709551615 (was 0)",
            "added new/ sequence 1 (was 0)",
        ]);
        bench.expected("config/nested").seq = 8;
        bench.expected("hollow").seq = u64::MAX;
        bench.expect_bucket("new");
        bench.expected("new").seq = 1;
        bench.commit();
    }

    /// Undone by copying from how it was.
    fn rm_and_its_undoing(user) {
        let bench = Bench::new(user);
        bench.sh(&format!("rm {A}; cp .boltfs/base/{A} members/; rm -r rows; cp -r .boltfs/base/rows ."));
        bench.sh("echo x >config/python; cat .boltfs/base/config/python >config/python");
        bench.commit();
    }

    /// A bucket that is removed and made anew with some of its keys: the others are gone, and `pending` says so.
    fn a_bucket_made_anew(user) {
        let mut bench = Bench::new(user);
        bench.sh("cp rows/row-007 \"$OUT\"; rm -r rows; mkdir rows; cp \"$OUT\"/row-007 rows");
        assert_eq!(bench.pending()[..2], ["deleted rows/", "added rows/"]);
        bench.expected("rows").nodes.retain(|key, _| key == b"row-007");
        bench.commit();
    }

    /// A key where a bucket was, and a bucket where a key was.
    fn a_key_becomes_a_bucket(user) {
        let mut bench = Bench::new(user);
        bench.sh("rm -r config/nested; echo key >config/nested; rm config/lines; mkdir config/lines; echo x >config/lines/y");
        bench.assert_pending(&[
            "deleted config/lines 14",
            "added config/lines/",
            "added config/lines/y 2",
            "deleted config/nested/",
            "added config/nested 4",
        ]);
        bench.expect_no_bucket("config/nested");
        bench.expect("config/nested", "key\n");
        bench.expect_no("config/lines");
        bench.expect_bucket("config/lines");
        bench.expect("config/lines/y", "x\n");
        bench.commit();
    }
}
