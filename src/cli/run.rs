//! `fedgate run`

use std::process::ExitCode;

/// What can be typed after it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The config file; else ./fedgate.toml, else /etc/fedgate/fedgate.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,
}

/// Does it.
pub fn main(_args: Args) -> ExitCode {
    super::unbuilt("run", "`fedgate check` and `fedgate explain` are")
}
