//! `fedgate demo`, as it is typed: what it tells, how it ends, and that the commands it names work while it stays up.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn fedgate(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fedgate"));
    command.env("TMPDIR", folder).env("COLUMNS", "200").stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asserts that the telling has these, one behind the other.
fn assert_in_order(told: &str, parts: &[&str]) {
    let mut rest = told;
    for part in parts {
        let at = rest.find(part).unwrap_or_else(|| panic!("no `{part}` where it belongs in\n{told}"));
        rest = &rest[at + part.len()..];
    }
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn one_round_tells_every_scene() {
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let Output { status, stdout, stderr } = fedgate(folder.path()).args(["demo", "--once"]).output().unwrap();
    let told = text(&stdout);
    assert!(status.success(), "{status}\n{told}\n{}", text(&stderr));
    assert_eq!(text(&stderr), "");
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
    assert_in_order(
        &told,
        &[
            "OUTSIDE",
            "INSIDE",
            "sip.lync.example connects with its certificate",
            // Asked, approved, followed.
            "SUBSCRIBE juliet@corp.example",
            "→ edge →",
            "<presence type='subscribe' from='romeo@lync.example'/>",
            "<db:verify from='lync.example' type='valid'/>",
            "200 OK (SUBSCRIBE)",
            "NOTIFY pending",
            "<db:result from='lync.example' type='valid'/>",
            "NOTIFY active",
            "← edge ←",
            "<presence type='subscribed' to='romeo@lync.example'/>",
            "sip:juliet@corp.example: open",
            "<presence to='romeo@lync.example'>",
            "open, busy, “On the balcony <&> 🌙”",
            "<show>dnd</show>",
            "<status>On the balcony &lt;&amp;&gt; 🌙</status>",
            "open, away",
            "<show>away</show>",
            // The other way round: nothing while pending, then granted and seen.
            "5. The other way round: Juliet asks to see Romeo",
            "SUBSCRIBE romeo@lync.example",
            "← edge ←",
            "<presence type='subscribe' to='romeo@lync.example'/>",
            "200 OK (SUBSCRIBE)",
            "NOTIFY pending;expires=3600",
            "200 OK (NOTIFY)",
            "pending: nothing was said inside",
            "NOTIFY active;expires=3600",
            "→ edge →",
            "<presence type='subscribed' from='romeo@lync.example'/>",
            "sip:romeo@lync.example: open, busy",
            "<presence from='romeo@lync.example/sip'>",
            "<show>away</show>",
            "<status>Busy</status>",
            "200 OK (NOTIFY)",
            "NOTIFY active;expires=3600",
            "→ edge →",
            "<presence from='romeo@lync.example/sip'/>",
            "sip:romeo@lync.example: open",
            "200 OK (NOTIFY)",
            // A message by itself.
            "6. Romeo writes",
            "MESSAGE juliet@corp.example",
            "Wherefore <&> not? 🌹",
            "<body>Wherefore &lt;&amp;&gt; not? 🌹</body>",
            "<ping xmlns='urn:xmpp:ping'/>",
            "<iq type='result' to='lync.example'/>",
            "200 OK (MESSAGE)",
            // A session of the edge's.
            "7. Juliet answers",
            "INVITE romeo@lync.example",
            "<message type='chat' to='romeo@lync.example'>",
            "m=message 5060 sip null",
            "<body>Good night &lt;&amp;&gt; good night 👋</body>",
            "200 OK (INVITE)",
            "ACK romeo@lync.example",
            "MESSAGE romeo@lync.example",
            "Good night <&> good night 👋",
            "200 OK (MESSAGE)",
            "BYE romeo@lync.example",
            "<gone xmlns='http://jabber.org/protocol/chatstates'/>",
            "200 OK (BYE)",
            // A session of the partner's: typing and words both ways, and its end.
            "8. Romeo opens a chat",
            "INVITE juliet@corp.example",
            "m=message 5060 sip null",
            "200 OK (INVITE)",
            "ACK sip.corp.example",
            "INFO sip.corp.example",
            "→ edge →",
            "<message type='chat' from='romeo@lync.example'>",
            "<status status=\"type\" />",
            "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
            "200 OK (INFO)",
            "MESSAGE sip.corp.example",
            "→ edge →",
            "O, speak again <&> 🌟",
            "<body>O, speak again &lt;&amp;&gt; 🌟</body>",
            "<ping xmlns='urn:xmpp:ping'/>",
            "200 OK (MESSAGE)",
            "9. Juliet types and answers in the same session",
            "INFO romeo@lync.example",
            "← edge ←",
            "<status status=\"type\" />",
            "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
            "200 OK (INFO)",
            "MESSAGE romeo@lync.example",
            "← edge ←",
            "Deny thy father <&> refuse thy name ⚔",
            "200 OK (MESSAGE)",
            "BYE sip.corp.example",
            "→ edge →",
            "<gone xmlns='http://jabber.org/protocol/chatstates'/>",
            "200 OK (BYE)",
            // An address in two spellings.
            "10. AOL spells",
            "sip.aol.com connects with its certificate",
            "MESSAGE juliet@corp.example",
            "<message from='juliet\\40gmail.com@aol.com'>",
            "Hello from the other Juliet <&> 📎",
            "200 OK (MESSAGE)",
            "MESSAGE juliet(gmail.com)@aol.com",
            "<message type='chat' to='juliet\\40gmail.com@aol.com'>",
            "Hello, namesake <&> 📞",
            "200 OK (MESSAGE)",
            // Refused, with its explanation.
            "sip.stranger.example connects with its certificate",
            "SUBSCRIBE juliet@corp.example",
            "403 Forbidden (SUBSCRIBE)",
            "Warning: 399 sip.corp.example \"fedgate ",
            "unlisted-domain",
            "refused, unlisted-domain: no [[partner]] entry for stranger.example",
            "no  no [[partner]] has domain = \"stranger.example\"",
            // Counted, and ended.
            "On the wire",
            "stranger received 1 403",
            "As the edge counted it",
            "fedgate_messages_total{direction=\"in\",kind=\"message\",outcome=\"delivered\"} 2",
            "fedgate_messages_total{direction=\"in\",kind=\"chat\",outcome=\"delivered\"} 1",
            "direction=\"out\",kind=\"chat\",outcome=\"delivered\",partner=\"lync.example\"} 2",
            "direction=\"out\",kind=\"message\",outcome=\"delivered\",partner=\"aol.com\"} 1",
            "fedgate_subscriptions{partner=\"lync.example\",state=\"active\"} 2",
            "fedgate_refusals_total{reason=\"unlisted-domain\"} 1",
            "NOTIFY terminated;reason=deactivated",
        ],
    );
    assert!(!told.contains('\u{1b}'), "no colour where no terminal is");
    let (columns, line) = told.lines().map(|line| (line.chars().count(), line)).max().unwrap();
    assert!(columns <= 200, "{line}");
    assert!(is_empty(folder.path()), "its folder is gone");
}

#[test]
fn narrow_terminals_get_narrow_columns() {
    let folder = tempfile::tempdir().unwrap();
    let output = fedgate(folder.path()).args(["demo", "--once"]).env("COLUMNS", "72").output().unwrap();
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", text(&output.stderr));
    let scenes = told.split("On the wire").next().unwrap();
    let titles = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit()) && line.contains(". ");
    for line in scenes.lines().filter(|line| !titles(line)) {
        assert!(line.chars().count() <= 72, "{line}");
    }
    assert_in_order(scenes, &["→ edge →", "← edge ←"]);
}

