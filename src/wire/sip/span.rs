//! Where parts stand: of a message's head, of a row's value. What was read once is kept as this, and read out whenever it is asked for.

use super::header::Via;
use super::params;
use super::uri::{Host, NameAddr, Scheme, Uri};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A range of the message's bytes. No head is longer than its numbers reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    #[inline]
    pub(super) fn new(start: usize, end: usize) -> Self {
        let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: number(start), end: number(end) }
    }

    #[inline]
    pub(super) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    #[inline]
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.range()).unwrap_or_default()
    }
}

/// A range of a row's value: many are kept for each message, and a value beyond these numbers is read anew each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Part {
    start: u16,
    end: u16,
}

/// Bytes of the longest text whose parts can be told.
pub(super) const PARTS_MAX: usize = u16::MAX as usize;

impl Part {
    /// In a text of [`PARTS_MAX`] at most.
    #[inline]
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u16, end: end as u16 }
    }

    /// Where a part of a text stands in it; of a text that is no part (an empty one that stands nowhere), nothing at its start.
    fn find(whole: &str, part: &str) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        match start.checked_add(part.len()) {
            Some(end) if end <= whole.len() => Self::new(start, end),
            _ => Self::default(),
        }
    }

    #[inline]
    pub(super) fn of(self, whole: &str) -> &str {
        // Most displays, parameters and headers are.
        if self.is_empty() {
            return "";
        }
        whole.get(usize::from(self.start)..usize::from(self.end)).unwrap_or_default()
    }

    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.start >= self.end
    }

    pub(super) fn end(self) -> usize {
        self.end.into()
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum HostSpan {
    Name(Part),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl HostSpan {
    fn find(whole: &str, host: Host<'_>) -> Self {
        match host {
            Host::Name(name) => HostSpan::Name(Part::find(whole, name)),
            Host::V4(address) => HostSpan::V4(address),
            Host::V6(address) => HostSpan::V6(address),
        }
    }

    fn read(self, whole: &str) -> Host<'_> {
        match self {
            HostSpan::Name(name) => Host::Name(name.of(whole)),
            HostSpan::V4(address) => Host::V4(address),
            HostSpan::V6(address) => Host::V6(address),
        }
    }
}

/// The schemes whose URIs are split.
#[derive(Debug, Clone, Copy)]
pub(super) enum SchemeSpan {
    Sip,
    Sips,
    Im,
    Pres,
    Tel,
}

/// Where the parts of a URI stand in a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct UriSpan {
    pub(super) text: Part,
    pub(super) scheme: SchemeSpan,
    pub(super) user: Option<Part>,
    pub(super) host: HostSpan,
    pub(super) port: Option<u16>,
    pub(super) params: Part,
    pub(super) headers: Part,
}

impl UriSpan {
    /// Of a URI that is a part of `whole`; `None`: it is read anew each time, which is so for odd ones alone.
    pub(super) fn find(whole: &str, uri: &Uri<'_>) -> Option<Self> {
        let at = |part: &str| Part::find(whole, part);
        let scheme = match uri.scheme {
            Scheme::Sip => SchemeSpan::Sip,
            Scheme::Sips => SchemeSpan::Sips,
            Scheme::Im => SchemeSpan::Im,
            Scheme::Pres => SchemeSpan::Pres,
            Scheme::Tel => SchemeSpan::Tel,
            Scheme::Other(_) => return None,
        };
        (whole.len() <= PARTS_MAX).then(|| Self {
            text: at(uri.text),
            scheme,
            user: uri.user.map(at),
            host: HostSpan::find(whole, uri.host),
            port: uri.port,
            params: at(uri.params),
            headers: at(uri.headers),
        })
    }

    /// The URI, of the same text.
    pub(super) fn read<'a>(&self, whole: &'a str) -> Uri<'a> {
        let scheme = match self.scheme {
            SchemeSpan::Sip => Scheme::Sip,
            SchemeSpan::Sips => Scheme::Sips,
            SchemeSpan::Im => Scheme::Im,
            SchemeSpan::Pres => Scheme::Pres,
            SchemeSpan::Tel => Scheme::Tel,
        };
        Uri {
            text: self.text.of(whole),
            scheme,
            user: self.user.map(|user| user.of(whole)),
            host: self.host.read(whole),
            port: self.port,
            params: self.params.of(whole),
            headers: self.headers.of(whole),
        }
    }
}

/// Where the parts of an address stand in its row's value: what an address says is asked many times of each message.
#[derive(Debug, Clone, Copy)]
pub(super) struct AddressSpan {
    /// The whole of it, without white space around it.
    pub(super) value: Part,
    pub(super) display: Part,
    pub(super) uri: UriSpan,
    pub(super) params: Part,
    pub(super) tag: Option<Part>,
    /// How many there are; two stand for more.
    pub(super) tags: u8,
}

impl AddressSpan {
    /// Of a part of a row's value that parses.
    pub(super) fn find(whole: &str, value: &str) -> Option<Self> {
        let address = NameAddr::parse(value).ok()?;
        let at = |part: &str| Part::find(whole, part);
        let uri = UriSpan::find(whole, &address.uri)?;
        let (tag, tags) = params::find_and_count(address.params, "tag");
        let (display, params) = (at(address.display), at(address.params));
        Some(Self { value: at(value), display, uri, params, tag: tag.map(at), tags: tags.min(2) as u8 })
    }

    /// The address, of the same row's value.
    pub(super) fn read<'a>(&self, whole: &'a str) -> NameAddr<'a> {
        NameAddr { display: self.display.of(whole), uri: self.uri.read(whole), params: self.params.of(whole) }
    }

    pub(super) fn end(&self) -> usize {
        self.value.end()
    }
}

/// Where the top Via stands in the first Via row's value.
#[derive(Debug, Clone, Copy)]
pub(super) struct ViaSpan {
    pub(super) value: Span,
    pub(super) branch: Option<Span>,
    /// Whether it is the row's first value, and parses.
    pub(super) is_sound: bool,
    /// `None`: it is read anew each time.
    pub(super) parts: Option<ViaParts>,
}

/// What it says.
#[derive(Debug, Clone, Copy)]
pub(super) struct ViaParts {
    pub(super) protocol: Part,
    pub(super) version: Part,
    pub(super) transport: Part,
    pub(super) host: HostSpan,
    pub(super) port: Option<u16>,
    pub(super) params: Part,
}

impl ViaParts {
    /// The Via, of the same row's value.
    pub(super) fn read<'a>(&self, whole: &'a str) -> Via<'a> {
        Via {
            protocol: self.protocol.of(whole),
            version: self.version.of(whole),
            transport: self.transport.of(whole),
            host: self.host.read(whole),
            port: self.port,
            params: self.params.of(whole),
        }
    }
}

/// Where a part of a text stands in it; of a text that is no part, nothing at its start.
pub(super) fn span_in(whole: &str, part: &str) -> Span {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    match start.checked_add(part.len()) {
        Some(end) if end <= whole.len() => Span::new(start, end),
        _ => Span::default(),
    }
}
