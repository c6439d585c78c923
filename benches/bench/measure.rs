//! One measurement: the time that passes, and the processor time that the program and the server use.

use nix::sys::resource::{UsageWho, getrusage};
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// What one run of one contestant took.
#[derive(Clone, Copy, Default)]
pub struct Sample {
    /// Seconds that passed.
    pub wall: f64,
    /// Seconds of processor time: of the programs run, and of the server.
    pub cpu: f64,
    /// Most bytes of anonymous memory that the server (or bbolt) had.
    pub memory: u64,
}

fn children_cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage");
    let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1_000_000.0;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// Processor time of all threads of a process, in seconds.
fn process_cpu(pid: u32) -> f64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0.0;
    };
    let ns = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    ns.sum::<u64>() as f64 / 1e9
}

/// Anonymous memory of a process, in bytes.
pub fn anonymous(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let kb = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kb.unwrap_or(0) * 1024
}

/// Times `work`; `server` is the process whose time counts as well.
pub fn time(server: Option<u32>, work: impl FnOnce()) -> Sample {
    let cpu = || children_cpu() + server.map_or(0.0, process_cpu);
    let (before, started) = (cpu(), Instant::now());
    work();
    let wall = started.elapsed().as_secs_f64();
    Sample {
        wall,
        cpu: cpu() - before,
        memory: server.map_or(0, anonymous),
    }
}

/// As [`time`], and looks at the server's memory while `work` is done.
pub fn time_and_watch(server: u32, work: impl FnOnce()) -> Sample {
    let (done, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut sample = Sample::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous(server), Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        });
        sample = time(Some(server), work);
        done.store(true, Ordering::Relaxed);
    });
    sample.memory = peak.into_inner().max(sample.memory);
    sample
}

/// Runs a line of shell to its end. What it prints goes through a pipe: grep and tar do less when they see `/dev/null`.
pub fn sh(line: &str) {
    let mut child = Command::new("sh")
        .args(["-c", line])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh runs");
    let mut output = child.stdout.take().expect("it was asked for");
    let mut buffer = vec![0; 1 << 18];
    while output.read(&mut buffer).expect("a pipe can be read") > 0 {}
    let status = child.wait().expect("sh ends");
    // grep answers 1 for no match.
    assert!(matches!(status.code(), Some(0 | 1)), "{line}: {status}");
}

/// The middle one.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match n % 2 {
        _ if n == 0 => f64::NAN,
        1 => values[n / 2],
        _ => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}
