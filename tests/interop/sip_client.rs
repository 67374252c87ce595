//! SIP users whose every request and answer a test scripts: load, dialogs, whatever baresip does not do.

use crate::process::{Event, PATIENCE, Puppet};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// The users of one socket (see sip_client.py).
pub struct SipClient {
    address: IpAddr,
    puppet: Puppet,
    /// Taken from the puppet by [`SipClient::sent`] and not yet looked at.
    seen: Vec<Event>,
}

/// What became of a load.
#[derive(Debug, Default)]
pub struct Tally {
    /// Each request in the order in which they were sent: name and method.
    pub sent: Vec<(String, String)>,
    /// The final status of each by name; 0 where none came in time.
    pub ended: BTreeMap<String, u64>,
}

impl SipClient {
    /// Opens its socket; what it sends goes to `server`.
    pub fn start(name: &str, address: IpAddr, server: IpAddr, folder: &Path) -> Self {
        let mut puppet = Puppet::start(name, "sip_client.py", &folder.join(format!("{name}.log")));
        puppet.tell(json!({ "do": "listen", "address": address.to_string(), "server": server.to_string() }));
        puppet.wait("its socket", |e| e.is("listens"));
        Self { address, puppet, seen: Vec::new() }
    }

    /// Registers users at a server; a request that reaches one through it shows `mark` as its `at`.
    pub fn register(&mut self, users: &[String], server: IpAddr, mark: &str) {
        for user in users {
            self.puppet.tell(json!({ "do": "register", "user": user, "server": server.to_string(), "mark": mark }));
        }
        for user in users {
            let done = self.puppet.wait("its registration", |e| e.is("registered") && e.text("user") == user);
            assert_eq!(done.status(), 200, "{user}");
        }
    }

    /// Sends a request outside a dialog. What its 2xx makes is called `id` too.
    pub fn request(&mut self, id: &str, method: &str, from: &str, to: &str, headers: &[[&str; 2]], body: &str) {
        self.puppet.tell(json!({
            "do": "request", "id": id, "method": method, "from": from, "to": to, "headers": headers, "body": body,
        }));
    }

    /// A MESSAGE whose text is its name.
    pub fn message(&mut self, id: &str, from: &str, to: &str) {
        self.request(id, "MESSAGE", from, to, &[["Content-Type", "text/plain"]], id);
    }

    /// A SUBSCRIBE for presence.
    pub fn subscribe(&mut self, id: &str, from: &str, to: &str) {
        let headers = [["Event", "presence"], ["Expires", "600"], ["Accept", "application/pidf+xml"]];
        self.request(id, "SUBSCRIBE", from, to, &headers, "");
    }

    /// An INVITE to an IM session; its offer names the client's address.
    pub fn invite(&mut self, id: &str, from: &str, to: &str) {
        let at = self.address;
        let offer =
            format!("v=0\r\no=- 1 1 IN IP4 {at}\r\ns=-\r\nc=IN IP4 {at}\r\nt=0 0\r\nm=message 5060 sip null\r\n");
        self.request(id, "INVITE", from, to, &[["Content-Type", "application/sdp"]], &offer);
    }

    /// Waits for a session that somebody else opens, and says what it is called here.
    pub fn opened(&mut self) -> String {
        self.puppet.wait("a session that somebody opens", |e| e.is("opened")).text("dialog").to_owned()
    }

    /// Sends a request within a dialog.
    pub fn within(&mut self, id: &str, dialog: &str, method: &str, headers: &[[&str; 2]], body: &str) {
        self.puppet.tell(json!({
            "do": "within", "id": id, "dialog": dialog, "method": method, "headers": headers, "body": body,
        }));
    }

    /// The final answer to a request.
    pub fn answer(&mut self, id: &str) -> Event {
        // Kamailio outside gives up after five seconds where it is not told anything; the client after 32.
        let is_final = |e: &Event| e.is("answered") && e.text("id") == id && (e.status() == 0 || e.status() >= 200);
        self.puppet.wait_for(&format!("the answer to {id}"), Duration::from_secs(40), is_final)
    }

    /// Asserts the final status of a request.
    pub fn assert_answer(&mut self, id: &str, status: u64) {
        let answer = self.answer(id);
        assert_eq!(answer.status(), status, "to {id}: {answer}");
    }

    /// The next request of this method that it was sent and that satisfies `wanted`.
    pub fn asked(&mut self, method: &str, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let is_it = |e: &Event| e.is("asked") && e.text("method") == method && wanted(e);
        self.puppet.wait_for(&format!("{method} {what}"), PATIENCE, is_it)
    }

    /// Waits for the MESSAGE with this text, and says through which server it came.
    pub fn took(&mut self, text: &str) -> String {
        self.asked("MESSAGE", text, |e| e.text("text") == text).text("at").to_owned()
    }

    /// Sends `rate` requests a second, until [`SipClient::rest`].
    pub fn load(&mut self, from: &[String], to: &[String], rate: u32) {
        self.puppet.tell(json!({ "do": "load", "from": from, "to": to, "rate": rate }));
    }

    /// How many requests of the load were sent so far.
    pub fn sent(&mut self) -> usize {
        self.seen.extend(self.puppet.take_all());
        self.seen.iter().filter(|e| e.is("sent")).count()
    }

    /// Ends the load and waits until each request has ended.
    pub fn rest(&mut self) -> Tally {
        self.puppet.tell(json!({ "do": "rest" }));
        self.puppet.wait("the end of the load", |e| e.is("rests"));
        self.sent();
        let sent: Vec<(String, String)> = self.seen.iter().filter(|e| e.is("sent")).map(named).collect();
        let open: BTreeSet<&String> = sent.iter().map(|(id, _)| id).collect();
        let mut ended: BTreeMap<String, u64> = BTreeMap::new();
        let mut note = |e: &Event| {
            if e.is("answered") && open.contains(&e.text("id").to_owned()) && (e.status() == 0 || e.status() >= 200) {
                let before = ended.insert(e.text("id").to_owned(), e.status());
                assert_eq!(before, None, "{} was answered twice", e.text("id"));
            }
            ended.len()
        };
        let mut count = self.seen.iter().map(&mut note).max().unwrap_or_default();
        while count < sent.len() {
            let next = self.puppet.wait_for("the rest of the answers", Duration::from_secs(40), |e| e.is("answered"));
            count = note(&next);
        }
        Tally { sent, ended }
    }

    /// The texts of all MESSAGEs that it was sent, and how often.
    pub fn texts(&mut self) -> BTreeMap<String, usize> {
        let mut texts = BTreeMap::new();
        for event in self.puppet.take_all().iter().filter(|e| e.is("asked") && e.text("method") == "MESSAGE") {
            *texts.entry(event.text("text").to_owned()).or_default() += 1;
        }
        texts
    }
}

fn named(event: &Event) -> (String, String) {
    (event.text("id").to_owned(), event.text("method").to_owned())
}
