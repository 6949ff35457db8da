//! The binary `flow`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(unsafe_code, reason = "the allocator's crate has no safe way to say it")]
unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// The allocator keeps freed memory for a second, in which a fast run frees more than it uses: `--memory-limit` is about what
/// a process holds.
#[expect(unsafe_code, reason = "as above")]
fn give_back() {
    // SAFETY: the function is the allocator's, which is linked in; it may be called at any time on any thread.
    unsafe { mi_collect(true) };
}

fn main() -> ExitCode {
    flow::cli::main(give_back)
}
