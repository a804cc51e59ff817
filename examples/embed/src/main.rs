//! A guest book: an axum application with pages of its own, and Trellis beside them.
//!
//! The application works on the database in the process; its clients read and write the same tree
//! over REST and WebSocket under `/trellis/db`.
//!
//! ```text
//! embed            serves on 127.0.0.1:3000, data in `guest-book`
//! embed --check    serves on a free port, calls its own routes and Trellis's, and exits
//! ```

use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use trellis::{AsyncTrellis, Error, ErrorKind, Trellis};
use trellis_server::{Server, ServerOptions};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The application's own routes, with Trellis mounted beside them.
fn application(db: &Trellis, trellis: &Server) -> Router {
    Router::new()
        .route("/guests", get(guests))
        .route("/hello/{name}", get(hello))
        .with_state(db.asynchronous())
        .nest("/trellis", trellis.router())
}

/// Greets a guest, and counts the visit: two paths, one commit.
async fn hello(
    State(db): State<AsyncTrellis>,
    Path(name): Path<String>,
) -> Result<String, (StatusCode, String)> {
    let guest = trellis::Path::root().child("guests").and_then(|guests| guests.child(&name));
    let guest = guest.map_err(refusal)?;
    let visits = guest.child("visits").map_err(refusal)?;
    let seen = guest.child("seen").map_err(refusal)?;
    let updates =
        [(visits.clone(), json!({".sv": {"increment": 1}})), (seen, json!({".sv": "timestamp"}))];
    db.update(updates).await.map_err(refusal)?;
    let count = db.get_as::<u64>(visits).await.map_err(refusal)?.unwrap_or_default();
    Ok(format!("Hello {name}, visit {count}\n"))
}

async fn guests(State(db): State<AsyncTrellis>) -> Result<String, (StatusCode, String)> {
    let page = db.children("guests", None, 100).await.map_err(refusal)?;
    Ok(page.items.iter().map(|guest| format!("{}\n", guest.key)).collect())
}

fn refusal(error: Error) -> (StatusCode, String) {
    let status = match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::TooLarge => StatusCode::BAD_REQUEST,
        ErrorKind::Denied => StatusCode::FORBIDDEN,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{error}\n"))
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match std::env::args().nth(1).as_deref() {
        Some("--check") => check().await,
        _ => run().await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let db = Trellis::open("guest-book")?;
    println!("{}", db.describe());
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("try: curl http://127.0.0.1:3000/hello/alice");
    println!("     curl http://127.0.0.1:3000/trellis/db/guests");
    let trellis = Server::new(db.clone(), ServerOptions::default());
    let stop = trellis.clone();
    axum::serve(listener, application(&db, &trellis))
        .with_graceful_shutdown(async move {
            // Without a signal handler there is nothing to wait for but the end of the process.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            stop.drain(Duration::from_secs(10)).await;
        })
        .await?;
    trellis.close().await?;
    Ok(())
}

/// Serves on a free port and calls both halves of the application as a client would.
async fn check() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let db = Trellis::open(directory.path())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let trellis = Server::new(db.clone(), ServerOptions::default());
    let application = application(&db, &trellis);
    let server = tokio::spawn(async move { axum::serve(listener, application).await });

    // What the application writes, clients of Trellis read, and the other way round.
    let calls = [
        ("GET", "/hello/alice", "", "Hello alice, visit 1"),
        ("GET", "/hello/alice", "", "Hello alice, visit 2"),
        ("GET", "/trellis/db/guests/alice/visits", "", "2"),
        ("PUT", "/trellis/db/guests/bob/visits", "41", ""),
        ("GET", "/hello/bob", "", "Hello bob, visit 42"),
        ("GET", "/guests", "", "alice\nbob"),
        ("GET", "/trellis/db/guests?shallow=1", "", r#"{"alice":true,"bob":true}"#),
        ("GET", "/trellis/health", "", "\"ok\""),
    ];
    for (method, target, body, expected) in calls {
        let (status, answer) = call(&address, method, target, body).await?;
        println!("{method} {target} -> {status} {}", answer.trim().replace('\n', " "));
        if status != "200" || !answer.contains(expected) {
            return Err(format!("{method} {target}: expected {expected:?} in {answer:?}").into());
        }
    }
    let (status, _) = call(&address, "GET", "/elsewhere", "").await?;
    if status != "404" {
        return Err("what neither half knows is not found".into());
    }
    server.abort();
    trellis.close().await?;
    println!("embed: all checks passed");
    Ok(())
}

/// One HTTP request on a connection of its own: enough for a check, and no client library.
async fn call(
    address: &str,
    method: &str,
    target: &str,
    body: &str,
) -> Result<(String, String), Failure> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    let (head, body) = response.split_once("\r\n\r\n").ok_or("no HTTP response")?;
    let status = head.split(' ').nth(1).ok_or("no status")?;
    Ok((status.to_owned(), body.to_owned()))
}
