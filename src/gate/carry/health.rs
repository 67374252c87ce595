//! Asking SIP nodes whether they are well (RFC 3261 §11: OPTIONS, any answer but 503 says yes), and telling the operator when that changes.

use crate::gate::Gate;
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::partner::{HostPort, Node, NodeProtocol};
use crate::gate::route::HopKey;
use crate::gate::session::Deadline;
use crate::gate::session::transaction::{Ended, Purpose, Sent};
use crate::gate::time::Time;
use crate::wire::sip::Method;
use crate::wire::sip::compose::Request;

impl Gate {
    /// Every SIP node is asked from now on, one after the other; those that are no more are forgotten.
    pub(in crate::gate) fn watch_health(&mut self, now: Time) {
        let sip = |node: &&Node| node.protocol == NodeProtocol::Sip;
        let names: Vec<smol_str::SmolStr> =
            self.settings.nodes.iter().filter(sip).map(|node| node.name.clone()).collect();
        self.health.retain(|node| names.iter().any(|name| name == node));
        for (place, name) in (0_u32..).zip(names) {
            let stagger = limits::NODE_ASKED_EVERY / 10 * (place % 10);
            self.deadlines.set(Deadline::Health(name.to_string()), now + stagger);
        }
    }

    /// It is time to ask a node; who has not answered by now the question before this one was silent.
    pub(in crate::gate) fn ask_health(&mut self, now: Time, name: String) {
        let Some(node) =
            self.settings.nodes.iter().find(|node| node.name == name && node.protocol == NodeProtocol::Sip)
        else {
            return;
        };
        let facing = node.facing.as_ref().map(|facing| (facing.at.clone(), node.tls_name.is_some()));
        let address = node.address.clone();
        if let Some(branch) = self.health.take_asked(&name) {
            let (mut turn, sessions) = self.turn(now);
            sessions.clients.end(&mut turn, &branch);
            self.health.silent(&name);
            self.node_is(&name);
        }
        self.deadlines.set(Deadline::Health(name.clone()), now + limits::NODE_ASKED_EVERY);
        let Some((us, tls)) = facing else { return };
        let (mut turn, sessions) = self.turn(now);
        let (branch, tag, call_id) = (turn.branch(), turn.token(), turn.token());
        let transport = if tls { "TLS" } else { "TCP" };
        let (us, uri) = (host_port(&us), format!("sip:{}", host_port(&address)));
        let headers = [
            ("Via", format!("SIP/2.0/{transport} {us};branch={branch}")),
            ("Max-Forwards", "0".to_owned()),
            ("From", format!("<sip:{us}>;tag={tag}")),
            ("To", format!("<{uri}>")),
            ("Call-ID", call_id),
            ("CSeq", "1 OPTIONS".to_owned()),
        ];
        let bytes = Request { method: Method::Options, uri: &uri, headers: &headers, body: None }.print();
        let sent = Sent {
            branch: branch.clone(),
            method: Method::Options,
            purpose: Purpose::Health(name.clone()),
            bytes,
            transit: None,
            lane: Lane::Free,
        };
        sessions.clients.send(&mut turn, HopKey::SipNode { node: name.as_str().into() }, sent);
        self.health.asked(&name, branch);
    }

    /// A node's answer to the question, or that it could not be asked.
    pub(in crate::gate) fn health_told(&mut self, name: &str, ended: &Ended<'_>) {
        match ended {
            Ended::Answered(503, _) | Ended::TimedOut | Ended::LinkDied => self.health.silent(name),
            Ended::Answered(..) => self.health.answered(name),
            Ended::Unreachable(_) => self.health.unreachable(name),
        }
        self.node_is(name);
    }
}

/// `host:port`, IPv6 in brackets.
pub(in crate::gate) fn host_port(at: &HostPort) -> String {
    match at.host.contains(':') {
        true => format!("[{}]:{}", at.host, at.port),
        false => format!("{}:{}", at.host, at.port),
    }
}
