//! How a server ends, and where it refuses to begin.

use tokio::net::TcpListener;
use tokio::time::timeout;
use trellis::Trellis;
use trellis_server::{ServerOptions, serve};

use crate::harness::{PATIENCE, TestServer};

#[tokio::test]
async fn a_stop_answers_what_was_accepted_and_closes_with_1001() {
    let mut server = TestServer::start().await;
    let mut socket = server.socket().await;
    let answer = socket.ask(r#"{"id":"1","op":"set","path":"a","value":1}"#).await;
    assert!(answer.contains("\"ok\":true"));
    server.begin_stop();
    assert_eq!(socket.close_code().await, 1001);
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_stop_leaves_no_acknowledged_write_behind() {
    let mut server = TestServer::start().await;
    let db = server.db.clone();
    let mut socket = server.socket().await;
    for index in 0..500 {
        let push = format!(r#"{{"id":"{index}","op":"set","path":"l/k{index}","value":1}}"#);
        socket.feed(&push).await;
    }
    socket.flush().await;
    // One answer: the server is in the midst of it.
    let mut acknowledged = vec![socket.answer().await["id"].as_str().expect("an id").to_owned()];
    let view = db.tree().clone();
    server.begin_stop();
    while let tokio_tungstenite::tungstenite::Message::Text(text) = socket.next().await {
        let answer: serde_json::Value = serde_json::from_str(text.as_str()).expect("JSON");
        if answer["ok"] == true {
            acknowledged.push(answer["id"].as_str().expect("an id").to_owned());
        }
        if let Ok(view) = view.view() {
            for id in &acknowledged {
                let path = trellis::Path::parse(&format!("l/k{id}")).expect("a path");
                assert!(view.exists(&path).unwrap_or(true), "{id} was acknowledged");
            }
        }
    }
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn an_address_that_others_reach_is_refused_without_the_flag() {
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let db = Trellis::memory().expect("a database");
    let refused = serve(listener, db, ServerOptions::default(), std::future::pending()).await;
    let refused = refused.expect_err("refused");
    assert_eq!(refused.kind(), trellis::ErrorKind::Denied);
    assert!(refused.message().contains("--allow-unprotected-network"));

    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let db = Trellis::memory().expect("a database");
    let options = ServerOptions { allow_unprotected_network: true, ..ServerOptions::default() };
    let served = serve(listener, db, options, std::future::ready(()));
    timeout(PATIENCE, served).await.expect("stops").expect("serves");
}
