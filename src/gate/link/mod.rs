//! One XMPP connection's own machine: header, features, STARTTLS, SASL EXTERNAL, dialback, until stanzas may flow (RFC 6120 §4–6,
//! XEP-0220). Pure: bytes in, bytes and facts out; owned by the connection's task.
//!
//! Each state is a struct that its handler consumes, so that nothing of a state outlives it: [`accept`] has those of streams that
//! a peer opened, [`open`] and [`sending`] those of ours, [`component`] those on which we are a server's component. What they share is in
//! [`core`]. Who may prove what is [`judge`]'s: by the partners' entries on the outside, by the nodes' on the inside.

mod accept;
mod acks;
pub mod component;
mod core;
pub mod dialback;
mod explain;
mod judge;
mod node;
mod open;
mod partner;
mod sending;
mod unacked;

use self::core::{Core, Due};
use self::judge::Shown;
use crate::gate::Other;
use crate::gate::limits::{ACK_WITHIN, Limits};
use crate::gate::partner::{Node, Secret, Side, TlsMode};
use crate::gate::peer::{TrustSet, TrustSets};
use crate::gate::policy::Table;
use crate::gate::reject::{DecisionId, Reason, Reject};
use crate::gate::time::Time;
use crate::wire::address::Domain;
use crate::wire::certificate::Chain;
use crate::wire::xmpp::{Child, Frame, Stanza, StreamError, StreamHeader};
use bytes::{Bytes, BytesMut};
use std::net::IpAddr;
use std::sync::Arc;

/// What stream negotiation needs of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Partner entries and local domains.
    pub policy: Arc<Table>,
    /// The inside.
    pub nodes: Vec<Node>,
    /// Whom chains of partners must lead to.
    pub trust: Arc<TrustSets>,
    /// `[inside] trust`: whom chains of nodes must lead to.
    pub inside_trust: Arc<TrustSet>,
    /// `[inside] tls`.
    pub inside_tls: TlsMode,
    /// `[state] secrets`, current first: dialback keys derive from them.
    pub secrets: Vec<Vec<u8>>,
    /// Bounds.
    pub limits: Limits,
}

/// Whom a stream of ours is to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aim {
    /// The inside node of that name.
    Node(String),
    /// A partner's server.
    Partner {
        /// The host that SRV or the administrator named, if it is a name.
        host: Option<String>,
        /// Whether an administrator typed it (`next_hop`).
        typed: bool,
    },
}

/// What reaches a link.
#[derive(Debug)]
pub enum LinkInput {
    /// Bytes were put into [`XmppLink::buffer`].
    Readable,
    /// The TLS handshake asked for by [`LinkOutput::StartTls`] is done, or an accepted connection began with one; the peer's chain if it
    /// showed one.
    TlsEstablished(Option<Arc<Chain>>),
    /// The answer to [`LinkOutput::Verify`].
    Verified(VerifyRequest, Verdict),
    /// The gate sends a stanza, or the acknowledgement asked for. Nothing else is written: stanzas only where their pair is proven and
    /// they may flow that way; with a receipt that comes back in [`LinkOutput::Taken`], but for one that came without
    /// [`XmppLink::has_room`].
    Send(Bytes, Option<u64>),
    /// The gate ends the stream.
    Close(Option<(StreamError, String)>),
    /// The peer closed its half.
    Eof,
    /// The time of [`XmppLink::poll_timeout`] has come.
    Timeout,
}

