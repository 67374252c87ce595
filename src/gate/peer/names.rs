//! Which domain a certificate's names prove (RFC 5922 §7, RFC 6120 §13.7.1.2, Microsoft's rule, pinned names).

use super::Opened;
use crate::gate::partner::{Identity, Protocol};
use crate::wire::address::Domain;
use crate::wire::certificate::Names;

/// Whether `names` prove `domain`; else a sentence with what the certificate carries, what was wanted, and the mend.
pub(super) fn prove(
    names: &Names,
    protocol: Protocol,
    identity: &Identity,
    domain: &Domain,
    opened: &Opened,
) -> Result<(), String> {
    match identity {
        Identity::Domain => {
            let proven = match protocol {
                Protocol::Sip => is_sip_identity(names, domain),
                Protocol::Xmpp => is_xmpp_identity(names, domain),
            };
            if proven {
                return Ok(());
            }
            let (wanted, rule) = match protocol {
                Protocol::Sip => (format!("sip:{domain} (URI) or {domain} (DNS)"), "RFC 5922"),
                Protocol::Xmpp => (format!("{domain} (DNS, SRVName or XmppAddr)"), "RFC 6120 §13.7"),
            };
            let mend = match hosts(names).find(|host| is_one_label_below(host, domain)) {
                Some(host) => format!(
                    "the partner adds {domain} to it, or set identity = \"edge-in-domain\" to accept {host} by Microsoft's rule"
                ),
                None => format!("the partner adds {domain} to it, or set identity = [\"a.name.it.carries\"]"),
            };
            Err(format!("the certificate carries {names}; wanted {wanted} by {rule}; mend: {mend}"))
        }
        Identity::EdgeInDomain => edge_in_domain(names, domain, opened),
        Identity::Pinned(pinned) => {
            let carries = |pin: &String| {
                hosts(names).any(|host| host.eq_ignore_ascii_case(pin))
                    || names.sip.iter().any(|own| own.as_str().eq_ignore_ascii_case(pin))
            };
            if pinned.iter().any(carries) {
                return Ok(());
            }
            Err(format!(
                "the certificate carries {names}; wanted the pinned {}; mend: add the name it carries to identity",
                pinned.join(" or ")
            ))
        }
    }
}

/// RFC 5922 §7.1 and §7.2: `sip:` URIs, else DNS names, else (no SAN at all) the CN; whole names, no wildcard, no suffix.
fn is_sip_identity(names: &Names, domain: &Domain) -> bool {
    if names.sip.is_empty() { hosts(names).any(|host| is_domain(host, domain)) } else { names.sip.contains(domain) }
}

/// RFC 6120 §13.7.1.2: DNS-ID (a left-most wildcard is allowed), SRV-ID, XmppAddr; the CN where there is no SAN at all.
fn is_xmpp_identity(names: &Names, domain: &Domain) -> bool {
    let by_dns = |host: &str| match host.strip_prefix("*.") {
        Some(parent) => domain.as_str().split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
        None => is_domain(host, domain),
    };
    let by_srv = |name: &String| {
        name.get(.."_xmpp-server.".len()).is_some_and(|service| service.eq_ignore_ascii_case("_xmpp-server."))
            && name.get("_xmpp-server.".len()..).is_some_and(|host| is_domain(host, domain))
    };
    hosts(names).any(by_dns)
        || names.srv.iter().any(by_srv)
        // XmppAddr holds U-labels (RFC 6120 §13.7.1.4); policy compares A-labels.
        || names.xmpp.iter().any(|address| Domain::parse(address).is_ok_and(|own| own == *domain))
}

/// COMPAT(lync): the certificate names the edge's host, which stands exactly one label below the SIP domain; when we dialled, it is the
/// very host that SRV led us to. A host that an administrator typed may be anywhere: typing it is the proof that it serves the domain.
fn edge_in_domain(names: &Names, domain: &Domain, opened: &Opened) -> Result<(), String> {
    let mend = format!(
        "the partner's certificate must name a host exactly one label below {domain} (such as sip.{domain}), or set identity = \"domain\" \
         or identity = [\"a.name.it.carries\"]"
    );
    match opened {
        Opened::ByUs { host: Some(host), typed, .. } => {
            if !hosts(names).any(|name| name.eq_ignore_ascii_case(host)) {
                return Err(format!(
                    "the certificate carries {names}; wanted {host}, the host we connected to; mend: the partner adds {host} to it"
                ));
            }
            if !typed && !is_one_label_below(host, domain) {
                return Err(format!(
                    "DNS led to {host}, which is not exactly one label below {domain}; mend: {mend}, or type it as next_hop"
                ));
            }
            Ok(())
        }
        Opened::ByUs { host: None, .. } | Opened::ByPeer => {
            if hosts(names).any(|name| is_one_label_below(name, domain)) {
                return Ok(());
            }
            Err(format!("the certificate carries {names}; wanted a host of {domain} by Microsoft's rule; mend: {mend}"))
        }
    }
}

/// DNS names, or the CN where there is no SAN at all.
fn hosts(names: &Names) -> impl Iterator<Item = &str> {
    let common_name = if names.has_san { None } else { names.common_name.as_deref() };
    names.dns.iter().map(String::as_str).chain(common_name)
}

fn is_domain(host: &str, domain: &Domain) -> bool {
    host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case(domain.as_str())
}

/// `sip.lync.example` for `lync.example`; a wildcard is not a host.
fn is_one_label_below(host: &str, domain: &Domain) -> bool {
    host.split_once('.')
        .is_some_and(|(label, parent)| !label.is_empty() && !label.contains('*') && is_domain(parent, domain))
}
