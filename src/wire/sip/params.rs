//! Parameter lists: `;name=value;flag` of header values (RFC 3261 §25.1 generic-param) and of URIs (§19.1.1).

/// The white space a header value may hold once it is unfolded.
pub(super) const LWS: [char; 4] = [' ', '\t', '\r', '\n'];

/// A token byte (RFC 3261 §25.1).
pub(super) fn is_token_byte(byte: u8) -> bool {
    const TOKEN: [bool; 256] = class(b"-.!%*_+`'~");
    TOKEN.get(usize::from(byte)).is_some_and(|is| *is)
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
    !text.is_empty() && text.bytes().all(is_token_byte)
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
    /// Whether nothing can hide a separator: most texts.
    plain: bool,
}

impl<'a> Split<'a> {
    pub(super) fn new(text: &'a str, separator: u8, brackets: bool) -> Self {
        let hides = |byte| byte == b'"' || (brackets && byte == b'<');
        Self { rest: Some(text), separator, brackets, plain: !text.bytes().any(hides) }
    }

    /// Cuts before and behind a separator; ASCII, so always a char boundary.
    fn cut(text: &'a str, at: usize) -> (&'a str, Option<&'a str>) {
        (text.get(..at).unwrap_or_default(), text.get(at + 1..))
    }
}

impl<'a> Iterator for Split<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest.take()?;
        if self.plain {
            let Some(at) = memchr::memchr(self.separator, text.as_bytes()) else { return Some(text) };
            let (part, rest) = Self::cut(text, at);
            self.rest = rest;
            return Some(part);
        }
        let (mut quoted, mut bracketed) = (false, false);
        let mut bytes = text.bytes().enumerate();
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'\\' if quoted => {
                    bytes.next();
                }
                b'"' if !bracketed => quoted = !quoted,
                b'<' if self.brackets && !quoted => bracketed = true,
                b'>' if !quoted => bracketed = false,
                _ if byte == self.separator && !quoted && !bracketed => {
                    let (part, rest) = Self::cut(text, at);
                    self.rest = rest;
                    return Some(part);
                }
                _ => {}
            }
        }
        Some(text)
    }
}

/// One parameter: its name and, behind `=`, its value; white space around either is gone (RFC 3261 §25.1 EQUAL).
fn parameter(part: &str) -> (&str, Option<&str>) {
    match cut(part, b'=') {
        Some((name, value)) => (trim(name), Some(trim(value))),
        None => (trim(part), None),
    }
}

/// What stands before and behind the first of an ASCII character.
pub(super) fn cut(text: &str, separator: u8) -> Option<(&str, &str)> {
    let at = memchr::memchr(separator, text.as_bytes())?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// Without white space around it. Most texts have none.
pub(super) fn trim(text: &str) -> &str {
    let is_bare = |byte: Option<&u8>| byte.is_none_or(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    if is_bare(text.as_bytes().first()) && is_bare(text.as_bytes().last()) { text } else { text.trim_matches(LWS) }
}

/// The parameters of a header value, without the leading `;`, in order.
pub fn parameters(params: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let list = if params.is_empty() { None } else { Some(Split::new(params, b';', false)) };
    list.into_iter().flatten().map(parameter)
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
/// ends a value. COMPAT(lync): `=`, `+`, `/` and `:` are taken in unquoted values (`ms-rrsig=aa+/=`), which a token forbids.
pub(super) fn are_well_formed(params: &str, at_allowed: bool) -> bool {
    parameters(params).all(|(name, value)| {
        is_token(name)
            && value.is_none_or(|value| match value.as_bytes().first() {
                None => false,
                Some(b'"') => quoted_end(value) == Some(value.len()),
                Some(_) => value.bytes().all(|byte| match byte {
                    b'"' | b'<' | b'>' | b',' | b';' | b'\\' | 0..=b' ' | 0x7f => false,
                    b'@' => at_allowed,
                    _ => true,
                }),
            })
    })
}

/// How often a parameter is there. Two `tag`s are two answers to one question.
pub(super) fn count(params: &str, name: &str) -> usize {
    parameters(params).filter(|(found, _)| found.eq_ignore_ascii_case(name)).count()
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
