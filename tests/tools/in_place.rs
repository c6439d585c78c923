//! Values changed by commands: stream editors, redirections, and what writes at an offset.

use crate::bench::{A, B, Bench, MEMBER_A, MEMBER_B};

as_everybody! {
    fn sed_in_place(user) {
        let mut bench = Bench::new(user);
        bench.sh(&format!("sed -i s/10.0.0.12/10.0.0.99/ {A}"));
        bench.sh("sed -i s/debug/info/ config/python config/with-newline");
        bench.sh("sed -i 2d config/lines");
        bench.sh("sed -i s/5/6/ cluster/clusterVersion");
        assert_eq!(bench.sh("ls -A members cluster | grep sed || true"), "");
        bench.expect(A, MEMBER_A.replace("10.0.0.12", "10.0.0.99"));
        bench.expect("config/python", br#"{"log": "info", "ports": [80, 443]}"#);
        bench.expect("config/with-newline", "{\"log\":\"info\"}\n");
        bench.expect("config/lines", "one\nthree\n");
        bench.expect("cluster/clusterVersion", "3.6.0");
        bench.assert_pending(&[
            "changed cluster/clusterVersion 5 5",
            "changed config/lines 14 10",
            "changed config/python 36 35",
            "changed config/with-newline 16 15",
            &format!("changed {A} 64 64"),
        ]);
        bench.commit();
    }

    /// `s/x/y/` that finds no x writes the file all the same.
    fn sed_that_changes_nothing(user) {
        let bench = Bench::new(user);
        bench.sh("find . -type f -exec sed -i s/absent-everywhere/x/ {} +");
        bench.commit_nothing();
    }

    fn sed_with_a_backup(user) {
        let mut bench = Bench::new(user);
        bench.sh("sed -i.orig s/5/6/ cluster/clusterVersion");
        bench.expect("cluster/clusterVersion", "3.6.0");
        // The backup is the old key under a new name, byte for byte.
        bench.expect("cluster/clusterVersion.orig", "3.5.0");
        bench.commit();
    }

    fn perl_in_place(user) {
        let mut bench = Bench::new(user);
        bench.sh("perl -pi -e 's/10\\.0\\.0\\.12/10.0.0.99/' members/*");
        bench.sh("perl -i.bak -pe 's/5/6/' cluster/clusterVersion; rm cluster/clusterVersion.bak");
        bench.expect(A, MEMBER_A.replace("10.0.0.12", "10.0.0.99"));
        bench.expect("cluster/clusterVersion", "3.6.0");
        bench.assert_pending(&["changed cluster/clusterVersion 5 5", &format!("changed {A} 64 64")]);
        bench.commit();
    }

    fn jq_and_a_temporary_file(user) {
        let mut bench = Bench::new(user);
        // Beside it, outside of the mount, and through a shell variable.
        bench.sh(&format!("jq '.name = \"two\"' {B} >members/tmp && mv members/tmp {B}"));
        bench.sh("jq '.ports += [8080]' config/python >\"$OUT\"/tmp && mv \"$OUT\"/tmp config/python");
        bench.sh("new=$(jq -c .log=1 config/with-newline); echo \"$new\" >config/with-newline");
        bench.expect("config/python", br#"{"log": "debug", "ports": [80, 443, 8080]}"#);
        bench.expect("config/with-newline", "{\"log\":1}\n");
        // jq 1.6 reads numbers as doubles.
        let id = bench.sh("jq -n 14897328164050071356").trim_end().to_owned();
        bench.expect(B, MEMBER_B.replace("control-plane-1", "two").replace("14897328164050071356", &id));
        bench.commit();
    }

    fn jq_dot_is_no_change(user) {
        let bench = Bench::new(user);
        bench.sh("for f in config/python config/with-newline; do jq . $f >\"$OUT\"/tmp; mv \"$OUT\"/tmp $f; done");
        bench.commit_nothing();
    }

    /// The id of a member does not fit a double: what jq 1.6 and others make of it is another number.
    fn a_large_number_that_was_rounded_is_pointed_out(user) {
        let mut bench = Bench::new(user);
        let rounded = MEMBER_A.replace("9223940723929199765", "9223940723929200000");
        bench.sh(&format!("echo '{rounded}' >{A}"));
        bench.assert_pending(&[&format!("changed {A} 64 64 number 9223940723929199765 was rounded")]);
        bench.expect(A, rounded);
        let report = bench.commit();
        assert!(report.contains(A) && report.contains("rounded"), "{report}");
    }

    fn redirections(user) {
        let mut bench = Bench::new(user);
        bench.sh("echo 3.4.27 >cluster/clusterVersion");
        bench.sh("echo -n four >>config/lines");
        bench.sh(">config/python");
        bench.sh(": >config/with-newline");
        bench.sh("echo new >config/new");
        bench.sh("printf 'no newline' >config/new-too");
        bench.sh("cat >config/here <<'end'\nfirst\nsecond\nend");
        bench.sh("printf ONE 1<>'config/nested/deep'");
        bench.sh("exec 3<>config/nested/deeper/deepest; read -r -n 4 <&3; printf LEVELS >&3; exec 3>&-");
        bench.sh("{ echo a; echo b >&2; } >config/both 2>&1");
        bench.fails("set -o noclobber; echo x >config/lines", "cannot overwrite existing file");
        bench.expect("cluster/clusterVersion", "3.4.27");
        bench.expect("config/lines", "one\ntwo\nthree\nfour");
        bench.expect("config/python", "");
        bench.expect("config/with-newline", "");
        bench.expect("config/new", "new\n");
        bench.expect("config/new-too", "no newline");
        bench.expect("config/here", "first\nsecond\n");
        bench.expect("config/nested/deep", "ONE level\n");
        bench.expect("config/nested/deeper/deepest", "two LEVELS\n");
        bench.expect("config/both", "a\nb\n");
        bench.commit();
    }

    /// The rule of §6 in the words of a shell: what `echo` puts at the end is not stored, more than that is.
    fn echo_and_the_final_newline(user) {
        let mut bench = Bench::new(user);
        bench.sh("echo 3.5.0 >cluster/clusterVersion");
        bench.assert_pending(&[]);
        bench.sh("echo >>cluster/clusterVersion");
        bench.assert_pending(&["changed cluster/clusterVersion 5 6 final newline left off"]);
        bench.sh("printf '3.5.0\\r\\n' >cluster/clusterVersion");
        bench.assert_pending(&[]);
        bench.sh("echo 3.5.0 >cluster/clusterVersion; echo more >>config/empty");
        assert_eq!(bench.sh("cat config/empty"), "more\n", "one reads what one wrote");
        bench.expect("config/empty", "more");
        bench.commit();
    }

    fn tee(user) {
        let mut bench = Bench::new(user);
        assert_eq!(bench.sh("echo four | tee -a config/lines"), "four\n");
        assert_eq!(bench.sh("echo x | tee config/one config/two"), "x\n");
        bench.expect("config/lines", "one\ntwo\nthree\nfour\n");
        bench.expect("config/one", "x\n");
        bench.expect("config/two", "x\n");
        bench.commit();
    }

    fn truncate_and_fallocate(user) {
        let mut bench = Bench::new(user);
        bench.sh("truncate -s 3 cluster/clusterVersion; truncate -s +2 config/lines; truncate -s 0 config/python");
        bench.sh("truncate -s 10000 config/new; fallocate -l 5000 config/solid; truncate -s 100000 large/blob");
        bench.fails("truncate -s 2G config/huge", "File too large");
        bench.fails("fallocate -l 3G config/huge", "File too large");
        bench.sh("rm config/huge");
        bench.expect("cluster/clusterVersion", "3.5");
        bench.expect("config/lines", "one\ntwo\nthree\n\0\0");
        bench.expect("config/python", "");
        bench.expect("config/new", vec![0; 10_000]);
        bench.expect("config/solid", vec![0; 5000]);
        let blob = crate::bench::sample();
        let blob = blob.value(&[b"large".to_vec()], b"blob").expect("it is there")[..100_000].to_vec();
        bench.expect("large/blob", blob);
        bench.commit();
    }

    fn dd_at_offsets(user) {
        let mut bench = Bench::new(user);
        bench.sh("printf 4 | dd of=cluster/clusterVersion bs=1 seek=2 conv=notrunc status=none");
        bench.sh("printf XY | dd of=config/lines bs=1 seek=20 conv=notrunc status=none");
        bench.sh("printf cut | dd of=config/with-newline bs=1 seek=1 status=none");
        bench.sh("printf end | dd of=config/empty oflag=append conv=notrunc status=none");
        bench.sh("dd if=/dev/zero of=large/blob bs=4096 seek=10 count=5 conv=notrunc,fsync status=none");
        bench.sh("dd if=/dev/zero of=large/zeros bs=1M count=9 status=none");
        assert_eq!(bench.sh("dd if=config/lines bs=1 skip=4 count=3 status=none"), "two");
        bench.expect("cluster/clusterVersion", "3.4.0");
        bench.expect("config/lines", "one\ntwo\nthree\n\0\0\0\0\0\0XY");
        bench.expect("config/with-newline", "{cut");
        bench.expect("config/empty", "end");
        bench.expect("large/zeros", vec![0; 9 << 20]);
        let sample = crate::bench::sample();
        let mut blob = sample.value(&[b"large".to_vec()], b"blob").expect("it is there").to_vec();
        blob[40_960..61_440].fill(0);
        bench.expect("large/blob", blob);
        bench.commit();
    }

    fn touch(user) {
        let mut bench = Bench::new(user);
        bench.sh("touch config/* members/* rows");
        bench.assert_pending(&[]);
        bench.sh("touch -d '2001-02-03 04:05:06 UTC' config/lines; touch -r config/lines config/new");
        assert_eq!(bench.sh("TZ=UTC stat -c %y config/lines config/new"), "2001-02-03 04:05:06.000000000 +0000\n".repeat(2));
        bench.assert_pending(&["added config/new 0"]);
        bench.expect("config/new", "");
        bench.commit();
    }

    /// A value that is no JSON any more is stored as written, and pointed out.
    fn broken_json(user) {
        let mut bench = Bench::new(user);
        bench.sh(&format!("sed -i '$d' {A}"));
        bench.assert_pending(&[&format!("changed {A} 64 80 no longer JSON")]);
        bench.expect(A, "{\n  \"id\": 9223940723929199765,\n  \"peerURLs\": [\n    \"https://10.0.0.12:2380\"\n  ]\n");
        let report = bench.commit();
        assert!(report.contains(A) && report.contains("was JSON and is not any more"), "{report}");
    }

    fn python_rewrites_json(user) {
        let mut bench = Bench::new(user);
        bench.sh(&format!("python3 - <<'end'\nimport json\n\
            with open('{B}', 'r+') as f:\n    m = json.load(f); m['name'] = 'two'\n    f.seek(0); json.dump(m, f); f.truncate()\n\
            with open('config/python') as f: c = json.load(f)\n\
            c['log'] = 'info'\n\
            with open('config/python', 'w') as f: json.dump(c, f, indent=4)\nend"));
        bench.expect(B, MEMBER_B.replace("control-plane-1", "two"));
        bench.expect("config/python", br#"{"log": "info", "ports": [80, 443]}"#);
        bench.commit();
    }
}
