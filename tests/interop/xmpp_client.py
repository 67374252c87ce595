#!/usr/bin/python3
"""A user's XMPP client (slixmpp) that a test drives by JSON lines.

Takes on stdin, one JSON object a line:
    {"do": "login", "jid": J, "password": P, "host": H, "port": N}
    {"do": "presence", "to"?, "type"?, "show"?, "status"?, "priority"?}    type: subscribe, subscribed, unsubscribed, probe, …
    {"do": "message", "to": J, "body": B, "id": I, "type"?, "subject"?, "thread"?}
    {"do": "state", "to": J, "state": S}                                     a chat state alone (XEP-0085)
    {"do": "iq", "to": J, "id": I, "what"?}                                   ping (XEP-0199), disco (XEP-0030) or vcard (XEP-0054)
    {"do": "join", "room": J, "nick": N}                                     a chat room (XEP-0045)
    {"do": "logout"}
Gives on stdout, one JSON object a line, each with "event":
    "online" with jid; "offline" with why; "failed" with why;
    "presence", "message", "iq": from, to, type, id, what the stanza holds, its chat state, its error (condition, type, text) and its whole xml.
Ends when stdin ends.
"""

import asyncio
import json
import sys

import slixmpp

STANZAS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
CHATSTATES = "{http://jabber.org/protocol/chatstates}"
QUESTIONS = {
    "ping": "{urn:xmpp:ping}ping",
    "disco": "{http://jabber.org/protocol/disco#info}query",
    "vcard": "{vcard-temp}vCard",
}


def tell(event, **fields):
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def child_text(xml, name):
    found = xml.find("{jabber:client}" + name)
    return None if found is None else found.text or ""


def state_of(xml):
    states = [child.tag[len(CHATSTATES):] for child in xml if child.tag.startswith(CHATSTATES)]
    return states[0] if states else None


def error_of(xml):
    error = xml.find("{jabber:client}error")
    if error is None:
        return None
    conditions = [c.tag[len(STANZAS):] for c in error if c.tag.startswith(STANZAS) and c.tag != STANZAS + "text"]
    text = error.find(STANZAS + "text")
    return {
        "condition": conditions[0] if conditions else None,
        "type": error.get("type"),
        "text": None if text is None else text.text,
    }


class Client(slixmpp.ClientXMPP):
    def __init__(self, jid, password):
        super().__init__(jid, password)
        # The test is the user: nothing is approved or asked for on its behalf.
        self.auto_authorize = None
        self.auto_subscribe = False
        self.auto_reconnect = False
        # Prosody listens on loopback without TLS for clients; what is under test is beyond it.
        self["feature_mechanisms"].unencrypted_plain = True
        self.add_event_handler("session_start", self.on_start)
        self.add_event_handler("failed_all_auth", lambda _: tell("failed", why="authentication"))
        self.add_event_handler("connection_failed", lambda e: tell("failed", why=str(e)))
        self.add_event_handler("disconnected", lambda e: tell("offline", why=str(e)))
        # Read every stanza as it came rather than slixmpp's interpretation of it.
        self.add_filter("in", self.on_stanza)

    async def on_start(self, _):
        await self.get_roster()
        tell("online", jid=str(self.boundjid))

    def on_stanza(self, stanza):
        xml = stanza.xml
        kind = xml.tag.rpartition("}")[2]
        if kind in ("message", "presence", "iq"):
            tell(
                kind,
                **{"from": xml.get("from"), "to": xml.get("to"), "id": xml.get("id"), "type": xml.get("type")},
                **{name: child_text(xml, name) for name in ("body", "subject", "thread", "show", "status", "priority")},
                state=state_of(xml),
                error=error_of(xml),
                xml=str(stanza),
            )
        return stanza


class Session:
    def __init__(self):
        self.client = None

    def login(self, jid, password, host, port):
        self.client = Client(jid, password)
        self.client.connect((host, port), disable_starttls=True, force_starttls=False)

    def presence(self, to=None, type=None, show=None, status=None, priority=None):
        self.client.send_presence(pto=to, ptype=type, pshow=show, pstatus=status, ppriority=priority)

    def message(self, to, body, id, type=None, subject=None, thread=None):
        message = self.client.make_message(mto=to, mbody=body, msubject=subject, mtype=type)
        message["id"] = id
        if thread is not None:
            message["thread"] = thread
        message.send()

    def state(self, to, state):
        message = self.client.make_message(mto=to, mtype="chat")
        message.xml.append(slixmpp.xmlstream.ET.Element(CHATSTATES + state))
        message.send()

    def iq(self, to, id, what="ping"):
        iq = self.client.make_iq_get(ito=to)
        iq["id"] = id
        iq.xml.append(slixmpp.xmlstream.ET.Element(QUESTIONS[what]))
        self.client.send(iq)

    def join(self, room, nick):
        presence = self.client.make_presence(pto=f"{room}/{nick}")
        presence.xml.append(slixmpp.xmlstream.ET.Element("{http://jabber.org/protocol/muc}x"))
        presence.send()

    def logout(self):
        self.client.disconnect()


async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    session = Session()
    while line := await reader.readline():
        command = json.loads(line)
        getattr(session, command.pop("do"))(**command)
    if session.client is not None:
        session.client.disconnect()
        await asyncio.sleep(0.2)


if __name__ == "__main__":
    asyncio.run(main())
