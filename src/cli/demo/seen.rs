//! What a peer sent or received, and how it is told: takes messages as they were on the wire, gives the few words of them that matter.

use crate::gate::translate::composing::{ChatState, NS_CHATSTATES};
use crate::wire::pidf::Document;
use crate::wire::sip::header::Name;
use crate::wire::sip::{Message, Method, Start};
use crate::wire::xmpp::element::Node as Child;
use crate::wire::xmpp::{Dialback, Element, NS_PING, NS_SERVER, Outcome, Question};

/// Who saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// The partner's SIP edge.
    Partner,
    /// AOL's SIP edge, as the demo has one.
    Aol,
    /// Somebody else's SIP edge, whom no policy lists.
    Stranger,
    /// The XMPP server inside.
    Node,
}

/// One thing on the wire, reported by the peer that wrote or read it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Who saw it.
    pub by: Peer,
    /// Whether it was sent by that peer; else it was received.
    pub sent: bool,
    /// What it was.
    pub what: What,
}

/// What can be seen.
#[derive(Debug, Clone)]
pub enum What {
    /// A SIP message.
    Sip(Message),
    /// A stanza.
    Stanza(Element),
    /// A dialback element.
    Dialback(Dialback),
    /// Something of the connection itself, in words.
    Link(String),
}

impl Peer {
    /// Whether it is on the outside.
    pub fn is_outside(self) -> bool {
        self != Peer::Node
    }

    fn as_str(self) -> &'static str {
        match self {
            Peer::Partner => "the partner",
            Peer::Aol => "AOL",
            Peer::Stranger => "the stranger",
            Peer::Node => "the node",
        }
    }
}

impl Seen {
    /// The SIP message, if that is what it was.
    pub fn sip(&self) -> Option<&Message> {
        match &self.what {
            What::Sip(message) => Some(message),
            _ => None,
        }
    }

    /// The stanza, if that is what it was.
    pub fn stanza(&self) -> Option<&Element> {
        match &self.what {
            What::Stanza(stanza) => Some(stanza),
            _ => None,
        }
    }

    /// Whether it is a SIP request of this method.
    pub fn is_request(&self, method: &Method) -> bool {
        self.sip().is_some_and(|message| message.is_request() && message.method() == Some(method))
    }

    /// The status, if it is a final SIP response to this method with this Call-ID.
    pub fn final_status(&self, method: &Method, call_id: &str) -> Option<u16> {
        let message = self.sip().filter(|message| message.call_id() == Some(call_id))?;
        match message.start() {
            Start::Response { status: status @ 200.., .. } if message.method() == Some(method) => Some(status),
            _ => None,
        }
    }

    /// Whether it is a stanza of this name and `type`.
    pub fn is_stanza(&self, name: &str, type_: Option<&str>) -> bool {
        self.stanza().is_some_and(|stanza| stanza.name == name && stanza.get_attr("type") == type_)
    }

    /// The chat state in it.
    pub fn chat_state(&self) -> Option<ChatState> {
        self.stanza().filter(|stanza| stanza.name == "message").and_then(ChatState::of)
    }

    /// The words of a chat message.
    pub fn body(&self) -> Option<String> {
        let message = self.stanza().filter(|stanza| stanza.name == "message")?;
        Some(message.find("body", NS_SERVER)?.content())
    }

    /// The presence document in it.
    pub fn document(&self) -> Option<Document> {
        let message = self.sip()?;
        let is_pidf = message.header(Name::ContentType)?.starts_with("application/pidf+xml");
        Document::parse(message.body()).ok().filter(|_| is_pidf)
    }

    /// What it is counted as.
    pub fn kind(&self) -> String {
        match &self.what {
            What::Sip(message) => match message.start() {
                Start::Request { method: Method::Message, .. } if message.to_tag().is_some() => {
                    "MESSAGE in session".to_owned()
                }
                Start::Request { method, .. } => method.to_string(),
                Start::Response { status, .. } => status.to_string(),
            },
            What::Stanza(_) if self.chat_state().is_some() && self.body().is_none() => "chat state".to_owned(),
            What::Stanza(stanza) if stanza.name == "message" && stanza.get_attr("type") == Some("chat") => {
                "<message type='chat'>".to_owned()
            }
            What::Stanza(stanza) => format!("<{}>", stanza.name),
            What::Dialback(dialback) => match dialback.question {
                Question::Result => "<db:result>".to_owned(),
                Question::Verify => "<db:verify>".to_owned(),
            },
            What::Link(_) => "connection".to_owned(),
        }
    }

