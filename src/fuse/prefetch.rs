//! Small files put into the kernel's page cache before anybody asks for them.
//!
//! Who reads one small file of a bucket (`grep -r`, `tar`) mostly reads the next ones too, and each
//! costs a round trip. So the first READ that falls on a leaf page makes a thread of its own hand
//! the kernel the files that follow (`FUSE_NOTIFY_STORE`).
//!
//! # Why nobody ever reads, or writes back, old bytes because of it
//!
//! A store locks the one page-cache folio of the file, copies our bytes into it, and marks it valid.
//! It does so without asking whether the folio was valid before. A writer that fills a folio which is
//! valid, or becomes so by being filled to its end, unlocks it *before* it sends us the WRITE, and the
//! bytes we get are those in the folio by then. So a store that comes between would not only show old
//! bytes, it would have them written in the place of the new ones. Hence the rule:
//!
//! **No store touches a folio that may be valid, or has been filled by a writer.** A folio becomes valid
//! by a store, by a READ, or by a write of a whole page; and
//!
//! 1. a file is stored at most once in the life of a mount. One bit a page of the database says that the
//!    files on it were stored or must not be ([`State::spent`]);
//! 2. READ, WRITE, SETATTR of the length and FALLOCATE come to us while the folio is not valid or locked, or
//!    while it is valid by (1). Each *strikes* its file before it is answered: if it has not been stored
//!    by then it will never be;
//! 3. a write of a whole page makes the folio valid before we hear of it. But ahead of the first write to an
//!    inode the kernel asks for its `security.capability` (`file_remove_privs`), and no folio
//!    is filled until we have answered. So GETXATTR of that name strikes as well, and must never be
//!    answered ENOSYS, for the kernel would not ask again;
//! 4. a file that is being stored at this very moment cannot be waited for: the store may wait for the
//!    folio's lock, which the reader or writer has until we answer. It is made to fail instead: the bytes to
//!    be stored lie in a memory file, which is cut to nothing. The kernel gets at them only under the
//!    folio's lock: either it has got at them, then whoever wants the folio next comes after the copy, or it
//!    gets a bad address, and the folio stays as it is;
//! 5. a store extends an inode that is shorter. Only SETATTR shortens one, and its caller holds no folio: so
//!    that, and that alone, waits until the store is over.
//!
//! # Why it cannot deadlock
//!
//! The storing thread answers no request and holds none of our locks while it stores. Those that
//! answer requests never wait for it: who must (5) does so on a thread of its own, and what the store
//! waits for, a READ or WRITE of the same file, is answered meanwhile.

use crate::bolt::{Map, PageSet};
use crate::overlay::Ino;
use crate::vfs::Vfs;
use nix::errno::Errno;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};
use std::thread;

/// Longest file that is stored, in bytes: its content must lie in one folio.
const LONGEST: usize = 4096;
/// Files that are stored for a reader before he has to ask again, at first and at most: they double as long
/// as he goes on where the ones before ended. So what is stored for a reader who stops is about what he
/// has read, at most, a page of the kernel's cache each.
const FEWEST: usize = 64;
const MOST: usize = 8192;
/// Files and bytes of one batch at most.
const BATCH: usize = 1024;
const BYTES: usize = 512 << 10;
/// Jobs that may be waiting; pages on which further READs fall are not stored.
const WAITING: usize = 16;
/// After so many files in a row that the kernel does not know it is not asked about the rest.
const UNKNOWN: usize = 8;
/// Files that may be struck while jobs wait.
const STRUCK: usize = 4096;
/// Ends of jobs that are remembered, one for each reader that may be under way.
const READERS: usize = 8;

/// What a request does to a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Touch {
    /// Reads it.
    Read,
    /// Writes to it, or is about to.
    Write,
}

/// The thread that stores, and what it shares with those that answer requests.
pub struct Prefetch {
    vfs: Arc<Vfs>,
    state: Mutex<State>,
    /// There is something to do, or nothing any more.
    wake: Condvar,
    /// A store is over.
    over: Condvar,
    /// The kernel is one of those whose ways were verified.
    is_known_kernel: OnceLock<()>,
    memory: OnceLock<Memory>,
}

