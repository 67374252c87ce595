//! SIP as far as the load needs it: messages made beforehand with a few places to fill in, and a reading of headers that knows only where lines are.

use memchr::memmem;

/// Users of each side; the nth of one has to do with the nth of the other.
pub const USERS: u32 = 10_240;
/// Of a MESSAGE, in bytes.
pub const BODY: usize = 300;

/// How long the first whole message in `bytes` is; what keeps a connection alive counts as one.
pub fn frame(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"\r\n") {
        return Some(2);
    }
    let head = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let length = header(&bytes[..head], b"content-length").and_then(number).unwrap_or(0);
    (bytes.len() >= head + length).then_some(head + length)
}

fn number(value: &[u8]) -> Option<usize> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    memchr::memchr_iter(b'\n', head).map(move |end| {
        let line = &head[at..end];
        at = end + 1;
        line.strip_suffix(b"\r").unwrap_or(line)
    })
}

/// A header line's value, when it is this header's.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let is_it = line.len() > name.len() && line[name.len()] == b':' && line[..name.len()].eq_ignore_ascii_case(name);
    is_it.then(|| line[name.len() + 1..].trim_ascii())
}

fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    lines(head).find_map(|line| value(line, name))
}

/// A whole message.
pub struct Message<'a> {
    /// All of it.
    pub whole: &'a [u8],
    start: &'a [u8],
    lines: Vec<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// `None` for what only keeps a connection alive.
    pub fn parse(whole: &'a [u8]) -> Option<Self> {
        let head = memmem::find(whole, b"\r\n\r\n")? + 2;
        let mut all = lines(&whole[..head]);
        let start = all.next()?;
        Some(Self { whole, start, lines: all.collect() })
    }

    /// Of a response.
    pub fn status(&self) -> Option<u16> {
        let status = self.start.strip_prefix(b"SIP/2.0 ")?;
        std::str::from_utf8(status.get(..3)?).ok()?.parse().ok()
    }

    /// Of a request or of the request that this answers.
    pub fn is_of(&self, method: &[u8]) -> bool {
        self.get(b"cseq").is_some_and(|cseq| cseq.ends_with(method))
    }

    /// The first header of this name.
    pub fn get(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.lines.iter().find_map(|line| value(line, name))
    }

    fn all<'b>(&'b self, name: &'b [u8]) -> impl Iterator<Item = &'a [u8]> + 'b {
        self.lines.iter().filter_map(move |line| value(line, name))
    }

    /// Which of the load's operations it belongs to: the first digits of its Call-ID.
    pub fn operation(&self) -> Option<u32> {
        let digits = std::str::from_utf8(self.get(b"call-id")?.get(..8)?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    }
}

/// A request with places for what differs from one to the next, each as wide as what comes there.
pub struct Template {
    text: Vec<u8>,
    /// Where an operation's number goes, in eight hexadecimal digits.
    ids: Vec<usize>,
    /// Where a user's number goes, in four.
    users: Vec<usize>,
    /// Where CSeq's number goes, in eight decimal ones.
    counts: Vec<usize>,
}

impl Template {
    fn new(text: &str) -> Self {
        let find = |mark: &str| text.match_indices(mark).map(|(at, _)| at).collect();
        Self { ids: find("@ID#####"), users: find("@U##"), counts: find("@COUNT##"), text: text.as_bytes().to_vec() }
    }

    /// The request of one operation.
    pub fn write(&self, operation: u32, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&self.text);
        let message = &mut out[begin..];
        for at in &self.ids {
            hex(operation, &mut message[*at..*at + 8]);
        }
        for at in &self.users {
            hex(operation % USERS, &mut message[*at..*at + 4]);
        }
        for at in &self.counts {
            let mut rest = 10_000_000 + operation % 10_000_000;
            for digit in message[*at..*at + 8].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
    }

    /// In bytes: all of it, and its body.
    pub fn size(&self) -> (usize, usize) {
        let head = memmem::find(&self.text, b"\r\n\r\n").map_or(0, |at| at + 4);
        (self.text.len(), self.text.len() - head)
    }
}

fn hex(number: u32, out: &mut [u8]) {
    let mut rest = number;
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(rest % 16) as usize];
        rest /= 16;
    }
}

/// What is the same in each request of a partner. `run` keeps what one run makes apart from what another made.
fn opening(method: &str, port: u16, run: u64) -> String {
    format!(
        "{method} sip:juliet.@U##@corp.example SIP/2.0\r\n\
         Via: SIP/2.0/TLS sip.lync.example:{port};branch=z9hG4bK{run:016X}.@ID#####;ms-received-cid=3A7F00\r\n\
         Max-Forwards: 69\r\n\
         From: \"Romeo Montague\" <sip:romeo.@U##@lync.example>;tag=@ID#####{tag:08x};epid=8d3b25f0a1\r\n\
         To: <sip:juliet.@U##@corp.example>\r\n\
         Call-ID: @ID#####{run:016x}9f2c41d7\r\n\
         CSeq: @COUNT## {method}\r\n\
         User-Agent: UCCAPI/16.0.7927.1020 OC/16.0.7927.1020 (Skype for Business)\r\n",
        tag = run as u32,
    )
}

