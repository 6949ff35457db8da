//! How much memory processes hold, as Linux tells it. Other systems do not say.

use std::{collections::HashSet, fs};

/// Processes of one family that are looked at.
const MOST: usize = 4096;

/// Bytes that a process and all that it started hold. Files that are mapped do not count: their memory is free to be taken. `None`
/// where the system does not say, or the process is gone.
pub fn memory_of(process: u32) -> Option<u64> {
    let family = family(process);
    match family.as_slice() {
        [] => None,
        [one] => of_status(&fs::read_to_string(format!("/proc/{one}/status")).ok()?),
        // What was there before a fork is shared.
        several => Some(several.iter().filter_map(|one| proportional(*one)).sum()),
    }
}

/// Bytes that this process holds, without those that it started.
pub fn own_memory() -> Option<u64> {
    of_status(&fs::read_to_string("/proc/self/status").ok()?)
}

/// A process and its descendants.
fn family(process: u32) -> Vec<u32> {
    let (mut found, mut seen, mut todo) = (Vec::new(), HashSet::new(), vec![process]);
    while let Some(one) = todo.pop() {
        if found.len() == MOST || !seen.insert(one) {
            continue;
        }
        let Ok(threads) = fs::read_dir(format!("/proc/{one}/task")) else { continue };
        found.push(one);
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            todo.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    found
}

/// The part of shared memory that is a process's own.
fn proportional(process: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    sum(&rollup, &["Pss_Anon:", "Pss_Shmem:"])
        .or_else(|| sum(&rollup, &["Pss:"]))
        .or_else(|| of_status(&fs::read_to_string(format!("/proc/{process}/status")).ok()?))
}

fn of_status(status: &str) -> Option<u64> {
    sum(status, &["RssAnon:", "RssShmem:"])
}

/// The sum of the lines with these names; `None` if there is none of them.
fn sum(text: &str, names: &[&str]) -> Option<u64> {
    let value = |line: &str| {
        let rest = names.iter().find_map(|name| line.strip_prefix(name))?;
        Some(rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
    };
    let mut found = text.lines().filter_map(value).peekable();
    found.peek().is_some().then(|| found.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mapped_from_files_does_not_count() {
        let status =
            "Name:\tpython3\nVmRSS:\t  900 kB\nRssAnon:\t     100 kB\nRssFile:\t     700 kB\nRssShmem:\t     2 kB\n";
        assert_eq!(of_status(status), Some(102 << 10));
        assert_eq!(of_status("Name:\tzombie\nState:\tZ\n"), None);
        assert_eq!(
            sum("Pss:  5 kB\nPss_Anon: 3 kB\nPss_File: 1 kB\nPss_Shmem: 1 kB\n", &["Pss_Anon:", "Pss_Shmem:"]),
            Some(4 << 10)
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_family_holds_at_least_what_this_process_allocates() {
        let before = memory_of(std::process::id()).expect("this process is there");
        let held = vec![7_u8; 64 << 20];
        let after = memory_of(std::process::id()).expect("this process is there");
        assert!(after >= before + (32 << 20) || held[1] != 7, "{before} {after}");
        assert!(own_memory().is_some_and(|own| own > 64 << 20));
        assert_eq!(memory_of(u32::MAX), None);
    }
}
