//! Other nodes at the door: who comes in, who does not, and how it ends.

use std::sync::Arc;

use tokio::time::timeout;
use trellis::{Links, PeerEntrance, PeerPass, Trellis, open_links};
use trellis_engine_traits::{
    EndedBy, ErrorKind, LinkMessage, LinkToken, PeerAddress, PeerLink, Result,
};
use trellis_server::{Server, ServerOptions};

use crate::harness::{PATIENCE, Reply, TestServer};

const TOKEN: &str = "the-token-of-every-edge";

fn entrance(links: &Links, with_pass: bool) -> Arc<PeerEntrance> {
    let pass = PeerPass {
        name: Some("edge-7".to_owned()),
        role: Some("edge".to_owned()),
        token: LinkToken::new(TOKEN),
    };
    let passes = if with_pass { vec![pass] } else { Vec::new() };
    Arc::new(PeerEntrance::new(passes, Arc::clone(&links.door)).expect("a good pass"))
}

async fn server_for(links: &Links, with_pass: bool, options: ServerOptions) -> TestServer {
    let db = Trellis::memory().expect("a database in memory");
    let server = Server::new(db, options).with_peers(entrance(links, with_pass));
    TestServer::serving_on(server).await
}

async fn dial(
    links: &Links,
    server: &TestServer,
    token: Option<&str>,
) -> Result<Box<dyn PeerLink>> {
    let url = format!("ws://{}/db", server.address);
    let address = PeerAddress { url, token: token.map(LinkToken::new) };
    timeout(PATIENCE, links.replicator.connect(&address)).await.expect("an answer")
}

async fn knock(server: &TestServer, authorization: &[&str]) -> Reply {
    let mut headers = vec![
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: chat, trellis-repl",
    ];
    headers.extend_from_slice(authorization);
    server.upgrade("/db", &headers).await
}

#[tokio::test]
async fn a_node_that_serves_no_peers_says_so() {
    let server = TestServer::start().await;
    let reply = knock(&server, &[]).await;
    assert_eq!(reply.status, 501);
    assert!(String::from_utf8_lossy(&reply.body).contains("serves no peers"));
    server.stop().await;
}

#[tokio::test]
async fn refusals_are_typed_and_hold_no_secret() {
    let links = open_links().expect("the transport of this build");
    let server = server_for(&links, true, ServerOptions::default()).await;
    let wanted = knock(&server, &[]).await;
    assert_eq!((wanted.status, wanted.header("www-authenticate")), (401, Some("Bearer")));
    let wrong = knock(&server, &["Authorization: Bearer a-guess-at-the-token"]).await;
    assert_eq!(wrong.status, 403);
    let said = String::from_utf8_lossy(&wrong.body).into_owned();
    assert!(said.contains("\"denied\"") && !said.contains("a-guess"), "{said}");
    let basic = knock(&server, &["Authorization: Basic eDp5"]).await;
    assert_eq!(basic.status, 400);
    let twice = format!("Authorization: Bearer {TOKEN}");
    assert_eq!(knock(&server, &[&twice, &twice]).await.status, 400);
    let dialed = dial(&links, &server, Some("a-guess-at-the-token")).await.expect_err("no pass");
    assert_eq!(dialed.kind(), ErrorKind::Denied);
    assert!(
        dialed.fact("peer_says").is_some_and(|said| said.contains("knows no peer")),
        "{dialed}"
    );
    let metrics = server.get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(text.contains("trellis_peers_refused_total 5"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn peers_have_places_of_their_own() {
    let links = open_links().expect("the transport of this build");
    let options =
        ServerOptions { peers_max: Some(1), connections_max: 1, ..ServerOptions::default() };
    let server = server_for(&links, false, options).await;
    let mut client = server.socket().await;
    let first = dial(&links, &server, None).await.expect("the one place");
    let refused = dial(&links, &server, None).await.expect_err("no second place");
    assert_eq!((refused.kind(), refused.fact("status")), (ErrorKind::Busy, Some("429")));
    assert!(client.ask(r#"{"id":"1","op":"get","path":"a"}"#).await.contains("\"ok\":true"));
    // A place is free again once its peer is gone.
    timeout(PATIENCE, first.close("done")).await.expect("in time").expect("told");
    let again = timeout(PATIENCE, async {
        loop {
            match dial(&links, &server, None).await {
                Ok(link) => break link,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Busy),
            }
        }
    });
    drop(again.await.expect("the place is free again"));
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_peer_is_known_by_its_token_and_a_stop_is_told() {
    let links = open_links().expect("the transport of this build");
    let server = server_for(&links, true, ServerOptions::default()).await;
    let dialed = dial(&links, &server, Some(TOKEN)).await.expect("let in");
    let accepted = links.replicator.accept().await.expect("a link");
    let peer = accepted.peer();
    assert_eq!((peer.name.as_deref(), peer.role.as_deref()), (Some("edge-7"), Some("edge")));
    assert!(peer.is_local, "{peer:?}");
    let body = bytes::Bytes::from(vec![3; 300_000]);
    let message = LinkMessage { body: body.clone(), compress: true };
    accepted.send(message).await.expect("the link stands");
    let arrived = timeout(PATIENCE, dialed.next()).await.expect("in time");
    assert!(arrived.expect("the link stands") == Some(body));
    server.stop().await;
    let end = timeout(PATIENCE, dialed.next()).await.expect("in time").expect("an orderly end");
    assert!(end.is_none());
    let end = dialed.end().expect("it has ended");
    assert_eq!((end.by, end.reason.as_str()), (EndedBy::Peer, "the server stops"));
}
