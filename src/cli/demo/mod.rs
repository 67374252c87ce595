//! `fedgate demo`: two domains federate on loopback while you watch.
//!
//! Needs nothing but this program. [`play`] makes a PKI and starts the edge, a small SIP partner ([`partner`]) and a small XMPP node
//! ([`node`]); [`scenes`] says what they do; [`stage`] tells what came of it. The edge is the real one, and what is told was on real sockets:
//! the peers report what they wrote and read ([`seen`]), and a scene that does not get what it expects ends the demo with exit status 1.

mod claims;
mod dialog;
mod node;
mod partner;
mod play;
mod scenes;
mod seen;
mod stage;
mod texts;

use play::Play;
use stage::{Look, Reports, Stage};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What can be typed after it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End after one round
    #[arg(long)]
    pub once: bool,
}

/// Columns when nobody says how many, and the bounds of what is believed.
const WIDTH: usize = 100;
const WIDTHS: std::ops::RangeInclusive<usize> = 60..=200;
/// For each thing that must happen.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between rows when somebody watches.
const PACE: Duration = Duration::from_millis(350);
/// For the edge to stop.
const GOODBYE: Duration = Duration::from_secs(15);

/// Does it.
pub fn main(args: Args) -> ExitCode {
    match begin(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            super::complain(&format!("\nfedgate demo: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn begin(args: Args) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    let outcome = runtime.block_on(async {
        let interrupts = Interrupts::listen()?;
        let (stage, reports) = Stage::new(look(args.once), Box::new(std::io::stdout()));
        perform(stage, reports, texts::PARTNERS, args.once, interrupts).await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

fn look(once: bool) -> Look {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse::<usize>().ok());
    let width = columns.unwrap_or(WIDTH).clamp(*WIDTHS.start(), *WIDTHS.end());
    let is_terminal = std::io::stdout().is_terminal();
    // https://no-color.org
    let terminal = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let pace = if is_terminal && !once { PACE } else { Duration::ZERO };
    Look { width, terminal, pace, patience: PATIENCE }
}

/// Plays everything in a folder of its own, which is gone afterwards however it ends.
async fn perform(
    stage: Stage,
    reports: Reports,
    policies: &str,
    once: bool,
    mut interrupts: Interrupts,
) -> Result<(), String> {
    let folder = tempfile::Builder::new()
        .prefix("fedgate-demo-")
        .tempdir()
        .map_err(|error| format!("no temporary folder: {error}"))?;
    let mut play = Play::set(stage, reports, folder.path(), policies).await?;
    play.stage.curtain("OUTSIDE  lync.example and aol.com, SIP over mutual TLS", "INSIDE  corp.example, XMPP");
    tokio::select! {
        played = async {
            scenes::all(&mut play).await?;
            play.sum_up().await
        } => played?,
        () = interrupts.any() => return Err("interrupted before its end".to_owned()),
    }
    if !once {
        play.say_where_to_look();
        tokio::select! {
            () = play.stage.idle() => {}
            () = interrupts.any() => {}
        }
    }
    scenes::drain(&mut play).await?;
    let Play { mut stage, edge, .. } = play;
    tokio::time::timeout(GOODBYE, edge.wait()).await.map_err(|_| "the edge does not stop".to_owned())?;
    folder.close().map_err(|error| format!("the temporary folder stays: {error}"))?;
    stage.say("\nAll of this was on the wire. The edge has stopped and its folder is gone.");
    Ok(())
}

/// SIGINT and SIGTERM.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn listen() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Look = Look { width: WIDTH, terminal: false, pace: Duration::ZERO, patience: Duration::from_secs(2) };

    async fn outcome(policies: &str) -> Result<(), String> {
        let (stage, reports) = Stage::new(QUIET, Box::new(std::io::sink()));
        perform(stage, reports, policies, true, Interrupts::listen()?).await
    }

    /// A policy under which the edge does not do what the scenes expect: the demo must notice on the wire.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_does_not_happen_fails_the_demo() {
        let closed = texts::PARTNERS.split("[[expect]]").next().unwrap().replacen(
            "\"session\"",
            "\"session\"\nallow = [\"subscribe\", \"presence\"]",
            1,
        );
        let error = outcome(&closed).await.unwrap_err();
        assert!(error.contains("did not happen: the same words at Juliet's server"), "{error}");
        assert!(error.contains("the partner received 403"), "what came instead is said: {error}");
    }
    /// Without AOL's dialect its users have other names.
    #[tokio::test(flavor = "multi_thread")]
    async fn who_is_spelled_wrong_fails_the_demo() {
        let error = outcome(&texts::PARTNERS.replace("\"aol\"", "\"lync\"")).await.unwrap_err();
        assert!(error.contains("did not happen"), "{error}");
        assert!(error.contains("juliet(gmail.com)@aol.com"), "{error}");
    }
}
