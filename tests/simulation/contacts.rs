//! Users of ours watch the partner's: what the partner grants, refuses, shows, ends and forgets, and what the users' server was told.

use super::*;
use fedgate::gate::Time;

/// Who watches (`u0`…) and who is watched (`w0`…).
pub type Pair = (u32, u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Granted,
    Undecided,
    Refused,
}

/// A subscription as the partner, its notifier, knows it.
#[derive(Debug)]
struct Lease {
    pair: Pair,
    ours: String,
    cseq_seen: u32,
    cseq_sent: u32,
    expires_at: Time,
    /// Why it ended.
    ended: Option<&'static str>,
    /// The CSeq of a NOTIFY that must still be answered, and when it was sent.
    owed: Option<(u32, Time)>,
}

/// What the users' server knows of a pair.
#[derive(Debug, Default)]
struct Told {
    subscribed: bool,
    shown: Option<Shown>,
}

#[derive(Debug, Default)]
pub struct Contacts {
    verdicts: BTreeMap<Pair, Verdict>,
    leases: BTreeMap<String, Lease>,
    shown: BTreeMap<u32, Shown>,
    wanted: BTreeMap<Pair, Told>,
    /// What a user said while the edge died or was not attached: its server says it again when it has a stream.
    unread: BTreeSet<Pair>,
    /// How much was to be kept when a user spoke last.
    marks: BTreeMap<Pair, u64>,
}

impl Contacts {
    /// The edge died when so much was durable: what came later was acknowledged to nobody, and is said again.
    pub fn were_unheard(&mut self, committed: u64) {
        self.unread.extend(self.marks.iter().filter(|(_, mark)| **mark >= committed).map(|(pair, _)| *pair));
    }
}

impl Sim {
    pub fn contact_step(&mut self) {
        let pair = (self.rng.random_range(0..USERS), self.rng.random_range(0..WATCHERS));
        match self.rng.random_range(0..20) {
            0..5 => {
                // A user reads what has come before she asks again.
                self.peers_act();
                self.contacts.wanted.entry(pair).or_default();
                self.user_says(pair, "subscribe");
            }
            5..7 => {
                if self.contacts.wanted.remove(&pair).is_some() {
                    self.user_says(pair, "unsubscribe");
                }
            }
            7..9 => {
                if self.contacts.wanted.get(&pair).is_some_and(|told| told.subscribed) {
                    self.user_says(pair, "probe");
                }
            }
            9..14 => {
                let shown = [Shown::Offline, Shown::Available, Shown::Away][self.rng.random_range(0..3)];
                self.contacts.shown.insert(pair.1, shown);
                for call in self.live_leases(|lease| lease.pair.1 == pair.1) {
                    self.notify_contact(&call);
                }
            }
            14..16 => self.decide_contact(pair),
            16 => self.end_leases(pair, "rejected"),
            17 => self.end_leases(pair, "deactivated"),
            18 => self.end_leases(pair, "probation;retry-after=40"),
            _ => {
                // The partner restarts: it knows nothing of what it was asked.
                self.trace(|| "the partner forgets".to_owned());
                for lease in self.contacts.leases.values_mut() {
                    lease.ended = Some("forgotten");
                    lease.owed = None;
                }
            }
        }
    }

    fn user_says(&mut self, pair: Pair, type_: &str) {
        let stanza = Element::new("presence", NS_SERVER)
            .attr("type", type_)
            .attr("from", &format!("u{}@corp.example", pair.0))
            .attr("to", &format!("w{}@lync.example", pair.1));
        self.trace(|| format!("{NODE} says {}", stanza.print(NS_SERVER)));
        let deaths = self.world.deaths;
        self.contacts.marks.insert(pair, self.world.marks().0);
        // For a component that is not there, nothing leaves the server.
        let is_cut_off = self.world.is_cut_off(NODE);
        self.world.stanza(NODE, &stanza);
        if is_cut_off || self.world.deaths != deaths {
            self.contacts.unread.insert(pair);
        }
        self.died_since(deaths);
    }

    fn live_leases(&self, of: impl Fn(&Lease) -> bool) -> Vec<String> {
        let now = self.world.now;
        let live = |lease: &Lease| lease.ended.is_none() && lease.expires_at > now;
        self.contacts.leases.iter().filter(|(_, l)| live(l) && of(l)).map(|(call, _)| call.clone()).collect()
    }

    fn decide_contact(&mut self, pair: Pair) {
        if self.contacts.verdicts.get(&pair) != Some(&Verdict::Undecided) {
            return;
        }
        if self.rng.random_bool(0.7) {
            self.contacts.verdicts.insert(pair, Verdict::Granted);
            for call in self.live_leases(|lease| lease.pair == pair) {
                self.notify_contact(&call);
            }
        } else {
            self.end_leases(pair, "rejected");
        }
    }

