//! What a stranger has put where a file is to be written: in a directory that everybody may write to, by the names that can be
//! foreseen. Nothing of it is written to, and nothing of it is believed.

use crate::{by_root, case, script};

/// `plant KIND NAME` puts something there; `untouched` fails when what it leads to has changed.
const PLANT: &str = r#"
mkdir -m 1777 open; echo victim > victim; chmod 600 victim; stat -c %a:%s:%Y:%u:%g victim > was
plant() {
    case $1 in
        dangling) nobody ln -s "$PWD/open/nowhere" $2 ;;
        link) nobody ln -s "$PWD/victim" $2 ;;
        hard) ln victim $2 ;;
        file) nobody cp orig-for-all $2 ;;
        fifo) nobody mkfifo -m 666 $2 ;;
        socket) nobody python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' $2 ;;
        directory) nobody mkdir $2 ;;
    esac
}
untouched() { not [ -e open/nowhere ]; [ "$(cat victim)" = victim ]; stat -c %a:%s:%Y:%u:%g victim | cmp - was; }
cp orig orig-for-all; chmod 644 orig-for-all
fresh() { rm -rf open/* open/.db*; cp ${1:-orig} open/db; chmod 600 open/db; }
"#;

const KINDS: [&str; 7] = [
    "dangling",
    "link",
    "hard",
    "file",
    "fifo",
    "socket",
    "directory",
];

const SNAPSHOT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/etcd-snapshot.db"
);

#[test]
fn what_lies_in_the_journals_place_is_neither_believed_nor_written_to() {
    if !by_root("planted::what_lies_in_the_journals_place_is_neither_believed_nor_written_to") {
        return;
    }
    for kind in KINDS {
        let case = case();
        let output = script(
            &case,
            &format!(
                "{PLANT} fresh; plant {kind} open/db.boltfs-journal; ls -lR open > listed
                 for option in '' --recover --discard; do not boltfs $option open/db mnt 2>&1; done
                 boltfs -r open/db mnt 2> looked; cat mnt/b/k > /dev/null; boltfs umount mnt; grep -q 'never committed' looked
                 ls -lR open | cmp - listed; untouched
                 # It comes before the first edit: that is kept in memory alone, and committed.
                 fresh; boltfs open/db mnt; plant {kind} open/db.boltfs-journal; echo new > mnt/b/k
                 grep -q '\"journal\": null' mnt/.boltfs/info; boltfs umount mnt 2>&1; ls -d open/db.boltfs-journal; untouched"
            ),
        );
        let text = output.expect_success().text();
        let refused = "open/db.boltfs-journal is not a journal that boltfs made for you. Look at it, and move it away.\n";
        assert_eq!(text.matches(refused).count(), 3, "{kind}: {text}");
        assert!(
            text.contains("committed transaction 3 to "),
            "{kind}: {text}"
        );
        assert!(
            text.ends_with("\nopen/db.boltfs-journal\n"),
            "{kind}: {text}"
        );
    }
}

/// Edits that somebody else wants to have committed by root.
#[test]
fn a_journal_is_believed_of_its_maker_and_of_the_databases_owner_alone() {
    if !by_root("planted::a_journal_is_believed_of_its_maker_and_of_the_databases_owner_alone") {
        return;
    }
    let case = case();
    let output = script(
        &case,
        r#"
        mkdir -m 1777 open; cp orig open/db; boltfs open/db mnt; echo planted > mnt/b/k
        cp open/db.boltfs-journal journal; boltfs umount --discard mnt 2> /dev/null
        try() { cp journal open/db.boltfs-journal; chown $1 open/db.boltfs-journal; chown $2 open/db
                boltfs --recover open/db mnt && { cat mnt/b/k; boltfs umount --discard mnt; }; rm -f open/db.boltfs-journal; }
        echo stranger; try 65534 0 2> said; grep -c 'is not a journal that boltfs made for you' said
        echo stranger; try 65534 1 2> said; grep -c 'is not a journal that boltfs made for you' said
        echo root; try 0 0 2> /dev/null; echo owner; try 65534 65534 2> /dev/null
        "#,
    );
    let text = output.expect_success().text();
    assert_eq!(
        text,
        "stranger\n1\nstranger\n1\nroot\nplanted\nowner\nplanted\n"
    );
}

/// A backup and a copy are made by a commit: what has come there meanwhile is left alone, and the commit can be made later.
#[test]
fn backup_and_output_replace_nothing_and_follow_nothing() {
    if !by_root("planted::backup_and_output_replace_nothing_and_follow_nothing") {
        return;
    }
    for kind in KINDS {
        let case = case();
        for option in ["--backup", "--output"] {
            let output = script(
                &case,
                &format!(
                    "rm -rf open victim; {PLANT} fresh; plant {kind} open/new; not boltfs {option} open/new open/db mnt 2>&1; rm -rf open/new
                     boltfs {option} open/new open/db mnt; echo new > mnt/b/k; plant {kind} open/new; ls -ld open/new > listed
                     not bash -c 'echo commit > mnt/.boltfs/control'; cat mnt/.boltfs/control; ls -ld open/new | cmp - listed; untouched
                     cmp open/db orig; rm -rf open/new; boltfs umount mnt 2>&1; [ -f open/new ]; untouched"
                ),
            );
            let text = output.expect_success().text();
            assert!(text.starts_with("boltfs: the "), "{kind}: {text}");
            assert!(
                text.contains("exists already, and is never replaced."),
                "{kind}: {text}"
            );
            assert!(text.contains("\nNOT COMMITTED: "), "{kind}: {text}");
            assert!(text.contains("File exists"), "{kind}: {text}");
            assert!(
                text.contains("committed transaction 3 to "),
                "{kind}: {text}"
            );
        }
    }
}

/// A new file has a name for a moment before it takes the place of the old one.
#[test]
fn the_name_that_a_new_file_has_for_a_moment_leads_nowhere() {
    if !by_root("planted::the_name_that_a_new_file_has_for_a_moment_leads_nowhere") {
        return;
    }
    for kind in KINDS {
        let case = case();
        for first in ["plant", "mount"] {
            let plant = format!("plant {kind} open/.db.boltfs-new");
            let mount = "boltfs open/db mnt 2> /dev/null";
            let both = if first == "plant" {
                [&plant, mount]
            } else {
                [mount, &plant]
            };
            let output = script(
                &case,
                &format!(
                    "rm -rf open victim; {PLANT} fresh {SNAPSHOT}; {}; {}; mkdir mnt/new
                     boltfs umount mnt 2>&1 || {{ echo $?; rm -r open/.db.boltfs-new; boltfs --recover open/db mnt; boltfs umount mnt; }}
                     untouched; ls -A open; stat -c %a open/db; boltfs check open/db > /dev/null",
                    both[0], both[1]
                ),
            );
            let output = output.expect_success();
            let text = output.text();
            assert!(text.ends_with("\ndb\n600\n"), "{kind}: {output}");
            if kind == "directory" {
                let way = "open/.db.boltfs-new is in the way: Is a directory";
                assert!(
                    text.contains(way) && text.contains("\n1\n"),
                    "{kind}: {output}"
                );
                assert!(text.contains("Your edits are safe in "), "{kind}: {output}");
            } else {
                assert!(
                    text.contains("boltfs: committed transaction"),
                    "{kind}: {output}"
                );
            }
        }
    }
}

#[test]
fn a_rescued_file_is_a_new_one_elsewhere() {
    if !by_root("planted::a_rescued_file_is_a_new_one_elsewhere") {
        return;
    }
    for kind in KINDS {
        let case = case();
        let output = script(
            &case,
            &format!(
                "{PLANT} fresh; mkdir -m 700 tmp; export TMPDIR=$PWD/tmp; boltfs open/db mnt; echo new > mnt/b/k
                 pid=$(grep -o '\"pid\": [0-9]*' mnt/.boltfs/info | cut -d' ' -f2); plant {kind} open/db.rescued-$pid
                 mv open/db open/old; not boltfs umount mnt 2>&1; untouched; stat -c '%a %n' tmp/*"
            ),
        );
        let output = output.expect_success();
        let text = output.text();
        assert!(text.contains("/tmp/db.rescued-"), "{kind}: {output}");
        assert!(text.contains("\n600 tmp/db.rescued-"), "{kind}: {output}");
    }
}

#[test]
fn a_new_database_follows_nothing() {
    if !by_root("planted::a_new_database_follows_nothing") {
        return;
    }
    for kind in KINDS {
        let case = case();
        let output = script(
            &case,
            &format!(
                "{PLANT} plant {kind} open/new; ls -ld open/* > listed; not boltfs --create open/new mnt 2>&1; untouched; ls -ld open/* | cmp - listed
                 rm -rf open/new; umask 000; boltfs --create open/new mnt; boltfs umount mnt 2> /dev/null; stat -c %a open/new"
            ),
        );
        let text = output.expect_success().text();
        assert!(
            text.contains("exists already. Mount it without --create"),
            "{kind}: {text}"
        );
        assert!(text.ends_with("\n600\n"), "{kind}: {text}");
    }
}
