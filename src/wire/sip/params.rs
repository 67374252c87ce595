//! Parameter lists: `;name=value;flag` of header values (RFC 3261 §25.1 generic-param) and of URIs (§19.1.1).

/// The white space a header value may hold once it is unfolded.
pub(super) const LWS: [char; 4] = [' ', '\t', '\r', '\n'];

/// Bytes of a token (RFC 3261 §25.1).
pub(super) const TOKEN: [bool; 256] = class(b"-.!%*_+`'~");

/// A token byte.
pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// Letters, digits, and these: a table, as every byte of a head is asked about.
pub(super) const fn class(also: &[u8]) -> [bool; 256] {
    let mut class = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < also.len() {
        class[also[at] as usize] = true;
        at += 1;
    }
    class
}

/// A non-empty token.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && run(text.as_bytes(), &TOKEN) == text.len()
}

/// Only digits, at least one. `str::parse` would also take a sign.
pub(super) fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// The end of the quoted-string that `text` begins with, behind its closing quote (RFC 3261 §25.1).
pub(super) fn quoted_end(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate();
    if bytes.next() != Some((0, b'"')) {
        return None;
    }
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(at + 1),
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
    None
}

/// Splits at `separator` outside quoted strings and, if `brackets`, outside `<…>`. Parts come as written, empty ones too.
#[derive(Debug, Clone)]
pub(super) struct Split<'a> {
    rest: Option<&'a str>,
    separator: u8,
    brackets: bool,
}

impl<'a> Split<'a> {
    pub(super) fn new(text: &'a str, separator: u8, brackets: bool) -> Self {
        Self { rest: Some(text), separator, brackets }
    }

    /// Where the first part of a text ends; `None`: it is the last.
    fn end(&self, text: &str) -> Option<usize> {
        let mut at = 0;
        loop {
            let rest = text.get(at..)?;
            at += memchr::memchr3(self.separator, b'"', b'<', rest.as_bytes())?;
            let rest = text.get(at..)?;
            at += match rest.as_bytes().first() {
                Some(b'"') => quoted_end(rest)?,
                Some(b'<') if self.brackets => memchr::memchr(b'>', rest.as_bytes())? + 1,
                Some(b'<') => 1,
                _ => return Some(at),
            };
        }
    }
}

impl<'a> Iterator for Split<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest.take()?;
        let Some(at) = self.end(text) else { return Some(text) };
        // ASCII, so always a char boundary.
        self.rest = text.get(at + 1..);
        text.get(..at)
    }
}

/// One parameter: its name and, behind `=`, its value; white space around either is gone (RFC 3261 §25.1 EQUAL).
fn parameter(part: &str) -> Parameter<'_> {
    match cut(part, b'=') {
        Some((name, value)) => (trim(name), Some(trim(value))),
        None => (trim(part), None),
    }
}

/// What stands before and behind the first of an ASCII character. It is looked for byte by byte: it is near, or the text short.
pub(super) fn cut(text: &str, separator: u8) -> Option<(&str, &str)> {
    cut_where(text, |byte| byte == separator)
}

/// As [`cut`], at the first of several ASCII characters.
pub(super) fn cut_where(text: &str, is_separator: impl Fn(u8) -> bool) -> Option<(&str, &str)> {
    let at = text.bytes().position(is_separator)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// White space that a header value may hold once it is unfolded.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Without white space around it. Most texts have none.
pub(super) fn trim(text: &str) -> &str {
    let is_bare = |byte: Option<&u8>| byte.is_none_or(|byte| !is_space(*byte));
    if is_bare(text.as_bytes().first()) && is_bare(text.as_bytes().last()) { text } else { text.trim_matches(LWS) }
}

/// The parameters of a header value, without the leading `;`, in order.
pub fn parameters(params: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    Parameters { rest: Some(params).filter(|params| !params.is_empty()) }
}

/// A name and, behind `=`, its value.
type Parameter<'a> = (&'a str, Option<&'a str>);

/// What is left to be read of parameters.
struct Parameters<'a> {
    rest: Option<&'a str>,
}

impl<'a> Parameters<'a> {
    /// The first, if it is `name` or `name=value` without white space and quotes, as nearly all are; and what follows it.
    fn plain(text: &'a str) -> Option<(Parameter<'a>, Option<&'a str>)> {
        const VALUE: [bool; 256] = class(b"-.!%*_+`'~()/:@[]<>,?&$=");
        let name = run(text.as_bytes(), &TOKEN);
        let (end, value) = match text.as_bytes().get(name) {
            Some(b'=') => {
                let value = text.get(name + 1..)?;
                let length = run(value.as_bytes(), &VALUE);
                (name + 1 + length, Some(value.get(..length)?))
            }
            _ => (name, None),
        };
        let rest = match text.as_bytes().get(end) {
            None => None,
            Some(b';') => text.get(end + 1..),
            Some(_) => return None,
        };
        Some(((text.get(..name)?, value), rest))
    }
}

