//! The shadow of every message, and of everything that went wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Complaints that are kept whole.
const COMPLAINTS: usize = 200;

/// What became of everything.
pub struct Book {
    begun: Instant,
    /// How often the edge was started.
    generation: AtomicU32,
    pages: Mutex<Pages>,
}

/// The book's pages.
#[derive(Default)]
pub struct Pages {
    /// From SIP to XMPP, by number.
    pub to_xmpp: Vec<ToXmpp>,
    /// From XMPP to SIP, by number.
    pub to_sip: Vec<ToSip>,
    complaints: Vec<String>,
    complained: usize,
    counts: BTreeMap<&'static str, u64>,
    /// Hears the number of each message to SIP that has come, and of each to XMPP that was answered.
    pub done: Option<UnboundedSender<u32>>,
}

/// A message from SIP to XMPP.
#[derive(Clone, Copy, Debug)]
pub struct ToXmpp {
    /// When it was handed to the connection.
    pub at: Instant,
    /// How often it came to the node.
    pub arrived: u32,
    /// What its sender was told, and when.
    pub answer: Answer,
    /// See `answer`.
    pub answered_at: Option<Instant>,
}

/// What a SIP sender was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet.
    Open,
    /// 2xx.
    Accepted,
    /// Any other final answer.
    Refused(u16),
    /// Its connection ended before.
    Silence,
}

/// A message from XMPP to SIP.
#[derive(Clone, Copy, Debug)]
pub struct ToSip {
    /// When it was handed to the stream.
    pub at: Instant,
    /// When it came to the partner.
    pub arrived_at: Option<Instant>,
    /// How often it came to the partner, who answered 200.
    pub arrived: u32,
    /// How many errors came back.
    pub errors: u32,
    /// What its server knows of it.
    pub standing: Standing,
}

/// What the sender's server knows of a stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not acknowledged yet.
    Open,
    /// The edge has it.
    Acknowledged,
    /// Its stream ended before: the server knows that it may be lost.
    Unacknowledged,
}

impl Default for Book {
    fn default() -> Self {
        Self { begun: Instant::now(), generation: AtomicU32::new(0), pages: Mutex::default() }
    }
}

impl Book {
    /// How often the edge was started.
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::SeqCst)
    }

    /// It is being started.
    pub fn next_generation(&self) -> u32 {
        self.generation.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The pages.
    pub fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that must not be.
    pub fn complain(&self, what: impl FnOnce() -> String) {
        let mut pages = self.pages();
        pages.complained += 1;
        if pages.complaints.len() < COMPLAINTS {
            let line = format!("{:8.3} s, start {}: {}", self.begun.elapsed().as_secs_f64(), self.generation(), what());
            pages.complaints.push(line);
        }
    }

    /// All complaints: how many, and the first of them.
    pub fn complaints(&self) -> (usize, Vec<String>) {
        let pages = self.pages();
        (pages.complained, pages.complaints.clone())
    }

    /// Counts something of which figures are wanted.
    pub fn count(&self, what: &'static str) {
        *self.pages().counts.entry(what).or_default() += 1;
    }

    /// What was counted.
    pub fn counted(&self) -> BTreeMap<&'static str, u64> {
        self.pages().counts.clone()
    }
}

impl Pages {
    /// A new message to XMPP.
    pub fn begin_to_xmpp(&mut self) -> u32 {
        let new = ToXmpp { at: Instant::now(), arrived: 0, answer: Answer::Open, answered_at: None };
        self.to_xmpp.push(new);
        self.to_xmpp.len() as u32 - 1
    }

    /// A new message to SIP.
    pub fn begin_to_sip(&mut self) -> u32 {
        let new = ToSip { at: Instant::now(), arrived_at: None, arrived: 0, errors: 0, standing: Standing::Open };
        self.to_sip.push(new);
        self.to_sip.len() as u32 - 1
    }

    /// One has come to the node.
    pub fn at_node(&mut self, number: u32) {
        if let Some(message) = self.to_xmpp.get_mut(number as usize) {
            message.arrived += 1;
        }
    }

    /// The sender of one was told how it ended.
    pub fn answered(&mut self, number: u32, answer: Answer) {
        if let Some(message) = self.to_xmpp.get_mut(number as usize) {
            message.answer = answer;
            message.answered_at = Some(Instant::now());
            self.is_done(number);
        }
    }

    fn is_done(&self, number: u32) {
        if let Some(done) = &self.done {
            let _ = done.send(number);
        }
    }

    /// One has come to the partner.
    pub fn at_partner(&mut self, number: u32) {
        if let Some(message) = self.to_sip.get_mut(number as usize) {
            message.arrived += 1;
            if message.arrived_at.is_none() {
                message.arrived_at = Some(Instant::now());
                self.is_done(number);
            }
        }
    }
}

/// Messages that have no outcome although they must: what is wrong with them.
pub fn unsettled(book: &Book) -> Vec<String> {
    let pages = book.pages();
    let mut wrong = Vec::new();
    for (number, message) in pages.to_xmpp.iter().enumerate() {
        match message.answer {
            Answer::Open => {
                wrong.push(format!("message {number} to XMPP has no answer after {:?}", message.at.elapsed()))
            }
            Answer::Accepted if message.arrived == 0 => {
                wrong.push(format!("message {number} to XMPP was answered by 200 and has not come to the node"));
            }
            Answer::Accepted | Answer::Refused(_) | Answer::Silence => {}
        }
    }
    for (number, message) in pages.to_sip.iter().enumerate() {
        match message.standing {
            Standing::Open => {
                wrong.push(format!("message {number} to SIP is not acknowledged after {:?}", message.at.elapsed()))
            }
            Standing::Acknowledged if message.arrived == 0 && message.errors == 0 => wrong.push(format!(
                "message {number} to SIP was acknowledged {:?} ago and came neither to the partner nor back",
                message.at.elapsed()
            )),
            Standing::Acknowledged | Standing::Unacknowledged => {}
        }
    }
    wrong
}

/// p50 and p99 of latencies.
pub fn percentiles(mut all: Vec<Duration>) -> (Duration, Duration) {
    all.sort_unstable();
    let at =
        |part: usize| all.get((all.len() * part / 100).min(all.len().saturating_sub(1))).copied().unwrap_or_default();
    (at(50), at(99))
}
