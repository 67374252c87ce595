//! Names of the inside as partners see them: sealed, so that any edge with our secrets can read them back, and nobody else.
//!
//! A mask is deterministic authenticated encryption (AES-SIV, RFC 5297): one text always has one mask, so a dialog keeps its identity,
//! and no table is needed to go back. It is bound to what it stands for, the partner's domain and the local address; from anybody else,
//! or changed, it opens to nothing. It looks like `fg.cQ7…`: a prefix, a letter for its [`Kind`], two characters that name the key, base64url. All of
//! it may stand unescaped in the user part of a SIP URI (RFC 3261 §25.1 user) and in a Call-ID (`word`).

use super::siv::{self, Siv};
use crate::gate::limits;
use crate::gate::partner::{Action, Side};
use crate::gate::reject::{Reason, Reject};
use crate::wire::address::{Address, Domain};
use aws_lc_rs::hkdf;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const PREFIX: &str = "fg.";
/// Prefix, kind, key id.
const HEAD: usize = PREFIX.len() + 3;
/// A mask's own bytes: the synthetic IV.
const IV: usize = siv::IV;
const SALT: &[u8] = b"fedgate masks";

/// What a mask stands for. No mask opens as another kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Our own Record-Route towards the partner: the [`Dialog`].
    Route,
    /// A Contact of the inside: the [`Dialog`] and the URI.
    Contact,
    /// A Record-Route of the inside: the URI.
    RecordRoute,
    /// A Call-ID that the inside made.
    InsideCallId,
    /// A Call-ID that the partner made.
    PartnerCallId,
}

/// Names one of the keys, in masks and in what outlives settings. Twelve bits of a hash of its secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyId(u16);

/// The two ends of a message: the partner's domain, and the local address, whichever is From or To.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    /// Of the address outside.
    pub partner: &'a Domain,
    /// The address at one of our domains.
    pub local: &'a Address,
}

/// Names a node without saying its name: a hash of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeMark(u32);

/// What our own Record-Route or Contact says of a dialog.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dialog {
    /// Whose dialog it is inside.
    pub node: NodeMark,
    /// Who opened it.
    pub opener: Side,
    /// As what it was decided.
    pub action: Action,
    /// What it is masked with, to its end.
    pub key: KeyId,
}

/// The keys, derived from `[state] secrets`. Made once for a settings version.
#[derive(Clone)]
pub struct Masks {
    /// The current one first.
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    id: KeyId,
    siv: Siv,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Route, Kind::Contact, Kind::RecordRoute, Kind::InsideCallId, Kind::PartnerCallId];

    fn letter(self) -> u8 {
        match self {
            Kind::Route => b'r',
            Kind::Contact => b'c',
            Kind::RecordRoute => b'v',
            Kind::InsideCallId => b'i',
            Kind::PartnerCallId => b'p',
        }
    }

    /// What a user part or Call-ID claims to be a mask of; `None` if it doesn't look like a mask. It may still not open.
    pub fn of(text: &str) -> Option<Self> {
        let letter = *text.strip_prefix(PREFIX)?.as_bytes().first()?;
        let is_mask = text.len() > HEAD
            && text.bytes().skip(PREFIX.len()).all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        Self::ALL.into_iter().find(|kind| is_mask && kind.letter() == letter)
    }
}

impl NodeMark {
    /// FNV-1a, 32 bits.
    pub fn of(name: &str) -> Self {
        Self(name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)))
    }
    /// Whether this node is meant.
    pub fn is_of(self, name: &str) -> bool {
        self == Self::of(name)
    }
}

impl Dialog {
    /// Of a dialog that begins now, masked with the current key.
    pub fn new(masks: &Masks, node: &str, opener: Side, action: Action) -> Self {
        Self { node: NodeMark::of(node), opener, action, key: masks.current() }
    }

    /// Five bytes: who opened it and its action, the node.
    fn facts(&self) -> [u8; 5] {
        let action = Action::ALL.iter().position(|action| *action == self.action).unwrap_or_default();
        let opener = if self.opener == Side::Outside { 0x80 } else { 0 };
        let [a, b, c, d] = self.node.0.to_be_bytes();
        [opener | u8::try_from(action).unwrap_or_default() & 0x7f, a, b, c, d]
    }

    fn read(facts: &[u8; 5], key: KeyId) -> Option<Self> {
        let [first, a, b, c, d] = *facts;
        let opener = if first & 0x80 == 0 { Side::Inside } else { Side::Outside };
        let action = *Action::ALL.get(usize::from(first & 0x7f))?;
        Some(Self { node: NodeMark(u32::from_be_bytes([a, b, c, d])), opener, action, key })
    }
}

