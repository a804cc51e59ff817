//! Queries over WebSocket and REST.

use serde_json::{Value, json};

use crate::harness::TestServer;

async fn with_users() -> TestServer {
    let server = TestServer::start().await;
    let users = json!({
        "u1": {"name": "Alice", "age": 33},
        "u2": {"name": "Bob", "age": 12},
        "u3": {"name": "Cleo", "age": 45},
        "u4": {"name": "Dan"},
    });
    server.db.set("users", users).expect("written");
    server
}

fn keys(answer: &Value) -> Vec<&str> {
    let items = answer["items"].as_array().expect("items");
    items.iter().map(|item| item["key"].as_str().expect("a key")).collect()
}

#[tokio::test]
async fn a_query_is_answered_as_the_protocol_writes_it() {
    let server = with_users().await;
    let mut socket = server.socket().await;
    assert_eq!(
        socket
            .ask(
                r#"{"id":"1","op":"query","path":"users","where":[["age",">=",18]],
                    "orderBy":[["age","desc"]],"limit":1,"select":["name"]}"#
            )
            .await
            .split(",\"nextCursor\":\"")
            .next()
            .expect("a part"),
        concat!(
            r#"{"id":"1","ok":true,"data":{"items":[{"path":"users/u3","key":"u3","#,
            r#""value":{"name":"Cleo"}}]"#
        ),
    );
    let count = r#"{"id":"2","op":"query","path":"users","where":[["age","exists"]],"count":true}"#;
    assert_eq!(socket.ask(count).await, r#"{"id":"2","ok":true,"data":{"count":3},"rev":1}"#);
    let explain = r#"{"id":"3","op":"explain","path":"users","where":[["age",">=",18]]}"#;
    let explained: Value = serde_json::from_str(&socket.ask(explain).await).expect("JSON");
    assert_eq!((&explained["data"]["plan"], &explained["rev"]), (&json!("collection"), &json!(1)));
    server.stop().await;
}

#[tokio::test]
async fn pages_follow_one_another_by_cursor_over_rest() {
    let server = with_users().await;
    let mut target = "/db/users?orderBy=name%20desc&limit=3".to_owned();
    let page = server.get(&target).await;
    assert_eq!(page.header("trellis-rev"), Some("1"));
    assert_eq!(keys(&page.json()), ["u4", "u3", "u2"]);
    let cursor = page.json()["nextCursor"].as_str().expect("a cursor").to_owned();
    target.push_str(&format!("&cursor={cursor}"));
    let last = server.get(&target).await.json();
    assert_eq!((keys(&last), last.get("nextCursor")), (vec!["u1"], None));
    // Another query's cursor is refused.
    let other = server.get(&format!("/db/users?orderBy=age&cursor={cursor}")).await;
    assert_eq!((other.status, other.code().as_str()), (400, "invalid"));
    server.stop().await;
}

#[tokio::test]
async fn conditions_in_a_url_are_typed_or_json() {
    let server = with_users().await;
    for (target, expected) in [
        ("/db/users?where=age%3E%3D18", vec!["u1", "u3"]),
        ("/db/users?where=age%3E18&where=age%3C40", vec!["u1"]),
        ("/db/users?where=name%20starts-with%20B", vec!["u2"]),
        ("/db/users?where=%5B%5B%22age%22%2C%22absent%22%5D%5D", vec!["u4"]),
        ("/db/users?limit=2", vec!["u1", "u2"]),
    ] {
        assert_eq!(keys(&server.get(target).await.json()), expected, "{target}");
    }
    assert_eq!(server.get("/db/users?where=age%3E18&count=1").await.json(), json!({"count": 2}));
    let body = br#"{"path":"users","where":[["age","<",18]]}"#;
    let posted = server.http("POST", "/v1/query", &[], body).await;
    assert_eq!((posted.status, keys(&posted.json())), (200, vec!["u2"]));
    let explained = server.http("POST", "/v1/query?explain=1", &[], body).await;
    assert_eq!(explained.json()["scanned"], 4);
    server.stop().await;
}

