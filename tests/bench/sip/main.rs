//! What one message, one subscription and one handshake cost on the way through fedgate, and through what else could stand in its place.
//!
//! The ends are here, in this process and on one thread; what stands in the middle runs as processes of their own, whose CPU is read from /proc.
//! All share the machine, and take turns, so that what else the machine does meets each. Prints figures and whether they reach what we want;
//! never fails on time.

#[path = "../identity.rs"]
mod identity;
mod link;
mod middle;
mod node;
mod partner;
mod pipe;
#[path = "../process.rs"]
mod process;
mod table;
mod text;
mod tls;

use clap::Parser;
use middle::{Ends, KINDS, Kind, Middle, Program};
use node::Node;
use partner::{How, Partner, What};
use rustls::ClientConfig;
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use table::{Cost, Figures};

/// What can be typed after `tests/bench/run sip`.
#[derive(Parser, Debug)]
struct Args {
    /// A quarter of everything, in one round: for trying out, not for figures
    #[arg(long)]
    quick: bool,
    /// Only these
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Program>,
    /// When paced, so many fall due at the same moment; 1: evenly spread
    #[arg(long, default_value_t = 1)]
    bunch: usize,
    /// Fail when Kamailio or HAProxy is not installed
    #[arg(long)]
    require_peers: bool,
    /// Be the byte pipe: listen, node, folder of certificates
    #[arg(long, hide = true, num_args = 3)]
    pipe: Option<Vec<String>>,
    /// cargo says it
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much in all rounds together.
struct Amounts {
    rounds: usize,
    messages: usize,
    subscriptions: usize,
    paced: usize,
    handshakes: usize,
}

const WHOLE: Amounts = Amounts { rounds: 2, messages: 40_000, subscriptions: 16_000, paced: 12_000, handshakes: 1_000 };
const QUICK: Amounts = Amounts { rounds: 1, messages: 10_000, subscriptions: 4_000, paced: 4_000, handshakes: 250 };
/// What only copies bytes gets so many times as much when saturated, for the kernel counts CPU in hundredths of a second.
const COPIES: usize = 3;
/// Connections, and whatever else the first request pays for all.
const WARM: usize = 100;

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(pipe) = &args.pipe {
        let at = |text: &str| text.parse::<SocketAddr>().expect("address:port");
        pipe::run(at(&pipe[0]), at(&pipe[1]), Path::new(&pipe[2]));
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, measure(&args))
}

/// A box between its own partner and node.
struct World {
    kind: Kind,
    middle: Middle,
    node: Rc<Node>,
    partner: Rc<Partner>,
}

