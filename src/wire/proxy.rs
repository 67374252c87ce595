//! The header that a load balancer puts before a connection to say whose it is: "The PROXY protocol", version 2 (§2.2).
//!
//! Its readers on crates.io don't tell `LOCAL` from a client without an address, or bring a second version of what we have; the part of it
//! that means anything here is this small.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// §2.2: what version 2 begins with. No TLS record and no SIP message begins so.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;
/// Of a whole header. Addresses take 216 bytes at most; what a balancer adds to them has this much room.
pub const HEADER_MAX: usize = 536;

/// Whose the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This client's; IPv4 in its own form.
    Client(SocketAddr),
    /// The balancer's own (`LOCAL`): it looks whether we are well.
    Balancer,
}

/// How far a header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes at least are wanted, and none of them is beyond the header.
    More(usize),
    /// It is whole.
    Whole(Origin),
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Something else came.
    Absent,
    /// Version 1, in text.
    Version1,
    /// A version or command that there is not (§2.2 has receivers refuse them).
    Unknown(u8),
    /// A client that did not connect over TCP, or whose address is not told.
    NoAddress(u8),
    /// Longer than [`HEADER_MAX`].
    TooLong(usize),
    /// Too short for the addresses it speaks of.
    TooShort,
}

/// Reads what has come so far, from the first byte on.
pub fn read(bytes: &[u8]) -> Result<Progress, Fault> {
    let begun = bytes.get(..SIGNATURE.len()).unwrap_or(bytes);
    if !SIGNATURE.starts_with(begun) {
        let is_version_1 = begun.starts_with(b"PROXY") || b"PROXY".starts_with(begun);
        return Err(if is_version_1 { Fault::Version1 } else { Fault::Absent });
    }
    let Some([version_command, family, high, low]) = bytes.get(SIGNATURE.len()..FIXED) else {
        return Ok(Progress::More(FIXED.saturating_sub(bytes.len())));
    };
    let whole = FIXED + usize::from(u16::from_be_bytes([*high, *low]));
    let is_local = match version_command {
        0x20 => true,
        0x21 => false,
        other => return Err(Fault::Unknown(*other)),
    };
    if whole > HEADER_MAX {
        return Err(Fault::TooLong(whole));
    }
    let Some(body) = bytes.get(FIXED..whole) else {
        return Ok(Progress::More(whole.saturating_sub(bytes.len())));
    };
    // §2.2: whatever addresses stand in a LOCAL header are to be ignored; so is what follows the addresses.
    let origin = match (is_local, family) {
        (true, _) => Origin::Balancer,
        (false, 0x11) => Origin::Client(tcp::<4, 12>(body, |octets| Ipv4Addr::from(octets).into())?),
        (false, 0x21) => Origin::Client(tcp::<16, 36>(body, |octets| Ipv6Addr::from(octets).to_canonical())?),
        (false, other) => return Err(Fault::NoAddress(*other)),
    };
    Ok(Progress::Whole(origin))
}

