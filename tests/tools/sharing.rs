//! Several at once: shared memory, processes that write at the same time, files that are open while they change or go.

use crate::bench::{A, B, Bench, MEMBER_A, MEMBER_B};

as_everybody! {
    fn mmap(user) {
        let mut bench = Bench::new(user);
        bench.sh("python3 - <<'end'\nimport mmap\n\
            with open('large/blob', 'r+b') as f:\n    m = mmap.mmap(f.fileno(), 0)\n\
            m[0:4] = b'MMAP'; m[200000:200004] = b'PAMM'; m.flush(); m[-1:] = b'.'; m.close()\n\
            with open('config/lines', 'r+b') as f: m = mmap.mmap(f.fileno(), 0)\n\
            m[0:3] = b'ONE'; del m\n\
            with open('config/new', 'w+b') as f:\n    f.truncate(10000); m = mmap.mmap(f.fileno(), 0); m[9000:9003] = b'abc'; m.resize(20000); m[19997:] = b'end'; m.close()\n\
            with open('rows/row-001', 'rb') as f: m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\n\
            assert m[:11] == b'this is row'\nend");
        assert_eq!(bench.sh("head -c 4 large/blob; head -1 config/lines; tail -c 3 config/new"), "MMAPONE\nend");
        let blob = bench.expected("large").nodes.get_mut(&b"blob"[..]);
        let Some(crate::common::Node::Value(blob)) = blob else { panic!("no blob") };
        blob[..4].copy_from_slice(b"MMAP");
        blob[200_000..200_004].copy_from_slice(b"PAMM");
        *blob.last_mut().expect("it is not empty") = b'.';
        bench.expect("config/lines", "ONE\ntwo\nthree\n");
        let mut new = vec![0; 20_000];
        new[9000..9003].copy_from_slice(b"abc");
        new[19_997..].copy_from_slice(b"end");
        bench.expect("config/new", new);
        bench.commit();
    }

    /// Appending, by four processes at the same time: no line is lost, none is torn.
    fn appending_to_one_key(user) {
        let mut bench = Bench::new(user);
        bench.sh("for p in 1 2 3 4; do (for i in $(seq 250); do echo \"process $p line $i\"; done >>config/log) & done; wait");
        bench.sh("for p in 1 2 3 4; do (for i in $(seq 50); do echo \"process $p echo $i\" >>config/log; done) & done; wait");
        assert_eq!(bench.sh("wc -l <config/log; sort -u config/log | wc -l; grep -cvxE 'process [1-4] (line|echo) [0-9]+' config/log || true"), "1200\n1200\n0\n");
        let log = bench.sh("cat config/log");
        bench.expect("config/log", log);
        bench.commit();
    }

    /// Two processes that write to keys of one bucket, and two that replace the same key by renaming.
    fn writing_at_the_same_time(user) {
        let mut bench = Bench::new(user);
        bench.sh("for p in a b; do (for i in $(seq 100); do echo $p$i >config/$p-$i; done) & done; wait");
        bench.sh(&format!("for n in one two; do (for i in $(seq 50); do jq -c --arg n $n '.name = $n | .id = 1' {B} >members/$n && mv members/$n {B}; done) & done; wait"));
        bench.sh("for p in 1 2 3 4; do (for i in $(seq 50); do rm -rf config/dir; mkdir -p config/dir/sub && echo x >config/dir/sub/x || true; done) 2>/dev/null & done; wait; rm -rf config/dir");
        let name = bench.sh(&format!("jq -r .name {B}"));
        assert!(["one\n", "two\n"].contains(&&name[..]), "{name}");
        bench.expect(B, MEMBER_B.replace("14897328164050071356", "1").replace("control-plane-1", name.trim_end()));
        for process in ["a", "b"] {
            for number in 1..=100 {
                bench.expect(&format!("config/{process}-{number}"), format!("{process}{number}\n"));
            }
        }
        bench.commit();
    }

    /// Many processes, each with its own keys.
    fn xargs_in_parallel(user) {
        let mut bench = Bench::new(user);
        bench.sh("ls rows | xargs -P 8 -n 7 sh -c 'for f; do sed -i s/this/that/ rows/$f; done' sh");
        bench.sh("seq 200 | xargs -P 8 -I{} sh -c 'echo {} >hollow/{}; mv hollow/{} hollow/n{}; mkdir large/d{}; cp hollow/n{} large/d{}/'");
        bench.sh("seq 100 | xargs -P 8 -I{} rm -r large/d{}");
        for node in bench.expected("rows").nodes.values_mut() {
            let crate::common::Node::Value(value) = node else { panic!("a bucket") };
            *value = String::from_utf8_lossy(value).replace("this", "that").into_bytes();
        }
        for number in 1..=200 {
            bench.expect(&format!("hollow/n{number}"), format!("{number}\n"));
            if number > 100 {
                bench.expect_bucket(&format!("large/d{number}"));
                bench.expect(&format!("large/d{number}/n{number}"), format!("{number}\n"));
            }
        }
        bench.commit();
    }

    /// What was unlinked can be read and written on, and goes nowhere.
    fn open_files_that_are_gone(user) {
        let mut bench = Bench::new(user);
        bench.sh(&format!("exec 3<>{A} 4<config/lines 5>>config/new; rm {A} config/lines config/new; echo lost >&5\n\
            grep -q 10.0.0.12 <&3; printf gone >&3; test \"$(cat <&4)\" = $'one\\ntwo\\nthree'; echo again >{A}; cat <&4; exec 3>&- 4<&- 5>&-"));
        assert_eq!(bench.sh(&format!("cat {A}")), "again\n");
        // The same over a rename, and in a bucket that is gone.
        bench.sh("exec 3>>config/python; mv config/python config/with-newline; echo ' ' >&3; exec 3>&-");
        bench.sh("exec 3>rows/row-000; cd rows; rm -r ../rows; echo x >&3; exec 3>&-; ls; not touch z 2>/dev/null");
        bench.expect(A, "again\n");
        bench.expect_no("config/lines");
        bench.expect_no("config/python");
        // What was edited follows the style of the key that it has come to.
        bench.expect("config/with-newline", "{\"log\":\"debug\",\"ports\":[80,443]}\n");
        bench.expect_no_bucket("rows");
        bench.commit();
    }

    fn locks(user) {
        let mut bench = Bench::new(user);
        bench.sh(&format!("flock {A} sed -i s/10.0.0.12/10.0.0.99/ {A}; flock -s rows true"));
        bench.fails("exec 3<config/lines; flock -n 3; flock -n config/lines echo got-it", "");
        bench.sh("python3 - <<'end'\nimport fcntl\nwith open('config/lines', 'r+') as f:\n    fcntl.lockf(f, fcntl.LOCK_EX); f.write('ONE'); fcntl.lockf(f, fcntl.LOCK_UN)\nend");
        bench.expect(A, MEMBER_A.replace("10.0.0.12", "10.0.0.99"));
        bench.expect("config/lines", "ONE\ntwo\nthree\n");
        bench.commit();
    }

    /// fsync, fdatasync, sync and syncfs are answered.
    fn syncing(user) {
        let mut bench = Bench::new(user);
        bench.sh("echo x >>config/lines; sync config/lines; sync -d config/lines; sync -f config; sync config");
        bench.expect("config/lines", "one\ntwo\nthree\nx\n");
        bench.commit();
    }
}
