//! Cuts a byte stream into a stream header, elements and the stream's end, refusing what RFC 6120 §11.1 forbids.
//!
//! It finds where elements end and no more: quick-xml's [`ElementParser`] finds the end of a tag, a counter the end of an element. Whether
//! an element is well-formed inside is for [`super::Element::parse_in`], which takes exactly one whole element, so that the
//! two can't disagree on where one ends.

use super::lexis::check_declaration;
use super::stream::{StreamError, StreamHeader};
use crate::wire::limits::XML_DEPTH;
use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memmem};
use quick_xml::parser::{ElementParser, Parser};

/// What the stream holds next.
#[derive(Debug, Clone)]
pub enum Frame {
    /// `<stream:stream …>`
    Header(StreamHeader),
    /// One whole child of the stream, as received; depth and size within bounds, not yet known to be well-formed.
    Element(Bytes),
    /// `</stream:stream>`
    End,
}

/// An incremental framer with bounds. After an error nothing more can be read.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    element_bytes_max: usize,
    phase: Phase,
    scan: Scan,
    /// Everything before this was looked at; the buffer begins with the frame under way.
    scanned: usize,
    /// Elements open in the frame under way.
    depth: usize,
}

/// How far the stream is.
#[derive(Debug)]
enum Phase {
    /// No header yet; `fresh` while not a byte of the stream is consumed.
    Prolog { fresh: bool },
    /// In the stream whose header's tag has this name.
    Stream { name: String },
    /// `</stream:stream>` was read.
    Ended,
    /// Refused.
    Failed(StreamError),
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
enum Scan {
    /// The next `<`.
    Text,
    /// What follows the `<` at `scanned`.
    Markup,
    /// The end of `<?xml`.
    Declaration,
    /// The end of `<![CDATA[`.
    CData,
    /// The end of a start tag.
    Start(ElementParser),
    /// The end of an end tag.
    End,
}

/// One step of scanning.
enum Step {
    Further,
    Starved,
    Frame(Frame),
}

const CDATA: &[u8] = b"<![CDATA[";
const DECLARATION: &[u8] = b"<?xml";

impl Framer {
    /// `element_bytes_max`: one child of the stream, or the header.
    pub fn new(element_bytes_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            element_bytes_max,
            phase: Phase::Prolog { fresh: true },
            scan: Scan::Text,
            scanned: 0,
            depth: 0,
        }
    }
    /// Raises the bound once the peer is proven.
    pub fn set_element_bytes_max(&mut self, bytes: usize) {
        self.element_bytes_max = bytes;
    }
    /// Forgets the stream so that a new header is expected (RFC 6120 §4.3.3), keeping the bound. Returns how many bytes were already
    /// buffered, not counting white space, which is dropped: pipelined before TLS they must be refused by the caller.
    pub fn restart(&mut self) -> usize {
        if !matches!(self.phase, Phase::Failed(_)) {
            self.phase = Phase::Prolog { fresh: true };
            self.scan = Scan::Text;
            self.scanned = 0;
            self.depth = 0;
            self.skip_space();
        }
        self.buffer.len()
    }
    /// Where the reader puts bytes.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }
    /// The next frame, if a whole one is there. Never looks at a byte twice; call until `None`.
    #[allow(clippy::should_implement_trait)] // an iterator would say that a `None` is the end
    pub fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        loop {
            match self.step() {
                Ok(Step::Further) => {}
                Ok(Step::Starved) => return Ok(None),
                Ok(Step::Frame(frame)) => return Ok(Some(frame)),
                Err(error) => {
                    self.buffer.clear();
                    self.phase = Phase::Failed(error);
                    return Err(error);
                }
            }
        }
    }

    fn step(&mut self) -> Result<Step, StreamError> {
        match self.phase {
            Phase::Failed(error) => return Err(error),
            Phase::Ended => {
                self.buffer.clear();
                return Ok(Step::Starved);
            }
            Phase::Prolog { .. } | Phase::Stream { .. } => {}
        }
        if matches!(self.scan, Scan::Text) && self.depth == 0 {
            if self.skip_space() > 0 && matches!(self.phase, Phase::Prolog { .. }) {
                self.phase = Phase::Prolog { fresh: false };
            }
            if self.buffer.is_empty() {
                return Ok(Step::Starved);
            }
        }
        // Nothing beyond the bound is looked at, so that the outcome does not depend on how the bytes were cut.
        let window = self.buffer.get(..self.element_bytes_max).unwrap_or(&self.buffer);
        let ahead = window.get(self.scanned..).unwrap_or_default();
        let (scan, advance) = match self.scan {
            Scan::Text => match memchr(b'<', ahead) {
                Some(at) if at > 0 && self.depth == 0 => return Err(self.stray_text()),
                Some(at) => (Scan::Markup, at),
                None if self.depth == 0 && !ahead.is_empty() => return Err(self.stray_text()),
                None => return self.starve(ahead.len()),
            },
            Scan::Markup => match self.markup(ahead)? {
                Some(next) => next,
                None => return self.starve(0),
            },
            Scan::Declaration => match memmem::find(ahead, b"?>") {
                Some(at) => {
                    let declaration = self.buffer.split_to(self.scanned + at + 2);
                    check_declaration(&declaration)?;
                    self.begin();
                    self.phase = Phase::Prolog { fresh: false };
                    return Ok(Step::Further);
                }
                None => return self.starve(ahead.len().saturating_sub(1)),
            },
            Scan::CData => match memmem::find(ahead, b"]]>") {
                Some(at) => (Scan::Text, at + 3),
                None => return self.starve(ahead.len().saturating_sub(2)),
            },
            Scan::Start(mut parser) => match parser.feed(ahead) {
                Some(at) => {
                    let end = self.scanned + at;
                    let empty = window.get(..end).is_some_and(|tag| tag.ends_with(b"/"));
                    return self.start(end + 1, empty);
                }
                None => {
                    self.scan = Scan::Start(parser);
                    return self.starve(ahead.len());
                }
            },
            // XML 1.0 [42]: no attributes in an end tag, hence no quotes.
            Scan::End => match memchr(b'>', ahead) {
                Some(at) => {
                    let end = self.scanned + at + 1;
                    return self.end(end);
                }
                None => return self.starve(ahead.len()),
            },
        };
        self.scan = scan;
        self.scanned += advance;
        Ok(Step::Further)
    }

    /// Everything in the window was looked at up to `advance` bytes further, and the frame goes on.
    fn starve(&mut self, advance: usize) -> Result<Step, StreamError> {
        self.scanned += advance;
        if self.buffer.len() > self.element_bytes_max {
            // RFC 6120 §13.12.
            return Err(StreamError::StanzaTooBig);
        }
        Ok(Step::Starved)
    }

    /// What a `<` begins, and how many bytes of it are settled. `None`: more is needed to tell.
    fn markup(&self, ahead: &[u8]) -> Result<Option<(Scan, usize)>, StreamError> {
        let Some(second) = ahead.get(1) else { return Ok(None) };
        let prolog = matches!(self.phase, Phase::Prolog { .. });
        match second {
            b'/' => Ok(Some((Scan::End, 2))),
            b'!' if ahead.starts_with(CDATA) => match self.depth {
                // Character data, however spelled, is no child of the stream.
                0 => Err(self.stray_text()),
                _ => Ok(Some((Scan::CData, CDATA.len()))),
            },
            b'!' if CDATA.starts_with(ahead) => Ok(None),
            // DOCTYPE or comment.
            b'!' => Err(StreamError::RestrictedXml),
            b'?' if matches!(self.phase, Phase::Prolog { fresh: true }) => match ahead.get(DECLARATION.len()) {
                Some(b' ' | b'\t' | b'\r' | b'\n') if ahead.starts_with(DECLARATION) => {
                    Ok(Some((Scan::Declaration, DECLARATION.len())))
                }
                None if DECLARATION.starts_with(ahead) => Ok(None),
                _ => Err(StreamError::RestrictedXml),
            },
            b'?' => Err(StreamError::RestrictedXml),
            // `<` in UTF-16LE.
            0 if prolog => Err(StreamError::UnsupportedEncoding),
            _ => Ok(Some((Scan::Start(ElementParser::default()), 1))),
        }
    }

    fn start(&mut self, end: usize, empty: bool) -> Result<Step, StreamError> {
        if matches!(self.phase, Phase::Prolog { .. }) {
            let tag = self.buffer.split_to(end);
            let (header, name) = StreamHeader::parse(&tag)?;
            self.begin();
            self.phase = Phase::Stream { name };
            return Ok(Step::Frame(Frame::Header(header)));
        }
        if self.depth == XML_DEPTH {
            return Err(StreamError::PolicyViolation);
        }
        if empty && self.depth == 0 {
            return Ok(self.cut(end));
        }
        if !empty {
            self.depth += 1;
        }
        self.scan = Scan::Text;
        self.scanned = end;
        Ok(Step::Further)
    }

    fn end(&mut self, end: usize) -> Result<Step, StreamError> {
        match self.depth {
            0 => {
                let tag = self.buffer.split_to(end);
                let inside = tag.strip_prefix(b"</").and_then(|tag| tag.strip_suffix(b">")).unwrap_or_default();
                match &self.phase {
                    Phase::Stream { name } if inside.trim_ascii_end() == name.as_bytes() => {
                        self.begin();
                        self.phase = Phase::Ended;
                        Ok(Step::Frame(Frame::End))
                    }
                    _ => Err(StreamError::NotWellFormed),
                }
            }
            1 => Ok(self.cut(end)),
            _ => {
                self.depth -= 1;
                self.scan = Scan::Text;
                self.scanned = end;
                Ok(Step::Further)
            }
        }
    }

    fn cut(&mut self, end: usize) -> Step {
        let element = self.buffer.split_to(end).freeze();
        self.begin();
        Step::Frame(Frame::Element(element))
    }

    fn begin(&mut self) {
        self.scan = Scan::Text;
        self.scanned = 0;
        self.depth = 0;
    }

    fn skip_space(&mut self) -> usize {
        let space = self.buffer.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).count();
        self.buffer.advance(space);
        space
    }

    /// Character data where there may be none.
    fn stray_text(&self) -> StreamError {
        match (&self.phase, self.buffer.first()) {
            // A byte order mark of UTF-16, or UTF-16BE without one.
            (Phase::Prolog { .. }, Some(0 | 0xFE | 0xFF)) => StreamError::UnsupportedEncoding,
            (Phase::Prolog { .. }, _) => StreamError::NotWellFormed,
            // Well-formed, but not a child that a stream may have (RFC 6120 §4.9.3.1).
            _ => StreamError::BadFormat,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::xmpp::{Element, NS_SERVER};
    use proptest::prelude::*;

    const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:server' \
                          xmlns:stream='http://etherx.jabber.org/streams' to='a>b'>";

    /// What a stream is read as, header and end in short form.
    fn frames(chunks: &[&[u8]], max: usize) -> (Vec<String>, Option<StreamError>) {
        let mut framer = Framer::new(max);
        let mut found = Vec::new();
        for chunk in chunks {
            framer.buffer().extend_from_slice(chunk);
            loop {
                match framer.next() {
                    Ok(Some(Frame::Header(header))) => found.push(format!("to {}", header.to.unwrap_or_default())),
                    Ok(Some(Frame::Element(bytes))) => found.push(String::from_utf8_lossy(&bytes).into_owned()),
                    Ok(Some(Frame::End)) => found.push("end".to_owned()),
                    Ok(None) => break,
                    Err(error) => return (found, Some(error)),
                }
            }
        }
        (found, None)
    }

    fn whole(text: &str) -> (Vec<String>, Option<StreamError>) {
        frames(&[text.as_bytes()], 1000)
    }

    #[test]
    fn elements_are_cut_at_their_ends() {
        let children = ["<a b='>' c=\"/>'\"/>", "<a><b/>text > &gt;<c><![CDATA[</a><!-- ]]</a>]]></c></a >", "<a></a>"];
        let (found, error) =
            whole(&format!("{HEADER} \n{}\t{}{}</stream:stream\n>rest<", children[0], children[1], children[2]));
        assert_eq!(error, None);
        assert_eq!(found, ["to a>b", children[0], children[1], children[2], "end"]);
    }

    #[test]
    fn what_streams_may_not_hold_is_refused() {
        use StreamError as E;
        let cases = [
            ("<!DOCTYPE s []>", E::RestrictedXml),
            ("<?php x?>", E::RestrictedXml),
            ("<?xml-stylesheet x?>", E::RestrictedXml),
            ("<?xml version='1.0'?><?xml version='1.0'?>", E::RestrictedXml),
            (" <?xml version='1.0'?>", E::RestrictedXml),
            ("<?xml version='1.0' encoding='UTF-16'?>", E::UnsupportedEncoding),
            ("\u{FEFF}<stream/>", E::NotWellFormed),
            ("hello", E::NotWellFormed),
            ("</stream:stream>", E::NotWellFormed),
            ("<stream:stream xmlns:stream='http://etherx.jabber.org/streams'/>", E::NotWellFormed),
            ("<stream:stream xmlns:stream='urn:x'>", E::InvalidNamespace),
            ("<stream:stream>", E::BadNamespacePrefix),
            ("<s:steam xmlns:s='http://etherx.jabber.org/streams'>", E::BadFormat),
        ];
        for (text, error) in cases {
            assert_eq!(whole(text), (vec![], Some(error)), "{text}");
        }
        let cases = [
            ("<!-- x -->", E::RestrictedXml),
            ("<a><!-- x --></a>", E::RestrictedXml),
            ("<a><?x?></a>", E::RestrictedXml),
            ("<!DOCTYPE x>", E::RestrictedXml),
            ("<?xml version='1.0'?>", E::RestrictedXml),
            ("text", E::BadFormat),
            ("<![CDATA[x]]>", E::BadFormat),
            ("</stream>", E::NotWellFormed),
        ];
        for (text, error) in cases {
            assert_eq!(whole(&format!("{HEADER}{text}")), (vec!["to a>b".to_owned()], Some(error)), "{text}");
        }
    }

    #[test]
    fn utf_16_is_refused() {
        let text: Vec<u8> = "<?xml version='1.0'?>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(frames(&[&text], 1000).1, Some(StreamError::UnsupportedEncoding));
        assert_eq!(frames(&[&[0xFF, 0xFE], &text], 1000).1, Some(StreamError::UnsupportedEncoding));
        let text: Vec<u8> = "<a>".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(frames(&[&text], 1000).1, Some(StreamError::UnsupportedEncoding));
    }

    #[test]
    fn elements_are_bounded_in_size_and_depth() {
        let element = format!("<a>{}</a>", "x".repeat(993));
        assert_eq!(element.len(), 1000);
        assert_eq!(whole(&format!("{HEADER}{element}")).1, None);
        assert_eq!(whole(&format!("{HEADER}{element}{element}")).0.len(), 3);
        let element = format!("<a>{}</a>", "x".repeat(994));
        assert_eq!(whole(&format!("{HEADER}{element}")).1, Some(StreamError::StanzaTooBig));
        assert_eq!(whole(&format!("<a b='{}", "x".repeat(1000))).1, Some(StreamError::StanzaTooBig));
        assert_eq!(whole(&format!("{HEADER}{}", "<a>".repeat(65))).1, Some(StreamError::PolicyViolation));
        assert_eq!(whole(&format!("{HEADER}{}", "<a>".repeat(64))).1, None);
    }

    #[test]
    fn a_restart_expects_a_new_header() {
        let mut framer = Framer::new(1000);
        framer.buffer().extend_from_slice(HEADER.as_bytes());
        assert!(matches!(framer.next(), Ok(Some(Frame::Header(_)))));
        framer.buffer().extend_from_slice(b"<proceed/> \n");
        assert!(matches!(framer.next(), Ok(Some(Frame::Element(_)))));
        assert_eq!(framer.restart(), 0);
        framer.buffer().extend_from_slice(HEADER.as_bytes());
        assert!(matches!(framer.next(), Ok(Some(Frame::Header(_)))));
        framer.buffer().extend_from_slice(b"<a/><b/>");
        assert!(matches!(framer.next(), Ok(Some(Frame::Element(_)))));
        assert_eq!(framer.restart(), 4);
    }

    fn stream_text() -> impl Strategy<Value = Vec<u8>> {
        let part = prop::sample::select(vec![
            HEADER,
            "<a>",
            "</a>",
            "<a/>",
            "<a b='",
            "'",
            "\"",
            ">",
            "<",
            "/",
            "text",
            " ",
            "<![CDATA[",
            "]]>",
            "]",
            "<!--",
            "<?xml version='1.0'?>",
            "</stream:stream>",
            "\u{0}",
            "&amp;",
            "<b c='>'><d/></b>",
        ]);
        (any::<bool>(), prop::collection::vec(part, 0..16)).prop_map(|(header, parts)| {
            let header = if header { HEADER } else { "" };
            format!("{header}{}", parts.concat()).into_bytes()
        })
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(text in stream_text(), cuts in prop::collection::vec(1usize..9, 1..20), max in 1usize..260) {
            let mut chunks = Vec::new();
            let (mut rest, mut cuts) = (text.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (chunk, behind) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                chunks.push(chunk);
                rest = behind;
            }
            prop_assert_eq!(frames(&[&text], max), frames(&chunks, max));
        }

        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = frames(&[&bytes], 100);
            let _ = frames(&[HEADER.as_bytes(), &bytes], 300);
        }

        /// What the framer cuts out and the parser accepts is one element, of which no proper prefix would have been cut.
        #[test]
        fn framer_and_parser_agree(text in stream_text()) {
            for frame in frames(&[HEADER.as_bytes(), &text], 1000).0.iter().filter(|frame| frame.starts_with('<')) {
                if let Ok(element) = Element::parse(frame.as_bytes(), NS_SERVER) {
                    let printed = element.print(NS_SERVER);
                    let again = frames(&[HEADER.as_bytes(), printed.as_bytes()], 2000);
                    prop_assert_eq!(again.0.get(1), Some(&printed));
                }
            }
        }
    }
}
