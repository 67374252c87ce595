//! What a contact's availability in one system looks like in another: the twelve tables of the interdomain federation guide, as data.
//!
//! A row names what the contact shows, a cell what the receiving user sees. Reading and writing both go through [`WIRE_XMPP`] and
//! [`WIRE_SIP`], so a cell is read back as what it was written as; what then comes back through the other direction's table is said in the
//! cell, wherever it is not the row's own look ([`Cell::back`]).

use crate::gate::partner::Profile;

/// Whose words a look is in: a column or the source of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum System {
    /// A standard XMPP client.
    Xmpp,
    /// Cisco Jabber on an internal node.
    Jabber,
    /// Microsoft Lync.
    Lync,
    /// Microsoft Office Communications Server.
    Ocs,
    /// AOL Instant Messenger.
    Aim,
    /// IBM Sametime.
    Sametime,
    /// WebEx Connect.
    Webex,
}

/// An availability, of any system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum State {
    Available,
    Busy,
    DoNotDisturb,
    BeRightBack,
    Away,
    ExtendedAway,
    Idle,
    Invisible,
    Offline,
}

/// An availability and the text that the system itself shows beside it ("away: Busy").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// The icon.
    pub state: State,
    /// The text.
    pub text: Option<&'static str>,
}

/// What one receiving system makes of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cell {
    /// The receiving system.
    pub system: System,
    /// What its user sees.
    pub look: Look,
    /// Whether the guide says that the contact's own status text comes along. It does so everywhere (RFC 8048 §6.2).
    pub own_status: bool,
    /// Declared loss: what comes back when the look is carried to where it came from; `None` = the row's own look.
    pub back: Option<Look>,
    /// Not in the guide: ours, for what its tables leave out.
    pub beyond: bool,
}

/// One thing that a contact shows.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// In the contact's system.
    pub shown: Look,
    /// In others.
    pub cells: &'static [Cell],
}

/// One table of the guide.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its number there.
    pub number: u8,
    /// The contact's system.
    pub from: System,
    /// Its rows, and ours beyond them.
    pub rows: &'static [Row],
}

/// How a look is written in a presence stanza.
#[derive(Clone, Copy, Debug)]
pub struct XmppWire {
    /// The look.
    pub state: State,
    /// Whether `type='unavailable'` is absent.
    pub available: bool,
    /// `<show/>`.
    pub show: Option<&'static str>,
    /// `<status/>`, for a look that standard XMPP has no word for.
    pub status: Option<&'static str>,
    /// XEP-0319.
    pub idle: bool,
}

/// How a look is written in a presence document.
#[derive(Clone, Copy, Debug)]
pub struct SipWire {
    /// The look.
    pub state: State,
    /// `<basic/>`.
    pub open: bool,
    /// The activity.
    pub activity: Option<&'static str>,
    /// The note that tells it from another look of the same activity.
    pub note: Option<&'static str>,
    /// COMPAT(lync): Microsoft's number for it; the lower, the more available.
    pub availability: u16,
}

impl Look {
    /// With text beside it.
    pub const fn saying(self, text: &'static str) -> Self {
        Self { text: Some(text), ..self }
    }
    /// Without.
    pub const fn silent(self) -> Self {
        Self { text: None, ..self }
    }
}

impl Cell {
    const fn back_as(self, look: Look) -> Self {
        Self { back: Some(look), ..self }
    }
    const fn with_status(self) -> Self {
        Self { own_status: true, ..self }
    }
    const fn beyond(self) -> Self {
        Self { beyond: true, ..self }
    }
}

const fn look(state: State) -> Look {
    Look { state, text: None }
}
const fn row(shown: Look, cells: &'static [Cell]) -> Row {
    Row { shown, cells }
}
const fn to(system: System, look: Look) -> Cell {
    Cell { system, look, own_status: false, back: None, beyond: false }
}

/// Sametime's and WebEx's text.
pub const MEETING: &str = "In a meeting";
const AVAILABLE: Look = look(State::Available);
const BUSY: Look = look(State::Busy);
const DND: Look = look(State::DoNotDisturb);
const BRB: Look = look(State::BeRightBack);
const AWAY: Look = look(State::Away);
const XA: Look = look(State::ExtendedAway);
const IDLE: Look = look(State::Idle);
const INVISIBLE: Look = look(State::Invisible);
const OFFLINE: Look = look(State::Offline);

