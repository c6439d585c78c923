//! The bytes of a file, mapped for reading: a database, a journal, memory that the kernel takes files from. The
//! one place with `unsafe` in it.
//!
//! A mapped file can lose bytes under us. Another program makes it shorter, or the disk can no
//! longer read a part of it: touching such a page raises SIGBUS, which ends the process. Here it does
//! not. A handler puts zeros in the place of what is gone, so that whoever reads goes on, and takes
//! note before it does so. A reading is worth something only if nothing was noted meanwhile:
//! [`Map::steady`] is how to read.
//!
//! What holds, and why it is enough:
//! - A note comes before the zeros: whoever has read one of those zeros sees the note afterwards.
//! - Where a file is cut inside a page, the rest of that page reads as zeros without any signal. The
//!   file's length is already the new one then, so asking for it after a reading tells.
//! - What was lost once stays lost ([`Map::has_lost`]), even if the file grows again.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Once, OnceLock};

/// The bytes of a file for reading: mapped, never read whole.
#[derive(Clone)]
pub struct Map(Bytes);

#[derive(Clone)]
enum Bytes {
    Mapped(Arc<Mapped>),
    Held(Arc<[u8]>),
}

impl Map {
    /// Maps the whole of `file`.
    ///
    /// # Errors
    /// What `mmap(2)` says.
    pub fn of(file: &File) -> io::Result<Map> {
        Map::shared(Arc::new(file.try_clone()?))
    }

    /// Maps the whole of `file`, which stays open as long as the map.
    ///
    /// # Errors
    /// What `mmap(2)` says.
    #[allow(unsafe_code)]
    pub fn shared(file: Arc<File>) -> io::Result<Map> {
        if file.metadata()?.len() == 0 {
            return Ok(Map::from(Vec::new())); // mmap(2) refuses a length of 0
        }
        // SAFETY: the slice is sound as long as nobody changes those of the file's bytes that are
        // read from it.
        // - A database: bbolt's lock, held as long as it is read, keeps every program out that
        //   follows bbolt's rules. Our own writer writes only pages that no state we read reaches,
        //   and a meta page, which was copied when the database was opened.
        // - The journal of this mount grows while it is mapped, and a record that was taken back is
        //   written over: what is read is what a content refers to, and none does to that. It is
        //   copied and verified by its checksum before it is used.
        // - The journal of an earlier mount is locked, and cut only when all of it was read.
        // - The memory of the prefetch is written to as we like, and never read through its map.
        // A program that ignores locks, or a mount whose journal we are asked to show, can change
        // bytes under us: they are plain numbers that are bounds-checked at each use, so
        // the worst is a wrong value. Pages that are taken away become zeros.
        let bytes = unsafe { memmap2::Mmap::map(&*file)? };
        let watch = Watch::start(&bytes, &file);
        let file = Some(file);
        Ok(Map(Bytes::Mapped(Arc::new(Mapped { watch, bytes, file }))))
    }

    /// Closes the file, which nobody else is to cut: that would not be known before the part is read
    /// that is gone, nor how much it is.
    ///
    /// # Returns
    /// Whether it is closed: not as long as there is another copy of this map.
    pub fn close_file(&mut self) -> bool {
        let Bytes::Mapped(map) = &mut self.0 else {
            return true;
        };
        let Some(map) = Arc::get_mut(map) else {
            return false;
        };
        // Its number may be that of another file soon.
        map.watch.file.store(NO_FILE, Ordering::SeqCst);
        map.file = None;
        true
    }

    /// Answers what `read` does, which reads from the map and does nothing else. If bytes of the
    /// file were lost meanwhile, it reads once more: then [`has_lost`](Self::has_lost) tells.
    pub fn steady<T>(&self, mut read: impl FnMut() -> T) -> T {
        loop {
            let before = self.losses();
            let answer = read();
            // Each time more is lost, so this ends.
            if !self.has_lost_since(before) {
                return answer;
            }
        }
    }

    /// How often a loss was noted. To be asked before reading, for
    /// [`has_lost_since`](Self::has_lost_since) afterwards.
    pub fn losses(&self) -> usize {
        match &self.0 {
            Bytes::Mapped(map) => map.watch.losses.load(Ordering::Acquire),
            Bytes::Held(_) => 0,
        }
    }

    /// Whether anything was lost since there were so many [`losses`](Self::losses): what was read
    /// since may be zeros. Asks the operating system for the file's length.
    pub fn has_lost_since(&self, losses: usize) -> bool {
        let Bytes::Mapped(map) = &self.0 else {
            return false;
        };
        // What was read was read before the question is asked.
        fence(Ordering::SeqCst);
        // A length that cannot be asked for says nothing about the file.
        let metadata = map.file.as_ref().and_then(|file| file.metadata().ok());
        let len = metadata.map_or(u64::MAX, |m| m.len());
        map.watch.cut_to(usize::try_from(len).unwrap_or(usize::MAX));
        self.losses() != losses
    }

