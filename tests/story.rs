//! The story, for real: an etcd that has lost its quorum is cured by deleting one key from a copy of its database.

mod common;

use std::fs;
use std::path::Path;

use common::etcd::{Etcd, restore};
use common::process::free_port;
use common::{Edit, Mount, Options, Oracle, TempDir};

/// A cluster of one with keys, revisions, a lease and a user, to which a second member was added that never came up.
struct Broken {
    dir: TempDir,
    /// The copied database.
    copy: std::path::PathBuf,
    /// Everything that etcd held.
    content: serde_json::Value,
    /// The dead member's address.
    dead_peer: String,
    /// The lease's id.
    lease: String,
}

const NAME: &str = "control-plane-1";

impl Broken {
    fn new() -> Broken {
        let dir = TempDir::new("story");
        let etcd = Etcd::start_new(&dir.join("data"), NAME);
        for number in 0..100 {
            let key = format!("/registry/pods/shop/pod-{number}");
            etcd.ask(&[
                "put",
                &key,
                &format!("{{\"kind\":\"Pod\",\"metadata\":{{\"name\":\"pod-{number}\"}}}}"),
            ]);
        }
        etcd.ask(&["put", "/registry/pods/shop/pod-7", "changed once"]);
        etcd.ask(&["del", "/registry/pods/shop/pod-8"]);
        let lease = etcd.ask(&["lease", "grant", "86400"]);
        let lease = lease
            .split(' ')
            .nth(1)
            .expect("lease ID granted")
            .to_string();
        etcd.ask(&[
            "put",
            &format!("--lease={lease}"),
            "/registry/leases/worker-1",
            "alive",
        ]);
        etcd.ask(&["role", "add", "backup operators"]);
        etcd.ask(&["user", "add", "backup:secret"]);
        let content = etcd.everything();
        assert_eq!(content.as_array().map(Vec::len), Some(100));

        // The mistake: nobody listens there, and one of two members is no majority.
        let dead_peer = format!("http://127.0.0.1:{}", free_port());
        etcd.ask(&[
            "member",
            "add",
            "control-plane-2",
            &format!("--peer-urls={dead_peer}"),
        ]);
        let put = etcd
            .ctl(&["--command-timeout=2s", "put", "/registry/lost", "quorum"])
            .expect_failure();
        assert!(
            put.stderr.contains("timed out") || put.stderr.contains("deadline"),
            "{put}"
        );

        let database = etcd.database();
        etcd.kill();
        let copy = dir.join("db");
        fs::copy(&database, &copy).unwrap();
        Broken {
            dir,
            copy,
            content,
            dead_peer,
            lease,
        }
    }

    /// Restores `database`, starts etcd from it, and finds one member and every key.
    fn prove_cured(&self, database: &Path) {
        let peer = format!("http://127.0.0.1:{}", free_port());
        let data = self.dir.join("restored");
        restore(database, &data, NAME, &peer);
        let etcd = Etcd::start_existing(&data, NAME, &peer);
        let members = etcd.ask(&["member", "list"]);
        assert_eq!(members.lines().count(), 1, "{members}");
        assert!(
            members.contains(NAME) && members.contains(&peer),
            "{members}"
        );
        // Every key with its value, its revisions and its lease.
        assert_eq!(etcd.everything(), self.content);
        assert!(etcd.ask(&["lease", "list"]).contains(&self.lease));
        assert!(etcd.ask(&["user", "list"]).contains("backup"));
        assert!(etcd.ask(&["role", "list"]).contains("backup operators"));
        etcd.ask(&["put", "/registry/again", "writable"]);
        let database = etcd.database();
        etcd.kill();
        let dead = members_of(&database)
            .into_iter()
            .find(|(_, value)| value.contains(&self.dead_peer));
        assert_eq!(dead, None, "the dead member came along");
    }
}

/// Bucket `members`: ids with what is stored for them.
fn members_of(database: &Path) -> Vec<(String, String)> {
    let tree = Oracle::shared()
        .dump(database)
        .unwrap_or_else(|e| panic!("{}: {e}", database.display()));
    let members = tree
        .bucket(&[b"members".to_vec()])
        .expect("etcd has a bucket members");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("members are text");
    let values = members.nodes.iter().map(|(id, node)| match node {
        common::Node::Value(value) => (text(id), text(value)),
        common::Node::Bucket(_) => panic!("a bucket in members"),
    });
    values.collect()
}