#[derive(Default)]
struct State {
    /// The thread runs.
    on: bool,
    /// Pages of the database whose files were stored, or must not be any more.
    spent: PageSet,
    /// Files that were read first on their page, and that page.
    jobs: VecDeque<(Ino, u64)>,
    /// A job is being worked on.
    busy: bool,
    /// Files of the jobs and of the one being worked on that were read or written meanwhile.
    struck: HashSet<Ino>,
    /// The file that is being stored.
    storing: Option<Ino>,
    /// It was made to fail.
    killed: bool,
}

/// Bytes that can be taken away from the kernel while it waits to copy them.
struct Memory {
    file: File,
    /// Never read here: where the file is cut it faults.
    map: Map,
}

impl Memory {
    fn new() -> io::Result<Memory> {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let file = File::from(rustix::fs::memfd_create("boltfs-prefetch", flags)?);
        file.set_len(BYTES as u64)?;
        let map = Map::of(&file)?;
        Ok(Memory { file, map })
    }

    /// Takes them away.
    fn cut(&self) -> io::Result<()> {
        self.file.set_len(0)
    }

    fn fill(&self, bytes: &[u8]) -> io::Result<()> {
        self.file.set_len(BYTES as u64)?;
        self.file.write_all_at(bytes, 0)
    }
}

/// The files of one batch.
#[derive(Default)]
struct Batch {
    /// Each with its page and the place of its content in `bytes`.
    files: Vec<(Ino, u64, Range<usize>)>,
    bytes: Vec<u8>,
    /// The file behind the last, and its page.
    next: Option<(Ino, u64)>,
}

impl Prefetch {
    /// Nothing is stored until it is [started](Self::start).
    pub(super) fn new(vfs: Arc<Vfs>) -> Prefetch {
        Prefetch {
            vfs,
            state: Mutex::default(),
            wake: Condvar::new(),
            over: Condvar::new(),
            is_known_kernel: OnceLock::new(),
            memory: OnceLock::new(),
        }
    }

    /// The kernel speaks this version of the protocol. Its ways with the page cache are no part of
    /// that: they were read in the sources of Linux 5.2 to 6.18, and later kernels get no stores.
    pub(super) fn kernel(&self, major: u32, minor: u32) {
        const FIRST: u32 = 31;
        const LAST: u32 = 45;
        if major == 7 && (FIRST..=LAST).contains(&minor) {
            let _ = self.is_known_kernel.set(());
        } else {
            log::info!("small files are not prefetched: unknown protocol {major}.{minor}");
        }
    }

    /// Starts to store through `device`, a descriptor of the connection to the kernel.
    ///
    /// # Errors
    /// Where no memory or thread is to be had: all works without it.
    pub fn start(self: &Arc<Prefetch>, device: OwnedFd) -> io::Result<()> {
        if self.is_known_kernel.get().is_none() {
            return Ok(());
        }
        let memory = Memory::new()?;
        let _ = self.memory.set(memory);
        let this = Arc::clone(self);
        self.state.lock().on = true;
        let name = "prefetch".to_owned();
        let started = thread::Builder::new()
            .name(name)
            .spawn(move || this.run(&device));
        started.map(drop).inspect_err(|_| self.stop())
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.state.lock().on = false;
        self.wake.notify_all();
    }

    /// To be called before a request on `ino` is answered.
    pub(super) fn touch(&self, ino: Ino, how: Touch) {
        let Some(page) = self.vfs.page_of(ino) else {
            return;
        };
        let mut state = self.state.lock();
        if !state.on && state.storing.is_none() {
            return;
        }
        let is_first = state.spent.insert(page);
        if is_first && how == Touch::Read && state.jobs.len() < WAITING {
            state.jobs.push_back((ino, page));
            self.wake.notify_one();
        }
        if state.busy || !state.jobs.is_empty() {
            state.struck.insert(ino);
            if state.struck.len() > STRUCK {
                // So many that what is ahead is not worth it; they are forgotten when it is over.
                state.jobs.clear();
            }
        }
        self.kill(&mut state, ino);
    }

