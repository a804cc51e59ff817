//! `/admin/...`: what it answers, what it refuses, and that a pause ends.

use trellis_server::ServerOptions;

use crate::harness::TestServer;

#[tokio::test]
async fn an_archive_is_streamed_whole_and_a_rev_out_of_reach_refused() {
    let server = TestServer::start().await;
    server.put("/db/a/b", "[1,2]").await;
    server.put("/db/a/c", &format!("\"{}\"", "x".repeat(3 << 20))).await;
    let archive = server.get("/admin/archive").await;
    assert_eq!((archive.status, archive.header("trellis-rev")), (200, Some("2")));
    assert!(archive.body.starts_with(b"TRELLIS\0") && archive.body.len() > 3 << 20);
    let since = server.get("/admin/archive?since=1").await;
    assert_eq!((since.status, since.header("trellis-rev")), (200, Some("1")));
    assert_eq!(server.get("/admin/archive?since=9").await.status, 400);
    assert_eq!(server.get("/admin/archive?until=9").await.code(), "invalid");
    server.stop().await;
}

#[tokio::test]
async fn a_pause_refuses_writes_until_it_is_taken_back() {
    let server = TestServer::start().await;
    server.put("/db/a", "1").await;
    let digest = server.get("/admin/digest").await.json();
    assert_eq!(
        (digest["rev"].as_u64(), digest["digest"].as_str().map(str::len)),
        (Some(1), Some(64))
    );
    let post = async |target: &str| server.http("POST", target, &[], b"").await;
    for _ in 0..2 {
        assert_eq!(post("/admin/pause").await.json()["rev"], 1);
    }
    let refused = server.put("/db/a", "2").await;
    assert_eq!((refused.status, refused.code()), (503, "unavailable".to_owned()));
    assert_eq!(server.get("/db/a").await.text(), "1");
    assert_eq!(post("/admin/resume").await.json()["paused"], false);
    assert_eq!(server.put("/db/a", "2").await.status, 200);
    assert_eq!(server.get("/admin/pause").await.status, 405, "a link changes nothing");
    server.stop().await;
}

#[tokio::test]
async fn long_work_is_bounded_and_a_pause_is_not_held_up_by_it() {
    let options = ServerOptions { streams_max: 0, ..ServerOptions::default() };
    let server = TestServer::with(options).await;
    let get = async |target: &str| server.get(target).await;
    let post = async |target: &str| server.http("POST", target, &[], b"").await;
    let (digest, check, archive, compact) = tokio::join!(
        get("/admin/digest"),
        get("/admin/check"),
        get("/admin/archive"),
        post("/admin/compact")
    );
    for refused in [digest, check, archive, compact] {
        assert_eq!((refused.status, refused.code().as_str()), (503, "busy"));
    }
    assert_eq!(post("/admin/pause").await.status, 200);
    assert_eq!(post("/admin/resume").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn checks_and_compaction_answer_reports_and_web_pages_elsewhere_are_refused() {
    let server = TestServer::start().await;
    server.put("/db/a", "1").await;
    let report = server.get("/admin/check").await.json();
    assert_eq!((&report["records"], &report["findings"]), (&1.into(), &serde_json::json!([])));
    let compacted = server.http("POST", "/admin/compact", &[], b"").await.json();
    assert_eq!(compacted["postponed"], serde_json::Value::Null);
    let foreign = ["Origin: https://evil.example"];
    for target in ["/admin/pause", "/admin/resume", "/admin/compact"] {
        assert_eq!(server.http("POST", target, &foreign, b"").await.status, 403, "{target}");
    }
    let stream = ["Origin: https://evil.example", "Accept: text/event-stream"];
    assert_eq!(server.http("GET", "/db/a", &stream, b"").await.status, 403);
    for (method, target) in [
        ("GET", "/admin/archive"),
        ("GET", "/admin/indexes"),
        ("POST", "/admin/indexes"),
        ("DELETE", "/admin/indexes/1"),
        ("POST", "/v1/query"),
        ("POST", "/v1/lease"),
        ("PUT", "/v1/lease/1"),
        ("DELETE", "/v1/lease/1"),
        ("POST", "/v1/lease/1/on-disconnect"),
    ] {
        let refused = server.http(method, target, &foreign, b"").await;
        assert_eq!(refused.status, 403, "{method} {target}");
    }
    server.stop().await;
}

#[tokio::test]
async fn indexes_are_defined_built_listed_and_dropped() {
    let server = TestServer::start().await;
    server.put("/db/users", r#"{"a":{"age":3},"b":{"age":1}}"#).await;
    let post = async |body: &str| server.http("POST", "/admin/indexes", &[], body.as_bytes()).await;
    let definition = r#"{"path":"users","fields":["age"]}"#;
    let created = post(definition).await.json();
    let id = created["id"].as_str().expect("an id").to_owned();
    assert_eq!(created["definition"]["path"], "users");
    assert_eq!(post(definition).await.json()["id"], created["id"], "it is the same one");
    assert!(server.db.wait_for_index(&id, std::time::Duration::from_secs(600)).expect("built"));
    let listed = server.get("/admin/indexes").await.json();
    assert_eq!(
        (&listed["indexes"][0]["id"], listed["indexes"].as_array().map(Vec::len)),
        (&created["id"], Some(1))
    );
    assert_eq!(
        (&listed["indexes"][0]["ready"], &listed["indexes"][0]["items_built"]),
        (&true.into(), &2.into())
    );
    assert!(server.get("/metrics").await.text().contains("trellis_indexes_ready 1"));
    for (body, status) in [
        ("", 400),
        ("{}", 400),
        (r#"{"path":"users","fields":["a","b","c","d","e"]}"#, 413),
        (r#"{"path":"_auth","fields":["a"]}"#, 403),
        (&format!("\"{}\"", "x".repeat(20_000)), 413),
    ] {
        assert_eq!(post(body).await.status, status, "{body:.40}");
    }
    let target = format!("/admin/indexes/{id}");
    assert_eq!(server.http("DELETE", &target, &[], b"").await.json()["dropped"], created["id"]);
    assert_eq!(server.http("DELETE", &target, &[], b"").await.status, 404);
    let unreadable = server.http("DELETE", "/admin/indexes/%FF", &[], b"").await;
    assert_eq!((unreadable.status, unreadable.code().as_str()), (400, "invalid"));
    assert_eq!(server.get("/admin/indexes").await.text(), r#"{"indexes":[]}"#);
    server.stop().await;
}