impl<'a> Iterator for Parameters<'a> {
    type Item = Parameter<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.rest.take()?;
        if let Some((parameter, rest)) = Self::plain(text) {
            self.rest = rest;
            return Some(parameter);
        }
        let mut parts = Split::new(text, b';', false);
        let part = parts.next()?;
        self.rest = parts.rest;
        Some(parameter(part))
    }
}

/// How many bytes at the beginning are of this class.
pub(super) fn run(bytes: &[u8], class: &[bool; 256]) -> usize {
    bytes.iter().position(|byte| !class[usize::from(*byte)]).unwrap_or(bytes.len())
}

/// A header parameter by its name, case-insensitive; `Some("")` for one without value. A quoted value comes without its quotes
/// unless a backslash in it has a meaning: then it comes as written.
pub fn find<'a>(params: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = parameters(params).find(|(found, _)| found.eq_ignore_ascii_case(name))?;
    Some(value.map_or("", unquote))
}

fn unquote(value: &str) -> &str {
    match value.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
        Some(inner) if !inner.contains('\\') => inner,
        _ => value,
    }
}

/// What ends an unquoted value.
const ENDS_VALUE: [bool; 256] = {
    let mut ends = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        ends[byte] = matches!(byte as u8, b'"' | b'<' | b'>' | b',' | b';' | b'\\' | 0..=b' ' | 0x7f);
        byte += 1;
    }
    ends
};

/// Whether `;`-separated header parameters are well-formed: token names, values that are a quoted string or hold nothing that
/// ends a value. COMPAT(lync): `=`, `+`, `/` and `:` are taken in unquoted values (`ms-rrsig=aa+/=`), which a token forbids.
pub(super) fn are_well_formed(params: &str, at_allowed: bool) -> bool {
    parameters(params).all(|(name, value)| {
        is_token(name)
            && value.is_none_or(|value| match value.as_bytes().first() {
                None => false,
                Some(b'"') => quoted_end(value) == Some(value.len()),
                Some(_) => value.bytes().all(|byte| !ENDS_VALUE[usize::from(byte)] && (at_allowed || byte != b'@')),
            })
    })
}

/// As [`find`], and how often it is there. Two `tag`s are two answers to one question.
pub(super) fn find_and_count<'a>(params: &'a str, name: &str) -> (Option<&'a str>, usize) {
    let mut found = parameters(params).filter(|(found, _)| found.eq_ignore_ascii_case(name));
    let first = found.next().map(|(_, value)| value.map_or("", unquote));
    let count = usize::from(first.is_some()) + found.count();
    (first, count)
}

/// How often a parameter is there.
pub(super) fn count(params: &str, name: &str) -> usize {
    find_and_count(params, name).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_outside_quotes_and_brackets() {
        let parts: Vec<_> = Split::new(r#""a,\",b" <sip:x,y@z>;q=1, <sip:b@c>,"#, b',', true).collect();
        assert_eq!(parts, [r#""a,\",b" <sip:x,y@z>;q=1"#, " <sip:b@c>", ""]);
    }

    #[test]
    fn quoted_separator_is_not_a_separator() {
        assert_eq!(find(r#"x="t;tag=no";tag=yes1"#, "TAG"), Some("yes1"));
        assert_eq!(find(r#"x="t;tag=no";tag=yes1"#, "x"), Some("t;tag=no"));
        assert_eq!(find(r#"x="a\"b""#, "x"), Some(r#""a\"b""#));
        assert_eq!(find("lr;a = b", "a"), Some("b"));
        assert_eq!(find("lr;a = b", "lr"), Some(""));
        assert_eq!(find("", ""), None);
    }

    #[test]
    fn malformed_lists() {
        for bad in [";", "a;", "a;;b", "=b", "a=", "a=\"x", "a=\"x\"y", "a b", "a=b c", "a=b,c"] {
            assert!(!are_well_formed(bad, true), "{bad}");
        }
        for good in ["", "a", "a=b", "a = b ; c", "sig=aa+/==", r#"x="a,;\"""#] {
            assert!(are_well_formed(good, false), "{good}");
        }
    }
}
