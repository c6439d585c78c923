//! What a stranger sees of a mount that others are let into.

use crate::{by_root, case, script};

/// Tries everything that a program can try on a mount, and says what each thing came to.
const INTRUDER: &str = r#"
import errno, os, socket, sys
mnt = sys.argv[1]
paths = ["", "SECRET-BUCKET", "SECRET-BUCKET/SECRET-KEY", "SECRET-BUCKET/SECRET-STAGED", ".boltfs", ".boltfs/pending", ".boltfs/info",
         ".boltfs/control", ".boltfs/base", ".boltfs/base/SECRET-BUCKET", ".boltfs/base/SECRET-BUCKET/SECRET-KEY"]
def attempt(what, act):
    try: got = act()
    except OSError as e: return print(what, errno.errorcode[e.errno])
    print(what, "WORKS", repr(got))
def opened(path, flags): os.close(os.open(path, flags))
for number, path in enumerate(paths):
    path = os.path.join(mnt, path)
    for what, act in [
        ("stat", lambda: oct(os.stat(path).st_mode)), ("size", lambda: os.stat(path).st_size), ("list", lambda: os.listdir(path)),
        ("read", lambda: open(path, "rb").read()), ("write", lambda: opened(path, os.O_WRONLY)),
        ("path", lambda: opened(path, os.O_PATH)), ("enter", lambda: os.chdir(path)), ("xattrs", lambda: os.listxattr(path)),
        ("key", lambda: os.getxattr(path, "user.bbolt.key")), ("sequence", lambda: os.getxattr(path, "user.bbolt.sequence")),
        ("set", lambda: os.setxattr(path, "user.bbolt.sequence", b"7")), ("mkdir", lambda: os.mkdir(path + "/new")),
        ("create", lambda: opened(path + "/new", os.O_CREAT | os.O_WRONLY)), ("unlink", lambda: os.unlink(path)),
        ("rmdir", lambda: os.rmdir(path)), ("rename", lambda: os.rename(path, path + "-new")), ("chmod", lambda: os.chmod(path, 0o777)),
        ("chown", lambda: os.chown(path, 65534, 65534)), ("touch", lambda: os.utime(path)), ("cut", lambda: os.truncate(path, 0)),
        ("link", lambda: os.link(path, "/tmp/boltfs-link")),
    ]:
        attempt(f"{what} {number}", act)
device = os.stat(mnt).st_dev
for request in ['{"request": "status", "most": 9}', '{"request": "changes"}', '{"request": "wait", "discard": true}', '{"request": "unmounted"}']:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(f"\0boltfs/{os.major(device)}:{os.minor(device)}")
        try:
            s.sendall(request.encode() + b"\n")
            got = s.recv(100000)
        except OSError as e: got = b""
        print("asked", "WORKS " + repr(got) if got else "nothing")
"#;

#[test]
fn a_stranger_gets_no_byte_of_a_database_that_is_not_his_to_read() {
    if !by_root("look::a_stranger_gets_no_byte_of_a_database_that_is_not_his_to_read") {
        return;
    }
    let case = case();
    std::fs::write(case.join("intruder"), INTRUDER).unwrap();
    // The kernel has seen all of it before, and may have what it needs to answer by itself.
    let output = script(
        &case,
        r#"
        boltfs -o allow_other db mnt
        mkdir mnt/SECRET-BUCKET; echo SECRET-VALUE > mnt/SECRET-BUCKET/SECRET-KEY; echo commit > mnt/.boltfs/control
        echo SECRET-STAGED > mnt/SECRET-BUCKET/SECRET-STAGED
        find mnt mnt/.boltfs | xargs stat > /dev/null; grep -r . mnt mnt/.boltfs > /dev/null; cp mnt/.boltfs/pending before
        chmod 755 .; mkdir -m 777 open
        nobody python3 intruder mnt
        for command in "status mnt" "status" "diff mnt" "umount mnt" "umount --discard mnt" "check db" "-r db open" "db open" \
            "journal db.boltfs-journal" "--output open/out db open"
        do nobody ./boltfs $command 2>&1 && echo "WORKS $command"; echo "$command: $?"; done
        nobody cat db db.boltfs-journal 2>&1 && echo "WORKS cat"
        nobody umount mnt 2>&1 && echo "WORKS umount"; nobody fusermount3 -u mnt 2>&1 && echo "WORKS fusermount3"
        nobody cp -r mnt open 2>&1 && echo "WORKS cp"; nobody tar -cf - mnt 2> /dev/null | tar -t || true
        ls -A open; cmp mnt/.boltfs/pending before; stat -c %a mnt mnt/SECRET-BUCKET
        cat mnt/SECRET-BUCKET/SECRET-STAGED > staged; boltfs umount mnt
        "#,
    );
    let output = output.expect_success();
    let said = format!("{}{}", output.text(), output.stderr);
    assert!(
        !said.contains("SECRET") && !said.contains("VALUE"),
        "{output}"
    );
    // Of the mount point he may know what his own ls of the directory around it shows.
    let works: Vec<_> = said.lines().filter(|line| line.contains("WORKS")).collect();
    let allowed = [
        "stat 0 WORKS '0o40700'",
        "size 0 WORKS 0",
        "path 0 WORKS None",
        "xattrs 0 WORKS []",
    ];
    assert_eq!(works, allowed, "{output}");
    // Whatever else there is to try fails, the mount point itself as any directory of root's.
    let failed = |line: &&str| {
        line.split(' ')
            .nth(2)
            .is_some_and(|errno| errno.starts_with('E'))
    };
    assert_eq!(
        output.text().lines().filter(failed).count(),
        11 * 21 - 4,
        "{output}"
    );
    assert_eq!(said.matches("asked nothing").count(), 4, "{output}");
    assert_eq!(
        std::fs::read_to_string(case.join("staged")).unwrap(),
        "SECRET-STAGED\n"
    );
    assert!(
        output.stderr.contains("committed transaction 4"),
        "{output}"
    );
}

