//! Header names we look at, and values with a grammar of their own.
//!
//! The grammars are ours: `rsip`'s typed Via drops every value of a row but the first and its Subscription-State never parses.

use super::message::Fault;
use super::params::{self, LWS, Split};
use super::plain;
use super::uri::{Host, parse_hostport};
use std::net::IpAddr;

/// A header field name (RFC 3261 §7.3; compact forms §7.3.3). One variant for each header fedgate reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Name {
    Accept,
    AlertInfo,
    Allow,
    AllowEvents,
    AuthenticationInfo,
    CallId,
    CallInfo,
    Contact,
    ContentEncoding,
    ContentLanguage,
    ContentLength,
    ContentType,
    CSeq,
    Date,
    Diversion,
    ErrorInfo,
    Event,
    Expires,
    From,
    HistoryInfo,
    InReplyTo,
    Join,
    MaxForwards,
    MinExpires,
    MsClientDiagnostics,
    MsDiagnostics,
    MsDiagnosticsPublic,
    MsEdgeProxyMessageTrust,
    MsSplitDomainInfo,
    MsUserData,
    Path,
    PPreferredIdentity,
    ProxyAuthenticationInfo,
    ProxyAuthorization,
    ProxyRequire,
    RecordRoute,
    ReferTo,
    ReferredBy,
    Replaces,
    ReplyTo,
    Require,
    RetryAfter,
    Route,
    Server,
    ServiceRoute,
    Subject,
    SubscriptionState,
    Supported,
    TargetDialog,
    To,
    Unsupported,
    UserAgent,
    Via,
    Warning,
    PAssertedIdentity,
    Other,
}

/// Name, long form, compact form; by the long form's length.
const NAMES: [(Name, &str, &str); 55] = [
    (Name::To, "To", "t"),
    (Name::Via, "Via", "v"),
    (Name::CSeq, "CSeq", ""),
    (Name::Date, "Date", ""),
    (Name::From, "From", "f"),
    (Name::Join, "Join", ""),
    (Name::Path, "Path", ""),
    (Name::Allow, "Allow", ""),
    (Name::Event, "Event", "o"),
    (Name::Route, "Route", ""),
    (Name::Accept, "Accept", ""),
    (Name::Server, "Server", ""),
    (Name::CallId, "Call-ID", "i"),
    (Name::Contact, "Contact", "m"),
    (Name::Expires, "Expires", ""),
    (Name::Require, "Require", ""),
    (Name::Subject, "Subject", "s"),
    (Name::Warning, "Warning", ""),
    (Name::ReferTo, "Refer-To", "r"),
    (Name::Replaces, "Replaces", ""),
    (Name::ReplyTo, "Reply-To", ""),
    (Name::CallInfo, "Call-Info", ""),
    (Name::Diversion, "Diversion", ""),
    (Name::Supported, "Supported", "k"),
    (Name::AlertInfo, "Alert-Info", ""),
    (Name::ErrorInfo, "Error-Info", ""),
    (Name::UserAgent, "User-Agent", ""),
    (Name::InReplyTo, "In-Reply-To", ""),
    (Name::MinExpires, "Min-Expires", ""),
    (Name::ReferredBy, "Referred-By", "b"),
    (Name::RetryAfter, "Retry-After", ""),
    (Name::Unsupported, "Unsupported", ""),
    (Name::AllowEvents, "Allow-Events", "u"),
    (Name::ContentType, "Content-Type", "c"),
    (Name::HistoryInfo, "History-Info", ""),
    (Name::MaxForwards, "Max-Forwards", ""),
    (Name::MsUserData, "ms-user-data", ""),
    (Name::RecordRoute, "Record-Route", ""),
    (Name::ProxyRequire, "Proxy-Require", ""),
    (Name::ServiceRoute, "Service-Route", ""),
    (Name::TargetDialog, "Target-Dialog", ""),
    (Name::ContentLength, "Content-Length", "l"),
    (Name::MsDiagnostics, "ms-diagnostics", ""),
    (Name::ContentEncoding, "Content-Encoding", "e"),
    (Name::ContentLanguage, "Content-Language", ""),
    (Name::SubscriptionState, "Subscription-State", ""),
    (Name::AuthenticationInfo, "Authentication-Info", ""),
    (Name::PAssertedIdentity, "P-Asserted-Identity", ""),
    (Name::ProxyAuthorization, "Proxy-Authorization", ""),
    (Name::MsSplitDomainInfo, "ms-split-domain-info", ""),
    (Name::PPreferredIdentity, "P-Preferred-Identity", ""),
    (Name::MsClientDiagnostics, "ms-client-diagnostics", ""),
    (Name::MsDiagnosticsPublic, "ms-diagnostics-public", ""),
    (Name::ProxyAuthenticationInfo, "Proxy-Authentication-Info", ""),
    (Name::MsEdgeProxyMessageTrust, "ms-edge-proxy-message-trust", ""),
];

