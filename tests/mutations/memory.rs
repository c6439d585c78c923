//! How much memory a piece of work takes at once, in the thread that does it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;

thread_local! {
    /// Bytes that this thread holds, counted from the start of the work, and the most there were.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

thread_local! {
    /// So many bytes this thread is given at once, and no more.
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The system's allocator, with a count and a limit.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn is_refused(size: usize) -> bool {
    LIMIT.try_with(|limit| size > limit.get()).unwrap_or(false)
}

fn count(more: isize) {
    // A thread that ends frees memory when its count is gone already.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + more, most.max(now + more)));
    });
}

// SAFETY: every call is refused, which is allowed, or handed on as it is to the system's allocator, which keeps the promises;
// counting allocates nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_refused(layout.size()) {
            return ptr::null_mut();
        }
        count(layout.size() as isize);
        // SAFETY: the caller's promise is that of this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_refused(layout.size()) {
            return ptr::null_mut();
        }
        count(layout.size() as isize);
        // SAFETY: the caller's promise is that of this function.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_refused(size) {
            return ptr::null_mut();
        }
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise is that of this function.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is that of this function.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Answers what `work` does, and the most bytes that it held at once.
pub fn most_in<T>(work: impl FnOnce() -> T) -> (T, usize) {
    HELD.set((0, 0));
    let done = work();
    let (_, most) = HELD.get();
    (done, most as usize)
}

/// Answers what `work` does where nobody is given more than `limit` bytes in one piece.
pub fn with_at_most<T>(limit: usize, work: impl FnOnce() -> T) -> T {
    LIMIT.set(limit);
    let done = work();
    LIMIT.set(usize::MAX);
    done
}

#[test]
fn what_is_held_at_once_is_counted() {
    let (_, most) = most_in(|| {
        let one = vec![1u8; 1000];
        drop(one);
        let (two, three) = (vec![0u8; 3000], vec![2u8; 4000]);
        two.len() + three.len()
    });
    assert!((7000..8000).contains(&most), "{most}");
}
