//! Log lines, one for each event.

use super::decisions::verdict;
use crate::gate::Event;
use tracing::{debug, info, warn};
use tracing_subscriber::EnvFilter;

/// Starts logging to standard error, as text or JSON. `RUST_LOG` filters; the default is `info`. A second start changes nothing.
pub fn start(json: bool) {
    use std::io::IsTerminal as _;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,hickory_resolver=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let _ = if json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
}

/// Writes an event's line. Values from the wire are fields, which the formatters escape: no line can be forged.
pub(super) fn write(event: &Event) {
    match event {
        Event::Decided(decision) => {
            let peer = decision.peer.map(|peer| peer.to_string()).unwrap_or_default();
            info!(
                id = decision.id.as_str(),
                verdict = verdict(decision),
                reason = decision.refused.map(|reason| reason.as_str()),
                from = decision.from.as_str(),
                to = decision.to.as_str(),
                action = decision.action.as_str(),
                partner = decision.partner.as_str(),
                peer = peer.as_str(),
                because = decision.because.as_str(),
                "decision"
            );
        }
        Event::Settled(settled) => debug!(
            partner = settled.partner.as_str(),
            side = settled.side.as_str(),
            protocol = settled.protocol.as_str(),
            action = settled.action.as_str(),
            outcome = settled.outcome.as_str(),
            "settled"
        ),
        Event::Shown { partner, not_after } => debug!(partner = partner.as_str(), not_after, "certificate shown"),
        Event::LinkOpened { link, side, protocol, peer, who } => info!(
            link = link.0,
            side = side.as_str(),
            protocol = protocol.as_str(),
            %peer,
            who = who.as_str(),
            "link opened"
        ),
        Event::LinkClosed { link, side, protocol, cause } => info!(
            link = link.0,
            side = side.as_str(),
            protocol = protocol.as_str(),
            cause = cause.as_str(),
            "link closed"
        ),
        Event::Unreachable { who, side, protocol, cause } => warn!(
            who = who.as_str(),
            side = side.as_str(),
            protocol = protocol.as_str(),
            cause = cause.as_str(),
            "unreachable"
        ),
        Event::NodeUp { node, up: true } => info!(node = node.as_str(), "node is up"),
        Event::NodeUp { node, up: false } => warn!(node = node.as_str(), "node is down"),
        Event::Reloaded { version } => info!(version, "settings are in force"),
        Event::Noticed { what } => warn!(what = what.as_str(), "noticed"),
    }
}
