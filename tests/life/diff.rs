//! `boltfs diff`.

use std::fs;

use crate::common::case::Case;
use crate::common::process::run;
use crate::rich;

/// What is shown; it must say that something is.
#[track_caller]
fn shown(case: &Case) -> String {
    let output = case.boltfs(&["diff", "mnt"]);
    assert_eq!(
        (output.code(), output.stderr.as_str()),
        (Some(1), ""),
        "{output}"
    );
    output.text()
}

#[test]
fn nothing_pending_is_no_difference() {
    let case = rich();
    for options in [&["db", "mnt"][..], &["-r", "db", "mnt"]] {
        case.boltfs(options).expect_success();
        let output = case.boltfs(&["diff", "mnt"]).expect_success();
        assert_eq!(
            (output.text(), output.stderr),
            (String::new(), String::new())
        );
        case.boltfs(&["umount", "mnt"]).expect_success();
    }
}

#[test]
fn each_kind_of_change_is_shown() {
    let case = rich();
    case.boltfs(&["db", "mnt"]).expect_success();
    case.sh(
        r#"cd mnt; sed -i s/two/2/ b/line; sed -i 's/"x"/"y"/' b/json; rm b/text b/empty; printf '\0' > b/binary
        mkdir n; echo new > 'n/two words'; : > n/empty; echo '{' > n/4913~; mv c/deep c/moved; rmdir d
        setfattr -n user.bbolt.sequence -v 7 c; mkdir n/sub"#,
    )
    .expect_success();
    let sha = |bytes: &str| {
        let mut bash = case.command("bash");
        let text = run(bash.args(["-c", &format!("printf '{bytes}' | sha256sum")])).text();
        text[..64].to_owned()
    };
    let wanted = format!(
        "Values a/b/binary and b/b/binary differ: 3 bytes, sha256 {}; 1 byte, sha256 {}
Key a/b/empty is deleted: empty
--- a/b/json
+++ b/b/json
@@ -1,4 +1,4 @@
 {{
   \"id\": 9223940723929199765,
-  \"name\": \"x\"
+  \"name\": \"y\"
 }}
--- a/b/line
+++ b/b/line
@@ -1,3 +1,3 @@
 one
-two
+2
 three
--- a/b/text
+++ /dev/null
@@ -1 +0,0 @@
-some text
\\ No newline at end of file
Sequence of bucket b/c/ is 7, was 0
Bucket a/c/deep/ is moved to b/c/moved/
Bucket a/d/ is deleted with all that is in it
Bucket b/n/ is new
Note on b/n/4913~: looks like an editor's leftover
--- /dev/null
+++ b/n/4913~
@@ -0,0 +1 @@
+{{
Key b/n/empty is new: empty
Bucket b/n/sub/ is new
--- /dev/null
+++ b/n/two words\t
@@ -0,0 +1 @@
+new
",
        sha(r"\x00\x01\xff"),
        sha(r"\x00")
    );
    assert_eq!(shown(&case), wanted);
    // What was committed is not pending any more, and what follows is compared with that.
    case.sh("echo commit > mnt/.boltfs/control; sed -i s/2/zwei/ mnt/b/line")
        .expect_success();
    assert_eq!(
        shown(&case),
        "--- a/b/line\n+++ b/b/line\n@@ -1,3 +1,3 @@\n one\n-2\n+zwei\n three\n"
    );
    case.boltfs(&["umount", "--discard", "mnt"])
        .expect_success();
}

/// `patch` makes the tree as it was into the tree as it is: nothing is left out, and nothing is made up.
#[test]
fn patch_understands_it() {
    let case = rich();
    case.boltfs(&["db", "mnt"]).expect_success();
    case.sh(
        r#"cp -r mnt/.boltfs/base before; cd mnt
        seq 1 1000 > b/numbers; echo commit > .boltfs/control; cp b/numbers ../before/b/; chmod -R u+w ../before
        sed -i '3d;500s/$/ and more/;700i between' b/numbers; sed -i 's/"x"/"y",\n  "z": []/' b/json
        rm b/text; echo more >> b/line; printf 'no end' > c/new; echo b > 'c/two words'"#,
    )
    .expect_success();
    case.sh(
        "boltfs diff mnt > patch || [ $? = 1 ]; cd before; patch -p1 < ../patch
         diff -r b ../mnt/b; diff -r c ../mnt/c; not [ -e b/text ]",
    )
    .expect_success();
    case.boltfs(&["umount", "--discard", "mnt"])
        .expect_success();
}

#[test]
fn values_too_long_to_look_at_are_told_by_their_hash() {
    let case = rich();
    case.sh(
        "boltfs db mnt; head -c 5000000 /dev/zero > mnt/b/long; (yes no || true) | head -c 4194304 > mnt/b/lines
         sha256sum < mnt/b/long > sum",
    )
    .expect_success();
    let text = shown(&case);
    let sum = &fs::read_to_string(case.join("sum")).unwrap()[..64];
    let wanted = format!("Key b/b/long is new: 5000000 bytes, sha256 {sum}\n");
    assert!(text.ends_with(&wanted), "{}", &text[text.len() - 200..]);
    assert_eq!(
        text.lines().filter(|&line| line == "+no").count(),
        1_398_101
    );
    case.boltfs(&["umount", "--discard", "mnt"])
        .expect_success();
}

/// Values of hostile databases and logs have escape sequences in them.
#[test]
fn nothing_acts_on_the_terminal() {
    let case = rich();
    case.sh(
        r"boltfs db mnt; printf '\e[2J\e]0;title\a' > mnt/b/binary; printf '\e[31mred\e[m\r\n' > mnt/b/line
        printf 'x\302\2332J' > mnt/b/text; mkdir mnt/$'\e'[2J 2> refused || true",
    )
    .expect_success();
    // On a real terminal, in colours.
    let output = case
        .sh("TERM=xterm script -qec 'boltfs diff mnt; boltfs status mnt' /dev/null")
        .expect_success();
    let text = output.text();
    let mut rest = text.clone();
    for colour in ["\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[m"] {
        rest = rest.replace(colour, "");
    }
    let acts = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    assert!(!rest.contains(acts), "{rest:?}");
    assert!(text.contains("\x1b[32m+^[[31mred^[[m^M\x1b[m"), "{text:?}");
    // No colours where nobody looks, or nobody wants them.
    let plain = case
        .sh("boltfs diff mnt || true; NO_COLOR=1 script -qec 'boltfs diff mnt' /dev/null || true");
    assert!(!plain.text().contains('\x1b'), "{plain}");
    case.boltfs(&["umount", "--discard", "mnt"])
        .expect_success();
}

#[test]
fn a_reader_may_stop_looking_and_keeps_nobody_waiting() {
    let case = rich();
    case.sh("boltfs db mnt; for i in 1 2 3 4 5 6; do seq 600000 > mnt/b/$i; done")
        .expect_success();
    let head = case.sh("boltfs diff mnt | head -3 || [ ${PIPESTATUS[0]} = 1 ]");
    assert_eq!(head.expect_success().stderr, "");
    // One that holds the pipe open and does not read: edits and the end of the mount do not wait for it.
    case.sh(
        "mkfifo pipe; sleep 600 < pipe & reader=$!; boltfs diff mnt > pipe & diff=$!; sleep 0.5
         echo x > mnt/b/x; echo commit > mnt/.boltfs/control; rm mnt/b/1; boltfs umount mnt
         kill $reader $diff; wait || true",
    )
    .expect_success();
    assert_eq!(case.value("b", "1"), None);
    assert_eq!(case.value("b", "x").as_deref(), Some("x\n"));
    let full = case.sh("boltfs db mnt; echo y > mnt/b/x; boltfs diff mnt > /dev/full || echo $?; boltfs umount mnt");
    assert!(
        full.stderr.contains("cannot write to standard output"),
        "{full}"
    );
    assert_eq!(full.text(), "2\n");
}
