//! `.boltfs/info`.

use serde_json::{Value, json};

use crate::rich;

#[test]
fn info_has_all_that_is_asked_for() {
    let case = rich();
    let stats = crate::common::Oracle::shared().stats(&case.db()).unwrap();
    case.boltfs(&["db", "mnt"]).expect_success();
    let info = || -> Value {
        let text = case.sh("cat mnt/.boltfs/info").expect_success().text();
        assert!(text.ends_with("}\n"), "{text}");
        serde_json::from_str(&text).expect("it is JSON")
    };
    let mut first = info();
    let started: jiff::Timestamp = first["started"].as_str().unwrap().parse().unwrap();
    let ago = jiff::Timestamp::now().as_second() - started.as_second();
    assert!((0..60).contains(&ago), "{first}");
    first["started"].take();
    let size = std::fs::metadata(case.db()).unwrap().len();
    let wanted = json!({
        "database": case.db(), "mountpoint": case.join("mnt"), "mode": "read-write", "output": null, "backup": null, "started": null,
        "pid": case.server(), "user": nix::unistd::geteuid().as_raw(), "version": env!("CARGO_PKG_VERSION"),
        "read_only": false, "raw": false, "journal": null, "pending": 0, "committed": null,
        "txid": stats["txid"], "meta": 0, "newer": null, "page_size": stats["page_size"],
        "pages": stats["size"].as_u64().unwrap() / stats["page_size"].as_u64().unwrap(),
        "file_size": size, "freelist_stored": true, "buckets": 4, "keys": 6,
    });
    assert_eq!(first, wanted);

    case.sh("echo x > mnt/b/new; rm mnt/b/text")
        .expect_success();
    let staged = info();
    assert_eq!(staged["pending"], 2);
    assert_eq!(
        staged["journal"],
        json!(format!("{}.boltfs-journal", case.db().display()))
    );
    case.sh("echo commit > mnt/.boltfs/control")
        .expect_success();
    let committed = info();
    assert_eq!(
        [
            &committed["pending"],
            &committed["journal"],
            &committed["committed"],
            &committed["txid"]
        ],
        [&json!(0), &Value::Null, &json!(3), &json!(2)]
    );
    case.boltfs(&["umount", "mnt"]).expect_success();

    case.boltfs(&["-r", "--raw", "db", "mnt"]).expect_success();
    let read_only = info();
    assert_eq!(
        [&read_only["mode"], &read_only["raw"]],
        [&json!("read-only"), &json!(true)]
    );
    assert_eq!(read_only["read_only"], true);
    case.boltfs(&["umount", "mnt"]).expect_success();
}
