//! The path of a SIP request that stays SIP: from a partner to the node that serves the user or owns the dialog, from a node to the
//! partner. Prove, decide, route, rewrite; what becomes of it then is [`crate::gate::carry`]'s.

use super::{Taken, action_of, capabilities, is_im_offer, none_unknown, plain, unknown_to_proxy};
use crate::gate::border::inward;
use crate::gate::border::mask::Kind;
use crate::gate::border::topology::{self, Dialog, Ends, Routed};
use crate::gate::exchange::Path;
use crate::gate::lane::Lane;
use crate::gate::links::Far;
use crate::gate::partner::{Action, Budget, LinkId, Node, NodeProtocol, PartnerId, Profile, Protocol, Side};
use crate::gate::peer::Claim;
use crate::gate::policy::Question;
use crate::gate::reject::{Reason, Reject};
use crate::gate::route::{HopKey, table};
use crate::gate::session::relay::{self, Came, Handed, RelayId, Way};
use crate::gate::session::{Parcel, Passage, Step, partner_hop};
use crate::gate::time::Time;
use crate::gate::{Draining, Gate};
use crate::wire::address::Address;
use crate::wire::sip::header::{Name, Via};
use crate::wire::sip::{Message, Method, Uri};
use rand::RngExt;
use smol_str::SmolStr;

/// What a request is inside of: by our own mark, or by what was seen.
struct Within {
    node: SmolStr,
    dialog: Dialog,
}

