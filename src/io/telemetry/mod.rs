//! From events to what people see: log lines, metrics, the audit file and the ring of decisions.
//!
//! Metrics are counted where the event happens; log, audit and ring are fed by a thread of their own through a bounded queue, so that
//! a slow disk or terminal never holds up the loop.

pub mod audit;
pub mod decisions;
pub mod log;
pub mod metrics;

pub use metrics::{Count, Metrics};

use crate::gate::event::Settled;
use crate::gate::{Event, Time};
use crate::io::clock::Clock;
use crate::io::keeper::Keeper;
use audit::Audit;
use decisions::Decisions;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Events that may wait for the recording thread.
const QUEUE: usize = 16_384;
/// How long the recording thread waits for more after the first.
const GATHERS: Duration = Duration::from_millis(2);

/// The one place events go.
#[derive(Debug)]
pub struct Telemetry {
    /// Counters, gauges, histograms.
    pub metrics: Arc<Metrics>,
    decisions: Arc<Decisions>,
    queue: Mutex<Option<SyncSender<(Time, Event)>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Where decisions are kept beyond this run, once there is such a place.
    keeper: Arc<OnceLock<Keeper>>,
    clock: Clock,
    dropped: AtomicU64,
}

impl Telemetry {
    /// Opens the audit file, if any, and starts the recording thread. `labels`: the partner entries' labels.
    pub fn start(clock: Clock, audit: Option<PathBuf>, labels: Vec<String>) -> Result<Arc<Self>, String> {
        let audit = audit.map(Audit::open).transpose()?;
        let decisions = Arc::new(Decisions::default());
        let (sender, receiver) = sync_channel(QUEUE);
        let ring = Arc::clone(&decisions);
        let keeper = Arc::new(OnceLock::new());
        let thread = std::thread::Builder::new()
            .name("telemetry".to_owned())
            .spawn({
                let keeper = Arc::clone(&keeper);
                move || record(&receiver, audit, &ring, &keeper)
            })
            .map_err(|error| format!("telemetry thread: {error}"))?;
        Ok(Arc::new(Self {
            metrics: Arc::new(Metrics::new(labels)?),
            decisions,
            queue: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
            keeper,
            clock,
            dropped: AtomicU64::new(0),
        }))
    }

    /// How a message or request ended: one comes with each, and most of the time nobody reads them, so that no thread is woken for it.
    pub fn settled(&self, settled: Settled) {
        self.metrics.settled(&settled);
        if tracing::enabled!(tracing::Level::DEBUG) {
            self.tell(Event::Settled(settled));
        }
    }

    /// Takes an event.
    pub fn record(&self, event: Event) {
        self.metrics.count(&event);
        if matches!(event, Event::Shown { .. }) && !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        self.tell(event);
    }

    fn tell(&self, event: Event) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = queue.as_ref() else { return };
        match sender.try_send((self.clock.now(), event)) {
            Ok(()) => {
                let lost = self.dropped.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    tracing::error!(lost, "log and audit fell behind; events were left out of them");
                }
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// From now on decisions are kept in the state store too.
    pub fn keep_decisions(&self, keeper: Keeper) {
        let _ = self.keeper.set(keeper);
    }

    /// The last decisions.
    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// Writes out what is queued; nothing is recorded afterwards.
    pub fn finish(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

fn record(queue: &Receiver<(Time, Event)>, mut audit: Option<Audit>, ring: &Decisions, keeper: &OnceLock<Keeper>) {
    while let Ok(first) = queue.recv() {
        write(first, &mut audit, ring, keeper);
        // What comes soon after is written at one wake.
        std::thread::sleep(GATHERS);
        while let Ok(next) = queue.try_recv() {
            write(next, &mut audit, ring, keeper);
        }
    }
}

fn write((at, event): (Time, Event), audit: &mut Option<Audit>, ring: &Decisions, keeper: &OnceLock<Keeper>) {
    log::write(&event);
    // SIGHUP is also what a rotation sends.
    if let (Event::Reloaded { .. }, Some(audit)) = (&event, &mut *audit) {
        audit.reopen();
    }
    if let Event::Decided(decision) = event {
        let (id, entry) = (decision.id.as_str().to_owned(), decisions::entry(at, &decision).to_string());
        if let Some(audit) = audit {
            audit.write(&entry);
        }
        if let Some(keeper) = keeper.get() {
            keeper.decided(id.clone(), entry.clone());
        }
        ring.push(id, &entry);
    }
}
