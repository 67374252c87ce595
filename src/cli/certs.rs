//! `fedgate certs`

use std::process::ExitCode;

/// What can be typed after it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to
    #[arg(long, value_name = "DIR")]
    pub out: Option<std::path::PathBuf>,
}

/// Does it.
pub fn main(_args: Args) -> ExitCode {
    super::unbuilt("certs", "`fedgate check` and `fedgate explain` are")
}
