//! Scenarios as text: one statement a line, what belongs to it indented below.
//!
//! ```text
//! lync.example sends: SUBSCRIBE sip:juliet@corp.example
//!     From: <sip:romeo@lync.example>;tag=r1
//! lync.example receives: 200
//!     To: <sip:juliet@corp.example>;tag={tag}
//! imp-1 receives: <presence type='subscribe' from='romeo@lync.example' to='juliet@corp.example'/>
//! after: 5s
//! ```
//!
//! Headers that a request needs and a statement leaves out are filled in; those of a NOTIFY are of the dialog `{call}`, to tag `{ours}`, from
//! tag n1. In what is received `{name}` captures (or, known already, must
//! be equal), `*` stands for anything; `!Header` must be absent; `| ` lines are the body, each must occur in it; `||` = no body.
//!
//! ```text
//! forget: call                     what was captured as {call}
//! first: watched                   what scenarios/first/watched.scn says
//! config: | policy: | policy too:  before anything else; added to what most worlds have, in its place, added to it
//! config now: a line               from the next reload or restart on: what is below is in its place
//! component                        before anything else: imp-1 is a server whose component we are
//! sip nodes                        before anything else: imp-1 and imp-2 are SIP nodes; `imp-1 is mute`: it does not say that it is well, `is not mute`
//! our domain: corp.lync.example    before anything else: in the place of corp.example
//! streams only                     at the top: of streams between servers, or of domains that no component has as its name; not played
//!                                  where all nodes take components
//! reload: | restart | restart after: 2h | drain | drain for good | the store fails | the store is well | the store lags | the store commits
//!                                  what happens to the edge; `drained`: nothing is owed any more
//! jabber.example sends: <message/>  a node, or a partner that speaks XMPP: on a stream it opens for the two domains; `receives exactly: <message/>`
//!                                  every byte; `forges: <message/>` on a stream that has proven something else
//! jabber.example is cut off with: policy-violation
//!                                  its stream was ended so
//! jabber.example acknowledges stanzas
//!                                  XEP-0198, on streams of ours from then on: `takes: 2` says so of the next two; `speaks both ways`: XEP-0288
//! imp-1 asks for an ack: 2         XEP-0198: of so many stanzas that came on its stream
//! lync.example answers: 200        the last request it received; `answers INVITE: 200` the last of that method; `| ` lines are a body
//! imp-1 disconnects                also: is unreachable, is an impostor, is slow (to connect), is reachable, is disconnected, is connected, is up,
//!                                  is down, is attached as: DOMAIN DOMAIN; PARTY shows: HOST by AUTHORITY
//!                                  has other addresses, has no connection of ours, has one …, has two connections of ours;
//!                                  refuses what was held (of slow connections), closes its own (streams, not ours)
//! noticed: a sentence              the operator was told this, once more than it was asked for
//! logged: refused uncertain        the last decision; `settled: delivered`, `settled: delivered as chat`: the last outcome; `kept: 1`: how many records are kept (budgets apart)
//! ```

use super::world::{Seen, World};
use fedgate::gate::{Event, Input};
use fedgate::wire::sip::header::Name;
use fedgate::wire::sip::{self, Start};
use fedgate::wire::xmpp::{Element, NS_SERVER};
use std::collections::BTreeMap;
use std::time::Duration;

/// One statement and the lines below it.
#[derive(Debug, Clone)]
struct Statement {
    line: usize,
    text: String,
    below: Vec<String>,
}

struct Player {
    world: Option<World>,
    config: String,
    policy: String,
    names: BTreeMap<String, String>,
    last: BTreeMap<String, Seen>,
    /// The last request of each method that a party received.
    requests: BTreeMap<(String, String), sip::Message>,
    branch: u32,
    /// Of the users of our nodes.
    domain: String,
}

/// Plays a scenario; panics with file and line where it does not hold.
pub fn play(file: &str, text: &str) {
    play_in(super::world::CONFIG, file, text);
}

