//! Dialback on streams that a peer opened, as receiving server and as authoritative server (XEP-0220 §2.2, §2.3).

use super::super::dialback;
use super::*;
use crate::gate::limits::{PAIRS_PER_STREAM, REFUSALS_PER_STREAM};
use crate::gate::link::Verdict;
use crate::wire::xmpp::{ErrorType, StanzaError};

impl Receiving {
    /// XEP-0220 §2.2: a peer wants to send for a domain.
    pub(super) fn on_result(mut self, core: &mut Core, question: Dialback, key: String) -> State {
        let (Ok(Some(from)), Ok(Some(to))) = (parse(&question.from), parse(&question.to)) else {
            let reject = Reject::new(Reason::Malformed, "a dialback result without from or to");
            return core.refuse(reject, StreamError::ImproperAddressing);
        };
        let pair = (from, to);
        if self.pairs.contains(&pair) {
            core.send(&question.answer(Outcome::Valid).to_element());
            return State::Receiving(self);
        }
        // One question for each pair at a time; its answer answers for the pair.
        if self.pending.iter().any(|p| (&p.request.originating, &p.request.receiving) == (&pair.0, &pair.1)) {
            return State::Receiving(self);
        }
        if let Some(state) = self.end_if_refused_often(core) {
            return state;
        }
        match self.judge_pair(core, &pair, &key) {
            Ok(Ruling::Believe(known)) => self.prove(core, &question, pair, known),
            Ok(Ruling::Ask(other)) => {
                let (originating, receiving) = pair;
                let request = VerifyRequest { originating, receiving, stream_id: self.id.clone(), key };
                core.outputs.push_back(LinkOutput::Verify(request.clone()));
                self.pending.push(Pending { request, question, other });
            }
            // Others may be proven here: a server that serves many domains is not cut off for one of them.
            Err(Refusal { reject, personal: true, .. }) if self.is_new() => {
                core.peer_domain = question.from;
                let error = reject.reason.stream_error();
                return core.refuse(reject, error);
            }
            Err(Refusal { reject, condition, .. }) => self.decline(core, &question, reject, condition),
        }
        State::Receiving(self)
    }

    /// Each refusal is told to the operator.
    fn end_if_refused_often(&self, core: &mut Core) -> Option<State> {
        (self.refused >= REFUSALS_PER_STREAM).then(|| {
            let detail = format!("{REFUSALS_PER_STREAM} dialback questions refused");
            core.refuse(Reject::new(Reason::RateLimited, detail), StreamError::PolicyViolation)
        })
    }

    /// What is made of a pair that is to be proven on this stream by a key, or (an empty one) by what the connection shows.
    pub(super) fn judge_pair(&self, core: &Core, (from, to): &(Domain, Domain), key: &str) -> Result<Ruling, Refusal> {
        let ruling = judge::judge_proof(core.side, &core.settings, from, key, self.peer, &self.shown, core.now);
        if let Err(Refusal { personal: true, .. }) = ruling {
            return ruling;
        }
        // XEP-0220 §2.4: an unknown target is an error of this question, not of the stream.
        judge::judge_to(core.side, &core.settings, to)
            .map_err(|reject| Refusal::of_question(reject, Condition::ItemNotFound))?;
        if self.pairs.len() + self.pending.len() >= PAIRS_PER_STREAM {
            let reject = Reject::new(Reason::Overloaded, format!("more than {PAIRS_PER_STREAM} pairs on one stream"));
            return Err(Refusal::of_question(reject, Condition::ResourceConstraint));
        }
        ruling
    }

    fn prove(&mut self, core: &mut Core, question: &Dialback, pair: (Domain, Domain), known: Known) {
        core.send(&question.answer(Outcome::Valid).to_element());
        self.admit(core, pair, known);
    }

    pub(super) fn admit(&mut self, core: &mut Core, pair: (Domain, Domain), known: Known) {
        // What comes later is judged by its own time.
        self.shown.judged = None;
        let (from, to) = pair.clone();
        core.prove(Pair { from, to, ours: false, both_ways: self.both_ways, managed: false }, known);
        self.pairs.insert(pair);
    }

    /// XEP-0220 §2.3: a peer asks whether we gave out a key. Everybody may ask; only we, or an edge with our secrets, could have made a right
    /// key.
    pub(super) fn on_verify(mut self, core: &mut Core, question: Dialback, key: &str) -> State {
        let (Ok(Some(receiving)), Ok(Some(originating))) = (parse(&question.from), parse(&question.to)) else {
            let reject = Reject::new(Reason::Malformed, "a dialback verify without from or to");
            return core.refuse(reject, StreamError::ImproperAddressing);
        };
        if let Some(state) = self.end_if_refused_often(core) {
            return state;
        }
        if core.side == Side::Outside
            && let Err(reject) = judge::judge_to(core.side, &core.settings, &originating)
        {
            self.decline(core, &question, reject, Condition::ItemNotFound);
            return State::Receiving(self);
        }
        let mode = judge::tls_mode(core.side, &core.settings, Some(&receiving));
        if !self.shown.tls && mode == TlsMode::Required {
            self.decline(core, &question, tls_required(core.side), Condition::PolicyViolation);
            return State::Receiving(self);
        }
        self.consulted = true;
        let id = question.id.as_deref().unwrap_or_default();
        let outcome = match dialback::is_ours(&core.settings.secrets, &receiving, &originating, id, key) {
            true => Outcome::Valid,
            false => Outcome::Invalid,
        };
        core.send(&question.answer(outcome).to_element());
        State::Receiving(self)
    }

    pub fn on_verified(mut self, core: &mut Core, request: &VerifyRequest, verdict: Verdict) -> State {
        let Some(at) = self.pending.iter().position(|pending| pending.request == *request) else {
            return State::Receiving(self);
        };
        let Pending { question, other, .. } = self.pending.remove(at);
        match verdict {
            Verdict::Valid => {
                let pair = (request.originating.clone(), request.receiving.clone());
                self.prove(core, &question, pair, Known { other, expires: None });
                State::Receiving(self)
            }
            Verdict::Invalid => {
                core.send(&question.answer(Outcome::Invalid).to_element());
                let detail = format!("{}'s own server did not vouch for the dialback key", request.originating);
                let reject = Reject::new(Reason::Unproven, detail);
                // XEP-0220 §2.2: a false key ends the stream; but not for pairs that were proven on it.
                if self.pairs.is_empty() {
                    return core.refuse(reject, StreamError::NotAuthorized);
                }
                self.refused += 1;
                core.note_refusal(question.from, reject);
                State::Receiving(self)
            }
            Verdict::Error => {
                let detail = format!("{}'s own server could not be asked about the dialback key", request.originating);
                self.decline(core, &question, Reject::new(Reason::Unproven, detail), Condition::RemoteServerTimeout);
                State::Receiving(self)
            }
        }
    }

    /// A dialback question is answered with an error; the stream goes on.
    fn decline(&mut self, core: &mut Core, question: &Dialback, reject: Reject, condition: Condition) {
        self.refused += 1;
        let type_ = match condition {
            Condition::ResourceConstraint | Condition::RemoteServerTimeout => ErrorType::Wait,
            _ => ErrorType::Cancel,
        };
        let text = core.note_refusal(question.from.clone(), reject);
        let error = StanzaError { text: Some(text), ..StanzaError::new(condition, type_) };
        core.send(&question.answer(Outcome::Error(error)).to_element());
    }
}