/// A page-mode message (RFC 3428).
pub fn message(port: u16, run: u64) -> Template {
    let body: String = "It is the east, and Juliet is the sun. ".chars().cycle().take(BODY).collect();
    let opening = opening("MESSAGE", port, run);
    Template::new(&format!(
        "{opening}\
         Supported: timer\r\n\
         Allow: INVITE, BYE, ACK, CANCEL, INFO, MESSAGE, SUBSCRIBE, NOTIFY\r\n\
         Content-Type: text/plain; charset=UTF-8\r\n\
         Content-Length: {BODY}\r\n\r\n{body}"
    ))
}

/// A subscription to presence (RFC 3856).
pub fn subscribe(port: u16, run: u64) -> Template {
    let opening = opening("SUBSCRIBE", port, run);
    Template::new(&format!(
        "{opening}\
         Contact: <sip:romeo.@U##@sip.lync.example:{port};transport=tls>\r\n\
         Event: presence\r\n\
         Accept: application/pidf+xml\r\n\
         Expires: 3600\r\n\
         Content-Length: 0\r\n\r\n"
    ))
}

/// Where the node is, as its Contact, Record-Route and Via say it.
pub struct Inside {
    /// address:port
    pub at: String,
}

impl Inside {
    /// 200, with what RFC 3261 §8.2.6.2 and §12.1.1 have copied.
    pub fn answer(&self, request: &Message<'_>, out: &mut Vec<u8>) {
        let subscribes = request.is_of(b"SUBSCRIBE");
        out.extend_from_slice(b"SIP/2.0 200 OK\r\n");
        put_all(out, b"Via", request.all(b"via"));
        if subscribes {
            // A home server behind the routing node, say.
            put(out, b"Record-Route", &[b"<sip:", self.at.as_bytes(), b";transport=tls;lr>"]);
            put_all(out, b"Record-Route", request.all(b"record-route"));
        }
        put_all(out, b"From", request.get(b"from"));
        put(out, b"To", &[request.get(b"to").unwrap_or_default(), b";tag=", tag(request)]);
        put_all(out, b"Call-ID", request.get(b"call-id"));
        put_all(out, b"CSeq", request.get(b"cseq"));
        if subscribes {
            put(out, b"Contact", &[b"<sip:juliet@", self.at.as_bytes(), b";transport=tls>"]);
            out.extend_from_slice(b"Expires: 3600\r\n");
        }
        out.extend_from_slice(b"Server: imp/1.0\r\nContent-Length: 0\r\n\r\n");
    }

    /// The subscription's first NOTIFY, along its route set (RFC 3261 §12.2.1.1).
    pub fn notify(&self, subscribe: &Message<'_>, out: &mut Vec<u8>) {
        let contact = subscribe.get(b"contact").unwrap_or_default();
        let to = subscribe.get(b"to").unwrap_or_default();
        let pres = uri(to).strip_prefix(b"sip:").unwrap_or_default();
        let open =
            br#"<?xml version="1.0" encoding="UTF-8"?><presence xmlns="urn:ietf:params:xml:ns:pidf" entity="pres:"#;
        let close =
            br#""><tuple id="t1"><status><basic>open</basic></status><note>in the orchard</note></tuple></presence>"#;
        out.extend_from_slice(b"NOTIFY ");
        out.extend_from_slice(uri(contact));
        out.extend_from_slice(b" SIP/2.0\r\n");
        put(out, b"Via", &[b"SIP/2.0/TLS ", self.at.as_bytes(), b";branch=z9hG4bKn", tag(subscribe)]);
        out.extend_from_slice(b"Max-Forwards: 70\r\n");
        put_all(out, b"Route", subscribe.all(b"record-route"));
        put(out, b"From", &[to, b";tag=", tag(subscribe)]);
        put_all(out, b"To", subscribe.get(b"from"));
        put_all(out, b"Call-ID", subscribe.get(b"call-id"));
        out.extend_from_slice(b"CSeq: 1 NOTIFY\r\n");
        put(out, b"Contact", &[b"<sip:juliet@", self.at.as_bytes(), b";transport=tls>"]);
        out.extend_from_slice(b"Event: presence\r\nSubscription-State: active;expires=3600\r\n");
        out.extend_from_slice(b"Content-Type: application/pidf+xml\r\nContent-Length: ");
        out.extend_from_slice((open.len() + pres.len() + close.len()).to_string().as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(open);
        out.extend_from_slice(pres);
        out.extend_from_slice(close);
    }
}

/// 200 to a NOTIFY.
pub fn accept(request: &Message<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"SIP/2.0 200 OK\r\n");
    for name in [b"Via".as_slice(), b"From", b"To", b"Call-ID", b"CSeq"] {
        put_all(out, name, request.all(&name.to_ascii_lowercase()));
    }
    out.extend_from_slice(b"User-Agent: UCCAPI/16.0.7927.1020\r\nContent-Length: 0\r\n\r\n");
}

/// The first digits of the Call-ID, which differ in each dialog, and some of the rest, which differs in each run.
fn tag<'a>(request: &Message<'a>) -> &'a [u8] {
    let id = request.get(b"call-id").unwrap_or_default();
    id.get(..24).unwrap_or(id)
}

fn uri(value: &[u8]) -> &[u8] {
    let begin = memchr::memchr(b'<', value).map_or(0, |at| at + 1);
    let end = memchr::memchr(b'>', value).unwrap_or(value.len());
    value.get(begin..end).unwrap_or_default()
}

fn put(out: &mut Vec<u8>, name: &[u8], parts: &[&[u8]]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

fn put_all<'a>(out: &mut Vec<u8>, name: &[u8], values: impl IntoIterator<Item = &'a [u8]>) {
    for value in values {
        put(out, name, &[value]);
    }
}