/// What a link wants done.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // moved once; a box would be an allocation a stanza
pub enum LinkOutput {
    /// Write.
    Write(Bytes),
    /// Flush what was written, then do the TLS handshake, as server on accepted streams, as client on opened ones (SNI and, on
    /// a partner's stream, ALPN by the dialler).
    StartTls {
        /// The domain of ours, or on the inside of a partner's, whose certificate is shown to a client that asks for none by SNI.
        of: Option<Domain>,
    },
    /// A pair of domains is proven.
    Proven {
        /// Sending domain.
        from: Domain,
        /// Receiving domain.
        to: Domain,
        /// Whether we send on this stream (we opened it).
        ours: bool,
        /// Whether stanzas flow the other way, too (XEP-0288).
        both_ways: bool,
        /// Whether what we send is acknowledged (XEP-0198).
        managed: bool,
        /// Who is at the other end.
        other: Other,
    },
    /// The other end has taken what was sent with these receipts (XEP-0198 §4).
    Taken(Vec<u64>),
    /// We are attached as a component (XEP-0114): stanzas flow both ways.
    Attached {
        /// The node's name.
        node: String,
        /// The partner domain.
        domain: Domain,
    },
    /// A stanza of a proven pair, or for the component that we are; in `jabber:server` either way.
    Stanza(Stanza),
    /// The peer's server wants to hear that its stanzas are handled (XEP-0198 §4). The gate answers with [`LinkInput::Send`], when it has taken
    /// responsibility for all stanzas before this; until then no more are asked for.
    AckAsked {
        /// How many stanzas that is, modulo 2³².
        handled: u32,
    },
    /// Ask the authoritative server of `originating`, on a connection of its own (XEP-0220 §2.3; never on this one).
    Verify(VerifyRequest),
    /// The outcome of a link opened by [`XmppLink::verify`].
    VerifyDone(VerifyRequest, Verdict),
    /// A refusal for a reason of ours, already told to the peer with this ID.
    Refused {
        /// The domain it spoke for.
        domain: Option<String>,
        /// The refusal.
        reject: Reject,
        /// Its ID.
        id: DecisionId,
    },
    /// Flush and close the connection; nothing follows.
    Close {
        /// Why, for people.
        cause: String,
        /// Whether somebody was there who did not prove to be whom we wanted.
        unproven: bool,
    },
}

/// A dialback key to be checked (XEP-0220 §2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyRequest {
    /// Who must vouch: the originating domain.
    pub originating: Domain,
    /// For whom: the receiving domain.
    pub receiving: Domain,
    /// The id of the stream that carried the key.
    pub stream_id: String,
    /// The key, trimmed.
    pub key: String,
}

/// The answer to a verify request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// `type='valid'`
    Valid,
    /// `type='invalid'`
    Invalid,
    /// Could not be asked, or `type='error'`.
    Error,
}

/// The machine. States are structs of their own in the submodules.
#[derive(Debug)]
pub struct XmppLink {
    core: Core,
    state: State,
}

/// Where the stream is.
#[derive(Debug)]
enum State {
    // Accepted streams.
    Awaiting(accept::Awaiting),
    Receiving(accept::Receiving),
    // Opened streams, in the order of negotiation.
    Opening(open::Opening),
    Choosing(open::Choosing),
    StartingTls(open::StartingTls),
    Authenticating(open::Authenticating),
    Asking(open::Asking),
    Enabling(open::Enabling),
    Sending(sending::Sending),
    // Component streams, in the order of negotiation.
    Greeting(component::Greeting),
    Shaking(component::Shaking),
    Attached(component::Attached),
    // All.
    Handshaking(Handshaking),
    Closing(Closing),
    Closed,
}

/// The TLS handshake is under way; then a new stream begins.
#[derive(Debug)]
enum Handshaking {
    Accepting(accept::Awaiting),
    Opening(open::Opening),
}

/// We have ended our half, or do so behind the last acknowledgement. The peer's half is heard until it ends too (RFC 6120 §4.4).
#[derive(Debug)]
struct Closing {
    hearing: Option<Hearing>,
}

/// Whose stanzas still count when we have ended our half.
#[derive(Debug)]
enum Hearing {
    Receiving(accept::Receiving),
    Sending(sending::Sending),
    Attached(component::Attached),
}

/// What the framer cut and `wire` understood.
enum Received {
    Header(StreamHeader),
    Child(Child),
    End,
}

impl State {
    /// The name under which we are, or want to be, a component.
    fn component(&self) -> Option<&Domain> {
        match self {
            State::Shaking(shaking) => Some(shaking.domain()),
            State::Attached(attached) => Some(attached.domain()),
            _ => None,
        }
    }
}