/// As [`play`], in worlds of this configuration.
pub fn play_in(config: &str, file: &str, text: &str) {
    if config.contains("xmpp-component") && text.lines().any(|line| line == "streams only") {
        return;
    }
    let mut player = Player {
        world: None,
        config: config.to_owned(),
        policy: super::world::POLICY.to_owned(),
        names: BTreeMap::new(),
        last: BTreeMap::new(),
        requests: BTreeMap::new(),
        branch: 0,
        domain: "corp.example".to_owned(),
    };
    for statement in statements(text) {
        let line = statement.line;
        if let Err(why) = player.step(&statement) {
            panic!("{file}:{line}: {}\n{why}\nrecent events: {:#?}", statement.text, player.recent());
        }
    }
    if let Some(world) = &player.world {
        for (party, inbox) in &world.inbox {
            assert!(inbox.is_empty(), "{file}: at the end {party} has received what no statement names: {inbox:#?}");
        }
        assert_eq!(world.gate.snapshot().unresolved, 0, "{file}: messages ended in nothing");
    }
}

fn statements(text: &str) -> Vec<Statement> {
    let mut statements: Vec<Statement> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with('#') || line.trim().is_empty() {
            continue;
        }
        match (line.starts_with([' ', '\t']), statements.last_mut()) {
            (true, Some(statement)) => statement.below.push(line.trim().to_owned()),
            _ => statements.push(Statement { line: at + 1, text: line.to_owned(), below: Vec::new() }),
        }
    }
    statements
}

impl Player {
    fn recent(&self) -> Vec<&Event> {
        self.world.iter().flat_map(|world| world.events.iter().rev().take(6)).collect()
    }

    fn world(&mut self) -> &mut World {
        let (config, policy) = (self.config.clone(), self.policy.clone());
        self.world.get_or_insert_with(|| World::with(&config, &policy))
    }

    fn step(&mut self, statement: &Statement) -> Result<(), String> {
        let text = statement.text.as_str();
        let below = &statement.below;
        match text {
            "config:" => self.config = format!("{}\n{}", self.config, below.join("\n")),
            "policy:" => self.policy = below.join("\n"),
            "policy too:" => self.policy = format!("{}\n{}", self.policy, below.join("\n")),
            "reload:" => {
                let policy = below.join("\n");
                self.world().reload(&policy);
            }
            "streams only" => {}
            "sip nodes" => self.config = super::world::with_sip_nodes(&self.config),
            "component" => self.config = super::world::with_component(&self.config),
            "restart" => {
                self.world().restart();
            }
            "drain" => self.world().input(Input::Drain { last: false }),
            "drain for good" => self.world().input(Input::Drain { last: true }),
            "the store fails" => self.world().input(Input::StoreTrouble(Some("disk full".to_owned()))),
            "the store is well" => self.world().input(Input::StoreTrouble(None)),
            "the store lags" => self.world().lags = true,
            "the store commits" => self.world().commit(),
            "drained" => {
                if !self.world().gate.is_drained() {
                    return Err("something is still owed".to_owned());
                }
            }
            _ => return self.said(text, below),
        }
        Ok(())
    }