/// By [`place`]: which of [`NAMES`] has it, counted from 1; 0: none.
const PLACES: [u8; 128] = {
    let mut places = [0; 128];
    let mut at = 0;
    while at < NAMES.len() {
        let place = place(NAMES[at].1.as_bytes());
        // The numbers of `place` were looked for until no two names had the same.
        assert!(places[place] == 0);
        places[place] = at as u8 + 1;
        at += 1;
    }
    places
};

/// Where in [`PLACES`] a name would be, in whatever case: by its length and three of its letters.
const fn place(text: &[u8]) -> usize {
    let [first, .., last] = text else { return 0 };
    let middle = text[text.len() / 2];
    let letters = (*first | 32) as usize * 77 + (middle | 32) as usize * 123 + (*last | 32) as usize * 111;
    (letters + text.len() * 23) % 128
}

/// By the number of a name: its long form.
const LONG: [&str; Name::Other as usize + 1] = {
    let mut long = [""; Name::Other as usize + 1];
    let mut at = 0;
    while at < NAMES.len() {
        long[NAMES[at].0 as usize] = NAMES[at].1;
        at += 1;
    }
    long
};

/// Compact forms of headers we have no [`Name`] for (the registry's list), for [`same`].
const OTHER_COMPACT: [(&str, &str); 6] = [
    ("Accept-Contact", "a"),
    ("Identity", "y"),
    ("Reject-Contact", "j"),
    ("Request-Disposition", "d"),
    ("Session-Expires", "x"),
    ("Identity-Info", "n"),
];

impl Name {
    /// The name of a row; long or compact, case-insensitive.
    pub fn parse(text: &str) -> Self {
        Self::of(text.as_bytes())
    }

    /// As [`parse`](Self::parse).
    pub(super) fn of(text: &[u8]) -> Self {
        // Every row of every message comes by: only one name is looked at.
        if let [letter] = text {
            return match letter.to_ascii_lowercase() {
                b'b' => Name::ReferredBy,
                b'c' => Name::ContentType,
                b'e' => Name::ContentEncoding,
                b'f' => Name::From,
                b'i' => Name::CallId,
                b'k' => Name::Supported,
                b'l' => Name::ContentLength,
                b'm' => Name::Contact,
                b'o' => Name::Event,
                b'r' => Name::ReferTo,
                b's' => Name::Subject,
                b't' => Name::To,
                b'u' => Name::AllowEvents,
                b'v' => Name::Via,
                _ => Name::Other,
            };
        }
        let Some((name, long, _)) = usize::from(PLACES[place(text)]).checked_sub(1).and_then(|at| NAMES.get(at)) else {
            return Name::Other;
        };
        let is_it = long.as_bytes() == text || long.as_bytes().eq_ignore_ascii_case(text);
        if is_it { *name } else { Name::Other }
    }

    /// The long form; empty for [`Name::Other`].
    pub fn as_str(self) -> &'static str {
        LONG[self as usize]
    }
}

/// Whether two names we have no [`Name`] for mean the same header, one of them perhaps in its compact form.
pub(super) fn same(one: &str, other: &str) -> bool {
    fn long(text: &str) -> &str {
        OTHER_COMPACT.iter().find(|(_, compact)| compact.eq_ignore_ascii_case(text)).map_or(text, |(long, _)| long)
    }
    long(one).eq_ignore_ascii_case(long(other))
}

/// delta-seconds of Expires and Min-Expires (RFC 3261 §20.19). `None` if it isn't a number; one beyond 2^32-1, the largest that may be
/// written, comes as 2^32-1.
pub fn delta_seconds(text: &str) -> Option<u32> {
    Some(params::digits(text.trim_matches(LWS))?.parse().unwrap_or(u32::MAX))
}

/// Retry-After: the seconds before a comment or parameter (RFC 3261 §20.33).
pub fn retry_after(text: &str) -> Option<u32> {
    let text = text.trim_matches(LWS);
    delta_seconds(text.split([' ', '\t', '(', ';']).next().unwrap_or(text))
}

/// A parsed media type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType<'a> {
    /// `text/plain`, lower case.
    pub essence: String,
    /// Parameters as written.
    pub params: &'a str,
}