impl XmppLink {
    /// A stream that the peer opened. `entropy` seeds stream ids and decision ids.
    pub fn accept(settings: Arc<Settings>, side: Side, peer: IpAddr, entropy: [u8; 32], now: Time) -> Self {
        let core = Core::new(settings, side, true, entropy, now);
        Self { core, state: State::Awaiting(accept::Awaiting::new(peer)) }
    }
    /// A stream that we open to send stanzas from `from` to `to`. With `direct_tls` nothing is said before [`LinkInput::TlsEstablished`]
    /// (XEP-0368).
    pub fn open(
        settings: Arc<Settings>,
        aim: Aim,
        from: Domain,
        to: Domain,
        direct_tls: bool,
        entropy: [u8; 32],
        now: Time,
    ) -> Self {
        let side = match aim {
            Aim::Node(_) => Side::Inside,
            Aim::Partner { .. } => Side::Outside,
        };
        let core = Core::new(settings, side, false, entropy, now);
        Self::begin(core, open::Purpose::Send { from, to, aim }, direct_tls)
    }
    /// A stream that we open only to have a key verified. It answers with [`LinkOutput::VerifyDone`] exactly once, however it ends.
    /// `direct_tls` as in [`XmppLink::open`].
    pub fn verify(
        settings: Arc<Settings>,
        side: Side,
        request: VerifyRequest,
        direct_tls: bool,
        entropy: [u8; 32],
        now: Time,
    ) -> Self {
        let mut core = Core::new(settings, side, false, entropy, now);
        core.ask(request.clone());
        Self::begin(core, open::Purpose::Verify(request), direct_tls)
    }

    /// A stream on which we are the component `domain` of an inside server (XEP-0114).
    pub fn component(
        settings: Arc<Settings>,
        node: String,
        domain: Domain,
        secret: Secret,
        entropy: [u8; 32],
        now: Time,
    ) -> Self {
        let mut core = Core::new(settings, Side::Inside, false, entropy, now);
        let state = component::Greeting { node, domain, secret }.begin(&mut core);
        Self { core, state }
    }

    fn begin(mut core: Core, purpose: open::Purpose, direct_tls: bool) -> Self {
        let opening = open::Opening { attempt: open::Attempt::new(purpose), authenticated: false };
        let state = match direct_tls {
            true => State::Handshaking(Handshaking::Opening(opening)),
            false => opening.begin(&mut core),
        };
        Self { core, state }
    }

