//! Which stanzas a stream that a peer opened may carry (RFC 6120 §8.1).

use super::*;
use crate::wire::xmpp::Stanza;

impl Receiving {
    pub fn on_stanza(mut self, core: &mut Core, stanza: Stanza) -> State {
        match self.judge_stanza(core, &stanza) {
            Ok(()) => {
                if let Some(acks) = &mut self.acks {
                    acks.count();
                }
                core.outputs.push_back(LinkOutput::Stanza(stanza));
                State::Receiving(self)
            }
            Err((reject, error)) => core.refuse(reject, error),
        }
    }

    fn judge_stanza(&self, core: &Core, stanza: &Stanza) -> Result<(), (Reject, StreamError)> {
        if self.pairs.is_empty() {
            // RFC 6120 §4.9.3.12.
            let reject = Reject::new(Reason::Unproven, "a stanza before proof");
            return Err((reject, StreamError::NotAuthorized));
        }
        let improper = |what| Err((Reject::new(Reason::Malformed, what), StreamError::ImproperAddressing));
        // RFC 6120 §8.1.1.2, §8.1.2.2.
        let from = match &stanza.from {
            Ok(Some(from)) => from.bare.domain(),
            Ok(None) => return improper("a stanza without from"),
            Err(_) => {
                let reject = Reject::new(Reason::Malformed, "a stanza whose from is not an address");
                return Err((reject, StreamError::InvalidFrom));
            }
        };
        // A subdomain is another domain.
        if !self.pairs.iter().any(|(proven, _)| proven == from) {
            let reject = Reject::new(Reason::Unproven, format!("{from} is not proven on this stream"));
            return Err((reject, StreamError::InvalidFrom));
        }
        match &stanza.to {
            Ok(Some(to)) if self.pairs.contains(&(from.clone(), to.bare.domain().clone())) => Ok(()),
            Ok(Some(to)) => {
                let to = to.bare.domain();
                judge::judge_to(core.side, &core.settings, to).map_err(|reject| (reject, StreamError::HostUnknown))?;
                let detail = format!("{from} is proven on this stream, but not towards {to}");
                Err((Reject::new(Reason::Unproven, detail), StreamError::InvalidFrom))
            }
            Ok(None) => improper("a stanza without to"),
            // A user's slip, not the server's: the sender gets jid-malformed, on a stream of ours (RFC 6120 §8.3.3.8).
            Err(_) => Ok(()),
        }
    }
}
