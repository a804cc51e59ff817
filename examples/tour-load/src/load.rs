//! Writes from many connections at once until the server dies in the middle of it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::Failure;
use crate::record::{Acknowledged, COUNT_PATH, record, record_path};

/// A server that neither answers nor dies is a failure, not a reason to wait.
const PATIENCE: Duration = Duration::from_secs(120);

/// What to write, and when to kill.
pub(crate) struct Load {
    pub(crate) url: String,
    pub(crate) connections: usize,
    pub(crate) server_pid: u32,
    pub(crate) kill_after: u64,
    /// The server lives until this file is there.
    pub(crate) wait_for: Option<PathBuf>,
}

/// Writes numbered records until the server is gone, which this kills with SIGKILL as soon as
/// `kill_after` records are acknowledged and `wait_for` is there, while every connection has a
/// write under way.
pub(crate) async fn run(load: Load) -> Result<Acknowledged, Failure> {
    let load = Arc::new(load);
    let total = Arc::new(AtomicU64::new(0));
    let killed = Arc::new(AtomicBool::new(false));
    // Nobody writes before everybody is connected.
    let start = Arc::new(Barrier::new(load.connections));
    let mut tasks = JoinSet::new();
    for connection in 0..load.connections {
        let (load, total, start) = (Arc::clone(&load), Arc::clone(&total), Arc::clone(&start));
        let killed = Arc::clone(&killed);
        tasks.spawn(async move {
            let written = write_records(&load, connection, (&total, &killed), &start);
            let written = tokio::time::timeout(PATIENCE, written).await;
            let count = written.map_err(|_| "the server neither answered nor died")??;
            Ok::<_, Failure>((connection, count))
        });
    }
    let mut connections = vec![0; load.connections];
    while let Some(finished) = tasks.join_next().await {
        let (connection, count) = finished??;
        if let Some(slot) = connections.get_mut(connection) {
            *slot = count;
        }
    }
    let acknowledged: u64 = connections.iter().sum();
    if acknowledged < load.kill_after {
        return Err(format!("the server ended after {acknowledged} records, unasked").into());
    }
    Ok(Acknowledged { connections })
}

/// Answers how many records of this connection were acknowledged when it broke.
async fn write_records(
    load: &Load,
    connection: usize,
    (total, killed): (&AtomicU64, &AtomicBool),
    start: &Barrier,
) -> Result<u64, Failure> {
    let (mut socket, _) = tokio_tungstenite::connect_async(load.url.as_str()).await?;
    start.wait().await;
    let mut number = 0;
    loop {
        let request = json!({
            "id": number.to_string(),
            "op": "update",
            "updates": {
                record_path(connection, number): record(connection, number),
                COUNT_PATH: {".sv": {"increment": 1}},
            },
        });
        if socket.send(Message::text(request.to_string())).await.is_err() {
            return Ok(number);
        }
        let Some(answer) = next_answer(&mut socket).await? else { return Ok(number) };
        let matches = answer.get("id").and_then(Value::as_str) == Some(&number.to_string());
        if !matches || answer.get("ok") != Some(&Value::Bool(true)) {
            return Err(format!("record {number} of connection {connection}: {answer}").into());
        }
        number += 1;
        let enough = total.fetch_add(1, Ordering::SeqCst) + 1 >= load.kill_after;
        let ready = || load.wait_for.as_ref().is_none_or(|file| file.exists());
        if enough && ready() && !killed.swap(true, Ordering::SeqCst) {
            kill(load.server_pid)?;
        }
    }
}

/// The next answer; `None` once the server is gone.
async fn next_answer<S>(socket: &mut S) -> Result<Option<Value>, Failure>
where
    S: StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) => return Ok(Some(serde_json::from_str(text.as_str())?)),
            Message::Close(_) => return Ok(None),
            // Pings are answered by the library.
            _ => {}
        }
    }
    Ok(None)
}

fn kill(pid: u32) -> Result<(), Failure> {
    let status = Command::new("kill").args(["-KILL", &pid.to_string()]).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("process {pid} was not there to kill").into())
    }
}
