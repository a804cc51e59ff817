//! Promises of the runtime.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use trellis_engine_traits::{Error, ErrorKind};

use crate::clock::{Alarm, Clock, SimulatedClock};
use crate::{Runtime, RuntimeOptions, completion};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        std::thread::park();
    }
}

/// Promise: work runs off the caller's thread and its answer or error comes back.
#[test]
fn run_answers() {
    let runtime = Runtime::system();
    let caller = std::thread::current().id();
    let other = block_on(runtime.run(move || Ok(std::thread::current().id() != caller)));
    assert!(other.unwrap());
    let failed =
        block_on(runtime.run(|| Err::<(), _>(Error::new(ErrorKind::Conflict, "a conflict"))));
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Conflict);
}

/// Promise: a panic in one call is an error of that call; the pool goes on.
#[test]
fn panic_is_contained() {
    let runtime = Runtime::new(RuntimeOptions { pool_threads: 1, ..RuntimeOptions::default() });
    let failed = block_on(runtime.run(|| -> Result<(), Error> { panic!("planted") }));
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(block_on(runtime.run(|| Ok(5))).unwrap(), 5);
}

/// Promise: the queue is bounded, and beyond the bound the answer is `Busy`.
#[test]
fn queue_is_bounded() {
    let options = RuntimeOptions { pool_threads: 1, pool_queue_max: 1, ..Default::default() };
    let runtime = Runtime::new(options);
    let (go, gate) = mpsc::channel::<()>();
    let (started, running) = mpsc::channel::<()>();
    runtime
        .dispatch(move || {
            started.send(()).unwrap();
            gate.recv().unwrap();
        })
        .unwrap();
    running.recv().unwrap();
    runtime.dispatch(|| {}).unwrap();
    assert_eq!(runtime.dispatch(|| {}).unwrap_err().kind(), ErrorKind::Busy);
    go.send(()).unwrap();
}

/// Promise: an alarm's deadline follows a clock that is moved by hand.
#[test]
fn alarm_follows_a_simulated_clock() {
    let clock = Arc::new(SimulatedClock::at(0));
    let alarm = Alarm::new(clock.as_ref());
    let (done, finished) = mpsc::channel();
    let waiter = {
        let clock = Arc::clone(&clock);
        std::thread::spawn(move || {
            while clock.now_ms() < 100 {
                alarm.wait(clock.as_ref(), Some(Duration::from_millis(100)));
            }
            done.send(clock.now_ms()).unwrap();
        })
    };
    clock.advance_ms(40);
    assert!(finished.try_recv().is_err());
    clock.advance_ms(60);
    assert_eq!(finished.recv().unwrap(), 100);
    waiter.join().unwrap();
}

/// Promise: a waiter that goes away while the value is sent harms nobody, and every other one gets
/// its value, as a thread and as a future.
#[test]
fn completions_arrive_or_are_dropped() {
    for round in 0..2000_u32 {
        let (sender, receiver) = completion();
        let sending = std::thread::spawn(move || sender.send(round));
        match round % 4 {
            0 => assert_eq!(receiver.wait(), Some(round)),
            1 => assert_eq!(block_on(receiver), Some(round)),
            2 => {
                let mut receiver = receiver;
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                match std::pin::Pin::new(&mut receiver).poll(&mut context) {
                    std::task::Poll::Ready(value) => assert_eq!(value, Some(round)),
                    std::task::Poll::Pending => assert_eq!(receiver.wait(), Some(round)),
                }
            }
            _ => {
                let waker = std::task::Waker::noop();
                let mut receiver = std::pin::pin!(receiver);
                let mut context = std::task::Context::from_waker(waker);
                let _maybe = receiver.as_mut().poll(&mut context);
            }
        }
        sending.join().unwrap();
    }
    let (sender, receiver) = completion::<u32>();
    drop(sender);
    assert_eq!(receiver.wait(), None);
}
