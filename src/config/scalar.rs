//! The small things a value may be: host and port, network, user glob, address.

use crate::gate::partner::{DomainPattern, HostPort, Protocol};
use crate::wire::address::{Address, Domain, Jid};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// `host:port`, `[v6]:port`.
pub fn host_port(text: &str) -> Result<HostPort, &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once("]:").ok_or("not [address]:port")?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| "not an IPv6 address between the brackets")?;
            (host, port)
        }
        None => {
            let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
            if host.contains(':') {
                return Err("an IPv6 address stands in brackets");
            }
            (host, port)
        }
    };
    let port = port.parse().ok().filter(|port| *port > 0).ok_or("the port is not a number from 1 to 65535")?;
    let host = match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_string(),
        Err(_) => Domain::parse(host).map_err(|_| "the host is neither a name nor an address")?.as_str().to_owned(),
    };
    Ok(HostPort { host, port })
}

/// A CIDR, or one address.
pub fn network(text: &str) -> Result<IpNet, &'static str> {
    let network = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(network), _) => network.trunc(),
        (_, Ok(ip)) => IpNet::from(ip),
        _ => return Err("not a network"),
    };
    // Peers are compared by their own family's address: `::ffff:192.0.2.0/120` is 192.0.2.0/24.
    Ok(match network.addr().to_canonical() {
        IpAddr::V4(v4) => match network.prefix_len().checked_sub(96) {
            Some(prefix) if network.addr().is_ipv6() => IpNet::new(v4.into(), prefix).unwrap_or(network),
            _ => network,
        },
        IpAddr::V6(_) => network,
    })
}

/// An address, or an address and port.
pub fn server(text: &str, port: u16) -> Result<SocketAddr, &'static str> {
    match (text.parse::<SocketAddr>(), text.parse::<IpAddr>()) {
        (Ok(address), _) => Ok(address),
        (_, Ok(ip)) => Ok(SocketAddr::new(ip, port)),
        _ => Err("not an address"),
    }
}

/// `domain`, `*.domain`.
pub fn domain_pattern(text: &str) -> Result<DomainPattern, &'static str> {
    match text.strip_prefix("*.") {
        Some(parent) if parent.contains('*') => Err("has more than one wildcard"),
        Some(parent) => Domain::parse(parent).map(DomainPattern::Under).map_err(|_| "not a domain name"),
        None if text.contains(['*', '?']) => Err("a wildcard stands for whole labels at the front"),
        None => Domain::parse(text).map(DomainPattern::Exact).map_err(|_| "not a domain name"),
    }
}

/// A glob over local parts.
pub fn user_glob(text: &str) -> Result<String, &'static str> {
    match text {
        "" => Err("is empty"),
        _ if text.contains('@') => Err("is a glob over user parts, without a domain"),
        _ => Ok(text.to_owned()),
    }
}

/// An address as an operator types it: `user@domain`, `sip:user@domain`, `xmpp:user@domain/resource`; and the protocol, if named.
pub fn address(text: &str) -> Result<(Address, Option<Protocol>), String> {
    let scheme = text.split_once(':').map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
    match scheme.as_ref().map(|(scheme, rest)| (scheme.as_str(), *rest)) {
        Some(("sip" | "sips", rest)) => {
            let rest = rest.split([';', '?']).next().unwrap_or_default();
            let (user, host) = match rest.rsplit_once('@') {
                Some((user, host)) => (Some(user), host),
                None => (None, rest),
            };
            let host = host.split_once(':').map_or(host, |(host, _port)| host);
            let address = Address::from_sip(user, host).map_err(|error| error.to_string())?;
            Ok((address, Some(Protocol::Sip)))
        }
        Some(("xmpp", rest)) => {
            let rest = rest.split('?').next().unwrap_or_default();
            let jid = Jid::parse(rest).map_err(|error| error.to_string())?;
            Ok((jid.bare, Some(Protocol::Xmpp)))
        }
        _ => Ok((Jid::parse(text).map_err(|error| error.to_string())?.bare, None)),
    }
}

/// Whether some text matches both globs.
pub fn globs_meet(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    // meets[j]: what is left of `a` after i characters and of `b` after j can match one text.
    let mut meets = vec![false; b.len() + 1];
    for i in (0..=a.len()).rev() {
        let mut row = vec![false; b.len() + 1];
        for j in (0..=b.len()).rev() {
            row[j] = match (a.get(i), b.get(j)) {
                (None, None) => true,
                (Some('*'), None) => meets[j],
                (None, Some('*')) => row[j + 1],
                (None, _) | (_, None) => false,
                (Some('*'), _) | (_, Some('*')) => meets[j] || row[j + 1],
                (Some(x), Some(y)) => (x == y || *x == '?' || *y == '?') && meets[j + 1],
            };
        }
        meets = row;
    }
    meets[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        for (text, host, port) in [
            ("127.0.0.1:5070", "127.0.0.1", 5070),
            ("[::1]:5269", "::1", 5269),
            ("IMP.corp.example:1", "imp.corp.example", 1),
        ] {
            assert_eq!(host_port(text), Ok(HostPort { host: host.into(), port }), "{text}");
        }
        for text in ["", "host", "host:", "host:0", "host:65536", "::1:5269", "[::1]", "[host]:1", "ho st:1"] {
            assert!(host_port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mapped_networks_are_ipv4() {
        for (text, means) in [
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.7/120", "192.0.2.0/24"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("::ffff:0:0/95", "::fffe:0:0/95"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), means, "{text}");
        }
    }

    #[test]
    fn wildcards_stand_for_whole_labels() {
        assert_eq!(domain_pattern("*.lync.example").unwrap().to_string(), "*.lync.example");
        for text in ["*", "*.", "a*.example", "*.*.example", "lync.*", "*lync.example", "", "?.example"] {
            assert!(domain_pattern(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_as_typed() {
        let read = |text: &str| address(text).map(|(address, protocol)| (address.to_jid(), protocol));
        assert_eq!(read("alice@corp.example"), Ok(("alice@corp.example".into(), None)));
        assert_eq!(
            read("sip:alice@corp.example:5061;transport=tls"),
            Ok(("alice@corp.example".into(), Some(Protocol::Sip)))
        );
        assert_eq!(read("xmpp:alice@corp.example/phone"), Ok(("alice@corp.example".into(), Some(Protocol::Xmpp))));
        assert_eq!(read("corp.example"), Ok(("corp.example".into(), None)));
        assert!(read("@corp.example").is_err());
        assert!(read("sip:alice@127.0.0.1").is_err());
    }

    #[test]
    fn globs_that_share_a_text_meet() {
        for (a, b, meet) in [
            ("*", "a*", true),
            ("a*", "b*", false),
            ("*a", "b*", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("", "*", true),
            ("", "?", false),
            ("a*b*", "*c", true),
            ("abc", "ABC", true),
        ] {
            assert_eq!(globs_meet(a, b), meet, "{a} {b}");
            assert_eq!(globs_meet(b, a), meet, "{b} {a}");
        }
    }
}