    fn said(&mut self, text: &str, below: &[String]) -> Result<(), String> {
        if let Some(domain) = text.strip_prefix("our domain: ") {
            let edge = super::pki::pki().edge(domain);
            self.config = self.config.replace("corp.example", domain).replace("\"edge.", &format!("\"{edge}."));
            self.domain = domain.to_owned();
            return Ok(());
        }
        if let Some(time) = text.strip_prefix("after: ") {
            let time = duration(time)?;
            self.world().advance(time);
            return Ok(());
        }
        if let Some(time) = text.strip_prefix("restart after: ") {
            let time = duration(time)?;
            self.world().restart_after(time);
            return Ok(());
        }
        if let Some(line) = text.strip_prefix("config now: ") {
            let world = self.world();
            world.config = world.config.replace(line, &below.join("\n"));
            return Ok(());
        }
        if let Some(name) = text.strip_prefix("first: ") {
            let path = format!("{}/tests/scenarios/first/{name}.scn", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
            for statement in statements(&text) {
                self.step(&statement).map_err(|why| format!("{name}:{}: {}: {why}", statement.line, statement.text))?;
            }
            return Ok(());
        }
        if let Some(names) = text.strip_prefix("forget: ") {
            self.names.retain(|known, _| !names.split(' ').any(|name| name == known));
            return Ok(());
        }
        if let Some(number) = text.strip_prefix("kept: ") {
            // Of who goes on with whom; not what was spent.
            let kept = self.world().records.keys().filter(|id| !id.0.starts_with("budget ")).count();
            return if number == kept.to_string() { Ok(()) } else { Err(format!("{:#?}", self.world().records)) };
        }
        if let Some(outcome) = text.strip_prefix("settled: ") {
            let found = self.world().events.iter().rev().find_map(|event| match event {
                Event::Settled(settled) => Some((settled.outcome.as_str(), settled.action.as_str())),
                _ => None,
            });
            let (outcome, action) =
                outcome.split_once(" as ").map_or((outcome, None), |(outcome, action)| (outcome, Some(action)));
            let is_it = found.is_some_and(|(is, of)| is == outcome && action.is_none_or(|action| action == of));
            return if is_it { Ok(()) } else { Err(format!("it was {found:?}")) };
        }
        if let Some(what) = text.strip_prefix("noticed: ") {
            let events = &mut self.world().events;
            let at = events.iter().position(|event| matches!(event, Event::Noticed { what: told } if told == what));
            // Once said, once asked for.
            return at.map(|at| drop(events.remove(at))).ok_or_else(|| "it was not".to_owned());
        }
        if let Some(reason) = text.strip_prefix("logged: ") {
            let found = self.world().events.iter().rev().find_map(|event| match event {
                Event::Decided(decision) => Some(match decision.refused {
                    Some(reason) => format!("refused {}", reason.as_str()),
                    None => "allowed".to_owned(),
                }),
                _ => None,
            });
            return if found.as_deref() == Some(reason) { Ok(()) } else { Err(format!("logged was {found:?}")) };
        }
        let (party, verb) = text.split_once(' ').ok_or("no party")?;
        let party = party.to_owned();
        self.world().advance(Duration::ZERO);
        match verb {
            "disconnects" => self.world().cut(&party),
            "is an impostor" => {
                self.world().impostors.insert(party);
            }
            "is unreachable" => {
                self.world().unreachable.insert(party);
            }
            "is mute" => {
                self.world().mute.insert(party);
            }
            "has other addresses" => {
                self.world().elsewhere.insert(party);
            }
            "acknowledges stanzas" => {
                self.world().managed.insert(party);
            }
            "speaks both ways" => {
                self.world().both_ways.insert(party);
            }
            "is not mute" => {
                self.world().mute.remove(&party);
            }
            "is slow" => {
                self.world().slow.insert(party);
            }
            "is reachable" => self.world().reachable(&party),
            "receives nothing" => {
                let inbox = self.world().inbox.remove(&party).unwrap_or_default();
                if !inbox.is_empty() {
                    return Err(format!("it received {inbox:#?}"));
                }
            }
            "is disconnected" => {
                if self.world().connected().contains(party.as_str()) {
                    return Err("it is connected".to_owned());
                }
            }
            "refuses what was held" => self.world().refuse_held(&party),
            "closes its own" => self.world().cut_theirs(&party),
            "has no connection of ours" | "has one connection of ours" | "has two connections of ours" => {
                let wanted = ["no", "one", "two"].iter().position(|number| verb.starts_with(&format!("has {number} ")));
                let wanted = wanted.unwrap_or_default();
                let found = self.world().our_links(&party);
                if found != wanted {
                    return Err(format!("it has {found}"));
                }
            }
            "is connected" => {
                if !self.world().connected().contains(party.as_str()) {
                    return Err("it is not connected".to_owned());
                }
            }
            "is up" | "is down" => {
                let nodes = self.world().gate.snapshot().nodes_up;
                if !nodes.contains(&(party, verb == "is up")) {
                    return Err(format!("{nodes:?}"));
                }
            }
            _ => return self.exchange(&party, verb, below),
        }
        Ok(())
    }

    fn exchange(&mut self, party: &str, verb: &str, below: &[String]) -> Result<(), String> {
        let (verb, rest) = verb.split_once(": ").ok_or("no such statement")?;
        let rest = self.fill(rest)?;
        let below: Vec<String> = match verb {
            "receives" | "receives exactly" => below.to_vec(),
            _ => below.iter().map(|line| self.fill(line)).collect::<Result<_, _>>()?,
        };
        match (verb, rest.starts_with('<')) {
            ("is attached as", _) => {
                let names = self.world().attached(party).into_iter().collect::<Vec<_>>().join(" ");
                if names != rest {
                    return Err(format!("it is attached as {names}"));
                }
            }
            ("shows", _) => {
                let (host, authority) = rest.split_once(" by ").unwrap_or((&rest, "ca"));
                let shown = (authority.to_owned(), host.to_owned());
                self.world().certificates.insert(party.to_owned(), shown);
            }
            ("sends", true) => {
                let whole = format!("{rest}{}", below.concat());
                Element::parse(whole.as_bytes(), NS_SERVER).map_err(|e| e.to_string())?;
                self.world().stanza_text(party, &whole);
            }
            ("forges", true) => self.world().forged(party, &format!("{rest}{}", below.concat())),
            ("takes", false) => {
                let wanted: usize = rest.parse().map_err(|_| "no number")?;
                let found = self.world().take(party, wanted);
                if found != wanted {
                    return Err(format!("it could take {found}"));
                }
            }
            ("is cut off with", false) => {
                let error = self.world().stream_errors.get_mut(party).and_then(|errors| errors.pop_front());
                if error.as_deref() != Some(&rest) {
                    return Err(format!("it was {error:?}"));
                }
            }
            ("receives exactly", true) => {
                let whole = format!("{rest}{}", below.concat());
                let seen = self.take(party)?;
                self.last.insert(party.to_owned(), seen);
                let written = &self.world().written;
                if !written.iter().any(|(whom, bytes)| whom == party && bytes.as_ref() == whole.as_bytes()) {
                    return Err(format!("it received {written:?}"));
                }
            }
            ("sends", false) => {
                let bytes = self.request(party, &rest, &below);
                self.world().sip(party, &bytes);
            }
            ("asks for an ack", false) => {
                let handled = rest.parse().map_err(|_| "no number")?;
                if !self.world().ask_ack(party, handled) {
                    return Err("it has opened no stream".to_owned());
                }
            }
            ("sends bytes", _) => {
                let path = format!("{}/tests/vectors/{rest}", env!("CARGO_MANIFEST_DIR"));
                let bytes = std::fs::read(&path).map_err(|e| format!("{path}: {e}"))?;
                self.world().sip(party, &bytes);
            }
            ("answers", true) => {
                let whole = format!("{rest}{}", below.concat());
                let mut answer = Element::parse(whole.as_bytes(), NS_SERVER).map_err(|e| e.to_string())?;
                let Some(Seen::Xml(last)) = self.last.get(party) else { return Err("nothing to answer".to_owned()) };
                for (ours, theirs) in [("from", "to"), ("to", "from"), ("id", "id")] {
                    if answer.get_attr(ours).is_none()
                        && let Some(value) = last.get_attr(theirs)
                    {
                        answer.attrs.push((ours.to_owned(), value.to_owned()));
                    }
                }
                self.world().stanza(party, &answer);
            }
            (verb, false) if verb == "answers" || verb.starts_with("answers ") => {
                let bytes = self.response((party, verb.strip_prefix("answers ")), &rest, &below)?;
                self.world().sip_answer(party, &bytes);
            }
            ("receives", true) => {
                let whole = format!("{rest}{}", below.concat());
                let expected = Element::parse(whole.as_bytes(), NS_SERVER).map_err(|e| format!("{whole}: {e}"))?;
                let Seen::Xml(seen) = self.take(party)? else { return Err("it received SIP".to_owned()) };
                self.same_element(&expected, &seen)?;
                self.last.insert(party.to_owned(), Seen::Xml(seen));
            }
            ("receives", false) => {
                let Seen::Sip(seen) = self.take(party)? else { return Err("it received XML".to_owned()) };
                self.same_message(&rest, &below, &seen)
                    .map_err(|why| format!("{why}\nin\n{}", String::from_utf8_lossy(seen.bytes())))?;
                // What can be answered is the last request.
                if let (true, Some(method)) = (seen.is_request(), seen.method()) {
                    self.requests.insert((party.to_owned(), method.to_string()), seen.clone());
                    self.last.insert(party.to_owned(), Seen::Sip(seen));
                }
            }
            _ => return Err("no such statement".to_owned()),
        }
        Ok(())
    }

    fn take(&mut self, party: &str) -> Result<Seen, String> {
        let taken = self.world().inbox.get_mut(party).and_then(|inbox| inbox.pop_front());
        taken.ok_or_else(|| "it received nothing".to_owned())
    }

    fn request(&mut self, party: &str, start: &str, below: &[String]) -> Vec<u8> {
        self.branch += 1;
        let (method, uri) = start.split_once(' ').unwrap_or((start, ""));
        let mut headers = vec![
            ("Via".to_owned(), format!("SIP/2.0/TLS sip.{party}:5061;branch=z9hG4bKscn{}", self.branch)),
            ("Max-Forwards".to_owned(), "70".to_owned()),
            ("From".to_owned(), format!("<sip:romeo@{party}>;tag=r1")),
            ("To".to_owned(), format!("<{uri}>")),
            ("Call-ID".to_owned(), "c1".to_owned()),
            ("CSeq".to_owned(), format!("1 {method}")),
        ];
        let node = self.world().sip_node(party);
        if let Some(at) = node {
            headers[0].1 = format!("SIP/2.0/TCP {at}:5070;branch=z9hG4bKscn{}", self.branch);
            headers[2].1 = format!("<sip:juliet@{}>;tag=j1", self.domain);
        }
        let is_notify = matches!(method, "NOTIFY" | "BENOTIFY");
        if let (true, Some(call), Some(ours)) = (is_notify, self.names.get("call"), self.names.get("ours")) {
            headers.truncate(2);
            headers.extend([
                ("From".to_owned(), format!("<sip:romeo@{party}>;tag=n1")),
                ("To".to_owned(), format!("<sip:juliet@corp.example>;tag={ours}")),
                ("Call-ID".to_owned(), call.clone()),
                ("CSeq".to_owned(), format!("{} {method}", self.branch)),
                ("Event".to_owned(), "presence".to_owned()),
            ]);
        }
        if matches!(method, "SUBSCRIBE" | "INVITE") {
            let contact = match node {
                Some(at) => format!("<sip:juliet@{at}:5070;transport=tcp>"),
                None => format!("<sip:romeo@sip.{party}:5061;transport=tls>"),
            };
            headers.push(("Contact".to_owned(), contact));
        }
        if method == "SUBSCRIBE" {
            headers.push(("Event".to_owned(), "presence".to_owned()));
        }
        let mut body = Vec::new();
        for line in below {
            if let Some(text) = line.strip_prefix('|') {
                body.push(text.strip_prefix(' ').unwrap_or(text).to_owned());
            } else if let Some(name) = line.strip_prefix('!') {
                headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
            } else if let Some((name, value)) = line.split_once(':') {
                if let Some(at) = headers.iter().position(|(known, _)| known.eq_ignore_ascii_case(name)) {
                    headers.remove(at);
                }
                headers.push((name.to_owned(), value.trim().to_owned()));
            }
        }
        let body = body.join("\n");
        if !body.is_empty() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            let type_ = if is_notify { "application/pidf+xml" } else { "text/plain;charset=UTF-8" };
            headers.push(("Content-Type".to_owned(), type_.to_owned()));
        }
        headers.push(("Content-Length".to_owned(), body.len().to_string()));
        let head: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{start} SIP/2.0\r\n{head}\r\n{body}").into_bytes()
    }

