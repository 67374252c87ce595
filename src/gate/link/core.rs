//! What all states of a link share: the framer, the outputs, the timers, and the ways in which a stream ends.

use super::judge::Known;
use super::{LinkOutput, Settings, State, Verdict, VerifyRequest};
use crate::gate::limits::{
    ACK_WITHIN, ELEMENTS_BEFORE_PROOF, STANZA_BYTES_BEFORE_PROOF, STREAM_END_WITHIN, STREAM_IDLE, STREAM_KEEPALIVE,
    VERIFY_WITHIN,
};
use crate::gate::partner::Side;
use crate::gate::reject::{DecisionId, Reason, Reject};
use crate::gate::time::Time;
use crate::wire::address::Domain;
use crate::wire::xmpp::stream::STREAM_END;
use crate::wire::xmpp::{Element, Framer, NS_SERVER, Scope, StreamError, StreamHeader};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Core {
    pub settings: Arc<Settings>,
    pub side: Side,
    pub framer: Framer,
    pub outputs: VecDeque<LinkOutput>,
    /// When the input under way happened.
    pub now: Time,
    /// The declarations of the peer's latest header.
    pub scope: Scope,
    /// The namespace of stanzas on this stream (RFC 6120 §4.8.2).
    pub content_ns: &'static str,
    /// The domain that the peer says it speaks for.
    pub peer_domain: Option<String>,
    /// What this link was opened to verify, until it is answered.
    pub asked: Option<VerifyRequest>,
    /// Whether somebody was there who did not prove to be whom we wanted.
    pub unproven: bool,
    rng: StdRng,
    /// Negotiation, or the peer's end tag, is due.
    deadline: Option<Time>,
    /// When white space is due; set while something is proven and our half goes on.
    keepalive: Option<Time>,
    /// When a stream of a partner's has been idle for too long; set while something is proven and our half goes on.
    idle: Option<Time>,
    /// When the certificate ends by which the peer is known.
    expires: Option<Time>,
    /// When the peer must have acknowledged something (XEP-0198).
    ack_due: Option<Time>,
    proven: bool,
    elements: usize,
    accepted: bool,
    ours: Half,
}

/// A pair of domains that is proven.
#[derive(Debug)]
pub(super) struct Pair {
    /// Sending domain.
    pub from: Domain,
    /// Receiving domain.
    pub to: Domain,
    /// Whether we opened the stream.
    pub ours: bool,
    /// Whether stanzas flow the other way, too.
    pub both_ways: bool,
    /// Whether what we send is acknowledged.
    pub managed: bool,
}

/// What a timer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// The certificate by which the peer is known has ended.
    Expired,
    /// Negotiation, or the peer's end tag, took too long.
    Late,
    /// No acknowledgement came.
    Unacknowledged,
    /// Nothing has been said for long.
    Idle,
}

/// Our half of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    /// No header is sent yet.
    Unopened,
    Open,
    /// Nothing may follow.
    Ended,
}

impl Core {
    pub fn new(settings: Arc<Settings>, side: Side, accepted: bool, entropy: [u8; 32], now: Time) -> Self {
        let deadline = now + settings.limits.negotiation;
        Self {
            settings,
            side,
            framer: Framer::new(STANZA_BYTES_BEFORE_PROOF),
            outputs: VecDeque::new(),
            now,
            scope: Scope::default(),
            content_ns: NS_SERVER,
            peer_domain: None,
            asked: None,
            unproven: false,
            rng: StdRng::from_seed(entropy),
            deadline: Some(deadline),
            keepalive: None,
            idle: None,
            expires: None,
            ack_due: None,
            proven: false,
            elements: 0,
            accepted,
            ours: Half::Unopened,
        }
    }

    /// This link only asks; it gets less time than whoever waits for its answer.
    pub fn ask(&mut self, request: VerifyRequest) {
        self.asked = Some(request);
        self.deadline = self.deadline.map(|deadline| deadline.min(self.now + VERIFY_WITHIN));
    }

    /// RFC 6120 §4.7.3: unique and unpredictable.
    pub fn fresh_id(&mut self) -> String {
        format!("{:016x}{:016x}", self.rng.next_u64(), self.rng.next_u64())
    }

    pub fn write(&mut self, bytes: Bytes) {
        self.touch();
        self.put(bytes);
    }

    /// Something other than white space came or goes.
    pub fn touch(&mut self) {
        if let Some(due) = &mut self.idle {
            *due = self.now + STREAM_IDLE;
        }
    }

    fn put(&mut self, bytes: Bytes) {
        self.outputs.push_back(LinkOutput::Write(bytes));
        if let Some(due) = &mut self.keepalive {
            *due = self.now + STREAM_KEEPALIVE;
        }
    }

    pub fn send(&mut self, element: &Element) {
        self.write(Bytes::from(element.print_on_stream()));
    }

    pub fn send_header(&mut self, header: &StreamHeader) {
        self.ours = Half::Open;
        self.write(Bytes::from(header.print()));
    }

    /// The stream begins anew (RFC 6120 §4.3.3). Returns how many bytes the peer sent too early.
    pub fn restart(&mut self) -> usize {
        self.ours = Half::Unopened;
        self.scope = Scope::default();
        self.framer.restart()
    }