impl Masks {
    /// From `[state] secrets`, current first.
    pub fn of(secrets: &[Vec<u8>]) -> Self {
        let keys = secrets.iter().filter_map(|secret| {
            let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(secret);
            let mut siv = [0; 32];
            secret.expand(&[b"key"], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut siv)).ok()?;
            let mut id = [0; 32];
            secret.expand(&[b"id"], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut id)).ok()?;
            let [high, low, ..] = id;
            Some(Key { id: KeyId(u16::from_be_bytes([high, low]) >> 4), siv: Siv::new(&siv) })
        });
        Self { keys: keys.collect() }
    }

    /// The key that new dialogs are masked with.
    pub fn current(&self) -> KeyId {
        self.keys.first().map_or(KeyId(0), |key| key.id)
    }

    /// The mask of a text; with the current key if there is none of this id any more. At most [`limits::MASKED_BYTES`] of text.
    pub fn seal(&self, key: KeyId, kind: Kind, ends: Ends<'_>, text: &str) -> Result<String, Reject> {
        self.seal_parts(key, kind, ends, &[], text)
    }

    /// The mask of our own Record-Route.
    pub fn seal_route(&self, dialog: &Dialog, ends: Ends<'_>) -> Result<String, Reject> {
        self.seal_parts(dialog.key, Kind::Route, ends, &dialog.facts(), "")
    }

    /// The mask of a Contact's URI.
    pub fn seal_contact(&self, dialog: &Dialog, ends: Ends<'_>, uri: &str) -> Result<String, Reject> {
        self.seal_parts(dialog.key, Kind::Contact, ends, &dialog.facts(), uri)
    }

    /// The text of a mask, and the key that opened it. Of another kind, for other ends or changed: [`Reason::RelayDenied`].
    pub fn open(&self, kind: Kind, ends: Ends<'_>, mask: &str) -> Result<(String, KeyId), Reject> {
        let (text, key) = self.open_bytes(kind, ends, mask)?;
        String::from_utf8(text).map(|text| (text, key)).map_err(|_| denied(kind))
    }

    /// What our own Record-Route says.
    pub fn open_route(&self, ends: Ends<'_>, mask: &str) -> Result<Dialog, Reject> {
        let (facts, key) = self.open_bytes(Kind::Route, ends, mask)?;
        facts.first_chunk().and_then(|facts| Dialog::read(facts, key)).ok_or_else(|| denied(Kind::Route))
    }

    /// The URI of a Contact, and what its mask says of the dialog.
    pub fn open_contact(&self, ends: Ends<'_>, mask: &str) -> Result<(String, Dialog), Reject> {
        let (text, key) = self.open_bytes(Kind::Contact, ends, mask)?;
        let read = text
            .split_first_chunk()
            .and_then(|(facts, uri)| Some((std::str::from_utf8(uri).ok()?.to_owned(), Dialog::read(facts, key)?)));
        read.ok_or_else(|| denied(Kind::Contact))
    }

    fn seal_parts(&self, key: KeyId, kind: Kind, ends: Ends<'_>, facts: &[u8], text: &str) -> Result<String, Reject> {
        if text.len() > limits::MASKED_BYTES {
            let detail = format!("{} bytes are too many to be masked: {:?}", text.len(), kind);
            return Err(Reject::new(Reason::TooLarge, detail).with_status(513));
        }
        let key = self.keys.iter().find(|known| known.id == key).or(self.keys.first());
        // Without a key nothing can be hidden, so nothing goes out.
        let keyless = || Reject::new(Reason::Overloaded, "no key to mask with: write [state] secrets");
        let key = key.ok_or_else(keyless)?;
        // What it is bound to, and behind it what is sealed: one piece of memory for both.
        let mut buffer = bound(kind, ends, IV + facts.len() + text.len());
        let start = buffer.len();
        for part in [&[0; IV], facts, text.as_bytes()] {
            buffer.extend_from_slice(part);
        }
        let (bound, sealed) = buffer.split_at_mut(start);
        let (iv, text) = sealed.split_first_chunk_mut().ok_or_else(keyless)?;
        *iv = key.siv.seal(bound, text);
        let id = key.id.0;
        let mut mask = String::with_capacity(HEAD + sealed.len().div_ceil(3) * 4);
        mask.push_str(PREFIX);
        mask.push(char::from(kind.letter()));
        mask.push(digit(id >> 6));
        mask.push(digit(id));
        URL_SAFE_NO_PAD.encode_string(sealed, &mut mask);
        Ok(mask)
    }

    fn open_bytes(&self, kind: Kind, ends: Ends<'_>, mask: &str) -> Result<(Vec<u8>, KeyId), Reject> {
        let rest = mask.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix(char::from(kind.letter())));
        let Some((id, sealed)) = rest.and_then(|rest| rest.split_at_checked(2)) else { return Err(denied(kind)) };
        // A mask of the longest text: nobody makes us decode more.
        if sealed.len() > (IV + 5 + limits::MASKED_BYTES).div_ceil(3) * 4 {
            return Err(denied(kind));
        }
        let sealed = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| denied(kind))?;
        let Some((iv, text)) = sealed.split_first_chunk() else { return Err(denied(kind)) };
        let bound = bound(kind, ends, 0);
        let named = |key: &&Key| id.chars().eq([digit(key.id.0 >> 6), digit(key.id.0)]);
        self.keys
            .iter()
            .filter(named)
            .find_map(|key| Some((key.siv.open(&bound, iv, text)?, key.id)))
            .ok_or_else(|| denied(kind))
    }
}