#[test]
fn a_dead_member_is_removed_and_the_cluster_lives() {
    let broken = Broken::new();
    let before = Oracle::shared().dump(&broken.copy).unwrap();

    let mount = Mount::new(&broken.copy, &[]);
    // It is a copy, so there is nothing to warn of.
    assert_eq!(mount.said, "");
    let found = mount.sh(&format!("grep -l {} members/*", broken.dead_peer));
    let dead = found.trim_end();
    assert_eq!(dead.lines().count(), 1, "{found}");
    // The file reads as indented text.
    let peer = mount.sh(&format!("grep -A1 peerURLs {dead}"));
    assert_eq!(
        peer,
        format!("  \"peerURLs\": [\n    \"{}\"\n", broken.dead_peer)
    );
    mount.sh(&format!("rm {dead}"));
    assert!(!mount.join(dead).exists());
    assert_eq!(mount.sh("ls members").lines().count(), 1);
    // Nothing is written before the unmount.
    let database = std::fs::read(&broken.copy).unwrap();
    let dead_is_stored = database
        .windows(broken.dead_peer.len())
        .any(|bytes| bytes == broken.dead_peer.as_bytes());
    assert!(dead_is_stored);
    let report = mount.umount();
    assert!(report.contains("committed transaction"), "{report}");
    assert!(
        report.contains("0 keys added, 0 changed, 1 deleted"),
        "{report}"
    );

    Oracle::shared().assert_sound(&broken.copy);
    let mut expected = before;
    let id = dead.strip_prefix("members/").unwrap().as_bytes().to_vec();
    expected
        .apply(&Edit::Delete {
            path: vec![b"members".to_vec()],
            key: id,
        })
        .unwrap();
    expected.assert_same(
        &Oracle::shared().dump(&broken.copy).unwrap(),
        "the edited copy",
    );
    broken.prove_cured(&broken.copy);
}

#[test]
fn a_database_that_etcd_uses_is_refused_and_one_in_its_directory_is_warned_of() {
    let dir = TempDir::new("in-use");
    let etcd = Etcd::start_new(&dir.join("data"), NAME);
    etcd.ask(&["put", "key", "value"]);
    let database = etcd.database();

    for options in [&[][..], &["-r"]] {
        let refused = Mount::try_new(&database, options)
            .err()
            .expect("etcd holds the lock");
        assert_eq!(refused.code(), Some(1), "{refused}");
        let holder = format!("etcd (pid {})", etcd.pid());
        assert!(refused.stderr.contains(&holder), "{refused}");
        assert!(
            refused.stderr.contains("etcdctl snapshot save"),
            "what to do is not said: {refused}"
        );
    }
    etcd.ask(&["put", "key", "still writable"]);
    // etcd gathers writes for a tenth of a second before it puts them into its database.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let (data, peer) = (etcd.data.clone(), etcd.peer().to_string());
    etcd.kill();

    let before = fs::read(&database).unwrap();
    let mount = Mount::new(&database, &[]);
    for words in [
        "etcd data directory",
        "copy",
        "etcdutl (before etcd 3.5: etcdctl) snapshot restore",
    ] {
        assert!(
            mount.said.contains(words),
            "{words:?} is not said: {}",
            mount.said
        );
    }
    assert!(mount.sh("cat members/*").contains(NAME));
    let report = mount.umount();
    assert!(report.contains("nothing to commit"), "{report}");
    assert!(
        fs::read(&database).unwrap() == before,
        "the file was written to"
    );

    // Looking is harmless there.
    let mount = Mount::new(&database, &["-r"]);
    assert_eq!(mount.said, "");
    mount.umount();

    let etcd = Etcd::start_existing(&data, NAME, &peer);
    assert!(etcd.ask(&["get", "key"]).contains("still writable"));
}

/// What the story is worth: without the edit, the dead member survives the restore; with it, whoever made it, it does not.
#[test]
fn without_the_edit_the_dead_member_comes_back() {
    let broken = Broken::new();
    let peer = format!("http://127.0.0.1:{}", free_port());
    let data = broken.dir.join("unedited");
    restore(&broken.copy, &data, NAME, &peer);
    let members = members_of(&data.join("member/snap/db"));
    let dead = members
        .iter()
        .find(|(_, value)| value.contains(&broken.dead_peer));
    let (id, _) = dead.expect("a restore keeps bucket members as it was");

    let path = vec![b"members".to_vec()];
    let edit = Edit::Delete {
        path,
        key: id.clone().into_bytes(),
    };
    Oracle::shared()
        .edit(&broken.copy, &[vec![edit]], Options::default())
        .unwrap();
    broken.prove_cured(&broken.copy);
}
