//! "What if": a question put to policy by a person. Takes addresses as typed, gives the question as the gate would ask it.

use crate::config::scalar;
use crate::gate::border::aol;
use crate::gate::partner::{Action, Profile, Protocol, Side};
use crate::gate::policy::{Question, Table};
use crate::wire::address::Address;
use std::net::IpAddr;

/// A hypothetical request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Who asks.
    pub from: Address,
    /// Whom.
    pub to: Address,
    /// What.
    pub action: Action,
    /// Where `from` is.
    pub side: Side,
    /// The protocol of the outside half.
    pub protocol: Protocol,
    /// Where the partner connects from. `None`: no connection is asked about, so an entry's networks don't count.
    pub peer_ip: Option<IpAddr>,
}

/// A typed address and the protocol its scheme names.
pub type Typed = (Address, Option<Protocol>);

impl Ask {
    /// The side follows from whose the addresses are; the protocol, if neither `protocol` nor the outside address's scheme names it,
    /// from the entry for the outside domain. Of no connection.
    pub fn new(table: &Table, from: Typed, to: Typed, action: Action, protocol: Option<Protocol>) -> Self {
        let side = if table.is_local(from.0.domain()) && !table.is_local(to.0.domain()) {
            Side::Inside
        } else {
            Side::Outside
        };
        let (remote, scheme) = match side {
            Side::Outside => (&from.0, from.1),
            Side::Inside => (&to.0, to.1),
        };
        let listed = || table.partner_towards(remote.domain()).map(|id| table.partner(id).protocol);
        let protocol = protocol.or(scheme).or_else(listed).unwrap_or(Protocol::Sip);
        let [from, to] = [from.0, to.0].map(|address| respell(table, address, protocol));
        Self { from, to, action, side, protocol, peer_ip: None }
    }

    /// As policy takes it.
    pub fn question(&self) -> Question<'_> {
        Question {
            from: &self.from,
            to: &self.to,
            action: self.action,
            side: self.side,
            protocol: self.protocol,
            peer_ip: self.peer_ip,
        }
    }
}

/// Reads an address as typed.
pub fn typed(text: &str) -> Result<Typed, String> {
    scalar::address(text)
}

/// COMPAT(aol): a screen name that is an e-mail address is spelled `user(gmail.com)@aol.com`; policy knows it as `user@gmail.com` at aol.com.
fn respell(table: &Table, address: Address, protocol: Protocol) -> Address {
    let is_aol =
        table.partner_for(address.domain(), protocol).is_some_and(|id| table.partner(id).profile == Profile::Aol);
    if is_aol { aol::plain(&address).unwrap_or(address) } else { address }
}
