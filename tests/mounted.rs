//! The statements of SEMANTICS.md that the tools' tests do not come to, through a real mount.

mod common;

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::fs::{bucket, database, tree, value};
use common::process::{run, sh};
use common::{Fixture, Mount, Oracle, TempDir, Tree};
use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};

fn sample() -> Tree {
    tree([
        (
            "b",
            bucket([
                ("k", value("v")),
                ("l", value("{\"a\":1}")),
                ("sub", bucket([])),
            ]),
        ),
        ("c", bucket([])),
    ])
}

/// A database of this content, in a directory of its own.
fn file(content: &Tree) -> (TempDir, PathBuf) {
    let directory = TempDir::new("mounted");
    let file = directory.join("db");
    fs::write(&file, database(content, 4096)).unwrap();
    (directory, file)
}

/// What bbolt finds in the database.
fn dump(file: &Path) -> Tree {
    let oracle = Oracle::shared();
    oracle.assert_sound(file);
    oracle.dump(file).unwrap()
}

#[test]
fn commands_to_the_control_file() {
    let (_directory, file) = file(&sample());
    let mount = Mount::new(&file, &[]);
    mount.sh("echo edited > b/k; rm b/l; mkdir d; cat b/k > d/k; echo commit > .boltfs/control");
    let committed = tree([
        ("b", bucket([("k", value("edited")), ("sub", bucket([]))])),
        ("c", bucket([])),
        ("d", bucket([("k", value("edited\n"))])),
    ]);
    committed.assert_same(&common::read::read_all(&file), "after the first commit");
    let told = mount.sh("cat .boltfs/control .boltfs/pending");
    assert!(told.starts_with("committed transaction "), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");

    // The mount goes on. What is dropped is dropped for the kernel, too, whatever it has in its caches.
    mount.sh("echo dropped > b/k; echo dropped > b/new; mv d e; rmdir c; cat b/k b/new e/k; ls . b e; stat b/k");
    mount.sh("echo discard > .boltfs/control");
    assert_eq!(
        mount.sh("ls . b; cat b/k d/k; stat -c %s b/k"),
        ".:\nb\nc\nd\n\nb:\nk\nsub\nedited\nedited\n7\n"
    );
    assert_eq!(
        mount
            .sh("cat .boltfs/control .boltfs/pending; ls e 2>&1 || true")
            .lines()
            .count(),
        2
    );

    mount.sh("echo again > c/k; printf commit > .boltfs/control; echo last > c/k");
    let failed = sh(mount.path(), "echo nonsense > .boltfs/control").expect_failure();
    assert!(failed.stderr.contains("Invalid argument"), "{failed}");
    assert!(mount.sh("cat .boltfs/control").contains("nonsense"));
    mount.umount();
    let found = dump(&file);
    assert_eq!(found.value(&[b"c".to_vec()], b"k"), Some(&b"last\n"[..]));
    assert_eq!(found.count(), (3, 4));
}

#[test]
fn the_control_directory_is_there_and_not_listed() {
    let (_directory, file) = file(&sample());
    let mount = Mount::new(&file, &[]);
    assert_eq!(
        mount.sh("ls -A; find . -name '.boltfs*'; echo .b*"),
        "b\nc\n.b*\n"
    );
    assert_eq!(
        mount.sh("ls -A .boltfs; ls .boltfs/base"),
        "base\ncontrol\ninfo\npending\nb\nc\n"
    );
    mount.sh("rm b/k; cp .boltfs/base/b/k b/; diff -r .boltfs/base .; test -z \"$(cat .boltfs/pending)\"");
}

#[test]
fn set_user_id_and_devices_mean_nothing() {
    let (_directory, file) = file(&sample());
    let mount = Mount::new(&file, &[]);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let point = mount.path().to_str().unwrap();
    let line = table
        .lines()
        .find(|line| line.split(' ').nth(4) == Some(point))
        .unwrap();
    let options = line.split(' ').nth(5).unwrap();
    for option in ["nosuid", "nodev"] {
        assert!(options.split(',').any(|o| o == option), "{line}");
    }
    assert!(line.contains(" - fuse.boltfs "), "{line}");
}

#[test]
fn renames_that_must_not_replace_and_that_exchange() {
    let (_directory, file) = file(&sample());
    let mount = Mount::new(&file, &[]);
    let rename = |from: &str, to: &str, flags| {
        let here = File::open(mount.path()).unwrap();
        renameat2(&here, from, &here, to, flags)
    };
    assert_eq!(
        rename("b/k", "b/l", RenameFlags::RENAME_NOREPLACE),
        Err(Errno::EEXIST)
    );
    assert_eq!(rename("b/k", "b/m", RenameFlags::RENAME_NOREPLACE), Ok(()));
    assert_eq!(
        rename("b/m", "b/none", RenameFlags::RENAME_EXCHANGE),
        Err(Errno::ENOENT)
    );
    assert_eq!(rename("b/m", "b/sub", RenameFlags::RENAME_EXCHANGE), Ok(()));
    assert_eq!(
        rename("b/sub", "c", RenameFlags::RENAME_EXCHANGE),
        Err(Errno::EPERM)
    );
    assert_eq!(rename("b", "c", RenameFlags::RENAME_EXCHANGE), Ok(()));
    assert_eq!(
        rename("b", "d", RenameFlags::RENAME_WHITEOUT),
        Err(Errno::EINVAL)
    );
    mount.umount();
    let expected = tree([
        ("b", bucket([])),
        (
            "c",
            bucket([
                ("l", value("{\"a\":1}")),
                ("m", bucket([])),
                ("sub", value("v")),
            ]),
        ),
    ]);
    expected.assert_same(&dump(&file), "committed");
}

#[test]
fn a_files_number_and_links() {
    let (_directory, file) = file(&sample());
    let mount = Mount::new(&file, &[]);
    let number = |path: &str| fs::metadata(mount.join(path)).unwrap().ino();
    let before = (number("b"), number("b/k"));
    mount.sh("echo x > b/k; mv b/k c/moved; mv b e");
    assert_eq!((number("e"), number("c/moved")), before);
    let open = File::options()
        .read(true)
        .write(true)
        .open(mount.join("c/moved"))
        .unwrap();
    assert_eq!(
        (
            open.metadata().unwrap().nlink(),
            fs::metadata(mount.join("e")).unwrap().nlink()
        ),
        (1, 1)
    );
    fs::remove_file(mount.join("c/moved")).unwrap();
    assert_eq!(open.metadata().unwrap().nlink(), 0);
}

#[test]
fn what_cannot_be_read_is_an_error_and_can_be_removed() {
    let (_directory, file) = Fixture::named("page-zeroed.db").copy();
    let good = dump_readable(&file, "good");
    let mount = Mount::new(&file, &[]);
    let listed = sh(mount.path(), "ls bad").expect_failure();
    assert!(listed.stderr.contains("Input/output error"), "{listed}");
    assert!(
        !listed.text().is_empty(),
        "what can be read is listed first: {listed}"
    );
    sh(
        mount.path(),
        "grep -r . good > /dev/null; touch good/new; rm -r good/new",
    )
    .expect_success();
    sh(mount.path(), "rmdir bad").expect_failure();
    // rm says that it could not see everything, and has removed what it saw. The rest goes with the bucket.
    sh(mount.path(), "rm -r bad").expect_failure();
    mount.sh("test ! -e bad || rmdir bad");
    assert_eq!(mount.sh("ls"), "good\n");
    mount.umount();
    let after = common::read::read_all(&file);
    assert_eq!(after.count().1, 1 + good.count().1);
    good.assert_same(
        after.bucket(&[b"good".to_vec()]).unwrap(),
        "the sound bucket",
    );
}

fn dump_readable(file: &Path, bucket: &str) -> Tree {
    let reading = common::read::read(&common::read::open(file).unwrap());
    assert!(!reading.errors.is_empty());
    reading
        .tree
        .bucket(&[bucket.as_bytes().to_vec()])
        .unwrap()
        .clone()
}

/// The disk beside the database is full: edits are refused as on any full disk, those before are kept, and all goes on
/// when there is room again.
#[test]
fn a_full_disk() {
    if !nix::unistd::geteuid().is_root() {
        return common::process::again_as_root("a_full_disk");
    }
    let directory = TempDir::new("full");
    let disk = SmallDisk::new(directory.join("disk"));
    let file = disk.0.join("db");
    fs::write(&file, database(&sample(), 4096)).unwrap();
    let mount = Mount::new(&file, &[]);
    mount.sh("echo first > b/k");
    let mut ballast = File::create(disk.0.join("ballast")).unwrap();
    while ballast.write_all(&[7; 1024]).is_ok() {}
    let full = sh(mount.path(), "head -c 100000 /dev/zero > b/large").expect_failure();
    assert!(full.stderr.contains("No space left on device"), "{full}");
    assert_eq!(mount.sh("cat b/k b/l"), "first\n{\n  \"a\": 1\n}\n");
    // There is no room for a commit either; it says so, and what is staged stays.
    let commit = sh(mount.path(), "echo commit > .boltfs/control").expect_failure();
    assert!(
        mount.sh("cat .boltfs/control").contains("NOT COMMITTED"),
        "{commit}"
    );
    sample().assert_same(&common::read::read_all(&file), "the database");
    assert!(
        mount
            .sh("cat .boltfs/pending")
            .contains("changed\tb/k\t1\t5\t")
    );

    drop(ballast);
    fs::remove_file(disk.0.join("ballast")).unwrap();
    mount.sh("echo second > b/l; rm -f b/large; mkdir d");
    mount.umount();
    let expected = tree([
        (
            "b",
            bucket([
                ("k", value("first")),
                ("l", value("second\n")),
                ("sub", bucket([])),
            ]),
        ),
        ("c", bucket([])),
        ("d", bucket([])),
    ]);
    expected.assert_same(&dump(&file), "committed");
    assert_eq!(
        fs::read_dir(&disk.0).unwrap().count(),
        1,
        "no journal is left"
    );
}

/// A file system of 256 KiB.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(point: PathBuf) -> SmallDisk {
        fs::create_dir(&point).unwrap();
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "boltfs-test"])
            .arg(&point))
        .expect_success();
        SmallDisk(point)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

