//! What is played, scene by scene. Each makes its peers do something and claims from the stage everything that must come of it.

use super::claims::{
    call_id_of, is_bare, is_chat_state, is_dialback, is_hers, is_notify, is_of, is_presence, is_state, is_text, state,
    tell, told_answer, told_notify,
};
use super::play::Play;
use super::seen::{Peer, Seen};
use super::stage::Stage;
use crate::gate::translate::composing::{ChatState, read_keyboard};
use crate::wire::sip::header::Name;
use crate::wire::sip::{Method, Start};
use crate::wire::xmpp::{NS_SERVER, Question};
use std::time::Duration;

/// The partner's user.
pub const ROMEO: &str = "romeo@lync.example";
/// Our user.
pub const JULIET: &str = "juliet@corp.example";
/// A user of a domain that no policy lists.
pub const TYBALT: &str = "tybalt@stranger.example";

/// Everything XML escapes, and a character beyond the 16-bit ones.
const BUSY: &str = "On the balcony <&> 🌙";
const TO_JULIET: &str = "Wherefore <&> not? 🌹";
const TO_ROMEO: &str = "Good night <&> good night 👋";
const IN_CHAT: &str = "O, speak again <&> 🌟";
const BACK_IN_CHAT: &str = "Deny thy father <&> refuse thy name ⚔";
const FROM_AOL: &str = "Hello from the other Juliet <&> 📎";
const TO_AOL: &str = "Hello, namesake <&> 📞";
/// AOL's user, as AOL spells it and as everybody else does (XEP-0106).
const NAMESAKE_SIP: &str = "juliet(gmail.com)@aol.com";
const NAMESAKE: &str = r"juliet\40gmail.com@aol.com";
/// How long nothing of a refused request may reach the inside.
const QUIET: Duration = Duration::from_millis(300);

/// All scenes in their order.
pub async fn all(play: &mut Play) -> Result<(), String> {
    meet(play).await?;
    ask(play).await?;
    approve(play).await?;
    follow(play).await?;
    watch(play).await?;
    message_in(play).await?;
    message_out(play).await?;
    chat(play).await?;
    chat_back(play).await?;
    respell(play).await?;
    refuse(play).await
}

async fn meet(play: &mut Play) -> Result<(), String> {
    play.stage.scene("The partner connects: both ends show certificates");
    play.partner.dial(play.outside, "sip.corp.example").await?;
    let linked = play.stage.expect("the partner's link", |seen| seen.by == Peer::Partner && seen.sent).await?;
    play.stage.tell(&linked).await;
    Ok(())
}

async fn ask(play: &mut Play) -> Result<(), String> {
    let stage = &mut play.stage;
    stage.scene("Romeo asks to see Juliet");
    play.watch = play.partner.subscribe(ROMEO, JULIET);
    let call_id = play.watch.clone();
    let sent = stage.expect("Romeo's SUBSCRIBE", |seen| seen.sent && is_of(seen, &Method::Subscribe, &call_id)).await?;
    let proven = stage
        .expect("dialback: the edge vouching for its stream in lync.example's name", |seen| {
            is_dialback(seen, Question::Verify, false)
        })
        .await?;
    let asked =
        stage.expect("Juliet's server being asked", |seen| is_presence(seen, false, Some("subscribe"), ROMEO)).await?;
    stage.tell_across(&sent, &asked).await;
    stage.tell(&proven).await;
    let answer = stage
        .expect("200 to the SUBSCRIBE", |seen| seen.final_status(&Method::Subscribe, &call_id) == Some(200))
        .await?;
    stage.tell(&answer).await;
    let pending =
        stage.expect("a NOTIFY: pending, nothing shown yet", |seen| is_notify(seen, &call_id, "pending")).await?;
    stage.tell(&pending).await;
    if pending.document().is_some() {
        return Err("a watcher who is not approved was shown something".to_owned());
    }
    Ok(())
}

async fn approve(play: &mut Play) -> Result<(), String> {
    let stage = &mut play.stage;
    stage.scene("Juliet approves");
    play.node.approve(ROMEO);
    let proven = stage
        .expect("dialback: the edge believing the node", |seen| is_dialback(seen, Question::Result, false))
        .await?;
    stage.tell(&proven).await;
    let approved = stage.expect("her approval", |seen| is_presence(seen, true, Some("subscribed"), ROMEO)).await?;
    let active = stage.expect("a NOTIFY: active", |seen| is_notify(seen, &play.watch, "active")).await?;
    stage.tell_across(&approved, &active).await;
    Ok(())
}

async fn follow(play: &mut Play) -> Result<(), String> {
    play.stage.scene("Romeo sees what Juliet shows");
    show(play, None, None, "open").await?;
    show(play, Some("dnd"), Some(BUSY), "open, busy, with her words").await?;
    show(play, Some("away"), None, "open, away, without her words").await
}