    fn response(
        &mut self,
        (party, method): (&str, Option<&str>),
        status: &str,
        below: &[String],
    ) -> Result<Vec<u8>, String> {
        let last = match method {
            Some(method) => self.requests.get(&(party.to_owned(), method.to_owned())),
            None => match self.last.get(party) {
                Some(Seen::Sip(last)) => Some(last),
                _ => None,
            },
        };
        let last = last.ok_or("nothing to answer")?;
        let (body, below): (Vec<&String>, Vec<&String>) = below.iter().partition(|line| line.starts_with('|'));
        let body: String = body.iter().map(|line| format!("{}\r\n", line[1..].trim_start())).collect();
        let mut text = format!("SIP/2.0 {status} Because\r\n");
        for name in [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq] {
            let instead = below.iter().any(|line| line.starts_with(&format!("{}:", name.as_str())));
            for row in last.rows(name).filter(|_| !instead) {
                text.push_str(&format!("{}: {row}\r\n", name.as_str()));
            }
        }
        for line in below.iter().filter(|line| !line.starts_with('|')) {
            text.push_str(line);
            text.push_str("\r\n");
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        Ok(text.into_bytes())
    }

    fn same_message(&mut self, start: &str, below: &[String], seen: &sip::Message) -> Result<(), String> {
        seen.check().map_err(|fault| format!("what we sent is wrong: {fault}"))?;
        let actual = match seen.start() {
            Start::Request { method, uri } => format!("{method} {uri}"),
            Start::Response { status, .. } => status.to_string(),
        };
        let actual = if start.contains(' ') { actual } else { actual.split(' ').next().unwrap_or_default().to_owned() };
        self.same(start, &actual).map_err(|why| format!("start line: {why}"))?;
        let body = String::from_utf8_lossy(seen.body()).into_owned();
        for line in below {
            if line == "||" {
                if !body.is_empty() {
                    return Err("it has a body".to_owned());
                }
            } else if let Some(text) = line.strip_prefix('|') {
                let text = self.fill(text.strip_prefix(' ').unwrap_or(text))?;
                if !body.contains(&text) {
                    return Err(format!("the body lacks {text}"));
                }
            } else if let Some(name) = line.strip_prefix('!') {
                if seen.header_named(name).is_some() {
                    return Err(format!("it has {name}"));
                }
            } else if let Some((name, value)) = line.split_once(':') {
                let rows: Vec<String> = seen.rows_named(name).map(str::to_owned).collect();
                if rows.is_empty() {
                    return Err(format!("it lacks {name}"));
                }
                let tried: Vec<Result<(), String>> = rows.iter().map(|row| self.same(value.trim(), row)).collect();
                if !tried.iter().any(Result::is_ok) {
                    return Err(format!("{name}: {tried:?}"));
                }
            }
        }
        Ok(())
    }

    fn same_element(&mut self, expected: &Element, seen: &Element) -> Result<(), String> {
        let shown = || seen.print(NS_SERVER);
        if expected.name != seen.name || expected.ns != seen.ns {
            return Err(format!("expected <{}>, got {}", expected.name, shown()));
        }
        for (name, value) in &expected.attrs {
            let actual = seen.get_attr(name).ok_or_else(|| format!("no {name} in {}", shown()))?.to_owned();
            self.same(value, &actual).map_err(|why| format!("{name}: {why} in {}", shown()))?;
        }
        let text = expected.content();
        if !text.trim().is_empty() {
            self.same(&text, &seen.content()).map_err(|why| format!("{why} in {}", shown()))?;
        }
        if expected.get_attr("type").is_none() && seen.get_attr("type").is_some() {
            return Err(format!("unexpected type in {}", shown()));
        }
        for child in expected.elements() {
            let tried: Vec<_> = seen.elements().cloned().collect();
            if !tried.iter().any(|candidate| self.same_element(child, candidate).is_ok()) {
                return Err(format!("no {} in {}", child.print(NS_SERVER), shown()));
            }
        }
        Ok(())
    }

    /// Puts known names into a text.
    fn fill(&self, text: &str) -> Result<String, String> {
        let mut filled = text.to_owned();
        for (name, value) in &self.names {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        Ok(filled)
    }

    /// Whether a value is as the pattern says; captures names.
    fn same(&mut self, pattern: &str, actual: &str) -> Result<(), String> {
        let pattern = self.fill(pattern)?;
        let mut captured = BTreeMap::new();
        if !matches(&pattern, actual, &mut captured) {
            return Err(format!("expected {pattern}, got {actual}"));
        }
        self.names.extend(captured);
        Ok(())
    }
}

fn matches(pattern: &str, actual: &str, captured: &mut BTreeMap<String, String>) -> bool {
    let wild = pattern.find(['*', '{']);
    let Some(at) = wild else { return pattern == actual };
    let (fixed, rest) = pattern.split_at(at);
    let Some(actual) = actual.strip_prefix(fixed) else { return false };
    let (name, rest) = match rest.strip_prefix('{') {
        Some(named) => match named.split_once('}') {
            Some((name, rest)) => (Some(name), rest),
            None => return false,
        },
        None => (None, rest.get(1..).unwrap_or_default()),
    };
    for (end, _) in actual.char_indices().chain([(actual.len(), ' ')]) {
        let mut inner = captured.clone();
        if let Some(name) = name {
            inner.insert(name.to_owned(), actual[..end].to_owned());
        }
        if matches(rest, &actual[end..], &mut inner) {
            *captured = inner;
            return true;
        }
    }
    false
}

fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or("a duration needs a unit")?;
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().map_err(|_| "no number")?;
    match unit.trim() {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        "h" => Ok(Duration::from_secs(number * 3600)),
        unit => Err(format!("no unit {unit}")),
    }
}
