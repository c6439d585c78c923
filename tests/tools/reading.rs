//! What only looks, and so must leave the file as it was, and what compares.

use crate::bench::{A, Bench};
use crate::terminal::Terminal;

as_everybody! {
    fn find_and_grep(user) {
        let bench = Bench::new(user);
        assert_eq!(bench.sh("grep -rl 10.0.0.12 ."), format!("./{A}\n"));
        assert_eq!(bench.sh("grep -rc two config/lines"), "1\n");
        assert_eq!(bench.sh("grep -rhoE '\"name\": \"[^\"]*\"' members"), "\"name\": \"control-plane-1\"\n");
        assert_eq!(bench.sh("grep -rl 'this is row 299$' rows | xargs cat | wc -l"), "8\n");
        assert_eq!(bench.sh("find . -name '.boltfs*'; find . -type d | sort | tr '\\n' ' '"), ". ./cluster ./config ./config/nested ./config/nested/deeper ./hollow ./key ./large ./members ./rows ");
        assert_eq!(bench.sh("find . -size +100k; find . -type f -empty | sort"), "./large/blob\n./config/empty\n./key/0x0000000000000000\n");
        assert_eq!(bench.sh("find . -type f | wc -l; find . -links +1; find rows -newer config/lines"), "333\n");
        bench.commit_nothing();
    }

    fn ls_stat_du_df_file(user) {
        let bench = Bench::new(user);
        assert_eq!(bench.sh("ls"), "cluster\nconfig\nhollow\nkey\nlarge\nmembers\nrows\n");
        assert_eq!(bench.sh("ls -a config"), ".\n..\na%2Fb\nempty\nlines\nnested\npython\nschlüssel\ntwo words\nwith-newline\n");
        assert_eq!(bench.sh("stat -c '%F %s %a' config config/lines config/empty members/80020537c70f3495"), "directory 0 755\nregular file 14 644\nregular empty file 0 644\nregular file 82 644\n");
        assert_eq!(bench.sh("ls -lR . | grep -c '^-rw-r--r-- 1'; wc -c <large/blob; du -s --apparent-size -B1 large | cut -f1"), "333\n300000\n300000\n");
        assert_eq!(bench.sh("file -b config/python config/lines key/0x0000000000000000; cat < config/lines | sort -r | head -1"), "JSON text data\nASCII text\nempty\ntwo\n");
        let df = bench.sh("df --output=source,size,avail,target . | tail -1");
        assert!(df.contains(bench.database().to_str().expect("plain")) && df.trim_end().ends_with(bench.point().to_str().expect("plain")), "{df}");
        bench.sh("df -h . >/dev/null; df -i . >/dev/null; du -sh . >/dev/null; stat -f . >/dev/null; findmnt -T . >/dev/null; realpath config/../rows >/dev/null");
        bench.commit_nothing();
    }

    fn diff_and_git(user) {
        let mut bench = Bench::new(user);
        assert_eq!(bench.sh("diff -r .boltfs/base/members members; diff -r .boltfs/base/key key; cmp large/blob .boltfs/base/large/blob"), "");
        bench.sh(&format!("sed -i s/10.0.0.12/10.0.0.99/ {A}; rm rows/row-000"));
        let diff = bench.try_sh("diff -r .boltfs/base/members members; diff -r .boltfs/base/rows rows").text();
        assert!(diff.contains("<     \"https://10.0.0.12:2380\"\n---\n>     \"https://10.0.0.99:2380\""), "{diff}");
        let diff = bench.try_sh("diff -rq .boltfs/base/rows rows").text();
        assert_eq!(diff, "Only in .boltfs/base/rows: row-000\n");
        let git = bench.try_sh("git diff --no-index --stat .boltfs/base/members members");
        assert!(git.code() == Some(1) && git.text().contains("1 file changed, 1 insertion(+), 1 deletion(-)"), "{git}");
        let git = bench.try_sh("git diff --no-index .boltfs/base/members members").text();
        assert!(git.contains("-    \"https://10.0.0.12:2380\"\n+    \"https://10.0.0.99:2380\""), "{git}");
        bench.sh(&format!("cp .boltfs/base/{A} {A}; cp .boltfs/base/rows/row-000 rows"));
        bench.assert_pending(&[]);
        // A repository in the mount itself, too.
        bench.sh("git init -q . && git add -A && git -c user.name=n -c user.email=e commit -qm all && echo x >rows/x && git add -A && git stash -q && git gc -q && git status --short");
        bench.sh("rm -rf .git; git diff --no-index .boltfs/base/members members; git -C \"$OUT\" init -q . && cp -r members \"$OUT\" && git -C \"$OUT\" add -A");
        bench.sh("echo x >>config/lines");
        bench.expect("config/lines", "one\ntwo\nthree\nx\n");
        bench.commit();
    }

    /// The tree as it was cannot be changed.
    fn the_base_is_read_only(user) {
        let bench = Bench::new(user);
        for line in ["echo x >.boltfs/base/config/lines", "rm .boltfs/base/config/lines", "mkdir .boltfs/base/x", "rm -r .boltfs/base/rows", "mv .boltfs/base/rows x"] {
            let output = bench.try_sh(line).expect_failure();
            assert!(["Read-only", "Permission denied", "not permitted"].iter().any(|why| output.stderr.contains(why)), "{output}");
        }
        bench.commit_nothing();
    }

    fn less(user) {
        let bench = Bench::new(user);
        let mut less = Terminal::start(&bench, "less rows/row-000");
        less.wait_for("this is row 0").keys("G").wait_for("END").keys("q");
        less.ends();
        let mut less = Terminal::start(&bench, &format!("less {A} config/lines"));
        less.wait_for("10.0.0.12").keys(":n").wait_for("three").keys("q");
        less.ends();
        bench.commit_nothing();
    }

    /// Somebody watches while somebody else writes.
    fn tail_and_watch(user) {
        let mut bench = Bench::new(user);
        let mut tail = Terminal::start(&bench, "tail -f config/lines");
        tail.wait_for("three");
        bench.sh("echo four >>config/lines");
        tail.wait_for("four").keys("\x03");
        let mut watch = Terminal::start(&bench, "watch -n 0.1 cat .boltfs/pending");
        watch.wait_for("config/lines");
        bench.sh("echo x >config/later; echo 5 >cluster/clusterVersion");
        watch.wait_for("config/later").keys("\x03");
        bench.expect("config/lines", "one\ntwo\nthree\nfour\n");
        bench.expect("config/later", "x\n");
        bench.expect("cluster/clusterVersion", "5");
        bench.commit();
    }

    /// `pending` changes by itself: a reader must not see what the kernel kept, not even if it is as long as before.
    fn pending_is_never_stale(user) {
        let mut bench = Bench::new(user);
        for digit in 1..=9 {
            bench.sh(&format!("head -c {digit} large/blob >config/new"));
            bench.assert_pending(&[&format!("added config/new {digit}")]);
        }
        assert_eq!(bench.sh("jq .pending .boltfs/info; echo >config/new-too; jq .pending .boltfs/info"), "1\n2\n");
        bench.sh("rm config/new config/new-too; echo x >config/lines");
        bench.assert_pending(&["changed config/lines 14 2"]);
        bench.expect("config/lines", "x\n");
        bench.commit();
    }
}
