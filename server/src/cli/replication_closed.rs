//! `repl` on a closed database: what its node wrote down of where it stands, and what it is to do
//! when it is open again.
//!
//! Invariant: who only looks writes nothing, not even what is due; whoever writes has the
//! configuration of the node, because what is written without it is not replicated, and everybody
//! would be filled anew for it.

use serde_json::{Value, json};
use trellis::{Config, Runtime, Trellis};
use trellis_topology::{Kept, KeptFeed, LinkState, Topology};

use crate::cli::failure::Failure;
use crate::cli::place::{Database, Place};
use crate::cli::upkeep::{blocking, config_of};
use crate::replication::{
    no_set_aside, no_slot, role, set_asides_json, slot, state_word, zones_json,
};

/// What is kept, of a database that is there.
pub(super) async fn look<T: Send + 'static>(
    place: &Place,
    read: impl FnOnce(&Kept, Option<&Topology>) -> trellis::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let config = config_of(&place.database)?;
    let looked = blocking(move || {
        let db = Trellis::open_existing_paused(config)?;
        let found = read(&Kept::new(db.tree().clone()), db.topology());
        db.close().and(found)
    });
    Ok(looked.await?)
}

/// Changes what is kept.
async fn act<T: Send + 'static>(
    database: &Database,
    write: impl FnOnce(&Kept, &Topology) -> trellis::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let config: Config = config_of(database)?;
    if config.replication.is_none() {
        return Err(Failure::Usage(
            "name the node's configuration with --config: what is written without its \
             `replication` is not replicated, and all who follow this node would be filled anew"
                .to_owned(),
        ));
    }
    let acted = blocking(move || {
        let db = Trellis::open_existing(config)?;
        let done = match db.topology() {
            Some(topology) => write(&Kept::new(db.tree().clone()), topology),
            None => Err(trellis::Error::new(
                trellis::ErrorKind::Unsupported,
                "this database is no node",
            )),
        };
        db.close().and(done)
    });
    Ok(acted.await?)
}

/// The status of a closed database; `closed` is true in it.
pub(super) async fn status(place: &Place) -> Result<Value, Failure> {
    let config = config_of(&place.database)?;
    let name = config.replication.and_then(|replication| replication.name);
    let now_ms = Runtime::system().clock().now_ms();
    look(place, move |kept, topology| {
        let slots = kept.slots(now_ms)?;
        let zones = topology.map(Topology::zone_status);
        let feeds = kept.feeds()?;
        Ok(json!({
            "closed": true,
            "node": kept.node(),
            "name": name,
            "role": zones.as_deref().map(role),
            "head": kept.head(),
            "zones": zones.as_deref().map_or_else(|| json!([]), zones_json),
            "links": links(topology, &feeds),
            "slots": slots.iter().map(slot).collect::<Vec<_>>(),
            "setAsides": kept.set_aside_count()?,
        }))
    })
    .await
}

/// The links that the node makes, and feeds of links that it makes no more.
fn links(topology: Option<&Topology>, feeds: &[KeptFeed]) -> Vec<Value> {
    let kept = |name: &str| feeds.iter().find(|feed| feed.feed == name);
    let dials = topology.map_or(&[][..], Topology::dials);
    let made = dials.iter().map(|dial| {
        let feed = dial.feed().and_then(kept);
        link(&dial.id, Some(&dial.url), feed, dial.feed().is_some())
    });
    let is_made = |name: &str| dials.iter().any(|dial| dial.feed() == Some(name));
    let others = feeds.iter().filter(|feed| !is_made(&feed.feed));
    made.chain(others.map(|feed| link(&feed.feed, None, Some(feed), true))).collect()
}

fn link(id: &str, url: Option<&str>, feed: Option<&KeptFeed>, follows: bool) -> Value {
    let position = feed.and_then(|feed| feed.position.as_ref());
    let pull = follows.then(|| {
        json!({
            "position": position.map(|position| position.at.rev),
            "source": position.map(|position| format!("{:032x}", position.at.log_id)),
            "filling": position.is_some_and(|position| position.fill.is_some()),
        })
    });
    json!({
        "id": id,
        "address": url,
        "dialed": true,
        "state": state_word(LinkState::Ended),
        "resync": feed.is_some_and(|feed| feed.resync),
        "pull": pull,
    })
}

/// What was set aside.
pub(super) async fn set_asides(place: &Place) -> Result<Value, Failure> {
    look(place, |kept, _| Ok(set_asides_json(&kept.set_asides()?))).await
}

/// Removes what was set aside.
pub(super) async fn drop_set_aside(place: &Place, name: &str) -> Result<(), Failure> {
    let name = name.to_owned();
    act(&place.database, move |kept, _| match kept.drop_set_aside(&name)? {
        true => Ok(()),
        false => Err(no_set_aside(&name)),
    })
    .await
}

/// Forgets a follower.
pub(super) async fn drop_slot(place: &Place, consumer: &str) -> Result<(), Failure> {
    let consumer = consumer.to_owned();
    act(&place.database, move |kept, _| match kept.drop_slot(&consumer)? {
        true => Ok(()),
        false => Err(no_slot(&consumer)),
    })
    .await
}

/// Has what is followed over a link filled anew at the next connection.
pub(super) async fn resync(place: &Place, link: &str) -> Result<(), Failure> {
    let link = link.to_owned();
    act(&place.database, move |kept, topology| kept.ask_resync(topology.feed_of(&link)?)).await
}
