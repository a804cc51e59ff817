//! Clock, randomness, threads, and the only bridge between async callers and blocking engines.
//!
//! Purpose: everything that makes a run differ from the next comes from here, so that a simulated
//! clock and a seed drive the services; and blocking engine calls run here, so that they never
//! stall an async executor, whichever one the host uses.
//!
//! Invariants:
//! 1. No other crate of the product reads a clock, draws randomness or starts a thread.
//! 2. No async runtime is needed: [`Runtime::run`] is a plain future.
//! 3. Work handed to the pool is bounded; beyond the bound the answer is `Busy`.

mod clock;
mod completion;
mod pool;
mod random;

use std::fmt;
use std::sync::Arc;

use trellis_engine_traits::{Error, ErrorKind, Result};

pub use clock::Alarm;
pub use clock::{Clock, SimulatedClock, SystemClock};
pub use completion::{Completion, CompletionSender, completion};
pub use random::{Random, SeededRandom, SystemRandom};

use pool::Pool;

/// How a [`Runtime`] is made.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where randomness comes from.
    pub random: Arc<dyn Random>,
    /// Threads for blocking engine calls of async callers; started at the first call.
    pub pool_threads: usize,
    /// Calls that may wait for a thread; one more is answered with `Busy`.
    pub pool_queue_max: usize,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom::new()),
            pool_threads: cores.clamp(2, 16),
            pool_queue_max: 100_000,
        }
    }
}

/// Clock, randomness, threads and the pool for blocking calls.
///
/// ```
/// use trellis_runtime::Runtime;
///
/// let runtime = Runtime::system();
/// assert!(runtime.clock().now_ms() > 0);
/// ```
pub struct Runtime {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    pool: Pool,
}

impl Runtime {
    /// A runtime of these parts.
    #[must_use]
    pub fn new(options: RuntimeOptions) -> Arc<Self> {
        Arc::new(Self {
            clock: options.clock,
            random: options.random,
            pool: Pool::new(options.pool_threads, options.pool_queue_max),
        })
    }

    /// The real clock, real randomness and a thread a core.
    #[must_use]
    pub fn system() -> Arc<Self> {
        Self::new(RuntimeOptions::default())
    }

    /// Where time comes from.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Where randomness comes from.
    #[must_use]
    pub fn random(&self) -> &Arc<dyn Random> {
        &self.random
    }

    /// Runs blocking work on the pool and waits for it without blocking the executor.
    ///
    /// Dropping the future does not stop work that has begun.
    ///
    /// # Errors
    /// Those of `work`; `Busy` when the pool's queue is full; `Unavailable` when the work panicked
    /// or no thread could be started.
    pub async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        let (answer, receiver) = completion();
        self.pool.submit(Box::new(move || {
            answer.send(work());
        }))?;
        receiver.await.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Unavailable, "the engine call ended without an answer")
                .operation("run"))
        })
    }

    /// Hands work to the pool without waiting; `work` reports by itself.
    ///
    /// # Errors
    /// `Busy` when the queue is full, `Unavailable` when no thread could be started; `work` was
    /// not run then.
    pub fn dispatch(&self, work: impl FnOnce() + Send + 'static) -> Result<()> {
        self.pool.submit(Box::new(work))
    }

    /// Starts a named thread for a service's background work.
    ///
    /// # Errors
    /// `Unavailable` when the system refuses another thread.
    pub fn spawn_worker(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<Worker> {
        pool::spawn(name, work).map(Worker)
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// A background thread of a service.
#[derive(Debug)]
pub struct Worker(std::thread::JoinHandle<()>);

impl Worker {
    /// Waits for its end. A thread that joins itself returns at once.
    pub fn join(self) {
        if self.0.thread().id() != std::thread::current().id() {
            // A panic was already reported by the panic hook; the service sees its effects.
            let _panicked = self.0.join();
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, clippy::panic, reason = "tests start threads and plant panics")]
mod tests;