impl Gate {
    /// A request from a partner, if it is for a SIP node: what becomes of it. `None`: it is not.
    pub(super) fn relay_inward(
        &mut self,
        now: Time,
        came: Came,
        claim: &Claim,
        from: &Address,
        request: &Message,
        (profile, budget, label): (Profile, &Budget, &str),
    ) -> Result<Option<Taken>, Reject> {
        if !self.settings.has_sip_nodes() {
            return Ok(None);
        }
        let Some(method) = request.method().cloned() else { return Ok(None) };
        let link = came.link;
        if let Some(taken) = self.follows_invite(now, link, &method, request) {
            return Ok(Some(taken));
        }
        // RFC 3261 §16.10: a CANCEL of nothing is no request to decide on.
        if method == Method::Cancel || self.is_translated(from, request) || inward::is_for_edge(request, &self.settings)
        {
            return Ok(None);
        }
        let is_inside = request.to_tag().is_some();
        let addressed = inward::recipient(request);
        let is_ours = |address: &Address| self.settings.policy.is_local(address.domain());
        let named = match &addressed {
            Ok(recipient) if inward::is_to_recipient(request) => Some(recipient.clone()),
            _ => inward::to(request).ok(),
        };
        let local = match (named.filter(is_ours), &addressed) {
            (Some(to), _) => to,
            (None, Ok(recipient)) if !is_inside => recipient.clone(),
            (None, Ok(recipient)) => return Err(relay_denied(recipient)),
            (None, Err(reject)) => return Err(reject.clone()),
        };
        // Outside a dialog the Request-URI says who is wanted; inside, and where it is a mask of ours, the address the mask is bound to.
        let is_mask = |address: &Address| address.local().and_then(Kind::of).is_some();
        let to = match &addressed {
            Ok(recipient) if !is_inside && is_ours(recipient) && !is_mask(recipient) => recipient.clone(),
            _ => local.clone(),
        };
        let ends = Ends { partner: from.domain(), local: &local };
        let mut routed = topology::routed_inward(request, &self.border.masks, ends, &self.settings)?;
        // To is what its sender writes: inside a dialog, and behind a route of ours, it may name another than the target does.
        let target = match &addressed {
            // Read already: no mask stood in its place.
            Ok(recipient) if is_ours(recipient) && request.request_uri().is_some_and(|uri| uri.text == routed.uri) => {
                Some(recipient.clone()).filter(|recipient| recipient.local().is_some())
            }
            _ => inward::target(&routed.uri, to.domain(), &self.settings)?,
        };
        let target = target.filter(|target| *target != to);
        let within = self.within(&mut routed, from, request, is_inside);
        if within.is_none() && !self.is_for_sip_node(&to) {
            return Ok(None);
        }
        // RFC 3261 §10.2, RFC 3903: where a user of ours is reached, and how present, is for its own side to say; a node believes the edge.
        if matches!(method, Method::Register | Method::Publish) {
            let reject = Reject::new(Reason::Unsupported, "a partner registers and publishes for nobody here");
            return Err(reject.with_status(405).with_header("Allow", super::ALLOW));
        }
        if request.body().len() > budget.body_bytes {
            let detail =
                format!("the body is {} bytes; limits.body_bytes is {}", request.body().len(), budget.body_bytes);
            return Err(Reject::new(Reason::TooLarge, detail));
        }
        // May they.
        let peer = self.links.get(link).map(|link| link.peer);
        let asked = Question {
            from,
            to: &to,
            action: Action::Other,
            side: Side::Outside,
            protocol: Protocol::Sip,
            peer_ip: peer.map(|peer| peer.ip().to_canonical()),
        };
        let action = self.decide_relayed(asked, request, &method, within.as_ref(), (claim.partner(), peer))?;
        if let Some(target) = &target {
            let asked = Question { to: target, ..asked };
            self.decide_relayed(asked, request, &method, within.as_ref(), (claim.partner(), peer))?;
        }
        // Who leaves a dialog that is there, or answers in it, is neither held back nor counted.
        if within.is_none() || !matches!(method, Method::Ack | Method::Bye | Method::Prack) {
            self.spend(now, label, budget, target.as_ref().unwrap_or(&to))?;
        }
        understood_by_proxy(request)?;
        if !is_inside {
            if self.draining.is_some() {
                return Err(Reject::new(Reason::Overloaded, "stopping"));
            }
            let subscriptions = self.sessions.relays.subscriptions(label);
            if method == Method::Subscribe && subscriptions >= u64::from(budget.subscriptions) {
                let detail = format!("{subscriptions} subscriptions; limits.subscriptions is {}", budget.subscriptions);
                return Err(Reject::new(Reason::RateLimited, detail));
            }
            if method == Method::Subscribe && self.sessions.relays.dialogs.is_full() {
                return Err(Reject::new(Reason::Overloaded, "too many subscriptions are relayed"));
            }
        } else if self.draining == Some(Draining::ForGood) && method == Method::Subscribe {
            return Err(Reject::new(Reason::Overloaded, "stopping"));
        }
        let mut nodes = match &within {
            Some(within) => vec![within.node.clone()],
            None => self.nodes_to_try(now, link, &to)?,
        };
        if is_inside {
            nodes.truncate(1);
        }
        if nodes.is_empty() {
            return Ok(Some(plain(481)));
        }
        let node = nodes.remove(0);
        // A mask leads a request outside any dialog to a node, and says nothing of what it begins.
        let dialog = match within.filter(|_| is_inside) {
            Some(within) => within.dialog,
            None => Dialog::new(&self.border.masks, &node, Side::Outside, action),
        };
        let way = Way {
            side: Side::Outside,
            from: from.clone(),
            to,
            identity: self.settings.identity_for(local.domain()),
            local,
            partner: claim.domain().clone(),
            action,
            label: label.into(),
            profile,
            dialog,
            node,
        };
        self.hand_on(now, came, request, way, &routed, (nodes, 0))?;
        Ok(Some(Taken::Later))
    }