impl<'a> MediaType<'a> {
    /// Parses a Content-Type or one Accept value.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (kind, subtype, params) = Self::split(text)?;
        Some(Self { essence: format!("{kind}/{subtype}").to_ascii_lowercase(), params })
    }
    /// Whether a text is one.
    pub fn is_one(text: &str) -> bool {
        let bytes = text.as_bytes();
        let kind = params::run(bytes, params::TOKEN);
        let end = params::run_from(bytes, kind + 1, params::TOKEN);
        let is_plain = kind > 0 && bytes.get(kind) == Some(&b'/') && end > kind + 1 && end == bytes.len();
        is_plain || MediaType::split(text).is_some()
    }
    /// Type, subtype, parameters.
    fn split(text: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
        let text = params::trim(text);
        let (essence, params) = params::cut(text, b';').unwrap_or((text, ""));
        let params = params::trim(params);
        let (kind, subtype) = params::cut(essence, b'/')?;
        let (kind, subtype) = (params::trim(kind), params::trim(subtype));
        let ok = params::is_token(kind) && params::is_token(subtype) && params::are_well_formed(params, true);
        let dangling = text.ends_with(';');
        (ok && !dangling).then_some((kind, subtype, params))
    }
    /// A parameter's value, unquoted.
    pub fn param(&self, name: &str) -> Option<&'a str> {
        params::find(self.params, name)
    }
}

/// Whether Accept values admit a media type (RFC 3261 §20.1): the most specific range that names it decides, and `q=0` forbids.
/// No values at all: the caller knows its default (RFC 3856 §6.7: PIDF for presence).
pub fn accepts<'a>(values: impl Iterator<Item = &'a str>, essence: &str) -> bool {
    let kind = essence.split('/').next().unwrap_or_default();
    let mut best: Option<(u8, bool)> = None;
    for range in values.filter_map(MediaType::parse) {
        let specific = match range.essence.as_str() {
            whole if whole.eq_ignore_ascii_case(essence) => 2,
            "*/*" => 0,
            some => match some.strip_suffix("/*") {
                Some(of) if of.eq_ignore_ascii_case(kind) => 1,
                _ => continue,
            },
        };
        let wanted = !range.param("q").is_some_and(is_zero);
        match &mut best {
            Some((known, _)) if *known > specific => {}
            // Of two equal ranges, any that wants it does: parameters other than q may tell them apart.
            Some((known, verdict)) if *known == specific => *verdict |= wanted,
            _ => best = Some((specific, wanted)),
        }
    }
    best.is_some_and(|(_, wanted)| wanted)
}

/// `0`, `0.`, `0.000` (RFC 3261 §25.1 qvalue).
fn is_zero(q: &str) -> bool {
    q.starts_with('0') && q.bytes().all(|byte| byte == b'0' || byte == b'.')
}

/// A Subscription-State value (RFC 6665 §8.2.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionState {
    /// active, pending, terminated, or an extension, lower case.
    pub state: String,
    /// The reason, lower case.
    pub reason: Option<String>,
    /// Seconds.
    pub expires: Option<u32>,
    /// Seconds.
    pub retry_after: Option<u32>,
}

impl SubscriptionState {
    /// Parses the header's value.
    pub fn parse(text: &str) -> Option<Self> {
        let (state, params) = token_and_params(text)?;
        Some(Self {
            state: state.to_ascii_lowercase(),
            reason: params::find(params, "reason").map(str::to_ascii_lowercase),
            expires: params::find(params, "expires").and_then(delta_seconds),
            retry_after: params::find(params, "retry-after").and_then(delta_seconds),
        })
    }
}

/// An Event value (RFC 6665 §8.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The package with its templates, as written: `presence`, `presence.winfo`. Packages compare case-sensitively (RFC 6665 §8.2.1).
    pub package: &'a str,
    /// The `id` parameter, which tells subscriptions of one dialog apart.
    pub id: Option<&'a str>,
    /// Parameters as written, without the leading `;`.
    pub params: &'a str,
}

impl<'a> Event<'a> {
    /// Parses the header's value.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (package, params) = token_and_params(text)?;
        Some(Self { package, id: params::find(params, "id"), params })
    }
}

fn token_and_params(text: &str) -> Option<(&str, &str)> {
    let text = params::trim(text);
    let (token, params) = params::cut(text, b';').unwrap_or((text, ""));
    let (token, params) = (params::trim(token), params::trim(params));
    (params::is_token(token) && params::are_well_formed(params, true) && !text.ends_with(';'))
        .then_some((token, params))
}

