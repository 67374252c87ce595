//! What came of it, beside what we want.

use super::book::How;
use super::middle::Kind;
use super::partner::{AT_ONCE, IN_FLIGHT, PACE, STREAMS};
use super::process::Usage;
use std::time::Duration;

/// What a load has cost.
#[derive(Default)]
pub struct Cost {
    /// Of the box.
    pub cpu: Duration,
    /// From the first to the last.
    pub took: Duration,
    /// One for each.
    pub latencies: Vec<Duration>,
}

impl Cost {
    /// One more round.
    pub fn add(&mut self, other: Cost) {
        self.cpu += other.cpu;
        self.took += other.took;
        self.latencies.extend(other.latencies);
        self.latencies.sort_unstable();
    }

    /// Seconds.
    fn each(&self) -> Option<f64> {
        (!self.latencies.is_empty()).then(|| self.cpu.as_secs_f64() / self.latencies.len() as f64)
    }

    /// Milliseconds.
    fn percentile(&self, percent: usize) -> Option<f64> {
        let place = (self.latencies.len() * percent / 100).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(place).map(|time| time.as_secs_f64() * 1e3)
    }

    fn rate(&self) -> Option<f64> {
        (!self.latencies.is_empty()).then(|| self.latencies.len() as f64 / self.took.as_secs_f64())
    }
}

/// All of one box.
pub struct Figures {
    /// Which.
    pub kind: Kind,
    loads: [Cost; 2],
    /// Set up and closed.
    pub sessions: Cost,
    /// Bytes for each idle stream.
    pub idle: Option<f64>,
    /// At the end; `None` when it did not get there.
    pub usage: Option<Usage>,
}

impl Figures {
    /// Nothing yet.
    pub fn new(kind: Kind) -> Self {
        Self { kind, loads: Default::default(), sessions: Cost::default(), idle: None, usage: None }
    }

    /// Of one load.
    pub fn of(&mut self, how: How) -> &mut Cost {
        &mut self.loads[how as usize]
    }
}

/// What is measured, and on what.
pub fn head(amounts: &str) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (processors, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    println!("a partner's XMPP streams (TLS 1.3) to the inside (plain) through one box, on one machine with both ends");
    println!("{:<25} {count} x {}, {}", "machine:", field(&processors, "model name"), field(&memory, "MemTotal"));
    println!("{:<25} Linux {}, load {}", "", read("/proc/sys/kernel/osrelease").trim(), read("/proc/loadavg").trim());
    println!(
        "{:<25} saturated: {STREAMS} streams x {IN_FLIGHT} that the inside has not seen; paced: {PACE} a second",
        "load:"
    );
    println!("{:<25} {amounts}", "");
    println!(
        "{:<25} STARTTLS, mutual TLS 1.3 (ECDSA P-256, X25519, no resumption), SASL EXTERNAL; {AT_ONCE} at once",
        "session set-up:"
    );
    println!("{:<25} fedgate: a stream to an XMPP node, known by its network, that answers the pings", "the inside:");
    println!("{:<25} Prosody and ejabberd: a component (XEP-0114)", "");
    println!("{:<25} prosody with nagle = false; ejabberd with ejabberdctl's +K true +P 250000", "settings:");
}

const LOADS: [(How, &str); 2] = [(How::Saturated, "chat message, saturated"), (How::Paced, "chat message, paced")];

/// All of it.
pub fn print(figures: &[Figures]) {
    let own = figures.iter().find(|figures| figures.kind == Kind::Fedgate);
    for (how, name) in LOADS {
        println!(
            "\n{:<32} {:>12} {:>9} {:>9} {:>10} {:>12}",
            name, "CPU-s/10,000", "p50 ms", "p99 ms", "a second", "fedgate / it"
        );
        for figures in figures {
            let load = &figures.loads[how as usize];
            let ratio = of_two(own.and_then(|own| own.loads[how as usize].each()), load.each());
            println!(
                "  {:<30} {:>12} {:>9} {:>9} {:>10} {:>12}",
                figures.kind.name(),
                shown(load.each().map(|each| each * 1e4), 3),
                shown(load.percentile(50), 2),
                shown(load.percentile(99), 2),
                shown(load.rate(), 0),
                shown(ratio, 2),
            );
        }
    }
    println!(
        "\n{:<32} {:>12} {:>9} {:>12} {:>14} {:>12} {:>12}",
        "session set-up; memory",
        "CPU-ms each",
        "p50 ms",
        "fedgate / it",
        "KB idle stream",
        "fedgate / it",
        "RSS end MB"
    );
    for figures in figures {
        let sessions = &figures.sessions;
        println!(
            "  {:<30} {:>12} {:>9} {:>12} {:>14} {:>12} {:>12}",
            figures.kind.name(),
            shown(sessions.each().map(|each| each * 1e3), 3),
            shown(sessions.percentile(50), 2),
            shown(of_two(own.and_then(|own| own.sessions.each()), sessions.each()), 2),
            shown(figures.idle.map(|bytes| bytes / 1e3), 1),
            shown(of_two(own.and_then(|own| own.idle), figures.idle), 2),
            shown(figures.usage.map(|usage| usage.rss as f64 / 1e6), 1),
        );
    }
    goals(figures);
}

fn goals(figures: &[Figures]) {
    let of = |kind: Kind| figures.iter().find(|figures| figures.kind == kind);
    println!("\n{:<72} {:>10} {:>10}   reached", "what we want of fedgate", "is", "wanted");
    for (how, name) in LOADS {
        let each = |kind: Kind| of(kind).and_then(|figures| figures.loads[how as usize].each()).map(|each| each * 1e4);
        let half = each(Kind::Ejabberd).map(|each| each / 2.0);
        goal(&format!("{name}: CPU half of ejabberd's"), each(Kind::Fedgate), half, 3);
        let slow = |kind: Kind| of(kind).and_then(|figures| figures.loads[how as usize].percentile(99));
        goal(&format!("{name}: p99 below ejabberd's"), slow(Kind::Fedgate), slow(Kind::Ejabberd), 2);
    }
    let session = |kind: Kind| of(kind).and_then(|figures| figures.sessions.each()).map(|each| each * 1e3);
    let half = session(Kind::Ejabberd).map(|each| each / 2.0);
    goal("a session set-up: CPU half of ejabberd's, ms", session(Kind::Fedgate), half, 3);
    goal(
        "an idle stream: KB",
        of(Kind::Fedgate).and_then(|figures| figures.idle).map(|idle| idle / 1e3),
        Some(22.0),
        1,
    );
}

fn goal(name: &str, is: Option<f64>, wanted: Option<f64>, digits: usize) {
    let reached = match is.zip(wanted) {
        Some((is, wanted)) if is <= wanted => "yes",
        Some(_) => "NO",
        None => "not measured",
    };
    println!("  {name:<70} {:>10} {:>10}   {reached}", shown(is, digits), shown(wanted, digits));
}

fn of_two(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.zip(other).filter(|(_, other)| *other > 0.0).map(|(one, other)| one / other)
}

fn shown(figure: Option<f64>, digits: usize) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.digits$}"))
}
