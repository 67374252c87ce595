//! Happy eyeballs (RFC 8305): the addresses of one host, both families in turn, each a moment after the one before, until one answers.

use super::connect;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// RFC 8305 §5: "Connection Attempt Delay".
const DELAY: Duration = Duration::from_millis(250);

/// In the order in which they are tried (RFC 8305 §4): IPv6 first, then each family in turn; within one as DNS gave them.
pub(super) fn interleave(addresses: Vec<IpAddr>, port: u16) -> Vec<SocketAddr> {
    let (six, four): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut mixed = Vec::new();
    loop {
        let pair = [six.next(), four.next()];
        if pair == [None, None] {
            return mixed;
        }
        mixed.extend(pair.into_iter().flatten().map(|ip| SocketAddr::new(ip, port)));
    }
}

/// The first that answers, and where. It leaves `addresses`, and so does each that failed, with a word in `attempts`: what remains may be raced
/// again. `None`: none answered by then.
pub(super) async fn race(
    host: &str,
    addresses: &mut Vec<SocketAddr>,
    by: Instant,
    attempts: &mut Vec<String>,
) -> Option<(TcpStream, SocketAddr)> {
    let mut under_way = JoinSet::new();
    let mut waiting = addresses.clone().into_iter();
    let mut next_at = Instant::now();
    loop {
        let is_more = !waiting.as_slice().is_empty();
        if under_way.is_empty() && !is_more {
            return None;
        }
        tokio::select! {
            Some(ended) = under_way.join_next() => {
                let Ok((at, outcome)) = ended else { continue };
                addresses.retain(|other| *other != at);
                match outcome {
                    Ok(socket) => return Some((socket, at)),
                    Err(cause) => {
                        attempts.push(format!("{host} {at}: {cause}"));
                        // Nothing to wait for.
                        next_at = Instant::now();
                    }
                }
            }
            () = sleep_until(next_at), if is_more => {
                if let Some(at) = waiting.next() {
                    under_way.spawn(async move { (at, connect(at).await) });
                }
                next_at = Instant::now() + DELAY;
            }
            () = sleep_until(by) => {
                attempts.extend(addresses.drain(..).map(|at| format!("{host} {at}: no answer in its share of the time")));
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn families_take_turns() {
        let ips = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"].map(|ip| ip.parse().unwrap());
        let mixed: Vec<String> = interleave(ips.to_vec(), 5269).iter().map(ToString::to_string).collect();
        assert_eq!(mixed, ["[2001:db8::1]:5269", "192.0.2.1:5269", "192.0.2.2:5269", "192.0.2.3:5269"]);
    }

    /// A listener whose queue is full answers no further SYN: to who connects, it is dead.
    fn dead() -> (socket2::Socket, SocketAddr, Vec<std::net::TcpStream>) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(0).unwrap();
        let at = socket.local_addr().unwrap().as_socket().unwrap();
        let connect = || std::net::TcpStream::connect_timeout(&at, Duration::from_millis(100));
        let full: Vec<_> = std::iter::from_fn(|| connect().ok()).take(8).collect();
        (socket, at, full)
    }

    #[tokio::test]
    async fn one_that_is_dead_holds_up_the_next_by_a_moment_only() {
        let (_socket, dead, _full) = dead();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good_at = good.local_addr().unwrap();
        let (mut addresses, mut attempts) = (vec![closed, dead, good_at], Vec::new());
        let begun = Instant::now();
        let by = begun + Duration::from_secs(5);
        let (_, at) = race("a.example", &mut addresses, by, &mut attempts).await.unwrap();
        assert_eq!(at, good_at);
        let took = begun.elapsed();
        assert!((DELAY..DELAY * 4).contains(&took), "{took:?}");
        assert_eq!(addresses, [dead], "the one that did not answer yet may be tried again");
        assert!(attempts.len() == 1 && attempts[0].contains("refused"), "{attempts:?}");
        let by = Instant::now() + Duration::from_millis(300);
        assert!(race("a.example", &mut addresses, by, &mut attempts).await.is_none());
        assert!(attempts[1].contains("no answer"), "{attempts:?}");
    }
}
