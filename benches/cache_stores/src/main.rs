//! The embedding cache compared with key-value stores from crates.io, on its own workload: put responses of 500 vectors,
//! look up 500 keys at once, survive `kill -9`, and share a folder between processes.
//!
//! ```text
//! cargo run --release --manifest-path benches/cache_stores/Cargo.toml -- all --entries 10000000 --dir /tmp/stores
//! ```
//!
//! Every store gets the least durability that survives `kill -9`: a put that returned is with the operating system, and is
//! synced to the disk at the end. Each step is a process of its own, so that its memory and CPU time are its own.

mod stores;

use std::{
    env, fs,
    io::{self, BufRead as _},
    path::{Path, PathBuf},
    process::{Command, Stdio, exit},
    thread,
    time::{Duration, Instant},
};

use flow::model::Fingerprint;
use stores::{DIMENSIONS, STORES, Store};

/// Vectors of one response.
const BATCH: usize = 500;
/// How long a writer runs before it is killed, in three attempts.
const KILL_AFTER: [Duration; 3] =
    [Duration::from_millis(900), Duration::from_millis(1700), Duration::from_millis(2600)];

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let option = |name: &str, default: &str| {
        let at = words.iter().position(|word| word == name);
        at.and_then(|at| words.get(at + 1)).map_or_else(|| default.to_owned(), Clone::clone)
    };
    let number = |name: &str, default: &str| option(name, default).parse::<usize>().expect("a number");
    let entries = number("--entries", "1000000");
    let dir = PathBuf::from(option("--dir", "/tmp/cache-stores"));
    let store = || open(words.get(1).map_or("", String::as_str), &dir);
    match words.first().map(String::as_str) {
        Some("all") => all(entries, &dir, &option("--stores", "flow,lmdb,redb,fjall")),
        Some("put") => put(&*store(), entries, number("--first", "0")),
        Some("open") => measure(|| drop(store())),
        Some("get") => get(&*store(), entries, |batch, at, _| batch * BATCH + at),
        Some("get-spread") => get(&*store(), entries, |batch, at, batches| at * batches + batch),
        Some("check") => check(&*store(), entries),
        _ => {
            eprintln!("usage: all|put STORE|open STORE|get STORE|get-spread STORE|check STORE [--entries N] [--dir DIR]");
            exit(2);
        }
    }
}

fn open(name: &str, dir: &Path) -> Box<dyn Store> {
    let store = STORES.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("unknown store `{name}`"));
    (store.1)(&dir.join(name)).unwrap_or_else(|error| {
        eprintln!("cannot open: {error}");
        exit(1);
    })
}

fn key(number: usize) -> Fingerprint {
    Fingerprint::of(number.to_le_bytes())
}

fn vector(number: usize) -> Vec<f32> {
    (0..DIMENSIONS).map(|at| (number * DIMENSIONS + at) as f32).collect()
}

/// Puts `entries` vectors from `first` on, and prints the end of each batch after the store has accepted it.
fn put(store: &dyn Store, entries: usize, first: usize) {
    measure(|| {
        for from in (first..first + entries).step_by(BATCH) {
            let numbers = from..(from + BATCH).min(first + entries);
            let batch: Vec<_> = numbers.clone().map(|number| (key(number), vector(number))).collect();
            store.put(&batch);
            println!("{}", numbers.end);
        }
        store.flush();
    });
}

/// Looks up every entry once, in batches: `number` is the entry of a batch and a position in it, given the number of
/// batches. In the order of the puts, as a run that is repeated, or spread over the whole store.
fn get(store: &dyn Store, entries: usize, number: impl Fn(usize, usize, usize) -> usize) {
    let batches = entries / BATCH;
    let mut found = 0;
    measure(|| {
        for batch in 0..batches {
            let numbers: Vec<usize> = (0..BATCH).map(|at| number(batch, at, batches)).collect();
            let keys: Vec<_> = numbers.iter().map(|number| key(*number)).collect();
            store.get(&keys, &mut |at, values| {
                assert_eq!(values[0], (numbers[at] * DIMENSIONS) as f32, "the vector of another key");
                found += 1;
            });
        }
    });
    assert_eq!(found, batches * BATCH, "entries are missing");
}

/// Prints how many of the first `entries` are stored, and how many of those are wrong.
fn check(store: &dyn Store, entries: usize) {
    let (mut found, mut wrong) = (0, 0);
    for first in (0..entries).step_by(BATCH) {
        let keys: Vec<_> = (first..(first + BATCH).min(entries)).map(key).collect();
        store.get(&keys, &mut |at, values| {
            found += 1;
            wrong += usize::from(values != vector(first + at));
        });
    }
    println!("{found} {wrong}");
}

