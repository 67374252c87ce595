//! `policies/*.toml`: partner entries, rules, the default and what the operator expects of them. Takes the files in name order, gives the
//! policy table.

use crate::config::Context;
use crate::config::ask::{self, Ask, Typed};
use crate::config::document::{Place, Section, Value};
use crate::config::edge::{read_domains, read_network};
use crate::config::material::TrustLists;
use crate::config::{profile, scalar};
use crate::gate::partner::{
    Action, Budget, ChatMode, Direction, DomainPattern, Html, Identity, Partner, Profile, Proof, Protocol, TlsMode,
};
use crate::gate::policy::{AddressGlob, Answer, Rule, Stranger, Table};
use crate::wire::address::Domain;

/// An `[[expect]]`.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Who asks, as typed.
    pub from: Typed,
    /// Whom, as typed.
    pub to: Typed,
    /// What.
    pub action: Action,
    /// Over which protocol, if written.
    pub protocol: Option<Protocol>,
    /// What policy should say.
    pub answer: Answer,
    /// Where it is written.
    pub origin: String,
}

/// Everything that policy files say, while they are read.
#[derive(Default)]
pub(super) struct Policies<'s> {
    partners: Vec<(Place<'s>, Partner)>,
    rules: Vec<Rule>,
    expectations: Vec<(Place<'s>, Expectation)>,
    open: Option<(Place<'s>, bool)>,
    stranger: Option<(Place<'s>, Stranger)>,
}

impl<'s> Policies<'s> {
    /// Takes one file in.
    pub(super) fn read(
        &mut self,
        context: &Context<'_>,
        mut root: Section<'s>,
        local: &[Domain],
        trust: &mut TrustLists,
    ) {
        let mut default = root.section("default", "default");
        if default.is_written() {
            self.read_default(&mut default);
        }
        default.finish();
        let stranger = root.section("stranger", "stranger");
        if stranger.is_written() {
            self.read_stranger(stranger);
        }
        for section in root.sections("partner", "partner") {
            let place = section.place().clone();
            if let Some(partner) = read_partner(context, section, trust) {
                self.check_partner(&place, &partner, local);
                self.partners.push((place, partner));
            }
        }
        for section in root.sections("rule", "rule") {
            self.rules.extend(read_rule(section));
        }
        for section in root.sections("expect", "expect") {
            let place = section.place().clone();
            self.expectations.extend(read_expectation(section).map(|expectation| (place, expectation)));
        }
        root.finish();
    }

    /// The table, and what is expected of it; an expectation that fails is a problem.
    pub(super) fn finish(
        self,
        local_domains: Vec<Domain>,
        version: u64,
        has_xmpp_node: bool,
    ) -> (Table, Vec<Expectation>) {
        self.check_xmpp(has_xmpp_node);
        let is_open = self.open.as_ref().is_some_and(|(_, open)| *open);
        if let (Some((place, _)), false) = (&self.stranger, is_open) {
            place.note("unlisted = \"refuse\": the stranger profile is not used", "");
        }
        let stranger = self.stranger.map(|(_, stranger)| stranger);
        let table = Table {
            version,
            partners: self.partners.into_iter().map(|(_, partner)| partner).collect(),
            rules: self.rules,
            stranger: is_open.then(|| stranger.unwrap_or_else(default_stranger)),
            local_domains,
        };
        let mut expectations = Vec::new();
        for (place, expectation) in self.expectations {
            if let Some(found) = expectation.contradiction(&table) {
                place.error(found, "mend the policy, or the expectation");
            }
            expectations.push(expectation);
        }
        (table, expectations)
    }

    /// What an entry over XMPP needs around it.
    fn check_xmpp(&self, has_xmpp_node: bool) {
        for (place, partner) in self.partners.iter().filter(|(_, partner)| partner.protocol == Protocol::Xmpp) {
            if !has_xmpp_node {
                place.warn(
                    format!("no [[node]] is attached over XMPP, so nobody here can talk with {}", partner.domain),
                    "write a [[node]] with protocol = \"xmpp\": users of SIP nodes and of components reach SIP partners only",
                );
            }
            let twin = self
                .partners
                .iter()
                .find(|(_, other)| other.protocol == Protocol::Sip && other.domain == partner.domain);
            match twin {
                Some((_, other)) if partner.prefer && other.prefer => {
                    let what = format!("both entries for {} are preferred, over SIP and over XMPP", partner.domain);
                    place.error(what, "keep prefer = true in the one that is to be used first");
                }
                Some((_, other)) if !partner.prefer && !other.prefer => place.note(
                    format!(
                        "{} has an entry over SIP, too ({}): what begins here goes by the one that is written first",
                        partner.domain, other.origin
                    ),
                    "write prefer = true in the one that is to be used first",
                ),
                _ => {}
            }
        }
    }

    fn read_default(&mut self, section: &mut Section<'s>) {
        let word = |open| if open { "stranger" } else { "refuse" };
        if let Some(open) = section.take("unlisted").and_then(|value| value.word(&[false, true], word)) {
            if let Some((place, _)) = &self.open {
                section.place().error(format!("[default] is written in {} too", place.origin()), "keep one of them");
            }
            self.open = Some((section.place().clone(), open));
        }
    }

    fn read_stranger(&mut self, mut section: Section<'s>) {
        let place = section.place().clone();
        if let Some((first, _)) = &self.stranger {
            place.error(format!("[stranger] is written in {} too", first.origin()), "keep one of them");
        }
        let allow = section.take("allow").map(|value| read_actions(&value)).unwrap_or_else(|| default_stranger().allow);
        let limits = read_limits(&mut section, profile::STRANGER_BUDGET);
        section.finish();
        self.stranger = Some((place, Stranger { allow, limits }));
    }

    fn check_partner(&self, place: &Place<'_>, partner: &Partner, local: &[Domain]) {
        // A wildcard may well cover our own domains: the local check comes first.
        let exact = |domain: &Domain| partner.domain == DomainPattern::Exact(domain.clone());
        if let Some(own) = local.iter().find(|domain| exact(domain) || partner.also.contains(domain)) {
            place.error(
                format!("{own} is ours, so it can't be a partner's"),
                "remove it here, or from the [[identity]]",
            );
        }
        if let DomainPattern::Under(parent) = &partner.domain
            && parent.parent().is_none()
        {
            place.warn(
                format!("*.{parent} is a whole top-level domain"),
                "list the domains, or write [default] unlisted",
            );
        }
        for (other_place, other) in self.partners.iter().filter(|(_, other)| other.protocol == partner.protocol) {
            let origin = other_place.origin();
            if other.domain == partner.domain {
                let what =
                    format!("{} over {} is listed in {origin} already", partner.domain, partner.protocol.as_str());
                place.error(what, "keep one of the two entries");
            }
            let exact = |entry: &Partner| match &entry.domain {
                DomainPattern::Exact(domain) => Some(domain.clone()),
                DomainPattern::Under(_) => None,
            };
            for domain in &partner.also {
                if other.also.contains(domain) {
                    place.error(format!("also: {domain} is in also of {origin} already"), "let one entry have it");
                } else if exact(other).as_ref() == Some(domain) {
                    place.error(
                        format!("also: {domain} has its own entry in {origin}"),
                        "remove it here, or that entry",
                    );
                }
            }
            if let Some(domain) = exact(partner).filter(|domain| other.also.contains(domain)) {
                place.error(format!("{domain} is in also of {origin}"), "remove it there, or this entry");
            }
        }
    }
}

impl Expectation {
    /// What policy says instead, if it says something else.
    pub fn contradiction(&self, table: &Table) -> Option<String> {
        let ask = Ask::new(table, self.from.clone(), self.to.clone(), self.action, self.protocol);
        let (decision, because) = table.decide(ask.question());
        let found = match &decision {
            Ok(permit) if permit.is_polite() => Answer::Polite,
            Ok(_) => Answer::Allow,
            Err(_) => Answer::Refuse,
        };
        if found == self.answer {
            return None;
        }
        let why = table.because(ask.question(), &because, decision.as_ref().err());
        let (from, to, action) = (&ask.from, &ask.to, ask.action.as_str());
        let (expected, found) = (self.answer.as_str(), found.as_str());
        Some(format!("{from} to {to}, {action}: expected \"{expected}\", but policy says \"{found}\": {why}"))
    }
}

fn default_stranger() -> Stranger {
    Stranger { allow: vec![Action::Subscribe], limits: profile::STRANGER_BUDGET }
}

fn read_actions(value: &Value<'_>) -> Vec<Action> {
    value.list_of(|item| item.word(Action::ALL, Action::as_str))
}

fn read_limits(section: &mut Section<'_>, default: Budget) -> Budget {
    let Some(value) = section.take("limits") else { return default };
    let mut limits = value.section("limits");
    let mut number = |key, bounds| {
        let written = limits.take(key).and_then(|value: Value<'_>| value.number(bounds));
        written.and_then(|number| u32::try_from(number).ok())
    };
    let most = u64::from(u32::MAX);
    let messages_per_second = number("messages_per_second", 1..most).unwrap_or(default.messages_per_second);
    let subscriptions = number("subscriptions", 0..most).unwrap_or(default.subscriptions);
    let links = number("links", 1..most).unwrap_or(default.links);
    let body_bytes = number("body_bytes", 1..16_777_217).and_then(|bytes| usize::try_from(bytes).ok());
    let targets_per_hour = number("targets_per_hour", 1..most).or(default.targets_per_hour);
    limits.finish();
    let body_bytes = body_bytes.unwrap_or(default.body_bytes);
    Budget { messages_per_second, subscriptions, links, body_bytes, targets_per_hour }
}

fn read_partner(context: &Context<'_>, mut section: Section<'_>, trust: &mut TrustLists) -> Option<Partner> {
    let origin = section.place().origin();
    let domain = section.demand("domain", "write domain = \"partner.example\"").and_then(|value| {
        value.read("write a domain name, or \"*.\" and one for all its subdomains", scalar::domain_pattern)
    });
    let protocol = section.demand("protocol", "write protocol = \"sip\" or \"xmpp\"");
    let protocol = protocol.and_then(|value| value.word(Protocol::ALL, Protocol::as_str));
    let profile = section.take("profile").and_then(|value| value.word(Profile::ALL, Profile::as_str));
    let profile = profile.unwrap_or(Profile::Generic);
    let defaults = profile::defaults(profile, protocol.unwrap_or(Protocol::Sip));
    let also = section.take("also").map(|value| read_domains(&value)).unwrap_or_default();
    let direction = section.take("direction").and_then(|value| value.word(Direction::ALL, Direction::as_str));
    let allow = section.take("allow").map(|value| read_actions(&value));
    let (tls, proof) = read_ladder(&mut section, protocol, defaults.tls, defaults.proof);
    let identity = section.take("identity").and_then(|value| read_identity(&value, protocol));
    let own_trust = section.take("trust").filter(|value| value.is_text() || !value.list().is_empty());
    let trust = trust.set_or_default(context.files, own_trust.as_ref());
    let client_eku = section
        .take("eku")
        .and_then(|value| value.word(&[false, true], |client| if client { "client" } else { "any" }));
    let networks = section.take("networks").map(|value| value.list_of(read_network)).unwrap_or_default();
    let next_hop = section
        .take("next_hop")
        .filter(|value| !(value.is_text() && value.text() == Some("")))
        .and_then(|value| value.read("write host:port or [v6]:port", scalar::host_port));
    let chat = section.take("chat").and_then(|value| value.word(ChatMode::ALL, ChatMode::as_str));
    let prefer = section.take("prefer").and_then(|value| value.flag());
    let html = section.take("html").and_then(|value| value.word(Html::ALL, Html::as_str));
    let limits = read_limits(&mut section, profile::BUDGET);
    section.finish();
    let domain = domain?;
    Some(Partner {
        label: domain.to_string().into(),
        domain,
        protocol: protocol?,
        origin,
        prefer: prefer.unwrap_or(false),
        profile,
        also: also.into_iter().map(|(_, domain)| domain).collect(),
        direction: direction.unwrap_or(Direction::Both),
        allow: allow.unwrap_or(defaults.allow),
        tls,
        proof,
        identity: identity.unwrap_or(defaults.identity),
        trust,
        client_eku: client_eku.unwrap_or(false),
        networks,
        next_hop,
        chat: chat.unwrap_or(defaults.chat),
        html: html.unwrap_or(Html::ToText),
        limits,
    })
}

/// `tls` and `proof`: SIP knows certificates over TLS and nothing else; without TLS there is no certificate.
fn read_ladder(
    section: &mut Section<'_>,
    protocol: Option<Protocol>,
    default_tls: TlsMode,
    default_proof: Vec<Proof>,
) -> (TlsMode, Vec<Proof>) {
    let place = section.place().clone();
    let tls_value = section.take("tls");
    let tls = tls_value.as_ref().and_then(|value| value.word(TlsMode::ALL, TlsMode::as_str)).unwrap_or(default_tls);
    let proof_value = section.take("proof");
    let proof = match &proof_value {
        Some(value) => value.list_of(|item| item.word(Proof::ALL, Proof::as_str)),
        None => default_proof,
    };
    let at_tls = tls_value.as_ref().map_or(&place, Value::place);
    let at_proof = proof_value.as_ref().map_or(&place, Value::place);
    if protocol == Some(Protocol::Sip) {
        if tls != TlsMode::Required {
            let what = format!("tls = \"{}\" is for XMPP only", tls.as_str());
            at_tls.error(what, "SIP partners speak TLS: write tls = \"required\"");
        }
        if proof.contains(&Proof::Dialback) {
            at_proof.error("dialback is for XMPP only", "SIP partners prove themselves by certificate");
        }
    } else if tls == TlsMode::Off && !proof.contains(&Proof::Dialback) {
        at_proof.error("without TLS there is no certificate", "write proof = [\"dialback\"], or tls = \"required\"");
    } else if tls == TlsMode::Off && proof.contains(&Proof::Certificate) {
        let mend = "write proof = [\"dialback\"], or tls = \"optional\" or \"required\"";
        at_proof.warn("without TLS there is no certificate: that rung is never taken", mend);
    } else if tls == TlsMode::Optional && proof == [Proof::Certificate] {
        let mend = "write tls = \"required\", which is the same; or add \"dialback\" to proof";
        at_tls.warn("a stream without TLS can prove nothing here: there is no certificate on it", mend);
    }
    if proof.is_empty() {
        at_proof.error("there is no proof to accept", "write proof = [\"certificate\"]");
    }
    (tls, proof)
}

fn read_identity(value: &Value<'_>, protocol: Option<Protocol>) -> Option<Identity> {
    if !value.is_text() {
        let mend = "write \"domain\", \"edge-in-domain\" or a list of host names";
        let names =
            value.list_of(|item| item.read(mend, |text| Domain::parse(text).map(|name| name.as_str().to_owned())));
        if names.is_empty() {
            value.place().error("no name is accepted", mend);
        }
        return Some(Identity::Pinned(names));
    }
    let edge = value.word(&[false, true], |edge| if edge { "edge-in-domain" } else { "domain" })?;
    if edge && protocol == Some(Protocol::Xmpp) {
        value.place().error("edge-in-domain is Microsoft's rule for SIP", "write \"domain\" or a list of host names");
    }
    Some(if edge { Identity::EdgeInDomain } else { Identity::Domain })
}

fn read_rule(mut section: Section<'_>) -> Option<Rule> {
    let origin = section.place().origin();
    let name = section.demand("name", "name it, for the log").and_then(|value| value.text());
    let mut glob = |key| {
        let value = section.demand(key, "write a glob like \"*@partner.example\"")?;
        value.read("write a glob over user@domain in JID form", AddressGlob::parse)
    };
    let (from, to) = (glob("from"), glob("to"));
    let written = section.take("do");
    let actions = written.as_ref().map(read_actions).unwrap_or_default();
    let answer = section.demand("answer", "write \"allow\", \"refuse\" or \"polite\"");
    let answer = answer.and_then(|value| {
        let answer = value.word(Answer::ALL, Answer::as_str)?;
        if answer == Answer::Polite && !actions.is_empty() && !actions.contains(&Action::Subscribe) {
            value
                .place()
                .error("only a subscription can be answered politely", "write do = [\"subscribe\"], or \"refuse\"");
        }
        Some(answer)
    });
    // An empty list would read as every action, which nobody who writes it means.
    if let (Some(value), true) = (&written, actions.is_empty()) {
        value.place().error("the rule speaks of no action", "list actions, or leave `do` out for all of them");
    }
    section.finish();
    Some(Rule { name: name?.to_owned(), origin, from: from?, to: to?, actions, answer: answer? })
}

fn read_expectation(mut section: Section<'_>) -> Option<Expectation> {
    let origin = section.place().origin();
    let mut address = |key| {
        let value = section.demand(key, "write an address like \"alice@corp.example\"")?;
        value.read("write user@domain, sip:user@domain or xmpp:user@domain", ask::typed)
    };
    let (from, to) = (address("from"), address("to"));
    let action = section.demand("do", "write an action like \"subscribe\"");
    let action = action.and_then(|value| value.word(Action::ALL, Action::as_str));
    let protocol = section.take("protocol").and_then(|value| value.word(Protocol::ALL, Protocol::as_str));
    let answer = section.demand("answer", "write \"allow\", \"refuse\" or \"polite\"");
    let answer = answer.and_then(|value| value.word(Answer::ALL, Answer::as_str));
    section.finish();
    Some(Expectation { from: from?, to: to?, action: action?, protocol, answer: answer?, origin })
}
