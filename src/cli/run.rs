//! `fedgate run`

use crate::{app, config};
use std::process::ExitCode;

/// What can be typed after it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The config file; else ./fedgate.toml, else /etc/fedgate/fedgate.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,
}

/// Runs the edge until it is told to stop.
pub fn main(args: Args) -> ExitCode {
    let path = config::path(args.config.as_deref());
    match app::run(app::loader(path.clone())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            super::complain(&format!(
                "{error}\nfedgate: not started; `fedgate check --config {}` says more\n",
                path.display()
            ));
            ExitCode::FAILURE
        }
    }
}
