//! Futures polled by a thread that sleeps on an alarm: all the executor that a node needs.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use trellis_runtime::{Alarm, Clock};

/// A future of a link or a replicator.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

struct Rouser(Arc<Alarm>);

impl Wake for Rouser {
    fn wake(self: Arc<Self>) {
        self.0.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.ring();
    }
}

/// A waker that rings an alarm.
pub(crate) fn waker(alarm: &Arc<Alarm>) -> Waker {
    Waker::from(Arc::new(Rouser(Arc::clone(alarm))))
}

/// Waits for a future, until `stop` says so or a deadline comes.
pub(crate) fn wait<T>(
    future: &mut Boxed<'_, T>,
    alarm: &Arc<Alarm>,
    clock: &dyn Clock,
    deadline: Option<Duration>,
    stop: &dyn Fn() -> bool,
) -> Option<T> {
    let waker = waker(alarm);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(value);
        }
        if stop() || deadline.is_some_and(|deadline| clock.monotonic() >= deadline) {
            return None;
        }
        alarm.wait(clock, deadline);
    }
}

/// When waiting for a peer ends that may take nothing: now, on a clock that is moved by hand, since
/// nobody may move it any more.
pub(crate) fn deadline_in(clock: &dyn Clock, wait: Duration) -> Duration {
    let now = clock.monotonic();
    if clock.runs() { now.saturating_add(wait) } else { now }
}
