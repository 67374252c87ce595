//! Parameter lists: `;name=value;flag` of header values (RFC 3261 §25.1 generic-param) and of URIs (§19.1.1).

use super::plain;

/// The white space a header value may hold once it is unfolded.
pub(super) const LWS: [char; 4] = [' ', '\t', '\r', '\n'];

/// What a byte may stand in: a bit each, so that one small table answers for all, as every byte of a head is asked about.
const CLASSES: [u16; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        if (byte as u8).is_ascii_alphanumeric() {
            classes[byte] = TOKEN | PLAIN | WORD | USER | PASSWORD | PARAM | PARAM_VALUE | LABEL;
        }
        // What ends an unquoted value.
        if !matches!(byte as u8, b'"' | b'<' | b'>' | b',' | b';' | b'\\' | 0..=b' ' | 0x7f) {
            classes[byte] |= VALUE;
        }
        byte += 1;
    }
    let also: [(u16, &[u8]); 8] = [
        (TOKEN, b"-.!%*_+`'~"),
        (PLAIN, b"-.!%*_+`'~()/:@[]<>,?&$="),
        (WORD, b"-.!%*_+`'~()<>:\\\"/[]?{}"),
        (USER, b"-_.!~*'()&=+$,;?/"),
        (PASSWORD, b"-_.!~*'()&=+$,"),
        (PARAM, b"-_.!~*'()[]/:&+$"),
        (PARAM_VALUE, b"-_.!~*'()[]/:&+$="),
        (LABEL, b"-_"),
    ];
    let mut class = 0;
    while class < also.len() {
        let (bit, bytes) = also[class];
        let mut at = 0;
        while at < bytes.len() {
            classes[bytes[at] as usize] |= bit;
            at += 1;
        }
        class += 1;
    }
    classes
};

/// RFC 3261 §25.1: a token.
pub(super) const TOKEN: u16 = 1;
/// A parameter's value that holds no quote, white space or `;`, whether it is well-formed or not.
const PLAIN: u16 = 2;
/// RFC 3261 §25.1: a word.
pub(super) const WORD: u16 = 4;
/// A header parameter's unquoted value. COMPAT(lync): `=`, `+`, `/` and `:` are taken (`ms-rrsig=aa+/=`), which a token forbids.
pub(super) const VALUE: u16 = 8;
/// RFC 3261 §25.1: unreserved with user-unreserved.
pub(super) const USER: u16 = 16;
/// What a password may hold beside escapes.
pub(super) const PASSWORD: u16 = 32;
/// What a URI parameter's name may hold beside escapes.
pub(super) const PARAM: u16 = 64;
/// What a URI parameter's value may. COMPAT(lync): `=` (`ms-route-sig=aa==`).
pub(super) const PARAM_VALUE: u16 = 128;
/// A label of a DNS name. COMPAT: `_`.
pub(super) const LABEL: u16 = 256;

/// Whether a byte is of a class.
#[inline]
pub(super) fn is(byte: u8, class: u16) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// A token byte.
#[inline]
pub(super) fn is_token_byte(byte: u8) -> bool {
    is(byte, TOKEN)
}

/// A non-empty token.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && run(text.as_bytes(), TOKEN) == text.len()
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
pub(super) type Parameter<'a> = (&'a str, Option<&'a str>);

/// What is left to be read of parameters.
struct Parameters<'a> {
    rest: Option<&'a str>,
}

impl<'a> Parameters<'a> {
    /// The first, if it is `name` or `name=value` without white space and quotes, as nearly all are; and what follows it.
    fn plain(text: &'a str) -> Option<(Parameter<'a>, Option<&'a str>)> {
        let name = run(text.as_bytes(), TOKEN);
        let (end, value) = match text.as_bytes().get(name) {
            Some(b'=') => {
                let value = text.get(name + 1..)?;
                let length = run(value.as_bytes(), PLAIN);
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
#[inline]
pub(super) fn run(bytes: &[u8], class: u16) -> usize {
    run_from(bytes, 0, class)
}

/// Where a run of this class that begins at `at` ends.
#[inline]
pub(super) fn run_from(bytes: &[u8], at: usize, class: u16) -> usize {
    let mut at = at;
    while let Some(byte) = bytes.get(at)
        && is(*byte, class)
    {
        at += 1;
    }
    at
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

/// Whether `;`-separated header parameters are well-formed: token names, values that are a quoted string or hold nothing that
/// ends a value.
pub(super) fn are_well_formed(params: &str, at_allowed: bool) -> bool {
    let is_plain = || plain::params(params, 0, "").is_some_and(|found| found.end == params.len());
    params.is_empty()
        || (at_allowed && is_plain())
        || parameters(params).all(|parameter| is_well_formed(parameter, at_allowed))
}

/// Whether one is.
pub(super) fn is_well_formed((name, value): Parameter<'_>, at_allowed: bool) -> bool {
    is_token(name)
        && value.is_none_or(|value| match value.as_bytes().first() {
            None => false,
            Some(b'"') => quoted_end(value) == Some(value.len()),
            Some(_) => value.bytes().all(|byte| is(byte, VALUE) && (at_allowed || byte != b'@')),
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
