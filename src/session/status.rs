//! `boltfs status [MNT]`: what is mounted and what is pending, as a person reads it.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::Value;

use super::change::{self, Told, line};
use super::failure::{Failure, Result};
use super::mountinfo::{self, Mount};
use super::mountpoint::no_table;
use super::reach;

/// Most changes that are listed.
const LISTED: usize = 20;

/// Tells what is pending in the mount at `given`, or in each one of ours; the exit status.
///
/// # Errors
/// When nothing of ours is mounted there, or the process that serves it cannot be asked.
pub fn run_status(given: Option<&Path>) -> Result<u8> {
    let mounts = match given {
        Some(given) => vec![reach::mount_at(given, "status")?],
        None => {
            let mut table = mountinfo::table().map_err(|e| no_table(&e))?;
            table.retain(Mount::is_ours);
            table
        }
    };
    let mut out = BufWriter::new(io::stdout().lock());
    if mounts.is_empty() {
        let _ = writeln!(out, "No database is mounted by boltfs.");
    }
    let mut failed = None;
    for (number, mount) in mounts.iter().enumerate() {
        if number > 0 {
            let _ = writeln!(out);
        }
        match ask(mount) {
            // Who closed the other end has seen enough.
            Ok(status) => drop(print(&mut out, mount, &status)),
            Err(failure) if given.is_some() => return Err(failure),
            Err(failure) => {
                let _ = writeln!(out, "{}", line(&failure.to_string()));
                failed = Some(());
            }
        }
    }
    let _ = out.flush();
    Ok(failed.is_some().into())
}

fn ask(mount: &Mount) -> Result<Value> {
    let otherwise = || format!("See {}/.boltfs/pending.", mount.point.display());
    let mut client = reach::connect(mount, otherwise, reach::say_dead)?;
    client.status(LISTED).map_err(|e| {
        Failure::new(
            format!(
                "the process that serves {} does not say what is pending: {e}",
                mount.point.display()
            ),
            otherwise(),
        )
    })
}

fn print(out: &mut dyn Write, mount: &Mount, status: &Value) -> io::Result<()> {
    let point = mountinfo::shown(&mount.point);
    let (point, info) = (line(&point), &status["info"]);
    let text = |key: &str| info[key].as_str().map(line);
    let database = mountinfo::shown(&mount.source);
    writeln!(out, "{} is mounted on {point}", line(&database))?;

    let mut how = vec![text("mode").unwrap_or_default().into_owned()];
    if info["raw"] == true {
        how.push("raw".to_owned());
    }
    if let Some(txid) = info["txid"].as_u64() {
        how.push(format!("transaction {txid}"));
    }
    how.extend(info["started"].as_str().and_then(since));
    if let Some(pid) = info["pid"].as_u64() {
        how.push(format!("boltfs pid {pid}"));
    }
    writeln!(out, "  {}", how.join(", "))?;
    if let (Some(newer), Some(meta)) = (info["newer"].as_u64(), info["meta"].as_u64()) {
        let commit = match info["mode"].as_str() {
            Some("read-only") => "",
            _ => ": a commit gives it up",
        };
        writeln!(
            out,
            "  the older state, of meta page {meta}; transaction {newer} is newer{commit}"
        )?;
    }
    if let Some(output) = text("output") {
        writeln!(out, "  commits into {output}")?;
    }
    if let Some(txid) = info["committed"].as_u64() {
        writeln!(out, "  committed since: up to transaction {txid}")?;
    }

    let damage = status["damage"].as_array().map_or(&[][..], Vec::as_slice);
    for place in damage.iter().filter_map(Value::as_str).take(LISTED) {
        writeln!(out, "  damage: {}", line(place))?;
    }
    if !damage.is_empty() {
        writeln!(out, "  all of it: boltfs check {}", line(&database))?;
    }

    let lost = status["lost"].as_array().map_or(&[][..], Vec::as_slice);
    for key in lost.iter().filter_map(Value::as_str).take(LISTED) {
        writeln!(
            out,
            "  lost: what was written to {} cannot be read back from the journal",
            line(key)
        )?;
    }
    if !lost.is_empty() {
        writeln!(
            out,
            "  nothing more is committed before that is written again or removed"
        )?;
    }

    let pending = info["pending"].as_u64().unwrap_or(0);
    let listed = status["changes"].as_array().map_or(&[][..], Vec::as_slice);
    let changes: Vec<Told> = listed.iter().filter_map(change::from_json).collect();
    match pending {
        0 => return writeln!(out, "Nothing is pending."),
        1 => writeln!(out, "1 change is pending:")?,
        n => writeln!(out, "{n} changes are pending:")?,
    }
    list(out, &changes)?;
    let more = pending.saturating_sub(changes.len() as u64);
    if more > 0 {
        writeln!(out, "  … and {more} more: see {point}/.boltfs/pending")?;
    }
    let writes = info["mode"] == "read-write" || info["mode"] == "output";
    if info["journal"].is_null() && writes {
        writeln!(
            out,
            "No journal of them could be written: they are lost if boltfs is killed."
        )?;
    }
    if info["mode"] == "dry-run" {
        return writeln!(
            out,
            "Look closer: boltfs diff {point}; tell what would be committed: boltfs umount {point}"
        );
    }
    writeln!(
        out,
        "Look closer: boltfs diff {point}; commit: boltfs umount {point}; drop: boltfs umount \
         --discard {point}"
    )
}

