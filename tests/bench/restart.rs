//! What the state store costs, and how long a restart with many subscriptions takes. The program runs as a process between the partner and the node
//! of `support/live/`; all three share the machine, so the times are what this machine does with both ends' work on top.
//!
//! Prints figures and, beside them, what we want to reach. Never fails on time; fails when something acknowledged is lost.

#[path = "../support/live/mod.rs"]
mod live;

use clap::Parser;
use live::book::{Answer, percentiles};
use live::edge::{Setup, Usage};
use live::{Show, Shown, World};
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// What can be typed after `tests/bench/run restart`.
#[derive(Parser, Debug)]
struct Args {
    /// Live subscriptions from outside
    #[arg(long, default_value_t = 100_000)]
    subscriptions: usize,
    /// Messages of each direction, with the store and without
    #[arg(long, default_value_t = 20_000)]
    messages: usize,
    /// New subscriptions, with the store and without
    #[arg(long, default_value_t = 5_000)]
    new: usize,
    /// The lines of [state] with the store
    #[arg(long, default_value = "engine = \"embedded\"")]
    state: String,
    /// cargo says it
    #[arg(long, hide = true)]
    bench: bool,
}

/// Users inside.
const USERS: usize = 1_000;
/// SUBSCRIBEs under way at once while the many are made.
const WINDOW: usize = 400;
/// Users of each side that write to each other, and messages of each that are under way.
const WRITERS: usize = 4;
const IN_FLIGHT: usize = 8;
/// Of a message's text, in bytes.
const BODY: usize = 300;
/// The two engines take turns this often, so that what else the machine does meets both.
const ROUNDS: usize = 4;
/// For everything to be right again.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut table = Table::default();
        if args.subscriptions > 0 {
            restart(&args, &mut table).await;
        }
        if args.messages > 0 {
            durability(&args, &mut table).await;
        }
        table.print();
    });
}

fn setup(name: &'static str, state: &str) -> Setup {
    let program =
        std::env::var_os("FEDGATE_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_fedgate")), PathBuf::from);
    Setup { name, program, state: state.to_owned(), notify_interval: "1s" }
}

/// What user `n` inside shows.
fn shown(user: usize) -> Shown {
    let note = user as u32 + 1;
    Shown { show: if user.is_multiple_of(3) { Show::Away } else { Show::Online }, note }
}

