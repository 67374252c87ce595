//! What the configuration can say and this version can't do yet. One list: a feature that is built deletes its lines here.
//!
//! Such a key is refused, never ignored, unless it says what would be so without it.

use toml::de::DeValue;

/// A key, or some of its values, whose feature isn't built.
#[derive(Debug)]
pub struct Absent {
    /// The table it stands in; `""` = the top of `fedgate.toml`.
    section: &'static str,
    /// The key.
    pub key: &'static str,
    /// Which values are refused.
    when: When,
    /// What to do instead.
    pub instead: &'static str,
}

#[derive(Debug)]
enum When {
    /// Anything but this TOML value.
    Not(&'static str),
    /// These words.
    Words(&'static [&'static str]),
}

use When::{Not, Words};

const fn absent(section: &'static str, key: &'static str, when: When, instead: &'static str) -> Absent {
    Absent { section, key, when, instead }
}

const REMOVE: &str = "remove it";

/// A `[[node]]` of another protocol than `"sip"`.
pub const XMPP_NODE: &str = "node over XMPP";

const ABSENT: &[Absent] = &[
    absent(XMPP_NODE, "public_port", Not("0"), REMOVE),
    absent("state", "engine", Words(&["nats"]), "write \"embedded\": a file keeps the state of this edge alone"),
    absent("state", "url", Not("\"nats://127.0.0.1:4222\""), REMOVE),
    absent("publish", "listen", Not("\"\""), REMOVE),
    absent("publish", "domains", Not("[]"), REMOVE),
    absent("publish", "users", Not("[\"*\"]"), REMOVE),
    absent("echo", "user", Not("\"\""), REMOVE),
    absent("partner", "html", Words(&["basic"]), "write \"to-text\": formatting is dropped"),
];

/// The absent keys of one table.
pub(super) fn absent_in(section: &str) -> impl Iterator<Item = &'static Absent> {
    let section = section.to_owned();
    ABSENT.iter().filter(move |absent| absent.section == section)
}

impl Absent {
    /// Whether this value is refused.
    pub(super) fn speaks_of(&self, value: &DeValue<'_>) -> bool {
        match &self.when {
            Not(default) => !DeValue::parse(default).is_ok_and(|default| same(default.get_ref(), value)),
            Words(words) => value.as_str().is_some_and(|word| words.contains(&word)),
        }
    }
}

fn same(a: &DeValue<'_>, b: &DeValue<'_>) -> bool {
    match (a, b) {
        (DeValue::String(a), DeValue::String(b)) => a == b,
        (DeValue::Boolean(a), DeValue::Boolean(b)) => a == b,
        (DeValue::Integer(a), DeValue::Integer(b)) => a.as_str() == b.as_str(),
        (DeValue::Array(a), DeValue::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(a.get_ref(), b.get_ref()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_toml() {
        for absent in ABSENT {
            if let Not(default) = absent.when {
                assert!(DeValue::parse(default).is_ok(), "{} {}", absent.section, absent.key);
            }
        }
    }
}
