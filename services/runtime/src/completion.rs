//! One value from one thread to one waiter, who is a thread or a future.
//!
//! Plain: a lock and a bell. The lock-free channel that stood here before (oneshot 0.2.1) frees its
//! memory too early when a polled receiver is dropped while the sender sends.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::{Condvar, Mutex};

/// A sender and the receiver of its one value.
///
/// ```
/// let (sender, receiver) = trellis_runtime::completion::<u8>();
/// sender.send(5);
/// assert_eq!(receiver.wait(), Some(5));
/// ```
#[must_use]
pub fn completion<T>() -> (CompletionSender<T>, Completion<T>) {
    let state = State { value: None, sender_gone: false, waker: None };
    let shared = Arc::new(Shared { state: Mutex::new(state), bell: Condvar::new() });
    (CompletionSender(Some(Arc::clone(&shared))), Completion(shared))
}

struct Shared<T> {
    state: Mutex<State<T>>,
    bell: Condvar,
}

struct State<T> {
    value: Option<T>,
    sender_gone: bool,
    waker: Option<Waker>,
}

/// Sends the value; dropped without it, the waiter gets `None`.
pub struct CompletionSender<T>(Option<Arc<Shared<T>>>);

impl<T> CompletionSender<T> {
    /// Hands the value over. That nobody waits any more is no error.
    pub fn send(mut self, value: T) {
        self.finish(Some(value));
    }

    fn finish(&mut self, value: Option<T>) {
        let Some(shared) = self.0.take() else { return };
        let waker = {
            let mut state = shared.state.lock();
            state.value = value;
            state.sender_gone = true;
            state.waker.take()
        };
        match waker {
            Some(waker) => waker.wake(),
            None => drop(shared.bell.notify_one()),
        }
    }
}

impl<T> Drop for CompletionSender<T> {
    fn drop(&mut self) {
        self.finish(None);
    }
}

impl<T> fmt::Debug for CompletionSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CompletionSender")
    }
}

/// Waits for the value: as a future, or by blocking the thread. `None` when the sender went away.
pub struct Completion<T>(Arc<Shared<T>>);

impl<T> Completion<T> {
    /// Blocks until the value is there or never will be.
    #[must_use]
    pub fn wait(self) -> Option<T> {
        let mut state = self.0.state.lock();
        // Whoever was polled before would have its waker called, and not the bell.
        state.waker = None;
        while !state.sender_gone {
            self.0.bell.wait(&mut state);
        }
        state.value.take()
    }
}

impl<T> Future for Completion<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.0.state.lock();
        if state.sender_gone {
            return Poll::Ready(state.value.take());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => state.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl<T> fmt::Debug for Completion<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Completion")
    }
}
