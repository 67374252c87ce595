//! The loop: the one task that owns the gate. It feeds it inputs, many at a wake, and does what it wants; it never waits for anything
//! but the next arrival or the gate's next deadline.

use super::dial;
use super::edge::{Arrival, Edge, Live, Phase};
use super::held::Held;
use super::keeper::{Keeper, Word};
use super::orders::{Handle, Order, Overfull};
use super::settings::{Load, Loaded};
use super::store::Store;
use crate::gate::{Gate, Input, Lane, LinkId, Output};
use std::collections::HashMap;
use std::sync::Arc;
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
/// For links to write out their last bytes.
const GOODBYE: Duration = Duration::from_secs(2);

/// An order that waits for the store.
struct Waiting {
    link: LinkId,
    order: Order,
    since: Instant,
}

/// The gate and what it acts on.
pub struct Core {
    edge: Arc<Edge>,
    gate: Gate,
    /// `None`: nothing outlives this run, so nothing is kept and nothing waits.
    keeper: Option<Keeper>,
    held: Held<Waiting>,
    links: HashMap<LinkId, Handle>,
    load: Option<Load>,
    drain_by: Option<Instant>,
}

impl Core {
    /// Gives the gate what was kept before the restart; nothing else has reached it yet. Blocks while it reads.
    pub fn new(edge: Arc<Edge>, gate: Gate, store: Option<Box<dyn Store>>, load: Option<Load>) -> Result<Self, String> {
        let (links, held) = (HashMap::new(), Held::new());
        let mut core = Self { edge, gate, keeper: None, held, links, load, drain_by: None };
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
        // The first commit tells at once whether the store can be written at all.
        keeper.hurry();
        core.edge.telemetry.keep_decisions(keeper.clone());
        let _ = core.edge.keeper.set(keeper.clone());
        core.keeper = Some(keeper);
        core.act();
        Ok(core)
    }

    /// Runs until drained. `gone` ends when the last link is.
    pub async fn run(mut self, mut arrivals: mpsc::Receiver<Arrival>, mut gone: mpsc::Receiver<()>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let due = self.gate.poll_timeout().map(|at| self.edge.clock.instant(at));
            let deadline = [due, self.drain_by].into_iter().flatten().min();
            tokio::select! {
                n = arrivals.recv_many(&mut batch, BATCH) => {
                    if n == 0 {
                        break;
                    }
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
            }
            for arrival in batch.drain(..) {
                self.take(arrival);
            }
            let now = self.edge.clock.now();
            if self.gate.poll_timeout().is_some_and(|at| at <= now) {
                self.gate.handle_input(now, Input::Timeout);
            }
            self.act();
            if let Some(by) = self.drain_by
                && ((self.gate.is_drained() && self.held.is_empty()) || Instant::now() >= by)
            {
                if !self.gate.is_drained() {
                    tracing::warn!("not all was settled within {DRAIN:?}; stopping all the same");
                }
                break;
            }
        }
        // Links write out what they were given and close; what they still say reaches nobody.
        arrivals.close();
        self.links.clear();
        self.edge.forget_alive();
        let emptied = async { while arrivals.recv().await.is_some() {} };
        let last = async { while gone.recv().await.is_some() {} };
        let _ = tokio::time::timeout(GOODBYE, async { tokio::join!(emptied, last) }).await;
    }