#[test]
fn without_a_folder_it_fails() {
    let output = fedgate(Path::new("/nonexistent")).args(["demo", "--once"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no temporary folder"), "{}", text(&output.stderr));
}

/// A demo that is up; ended with its test.
struct Demo {
    child: std::process::Child,
    told: BufReader<std::process::ChildStdout>,
}

impl Demo {
    fn start(folder: &Path) -> Self {
        let mut child = fedgate(folder).arg("demo").stdout(Stdio::piped()).spawn().unwrap();
        let told = BufReader::new(child.stdout.take().unwrap());
        Self { child, told }
    }

    /// What it tells up to a line that holds `last`.
    fn until(&mut self, last: &str) -> String {
        let mut told = String::new();
        while !told.lines().next_back().is_some_and(|line| line.contains(last)) {
            assert_ne!(self.told.read_line(&mut told).unwrap(), 0, "it ended before `{last}`:\n{told}");
        }
        told
    }

    fn interrupt(&self) {
        let status = Command::new("sh").args(["-c", &format!("kill -s INT {}", self.child.id())]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(admin: &str, path: &str) -> String {
    let mut socket = TcpStream::connect(admin).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    answer
}

#[test]
fn what_it_says_to_try_works_until_ctrl_c() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(folder.path());
    let told = demo.until("Ctrl-C");

    let admin = told.rsplit("http://").next().and_then(|rest| rest.split('/').next()).unwrap();
    assert!(get(admin, "/healthz").contains("alive"));
    assert!(get(admin, "/").contains("lync.example"));
    assert!(get(admin, "/metrics").contains("fedgate_subscriptions{partner=\"lync.example\",state=\"active\"} 2"));

    let commands: Vec<Vec<&str>> = told
        .lines()
        .filter_map(|line| line.trim().strip_prefix("fedgate "))
        .map(|arguments| arguments.split(' ').collect())
        .collect();
    let [check, allowed, refused] = commands.as_slice() else { panic!("{told}") };
    let run = |arguments: &[&str]| fedgate(folder.path()).args(arguments).output().unwrap();
    let checked = run(check);
    assert!(checked.status.success(), "{}{}", text(&checked.stdout), text(&checked.stderr));
    assert!(text(&checked.stdout).contains("0 errors, 0 warnings"), "{}", text(&checked.stdout));
    let (allowed, refused) = (run(allowed), run(refused));
    assert_eq!((allowed.status.code(), refused.status.code()), (Some(0), Some(1)));
    assert!(text(&refused.stdout).contains("unlisted-domain"), "{}", text(&refused.stdout));

    let config = PathBuf::from(check[2]);
    let audit = std::fs::read_to_string(config.with_file_name("audit.jsonl")).unwrap();
    let id = told.split("\"fedgate ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    assert!(audit.lines().any(|line| line.contains(id) && line.contains("tybalt@stranger.example")), "{audit}");
    let why = run(&["explain", "--config", check[2], id]);
    assert_eq!(why.status.code(), Some(1), "it was refused: {}", text(&why.stderr));
    let why = text(&why.stdout);
    assert!(why.contains("tybalt@stranger.example") && why.contains("refused: unlisted-domain"), "{why}");
    let unknown = run(&["explain", "--config", check[2], "0000000000"]);
    assert!(!unknown.status.success() && text(&unknown.stderr).contains("no decision 0000000000 is remembered"));

    demo.interrupt();
    demo.until("NOTIFY terminated;reason=deactivated");
    let status = demo.child.wait().unwrap();
    assert!(status.success(), "{status}");
    assert!(is_empty(folder.path()), "its folder is gone");
}
