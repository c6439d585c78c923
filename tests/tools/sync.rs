//! rsync, in both directions.

use crate::bench::{A, Bench, MEMBER_A};

/// What rsync says it did, a line a change.
const RSYNC: &str = "rsync -a --delete --itemize-changes";

as_everybody! {
    fn rsync_out(user) {
        let bench = Bench::new(user);
        let first = bench.sh(&format!("{RSYNC} ./ \"$OUT\"/all/"));
        assert!(first.contains(">f+++++++++ config/lines"), "{first}");
        assert_eq!(bench.sh(&format!("{RSYNC} ./ \"$OUT\"/all/")), "", "the second run transfers nothing");
        assert_eq!(bench.sh("diff -r . \"$OUT\"/all"), "");
        // What has changed since, and that alone.
        bench.sh("echo four >>config/lines; rm -r rows; mkdir new");
        let third = bench.sh(&format!("{RSYNC} ./ \"$OUT\"/all/"));
        let files: Vec<_> = third.lines().filter(|line| !line.starts_with("*deleting   rows/r") && !line.starts_with(".d")).collect();
        assert_eq!(files, ["*deleting   rows/", ">f.st...... config/lines", "cd+++++++++ new/"], "{third}");
        bench.sh("rmdir new; rsync -a .boltfs/base/rows .; cp .boltfs/base/config/lines config");
        bench.commit();
    }

    fn rsync_in(user) {
        let mut bench = Bench::new(user);
        bench.sh(&format!("{RSYNC} ./ \"$OUT\"/all/ >/dev/null; cd \"$OUT\"/all; rm -r rows config/lines; mkdir new; echo v >new/k"));
        bench.sh(&format!("cd \"$OUT\"/all; sed -i s/10.0.0.12/10.0.0.99/ {A}; echo 3.4.27 >cluster/clusterVersion"));
        bench.sh(&format!("{RSYNC} \"$OUT\"/all/ ./ >/dev/null"));
        assert_eq!(bench.sh(&format!("{RSYNC} \"$OUT\"/all/ ./")), "", "the second run transfers nothing");
        assert_eq!(bench.sh("diff -r . \"$OUT\"/all"), "");
        bench.expect_no_bucket("rows");
        bench.expect_no("config/lines");
        bench.expect_bucket("new");
        bench.expect("new/k", "v\n");
        bench.expect(A, MEMBER_A.replace("10.0.0.12", "10.0.0.99"));
        bench.expect("cluster/clusterVersion", "3.4.27");
        // Times are not kept over the end of a mount: rsync sends again what it cannot know to be the same, and nothing changes.
        bench.commit_and_mount(&[]);
        bench.sh(&format!("{RSYNC} \"$OUT\"/all/ ./ >/dev/null"));
        assert_eq!(bench.sh(&format!("{RSYNC} \"$OUT\"/all/ ./")), "");
        bench.commit_nothing();
    }

    /// A whole database out of a directory tree, and further ways to write.
    fn rsync_with_other_options(user) {
        let mut bench = Bench::new(user);
        bench.sh("rsync -a ./ \"$OUT\"/all/; echo 3.4.27 >\"$OUT\"/all/cluster/clusterVersion; printf x >>\"$OUT\"/all/large/blob");
        bench.sh("rsync -a --inplace --no-whole-file \"$OUT\"/all/ ./");
        bench.assert_pending(&["changed cluster/clusterVersion 5 6 final newline left off", "changed large/blob 300000 300001"]);
        bench.sh("cp -r .boltfs/base/large .; rsync -rc --delay-updates --partial --backup --suffix=.old \"$OUT\"/all/ ./");
        bench.assert_pending(&[
            "changed cluster/clusterVersion 5 6 final newline left off",
            "changed large/blob 300000 300001",
            "added large/blob.old 300000 looks like an editor's leftover",
        ]);
        bench.sh("rm large/blob.old; cp .boltfs/base/large/blob large");
        bench.sh("rsync -a --remove-source-files config/lines \"$OUT\"/moved/");
        bench.expect_no("config/lines");
        bench.expect("cluster/clusterVersion", "3.4.27");
        bench.commit();
    }

    /// `-X` too: it sets all attributes on a file that has another name yet.
    fn rsync_with_extended_attributes(user) {
        let mut bench = Bench::new(user);
        bench.sh("rsync -aHAX ./ \"$OUT\"/all/; echo 3.4.27 >\"$OUT\"/all/cluster/clusterVersion; rm -r config");
        bench.sh("rsync -aHAX \"$OUT\"/all/ ./");
        assert_eq!(bench.sh("rsync -aHAX --itemize-changes \"$OUT\"/all/ ./"), "");
        bench.expect("cluster/clusterVersion", "3.4.27");
        bench.commit();
    }
}
