//! A terminal dashboard of countries: two subscriptions feed it while a writer changes them, and
//! the server is stopped and started again in between.
//!
//! ```text
//! live                 watches for 20 seconds
//! live --seconds N     watches for N seconds
//! ```
//!
//! At the end it checks itself: the dashboard, put together from events alone, holds what a read of
//! the database gives; every commit of the writer was seen exactly once and in order; and nothing
//! had to be told anew, although the server was away in the middle of it.

mod countries;
mod dashboard;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use trellis::Trellis;
use trellis_client::{Client, ClientOptions, Query, SubscribeKind, SubscribeOptions, Subscription};
use trellis_server::{ServerOptions, serve};

use dashboard::{Countries, Largest};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Between two writes.
const WRITE_PAUSE: Duration = Duration::from_millis(10);
/// Between two pictures.
const PICTURE_PAUSE: Duration = Duration::from_millis(500);
/// How long the last event may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seconds = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Ok(20),
        ["--seconds", seconds] => seconds.parse().map_err(|_| "--seconds takes a number"),
        _ => Err("usage: live [--seconds N]"),
    };
    let outcome = match seconds {
        Ok(seconds) => run(Duration::from_secs(seconds)).await,
        Err(usage) => Err(usage.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("live: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A server in this process, that can be stopped.
struct RunningServer {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<trellis::Result<()>>,
}

impl RunningServer {
    async fn start(data: &Path, address: SocketAddr) -> Result<Self, Failure> {
        let db = Trellis::open(data)?;
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            // Told to stop, or nobody is left to tell.
            let _is_told = stopped.await.is_ok();
        };
        let task = tokio::spawn(serve(listener, db, ServerOptions::default(), shutdown));
        Ok(Self { address, stop, task })
    }

    /// Stops the server and closes its database.
    async fn stop(self) -> Result<(), Failure> {
        // An error: it has ended by itself, which the task says.
        let _is_told = self.stop.send(()).is_ok();
        Ok(self.task.await??)
    }
}

/// What the subscriptions put together.
#[derive(Debug, Default)]
struct Shown {
    countries: Mutex<Countries>,
    largest: Mutex<Largest>,
    /// Rings at every event.
    changed: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(duration: Duration) -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let server =
        RunningServer::start(directory.path(), SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = server.address;
    let url = format!("ws://{address}/db");
    let options = ClientOptions {
        backoff_min: Duration::from_millis(50),
        backoff_max: Duration::from_millis(500),
        ..ClientOptions::default()
    };
    let writing = Client::connect(&url, options.clone()).await?;
    let watching = Client::connect(&url, options).await?;
    writing.update(&countries::all()).await?;

    let shown = Arc::new(Shown::default());
    let feeds = watch(&watching, &shown).await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(writing.clone(), Arc::clone(&is_over)));
    let picture = tokio::spawn(paint(Arc::clone(&shown), format!("server at {address}")));

    // The server goes away in the middle of it, and comes back.
    sleep(duration / 2).await;
    server.stop().await?;
    let server = RunningServer::start(directory.path(), address).await?;
    sleep(duration / 2).await;
    is_over.store(true, Ordering::Release);
    let revs = writer.await??;
    picture.abort();

    let outcome = check(&writing, &shown, &revs).await;
    for feed in feeds {
        feed.abort();
    }
    writing.close().await;
    watching.close().await;
    server.stop().await?;
    outcome
}

/// Subscribes to the countries and to the largest of them.
async fn watch(client: &Client, shown: &Arc<Shown>) -> Result<Vec<JoinHandle<()>>, Failure> {
    let children = SubscribeOptions { kind: SubscribeKind::Child, ..SubscribeOptions::default() };
    let window =
        SubscribeOptions { kind: SubscribeKind::Query(largest()), ..SubscribeOptions::default() };
    let countries = client.subscribe("countries", children).await?;
    let largest = client.subscribe("countries", window).await?;
    Ok(vec![
        feed(countries, Arc::clone(shown), |shown, event| lock(&shown.countries).apply(event)),
        feed(largest, Arc::clone(shown), |shown, event| lock(&shown.largest).apply(event)),
    ])
}

/// The five with the most inhabitants.
fn largest() -> Query {
    let order_by = Some(json!([["thousands", "desc"]]));
    Query { order_by, limit: Some(5), ..Query::new("countries") }
}

fn feed(
    mut subscription: Subscription,
    shown: Arc<Shown>,
    apply: fn(&Shown, trellis_client::SubscriptionEvent),
) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(event) = subscription.next().await {
            match event {
                Ok(event) => apply(&shown, event),
                Err(error) => eprintln!("live: a subscription ended: {error}"),
            }
            shown.changed.notify_waiters();
        }
    })
}

