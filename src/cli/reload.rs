//! `fedgate reload`: the running edge reads its configuration again.

use crate::cli::admin::{self, Desk, Purpose};
use crate::cli::{complain, print};
use hyper::{Method, StatusCode};
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// It reads files and looks up the nodes' names.
const WITHIN: Duration = Duration::from_secs(30);

/// What can be typed after it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The edge's config file, for its [admin]; else ./fedgate.toml, else /etc/fedgate/fedgate.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Asks, and tells what came of it.
pub fn main(args: &Args) -> ExitCode {
    match reload(args) {
        Ok(version) => {
            print(&format!("reloaded, policy version {version}\n"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("{error}\nfedgate: not reloaded\n"));
            ExitCode::FAILURE
        }
    }
}

fn reload(args: &Args) -> Result<Value, String> {
    let desk = Desk::of(args.config.as_deref(), Purpose::Change("SIGHUP"))?;
    let asked = desk.ask(Method::POST, "/api/reload", WITHIN);
    let answer = admin::block_on(async { asked.await.map_err(|failure| failure.to_string()) })?;
    let said = answer.json(&[StatusCode::OK, StatusCode::UNPROCESSABLE_ENTITY])?;
    match said["error"].as_str() {
        None => Ok(said["policy_version"].clone()),
        Some(problems) => Err(format!("{problems}\nthe settings that were in force stay so")),
    }
}