/// What a mask is bound to, as one string: each further one costs S2V another round (RFC 5297 §2.4). No domain holds NUL, and the user comes
/// last, so no two read alike. A Call-ID belongs to no one user: `Replaces` names it from another's dialog. There is room for so many bytes `more`.
fn bound(kind: Kind, ends: Ends<'_>, more: usize) -> Vec<u8> {
    let user = match kind {
        Kind::InsideCallId | Kind::PartnerCallId => "",
        Kind::Route | Kind::Contact | Kind::RecordRoute => ends.local.local().unwrap_or_default(),
    };
    let (partner, local) = (ends.partner.as_str(), ends.local.domain().as_str());
    let mut bound = Vec::with_capacity(partner.len() + local.len() + user.len() + 3 + more);
    bound.push(kind.letter());
    for part in [partner, "\0", local, "\0", user] {
        bound.extend_from_slice(part.as_bytes());
    }
    bound
}

fn digit(six_bits: u16) -> char {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    char::from(DIGITS[usize::from(six_bits & 63)])
}

fn denied(kind: Kind) -> Reject {
    let what = match kind {
        Kind::Route => "a route of ours",
        Kind::Contact => "a contact of ours",
        Kind::RecordRoute => "a route of the inside",
        Kind::InsideCallId | Kind::PartnerCallId => "a Call-ID of ours",
    };
    Reject::new(
        Reason::RelayDenied,
        format!(
            "what looks like {what} does not open for this partner and user: it was made for others, was changed, or its secret is no \
             longer in [state] secrets"
        ),
    )
}

