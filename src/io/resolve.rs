//! Where a domain's servers are: static records first, then DNS (RFC 2782, RFC 3263 §4.2).

use super::settings::{Dns, Srv};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use rand::RngExt as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// SRV targets and addresses that are tried; the rest of a longer answer is left out.
const ANSWERS_MAX: usize = 16;
/// An answer counts for its TTL, but not for longer than this…
const POSITIVE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// …and that there is none (RFC 2308), for no longer than this: who mends his DNS does not want to wait for us.
const NEGATIVE_MAX: Duration = Duration::from_secs(60);
/// For one server to answer, and how often a question is asked again.
const TIMEOUT: Duration = Duration::from_millis(1_500);
const RETRIES: usize = 1;

/// Static records and a DNS client.
pub struct Resolver {
    records: Dns,
    client: Result<TokioResolver, String>,
}

/// The address of ours that whoever is at `far` sees: the one from which we would send there. Sends nothing.
pub fn our_address_towards(far: SocketAddr) -> std::io::Result<IpAddr> {
    let any: SocketAddr = match far {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(far)?;
    Ok(socket.local_addr()?.ip())
}

/// A name resolved to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// The SRV name says that the service is not there (RFC 2782: a target `.`).
    #[error("{0} says that the service is not offered (target \".\")")]
    NotOffered(String),
    /// There is no address, or no answer.
    #[error("{0}")]
    Failed(String),
}

impl Resolver {
    /// From `[dns]`.
    pub fn new(records: Dns) -> Self {
        let client = client(&records).map_err(|error| error.to_string());
        Self { records, client }
    }

    /// SRV answers in the order in which they are to be tried. Empty = the name does not exist; a single target `.` is an error: the service
    /// is decidedly not offered (RFC 2782).
    pub async fn srv(&self, name: &str) -> Result<Vec<Srv>, NotFound> {
        Ok(order(self.services(name).await?, |record| record))
    }

    /// SRV answers as they came, to be mixed with those of another name before they are put in [`order`].
    pub async fn services(&self, name: &str) -> Result<Vec<Srv>, NotFound> {
        if let Some(records) = self.records.srv.get(&name.to_ascii_lowercase()) {
            return match records.iter().all(|record| record.target == ".") && !records.is_empty() {
                true => Err(NotFound::NotOffered(name.to_owned())),
                false => Ok(records.iter().filter(|record| record.target != ".").cloned().collect()),
            };
        }
        let client = self.client.as_ref().map_err(|error| NotFound::Failed(format!("DNS: {error}")))?;
        let answer = match client.srv_lookup(format!("{name}.")).await {
            Ok(answer) => answer,
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => return Ok(Vec::new()),
            Err(error) => return Err(NotFound::Failed(format!("DNS {name}: {error}"))),
        };
        let records: Vec<Srv> = answer
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(Srv {
                    target: srv.target.to_ascii().trim_end_matches('.').to_ascii_lowercase(),
                    port: srv.port,
                    priority: srv.priority,
                    weight: srv.weight,
                }),
                _ => None,
            })
            .collect();
        if !records.is_empty() && records.iter().all(|record| record.target.is_empty()) {
            return Err(NotFound::NotOffered(name.to_owned()));
        }
        Ok(records.into_iter().filter(|record| !record.target.is_empty()).collect())
    }

    /// Addresses of a host name or address literal.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, NotFound> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        if let Some(addresses) = self.records.hosts.get(&host.to_ascii_lowercase()) {
            return Ok(addresses.clone());
        }
        let client = self.client.as_ref().map_err(|error| NotFound::Failed(format!("DNS: {error}")))?;
        // With a trailing dot: search domains have no say in where a partner is.
        let name = if host == "localhost" { host.to_owned() } else { format!("{host}.") };
        match client.lookup_ip(name).await {
            Ok(found) => Ok(found.iter().take(ANSWERS_MAX).collect()),
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => {
                Err(NotFound::Failed(format!("{host} has no address")))
            }
            Err(error) => Err(NotFound::Failed(format!("DNS {host}: {error}"))),
        }
    }
}

