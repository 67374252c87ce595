//! `fedgate demo`

use std::process::ExitCode;

/// What can be typed after it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End after one round
    #[arg(long)]
    pub once: bool,
}

/// Does it.
pub fn main(_args: Args) -> ExitCode {
    super::unbuilt("demo", "`fedgate check` and `fedgate explain` are")
}
