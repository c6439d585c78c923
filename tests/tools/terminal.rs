//! A program on a terminal, with somebody at the keys who waits for what is on the screen.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::pty::{Winsize, openpty};

use crate::bench::Bench;
use crate::common::process::wait_until;

const PATIENCE: Duration = Duration::from_secs(30);

/// A program on a terminal of its own; killed on drop.
pub struct Terminal {
    keys: File,
    /// All that was written to the screen.
    screen: Arc<Mutex<Vec<u8>>>,
    /// How much of it, as plain text, was waited for already.
    seen: usize,
    child: Child,
}

impl Terminal {
    /// Runs a line of bash in the mount of `bench`, on a terminal.
    pub fn start(bench: &Bench, line: &str) -> Terminal {
        let size = Winsize {
            ws_row: 24,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).expect("a terminal can be had");
        let end = || Stdio::from(pty.slave.try_clone().expect("a descriptor can be doubled"));
        // setsid makes it the controlling terminal: editors open /dev/tty, and ^C is to work.
        let mut command = bench.command("setsid");
        command.args([
            "--ctty",
            "--wait",
            "bash",
            "-c",
            &format!("cd \"$MNT\"\n{line}"),
        ]);
        command.stdin(end()).stdout(end()).stderr(end());
        let child = spawn(&mut command);
        drop(command);
        drop(pty.slave);
        let keys = File::from(pty.master);
        let mut output = keys.try_clone().expect("a descriptor can be doubled");
        let screen = Arc::new(Mutex::new(Vec::new()));
        let written = screen.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error is the end: no program has the terminal open any more.
            while let Ok(n @ 1..) = output.read(&mut buffer) {
                written
                    .lock()
                    .expect("nobody panics with it")
                    .extend_from_slice(&buffer[..n]);
            }
        });
        Terminal {
            keys,
            screen,
            seen: 0,
            child,
        }
    }

    /// All that was shown, without what moves the cursor and sets colours.
    fn text(&self) -> String {
        plain(&self.screen.lock().expect("nobody panics with it"))
    }

    /// Waits until `text` is shown, behind what was waited for before.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> &mut Terminal {
        let mut found = None;
        let deadline = std::time::Instant::now() + PATIENCE;
        while found.is_none() {
            let shown = self.text();
            found = shown
                .get(self.seen..)
                .and_then(|new| new.find(text))
                .map(|at| self.seen + at + text.len());
            assert!(
                found.is_some() || std::time::Instant::now() < deadline,
                "`{text}` was never shown; the screen: {shown}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        self.seen = found.unwrap_or_default();
        self
    }

    /// Types.
    #[track_caller]
    pub fn keys(&mut self, keys: &str) -> &mut Terminal {
        self.keys
            .write_all(keys.as_bytes())
            .expect("somebody reads the keys");
        self
    }

    /// Waits until the program has ended, which it must do well.
    #[track_caller]
    pub fn ends(mut self) {
        let mut status: Option<ExitStatus> = None;
        wait_until("the program on the terminal has ended", PATIENCE, || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        assert!(
            status.is_some_and(|s| s.success()),
            "{status:?}; the screen: {}",
            self.text()
        );
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The program gets SIGHUP when `keys` closes; setsid waits for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(command: &mut Command) -> Child {
    command
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"))
}

/// The text among control sequences.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => match rest.next() {
                // Ends with the first letter.
                Some('[') => while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                Some(']') => while rest.next().is_some_and(|c| c != '\x07') {},
                Some('(' | ')' | '#') => drop(rest.next()),
                _ => {}
            },
            c => plain.push(c),
        }
    }
    plain
}
