//! The SIP partner outside.

use crate::pki::Certificate;
use crate::process::{Event, PATIENCE, Puppet};
use crate::stand::Net;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A user of the partner's, as SIP URI.
pub const JULIET: &str = "sip:juliet@lync.example";
/// The same user, as fedgate shows her to XMPP.
pub const JULIET_JID: &str = "juliet@lync.example";

/// The partner.
pub struct Partner {
    puppet: Puppet,
    net: Net,
    trust: PathBuf,
}

impl Partner {
    /// Starts it, listening with its own certificate.
    pub fn start(folder: &Path, net: Net, own: &Certificate, trust: &Path) -> Self {
        let mut puppet = Puppet::start("the partner", "lync_partner.py", &folder.join("partner.log"));
        puppet.tell(json!({
            "do": "listen", "host": net.partner().to_string(), "port": 5061,
            "cert": own.chain, "key": own.key, "ca": trust,
        }));
        puppet.wait("its listener", |e| e.is("listening"));
        Self { puppet, net, trust: trust.to_owned() }
    }

    /// Connects with this certificate, or none; panics unless the link stands.
    pub fn dial(&mut self, link: &str, certificate: Option<&Certificate>) {
        let outcome = self.try_dial(link, certificate);
        assert!(outcome.is("linked"), "{outcome}");
        let names = outcome.0["names"].to_string();
        assert!(names.contains("sip.corp.example"), "a Microsoft edge wants our host name, got {names}");
    }

    /// Connects, and gives `linked` or `link-failed`.
    pub fn try_dial(&mut self, link: &str, certificate: Option<&Certificate>) -> Event {
        self.puppet.tell(json!({
            "do": "dial", "link": link, "host": self.net.outside().to_string(), "port": 5061, "name": "sip.corp.example",
            "ca": self.trust, "cert": certificate.map(|c| &c.chain), "key": certificate.map(|c| &c.key),
        }));
        let of_link = |e: &Event| (e.is("linked") || e.is("link-failed")) && e.text("link") == link;
        self.puppet.wait("the outcome of its connection", of_link)
    }

    /// Sends the SUBSCRIBE of a watcher; gives it as sent.
    pub fn subscribe(&mut self, name: &str, from: &str, to: &str, expires: Option<u32>) -> Event {
        self.subscribe_on("out", name, from, to, expires)
    }

    /// Sends the SUBSCRIBE of a watcher on a link.
    pub fn subscribe_on(&mut self, link: &str, name: &str, from: &str, to: &str, expires: Option<u32>) -> Event {
        let command = json!({
            "do": "subscribe", "name": name, "link": link, "from": from, "to": to, "expires": expires,
        });
        self.puppet.tell(command);
        self.sent(name)
    }

    /// Sends a SUBSCRIBE in the dialog.
    pub fn refresh(&mut self, name: &str, expires: u32) -> Event {
        self.puppet.tell(json!({ "do": "refresh", "name": name, "expires": expires }));
        self.sent(name)
    }

    /// The same on another link, where the dialog goes on.
    pub fn refresh_on(&mut self, link: &str, name: &str, expires: u32) -> Event {
        self.puppet.tell(json!({ "do": "refresh", "name": name, "expires": expires, "link": link }));
        self.sent(name)
    }

    /// Sends a MESSAGE.
    pub fn message(&mut self, name: &str, from: &str, to: &str, body: &str) -> Event {
        self.message_on("out", name, from, to, body)
    }

    /// Sends a MESSAGE on a link.
    pub fn message_on(&mut self, link: &str, name: &str, from: &str, to: &str, body: &str) -> Event {
        self.puppet.tell(json!({ "do": "message", "name": name, "link": link, "from": from, "to": to, "body": body }));
        self.sent(name)
    }

    /// Sends these bytes.
    pub fn raw(&mut self, link: &str, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.puppet.tell(json!({ "do": "raw", "link": link, "hex": hex }));
    }

    /// Sends a NOTIFY in the dialog that a SUBSCRIBE of fedgate's made.
    pub fn notify(&mut self, name: &str, subscribe: &Event, state: &str, body: &str) {
        let command = json!({
            "do": "notify", "name": name, "call_id": subscribe.header("call-id"), "state": state, "body": body,
        });
        self.puppet.tell(command);
        self.sent(name);
    }

    /// Sends an INVITE that offers an IM session, `first` in the headers of an embedded first message; gives it as sent.
    pub fn invite(&mut self, name: &str, from: &str, to: &str, first: &str) -> Event {
        let command = json!({ "do": "invite", "name": name, "link": "out", "from": from, "to": to, "first": first });
        self.puppet.tell(command);
        self.sent(name)
    }