    /// The path of a request from an inside node.
    pub(super) fn admit_from_node(
        &mut self,
        now: Time,
        link: LinkId,
        at: Time,
        request: &Message,
    ) -> Result<Taken, Reject> {
        let Some(method) = request.method().cloned() else {
            return Err(Reject::new(Reason::Malformed, "no method"));
        };
        if method == Method::Negotiate {
            return Err(super::no_compression());
        }
        request.check()?;
        let from = inward::from(request)?;
        let node = self.node_speaking(link, &from, request)?;
        let (node, is_facing) = (node.name.clone(), is_facing(request, node));
        let came = Came::of(link, at, request);
        if self.sessions.relays.is_repeated(came) {
            return Ok(Taken::Never);
        }
        if let Some(taken) = self.follows_invite(now, link, &method, request) {
            return Ok(taken);
        }
        if method == Method::Cancel {
            return Ok(plain(481));
        }
        if is_facing || inward::is_for_edge(request, &self.settings) {
            return match method {
                Method::Options => Ok(capabilities()),
                _ => Err(Reject::new(Reason::RelayDenied, "it is for the edge itself, which has no users")),
            };
        }
        inward::no_loop(request, &self.settings)?;
        let is_inside = request.to_tag().is_some();
        let to = if is_inside { inward::to(request)? } else { inward::recipient(request)? };
        let ends = Ends { partner: to.domain(), local: &from };
        let routed = topology::routed_outward(request, &self.border.masks, ends, &self.settings, &self.border.inside)?;
        let within = match (routed.dialog, is_inside) {
            (Some(dialog), _) => Some(Within { node: node.clone(), dialog }),
            (None, true) => {
                let seen = self.sessions.relays.dialogs.of(to.domain(), request);
                seen.map(|seen| Within { node: node.clone(), dialog: seen.dialog })
            }
            (None, false) => None,
        };
        let partner = self.settings.policy.partner_towards(to.domain());
        let protocol = partner.map_or(Protocol::Sip, |id| self.settings.policy.partner(id).protocol);
        let (profile, _, label) = self.entry(partner);
        let asked =
            Question { from: &from, to: &to, action: Action::Other, side: Side::Inside, protocol, peer_ip: None };
        let action = self.decide_relayed(asked, request, &method, within.as_ref(), (partner, None))?;
        if protocol != Protocol::Sip {
            let detail = format!("{to} is at an XMPP partner; users of SIP nodes reach SIP partners only");
            return Err(Reject::new(Reason::Unsupported, detail));
        }
        understood_by_proxy(request)?;
        if self.draining.is_some() && !is_inside {
            return Err(Reject::new(Reason::Overloaded, "stopping"));
        }
        let dialog = match within.filter(|_| is_inside) {
            Some(within) => within.dialog,
            None => Dialog::new(&self.border.masks, &node, Side::Inside, action),
        };
        let way = Way {
            side: Side::Inside,
            partner: to.domain().clone(),
            identity: self.settings.identity_for(from.domain()),
            local: from.clone(),
            from,
            to,
            action,
            label,
            profile,
            dialog,
            node,
        };
        self.hand_on(now, came, request, way, &routed, (Vec::new(), 0))?;
        Ok(Taken::Later)
    }

    /// Rewrites a request for the other side and sends it there.
    pub(in crate::gate) fn hand_on(
        &mut self,
        now: Time,
        came: Came,
        request: &Message,
        way: Way,
        routed: &Routed,
        (others, tries): (Vec<SmolStr>, u8),
    ) -> Result<(), Reject> {
        let hop = match way.side {
            Side::Outside => HopKey::SipNode { node: way.node.clone() },
            Side::Inside => partner_hop(&self.settings, &way.partner, way.from.domain()),
        };
        // Nothing answers these, so nothing is remembered of them, and they take nobody's room: an ACK held back would end its session.
        let is_answered = !matches!(request.method(), Some(Method::Ack | Method::Benotify));
        if is_answered {
            self.has_room(&hop, &way)?;
        }
        let id = RelayId(self.rng.random());
        let branch = relay::branch(relay::loop_mark(&routed.uri, request), id);
        let crossing = self.crossing(&way)?;
        let bytes = match way.side {
            Side::Outside => topology::inward_request(&crossing, request, routed, &branch)?,
            Side::Inside => topology::outward_request(&crossing, request, routed, &branch)?,
        };
        let method = request.method().cloned();
        if !is_answered {
            // RFC 3261 §16.6, §13.2.2.4: nothing answers it. COMPAT(lync): MS-SIP §3.5, nor a BENOTIFY.
            if method == Some(Method::Benotify) {
                self.sessions.relays.dialogs.notified(&way.partner, request);
            }
            let transit = Some((came.at, Path::SipSip));
            let parcel = Parcel { bytes, passage: Passage::Answer, transit, lane: Lane::Free };
            self.steps.push_back(Step::Pass { hop, parcel });
            return Ok(());
        }
        if method == Some(Method::Invite) && tries == 0 {
            // RFC 3261 §16.2: at once, so that nobody asks again.
            self.answer(now, came.link, request, 100, &[], None, false);
        }
        let handed = Handed { came, request: request.detached(), way, hop, others, tries, bytes };
        let (mut turn, sessions) = self.turn(now);
        sessions.relays.hand(&mut turn, id, handed);
        Ok(())
    }

