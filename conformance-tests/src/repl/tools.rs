//! What the cases share: an executor of three lines, pairs of links, messages.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trellis_engine_traits::{LinkMessage, PeerAddress, PeerLink, Replicator};

use super::{Host, Net, NetWorld};
use crate::Rng;

thread_local! {
    /// How long anything may take that must happen.
    static PATIENCE: Cell<Duration> = const { Cell::new(Duration::from_secs(30)) };
}

/// Runs something on this thread with another patience: what must fail by hanging need not hang
/// for long.
pub(crate) fn with_patience(patience: Duration, action: impl FnOnce()) {
    let before = PATIENCE.replace(patience);
    action();
    PATIENCE.set(before);
}

/// How long nothing may happen before it is taken for waiting.
pub(super) const PAUSE: Duration = Duration::from_millis(300);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls until it is ready, or for so long: no runtime of anybody's is needed.
pub(crate) fn poll_for<F: Future + ?Sized>(
    mut future: Pin<&mut F>,
    patience: Duration,
) -> Option<F::Output> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let deadline = Instant::now() + patience;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        std::thread::park_timeout(left);
    }
}

/// How patient this thread is.
pub(super) fn patience() -> Duration {
    PATIENCE.get()
}

/// Waits for what must happen.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    poll_for(pin!(future), PATIENCE.get()).expect("this must happen, and did not for long")
}

/// Polls a future once, and drops it.
pub(super) fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    poll_for(pin!(future), Duration::ZERO)
}

/// A message that may be compressed.
pub(super) fn squeezed(body: impl Into<Bytes>) -> LinkMessage {
    LinkMessage { body: body.into(), compress: true }
}

/// A message as it is.
pub(super) fn plain(body: impl Into<Bytes>) -> LinkMessage {
    LinkMessage { body: body.into(), compress: false }
}

/// Bytes that begin with a number: noise, or the same over and over.
pub(super) fn numbered(rng: &mut Rng, number: u32, len: usize) -> Bytes {
    let mut body = if rng.one_in(2) { rng.bytes(len) } else { vec![b'x'; len] };
    body.splice(..len.min(4), number.to_le_bytes());
    body.into()
}

/// The number that a body begins with.
pub(super) fn number(body: &Bytes) -> u32 {
    let head = body.first_chunk::<4>().expect("a numbered body");
    u32::from_le_bytes(*head)
}

/// Where a host is, without a token.
pub(super) fn address(host: &Host) -> PeerAddress {
    PeerAddress { url: host.url.clone(), token: None }
}

/// A link, from both its sides.
pub(super) struct Pair {
    pub(super) dialed: Arc<dyn PeerLink>,
    pub(super) accepted: Arc<dyn PeerLink>,
    pub(super) guest: Arc<dyn Replicator>,
    pub(super) host: Host,
    pub(super) net: Arc<dyn Net>,
}

/// One link between two nodes.
pub(super) fn pair(world: &NetWorld) -> Pair {
    let net = world.engine();
    let host = net.host("host", &[]).expect("a host");
    let guest = net.guest("guest").expect("a guest");
    let (dialed, accepted) = link(&*guest, &host);
    Pair { dialed, accepted, guest, host, net }
}

/// One more link.
pub(crate) fn link(guest: &dyn Replicator, host: &Host) -> (Arc<dyn PeerLink>, Arc<dyn PeerLink>) {
    let dialed = wait(guest.connect(&address(host))).expect("the host takes it");
    let accepted = wait(host.replicator.accept()).expect("the link that was dialed");
    (dialed.into(), accepted.into())
}

/// The next message, which must come.
pub(super) fn receive(link: &dyn PeerLink) -> Bytes {
    wait(link.next()).expect("the link stands").expect("there is a message")
}

/// Sends what must go.
pub(super) fn send(link: &dyn PeerLink, message: LinkMessage) {
    wait(link.send(message)).expect("the link takes it");
}

/// Gives messages of 64 KiB until one has to wait; answers how many were taken.
///
/// # Panics
/// When more is taken than anything between two nodes may hold.
pub(super) fn fill(link: &dyn PeerLink) -> u32 {
    // The link's own bounds on both sides, and what the kernel's sockets hold.
    const HELD_MAX: u32 = (48 << 20) / (64 << 10);
    let mut rng = crate::Seed(7).rng();
    for taken in 0..HELD_MAX {
        let mut body = rng.bytes(64 << 10);
        body.splice(..4, taken.to_le_bytes());
        let mut sending = pin!(link.send(plain(body)));
        match poll_for(sending.as_mut(), PAUSE) {
            Some(outcome) => outcome.expect("the link stands"),
            None => return taken,
        }
    }
    panic!("{HELD_MAX} messages of 64 KiB were taken while the peer took none");
}
