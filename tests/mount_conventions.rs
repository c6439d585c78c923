//! mount(8), umount(8) and /etc/fstab, as root and as the user whom fstab lets: each script runs in a mount namespace of its
//! own, in which /sbin has our helpers, or has not.

mod common;

use std::process::Command;

use common::case::{Case, assert_failed, is_root};
use common::mount::BOLTFS;
use common::process::{Output, run};

/// What stands in /sbin.
#[derive(Clone, Copy, PartialEq)]
enum Sbin {
    /// Our helpers too.
    Helpers,
    /// What Debian puts there.
    Plain,
}

/// Runs lines of bash as root in the case's directory, in a mount namespace of their own.
#[track_caller]
fn sh(case: &Case, sbin: Sbin, lines: &str) -> Output {
    // Ordinary users must reach all of it.
    let prelude = "
        chmod 755 .; chmod 666 db; chmod 777 mnt
        sbin=$(realpath /sbin); mkdir original
        mount --bind $sbin original; mount -t tmpfs none $sbin; cp -as $PWD/original/. $sbin/
        rm -f $sbin/mount.fuse.boltfs $sbin/umount.fuse.boltfs
        mount -t tmpfs none /usr/local/bin; cp $boltfs /usr/local/bin/boltfs; chmod 755 /usr/local/bin/boltfs
        type() { findmnt -n -o FSTYPE mnt || true; }
        options() { findmnt -n -o OPTIONS mnt; }
        is_free() { flock -n db true; }
        await_free() { timeout 20 flock db true; }
        server() { pgrep -f -- \"^boltfs --serving $PWD/db \"; }
        fails() { local status=0; \"$@\" || status=$?; echo \"status $status\"; [ $status != 0 ]; }
        nobody() { setpriv --reuid=nobody --regid=nogroup --clear-groups env -u HOME \"$@\"; }
        ";
    let helpers = "
        ln -s /usr/local/bin/boltfs $sbin/mount.fuse.boltfs; ln -s /usr/local/bin/boltfs $sbin/umount.fuse.boltfs
        ";
    let helpers = if sbin == Sbin::Helpers { helpers } else { "" };
    let script = common::process::script(&format!("{prelude}{helpers}{lines}"));
    let mut words = vec!["unshare", "-m", "--propagation", "slave", "env"];
    let boltfs = format!("boltfs={BOLTFS}");
    words.extend([&boltfs, "bash", "-euo", "pipefail", "-c", &script]);
    if !is_root() {
        words.splice(0..0, ["sudo", "-n"]);
    }
    run(Command::new(words[0])
        .args(&words[1..])
        .current_dir(case.dir()))
}

/// Runs them, and they must succeed.
#[track_caller]
fn done(case: &Case, sbin: Sbin, lines: &str) -> Output {
    sh(case, sbin, lines).expect_success()
}

#[test]
fn mount_and_umount_by_root() {
    let case = Case::new();
    let output = done(
        &case,
        Sbin::Helpers,
        "mount -t fuse.boltfs db mnt -o ro,allow_other,nofail,_netdev,noatime,x-test=1
         type; options; cat mnt/b/k; not touch mnt/b/new 2> /dev/null
         umount mnt; is_free; type
         mount -t fuse.boltfs db mnt; echo changed > mnt/b/k; umount mnt; is_free",
    );
    let text = output.text();
    let lines: Vec<_> = text.lines().collect();
    let [fstype, options, value] = lines[..] else {
        panic!("{output}")
    };
    assert_eq!(fstype, "fuse.boltfs");
    assert!(options.starts_with("ro,nosuid,nodev,"), "{options}");
    assert!(options.contains(",allow_other"), "{options}");
    assert_eq!(value, "value");
    assert!(output.stderr.contains("nothing to commit"), "{output}");
    assert!(
        output.stderr.contains("boltfs: committed transaction 3"),
        "{output}"
    );
    assert_eq!(case.value("b", "k").as_deref(), Some("changed"));
}

#[test]
fn umount_returns_when_the_edits_are_committed() {
    let case = Case::new();
    done(
        &case,
        Sbin::Helpers,
        "for n in 1 2 3 4 5 6 7 8 9 10; do
             mount -t fuse.boltfs db mnt
             for k in 1 2 3 4 5 6 7 8 9 10; do echo $n > mnt/b/$k; done
             umount mnt; is_free
         done
         # It waits for a process that is slow to answer.
         mount -t fuse.boltfs db mnt; echo slow > mnt/b/k; pid=$(server); kill -STOP $pid
         umount mnt & sleep 1; kill -0 $!; test $(type) = fuse.boltfs
         kill -CONT $pid; wait $!; is_free",
    );
    assert_eq!(case.value("b", "10").as_deref(), Some("10\n"));
    assert_eq!(case.value("b", "k").as_deref(), Some("slow"));
}

#[test]
fn without_our_helpers_mount_and_umount_work_too() {
    let case = Case::new();
    let output = done(
        &case,
        Sbin::Plain,
        "mount -t fuse.boltfs db mnt -o allow_other,uid=nobody,nofail,_netdev,x-test=1
         type; stat -c %U mnt/b/k; echo changed > mnt/b/k; umount mnt; await_free; type",
    );
    assert_eq!(output.text(), "fuse.boltfs\nnobody\n");
    assert_eq!(case.value("b", "k").as_deref(), Some("changed"));
}

#[test]
fn a_line_of_fstab() {
    let case = Case::new();
    let output = done(
        &case,
        Sbin::Helpers,
        r#"cat > fstab <<END
$PWD/a\040db $PWD/mnt fuse.boltfs defaults,raw,uid=nobody,gid=0,umask=027,noexec,nofail,x-systemd.automount,comment=ours 0 0
$PWD/none $PWD/mnt fuse.boltfs noauto,ro 0 0
END
         mv db 'a db'; mount -T fstab -a; options; stat -c '%U %G %a' mnt/b mnt/b/k
         echo changed > mnt/b/k
         umount mnt; flock -n 'a db' true; mv 'a db' db"#,
    );
    let text = output.text();
    assert!(text.contains("noexec"), "{text}");
    assert!(
        text.contains("\nnobody root 750\nnobody root 640\n"),
        "{text}"
    );
    // Raw: the line end stays.
    assert_eq!(case.value("b", "k").as_deref(), Some("changed\n"));
}

#[test]
fn a_user_may_mount_and_unmount_what_fstab_lets() {
    let case = Case::new();
    let output = done(
        &case,
        Sbin::Helpers,
        "echo \"$PWD/db $PWD/mnt fuse.boltfs noauto,user 0 0\" > /etc/fstab.boltfs
         mount --bind /etc/fstab.boltfs /etc/fstab; rm /etc/fstab.boltfs
         owner=$(stat -c %u:%g .); chown nobody:nogroup db mnt . ; chmod 600 db
         nobody mount mnt; options
         nobody sh -c 'echo changed > mnt/b/k'; not cat mnt/b/k 2> /dev/null
         nobody umount mnt; is_free; type; chown $owner .",
    );
    let text = output.text();
    assert!(text.contains("user_id=65534"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(output.stderr.contains("committed transaction"), "{output}");
    assert_eq!(case.value("b", "k").as_deref(), Some("changed"));
}

#[test]
fn owner_and_permissions_are_shown_as_asked() {
    let case = Case::new();
    let output = case.sh(
        "chmod 640 db; show() { stat -c '%u %g %a' mnt mnt/b mnt/b/k; boltfs umount mnt; echo; }
         boltfs db mnt; show
         boltfs -o umask=072,uid=12,gid=34 db mnt -o gid=56; show
         boltfs -o umask=0 db mnt; show",
    );
    let (uid, gid) = (id("-u"), id("-g"));
    let wanted = format!(
        "{uid} {gid} 750\n{uid} {gid} 750\n{uid} {gid} 640\n\n12 56 705\n12 56 705\n12 56 604\n\n\
         {uid} {gid} 777\n{uid} {gid} 777\n{uid} {gid} 666\n\n"
    );
    assert_eq!(output.expect_success().text(), wanted);
}

fn id(which: &str) -> String {
    run(Command::new("id").arg(which)).text().trim().to_owned()
}

#[test]
fn options_that_mean_nothing_are_refused() {
    let case = Case::new();
    let refused = |options: &str, said: &str| {
        assert_failed(&case.boltfs(&["-o", options, "db", "mnt"]), 2, said);
        assert!(case.line().is_none());
    };
    refused("ro,alow_other", "unknown mount option 'alow_other'");
    refused(
        "uid=no-such-user",
        "'uid=no-such-user': there is no such user",
    );
    refused("gid=", "'gid=': there is no such group");
    refused("umask=99", "'umask=99': give three octal digits");
    refused("backup=", "'backup=': give the file");
    refused("remount,ro", "cannot be changed while it is mounted");

    let output = done(
        &case,
        Sbin::Helpers,
        "fails mount -t fuse.boltfs db mnt -o ro,alow_other; type
         fails mount -t fuse.boltfs none mnt; type
         mount -f -t fuse.boltfs db mnt; type
         mount -s -t fuse.boltfs db mnt -o ro,alow_other; options
         fails mount -o remount,rw mnt
         fails umount.fuse.boltfs; fails mount.fuse.boltfs db
         umount mnt",
    );
    let text = output.text();
    let lines: Vec<_> = text.lines().collect();
    let [one, thirty_two, options, remount, usage, usage_too] = lines[..] else {
        panic!("{output}")
    };
    assert_eq!([one, remount, usage, usage_too], ["status 1"; 4]);
    assert_eq!(thirty_two, "status 32");
    assert!(options.starts_with("ro,"), "{output}");
    assert!(output.stderr.contains("none does not exist"), "{output}");
    assert!(
        output.stderr.contains("unmount it (which commits)"),
        "{output}"
    );
}

#[test]
fn umount_of_a_mount_that_is_in_use() {
    let case = Case::new();
    let output = done(
        &case,
        Sbin::Helpers,
        "mount -t fuse.boltfs db mnt; exec 7> mnt/b/open
         fails umount mnt; type
         umount -l mnt; type; not is_free
         echo written later >&7; exec 7>&-; await_free
         # Not in use: it is as without -l.
         mount -t fuse.boltfs db mnt; echo lazy > mnt/b/k; umount -l mnt; is_free",
    );
    assert_eq!(output.text(), "status 32\nfuse.boltfs\n");
    for said in [
        "/mnt is in use: bash (pid ",
        "was taken out of the directory tree, and is still in use: bash (pid ",
        "waits for it\n",
    ] {
        assert!(output.stderr.contains(said), "not {said:?} but {output}");
    }
    assert_eq!(case.value("b", "open").as_deref(), Some("written later\n"));
    assert_eq!(case.value("b", "k").as_deref(), Some("lazy"));
}

#[test]
fn umount_by_force() {
    let case = Case::new();
    let output = done(
        &case,
        Sbin::Helpers,
        "mount -t fuse.boltfs db mnt; echo forced > mnt/b/k; umount -f mnt; is_free
         mount -t fuse.boltfs db mnt; echo hung > mnt/b/hung; pid=$(server); kill -STOP $pid
         fails umount -f mnt; type; kill -CONT $pid; await_free",
    );
    assert_eq!(output.text(), "status 32\n");
    let said = "does not answer, and was cut off. It commits the edits if it comes back to life";
    assert!(output.stderr.contains(said), "{output}");
    assert_eq!(case.value("b", "k").as_deref(), Some("forced"));
    assert_eq!(case.value("b", "hung").as_deref(), Some("hung\n"));
}

#[test]
fn umount_without_the_helper_commits_too() {
    let case = Case::new();
    done(
        &case,
        Sbin::Helpers,
        "mount -t fuse.boltfs db mnt; echo one > mnt/b/1; umount -i mnt; await_free
         mount -t fuse.boltfs db mnt; echo two > mnt/b/2; umount -i -l mnt; await_free
         mount -t fuse.boltfs db mnt; echo three > mnt/b/3; umount -i -f mnt; await_free
         mount -t fuse.boltfs db mnt; echo four > mnt/b/4; umount db; is_free",
    );
    for (key, value) in [
        ("1", "one\n"),
        ("2", "two\n"),
        ("3", "three\n"),
        ("4", "four\n"),
    ] {
        assert_eq!(case.value("b", key).as_deref(), Some(value));
    }
}
