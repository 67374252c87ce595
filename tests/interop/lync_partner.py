#!/usr/bin/python3
"""A federation partner that speaks as a Microsoft Access Edge does, which a test drives by JSON lines.

Written on the standard library alone, with a SIP reader and writer of its own: what it accepts and refuses owes nothing to
fedgate's codec. It keeps its dialogs as RFC 3261 §12 says (route set, remote target, tags, CSeq) and checks nothing else: the test judges.

Takes on stdin, one JSON object a line, each with "do":
    listen    host port cert key ca                     mutual TLS listener; links from it are named in-1, in-2, …
    dial      link host port name ca cert? key?         a connection of ours; `name` is the host name expected of the other end
    subscribe name link from to expires?                dialog-making SUBSCRIBE, as it leaves an Access Edge
    refresh   name expires? link?                       SUBSCRIBE inside the dialog that `subscribe name` made; expires 0 ends it
    message   name link from to body                    out-of-dialog MESSAGE
    notify    call_id state body? name?                 NOTIFY inside a dialog that a received SUBSCRIBE made
    invite    name link from to first? sdp? headers?    INVITE that offers an IM session; whatever final answer comes is acknowledged
    within    name call_id method type? body? link?     a request inside a dialog that an INVITE of either side made
    close     link                                      ends a connection
    raw       link hex                                  these bytes, as they are
    answer    method status reason? headers?            how requests of this method are answered from now on; status null: not at all
    reply     call_id method status                     answers the last request of this method in this call, again or for the first time
Gives on stdout, one JSON object a line, each with "event":
    listening; linked, link-failed, accepted, closed with link (why, names in the peer's certificate);
    sent with name, headers, hex;
    request, response with link, name (of the exchange or dialog it belongs to, or null), headers in order, body (and body_hex),
    raw, pidf (what a presence document says, or null), and for a request what it was answered.
Ends when stdin ends.
"""

import asyncio
import base64
import json
import secrets
import ssl
import sys
import xml.etree.ElementTree as ElementTree

EDGE = "sip.lync.example"
MINE = f"<sip:{EDGE}:5061;transport=tls;lr"
AGENT = "UCCAPI/4.0.7577.0 OC/4.0.7577.0 (Microsoft Lync 2010)"
HEAD_MAX, BODY_MAX = 65_536, 1_048_576

CATEGORIES = """<batchSub xmlns="http://schemas.microsoft.com/2006/01/sip/batch-subscribe" uri="{watcher}" name="">
<action name="subscribe" id="51820077"><adhocList>
<resource uri="{presentity}"/>
</adhocList>
<categoryList xmlns="http://schemas.microsoft.com/2006/09/sip/categorylist">
<category name="contactCard"/>
<category name="note"/>
<category name="state"/>
</categoryList>
</action>
</batchSub>"""


def tell(event, **fields):
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def token(length):
    return secrets.token_hex(length // 2)


def read_pidf(body):
    """What a presence document says (RFC 3863, RFC 4480, and the draft form inside <status> that Microsoft and AOL read)."""
    pidf, rpid = "{urn:ietf:params:xml:ns:pidf}", "{urn:ietf:params:xml:ns:pidf:rpid}"
    draft = "{urn:ietf:params:xml:ns:pidf:status:rpid-status}"
    root = ElementTree.fromstring(body)
    activities = {e.tag[len(rpid):] for parent in root.iter(rpid + "activities") for e in parent if e.tag.startswith(rpid)}
    return {
        "root": root.tag,
        "entity": root.get("entity"),
        "open": any(e.text.strip() == "open" for e in root.iter(pidf + "basic")),
        "tuples": [e.get("id") for e in root.iter(pidf + "tuple")],
        "activities": sorted(activities - {"unknown"}),
        "draft_activities": sorted({e.text.strip() for e in root.iter(draft + "activity")}),
        "notes": [e.text or "" for e in root.iter() if e.tag.rpartition("}")[2] == "note"],
    }


class Message:
    """A SIP message: start line, header rows in order, body."""

    def __init__(self, start, headers, body=b""):
        self.start, self.headers, self.body = start, headers, body

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name]

    def first(self, name):
        return next(iter(self.all(name)), None)

    @property
    def status(self):
        return int(self.start.split(" ", 2)[1]) if self.start.startswith("SIP/") else None

    @property
    def method(self):
        return None if self.status else self.start.split(" ", 1)[0]

    def to_bytes(self):
        """Content-Length is filled in where the rows name it: Microsoft puts it in the middle."""
        rows = [(k, str(len(self.body)) if k == "Content-Length" else v) for k, v in self.headers]
        head = "".join(f"{line}\r\n" for line in [self.start, *(f"{k}: {v}" for k, v in rows)])
        return head.encode() + b"\r\n" + self.body

    def fields(self):
        raw = self.to_bytes()
        return {
            "start": self.start,
            "status": self.status,
            "method": self.method,
            "headers": self.headers,
            "body": self.body.decode("utf-8", "replace"),
            "body_hex": self.body.hex(),
            "raw": raw.decode("utf-8", "replace"),
            "pidf": read_pidf(self.body) if (self.first("content-type") or "").startswith("application/pidf+xml") else None,
        }


