//! Servers that die while people write to each other, and come back: every message arrives, or its sender reads that it did not, or that nobody knows.

use crate::client::Client;
use crate::xmpp_server::Kind::{self, Ejabberd, Prosody};
use crate::xmpp_stand::{ALICE, JULIET, Setup, Stand};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Messages of a run; a third of them before the death, a third while nobody is there.
const MANY: usize = 150;
/// Between two of them.
const PACE: Duration = Duration::from_millis(20);
/// For the last one to be settled: the edge and a server may each wait half a minute for an answer.
const SETTLED: Duration = Duration::from_secs(120);

/// What became of numbered messages.
#[derive(Default)]
struct Book {
    sent: BTreeSet<String>,
    /// How many times.
    received: BTreeMap<String, usize>,
    /// The texts of its errors.
    bounced: BTreeMap<String, Vec<String>>,
}

impl Book {
    fn send(&mut self, sender: &mut Client, to: &str, many: usize, pace: Duration) {
        for _ in 0..many {
            let id = format!("n{}", self.sent.len());
            sender.message(to, &id, "still there?");
            self.sent.insert(id);
            std::thread::sleep(pace);
        }
    }

    /// What these have heard since the last time.
    fn read(&mut self, sender: &mut Client, recipients: &mut [&mut Client]) {
        self.take(sender.take_messages().1, Vec::new());
        for recipient in recipients {
            self.take(Vec::new(), recipient.take_messages().0);
        }
    }

    fn take(&mut self, bounced: Vec<(String, String)>, received: Vec<String>) {
        for (id, text) in bounced {
            self.bounced.entry(id).or_default().push(text);
        }
        for id in received {
            *self.received.entry(id).or_default() += 1;
        }
    }

    fn open(&self) -> Vec<&String> {
        self.sent.iter().filter(|id| !self.received.contains_key(*id) && !self.bounced.contains_key(*id)).collect()
    }

    /// Waits for the rest, and says what is wrong with it.
    fn settle(&mut self, sender: &mut Client, recipients: &mut [&mut Client]) {
        let end = Instant::now() + SETTLED;
        while !self.open().is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(200));
            self.read(sender, recipients);
        }
        // For a second copy, or an error behind a message that arrived.
        std::thread::sleep(Duration::from_secs(2));
        self.read(sender, recipients);
        println!(
            "{} sent, {} received, {} came back, {} of them both",
            self.sent.len(),
            self.received.len(),
            self.bounced.len(),
            self.both().count()
        );
        assert!(self.open().is_empty(), "neither received nor come back: {:?}", self.open());
        let received: Vec<_> = self.received.iter().filter(|(_, times)| **times > 1).collect();
        let bounced: Vec<_> = self.bounced.iter().filter(|(_, texts)| texts.len() > 1).collect();
        assert!(received.is_empty(), "received more than once: {received:?}");
        assert!(bounced.is_empty(), "came back more than once: {bounced:?}");
    }

    /// Received, and yet come back.
    fn both(&self) -> impl Iterator<Item = (&String, &Vec<String>)> {
        self.bounced.iter().filter(|(id, _)| self.received.contains_key(*id))
    }

    /// Nobody was told that something did not arrive which did: at most that it is not known.
    fn assert_honest(&self) {
        for (id, texts) in self.both() {
            assert!(texts.iter().all(|text| text.contains("uncertain")), "{id} was received, and came back: {texts:?}");
        }
    }
}

#[test]
fn a_prosody_inside_dies_under_traffic() {
    inside_dies("xmpp-dies-ip", Prosody);
}

#[test]
fn an_ejabberd_inside_dies_under_traffic() {
    inside_dies("xmpp-dies-ie", Ejabberd);
}

fn inside_dies(test: &str, inside: Kind) {
    let Some(mut stand) = Stand::raise(test, Setup::of(Prosody, inside)) else { return };
    let mut juliet = stand.outside("juliet");
    let mut alice = stand.inside("alice");
    let mut book = Book::default();
    book.send(&mut juliet, ALICE, MANY / 6, PACE);
    // All at once: some are on their way when it dies.
    book.send(&mut juliet, ALICE, MANY / 6, Duration::ZERO);
    std::thread::sleep(PACE);
    stand.inside[0].kill();
    book.send(&mut juliet, ALICE, MANY / 3, PACE);
    stand.inside[0].run();
    let mut again = stand.inside("alice");
    book.send(&mut juliet, ALICE, MANY / 3, PACE);
    book.settle(&mut juliet, &mut [&mut alice, &mut again]);
    book.assert_honest();
    assert_lively(&book);
    goes_on(&mut juliet, ALICE, &mut again, JULIET);
}

#[test]
fn a_partners_prosody_dies_under_traffic() {
    partner_dies("xmpp-dies-pp", Prosody);
}

#[test]
fn a_partners_ejabberd_dies_under_traffic() {
    partner_dies("xmpp-dies-pe", Ejabberd);
}