use System::{Aim, Jabber, Lync, Ocs, Sametime, Webex, Xmpp};

/// Tables 1 and 4.
const FROM_MICROSOFT: &[Row] = &[
    row(AVAILABLE, &[to(Xmpp, AVAILABLE), to(Jabber, AVAILABLE)]),
    row(BUSY, &[to(Xmpp, AWAY.saying("Busy")).back_as(AWAY), to(Jabber, BUSY)]),
    row(DND, &[to(Xmpp, AWAY.saying("Busy")).back_as(AWAY), to(Jabber, BUSY).back_as(BUSY)]),
    row(BRB, &[to(Xmpp, AWAY).back_as(AWAY), to(Jabber, AWAY).back_as(AWAY)]),
    row(AWAY, &[to(Xmpp, AWAY), to(Jabber, AWAY)]),
    row(OFFLINE, &[to(Xmpp, OFFLINE), to(Jabber, OFFLINE)]),
    // RFC 4480 holiday, vacation, permanent-absence, which Microsoft's clients never say.
    row(XA, &[to(Xmpp, XA).back_as(AWAY).beyond(), to(Jabber, AWAY).back_as(AWAY).beyond()]),
];

/// Tables 2 and 5; 3 and 6: the same rows, each with the column of its own system.
macro_rules! to_microsoft {
    (from jabber, $system:expr) => {
        &[
            row(AVAILABLE, &[to($system, AVAILABLE)]),
            row(BUSY, &[to($system, BUSY)]),
            row(DND, &[to($system, BUSY).back_as(BUSY)]),
            row(OFFLINE, &[to($system, OFFLINE)]),
            row(AWAY, &[to($system, AWAY).beyond()]),
            row(XA, &[to($system, AWAY).back_as(AWAY).beyond()]),
            row(IDLE, &[to($system, AWAY.saying("Idle")).beyond()]),
        ]
    };
    (from xmpp, $system:expr) => {
        &[
            row(AVAILABLE, &[to($system, AVAILABLE)]),
            row(AWAY, &[to($system, AWAY)]),
            row(XA, &[to($system, AWAY).back_as(AWAY)]),
            row(DND, &[to($system, BUSY).back_as(AWAY.saying("Busy"))]),
            row(OFFLINE, &[to($system, OFFLINE)]),
            row(AWAY.saying("Idle"), &[to($system, AWAY.saying("Idle")).beyond()]),
        ]
    };
}

