//! The `boltfs` command; all of it lives in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    boltfs::cli::run()
}