    /// Where the reader puts bytes.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.core.framer.buffer()
    }

    /// Takes one input.
    pub fn handle_input(&mut self, now: Time, input: LinkInput) {
        self.core.now = now;
        match input {
            LinkInput::Readable => self.read(),
            LinkInput::TlsEstablished(chain) => self.step(|core, state| on_tls(core, state, chain)),
            LinkInput::Verified(request, verdict) => self.step(|core, state| match state {
                State::Receiving(receiving) => receiving.on_verified(core, &request, verdict),
                state => state,
            }),
            // Only where somebody was told that it may; nobody was told so of other states.
            LinkInput::Send(bytes, receipt) => match &mut self.state {
                State::Sending(sending) => sending.on_send(&mut self.core, bytes, receipt),
                State::Receiving(receiving) => receiving.on_send(&mut self.core, bytes),
                State::Closing(Closing { hearing: Some(Hearing::Receiving(receiving)) }) => {
                    receiving.on_last_ack(&mut self.core, bytes);
                }
                State::Closing(Closing { hearing: Some(Hearing::Sending(sending)) }) => {
                    sending.on_last_ack(&mut self.core, bytes);
                }
                State::Attached(_) => match component::outward(bytes) {
                    Ok(bytes) => self.core.write(bytes),
                    // Nobody could read it there either.
                    Err(error) => self.step(|core, _| core.end(None, format!("a stanza of ours is {error}"))),
                },
                _ => {}
            },
            LinkInput::Close(error) => self.step(|core, state| on_close(core, state, error)),
            LinkInput::Eof => self.step(|core, state| match state {
                State::Closed => state,
                State::Receiving(receiving) => receiving.on_eof(core),
                _ => core.end(None, "the peer closed the connection"),
            }),
            LinkInput::Timeout => self.step(on_timeout),
        }
    }

    /// Whether the gate may send on: else as many stanzas are unacknowledged as may be (XEP-0198), and whoever hands them on waits until one
    /// of them is, or the stream ends.
    pub fn has_room(&self) -> bool {
        !matches!(&self.state, State::Sending(sending) if sending.is_full())
    }

    /// The next output; call until `None`.
    pub fn poll_output(&mut self) -> Option<LinkOutput> {
        self.core.outputs.pop_front()
    }

    /// When [`LinkInput::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.core.poll_timeout()
    }

    fn step(&mut self, handle: impl FnOnce(&mut Core, State) -> State) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        self.state = handle(&mut self.core, state);
    }

    fn read(&mut self) {
        // What comes during the TLS handshake is judged when it is over.
        while !matches!(self.state, State::Closed | State::Handshaking(_)) {
            let received = match self.core.framer.next() {
                Ok(None) => break,
                Ok(Some(Frame::Header(header))) => {
                    self.core.scope = header.scope.clone();
                    Ok(Received::Header(header))
                }
                Ok(Some(Frame::Element(raw))) => {
                    Child::parse(raw, &self.core.scope, self.core.content_ns).map(Received::Child)
                }
                Ok(Some(Frame::End)) => Ok(Received::End),
                Err(error) => Err(error),
            };
            self.core.touch();
            self.step(|core, state| match received {
                Ok(received) => on_received(core, state, received),
                Err(error) => core.refuse_broken(error),
            });
        }
        if matches!(self.state, State::Closed) {
            self.core.framer.buffer().clear();
        }
    }
}

fn on_received(core: &mut Core, state: State, received: Received) -> State {
    match received {
        Received::Header(header) => match state {
            State::Awaiting(awaiting) => awaiting.on_header(core, header),
            State::Opening(opening) => opening.on_header(core, header),
            State::Greeting(greeting) => greeting.on_header(core, &header),
            // The framer gives a header only at the beginning and after a restart.
            state => state,
        },
        Received::Child(Child::Error(error, text)) => {
            // RFC 6120 §4.9.1.1: an error is the end.
            let cause = match state.component() {
                Some(domain) => component::explain(domain, error, text.as_deref()),
                None => explain::stream_error(core.side, error, text.as_deref()),
            };
            core.end(None, cause)
        }
        Received::Child(child) => {
            if !core.count_element() {
                let reject = Reject::new(Reason::RateLimited, "too many elements before proof");
                return core.refuse(reject, StreamError::PolicyViolation);
            }
            on_child(core, state, child)
        }
        Received::End => match state {
            State::Closing(_) => {
                core.send_end();
                core.close("both halves of the stream are ended")
            }
            State::Receiving(receiving) => receiving.on_end(core),
            _ => core.end(None, "the peer ended the stream"),
        },
    }
}

fn on_child(core: &mut Core, state: State, child: Child) -> State {
    match state {
        State::Receiving(receiving) => receiving.on_child(core, child),
        State::Choosing(choosing) => choosing.on_child(core, child),
        State::StartingTls(starting) => starting.on_child(core, child),
        State::Authenticating(authenticating) => authenticating.on_child(core, child),
        State::Asking(asking) => asking.on_child(core, child),
        State::Enabling(enabling) => enabling.on_child(core, child),
        State::Sending(sending) => sending.on_child(core, child),
        State::Shaking(shaking) => shaking.on_child(core, child),
        State::Attached(attached) => attached.on_child(core, child),
        State::Closing(Closing { hearing: Some(hearing) }) => match (hearing, child) {
            (Hearing::Receiving(receiving), Child::Stanza(stanza)) => closing(receiving.on_stanza(core, *stanza)),
            (Hearing::Sending(sending), child @ (Child::Stanza(_) | Child::Management(_))) => {
                let state = sending.on_child(core, child);
                if let State::Sending(sending) = &state {
                    sending.end_if_settled(core);
                }
                closing(state)
            }
            (Hearing::Attached(attached), child) => closing(attached.on_child(core, child)),
            (hearing, _) => State::Closing(Closing { hearing: Some(hearing) }),
        },
        // A child comes behind a header, and none is read during the handshake.
        state @ (State::Closing(_)
        | State::Awaiting(_)
        | State::Opening(_)
        | State::Greeting(_)
        | State::Handshaking(_)
        | State::Closed) => state,
    }
}

