//! What people do in a mount, beside the same in a tmpfs directory.

use super::data::Place;
use super::measure::{sh, time, time_and_watch};
use super::mount::{BOLTFS, Mount, run};
use super::runner::{Goal, Runner, text, thousand};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A word that no value has.
const NOWHERE: &str = "no-such-text";

pub fn searching(place: &Place, runner: &mut Runner<'_>) {
    let keys = thousand(place.keys);
    let first = format!("grep -r of {keys} keys, cold mount");
    let again = format!("grep -r of {keys} keys, again");
    let alone = format!("grep -r of {keys} keys, cold mount, beside noprefetch");
    if !runner.wants(&[&first, &again, &alone]) {
        return;
    }
    let database = place.usual();
    let files = text(&place.files(&database));
    let grep = |dir: &str| sh(&format!("grep -r {NOWHERE} {dir}"));
    let cold = |options: &[&str]| {
        let mount = Mount::new(&database, options);
        time(Some(mount.pid), || grep(&text(&mount.bucket())))
    };
    runner.row(
        &first,
        Goal::Times(2.0),
        &mut || cold(&[]),
        Some(("tmpfs", &mut || time(None, || grep(&files)))),
    );
    runner.row(
        &alone,
        Goal::Times(1.0),
        &mut || cold(&[]),
        Some(("noprefetch", &mut || cold(&["-o", "noprefetch"]))),
    );
    let mount = Mount::new(&database, &[]);
    let bucket = text(&mount.bucket());
    grep(&bucket);
    runner.row(
        &again,
        Goal::Times(1.5),
        &mut || time(Some(mount.pid), || grep(&bucket)),
        Some(("tmpfs", &mut || time(None, || grep(&files)))),
    );
}

pub fn listing(place: &Place, runner: &mut Runner<'_>) {
    let name = format!("ls -U of {} keys", thousand(place.keys));
    if runner.wants(&[&name]) {
        let database = place.usual();
        let files = text(&place.files(&database));
        runner.row(
            &name,
            Goal::Times(2.0),
            &mut || {
                let mount = Mount::new(&database, &[]);
                time(Some(mount.pid), || {
                    sh(&format!("ls -U {}", text(&mount.bucket())));
                })
            },
            Some(("tmpfs", &mut || {
                time(None, || sh(&format!("ls -U {files}")))
            })),
        );
    }
}

pub fn looking(place: &Place, runner: &mut Runner<'_>) {
    let many = thousand(place.many);
    let rows = [
        (
            format!("ls -lU of {many} keys"),
            "ls -lU DIR",
            Goal::Times(1.0),
        ),
        (
            format!("find -size of {many} keys"),
            "find DIR -size +100k",
            Goal::Times(1.0),
        ),
        (
            format!("cat of one of {many} keys, cold mount"),
            "cat DIR/key-00054321",
            Goal::Over(0.001),
        ),
    ];
    let names: Vec<&str> = rows.iter().map(|(name, ..)| name.as_str()).collect();
    if !runner.wants(&names) {
        return;
    }
    let database = place.large();
    let files = text(&place.files(&database));
    for (name, line, goal) in &rows {
        runner.row(
            name,
            *goal,
            &mut || {
                let mount = Mount::new(&database, &[]);
                let line = line.replace("DIR", &text(&mount.bucket()));
                time(Some(mount.pid), || sh(&line))
            },
            Some(("tmpfs", &mut || {
                time(None, || sh(&line.replace("DIR", &files)))
            })),
        );
    }
}

pub fn removing(place: &Place, runner: &mut Runner<'_>) {
    let name = format!("rm -r of {} keys", thousand(place.keys));
    if !runner.wants(&[&name]) {
        return;
    }
    let database = place.usual();
    let (files, copy) = (place.files(&database), place.shm("copy"));
    runner.row(
        &name,
        Goal::Times(4.0),
        &mut || {
            let mount = Mount::new(&database, &[]);
            time(Some(mount.pid), || {
                sh(&format!("rm -r {}", text(&mount.bucket())));
            })
        },
        Some(("tmpfs", &mut || {
            run(Command::new("cp").arg("-r").arg(&files).arg(&copy));
            time(None, || sh(&format!("rm -r {}", text(&copy))))
        })),
    );
}

pub fn copying(place: &Place, runner: &mut Runner<'_>) {
    let name = format!("cp -r of {} files into a new bucket", thousand(place.keys));
    if !runner.wants(&[&name]) {
        return;
    }
    let database = place.usual();
    let (files, copy) = (place.files(&database), place.shm("copy"));
    let cp = |to: &Path| sh(&format!("cp -r {} {}", text(&files), text(to)));
    runner.row(
        &name,
        Goal::Times(6.0),
        &mut || {
            let mount = Mount::new(&database, &[]);
            time(Some(mount.pid), || cp(&mount.path().join("new")))
        },
        Some(("tmpfs", &mut || {
            let sample = time(None, || cp(&copy));
            fs::remove_dir_all(&copy).expect("a directory can be removed");
            sample
        })),
    );
}

