//! Threads for blocking engine calls of async callers.
//!
//! One queue, a fixed number of threads. A thread takes several calls at a time, so that under load
//! a call costs no wake-up.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use trellis_engine_traits::{Error, ErrorKind, Result};

type Job = Box<dyn FnOnce() + Send>;

/// Starts a named thread.
#[allow(clippy::disallowed_methods, reason = "this is the place that starts threads")]
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("trellis-{name}")).spawn(work).map_err(|source| {
        Error::new(ErrorKind::Unavailable, "the system refuses another thread")
            .operation("spawn")
            .source(source)
    })
}

pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads_max: usize,
    queue_max: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Pool {
    pub(crate) fn new(threads_max: usize, queue_max: usize) -> Self {
        Self { shared: Arc::default(), threads_max: threads_max.max(1), queue_max }
    }

    pub(crate) fn submit(&self, job: Job) -> Result<()> {
        let mut state = self.shared.state.lock();
        if state.queue.len() >= self.queue_max {
            return Err(Error::new(
                ErrorKind::Busy,
                "too many engine calls are waiting; try later",
            )
            .operation("run")
            .context("pool_queue_max", self.queue_max));
        }
        if state.queue.len() >= state.idle && state.threads < self.threads_max {
            let shared = Arc::clone(&self.shared);
            match spawn("engine", move || shared.work()) {
                Ok(_detached) => state.threads += 1,
                Err(error) if state.threads == 0 => return Err(error),
                // Fewer threads than wanted still do the work.
                Err(_) => {}
            }
        }
        state.queue.push_back(job);
        let wake = state.idle > 0;
        drop(state);
        if wake {
            self.shared.work.notify_one();
        }
        Ok(())
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                // A panic is a defect of one call; its caller sees the answer's channel close.
                let _panicked = catch_unwind(AssertUnwindSafe(job));
                state = self.state.lock();
            } else if state.closed {
                state.threads -= 1;
                return;
            } else {
                state.idle += 1;
                self.work.wait(&mut state);
                state.idle -= 1;
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.work.notify_all();
    }
}