    fn take(&mut self, arrival: Arrival) {
        let now = self.edge.clock.now();
        match arrival {
            Arrival::Linked(link, handle) => {
                self.links.insert(link, handle);
            }
            Arrival::Input(input) => {
                if let Input::Closed { link, .. } = &*input {
                    self.links.remove(link);
                }
                self.gate.handle_input(now, *input);
            }
            Arrival::Snapshot(answer) => {
                let _ = answer.send(self.gate.snapshot());
            }
            Arrival::Reload(answer) => self.reload(answer),
            Arrival::Loaded(loaded, answer) => {
                let outcome = loaded.and_then(|loaded| self.put_in_force(loaded));
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
            Arrival::Stored(word) => self.stored(word),
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

    fn put_in_force(&mut self, loaded: Loaded) -> Result<(), String> {
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
        self.gate.handle_input(self.edge.clock.now(), Input::Reload(Box::new(loaded.gate)));
        Ok(())
    }

    /// Does all that the gate wants.
    fn act(&mut self) {
        while let Some(output) = self.gate.poll_output() {
            match output {
                Output::Send { link, bytes, transit, lane } => {
                    self.send(lane, link, Order::Send { bytes, transit });
                }
                // Behind all that it may have to be sent.
                Output::Close { link, error } => self.send(Lane::All, link, Order::Close(error)),
                Output::Connect { hop, target } => {
                    tokio::spawn(dial::dial(Arc::clone(&self.edge), hop, target));
                }
                Output::Keep { lane, record } => {
                    if let Some(keeper) = &self.keeper {
                        keeper.keep(self.held.mark(lane), record, lane != Lane::Free);
                    }
                }
                Output::Forget { lane, id } => {
                    if let Some(keeper) = &self.keeper {
                        keeper.forget(self.held.mark(lane), id, lane != Lane::Free);
                    }
                }
                Output::Event(event) => self.edge.telemetry.record(*event),
            }
        }
    }

    /// A link that takes nothing is ended; the others never notice. Its end reaches the gate as [`Input::Closed`] from its task.
    fn order(&mut self, link: LinkId, order: Order) {
        let Some(handle) = self.links.get(&link) else { return };
        if handle.give(order) == Err(Overfull)
            && let Some(handle) = self.links.remove(&link)
        {
            handle.kill("its queue is full: the peer takes messages too slowly".to_owned());
        }
    }

    /// Now, or when what it waits for is committed.
    fn send(&mut self, lane: Lane, link: LinkId, order: Order) {
        match self.held.push(lane, Waiting { link, order, since: Instant::now() }) {
            Some(Waiting { link, order, .. }) => self.order(link, order),
            None => {
                if let (Lane::All, Some(keeper)) = (lane, &self.keeper) {
                    keeper.hurry();
                }
            }
        }
    }

    fn stored(&mut self, word: Word) {
        let metrics = Arc::clone(&self.edge.telemetry.metrics);
        match word {
            Word::Committed(mark) => {
                let mut released = Vec::new();
                self.held.committed(mark, |waiting| released.push(waiting));
                for Waiting { link, order, .. } in released {
                    self.order(link, order);
                }
                if self.edge.store_trouble.swap(None).is_some() {
                    metrics.store_up(true);
                    tracing::warn!("the state store can be written again");
                    self.gate.handle_input(self.edge.clock.now(), Input::StoreTrouble(None));
                }
            }
            Word::Failing(why) => {
                if self.edge.store_trouble.swap(Some(Arc::new(why.clone()))).is_none() {
                    metrics.store_up(false);
                    tracing::error!(
                        why,
                        "the state store can't be written: new sessions are refused until it can be; what goes on goes on"
                    );
                    self.gate.handle_input(self.edge.clock.now(), Input::StoreTrouble(Some(why)));
                }
                let dropped = self.held.drop_where(|waiting| waiting.since.elapsed() >= STALE);
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
            limits: crate::gate::limits::Limits::default(),
        };
        let gate = Gate::new(settings, [0; 32], edge.clock.now());
        Core::new(edge, gate, None, None).unwrap()
    }

    #[tokio::test]
    async fn a_link_that_takes_nothing_is_ended_and_no_other() {
        let mut core = core();
        let mut links = Vec::new();
        for id in 1..=2 {
            let (handle, orders) = orders::pair();
            core.take(Arrival::Linked(LinkId(id), handle));
            links.push(orders);
        }
        let order = |size| Order::Send { bytes: Bytes::from(vec![b'x'; size]), transit: None };
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
}
