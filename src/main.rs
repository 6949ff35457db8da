//! The binary `flow`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// The allocator keeps freed memory for a second, in which a fast run frees more than it uses: `--memory-limit` is about what
/// a process holds.
fn give_back() {
    // SAFETY: the function is the allocator's, which is linked in; it may be called at any time on any thread.
    unsafe { mi_collect(true) };
}

fn main() -> ExitCode {
    flow::cli::main(give_back)
}
