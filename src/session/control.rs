//! The conversation between the process that serves a mount and the commands that ask it
//! something: `boltfs umount` and its kin.
//!
//! The process listens on an abstract Unix socket named after the device number of its mount,
//! which the asking command finds in the table of mounts without touching the mount. Each side
//! looks at the other's user: the process answers its own user and root, the command believes
//! only the user who mounted, and root.
//!
//! Both speak in lines of JSON:
//!
//! | request | answer |
//! | --- | --- |
//! | `{"request": "wait", "discard": false}` | `{"serving": {...}}`, and at the end `{"report": {...}}`; or `{"command": {"pid": 7}}`: the mount ends with that |
//! | `{"request": "turn"}` | `{"turn": true}`, when nobody else is about to unmount; or the report, if somebody did |
//! | `{"request": "unmounted"}` | none |
//! | `{"request": "status", "most": 20}` | `{"status": {"info": {...}, "changes": [...]}}` |
//! | `{"request": "changes"}` | `{"change": {...}, "old": {...}, "new": {...}}` for each, `{"end": {...}}` |
//!
//! and `{"error": "..."}`. Behind the line of a change come the bytes of those of its values that have
//! a `"sent"`, their number.

mod waiting;

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, getsockopt, shutdown, sockopt::PeerCredentials};
use serde_json::{Value, json};

use super::change::line;
use super::commit::Report;
use super::mountinfo::{Device, Mount};
use super::side::Side;
use super::terminal::visible;
use waiting::{Turn, Waiter, Waiting};

/// The longest request taken.
const LONGEST_REQUEST: u64 = 64 * 1024;

/// The longest answer taken: a listing of changes has some whose paths are thousands of long keys.
const LONGEST_ANSWER: u64 = 1 << 30;

/// How long a slow reader may keep us from ending.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait for a process that served the same device number before us, and is about to
/// let go of its name.
const NAME_TIMEOUT: Duration = Duration::from_secs(2);

fn address(device: Device) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("boltfs/{device}"))
}

fn peer_user(stream: &UnixStream) -> io::Result<u32> {
    Ok(getsockopt(stream, PeerCredentials)?.uid())
}

/// Sends these messages, or none of them.
fn send(stream: &mut UnixStream, messages: &[&Value]) -> io::Result<()> {
    let lines: String = messages.iter().map(|m| format!("{m}\n")).collect();
    stream.write_all(lines.as_bytes())
}

/// What the session does on request.
pub trait Respond: Send + Sync {
    /// What is served, for the answer to `wait`: an object.
    fn serving(&self) -> Value;

    /// The command that the mount was made for, an object, if it was: it ends with that alone.
    fn command(&self) -> Option<Value>;

    /// Whether it can be found in the directory tree.
    fn is_mounted(&self) -> bool;

    /// The asking command has unmounted: the session is about to end.
    fn unmounted(&self);

    /// What is mounted and, of what is pending, the first `most` changes.
    ///
    /// # Errors
    /// In words.
    fn status(&self, most: usize) -> Result<Value, String>;

    /// Hands each pending change to `each`, in words, with the values it is about: the one that is
    /// stored and the one to be stored.
    ///
    /// # Errors
    /// In words; those of `each` are passed on.
    fn changes(&self, each: &mut EachChange<'_>) -> Result<Value, ChangesError>;
}

/// Takes one change.
pub type EachChange<'a> = dyn FnMut(Value, [Option<&[u8]>; 2]) -> io::Result<()> + 'a;

/// Takes one change that was told.
pub type EachTold<'a> = dyn FnMut(&Value, [Option<Side<'static>>; 2]) -> io::Result<()> + 'a;

/// Why not all changes could be told.
#[derive(Debug)]
pub enum ChangesError {
    /// In words.
    Told(String),
    /// The conversation broke off.
    Io(io::Error),
}

struct Shared {
    waiting: Waiting,
    turn: Turn,
    respond: Box<dyn Respond>,
}

/// The listening side.
pub struct Server {
    listener: Arc<UnixListener>,
    acceptor: JoinHandle<()>,
    shared: Arc<Shared>,
}

