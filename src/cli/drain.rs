//! `fedgate drain`: the running edge settles what is under way, and stops.

use crate::cli::admin::{self, Desk, Failure, Purpose, SOON};
use crate::cli::status::count;
use crate::cli::{complain, print};
use hyper::{Method, StatusCode};
use serde_json::Value;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Until it must have gone. It gives itself 12 s.
const GONE: Duration = Duration::from_secs(60);
/// How often we look.
const LOOK: Duration = Duration::from_millis(250);

/// What can be typed after it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The edge's config file, for its [admin]; else ./fedgate.toml, else /etc/fedgate/fedgate.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// For good: end every subscription instead of keeping what a restart takes up again
    #[arg(long = "final")]
    pub last: bool,
    /// Come back as soon as it has been told, not when it has gone
    #[arg(long)]
    pub no_wait: bool,
}

/// Asks, and waits until the edge has gone.
pub fn main(args: &Args) -> ExitCode {
    match drain(args) {
        Ok(said) => {
            print(&format!("{said}\n"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("fedgate: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn drain(args: &Args) -> Result<String, String> {
    let desk = Desk::of(args.config.as_deref(), Purpose::Change("SIGTERM"))?;
    admin::block_on(async {
        let before = desk.status().await.map_err(|failure| failure.to_string())?;
        let path = if args.last { "/api/drain?final=1" } else { "/api/drain" };
        let answer = desk.ask(Method::POST, path, SOON).await.map_err(|failure| failure.to_string())?;
        let said = answer.json(&[StatusCode::ACCEPTED, StatusCode::CONFLICT])?;
        if let Some(error) = said["error"].as_str() {
            return Err(error.to_owned());
        }
        if args.no_wait { Ok("draining".to_owned()) } else { wait(&desk, &before).await }
    })
}

/// Until nobody answers, or another process does.
async fn wait(desk: &Desk, before: &Value) -> Result<String, String> {
    let begun = Instant::now();
    let progress = Progress(std::io::stderr().is_terminal());
    loop {
        let silent = match desk.status().await {
            Err(Failure::Gone(_)) => return Ok("stopped".to_owned()),
            Ok(now) if now["pid"] != before["pid"] || now["started"] != before["started"] => {
                return Ok(format!("stopped; another edge runs there now, pid {}", now["pid"]));
            }
            Ok(now) => {
                progress.show(&now, begun.elapsed());
                String::new()
            }
            // It is going: a connection may end in the middle of an answer.
            Err(Failure::Silent(error)) => format!("; {error}"),
        };
        if begun.elapsed() >= GONE {
            return Err(format!(
                "it was told, but still runs (pid {}) after {} s{silent}",
                before["pid"],
                GONE.as_secs()
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// One line on a terminal, written over and over, and wiped at the end.
struct Progress(bool);

impl Progress {
    fn show(&self, status: &Value, since: Duration) {
        if self.0 {
            complain(&format!(
                "\r\x1b[Kdraining: {} links, {} subscriptions, {} chats, {} s",
                count(&status["links"], "open"),
                count(&status["subscriptions"], "count"),
                count(&status["chats"], "count"),
                since.as_secs(),
            ));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.0 {
            complain("\r\x1b[K");
        }
    }
}
