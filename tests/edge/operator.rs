//! The admin listener, the audit file, reload and drain.

use crate::world::{PATIENCE, World, ask, message};
use rustls::version::{TLS12, TLS13};
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

impl World {
    /// Sends a request as written, with a right Host unless it has one; gives status and body.
    pub async fn http(&self, request: &str) -> (u16, String) {
        let at = self.edge.admin.unwrap();
        let mut socket = TcpStream::connect(at).await.unwrap();
        let (line, headers) = request.split_once('\n').unwrap_or((request, ""));
        let host = if headers.contains("Host:") { String::new() } else { format!("Host: {at}\r\n") };
        let headers: String = headers.lines().map(|header| format!("{header}\r\n")).collect();
        socket.write_all(format!("{line} HTTP/1.1\r\n{host}{headers}\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// The decisions kept, newest first; waits for the first.
    pub async fn decisions(&self) -> Vec<Value> {
        self.decisions_when(|all| !all.is_empty()).await
    }

    /// The decisions kept, newest first, once they are so: an answer may be there before its decision is kept. As they are, if never.
    pub async fn decisions_when(&self, so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut all = Vec::new();
        for _ in 0..100 {
            let (status, body) = self.http("GET /api/decisions?limit=10").await;
            assert_eq!(status, 200, "{body}");
            all = serde_json::from_str(&body).unwrap();
            if so(&all) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        all
    }
}

#[tokio::test]
async fn a_refusal_is_found_by_its_id_everywhere() {
    let world = World::start().await;
    let client = world.client(Some(world.pki("pki", "partner")), &[&TLS12, &TLS13]);
    let mut stream = world.connect(&client, "sip.corp.example").await.unwrap();
    let answer = ask(&mut stream, &message("id", "eve@unlisted.example", "alice@corp.example")).await;
    let warning = answer.lines().find(|line| line.to_ascii_lowercase().starts_with("warning:")).expect(&answer);
    let id = warning.split("fedgate ").nth(1).unwrap().split(' ').next().unwrap();
    world.decisions().await;

    let (status, body) = world.http(&format!("GET /api/decisions/{}", id.to_ascii_lowercase())).await;
    assert_eq!(status, 200, "{body}");
    let decision: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&decision["id"], &decision["reason"]), (&Value::from(id), &Value::from("unlisted-domain")));
    assert_eq!(decision["from"], "sip:eve@unlisted.example");
    assert_eq!(world.http("GET /api/decisions/0000000000").await.0, 404);

    let (_, page) = world.http("GET /").await;
    assert!(page.contains(id) && page.contains("lync.example"), "{page}");
    let (_, metrics) = world.http("GET /metrics").await;
    assert!(metrics.contains(r#"fedgate_refusals_total{partner="other",reason="unlisted-domain"} 1"#), "{metrics}");
    assert!(
        metrics.contains(r#"fedgate_links_opened_total{outcome="opened",protocol="sip",side="outside"} 1"#),
        "{metrics}"
    );
    assert!(metrics.contains(r#"fedgate_links{protocol="sip",side="outside"} 1"#), "{metrics}");
    assert!(
        metrics.contains(r#"fedgate_certificate_expiry_timestamp_seconds{identity="sip.second.example"}"#),
        "{metrics}"
    );
    assert!(!metrics.contains("unlisted.example"), "{metrics}");
    let audit = std::fs::read_to_string(world.dir.path().join("audit.jsonl")).unwrap();
    let line: Value = serde_json::from_str(audit.lines().next().unwrap()).unwrap();
    assert_eq!(line, decision);
}

#[tokio::test]
async fn the_admin_listener_answers_only_whom_it_should() {
    let world = World::start().await;
    for (request, status) in [
        ("GET /healthz", 200),
        ("GET /readyz", 200),
        ("GET /api/status", 200),
        ("GET /api/partners", 200),
        ("GET /nothing", 404),
        ("PUT /api/reload", 405),
        ("GET /metrics\nHost: rebound.example", 421),
        ("GET /api/decisions\nHost: rebound.example:80", 421),
        ("GET /\nOrigin: http://evil.example", 403),
        ("POST /api/reload", 401),
        ("POST /api/reload\nAuthorization: Bearer sesam", 401),
        ("POST /api/reload\nAuthorization: Bearer sesame", 200),
        ("POST /api/reload\nAuthorization: Bearer sesame\nOrigin: null", 403),
    ] {
        let (got, body) = world.http(request).await;
        assert_eq!(got, status, "{request}: {body}");
    }
}

#[tokio::test]
async fn a_bad_reload_changes_nothing_and_a_good_one_does() {
    let world = World::start().await;
    let client = world.client(Some(world.pki("pki", "partner")), &[&TLS13]);
    let mut stream = world.connect(&client, "sip.corp.example").await.unwrap();
    let policy = world.dir.path().join("policies/10.toml");
    let before = std::fs::read_to_string(&policy).unwrap();
    let from = "juliet@lync.example";

    std::fs::write(&policy, "[[partner]]\nthis is no TOML").unwrap();
    let error = world.edge.reload().await.unwrap_err();
    assert!(error.contains("10.toml"), "{error}");
    let answer = ask(&mut stream, &message("r1", from, "alice@corp.example")).await;
    assert!(answer.starts_with("SIP/2.0 503 "), "{answer}");

    std::fs::write(&policy, before.replace("lync.example", "gone.example")).unwrap();
    world.edge.reload().await.unwrap();
    let answer = ask(&mut stream, &message("r2", from, "alice@corp.example")).await;
    assert!(answer.contains("unlisted-domain"), "under a running link: {answer}");
    let (_, metrics) = world.http("GET /metrics").await;
    assert!(metrics.contains(r#"fedgate_reloads_total{outcome="ok"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"fedgate_reloads_total{outcome="failed"} 1"#), "{metrics}");
}

#[tokio::test]
async fn drain_closes_links_and_ends() {
    let world = World::start().await;
    let client = world.client(Some(world.pki("pki", "partner")), &[&TLS13]);
    let mut stream = world.connect(&client, "sip.corp.example").await.unwrap();
    let answer = ask(&mut stream, &message("d", "eve@unlisted.example", "alice@corp.example")).await;
    assert!(answer.starts_with("SIP/2.0 403 "), "{answer}");
    world.edge.drain().await;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the link is closed");
    assert!(ended.is_ok(), "with close_notify: {ended:?}");
    tokio::time::timeout(PATIENCE, world.edge.wait()).await.expect("the edge ends");
}
