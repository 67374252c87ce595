//! What an idle stream of a partner costs the program in memory. `IDLE=2000` measures as many.

use crate::world::{World, change, folder, written};
use crate::xmpp::{PARTNER, Stream, from_block, start_tls};
use rustls::version::TLS13;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;

/// What each may cost, in bytes, where nothing is optimised.
const MOST: u64 = 30_000;

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    /// Anonymous memory: what the streams are made of, however much of the program's text they touched.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let kib = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap().trim();
        kib.trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_idle_stream_costs_little() {
    let many: usize = std::env::var("IDLE").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let dir = folder();
    let [.., high, low] = std::process::id().to_be_bytes();
    let at: SocketAddr = format!("127.63.{high}.{low}:5269").parse().unwrap();
    change(dir.path(), "world.toml", "xmpp = []", &format!("xmpp = [\"{at}\"]"));
    let entry = "[[partner]]\ndomain = \"xmpp.example\"\nprotocol = \"xmpp\"\nlimits = { links = 100000 }\n";
    std::fs::write(dir.path().join("policies/20.toml"), entry).unwrap();
    let config = written(dir.path(), "listen = \"\"");
    let text = std::fs::read_to_string(&config).unwrap().replace("xmpp = []", &format!("xmpp = [\"{at}\"]"));
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(std::env::var("FEDGATE").unwrap_or(env!("CARGO_BIN_EXE_fedgate").to_owned()));
    command.args(["run", "--config"]).arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let program = Program(command.spawn().unwrap());
    while TcpStream::connect(at).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let key = (dir.path().join("pki/xmpp.pem"), dir.path().join("pki/xmpp.key"));
    let tls = World::client_showing(Some(key), &[&TLS13]);
    let (mut held, mut before) = (Vec::new(), 0);
    // The first ones make tables and pools grow that the others use.
    let warm = 100;
    for number in 0..many + warm {
        if number == warm {
            tokio::time::sleep(Duration::from_secs(1)).await;
            before = program.resident();
        }
        let mut plain = Stream::new(from_block(number, at).await.unwrap());
        plain.open(PARTNER, "corp.example").await;
        let mut stream = start_tls(plain, &tls, "corp.example").await;
        stream.authenticate(PARTNER, "corp.example").await;
        held.push(stream);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let each = (program.resident() - before) / many as u64;
    println!("{each} bytes an idle authenticated stream over TLS");
    assert!(each < MOST, "{each} bytes each");
}
