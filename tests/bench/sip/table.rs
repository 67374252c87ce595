//! What came of it, beside what we want.

use super::middle::Kind;
use super::partner::{AT_ONCE, How, IN_FLIGHT, LINKS, PACE, What};
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

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.latencies.is_empty()
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

    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }
}

/// All of one box.
pub struct Figures {
    /// Which.
    pub kind: Kind,
    loads: [Cost; 6],
    /// Made and closed.
    pub handshakes: Cost,
    /// At the end; `None` when it did not get there.
    pub usage: Option<Usage>,
}

impl Figures {
    /// Nothing yet.
    pub fn new(kind: Kind) -> Self {
        Self { kind, loads: Default::default(), handshakes: Cost::default(), usage: None }
    }

    /// Of one load.
    pub fn of(&mut self, what: What, how: How) -> &mut Cost {
        &mut self.loads[place(what, how)]
    }
}

const fn place(what: What, how: How) -> usize {
    (what as usize) * 3 + how as usize
}

/// What is measured, and on what.
pub fn head(bunch: usize, amounts: &str) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (processors, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    println!("TLS 1.3 to TLS 1.3 through one box, on one machine with both ends");
    println!("{:<25} {count} x {}, {}", "machine:", field(&processors, "model name"), field(&memory, "MemTotal"));
    println!("{:<25} Linux {}, load {}", "", read("/proc/sys/kernel/osrelease").trim(), read("/proc/loadavg").trim());
    println!(
        "{:<25} saturated: {LINKS} connections x {IN_FLIGHT} in flight; paced: {PACE} a second on {LINKS} connections, {bunch} at a time",
        "load:"
    );
    println!("{:<25} {amounts}", "");
    println!(
        "{:<25} mutual, ECDSA P-256, X25519, no resumption, {AT_ONCE} at once; the box checks the partner's",
        "handshakes:"
    );
    println!(
        "{:<25} kamailio with 1 TLS worker, -x fm -X fm; haproxy with nbthread 1; the pipe on one thread",
        "settings:"
    );
}

/// In the order of `place`.
const LOADS: [(What, How, &str); 6] = [
    (What::Message, How::Saturated, "MESSAGE, saturated"),
    (What::Message, How::Paced, "MESSAGE, paced"),
    (What::Message, How::First, "MESSAGE, each pair's first"),
    (What::Subscribe, How::Saturated, "SUBSCRIBE + NOTIFY, saturated"),
    (What::Subscribe, How::Paced, "SUBSCRIBE + NOTIFY, paced"),
    (What::Subscribe, How::First, "SUBSCRIBE + NOTIFY, first"),
];

/// All of it.
pub fn print(figures: &[Figures]) {
    let of = |kind: Kind| figures.iter().find(|figures| figures.kind == kind);
    let each = |kind: Kind, at: usize| of(kind).and_then(|figures| figures.loads[at].each());
    for (at, (_, _, name)) in LOADS.iter().enumerate() {
        println!(
            "\n{:<32} {:>12} {:>9} {:>9} {:>10} {:>12}",
            name, "CPU-s/10,000", "p50 ms", "p99 ms", "a second", "fedgate / it"
        );
        for figures in figures {
            let load = &figures.loads[at];
            let ratio = of_two(each(Kind::Fedgate, at), load.each());
            let rate = (!load.latencies.is_empty()).then(|| load.rate());
            println!(
                "  {:<30} {:>12} {:>9} {:>9} {:>10} {:>12}",
                figures.kind.name(),
                shown(load.each().map(|each| each * 1e4), 3),
                shown(load.percentile(50), 2),
                shown(load.percentile(99), 2),
                shown(rate, 0),
                shown(ratio, 2),
            );
        }
    }
    println!(
        "\n{:<32} {:>12} {:>9} {:>12} {:>12} {:>12}",
        "handshakes; memory", "CPU-ms each", "p50 ms", "fedgate / it", "RSS peak MB", "RSS end MB"
    );
    for figures in figures {
        let load = &figures.handshakes;
        let handshake = |kind: Kind| of(kind).and_then(|figures| figures.handshakes.each());
        println!(
            "  {:<30} {:>12} {:>9} {:>12} {:>12} {:>12}",
            figures.kind.name(),
            shown(load.each().map(|each| each * 1e3), 3),
            shown(load.percentile(50), 2),
            shown(of_two(handshake(Kind::Fedgate), load.each()), 2),
            shown(figures.usage.map(|usage| usage.peak as f64 / 1e6), 1),
            shown(figures.usage.map(|usage| usage.rss as f64 / 1e6), 1),
        );
    }
    println!(
        "  HAProxy and the pipe make a second handshake, to the node, for each. Kamailio's memory is the sum over its processes: what they share\n  \
         counts in each."
    );
    goals(figures);
}

fn goals(figures: &[Figures]) {
    let of = |kind: Kind| figures.iter().find(|figures| figures.kind == kind);
    let each = |kind: Kind, at: usize| of(kind).and_then(|figures| figures.loads[at].each());
    let slow = |kind: Kind, at: usize| of(kind).and_then(|figures| figures.loads[at].percentile(99));
    println!("\n{:<72} {:>10} {:>10}   reached", "what we want of fedgate", "is", "wanted");
    for (at, (_, how, name)) in LOADS.iter().enumerate() {
        if *how == How::First {
            continue;
        }
        let of_ten_thousand = |each: Option<f64>| each.map(|each| each * 1e4);
        let own = of_ten_thousand(each(Kind::Fedgate, at));
        if *how == How::Saturated {
            let third = of_ten_thousand(each(Kind::KamailioStateful, at)).map(|each| each / 3.0);
            goal(&format!("{name}: CPU a third of stateful Kamailio's"), own, third, 3);
        } else {
            goal(&format!("{name}: CPU below HAProxy's"), own, of_ten_thousand(each(Kind::Haproxy, at)), 3);
        }
        let (own, theirs) = (slow(Kind::Fedgate, at), slow(Kind::KamailioStateful, at));
        goal(&format!("{name}: p99 below stateful Kamailio's"), own, theirs, 2);
    }
    let handshake = of(Kind::Fedgate).and_then(|figures| figures.handshakes.each()).map(|each| each * 1e3);
    goal("a handshake: CPU-ms", handshake, Some(0.35), 3);
    for kind in [Kind::Fedgate, Kind::FedgateEmbedded] {
        let peak = of(kind).and_then(|figures| figures.usage).map(|usage| usage.peak as f64 / 1e6);
        goal(&format!("{}: RSS throughout, MB", kind.name()), peak, Some(60.0), 1);
    }
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
