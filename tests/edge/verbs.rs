//! The admin socket, and the verbs that ask the running edge: the built program against an edge in this process, or one of its own.

use crate::world::{PATIENCE, World, folder, start_in, written};
use serde_json::Value;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Status, standard output, standard error.
type Told = (Option<i32>, String, String);

fn told(output: Output) -> Told {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn fedgate(config: &Path, verb: &[&str]) -> Told {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fedgate"));
    told(command.args(verb).arg("--config").arg(config).output().unwrap())
}

impl World {
    /// A verb, by this `[admin]`; beside the runtime, which has the edge to run.
    async fn verb(&self, admin: &str, verb: &'static [&'static str]) -> Told {
        let config = written(self.dir.path(), admin);
        tokio::task::spawn_blocking(move || fedgate(&config, verb)).await.unwrap()
    }

    fn tcp(&self, token: &str) -> String {
        format!("listen = \"{}\"\ntoken = \"{token}\"", self.edge.admin.unwrap())
    }
}

/// By the socket only.
const SOCKET: &str = "listen = \"\"\nsocket = \"admin.sock\"";

async fn over_socket(path: &Path, request: &str) -> (String, String) {
    let mut socket = UnixStream::connect(path).await.unwrap();
    socket.write_all(format!("{request} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    let status = answer.split(' ').nth(1).unwrap().to_owned();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test]
async fn the_socket_is_its_owners_and_needs_no_token() {
    let world = World::start().await;
    let path = world.dir.path().join("admin.sock");
    assert_eq!(std::fs::symlink_metadata(&path).unwrap().mode() & 0o7777, 0o600);
    for (request, status) in [
        ("GET /healthz", "200"),
        ("GET /", "200"),
        ("GET /metrics", "200"),
        ("GET /api/decisions", "200"),
        ("GET /nothing", "404"),
        ("PUT /api/reload", "405"),
        ("POST /api/reload", "200"),
    ] {
        assert_eq!(over_socket(&path, request).await.0, status, "{request}");
    }
    let (_, status) = over_socket(&path, "GET /api/status").await;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["phase"], &status["pid"]), (&Value::from("ready"), &Value::from(std::process::id())));
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let started: jiff::Timestamp = status["started"].as_str().unwrap().parse().unwrap();
    let age = jiff::Timestamp::now().as_second() - started.as_second();
    assert!((0..60).contains(&age), "{started}");
    assert_eq!(status["partners"][0]["partner"], "lync.example");
    // What is open to the owner is not to whoever reaches the port.
    assert_eq!(world.http("POST /api/drain").await.0, 401);
    assert_eq!(world.http("GET /api/status\nHost: rebound.example").await.0, 421);
}

#[tokio::test]
async fn a_second_edge_leaves_the_first_its_socket() {
    let world = World::start().await;
    let path = world.dir.path().join("admin.sock");
    let inode = std::fs::metadata(&path).unwrap().ino();
    let Err(error) = start_in(world.dir.path()).await else { panic!("two edges on one socket") };
    assert!(error.contains("admin.sock: another edge uses it"), "{error}");
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode);
    assert_eq!(over_socket(&path, "GET /readyz").await, ("200".to_owned(), "ready\n".to_owned()));
    world.edge.drain().await;
    tokio::time::timeout(PATIENCE, world.edge.wait()).await.unwrap();
    assert!(!path.exists(), "a clean stop removes it");
}

#[tokio::test]
async fn status_is_told_by_either_way() {
    let world = World::start().await;
    let tcp = world.tcp("");
    let both = format!("{tcp}\nsocket = \"nobody.sock\"");
    for admin in [SOCKET, &tcp, &both] {
        let (code, out, error) = world.verb(admin, &["status"]).await;
        assert_eq!((code, error.as_str()), (Some(0), ""), "{admin}");
        for line in [
            &format!("fedgate {}, ready, pid {}, policy version 1\n", env!("CARGO_PKG_VERSION"), std::process::id()),
            "\nunresolved messages: 0 (must be 0)\n",
            "\n  imp-1  ",
            "\n  lync.example   sip       lync     both",
            "\nSubscriptions: none\n",
            "\nChats: none\n",
        ] {
            assert!(out.contains(line), "{admin}: {line}\n{out}");
        }
        let (code, out, _) = world.verb(admin, &["status", "--json"]).await;
        let json: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &json["nodes"][0]["node"]), (Some(0), &Value::from("imp-1")), "{out}");
    }
    // What is wrong elsewhere does not keep anybody from looking.
    for wrong in ["[nonsense]\nkey = 1\n", "[[partner\n", "[state]\nengine = \"none\"\n"] {
        let (code, _, error) = world.verb(&format!("{SOCKET}\n{wrong}"), &["status"]).await;
        assert_eq!(code, Some(0), "{wrong}: {error}");
    }
    let (code, _, error) = world.verb("socket = 1", &["status"]).await;
    assert!(code == Some(1) && error.contains("fedgate.toml:") && error.contains("admin.socket"), "{error}");
}

