//! Errors (RFC 7247 §7, tables 2 and 3, with RFC 4320 over them: never 408 to a non-INVITE).
//!
//! Takes one side's final refusal, gives the other's; the address of one that moved is respelled on the way.

use crate::wire::address::Address;
use crate::wire::xmpp::{Condition, ErrorType, StanzaError};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What an `xmpp:` URI holds raw: RFC 3986 §2.3 unreserved and what separates a JID's parts.
const XMPP_URI: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');

/// A SIP final response of 300 to 699 as a stanza error. `contact`: the Contact URI of a 301 or 302.
pub fn to_xmpp(status: u16, reason_phrase: &str, contact: Option<&str>) -> StanzaError {
    let (condition, type_) = condition(status);
    let text = Some(reason_phrase.trim()).filter(|phrase| !phrase.is_empty()).map(str::to_owned);
    // RFC 7247 §7.2 note 1: 301 tells the new address, 410 never does.
    let address = match status {
        301 | 302 => contact.and_then(xmpp_uri),
        _ => None,
    };
    StanzaError { condition, type_, text, address }
}

/// A stanza error as a SIP status, for a request that was not INVITE unless `invite`. `full_jid`: whether the stanza was addressed to a
/// full JID. The new address of `gone` and `redirect`, as a SIP URI, comes second. 401 and 407 become 403: an edge cannot challenge.
pub fn to_sip(error: &StanzaError, full_jid: bool, invite: bool) -> (u16, Option<String>) {
    use Condition as C;
    // RFC 7247 §7.1 notes 1 and 2: a full JID is one device, a bare one the user everywhere.
    let by_jid = |full: u16, bare: u16| if full_jid { full } else { bare };
    let status = match error.condition {
        C::BadRequest | C::Conflict | C::JidMalformed | C::SubscriptionRequired | C::UndefinedCondition => 400,
        C::FeatureNotImplemented => by_jid(405, 501),
        C::Forbidden => by_jid(403, 603),
        // Note 3: 301 with the new address, 410 without.
        C::Gone => {
            return match error.address.as_deref().and_then(sip_uri) {
                Some(uri) => (301, Some(uri)),
                None => (410, None),
            };
        }
        C::Redirect => return (302, error.address.as_deref().and_then(sip_uri)),
        C::InternalServerError | C::ResourceConstraint => 500,
        C::ItemNotFound => by_jid(404, 604),
        C::NotAcceptable => by_jid(406, 606),
        // The table's 401 and 407 demand a challenge (RFC 3261 §20.44, §20.27) that nobody here could check the answer to.
        C::NotAllowed | C::PolicyViolation | C::NotAuthorized | C::RegistrationRequired => 403,
        C::RecipientUnavailable => by_jid(480, 600),
        // Note 4 also offers 408, which RFC 4320 §4.2 forbids.
        C::RemoteServerNotFound => 404,
        // RFC 4320 §4.2 against the table: 408 to an INVITE only.
        C::RemoteServerTimeout if invite => 408,
        C::RemoteServerTimeout => 504,
        // Note 5: never 503, which would take the whole next hop out of service. 405 says it of one device, 403 of the user.
        C::ServiceUnavailable => by_jid(405, 403),
        // 491 has its meaning within INVITE (RFC 3261 §21.4.27).
        C::UnexpectedRequest if invite => 491,
        C::UnexpectedRequest => 400,
    };
    (status, None)
}

/// RFC 7247 §7.2, table 3; the types are those RFC 6120 §8.3.3 suggests. What the table leaves out goes by its class.
fn condition(status: u16) -> (Condition, ErrorType) {
    use Condition as C;
    use ErrorType::{Auth, Cancel, Modify, Wait};
    match status {
        301 | 410 => (C::Gone, Cancel),
        380 => (C::NotAcceptable, Modify),
        300..=399 => (C::Redirect, Modify),
        401 => (C::NotAuthorized, Auth),
        403 => (C::Forbidden, Auth),
        404 | 481 | 484 | 485 | 604 => (C::ItemNotFound, Cancel),
        405 | 420 | 439 | 501 => (C::FeatureNotImplemented, Cancel),
        406 | 415 | 416 | 421 | 482 | 483 | 488 | 505 | 606 => (C::NotAcceptable, Modify),
        407 => (C::RegistrationRequired, Auth),
        408 | 504 => (C::RemoteServerTimeout, Wait),
        413 | 414 | 489 | 513 => (C::PolicyViolation, Modify),
        // RFC 5393 §4.2: too many branches at once; later there may be fewer.
        440 => (C::PolicyViolation, Wait),
        423 => (C::ResourceConstraint, Wait),
        430 | 480 | 486 | 487 => (C::RecipientUnavailable, Wait),
        491 => (C::UnexpectedRequest, Wait),
        400..=499 => (C::BadRequest, Modify),
        502 => (C::RemoteServerNotFound, Cancel),
        500..=599 => (C::InternalServerError, Cancel),
        600..=699 => (C::RecipientUnavailable, Wait),
        // Not a refusal; whoever asks gets the condition that claims least.
        _ => (C::UndefinedCondition, Cancel),
    }
}