async fn measure(args: &Args) -> ExitCode {
    let begun = Instant::now();
    let amounts = if args.quick { QUICK } else { WHOLE };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certs = folder.path().join("certs");
    tls::make(&certs);
    let client = tls::client(&certs, "partner");

    table::head(args.bunch, &amounts_text(&amounts));
    let mut left_out = false;
    let mut failed = false;
    let mut worlds = Vec::new();
    let mut figures = Vec::new();
    let mut said = None;
    for kind in KINDS {
        let program = kind.program();
        if !args.only.is_empty() && !args.only.contains(&program) {
            continue;
        }
        match program.version() {
            Ok(version) if said != Some(program) => {
                println!("{:<25} {version}", format!("{program:?}:").to_lowercase())
            }
            Ok(_) => {}
            Err(why) => {
                println!("left out: {}: {why}", kind.name());
                left_out = true;
                continue;
            }
        }
        said = Some(program);
        match World::build(kind, &folder.path().join(kind.name()), &certs, &client, args.bunch).await {
            Ok(world) => {
                figures.push(Figures::new(kind));
                worlds.push(Some(world));
            }
            Err(why) => {
                println!("FAILED: {}: {why}", kind.name());
                failed = true;
            }
        }
    }
    for round in 1..=amounts.rounds {
        for (place, figures) in worlds.iter_mut().zip(&mut figures) {
            let Some(world) = place else { continue };
            progress(&format!("round {round} of {}: {}", amounts.rounds, world.kind.name()));
            if let Err(why) = world.round(&amounts, &client, figures).await {
                progress("");
                println!("FAILED: {}: {why}\nit says\n{}", world.kind.name(), world.middle.running.says());
                failed = true;
                // Its other figures would be of something that does not work.
                *place = None;
                *figures = Figures::new(figures.kind);
            }
        }
    }
    progress("");
    for (world, figures) in worlds.iter().zip(&mut figures) {
        figures.usage = world.as_ref().map(|world| world.middle.running.usage());
    }
    drop(worlds);
    table::print(&figures);
    println!("\n{:.0} s in all", begun.elapsed().as_secs_f64());
    if args.require_peers && left_out {
        println!("something was left out, and --require-peers is set");
    }
    if failed || (args.require_peers && left_out) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn amounts_text(amounts: &Amounts) -> String {
    let sizes = [text::message(5061, 0).size(), text::subscribe(5061, 0).size()];
    format!(
        "{} MESSAGEs ({} bytes, of them {} of body) and {} SUBSCRIBEs ({} bytes) saturated (HAProxy and the pipe: {COPIES} times as many), {} of each paced, \
         {} handshakes, in {} round(s); {} users of each side",
        amounts.messages,
        sizes[0].0,
        sizes[0].1,
        amounts.subscriptions,
        sizes[1].0,
        amounts.paced,
        amounts.handshakes,
        amounts.rounds,
        text::USERS
    )
}

impl World {
    async fn build(
        kind: Kind,
        folder: &Path,
        certs: &Path,
        client: &Arc<ClientConfig>,
        bunch: usize,
    ) -> Result<Self, String> {
        let node = Node::listen(tls::server(certs, "node")).await;
        let partner = Partner::listen(tls::server(certs, "partner"), bunch.max(1)).await;
        let ends = Ends { partner: partner.at, node: node.at, certs };
        let middle = Middle::start(kind, folder, ends).await?;
        if let Some(inside) = middle.inside {
            node.open(inside, certs).await?;
            // What masking is for.
            partner.forbid(vec![node.at.ip().to_string(), tls::NODE.to_owned()]);
        }
        partner.open(middle.outside, client).await?;
        let world = Self { kind, middle, node, partner };
        for what in [What::Message, What::Subscribe] {
            let warm = world.run(what, How::Saturated, WARM).await;
            warm.map_err(|why| format!("{why}\nit says\n{}", world.middle.running.says()))?;
        }
        Ok(world)
    }

    async fn round(
        &mut self,
        amounts: &Amounts,
        client: &Arc<ClientConfig>,
        figures: &mut Figures,
    ) -> Result<(), String> {
        if figures.of(What::Message, How::First).is_empty() {
            for what in [What::Message, What::Subscribe] {
                let cost = self.run(what, How::First, text::USERS as usize).await?;
                figures.of(what, How::First).add(cost);
            }
        }
        let more = if self.kind.only_copies() { COPIES } else { 1 };
        for (what, saturated) in [(What::Message, amounts.messages), (What::Subscribe, amounts.subscriptions)] {
            for (how, many) in [(How::Saturated, saturated * more), (How::Paced, amounts.paced)] {
                let cost = self.run(what, how, many / amounts.rounds).await?;
                figures.of(what, how).add(cost);
            }
        }
        let before = self.middle.running.usage();
        let begun = Instant::now();
        let latencies = partner::handshakes(self.middle.outside, client, amounts.handshakes / amounts.rounds).await?;
        let took = begun.elapsed();
        settle_down().await;
        let cpu = self.middle.running.usage().cpu.saturating_sub(before.cpu);
        figures.handshakes.add(Cost { cpu, took, latencies });
        self.middle.running.is_there()
    }

    async fn run(&self, what: What, how: How, many: usize) -> Result<Cost, String> {
        settle_down().await;
        let accepted = self.node.accepted();
        let before = self.middle.running.usage();
        let begun = Instant::now();
        let latencies = self.partner.run(what, how, many).await.map_err(|why| {
            let node = self.node.refused().unwrap_or_default();
            format!("{what:?}, {how:?}: {why}{node}")
        })?;
        let took = begun.elapsed();
        // The NOTIFYs' answers are still on their way.
        let due = if what == What::Subscribe { accepted + many } else { accepted };
        let patience = Instant::now() + Duration::from_secs(5);
        while self.node.accepted() < due {
            if Instant::now() > patience {
                let node = self.node.refused().unwrap_or_default();
                return Err(format!(
                    "{} answers to NOTIFYs have not reached the node\n{node}",
                    due - self.node.accepted()
                ));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let cpu = self.middle.running.usage().cpu.saturating_sub(before.cpu);
        Ok(Cost { cpu, took, latencies })
    }
}

/// For what is still being written, closed and freed.
async fn settle_down() {
    tokio::time::sleep(Duration::from_millis(150)).await;
}

/// One line that is written over; where nobody looks, nothing.
fn progress(text: &str) {
    let mut out = std::io::stdout();
    if out.is_terminal() {
        let _ = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush());
    }
}