    /// Sends an INVITE with this offer (`None`: an IM session's) and further headers, or other values of its own.
    pub fn invite_with(&mut self, name: &str, from: &str, to: &str, sdp: Option<&str>, headers: &Value) -> Event {
        self.puppet.tell(json!({
            "do": "invite", "name": name, "link": "out", "from": from, "to": to, "sdp": sdp, "headers": headers,
        }));
        self.sent(name)
    }

    /// Sends a request inside the dialog that this INVITE made, whoever sent it.
    pub fn within(&mut self, name: &str, invite: &Event, method: &str, content: Option<(&str, &str)>) -> Event {
        let (kind, body) = content.unzip();
        self.puppet.tell(json!({
            "do": "within", "name": name, "call_id": invite.header("call-id"), "method": method,
            "type": kind, "body": body.unwrap_or_default(),
        }));
        self.sent(name)
    }

    /// The same on another link than the dialog had, which then is the dialog's.
    pub fn within_on(&mut self, link: &str, name: &str, invite: &Event, method: &str) -> Event {
        let call_id = invite.header("call-id");
        self.puppet.tell(json!({ "do": "within", "name": name, "call_id": call_id, "method": method, "link": link }));
        self.sent(name)
    }

    /// Ends a link.
    pub fn close(&mut self, link: &str) {
        self.puppet.tell(json!({ "do": "close", "link": link }));
        self.closed(link);
    }

    /// Answers a request that has come.
    pub fn reply(&mut self, request: &Event, status: u16) {
        let (call_id, method) = (request.header("call-id"), request.text("method"));
        self.puppet.tell(json!({ "do": "reply", "call_id": call_id, "method": method, "status": status }));
    }

    /// From now on, requests of this method are answered so; `None`: not at all.
    pub fn answer(&mut self, method: &str, status: Option<u16>) {
        self.puppet.tell(json!({ "do": "answer", "method": method, "status": status }));
    }

    fn sent(&mut self, name: &str) -> Event {
        self.puppet.wait("its own request", |e| e.is("sent") && e.text("name") == name)
    }

    /// Waits for the final response to the request `name`.
    pub fn response(&mut self, name: &str) -> Event {
        self.response_within(name, PATIENCE)
    }

    /// The same with another patience.
    pub fn response_within(&mut self, name: &str, patience: Duration) -> Event {
        let final_response = |e: &Event| e.is("response") && e.text("name") == name && e.status() >= 200;
        self.puppet.wait_for(&format!("the answer to {name}"), patience, final_response)
    }

    /// Waits for a final response on a link, whatever request it answers.
    pub fn response_on(&mut self, link: &str) -> Event {
        self.puppet.wait("an answer", |e| e.is("response") && e.text("link") == link && e.status() >= 200)
    }

    /// Asserts that the request `name` gets no final response within `time`.
    pub fn assert_unanswered(&mut self, name: &str, time: Duration) {
        let final_response = |e: &Event| e.is("response") && e.text("name") == name && e.status() >= 200;
        self.puppet.assert_none(&format!("an answer to {name}"), time, final_response);
    }

    /// Waits for the next request of this method that satisfies `wanted`.
    pub fn request(&mut self, method: &str, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let of_method = |e: &Event| e.is("request") && e.text("method") == method && wanted(e);
        self.puppet.wait(&format!("{method} {what}"), of_method)
    }

    /// Asserts that no request of this method comes that satisfies `unwanted`.
    pub fn assert_no_request(&mut self, method: &str, time: Duration, unwanted: impl Fn(&Event) -> bool) {
        let of_method = |e: &Event| e.is("request") && e.text("method") == method && unwanted(e);
        self.puppet.assert_none(&format!("a {method}"), time, of_method);
    }

    /// Waits for the NOTIFY in the dialog `name` whose Subscription-State begins so and whose document satisfies `wanted`.
    pub fn notified(&mut self, name: &str, state: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Event {
        let notify = self.request("NOTIFY", &format!("{state} {what} in dialog {name}"), |e| {
            e.text("name") == name && e.header("subscription-state").starts_with(state) && wanted(&e.0["pidf"])
        });
        assert_eq!(notify.header("event"), "presence", "{notify}");
        let live = ["active", "pending"].iter().any(|live| state.starts_with(live));
        // RFC 6665 §4.1.3: active and pending carry the time that is left.
        assert!(!live || notify.header("subscription-state").contains("expires="), "{notify}");
        notify
    }

    /// Waits for the end of a link.
    pub fn closed(&mut self, link: &str) {
        self.puppet.wait("the end of its link", |e| e.is("closed") && e.text("link") == link);
    }

    /// Asserts that a link is not closed within `time`.
    pub fn assert_open(&mut self, link: &str, time: Duration) {
        self.puppet.assert_none("the end of its link", time, |e| e.is("closed") && e.text("link") == link);
    }
}
