//! A replica of a replica as processes over sockets: the one in the middle is killed and started
//! again, and who watches the last one is told each commit once and in order.

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use trellis_client::{
    Admin, ChangeKind, Client, ClientOptions, SubscribeKind, SubscribeOptions, Subscription,
    SubscriptionEvent,
};

use crate::command_line::Served;
use crate::harness::PATIENCE;

/// Commits made at the hub before the middle is back, and in all.
const WHILE_AWAY: u64 = 200;
const ALL: u64 = 260;
/// Commits after which the middle is killed, while more of them are made.
const KILLED_AFTER: u64 = 40;

/// An address that stays while the process behind it is another one: a port that was given back
/// might be anybody's by then.
struct Doorway {
    address: String,
    behind: Arc<Mutex<String>>,
}

impl Doorway {
    async fn to(server: &Served) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let behind = Arc::new(Mutex::new(authority(server)));
        let target = Arc::clone(&behind);
        tokio::spawn(async move {
            while let Ok((mut outside, _)) = listener.accept().await {
                let inside = target.lock().expect("no panic").clone();
                tokio::spawn(async move {
                    let mut inside = TcpStream::connect(inside).await?;
                    copy_bidirectional(&mut outside, &mut inside).await
                });
            }
        });
        Self { address: format!("ws://{address}/db"), behind }
    }

    fn leads_to(&self, server: &Served) {
        *self.behind.lock().expect("no panic") = authority(server);
    }
}

fn authority(server: &Served) -> String {
    let rest = server.url.split_once("://").expect("a URL").1;
    rest.split('/').next().expect("a host").to_owned()
}

/// A node that follows `feed` of an upstream, in a directory if one is named.
fn node(directory: &Path, name: &str, upstream: Option<&str>, engines: &[&str]) -> Served {
    let config = directory.join(format!("{name}.toml"));
    let upstream = upstream.map_or_else(String::new, |url| {
        format!("primaryUrl = \"{url}\"\npaths = [{{ path = \"feed\", mode = \"replica\" }}]\n")
    });
    let text = format!("[replication]\nname = \"{name}\"\n{upstream}");
    std::fs::write(&config, text).expect("written");
    Served::start(&[&["--config", config.to_str().expect("text")], engines].concat())
}

/// Until everything that it follows comes commit by commit.
async fn until_ready(server: &Served) {
    let admin = Admin::new(&server.url, ClientOptions::default()).expect("an address");
    let ready = async {
        while admin.replication().await.expect("a status")["ready"] != true {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, ready).await.expect("it is ready in time");
}

async fn write(hub: &Client, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let path = format!("feed/n{}", number % 7);
        hub.set(&path, &json!(number)).await.expect("it is written");
    }
}

/// Reads until a number was told; each has to be the next one, and nothing else may come.
async fn hear(watch: &mut Subscription, told: &mut u64, until: u64) {
    while *told < until {
        let event = timeout(PATIENCE, watch.next())
            .await
            .expect("in time")
            .expect("it goes on")
            .expect("an event");
        let SubscriptionEvent::Changes(changes) = event else {
            panic!("after {told} a commit could not be told: {event:?}")
        };
        let [change] = changes.changes.as_slice() else { panic!("one leaf: {changes:?}") };
        assert!(matches!(change.kind, ChangeKind::Added | ChangeKind::Changed), "{change:?}");
        *told += 1;
        assert_eq!(change.value, Some(json!(*told)), "each once, and in order");
    }
}

/// Promise: `topology.feed.watched`, over real processes and sockets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_a_replica_of_a_replica_misses_nothing_when_the_middle_is_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = directory.path();
    let data = folder.join("middle");
    let on_disk = ["--data", data.to_str().expect("text")];
    let memory = ["--profile", "memory"];
    let hub = node(folder, "hub", None, &memory);
    let middle = node(folder, "middle", Some(&hub.url), &on_disk);
    let doorway = Doorway::to(&middle).await;
    let leaf = node(folder, "leaf", Some(&doorway.address), &memory);

    let connect = |server: &Served| {
        let url = server.url.clone();
        async move { Client::connect(&url, ClientOptions::default()).await.expect("it answers") }
    };
    let (writer, watcher) = (connect(&hub).await, connect(&leaf).await);
    // What is there before arrives by pages, and says that the leaf follows.
    writer.set("feed/before", &json!(0)).await.expect("it is written");
    let options = SubscribeOptions { kind: SubscribeKind::Child, ..SubscribeOptions::default() };
    let mut watch = watcher.subscribe("feed", options).await.expect("a subscription");
    let is_there = |event: &SubscriptionEvent| match event {
        SubscriptionEvent::Snapshot { data, .. } => data["before"] == 0,
        SubscriptionEvent::Changes(changes) => {
            changes.changes.iter().any(|change| change.key.as_deref() == Some("before"))
        }
        SubscriptionEvent::Reset { .. } => false,
    };
    loop {
        let event = timeout(PATIENCE, watch.next()).await.expect("in time").expect("it goes on");
        if is_there(&event.expect("an event")) {
            break;
        }
    }
    until_ready(&middle).await;
    until_ready(&leaf).await;

    let mut told = 0;
    let busy = tokio::spawn({
        let writer = writer.clone();
        async move { write(&writer, 1..=WHILE_AWAY).await }
    });
    hear(&mut watch, &mut told, KILLED_AFTER).await;
    // SIGKILL.
    drop(middle);
    busy.await.expect("the hub takes every write");
    let middle = node(folder, "middle", Some(&hub.url), &on_disk);
    doorway.leads_to(&middle);
    write(&writer, WHILE_AWAY + 1..=ALL).await;
    hear(&mut watch, &mut told, ALL).await;
    drop((watch, leaf, middle, hub));
}
