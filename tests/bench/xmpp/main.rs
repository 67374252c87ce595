//! What one stanza, one idle stream and one session set-up cost on the way from a partner's stream to the inside: through fedgate, and through
//! Prosody and ejabberd doing the same work.
//!
//! The ends are here, in this process and on one thread; what stands in the middle runs as processes of their own, whose CPU is read from /proc.
//! All share the machine, and take turns. Prints figures and whether they reach what we want; never fails on time.

mod book;
#[path = "../identity.rs"]
mod identity;
mod inside;
mod middle;
mod partner;
#[path = "../process.rs"]
mod process;
mod table;
mod text;

use book::{Book, How};
use clap::Parser;
use fedgate::cli::certs::{self, Spec};
use inside::Inside;
use middle::{KINDS, Kind, Middle, Program};
use partner::Partner;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};
use table::{Cost, Figures};

/// What can be typed after `tests/bench/run xmpp`.
#[derive(Parser, Debug)]
struct Args {
    /// A tenth of everything, in one round: for trying out, not for figures
    #[arg(long)]
    quick: bool,
    /// Only these
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Program>,
    /// Fail when Prosody or ejabberd is not installed
    #[arg(long)]
    require_peers: bool,
    /// cargo says it
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much in all rounds together.
struct Amounts {
    rounds: usize,
    stanzas: usize,
    paced: usize,
    sessions: usize,
    idle: usize,
}

const WHOLE: Amounts = Amounts { rounds: 2, stanzas: 100_000, paced: 10_000, sessions: 1_000, idle: 1_000 };
const QUICK: Amounts = Amounts { rounds: 1, stanzas: 10_000, paced: 1_000, sessions: 100, idle: 200 };
/// Connections, and whatever else the first stanza pays for all.
const WARM: usize = 500;

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, measure(&args))
}

/// A box between its own partner and inside.
struct World {
    // First, so that it ends before its ends do.
    middle: Middle,
    partner: Partner,
    book: Rc<Book>,
    _inside: Rc<Inside>,
}

async fn measure(args: &Args) -> ExitCode {
    let begun = Instant::now();
    let amounts = if args.quick { QUICK } else { WHOLE };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certs = folder.path().join("certs");
    make_certificates(&certs);

    table::head(&amounts_text(&amounts));
    let (mut left_out, mut failed) = (false, false);
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
        match World::build(kind, &folder.path().join(kind.name()), &certs).await {
            Ok(world) => {
                worlds.push(Some(world));
                figures.push(Figures::new(kind));
            }
            Err(why) => {
                println!("FAILED: {}: {why}", kind.name());
                failed = true;
            }
        }
    }
    for _ in 0..amounts.rounds {
        for (place, figures) in worlds.iter_mut().zip(&mut figures) {
            let Some(world) = place else { continue };
            if let Err(why) = world.round(&amounts, figures).await {
                println!("FAILED: {}: {why}\nit says\n{}", figures.kind.name(), world.middle.running.says());
                failed = true;
                // Its other figures would be of something that does not work.
                *place = None;
                *figures = Figures::new(figures.kind);
            }
        }
    }
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

fn make_certificates(folder: &Path) {
    let specs = [
        Spec { name: "edge", common_name: text::LOCAL, dns: &[text::LOCAL] },
        Spec { name: "partner", common_name: text::PARTNER, dns: &[text::PARTNER] },
    ];
    certs::make(folder, &specs).expect("certificates");
}

fn amounts_text(amounts: &Amounts) -> String {
    format!(
        "{} chat messages of {} bytes saturated, {} paced, {} session set-ups, {} idle streams, in {} round(s); {} users of each side",
        amounts.stanzas,
        text::size(),
        amounts.paced,
        amounts.sessions,
        amounts.idle,
        amounts.rounds,
        text::USERS
    )
}

impl World {
    async fn build(kind: Kind, folder: &Path, certs: &Path) -> Result<Self, String> {
        let book = Rc::new(Book::default());
        let inside = Inside::listen(Rc::clone(&book)).await;
        let middle = Middle::start(kind, folder, certs, inside.at).await?;
        let lasts = |why: String| format!("{why}; it says\n{}", middle.running.says());
        match middle.component {
            Some(component) => inside.attach(component).await.map_err(lasts)?,
            None => inside.dial(middle.inside).await.map_err(lasts)?,
        }
        let config = identity::client(certs, "partner");
        let partner = Partner::open(middle.outside, &config, Rc::clone(&book)).await.map_err(lasts)?;
        let mut world = Self { middle, partner, book, _inside: inside };
        if let Err(why) = world.load(How::Saturated, WARM).await {
            return Err(format!("{why}; it says\n{}", world.middle.running.says()));
        }
        Ok(world)
    }

    async fn round(&mut self, amounts: &Amounts, figures: &mut Figures) -> Result<(), String> {
        if figures.idle.is_none() {
            settle_down().await;
            let before = self.middle.running.usage().rss;
            let streams = partner::sessions(self.middle.outside, &self.partner.config, amounts.idle, true).await?;
            // For what is freed a moment after.
            tokio::time::sleep(Duration::from_secs(2)).await;
            let grown = self.middle.running.usage().rss.saturating_sub(before);
            figures.idle = Some(grown as f64 / amounts.idle as f64);
            partner::close(streams.open).await;
        }
        for (how, many) in [(How::Saturated, amounts.stanzas), (How::Paced, amounts.paced)] {
            let cost = self.load(how, many / amounts.rounds).await?;
            figures.of(how).add(cost);
        }
        settle_down().await;
        let before = self.middle.running.usage();
        let begun = Instant::now();
        let many = amounts.sessions / amounts.rounds;
        let sessions = partner::sessions(self.middle.outside, &self.partner.config, many, false).await?;
        let took = begun.elapsed();
        settle_down().await;
        let cpu = self.middle.running.usage().cpu.saturating_sub(before.cpu);
        figures.sessions.add(Cost { cpu, took, latencies: sessions.latencies });
        self.middle.running.is_there()
    }

    async fn load(&mut self, how: How, many: usize) -> Result<Cost, String> {
        settle_down().await;
        let before = self.middle.running.usage();
        let begun = Instant::now();
        let latencies = self.partner.run(&self.book, how, many).await.map_err(|why| format!("{how:?}: {why}"))?;
        let took = begun.elapsed();
        // What confirms the last ones, if anything does, is part of the work.
        settle_down().await;
        let cpu = self.middle.running.usage().cpu.saturating_sub(before.cpu);
        self.middle.running.is_there()?;
        Ok(Cost { cpu, took, latencies })
    }
}

/// For what is still being written, closed and freed.
async fn settle_down() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}
