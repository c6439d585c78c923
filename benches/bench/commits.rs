//! Commits and checks, beside those of the real bbolt.

use super::data::{Place, changed_value};
use super::measure::{Sample, sh, time, time_and_watch};
use super::mount::{BOLTFS, Mount, run};
use super::runner::{Goal, Runner, text, thousand};
use std::fs;
use std::path::Path;
use std::process::Command;

/// One transaction of the real bbolt.
pub fn update(place: &Place, database: &Path, spec: &serde_json::Value) -> Sample {
    let answer = place.oracle("bench-update", database, Some(spec.clone()));
    let answer: serde_json::Value =
        serde_json::from_slice(&answer).expect("the oracle answers JSON");
    let number = |name: &str| answer[name].as_u64().expect("a number");
    Sample {
        wall: number("update_ns") as f64 / 1e9,
        cpu: f64::NAN,
        memory: number("peak_anon_kb") * 1024,
    }
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
            their_samples.push(update(place, &theirs, spec));
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

pub fn committing(place: &Place, runner: &mut Runner<'_>) {
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

pub fn sparse(place: &Place, runner: &mut Runner<'_>) {
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

pub fn checking(place: &Place, runner: &mut Runner<'_>) {
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
