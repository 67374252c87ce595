//! Where a node and its partners reach us, as Via, Record-Route and Contact say it: written out once, not with every message.

use crate::gate::partner::Node;
use crate::gate::settings::Settings;

/// Our addresses beside one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `host:port` for partners, by identity: the node's own port if it has one (PAT).
    outer: Vec<String>,
    /// `host:port` for the node; `None`: it has no listener of ours to answer to.
    facing: Option<String>,
}

impl Place {
    /// Beside each node of the settings, in their order.
    pub fn all(settings: &Settings) -> Vec<Self> {
        settings.nodes.iter().map(|node| Self::beside(node, settings)).collect()
    }

    fn beside(node: &Node, settings: &Settings) -> Self {
        let outer = settings.identities.iter().map(|identity| {
            let port = if node.public_port == 0 { identity.sip_port } else { node.public_port };
            format!("{}:{port}", identity.hostname)
        });
        let facing = node.facing.as_ref().map(|facing| match facing.at.host.contains(':') {
            true => format!("[{}]:{}", facing.at.host, facing.at.port),
            false => format!("{}:{}", facing.at.host, facing.at.port),
        });
        Self { outer: outer.collect(), facing }
    }

    /// Where partners reach us as this identity.
    pub fn outer(&self, identity: usize) -> &str {
        self.outer.get(identity).map_or("", String::as_str)
    }

    /// Where the node reaches us.
    pub fn facing(&self) -> Option<&str> {
        self.facing.as_deref()
    }
}
