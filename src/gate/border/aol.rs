//! COMPAT(aol): a screen name that is an e-mail address, `juliet@gmail.com` at aol.com, is spelled `juliet(gmail.com)@aol.com` over there.
//!
//! Takes an address in one side's spelling, gives the other's. Where two spellings could mean one user, none is guessed.

use crate::gate::partner::Profile;
use crate::gate::reject::{Reason, Reject};
use crate::wire::address::Address;

/// A user of the partner as it spells them, as we do: `juliet(gmail.com)` is `juliet@gmail.com`.
pub fn inward(profile: Profile, theirs: Address) -> Result<Address, Reject> {
    if profile != Profile::Aol {
        return Ok(theirs);
    }
    if theirs.local().is_some_and(|local| local.contains('@')) {
        return Err(ambiguous(&theirs));
    }
    Ok(plain(&theirs).unwrap_or(theirs))
}

/// A user of the partner as we spell them, as it does: `juliet@gmail.com` is `juliet(gmail.com)`.
pub fn outward(profile: Profile, ours: &Address) -> Result<Address, Reject> {
    if profile != Profile::Aol {
        return Ok(ours.clone());
    }
    if plain(ours).is_some() {
        return Err(ambiguous(ours));
    }
    let Some((user, host)) = ours.local().and_then(|local| local.split_once('@')) else { return Ok(ours.clone()) };
    let theirs = Address::new(&format!("{user}({host})"), ours.domain().clone())?;
    // What does not come back as it went is not that spelling's to say.
    if plain(&theirs).as_ref() == Some(ours) { Ok(theirs) } else { Err(ambiguous(ours)) }
}

/// `juliet@gmail.com`, of `juliet(gmail.com)`; `None` for what is no e-mail address in parentheses.
pub fn plain(theirs: &Address) -> Option<Address> {
    let (user, rest) = theirs.local()?.split_once('(')?;
    let host = rest.strip_suffix(')')?;
    let is_email =
        !user.is_empty() && host.contains('.') && !host.contains(['(', ')', '@']) && !user.contains(['@', ')']);
    is_email.then(|| Address::new(&format!("{user}@{host}"), theirs.domain().clone()).ok()).flatten()
}

fn ambiguous(address: &Address) -> Reject {
    Reject::new(Reason::AmbiguousAddress, format!("{address} can be read as two users of an AOL partner"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse_user(text).unwrap()
    }

    #[test]
    fn an_email_screen_name_goes_both_ways() {
        let ours = inward(Profile::Aol, address("juliet(gmail.com)@aol.com")).unwrap();
        assert_eq!(ours.to_jid(), r"juliet\40gmail.com@aol.com");
        assert_eq!(outward(Profile::Aol, &ours).unwrap().to_sip(), "juliet(gmail.com)@aol.com");
    }

    #[test]
    fn other_names_stay() {
        for name in ["juliet", "juliet(x)", "(gmail.com)", "a(b)c", "a(b.c)(d.e)"] {
            let ours = address(&format!("sip:{name}@aol.com"));
            assert_eq!(inward(Profile::Aol, ours.clone()).unwrap(), ours);
            assert_eq!(outward(Profile::Aol, &ours).unwrap(), ours);
        }
        let lync = address("juliet(gmail.com)@lync.example");
        assert_eq!(inward(Profile::Lync, lync.clone()).unwrap(), lync);
        let lync = address(r"juliet\40gmail.com@lync.example");
        assert_eq!(outward(Profile::Lync, &lync).unwrap(), lync);
    }

    #[test]
    fn two_readings_are_refused() {
        let reason = |result: Result<Address, Reject>| result.unwrap_err().reason;
        assert_eq!(reason(inward(Profile::Aol, address("sip:juliet%40gmail.com@aol.com"))), Reason::AmbiguousAddress);
        assert_eq!(reason(outward(Profile::Aol, &address("juliet(gmail.com)@aol.com"))), Reason::AmbiguousAddress);
        // Nothing that the other spelling has no room for.
        for name in [r"a\40b", r"a\40b\40c.d", r"a)\40b.c", r"\40b.c"] {
            let ours = address(&format!("{name}@aol.com"));
            assert_eq!(reason(outward(Profile::Aol, &ours)), Reason::AmbiguousAddress, "{name}");
        }
    }
}