impl std::fmt::Debug for Masks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| key.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "sip:juliet@10.1.2.3:5060;transport=tcp";

    fn masks(secrets: &[&str]) -> Masks {
        Masks::of(&secrets.iter().map(|secret| secret.as_bytes().to_vec()).collect::<Vec<_>>())
    }

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    fn address(text: &str) -> Address {
        Address::parse_user(text).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_and_always_looks_the_same() {
        let (partner, local) = (domain("lync.example"), address("juliet@corp.example"));
        let ends = Ends { partner: &partner, local: &local };
        let masks = masks(&["one"]);
        let dialog = Dialog::new(&masks, "imp-1", Side::Outside, Action::Call);
        let mask = masks.seal_contact(&dialog, ends, URI).unwrap();
        assert_eq!(mask, masks.seal_contact(&dialog, ends, URI).unwrap());
        assert_eq!(Kind::of(&mask), Some(Kind::Contact));
        assert_eq!(masks.open_contact(ends, &mask).unwrap(), (URI.to_owned(), dialog));
        assert!(dialog.node.is_of("imp-1") && !dialog.node.is_of("imp-2"));
        let route = masks.seal_route(&dialog, ends).unwrap();
        assert_eq!(masks.open_route(ends, &route).unwrap(), dialog);
        assert!(format!("<sip:{mask}@sip.corp.example:5061;transport=tls;lr>").len() < 200);
        // None is taken for another.
        assert!(masks.open_route(ends, &mask).is_err() && masks.open_contact(ends, &route).is_err());
        assert!(masks.open_route(ends, &mask.replacen("fg.c", "fg.r", 1)).is_err());
    }

    #[test]
    fn every_action_and_opener_is_told_apart() {
        let key = KeyId(7);
        for opener in [Side::Inside, Side::Outside] {
            for action in Action::ALL.iter().copied() {
                let dialog = Dialog { node: NodeMark::of("n"), opener, action, key };
                assert_eq!(Dialog::read(&dialog.facts(), key), Some(dialog));
            }
        }
        assert_eq!(Dialog::read(&[0x7f, 0, 0, 0, 0], key), None);
    }

    #[test]
    fn nobody_else_opens_it() {
        let (partner, local) = (domain("lync.example"), address("juliet@corp.example"));
        let (other, nurse, elsewhere) =
            (domain("aol.com"), address("nurse@corp.example"), address("juliet@labs.example"));
        let ends = Ends { partner: &partner, local: &local };
        let masks = masks(&["one"]);
        for kind in Kind::ALL {
            let mask = masks.seal(masks.current(), kind, ends, URI).unwrap();
            assert!(masks.open(kind, ends, &mask).is_ok());
            assert_eq!(
                masks.open(kind, Ends { partner: &other, ..ends }, &mask).unwrap_err().reason,
                Reason::RelayDenied
            );
            assert!(masks.open(kind, Ends { local: &elsewhere, ..ends }, &mask).is_err());
            // A Call-ID is not a user's.
            let of_a_user = !matches!(kind, Kind::InsideCallId | Kind::PartnerCallId);
            assert_eq!(masks.open(kind, Ends { local: &nurse, ..ends }, &mask).is_err(), of_a_user, "{kind:?}");
            for at in 0..mask.len() {
                for byte in [b'A', b'B', b'_', b'.'] {
                    let mut changed = mask.clone().into_bytes();
                    if std::mem::replace(&mut changed[at], byte) != byte {
                        let changed = String::from_utf8(changed).unwrap();
                        assert!(masks.open(kind, ends, &changed).is_err(), "{changed}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_dialog_keeps_its_key_when_secrets_turn() {
        let (partner, local) = (domain("lync.example"), address("juliet@corp.example"));
        let ends = Ends { partner: &partner, local: &local };
        let (before, after, gone) = (masks(&["old"]), masks(&["new", "old"]), masks(&["new"]));
        let dialog = Dialog::new(&before, "imp-1", Side::Inside, Action::Subscribe);
        let mask = before.seal_route(&dialog, ends).unwrap();
        let found = after.open_route(ends, &mask).unwrap();
        assert_eq!((found, after.seal_route(&found, ends).unwrap()), (dialog, mask.clone()));
        assert_ne!(
            after.seal(after.current(), Kind::InsideCallId, ends, "a@b"),
            before.seal(before.current(), Kind::InsideCallId, ends, "a@b")
        );
        assert_eq!(gone.open_route(ends, &mask).unwrap_err().reason, Reason::RelayDenied);
    }

    /// What was given out before must open for ever.
    #[test]
    fn a_mask_looks_as_it_did_in_the_first_version() {
        let (partner, local) = (domain("lync.example"), address("juliet@corp.example"));
        let ends = Ends { partner: &partner, local: &local };
        let masks = masks(&["one"]);
        let dialog = Dialog::new(&masks, "imp-1", Side::Outside, Action::Call);
        let made = [
            masks.seal_route(&dialog, ends).unwrap(),
            masks.seal_contact(&dialog, ends, URI).unwrap(),
            masks.seal(dialog.key, Kind::RecordRoute, ends, "sip:10.1.0.1;lr").unwrap(),
            masks.seal(dialog.key, Kind::InsideCallId, ends, "1@10.1.2.3").unwrap(),
        ];
        let first = [
            "fg.rpcZSHiNqao9nZ2N-XH_Ukxb4r0H00J",
            "fg.cpccOwGNFs0pWo7SdWN3PZasecWdPeS2vzwXVrail-aLWlX7eypD7kbgjxqSC449Ex7395j618B-rN0-PI",
            "fg.vpc0o4VYaQcxdz6nabQe4r6BK1nnAFJfyDcG3qBvAN2sw",
            "fg.ipcGRnBprPBWonKHv4wASzvCkaQjGMkVp3Hsn8",
        ];
        assert_eq!(made, first);
    }

    #[test]
    fn long_texts_and_missing_keys() {
        let (partner, local) = (domain("lync.example"), address("juliet@corp.example"));
        let ends = Ends { partner: &partner, local: &local };
        let masks = masks(&["one"]);
        let most = "x".repeat(limits::MASKED_BYTES);
        let mask = masks.seal(masks.current(), Kind::RecordRoute, ends, &most).unwrap();
        assert_eq!(masks.open(Kind::RecordRoute, ends, &mask).unwrap().0, most);
        let more = masks.seal(masks.current(), Kind::RecordRoute, ends, &format!("{most}x"));
        assert_eq!(more.unwrap_err().reason, Reason::TooLarge);
        let none = Masks::of(&[]);
        assert!(none.seal(none.current(), Kind::Route, ends, "").is_err());
    }

    #[test]
    fn what_looks_like_a_mask() {
        for no in ["fg", "fg.", "fg.c", "fg.cAB", "fg.xABcdef", "fg.cABcd.f", "fh.cABcdef", "juliet"] {
            assert_eq!(Kind::of(no), None, "{no}");
        }
        assert_eq!(Kind::of("fg.iABx"), Some(Kind::InsideCallId));
    }
}