/// Juliet's client shows something; Romeo must be shown the same.
async fn show(play: &mut Play, show: Option<&str>, status: Option<&str>, what: &str) -> Result<(), String> {
    let stage = &mut play.stage;
    play.node.show(show, status);
    let sent = stage.expect("Juliet's presence", |seen| is_presence(seen, true, None, ROMEO)).await?;
    let activity = show.map(|show| if show == "dnd" { "busy" } else { show });
    let notify = stage
        .expect(&format!("a NOTIFY: {what}"), |seen| {
            let says = |seen: &Seen| {
                let document = seen.document()?;
                let tuple = document.tuples.iter().find(|tuple| tuple.open == Some(true))?;
                let all = || tuple.activities.iter().chain(&document.activities).map(String::as_str);
                let mut notes = document.tuples.iter().filter_map(|tuple| tuple.note.as_ref()).chain(&document.note);
                let is_busy = match activity {
                    Some(activity) => all().any(|word| word == activity),
                    None => !all().any(|word| word == "busy" || word == "away"),
                };
                let is_noted = match status {
                    Some(status) => notes.any(|note| note.text == status),
                    None => !notes.any(|note| note.text == BUSY),
                };
                Some(is_busy && is_noted)
            };
            is_notify(seen, &play.watch, "active") && says(seen) == Some(true)
        })
        .await?;
    stage.tell_across(&sent, &notify).await;
    Ok(())
}

async fn watch(play: &mut Play) -> Result<(), String> {
    let stage = &mut play.stage;
    stage.scene("The other way round: Juliet asks to see Romeo");
    play.node.ask(ROMEO);
    let sent = stage.expect("her request", |seen| is_presence(seen, true, Some("subscribe"), ROMEO)).await?;
    let asked = stage
        .expect("a SUBSCRIBE at the partner", |seen| {
            !seen.sent && seen.by == Peer::Partner && seen.is_request(&Method::Subscribe)
        })
        .await?;
    stage.tell_across(&sent, &asked).await;
    play.contact = asked.sip().and_then(|message| message.call_id()).unwrap_or_default().to_owned();
    let call_id = play.contact.clone();
    tell(stage, "the partner's 200", |seen| seen.sent && seen.final_status(&Method::Subscribe, &call_id) == Some(200))
        .await?;
    play.partner.notify(&call_id, "pending;expires=3600", None);
    told_notify(stage, &call_id, "pending").await?;
    let is_presence_of_his = |seen: &Seen| {
        let name = |seen: &Seen| seen.stanza().is_some_and(|stanza| stanza.name == "presence");
        seen.by == Peer::Node && !seen.sent && name(seen)
    };
    stage.expect_none("Juliet told nothing while he has not said yes", QUIET, is_presence_of_his).await?;
    stage.remark(&format!("pending: nothing was said inside within {} ms", QUIET.as_millis()));
    play.partner.notify(&call_id, "active;expires=3600", Some(&shown_by_romeo(Some("busy"))));
    let is_active = |seen: &Seen| seen.sent && is_of(seen, &Method::Notify, &call_id) && is_state(seen, "active");
    let active = stage.expect("the partner's NOTIFY: active", is_active).await?;
    let granted = stage
        .expect("subscribed at Juliet's server", |seen| is_presence(seen, false, Some("subscribed"), ROMEO))
        .await?;
    stage.tell_across(&active, &granted).await;
    let says = |seen: &Seen, name| Some(seen.stanza()?.find(name, NS_SERVER)?.content());
    // An XMPP client has no Busy: away, and the word.
    tell(stage, "away, Busy at Juliet's server", |seen| {
        is_presence(seen, false, None, ROMEO)
            && says(seen, "show").as_deref() == Some("away")
            && says(seen, "status").as_deref() == Some("Busy")
    })
    .await?;
    told_answer(stage, &Method::Notify, &call_id, false).await?;
    play.partner.notify(&call_id, "active;expires=3600", Some(&shown_by_romeo(None)));
    let open = stage.expect("the partner's NOTIFY: open", is_active).await?;
    let free = stage
        .expect("no longer away at Juliet's server", |seen| {
            is_presence(seen, false, None, ROMEO) && says(seen, "show").is_none() && says(seen, "status").is_none()
        })
        .await?;
    stage.tell_across(&open, &free).await;
    told_answer(stage, &Method::Notify, &call_id, false).await
}

/// What Romeo shows, as Lync's servers write it.
fn shown_by_romeo(activity: Option<&str>) -> String {
    let activity = activity
        .map(|activity| format!("<ep:activities><ep:activity>{activity}</ep:activity></ep:activities>\n"))
        .unwrap_or_default();
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" xmlns:ep=\"urn:ietf:params:xml:ns:pidf:status:rpid-status\" \
         xmlns:ci=\"urn:ietf:params:xml:ns:pidf:cipid\" entity=\"sip:{ROMEO}\">\n\
         <tuple id=\"0\">\n<status>\n<basic>open</basic>\n{activity}</status>\n</tuple>\n\
         <ci:display-name>Romeo Montague</ci:display-name>\n</presence>"
    )
}