/// One line a change, in columns.
fn list(out: &mut dyn Write, changes: &[Told]) -> io::Result<()> {
    /// A longer path pushes what is behind it to the right.
    const WIDEST: usize = 40;
    let width = |change: &Told| change.path.chars().count();
    let widest = changes.iter().map(width).filter(|&width| width <= WIDEST);
    let path_width = widest.max().unwrap_or(WIDEST);
    for change in changes {
        let Told { kind, path, .. } = change;
        let text = format!(
            "  {kind:<7}  {path:<path_width$}  {:<20}  {}",
            sizes(change),
            remarks(change).join(", ")
        );
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

fn sizes(change: &Told) -> String {
    let bytes = |n: u64| format!("{n} {}", if n == 1 { "byte" } else { "bytes" });
    match (change.old_len, change.new_len) {
        (Some(old), Some(new)) => format!("{old} → {}", bytes(new)),
        (Some(len), None) | (None, Some(len)) => bytes(len),
        (None, None) => String::new(),
    }
}

fn remarks(change: &Told) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(from) = &change.from {
        remarks.push(format!("from {from}"));
    }
    if let Some([old, new]) = change.sequence {
        remarks.push(format!("sequence {old} → {new}"));
    }
    remarks.extend(change.remarks.iter().cloned());
    remarks
}

/// When it was mounted, by the local clock, and how long ago that is.
fn since(started: &str) -> Option<String> {
    let started: jiff::Timestamp = started.parse().ok()?;
    let local = started.to_zoned(jiff::tz::TimeZone::system());
    let ago = jiff::Timestamp::now().as_second() - started.as_second();
    Some(format!(
        "since {} ({})",
        local.strftime("%F %H:%M"),
        duration(ago)
    ))
}

fn duration(seconds: i64) -> String {
    let (n, unit) = match seconds {
        ..120 => (seconds.max(0), "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86400, "day"),
    };
    format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_are_short() {
        let shown = [-5, 1, 119, 120, 7199, 7200, 172_799, 172_800].map(duration);
        let wanted = [
            "0 seconds",
            "1 second",
            "119 seconds",
            "2 minutes",
            "119 minutes",
            "2 hours",
            "47 hours",
            "2 days",
        ];
        assert_eq!(shown, wanted);
    }

    fn shown(status: &Value) -> String {
        let mount = Mount {
            id: 0,
            device: mountinfo::Device { major: 0, minor: 7 },
            point: "/mnt".into(),
            fstype: String::new(),
            source: "/db".into(),
            super_options: String::new(),
        };
        let mut out = Vec::new();
        print(&mut out, &mount, status).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_status_reads_well() {
        let info = json!({
            "mode": "read-write", "txid": 7, "pid": 42, "pending": 12, "raw": true, "committed": 9,
            "journal": "/db.boltfs-journal",
        });
        let change = |kind, path: &str, old: Value, new: Value, remarks: Value| {
            json!({
                "kind": kind, "path": path, "bucket": path.ends_with('/'), "old_len": old,
                "new_len": new, "remarks": remarks,
            })
        };
        let mut moved = change("moved", "new/", json!(null), json!(null), json!([]));
        moved["from"] = json!("old/");
        moved["sequence"] = json!([0, 5]);
        let leftover = json!(["looks like an editor's leftover"]);
        let changes = json!([
            change("deleted", "b/k", json!(1), json!(null), json!([])),
            change("changed", "b/longer", json!(5), json!(1), json!([])),
            change("added", &"x".repeat(50), json!(null), json!(0), leftover),
            moved,
        ]);
        let text = shown(&json!({ "info": info, "changes": changes }));
        let x = "x".repeat(50);
        let wanted = format!(
            "/db is mounted on /mnt\n  read-write, raw, transaction 7, boltfs pid 42\n  committed \
             since: up to transaction 9\n12 changes are pending:\n  deleted  b/k       1 byte\n  \
             changed  b/longer  5 → 1 byte\n  added    {x}  0 bytes               looks like an \
             editor's leftover\n  moved    new/                            from old/, sequence 0 → \
             5\n  … and 8 more: see /mnt/.boltfs/pending\nLook closer: boltfs diff /mnt; commit: \
             boltfs umount /mnt; drop: boltfs umount --discard /mnt\n"
        );
        assert_eq!(text, wanted);
    }

    #[test]
    fn damage_and_an_older_state_are_told() {
        let info = json!({ "mode": "output", "txid": 2, "meta": 0, "newer": 3, "pending": 0 });
        let text = shown(&json!({ "info": info, "damage": ["bucket b: page 9 is\u{1b} lost"] }));
        let wanted = "/db is mounted on /mnt\n  output, transaction 2\n  the older state, of meta page \
                      0; transaction 3 is newer: a commit gives it up\n  damage: bucket b: page 9 is^[ \
                      lost\n  all of it: boltfs check /db\nNothing is pending.\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn what_the_journal_has_lost_is_told_with_what_to_do() {
        let info = json!({ "mode": "read-write", "txid": 2, "pending": 0, "journal": "/j" });
        let text = shown(&json!({ "info": info, "damage": [], "lost": ["b/long\u{1b}"] }));
        let wanted = "/db is mounted on /mnt\n  read-write, transaction 2\n  lost: what was written to \
                      b/long^[ cannot be read back from the journal\n  nothing more is committed before \
                      that is written again or removed\nNothing is pending.\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_status_of_a_stranger_is_harmless() {
        let info = json!({ "mode": "\u{1b}[2J", "pending": 1, "started": "\u{1b}[2J" });
        let text = shown(&json!({ "info": info, "changes": [7, "x", {}] }));
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(
            text.contains("1 change is pending:\n  … and 1 more"),
            "{text}"
        );
        assert!(shown(&json!(null)).ends_with("Nothing is pending.\n"));
    }
}