/// Answers of the kernel that no shell tool asks for.
#[test]
fn errors_of_system_calls() {
    let (_directory, file) = file(&sample());
    let mount = Mount::new(&file, &[]);
    let path = |p: &str| CString::new(mount.join(p).as_os_str().as_bytes()).unwrap();
    let k = File::options()
        .read(true)
        .write(true)
        .open(mount.join("b/k"))
        .unwrap();
    let answer = |result: nix::Result<()>| result.err();
    use nix::sys::stat::{Mode, SFlag, mknod};
    for kind in [
        SFlag::S_IFIFO,
        SFlag::S_IFCHR,
        SFlag::S_IFBLK,
        SFlag::S_IFSOCK,
    ] {
        assert_eq!(
            answer(mknod(path("b/x").as_c_str(), kind, Mode::S_IRUSR, 0)),
            Some(Errno::EPERM),
            "{kind:?}"
        );
    }
    assert_eq!(
        answer(mknod(
            path("b/made").as_c_str(),
            SFlag::S_IFREG,
            Mode::S_IRUSR,
            0
        )),
        None
    );
    assert_eq!(
        answer(mknod(
            path("made").as_c_str(),
            SFlag::S_IFREG,
            Mode::S_IRUSR,
            0
        )),
        Some(Errno::EPERM)
    );
    use nix::fcntl::{FallocateFlags, fallocate};
    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    assert_eq!(answer(fallocate(&k, punch, 0, 1)), Some(Errno::EOPNOTSUPP));
    assert_eq!(
        answer(fallocate(&k, FallocateFlags::empty(), 0, 3 << 30)),
        Some(Errno::EFBIG)
    );
    assert_eq!(
        answer(nix::unistd::ftruncate(&k, 2 << 30)),
        Some(Errno::EFBIG)
    );
    assert_eq!(k.metadata().unwrap().len(), 1);
    let s = nix::sys::statvfs::statvfs(path("b").as_c_str()).unwrap();
    assert_eq!((s.name_max(), s.fragment_size()), (255, 4096));
}