/// The same state, our half ended.
fn closing(state: State) -> State {
    let hearing = match state {
        State::Receiving(receiving) => Some(Hearing::Receiving(receiving)),
        State::Attached(attached) => Some(Hearing::Attached(attached)),
        State::Sending(sending) => Some(Hearing::Sending(sending)),
        state => return state,
    };
    State::Closing(Closing { hearing })
}

fn on_tls(core: &mut Core, state: State, chain: Option<Arc<Chain>>) -> State {
    let shown = Shown { tls: true, chain, judged: None };
    match state {
        // Whatever was read before TLS was not protected by it.
        State::Handshaking(_) | State::Awaiting(_) if !core.framer.buffer().is_empty() => {
            core.close("bytes before TLS, to be read after it")
        }
        // TLS from the first byte (XEP-0368), or behind STARTTLS.
        State::Awaiting(awaiting) | State::Handshaking(Handshaking::Accepting(awaiting)) => {
            State::Awaiting(accept::Awaiting { shown, ..awaiting })
        }
        State::Handshaking(Handshaking::Opening(mut opening)) => {
            opening.attempt.shown = shown;
            opening.begin(core)
        }
        state => state,
    }
}

fn on_close(core: &mut Core, state: State, error: Option<(StreamError, String)>) -> State {
    match (state, error) {
        (State::Closed, _) => State::Closed,
        (State::Handshaking(_), _) => core.close("closed by us"),
        (State::Closing(closing), None) => State::Closing(closing),
        (_, Some((error, text))) => core.end(Some((error, text)), format!("closed by us with {error}")),
        // What was handled is no longer its server's to bounce, which is all that it knows behind our end.
        (State::Receiving(mut receiving), None) if receiving.is_managed() => {
            receiving.ask(core);
            core.await_end();
            closing(State::Receiving(receiving))
        }
        (State::Sending(mut sending), None) => {
            sending.wind_up(core);
            closing(State::Sending(sending))
        }
        (state @ (State::Receiving(_) | State::Attached(_)), None) => {
            core.send_end();
            core.await_end();
            closing(state)
        }
        (_, None) => core.end(None, "closed by us"),
    }
}

fn on_timeout(core: &mut Core, state: State) -> State {
    match (core.check_timers(), state) {
        (_, State::Closed) => State::Closed,
        (Due::Nothing, state) => state,
        // RFC 6120 §13.7.2.3.
        (Due::Expired, _) => {
            core.end(Some((StreamError::Reset, String::new())), "the certificate that the peer is known by has ended")
        }
        (Due::Idle, state) => on_close(core, state, None),
        (Due::Unacknowledged, State::Closing(closing)) => State::Closing(closing),
        (Due::Unacknowledged, _) => core.end(
            Some((StreamError::ConnectionTimeout, String::new())),
            format!("the peer acknowledged nothing for {ACK_WITHIN:?}"),
        ),
        (Due::Late, State::Closing(_)) => {
            core.send_end();
            core.close("the peer did not end its half of the stream")
        }
        (Due::Late, State::Handshaking(_)) => core.close("the TLS handshake took too long"),
        (Due::Late, State::Receiving(receiving)) => receiving.on_timeout(core),
        (Due::Late, _) => accept::too_late(core),
    }
}