    /// Whether one more request may be under way on this hop, and for this partner.
    fn has_room(&self, hop: &HopKey, way: &Way) -> Result<(), Reject> {
        let relays = &self.sessions.relays;
        let detail = match way.side {
            Side::Outside if !relays.has_room(hop) => format!("node {} leaves too much unanswered", way.node),
            Side::Inside if !relays.has_room(hop) => format!("{} leaves too much unanswered", way.label),
            Side::Outside if !relays.has_room_for(&way.label) => {
                format!("{} has too many requests under way", way.label)
            }
            _ => return Ok(()),
        };
        Err(Reject::new(Reason::Overloaded, detail))
    }

    /// CANCEL and ACK that belong to an INVITE under way.
    fn follows_invite(&mut self, now: Time, link: LinkId, method: &Method, request: &Message) -> Option<Taken> {
        match method {
            Method::Cancel => {
                let id = self.sessions.relays.invite_of(link, request)?;
                self.cancel_relayed(now, id);
                Some(plain(200))
            }
            Method::Ack if self.sessions.relays.is_of_refused(link, request) => Some(Taken::Never),
            Method::Ack => {
                let id = self.sessions.relays.invite_of(link, request)?;
                let context = self.sessions.relays.get(id)?;
                match context.state {
                    relay::State::Completed => {
                        let is_awaited = context.written().is_some_and(|link| self.links.get(link).is_some());
                        let (mut turn, sessions) = self.turn(now);
                        sessions.relays.acknowledged(&mut turn, id, is_awaited);
                    }
                    // RFC 6026 §7.1: it is no part of the transaction, though without a branch (RFC 2543) it looks like it.
                    relay::State::Accepted => return None,
                    relay::State::Proceeding { .. } => {}
                }
                Some(Taken::Never)
            }
            _ => None,
        }
    }

    /// Whether a request is inside a dialog that ends here.
    fn is_translated(&mut self, from: &Address, request: &Message) -> bool {
        let Some(tag) = request.to_tag() else { return false };
        self.sessions.watches.of_dialog(tag).is_some()
            || self.sessions.contacts.of_dialog(tag).is_some()
            || self.chat_of(from, request).is_some()
    }

    /// What our own mark, or what was seen, says of the dialog that a request of a partner is inside of.
    fn within(&self, routed: &mut Routed, from: &Address, request: &Message, is_inside: bool) -> Option<Within> {
        if let Some(dialog) = routed.dialog {
            let node = self.settings.nodes.iter().find(|node| dialog.node.is_of(&node.name))?;
            return Some(Within { node: node.name.clone(), dialog });
        }
        let seen = if is_inside { self.sessions.relays.dialogs.of(from.domain(), request)? } else { return None };
        // COMPAT(aol): what it leaves out.
        if let Some(inside) = &seen.inside {
            routed.uri.clone_from(&inside.target);
            routed.routes.clone_from(&inside.routes);
        }
        Some(Within { node: SmolStr::from(&*seen.node), dialog: seen.dialog })
    }