    fn end_leases(&mut self, pair: Pair, reason: &'static str) {
        if reason == "rejected" {
            self.contacts.verdicts.insert(pair, Verdict::Refused);
        }
        for call in self.live_leases(|lease| lease.pair == pair) {
            if let Some(lease) = self.contacts.leases.get_mut(&call) {
                lease.ended = Some(reason);
            }
            self.notify_contact(&call);
        }
    }

    /// The partner's NOTIFY of what is true now.
    fn notify_contact(&mut self, call: &str) {
        let now = self.world.now;
        let Some(lease) = self.contacts.leases.get_mut(call) else { return };
        let (user, contact) = lease.pair;
        lease.cseq_sent += 1;
        lease.owed = Some((lease.cseq_sent, now));
        let verdict = self.contacts.verdicts[&lease.pair];
        let left = lease.expires_at.since(now).as_secs();
        let state = match (lease.ended, verdict) {
            (Some(reason), _) => format!("terminated;reason={reason}"),
            (None, Verdict::Granted) => format!("active;expires={left}"),
            (None, _) => format!("pending;expires={left}"),
        };
        let body = match self.contacts.shown.get(&contact).copied().unwrap_or(Shown::Offline) {
            _ if verdict != Verdict::Granted || lease.ended.is_some() => String::new(),
            shown => document(contact, shown),
        };
        let headers = [("Event", "presence"), ("Subscription-State", &state), ("Content-Type", "application/pidf+xml")];
        let headers = if body.is_empty() { &headers[..2] } else { &headers[..] };
        let to = format!("<sip:u{user}@corp.example>;tag={}", lease.ours);
        let cseq = lease.cseq_sent;
        let bytes = request("NOTIFY", "sip:sip.corp.example:5061", contact, &to, call, cseq, headers, &body);
        self.trace(|| format!("{PARTNER} notifies {call} {cseq} {state} {body}"));
        self.send(&bytes);
    }

    /// What is unanswered for long is sent again: the partner is a patient one (RFC 6665 §4.2.2 leaves it to it).
    pub fn notify_contacts_again(&mut self) {
        let now = self.world.now;
        let owed = |lease: &Lease| lease.owed.is_some_and(|(_, at)| now.since(at) > Duration::from_secs(5));
        let due: Vec<String> =
            self.contacts.leases.iter().filter(|(_, l)| owed(l)).map(|(call, _)| call.clone()).collect();
        for call in due {
            self.notify_contact(&call);
        }
    }

    /// The edge's answer to a NOTIFY; whether it was one.
    pub fn contact_notified(&mut self, call: &str, message: &sip::Message, status: u16) -> bool {
        let Some(lease) = self.contacts.leases.get_mut(call) else { return false };
        let (number, _) = message.cseq().expect("a CSeq");
        match status {
            481 => {
                lease.ended = lease.ended.or(Some("unknown to the edge"));
                lease.owed = None;
            }
            200..300 if lease.owed.is_some_and(|(owed, _)| owed == number) => lease.owed = None,
            200..300 | 503 => {}
            _ => panic!("seed {}: a NOTIFY got {status}", self.seed),
        }
        true
    }

    pub fn contact_subscribed(&mut self, call: &str, message: &sip::Message) {
        let number = |address: Option<&str>, at: &str| -> u32 {
            let address = address.expect("an address");
            address.split(at).nth(1).and_then(|rest| rest.get(..1)).and_then(|n| n.parse().ok()).expect("a number")
        };
        let pair = (number(message.header(Name::From), "sip:u"), number(message.header(Name::To), "sip:w"));
        let (cseq, _) = message.cseq().expect("a CSeq");
        let expires: u64 = message.header(Name::Expires).and_then(|e| e.trim().parse().ok()).expect("Expires");
        let now = self.world.now;
        if message.to_tag().is_some() {
            let Some(lease) = self.contacts.leases.get_mut(call).filter(|l| l.ended.is_none() && l.expires_at > now)
            else {
                return self.partner_answers(message, 481);
            };
            assert!(cseq > lease.cseq_seen, "seed {}: CSeq went from {} to {cseq}", self.seed, lease.cseq_seen);
            lease.cseq_seen = cseq;
            // A refresh may fail by the way; nobody may notice.
            if expires > 0 && !self.resting && self.rng.random_bool(0.3) {
                return self.partner_answers(message, 500);
            }
            lease.expires_at = now + Duration::from_secs(expires);
            if expires == 0 {
                lease.ended = Some("timeout");
            }
        } else {
            assert!(!self.contacts.leases.contains_key(call), "seed {}: a Call-ID was used twice", self.seed);
            let verdict = match self.rng.random_range(0..10) {
                0..6 => Verdict::Granted,
                6..8 => Verdict::Undecided,
                _ => Verdict::Refused,
            };
            let verdict = *self.contacts.verdicts.entry(pair).or_insert(verdict);
            if verdict == Verdict::Refused {
                return self.partner_answers(message, 403);
            }
            if !self.resting && self.rng.random_bool(0.2) {
                let status = [480, 481, 500, 503][self.rng.random_range(0..4)];
                return self.partner_answers(message, status);
            }
            let lease = Lease {
                pair,
                ours: message.from_tag().expect("a tag").to_owned(),
                cseq_seen: cseq,
                cseq_sent: 0,
                expires_at: now + Duration::from_secs(expires),
                ended: None,
                owed: None,
            };
            self.contacts.leases.insert(call.to_owned(), lease);
        }
        // RFC 6665 §4.4.1: in either order.
        if self.rng.random_bool(0.5) {
            self.partner_answers(message, 200);
            self.notify_contact(call);
        } else {
            self.notify_contact(call);
            self.partner_answers(message, 200);
        }
    }