fn client(records: &Dns) -> Result<TokioResolver, NetError> {
    if records.servers.is_empty() {
        let mut builder = TokioResolver::builder_tokio()?;
        bound(builder.options_mut());
        return builder.build();
    }
    let servers = records
        .servers
        .iter()
        .map(|address| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            server
        })
        .collect();
    let config = ResolverConfig::from_name_servers(servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    bound(builder.options_mut());
    builder.build()
}

/// How long answers count, and how long one is waited for: whoever asks has to answer somebody, too.
fn bound(options: &mut ResolverOpts) {
    // Of a host that has both, both are tried.
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    options.positive_max_ttl = Some(POSITIVE_MAX);
    options.negative_max_ttl = Some(NEGATIVE_MAX);
    options.timeout = options.timeout.min(TIMEOUT);
    options.attempts = options.attempts.min(RETRIES);
}

/// RFC 2782: by priority; within one, drawn by weight, those without weight last (almost).
pub fn order<T>(mut records: Vec<T>, of: impl Fn(&T) -> &Srv) -> Vec<T> {
    records.sort_by_key(|record| of(record).priority);
    let mut ordered = Vec::with_capacity(records.len().min(ANSWERS_MAX));
    // An answer may hold thousands: what is left out is not drawn for.
    while ordered.len() < ANSWERS_MAX
        && let Some(priority) = records.first().map(|record| of(record).priority)
    {
        let class: Vec<u64> = records
            .iter()
            .map(&of)
            .take_while(|record| record.priority == priority)
            .map(|record| u64::from(record.weight))
            .collect();
        let mut draw = rand::rng().random_range(0..=class.iter().sum());
        let drawn = class.iter().position(|weight| {
            let hit = *weight > 0 && draw <= *weight;
            draw = draw.saturating_sub(*weight);
            hit
        });
        ordered.push(records.remove(drawn.unwrap_or(0)));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn srv(target: &str, priority: u16, weight: u16) -> Srv {
        Srv { target: target.into(), port: 5061, priority, weight }
    }

    #[test]
    fn order_is_by_priority_then_weight() {
        let mut first = 0;
        for _ in 0..300 {
            let ordered = order(vec![srv("c", 20, 0), srv("a", 10, 90), srv("b", 10, 10)], |record| record);
            assert_eq!(ordered.len(), 3);
            assert_eq!(ordered[2].target, "c");
            first += usize::from(ordered[0].target == "a");
        }
        assert!((200..=299).contains(&first), "{first} of 300 drew the one with nine tenths of the weight");
    }

    #[tokio::test]
    async fn answers_and_waits_have_an_end() {
        for servers in [Vec::new(), vec!["127.0.0.1:1".parse().unwrap()]] {
            let resolver = Resolver::new(Dns { servers, ..Dns::default() });
            // A machine without resolv.conf has no client of its own.
            let Ok(client) = &resolver.client else { continue };
            let options = client.options();
            assert_eq!(options.positive_max_ttl, Some(POSITIVE_MAX));
            assert_eq!(options.negative_max_ttl, Some(NEGATIVE_MAX));
            assert!(options.timeout <= TIMEOUT && options.attempts <= RETRIES);
        }
    }

    #[tokio::test]
    async fn static_records_come_first() {
        let mut dns = Dns { servers: vec!["127.0.0.1:1".parse().unwrap()], ..Dns::default() };
        dns.srv.insert("_sipfederationtls._tcp.lync.example".into(), vec![srv("sip.lync.example", 0, 0)]);
        dns.hosts.insert("sip.lync.example".into(), vec!["127.0.0.9".parse().unwrap()]);
        let resolver = Resolver::new(dns);
        assert_eq!(resolver.srv("_SIPfederationtls._tcp.lync.example").await.unwrap()[0].target, "sip.lync.example");
        assert_eq!(resolver.addresses("SIP.lync.example").await.unwrap(), ["127.0.0.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(resolver.addresses("192.0.2.7").await.unwrap(), ["192.0.2.7".parse::<IpAddr>().unwrap()]);
    }
}