    /// One line for each thing worth telling.
    pub fn told(&self) -> Vec<String> {
        match &self.what {
            What::Sip(message) => told_sip(message, self.document()),
            What::Stanza(stanza) => told_stanza(stanza, self.sent),
            What::Dialback(dialback) => vec![told_dialback(dialback)],
            What::Link(words) => vec![words.clone()],
        }
    }

    /// One line with who saw it, for when something else was expected.
    pub fn in_a_line(&self) -> String {
        let did = if self.sent { "sent" } else { "received" };
        format!(
            "{} {did} {}",
            self.by.as_str(),
            self.told().iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
        )
    }
}

fn told_sip(message: &Message, document: Option<Document>) -> Vec<String> {
    match message.start() {
        Start::Request { method, uri } => {
            let uri = uri.strip_prefix("sip:").unwrap_or(uri);
            match method {
                Method::Notify => {
                    let state = message.header(Name::SubscriptionState).unwrap_or_default();
                    let mut lines = vec![format!("NOTIFY {state}")];
                    lines.extend(document.map(|document| told_document(&document)));
                    lines
                }
                Method::Message => {
                    vec![format!("MESSAGE {uri}"), String::from_utf8_lossy(message.body()).into_owned()]
                }
                method => {
                    let mut lines = vec![format!("{method} {uri}")];
                    lines.extend(told_lines(message.body()).map(str::to_owned));
                    lines
                }
            }
        }
        Start::Response { status, reason } => {
            let method = message.method().map(ToString::to_string).unwrap_or_default();
            let mut lines = vec![format!("{status} {reason} ({method})")];
            lines.extend(message.header(Name::Warning).map(|warning| format!("Warning: {warning}")));
            lines
        }
    }
}

/// What matters of a session description, and of what says that somebody types: a line each.
fn told_lines(body: &[u8]) -> impl Iterator<Item = &str> {
    let lines = std::str::from_utf8(body).unwrap_or_default().lines().map(str::trim);
    lines.filter(|line| line.starts_with("m=") || line.starts_with("<status "))
}

/// `open, busy, “note”`
fn told_document(document: &Document) -> String {
    let mut words = Vec::new();
    for tuple in &document.tuples {
        words.extend(tuple.open.map(|open| if open { "open" } else { "closed" }.to_owned()));
        words.extend(tuple.activities.iter().cloned());
        words.extend(tuple.note.as_ref().map(|note| format!("“{}”", note.text)));
    }
    words.extend(document.activities.iter().cloned());
    words.extend(document.note.as_ref().map(|note| format!("“{}”", note.text)));
    let mut told: Vec<String> = Vec::new();
    for word in words {
        if !told.contains(&word) {
            told.push(word);
        }
    }
    format!("{}: {}", document.entity, told.join(", "))
}

fn told_dialback(dialback: &Dialback) -> String {
    let mut element = dialback.to_element();
    if let (Outcome::Key(key), Some(Child::Text(text))) = (&dialback.outcome, element.children.first_mut()) {
        *text = format!("{}…", key.chars().take(8).collect::<String>());
    }
    element.attrs.retain(|(name, _)| name == "from" || name == "type");
    element.print_on_stream()
}

/// The stanza with what people look at: who, whom, which type; and the texts, each on a line. What is left out is shown as `…`.
fn told_stanza(stanza: &Element, sent: bool) -> Vec<String> {
    let peer = if sent { "to" } else { "from" };
    let mut tag = stanza.clone();
    tag.attrs.retain(|(name, _)| name == peer || name == "type");
    tag.attrs.sort_by_key(|(name, _)| name != "type");
    tag.children.clear();
    let tag = tag.print(NS_SERVER);
    if stanza.children.is_empty() {
        return vec![tag];
    }
    let is_text = |child: &Element| child.ns == NS_SERVER && ["show", "status", "body"].contains(&child.name.as_str());
    let mut lines = vec![tag.replace("/>", ">")];
    for child in &stanza.children {
        match child {
            Child::Element(child) if is_text(child) => lines.push(format!("  {}", child.print(NS_SERVER))),
            Child::Element(child) if child.is("ping", NS_PING) || child.ns == NS_CHATSTATES => {
                lines.push(format!("  {}", child.print(NS_SERVER)))
            }
            _ if lines.last().is_some_and(|line| line != "  …") => lines.push("  …".to_owned()),
            _ => {}
        }
    }
    lines.push(format!("</{}>", stanza.name));
    lines
}