/// RFC 6120 §8.3.3.5: an XMPP URI. `sips:` is never translated (RFC 7247 §6).
fn xmpp_uri(contact: &str) -> Option<String> {
    let (scheme, _) = contact.split_once(':')?;
    if !["sip", "im", "pres", "xmpp"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    let address = Address::parse_user(contact).ok()?;
    Some(format!("xmpp:{}", utf8_percent_encode(&address.to_jid(), XMPP_URI)))
}

/// The new address in `<gone/>` or `<redirect/>`: an XMPP URI by the book, often a bare JID.
fn sip_uri(address: &str) -> Option<String> {
    let address = address.trim();
    if address.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("sips:")) {
        return None;
    }
    Some(format!("sip:{}", Address::parse_user(address).ok()?.to_sip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Condition as C;
    use ErrorType::{Auth, Cancel, Modify, Wait};

    fn error(condition: Condition, address: Option<&str>) -> StanzaError {
        StanzaError { condition, type_: Cancel, text: None, address: address.map(str::to_owned) }
    }

    /// RFC 7247 table 2: condition, to a full JID, to a bare one; then the same for INVITE.
    const TO_SIP: [(Condition, [u16; 4]); 22] = [
        (C::BadRequest, [400, 400, 400, 400]),
        (C::Conflict, [400, 400, 400, 400]),
        (C::FeatureNotImplemented, [405, 501, 405, 501]),
        (C::Forbidden, [403, 603, 403, 603]),
        (C::Gone, [410, 410, 410, 410]),
        (C::InternalServerError, [500, 500, 500, 500]),
        (C::ItemNotFound, [404, 604, 404, 604]),
        (C::JidMalformed, [400, 400, 400, 400]),
        (C::NotAcceptable, [406, 606, 406, 606]),
        (C::NotAllowed, [403, 403, 403, 403]),
        (C::NotAuthorized, [403, 403, 403, 403]),
        (C::PolicyViolation, [403, 403, 403, 403]),
        (C::RecipientUnavailable, [480, 600, 480, 600]),
        (C::Redirect, [302, 302, 302, 302]),
        (C::RegistrationRequired, [403, 403, 403, 403]),
        (C::RemoteServerNotFound, [404, 404, 404, 404]),
        (C::RemoteServerTimeout, [504, 504, 408, 408]),
        (C::ResourceConstraint, [500, 500, 500, 500]),
        (C::ServiceUnavailable, [405, 403, 405, 403]),
        (C::SubscriptionRequired, [400, 400, 400, 400]),
        (C::UndefinedCondition, [400, 400, 400, 400]),
        (C::UnexpectedRequest, [400, 400, 491, 491]),
    ];

    /// RFC 7247 table 3, with the error types of RFC 6120.
    const TO_XMPP: [(u16, Condition, ErrorType); 51] = [
        (300, C::Redirect, Modify),
        (301, C::Gone, Cancel),
        (302, C::Redirect, Modify),
        (305, C::Redirect, Modify),
        (399, C::Redirect, Modify),
        (380, C::NotAcceptable, Modify),
        (400, C::BadRequest, Modify),
        (401, C::NotAuthorized, Auth),
        (402, C::BadRequest, Modify),
        (403, C::Forbidden, Auth),
        (404, C::ItemNotFound, Cancel),
        (405, C::FeatureNotImplemented, Cancel),
        (406, C::NotAcceptable, Modify),
        (407, C::RegistrationRequired, Auth),
        (408, C::RemoteServerTimeout, Wait),
        (410, C::Gone, Cancel),
        (413, C::PolicyViolation, Modify),
        (414, C::PolicyViolation, Modify),
        (415, C::NotAcceptable, Modify),
        (416, C::NotAcceptable, Modify),
        (420, C::FeatureNotImplemented, Cancel),
        (421, C::NotAcceptable, Modify),
        (423, C::ResourceConstraint, Wait),
        (430, C::RecipientUnavailable, Wait),
        (439, C::FeatureNotImplemented, Cancel),
        (440, C::PolicyViolation, Wait),
        (480, C::RecipientUnavailable, Wait),
        (481, C::ItemNotFound, Cancel),
        (482, C::NotAcceptable, Modify),
        (483, C::NotAcceptable, Modify),
        (484, C::ItemNotFound, Cancel),
        (485, C::ItemNotFound, Cancel),
        (486, C::RecipientUnavailable, Wait),
        (487, C::RecipientUnavailable, Wait),
        (488, C::NotAcceptable, Modify),
        (489, C::PolicyViolation, Modify),
        (491, C::UnexpectedRequest, Wait),
        (493, C::BadRequest, Modify),
        (499, C::BadRequest, Modify),
        (500, C::InternalServerError, Cancel),
        (501, C::FeatureNotImplemented, Cancel),
        (502, C::RemoteServerNotFound, Cancel),
        (503, C::InternalServerError, Cancel),
        (504, C::RemoteServerTimeout, Wait),
        (505, C::NotAcceptable, Modify),
        (513, C::PolicyViolation, Modify),
        (599, C::InternalServerError, Cancel),
        (600, C::RecipientUnavailable, Wait),
        (603, C::RecipientUnavailable, Wait),
        (604, C::ItemNotFound, Cancel),
        (606, C::NotAcceptable, Modify),
    ];

    #[test]
    fn the_whole_of_table_2() {
        for (condition, [full, bare, invite_full, invite_bare]) in TO_SIP {
            for (full_jid, invite, status) in
                [(true, false, full), (false, false, bare), (true, true, invite_full), (false, true, invite_bare)]
            {
                assert_eq!(to_sip(&error(condition, None), full_jid, invite), (status, None), "{condition:?}");
                assert_ne!(status, 503, "RFC 7247 §7.1 note 5");
                assert!(invite || status != 408, "RFC 4320 §4.2");
                assert!(![401, 407].contains(&status), "nobody could answer our challenge");
            }
        }
    }

    #[test]
    fn the_whole_of_table_3() {
        for (status, condition, type_) in TO_XMPP {
            let error = to_xmpp(status, "Why Not", None);
            assert_eq!((error.condition, error.type_), (condition, type_), "{status}");
            assert_eq!(error.text.as_deref(), Some("Why Not"));
            assert_eq!(error.address, None);
        }
        assert_eq!(to_xmpp(404, "", None).text, None);
        // What the table leaves out goes by its class.
        for status in 300..700 {
            let listed = TO_XMPP.iter().any(|(known, ..)| *known == status);
            let by_class = [C::Redirect, C::BadRequest, C::InternalServerError, C::RecipientUnavailable]
                [usize::from(status / 100 - 3)];
            assert!(listed || to_xmpp(status, "", None).condition == by_class, "{status}");
        }
        assert_eq!(to_xmpp(200, "OK", None).condition, C::UndefinedCondition);
    }

    #[test]
    fn who_moved_is_found_again() {
        let moved =
            to_xmpp(301, "Moved", Some("sip:o'malley%40x@bücher.example".replace("bücher", "xn--bcher-kva").as_str()));
        let address = moved.address.as_deref().unwrap();
        assert_eq!(address, "xmpp:o%5C27malley%5C40x@b%C3%BCcher.example");
        assert_eq!(to_sip(&moved, false, false), (301, Some("sip:o'malley%40x@xn--bcher-kva.example".into())));
        assert_eq!(
            to_xmpp(302, "", Some("sip:a@h.example;transport=tls")).address.as_deref(),
            Some("xmpp:a@h.example")
        );
        // RFC 7247 §7.2 note 1: 410 never tells an address.
        assert_eq!(to_xmpp(410, "Gone", Some("sip:a@h.example")).address, None);
        assert_eq!(to_xmpp(301, "", Some("sips:a@h.example")).address, None);
        assert_eq!(to_xmpp(301, "", Some("tel:+1234")).address, None);
        assert_eq!(to_sip(&error(C::Gone, Some("a@h.example")), true, true), (301, Some("sip:a@h.example".into())));
        assert_eq!(
            to_sip(&error(C::Redirect, Some("xmpp:a@h.example/r")), true, true),
            (302, Some("sip:a@h.example".into()))
        );
        for unusable in ["sips:a@h.example", "http://h.example/a", "not an address"] {
            assert_eq!(to_sip(&error(C::Gone, Some(unusable)), true, true), (410, None), "{unusable}");
        }
    }
}
