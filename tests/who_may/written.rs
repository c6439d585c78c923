//! The files that are written beside a database: whose they are, and who may read them.

use crate::{by_root, case, script};

/// Every file that comes into being, with its mode and owner.
const EVERY_FILE: &str = r#"
of() { stat -c "$1 %a %u:%g" "${2:-$1}"; }
run() {
    boltfs --backup bak db mnt; mkdir mnt/n1; of db.boltfs-journal; boltfs umount mnt 2> /dev/null; of db; of bak
    boltfs --output out db mnt; mkdir mnt/n2; of out.boltfs-journal; boltfs umount mnt 2> /dev/null; of out
    boltfs db mnt; mkdir mnt/n3; mv db db.old; not boltfs umount mnt 2> said; grep -q "Your edits are safe" said
    of rescued db.rescued-*
}
"#;

/// What [`EVERY_FILE`] says where each file looks like the database.
fn wanted(mode: u32, owner: &str, maker: &str) -> String {
    [
        format!("db.boltfs-journal 600 {maker}\n"),
        format!("db {mode:o} {owner}\nbak {mode:o} {owner}\n"),
        format!("out.boltfs-journal 600 {maker}\n"),
        format!("out {mode:o} {owner}\nrescued {mode:o} {owner}\n"),
    ]
    .concat()
}

/// Of a database, and of an etcd snapshot, which a commit replaces by a new file.
#[test]
fn every_file_is_the_owners_and_as_readable_as_the_database() {
    if !by_root("written::every_file_is_the_owners_and_as_readable_as_the_database") {
        return;
    }
    let case = case();
    let snapshot = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/etcd-snapshot.db"
    );
    for from in ["orig", snapshot] {
        for umask in ["000", "022", "077"] {
            for mode in [0o600, 0o640, 0o644, 0o604, 0o440] {
                let output = script(
                    &case,
                    &format!(
                        "{EVERY_FILE} rm -rf db* bak* out*; cp {from} db; chown 65534:12 db; chmod {mode:o} db; umask {umask}; run; ls -A"
                    ),
                );
                let text = output.expect_success().text();
                let rest = text.strip_prefix(&wanted(mode, "65534:12", "0:0"));
                let rest =
                    rest.unwrap_or_else(|| panic!("{from}, umask {umask}, {mode:o}: {text}"));
                assert!(!rest.contains(".boltfs-new"), "{rest}");
            }
        }
    }
}

/// Who cannot give a file away keeps it, and then a group that would not be the database's gets nothing.
#[test]
fn what_an_ordinary_user_writes_is_not_more_readable_either() {
    if !by_root("written::what_an_ordinary_user_writes_is_not_more_readable_either") {
        return;
    }
    let case = case();
    // The database's group and mode; the groups of the user; those and the mode of what is written.
    for (group, mode, groups, wanted) in [
        (12, 0o640, "--groups=12", "640 65534:12"),
        (12, 0o640, "--clear-groups", "600 65534:65534"),
        (12, 0o644, "--clear-groups", "604 65534:65534"),
        (12, 0o604, "--clear-groups", "600 65534:65534"),
        (65534, 0o660, "--clear-groups", "660 65534:65534"),
    ] {
        let output = script(
            &case,
            &format!(
                "rm -rf dir; mkdir dir dir/mnt; cp orig dir/db; cd dir; chown 65534:{group} . mnt db; chmod {mode:o} db; umask 000
                 user() {{ setpriv --reuid=65534 --regid=65534 {groups} --inh-caps=-all \"$@\"; }}
                 user ../boltfs --backup bak db mnt; user mkdir mnt/n; stat -c '%a %u:%g' db.boltfs-journal; user ../boltfs umount mnt
                 user ../boltfs --output out db mnt; user mkdir mnt/m; user ../boltfs umount mnt; stat -c '%a %u:%g' bak out db"
            ),
        );
        let text = output.expect_success().text();
        assert_eq!(
            text,
            format!("600 65534:65534\n{wanted}\n{wanted}\n{mode:o} 65534:{group}\n"),
            "{group} {mode:o} {groups}"
        );
    }
}

/// The files lie beside the database itself, wherever the link to it is.
#[test]
fn a_link_to_the_database_is_followed_once_and_the_files_lie_beside_the_database() {
    if !by_root(
        "written::a_link_to_the_database_is_followed_once_and_the_files_lie_beside_the_database",
    ) {
        return;
    }
    let case = case();
    let output = script(
        &case,
        r#"
        mkdir -m 1777 open; mkdir -m 700 own; mv db own; nobody ln -s ../own/db open/link
        boltfs open/link mnt; echo new > mnt/b/k; ls open own
        # The link leads elsewhere meanwhile.
        cp orig other; rm open/link; nobody ln -s ../other open/link
        boltfs umount mnt 2> said; grep -o "to $PWD/own/db: 0 keys" said > /dev/null; cmp other orig; ls open own
        "#,
    );
    let text = output.expect_success().text();
    assert_eq!(
        text,
        "open:\nlink\n\nown:\ndb\ndb.boltfs-journal\nopen:\nlink\n\nown:\ndb\n"
    );
}