/// The guide's tables, and after them what it leaves out.
pub const TABLES: &[Table] = &[
    Table { number: 1, from: Ocs, rows: FROM_MICROSOFT },
    Table { number: 2, from: Jabber, rows: to_microsoft!(from jabber, Ocs) },
    Table { number: 3, from: Xmpp, rows: to_microsoft!(from xmpp, Ocs) },
    Table { number: 4, from: Lync, rows: FROM_MICROSOFT },
    Table { number: 5, from: Jabber, rows: to_microsoft!(from jabber, Lync) },
    Table { number: 6, from: Xmpp, rows: to_microsoft!(from xmpp, Lync) },
    Table {
        number: 7,
        from: Aim,
        rows: &[
            row(AVAILABLE, &[to(Jabber, AVAILABLE), to(Xmpp, AVAILABLE).beyond()]),
            row(AWAY, &[to(Jabber, AWAY), to(Xmpp, AWAY).beyond()]),
            row(INVISIBLE, &[to(Jabber, OFFLINE).back_as(OFFLINE), to(Xmpp, OFFLINE).back_as(OFFLINE).beyond()]),
            row(OFFLINE, &[to(Jabber, OFFLINE), to(Xmpp, OFFLINE).beyond()]),
        ],
    },
    Table {
        number: 8,
        from: Jabber,
        rows: &[
            row(AVAILABLE, &[to(Aim, AVAILABLE)]),
            row(DND, &[to(Aim, AWAY).back_as(AWAY)]),
            row(BUSY, &[to(Aim, AWAY).back_as(AWAY)]),
            row(IDLE, &[to(Aim, AWAY).back_as(AWAY)]),
            row(OFFLINE, &[to(Aim, OFFLINE)]),
            row(AWAY, &[to(Aim, AWAY).beyond()]),
            row(XA, &[to(Aim, AWAY).back_as(AWAY).beyond()]),
        ],
    },
    Table {
        number: 9,
        from: Sametime,
        rows: &[
            row(AVAILABLE, &[to(Xmpp, AVAILABLE), to(Jabber, AVAILABLE).with_status()]),
            row(DND, &[to(Xmpp, DND), to(Jabber, DND).with_status()]),
            row(AVAILABLE.saying(MEETING), &[to(Xmpp, AVAILABLE.saying(MEETING)), to(Jabber, AVAILABLE).with_status()]),
            row(AWAY, &[to(Xmpp, AWAY), to(Jabber, AWAY).with_status()]),
            row(OFFLINE, &[to(Xmpp, OFFLINE), to(Jabber, OFFLINE)]),
        ],
    },
    Table {
        number: 10,
        from: Webex,
        rows: &[
            row(AVAILABLE, &[to(Xmpp, AVAILABLE), to(Jabber, AVAILABLE)]),
            row(DND, &[to(Xmpp, DND), to(Jabber, DND)]),
            row(
                AWAY.saying(MEETING),
                &[
                    to(Xmpp, AVAILABLE.saying(MEETING)).back_as(AVAILABLE.saying(MEETING)),
                    to(Jabber, AWAY.saying(MEETING)),
                ],
            ),
            row(AWAY, &[to(Xmpp, AWAY), to(Jabber, AWAY)]),
            row(OFFLINE, &[to(Xmpp, OFFLINE), to(Jabber, OFFLINE)]),
        ],
    },
    Table {
        number: 11,
        from: Jabber,
        rows: &[
            row(
                AVAILABLE,
                &[to(Jabber, AVAILABLE), to(Xmpp, AVAILABLE), to(Webex, AVAILABLE), to(Sametime, AVAILABLE)],
            ),
            row(DND, &[to(Jabber, DND), to(Xmpp, DND), to(Webex, DND), to(Sametime, DND)]),
            row(
                BUSY,
                &[
                    to(Jabber, BUSY),
                    to(Xmpp, AWAY).back_as(AWAY),
                    to(Webex, IDLE).back_as(IDLE),
                    to(Sametime, AWAY).back_as(AWAY),
                ],
            ),
            row(IDLE, &[to(Jabber, IDLE), to(Xmpp, IDLE), to(Webex, IDLE), to(Sametime, IDLE)]),
            row(OFFLINE, &[to(Jabber, OFFLINE), to(Xmpp, OFFLINE), to(Webex, OFFLINE), to(Sametime, OFFLINE)]),
        ],
    },
    Table {
        number: 12,
        from: Xmpp,
        rows: &[
            row(
                AVAILABLE,
                &[to(Jabber, AVAILABLE), to(Xmpp, AVAILABLE), to(Webex, AVAILABLE), to(Sametime, AVAILABLE)],
            ),
            row(DND, &[to(Jabber, DND), to(Xmpp, DND), to(Webex, DND), to(Sametime, DND)]),
            row(AWAY, &[to(Jabber, AWAY), to(Xmpp, AWAY), to(Webex, AWAY), to(Sametime, AWAY)]),
            row(XA, &[to(Jabber, AWAY).back_as(AWAY), to(Xmpp, XA), to(Webex, XA), to(Sametime, AWAY).back_as(AWAY)]),
            row(
                AWAY.saying("Idle"),
                &[
                    to(Jabber, IDLE),
                    to(Xmpp, AWAY.saying("Idle")),
                    to(Webex, AWAY.saying("Idle")),
                    to(Sametime, AWAY.saying("Idle")),
                ],
            ),
            row(OFFLINE, &[to(Jabber, OFFLINE), to(Xmpp, OFFLINE), to(Webex, OFFLINE), to(Sametime, OFFLINE)]),
        ],
    },
    // A generic XMPP user seen by AIM: table 8, with away and xa as Away.
    Table {
        number: 8,
        from: Xmpp,
        rows: &[
            row(AVAILABLE, &[to(Aim, AVAILABLE).beyond()]),
            row(DND, &[to(Aim, AWAY).back_as(AWAY).beyond()]),
            row(AWAY, &[to(Aim, AWAY).beyond()]),
            row(XA, &[to(Aim, AWAY).back_as(AWAY).beyond()]),
            row(AWAY.saying("Idle"), &[to(Aim, AWAY).back_as(AWAY).beyond()]),
            row(OFFLINE, &[to(Aim, OFFLINE).beyond()]),
        ],
    },
];

