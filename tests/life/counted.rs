//! What the report of a commit says was done, where a mount commits more than once.

use crate::common::case::Case;
use crate::rich;

/// Each of them ends in something to commit.
const STEPS: &[&str] = &[
    "rm b/text",
    "touch b/.k.swp",
    "mkdir one",
    "mkdir two",
    "rmdir one; echo x > two/a; echo y > two/b",
    "echo z > two/a",
    "mv two/a two/c",
    "mkdir -p n/m/o; for k in 1 2 3; do echo $k > n/$k; echo $k > n/m/$k; done",
    "rm n/2; echo new > n/m/1",
    "mv n/m d/",
    "echo edited > d/m/2; mv d/m/3 b/three",
    // Buckets with keys from the start, from this mount, and one that lives on.
    "mv d/m/o c/; rm -r n d two",
    "rm -r c; mkdir c; echo again > c/k",
    "rm -r b; mkdir b; echo 1 > b/json; echo 1 > b/line",
    "mv b e; echo 2 > e/json",
    "setfattr -n user.bbolt.sequence -v 7 e; mv e b; rm -r c",
];

/// The report without the path of the database, and without the word that a commit takes long.
fn done(case: &Case, said: &str) -> String {
    let lines = said.split_inclusive('\n');
    let said: String = lines
        .filter(|line| !line.contains(": still at work on "))
        .collect();
    let report = said.strip_prefix("boltfs: ").unwrap_or(&said);
    report.replace(&case.db().display().to_string(), "DB")
}

#[test]
fn each_commit_of_a_mount_reports_what_it_did_itself() {
    let (one, many) = (rich(), rich());
    one.sh("boltfs db mnt").expect_success();
    for step in STEPS {
        let commit = "cd ..; echo commit > mnt/.boltfs/control; cat mnt/.boltfs/control";
        let here = one
            .sh(&format!("cd mnt; {step}; {commit}"))
            .expect_success()
            .text();
        let alone = many
            .sh(&format!(
                "boltfs db mnt; (cd mnt; {step}); boltfs umount mnt 2>&1"
            ))
            .expect_success()
            .text();
        assert!(here.contains("committed transaction "), "{step}: {here}");
        // The first one is counted by the writer, over what was mounted.
        assert_eq!(done(&one, &here), done(&many, &alone), "{step}");
    }
    let last = one.sh("mkdir mnt/last; boltfs umount mnt 2>&1").text();
    let words = "0 keys added, 0 changed, 0 deleted; 1 bucket added, 0 moved, 0 deleted";
    assert!(last.contains(words), "{last}");
}