    /// Policy on a request that is relayed, and what it counts as: inside a dialog what opened the dialog is decided again, and what the
    /// request itself asks for beyond that.
    fn decide_relayed(
        &mut self,
        asked: Question<'_>,
        request: &Message,
        method: &Method,
        within: Option<&Within>,
        (partner, peer): (Option<PartnerId>, Option<std::net::SocketAddr>),
    ) -> Result<Action, Reject> {
        let own = action_of(method, request);
        let turned =
            |action: Action| Question { from: asked.to, to: asked.from, side: asked.side.other(), action, ..asked };
        match within {
            // Whatever route it took here.
            _ if request.to_tag().is_none() => {
                self.decided(Question { action: own, ..asked }, partner, (Protocol::Sip, peer))?;
                Ok(own)
            }
            // A tag is quickly invented: what needs no dialog to be heard has no right by one that nobody knows any more.
            None if asked.side == Side::Outside && !is_of_any_dialog(method) => {
                self.decided(Question { action: own, ..asked }, partner, (Protocol::Sip, peer))?;
                Ok(own)
            }
            // The rest as what the method may belong to. Whoever opened it, if the sender's word is enough for that: a node's is; a partner
            // keeps our Record-Route or our Contact, which say it, or is COMPAT(aol). With a tag it made up, nobody begins what it may not.
            None => {
                let action = match method {
                    Method::Subscribe | Method::Notify | Method::Benotify => Action::Subscribe,
                    Method::Refer | Method::Other(_) => Action::Other,
                    _ => Action::Chat,
                };
                let is_believed = asked.side == Side::Inside
                    || partner.is_some_and(|id| self.settings.policy.partner(id).profile == Profile::Aol);
                let forth = self.decided(Question { action, ..asked }, partner, (Protocol::Sip, peer));
                if let Err(reject) = forth {
                    if !is_believed {
                        return Err(reject);
                    }
                    self.decided(turned(action), partner, (Protocol::Sip, peer)).map_err(|_| reject)?;
                }
                Ok(action)
            }
            Some(within) => {
                let question = match within.dialog.opener == asked.side {
                    true => Question { action: within.dialog.action, ..asked },
                    false => turned(within.dialog.action),
                };
                self.decided(question, partner, (Protocol::Sip, peer))?;
                if let Some(action) = beyond(&within.dialog, asked.side, method, request) {
                    self.decided(Question { action, ..asked }, partner, (Protocol::Sip, peer))?;
                }
                Ok(within.dialog.action)
            }
        }
    }

    /// Whether the first node that serves a user speaks SIP.
    fn is_for_sip_node(&self, to: &Address) -> bool {
        table::node_for(&self.settings, to).is_ok_and(|node| node.protocol == NodeProtocol::Sip)
    }

    /// The SIP nodes for a new session, in the order in which to try them.
    fn nodes_to_try(&self, now: Time, link: LinkId, to: &Address) -> Result<Vec<SmolStr>, Reject> {
        let mut all = table::order(&self.settings, to, |node| node.protocol == NodeProtocol::Sip);
        // PAT: a node's own port leads to it, also to one that takes no others.
        if let Some(door) = self.links.get(link).and_then(|link| link.door.as_deref())
            && let Some(at_door) = self.settings.nodes.iter().find(|node| node.name == door)
            && at_door.domains.contains(to.domain())
        {
            all.retain(|node| node.name != door);
            all.insert(0, at_door);
        }
        if all.is_empty() {
            return Err(table::nobody_serves(to));
        }
        let is_well = |node: &&&Node| self.health.takes_new(&node.name, now);
        let well: Vec<SmolStr> = all.iter().filter(is_well).map(|node| node.name.clone()).collect();
        if well.is_empty() {
            let names: Vec<&str> = all.iter().map(|node| node.name.as_str()).collect();
            let detail = format!("no node that serves {to} is well: {}", names.join(", "));
            return Err(Reject::new(Reason::NoNode, detail));
        }
        Ok(well)
    }

