//! How fast boltfs is, beside the same files in a tmpfs directory and beside the real bbolt.
//!
//! Run by `scripts/bench`, which builds what this needs. Each row measures its contestants in turn, several rounds in
//! one run, and tells the medians and their ratio. Nothing here passes or fails.

mod commits;
mod data;
mod measure;
mod micro;
mod mount;
mod mounts;
mod report;
mod runner;

use std::path::PathBuf;
use std::time::Instant;

/// Groups of rows that share what they need.
const GROUPS: &[fn(&data::Place, &mut runner::Runner<'_>)] = &[
    mounts::searching,
    mounts::listing,
    mounts::looking,
    mounts::removing,
    mounts::copying,
    mounts::keeping,
    mounts::large_value,
    mounts::json,
    mounts::mounting,
    mounts::memory,
    commits::committing,
    commits::sparse,
    commits::checking,
    micro::finding,
    micro::merging,
    micro::rendering,
];

const USAGE: &str = "usage: scripts/bench [--quick] [--rounds N] [--only TEXT]… [--dir DIR] [--markdown FILE] [--svg FILE]

  --quick        a tenth of the keys and three rounds: to try it out
  --rounds N     measure each contestant N times (default: 7)
  --only TEXT    only the rows whose name has TEXT in it
  --dir DIR      where the databases lie (default: target/bench); wants 3 GB
  --markdown FILE, --svg FILE
                 write the table and the plot there as well";

struct Options {
    quick: bool,
    rounds: usize,
    only: Vec<String>,
    dir: PathBuf,
    markdown: Option<PathBuf>,
    svg: Option<PathBuf>,
}

fn options() -> Option<Options> {
    let mut options = Options {
        quick: false,
        rounds: 0,
        only: Vec::new(),
        dir: PathBuf::from("target/bench"),
        markdown: None,
        svg: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--bench" => {} // cargo's own
            "--quick" => options.quick = true,
            "--rounds" => options.rounds = args.next()?.parse().ok()?,
            "--only" => options.only.push(args.next()?),
            "--dir" => options.dir = args.next()?.into(),
            "--markdown" => options.markdown = Some(args.next()?.into()),
            "--svg" => options.svg = Some(args.next()?.into()),
            _ => return None,
        }
    }
    if options.rounds == 0 {
        options.rounds = if options.quick { 3 } else { 7 };
    }
    Some(options)
}

fn main() {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        std::process::exit(2);
    };
    let started = Instant::now();
    std::fs::create_dir_all(&options.dir).expect("the directory of the databases can be made");
    let dir = options.dir.canonicalize().expect("it has a path");
    let place = data::Place::new(dir, options.quick);
    let mut results = Vec::new();
    for group in GROUPS {
        let wanted = |name: &str| {
            options.only.is_empty() || options.only.iter().any(|only| name.contains(only.as_str()))
        };
        let mut runner = runner::Runner::new(options.rounds, &wanted, &mut results);
        group(&place, &mut runner);
    }
    let table = report::markdown(&results, options.rounds);
    println!("\n{table}");
    let write = |path: &Option<PathBuf>, text: &str| {
        if let Some(path) = path {
            std::fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    };
    write(&options.markdown, &table);
    write(&options.svg, &report::svg(&results));
    eprintln!("scripts/bench: {} s", started.elapsed().as_secs());
}
