//! The admin listener: health, metrics, the status page, decisions, reload and drain (HTTP/1.1), over TCP and on a unix socket.
//!
//! Who may open the socket is the edge's own user or root, and may ask for anything there. Over TCP, a browser of the inside can be made
//! to send requests here, so the Host must be an address or `localhost` (no DNS rebinding) and an Origin, if there is one, our own. Beyond
//! loopback everything but health and metrics needs the token; what changes something always does.

mod decisions;
mod page;
pub mod socket;

use super::edge::{Arrival, Edge, Phase};
use super::telemetry::decisions::timestamp;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests at once, over TCP and on the socket each, so that the socket answers when others fill the listener.
const CONNECTIONS: usize = 64;
/// A request's head.
const HEAD_BYTES: usize = 16_384;
const HEADERS: usize = 64;
/// To receive a head.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// After a connection that could not be accepted, for want of descriptors say.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// For one connection as a whole.
const CONNECTION: Duration = Duration::from_secs(60);
/// Decisions in one answer when nobody says how many, and at most.
const DECISIONS: usize = 100;

/// Opens the TCP listener.
pub fn bind(listen: SocketAddr) -> Result<TcpListener, String> {
    super::listen::open(listen, &[]).map_err(|error| format!("[admin] cannot listen on {listen}: {error}"))
}

/// Answers over TCP until the process ends: health is asked for while draining, too.
pub async fn serve(edge: Arc<Edge>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let Ok(local) = socket.local_addr() else { continue };
                tokio::spawn(converse(Arc::clone(&edge), Way::Tcp(local.ip()), socket, place));
            }
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

/// Answers on the socket until the process ends.
pub async fn serve_socket(edge: Arc<Edge>, listener: UnixListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                tokio::spawn(converse(Arc::clone(&edge), Way::Socket, socket, place));
            }
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

