//! The store's thread: changes are gathered and committed as one (group commit), off the loop. What comes and goes between two commits is
//! never written at all.

use super::held::Mark;
use super::store::{Change, Store, StoreError};
use super::telemetry::Metrics;
use crate::gate::record::Kept;
use crate::gate::{Record, RecordId};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Between two commits while something waits for the next.
const EVERY: Duration = Duration::from_millis(5);
/// How long a change waits for others while nothing waits for it.
const LAZY: Duration = Duration::from_millis(50);
/// After a commit that failed.
const AGAIN: Duration = Duration::from_secs(1);
/// Decisions that may wait; beyond, the oldest are not kept.
const DECISIONS: usize = 16_384;
/// Questions that may wait.
const QUESTIONS: usize = 64;

/// What the thread has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// All up to this mark is durable.
    Committed(Mark),
    /// Nothing can be made durable, and why; it is tried again every second.
    Failing(String),
}

/// The loop's and the recorder's end of the thread.
#[derive(Debug, Clone)]
pub struct Keeper {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pending: Mutex<Pending>,
    wake: Condvar,
}

/// Bounded by the gate's tables, whose records these are, and by [`DECISIONS`].
#[derive(Debug, Default)]
struct Pending {
    /// `None`: forgotten.
    changes: HashMap<RecordId, Option<Box<Record>>>,
    decisions: VecDeque<(String, String)>,
    /// Decisions left out.
    lost: u64,
    upto: Mark,
    /// Whether anybody waits.
    is_urgent: bool,
    /// When the oldest change came.
    since: Option<Instant>,
    questions: Vec<(Question, oneshot::Sender<Answer>)>,
    stop: Option<oneshot::Sender<Result<(), String>>>,
    /// The thread is gone: nobody is kept waiting for it.
    has_ended: bool,
}

type Answer = Result<Vec<String>, StoreError>;

#[derive(Debug)]
enum Question {
    Decision(String),
    Decisions(usize),
}

