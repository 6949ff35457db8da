//! Memory of the process: the allocator, and what happens when the system grants no more (`ulimit -v`, a container's limit).
//!
//! Without memory nothing can be formatted, unwound or flushed, so the process says so and ends at once. Whatever was committed
//! stays, as after a kill.

#![expect(
    unsafe_code,
    reason = "an allocator is an unsafe trait, and the allocator's crate has no safe way to give memory back"
)]

use std::alloc::{GlobalAlloc, Layout};

use mimalloc::MiMalloc;

unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// The allocator keeps freed memory for a second, in which a fast run frees more than it uses: `--memory-limit` is about what
/// a process holds.
pub(crate) fn give_back() {
    // SAFETY: the function is the allocator's, which is linked in; it may be called at any time on any thread.
    unsafe { mi_collect(true) };
}

/// Gives memory, or ends the process with a message.
pub(crate) struct Allocator;

// SAFETY: every call is passed on as it is to an allocator that keeps the contract, and a null pointer never comes back.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        granted(unsafe { MiMalloc.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        granted(unsafe { MiMalloc.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        granted(unsafe { MiMalloc.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(pointer, layout) };
    }
}

fn granted(pointer: *mut u8, size: usize) -> *mut u8 {
    if pointer.is_null() {
        out_of_memory(size);
    }
    pointer
}

/// Writes what happened with nothing but a buffer on the stack, and ends the process with the code for a wrong environment.
#[cold]
fn out_of_memory(size: usize) -> ! {
    #[cfg(unix)]
    {
        use std::{fs::File, io::Write as _, mem::ManuallyDrop, os::fd::FromRawFd as _};

        unsafe extern "C" {
            fn _exit(code: i32) -> !;
        }
        const BEFORE: &[u8] = b"error: the system grants this process no more memory (";
        const AFTER: &[u8] =
            b" bytes were asked for)\nhelp: raise the limit (`ulimit -v`, or the container's), or use less with \
            `--memory-limit` and `--jobs`; what is committed stays, and the next run goes on from there\n";
        let mut digits = [0; 20];
        let mut first = digits.len();
        let mut left = size;
        loop {
            first -= 1;
            digits[first] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        // Not `std::io::stderr`: its lock may be held by a thread that waits for this one.
        // SAFETY: the descriptor is open or its number is refused by the system, and it is never closed here.
        let mut stderr = ManuallyDrop::new(unsafe { File::from_raw_fd(2) });
        for part in [BEFORE, &digits[first..], AFTER] {
            // There is nowhere to say that nothing can be said.
            let _ = stderr.write_all(part);
        }
        // SAFETY: it ends the process and touches none of its memory.
        unsafe { _exit(flow::cli::Exit::Environment.code().into()) }
    }
    #[cfg(not(unix))]
    {
        let _ = size;
        std::process::abort()
    }
}
