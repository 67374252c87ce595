//! A user of an XMPP server at a slixmpp client.

use crate::process::{Event, PATIENCE, Puppet};
use crate::prosody::PASSWORD;
use crate::stand::Net;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// The client.
pub struct Client {
    puppet: Puppet,
}

impl Client {
    /// Logs in as `user@corp.example/desk`; shows no presence yet.
    pub fn login(user: &str, net: Net, folder: &Path) -> Self {
        Self::login_at(user, "corp.example", net.prosody(), folder)
    }

    /// Logs in as `user@domain/desk` at the server with this address; shows no presence yet.
    pub fn login_at(user: &str, domain: &str, server: IpAddr, folder: &Path) -> Self {
        let mut puppet = Puppet::start(user, "xmpp_client.py", &folder.join(format!("client-{user}.log")));
        puppet.tell(json!({
            "do": "login", "jid": format!("{user}@{domain}/desk"), "password": PASSWORD,
            "host": server.to_string(), "port": 5222,
        }));
        let first = puppet.wait("its session", |e| e.is("online") || e.is("failed"));
        assert!(first.is("online"), "{user} cannot log in: {first}");
        Self { puppet }
    }

    /// Shows itself available, so (`dnd`, `away`, …) and with that status.
    pub fn show(&mut self, show: Option<&str>, status: Option<&str>) {
        self.puppet.tell(json!({ "do": "presence", "show": show, "status": status }));
    }

    /// Sends presence of a type to someone: `subscribe`, `subscribed`, `unsubscribed`, ….
    pub fn presence(&mut self, kind: &str, to: &str) {
        self.puppet.tell(json!({ "do": "presence", "type": kind, "to": to }));
    }

    /// Sends a chat message.
    pub fn message(&mut self, to: &str, id: &str, body: &str) {
        self.puppet.tell(json!({ "do": "message", "to": to, "id": id, "body": body, "type": "chat" }));
    }

    /// Sends a chat state alone (XEP-0085).
    pub fn state(&mut self, to: &str, state: &str) {
        self.puppet.tell(json!({ "do": "state", "to": to, "state": state }));
    }

    /// Waits for a chat state that comes alone, without a body.
    pub fn state_from(&mut self, from: &str, state: &str) -> Event {
        self.puppet.wait(&format!("{state} from {from}"), |e| {
            is_from(e, "message", from, "chat") && e.0["body"].is_null() && e.text("state") == state
        })
    }

    /// Sends a message to all in a room.
    pub fn say(&mut self, room: &str, id: &str, body: &str) {
        self.puppet.tell(json!({ "do": "message", "to": room, "id": id, "body": body, "type": "groupchat" }));
    }

    /// Enters a room under a nickname (XEP-0045), which makes it if there is none.
    pub fn join(&mut self, room: &str, nick: &str) {
        self.puppet.tell(json!({ "do": "join", "room": room, "nick": nick }));
        let own = format!("{room}/{nick}");
        self.puppet.wait(&format!("its own presence in {room}"), |e| e.is("presence") && e.text("from") == own);
    }

    /// Asks something by an iq of type get: `ping`, `disco` or `vcard`. Gives the answer.
    pub fn ask(&mut self, what: &str, to: &str, id: &str) -> Event {
        self.puppet.tell(json!({ "do": "iq", "to": to, "id": id, "what": what }));
        self.puppet.wait(&format!("an answer to {what} from {to}"), |e| e.is("iq") && e.text("id") == id)
    }

    /// Waits for a stanza that somebody (bare JID, or an occupant's whole one) sent.
    pub fn wait(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        self.puppet.wait(what, wanted)
    }

    /// Takes all messages so far: the ids of those received, and of those that came back as errors, with the error's text.
    pub fn take_messages(&mut self) -> (Vec<String>, Vec<(String, String)>) {
        let messages = self.puppet.take_all().into_iter().filter(|event| event.is("message"));
        let (bounced, received): (Vec<Event>, Vec<Event>) = messages.partition(|event| event.text("type") == "error");
        let id = |event: &Event| event.text("id").to_owned();
        let text = |event: &Event| event.0["error"]["text"].as_str().unwrap_or_default().to_owned();
        (received.iter().map(id).collect(), bounced.iter().map(|event| (id(event), text(event))).collect())
    }

    /// Goes offline.
    pub fn logout(&mut self) {
        self.puppet.tell(json!({ "do": "logout" }));
        self.puppet.wait("its end", |e| e.is("offline"));
    }

    /// Waits for presence of a type (empty: available) from a bare JID.
    pub fn presence_from(&mut self, from: &str, kind: &str) -> Event {
        self.puppet.wait(&format!("presence {kind:?} from {from}"), |e| is_from(e, "presence", from, kind))
    }

    /// Asserts that presence of this type does not come.
    pub fn assert_no_presence(&mut self, from: &str, kind: &str, time: Duration) {
        let what = format!("presence {kind:?} from {from}");
        self.puppet.assert_none(&what, time, |e| is_from(e, "presence", from, kind));
    }

    /// Waits for a message with a body from a bare JID.
    pub fn message_from(&mut self, from: &str) -> Event {
        self.puppet.wait(&format!("a message from {from}"), |e| {
            is_from(e, "message", from, e.text("type")) && e.text("type") != "error" && !e.0["body"].is_null()
        })
    }

    /// Asserts that no message comes from a bare JID.
    pub fn assert_no_message(&mut self, from: &str, time: Duration) {
        self.puppet.assert_none("a message", time, |e| is_from(e, "message", from, e.text("type")));
    }

    /// Waits for the error that answers the message `id`: its condition and text.
    pub fn error_of(&mut self, id: &str, patience: Duration) -> (String, String) {
        let event = self.puppet.wait_for(&format!("the error of message {id}"), patience.max(PATIENCE), |e| {
            e.is("message") && e.text("type") == "error" && e.text("id") == id
        });
        let of = |field: &str| event.0["error"][field].as_str().unwrap_or_default().to_owned();
        (of("condition"), of("text"))
    }

    /// Asserts that the message `id` is not answered by an error.
    pub fn assert_no_error(&mut self, id: &str, time: Duration) {
        self.puppet.assert_none("an error", time, |e| e.0["error"] != Value::Null && e.text("id") == id);
    }
}

fn is_from(event: &Event, stanza: &str, from: &str, kind: &str) -> bool {
    let sender = event.text("from");
    let bare = sender.split_once('/').map_or(sender, |(bare, _)| bare);
    event.is(stanza) && bare == from && event.text("type") == kind
}
