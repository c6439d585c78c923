//! What is measured.

use super::data::{Place, changed_value};
use super::measure::{Sample, median, sh, time, time_and_watch};
use super::mount::{BOLTFS, Mount, run};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What is to be reached.
#[derive(Clone, Copy)]
pub enum Goal {
    /// At most this many times what the reference takes.
    Times(f64),
    /// At most so many seconds more than the reference.
    Over(f64),
    /// At most so many seconds.
    Within(f64),
    /// At most this part of the reference's memory.
    Memory(f64),
    /// At most so many bytes.
    Bytes(u64),
}

/// What one row came to: medians.
pub struct Outcome {
    pub name: String,
    pub goal: Goal,
    /// Ours, and what it is compared with.
    pub ours: Sample,
    pub reference: Option<(&'static str, Sample)>,
    /// The median of the ratios of each round, not the ratio of the medians.
    pub ratio: f64,
    pub cpu_ratio: f64,
}

/// Measures rows, in turn within each round.
pub struct Runner<'a> {
    rounds: usize,
    wanted: &'a dyn Fn(&str) -> bool,
    results: &'a mut Vec<Outcome>,
}

type Contestant<'a> = &'a mut dyn FnMut() -> Sample;

impl<'a> Runner<'a> {
    pub fn new(
        rounds: usize,
        wanted: &'a dyn Fn(&str) -> bool,
        results: &'a mut Vec<Outcome>,
    ) -> Self {
        Runner {
            rounds,
            wanted,
            results,
        }
    }

    fn wants(&self, names: &[&str]) -> bool {
        names.iter().any(|name| (self.wanted)(name))
    }

    /// One row that both contestants have.
    fn row(
        &mut self,
        name: &str,
        goal: Goal,
        ours: Contestant<'_>,
        reference: Option<(&'static str, Contestant<'_>)>,
    ) {
        if !self.wants(&[name]) {
            return;
        }
        eprint!("{name} ");
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        let who = reference.as_ref().map(|(who, _)| *who);
        let mut reference = reference.map(|(_, contestant)| contestant);
        for round in 0..self.rounds {
            // Who comes second finds warmer caches: each in its turn.
            if round % 2 == 0 {
                mine.push(ours());
            }
            if let Some(reference) = &mut reference {
                theirs.push(reference());
            }
            if round % 2 == 1 {
                mine.push(ours());
            }
            eprint!(".");
        }
        eprintln!();
        self.add(name, goal, &mine, who.map(|who| (who, &theirs[..])));
    }