impl Server {
    /// Listens for commands about the mount with this device number.
    ///
    /// # Errors
    /// When the name is taken or no thread can be started.
    pub fn start(device: Device, respond: Box<dyn Respond>) -> io::Result<Server> {
        let listener = Arc::new(bind(device)?);
        let shared = Arc::new(Shared {
            waiting: Waiting::default(),
            turn: Turn::default(),
            respond,
        });
        let acceptor = {
            let (listener, shared) = (Arc::clone(&listener), Arc::clone(&shared));
            thread::Builder::new()
                .name("control".to_owned())
                .spawn(move || accept_each(&listener, &shared))?
        };
        Ok(Server {
            listener,
            acceptor,
            shared,
        })
    }

    /// Takes no more commands, frees the name, and returns those that wait for the report.
    pub fn end(self) -> Waiters {
        // Connections already made are still accepted; a later one is refused at once.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Read);
        let _ = self.acceptor.join();
        let waiting = self.shared.waiting.take();
        let shared = Arc::clone(&self.shared);
        Waiters { waiting, shared }
    }
}

fn bind(device: Device) -> io::Result<UnixListener> {
    let address = address(device)?;
    let give_up = Instant::now() + NAME_TIMEOUT;
    loop {
        match UnixListener::bind_addr(&address) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && Instant::now() < give_up => {
                thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

fn accept_each(listener: &UnixListener, shared: &Arc<Shared>) {
    let mut number = 0;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                number += 1;
                let shared = Arc::clone(shared);
                let serve = move || {
                    if let Err(e) = converse(&stream, number, &shared) {
                        log::debug!("control connection {number}: {e}");
                    }
                    // Who has unmounted and was killed then is obeyed: what was to be dropped must
                    // not be committed.
                    if shared.respond.is_mounted() {
                        shared.waiting.remove(number);
                    }
                    shared.turn.leave(number);
                };
                if let Err(e) = thread::Builder::new()
                    .name("control".to_owned())
                    .spawn(serve)
                {
                    log::warn!("cannot answer a command: {e}");
                }
            }
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => return,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                // Such as too many open files: worth another try, not a busy loop.
                log::warn!("cannot answer a command: {e}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn converse(stream: &UnixStream, number: u64, shared: &Shared) -> io::Result<()> {
    let user = peer_user(stream)?;
    if user != 0 && user != nix::unistd::geteuid().as_raw() {
        return Err(io::Error::other(format!("refused user {user}")));
    }
    stream.set_write_timeout(Some(SEND_TIMEOUT))?;
    let mut answers = stream.try_clone()?;
    let mut requests = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if (&mut requests).take(LONGEST_REQUEST).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let request: Value = serde_json::from_str(&line)?;
        match request["request"].as_str() {
            Some("wait") => {
                if let Some(command) = shared.respond.command() {
                    send(&mut answers, &[&json!({ "command": command })])?;
                    continue;
                }
                let waiter = Waiter {
                    number,
                    stream: stream.try_clone()?,
                    discard: request["discard"].as_bool().unwrap_or(false),
                };
                let serving = json!({ "serving": shared.respond.serving() });
                shared.waiting.add(waiter, &serving)?;
            }
            Some("turn") => {
                shared.turn.take(number);
                send(&mut answers, &[&json!({ "turn": true })])?;
            }
            Some("unmounted") => shared.respond.unmounted(),
            Some("status") => {
                let most = request["most"].as_u64().unwrap_or(0);
                let status = shared.respond.status(usize::try_from(most).unwrap_or(0));
                let answer = match status {
                    Ok(status) => json!({ "status": status }),
                    Err(why) => json!({ "error": why }),
                };
                send(&mut answers, &[&answer])?;
            }
            Some("changes") => {
                // A reader may look at what it has got for as long as it likes: nothing waits for it.
                stream.set_write_timeout(None)?;
                send_changes(&mut answers, shared)?;
                stream.set_write_timeout(Some(SEND_TIMEOUT))?;
            }
            _ => send(&mut answers, &[&json!({ "error": "no such request" })])?,
        }
    }
}

fn send_changes(stream: &mut UnixStream, shared: &Shared) -> io::Result<()> {
    let mut out = BufWriter::new(&*stream);
    let end = shared.respond.changes(&mut |change, values| {
        let [old, new] = values.map(|value| value.map(Side::of));
        let line = json!({
            "change": change,
            "old": old.as_ref().map(Side::to_json),
            "new": new.as_ref().map(Side::to_json),
        });
        out.write_all(format!("{line}\n").as_bytes())?;
        for side in [old, new].into_iter().flatten() {
            if let Side::Whole(bytes) = side {
                out.write_all(&bytes)?;
            }
        }
        Ok(())
    });
    let answer = match end {
        Ok(end) => json!({ "end": end }),
        Err(ChangesError::Told(why)) => json!({ "error": why }),
        Err(ChangesError::Io(e)) => return Err(e),
    };
    out.write_all(format!("{answer}\n").as_bytes())?;
    out.flush()
}

/// The commands that wait for the end.
pub struct Waiters {
    waiting: Vec<Waiter>,
    shared: Arc<Shared>,
}

impl Waiters {
    /// Whether one of them asked to drop the edits.
    pub fn want_discard(&self) -> bool {
        self.waiting.iter().any(|waiter| waiter.discard)
    }

    /// Tells all of them what became of the edits. Returns whether anybody heard it.
    pub fn tell(self, report: &Report) -> bool {
        let message = json!({
            "report": {
                "failed": report.failed,
                "message": report.message,
                "discarded": self.want_discard(),
            }
        });
        let mut heard = false;
        // Some were late to ask, and decide nothing any more; they are told all the same.
        let late = self.shared.waiting.end(&message);
        for mut waiter in self.waiting.into_iter().chain(late) {
            heard |= send(&mut waiter.stream, &[&message]).is_ok();
        }
        heard
    }
}

/// Why no conversation with the serving process came about.
#[derive(Debug)]
pub enum Unreachable {
    /// Nobody listens.
    Nobody,
    /// Somebody listens who has no right to.
    Impostor {
        /// Its user.
        user: u32,
    },
    /// Another reason.
    Io(io::Error),
}

impl From<io::Error> for Unreachable {
    fn from(e: io::Error) -> Self {
        Unreachable::Io(e)
    }
}

/// What ends a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Whoever unmounts it.
    Unmounted,
    /// The command that it was made for, with this process number once it runs.
    WithCommand(Option<u64>),
}

/// The asking side.
pub struct Client {
    requests: UnixStream,
    answers: BufReader<UnixStream>,
    /// It has asked for the edits to be dropped.
    discard: bool,
}

impl Client {
    /// Connects to the process that serves `mount`.
    ///
    /// # Errors
    /// When there is none, or it is not the mount's owner's.
    pub fn connect(mount: &Mount) -> Result<Client, Unreachable> {
        let stream =
            UnixStream::connect_addr(&address(mount.device)?).map_err(|e| match e.kind() {
                io::ErrorKind::ConnectionRefused => Unreachable::Nobody,
                _ => Unreachable::Io(e),
            })?;
        let user = peer_user(&stream)?;
        if user != 0 && Some(user) != mount.user_id() {
            return Err(Unreachable::Impostor { user });
        }
        Ok(Client {
            requests: stream.try_clone()?,
            answers: BufReader::new(stream),
            discard: false,
        })
    }

    /// Takes what is not answered in this time for an error.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn give_up_after(&mut self, patience: Duration) -> io::Result<()> {
        self.requests.set_read_timeout(Some(patience))?;
        self.requests.set_write_timeout(Some(patience))
    }

    /// The processes started from now on hold the conversation open too: as long as one of them may
    /// still unmount for us, what we have asked for counts.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn share_with_children(&self) -> io::Result<()> {
        Ok(rustix::io::fcntl_setfd(
            &self.requests,
            rustix::io::FdFlags::empty(),
        )?)
    }

    /// Asks to be told the report when the mount has ended, and to drop the edits then if
    /// `discard`. Returns once the process knows, which may take `patience` if that is given.
    ///
    /// # Errors
    /// When the conversation broke off; [`io::ErrorKind::WouldBlock`]: no answer in time.
    pub fn wait(&mut self, discard: bool, patience: Option<Duration>) -> io::Result<Ends> {
        send(
            &mut self.requests,
            &[&json!({ "request": "wait", "discard": discard })],
        )?;
        self.discard = discard;
        let answer = self.answer_within(patience)?;
        match (answer.get("serving"), answer.get("command")) {
            (Some(_), _) => Ok(Ends::Unmounted),
            (None, Some(command)) => Ok(Ends::WithCommand(command["pid"].as_u64())),
            (None, None) => Err(unexpected(&answer)),
        }
    }

    /// Waits until nobody else is about to unmount. If somebody did meanwhile, the report is returned.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn turn(&mut self, patience: Option<Duration>) -> io::Result<Option<Report>> {
        // Where it cannot be sent the process has ended, and told us the report before.
        let _ = send(&mut self.requests, &[&json!({ "request": "turn" })]);
        let answer = self.answer_within(patience)?;
        match answer["turn"].as_bool() {
            Some(_) => Ok(None),
            None => self.understand(&answer).map(Some),
        }
    }

    /// Says that the mount was taken out of the directory tree.
    pub fn unmounted(&mut self) {
        // Only a hint: a process that has ended already does not read it.
        let _ = send(&mut self.requests, &[&json!({ "request": "unmounted" })]);
    }

    /// The report, as soon as there is one.
    ///
    /// # Errors
    /// When the process ended without one.
    pub fn report(&mut self) -> io::Result<Report> {
        let mut answer = self.answer()?;
        // It was still in the way when somebody else had unmounted.
        if answer.get("turn").is_some() {
            answer = self.answer()?;
        }
        self.understand(&answer)
    }

    /// The report in an answer. A wish to discard that came too late is not fulfilled.
    fn understand(&self, answer: &Value) -> io::Result<Report> {
        let report = &answer["report"];
        let (Some(failed), Some(message)) =
            (report["failed"].as_bool(), report["message"].as_str())
        else {
            return Err(unexpected(answer));
        };
        let message = visible(message);
        if self.discard && report["discarded"] == false {
            return Ok(Report {
                failed: true,
                message: format!(
                    "NOT DISCARDED, for somebody else had unmounted before: {message}"
                ),
            });
        }
        Ok(Report {
            failed,
            message: message.into_owned(),
        })
    }

    /// What is mounted and what is pending, of that the first `most` changes.
    ///
    /// # Errors
    /// When the conversation broke off, or the process knows no answer.
    pub fn status(&mut self, most: usize) -> io::Result<Value> {
        send(
            &mut self.requests,
            &[&json!({ "request": "status", "most": most })],
        )?;
        let mut answer = self.answer()?;
        match answer.get_mut("status") {
            Some(status) => Ok(status.take()),
            None => Err(unexpected(&answer)),
        }
    }

    /// Hands each pending change to `each`, with the value that is stored and the one to be stored.
    ///
    /// # Returns
    /// What is said at the end.
    ///
    /// # Errors
    /// When the conversation broke off, or the process cannot tell all of them; and those of
    /// `each`.
    pub fn changes(&mut self, each: &mut EachTold<'_>) -> io::Result<Value> {
        send(&mut self.requests, &[&json!({ "request": "changes" })])?;
        loop {
            let mut answer = self.answer()?;
            if let Some(end) = answer.get_mut("end") {
                return Ok(end.take());
            }
            if answer.get("change").is_none() {
                return Err(unexpected(&answer));
            }
            let old = Side::read(&answer["old"], &mut self.answers)?;
            let new = Side::read(&answer["new"], &mut self.answers)?;
            each(&answer["change"], [old, new])?;
        }
    }

    /// An answer, for which it may take `patience`. What comes later may take as long as it likes again,
    /// also where this one did not come in time.
    fn answer_within(&mut self, patience: Option<Duration>) -> io::Result<Value> {
        self.requests.set_read_timeout(patience)?;
        let answer = self.answer();
        self.requests.set_read_timeout(None)?;
        answer
    }

    fn answer(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        let most = (&mut self.answers).take(LONGEST_ANSWER);
        if { most }.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

fn unexpected(answer: &Value) -> io::Error {
    match answer["error"].as_str() {
        Some(why) => io::Error::other(line(why).into_owned()),
        None => io::ErrorKind::InvalidData.into(),
    }
}

#[cfg(test)]
mod tests;