/// One Via value (RFC 3261 §20.42).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via<'a> {
    /// `SIP`.
    pub protocol: &'a str,
    /// `2.0`.
    pub version: &'a str,
    /// `TLS`, `TCP`, `UDP`, or an extension, as written.
    pub transport: &'a str,
    /// Host of sent-by.
    pub host: Host<'a>,
    /// Port of sent-by.
    pub port: Option<u16>,
    /// Parameters as written, without the leading `;`.
    pub params: &'a str,
}

impl<'a> Via<'a> {
    /// Parses one value; rows that hold several are split by [`super::Message::values`]. White space around every part is legal.
    pub fn parse(text: &'a str) -> Result<Self, Fault> {
        match plain::via(text) {
            Some((parts, params)) if params.end == text.len() => Ok(parts.read(text)),
            _ => Self::parse_any(text),
        }
    }

    /// As [`parse`](Self::parse), in whatever way it is written.
    pub(super) fn parse_any(text: &'a str) -> Result<Self, Fault> {
        let fault = |what| Err(Fault::Malformed(what));
        let text = params::trim(text);
        let (sent, params) = match memchr::memchr(b';', text.as_bytes()).and_then(|end| text.split_at_checked(end)) {
            Some((sent, params)) => (sent, Some(params::trim(params.get(1..).unwrap_or_default()))),
            None => (text, None),
        };
        let parts = params::cut(sent, b'/').and_then(|(protocol, rest)| Some((protocol, params::cut(rest, b'/')?)));
        let Some((protocol, (version, rest))) = parts else {
            return fault("Via has no protocol/version/transport");
        };
        let (protocol, version) = (params::trim(protocol), params::trim(version));
        let Some((transport, sent_by)) = params::cut_where(params::trim(rest), params::is_space) else {
            return fault("Via has no sent-by host");
        };
        if !(params::is_token(protocol) && params::is_token(version) && params::is_token(transport)) {
            return fault("Via has no protocol/version/transport");
        }
        let sent_by = params::trim(sent_by);
        let has_space = sent_by.bytes().any(params::is_space);
        let (host, port) = match has_space.then(|| sent_by.rsplit_once(':')).flatten() {
            // RFC 3261 §25.1: COLON may have white space around it.
            Some((host, port)) if !sent_by.ends_with(']') => {
                let port = params::digits(port.trim_matches(LWS)).and_then(|port| port.parse().ok());
                match (parse_hostport(host.trim_matches(LWS))?, port) {
                    ((host, None), Some(port)) if port != 0 => (host, Some(port)),
                    _ => return fault("Via port is not a number from 1 to 65535"),
                }
            }
            _ => parse_hostport(sent_by)?,
        };
        let params = params.unwrap_or_default();
        if text.ends_with(';') || !params::are_well_formed(params, true) {
            return fault("Via parameters are not name or name=value");
        }
        if params::count(params, "branch") > 1 {
            return fault("Via has two branch parameters");
        }
        Ok(Self { protocol, version, transport, host, port, params })
    }
    /// A parameter: `Some("")` for one without value.
    pub fn param(&self, name: &str) -> Option<&'a str> {
        params::find(self.params, name)
    }
    /// The transaction's branch (RFC 3261 §8.1.1.7).
    pub fn branch(&self) -> Option<&'a str> {
        self.param("branch").filter(|branch| !branch.is_empty())
    }
    /// Where the request really came from (RFC 3261 §18.2.1); IPv6 with or without brackets.
    pub fn received(&self) -> Option<IpAddr> {
        let text = self.param("received")?;
        text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text).parse().ok()
    }
    /// `Some(None)`: asked for; `Some(Some(_))`: filled in (RFC 3581 §3).
    pub fn rport(&self) -> Option<Option<u16>> {
        self.param("rport").map(|port| params::digits(port).and_then(|port| port.parse().ok()))
    }
}

