//! Panics of libraries that decode damaged files, as errors.
//!
//! A decoder that meets bytes which no writer makes may panic. That is no bug of the caller: the file is to blame, and the
//! error names it.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
};

thread_local! {
    static CAUGHT_HERE: Cell<bool> = const { Cell::new(false) };
}

/// What `work` returns, or the message of its panic. What `work` changed is not to be used after that.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = CAUGHT_HERE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CAUGHT_HERE.set(before);
    result.map_err(|panic| panic_text(&*panic))
}

/// The message of a panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic without a message").to_owned()
}

/// Keeps panics that become errors off the terminal; all others are printed as before.
pub fn print_only_uncaught_panics() {
    let print = take_hook();
    set_hook(Box::new(move |panic| {
        if !CAUGHT_HERE.get() {
            print(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_returned_as_its_message() {
        assert_eq!(caught(|| 1), Ok(1));
        assert_eq!(caught(|| panic!("out of range: {}", 5)), Err::<(), _>("out of range: 5".to_owned()));
    }
}