    fn add(
        &mut self,
        name: &str,
        goal: Goal,
        ours: &[Sample],
        reference: Option<(&'static str, &[Sample])>,
    ) {
        let middle = |samples: &[Sample]| Sample {
            wall: median(samples.iter().map(|s| s.wall)),
            cpu: median(samples.iter().map(|s| s.cpu)),
            memory: median(samples.iter().map(|s| s.memory as f64)) as u64,
        };
        let ratio = |of: fn(&Sample) -> f64| {
            let pairs = reference
                .iter()
                .flat_map(|(_, theirs)| ours.iter().zip(*theirs));
            median(pairs.map(|(a, b)| of(a) / of(b)))
        };
        let of: fn(&Sample) -> f64 = match goal {
            Goal::Memory(_) => |s| s.memory as f64,
            _ => |s| s.wall,
        };
        self.results.push(Outcome {
            name: name.to_owned(),
            goal,
            ours: middle(ours),
            ratio: ratio(of),
            cpu_ratio: ratio(|s| s.cpu),
            reference: reference.map(|(who, samples)| (who, middle(samples))),
        });
    }
}

/// Groups of rows that share what they need.
pub const GROUPS: &[fn(&Place, &mut Runner<'_>)] = &[
    searching,
    listing,
    looking,
    removing,
    copying,
    keeping,
    large_value,
    json,
    mounting,
    memory,
    committing,
    sparse,
    checking,
];

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn thousand(n: u32) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A word that no value has.
const NOWHERE: &str = "no-such-text";

fn searching(place: &Place, runner: &mut Runner<'_>) {
    let keys = thousand(place.keys);
    let first = format!("grep -r of {keys} keys, cold mount");
    let again = format!("grep -r of {keys} keys, again");
    if !runner.wants(&[&first, &again]) {
        return;
    }
    let database = place.usual();
    let files = text(&place.files(&database));
    let grep = |dir: &str| sh(&format!("grep -r {NOWHERE} {dir}"));
    runner.row(
        &first,
        Goal::Times(2.0),
        &mut || {
            let mount = Mount::new(&database, &[]);
            time(Some(mount.pid), || grep(&text(&mount.bucket())))
        },
        Some(("tmpfs", &mut || time(None, || grep(&files)))),
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

fn listing(place: &Place, runner: &mut Runner<'_>) {
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

fn looking(place: &Place, runner: &mut Runner<'_>) {
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

fn removing(place: &Place, runner: &mut Runner<'_>) {
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

fn copying(place: &Place, runner: &mut Runner<'_>) {
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

fn keeping(place: &Place, runner: &mut Runner<'_>) {
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

fn large_value(place: &Place, runner: &mut Runner<'_>) {
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

fn json(place: &Place, runner: &mut Runner<'_>) {
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

fn mounting(place: &Place, runner: &mut Runner<'_>) {
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

fn memory(place: &Place, runner: &mut Runner<'_>) {
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

/// A database that is copied, changed through a mount, and committed; and the same by bbolt.
fn commit_row(
    place: &Place,
    runner: &mut Runner<'_>,
    names: [&str; 2],
    goals: [Goal; 2],
    spec: &serde_json::Value,
    change: &dyn Fn(&Mount),
) {
    if !runner.wants(&names) {
        return;
    }
    let database = place.large();
    let (mine, theirs) = (place.disk("ours.copy"), place.disk("theirs.copy"));
    let (mut our_samples, mut their_samples) = (Vec::new(), Vec::new());
    eprint!("{} ", names[0]);
    for round in 0..runner.rounds {
        let mut ours = || {
            place.copy(&database, &mine);
            let mount = Mount::new(&mine, &[]);
            change(&mount);
            our_samples.push(time_and_watch(mount.pid, || mount.commit()));
            drop(mount);
            let _ = fs::remove_file(&mine);
        };
        let mut reference = || {
            place.copy(&database, &theirs);
            let answer = place.oracle("bench-update", &theirs, Some(spec.clone()));
            let answer: serde_json::Value =
                serde_json::from_slice(&answer).expect("the oracle answers JSON");
            let number = |name: &str| answer[name].as_u64().expect("a number");
            their_samples.push(Sample {
                wall: number("update_ns") as f64 / 1e9,
                cpu: f64::NAN,
                memory: number("peak_anon_kb") * 1024,
            });
            let _ = fs::remove_file(&theirs);
        };
        if round % 2 == 0 {
            ours();
            reference();
        } else {
            reference();
            ours();
        }
        eprint!(".");
    }
    eprintln!();
    for (name, goal) in names.into_iter().zip(goals) {
        let reference = Some(("bbolt", &their_samples[..]));
        match goal {
            Goal::Within(_) | Goal::Bytes(_) => runner.add(name, goal, &our_samples, None),
            _ => runner.add(name, goal, &our_samples, reference),
        }
    }
}

fn committing(place: &Place, runner: &mut Runner<'_>) {
    let (keys, many) = (thousand(place.keys), thousand(place.many));
    let change = format!("commit of {keys} scattered changes in {many} keys");
    let change_memory = format!("{change}: peak anonymous memory");
    let stride = 7919; // a prime: the keys come in no order
    commit_row(
        place,
        runner,
        [&change, &change_memory],
        [Goal::Times(0.5), Goal::Memory(0.25)],
        &serde_json::json!({"change": place.keys, "of": place.many, "stride": stride, "value": 450}),
        &|mount| {
            for n in 0..place.keys {
                let key = u64::from(n) * stride % u64::from(place.many);
                let path = mount.bucket().join(format!("key-{key:08}"));
                fs::write(path, changed_value(n, 450)).expect("a key can be written");
            }
        },
    );
    let empty = format!("commit that deletes all of {many} keys");
    let empty_memory = format!("{empty}: peak anonymous memory");
    commit_row(
        place,
        runner,
        [&empty, &empty_memory],
        [Goal::Times(0.5), Goal::Memory(0.25)],
        &serde_json::json!({"empty": true, "of": place.many}),
        &|mount| {
            // More than a command line takes.
            sh(&format!(
                "find {} -mindepth 1 -delete",
                text(&mount.bucket())
            ));
        },
    );
    let drop = format!("commit that deletes a bucket of {many} keys");
    let drop_time = format!("{drop}, time");
    commit_row(
        place,
        runner,
        [&drop, &drop_time],
        [Goal::Times(0.5), Goal::Within(0.050)],
        &serde_json::json!({"drop": true}),
        &|mount| {
            sh(&format!("rm -r {}", text(&mount.bucket())));
        },
    );
}

fn sparse(place: &Place, runner: &mut Runner<'_>) {
    for (listed, what) in [(false, "no freelist stored"), (true, "freelist stored")] {
        let name = format!(
            "commit of one change in a database of {} GiB, {what}",
            place.sparse >> 30
        );
        if !runner.wants(&[&name]) {
            continue;
        }
        let database = place.sparse(listed);
        let copy = place.disk("ours.copy");
        runner.row(
            &name,
            Goal::Within(0.100),
            &mut || {
                run(Command::new("cp")
                    .arg("--sparse=always")
                    .args([&database, &copy]));
                run(Command::new("sync").arg(&copy));
                let mount = Mount::new(&copy, &[]);
                fs::write(mount.bucket().join("key-00000500"), "changed").expect("a key");
                let sample = time(Some(mount.pid), || mount.commit());
                drop(mount);
                let _ = fs::remove_file(&copy);
                sample
            },
            None,
        );
    }
}

fn checking(place: &Place, runner: &mut Runner<'_>) {
    let name = format!("check of {} keys", thousand(place.many));
    if !runner.wants(&[&name]) {
        return;
    }
    let database = place.large();
    runner.row(
        &name,
        Goal::Times(1.0),
        &mut || {
            time(None, || {
                run(Command::new(BOLTFS).arg("check").arg(&database));
            })
        },
        Some(("bbolt", &mut || {
            time(None, || {
                place.oracle("bench-check", &database, None);
            })
        })),
    );
}