/// The edge remembers the newest decisions, its audit file more.
#[tokio::test]
async fn an_id_that_the_edge_has_forgotten_is_found_in_its_audit() {
    let world = World::start().await;
    std::fs::write(world.dir.path().join("audit.jsonl"), "{\"id\":\"7ZQ4M0T1XK\",\"verdict\":\"allowed\"}\n").unwrap();
    let (status, text, error) = world.verb(SOCKET, &["explain", "--json", "7zq4mot1xk"]).await;
    assert!(status == Some(0) && text.contains("7ZQ4M0T1XK"), "{text}{error}");
    let (status, _, error) = world.verb(SOCKET, &["explain", "AAAAAAAAAA"]).await;
    assert!(status == Some(1) && error.contains("no decision AAAAAAAAAA is remembered"), "{error}");
}

#[tokio::test]
async fn reload_is_done_or_says_why_not() {
    let world = World::start().await;
    let policy = world.dir.path().join("policies/10.toml");
    let before = std::fs::read_to_string(&policy).unwrap();
    let tcp = world.tcp("sesame");
    for admin in [SOCKET, &tcp] {
        std::fs::write(&policy, "[[partner]]\nthis is no TOML").unwrap();
        let (code, out, error) = world.verb(admin, &["reload"]).await;
        assert_eq!((code, out.as_str()), (Some(1), ""), "{error}");
        assert!(error.contains("10.toml:2:") && error.ends_with("stay so\nfedgate: not reloaded\n"), "{error}");
        std::fs::write(&policy, &before).unwrap();
        let (code, out, error) = world.verb(admin, &["reload"]).await;
        assert_eq!((code, error.as_str()), (Some(0), ""));
        assert!(out.starts_with("reloaded, policy version "), "{out}");
    }
    let (_, metrics) = world.http("GET /metrics").await;
    for line in [r#"fedgate_reloads_total{outcome="ok"} 2"#, r#"fedgate_reloads_total{outcome="failed"} 2"#] {
        assert!(metrics.contains(line), "{metrics}");
    }
    let (code, _, error) = world.verb(&world.tcp("sesam"), &["reload"]).await;
    assert!(code == Some(1) && error.contains("401") && error.contains("[admin] token"), "{error}");
    for (verb, signal) in [(&["reload"][..], "SIGHUP"), (&["drain"], "SIGTERM")] {
        let (code, _, error) = world.verb(&world.tcp(""), verb).await;
        assert_eq!(code, Some(1), "{error}");
        assert!(error.contains("\n  [admin]\n  socket = \"") && error.contains(signal), "{error}");
    }
}

/// The program, running; ended with the test.
struct Program {
    child: Child,
    config: PathBuf,
}

impl Program {
    /// Started, and ready.
    fn start(config: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fedgate"));
        command.args(["run", "--config"]).arg(config).stderr(Stdio::null());
        let program = Self { child: command.spawn().unwrap(), config: config.to_owned() };
        let begun = Instant::now();
        while !program.verb(&["status"]).1.contains(&format!("ready, pid {}", program.child.id())) {
            assert!(begun.elapsed() < PATIENCE, "{:?}", program.verb(&["status"]));
            std::thread::sleep(Duration::from_millis(50));
        }
        program
    }

    fn verb(&self, verb: &[&str]) -> Told {
        fedgate(&self.config, verb)
    }

    /// Its exit status, which must come.
    fn ended(&mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status.code(),
                None => assert!(begun.elapsed() < PATIENCE, "it still runs"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_socket_of_the_dead_is_taken_over_and_drain_waits_for_the_end() {
    let dir = folder();
    let config = written(dir.path(), SOCKET);
    let socket = dir.path().join("admin.sock");
    let mut killed = Program::start(&config);
    killed.child.kill().unwrap();
    killed.ended();
    assert!(std::fs::symlink_metadata(&socket).unwrap().file_type().is_socket(), "nobody was left to remove it");
    let (code, out, error) = fedgate(&config, &["status"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(error.contains("is not running") && error.contains("admin.sock: nobody listens"), "{error}");

    let mut program = Program::start(&config);
    assert_eq!(std::fs::metadata(&socket).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(program.verb(&["drain"]), (Some(0), "stopped\n".to_owned(), String::new()));
    assert_eq!(program.ended(), Some(0));
    assert!(!socket.exists());
    let (code, _, error) = fedgate(&config, &["drain"]);
    assert!(code == Some(1) && error.contains("is not running"), "{error}");
}

#[test]
fn drain_by_token_ends_the_program_too() {
    let dir = folder();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = written(dir.path(), &format!("listen = \"127.0.0.1:{port}\"\ntoken = \"sesame\""));
    let mut program = Program::start(&config);
    assert_eq!(program.verb(&["drain", "--final", "--no-wait"]), (Some(0), "draining\n".to_owned(), String::new()));
    assert_eq!(program.ended(), Some(0));
    let mut program = Program::start(&config);
    assert_eq!(program.verb(&["drain", "--final"]), (Some(0), "stopped\n".to_owned(), String::new()));
    assert_eq!(program.ended(), Some(0));
    let (_, _, error) = fedgate(&config, &["status"]);
    assert!(error.contains(&format!("http://127.0.0.1:{port}/: nobody listens")), "{error}");
}
