//! What is played, scene by scene. Each makes its peers do something and claims from the stage everything that must come of it.

use super::play::Play;
use super::seen::{Peer, Seen};
use crate::wire::sip::Method;
use crate::wire::sip::header::{Name, SubscriptionState};
use crate::wire::xmpp::{NS_SERVER, Outcome, Question};
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
/// What Romeo shows: Busy as a Microsoft client says it, then Available.
const SHOWN_BUSY: &str = "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" \
    xmlns:ep=\"urn:ietf:params:xml:ns:pidf:status:rpid-status\" entity=\"sip:romeo@lync.example\"><tuple id=\"0\"><status>\
    <basic>open</basic><ep:activities><ep:activity>busy</ep:activity></ep:activities></status></tuple></presence>";
const SHOWN_OPEN: &str = "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:romeo@lync.example\"><tuple id=\"0\">\
    <status><basic>open</basic></status></tuple></presence>";
/// How long nothing of a refused request may reach the inside.
const QUIET: Duration = Duration::from_millis(300);

/// All scenes in their order.
pub async fn all(play: &mut Play) -> Result<(), String> {
    meet(play).await?;
    ask(play).await?;
    approve(play).await?;
    follow(play).await?;
    message_in(play).await?;
    message_out(play).await?;
    watch(play).await?;
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

async fn message_in(play: &mut Play) -> Result<(), String> {
    let stage = &mut play.stage;
    stage.scene("Romeo writes");
    let call_id = play.partner.message(ROMEO, JULIET, TO_JULIET);
    let sent = stage.expect("his MESSAGE", |seen| seen.sent && is_of(seen, &Method::Message, &call_id)).await?;
    let got = stage
        .expect("the same words at Juliet's server", |seen| {
            let body = |stanza: &crate::wire::xmpp::Element| Some(stanza.find("body", NS_SERVER)?.content());
            !seen.sent
                && seen.stanza().is_some_and(|stanza| stanza.name == "message" && is_bare(stanza, "from", ROMEO))
                && seen.stanza().and_then(body).as_deref() == Some(TO_JULIET)
        })
        .await?;
    stage.tell_across(&sent, &got).await;
    // What makes the edge sure of it: a ping behind the message, answered on the node's own stream.
    let is_iq = |seen: &Seen, sent, type_| seen.sent == sent && seen.is_stanza("iq", Some(type_));
    let ping = stage.expect("the edge's ping behind it", |seen| is_iq(seen, false, "get")).await?;
    stage.tell(&ping).await;
    let pong = stage.expect("the node's answer to the ping", |seen| is_iq(seen, true, "result")).await?;
    stage.tell(&pong).await;
    let answer =
        stage.expect("200 to the MESSAGE", |seen| seen.final_status(&Method::Message, &call_id) == Some(200)).await?;
    stage.tell(&answer).await;
    Ok(())
}

async fn message_out(play: &mut Play) -> Result<(), String> {
    let stage = &mut play.stage;
    stage.scene("Juliet answers");
    play.node.message(ROMEO, TO_ROMEO);
    let sent = stage.expect("her message", |seen| seen.sent && seen.is_stanza("message", Some("chat"))).await?;
    let got = stage
        .expect("the same words in a MESSAGE at the partner", |seen| {
            let is_hers = |message: &crate::wire::sip::Message| {
                message.body() == TO_ROMEO.as_bytes()
                    && message.from().is_some_and(|from| from.uri.text == format!("sip:{JULIET}"))
            };
            !seen.sent && seen.is_request(&Method::Message) && seen.sip().is_some_and(is_hers)
        })
        .await?;
    stage.tell_across(&sent, &got).await;
    let call_id = got.sip().and_then(|message| message.call_id()).unwrap_or_default().to_owned();
    let answer = stage
        .expect("the partner's 200", |seen| seen.sent && seen.final_status(&Method::Message, &call_id) == Some(200))
        .await?;
    stage.tell(&answer).await;
    Ok(())
}

/// The other way round: a subscription of the edge's own.
async fn watch(play: &mut Play) -> Result<(), String> {
    let stage = &mut play.stage;
    stage.scene("Juliet asks to see Romeo");
    play.node.subscribe(ROMEO);
    let sent = stage.expect("her request", |seen| is_presence(seen, true, Some("subscribe"), ROMEO)).await?;
    let is_hers = |message: &crate::wire::sip::Message| {
        message.from().is_some_and(|from| from.uri.text == format!("sip:{JULIET}"))
            && message.to().is_some_and(|to| to.uri.text == format!("sip:{ROMEO}"))
    };
    let asked = stage
        .expect("a SUBSCRIBE at the partner", |seen| {
            !seen.sent && seen.is_request(&Method::Subscribe) && seen.sip().is_some_and(is_hers)
        })
        .await?;
    stage.tell_across(&sent, &asked).await;
    let Some(subscribe) = asked.sip().cloned() else { return Err("no SUBSCRIBE".to_owned()) };
    let call_id = subscribe.call_id().unwrap_or_default().to_owned();
    let answer = stage
        .expect("the partner's 200", |seen| seen.sent && seen.final_status(&Method::Subscribe, &call_id) == Some(200))
        .await?;
    stage.tell(&answer).await;

    let is_sent = |seen: &Seen| seen.sent && is_of(seen, &Method::Notify, &call_id);
    let is_taken = |seen: &Seen| !seen.sent && seen.final_status(&Method::Notify, &call_id) == Some(200);
    play.partner.notify(&subscribe, "pending;expires=3600", None);
    let pending = stage.expect("his NOTIFY", is_sent).await?;
    stage.tell(&pending).await;
    let taken = stage.expect("200 to his NOTIFY", is_taken).await?;
    stage.tell(&taken).await;
    let from_him = |seen: &Seen| {
        !seen.sent && seen.stanza().is_some_and(|stanza| stanza.name == "presence" && is_bare(stanza, "from", ROMEO))
    };
    stage.expect_none("a word to her while he has not decided", QUIET, from_him).await?;
    stage.remark("he is being asked: nothing is told to her");

    for (document, is_busy) in [(SHOWN_BUSY, true), (SHOWN_OPEN, false)] {
        play.partner.notify(&subscribe, "active;expires=3600", Some(document));
        let shown = stage.expect("his NOTIFY", is_sent).await?;
        stage.expect("200 to his NOTIFY", is_taken).await?;
        if is_busy {
            let granted =
                stage.expect("`subscribed`", |seen| is_presence(seen, false, Some("subscribed"), ROMEO)).await?;
            stage.tell(&granted).await;
        }
        let seen = stage
            .expect("the same at Juliet's server", |seen| {
                let says = |name| seen.stanza().and_then(|stanza| stanza.find(name, NS_SERVER)).map(|e| e.content());
                let is_right = match is_busy {
                    // An XMPP client has no Busy: away, and the word.
                    true => says("show").as_deref() == Some("away") && says("status").as_deref() == Some("Busy"),
                    false => says("show").is_none() && says("status").is_none(),
                };
                is_presence(seen, false, None, ROMEO) && is_right
            })
            .await?;
        stage.tell_across(&shown, &seen).await;
    }
    Ok(())
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

fn is_of(seen: &Seen, method: &Method, call_id: &str) -> bool {
    seen.is_request(method) && seen.sip().and_then(|message| message.call_id()) == Some(call_id)
}

fn state(seen: &Seen) -> Option<SubscriptionState> {
    SubscriptionState::parse(seen.sip()?.header(Name::SubscriptionState)?)
}

fn is_notify(seen: &Seen, call_id: &str, wanted: &str) -> bool {
    !seen.sent && is_of(seen, &Method::Notify, call_id) && state(seen).is_some_and(|state| state.state == wanted)
}

fn is_bare(stanza: &crate::wire::xmpp::Element, attribute: &str, address: &str) -> bool {
    stanza.get_attr(attribute).and_then(|jid| jid.split('/').next()) == Some(address)
}

fn is_presence(seen: &Seen, sent: bool, type_: Option<&str>, other: &str) -> bool {
    let attribute = if sent { "to" } else { "from" };
    seen.sent == sent
        && seen.is_stanza("presence", type_)
        && seen.stanza().is_some_and(|stanza| is_bare(stanza, attribute, other))
}

/// An answer to this question that says `valid`.
fn is_dialback(seen: &Seen, question: Question, sent: bool) -> bool {
    match &seen.what {
        super::seen::What::Dialback(dialback) => {
            seen.sent == sent && dialback.question == question && dialback.outcome == Outcome::Valid
        }
        _ => false,
    }
}