/// Source, destination (each `N` bytes), source port, destination port: `ALL` bytes.
fn tcp<const N: usize, const ALL: usize>(
    body: &[u8],
    address: impl FnOnce([u8; N]) -> std::net::IpAddr,
) -> Result<SocketAddr, Fault> {
    let block: &[u8; ALL] = body.first_chunk().ok_or(Fault::TooShort)?;
    let source: &[u8; N] = block.first_chunk().ok_or(Fault::TooShort)?;
    let ports: &[u8; 4] = block.last_chunk().ok_or(Fault::TooShort)?;
    Ok(SocketAddr::new(address(*source), u16::from_be_bytes([ports[0], ports[1]])))
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Absent => f.write_str("no PROXY header came; have the load balancer send version 2"),
            Fault::Version1 => f.write_str("the PROXY header is of version 1; have the load balancer send version 2"),
            Fault::Unknown(byte) => write!(f, "the PROXY header's version and command are unknown (0x{byte:02x})"),
            Fault::NoAddress(byte) => {
                write!(
                    f,
                    "the PROXY header names no TCP client (family 0x{byte:02x}); have the load balancer pass on TCP"
                )
            }
            Fault::TooLong(bytes) => {
                write!(
                    f,
                    "the PROXY header has {bytes} bytes and may have {HEADER_MAX}; have the load balancer add less to it"
                )
            }
            Fault::TooShort => f.write_str("the PROXY header is too short for the addresses it speaks of"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proxy_header::{Protocol, ProxiedAddress, ProxyHeader};

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    const TCP4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xc0, 0x01, 0x13, 0xc5];

    #[test]
    fn names_the_client_and_ignores_the_rest() {
        let client = Ok(Progress::Whole(Origin::Client("192.0.2.7:49153".parse().unwrap())));
        assert_eq!(read(&header(0x21, 0x11, &TCP4)), client);
        let with_more = [&TCP4[..], &[0x03, 0, 4, 1, 2, 3, 4]].concat();
        assert_eq!(read(&header(0x21, 0x11, &with_more)), client, "type-length-values say nothing to us");
        let mapped = [&Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().octets()[..], &[0; 16], &[0xc0, 1, 0x13, 0xc5]];
        assert_eq!(read(&header(0x21, 0x21, &mapped.concat())), client, "mapped IPv4 is IPv4");
        for body in [&[][..], &TCP4] {
            assert_eq!(read(&header(0x20, 0x11, body)), Ok(Progress::Whole(Origin::Balancer)));
        }
        assert_eq!(read(&header(0x20, 0, &[])), Ok(Progress::Whole(Origin::Balancer)));
    }

    #[test]
    fn refuses_what_names_nobody() {
        assert_eq!(read(b"PROXY TCP4 192.0.2.7 198.51.100.1 49153 5061\r\n"), Err(Fault::Version1));
        assert_eq!(read(b"PR"), Err(Fault::Version1), "at its first byte");
        assert_eq!(read(&[0x16, 3, 1, 2, 0]), Err(Fault::Absent), "TLS");
        assert_eq!(read(b"\r\n\r\n"), Ok(Progress::More(12)), "so does a ping of SIP begin");
        assert_eq!(read(b"\r\n\r\nOPTIONS"), Err(Fault::Absent));
        for unknown in [0x10, 0x22, 0x2f, 0x31] {
            assert_eq!(read(&header(unknown, 0x11, &TCP4)), Err(Fault::Unknown(unknown)));
        }
        for family in [0x00, 0x12, 0x22, 0x31, 0xff] {
            assert_eq!(read(&header(0x21, family, &[0; 300])), Err(Fault::NoAddress(family)));
        }
        assert_eq!(read(&header(0x21, 0x11, &TCP4[..11])), Err(Fault::TooShort));
        assert_eq!(read(&header(0x21, 0x21, &[0; 35])), Err(Fault::TooShort));
        assert!(read(&header(0x21, 0x11, &[0; HEADER_MAX - FIXED])).is_ok());
        let long = header(0x21, 0x11, &[0; HEADER_MAX - FIXED + 1]);
        assert_eq!(read(&long[..FIXED]), Err(Fault::TooLong(HEADER_MAX + 1)), "before its body is read");
    }

    /// Reads from a peer that gives at most `at_once` bytes; also how many were taken.
    fn fed(bytes: &[u8], at_once: usize) -> (Result<Option<Origin>, Fault>, usize) {
        let mut taken = 0;
        loop {
            match read(&bytes[..taken]) {
                Ok(Progress::More(wanted)) => {
                    assert!(wanted > 0 && taken + wanted <= HEADER_MAX);
                    if taken == bytes.len() {
                        return (Ok(None), taken);
                    }
                    taken += wanted.min(at_once).min(bytes.len() - taken);
                }
                Ok(Progress::Whole(origin)) => return (Ok(Some(origin)), taken),
                Err(fault) => return (Err(fault), taken),
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            signed: bool,
            command in prop::sample::select(vec![0x20, 0x21, 0x21, 0x22]),
            family in prop::sample::select(vec![0x00, 0x11, 0x12, 0x21, 0x31]),
            at_once in 1usize..700,
        ) {
            let bytes = if signed { header(command, family, &bytes) } else { bytes };
            // A lone `P` may be the beginning of version 1: that alone depends on how much has come.
            let told = |at_once| fed(&bytes, at_once).0.map_err(|fault| if fault == Fault::Version1 { Fault::Absent } else { fault });
            prop_assert_eq!(told(at_once), told(1));
        }

        #[test]
        fn reads_what_another_wrote_and_not_a_byte_more(
            v4: (u32, u32), v6: (u128, u128), is_v4: bool, ports: (u16, u16),
            tlv in prop::collection::vec(any::<u8>(), 0..200), after in prop::collection::vec(any::<u8>(), 0..40), at_once in 1usize..700,
        ) {
            let address = |v4: u32, v6: u128, port| {
                let ip = if is_v4 { Ipv4Addr::from(v4).into() } else { Ipv6Addr::from(v6).into() };
                SocketAddr::new(ip, port)
            };
            let (source, destination) = (address(v4.0, v6.0, ports.0), address(v4.1, v6.1, ports.1));
            let mut theirs = ProxyHeader::with_address(ProxiedAddress { protocol: Protocol::Stream, source, destination });
            theirs.append_tlv(proxy_header::Tlv::Alpn(tlv.into()));
            let mut bytes = Vec::new();
            theirs.encode_v2(&mut bytes).unwrap();
            let length = bytes.len();
            bytes.extend(after);
            let client = SocketAddr::new(source.ip().to_canonical(), source.port());
            prop_assert_eq!(fed(&bytes, at_once), (Ok(Some(Origin::Client(client))), length));
        }
    }
}
