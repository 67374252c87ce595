//! The parts of XML 1.0's grammar that quick-xml leaves to its caller: characters, names, the inside of a tag.

use super::stream::StreamError;
use crate::wire::limits::XML_ATTRIBUTES;
use smallvec::SmallVec;

/// `(name, value as written)`; most tags have no more than fit without an allocation.
pub(super) type Attributes<'t> = SmallVec<[(&'t str, &'t str); 8]>;

/// XML 1.0 [3] S.
pub(super) const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// XML 1.0 [2] Char.
pub(super) fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}

/// Whether a text holds nothing but [`is_char`].
pub(super) fn is_text(text: &str) -> bool {
    match text.is_ascii() {
        true => text.bytes().all(|b| b >= b' ' || matches!(b, b'\t' | b'\n' | b'\r')),
        false => text.chars().all(is_char),
    }
}

/// XML 1.0 [4] NameStartChar, without the colon (Namespaces in XML [4]).
fn is_name_start(c: char) -> bool {
    matches!(c, 'A'..='Z' | '_' | 'a'..='z' | '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}' | '\u{F8}'..='\u{2FF}'
        | '\u{370}'..='\u{37D}' | '\u{37F}'..='\u{1FFF}' | '\u{200C}'..='\u{200D}' | '\u{2070}'..='\u{218F}'
        | '\u{2C00}'..='\u{2FEF}' | '\u{3001}'..='\u{D7FF}' | '\u{F900}'..='\u{FDCF}' | '\u{FDF0}'..='\u{FFFD}'
        | '\u{10000}'..='\u{EFFFF}')
}

/// XML 1.0 [4a] NameChar, without the colon.
fn is_name_char(c: char) -> bool {
    is_name_start(c) || matches!(c, '-' | '.' | '0'..='9' | '\u{B7}' | '\u{300}'..='\u{36F}' | '\u{203F}'..='\u{2040}')
}

fn is_ncname(text: &str) -> bool {
    if let [first, rest @ ..] = text.as_bytes()
        && (first.is_ascii_alphabetic() || *first == b'_')
        && rest.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    {
        return true;
    }
    let mut chars = text.chars();
    chars.next().is_some_and(is_name_start) && chars.all(is_name_char)
}

/// Namespaces in XML [7] QName: one colon at most, a name on either side of it.
pub(super) fn is_qname(text: &str) -> bool {
    match text.split_once(':') {
        Some((prefix, local)) => is_ncname(prefix) && is_ncname(local),
        None => is_ncname(text),
    }
}

/// The attributes of a tag from the text behind its name: `(name, value as written)`, duplicates refused.
///
/// XML 1.0 [40]: white space before each, a quoted value, no `<` in it.
pub(super) fn attributes(text: &str) -> Result<Attributes<'_>, StreamError> {
    let mut found = Attributes::new();
    let mut rest = text;
    loop {
        let next = rest.trim_start_matches(SPACE);
        if next.is_empty() {
            break;
        }
        if next.len() == rest.len() {
            return Err(StreamError::NotWellFormed);
        }
        let (name, value) = next.split_once('=').ok_or(StreamError::NotWellFormed)?;
        let name = name.trim_end_matches(SPACE);
        let value = value.trim_start_matches(SPACE);
        let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"')).ok_or(StreamError::NotWellFormed)?;
        let (value, behind) =
            value.strip_prefix(quote).and_then(|value| value.split_once(quote)).ok_or(StreamError::NotWellFormed)?;
        if !is_qname(name) || value.contains('<') {
            return Err(StreamError::NotWellFormed);
        }
        if found.len() == XML_ATTRIBUTES {
            return Err(StreamError::PolicyViolation);
        }
        found.push((name, value));
        rest = behind;
    }
    if found.len() > 1 {
        let mut names: SmallVec<[&str; 8]> = found.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(StreamError::NotWellFormed);
        }
    }
    Ok(found)
}

/// Judges an XML declaration, `<?xml` to `?>` (RFC 6120 §11.5, §11.6): version 1.0, UTF-8.
pub(super) fn check_declaration(text: &[u8]) -> Result<(), StreamError> {
    let text = std::str::from_utf8(text).map_err(|_| StreamError::UnsupportedEncoding)?;
    let inside =
        text.strip_prefix("<?xml").and_then(|text| text.strip_suffix("?>")).ok_or(StreamError::NotWellFormed)?;
    // XML 1.0 [23]: version, encoding, standalone, in this order.
    let mut expected = ["version", "encoding", "standalone"].iter();
    let declared = attributes(inside)?;
    if declared.first().is_none_or(|(name, _)| *name != "version") {
        return Err(StreamError::NotWellFormed);
    }
    for (name, value) in declared {
        if !expected.any(|known| *known == name) {
            return Err(StreamError::NotWellFormed);
        }
        match name {
            "version" if value != "1.0" => return Err(StreamError::NotWellFormed),
            "encoding" if !value.eq_ignore_ascii_case("utf-8") => return Err(StreamError::UnsupportedEncoding),
            "standalone" if !matches!(value, "yes" | "no") => return Err(StreamError::NotWellFormed),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_written() {
        let expected = [("a", "x"), ("b:c", "y'")];
        assert_eq!(attributes(" a = 'x'\n b:c=\"y'\" ").unwrap().as_slice(), expected);
        assert!(attributes("").unwrap().is_empty());
    }

    #[test]
    fn malformed_attributes_are_refused() {
        for text in
            [" a", " a=", " a=x", " a='x", " a='x'b='y'", "a='x'", " a='<'", " 1a='x'", " a='x' a='y'", " :a=''"]
        {
            assert_eq!(attributes(text), Err(StreamError::NotWellFormed), "{text}");
        }
    }

    #[test]
    fn attributes_are_bounded() {
        let text: String = (0..=XML_ATTRIBUTES).map(|i| format!(" a{i}=''")).collect();
        assert_eq!(attributes(&text), Err(StreamError::PolicyViolation));
    }

    #[test]
    fn declarations() {
        for good in ["<?xml version='1.0'?>", "<?xml version=\"1.0\" encoding=\"utf-8\" standalone='yes' ?>"] {
            assert_eq!(check_declaration(good.as_bytes()), Ok(()), "{good}");
        }
        assert_eq!(
            check_declaration(b"<?xml version='1.0' encoding='ISO-8859-1'?>"),
            Err(StreamError::UnsupportedEncoding)
        );
        for bad in [
            "<?xml?>",
            "<?xml version='1.1'?>",
            "<?xml encoding='UTF-8' version='1.0'?>",
            "<?xml version='1.0' x='y'?>",
        ] {
            assert_eq!(check_declaration(bad.as_bytes()), Err(StreamError::NotWellFormed), "{bad}");
        }
    }
}
