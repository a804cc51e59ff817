//! What a node keeps for an operator: wishes to fill anew, and what was set aside.

use serde_json::json;
use trellis_engine_traits::ErrorKind;
use trellis_repl_loopback::LoopbackHub;
use trellis_topology::{Kept, Mode, OpenMode};

use crate::site::{Disks, Site, central, edge, options};

/// Promise: what was asked for while the link was down is in the status, outlives the process, and
/// happens once.
#[test]
fn what_is_to_be_filled_anew_is_remembered_until_the_link_is_up() {
    let hub = LoopbackHub::new();
    let center = Site::new(&hub, "central", central());
    let edge = Site::new(&hub, "edge", edge(&[("users", Mode::Replica), ("own", Mode::Primary)]));
    center.set("users/u1", json!(1)).unwrap();
    edge.until_holds("users/u1", &json!(1));
    edge.until_up();
    center.node.close();
    edge.until("the link is down", || edge.node.verify(None).is_err());
    assert!(!edge.node.resync("upstream").unwrap(), "it is down");
    assert!(!edge.node.resync("upstream").unwrap(), "twice is once");
    assert_eq!(edge.node.resync("elsewhere").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(edge.node.status().unwrap().resyncs, ["upstream"]);
    edge.node.close();
    edge.tree.flush().unwrap();
    let edge = edge.again(&hub);
    assert_eq!(edge.node.status().unwrap().resyncs, ["upstream"], "also after a restart");
    let center = center.again(&hub);
    edge.until_up();
    let opened = |edge: &Site| edge.link("upstream").session.pull.unwrap().opened;
    assert_eq!(opened(&edge), Some(OpenMode::Snapshot));
    assert!(edge.node.status().unwrap().resyncs.is_empty());
    center.set("users/u2", json!(2)).unwrap();
    edge.until_holds("users/u2", &json!(2));
    let edge = edge.again(&hub);
    edge.until_up();
    assert_eq!(opened(&edge), Some(OpenMode::Tail), "it happened once");
    assert_eq!(edge.node.status().unwrap().set_asides, 0);
}

/// Promise: what two sources took the place of is kept apart, and goes by its name alone.
#[test]
fn what_is_set_aside_is_named_by_its_source_and_removed_by_its_name() {
    let rules = edge(&[("users", Mode::Replica)]);
    let mut disks = Disks::default();
    for number in 0..2 {
        let hub = LoopbackHub::new();
        // Written before anything is followed, and in the way of each of two hubs alike.
        let before = Site::on(&hub, options("edge"), edge(&[("own", Mode::Primary)]), disks);
        before.set("users/mine", json!(number)).unwrap();
        before.node.close();
        before.tree.close().unwrap();
        let center = Site::new(&hub, "central", central());
        let edge = Site::on(&hub, options("edge"), rules.clone(), before.disks);
        edge.until_up();
        assert_eq!(edge.get("users"), center.get("users"));
        assert_eq!(edge.node.status().unwrap().set_asides, number + 1);
        edge.node.close();
        edge.tree.close().unwrap();
        disks = edge.disks;
    }
    let hub = LoopbackHub::new();
    let edge = Site::on(&hub, options("edge"), rules, disks);
    let asides = edge.node.set_asides().unwrap();
    let [first, second] = asides.as_slice() else { panic!("two: {asides:?}") };
    assert_eq!((first.leaves, second.leaves), (1, 1));
    assert_ne!(first.name, second.name);
    let rev = |name: &str| name.rsplit_once('-').map(|(_, rev)| rev.to_owned());
    assert_eq!(rev(&first.name), rev(&second.name), "at the same commit of two sources");
    let mut kept: Vec<_> = asides
        .iter()
        .map(|aside| edge.get(&format!("_repl/set_aside/{}/users/mine", aside.name)))
        .collect();
    kept.sort_by_key(serde_json::Value::as_u64);
    assert_eq!(kept, [json!(0), json!(1)]);
    for bad in ["", "upstream", "upstream/1/2", "a//b"] {
        let refused = edge.node.drop_set_aside(bad).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{bad}");
    }
    assert!(!edge.node.drop_set_aside("upstream/none").unwrap());
    assert!(edge.node.drop_set_aside(&first.name).unwrap());
    assert!(!edge.node.drop_set_aside(&first.name).unwrap());
    assert_eq!(edge.node.set_asides().unwrap(), std::slice::from_ref(second));
}

/// Promise: a status costs no more where more is kept; what is counted is counted when asked for.
#[test]
fn a_status_counts_no_stamps_unless_it_is_asked_to() {
    let hub = LoopbackHub::new();
    let center = Site::new(&hub, "central", central());
    for number in 0..5 {
        center.set(&format!("shared/n{number}"), json!(number)).unwrap();
    }
    let entries = || center.node.status().unwrap().stats.by_rev_entries;
    assert_eq!(entries(), 0, "nobody counted");
    center.node.count().unwrap();
    let counted = entries();
    assert!(counted >= 5, "{counted}");
    center.set("shared/n9", json!(9)).unwrap();
    assert_eq!(entries(), counted, "it is what was counted last");
}

/// Promise: without links the same is seen, and what is asked for counts at the next open.
#[test]
fn a_node_that_is_closed_tells_where_it_was_and_takes_wishes() {
    let hub = LoopbackHub::new();
    let center = Site::new(&hub, "central", central());
    let edge = Site::new(&hub, "edge", edge(&[("users", Mode::Replica)]));
    center.set("users/u1", json!(1)).unwrap();
    edge.until_holds("users/u1", &json!(1));
    edge.until_up();
    edge.node.close();
    center.node.close();
    let (here, there) = (Kept::new(edge.tree.clone()), Kept::new(center.tree.clone()));
    let feeds = here.feeds().unwrap();
    assert_eq!((feeds.len(), feeds[0].feed.as_str(), feeds[0].resync), (1, "upstream", false));
    let log_id = feeds[0].position.as_ref().unwrap().at.log_id;
    assert_eq!(format!("{log_id:032x}"), there.node());
    let slots = there.slots(center.runtime.clock().now_ms()).unwrap();
    assert_eq!((slots.len(), slots[0].active, slots[0].invalid), (1, false, None));
    assert!(slots[0].consumer.ends_with("-upstream"));
    assert!(there.drop_slot(&slots[0].consumer).unwrap());
    assert!(!there.drop_slot(&slots[0].consumer).unwrap());
    here.ask_resync("upstream").unwrap();
    assert!(here.feeds().unwrap()[0].resync);
    let (center, edge) = (center.again(&hub), edge.again(&hub));
    edge.until_up();
    assert_eq!(edge.link("upstream").session.pull.unwrap().opened, Some(OpenMode::Snapshot));
    assert_eq!(center.node.status().unwrap().slots.len(), 1, "a new one");
}