/// Splits a list header's row at its commas (RFC 3261 §7.3.1). Parts are trimmed; empty ones come too.
pub fn list(row: &str) -> impl Iterator<Item = &str> {
    Split::new(row, b',', true).map(params::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_long_compact_and_any_case() {
        for (name, long, compact) in NAMES {
            assert_eq!(Name::parse(&long.to_ascii_uppercase()), name);
            assert_eq!(name.as_str(), long);
            if !compact.is_empty() {
                assert_eq!((Name::parse(compact), Name::parse(&compact.to_ascii_uppercase())), (name, name));
            }
        }
        assert_eq!((Name::parse(""), Name::parse("X-y"), Name::Other.as_str()), (Name::Other, Name::Other, ""));
        assert!(same("y", "identity") && same("X-A", "x-a") && !same("y", "Identity-Info"));
        assert_eq!(Name::parse("ms-edge-proxy-message-trust-and-more"), Name::Other);
    }

    #[test]
    fn seconds() {
        assert_eq!(delta_seconds(" 3600 "), Some(3600));
        assert_eq!(delta_seconds("10000000000000000000000000000000"), Some(u32::MAX));
        for bad in ["", "-1", "+1", "1s", "1 2", "0x1"] {
            assert_eq!(delta_seconds(bad), None, "{bad}");
        }
        assert_eq!(retry_after("18000;duration=3600"), Some(18000));
        assert_eq!(retry_after("120 (I'm in a meeting)"), Some(120));
        assert_eq!(retry_after("949302838503028349304023988"), Some(u32::MAX));
        assert_eq!(retry_after("soon"), None);
    }

    #[test]
    fn media_types() {
        let plain = MediaType::parse(" Text/Plain ; charset=\"UTF-8\";msgr=WAAt").unwrap();
        assert_eq!(
            (plain.essence.as_str(), plain.param("Charset"), plain.param("msgr")),
            ("text/plain", Some("UTF-8"), Some("WAAt"))
        );
        assert_eq!(
            MediaType::parse(r#"multipart/alternative; boundary="=_x;y""#).unwrap().param("boundary"),
            Some("=_x;y")
        );
        for bad in
            ["", "text", "text/", "/plain", "te xt/plain", "text/plain;", "text/plain;;a=b", "text/plain, text/html"]
        {
            assert_eq!(MediaType::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn accept_ranges() {
        let pidf = "application/pidf+xml";
        for (values, verdict) in [
            (&["application/pidf+xml"][..], true),
            (&["APPLICATION/*"], true),
            (&["*/*"], true),
            (&["*/*;q=0"], false),
            (&["*/*", "application/pidf+xml;q=0.0"], false),
            (&["application/pidf+xml;q=0.1", "*/*;q=0"], true),
            (&["application/*;q=0", "*/*"], false),
            (&["application/xpidf+xml", "text/*"], false),
            (&[], false),
        ] {
            assert_eq!(accepts(values.iter().copied(), pidf), verdict, "{values:?}");
        }
    }

    #[test]
    fn subscription_states_and_events() {
        let state = SubscriptionState::parse("Terminated ; reason=Probation ; retry-after=120").unwrap();
        assert_eq!(
            (state.state.as_str(), state.reason.as_deref(), state.retry_after),
            ("terminated", Some("probation"), Some(120))
        );
        assert_eq!(SubscriptionState::parse("active;expires=28800").unwrap().expires, Some(28800));
        assert_eq!(SubscriptionState::parse(""), None);
        assert_eq!(SubscriptionState::parse("active;;"), None);
        assert_eq!(Event::parse("presence;id=7").map(|event| (event.package, event.id)), Some(("presence", Some("7"))));
        assert_eq!(Event::parse("pres ence"), None);
    }

    #[test]
    fn vias() {
        let via = Via::parse("SIP / 2.0 / TLS 10.0.0.2:5061;branch=z9hG4bKone2;ms-internal-info=\"a,b;c\"").unwrap();
        assert_eq!((via.transport, via.port, via.branch()), ("TLS", Some(5061), Some("z9hG4bKone2")));
        assert_eq!(via.param("ms-internal-info"), Some("a,b;c"));
        let v6 = Via::parse("SIP/2.0/UDP [2001:db8::9:1]:5060;rport;received=192.0.2.77").unwrap();
        assert_eq!((v6.host, v6.rport()), (Host::V6("2001:db8::9:1".parse().unwrap()), Some(None)));
        assert_eq!(v6.received(), Some("192.0.2.77".parse().unwrap()));
        let spaced = Via::parse("SIP/2.0/UDP first.example.com : 4000 ;ttl=16;rport=7").unwrap();
        assert_eq!(
            (spaced.host, spaced.port, spaced.rport()),
            (Host::Name("first.example.com"), Some(4000), Some(Some(7)))
        );
        assert_eq!(Via::parse("SIP/2.0/TLS sip.foreign.example.net:5061").unwrap().branch(), None);
        for bad in [
            "",
            "SIP/2.0/TLS",
            "SIP/2.0 host",
            "SIP/2.0/UDP 192.0.2.15;;",
            "SIP/2.0/UDP a b",
            "SIP/2.0/UDP a:0",
            "SIP/2.0/UDP a : x",
            "SIP/2.0/UDP a;branch=1;branch=2",
            "SIP/2.0/UDP a;",
            "/2.0/UDP a",
            "SIP/2.0/UDP a,b",
        ] {
            assert!(Via::parse(bad).is_err(), "{bad}");
        }
    }
}
