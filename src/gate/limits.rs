//! Every bound of the two machines, in one place: queues, tables and waits. What a frame may be is `wire::limits`.

use std::time::Duration;

/// Start line and headers of a SIP message when the configuration says nothing, in bytes.
pub const SIP_HEAD_BYTES: usize = 65_536;
/// One stanza after proof when the configuration says nothing, in bytes.
pub const STANZA_BYTES: usize = 262_144;
/// One stream element before proof, in bytes.
pub const STANZA_BYTES_BEFORE_PROOF: usize = 10_000;
/// Elements accepted before proof.
pub const ELEMENTS_BEFORE_PROOF: usize = 32;
/// Pairs of domains that one accepted XMPP stream may have proven or under way.
pub const PAIRS_PER_STREAM: usize = 256;
/// Dialback keys that one accepted XMPP stream may have refused before it is ended: each costs a judgement, and perhaps a question.
pub const REFUSALS_PER_STREAM: usize = 256;
/// How long a stream opened to have a dialback key verified may take.
pub const VERIFY_WITHIN: Duration = Duration::from_secs(10);
/// How long the peer may take to answer `</stream:stream>` (RFC 6120 §4.4).
pub const STREAM_END_WITHIN: Duration = Duration::from_secs(5);
/// White space is sent on a proven stream after this much silence of ours (RFC 6120 §4.6.1).
pub const STREAM_KEEPALIVE: Duration = Duration::from_secs(300);
/// A proven stream of a partner's on which nothing but white space came or went for this long is ended.
pub const STREAM_IDLE: Duration = Duration::from_secs(3_600);
/// Stanzas of one stream whose acknowledgement is owed to the gate (XEP-0198); beyond, the stream takes no more until some are acknowledged.
pub const UNACKED_PER_STREAM: usize = 16_384;
/// After this many stanzas an acknowledgement is asked for even if nobody waits for one, so that the count stays within what it can say.
pub const UNACKED_UNASKED: u32 = 1_024;
/// How long the peer may take to acknowledge (XEP-0198): longer than [`SETTLE_WITHIN`], which another edge may wait before it does.
pub const ACK_WITHIN: Duration = Duration::from_secs(60);
/// RFC 3261 §17.1.1.1: estimate of the round trip.
pub const T1: Duration = Duration::from_millis(500);
/// RFC 3261 §17.1.2.2: longest retransmission interval; Timer E reaches it after 3.5 s.
pub const T2: Duration = Duration::from_secs(4);
/// RFC 4320 §4.1: when a non-INVITE request without a final answer gets its 100.
pub const TRYING_AFTER: Duration = Duration::from_millis(3_500);
/// RFC 4320 §4.2: a non-INVITE request is answered before this, or not at all.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(28);
/// RFC 3261 §17.1.2.2: Timer F, 64·T1.
pub const TIMER_F: Duration = Duration::from_secs(32);