    /// Whether any of these bytes is known to be lost. Cheap.
    pub fn has_lost(&self, range: Range<usize>) -> bool {
        match &self.0 {
            Bytes::Mapped(map) => map.watch.has_lost(range),
            Bytes::Held(_) => false,
        }
    }

    /// Takes all bytes for lost: the file was cut, nobody knows where, and has grown again.
    pub fn give_up(&self) {
        if let Bytes::Mapped(map) = &self.0 {
            map.watch.cut_to(0);
        }
    }

    /// The length, in bytes, to which the file was cut, if it was found shorter than it was.
    pub fn cut(&self) -> Option<u64> {
        let Bytes::Mapped(map) = &self.0 else {
            return None;
        };
        let whole = map.watch.whole.load(Ordering::Acquire);
        (whole < map.bytes.len()).then_some(whole as u64)
    }
}

impl From<Vec<u8>> for Map {
    fn from(bytes: Vec<u8>) -> Self {
        Map(Bytes::Held(bytes.into()))
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Mapped(map) => &map.bytes,
            Bytes::Held(bytes) => bytes,
        }
    }
}

struct Mapped {
    watch: &'static Watch,
    bytes: memmap2::Mmap,
    /// To ask for the length; `None` once it is closed.
    file: Option<Arc<File>>,
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // Before the address is given back, and the descriptor closed.
        self.watch.start.store(FREE, Ordering::SeqCst);
    }
}

/// Bytes of a page of the machine: so much is lost at a time. Set before the handler is installed.
static PAGE_SIZE: AtomicUsize = AtomicUsize::new(4096);

fn page_size() -> usize {
    PAGE_SIZE.load(Ordering::Relaxed)
}

/// What the signal handler knows about one map. Never freed, but used again for other maps, as the
/// handler may look at any moment.
struct Watch {
    /// Address of the map, [`FREE`] or [`CLAIMED`]. Set last.
    start: AtomicUsize,
    /// Length of the map in bytes.
    len: AtomicUsize,
    /// Descriptor of the mapped file, or [`NO_FILE`].
    file: AtomicI32,
    /// So many bytes from the start are there, unless they are in `unreadable`. Only falls.
    whole: AtomicUsize,
    /// How often something below changed. Set after it.
    losses: AtomicUsize,
    /// Offsets of pages that are inside the file and could not be read from the disk, each with
    /// [`TAKEN`]. The first 0 ends the list.
    unreadable: [AtomicUsize; MOST_UNREADABLE],
    next: AtomicPtr<Watch>,
}

/// No map.
const FREE: usize = 0;
/// About to be used; no address is this small.
const CLAIMED: usize = 1;
/// Marks an offset in `unreadable`, where that of a page has no bit.
const TAKEN: usize = 1;
/// Pages that a disk fails to read, apart from each other, before the rest of the file is given up.
const MOST_UNREADABLE: usize = 256;

/// No descriptor: nothing can be asked about the file.
const NO_FILE: i32 = -1;

/// The first of all watches.
static WATCHES: AtomicPtr<Watch> = AtomicPtr::new(ptr::null_mut());

impl Watch {
    fn start(bytes: &[u8], file: &File) -> &'static Watch {
        install();
        let watch = Watch::claim();
        watch.len.store(bytes.len(), Ordering::SeqCst);
        watch.file.store(file.as_raw_fd(), Ordering::SeqCst);
        watch.whole.store(bytes.len(), Ordering::SeqCst);
        watch.losses.store(0, Ordering::SeqCst);
        for page in &watch.unreadable {
            page.store(0, Ordering::SeqCst);
        }
        let start = bytes.as_ptr() as usize;
        watch.start.store(start, Ordering::SeqCst);
        watch
    }

    fn claim() -> &'static Watch {
        for watch in watches() {
            let claimed =
                watch
                    .start
                    .compare_exchange(FREE, CLAIMED, Ordering::SeqCst, Ordering::SeqCst);
            if claimed.is_ok() {
                return watch;
            }
        }
        let watch: &'static Watch = Box::leak(Box::new(Watch {
            start: AtomicUsize::new(CLAIMED),
            len: AtomicUsize::new(0),
            file: AtomicI32::new(NO_FILE),
            whole: AtomicUsize::new(0),
            losses: AtomicUsize::new(0),
            unreadable: [const { AtomicUsize::new(0) }; MOST_UNREADABLE],
            next: AtomicPtr::new(ptr::null_mut()),
        }));
        let this = ptr::from_ref(watch).cast_mut();
        let mut first = WATCHES.load(Ordering::SeqCst);
        loop {
            watch.next.store(first, Ordering::SeqCst);
            match WATCHES.compare_exchange(first, this, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return watch,
                Err(now) => first = now,
            }
        }
    }

    /// The map has the byte at this address.
    fn covers(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::SeqCst);
        let len = self.len.load(Ordering::SeqCst);
        // The map of `start` has this length only if it was not exchanged meanwhile.
        start > CLAIMED
            && self.start.load(Ordering::SeqCst) == start
            && address.checked_sub(start).is_some_and(|at| at < len)
    }

    /// The file has only `len` bytes.
    fn cut_to(&self, len: usize) {
        if self.whole.fetch_min(len, Ordering::SeqCst) > len {
            self.losses.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The disk cannot read the page at `offset`. `false` if there is no room to remember it.
    fn cannot_read(&self, offset: usize) -> bool {
        let new = offset | TAKEN;
        for place in &self.unreadable {
            match place.compare_exchange(0, new, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => {
                    self.losses.fetch_add(1, Ordering::SeqCst);
                    return true;
                }
                Err(known) if known == new => return true,
                Err(_) => {}
            }
        }
        false
    }

    fn has_lost(&self, range: Range<usize>) -> bool {
        if self.losses.load(Ordering::Acquire) == 0 {
            return false;
        }
        range.end > self.whole.load(Ordering::Acquire)
            || self
                .unreadable
                .iter()
                .map(|place| place.load(Ordering::Acquire))
                .take_while(|&place| place != 0)
                .map(|place| place & !TAKEN)
                .any(|page| page < range.end && range.start < page + page_size())
    }
}

fn watches() -> impl Iterator<Item = &'static Watch> {
    let mut at = WATCHES.load(Ordering::SeqCst);
    std::iter::from_fn(move || {
        // SAFETY: the list is made of leaked boxes alone.
        #[allow(unsafe_code)]
        let watch = unsafe { at.as_ref() }?;
        at = watch.next.load(Ordering::SeqCst);
        Some(watch)
    })
}