async fn message_in(play: &mut Play) -> Result<(), String> {
    let stage = &mut play.stage;
    stage.scene("Romeo writes");
    let call_id = play.partner.message(ROMEO, JULIET, TO_JULIET);
    told_message_in(stage, &call_id, (ROMEO, TO_JULIET)).await
}

/// A MESSAGE of a partner's, up to its 200.
async fn told_message_in(stage: &mut Stage, call_id: &str, (from, text): (&str, &str)) -> Result<(), String> {
    let sent = stage.expect("the MESSAGE", |seen| seen.sent && is_of(seen, &Method::Message, call_id)).await?;
    let got = stage
        .expect("the same words at Juliet's server", |seen| {
            !seen.sent
                && seen.stanza().is_some_and(|stanza| is_bare(stanza, "from", from))
                && seen.body().as_deref() == Some(text)
        })
        .await?;
    stage.tell_across(&sent, &got).await;
    // What makes the edge sure of it: a ping behind the message, answered on the node's own stream.
    let is_iq = |seen: &Seen, sent, type_| seen.sent == sent && seen.is_stanza("iq", Some(type_));
    tell(stage, "the edge's ping behind it", |seen| is_iq(seen, false, "get")).await?;
    tell(stage, "the node's answer to the ping", |seen| is_iq(seen, true, "result")).await?;
    told_answer(stage, &Method::Message, call_id, false).await
}

async fn message_out(play: &mut Play) -> Result<(), String> {
    let stage = &mut play.stage;
    stage.scene("Juliet answers: Lync wants a session, so the edge opens one");
    play.node.message(ROMEO, TO_ROMEO);
    let sent = stage.expect("her message", |seen| seen.sent && seen.is_stanza("message", Some("chat"))).await?;
    let invited = stage
        .expect("an INVITE at the partner", |seen| !seen.sent && seen.is_request(&Method::Invite) && is_hers(seen))
        .await?;
    stage.tell_across(&sent, &invited).await;
    let call_id = call_id_of(&invited);
    told_answer(stage, &Method::Invite, &call_id, true).await?;
    tell(stage, "the edge's ACK", |seen| !seen.sent && is_of(seen, &Method::Ack, &call_id)).await?;
    tell(stage, "the same words in a MESSAGE of the session", |seen| {
        !seen.sent && is_of(seen, &Method::Message, &call_id) && is_text(seen, TO_ROMEO)
    })
    .await?;
    told_answer(stage, &Method::Message, &call_id, true).await?;
    play.node.chat_state(ROMEO, ChatState::Gone);
    let closed = stage.expect("her window closed", |seen| is_chat_state(seen, true, ChatState::Gone)).await?;
    let bye = stage.expect("a BYE", |seen| !seen.sent && is_of(seen, &Method::Bye, &call_id)).await?;
    stage.tell_across(&closed, &bye).await;
    told_answer(stage, &Method::Bye, &call_id, true).await
}

async fn chat(play: &mut Play) -> Result<(), String> {
    let stage = &mut play.stage;
    stage.scene("Romeo opens a chat, types, writes");
    play.chat = play.partner.invite(ROMEO, JULIET);
    let call_id = play.chat.clone();
    tell(stage, "his INVITE", |seen| seen.sent && is_of(seen, &Method::Invite, &call_id)).await?;
    told_answer(stage, &Method::Invite, &call_id, false).await?;
    tell(stage, "his ACK", |seen| seen.sent && is_of(seen, &Method::Ack, &call_id)).await?;
    play.partner.types(&call_id);
    let info = stage.expect("his INFO", |seen| seen.sent && is_of(seen, &Method::Info, &call_id)).await?;
    let typing =
        stage.expect("composing at Juliet's server", |seen| is_chat_state(seen, false, ChatState::Composing)).await?;
    stage.tell_across(&info, &typing).await;
    told_answer(stage, &Method::Info, &call_id, false).await?;
    play.partner.write(&call_id, IN_CHAT);
    told_message_in(stage, &call_id, (ROMEO, IN_CHAT)).await
}