async fn restart(args: &Args, table: &mut Table) {
    let many = args.subscriptions;
    println!("== {many} subscriptions from outside, {}", args.state);
    let mut world = World::build(setup("bench", &args.state)).await;
    for user in 0..USERS {
        world.node.show(user as u32, shown(user));
    }
    world.edge.start().await;
    settle_down().await;
    let (empty, empty_disk) = (world.edge.usage(), world.edge.disk());
    let begun = Instant::now();
    let mut said = Instant::now();
    for at in 0..many {
        while world.partner.unanswered() >= WINDOW {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let (watcher, user) = (at / 10, (at % 10) * (USERS / 10) + (at / 10) % (USERS / 10));
        world.partner.watch(watcher as u32, user as u32);
        if said.elapsed() > Duration::from_secs(1) {
            said = Instant::now();
            progress(&format!("{at} asked for"));
        }
    }
    let made = all_right(&world, many, begun).await;
    settle_down().await;
    let (full, full_disk) = (world.edge.usage(), world.edge.disk());
    let each = |more: u64, less: u64| more.saturating_sub(less) as f64 / many as f64;
    table.row("subscriptions made, presence told, in", told(made, many), "");
    let cpu = (full.cpu.saturating_sub(empty.cpu)).as_secs_f64() * 1e6 / many as f64;
    table.row("CPU for each, until presence is told", format!("{cpu:.0} µs"), "");
    table.row(
        "memory of each",
        format!("{:.0} bytes ({:.0} MiB in all)", each(full.rss, empty.rss), full.rss as f64 / MIB),
        "< 1,000 bytes",
    );
    table.row(
        "on disk, each",
        format!("{:.0} bytes, {:.0} allocated", each(full_disk.0, empty_disk.0), each(full_disk.1, empty_disk.1)),
        "< 1,000 bytes",
    );

    println!("== kill -9");
    world.edge.kill();
    let killed = Instant::now();
    let ready = world.edge.start().await;
    println!("ready after {:.2} s", ready.as_secs_f64());
    let right = all_right(&world, many, killed).await;
    let again = world.edge.usage();
    table.row("exec to ready", format!("{:.2} s", ready.as_secs_f64()), "< 2 s");
    table.row("exec to every watcher told what is true", told(right, many), "< 30 s");
    table.row("CPU for it", format!("{:.1} s", again.cpu.as_secs_f64()), "");
    table.row(
        "memory after it",
        format!("{:.0} MiB, {:.0} bytes each", again.rss as f64 / MIB, each(again.rss, empty.rss)),
        "",
    );
    world.edge.kill();
}

fn told(time: Result<Duration, usize>, many: usize) -> String {
    match time {
        Ok(time) => format!("{:.1} s", time.as_secs_f64()),
        Err(right) => format!("never: {right} of {many} within {} s", PATIENCE.as_secs()),
    }
}

const MIB: f64 = 1024.0 * 1024.0;

/// Waits until every watcher was told, under this start, what is true: how long that took; or how many were, when it has taken too long.
async fn all_right(world: &World, many: usize, begun: Instant) -> Result<Duration, usize> {
    let truth: Vec<Shown> = (0..USERS).map(|user| world.node.shown(user as u32)).collect();
    let mut said = Instant::now();
    loop {
        let (live, right) = world.partner.right(world.book.generation(), |user| truth[user as usize]);
        if right >= many {
            let time = begun.elapsed();
            progress("");
            assert_no_complaint(world);
            return Ok(time);
        }
        if said.elapsed() > Duration::from_secs(1) {
            said = Instant::now();
            progress(&format!("{live} live, {right} were told what is true, {:.0} s", begun.elapsed().as_secs_f64()));
            assert_no_complaint(world);
        }
        if begun.elapsed() > PATIENCE {
            progress("");
            println!("{right} of {many} are right after {PATIENCE:?}; the edge's log:\n{}", world.edge.log_tail());
            return Err(right);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn assert_no_complaint(world: &World) {
    let (count, complaints) = world.book.complaints();
    let shown: Vec<_> = complaints.iter().take(12).map(String::as_str).collect();
    assert!(count == 0, "{count} complaints:\n  {}\nthe edge's log:\n{}", shown.join("\n  "), world.edge.log_tail());
}

/// What was measured of one engine.
#[derive(Default)]
struct Cost {
    cpu: Duration,
    done: usize,
    took: Duration,
    latencies: Vec<Duration>,
}

async fn durability(args: &Args, table: &mut Table) {
    println!("== messages and new subscriptions with the store and without");
    let mut worlds = Vec::new();
    for (name, state) in [("bench-on", args.state.as_str()), ("bench-off", "engine = \"memory\"")] {
        let mut world = World::build(setup(name, state)).await;
        for user in 0..USERS {
            world.node.show(user as u32, shown(user));
        }
        world.edge.start().await;
        // Connections, and whatever else the first one pays for all.
        to_sip(&world, 200).await;
        to_xmpp(&world, 200).await;
        worlds.push(world);
    }
    let mut costs: [[Cost; 3]; 2] = Default::default();
    for round in 1..=ROUNDS {
        progress(&format!("round {round} of {ROUNDS}"));
        for (world, costs) in worlds.iter().zip(&mut costs) {
            settle_down().await;
            costs[0].add(to_sip(world, args.messages / ROUNDS).await);
            settle_down().await;
            costs[1].add(to_xmpp(world, args.messages / ROUNDS).await);
            settle_down().await;
            costs[2].add(subscribe(world, args.new / ROUNDS).await);
            assert_no_complaint(world);
        }
    }
    progress("");
    let [on, off] = costs;
    for (what, (on, off)) in
        ["message XMPP to SIP", "message SIP to XMPP", "new subscription"].iter().zip(on.into_iter().zip(off))
    {
        let (with, without) = (on.each(), off.each());
        let more = (with / without - 1.0) * 100.0;
        let reach = if what.starts_with("message") { "< +15 %" } else { "" };
        table.row(
            &format!("CPU for a {what}"),
            format!("{with:.0} µs with the store, {without:.0} µs without: {more:+.0} %"),
            reach,
        );
        let (rate_on, rate_off) = (on.rate(), off.rate());
        let (on, off) = (percentiles(on.latencies), percentiles(off.latencies));
        table.row(
            "    p50, p99",
            format!(
                "{} {} with, {} {} without ({rate_on:.0}/s, {rate_off:.0}/s)",
                ms(on.0),
                ms(on.1),
                ms(off.0),
                ms(off.1)
            ),
            "",
        );
    }
}

impl Cost {
    fn add(&mut self, other: Cost) {
        self.cpu += other.cpu;
        self.done += other.done;
        self.took += other.took;
        self.latencies.extend(other.latencies);
    }

    /// Microseconds.
    fn each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.done.max(1) as f64
    }

    fn rate(&self) -> f64 {
        self.done as f64 / self.took.as_secs_f64()
    }
}

/// Runs `work` and counts what the edge used meanwhile.
async fn measured(world: &World, done: usize, work: impl Future<Output = Vec<Duration>>) -> Cost {
    let before: Usage = world.edge.usage();
    let begun = Instant::now();
    let latencies = work.await;
    let took = begun.elapsed();
    Cost { cpu: world.edge.usage().cpu.saturating_sub(before.cpu), done, took, latencies }
}

/// Messages of users inside: until the partner has each.
async fn to_sip(world: &World, many: usize) -> Cost {
    let filling = "x".repeat(BODY - 8);
    let first = world.book.pages().to_sip.len();
    measured(world, many, async {
        circulate(world, many, first, |writer| {
            world.node.message(writer as u32, writer as u32, &filling);
        })
        .await;
        let pages = world.book.pages();
        let took = |at: usize| pages.to_sip[at].arrived_at.expect("it has come") - pages.to_sip[at].at;
        (first..first + many).map(took).collect()
    })
    .await
}

/// Messages of users outside: until each is answered.
async fn to_xmpp(world: &World, many: usize) -> Cost {
    let filling = "x".repeat(BODY - 8);
    let first = world.book.pages().to_xmpp.len();
    measured(world, many, async {
        circulate(world, many, first, |writer| {
            world.partner.message(writer as u32, writer as u32, &filling);
        })
        .await;
        let pages = world.book.pages();
        let took = |at: usize| {
            assert_eq!(pages.to_xmpp[at].answer, Answer::Accepted, "message {at} to XMPP");
            pages.to_xmpp[at].answered_at.expect("it was answered") - pages.to_xmpp[at].at
        };
        (first..first + many).map(took).collect()
    })
    .await
}

/// Each writer has so many under way; whenever one is done, the same writer sends another.
async fn circulate(world: &World, many: usize, first: usize, send: impl Fn(usize)) {
    let (done, mut ended) = mpsc::unbounded_channel();
    world.book.pages().done = Some(done);
    let mut writers = Vec::with_capacity(many);
    for slot in 0..(WRITERS * IN_FLIGHT).min(many) {
        writers.push(slot % WRITERS);
        send(slot % WRITERS);
    }
    for _ in 0..many {
        let ended = tokio::time::timeout(PATIENCE, ended.recv()).await;
        let Ok(Some(number)) = ended else {
            panic!("a message has not ended after {PATIENCE:?}; the edge's log:\n{}", world.edge.log_tail());
        };
        if writers.len() < many {
            let writer = writers[number as usize - first];
            writers.push(writer);
            send(writer);
        }
    }
    world.book.pages().done = None;
}

/// New subscriptions: until every watcher was told what is true.
async fn subscribe(world: &World, many: usize) -> Cost {
    let first = world.partner.watches().len();
    measured(world, many, async {
        let begun = Instant::now();
        for at in first..first + many {
            while world.partner.unanswered() >= WRITERS * IN_FLIGHT {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            world.partner.watch(at as u32, (at % USERS) as u32);
        }
        let _ = all_right(world, first + many, begun).await;
        world.partner.granted_after(first)
    })
    .await
}

/// For what is still being written, logged and freed.
async fn settle_down() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// One line that is written over; where nobody looks, nothing.
fn progress(text: &str) {
    let mut out = std::io::stdout();
    if out.is_terminal() {
        let _ = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush());
    }
}

/// What came of it.
#[derive(Default)]
struct Table {
    rows: Vec<(String, String, &'static str)>,
}

impl Table {
    fn row(&mut self, what: &str, is: String, reach: &'static str) {
        self.rows.push((what.to_owned(), is, reach));
    }

    fn print(&self) {
        println!("\n{:<42} {:<64} reach", "", "measured");
        for (what, is, reach) in &self.rows {
            println!("{what:<42} {is:<64} {reach}");
        }
    }
}