    /// The node that speaks on an inside link, for the domain it speaks for. Several behind one address are told apart by their Via.
    fn node_speaking(&self, link: LinkId, from: &Address, request: &Message) -> Result<&Node, Reject> {
        let Some(Far::SipNode { nodes, .. }) = self.links.get(link).map(|link| &link.far) else {
            return Err(Reject::new(Reason::Unproven, "no node is known at the other end"));
        };
        let known = |node: &&Node| nodes.iter().any(|name| node.name == *name);
        let mut serving: Vec<&Node> =
            self.settings.nodes.iter().filter(known).filter(|node| node.domains.contains(from.domain())).collect();
        if serving.len() > 1
            && let Some(via) = request.top_via()
        {
            serving.sort_by_key(|node| !is_sent_by(&via, node));
        }
        serving.first().copied().ok_or_else(|| {
            let detail = format!("{} sends as {from}, but its [[node]] has no {}", nodes.join(" or "), from.domain());
            Reject::new(Reason::Unproven, detail)
        })
    }
}

/// Whether a Via's sent-by is where a node listens.
fn is_sent_by(via: &Via<'_>, node: &Node) -> bool {
    via.host.is(&node.address.host) && via.port.unwrap_or(5060) == node.address.port
}

/// Whether a request of a node is for us as it sees us. RFC 3261 §16.4: behind a strict router our Record-Route stands there, for whom the
/// last Route names.
fn is_facing(request: &Message, node: &Node) -> bool {
    let Some(facing) = &node.facing else { return false };
    let is_routed = |uri: &Uri<'_>| uri.param("lr").is_some() && request.header(Name::Route).is_some();
    request.request_uri().is_some_and(|uri| uri.user.is_none() && uri.host.is(&facing.at.host) && !is_routed(&uri))
}

/// RFC 3261 §16.3 step 5. COMPAT(lync): `ms-benotify` is known; its dialogs are relayed with whatever the two ends agree on.
fn understood_by_proxy(request: &Message) -> Result<(), Reject> {
    match request.method() {
        Some(Method::Ack | Method::Cancel) => Ok(()),
        _ => none_unknown(unknown_to_proxy(request)),
    }
}

/// Methods that mean nothing outside a dialog, so that who knows of none refuses them (RFC 3261 §12.2.2), and OPTIONS, which begins nothing.
fn is_of_any_dialog(method: &Method) -> bool {
    matches!(
        method,
        Method::Ack
            | Method::Bye
            | Method::Cancel
            | Method::Prack
            | Method::Update
            | Method::Info
            | Method::Options
            | Method::Notify
            | Method::Benotify
    )
}

/// What a request asks for that the dialog it is inside of was not opened for.
fn beyond(dialog: &Dialog, side: Side, method: &Method, request: &Message) -> Option<Action> {
    let own = action_of(method, request);
    // An IM session does not become a call by being asked again (RFC 3261 §14, RFC 3311, RFC 3262 §5), nor a call an IM session.
    if matches!(method, Method::Invite | Method::Update | Method::Prack) && offers(request) {
        let asked = if is_im_offer(request) { Action::Chat } else { Action::Call };
        return (asked != dialog.action).then_some(asked);
    }
    let belongs = is_of_any_dialog(method)
        || match dialog.action {
            // RFC 3261 §14; COMPAT(lync): the texts of an IM session are MESSAGEs. RFC 5589: to be transferred is a session's own.
            Action::Chat => matches!(method, Method::Invite | Method::Message | Method::Refer),
            Action::Call => matches!(method, Method::Invite | Method::Refer),
            // RFC 6665 §4.1.2.2: who subscribed refreshes; the other end would subscribe anew.
            Action::Subscribe => *method == Method::Subscribe && dialog.opener == side,
            // RFC 3515 §2.4.4: a REFER's dialog is refreshed as a subscription's is.
            Action::Other => *method == Method::Refer || (*method == Method::Subscribe && dialog.opener == side),
            _ => false,
        };
    (!belongs && own != dialog.action).then_some(own)
}

/// Whether a body describes a session, or may: encoded nobody can tell.
fn offers(request: &Message) -> bool {
    request.header(Name::ContentEncoding).is_some() && !request.body().is_empty()
        || request.body().split(|byte| *byte == b'\n').any(|line| line.starts_with(b"m="))
}

fn relay_denied(to: &Address) -> Reject {
    Reject::new(Reason::RelayDenied, format!("{} is not in the domains of any [[identity]]", to.domain()))
}
