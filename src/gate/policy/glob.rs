//! Globs over addresses in JID form: `board-*@corp.example`. Takes what a rule says, gives a compiled pattern.
//!
//! The user part and the domain part are matched apart, so that no `*` reaches over the `@`.

use crate::wire::address::{Address, Domain, Jid};
use std::fmt;
use wildmatch::WildMatch;

/// A glob over `user@domain`, compiled.
#[derive(Clone)]
pub struct AddressGlob {
    text: String,
    /// `None` = only the domain's own address, which has no user part.
    local: Option<WildMatch>,
    domain: WildMatch,
}

/// Why a text is not a glob over addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadGlob {
    /// Nothing written.
    #[error("is empty; write \"*@*\" for everybody")]
    Empty,
    /// A `*` alone could mean users or domains.
    #[error("has no \"@\"; write \"*@*\" for everybody, \"*@domain\" for everybody at a domain")]
    NoAt,
    /// More than one `@`.
    #[error("has more than one \"@\"; a user part that holds one is written \"user\\40other.example@domain\"")]
    ManyAts,
    /// The domain part.
    #[error("has a domain part that no domain name can match")]
    Domain,
    /// Longer than any address.
    #[error("is longer than any address")]
    TooLong,
}

/// RFC 7622 §3.1: a local part and a domain part of at most 1023 bytes each, and the `@`.
const LONGEST: usize = 1023 * 2 + 1;

impl AddressGlob {
    /// Compiles `user@domain`, either part with `*` and `?`; without `@` it names a domain's own address.
    pub fn parse(text: &str) -> Result<Self, BadGlob> {
        if text.is_empty() {
            return Err(BadGlob::Empty);
        }
        if text.len() > LONGEST {
            return Err(BadGlob::TooLong);
        }
        let (local, domain) = match text.split_once('@') {
            Some((_, rest)) if rest.contains('@') => return Err(BadGlob::ManyAts),
            Some((local, domain)) => (Some(local), domain),
            None if text.contains(['*', '?']) => return Err(BadGlob::NoAt),
            None => (None, text),
        };
        Ok(Self {
            text: text.to_owned(),
            local: local.map(|local| WildMatch::new_case_insensitive(&fold_local(local))),
            domain: WildMatch::new_case_insensitive(&domain_pattern(domain)?),
        })
    }

    /// Whether it speaks of `address`. `*` as user part takes the domain's own address in.
    pub fn matches(&self, address: &Address) -> bool {
        self.domain.matches(address.domain().as_str())
            && match (&self.local, address.local()) {
                (None, local) => local.is_none(),
                (Some(glob), None) => glob.matches(""),
                (Some(glob), Some(_)) => {
                    let jid = address.to_jid();
                    glob.matches(jid.rsplit_once('@').map_or("", |(local, _)| local))
                }
            }
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// An address's local part is case-folded by nodeprep, which knows more than lower case (`ß`); what stands between the wildcards is
/// folded alike where it is a local part by itself.
fn fold_local(pattern: &str) -> String {
    pattern.split_inclusive(['*', '?']).fold(String::with_capacity(pattern.len()), |mut folded, piece| {
        let (literal, wildcard) = match piece.strip_suffix(['*', '?']) {
            Some(literal) => (literal, &piece[literal.len()..]),
            None => (piece, ""),
        };
        let jid = Jid::parse(&format!("{literal}@a.example")).ok().filter(|jid| jid.resource.is_none());
        match jid.as_ref().map(|jid| jid.bare.to_jid()) {
            Some(jid) if !literal.is_empty() => {
                folded.push_str(jid.rsplit_once('@').map_or(literal, |(local, _)| local))
            }
            _ => folded.push_str(&literal.to_lowercase()),
        }
        folded.push_str(wildcard);
        folded
    })
}

/// Domains are compared as A-labels, so labels without wildcards are brought to that form.
fn domain_pattern(pattern: &str) -> Result<String, BadGlob> {
    let pattern = pattern.strip_suffix('.').unwrap_or(pattern);
    let labels: Result<Vec<String>, BadGlob> = pattern
        .split('.')
        .map(|label| match label {
            "" => Err(BadGlob::Domain),
            _ if label.contains(['*', '?']) => {
                let possible = |c: char| c.is_ascii_alphanumeric() || matches!(c, '*' | '?' | '-' | '_');
                if label.chars().all(possible) { Ok(label.to_ascii_lowercase()) } else { Err(BadGlob::Domain) }
            }
            _ => Ok(Domain::parse(&format!("{label}.example"))
                .map_err(|_| BadGlob::Domain)?
                .as_str()
                .trim_end_matches(".example")
                .to_owned()),
        })
        .collect();
    Ok(labels?.join("."))
}

impl PartialEq for AddressGlob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl Eq for AddressGlob {}
impl fmt::Display for AddressGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl fmt::Debug for AddressGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(glob: &str, jid: &str) -> bool {
        AddressGlob::parse(glob).unwrap().matches(&Jid::parse(jid).unwrap().bare)
    }

    #[test]
    fn user_and_domain_are_matched_apart() {
        assert!(matches("*@lync.example", "bob@lync.example"));
        assert!(matches("board-*@corp.example", "board-anna@corp.example"));
        assert!(!matches("board-*@corp.example", "anna@corp.example"));
        assert!(matches("?nna@corp.example", "anna@corp.example"));
        assert!(!matches("*@lync.example", "bob@evil.example"));
        // One `*` over both parts would take `a@x.b@corp.example`-like texts for the domain.
        assert!(!matches("bob*@corp.example", "bob@x.corp.example"));
        assert!(matches("*@*", "bob@lync.example"));
        assert!(matches("*@*.lync.example", "bob@eu.lync.example"));
        assert!(!matches("*@*.lync.example", "bob@lync.example"));
    }

    #[test]
    fn case_and_spelling_of_the_pattern_do_not_matter() {
        assert!(matches("BOARD-*@Corp.Example", "board-anna@corp.example"));
        assert!(matches("*@bücher.example", "anna@xn--bcher-kva.example"));
        assert!(matches("STRAßE*@corp.example", "strasse-1@corp.example"));
    }

    #[test]
    fn a_local_part_is_matched_in_jid_form() {
        assert!(matches(r"*\40gmail.com@aol.com", r"juliet\40gmail.com@aol.com"));
        assert!(!matches("*@gmail.com", r"juliet\40gmail.com@aol.com"));
    }

    #[test]
    fn without_a_user_only_the_domain_itself() {
        assert!(matches("corp.example", "corp.example"));
        assert!(!matches("corp.example", "anna@corp.example"));
        assert!(matches("*@corp.example", "corp.example"));
        assert!(!matches("?*@corp.example", "corp.example"));
    }

    #[test]
    fn what_can_match_nothing_is_refused() {
        for (glob, why) in [
            ("", BadGlob::Empty),
            ("*", BadGlob::NoAt),
            ("a@b@c.example", BadGlob::ManyAts),
            ("a@", BadGlob::Domain),
            ("a@b..c", BadGlob::Domain),
            ("a@exa mple.*", BadGlob::Domain),
        ] {
            assert_eq!(AddressGlob::parse(glob).unwrap_err(), why, "{glob}");
        }
    }
}
