//! What a world must not leave behind: open files and threads.
//!
//! Linux only (`/proc`); elsewhere nothing is checked. Threads can be counted only where the
//! process runs a single trial, which nextest says in its environment.

use std::path::Path;
use std::time::{Duration, Instant};

/// The files under `dir` that this process has open.
pub(crate) fn open_files_under(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    entries
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter(|target| target.starts_with(&dir))
        .map(|target| target.display().to_string())
        .collect()
}

/// The number of threads, if this process runs only one trial.
pub(crate) fn threads_of_a_lone_trial() -> Option<usize> {
    let alone =
        std::env::var("NEXTEST_EXECUTION_MODE").is_ok_and(|mode| mode == "process-per-test");
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    alone.then(|| tasks.count())
}

/// Waits until `leftover` answers none, as long as a busy machine may take: the end of a thread
/// that was told to end is not the end of the call that told it.
///
/// # Panics
/// With what is left over after that.
pub(crate) fn must_vanish(what: &str, mut leftover: impl FnMut() -> Vec<String>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let left = leftover();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{what} left behind: {left:?}");
        std::thread::yield_now();
    }
}

/// The names of this process's threads.
pub(crate) fn thread_names() -> Vec<String> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect()
}
