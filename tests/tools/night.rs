//! What is typed at three in the morning, right or wrong: it does what it says, or says why not, and nothing is lost.

use crate::bench::{A, Bench, MEMBER_A};
use crate::terminal::Terminal;

as_everybody! {
    /// What a database has no place for is refused by name.
    fn links_and_devices(user) {
        let mut bench = Bench::new(user);
        bench.fails("ln -s lines config/link", "Operation not permitted");
        bench.fails("ln config/lines config/link", "Operation not permitted");
        bench.fails("mkfifo config/pipe", "Operation not permitted");
        bench.fails("cp -l config/lines config/link", "Operation not permitted");
        bench.fails("echo x >file", "Operation not permitted");
        bench.fails("touch file", "Operation not permitted");
        bench.fails("cp config/lines .", "Operation not permitted");
        bench.fails(&format!("echo x >config/{}", "n".repeat(256)), "File name too long");
        bench.fails("echo x >config/%41", "Invalid argument");
        bench.fails("mkdir .boltfs", "File exists");
        bench.fails("rmdir .boltfs", "");
        bench.fails("rm -r .boltfs", "");
        bench.fails("mv .boltfs x", "");
        bench.sh("echo x >>config/lines");
        bench.expect("config/lines", "one\ntwo\nthree\nx\n");
        bench.commit();
    }

    /// chmod, chown and the like hold as long as the mount does, and are no change of the database.
    fn attributes(user) {
        let bench = Bench::new(user);
        bench.sh("chmod -R go-r .; chmod 400 config/lines; chmod a+x rows/row-000; chown -R $(id -u):$(id -g) .");
        assert_eq!(bench.sh("stat -c %a config config/lines rows/row-000"), "711\n400\n711\n");
        bench.commit_nothing();
    }

    /// Names with spaces, dashes, quotes, unicode, and those of our own making.
    fn odd_names(user) {
        let mut bench = Bench::new(user);
        for name in ["-rf", " ", "a b", "quote\"'", "*", "\\", "$HOME", "ünï", "日本", "a=b;c&d|e", "!", "..."] {
            bench.sh(&format!("cat >\"$OUT\"/name <<'end'\n{name}\nend\nread -r name <\"$OUT\"/name || true; IFS= read -r name <\"$OUT\"/name; echo x >\"config/$name\"; cat \"config/$name\" >/dev/null"));
            bench.expect(&format!("config/{name}"), "x\n");
        }
        bench.sh("echo x >config/a%2Fc; echo x >config/0x00ff; echo x >config/%30xy; echo x >config/100%25; mkdir config/%2E%2E");
        bench.expected("config").nodes.insert(b"a/c".to_vec(), crate::common::Node::Value(b"x\n".to_vec()));
        bench.expected("config").nodes.insert(b"\x00\xff".to_vec(), crate::common::Node::Value(b"x\n".to_vec()));
        bench.expect("config/0xy", "x\n");
        bench.expect("config/100%", "x\n");
        bench.expect_bucket("config/..");
        bench.sh("rsync -a --delete config/ \"$OUT\"/config/; rm -r config; cp -r \"$OUT\"/config .; test -z \"$(rsync -acni --no-times --delete config/ \"$OUT\"/config/ | grep -v '^\\.')\"");
        bench.expected("config/nested").seq = 0;
        bench.commit();
    }

    /// Nothing on its own, everywhere.
    fn empty_values(user) {
        let mut bench = Bench::new(user);
        bench.sh("cp config/empty config/copy; : >config/colon; >config/bare; touch config/touched; cp /dev/null config/null; printf '' | tee config/tee; mkdir e; cp config/empty e");
        for name in ["copy", "colon", "bare", "touched", "null", "tee"] {
            bench.expect(&format!("config/{name}"), "");
        }
        bench.expect_bucket("e");
        bench.expect("e/empty", "");
        bench.commit();
    }

    /// A script that is interrupted has staged what it did until then; all of it is there to be seen.
    fn interrupted(user) {
        let mut bench = Bench::new(user);
        let mut shell = Terminal::start(&bench, "trap 'exit 0' INT; for i in $(seq 1000000); do echo $i >config/$i; echo made $i; done");
        shell.wait_for("made 20").keys("\x03");
        shell.ends();
        let made = bench.sh("ls config | grep -x '[0-9]*' | sort -n");
        for number in made.lines() {
            let value = bench.sh(&format!("cat config/{number}"));
            assert!(value == format!("{number}\n") || value.is_empty(), "{number}: {value}");
            bench.expect(&format!("config/{number}"), value);
            if number == "25" {
                bench.sh("ls config | grep -x '[0-9]*' | sort -n | tail -n +26 | sed s,^,config/, | xargs -r rm");
                break;
            }
        }
        bench.commit();
    }

    /// The copy of a file beside itself before an edit, and its way back.
    fn a_copy_beside_it(user) {
        let bench = Bench::new(user);
        bench.sh(&format!("cp {A} {A}.bak; sed -i s/2380/9999/ {A}; diff {A} {A}.bak >/dev/null || mv {A}.bak {A}"));
        bench.commit_nothing();
    }

    fn compressing_and_shredding(user) {
        let mut bench = Bench::new(user);
        bench.sh("gzip config/lines; gunzip config/lines.gz; gzip -k large/blob; zcat large/blob.gz | cmp - large/blob; rm large/blob.gz");
        bench.assert_pending(&[]);
        bench.sh(&format!("shred -u {A}; shred -n 1 config/two\\ words; cp config/lines config/'two words'"));
        bench.expect_no(A);
        bench.expect("config/two words", "one\ntwo\nthree\n");
        bench.commit();
    }

    /// patch, ed, split, sort -o, sponge's poor relations.
    fn further_writers(user) {
        let mut bench = Bench::new(user);
        bench.sh(&format!("diff -u {A} <(sed s/10.0.0.12/10.0.0.99/ {A}) >\"$OUT\"/p || true; patch -s {A} <\"$OUT\"/p"));
        bench.sh("sort -o config/lines config/lines; cd config; split -l 1 lines part-; shuf -n 1 -e x -o shuffled");
        bench.sh("python3 -c 'import shutil; shutil.move(\"config/shuffled\", \"hollow/s\"); shutil.copytree(\"hollow\", \"rows/h\"); shutil.rmtree(\"hollow\")'");
        bench.sh("python3 -c 'import tempfile, os; f = tempfile.NamedTemporaryFile(\"w\", dir=\"cluster\", delete=False); f.write(\"3.4.27\\n\"); f.close(); os.replace(f.name, \"cluster/clusterVersion\")'");
        bench.expect(A, MEMBER_A.replace("10.0.0.12", "10.0.0.99"));
        bench.expect("config/lines", "one\nthree\ntwo\n");
        for (name, line) in [("aa", "one\n"), ("ab", "three\n"), ("ac", "two\n")] {
            bench.expect(&format!("config/part-{name}"), line);
        }
        bench.expect_no_bucket("hollow");
        bench.expect_bucket("rows/h");
        bench.expect("rows/h/s", "x\n");
        bench.expect("cluster/clusterVersion", "3.4.27");
        bench.commit();
    }
}