async def read_message(reader):
    """The next message, or None at the end. RFC 3261 §7.5: line ends before a start line are skipped (keep-alives)."""
    line = b"\r\n"
    while line in (b"\r\n", b"\n"):
        line = await reader.readline()
    if not line:
        return None
    start = line.decode().rstrip("\r\n")
    headers, size = [], 0
    while True:
        line = await reader.readline()
        size += len(line)
        if not line.endswith(b"\n") or size > HEAD_MAX:
            raise ValueError(f"head cut off or too large after {start!r}")
        line = line.decode().rstrip("\r\n")
        if not line:
            break
        if line[0] in " \t":
            headers[-1] = (headers[-1][0], headers[-1][1] + " " + line.strip())
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError(f"no colon in {line!r}")
        headers.append((name.strip(), value.strip()))
    message = Message(start, headers)
    lengths = message.all("content-length") + message.all("l")
    if len(lengths) != 1 or not lengths[0].isascii() or not lengths[0].isdigit() or int(lengths[0]) > BODY_MAX:
        raise ValueError(f"Content-Length {lengths!r} after {start!r}")
    message.body = await reader.readexactly(int(lengths[0]))
    return message


def tag_of(value):
    """The tag of a From or To: a header parameter, thus after the `>`."""
    for parameter in value.rpartition(">")[2].split(";"):
        key, _, tag = parameter.strip().partition("=")
        if key.lower() == "tag":
            return tag
    return None


def uri_of(value):
    return value[value.index("<") + 1 : value.index(">")] if "<" in value else value.split(";")[0].strip()


def values_of(rows):
    """Header rows split at the commas between `<…>` values."""
    found = []
    for row in rows:
        depth, begin = 0, 0
        for i, c in enumerate(row):
            depth += (c == "<") - (c == ">")
            if c == "," and depth == 0:
                found.append(row[begin:i].strip())
                begin = i + 1
        found.append(row[begin:].strip())
    return found


def source_of(writer):
    """Our end of a connection, for the Via; it may be closed again by now."""
    return writer.get_extra_info("sockname") or (EDGE, 5061)


def certificate_names(writer):
    certificate = writer.get_extra_info("ssl_object").getpeercert() or {}
    return [value for _, value in certificate.get("subjectAltName", ())]


def session_description(uri):
    """An offer (uri `null`) or answer as Office Communicator writes it: the media line names SIP itself."""
    return (
        "v=0\r\no=- 0 0 IN IP4 10.20.31.5\r\ns=session\r\nc=IN IP4 10.20.31.5\r\nt=0 0\r\n"
        f"m=message 5060 sip {uri}\r\n"
        "a=accept-types:text/plain multipart/alternative image/gif text/rtf text/html application/x-ms-ink "
        "application/ms-imdn+xml text/x-msmsgsinvite\r\n"
    )


class Dialog:
    """RFC 3261 §12: what every later request of a dialog is built from."""

    def __init__(self, name, link, call_id, local, remote):
        self.name, self.link, self.call_id = name, link, call_id
        self.local, self.remote = local, remote
        self.target, self.routes, self.cseq, self.request = uri_of(remote), [], 0, None

    def learn(self, message, remote, routes):
        if tag_of(remote) and not tag_of(self.remote):
            self.remote = remote
            # Our own edge pops its own Route before the request leaves it.
            self.routes = [r for r in routes if EDGE not in r]
        contact = message.first("contact") or message.first("m")
        if contact:
            self.target = uri_of(contact)