/// Every look in XMPP.
pub const WIRE_XMPP: &[XmppWire] = &[
    XmppWire { state: State::Available, available: true, show: None, status: None, idle: false },
    XmppWire { state: State::Away, available: true, show: Some("away"), status: None, idle: false },
    XmppWire { state: State::ExtendedAway, available: true, show: Some("xa"), status: None, idle: false },
    XmppWire { state: State::DoNotDisturb, available: true, show: Some("dnd"), status: None, idle: false },
    XmppWire { state: State::Busy, available: true, show: Some("away"), status: Some("Busy"), idle: false },
    XmppWire { state: State::Idle, available: true, show: Some("away"), status: Some("Idle"), idle: true },
    XmppWire { state: State::Offline, available: false, show: None, status: None, idle: false },
];

/// Every look in SIP. The numbers are those that Microsoft publishes.
pub const WIRE_SIP: &[SipWire] = &[
    SipWire { state: State::Available, open: true, activity: None, note: None, availability: 3500 },
    SipWire { state: State::Busy, open: true, activity: Some("busy"), note: None, availability: 6500 },
    SipWire {
        state: State::DoNotDisturb,
        open: true,
        activity: Some("busy"),
        note: Some("Do Not Disturb"),
        availability: 9500,
    },
    SipWire {
        state: State::BeRightBack,
        open: true,
        activity: Some("away"),
        note: Some("Be Right Back"),
        availability: 12_500,
    },
    SipWire { state: State::Away, open: true, activity: Some("away"), note: None, availability: 15_500 },
    SipWire { state: State::ExtendedAway, open: true, activity: Some("vacation"), note: None, availability: 15_600 },
    SipWire { state: State::Offline, open: false, activity: None, note: None, availability: 18_500 },
    SipWire { state: State::Invisible, open: false, activity: None, note: None, availability: 18_500 },
];

/// Activities that partners send, by the look they are read as; of several, the look that stands first here. Others say nothing of
/// availability. RFC 4480 §3.2 and the tokens of [MS-PRES].
pub const WORDS: &[(State, &[&str])] = &[
    (State::DoNotDisturb, &["do-not-disturb", "dnd", "urgent-interruptions-only", "in-presentation"]),
    (
        State::Busy,
        &[
            "busy",
            "on-the-phone",
            "in-a-meeting",
            "in-a-conference",
            "meeting",
            "appointment",
            "presentation",
            "performance",
            "steering",
            "in-a-call",
            "on-phone",
        ],
    ),
    (State::BeRightBack, &["be-right-back", "brb"]),
    (State::ExtendedAway, &["holiday", "vacation", "permanent-absence"]),
    (
        State::Away,
        &[
            "away",
            "idle",
            "out-to-lunch",
            "out-of-office",
            "breakfast",
            "lunch",
            "dinner",
            "meal",
            "in-transit",
            "travel",
            "sleeping",
            "shopping",
            "worship",
            "off-work",
            "inactive",
        ],
    ),
];

impl System {
    /// The system of an XMPP node's or partner's users.
    pub fn of_xmpp(profile: Profile) -> Self {
        match profile {
            Profile::Jabber => Jabber,
            Profile::Sametime => Sametime,
            Profile::Webex => Webex,
            Profile::Generic | Profile::GoogleTalk | Profile::Ocs | Profile::Lync | Profile::Aol => Xmpp,
        }
    }
    /// The system of a SIP partner's users. A generic one reads and writes like Lync, with RFC 4480 activities.
    pub fn of_sip(profile: Profile) -> Self {
        match profile {
            Profile::Ocs => Ocs,
            Profile::Aol => Aim,
            _ => Lync,
        }
    }
}

/// What users of `to` see of a contact of `from`. `None`: no table speaks of it.
pub fn cell(from: System, shown: Look, to: System) -> Option<&'static Cell> {
    TABLES
        .iter()
        .filter(|table| table.from == from)
        .flat_map(|table| table.rows)
        .filter(|row| row.shown == shown)
        .flat_map(|row| row.cells)
        .find(|cell| cell.system == to)
}

/// How XMPP writes a look.
pub fn xmpp_wire(state: State) -> &'static XmppWire {
    WIRE_XMPP.iter().find(|wire| wire.state == state).unwrap_or(&WIRE_XMPP[0])
}

/// How SIP writes a look.
pub fn sip_wire(state: State) -> &'static SipWire {
    WIRE_SIP.iter().find(|wire| wire.state == state).unwrap_or(&WIRE_SIP[0])
}
