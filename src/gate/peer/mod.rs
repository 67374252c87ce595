//! Who says so? From what a link has proven to the domains it speaks for (RFC 5922, RFC 6120 §13.7, Microsoft's rule).

pub mod trust;

pub use trust::{TrustSet, TrustSets, Untrusted};

use crate::gate::partner::{LinkId, Partner, PartnerId, Protocol};
use crate::gate::reject::Reject;
use crate::gate::time::Time;
use crate::wire::address::Domain;
use crate::wire::certificate::Chain;

/// Which end opened the connection: RFC 5922 judges the two differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The peer connected to us.
    ByPeer,
    /// We connected to reach `domain`; SRV (or `next_hop`) led us to `host`.
    ByUs {
        /// The domain we wanted.
        domain: Domain,
        /// The host name we connected to, if a name.
        host: Option<String>,
        /// Whether an administrator typed the host (`next_hop`).
        typed: bool,
    },
}

/// Judges whether the holder of `chain` speaks for `domain` as `partner`'s entry demands: path to the partner's trust, validity, EKU,
/// revocation, then names. The reject's detail says what is wrong with which name and how to mend it.
pub fn speaks_for(
    chain: &Chain,
    trust: &TrustSets,
    partner: &Partner,
    domain: &Domain,
    opened: &Opened,
    now: Time,
) -> Result<(), Reject> {
    todo!()
}

/// A proven right to speak for a domain. Made only here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    partner: Option<PartnerId>,
    link: LinkId,
    domain: Domain,
    protocol: Protocol,
}
