//! Streams of ours that carry stanzas: ours, acknowledged by the peer where it does so (XEP-0198), and the peer's where both agreed on that
//! (XEP-0288).

use super::acks::Acks;
use super::core::Core;
use super::unacked::Unacked;
use super::{LinkOutput, State};
use crate::gate::reject::{Reason, Reject};
use crate::wire::address::Domain;
use crate::wire::xmpp::negotiation::{ack_request, is_ack};
use crate::wire::xmpp::{Child, Management, Stanza, StreamError};
use bytes::Bytes;

/// Proven: stanzas flow.
#[derive(Debug)]
pub(super) struct Sending {
    who: String,
    /// The domain we speak for, and the one we speak to.
    pair: (Domain, Domain),
    /// Whether the peer sends here, too.
    both_ways: bool,
    /// Stream management, both halves of it.
    management: Option<(Unacked, Acks)>,
}

impl Sending {
    pub fn new(who: String, pair: (Domain, Domain), both_ways: bool, managed: bool) -> Self {
        Self { who, pair, both_ways, management: managed.then(Default::default) }
    }

    /// Whether as many stanzas are unacknowledged as may be.
    pub fn is_full(&self) -> bool {
        self.management.as_ref().is_some_and(|(unacked, _)| unacked.is_full())
    }

    /// What the gate sends: a stanza, or the acknowledgement that was asked for.
    pub fn on_send(&mut self, core: &mut Core, bytes: Bytes, receipt: Option<u64>) {
        if is_ack(&bytes) {
            self.on_ack(core, bytes);
            return;
        }
        core.write(bytes);
        if let Some((unacked, _)) = &mut self.management {
            unacked.count(receipt);
            self.request(core);
        }
    }

    /// The gate's acknowledgement when we only wait for the last ones.
    pub fn on_last_ack(&mut self, core: &mut Core, bytes: Bytes) {
        if core.is_open() && is_ack(&bytes) {
            self.on_ack(core, bytes);
            self.end_if_settled(core);
        }
    }

    fn on_ack(&mut self, core: &mut Core, ack: Bytes) {
        if let Some((_, acks)) = self.management.as_mut().filter(|(_, acks)| acks.is_asked()) {
            core.write(ack);
            if let Some(handled) = acks.answered() {
                core.outputs.push_back(LinkOutput::AckAsked { handled });
            }
        }
    }

    pub fn on_child(mut self, core: &mut Core, child: Child) -> State {
        match child {
            Child::Stanza(stanza) => match self.judge_stanza(&stanza) {
                Ok(()) => {
                    if let Some((_, acks)) = &mut self.management {
                        acks.count();
                    }
                    core.outputs.push_back(LinkOutput::Stanza(*stanza));
                    State::Sending(self)
                }
                Err((detail, error)) => {
                    core.refuse(Reject::new(Reason::Unproven, format!("{} sent {detail}", self.who)), error)
                }
            },
            Child::Management(Management::Ack(Some(handled))) => self.on_handled(core, handled),
            Child::Management(Management::Request) => {
                self.ask(core);
                State::Sending(self)
            }
            // Whatever else, nobody asked for it.
            _ => State::Sending(self),
        }
    }

    /// One direction, one stream (RFC 6120 §4.2); or both, and then of the one pair that the two ends are proven for.
    fn judge_stanza(&self, stanza: &Stanza) -> Result<(), (String, StreamError)> {
        if !self.both_ways {
            return Err(("a stanza on a stream that is ours to send on".to_owned(), StreamError::NotAuthorized));
        }
        let (ours, theirs) = &self.pair;
        // RFC 6120 §8.1.1.2, §8.1.2.2.
        match &stanza.from {
            Ok(Some(from)) if from.bare.domain() == theirs => {}
            Ok(Some(from)) => {
                return Err((format!("a stanza from {}", from.bare.domain()), StreamError::InvalidFrom));
            }
            Ok(None) => return Err(("a stanza without from".to_owned(), StreamError::ImproperAddressing)),
            Err(_) => return Err(("a stanza whose from is not an address".to_owned(), StreamError::InvalidFrom)),
        }
        match &stanza.to {
            Ok(Some(to)) if to.bare.domain() == ours => Ok(()),
            Ok(Some(to)) => Err((format!("a stanza to {}", to.bare.domain()), StreamError::HostUnknown)),
            Ok(None) => Err(("a stanza without to".to_owned(), StreamError::ImproperAddressing)),
            // A user's slip, not the server's.
            Err(_) => Ok(()),
        }
    }

    /// XEP-0198 §4: the peer has handled that many.
    fn on_handled(mut self, core: &mut Core, handled: u32) -> State {
        let Some((unacked, _)) = &mut self.management else { return State::Sending(self) };
        match unacked.acknowledge(handled) {
            Ok(None) => {}
            Ok(Some(receipts)) => {
                core.await_ack(false);
                if !receipts.is_empty() {
                    core.outputs.push_back(LinkOutput::Taken(receipts));
                }
                self.request(core);
            }
            Err(_) => {
                let cause = format!("{} acknowledged more stanzas than it was sent", self.who);
                return core.end(Some((StreamError::UndefinedCondition, "handled-count-too-high".to_owned())), cause);
            }
        }
        State::Sending(self)
    }

    /// `<r/>`, when it is time for it.
    fn request(&mut self, core: &mut Core) {
        if core.is_open()
            && let Some((unacked, _)) = &mut self.management
            && unacked.ask()
        {
            core.send(&ack_request());
            core.await_ack(true);
        }
    }

    /// The gate is to acknowledge what the stream has carried so far.
    fn ask(&mut self, core: &mut Core) {
        if let Some(handled) = self.management.as_mut().and_then(|(_, acks)| acks.ask()) {
            core.outputs.push_back(LinkOutput::AckAsked { handled });
        }
    }

    /// Our half is to end: at once, or when what we owe each other is acknowledged, for which there is as long as for the peer's end tag.
    pub fn wind_up(&mut self, core: &mut Core) {
        if self.both_ways {
            self.ask(core);
        }
        core.await_end();
        self.end_if_settled(core);
    }

    /// See [`Sending::wind_up`].
    pub fn end_if_settled(&self, core: &mut Core) {
        let is_settled =
            self.management.as_ref().is_none_or(|(unacked, acks)| unacked.is_settled() && !acks.is_asked());
        if is_settled && core.is_open() {
            core.send_end();
            core.await_end();
        }
    }
}
