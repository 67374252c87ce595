"""SIP users at one UDP socket (RFC 3261 over UDP), behind one server or several. Standard library only.

Takes commands and tells events, one JSON object a line, on standard input and output.

  {"do": "listen", "address": A, "server": S}                               users register and send at S, port 5060
  {"do": "register", "user": URI, "server": S, "mark": M}                   what reaches the user through S has ;at=M in its Request-URI
  {"do": "request", "id": I, "method": M, "from": URI, "to": URI, "headers": [[N, V]], "body": B}      outside a dialog; its 2xx may make one, I
  {"do": "within", "id": J, "dialog": I, "method": M, "headers": [[N, V]], "body": B}
  {"do": "load", "from": [URI], "to": [URI], "rate": N}                     a request each 1/N s until "rest": nine MESSAGEs, then a SUBSCRIBE
  {"do": "rest"}

Every request that it takes is answered, an INVITE by 180 and 200. Events: "registered", "answered" (id, method, status, warning), "asked" (method,
user, at, state, text, dialog), "opened" (a dialog that somebody else has opened), "mistake".
"""

import asyncio
import json
import os
import re
import sys

T1 = 0.5
LAST = 64 * T1


def tell(event, **fields):
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def token():
    return os.urandom(8).hex()


class Parsed:
    def __init__(self, data):
        head, _, body = data.decode("utf-8", "replace").partition("\r\n\r\n")
        self.start, *rows = head.split("\r\n")
        self.rows = [tuple(part.strip() for part in row.split(":", 1)) for row in rows]
        self.body = body

    def all(self, name):
        return [value for row, value in self.rows if row.lower() == name]

    def first(self, name):
        return next(iter(self.all(name)), "")

    def method(self):
        return self.first("cseq").split()[-1]

    def branch(self):
        return param(self.first("via").split(",")[0], "branch")

    def routes(self, name):
        return [route for value in self.all(name) for route in re.findall(r"<[^>]*>[^,]*", value)]


def param(value, name):
    found = re.search(r";\s*" + name + r"=([^;,>\s]*)", value)
    return found.group(1) if found else ""


def uri_of(value):
    found = re.search(r"<([^>]*)>", value)
    return found.group(1) if found else value.split(";")[0].strip()


class Dialog:
    """One end of a dialog (RFC 3261 §12)."""

    def __init__(self, own, other, call_id, cseq, target, routes):
        self.own, self.other, self.call_id, self.cseq = own, other, call_id, cseq
        self.target, self.routes = target, routes


