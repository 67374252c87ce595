//! What scenes claim: takes a thing seen, says whether it is the one; and claims and tells those that come in every scene.

use super::scenes::{JULIET, ROMEO};
use super::seen::{Seen, What};
use super::stage::Stage;
use crate::gate::translate::composing::ChatState;
use crate::wire::sip::Method;
use crate::wire::sip::header::{Name, SubscriptionState};
use crate::wire::xmpp::{Element, Outcome, Question};

/// Claims one thing and tells it.
pub async fn tell(stage: &mut Stage, what: &str, is: impl Fn(&Seen) -> bool) -> Result<(), String> {
    let seen = stage.expect(what, is).await?;
    stage.tell(&seen).await;
    Ok(())
}

/// The 200 to a request: `sent` by an outside peer, or received by it.
pub async fn told_answer(stage: &mut Stage, method: &Method, call_id: &str, sent: bool) -> Result<(), String> {
    let is = |seen: &Seen| seen.sent == sent && seen.final_status(method, call_id) == Some(200);
    tell(stage, &format!("200 to the {method}"), is).await
}

/// A NOTIFY of the partner's, and its 200.
pub async fn told_notify(stage: &mut Stage, call_id: &str, wanted: &str) -> Result<(), String> {
    let is = |seen: &Seen| seen.sent && is_of(seen, &Method::Notify, call_id) && is_state(seen, wanted);
    tell(stage, &format!("the partner's NOTIFY: {wanted}"), is).await?;
    told_answer(stage, &Method::Notify, call_id, false).await
}

/// Its Call-ID.
pub fn call_id_of(seen: &Seen) -> String {
    seen.sip().and_then(|message| message.call_id()).unwrap_or_default().to_owned()
}

/// A SIP message in Juliet's name.
pub fn is_hers(seen: &Seen) -> bool {
    let from = format!("sip:{JULIET}");
    seen.sip().and_then(|message| message.from()).is_some_and(|address| address.uri.text == from)
}

/// A SIP message with these words.
pub fn is_text(seen: &Seen, text: &str) -> bool {
    seen.sip().is_some_and(|message| message.body() == text.as_bytes())
}

/// A chat state between Juliet and Romeo.
pub fn is_chat_state(seen: &Seen, sent: bool, state: ChatState) -> bool {
    let attribute = if sent { "to" } else { "from" };
    seen.sent == sent
        && seen.chat_state() == Some(state)
        && seen.stanza().is_some_and(|stanza| is_bare(stanza, attribute, ROMEO))
}

/// A NOTIFY of this state.
pub fn is_state(seen: &Seen, wanted: &str) -> bool {
    state(seen).is_some_and(|state| state.state == wanted)
}

/// A request of this dialog.
pub fn is_of(seen: &Seen, method: &Method, call_id: &str) -> bool {
    seen.is_request(method) && seen.sip().and_then(|message| message.call_id()) == Some(call_id)
}

/// What a NOTIFY says of its subscription.
pub fn state(seen: &Seen) -> Option<SubscriptionState> {
    SubscriptionState::parse(seen.sip()?.header(Name::SubscriptionState)?)
}

/// A NOTIFY that an outside peer has received.
pub fn is_notify(seen: &Seen, call_id: &str, wanted: &str) -> bool {
    !seen.sent && is_of(seen, &Method::Notify, call_id) && is_state(seen, wanted)
}

/// Whether an address of a stanza is this one, whatever its resource.
pub fn is_bare(stanza: &Element, attribute: &str, address: &str) -> bool {
    stanza.get_attr(attribute).and_then(|jid| jid.split('/').next()) == Some(address)
}

/// Presence to or from `other`, as the node sent or received it.
pub fn is_presence(seen: &Seen, sent: bool, type_: Option<&str>, other: &str) -> bool {
    let attribute = if sent { "to" } else { "from" };
    seen.sent == sent
        && seen.is_stanza("presence", type_)
        && seen.stanza().is_some_and(|stanza| is_bare(stanza, attribute, other))
}

/// An answer to this question that says `valid`.
pub fn is_dialback(seen: &Seen, question: Question, sent: bool) -> bool {
    match &seen.what {
        What::Dialback(dialback) => {
            seen.sent == sent && dialback.question == question && dialback.outcome == Outcome::Valid
        }
        _ => false,
    }
}
