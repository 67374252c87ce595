//! The loop: the one task that owns the gate. It feeds it inputs, many at a wake, and does what it wants; it never waits for anything
//! but the next arrival or the gate's next deadline.

use super::dial;
use super::edge::{Arrival, Edge, Live, Phase};
use super::held::Held;
use super::keeper::{Keeper, Word};
use super::orders::{Handle, Order, Overfull};
use super::settings::{Load, Loaded};
use super::store::Store;
use crate::gate::{Gate, Incoming, Input, Lane, LinkId, Output, Time};
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::hash::{BuildHasherDefault, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// Arrivals taken at one wake.
const BATCH: usize = 256;
/// For the gate to settle what is under way.
const DRAIN: Duration = Duration::from_secs(10);
/// What could not be sent before the store was well again and is older than this no longer makes sense to its receiver: longer than any
/// transaction lasts (RFC 3261 §17.1.2.2, Timer F).
const STALE: Duration = Duration::from_secs(32);
/// A store that takes longer over one commit is in trouble, whatever it says later.
const SLOW: Duration = Duration::from_secs(5);
/// What one commit lets go for two addresses leaves on one connection first, and so much later on the other: a NOTIFY that overtakes the 200 which
/// makes its dialog is allowed (RFC 6665 §4.1.2.4), and lost on some user agents.
const BEHIND: Duration = Duration::from_millis(10);
/// What may wait for the store in all, in bytes; beyond, the link it is for is ended.
const HELD: usize = 64 * 1024 * 1024;
/// For links to write out their last bytes.
const GOODBYE: Duration = Duration::from_secs(2);

/// An order that waits for the store.
struct Waiting {
    link: LinkId,
    order: Order,
    /// In its order; an acknowledgement of all that came before it ([`Lane::All`]) stays true, anything else is stale in time.
    lane: Lane,
    since: Instant,
}

/// Hashes the numbers of links, which we give out ourselves, one after the other: nobody can choose them to be alike.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write_u64(&mut self, number: u64) {
        // 2⁶⁴ by the golden ratio: neighbours come to lie far apart, in the high bits as in the low ones.
        self.0 = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// The gate and what it acts on.
pub struct Core {
    edge: Arc<Edge>,
    gate: Gate,
    /// `None`: nothing outlives this run, so nothing is kept and nothing waits.
    keeper: Option<Keeper>,
    held: Held<Waiting>,
    /// What they weigh.
    held_bytes: usize,
    /// Links whose orders wait a moment more ([`BEHIND`]), all of them, so that they stay in order.
    behind: BTreeMap<LinkId, (Instant, Vec<Order>)>,
    /// What a commit has just let go first: when, and on which link. What follows on another, for which a connection had to be made, is behind it, too.
    first: BTreeMap<u64, (Instant, LinkId)>,
    /// Since when the store owes a commit.
    owed_since: Option<Instant>,
    links: HashMap<LinkId, Handle, BuildHasherDefault<Spread>>,
    load: Option<Load>,
    drain_by: Option<Instant>,
    /// Links are closing: nothing new is connected.
    is_closing: bool,
}

impl Core {
    /// Gives the gate what was kept before the restart; nothing else has reached it yet. Blocks while it reads.
    pub fn new(edge: Arc<Edge>, gate: Gate, store: Option<Box<dyn Store>>, load: Option<Load>) -> Result<Self, String> {
        let (links, held) = (HashMap::default(), Held::new());
        let mut core = Self {
            edge,
            gate,
            keeper: None,
            held,
            held_bytes: 0,
            behind: BTreeMap::new(),
            first: BTreeMap::new(),
            owed_since: None,
            links,
            load,
            drain_by: None,
            is_closing: false,
        };
        let Some(mut store) = store else { return Ok(core) };
        let begun = Instant::now();
        let mut count = 0_u64;
        // Only then is there a thread to keep anything: what restoring changes waits in the gate's outputs.
        store
            .restore(&mut |record| {
                count += 1;
                core.gate.handle_input(core.edge.clock.now(), Input::Restored(record));
            })
            .map_err(|error| format!("[state] {error}"))?;
        // What was left for later is said now.
        core.gate.handle_input(core.edge.clock.now(), Input::Timeout);
        let took = begun.elapsed();
        core.edge.telemetry.metrics.store("restore", took);
        if count > 0 {
            tracing::info!(records = count, seconds = took.as_secs_f64(), "resuming what went on before the restart");
        }
        let teller = Arc::clone(&core.edge);
        let keeper = Keeper::start(store, Arc::clone(&core.edge.telemetry.metrics), move |word| {
            let _ = teller.tell_blocking(Arrival::Stored(word));
        });
        let keeper = keeper?;
        core.edge.telemetry.keep_decisions(keeper.clone());
        let _ = core.edge.keeper.set(keeper.clone());
        core.keeper = Some(keeper);
        core.act();
        Ok(core)
    }

    /// Runs until drained. `gone` ends when the last link is.
    pub async fn run(mut self, mut arrivals: mpsc::Receiver<Arrival>, mut gone: mpsc::Receiver<()>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut alarm = pin!(sleep_until(Instant::now()));
        loop {
            let due = self.gate.poll_timeout().map(|at| self.edge.clock.instant(at));
            let slow = self.owed_since.filter(|_| !self.is_in_trouble()).map(|since| since + SLOW);
            let behind = self.behind.values().map(|(at, _)| *at).min();
            let deadline = [due, self.drain_by, slow, behind].into_iter().flatten().min();
            // Set anew only when it is too late, or has rung: setting it costs, and most of the time it is only put off.
            if let Some(deadline) = deadline
                && (alarm.deadline() > deadline || alarm.is_elapsed())
            {
                alarm.as_mut().reset(deadline);
            }
            tokio::select! {
                // What is due is looked for behind every batch, too.
                biased;
                n = arrivals.recv_many(&mut batch, BATCH) => {
                    if n == 0 {
                        break;
                    }
                    // What other connections bring at the same moment comes along: each is then written to once for all of it.
                    tokio::task::yield_now().await;
                    let more = BATCH - batch.len();
                    if more > 0 {
                        poll_fn(|cx| Poll::Ready(arrivals.poll_recv_many(cx, &mut batch, more).is_ready())).await;
                    }
                }
                () = alarm.as_mut(), if deadline.is_some() => {}
            }
            // One time for all that came together.
            let now = self.edge.clock.now();
            for arrival in batch.drain(..) {
                self.take(now, arrival);
            }
            if self.gate.poll_timeout().is_some_and(|at| at <= now) {
                self.gate.handle_input(now, Input::Timeout);
            }
            self.act();
            self.follow();
            if self.owed_since.is_some_and(|since| since.elapsed() >= SLOW) && !self.is_in_trouble() {
                self.stored(
                    now,
                    Word::Failing(format!("the state store has written nothing for {} s", SLOW.as_secs())),
                );
            }
            if let Some(by) = self.drain_by
                && ((self.gate.is_drained() && self.held.is_empty() && self.behind.is_empty()) || Instant::now() >= by)
            {
                if !self.gate.is_drained() {
                    tracing::warn!("not all was settled within {DRAIN:?}; stopping all the same");
                }
                break;
            }
        }
        self.close(arrivals, &mut gone).await;
    }

    /// Links write out what they were given and say goodbye; a node's stream with its last acknowledgement (XEP-0198 §4).
    async fn close(mut self, mut arrivals: mpsc::Receiver<Arrival>, gone: &mut mpsc::Receiver<()>) {
        self.is_closing = true;
        for (at, _) in self.behind.values_mut() {
            *at = Instant::now();
        }
        self.follow();
        for handle in self.links.values() {
            let _ = handle.give(Order::Close(None));
        }
        self.edge.forget_alive();
        let by = Instant::now() + GOODBYE;
        loop {
            tokio::select! {
                arrival = arrivals.recv() => match arrival {
                    Some(arrival) => self.take(self.edge.clock.now(), arrival),
                    None => break,
                },
                _ = gone.recv() => break,
                () = sleep_until(by) => break,
            }
            self.act();
        }
        arrivals.close();
        self.links.clear();
        while arrivals.try_recv().is_ok() {}
    }

    fn is_in_trouble(&self) -> bool {
        self.edge.store_trouble.load().is_some()
    }

    fn take(&mut self, now: Time, arrival: Arrival) {
        match arrival {
            Arrival::Sip(link, at, message) => {
                self.gate.handle_input(now, Input::Received { link, at, message: Incoming::Sip(message) });
            }
            Arrival::Linked(link, handle) => {
                self.links.insert(link, handle);
            }
            Arrival::Input(input) => {
                if let Input::Closed { link, .. } = &*input {
                    self.behind.remove(link);
                }
                if let Input::Closed { link, .. } = &*input
                    && self.links.remove(link).is_some()
                    && !self.held.is_empty()
                {
                    let link = *link;
                    self.drop_held(|waiting| waiting.link == link);
                }
                self.gate.handle_input(now, *input);
            }
            Arrival::Snapshot(answer) => {
                let _ = answer.send(self.gate.snapshot());
            }
            Arrival::Reload(answer) => self.reload(answer),
            Arrival::Loaded(loaded, answer) => {
                let outcome = loaded.and_then(|loaded| self.put_in_force(now, loaded));
                self.edge.telemetry.metrics.reload(outcome.is_ok());
                if let Err(error) = &outcome {
                    tracing::error!(error, "reload failed; the old settings stay in force");
                }
                let _ = answer.send(outcome);
            }
            Arrival::Drain { last } => {
                if self.drain_by.is_none() {
                    tracing::info!(last, "draining");
                    self.drain_by = Some(Instant::now() + DRAIN);
                    self.edge.phase.send_replace(Phase::Draining);
                    self.gate.handle_input(now, Input::Drain { last: last || self.keeper.is_none() });
                }
            }
            Arrival::Stored(word) => self.stored(now, word),
        }
    }

    /// Reading files would hold up the loop, so a thread of the blocking pool does.
    fn reload(&self, answer: oneshot::Sender<Result<(), String>>) {
        let Some(load) = self.load.clone() else {
            let _ = answer.send(Err("this edge was started without a configuration file".to_owned()));
            return;
        };
        let edge = Arc::clone(&self.edge);
        tokio::spawn(async move {
            let loaded = tokio::task::spawn_blocking(move || load())
                .await
                .unwrap_or_else(|_| Err("reading the configuration panicked".to_owned()));
            let _ = edge.tell(Arrival::Loaded(Box::new(loaded), answer)).await;
        });
    }

    fn put_in_force(&mut self, now: Time, loaded: Loaded) -> Result<(), String> {
        loaded.tell();
        let live = Live::build(loaded.io)?;
        let before = self.edge.live.load();
        if before.settings.listeners != live.settings.listeners
            || before.settings.admin.places() != live.settings.admin.places()
        {
            tracing::warn!("listening addresses changed: they take effect at the next start");
        }
        if before.settings.state != live.settings.state {
            tracing::warn!("[state] changed: it takes effect at the next start");
        }
        live.settings.describe(&self.edge.telemetry);
        self.edge.live.store(Arc::new(live));
        self.gate.handle_input(now, Input::Reload(Box::new(loaded.gate)));
        Ok(())
    }

    /// Does all that the gate wants.
    fn act(&mut self) {
        while let Some(output) = self.gate.poll_output() {
            match output {
                Output::Send { link, bytes, transit, lane, receipt } => {
                    self.send(lane, link, Order::Send { bytes, transit, receipt });
                }
                Output::Close { link, error } => {
                    // What still waits for the store will not be sent on it.
                    self.drop_held(|waiting| waiting.link == link);
                    self.order(link, Order::Close(error));
                }
                Output::Connect { .. } if self.is_closing => {}
                Output::Connect { hop, target } => {
                    tokio::spawn(dial::dial(Arc::clone(&self.edge), hop, target));
                }
                Output::Keep { lane, record } => {
                    if let Some(keeper) = &self.keeper {
                        self.owed_since.get_or_insert_with(Instant::now);
                        keeper.keep(self.held.mark(lane), record, lane != Lane::Free);
                    }
                }
                Output::Forget { lane, id } => {
                    if let Some(keeper) = &self.keeper {
                        self.owed_since.get_or_insert_with(Instant::now);
                        keeper.forget(self.held.mark(lane), id, lane != Lane::Free);
                    }
                }
                Output::Settled(settled) => self.edge.telemetry.settled(settled),
                Output::Event(event) => self.edge.telemetry.record(*event),
            }
        }
    }

    /// A link that takes nothing is ended; the others never notice. Its end reaches the gate as [`Input::Closed`] from its task.
    fn order(&mut self, link: LinkId, order: Order) {
        match self.behind.get_mut(&link) {
            Some((_, orders)) => orders.push(order),
            None => self.give(link, order),
        }
    }

    /// What waited a moment more.
    fn follow(&mut self) {
        if self.behind.is_empty() {
            return;
        }
        let now = Instant::now();
        let due: Vec<LinkId> = self.behind.iter().filter(|(_, (at, _))| *at <= now).map(|(link, _)| *link).collect();
        for link in due {
            for order in self.behind.remove(&link).map(|(_, orders)| orders).unwrap_or_default() {
                self.give(link, order);
            }
        }
    }

    fn give(&mut self, link: LinkId, order: Order) {
        let Some(handle) = self.links.get(&link) else { return };
        if handle.give(order) == Err(Overfull)
            && let Some(handle) = self.links.remove(&link)
        {
            handle.kill("its queue is full: the peer takes messages too slowly".to_owned());
        }
    }

    /// Now, or when what it waits for is committed.
    fn send(&mut self, lane: Lane, link: LinkId, order: Order) {
        if lane == Lane::Free {
            return self.order(link, order);
        }
        if !self.links.contains_key(&link) {
            return;
        }
        let weight = order.weight();
        let Some(Waiting { link, order, .. }) =
            self.held.push(lane, Waiting { link, order, lane, since: Instant::now() })
        else {
            self.held_bytes += weight;
            if self.held_bytes > HELD
                && let Some(handle) = self.links.remove(&link)
            {
                self.drop_held(|waiting| waiting.link == link);
                handle.kill("too much waits for the state store".to_owned());
            }
            if let (Lane::All, Some(keeper)) = (lane, &self.keeper) {
                keeper.hurry();
            }
            return;
        };
        if let Lane::Pair(number) = lane
            && let Some((at, first)) = self.first.get(&number)
            && *first != link
            && at.elapsed() < BEHIND
        {
            let at = *at + BEHIND;
            self.behind.entry(link).or_insert_with(|| (at, Vec::new())).1.push(order);
            return;
        }
        self.order(link, order);
    }

    fn drop_held(&mut self, of: impl Fn(&Waiting) -> bool) -> usize {
        let mut weight = 0;
        let dropped = self.held.drop_where(|waiting| {
            let is_of = of(waiting);
            weight += if is_of { waiting.order.weight() } else { 0 };
            is_of
        });
        self.held_bytes = self.held_bytes.saturating_sub(weight);
        dropped
    }

    fn stored(&mut self, now: Time, word: Word) {
        let metrics = Arc::clone(&self.edge.telemetry.metrics);
        match word {
            Word::Committed(mark) => {
                let mut released = Vec::new();
                self.held.committed(mark, |waiting| released.push(waiting));
                let mut before = None;
                self.first.retain(|_, (at, _)| at.elapsed() < BEHIND);
                for Waiting { link, order, lane, .. } in released {
                    self.held_bytes = self.held_bytes.saturating_sub(order.weight());
                    match before {
                        Some((other, first)) if other == lane && first != link && lane != Lane::All => {
                            let behind = || (Instant::now() + BEHIND, Vec::new());
                            self.behind.entry(link).or_insert_with(behind).1.push(order);
                        }
                        Some((other, _)) if other == lane => self.order(link, order),
                        _ => {
                            before = Some((lane, link));
                            if let Lane::Pair(number) = lane {
                                self.first.insert(number, (Instant::now(), link));
                            }
                            self.order(link, order);
                        }
                    }
                }
                self.owed_since = (!self.held.is_settled()).then(Instant::now);
                if self.edge.store_trouble.swap(None).is_some() {
                    metrics.store_up(true);
                    tracing::warn!("the state store can be written again; new sessions are taken");
                    self.gate.handle_input(now, Input::StoreTrouble(None));
                }
            }
            Word::Failing(why) => {
                let before = self.edge.store_trouble.swap(Some(Arc::new(why.clone())));
                if before.as_deref() != Some(&why) {
                    metrics.store_up(false);
                    tracing::error!(
                        why,
                        "the state store can't be written: new sessions are refused until it can be; what goes on goes on"
                    );
                    self.gate.handle_input(now, Input::StoreTrouble(Some(why)));
                }
                let dropped = self.drop_held(|waiting| waiting.lane != Lane::All && waiting.since.elapsed() >= STALE);
                if dropped > 0 {
                    tracing::error!(dropped, "not sent: their records could not be written in time");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::partner::Presence;
    use crate::gate::settings::Settings;
    use crate::io::edge::for_tests;
    use crate::io::orders::{self, WAITING};
    use crate::io::settings::Dns;
    use bytes::Bytes;

    fn core() -> Core {
        let (edge, ..) = for_tests(Dns::default());
        let presence = Presence {
            expires: Duration::from_secs(3_600),
            minimum: Duration::from_secs(600),
            notify_interval: Duration::from_secs(5),
            polite_refusal: false,
        };
        let settings = Settings {
            identities: Vec::new(),
            policy: Arc::default(),
            trust: Arc::default(),
            nodes: Vec::new(),
            presence,
            chat_idle: std::time::Duration::from_secs(600),
            secrets: Vec::new(),
            inside_networks: Vec::new(),
            inside_trust: Arc::default(),
            limits: crate::gate::limits::Limits::default(),
        };
        let gate = Gate::new(settings, [0; 32], edge.clock.now());
        Core::new(edge, gate, None, None).unwrap()
    }

    fn take(core: &mut Core, arrival: Arrival) {
        core.take(core.edge.clock.now(), arrival);
    }

    fn with_two_links() -> (Core, [orders::Orders; 2]) {
        let mut core = core();
        let ends = [1, 2].map(|id| {
            let (handle, orders) = orders::pair();
            take(&mut core, Arrival::Linked(LinkId(id), handle));
            orders
        });
        (core, ends)
    }

    #[tokio::test]
    async fn a_link_that_takes_nothing_is_ended_and_no_other() {
        let mut core = core();
        let mut links = Vec::new();
        for id in 1..=2 {
            let (handle, orders) = orders::pair();
            take(&mut core, Arrival::Linked(LinkId(id), handle));
            links.push(orders);
        }
        let order = |size| Order::Send { bytes: Bytes::from(vec![b'x'; size]), transit: None, receipt: None };
        for _ in 0..=64 {
            core.order(LinkId(1), order(WAITING / 64));
        }
        core.order(LinkId(2), order(1));
        let [full, mut other] = <[_; 2]>::try_from(links).ok().unwrap();
        assert!(full.kill.await.unwrap().contains("queue is full"));
        assert!(other.queue.next().await.is_some());
        assert!(other.kill.try_recv().is_err(), "the other goes on");
        // What the gate still sends to the ended one goes nowhere, quietly.
        core.order(LinkId(1), order(1));
    }

    #[tokio::test]
    async fn while_the_store_fails_what_ages_is_dropped_and_an_acknowledgement_waits() {
        let mut core = core();
        let (handle, mut orders) = orders::pair();
        take(&mut core, Arrival::Linked(LinkId(1), handle));
        let send = |text: &'static [u8]| Order::Send { bytes: Bytes::from_static(text), transit: None, receipt: None };
        let first = core.held.mark(Lane::Pair(1));
        core.send(Lane::Pair(1), LinkId(1), send(b"stale"));
        core.send(Lane::All, LinkId(1), send(b"ack"));
        core.send(Lane::Free, LinkId(1), send(b"refusal"));
        take(&mut core, Arrival::Stored(Word::Failing("no room".to_owned())));
        assert!(core.is_in_trouble());
        // As after STALE.
        assert_eq!(core.drop_held(|waiting| waiting.lane != Lane::All), 1);
        core.send(Lane::Pair(1), LinkId(1), send(b"fresh"));
        take(&mut core, Arrival::Stored(Word::Committed(first)));
        assert!(!core.is_in_trouble());
        assert_eq!((core.held.len(), core.held_bytes), (0, 0));
        for expected in ["refusal", "fresh", "ack"] {
            let Some(Order::Send { bytes, .. }) = orders.queue.next().await else { panic!("no {expected}") };
            assert_eq!(bytes, expected);
        }
    }

    #[tokio::test]
    async fn what_waits_for_the_store_is_bounded() {
        let mut core = core();
        let (handle, orders) = orders::pair();
        take(&mut core, Arrival::Linked(LinkId(1), handle));
        core.held.mark(Lane::Pair(1));
        for _ in 0..=HELD / (1024 * 1024) {
            core.send(
                Lane::Pair(1),
                LinkId(1),
                Order::Send { bytes: Bytes::from(vec![b'x'; 1024 * 1024]), transit: None, receipt: None },
            );
        }
        assert!(orders.kill.await.unwrap().contains("waits for the state store"));
        assert_eq!((core.held.len(), core.held_bytes), (0, 0), "the others have room again");
    }

    #[tokio::test]
    async fn an_answer_is_not_overtaken_by_what_it_allows() {
        let (mut core, [mut answers, mut requests]) = with_two_links();
        let send = |text: &'static [u8]| Order::Send { bytes: Bytes::from_static(text), transit: None, receipt: None };
        let mark = core.held.mark(Lane::Pair(1));
        core.send(Lane::Pair(1), LinkId(1), send(b"200"));
        core.send(Lane::Pair(1), LinkId(2), send(b"NOTIFY"));
        take(&mut core, Arrival::Stored(Word::Committed(mark)));
        core.send(Lane::Free, LinkId(2), send(b"later"));
        assert!(answers.queue.next().await.is_some());
        assert!(tokio::time::timeout(BEHIND / 2, requests.queue.next()).await.is_err());
        tokio::time::sleep(BEHIND).await;
        core.follow();
        for expected in ["NOTIFY", "later"] {
            let Some(Order::Send { bytes, .. }) = requests.queue.next().await else { panic!("no {expected}") };
            assert_eq!(bytes, expected);
        }
    }

    /// The connection for a NOTIFY may be made just as the 200 leaves.
    #[tokio::test]
    async fn what_an_answer_allows_does_not_overtake_it_on_a_new_connection() {
        let (mut core, [mut answers, mut requests]) = with_two_links();
        let send = |text: &'static [u8]| Order::Send { bytes: Bytes::from_static(text), transit: None, receipt: None };
        let mark = core.held.mark(Lane::Pair(1));
        core.send(Lane::Pair(1), LinkId(1), send(b"200"));
        take(&mut core, Arrival::Stored(Word::Committed(mark)));
        core.send(Lane::Pair(1), LinkId(2), send(b"NOTIFY"));
        assert!(answers.queue.next_now().is_some());
        assert!(requests.queue.next_now().is_none());
        tokio::time::sleep(BEHIND).await;
        core.follow();
        assert!(requests.queue.next_now().is_some());
        // What comes later is behind nothing.
        core.send(Lane::Pair(1), LinkId(2), send(b"refresh"));
        assert!(requests.queue.next_now().is_some());
    }
}