/// Runs `work`, and prints its time, the CPU time and the peak memory of the process.
fn measure(work: impl FnOnce()) {
    let begin = Instant::now();
    work();
    let seconds = begin.elapsed().as_secs_f64();
    eprintln!("{seconds:.2} s, {:.1} s CPU, {} MB", cpu_seconds(), resident_mb());
}

/// CPU time of this process, user and system.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The peak resident set of this process, mapped files included.
fn resident_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or_default() / 1024
}

/// All stores, each step in a process of its own; a table on stdout.
fn all(entries: usize, dir: &Path, names: &str) {
    println!("| store | put {entries} | open | get in order | get spread | disk | 3 × kill -9 | two processes |");
    println!("|---|---|---|---|---|---:|---|---|");
    for name in names.split(',') {
        let folder = dir.join(name);
        let clear = || drop(fs::remove_dir_all(&folder));
        clear();
        let put = run(&folder, "put", entries).message;
        let open = run(&folder, "open", entries).message;
        let get = run(&folder, "get", entries).message;
        let spread = run(&folder, "get-spread", entries).message;
        let disk = size(&folder) / 1_000_000;
        clear();
        let killed: Vec<String> = KILL_AFTER
            .iter()
            .map(|after| {
                let result = killed(&folder, *after);
                clear();
                result
            })
            .collect();
        let both = two_at_once(&folder, entries / 10);
        clear();
        println!("| {name} | {put} | {open} | {get} | {spread} | {disk} MB | {} | {both} |", killed.join("; "));
    }
}

struct Ended {
    ok: bool,
    /// The last line on stderr.
    message: String,
    stdout: String,
}

fn command(folder: &Path, step: &str, entries: usize) -> Command {
    let mut command = Command::new(env::current_exe().expect("the path of this program"));
    let name = folder.file_name().expect("a store's folder");
    command.arg(step).arg(name).args(["--entries", &entries.to_string()]).arg("--dir").arg(folder.with_file_name(""));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(folder: &Path, step: &str, entries: usize) -> Ended {
    let output = command(folder, step, entries).output().expect("this program starts");
    let message = String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or_default().to_owned();
    let stdout = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ended { ok: output.status.success(), message, stdout }
}

/// Kills a writer, reopens the store, and compares it with what the writer had been promised.
fn killed(folder: &Path, after: Duration) -> String {
    let mut child = command(folder, "put", 100_000_000).spawn().expect("this program starts");
    let lines = io::BufReader::new(child.stdout.take().expect("piped")).lines();
    let reader = thread::spawn(move || lines.map_while(Result::ok).filter_map(|line| line.parse().ok()).last());
    thread::sleep(after);
    child.kill().expect("a child of ours");
    let _ = child.wait();
    let promised: usize = reader.join().ok().flatten().unwrap_or_default();
    let begin = Instant::now();
    let check = run(folder, "check", promised);
    match check.stdout.split_once(' ').filter(|_| check.ok) {
        Some((found, wrong)) => {
            let lost = promised - found.parse::<usize>().expect("a number");
            format!("{lost} of {promised} lost, {wrong} wrong ({:.1} s)", begin.elapsed().as_secs_f64())
        }
        None => check.message,
    }
}

/// Two writers at once, each with half of the entries.
fn two_at_once(folder: &Path, each: usize) -> String {
    let begin = Instant::now();
    let writers = [0, each].map(|first| {
        let mut command = command(folder, "put", each);
        let mut child = command.args(["--first", &first.to_string()]).spawn().expect("this program starts");
        let mut out = child.stdout.take().expect("piped");
        let drain = thread::spawn(move || io::copy(&mut out, &mut io::sink()));
        (child, drain)
    });
    let ended = writers.map(|(child, drain)| {
        let output = child.wait_with_output().expect("a child of ours");
        let _ = drain.join();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or_default().to_owned(),
        )
    });
    let seconds = begin.elapsed().as_secs_f64();
    match ended.iter().find(|(ok, _)| !ok) {
        Some((_, message)) => format!("one fails: {message}"),
        None => {
            let check = run(folder, "check", 2 * each);
            let (found, wrong) = check.stdout.split_once(' ').unwrap_or_default();
            format!("{found} of {} stored, {wrong} wrong ({seconds:.1} s)", 2 * each)
        }
    }
}

fn size(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| size(&entry.path())).sum(),
        // Allocated bytes: LMDB's and redb's files may be sparse.
        Err(_) => fs::metadata(path).map(|metadata| metadata.blocks() * 512).unwrap_or_default(),
    }
}