/// What was done about SIGBUS before us.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

fn install() {
    static ONCE: Once = Once::new();
    PAGE_SIZE.store(rustix::param::page_size(), Ordering::Relaxed);
    // SAFETY: both structures are valid for the calls. The handler keeps to what a handler may do:
    // it allocates nothing and takes no lock.
    #[allow(unsafe_code)]
    ONCE.call_once(|| unsafe {
        let mut before: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut before);
        let _ = BEFORE.set(before);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_sigbus as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
    });
}

/// Puts zeros in the place of what is gone, if that is what happened.
///
/// # Safety
/// To be called by the kernel.
#[allow(unsafe_code)]
unsafe extern "C" fn on_sigbus(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel hands valid pointers to a handler with SA_SIGINFO. errno is the thread's
    // own, and put back as the code that was interrupted may be about to look at it.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        let address = (*info).si_addr() as usize;
        let ours = (*info).si_code > 0 // not sent by kill(2): there is an address
            && watches().find(|watch| watch.covers(address)).is_some_and(|watch| give_up(watch, address));
        *errno = saved;
        if !ours {
            not_ours(signal, info, context);
        }
    }
}

/// Takes note that the page at `address` is gone, with what is behind it if the file was cut, and
/// puts zeros there. `false` if that could not be done.
///
/// # Safety
/// To be called by the handler, for a map that has this address.
#[allow(unsafe_code)]
unsafe fn give_up(watch: &Watch, address: usize) -> bool {
    let start = watch.start.load(Ordering::SeqCst);
    let end = start + watch.len.load(Ordering::SeqCst);
    let page = address - address % page_size();
    let Some(offset) = page.checked_sub(start) else {
        return false;
    };
    // SAFETY: fstat(2) fills the structure or fails. The range that is mapped anew lies inside a map
    // that is alive, as the interrupted code was reading from it; readers of it go on reading, as
    // the protection is the same.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        let known = libc::fstat(watch.file.load(Ordering::SeqCst), &raw mut stat) == 0;
        let size = usize::try_from(stat.st_size).unwrap_or(0);
        let is_inside = known && offset < size;
        // The notes come before the zeros.
        let len = if is_inside && watch.cannot_read(offset) {
            page_size()
        } else {
            watch.cut_to(if known { size.min(offset) } else { offset });
            end - page
        };
        let zeros = libc::mmap(
            page as *mut libc::c_void,
            len,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        );
        zeros != libc::MAP_FAILED
    }
}

/// Does what would have been done without us.
///
/// # Safety
/// To be called by the handler, with its own arguments.
#[allow(unsafe_code)]
unsafe fn not_ours(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: a handler that was installed with SA_SIGINFO takes these arguments, one without takes
    // the first. Without a handler the default comes back: the fault happens again, and ends us.
    unsafe {
        let before = BEFORE.get();
        match before {
            Some(before)
                if before.sa_sigaction != libc::SIG_DFL
                    && before.sa_sigaction != libc::SIG_IGN
                    && before.sa_flags & libc::SA_SIGINFO != 0 =>
            {
                type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
                let handler: Handler = std::mem::transmute(before.sa_sigaction);
                handler(signal, info, context);
            }
            _ => {
                libc::signal(signal, libc::SIG_DFL);
                if (*info).si_code <= 0 {
                    libc::raise(signal); // sent by a process: there is no fault to happen again
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