fn partner_dies(test: &str, partner: Kind) {
    let Some(mut stand) = Stand::raise(test, Setup::of(partner, Prosody)) else { return };
    let mut juliet = stand.outside("juliet");
    let mut alice = stand.inside("alice");
    let mut book = Book::default();
    book.send(&mut alice, JULIET, MANY / 6, PACE);
    // All at once: some are on their way when it dies.
    book.send(&mut alice, JULIET, MANY / 6, Duration::ZERO);
    std::thread::sleep(PACE);
    stand.partner.kill();
    book.send(&mut alice, JULIET, MANY / 3, PACE);
    stand.partner.run();
    let mut again = stand.outside("juliet");
    book.send(&mut alice, JULIET, MANY / 3, PACE);
    book.settle(&mut alice, &mut [&mut juliet, &mut again]);
    book.assert_honest();
    assert_lively(&book);
    goes_on(&mut alice, JULIET, &mut again, ALICE);
}

/// Some have arrived: the run was not over before it began. How soon they do again, is up to those who wait before they try again.
fn assert_lively(book: &Book) {
    assert!(book.received.len() >= MANY / 8, "only {} of {MANY} were received", book.received.len());
}

/// In the end all is as before; how soon, is up to those who wait before they try again.
fn goes_on(sender: &mut Client, to: &str, recipient: &mut Client, from: &str) {
    let end = Instant::now() + Duration::from_secs(90);
    for number in 0.. {
        let id = format!("after{number}");
        sender.message(to, &id, "and now?");
        std::thread::sleep(Duration::from_secs(1));
        if recipient.take_messages().0.contains(&id) {
            break;
        }
        assert!(Instant::now() < end, "nothing arrives any more");
    }
    // And the other way.
    recipient.message(from, "back", "yes");
    sender.wait("the answer", |e| e.is("message") && e.text("id") == "back" && e.text("type") == "chat");
}

#[test]
fn fedgate_dies_between_servers_that_count() {
    // XEP-0198 on both sides: what fedgate has not acknowledged, the senders' own servers answer for.
    let Some(mut stand) = Stand::raise("xmpp-dies-f", Setup::of(Prosody, Prosody)) else { return };
    let mut juliet = stand.outside("juliet");
    let mut alice = stand.inside("alice");
    // Prosody enables it behind the first stanzas, which it does not count.
    for id in ["w1", "w2"] {
        juliet.message(ALICE, id, "warm");
        alice.message_from(JULIET);
        alice.message(JULIET, id, "warm");
        juliet.message_from(ALICE);
    }
    let (mut inward, mut outward) = (Book::default(), Book::default());
    let mut both = |many: usize, juliet: &mut Client, alice: &mut Client| {
        for _ in 0..many {
            inward.send(juliet, ALICE, 1, PACE);
            outward.send(alice, JULIET, 1, PACE);
        }
    };
    both(MANY / 6, &mut juliet, &mut alice);
    stand.fedgate.signal("KILL");
    both(MANY / 6, &mut juliet, &mut alice);
    stand.fedgate.wait();
    stand.fedgate.start_again();
    // Until both servers have seen it die: what they still write into a dead stream is before its end.
    std::thread::sleep(Duration::from_secs(2));
    juliet.message(ALICE, "w3", "warm");
    alice.message(JULIET, "w3", "warm");
    std::thread::sleep(Duration::from_secs(2));
    both(MANY / 6, &mut juliet, &mut alice);
    let end = Instant::now() + SETTLED;
    while !(inward.open().is_empty() && outward.open().is_empty()) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(200));
        let ((to_juliet, juliets), (to_alice, alices)) = (juliet.take_messages(), alice.take_messages());
        inward.take(juliets, to_alice);
        outward.take(alices, to_juliet);
    }
    inward.settle(&mut juliet, &mut []);
    outward.settle(&mut alice, &mut []);
}

#[test]
fn one_of_two_nodes_dies_and_the_other_serves() {
    let setup = Setup { nodes: 2, ..Setup::of(Ejabberd, Ejabberd) };
    let Some(mut stand) = Stand::raise("xmpp-two-nodes", setup) else { return };
    let mut juliet = stand.outside("juliet");
    // Two servers that know nothing of each other: she is at home on both.
    let mut first = stand.at("alice", &stand.inside[0]);
    let mut second = stand.at("alice", &stand.inside[1]);
    let mut book = Book::default();
    book.send(&mut juliet, ALICE, MANY / 3, PACE);
    book.read(&mut juliet, &mut [&mut first]);
    assert!(!book.received.is_empty(), "the first node is asked first");
    assert_eq!(second.take_messages().0.len(), 0, "the second one is for when the first has gone");
    book.send(&mut juliet, ALICE, MANY / 6, Duration::ZERO);
    stand.inside[0].kill();
    book.send(&mut juliet, ALICE, MANY / 2, PACE);
    book.settle(&mut juliet, &mut [&mut first, &mut second]);
    book.assert_honest();
    let at_second = book.received.len();
    assert!(at_second >= MANY / 2, "the second node has not taken over: {at_second} in all");
    // She answers from where she is; the stream of the second node is as good.
    second.message(JULIET, "from-second", "here");
    juliet.wait("her answer", |e| e.is("message") && e.text("id") == "from-second" && e.text("type") == "chat");
    // The first comes back, and in time it is asked again.
    stand.inside[0].run();
    let mut again = stand.at("alice", &stand.inside[0]);
    goes_on(&mut juliet, ALICE, &mut again, JULIET);
}