async fn chat_back(play: &mut Play) -> Result<(), String> {
    let stage = &mut play.stage;
    stage.scene("Juliet types and answers in the same session; Romeo closes it");
    let call_id = play.chat.clone();
    play.node.chat_state(ROMEO, ChatState::Composing);
    let typing = stage.expect("her typing", |seen| is_chat_state(seen, true, ChatState::Composing)).await?;
    let info = stage
        .expect("an INFO at the partner: she types", |seen| {
            let is_typing = |message: &crate::wire::sip::Message| {
                read_keyboard(message.body()).is_some_and(|typing| typing.state == ChatState::Composing)
            };
            !seen.sent && is_of(seen, &Method::Info, &call_id) && seen.sip().is_some_and(is_typing)
        })
        .await?;
    stage.tell_across(&typing, &info).await;
    told_answer(stage, &Method::Info, &call_id, true).await?;
    play.node.message(ROMEO, BACK_IN_CHAT);
    let sent = stage.expect("her message", |seen| seen.sent && seen.body().as_deref() == Some(BACK_IN_CHAT)).await?;
    let got = stage
        .expect("the same words in a MESSAGE of the same session", |seen| {
            !seen.sent && is_of(seen, &Method::Message, &call_id) && is_text(seen, BACK_IN_CHAT)
        })
        .await?;
    stage.tell_across(&sent, &got).await;
    told_answer(stage, &Method::Message, &call_id, true).await?;
    play.partner.leave(&call_id);
    let bye = stage.expect("his BYE", |seen| seen.sent && is_of(seen, &Method::Bye, &call_id)).await?;
    let gone = stage.expect("gone at Juliet's server", |seen| is_chat_state(seen, false, ChatState::Gone)).await?;
    stage.tell_across(&bye, &gone).await;
    told_answer(stage, &Method::Bye, &call_id, false).await
}

async fn respell(play: &mut Play) -> Result<(), String> {
    play.stage.scene("AOL spells an e-mail address its own way; inside it is a proper JID");
    play.aol.dial(play.outside, "sip.corp.example").await?;
    let stage = &mut play.stage;
    tell(stage, "AOL's link", |seen| seen.by == Peer::Aol && seen.sent).await?;
    let call_id = play.aol.message(NAMESAKE_SIP, JULIET, FROM_AOL);
    told_message_in(stage, &call_id, (NAMESAKE, FROM_AOL)).await?;
    play.node.message(NAMESAKE, TO_AOL);
    let sent = stage.expect("her answer", |seen| seen.sent && seen.body().as_deref() == Some(TO_AOL)).await?;
    let got = stage
        .expect("the same words in a MESSAGE at AOL, in its spelling", |seen| {
            let to = format!("sip:{NAMESAKE_SIP}");
            let is_theirs = |message: &crate::wire::sip::Message| match message.start() {
                Start::Request { uri, .. } => uri == to && message.to().is_some_and(|address| address.uri.text == to),
                Start::Response { .. } => false,
            };
            seen.by == Peer::Aol
                && !seen.sent
                && seen.is_request(&Method::Message)
                && is_hers(seen)
                && is_text(seen, TO_AOL)
                && seen.sip().is_some_and(is_theirs)
        })
        .await?;
    stage.tell_across(&sent, &got).await;
    told_answer(stage, &Method::Message, &call_id_of(&got), true).await
}

async fn refuse(play: &mut Play) -> Result<(), String> {
    play.stage.scene("A stranger with a good certificate asks too: no policy lists stranger.example");
    play.stranger.dial(play.outside, "sip.corp.example").await?;
    let linked = play.stage.expect("the stranger's link", |seen| seen.by == Peer::Stranger && seen.sent).await?;
    play.stage.tell(&linked).await;
    let call_id = play.stranger.subscribe(TYBALT, JULIET);
    let stage = &mut play.stage;
    let sent = stage.expect("his SUBSCRIBE", |seen| seen.sent && is_of(seen, &Method::Subscribe, &call_id)).await?;
    stage.tell(&sent).await;
    let refused =
        stage.expect("403 to it", |seen| seen.final_status(&Method::Subscribe, &call_id) == Some(403)).await?;
    stage.tell(&refused).await;
    let names_him = |seen: &Seen| seen.stanza().is_some_and(|stanza| stanza.print(NS_SERVER).contains(TYBALT));
    stage
        .expect_none("nothing of it reaching the inside", QUIET, |seen| seen.by == Peer::Node && names_him(seen))
        .await?;
    stage.remark(&format!("nothing of it reached the inside within {} ms", QUIET.as_millis()));
    let warning = refused.sip().and_then(|message| message.header(Name::Warning)).unwrap_or_default().to_owned();
    play.explain(&warning).await
}

/// The edge stops: who watches is told to come back.
pub async fn drain(play: &mut Play) -> Result<(), String> {
    let stage = &mut play.stage;
    stage.scene("The edge drains: Romeo's server is told to ask again");
    play.edge.drain().await;
    let over = stage
        .expect("a NOTIFY: terminated;reason=deactivated", |seen| {
            is_notify(seen, &play.watch, "terminated")
                && state(seen).and_then(|state| state.reason).as_deref() == Some("deactivated")
        })
        .await?;
    stage.tell(&over).await;
    Ok(())
}