    /// What the users' server is told of a contact; whether it was that.
    pub fn told_of_contact(&mut self, pair: Pair, from: &str, stanza: &Element) -> bool {
        let (seed, type_) = (self.seed, stanza.get_attr("type"));
        let is_state = from.ends_with("/sip");
        if !is_state && !matches!(type_, Some("subscribed" | "unsubscribed" | "error")) {
            return false;
        }
        let verdict = self.contacts.verdicts.get(&pair).copied();
        let Some(told) = self.contacts.wanted.get_mut(&pair) else { return true };
        match type_ {
            Some("subscribed") => {
                assert!(verdict != Some(Verdict::Undecided), "seed {seed}: {pair:?} was told subscribed before");
                told.subscribed = true;
            }
            Some("unsubscribed") => {
                assert_eq!(verdict, Some(Verdict::Refused), "seed {seed}: {pair:?} was told unsubscribed");
                self.contacts.wanted.remove(&pair);
            }
            Some("unavailable") => told.shown = Some(Shown::Offline),
            None => {
                assert!(told.subscribed, "seed {seed}: {pair:?} was shown what it may not see yet");
                let is_away = stanza.find("show", NS_SERVER).is_some();
                told.shown = Some(if is_away { Shown::Away } else { Shown::Available });
            }
            other => panic!("seed {seed}: {pair:?} was told {other:?}"),
        }
        true
    }

    /// What was said into a dying edge is said again, as a server does when its user comes online.
    pub fn users_say_again(&mut self) {
        for pair in std::mem::take(&mut self.contacts.unread) {
            match self.contacts.wanted.get(&pair) {
                Some(told) if told.subscribed => self.user_says(pair, "probe"),
                Some(_) => self.user_says(pair, "subscribe"),
                None => self.user_says(pair, "unsubscribe"),
            }
        }
    }

    /// Who has a live subscription sees what is; `all`: everyone who may see has one by now.
    pub fn judge_contacts(&self, all: bool) {
        let seed = self.seed;
        for (pair, told) in &self.contacts.wanted {
            let shown = self.contacts.shown.get(&pair.1).copied().unwrap_or(Shown::Offline);
            let has_lease = !self.live_leases(|lease| lease.pair == *pair).is_empty();
            match self.contacts.verdicts.get(pair) {
                Some(Verdict::Granted) if has_lease || all => {
                    assert!(told.subscribed, "seed {seed}: {pair:?} was not told subscribed");
                    assert_eq!(told.shown, Some(shown), "seed {seed}: {pair:?} is shown the wrong presence");
                }
                Some(Verdict::Refused) if all => {
                    assert!(
                        !matches!(told.shown, Some(Shown::Available | Shown::Away)),
                        "seed {seed}: {pair:?} is shown what it may not see"
                    );
                }
                Some(Verdict::Undecided) => assert!(!told.subscribed, "seed {seed}: {pair:?} was told subscribed"),
                None => assert!(!all, "seed {seed}: the partner was never asked for {pair:?}"),
                _ => {}
            }
            assert!(
                !all || has_lease || self.contacts.verdicts[pair] == Verdict::Refused,
                "seed {seed}: {pair:?} is lost"
            );
        }
    }

    pub fn contacts_watched(&self) -> usize {
        self.contacts.leases.len()
    }
}

fn document(contact: u32, shown: Shown) -> String {
    let (basic, activities) = match shown {
        Shown::Offline => ("closed", ""),
        Shown::Available => ("open", ""),
        Shown::Away => ("open", "<ep:activities><ep:activity>away</ep:activity></ep:activities>"),
    };
    format!(
        "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" xmlns:ep=\"urn:ietf:params:xml:ns:pidf:status:rpid-status\" \
         entity=\"sip:w{contact}@lync.example\"><tuple id=\"0\"><status><basic>{basic}</basic>{activities}</status></tuple></presence>"
    )
}