impl Keeper {
    /// Starts the thread. `tell` may block.
    pub fn start(
        store: Box<dyn Store>,
        metrics: Arc<Metrics>,
        tell: impl Fn(Word) + Send + 'static,
    ) -> Result<Self, String> {
        let shared = Arc::new(Shared { pending: Mutex::default(), wake: Condvar::new() });
        let thread = Thread { shared: Arc::clone(&shared), store, metrics, tell, failing: false };
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || thread.run())
            .map_err(|error| format!("store thread: {error}"))?;
        Ok(Self { shared })
    }

    /// Remembers a record. `is_awaited`: sends wait for it.
    pub fn keep(&self, mark: Mark, record: Box<Record>, is_awaited: bool) {
        self.change(is_awaited, |pending| {
            pending.changes.insert(record.id.clone(), Some(record));
            pending.upto = mark;
        });
    }

    /// No longer. `is_awaited` as for [`keep`](Self::keep).
    pub fn forget(&self, mark: Mark, id: RecordId, is_awaited: bool) {
        self.change(is_awaited, |pending| {
            pending.upto = mark;
            match pending.changes.get(&id) {
                // It came and went: nothing of it was written, nothing needs to be.
                Some(Some(record)) if matches!(record.kept, Kept::Envelope(_)) => {
                    pending.changes.remove(&id);
                }
                _ => {
                    pending.changes.insert(id, None);
                }
            }
        });
    }

    /// Somebody waits for all that was handed over.
    pub fn hurry(&self) {
        self.change(true, |_| {});
    }

    /// For the ring of decisions.
    pub fn decided(&self, id: String, entry: String) {
        self.change(false, |pending| {
            if pending.decisions.len() >= DECISIONS {
                pending.decisions.pop_front();
                pending.lost += 1;
            }
            pending.decisions.push_back((id, entry));
        });
    }

    /// A decision of the ring.
    pub async fn decision(&self, id: String) -> Result<Option<String>, String> {
        self.ask(Question::Decision(id)).await.map(|mut found| found.pop())
    }

    /// The newest decisions, newest first.
    pub async fn decisions(&self, limit: usize) -> Result<Vec<String>, String> {
        self.ask(Question::Decisions(limit)).await
    }

    /// Commits what is left, closes the store and ends the thread.
    pub async fn stop(&self) -> Result<(), String> {
        let (stopped, word) = oneshot::channel();
        self.change(true, |pending| pending.stop = Some(stopped));
        word.await.unwrap_or_else(|_| Err("the store's thread has ended before".to_owned()))
    }

    async fn ask(&self, question: Question) -> Result<Vec<String>, String> {
        let (answer, word) = oneshot::channel();
        {
            let mut pending = self.lock();
            if pending.has_ended {
                return Err("the state store is closed".to_owned());
            }
            if pending.questions.len() >= QUESTIONS {
                return Err("too many ask the state store".to_owned());
            }
            pending.questions.push((question, answer));
        }
        self.shared.wake.notify_one();
        let answered = word.await.map_err(|_| "the store's thread has ended".to_owned())?;
        answered.map_err(|error| error.to_string())
    }

    fn change(&self, is_awaited: bool, change: impl FnOnce(&mut Pending)) {
        let mut pending = self.lock();
        if pending.has_ended {
            return;
        }
        change(&mut pending);
        // The thread sleeps soundly while changes gather: it is woken by the first, and by the first that is awaited.
        let must_wake = pending.since.is_none() || (is_awaited && !pending.is_urgent);
        pending.is_urgent |= is_awaited;
        pending.since.get_or_insert_with(Instant::now);
        drop(pending);
        if must_wake {
            self.shared.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.shared.lock()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Thread<T> {
    shared: Arc<Shared>,
    store: Box<dyn Store>,
    metrics: Arc<Metrics>,
    tell: T,
    failing: bool,
}

impl<T> Drop for Thread<T> {
    fn drop(&mut self) {
        *self.shared.lock() = Pending { has_ended: true, ..Pending::default() };
    }
}

impl<T: Fn(Word)> Thread<T> {
    fn run(mut self) {
        let mut last = Instant::now().checked_sub(EVERY).unwrap_or_else(Instant::now);
        let mut batch: Vec<Change> = Vec::new();
        loop {
            let (upto, stop) = self.gather(&mut batch, last);
            let begun = Instant::now();
            let outcome = if batch.is_empty() { Ok(()) } else { self.store.commit(&batch) };
            last = Instant::now();
            self.metrics.store("commit", last - begun);
            match outcome {
                Ok(()) => {
                    batch.clear();
                    self.failing = false;
                    (self.tell)(Word::Committed(upto));
                    if let Some(stopped) = stop {
                        // Closed before anybody is told that it is.
                        drop(self);
                        let _ = stopped.send(Ok(()));
                        return;
                    }
                }
                Err(error) => {
                    self.metrics.store_error("commit");
                    self.failing = true;
                    let error = error.to_string();
                    (self.tell)(Word::Failing(error.clone()));
                    if let Some(stopped) = stop {
                        let _ = stopped.send(Err(error));
                        return;
                    }
                }
            }
        }
    }

    /// Waits until there is something to commit and others had time to join it. What `batch` still has goes before.
    fn gather(&self, batch: &mut Vec<Change>, last: Instant) -> (Mark, Option<oneshot::Sender<Result<(), String>>>) {
        let mut pending = self.shared.lock();
        loop {
            // Another may come while one is answered.
            while let Some((question, answer)) = pending.questions.pop() {
                drop(pending);
                let _ = answer.send(self.answer(&question));
                pending = self.shared.lock();
            }
            let now = Instant::now();
            let due = match pending.since {
                _ if pending.stop.is_some() => now,
                _ if self.failing => last + AGAIN,
                None => {
                    pending = self.shared.wake.wait(pending).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                Some(_) if pending.is_urgent => last + EVERY,
                Some(since) => since + LAZY,
            };
            if due <= now {
                break;
            }
            let waited = self.shared.wake.wait_timeout(pending, due - now);
            pending = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if pending.lost > 0 {
            let lost = std::mem::take(&mut pending.lost);
            tracing::error!(lost, "the state store fell behind; decisions were left out of its ring");
        }
        // What failed to be committed, unless it has changed since.
        batch.retain(|change| match change {
            Change::Keep(record) => !pending.changes.contains_key(&record.id),
            Change::Forget(id) => !pending.changes.contains_key(id),
            Change::Decided { .. } => true,
        });
        batch.extend(pending.changes.drain().map(|(id, record)| match record {
            Some(record) => Change::Keep(record),
            None => Change::Forget(id),
        }));
        let decisions = pending.decisions.drain(..).map(|(id, entry)| Change::Decided { id, entry });
        let room = DECISIONS.saturating_sub(batch.iter().filter(|c| matches!(c, Change::Decided { .. })).count());
        batch.extend(decisions.take(room));
        pending.is_urgent = false;
        pending.since = None;
        (pending.upto, pending.stop.take())
    }

    fn answer(&self, question: &Question) -> Result<Vec<String>, StoreError> {
        match question {
            Question::Decision(id) => Ok(self.store.decision(id)?.into_iter().collect()),
            Question::Decisions(limit) => self.store.decisions(*limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A store whose commits wait for the test's word.
    struct Slow {
        may: mpsc::Receiver<Result<(), StoreError>>,
        done: mpsc::Sender<Vec<Change>>,
    }

    impl Store for Slow {
        fn restore(&mut self, _: &mut dyn FnMut(Record)) -> Result<(), StoreError> {
            Ok(())
        }
        fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
            let outcome = self.may.recv().unwrap_or(Ok(()));
            self.done.send(changes.to_vec()).unwrap();
            outcome
        }
        fn prove(&mut self) -> Result<(), StoreError> {
            Ok(())
        }
        fn decisions(&self, _: usize) -> Result<Vec<String>, StoreError> {
            Ok(vec!["{}".to_owned()])
        }
        fn decision(&self, id: &str) -> Result<Option<String>, StoreError> {
            Ok((id == "known").then(|| "{}".to_owned()))
        }
    }

    struct Bench {
        keeper: Keeper,
        may: mpsc::Sender<Result<(), StoreError>>,
        done: mpsc::Receiver<Vec<Change>>,
        words: mpsc::Receiver<Word>,
    }

    fn bench() -> Bench {
        let ((may, allowed), (done, batches), (tell, words)) = (mpsc::channel(), mpsc::channel(), mpsc::channel());
        let store = Slow { may: allowed, done };
        let metrics = Arc::new(Metrics::new(Vec::new()).unwrap());
        let keeper = Keeper::start(Box::new(store), metrics, move |word| {
            let _ = tell.send(word);
        });
        Bench { keeper: keeper.unwrap(), may, done: batches, words }
    }

    fn full() -> StoreError {
        StoreError::Full { path: "state.db".into(), cause: "full".to_owned() }
    }

    fn envelope(name: &str) -> Box<Record> {
        let kept = serde_json::json!({ "envelope": {
            "record": name, "from": "a@b", "to": "c@d", "id": null, "type_": null, "node": "n", "partner": "d",
        } });
        Box::new(Record { id: RecordId(name.to_owned()), kept: serde_json::from_value(kept).unwrap() })
    }

    #[tokio::test]
    async fn what_gathers_is_committed_as_one_and_what_came_and_went_is_not() {
        let bench = bench();
        bench.keeper.keep(1, envelope("first"), true);
        // While the first commit is under way, the others gather.
        bench.may.send(Ok(())).unwrap();
        assert_eq!(bench.words.recv().unwrap(), Word::Committed(1));
        assert_eq!(bench.done.recv().unwrap(), [Change::Keep(envelope("first"))]);
        bench.keeper.keep(2, envelope("brief"), false);
        bench.keeper.forget(3, RecordId("brief".to_owned()), false);
        bench.keeper.forget(4, RecordId("first".to_owned()), false);
        bench.keeper.hurry();
        bench.may.send(Ok(())).unwrap();
        assert_eq!(bench.done.recv().unwrap(), [Change::Forget(RecordId("first".to_owned()))]);
        assert_eq!(bench.words.recv().unwrap(), Word::Committed(4));
        assert_eq!(bench.keeper.stop().await, Ok(()));
    }

    #[tokio::test]
    async fn a_commit_that_fails_is_tried_again_with_what_came_since() {
        let bench = bench();
        bench.keeper.keep(1, envelope("a"), true);
        bench.keeper.decided("id".to_owned(), "{}".to_owned());
        bench.may.send(Err(full())).unwrap();
        let tried = bench.done.recv().unwrap();
        assert!(matches!(bench.words.recv().unwrap(), Word::Failing(why) if why.contains("full")));
        bench.keeper.forget(2, RecordId("a".to_owned()), false);
        bench.may.send(Ok(())).unwrap();
        let again = bench.done.recv().unwrap();
        assert!(again.contains(&Change::Forget(RecordId("a".to_owned()))), "{tried:?} then {again:?}");
        assert!(!again.iter().any(|change| matches!(change, Change::Keep(_))));
        assert_eq!(bench.words.recv().unwrap(), Word::Committed(2));
    }

    #[tokio::test]
    async fn questions_are_answered_and_a_store_that_cannot_be_closed_clean_says_so() {
        let bench = bench();
        assert_eq!(bench.keeper.decision("known".to_owned()).await, Ok(Some("{}".to_owned())));
        assert_eq!(bench.keeper.decision("other".to_owned()).await, Ok(None));
        assert_eq!(bench.keeper.decisions(5).await.map(|all| all.len()), Ok(1));
        bench.keeper.keep(1, envelope("a"), false);
        bench.may.send(Err(full())).unwrap();
        bench.may.send(Err(full())).unwrap();
        assert!(bench.keeper.stop().await.is_err());
        assert!(bench.keeper.decision("known".to_owned()).await.is_err(), "the thread has ended");
    }
}
