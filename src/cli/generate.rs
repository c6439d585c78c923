//! What packages are made with: the man page and the completions of shells, from the definitions
//! of the command line. `boltfs --generate KIND` prints them; scripts/install has it do so.

use std::ffi::OsStr;
use std::io::{self, Write};

use clap::Command;
use clap_complete::Shell;

use super::manual;

/// Not in the definitions: nobody types it, so neither the help nor a completion should have it.
pub const FLAG: &str = "--generate";

/// Writes the thing of this kind to standard output: `man` (section 1), `bash`, `zsh` or `fish`.
///
/// # Errors
/// Those of standard output, and [`io::ErrorKind::InvalidInput`] for another kind.
pub fn print(kind: &OsStr, command: Command) -> io::Result<()> {
    let mut text = Vec::new();
    match kind.to_str() {
        Some("man") => manual::write(command, &mut text)?,
        Some("bash") => complete(Shell::Bash, command, &mut text),
        Some("fish") => complete(Shell::Fish, command, &mut text),
        Some("zsh") => {
            complete(Shell::Zsh, without_operands(&command), &mut text);
            text = with_files(&String::from_utf8_lossy(&text)).into_bytes();
        }
        _ => {
            let what = "KIND is man, bash, zsh or fish";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
    }
    io::stdout().lock().write_all(&text)
}

fn complete(shell: Shell, command: Command, out: &mut dyn Write) {
    let mut command = command;
    clap_complete::generate(shell, &mut command, "boltfs", out);
}

/// The command without its own operands: with both, zsh would look for commands only after them.
fn without_operands(command: &Command) -> Command {
    let options = command.get_arguments().filter(|arg| !arg.is_positional());
    Command::new("boltfs")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .args(options.cloned())
        .subcommands(command.get_subcommands().cloned())
}

/// Has zsh complete files where the definitions have a command or a database: it would offer only
/// commands there, and nothing after a database.
fn with_files(script: &str) -> String {
    let commands = "_describe -t commands 'boltfs commands' commands \"$@\"\n";
    let last_case = "        esac\n    ;;\nesac\n";
    script
        .replacen(commands, &format!("{commands}    _files\n"), 1)
        .replacen(
            last_case,
            &format!("            (*)\n_files && ret=0\n;;\n{last_case}"),
            1,
        )
}