    /// A pair of domains is proven.
    pub fn prove(&mut self, pair: Pair, known: Known) {
        let Pair { from, to, ours, both_ways, managed } = pair;
        let Known { other, expires } = known;
        self.expires = self.expires.into_iter().chain(expires).min();
        self.open_up(LinkOutput::Proven { from, to, ours, both_ways, managed, other });
    }

    /// Something is proven: larger elements, no more deadline.
    pub fn open_up(&mut self, proof: LinkOutput) {
        self.deadline = None;
        self.proven = true;
        self.keepalive = Some(self.now + STREAM_KEEPALIVE);
        self.idle = (self.side == Side::Outside).then(|| self.now + STREAM_IDLE);
        self.take_stanzas();
        self.outputs.push_back(proof);
    }

    /// The peer is known: its stanzas may be as large as any.
    pub fn take_stanzas(&mut self) {
        self.framer.set_element_bytes_max(self.settings.limits.stanza_bytes);
    }

    /// The peer was asked to acknowledge, or (`false`) owes nothing.
    pub fn await_ack(&mut self, asked: bool) {
        self.ack_due = asked.then(|| self.now + ACK_WITHIN);
    }

    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Counts an element. `false`: too many of them before proof.
    pub fn count_element(&mut self) -> bool {
        self.elements += 1;
        self.is_proven() || self.elements <= ELEMENTS_BEFORE_PROOF
    }

    /// A refusal that is only recorded and told, the stream going on; returns the text to tell.
    pub fn note_refusal(&mut self, domain: Option<String>, reject: Reject) -> String {
        let id = DecisionId::from_bits(self.rng.next_u64());
        let text = reject.text(id);
        self.outputs.push_back(LinkOutput::Refused { domain, reject, id });
        text
    }

    /// Ends the stream for a reason of ours. A peer that connected is told an ID, and the refusal is recorded; a peer we connected to
    /// only gets the condition, and the cause goes to whoever wanted the connection.
    pub fn refuse(&mut self, reject: Reject, error: StreamError) -> State {
        let cause = format!("refused with {error} ({}): {}", reject.reason.as_str(), reject.detail);
        if !self.accepted {
            return self.end(Some((error, String::new())), cause);
        }
        let domain = self.peer_domain.clone();
        let text = self.note_refusal(domain, reject);
        self.end(Some((error, text)), cause)
    }

    /// Ends the stream at once, perhaps with an error (RFC 6120 §4.9.1.1).
    pub fn end(&mut self, error: Option<(StreamError, String)>, cause: impl Into<String>) -> State {
        if let Some((error, text)) = error.filter(|_| self.ours != Half::Ended) {
            // RFC 6120 §4.9.1.2: an error before the header comes behind one.
            if self.ours == Half::Unopened {
                let id = Some(self.fresh_id());
                self.send_header(&StreamHeader { id, version: Some("1.0".into()), ..StreamHeader::server() });
            }
            self.send(&error.to_element(Some(&text)));
        }
        self.send_end();
        self.close(cause)
    }

    /// Whether our half is open.
    pub fn is_open(&self) -> bool {
        self.ours == Half::Open
    }

    /// `</stream:stream>`, if there is something to end.
    pub fn send_end(&mut self) {
        if self.ours == Half::Open {
            self.ours = Half::Ended;
            self.write(Bytes::from_static(STREAM_END.as_bytes()));
        }
    }

    /// Nothing follows.
    pub fn close(&mut self, cause: impl Into<String>) -> State {
        if let Some(request) = self.asked.take() {
            self.outputs.push_back(LinkOutput::VerifyDone(request, Verdict::Error));
        }
        self.outputs.push_back(LinkOutput::Close { cause: cause.into(), unproven: self.unproven });
        self.deadline = None;
        self.keepalive = None;
        self.idle = None;
        self.expires = None;
        self.ack_due = None;
        State::Closed
    }

    /// The peer has until then to end its half.
    pub fn await_end(&mut self) {
        self.deadline = Some(self.now + STREAM_END_WITHIN);
        self.keepalive = None;
        self.idle = None;
        self.ack_due = None;
    }

    /// What cannot be read, as a refusal.
    pub fn refuse_broken(&mut self, error: StreamError) -> State {
        let reject = match error {
            StreamError::StanzaTooBig => Reject::new(Reason::TooLarge, "an element beyond the bound"),
            StreamError::PolicyViolation => {
                Reject::new(Reason::TooLarge, "XML beyond the bounds of depth or attributes")
            }
            error => Reject::new(Reason::Malformed, format!("the stream is {error}")),
        };
        self.refuse(reject, error)
    }

    /// What is due. White space that is due is written here.
    pub fn check_timers(&mut self) -> Due {
        let now = self.now;
        let is_due = |timer: Option<Time>| timer.is_some_and(|due| due <= now);
        let due = match () {
            () if is_due(self.expires) => Due::Expired,
            () if is_due(self.deadline) => Due::Late,
            () if is_due(self.ack_due) => Due::Unacknowledged,
            () if is_due(self.idle) => Due::Idle,
            () => Due::Nothing,
        };
        if due == Due::Nothing && is_due(self.keepalive) {
            self.put(Bytes::from_static(b" "));
        }
        due
    }

    pub fn poll_timeout(&self) -> Option<Time> {
        [self.deadline, self.keepalive, self.idle, self.expires, self.ack_due].into_iter().flatten().min()
    }
}