/// Changes countries until it is over; the commits that were acknowledged, in order.
async fn write(client: Client, is_over: Arc<AtomicBool>) -> Result<Vec<u64>, Failure> {
    let mut revs = Vec::new();
    let codes: Vec<&str> = countries::codes().collect();
    for (step, code) in codes.iter().cycle().step_by(7).enumerate() {
        if is_over.load(Ordering::Acquire) {
            break;
        }
        let path = format!("countries/{code}");
        let written = match step % 20 {
            18 => client.delete(&path).await?,
            // Far enough to move it to another place.
            5 => client.set(&format!("{path}/thousands"), &(step * 1_000)).await?,
            _ if client.exists(&path).await? => {
                let more = json!({".sv": {"increment": 1 + step % 100}});
                client.set(&format!("{path}/thousands"), &more).await?
            }
            _ => client.set(&path, &countries::country(code)).await?,
        };
        revs.push(written.rev);
        sleep(WRITE_PAUSE).await;
    }
    // The last one is seen by both subscriptions: nobody is larger.
    let last = json!({"name": "Utopia", "region": "Oceania", "thousands": 10_000_000});
    revs.push(client.set("countries/ZZ", &last).await?.rev);
    Ok(revs)
}

/// Paints the dashboard again and again.
async fn paint(shown: Arc<Shown>, server: String) {
    let is_terminal = std::io::stdout().is_terminal();
    loop {
        let text = dashboard::render(&lock(&shown.countries), &lock(&shown.largest), &server);
        let text = match is_terminal {
            // Cleared first.
            true => format!("\x1b[2J\x1b[H{text}"),
            false => text.lines().next().map_or_else(String::new, |line| format!("{line}\n")),
        };
        if std::io::stdout().write_all(text.as_bytes()).is_err() {
            return;
        }
        sleep(PICTURE_PAUSE).await;
    }
}

/// Compares what the dashboard shows with what was written and with what a read gives.
async fn check(client: &Client, shown: &Shown, revs: &[u64]) -> Result<(), Failure> {
    let last = revs.last().copied().unwrap_or_default();
    let arrival = async {
        loop {
            let changed = shown.changed.notified();
            let countries = lock(&shown.countries).revs.last().copied();
            if countries >= Some(last) && lock(&shown.largest).rev >= last {
                return;
            }
            changed.await;
        }
    };
    let arrived = timeout(PATIENCE, arrival).await.is_ok();
    let there = client.get("countries").await?;
    let window = client.query(&largest()).await?;
    let (countries, largest) = (lock(&shown.countries), lock(&shown.largest));
    println!("{}", dashboard::render(&countries, &largest, "checked"));
    if countries.resets > 0 {
        return Err(format!("{} gaps: the dashboard was told anew", countries.resets).into());
    }
    if !arrived || countries.revs != revs {
        let (seen, written) = (countries.revs.len(), revs.len());
        return Err(format!("{written} commits were written, {seen} were seen").into());
    }
    if serde_json::to_value(&countries.all)? != there {
        return Err("the dashboard's countries are not those of the database".into());
    }
    let items = window.items.into_iter().map(|item| (item.key, item.value));
    if largest.window != items.collect::<Vec<(String, Value)>>() {
        return Err("the dashboard's largest are not those of the database".into());
    }
    println!("live: {} commits, each seen once and in order, across a restart", revs.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_dashboard_shows_what_is_there_across_a_restart() {
        run(Duration::from_secs(2)).await.expect("the check passes");
    }
}