/// For the owner, one of the group, and anybody else: may he read the file, may he write to it?
const WHO_MAY: &str = r#"
may() {
    for who in "1 9" "9 2" "9 9"; do
        set -- $who "$@"
        setpriv --reuid=$1 --regid=$2 --clear-groups bash -c '
            for file; do (: < $file) 2> /dev/null && r=r || r=-; (: >> $file) 2> /dev/null && w=w || w=-; echo -n " $r$w"; done' - "${@:3}"
        shift 2
    done
}
"#;

#[test]
fn who_may_read_the_file_may_read_the_mount_and_nobody_else() {
    if !by_root("look::who_may_read_the_file_may_read_the_mount_and_nobody_else") {
        return;
    }
    let case = case();
    let modes = [
        0o600, 0o640, 0o644, 0o604, 0o660, 0o666, 0o400, 0o444, 0o440, 0o700, 0o755, 0o4755,
    ];
    for mode in modes {
        let output = script(
            &case,
            &format!(
                "{WHO_MAY} fresh; chown 1:2 db; chmod {mode:o} db; file=$(may db); boltfs -o allow_other db mnt
                 echo \"[$file][$(may mnt/b/k)]\"; stat -c %a:%u:%g mnt mnt/b mnt/.boltfs/base mnt/b/k mnt/.boltfs mnt/.boltfs/info
                 boltfs umount mnt"
            ),
        );
        let text = output.expect_success().text();
        let (may, modes) = text.split_once('\n').unwrap();
        let (file, mount) = may[1..may.len() - 1].split_once("][").unwrap();
        assert_eq!(file, mount, "{mode:o}: {text}");
        let file = mode & 0o666;
        let dir = file | (file & 0o444) >> 2;
        let wanted =
            [dir, dir, dir, file, dir & 0o555, file & 0o444].map(|mode| format!("{mode:o}:1:2\n"));
        assert_eq!(modes, wanted.concat(), "{mode:o}");
    }
}

/// A mount knows no access lists: what one gives to somebody, and takes from somebody, the mode must not give.
#[test]
fn an_access_list_of_the_file_lets_nobody_in() {
    if !by_root("look::an_access_list_of_the_file_lets_nobody_in") {
        return;
    }
    let case = case();
    // Owner rw; the user or group that is named; the file's group; the mask; others.
    let lists = [
        (
            "user 9 may, nobody else",
            [(2, 6, 9), (4, 0, 0), (16, 6, 0), (32, 0, 0)],
            "600",
        ),
        (
            "user 9 may not, everybody else",
            [(2, 0, 9), (4, 4, 0), (16, 4, 0), (32, 4, 0)],
            "600",
        ),
        (
            "group 9 may not, everybody else",
            [(8, 0, 9), (4, 4, 0), (16, 4, 0), (32, 4, 0)],
            "640",
        ),
        (
            "all may, of whom one is named",
            [(2, 6, 9), (4, 4, 0), (16, 6, 0), (32, 4, 0)],
            "644",
        ),
    ];
    for (what, list, mode) in lists {
        let list = list
            .map(|entry| format!("({}, {}, {})", entry.0, entry.1, entry.2))
            .join(", ");
        let output = script(
            &case,
            &format!(
                "{WHO_MAY} mkdir -p disk; mount -t tmpfs none disk; trap 'umount -l disk' EXIT; cp orig disk/db; chown 1:2 disk/db; cat > set << END
import os, struct
entries = sorted([(1, 6, 2**32 - 1), {list}])
os.setxattr('disk/db', 'system.posix_acl_access', struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *e) for e in entries))
END
                 python3 set; file=$(may disk/db); boltfs --backup disk/bak -o allow_other disk/db mnt
                 echo \"$file;$(may mnt/b/k);$(stat -c %a mnt/b/k)\"; echo x > mnt/b/k; boltfs umount mnt; may disk/bak"
            ),
        );
        let text = output.expect_success().text();
        let (line, bak) = text.split_once('\n').unwrap();
        let [file, mount, shown] = line.split(';').collect::<Vec<_>>()[..] else {
            panic!("{text}")
        };
        assert_eq!(shown, mode, "{what}: {text}");
        for (file, mount) in file.chars().zip(mount.chars()) {
            assert!(mount == file || mount == '-', "{what}: {text}");
        }
        // A copy has the list too.
        assert_eq!(bak, file, "{what}: {text}");
    }
}
