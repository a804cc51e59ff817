//! Live queries over WebSocket: the window as it is, and how it changes.

use serde_json::{Value, json};

use crate::harness::{Socket, TestServer};

const OLDEST: &str = r#"{"id":"1","op":"sub","path":"users","event":"query","limit":2,
    "where":[["age",">=",18]],"orderBy":[["age","desc"]]}"#;

async fn with_users() -> (TestServer, Socket) {
    let server = TestServer::start().await;
    let users = json!({"a": {"age": 20}, "b": {"age": 30}, "c": {"age": 40}, "d": {"age": 5}});
    server.db.set("users", users).expect("written");
    let socket = server.socket().await;
    (server, socket)
}

async fn events(socket: &mut Socket) -> Value {
    socket.answer().await["events"].clone()
}

#[tokio::test]
async fn a_window_is_kept_filled() {
    let (server, mut socket) = with_users().await;
    let answer: Value = serde_json::from_str(&socket.ask(OLDEST).await).expect("JSON");
    assert_eq!(
        answer["data"],
        json!({"items": [
            {"path": "users/c", "key": "c", "value": {"age": 40}},
            {"path": "users/b", "key": "b", "value": {"age": 30}},
        ]})
    );
    // Outside of the window: nothing is told of it.
    server.db.set("users/d/age", 6).expect("written");
    // The first one leaves, and the next is drawn in.
    server.db.delete("users/c").expect("written");
    let told = json!([
        {"type": "removed", "key": "c"},
        {"type": "added", "key": "a", "value": {"age": 20}, "after": "b"},
    ]);
    assert_eq!(events(&mut socket).await, told);
    // The last one comes to the front.
    server.db.set("users/a/age", 50).expect("written");
    let told = events(&mut socket).await;
    assert_eq!(told[0]["type"], "moved");
    assert!(told[0]["after"].is_null() || told[0]["after"] == "a", "{told}");
    let other = socket.refusal(
        r#"{"id":"2","op":"sub","path":"users","event":"query","where":[["age","like",1]]}"#,
    );
    assert_eq!(other.await, (json!("2"), "invalid".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn an_untouched_window_goes_on_and_a_touched_one_is_reset() {
    let (server, mut socket) = with_users().await;
    let answer: Value = serde_json::from_str(&socket.ask(OLDEST).await).expect("JSON");
    let (rev, epoch) = (&answer["rev"], &answer["epoch"]);
    let again = |id: &str| {
        let fields = format!(r#""since":{rev},"epoch":{epoch},"limit":2"#);
        OLDEST.replace("\"limit\":2", &fields).replace(r#""id":"1""#, &format!(r#""id":"{id}""#))
    };
    server.db.set("elsewhere", 1).expect("written");
    let resumed: Value = serde_json::from_str(&socket.ask(&again("2")).await).expect("JSON");
    assert_eq!((&resumed["resumed"], &resumed["data"]), (&json!(true), &Value::Null), "{resumed}");
    server.db.delete("users/c").expect("written");
    for _ in 0..2 {
        assert_eq!(events(&mut socket).await[0], json!({"type": "removed", "key": "c"}));
    }
    let reset: Value = serde_json::from_str(&socket.ask(&again("3")).await).expect("JSON");
    assert_eq!(reset["reset"], true, "{reset}");
    assert_eq!(reset["data"]["items"][0]["key"], "b");
    server.stop().await;
}
