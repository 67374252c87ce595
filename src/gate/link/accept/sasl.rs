//! SASL EXTERNAL on streams that a peer opened (RFC 6120 §6, XEP-0178).

use super::*;
use crate::wire::xmpp::negotiation::{sasl_failure, sasl_success};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

impl Receiving {
    /// Whom SASL EXTERNAL would prove on this stream; the mechanism is there for no other (RFC 6120 §6.3.3, XEP-0178 §3).
    ///
    /// What is external is agreed on by both ends (RFC 4422 appendix A): the certificate, or for a node that its entry knows by its address
    /// just that. Then it proves no more than dialback would, which believes the same address; but only behind SASL do servers such as
    /// Prosody look for stream management. Under TLS only: no server asks for it without.
    pub(super) fn external(&self, core: &Core) -> Option<Known> {
        let pair = self.named().filter(|_| self.shown.tls && self.pairs.is_empty())?;
        match self.judge_pair(core, &pair, "") {
            Ok(Ruling::Believe(known)) => Some(known),
            Ok(Ruling::Ask(_)) | Err(_) => None,
        }
    }

    pub(super) fn on_auth(self, core: &mut Core, mechanism: &str, response: &str) -> State {
        let named = self.named().filter(|_| mechanism == EXTERNAL && self.external(core).is_some());
        let Some(pair) = named else {
            if let Some(reject) = self.hopeless {
                return core.refuse(reject, StreamError::NotAuthorized);
            }
            // RFC 6120 §6.5.7.
            core.send(&sasl_failure("invalid-mechanism"));
            return State::Receiving(self);
        };
        // RFC 6120 §6.5, XEP-0178 §3: `=` is whom the header names.
        let fault = match response {
            "" => Some("malformed-request"),
            "=" => None,
            coded => match BASE64.decode(coded).map(|bytes| parse(&String::from_utf8(bytes).ok())) {
                Ok(Ok(Some(domain))) if domain == pair.0 => None,
                Ok(_) => Some("invalid-authzid"),
                Err(_) => Some("incorrect-encoding"),
            },
        };
        if let Some(condition) = fault {
            core.send(&sasl_failure(condition));
            return State::Receiving(self);
        }
        // RFC 6120 §6.4.6: the new stream begins behind our success.
        if core.framer.restart() > 0 {
            let reject = Reject::new(Reason::Malformed, "bytes behind <auth/>, before its answer");
            return core.refuse(reject, StreamError::PolicyViolation);
        }
        core.send(&sasl_success());
        core.restart();
        let external = Some(External { pair, both_ways: self.both_ways });
        State::Awaiting(Awaiting { peer: self.peer, shown: self.shown, external })
    }

    /// What SASL has proven, judged as at the time of `<auth/>`, holds for the stream behind it.
    pub(super) fn admit_named(mut self, core: &mut Core) -> State {
        match (self.external(core), self.named()) {
            (Some(known), Some(pair)) => {
                self.admit(core, pair, known);
                State::Receiving(self)
            }
            _ => {
                let reject = Reject::new(Reason::Unproven, "what SASL proved does not hold any more");
                core.refuse(reject, StreamError::NotAuthorized)
            }
        }
    }
}
