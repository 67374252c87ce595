//! Conversations that one side alone may begin: for how long the other may answer in them. Over SIP a dialog says so; XMPP has none (RFC 6121 §5.1).

use crate::gate::limits;
use crate::gate::time::Time;
use crate::wire::address::Address;
use std::collections::BTreeMap;
use std::time::Duration;

/// Who has lately written to whom, where the partner's `direction` lets one side start.
#[derive(Debug, Default)]
pub struct Talks {
    /// (who wrote, to whom): until when it may be answered.
    written: BTreeMap<(Address, Address), Time>,
    /// Before then none of them ends.
    full_until: Time,
}

impl Talks {
    /// A message is let through; its recipient may answer within `idle`. Beyond [`limits::TALKS`] a conversation is not remembered: its answers are
    /// decided for themselves.
    pub fn wrote(&mut self, now: Time, from: &Address, to: &Address, idle: Duration) {
        if self.written.len() >= limits::TALKS && self.full_until <= now {
            self.written.retain(|_, until| *until > now);
            // Looked at again when there may be room: whoever fills it must not make each message cost as much.
            self.full_until = self.written.values().min().copied().unwrap_or(now);
            self.full_until = self.full_until.max(now + limits::TALKS_LOOKED_AT);
        }
        let key = (from.clone(), to.clone());
        if self.written.len() < limits::TALKS || self.written.contains_key(&key) {
            self.written.insert(key, now + idle);
        }
    }

    /// Whether `from` may answer `to`, who has written to it.
    pub fn may_answer(&self, now: Time, from: &Address, to: &Address) -> bool {
        self.written.get(&(to.clone(), from.clone())).is_some_and(|until| *until > now)
    }

    /// Whether `from` answers `to`, who has written to it; if so, the conversation goes on.
    pub fn answers(&mut self, now: Time, from: &Address, to: &Address, idle: Duration) -> bool {
        match self.written.get_mut(&(to.clone(), from.clone())) {
            Some(until) if *until > now => {
                *until = now + idle;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::address::Jid;

    #[test]
    fn who_was_written_to_may_answer_for_a_while() {
        let [a, b] = ["a@b.example", "c@d.example"].map(|text| Jid::parse(text).unwrap().bare);
        let (mut talks, start, idle) = (Talks::default(), Time::default(), Duration::from_secs(600));
        assert!(!talks.answers(start, &b, &a, idle));
        talks.wrote(start, &a, &b, idle);
        assert!(!talks.answers(start, &a, &b, idle), "who writes answers nobody");
        let later = start + Duration::from_secs(599);
        assert!(talks.answers(later, &b, &a, idle), "and so goes on");
        assert!(talks.answers(later + Duration::from_secs(599), &b, &a, idle));
        assert!(!talks.answers(later + Duration::from_secs(1199), &b, &a, idle), "not for ever");
    }

    #[test]
    fn conversations_are_bounded() {
        let [a, b] = ["a@b.example", "c@d.example"].map(|text| Jid::parse(text).unwrap().bare);
        let (mut talks, idle) = (Talks::default(), Duration::from_secs(600));
        for number in 0..limits::TALKS {
            let other = Jid::parse(&format!("u{number}@b.example")).unwrap().bare;
            talks.wrote(Time::default(), &other, &b, idle);
        }
        talks.wrote(Time::default(), &a, &b, idle);
        assert!(!talks.answers(Time::default(), &b, &a, idle));
        let later = Time::default() + idle;
        talks.wrote(later, &a, &b, idle);
        assert!(talks.answers(later, &b, &a, idle), "there is room again");
    }
}
