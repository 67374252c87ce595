//! What must be so in the end: everything that was acknowledged is there, everybody knows what is true, every message has ended.

use crate::live::book::{Answer, Standing as Known, unsettled};
use crate::live::node::Wish;
use crate::live::partner::Standing;
use crate::live::{Show, Shown, World};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Of what is wrong, shown.
const SHOWN: usize = 12;

/// Waits until nothing is wrong any more.
pub async fn wait(what: &str, bound: Duration, seed: u64, wrong: impl Fn() -> Vec<String>) {
    let begun = Instant::now();
    loop {
        let found = wrong();
        if found.is_empty() {
            return;
        }
        if begun.elapsed() > bound {
            let shown: Vec<_> = found.iter().take(SHOWN).map(String::as_str).collect();
            panic!(
                "not so after {bound:?} (RESTART_SEED={seed}): {what}; {} are wrong:\n  {}",
                found.len(),
                shown.join("\n  ")
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until all is right under this start of the edge; nobody may have had reason to complain.
pub async fn settle(world: &World, started: Instant, bound: Duration, seed: u64) {
    let left = bound.saturating_sub(started.elapsed());
    assert_no_complaint(world, seed);
    wait("everything is right again", left, seed, || {
        // Once somebody complains there is nothing to wait for.
        assert_no_complaint(world, seed);
        let mut wrong = unsettled(&world.book);
        wrong.extend(wrong_presence(world));
        let open = world.partner.figures().open;
        if open > 0 {
            wrong.push(format!("{open} requests of the partner have no answer"));
        }
        wrong
    })
    .await;
}

/// Nobody had reason to complain so far.
pub fn assert_no_complaint(world: &World, seed: u64) {
    for (pair, what) in world.partner.denied() {
        // The user's leave may have been remembered by an edge that died before the partner heard of it.
        if matches!(world.node.wish(pair.0, pair.1), Some(Wish::Asking | Wish::Asked)) {
            world.book.complain(|| format!("{what}; x{} still watches p{}", pair.0, pair.1));
        }
    }
    let (count, complaints) = world.book.complaints();
    let shown: Vec<_> = complaints.iter().take(SHOWN).map(String::as_str).collect();
    assert!(count == 0, "RESTART_SEED={seed}: {count} complaints:\n  {}", shown.join("\n  "));
}

/// Watchers who were not told what is true, since this start of the edge.
fn wrong_presence(world: &World) -> Vec<String> {
    let generation = world.book.generation();
    let mut wrong = Vec::new();
    for (at, watch) in world.partner.watches().iter().enumerate().filter(|(_, watch)| watch.standing == Standing::Live)
    {
        let truth = world.node.shown(watch.presentity);
        if watch.told != Some((generation, truth)) {
            let told = watch.told;
            wrong.push(format!(
                "w{at}: w{} was told {told:?} of u{}, who is {truth:?} at start {generation}",
                watch.watcher, watch.presentity
            ));
        }
    }
    let dialogs: BTreeSet<_> = world.partner.contacts().into_iter().collect();
    for contact in world.node.contacts().iter().filter(|contact| contact.standing == Wish::Asked) {
        let (watcher, presentity) = (contact.watcher, contact.presentity);
        let truth = world.partner.shown(presentity);
        if !dialogs.contains(&(watcher, presentity)) {
            wrong.push(format!("x{watcher} has no subscription to p{presentity}"));
        } else if !contact.subscribed {
            wrong.push(format!("x{watcher} was not told that p{presentity} agreed"));
        } else if contact.told != Some((generation, truth)) {
            let told = contact.told;
            wrong
                .push(format!("x{watcher} was told {told:?} of p{presentity}, who is {truth:?} at start {generation}"));
        }
    }
    wrong
}

/// Tries everything that is believed to be alive: each subscription takes a refresh and tells what is new, each session takes a message
/// both ways, and a message goes through each way.
pub async fn prove_alive(world: &World, bound: Duration, seed: u64) {
    let generation = world.book.generation();
    let watches = world.partner.watches();
    let live: Vec<usize> = (0..watches.len()).filter(|at| watches[*at].standing == Standing::Live).collect();
    let count = world.book.counted();
    for at in &live {
        world.partner.refresh(*at);
    }
    let mut users: BTreeSet<u32> = live.iter().map(|at| watches[*at].presentity).collect();
    users.extend(world.node.contacts().iter().map(|contact| contact.presentity));
    for (note, user) in (1_000_000..).zip(users) {
        world.node.show(user, Shown { show: Show::Away, note });
        world.partner.show(user, Shown { show: Show::Online, note });
    }
    let sessions = world.partner.sessions();
    let mut messages = (Vec::new(), Vec::new());
    for (outside, inside) in &sessions {
        messages.0.extend(world.partner.write(*outside, *inside));
        messages.1.push(world.node.chat(*inside, *outside));
    }
    messages.0.push(world.partner.message(1, 1, "the last"));
    messages.1.push(world.node.message(1, 1, "the last"));
    wait("each subscription and session is alive", bound, seed, || {
        assert_no_complaint(world, seed);
        let mut wrong = wrong_presence(world);
        let watches = world.partner.watches();
        for at in &live {
            if watches[*at].standing != Standing::Live {
                wrong.push(format!("w{at} is {:?} after its refresh", watches[*at].standing));
            }
            if watches[*at].granted != generation {
                wrong.push(format!("the refresh of w{at} has no 200"));
            }
        }
        let pages = world.book.pages();
        let came = |number: &u32| {
            let message = pages.to_xmpp[*number as usize];
            message.arrived > 0 && message.answer == Answer::Accepted
        };
        wrong.extend(messages.0.iter().filter(|number| !came(number)).map(|number| {
            format!("message {number} to XMPP has not come through: {:?}", pages.to_xmpp[*number as usize])
        }));
        let came = |number: &u32| pages.to_sip[*number as usize].arrived > 0;
        wrong.extend(messages.1.iter().filter(|number| !came(number)).map(|number| {
            format!("message {number} to SIP has not come through: {:?}", pages.to_sip[*number as usize])
        }));
        wrong
    })
    .await;
    let still: BTreeSet<_> = world.partner.sessions().into_iter().collect();
    assert!(
        sessions.iter().all(|pair| still.contains(pair)),
        "a session ended while it was tried: RESTART_SEED={seed}"
    );
    assert_eq!(count, world.book.counted(), "something was put off or refused in quiet: RESTART_SEED={seed}");
}

/// What was checked.
pub fn figures(world: &World) -> String {
    let figures = world.partner.figures();
    let pages = world.book.pages();
    let to_xmpp = |of: fn(&Answer) -> bool| pages.to_xmpp.iter().filter(|message| of(&message.answer)).count();
    let to_sip = &pages.to_sip;
    let of = |standing| to_sip.iter().filter(|message| message.standing == standing).count();
    let twice = to_sip.iter().filter(|message| message.arrived > 1).count()
        + pages.to_xmpp.iter().filter(|message| message.arrived > 1).count();
    let line = format!(
        "subscriptions checked {} from outside, {} from inside, sessions {}; messages to XMPP: {} accepted, {} refused, {} unanswered, \
         {} came; to SIP: {} acknowledged, {} came, {} came back as errors, {} of those uncertain, {} unacknowledged; {twice} came twice",
        figures.watches,
        figures.contacts,
        figures.chats,
        to_xmpp(|answer| *answer == Answer::Accepted),
        to_xmpp(|answer| matches!(answer, Answer::Refused(_))),
        to_xmpp(|answer| *answer == Answer::Silence),
        pages.to_xmpp.iter().filter(|message| message.arrived > 0).count(),
        of(Known::Acknowledged),
        to_sip.iter().filter(|message| message.arrived > 0).count(),
        to_sip.iter().filter(|message| message.errors > 0).count(),
        to_sip.iter().filter(|message| message.errors > 0 && message.arrived > 0).count(),
        of(Known::Unacknowledged),
    );
    drop(pages);
    world.book.counted().iter().fold(line, |line, (what, count)| format!("{line}; {count} {what}"))
}