    fn kill(&self, state: &mut State, ino: Ino) {
        if state.storing == Some(ino)
            && !state.killed
            && let Some(memory) = self.memory.get()
        {
            state.killed = true;
            if let Err(e) = memory.cut() {
                // A memory file can always be cut.
                log::error!("a prefetch cannot be stopped: {e}");
            }
        }
    }

    /// To be called before the length of `ino` is changed: hands `change` over to a thread that
    /// waits for the end of a store, if one is under way, else carries it out.
    pub(super) fn before_resize(
        self: &Arc<Prefetch>,
        ino: Ino,
        change: impl FnOnce() + Send + 'static,
    ) {
        self.touch(ino, Touch::Write);
        if self.state.lock().storing != Some(ino) {
            return change();
        }
        let this = Arc::clone(self);
        let wait = move || {
            let mut state = this.state.lock();
            while state.storing == Some(ino) {
                this.over.wait(&mut state);
            }
            drop(state);
            change();
        };
        // Without a thread the change is dropped, which answers the request with an error.
        let _ = thread::Builder::new().spawn(wait);
    }

    fn run(&self, device: &OwnedFd) {
        // Where readers are expected to go on, and how many files were stored for them last.
        let mut readers: VecDeque<(Ino, usize)> = VecDeque::new();
        while let Some((first, page)) = self.next_job() {
            let known = readers.iter().position(|&(next, _)| next == first);
            let before = known.and_then(|at| readers.remove(at));
            let most = before.map_or(FEWEST, |(_, files)| (files * 2).min(MOST));
            let (next, stored) = self.work(device, (first, page), most);
            if let Some(next) = next {
                readers.push_front((next, most));
                readers.truncate(READERS);
            }
            if let Err(e) = stored {
                // After an unmount; whatever else it is, nothing depends on this thread.
                log::debug!("the prefetch ends: {e}");
                return self.stop();
            }
        }
    }

    /// Stores `most` files from the one of `job` on, or fewer if somebody else waits. Answers the first that
    /// was not.
    fn work(
        &self,
        device: &OwnedFd,
        job: (Ino, u64),
        most: usize,
    ) -> (Option<Ino>, io::Result<()>) {
        let (mut at, mut left) = (job, most);
        loop {
            let batch = self.batch(at.0, at.1, left.min(BATCH));
            let stored = self.store(device, &batch);
            left = left.saturating_sub(batch.files.len());
            match batch.next {
                Some(next) if left > 0 && matches!(stored, Ok(true)) && self.may_go_on(next.1) => {
                    at = next;
                }
                next => return (next.map(|(ino, _)| ino), stored.map(drop)),
            }
        }
    }

    /// Reserves `page` for the job that is being worked on, unless it is spent or somebody else waits.
    fn may_go_on(&self, page: u64) -> bool {
        let mut state = self.state.lock();
        let is_alone = state.jobs.is_empty() && state.struck.len() <= STRUCK;
        state.on && is_alone && state.spent.insert(page)
    }

    fn next_job(&self) -> Option<(Ino, u64)> {
        let mut state = self.state.lock();
        state.busy = false;
        loop {
            if !state.on {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                state.busy = true;
                return Some(job);
            }
            state.struck.clear();
            self.wake.wait(&mut state);
        }
    }

    /// The files from `first` on that may be stored: on its page, which is reserved for this job, and
    /// on following ones that nobody has touched.
    fn batch(&self, first: Ino, page: u64, most: usize) -> Batch {
        let mut batch = Batch::default();
        let mut at = page;
        let map = self.vfs.snapshot().map();
        let losses = map.losses();
        let listed = self.vfs.siblings(first, LONGEST, &mut |file| {
            let is_full = batch.bytes.len() + file.content.len() > BYTES;
            if file.page != at {
                // Whole pages: the rest of a page that is begun would never be stored.
                if is_full
                    || batch.files.len() >= most
                    || !self.state.lock().spent.insert(file.page)
                {
                    batch.next = Some((file.ino, file.page));
                    return false;
                }
                at = file.page;
            }
            if is_full {
                return false;
            }
            let start = batch.bytes.len();
            batch.bytes.extend_from_slice(file.content);
            batch
                .files
                .push((file.ino, file.page, start..batch.bytes.len()));
            true
        });
        match listed {
            // What is gone from the database came as zeros.
            Ok(()) if map.has_lost_since(losses) => Batch::default(),
            Ok(()) => batch,
            Err(e) => {
                log::debug!("nothing to prefetch: {e}");
                Batch::default()
            }
        }
    }