async fn converse<S>(edge: Arc<Edge>, way: Way, socket: S, place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request| {
        let edge = Arc::clone(&edge);
        async move { Ok::<_, Infallible>(answer(&edge, way, &request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service);
    let _ = tokio::time::timeout(CONNECTION, connection).await;
    drop(place);
}

/// How a request came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// To this address of ours.
    Tcp(IpAddr),
    /// By a file that only our user may open.
    Socket,
}

/// What a request may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Need {
    Nothing,
    TokenBeyondLoopback,
    Token,
}

async fn answer(edge: &Edge, way: Way, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let need = match (request.method(), path) {
        (&Method::GET, "/healthz" | "/readyz" | "/metrics") => Need::Nothing,
        (&Method::POST, _) => Need::Token,
        _ => Need::TokenBeyondLoopback,
    };
    if let Way::Tcp(local) = way
        && let Err(refusal) = admit(request, local, need, &edge.live.load().settings.admin.token)
    {
        return *refusal;
    }
    match (request.method(), path) {
        (&Method::GET, "/healthz") => text(StatusCode::OK, "alive\n"),
        (&Method::GET, "/readyz") => match (*edge.phase.borrow(), edge.store_trouble.load().as_deref()) {
            (Phase::Ready, None) => text(StatusCode::OK, "ready\n"),
            (Phase::Ready, Some(why)) => {
                let why = why.replace(['\r', '\n'], " ");
                reply(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", format!("{why}\n"))
            }
            (Phase::Starting, _) => text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
            (Phase::Draining, _) => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        },
        (&Method::GET, "/metrics") => {
            let body = edge.telemetry.metrics.text(edge.snapshot().await.as_ref());
            reply(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body)
        }
        (&Method::GET, "/") => reply(StatusCode::OK, "text/html; charset=utf-8", page::render(edge).await),
        (&Method::GET, "/api/status") => json_reply(StatusCode::OK, &status(edge).await),
        (&Method::GET, "/api/partners") => json_reply(StatusCode::OK, &partners(edge)),
        (&Method::GET, "/api/decisions") => {
            let limit = parameter(request, "limit").and_then(|n| n.parse().ok()).unwrap_or(DECISIONS);
            match decisions::last(edge, limit).await {
                Ok(all) => reply(StatusCode::OK, "application/json", format!("[{}]\n", all.join(","))),
                Err(error) => json_reply(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": error })),
            }
        }
        (&Method::POST, "/api/reload") => match edge.reload().await {
            Ok(()) => {
                let version = edge.live.load().settings.policy.version;
                json_reply(StatusCode::OK, &json!({ "reloaded": true, "policy_version": version }))
            }
            Err(error) => json_reply(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "reloaded": false, "error": error })),
        },
        (&Method::POST, "/api/drain") => drain(edge, request).await,
        (&Method::GET, _) => {
            let Some(id) = path.strip_prefix("/api/decisions/") else {
                return text(StatusCode::NOT_FOUND, "not found\n");
            };
            match decisions::find(edge, id).await {
                Ok(Some(decision)) => reply(StatusCode::OK, "application/json", format!("{decision}\n")),
                Ok(None) => json_reply(StatusCode::NOT_FOUND, &json!({ "error": "no such decision is kept here" })),
                Err(error) => json_reply(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": error })),
            }
        }
        (&Method::POST, _) => text(StatusCode::NOT_FOUND, "not found\n"),
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "GET or POST\n"),
    }
}

fn admit(
    request: &Request<Incoming>,
    local: IpAddr,
    need: Need,
    token: &str,
) -> Result<(), Box<Response<Full<Bytes>>>> {
    let headers = request.headers();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if headers.get_all(HOST).iter().count() != 1 || !is_address(host) {
        return Err(Box::new(text(
            StatusCode::MISDIRECTED_REQUEST,
            "Host must be this listener's address or localhost\n",
        )));
    }
    if let Some(origin) = headers.get(ORIGIN)
        && origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://")) != Some(host)
    {
        return Err(Box::new(text(StatusCode::FORBIDDEN, "foreign Origin\n")));
    }
    let needed = match need {
        Need::Nothing => false,
        Need::TokenBeyondLoopback => !local.to_canonical().is_loopback(),
        Need::Token => true,
    };
    if !needed {
        return Ok(());
    }
    if token.is_empty() {
        return Err(Box::new(text(StatusCode::FORBIDDEN, "this needs [admin] token to be set, or [admin] socket\n")));
    }
    let shown = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .is_some_and(|shown| aws_lc_rs::constant_time::verify_slices_are_equal(shown, token.as_bytes()).is_ok());
    if shown {
        return Ok(());
    }
    let mut refusal = text(StatusCode::UNAUTHORIZED, "Authorization: Bearer TOKEN is needed\n");
    refusal.headers_mut().insert(hyper::header::WWW_AUTHENTICATE, hyper::header::HeaderValue::from_static("Bearer"));
    Err(Box::new(refusal))
}

/// An address literal or `localhost`, with or without port: names that no DNS answer can point elsewhere.
fn is_address(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((v6, port)) if port.is_empty() || port.starts_with(':') => v6,
            _ => return false,
        },
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// `?final=1`: nobody comes after us. Whoever is already draining has told the dialogs what comes: that can't be taken back.
async fn drain(edge: &Edge, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let last = match (parameter(request, "final"), request.uri().query()) {
        (Some("1"), _) => true,
        (Some("0"), _) | (None, None | Some("")) => false,
        _ => return json_reply(StatusCode::BAD_REQUEST, &json!({ "error": "the query is final=1, final=0 or none" })),
    };
    if last && *edge.phase.borrow() == Phase::Draining {
        let error = "it drains already: what was asked first counts";
        return json_reply(StatusCode::CONFLICT, &json!({ "draining": true, "error": error }));
    }
    // A loop that is gone has drained.
    let _ = edge.tell(Arrival::Drain { last }).await;
    json_reply(StatusCode::ACCEPTED, &json!({ "draining": true, "final": last }))
}

async fn status(edge: &Edge) -> Value {
    let snapshot = edge.snapshot().await;
    let phase = match *edge.phase.borrow() {
        Phase::Starting => "starting",
        Phase::Ready => "ready",
        Phase::Draining => "draining",
    };
    let mut status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "started": timestamp(edge.clock.started()),
        "phase": phase,
        "policy_version": edge.live.load().settings.policy.version,
        "store_trouble": edge.store_trouble.load().as_deref(),
        "partners": partners(edge),
    });
    if let (Some(snapshot), Some(fields)) = (snapshot, status.as_object_mut()) {
        let links = snapshot.links.iter().map(
            |(side, protocol, open)| json!({ "side": side.as_str(), "protocol": protocol.as_str(), "open": open }),
        );
        fields.insert("links".into(), links.collect());
        let nodes = snapshot.nodes_up.iter().map(|(node, up)| json!({ "node": node, "up": up }));
        fields.insert("nodes".into(), nodes.collect());
        let subscriptions = snapshot
            .subscriptions
            .iter()
            .map(|(partner, state, count)| json!({ "partner": partner, "state": state, "count": count }));
        fields.insert("subscriptions".into(), subscriptions.collect());
        let chats = snapshot.chats.iter().map(|(partner, count)| json!({ "partner": partner, "count": count }));
        fields.insert("chats".into(), chats.collect());
        fields.insert("unresolved".into(), snapshot.unresolved.into());
    }
    status
}