pub fn keeping(place: &Place, runner: &mut Runner<'_>) {
    let keys = thousand(place.keys);
    let tar = format!("tar c of {keys} keys, cold mount");
    let rsync = format!("rsync -a of {keys} files, second run");
    if !runner.wants(&[&tar, &rsync]) {
        return;
    }
    let database = place.usual();
    let files = place.files(&database);
    let pack = |dir: &Path| {
        let (up, name) = (dir.parent(), dir.file_name());
        let (up, name) = up.zip(name).expect("a path below the root");
        sh(&format!("tar c -C {} {}", text(up), name.display()));
    };
    runner.row(
        &tar,
        Goal::Times(2.0),
        &mut || {
            let mount = Mount::new(&database, &[]);
            time(Some(mount.pid), || pack(&mount.bucket()))
        },
        Some(("tmpfs", &mut || time(None, || pack(&files)))),
    );
    if !runner.wants(&[&rsync]) {
        return;
    }
    let sync = |to: &Path| sh(&format!("rsync -a {}/ {}", text(&files), text(to)));
    let (mount, copy) = (Mount::new(&database, &[]), place.shm("copy"));
    let target = mount.bucket();
    sync(&target);
    sync(&copy);
    runner.row(
        &rsync,
        Goal::Times(2.0),
        &mut || time(Some(mount.pid), || sync(&target)),
        Some(("tmpfs", &mut || time(None, || sync(&copy)))),
    );
    fs::remove_dir_all(&copy).expect("a directory can be removed");
}

pub fn large_value(place: &Place, runner: &mut Runner<'_>) {
    let size = format!("a value of {} MiB", place.large >> 20);
    let (read, write) = (format!("reading {size}"), format!("writing {size}"));
    if !runner.wants(&[&read, &write]) {
        return;
    }
    let blob = place.blob(place.large);
    let usual = place.usual();
    let copy = place.shm("copy");
    let dd = |from: &Path, to: &Path| {
        sh(&format!(
            "dd bs=1M status=none if={} of={}",
            text(from),
            text(to)
        ));
    };
    runner.row(
        &write,
        Goal::Times(2.0),
        &mut || {
            let mount = Mount::new(&usual, &[]);
            time(Some(mount.pid), || dd(&blob, &mount.bucket().join("large")))
        },
        Some(("tmpfs", &mut || {
            let sample = time(None, || dd(&blob, &copy));
            fs::remove_file(&copy).expect("a file can be removed");
            sample
        })),
    );
    let database = place.disk(&format!("large-value-{}.db", place.large));
    if !database.exists() {
        let new = place.disk("large-value.new");
        place.copy(&place.database("random", 1000, 200), &new);
        let mount = Mount::new(&new, &[]);
        dd(&blob, &mount.bucket().join("large"));
        mount.commit();
        drop(mount);
        fs::rename(&new, &database).expect("a file can be renamed");
    }
    runner.row(
        &read,
        Goal::Times(2.0),
        &mut || {
            let mount = Mount::new(&database, &[]);
            let file = mount.bucket().join("large");
            time(Some(mount.pid), || dd(&file, Path::new("/dev/null")))
        },
        Some(("tmpfs", &mut || {
            time(None, || dd(&blob, Path::new("/dev/null")))
        })),
    );
}

pub fn json(place: &Place, runner: &mut Runner<'_>) {
    let name = format!(
        "grep -r of {} JSON values, beside --raw",
        thousand(place.keys)
    );
    if !runner.wants(&[&name]) {
        return;
    }
    let database = place.database("json", place.keys, 200);
    let grep = |options: &[&str]| {
        let mount = Mount::new(&database, options);
        let line = format!("grep -r {NOWHERE} {}", text(&mount.bucket()));
        time(Some(mount.pid), || sh(&line))
    };
    runner.row(
        &name,
        Goal::Times(2.0),
        &mut || grep(&[]),
        Some(("--raw", &mut || grep(&["--raw"]))),
    );
}

pub fn mounting(place: &Place, runner: &mut Runner<'_>) {
    let many = format!("mounting {} keys, until usable", thousand(place.many));
    let sparse = format!("mounting a sparse file of {} GiB", place.sparse >> 30);
    let rows = [
        (&many, (|p: &Place| p.large()) as fn(&Place) -> _),
        (&sparse, |p| p.sparse(true)),
    ];
    for (name, database) in rows {
        if !runner.wants(&[name]) {
            continue;
        }
        let database = database(place);
        runner.row(
            name,
            Goal::Over(0.020),
            &mut || {
                let point = Mount::point(&database);
                let mut mount = None;
                let sample = time(None, || {
                    let live = Mount::only(&database, point);
                    let key = live.bucket().join("key-00000500");
                    fs::metadata(key).expect("the key is there");
                    mount = Some(live);
                });
                drop(mount);
                sample
            },
            Some(("its own start", &mut || {
                time(None, || {
                    run(Command::new(BOLTFS).arg("--version"));
                })
            })),
        );
    }
}

pub fn memory(place: &Place, runner: &mut Runner<'_>) {
    let name = format!(
        "anonymous memory after listing, stating, reading {} keys",
        thousand(place.many)
    );
    if !runner.wants(&[&name]) {
        return;
    }
    let database = place.large();
    let sample = {
        let mount = Mount::new(&database, &[]);
        let bucket = text(&mount.bucket());
        time_and_watch(mount.pid, || {
            sh(&format!("ls -U {bucket}"));
            sh(&format!("ls -lU {bucket}"));
            sh(&format!("grep -r {NOWHERE} {bucket}"));
        })
    };
    runner.add(&name, Goal::Bytes(24 << 20), &[sample], None);
}