class Partner:
    def __init__(self):
        self.links, self.sources, self.exchanges, self.dialogs = {}, {}, {}, {}
        self.server, self.accepted = None, 0
        self.answers, self.tasks = {}, set()
        self.invites, self.requests, self.tags = {}, {}, {}

    # -- connections ------------------------------------------------------------------------------------------------

    @staticmethod
    def context(purpose, ca, cert, key):
        context = ssl.SSLContext(purpose)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(ca)
        if cert:
            context.load_cert_chain(cert, key)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    async def listen(self, host, port, cert, key, ca):
        context = self.context(ssl.PROTOCOL_TLS_SERVER, ca, cert, key)
        self.server = await asyncio.start_server(self.accept, host, port, ssl=context, limit=HEAD_MAX)
        tell("listening", host=host, port=port)

    async def accept(self, reader, writer):
        self.accepted += 1
        link = f"in-{self.accepted}"
        self.links[link], self.sources[link] = writer, source_of(writer)
        tell("accepted", link=link, names=certificate_names(writer))
        await self.follow(link, reader, writer)

    async def dial(self, link, host, port, name, ca, cert=None, key=None):
        context = self.context(ssl.PROTOCOL_TLS_CLIENT, ca, cert, key)
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(host, port, ssl=context, server_hostname=name, limit=HEAD_MAX), 10
            )
            names = certificate_names(writer)
        except (OSError, ssl.SSLError, ValueError, asyncio.TimeoutError) as e:
            # ValueError: closed again before we could ask for the certificate.
            tell("link-failed", link=link, why=repr(e))
            return
        self.links[link], self.sources[link] = writer, source_of(writer)
        tell("linked", link=link, names=names)
        self.spawn(self.follow(link, reader, writer))

    def spawn(self, work):
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def follow(self, link, reader, writer):
        why = "end of stream"
        try:
            while message := await read_message(reader):
                if message.status:
                    self.take_response(link, message)
                else:
                    self.take_request(link, message)
        except (OSError, ssl.SSLError, ValueError, IndexError, ElementTree.ParseError, asyncio.IncompleteReadError) as e:
            why = repr(e)
        writer.close()
        tell("closed", link=link, why=why)

    def write(self, link, data):
        if link not in self.links or self.links[link].is_closing():
            # Where the test asks to send on a link that is gone, it wants to know.
            tell("closed", link=link, why="not connected")
            return
        self.links[link].write(data)

    # -- what we receive --------------------------------------------------------------------------------------------

    def take_response(self, link, message):
        call_id = message.first("call-id")
        dialog = self.dialogs.get(call_id)
        if dialog and 200 <= message.status < 300:
            dialog.learn(message, message.first("to"), list(reversed(values_of(message.all("record-route")))))
        if message.first("cseq").endswith(" INVITE") and message.status >= 200 and call_id in self.invites:
            self.acknowledge(link, message)
        name = self.exchanges.get((call_id, message.first("cseq"))) or self.exchanges.get(call_id)
        tell("response", link=link, name=name, **message.fields())

    def take_request(self, link, message):
        call_id = message.first("call-id")
        dialog = self.dialogs.get(call_id)
        self.requests[call_id, message.method] = link, message
        answer = self.answers.get(message.method) or self.usual_answer(message, dialog)
        if dialog and message.method == "NOTIFY":
            # RFC 6665 §4.4.1: a NOTIFY may come before the 2xx, and then makes the dialog.
            dialog.learn(message, message.first("from"), values_of(message.all("record-route")))
        if answer["status"] and message.method not in ("ACK", "BENOTIFY"):
            self.respond(link, message, **answer)
        name = dialog.name if dialog else self.exchanges.get(call_id)
        tell("request", link=link, name=name, answered=answer["status"], **message.fields())

    def usual_answer(self, message, dialog):
        match message.method:
            case "NOTIFY":
                return {"status": 200} if dialog else {"status": 481}
            case "SUBSCRIBE":
                return {"status": 200, "headers": {"Expires": message.first("expires") or "3600"}}
            case "MESSAGE" | "OPTIONS" | "BYE" | "CANCEL" | "INFO":
                return {"status": 200}
            case "INVITE":
                return {"status": 488}
            case "ACK" | "BENOTIFY":
                return {"status": None}
        return {"status": 405, "headers": {"Allow": "INVITE, BYE, ACK, CANCEL, INFO, MESSAGE, SUBSCRIBE, NOTIFY, OPTIONS"}}

    def respond(self, link, request, status, reason=None, headers=None):
        reasons = {180: "Ringing", 200: "OK", 202: "Accepted", 404: "Not Found", 481: "Call/Transaction Does Not Exist"}
        to = request.first("to")
        if not tag_of(to):
            # RFC 3261 §8.2.6.2: one tag for all answers of one request.
            ours = (f";epid={token(10)}" if request.method == "INVITE" else "") + ";tag=" + token(32).upper()
            to += self.tags.setdefault((request.first("call-id"), request.first("cseq")), ours)
        rows = [("Via", value) for value in request.all("via")]
        rows += [("From", request.first("from")), ("To", to)]
        rows += [("Call-ID", request.first("call-id")), ("CSeq", request.first("cseq"))]
        body = b""
        if request.method == "INVITE" and 200 <= status < 300:
            user = uri_of(to)
            # The proxies between our edge and our user, who records the nearest to them last.
            rows += [("Record-Route", f"<sip:pool01.lync.example:5061;transport=tls;opaque=state:F:T:{token(8)};lr>")]
            rows += [("Record-Route", f"{MINE};opaque=state:Si;ms-route-sig=ae{token(12)}>")]
            rows += [("Contact", f"<{user};opaque=user:epid:Zk3dSampleGruuValue0AA;gruu>")]
            rows += [("Content-Type", "application/sdp; charset=utf-8")]
            body = session_description(user).encode()
        elif request.method == "SUBSCRIBE" and 200 <= status < 300:
            rows += [("Record-Route", value) for value in request.all("record-route")]
            rows += [("Contact", f"<sip:{EDGE}:5061;transport=tls>")]
        rows += list((headers or {}).items())
        rows += [("Server", "RTC/4.0"), ("Content-Length", "")]
        self.write(link, Message(f"SIP/2.0 {status} {reason or reasons.get(status, 'Answer')}", rows, body).to_bytes())
        if request.method in ("SUBSCRIBE", "INVITE") and 200 <= status < 300 and request.first("call-id") not in self.dialogs:
            call_id = request.first("call-id")
            dialog = Dialog(None, link, call_id, to, request.first("from"))
            dialog.target = uri_of(request.first("contact"))
            dialog.routes = [r for r in values_of(request.all("record-route")) if EDGE not in r]
            self.dialogs[call_id] = dialog

    # -- what we send -----------------------------------------------------------------------------------------------

    def send(self, link, name, message):
        data = message.to_bytes()
        self.write(link, data)
        tell("sent", link=link, name=name, hex=data.hex(), **message.fields())

    def vias(self, link):
        """Three Vias that are not neighbours: the edge's own, a front end's, and the client's, which has no branch."""
        host, port = self.sources[link][:2]
        branch = f"z9hG4bK{token(8).upper()}.{token(16).upper()}"
        return [
            ("Via", f'SIP/2.0/TLS {host}:{port};branch={branch};branched=FALSE;ms-internal-info="bk{token(8)},01"'),
            ("Via", "SIP/2.0/TLS 10.20.30.40:49233;branch=z9hG4bK7F3A61C2.5D10E8A4;branched=FALSE;ms-received-port=49233;ms-received-cid=2A00"),
            ("Via", "SIP/2.0/TLS 10.20.31.5:50711;ms-received-port=50711;ms-received-cid=67F00"),
        ]

    def subscription(self, dialog, expires, body):
        dialog.cseq += 1
        outer, middle, client = self.vias(dialog.link)
        user = uri_of(dialog.local)
        rows = [
            ("Record-Route", f"{MINE};ms-key-info=AAEAAWQ5;ms-route-sig=fb{token(12)}>;tag={token(32).upper()}"),
            outer,
            ("Max-Forwards", "67"),
            ("ms-user-data", "ms-publiccloud=true;ms-federation=true"),
            middle,
            ("Content-Length", ""),
            client,
            *(("Route", route) for route in dialog.routes),
            ("From", dialog.local),
            ("To", dialog.remote),
            ("Call-ID", dialog.call_id),
            ("CSeq", f"{dialog.cseq} SUBSCRIBE"),
            ("Contact", f"<{user};opaque=user:epid:Zk3dSampleGruuValue0AA;gruu>"),
            ("User-Agent", AGENT),
            ("Event", "presence"),
            ("Accept", "application/msrtc-event-categories+xml, application/xpidf+xml, text/xml+msrtc.pidf, "
                       "application/pidf+xml, application/rlmi+xml, multipart/related"),
            ("Supported", "com.microsoft.autoextend"),
            ("Supported", "ms-benotify"),
            ("Proxy-Require", "ms-benotify"),
            ("Supported", "ms-piggyback-first-notify"),
        ]
        if expires is not None:
            rows.append(("Expires", str(expires)))
        if body:
            rows.append(("Content-Type", "application/msrtc-adrl-categorylist+xml"))
        self.send(dialog.link, dialog.name, Message(f"SUBSCRIBE {dialog.target} SIP/2.0", rows, body.encode()))

    # `from` is no name in Python: hence the dictionaries.
    async def subscribe(self, name, link, to, expires=None, **rest):
        watcher, call_id = rest["from"], token(32)
        local = f'"Juliet Example"<{watcher}>;tag={token(10)};epid={token(10)}'
        dialog = Dialog(name, link, call_id, local, f"<{to}>")
        self.dialogs[call_id] = dialog
        self.exchanges[call_id] = name
        self.subscription(dialog, expires, CATEGORIES.format(watcher=watcher, presentity=to))

    async def refresh(self, name, expires=None, link=None):
        dialog = next(d for d in self.dialogs.values() if d.name == name)
        dialog.link = link or dialog.link
        self.subscription(dialog, expires, "")

    async def message(self, name, link, to, body, **rest):
        call_id = token(32)
        self.exchanges[call_id] = name
        outer, _, client = self.vias(link)
        rows = [
            outer,
            ("Max-Forwards", "68"),
            client,
            ("From", f'"Juliet Example"<{rest["from"]}>;tag={token(10)};epid={token(10)}'),
            ("To", f"<{to}>"),
            ("Call-ID", call_id),
            ("CSeq", "1 MESSAGE"),
            ("User-Agent", AGENT),
            ("Supported", "ms-dialog-route-set-update"),
            ("Supported", "timer"),
            ("Content-Type", "text/plain; charset=UTF-8"),
            ("Content-Length", ""),
        ]
        self.send(link, name, Message(f"MESSAGE {to} SIP/2.0", rows, body.encode()))

    async def notify(self, call_id, state, body="", name=None):
        dialog = self.dialogs[call_id]
        dialog.cseq += 1
        outer, middle, _ = self.vias(dialog.link)
        rows = [
            outer,
            ("Max-Forwards", "68"),
            middle,
            *(("Route", route) for route in dialog.routes),
            ("From", dialog.local),
            ("To", dialog.remote),
            ("Call-ID", call_id),
            ("CSeq", f"{dialog.cseq} NOTIFY"),
            ("Require", "eventlist"),
            *([("Content-Type", "application/pidf+xml")] if body else []),
            ("Event", "presence"),
            ("subscription-state", state),
            ("Content-Length", ""),
        ]
        self.exchanges[call_id] = name
        self.send(dialog.link, name, Message(f"NOTIFY {dialog.target} SIP/2.0", rows, body.encode()))

    async def invite(self, name, link, to, first=None, sdp=None, headers=None, **rest):
        user, call_id = rest["from"], token(32)
        local = f'"Juliet Example"<{user}>;tag={token(10)};epid={token(10)}'
        dialog = Dialog(name, link, call_id, local, f"<{to}>")
        dialog.cseq = 1
        self.dialogs[call_id], self.exchanges[call_id] = dialog, name
        outer, middle, client = self.vias(link)
        rows = [
            ("Record-Route", f"{MINE};opaque=state:T:F:Ci.R{token(6)};ms-route-sig=ae{token(12)}>;ms-rrsig=ae{token(12)};tag={token(32).upper()}"),
            outer,
            ("Content-Length", ""),
            middle,
            ("ms-user-data", "ms-publiccloud=true;ms-federation=true"),
            client,
            ("Max-Forwards", "67"),
            ("From", local),
            ("To", f"<{to}>"),
            ("Call-ID", call_id),
            ("CSeq", "1 INVITE"),
            ("Contact", f"<{user};opaque=user:epid:Zk3dSampleGruuValue0AA;gruu>"),
            ("User-Agent", AGENT),
            ("Supported", "ms-dialog-route-set-update"),
            ("Ms-Conversation-ID", base64.b64encode(token(16).encode()).decode()),
            ("Supported", "timer"),
            ("Supported", "histinfo"),
            ("Supported", "ms-safe-transfer"),
            ("Supported", "ms-sender"),
            ("Supported", "ms-early-media"),
            ("Roster-Manager", user),
            *((key, value) for key, value in {"EndPoints": f"<{user}>, <{to}>", **(headers or {})}.items()),
            ("Supported", "com.microsoft.rtc-multiparty"),
            ("ms-keep-alive", "UAC;hop-hop=yes"),
            ("Allow", "INVITE, BYE, ACK, CANCEL, INFO, MESSAGE, UPDATE, REFER, NOTIFY, BENOTIFY"),
            ("ms-subnet", "10.20.31.0"),
        ]
        if first:
            html = f'<DIV style="font-size:10pt">{first}</DIV>'
            for header, kind, body in [("ms-text-format", "text/plain", first), ("ms-im-format", "text/html", html)]:
                rows.append((header, f"{kind}; charset=UTF-8; ms-body={base64.b64encode(body.encode()).decode()}"))
        rows += [("Supported", option) for option in (
            "ms-embedded-first-message", "ms-delayed-accept", "ms-renders-isf", "ms-renders-gif",
            "ms-renders-mime-alternative", "ms-conf-invite",
        )]
        rows.append(("Content-Type", "application/sdp"))
        self.invites[call_id] = outer
        self.send(link, name, Message(f"INVITE {to} SIP/2.0", rows, (sdp or session_description("null")).encode()))

    def acknowledge(self, link, response):
        """RFC 3261 §13.2.2.4, and §17.1.1.3 for a refusal: then with the INVITE's own Via, to where it went."""
        call_id = response.first("call-id")
        dialog = self.dialogs[call_id]
        taken = response.status < 300
        via = self.vias(link)[0] if taken else self.invites[call_id]
        routes = [("Route", route) for route in dialog.routes] if taken else []
        rows = [
            via,
            ("Max-Forwards", "68"),
            *routes,
            ("From", dialog.local),
            ("To", response.first("to")),
            ("Call-ID", call_id),
            ("CSeq", "1 ACK"),
            ("User-Agent", AGENT),
            ("Content-Length", ""),
        ]
        self.send(link, None, Message(f"ACK {dialog.target} SIP/2.0", rows))

    async def within(self, name, call_id, method, type=None, body="", link=None):
        dialog = self.dialogs[call_id]
        dialog.link = link or dialog.link
        dialog.cseq += 1
        outer, _, client = self.vias(dialog.link)
        cseq = f"{dialog.cseq} {method}"
        rows = [
            outer,
            ("Max-Forwards", "68"),
            client,
            *(("Route", route) for route in dialog.routes),
            ("From", dialog.local),
            ("To", dialog.remote),
            ("Call-ID", call_id),
            ("CSeq", cseq),
            ("User-Agent", AGENT),
            *([("Content-Type", type)] if type else []),
            ("Content-Length", ""),
        ]
        self.exchanges[call_id, cseq] = name
        self.send(dialog.link, name, Message(f"{method} {dialog.target} SIP/2.0", rows, body.encode()))

    async def close(self, link):
        self.links[link].close()

    async def reply(self, call_id, method, status):
        link, request = self.requests[call_id, method]
        self.respond(link, request, status)

    async def raw(self, link, hex):
        self.write(link, bytes.fromhex(hex))

    async def answer(self, method, status, reason=None, headers=None):
        self.answers[method] = {"status": status, "reason": reason, "headers": headers}


async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=4 * BODY_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    partner = Partner()
    while line := await reader.readline():
        command = json.loads(line)
        try:
            await getattr(partner, command.pop("do"))(**command)
        except Exception as e:  # a mistake in the test: say it where the test looks
            tell("mistake", command=line.decode(), why=repr(e))


if __name__ == "__main__":
    asyncio.run(main())