/// RFC 3261 §16.6 step 11: Timer C, how long a relayed INVITE may ring without another word; more than three minutes.
pub const TIMER_C: Duration = Duration::from_secs(200);
/// How often a relayed request that was not taken is handed on again.
pub const RELAY_TRIES: u8 = 3;
/// Requests that are relayed from SIP to SIP and await their outcome, in all.
pub const RELAYED: usize = 50_000;
/// Those that one node or partner has not answered; beyond, the senders hear `overloaded`.
pub const RELAYED_PER_HOP: usize = 5_000;
/// Those of one partner that have no final answer: fewer than a node may have, so that no partner fills it for all.
pub const RELAYED_PER_PARTNER: usize = 3_000;
/// Those of one partner in all: INVITEs are remembered for their ACK, and for what their forks say later.
pub const RELAYED_KEPT_PER_PARTNER: usize = 15_000;
/// Dialogs between SIP and SIP that are remembered, in all.
pub const RELAYED_DIALOGS: usize = 500_000;
/// How long a relayed dialog without an Expires of its own is remembered after it was last heard of.
pub const RELAYED_DIALOG_IDLE: Duration = Duration::from_secs(12 * 3600);
/// How much longer than its Expires a relayed subscription is remembered.
pub const RELAYED_DIALOG_GRACE: Duration = Duration::from_secs(60);
/// How often a SIP node is asked by OPTIONS whether it is well.
pub const NODE_ASKED_EVERY: Duration = Duration::from_secs(5);
/// Questions in a row that a SIP node leaves unanswered before new sessions go elsewhere.
pub const NODE_MISSES: u32 = 2;
/// Questions in a row that a SIP node that failed answers before it gets new sessions.
pub const NODE_PROVES: u32 = 2;
/// Longest time that a node's Retry-After keeps new sessions from it.
pub const NODE_RESTS: Duration = Duration::from_secs(60);
/// Hops beyond which those that lead nowhere are forgotten.
pub const IDLE_HOPS: usize = 4_096;
/// Addresses of one partner that others are tried before.
pub const RESTING_ADDRESSES: usize = 16;
/// How long a connection that another has taken the place of stays for what is under way on it, before that is looked at again.
pub const LINK_LINGERS: Duration = Duration::from_secs(40);
/// How long others are tried before an address that said 503 without Retry-After, or nothing at all.
pub const ADDRESS_RESTS: Duration = Duration::from_secs(30);
/// Longest pause before a SIP node that could not be reached is tried again: sooner than others, as it is asked whether it is well.
pub const NODE_BACKOFF: Duration = Duration::from_secs(4);
/// Parcels that wait for one hop's connection.
pub const HOP_QUEUE: usize = 1_000;
/// Their bytes: what waits for one hop leaves room for the others.
pub const HOP_QUEUE_BYTES: usize = 16 * 1024 * 1024;
/// The bytes of all such queues: whoever may name many domains has many of them. The first parcel for a connection is always taken.
pub const HOPS_QUEUE_BYTES: usize = 256 * 1024 * 1024;
/// Longest pause before a hop that could not be reached is tried again.
pub const HOP_BACKOFF: Duration = Duration::from_secs(60);
/// Longest pause before an XMPP partner's server that could not be reached is tried again.
pub const PARTNER_BACKOFF: Duration = Duration::from_secs(240);
/// How long who answers no pings, though it is there, is not asked again.
pub const PING_RESTS: Duration = Duration::from_secs(3600);
/// For how many pairs of domains that is remembered.
pub const PINGS_RESTING: usize = 10_000;
/// The longest id of a stanza that is remembered, for the error that may have to be said of it, in bytes.
pub const STANZA_ID_BYTES: usize = 1_024;
/// How long a component stream that is no longer wanted stays for the errors of what was under way: longer than any request may take.
pub const COMPONENT_LINGERS: Duration = Duration::from_secs(40);
/// Messages whose outcome is owed, of one pair of domains.
pub const AWAITING_PER_PAIR: usize = 2_000;
/// Messages that wait for one SIP destination.
pub const PAGES_PER_DESTINATION: usize = 64;
/// Messages on their way to SIP in all.
pub const PAGES: usize = 20_000;
/// How often an error is handed over again before its message counts as unresolved.
pub const BOUNCE_TRIES: u32 = 12;
/// First pause before an error is handed over again; grows with each try.
pub const BOUNCE_AGAIN: Duration = Duration::from_secs(5);
/// Live subscriptions in all.
pub const SUBSCRIPTIONS: usize = 500_000;
/// Dialogs of one watcher with one presentity.
pub const DIALOGS_PER_WATCH: usize = 16;
/// Resources of one presentity.
pub const RESOURCES_PER_WATCH: usize = 32;
/// What one dialog may remember of its headers, in bytes.
pub const DIALOG_BYTES: usize = 8_192;
/// Record-Route values of one dialog.
pub const ROUTES: usize = 16;
/// CSeq numbers that one kept record covers.
pub const CSEQ_BLOCK: u32 = 64;
/// Presence fetches under way.
pub const FETCHES: usize = 10_000;
/// How long a fetch waits for the first presence. RFC 6665 wants its NOTIFY soon.
pub const FETCH_WAITS: Duration = Duration::from_secs(5);
/// How long it waits for further resources after the first.
pub const FETCH_GATHERS: Duration = Duration::from_millis(300);
/// First pause before a presentity's server is asked again; doubles.
pub const ASK_AGAIN_FIRST: Duration = Duration::from_secs(5);
/// Longest such pause.
pub const ASK_AGAIN: Duration = Duration::from_secs(300);
/// First pause before a contact is subscribed to again; doubles.
pub const CONTACT_AGAIN_FIRST: Duration = Duration::from_secs(30);
/// Longest such pause of our own.
pub const CONTACT_AGAIN: Duration = Duration::from_secs(900);
/// Longest pause that a partner's retry-after is granted.
pub const CONTACT_AGAIN_MOST: Duration = Duration::from_secs(86_400);
/// For how long a contact is refreshed after its watcher's server last spoke for the watcher.
pub const CONTACT_REFRESHED_FOR: Duration = Duration::from_secs(3 * 86_400);
/// However short a contact's subscription is granted, it is not refreshed before this.
pub const CONTACT_REFRESH_LEAST: Duration = Duration::from_secs(10);
/// For how long word that `unsubscribed` did not reach the node is awaited, and it is said again.
pub const CONTACT_OVER: Duration = Duration::from_secs(120);
/// Longest Expires that is taken at its word.
pub const EXPIRES_MOST: Duration = Duration::from_secs(86_400);
/// How long after a restart, jittered to twice that, every presentity's server is asked.
pub const ASK_AFTER_RESTART: Duration = Duration::from_secs(5);
/// How long after a node's stream was lost, jittered to twice that, its users are probed.
pub const PROBE_AFTER_NODE_LOSS: Duration = Duration::from_secs(10);
/// First pause before a NOTIFY that could not be sent is sent again; doubles.
pub const NOTIFY_AGAIN_FIRST: Duration = Duration::from_secs(5);
/// Longest such pause.
pub const NOTIFY_AGAIN: Duration = Duration::from_secs(300);
/// How often the last NOTIFY of a subscription is tried.
pub const LAST_NOTIFY_TRIES: u32 = 4;
/// Places of a table that one turn of a round looks at: after a reload, after the loss of a node's stream, at the end.
pub const ROUND_SLICE: u32 = 100;
/// Between two such turns: what else waits comes first.
pub const ROUND_PAUSE: Duration = Duration::from_millis(1);
/// How long draining may take.
pub const DRAIN: Duration = Duration::from_secs(8);
/// After a trouble of the store as long as this, every node is told and asked again: what waits longer than a transaction lasts is given up.
pub const STORE_TROUBLE_LONG: Duration = Duration::from_secs(16);
/// Distinct targets of one partner's hour that are kept over a restart; beyond, they are counted in this run alone.
pub const KEPT_TARGETS: usize = 1_000;
/// Requests of one link that we owe an answer.
pub const OPEN_REQUESTS: usize = 20_000;
/// Pairs whose first allow was told to the operator, remembered for one policy version.
pub const ALLOWS_TOLD: usize = 100_000;
/// Pairs of whom the operator was told that something between them was dropped; beyond, it is told anew.
pub const DROPS_TOLD: usize = 20_000;
/// The longest error of another server's that is kept until its recipient's server takes it, in bytes; of a longer one its kind alone is.
pub const ERROR_BYTES: usize = 8_192;
/// IM sessions in all.
pub const CHATS: usize = 50_000;
/// IM sessions of one partner: no partner fills the table for all.
pub const CHATS_PER_PARTNER: u32 = 20_000;
/// Messages that wait in one IM session.
pub const LINES_PER_CHAT: usize = 64;
/// Messages that wait in IM sessions in all.
pub const LINES: usize = 20_000;
/// Their texts, in bytes.
pub const LINE_BYTES: usize = 256 * 1024 * 1024;
/// RFC 3261 §17.1.1.2: Timer B, 64·T1; also how long a 2xx is sent again without ACK (§13.3.1.4) and may be late (RFC 6026 §7.2).
pub const TIMER_B: Duration = Duration::from_secs(32);
/// How long the far side may ring before an INVITE of ours is cancelled (RFC 3261 §9.1).
pub const INVITE_RINGS: Duration = Duration::from_secs(120);
/// INVITEs of ours that are remembered for late answers.
pub const INVITES: usize = 100_000;
/// Forked answers to one INVITE that are ended one by one.
pub const FORKS: usize = 16;
/// How long a partner whose users take no sessions gets each message for itself, and for how many that is remembered.
pub const NO_SESSION: Duration = Duration::from_secs(24 * 3600);
/// See [`NO_SESSION`].
pub const NO_SESSIONS: usize = 10_000;
/// Types that a session's offer may name; further ones are not read.
pub const ACCEPT_TYPES: usize = 64;
/// RFC 3994 §3.2 and §4: how often at most `active` is said again, and how long it counts when its document doesn't say.
pub const TYPING_REFRESH: Duration = Duration::from_secs(60);
/// See [`TYPING_REFRESH`].
pub const TYPING_COUNTS: Duration = Duration::from_secs(120);
/// Sessions decided again in one turn after a reload.
pub const CHAT_SLICE: usize = 500;
/// Parts of a multipart body that are looked at.
pub const BODY_PARTS: usize = 16;
/// The longest URI or Call-ID that is masked for a partner.
pub const MASKED_BYTES: usize = 1_024;
/// Contact values of one row that crosses the border.
pub const CONTACTS: usize = 32;
/// Multipart bodies in one another that are looked into.
pub const BODY_DEPTH: usize = 4;
/// Domains one link may claim. No fewer than one accepted XMPP stream may have proven: each costs a path validation, once.
pub const CLAIMS_PER_LINK: usize = PAIRS_PER_STREAM;
/// Connections of all strangers; those of each are bounded by `[stranger] limits`, but domains cost nothing.
pub const STRANGER_LINKS: usize = 1_024;

/// Bounds that the configuration sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Start line and headers.
    pub sip_head_bytes: usize,
    /// One stanza, after proof.
    pub stanza_bytes: usize,
    /// TLS handshake.
    pub handshake: Duration,
    /// From accept to proven.
    pub negotiation: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sip_head_bytes: SIP_HEAD_BYTES,
            stanza_bytes: STANZA_BYTES,
            handshake: Duration::from_secs(10),
            negotiation: Duration::from_secs(30),
        }
    }
}

/// Conversations with partners of one `direction` that are remembered, so that they can be answered.
pub const TALKS: usize = 50_000;
/// How long a full table of them is not looked through again.
pub const TALKS_LOOKED_AT: Duration = Duration::from_secs(1);