class Client(asyncio.DatagramProtocol):
    def __init__(self):
        self.transport = None
        self.address = self.server = ""
        self.waiting = {}  # branch and method: what is asked and has no final answer
        self.said = {}  # branch and method: the answers given, for who asks again
        self.dialogs = {}
        self.loading = False

    def connection_made(self, transport):
        self.transport = transport

    def contact(self, uri, mark=""):
        user = uri.split(":", 1)[1].split("@")[0]
        return f"<sip:{user}@{self.address}:5060{mark}>"

    def send(self, text, server=None):
        self.transport.sendto(text.encode(), (server or self.server, 5060))

    # What is asked of others.

    def ask(self, id, method, uri, rows, body, server=None, told=None, branch=None):
        branch = branch or "z9hG4bK" + token()
        lines = [f"{method} {uri} SIP/2.0", f"Via: SIP/2.0/UDP {self.address}:5060;branch={branch}", "Max-Forwards: 70"]
        lines += [f"{name}: {value}" for name, value in rows]
        text = "\r\n".join(lines) + f"\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}"
        if method == "ACK":
            self.send(text, server)
            return
        asked = {"id": id, "text": text, "rows": rows, "uri": uri, "told": told, "branch": branch, "server": server}
        self.waiting[branch, method] = asked
        asyncio.ensure_future(self.repeat(branch, method))

    async def repeat(self, branch, method):
        wait, waited = T1, 0.0
        while (branch, method) in self.waiting:
            asked = self.waiting[branch, method]
            if waited >= LAST and not (method == "INVITE" and asked.get("proceeds")):
                del self.waiting[branch, method]
                tell("answered", id=asked["id"], method=method, status=0, warning="")
                return
            if not asked.get("proceeds"):
                self.send(asked["text"], asked["server"])
            await asyncio.sleep(wait)
            waited += wait
            wait = wait * 2 if method == "INVITE" else min(wait * 2, 4.0)

    def request(self, id, method, sender, to, headers=(), body="", told=None):
        rows = [("From", f"<{sender}>;tag={token()}"), ("To", f"<{to}>"), ("Call-ID", f"{token()}@{self.address}")]
        rows += [("CSeq", f"1 {method}"), *map(tuple, headers)]
        if method in ("SUBSCRIBE", "INVITE"):
            rows.append(("Contact", self.contact(sender)))
        self.ask(id, method, to, rows, body, told=told)

    def within(self, id, name, method, headers=(), body=""):
        dialog = self.dialogs[name]
        dialog.cseq += 1
        rows = [("From", dialog.own), ("To", dialog.other), ("Call-ID", dialog.call_id), ("CSeq", f"{dialog.cseq} {method}")]
        rows += [("Route", route) for route in dialog.routes] + [*map(tuple, headers)]
        if method in ("SUBSCRIBE", "INVITE"):
            rows.append(("Contact", self.contact(uri_of(dialog.own))))
        self.ask(id, method, dialog.target, rows, body)

    def answered(self, message):
        key = (message.branch(), message.method())
        status = int(message.start.split()[1])
        method = message.method()
        asked = self.waiting.get(key)
        if asked is None:
            # A 2xx that came again: its ACK was lost.
            if method == "INVITE" and 200 <= status < 300:
                self.acknowledge(message)
            return
        if status < 200:
            asked["proceeds"] = True
            if status > 100:
                tell("answered", id=asked["id"], method=method, status=status, warning="")
            return
        del self.waiting[key]
        if method == "INVITE" and status >= 300:
            rows = [(name, message.first("to") if name == "To" else value) for name, value in asked["rows"]]
            rows = [(name, value) for name, value in rows if name in ("From", "To", "Call-ID")]
            number = dict(asked["rows"])["CSeq"].split()[0]
            self.ask("", "ACK", asked["uri"], [*rows, ("CSeq", f"{number} ACK")], "", branch=asked["branch"])
        if method in ("INVITE", "SUBSCRIBE") and status < 300 and asked["id"] not in self.dialogs:
            own, call_id, cseq = message.first("from"), message.first("call-id"), int(message.first("cseq").split()[0])
            routes = message.routes("record-route")[::-1]
            self.dialogs[asked["id"]] = Dialog(own, message.first("to"), call_id, cseq, uri_of(message.first("contact")), routes)
        if method == "INVITE" and status < 300:
            self.acknowledge(message)
        if asked["told"]:
            asked["told"](status)
        tell("answered", id=asked["id"], method=method, status=status, warning=message.first("warning"))

    def acknowledge(self, message):
        for dialog in self.dialogs.values():
            if dialog.call_id == message.first("call-id"):
                number = message.first("cseq").split()[0]
                rows = [("From", dialog.own), ("To", dialog.other), ("Call-ID", dialog.call_id), ("CSeq", f"{number} ACK")]
                self.ask("", "ACK", dialog.target, rows + [("Route", route) for route in dialog.routes], "")

    # What others ask.

    def answer(self, message, status, peer, tag, rows=(), body=""):
        lines = [f"SIP/2.0 {status} {'OK' if status == 200 else 'Told'}"]
        lines += [f"{name}: {value}" for name, value in message.rows if name.lower() in ("via", "from", "call-id", "cseq", "record-route")]
        to = message.first("to")
        lines.append(f"To: {to}" + ("" if ";tag=" in to or status == 100 else f";tag={tag}"))
        lines += [f"{name}: {value}" for name, value in rows]
        text = "\r\n".join(lines) + f"\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}"
        self.said.setdefault((message.branch(), message.method()), []).append(text)
        self.transport.sendto(text.encode(), peer)

    def asked(self, message, peer):
        method, uri, _ = message.start.split(" ", 2)
        for text in self.said.get((message.branch(), method), []):
            self.transport.sendto(text.encode(), peer)
        if (message.branch(), method) in self.said:
            return
        user = uri.split(":", 1)[-1].split("@")[0]
        inside = next((n for n, d in self.dialogs.items() if d.call_id == message.first("call-id")), "")
        about = {"user": user, "at": param(uri, "at"), "text": message.body, "dialog": inside}
        tell("asked", method=method, state=message.first("subscription-state"), **about)
        if method == "ACK":
            return
        tag = token()
        if method != "INVITE":
            self.answer(message, 200, peer, tag)
            return
        own = [("Contact", self.contact("sip:" + user + "@", f";at={param(uri, 'at')}" if param(uri, "at") else ""))]
        if not inside:
            self.answer(message, 180, peer, tag, own)
        if not inside:
            routes, other = message.routes("record-route"), message.first("from")
            dialog = Dialog(message.first("to") + f";tag={tag}", other, message.first("call-id"), 0, uri_of(message.first("contact")), routes)
            name = "opened-" + token()
            self.dialogs[name] = dialog
            tell("opened", dialog=name)
        body = f"v=0\r\no=- 0 0 IN IP4 {self.address}\r\ns=-\r\nc=IN IP4 {self.address}\r\nt=0 0\r\nm=message 5060 sip null\r\n"
        self.answer(message, 200, peer, tag, [*own, ("Content-Type", "application/sdp")], body)

    def datagram_received(self, data, peer):
        if len(data) < 16:
            return
        try:
            message = Parsed(data)
            if message.start.startswith("SIP/2.0"):
                self.answered(message)
            else:
                self.asked(message, peer)
        except Exception as e:  # pylint: disable=broad-except
            tell("mistake", what=repr(e), message=data.decode("utf-8", "replace"))

    # Orders.

    def register(self, user, server, mark):
        rows = [("From", f"<{user}>;tag={token()}"), ("To", f"<{user}>"), ("Call-ID", token()), ("CSeq", "1 REGISTER")]
        rows += [("Contact", self.contact(user, f";at={mark}" if mark else "")), ("Expires", "600")]
        domain = user.split("@")[1]
        told = lambda status: tell("registered", user=user, server=server, status=status)
        self.ask("", "REGISTER", f"sip:{domain}", rows, "", server, told)

    async def load(self, senders, to, rate):
        self.loading, number = True, 0
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while self.loading:
            sender, whom = senders[number % len(senders)], to[number % len(to)]
            name = f"load-{number}"
            if number % 10 == 9:
                rows = [("Event", "presence"), ("Expires", "600"), ("Accept", "application/pidf+xml")]
                tell("sent", id=name, method="SUBSCRIBE", to=whom)
                self.request(name, "SUBSCRIBE", sender, whom, rows)
            else:
                tell("sent", id=name, method="MESSAGE", to=whom)
                self.request(name, "MESSAGE", sender, whom, [("Content-Type", "text/plain")], name)
            number += 1
            await asyncio.sleep(max(0.0, begun + number / rate - loop.time()))
        tell("rests", sent=number)

    async def obey(self, order):
        do = order.pop("do")
        if do == "listen":
            self.address, self.server = order["address"], order["server"]
            loop = asyncio.get_running_loop()
            await loop.create_datagram_endpoint(lambda: self, local_addr=(self.address, 5060))
            tell("listens")
        elif do == "register":
            self.register(order["user"], order["server"], order.get("mark", ""))
        elif do == "request":
            headers, body = order.get("headers", ()), order.get("body", "")
            self.request(order["id"], order["method"], order["from"], order["to"], headers, body)
        elif do == "within":
            self.within(order["id"], order["dialog"], order["method"], order.get("headers", ()), order.get("body", ""))
        elif do == "load":
            asyncio.ensure_future(self.load(order["from"], order["to"], order["rate"]))
        elif do == "rest":
            self.loading = False


async def main():
    client, loop = Client(), asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        await client.obey(json.loads(line))


asyncio.run(main())