#[tokio::test]
async fn a_query_that_makes_no_sense_is_a_typed_refusal() {
    let server = with_users().await;
    let mut socket = server.socket().await;
    for query in [
        r#""where":[["age","like",1]]"#,
        r#""where":[["age",">"]]"#,
        r#""where":[["age",">",null]]"#,
        r#""where":"age""#,
        r#""orderBy":[["age","up"]]"#,
        r#""limit":0"#,
        r#""cursor":"AAAA""#,
        r#""cursor":5"#,
        r#""count":true,"aggregate":{"sum":["age"]}"#,
        r#""values":true"#,
    ] {
        let request = format!(r#"{{"id":"1","op":"query","path":"users",{query}}}"#);
        assert_eq!(socket.refusal(&request).await, (json!("1"), "invalid".to_owned()), "{query}");
    }
    let nowhere = r#"{"id":"1","op":"query","path":"nobody/here"}"#;
    let nowhere = socket.ask(nowhere).await;
    assert_eq!(nowhere, r#"{"id":"1","ok":true,"data":{"items":[]},"rev":1}"#);
    for target in ["/db/users?where=age", "/db/users?limit=no", "/db/users?children=1&where=a%3D1"]
    {
        assert_eq!(server.get(target).await.status, 400, "{target}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_query_that_needs_an_index_names_it_and_is_answered_once_it_is_there() {
    let server = TestServer::start().await;
    for part in 0..11 {
        let children = (0..1_000).map(|index| (format!("many/{part}-{index}/n"), index));
        server.db.update(children).expect("written");
    }
    let mut socket = server.socket().await;
    let query = r#"{"id":"1","op":"query","path":"many","where":[["n",">=",999]]}"#;
    socket.send(query).await;
    let refused = socket.answer().await;
    assert_eq!(refused["error"], "index_required");
    assert_eq!(refused["path"], "many");
    let index = &refused["index"];
    assert_eq!(index["path"], "many");
    let target = "/db/many?where=n%3E%3D999";
    let rest = server.get(target).await;
    assert_eq!((rest.status, rest.code().as_str()), (422, "index_required"));
    assert_eq!(&rest.json()["index"], index);
    let body = index.to_string();
    let created = server.http("POST", "/admin/indexes", &[], body.as_bytes()).await;
    let id = created.json()["id"].as_str().expect("an id").to_owned();
    assert!(server.db.wait_for_index(&id, crate::harness::PATIENCE).expect("built"));
    assert_eq!(server.get("/admin/indexes").await.json()["indexes"][0]["ready"], true);
    assert_eq!(keys(&server.get(target).await.json()).len(), 11);
    socket.send(query).await;
    assert_eq!(keys(&socket.answer().await["data"]).len(), 11);
    let target = format!("/admin/indexes/{id}");
    let dropped = server.http("DELETE", &target, &[], b"").await;
    assert_eq!(dropped.json(), json!({"dropped": id}));
    let again = server.http("DELETE", &target, &[], b"").await;
    assert_eq!((again.status, again.code().as_str()), (404, "not_found"));
    let refused = server.http("POST", "/admin/indexes", &[], b"{\"path\":\"a\"}").await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "invalid"));
    server.stop().await;
}

#[tokio::test]
async fn a_page_ends_before_it_would_pass_a_frame() {
    let mut config = trellis::Config::memory();
    config.server.frame_bytes_max = 10_000;
    let options = trellis_server::ServerOptions::from(&config.server);
    let db = trellis::Trellis::open_config(config).expect("a database");
    let server = TestServer::serving(db, options).await;
    for index in 0..20 {
        server.db.set(format!("big/k{index:02}"), "x".repeat(1_000)).expect("written");
    }
    let mut socket = server.socket().await;
    let (mut seen, mut cursor) = (0, Value::Null);
    loop {
        let request = json!({"id": "1", "op": "query", "path": "big", "cursor": cursor});
        socket.send(&request.to_string()).await;
        let page = socket.answer().await;
        seen += keys(&page["data"]).len();
        cursor = page["data"]["nextCursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(seen, 20);
    server.stop().await;
}
