//! The way to the running edge, for verbs that ask it: its socket, else its admin listener over TCP.

use crate::config;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// For an answer, connecting included.
pub const SOON: Duration = Duration::from_secs(5);
/// An answer's body: a status of some ten thousand partners.
const BODY: usize = 16 * 1024 * 1024;

/// What a verb wants with the edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To look.
    Read,
    /// To change something; without socket and token it takes this signal instead.
    Change(&'static str),
}

/// Where the edge of a config file can be asked.
#[derive(Debug)]
pub struct Desk {
    config: PathBuf,
    ways: Vec<Way>,
}

#[derive(Debug)]
enum Way {
    Socket(PathBuf),
    Tcp(SocketAddr, String),
}

/// What the edge said.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body.
    pub body: String,
    /// Who said it.
    from: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nobody listens: the edge isn't running.
    #[error("{0}")]
    Gone(String),
    /// Somebody may.
    #[error("{0}")]
    Silent(String),
}

/// Runs a verb's questions.
pub fn block_on<T>(questions: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("no runtime: {error}"))?.block_on(questions)
}

impl Desk {
    /// Reads where it is from the config file.
    pub fn of(config: Option<&Path>, purpose: Purpose) -> Result<Self, String> {
        let config = config::path(config);
        let admin = config::load_admin(&config).map_err(|mut problems| {
            problems.retain(|problem| problem.severity == config::Severity::Error);
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        })?;
        let file = config.display();
        let mut ways: Vec<Way> = admin.socket.into_iter().map(Way::Socket).collect();
        match (admin.listen, purpose) {
            (Some(at), Purpose::Read) => ways.push(Way::Tcp(at, admin.token)),
            (Some(at), Purpose::Change(_)) if !admin.token.is_empty() => ways.push(Way::Tcp(at, admin.token)),
            _ => {}
        }
        if !ways.is_empty() {
            return Ok(Self { config, ways });
        }
        let lines = "  [admin]\n  socket = \"/run/fedgate/admin.sock\"";
        Err(match purpose {
            Purpose::Read => {
                format!(
                    "{file}: [admin] has neither listen nor socket, so the edge can't be asked. Write\n{lines}\nand start it anew"
                )
            }
            Purpose::Change(signal) => format!(
                "{file}: [admin] has neither socket nor token, and nobody may change a running edge without. Write\n{lines}\n\
                 and start it anew; until then, send it {signal}"
            ),
        })
    }

    /// Asks, by the first way that leads to it. `path` with its query.
    pub async fn ask(&self, method: Method, path: &str, within: Duration) -> Result<Answer, Failure> {
        let mut tried = Vec::new();
        let mut somebody = false;
        for way in &self.ways {
            match timeout(within, way.ask(&method, path)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(Missed::Connecting(error))) => {
                    let nobody = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
                    // Who may not open the socket is told by another way, or not at all.
                    somebody |= !nobody && (error.kind() != ErrorKind::PermissionDenied || self.ways.len() == 1);
                    let what = match error.kind() {
                        _ if nobody => "nobody listens".to_owned(),
                        ErrorKind::PermissionDenied => {
                            "may not be opened; ask as the edge's user, or as root".to_owned()
                        }
                        _ => error.to_string(),
                    };
                    tried.push(format!("  {way}: {what}"));
                }
                // It may have been heard: no second time by another way.
                Ok(Err(Missed::Talking(error))) => return Err(Failure::Silent(format!("{way}: {error}"))),
                Err(_) => return Err(Failure::Silent(format!("{way}: no answer within {} s", within.as_secs()))),
            }
        }
        let tried = tried.join("\n");
        let config = self.config.display();
        Err(match somebody {
            true => Failure::Silent(format!("the edge of {config} could not be asked:\n{tried}")),
            false => Failure::Gone(format!(
                "the edge of {config} is not running, or was started with another [admin]:\n{tried}"
            )),
        })
    }

    /// `/api/status`.
    pub async fn status(&self) -> Result<Value, Failure> {
        let answer = self.ask(Method::GET, "/api/status", SOON).await?;
        answer.json(&[StatusCode::OK]).map_err(Failure::Silent)
    }
}

impl Answer {
    /// The body of an answer with one of these statuses; any other is told.
    pub fn json(&self, fine: &[StatusCode]) -> Result<Value, String> {
        let (from, status) = (&self.from, self.status);
        if fine.contains(&status) {
            let read = serde_json::from_str(&self.body);
            return read.map_err(|error| format!("{from}: what answers there is no fedgate of this version: {error}"));
        }
        let said: String = self.body.chars().filter(|c| !c.is_control()).take(500).collect();
        let mend = match status {
            StatusCode::UNAUTHORIZED => "; is [admin] token here the one the edge runs with?",
            _ => "",
        };
        Err(format!("{from}: the edge says {}: {said}{mend}", status.as_u16()))
    }
}

/// Where it went wrong.
enum Missed {
    Connecting(std::io::Error),
    Talking(String),
}

impl Way {
    async fn ask(&self, method: &Method, path: &str) -> Result<Answer, Missed> {
        let talked = match self {
            Way::Socket(at) => {
                let socket = UnixStream::connect(at).await.map_err(Missed::Connecting)?;
                exchange(socket, method, path, "localhost", "").await
            }
            Way::Tcp(at, token) => {
                let socket = TcpStream::connect(at).await.map_err(Missed::Connecting)?;
                exchange(socket, method, path, &at.to_string(), token).await
            }
        };
        let (status, body) = talked.map_err(|error| Missed::Talking(error.to_string()))?;
        Ok(Answer { status, body, from: self.to_string() })
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;

async fn exchange<S>(
    socket: S,
    method: &Method,
    path: &str,
    host: &str,
    token: &str,
) -> Result<(StatusCode, String), Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut request = Request::builder().method(method).uri(path).header(HOST, host);
    if !token.is_empty() {
        let mut shown = HeaderValue::from_str(&format!("Bearer {token}"))?;
        shown.set_sensitive(true);
        request = request.header(AUTHORIZATION, shown);
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY).collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Socket(path) => write!(f, "socket {}", path.display()),
            Way::Tcp(at, _) => write!(f, "http://{at}/"),
        }
    }
}
