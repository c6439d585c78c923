//! The results as a table for the README, and as a plot.

use super::measure::Sample;
use super::runner::{Goal, Outcome};
use std::fmt::Write;
use std::fs;
use std::process::Command;

fn seconds(s: f64) -> String {
    match s {
        s if s >= 10.0 => format!("{s:.1} s"),
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 0.01 => format!("{:.0} ms", s * 1e3),
        s => format!("{:.1} ms", s * 1e3),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

impl Outcome {
    fn shown(&self, sample: &Sample) -> String {
        match self.goal {
            Goal::Memory(_) | Goal::Bytes(_) => mebibytes(sample.memory),
            _ => seconds(sample.wall),
        }
    }

    /// What is compared with the goal, in the goal's terms, and whether it is reached.
    fn reached(&self) -> (String, String, bool) {
        let over = |s: &Sample| self.ours.wall - s.wall;
        match self.goal {
            Goal::Times(limit) | Goal::Memory(limit) => (
                format!("{:.2}", self.ratio),
                format!("at most {limit}"),
                self.ratio <= limit,
            ),
            Goal::Over(limit) => {
                let over = self.reference.as_ref().map_or(0.0, |(_, s)| over(s));
                let shown = format!(
                    "{}{}",
                    if over < 0.0 { "-" } else { "+" },
                    seconds(over.abs())
                );
                (shown, format!("at most +{}", seconds(limit)), over <= limit)
            }
            Goal::Within(limit) => (
                seconds(self.ours.wall),
                format!("at most {}", seconds(limit)),
                self.ours.wall <= limit,
            ),
            Goal::Bytes(limit) => (
                mebibytes(self.ours.memory),
                format!("below {}", mebibytes(limit)),
                self.ours.memory < limit,
            ),
        }
    }

    /// How far the goal is reached: 1 is just so, less is better.
    fn share(&self) -> f64 {
        match self.goal {
            Goal::Times(limit) | Goal::Memory(limit) => self.ratio / limit,
            Goal::Over(limit) => {
                let reference = self.reference.as_ref().map_or(0.0, |(_, s)| s.wall);
                ((self.ours.wall - reference) / limit).max(0.0)
            }
            Goal::Within(limit) => self.ours.wall / limit,
            Goal::Bytes(limit) => self.ours.memory as f64 / limit as f64,
        }
    }
}

/// The table, headed by a description of the machine.
pub fn markdown(results: &[Outcome], rounds: usize) -> String {
    let mut text = format!(
        "{}; medians of {rounds} rounds, in turn within each\n\n",
        machine()
    );
    text.push_str("| what | boltfs | beside | ratio | of processor time | to reach | |\n");
    text.push_str("| --- | ---: | ---: | ---: | ---: | --- | --- |\n");
    for outcome in results {
        let beside = match &outcome.reference {
            Some((who, sample)) => format!("{who} {}", outcome.shown(sample)),
            None => String::new(),
        };
        let (reached, goal, good) = outcome.reached();
        let cpu = match outcome.cpu_ratio {
            ratio if ratio.is_finite() => format!("{ratio:.2}"),
            _ => String::new(),
        };
        let mark = if good { "✓" } else { "missed" };
        let _ = writeln!(
            text,
            "| {} | {} | {beside} | {reached} | {cpu} | {goal} | {mark} |",
            outcome.name,
            outcome.shown(&outcome.ours),
        );
    }
    text
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?.to_owned();
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cpu = read("/proc/cpuinfo");
    let model = field(&cpu, "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let memory = memory.trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0 / 1024.0;
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let first_line = |program: &str, arg: &str| {
        let output = Command::new(program).arg(arg).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().next().map(str::to_owned)
    };
    let grep = first_line("grep", "--version").unwrap_or_default();
    format!(
        "{model}, {cores} cores, {memory:.0} GiB, Linux {}, {grep}, load {load} at the end",
        kernel.trim()
    )
}

/// The plot: one bar a row, how much of what is allowed was taken, on a logarithmic scale.
pub fn svg(results: &[Outcome]) -> String {
    const LEFT: f64 = 510.0;
    const WIDTH: f64 = 420.0;
    const ROW: f64 = 22.0;
    const TOP: f64 = 48.0;
    // From a hundredth of the limit to ten times as much.
    let x = |share: f64| LEFT + WIDTH * ((share.clamp(0.01, 10.0).log10() + 2.0) / 3.0);
    let height = TOP + ROW * results.len() as f64 + 12.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1040 {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"1040\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"18\" font-size=\"14\">What each row takes, of what it may take (1 is the limit; left is better)</text>\n"
    );
    for (share, label) in [(0.01, "0.01"), (0.1, "0.1"), (1.0, "1"), (10.0, "10")] {
        let stroke = if share == 1.0 { "#333" } else { "#ccc" };
        let _ = writeln!(
            svg,
            "<line x1=\"{0}\" x2=\"{0}\" y1=\"{1}\" y2=\"{2}\" stroke=\"{stroke}\"/>\n\
             <text x=\"{0}\" y=\"{3}\" text-anchor=\"middle\" fill=\"#555\">{label}</text>",
            x(share),
            TOP - 8.0,
            height - 8.0,
            TOP - 12.0,
        );
    }
    for (row, outcome) in results.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let (reached, _, good) = outcome.reached();
        let fill = if good { "#4a8" } else { "#d63" };
        let end = x(outcome.share());
        let name = outcome.name.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>\n\
             <rect x=\"{LEFT}\" y=\"{}\" width=\"{:.1}\" height=\"14\" fill=\"{fill}\"/>\n\
             <text x=\"{:.1}\" y=\"{}\">{reached}</text>",
            LEFT - 8.0,
            y + 11.0,
            y,
            (end - LEFT).max(1.0),
            end.max(LEFT) + 6.0,
            y + 11.0,
        );
    }
    svg.push_str("</svg>\n");
    svg
}
