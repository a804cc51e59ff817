//! The thread that takes links which peers make, and the threads of those.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use trellis_engine_traits::{ErrorKind, LinkMessage, PeerLink, Result};
use trellis_runtime::Alarm;

use crate::backoff::Ended;
use crate::message::{Message, Refusal};
use crate::node_dial::guarded;
use crate::node_gate::Mailbox;
use crate::node_poll::{self, Boxed};
use crate::node_shared::{Accepted, Entrance, LinkEntry, Shared, identity, too_many};
use crate::parts;
use crate::session::{Role, Session};

/// Links besides [`NodeOptions::links_max`](crate::NodeOptions) whose peers have not said who they
/// are, or are on their way out. They end by themselves within seconds.
pub const GREETING_LINKS: usize = 32;
/// How long a peer that is turned away may take to hear why.
const REFUSAL_WAIT: Duration = Duration::from_millis(500);
/// Time between attempts when no link can be taken.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Until the node closes, or nobody can dial.
pub(crate) fn run(shared: &Arc<Shared>) {
    let alarm = Alarm::new(shared.runtime.clock().as_ref());
    shared.watch(&alarm);
    let mut last_error = String::new();
    while !shared.is_closing() {
        let mut accepting: Boxed<'_, Result<Box<dyn PeerLink>>> = shared.replicator.accept();
        let clock = shared.runtime.clock().as_ref();
        let stop = || shared.is_closing();
        let accepted = node_poll::wait(&mut accepting, &alarm, clock, None, &stop);
        drop(accepting);
        match accepted {
            None => return,
            Some(Ok(link)) => {
                take(shared, link, &alarm);
            }
            Some(Err(error)) => match error.kind() {
                ErrorKind::Unsupported | ErrorKind::Closed => return,
                _ => {
                    let text = error.to_string();
                    if text != last_error {
                        tracing::warn!(%error, "no link can be taken; trying again");
                        last_error = text;
                    }
                    shared.pause(&alarm, RETRY_AFTER);
                }
            },
        }
    }
}

/// Gives a link its thread, or turns it away.
fn take(shared: &Arc<Shared>, link: Box<dyn PeerLink>, alarm: &Arc<Alarm>) {
    let number = shared.next_link.fetch_add(1, Ordering::Relaxed);
    let peer = link.peer().clone();
    let id = peer.name.clone().unwrap_or_else(|| peer.address.clone());
    let links_max = shared.options.links_max;
    // Held until the thread is entered: it takes itself out at its end.
    let mut accepted = shared.accepted.lock();
    // Who comes in is counted when it has said who it is: it may take the place of its own link.
    if accepted.len() >= links_max.saturating_add(GREETING_LINKS) {
        drop(accepted);
        tracing::warn!(peer = %id, links_max, "a link is turned away: too many are open");
        return turn_away(shared, link.as_ref(), too_many(links_max), alarm);
    }
    let clock = shared.runtime.clock().as_ref();
    let mail = Mailbox::new(clock, shared.options.session.forwards_max);
    shared.watch(&mail.alarm);
    let entry = LinkEntry::new(id, &peer.address, false, mail);
    entry.state.lock().attempts = 1;
    let owned = (Arc::clone(shared), Arc::clone(&entry));
    let work = move || {
        let (shared, entry) = owned;
        serve(&shared, &entry, link.as_ref(), number);
        drop(link);
        shared.guest_left(number);
        // With the links locked: what it counted is told once at any time.
        let mut accepted = shared.accepted.lock();
        let mut ended = shared.ended.lock();
        ended.0 += 1;
        ended.1.add_counts(&entry.state.lock().session);
        drop((accepted.remove(&number), ended));
    };
    match shared.runtime.spawn_worker("link", work) {
        Ok(worker) => {
            accepted.insert(number, Accepted { entry, worker: Some(worker) });
        }
        Err(error) => tracing::warn!(%error, "a link is turned away: no thread for it"),
    }
}

fn serve(shared: &Arc<Shared>, entry: &Arc<LinkEntry>, link: &dyn PeerLink, number: u64) {
    let policy =
        Arc::new(Entrance { shared: Arc::clone(shared), number, entry: Arc::clone(entry) });
    let peer = identity(link.peer(), &entry.address);
    let session = Session::new(Role::Acceptor(policy), shared.session_config(peer, 0));
    let outcome = guarded(shared, entry, link, session);
    if !shared.is_closing() {
        let (peer, error) = (&entry.id, outcome.error);
        match outcome.ended {
            Ended::Refused => tracing::warn!(%peer, %error, "a peer is refused"),
            Ended::Away => tracing::info!(%peer, %error, "a peer's link ended"),
        }
    }
}

/// Tells a peer that there is no room, and ends its link.
fn turn_away(shared: &Shared, link: &dyn PeerLink, refusal: Refusal, alarm: &Arc<Alarm>) {
    let clock = shared.runtime.clock().as_ref();
    let options = &shared.options.session;
    let refusal = Message::Refuse(refusal);
    let frames = parts::encode(&refusal, options.part_bytes, options.message_bytes_max);
    let stop = || shared.is_closing();
    let deadline = node_poll::deadline_in(clock, REFUSAL_WAIT);
    for body in frames.unwrap_or_default() {
        let mut sending: Boxed<'_, Result<()>> = link.send(LinkMessage { body, compress: false });
        let _said = node_poll::wait(&mut sending, alarm, clock, Some(deadline), &stop);
    }
    let mut closing: Boxed<'_, Result<()>> = link.close("busy: too many links are open");
    let _said = node_poll::wait(&mut closing, alarm, clock, Some(deadline), &stop);
}
