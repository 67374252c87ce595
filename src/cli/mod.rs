//! What the operator types. Each command has a file; this is the tree, and the exit status: 0 fine, 1 the answer is no, 2 wrong usage.

pub mod admin;
pub mod certs;
pub mod check;
pub mod decision;
pub mod demo;
pub mod drain;
pub mod explain;
pub mod reload;
pub mod remembered;
pub mod replay;
pub mod run;
mod sip_nodes;
pub mod state;
pub mod status;

use crate::config::{self, Loaded, Options, Problem, Severity};
use crate::gate::Time;
use clap::{CommandFactory, Parser, Subcommand};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Wrong usage, or a verb that is not in this version.
pub const USAGE: u8 = 2;

/// The federation edge between your presence servers and your partners'.
#[derive(Debug, Parser)]
#[command(name = "fedgate", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the edge. SIGHUP reloads, SIGTERM drains
    Run(run::Args),
    /// Two domains federate on loopback while you watch
    Demo(demo::Args),
    /// Read config, policies and certificates; report every problem at once
    Check(check::Args),
    /// Why was this (ID), or would this be (--from, --to, --do), refused or allowed? Sends nothing
    Explain(explain::Args),
    /// Make an example PKI: an authority, our certificate, a partner's
    Certs(certs::Args),
    /// What outlives a restart: export it, import it
    State(state::Args),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// What a partner looks like from here (not in this version: see `check` and the log)
    Probe(Unbuilt),
    /// Nodes, links, partners, subscriptions and chats of the running edge
    Status(status::Args),
    /// The running edge reads its configuration again; with an error in it nothing changes
    Reload(reload::Args),
    /// The running edge settles what is under way and stops
    Drain(drain::Args),
    /// Follow one partner's signalling (not in this version: the audit file has every decision)
    Record(Unbuilt),
}

/// Whatever is typed after a verb that is not in this version.
#[derive(Debug, clap::Args)]
struct Unbuilt {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run::main(args),
        Command::Demo(args) => demo::main(args),
        Command::Check(args) => check::main(args),
        Command::Explain(args) => explain::main(args),
        Command::Certs(args) => certs::main(args),
        Command::State(args) => state::main(args),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "fedgate", &mut text);
            print(&String::from_utf8_lossy(&text));
            ExitCode::SUCCESS
        }
        Command::Probe(_) => {
            unbuilt("probe", "`fedgate check` shows each partner's settings, the log each attempt to reach it")
        }
        Command::Status(args) => status::main(&args),
        Command::Reload(args) => reload::main(&args),
        Command::Drain(args) => drain::main(&args),
        Command::Record(_) => unbuilt("record", "the audit file ([log] audit) has every decision"),
    }
}

/// A verb that can't be used yet.
pub(crate) fn unbuilt(verb: &str, instead: &str) -> ExitCode {
    complain(&format!("fedgate: {verb} is not in this version; {instead}\n"));
    ExitCode::from(USAGE)
}

/// Writes to standard output; a reader who has gone (`| head`) is no error.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes to standard error.
pub(crate) fn complain(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Now, for the validity of certificates.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_unix_seconds(since.as_secs())
}

/// The configuration, or the errors in it.
pub(crate) fn load(path: Option<&Path>) -> Result<Loaded, Vec<Problem>> {
    config::load(&config::path(path), Options::check(now())).into_result().map_err(|mut problems| {
        problems.retain(|problem| problem.severity == Severity::Error);
        problems
    })
}

/// Problems, one on a line, and how many.
pub(crate) fn problems_text(problems: &[Problem]) -> String {
    let count = |severity, word: &str| {
        let count = problems.iter().filter(|problem| problem.severity == severity).count();
        format!("{count} {word}{}", if count == 1 { "" } else { "s" })
    };
    let lines: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
    let (errors, warnings) = (count(Severity::Error, "error"), count(Severity::Warning, "warning"));
    format!("{lines}{errors}, {warnings}, {}\n", count(Severity::Note, "note"))
}

/// Problems for programs.
pub(crate) fn problems_json(problems: &[Problem]) -> Value {
    let each = |problem: &Problem| {
        json!({
            "severity": problem.severity.as_str(),
            "file": problem.file,
            "line": problem.line,
            "column": problem.column,
            "key": problem.key,
            "what": problem.what,
            "mend": problem.mend,
        })
    };
    problems.iter().map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }
}
