//! `fedgate state`: the state store as a file of JSON lines, and back.

use crate::cli::{complain, now, problems_text};
use crate::config::edge::State;
use crate::config::{self, Options};
use crate::io::store::transfer::{self, Counts, TransferError};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What can be typed after `state`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Write what is kept (subscriptions, sessions, decisions) as JSON lines. The edge must be stopped
    Export {
        /// The config file; else ./fedgate.toml, else /etc/fedgate/fedgate.toml
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Where to; `-` is standard output
        #[arg(value_name = "FILE", default_value = "-")]
        to: PathBuf,
    },
    /// Make the state store of an export, all of it or nothing. The edge must be stopped
    Import {
        /// The config file; else ./fedgate.toml, else /etc/fedgate/fedgate.toml
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Replace what the store keeps now
        #[arg(long)]
        replace: bool,
        /// Where from; `-` is standard input
        #[arg(value_name = "FILE")]
        from: PathBuf,
    },
}

/// Exports or imports.
pub fn main(args: Args) -> ExitCode {
    let config = match &args.verb {
        Verb::Export { config, .. } | Verb::Import { config, .. } => config.as_deref(),
    };
    let Some(store) = store(config) else { return ExitCode::FAILURE };
    let outcome = match &args.verb {
        Verb::Export { to, .. } => export(&store, to).map(|counts| (counts, "exported from", store.display())),
        Verb::Import { from, replace, .. } => {
            import(&store, from, *replace).map(|counts| (counts, "imported into", store.display()))
        }
    };
    match outcome {
        Ok((Counts { records, decisions }, done, path)) => {
            // Standard output may be the export.
            complain(&format!("{records} records and {decisions} decisions {done} {path}\n"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("fedgate: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// The file that the configuration names.
fn store(config: Option<&Path>) -> Option<PathBuf> {
    match config::load(&config::path(config), Options::check(now())).into_result() {
        Ok(loaded) => match loaded.edge.state {
            State::Embedded { path } => Some(path),
            State::Memory => {
                complain(
                    "fedgate: [state] engine = \"memory\" keeps nothing in a file; write \"embedded\" to have this\n",
                );
                None
            }
        },
        Err(problems) => {
            complain(&problems_text(&problems));
            None
        }
    }
}

fn export(store: &Path, to: &Path) -> Result<Counts, TransferError> {
    if to == Path::new("-") {
        return transfer::export(store, &mut BufWriter::new(io::stdout().lock()));
    }
    // Under another name until it is whole: an older backup is not lost to a failure.
    let folder = to.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let mut file =
        tempfile::Builder::new().prefix(".fedgate-export-").tempfile_in(folder).map_err(TransferError::Write)?;
    let counts = transfer::export(store, &mut BufWriter::new(&mut file))?;
    file.flush().and_then(|()| file.as_file().sync_all()).map_err(TransferError::Write)?;
    file.persist(to).map_err(|error| TransferError::Write(error.error))?;
    Ok(counts)
}

fn import(store: &Path, from: &Path, replace: bool) -> Result<Counts, TransferError> {
    if from == Path::new("-") {
        return transfer::import(store, &mut io::stdin().lock(), "standard input", replace);
    }
    let name = from.display().to_string();
    let file = File::open(from).map_err(|cause| TransferError::Read { file: name.clone(), cause })?;
    transfer::import(store, &mut BufReader::new(file), &name, replace)
}