    /// Stores what was not struck. Answers whether the files behind it may be stored too.
    fn store(&self, device: &OwnedFd, batch: &Batch) -> io::Result<bool> {
        let Some(memory) = self.memory.get().filter(|_| !batch.files.is_empty()) else {
            return Ok(false);
        };
        memory.fill(&batch.bytes)?;
        let mut unknown = 0;
        let mut lead = Lead::default();
        for (ino, _, range) in &batch.files {
            {
                let mut state = self.state.lock();
                if !state.on {
                    return Ok(false);
                }
                if state.struck.contains(ino) {
                    lead.lost();
                    continue;
                }
                if lead.is_behind() {
                    continue;
                }
                state.storing = Some(*ino);
                state.killed = false;
            }
            let stored = notify_store(device, *ino, memory.map.get(range.clone()).unwrap_or(&[]));
            let killed = {
                let mut state = self.state.lock();
                state.storing = None;
                state.killed
            };
            self.over.notify_all();
            if killed {
                lead.lost();
                memory.fill(&batch.bytes)?;
            } else {
                lead.kept();
            }
            match stored {
                Ok(()) => unknown = 0,
                Err(Errno::ENOENT) => unknown += 1,
                Err(Errno::EFAULT | Errno::EINTR | Errno::EAGAIN | Errno::ENOMEM) => {}
                Err(e) => return Err(e.into()),
            }
            if unknown == UNKNOWN {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// How far the storing is ahead of the reader. If both are at the same file each keeps the other
/// from it, and so on at the next: then some are left out.
#[derive(Default)]
struct Lead {
    /// Files to leave out still.
    skip: usize,
    /// So many were left out last.
    skipped: usize,
    /// Files stored since then.
    stored: usize,
}

impl Lead {
    /// The reader was at this file already.
    fn lost(&mut self) {
        if self.skip == 0 {
            self.skipped = (self.skipped * 2).clamp(2, 64);
            self.skip = self.skipped;
        }
        self.stored = 0;
    }

    /// The reader was not at this file yet.
    fn kept(&mut self) {
        self.stored += 1;
        if self.stored == 32 {
            self.skipped = 0;
        }
    }

    /// Leaves a file out, if one is to be left out.
    fn is_behind(&mut self) -> bool {
        let behind = self.skip > 0;
        self.skip = self.skip.saturating_sub(1);
        behind
    }
}

/// Has the kernel put `content` into its cache of the file `ino`.
///
/// ```text
/// 0 u32 length | 4 u32 FUSE_NOTIFY_STORE | 8 u64 0 | 16 u64 inode | 24 u64 offset | 32 u32 size | 36 u32 0
/// ```
fn notify_store(device: &OwnedFd, ino: Ino, content: &[u8]) -> nix::Result<()> {
    const HEADER: usize = 40;
    const STORE: u32 = 4;
    let mut header = [0u8; HEADER];
    let size = content.len() as u32; // at most LONGEST
    header[..4].copy_from_slice(&(HEADER as u32 + size).to_ne_bytes());
    header[4..8].copy_from_slice(&STORE.to_ne_bytes());
    header[16..24].copy_from_slice(&ino.0.to_ne_bytes());
    header[32..36].copy_from_slice(&size.to_ne_bytes());
    // The content in a piece of its own: what is in one piece with the header is got at before the
    // folio is locked.
    nix::sys::uio::writev(device, &[IoSlice::new(&header), IoSlice::new(content)]).map(drop)
}