fn partners(edge: &Edge) -> Value {
    let live = edge.live.load();
    live.settings
        .policy
        .partners
        .iter()
        .map(|partner| {
            json!({
                "partner": partner.label,
                "protocol": partner.protocol.as_str(),
                "profile": partner.profile.as_str(),
                "direction": partner.direction.as_str(),
                "allow": partner.allow.iter().map(|action| action.as_str()).collect::<Vec<_>>(),
                "origin": partner.origin,
            })
        })
        .collect()
}

fn parameter<'a>(request: &'a Request<Incoming>, name: &str) -> Option<&'a str> {
    let query = request.uri().query()?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    reply(status, "text/plain; charset=utf-8", body)
}

fn json_reply(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    reply(status, "application/json", format!("{body}\n"))
}

fn reply(status: StatusCode, media: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, hyper::header::HeaderValue::from_static("nosniff"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        hyper::header::HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::{Arrival, is_address, serve_socket, socket};
    use crate::io::edge::{Phase, for_tests};
    use crate::io::settings::Dns;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn draining_for_good_is_told_apart_and_comes_first_or_not_at_all() {
        let (edge, mut arrivals, _gone) = for_tests(Dns::default());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (listener, _file) = socket::bind(&path).await.unwrap();
        let served = tokio::spawn(serve_socket(Arc::clone(&edge), listener));
        let ask = async |target: &str| {
            let mut socket = UnixStream::connect(&path).await.unwrap();
            socket.write_all(format!("POST {target} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            answer.split(' ').nth(1).unwrap().to_owned()
        };
        for (target, wanted) in [("/api/drain", false), ("/api/drain?final=0", false), ("/api/drain?final=1", true)] {
            assert_eq!(ask(target).await, "202", "{target}");
            assert!(matches!(arrivals.try_recv(), Ok(Arrival::Drain { last }) if last == wanted), "{target}");
        }
        for target in ["/api/drain?final", "/api/drain?final=yes", "/api/drain?last=1"] {
            assert_eq!(ask(target).await, "400", "{target}");
        }
        edge.phase.send_replace(Phase::Draining);
        assert_eq!(ask("/api/drain?final=1").await, "409");
        assert!(arrivals.try_recv().is_err());
        assert_eq!(ask("/api/drain").await, "202", "asked twice is asked");
        served.abort();
    }

    #[test]
    fn names_that_dns_could_point_here_are_refused() {
        for host in
            ["127.0.0.1:9630", "127.0.0.1", "[::1]:9630", "[::1]", "localhost:9630", "LOCALHOST", "192.0.2.1:80"]
        {
            assert!(is_address(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9630",
            "127.0.0.1.evil.example",
            "localhost.evil.example:1",
            "[::1",
            "[::1]x",
        ] {
            assert!(!is_address(host), "{host}");
        }
    }
}
