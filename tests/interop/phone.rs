//! A user at a baresip, behind a Kamailio: registers, watches contacts, publishes presence, sends and takes messages, calls.
//!
//! It is driven through its control socket (JSON in netstrings) and read by its SIP trace.

use crate::process::{Event, PATIENCE, Process};
use crate::stand::wait_until;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where Debian's package keeps its modules.
pub const MODULES: &str = "/usr/lib/baresip/modules";

/// What comes before and after a message in its trace.
const BEGIN: &[u8] = b"\x1b[36;1m#\n";
const END: &[u8] = b"\x1b[;m\n";

/// Where a user is at home.
#[derive(Clone, Copy, Debug)]
pub struct Home {
    /// The user's domain.
    pub domain: &'static str,
    /// Its server's address.
    pub server: IpAddr,
    /// The phone's own.
    pub address: IpAddr,
}

/// The client.
pub struct Phone {
    name: String,
    address: IpAddr,
    control: TcpStream,
    trace: PathBuf,
    /// How much of the trace has been read.
    read: usize,
    /// Read, and not yet taken.
    waiting: Vec<Event>,
    process: Process,
}

impl Phone {
    /// Registers `user` at home and publishes that it is online. `contact` is whom it writes to, and watches too with `watch`.
    pub fn start(user: &str, contact: &str, watch: bool, home: Home, folder: &Path) -> Self {
        let Home { domain, server, address } = home;
        std::fs::create_dir_all(folder).expect("a folder for a phone");
        let write =
            |file: &str, text: String| std::fs::write(folder.join(file), text).expect("a phone's configuration");
        let modules = ["contact", "menu", "presence", "ctrl_tcp"].map(|m| format!("module_app {m}.so\n")).concat();
        // What a call sounds like, without a sound card.
        let sound = ["source", "player", "alert"].map(|way| format!("audio_{way} aubridge,{user}\n")).concat();
        write(
            "config",
            format!(
                "sip_listen {address}:5060\nctrl_tcp_listen {address}:4444\nmodule_path {MODULES}\nmodule g711.so\n\
                 module aubridge.so\n{sound}module_tmp account.so\n{modules}"
            ),
        );
        write(
            "accounts",
            format!(
                "<sip:{user}@{domain};transport=udp>;auth_pass=none;regint=600;pubint=600;\
                 outbound=\"sip:{server}:5060;transport=udp\"\n"
            ),
        );
        let presence = if watch { "p2p" } else { "none" };
        write("contacts", format!("\"Contact\" <{contact}>;presence={presence}\n"));
        let trace = folder.join("phone.log");
        let arguments: [&OsStr; 4] = ["-4".as_ref(), "-s".as_ref(), "-f".as_ref(), folder.as_ref()];
        let read = trace.metadata().map_or(0, |m| usize::try_from(m.len()).unwrap_or_default());
        let mut process = Process::start("baresip", "baresip".as_ref(), &arguments, folder, &trace);
        let mut control = None;
        wait_until("baresip listens", PATIENCE, || {
            process.assert_running();
            control = TcpStream::connect(SocketAddr::new(address, 4444)).ok();
            control.is_some()
        });
        let control = control.expect("just set");
        control.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut phone = Self { name: user.to_owned(), address, control, trace, read, waiting: Vec::new(), process };
        let registered = phone.response("REGISTER");
        assert_eq!(registered.status(), 200, "{registered}");
        // It may be early with one that is refused (see kamailio.cfg).
        let published = phone.response("PUBLISH");
        let published = if published.status() == 400 { phone.response("PUBLISH") } else { published };
        assert_eq!(published.status(), 200, "{published}");
        phone
    }

    /// Sends a message to its contact.
    pub fn message(&mut self, body: &str) {
        self.command("message", Some(body));
    }

    /// Calls somebody.
    pub fn dial(&mut self, uri: &str) {
        self.command("dial", Some(uri));
    }

    /// Takes the call that rings.
    pub fn accept(&mut self) {
        self.command("accept", None);
    }

    /// Puts the other end on hold, by a re-INVITE.
    pub fn hold(&mut self) {
        self.command("hold", None);
    }

    /// Ends the call, or gives it up.
    pub fn hang_up(&mut self) {
        self.command("hangup", None);
    }

    /// Publishes that it is online.
    pub fn go_online(&mut self) {
        self.command("presence_online", None);
    }

    /// Publishes that it is offline, and stays registered.
    pub fn go_offline(&mut self) {
        self.command("presence_offline", None);
    }

    /// Ends: takes its publication, its subscription and its registration back.
    pub fn quit(&mut self) {
        self.process.signal("TERM");
        self.process.wait(PATIENCE);
    }

    /// What it makes of its contact's presence: `Online`, `Offline`, `Busy`, `Unknown`.
    pub fn shows(&mut self, verdict: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let list = self.command("contacts", None);
            if list.contains(verdict) {
                return;
            }
            assert!(Instant::now() < end, "{} does not show its contact {verdict}: {list}", self.name);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The next final response it received to a request of this method.
    pub fn response(&mut self, method: &str) -> Event {
        self.wait(&format!("the answer to {method}"), |e| {
            e.is("received") && e.status() >= 200 && e.header("cseq").ends_with(&format!(" {method}"))
        })
    }

    /// Waits until its call rings.
    pub fn rings(&mut self) {
        self.wait("180", |e| e.is("received") && e.status() == 180);
    }

    /// The next request it received of this method that satisfies `wanted`.
    pub fn request(&mut self, method: &str, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        self.wait(&format!("{method} {what}"), |e| is_request(e, method) && wanted(e))
    }

    /// The next NOTIFY whose Subscription-State begins so and whose document holds `part`.
    pub fn notified(&mut self, state: &str, part: &str) -> Event {
        self.request("NOTIFY", &format!("{state} with {part:?}"), |e| {
            e.header("subscription-state").starts_with(state) && String::from_utf8_lossy(&e.body()).contains(part)
        })
    }

    /// Asserts that no request of this method comes within `time` that satisfies `unwanted`.
    pub fn assert_no_request(&mut self, method: &str, time: Duration, unwanted: impl Fn(&Event) -> bool) {
        if let Some(event) = self.look_for(time, |e| is_request(e, method) && unwanted(e)) {
            panic!("{} has received a {method}: {event}", self.name);
        }
    }

    fn wait(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        self.look_for(PATIENCE, wanted).unwrap_or_else(|| {
            let seen: String = self.waiting.iter().map(|e| format!("  {e}\n")).collect();
            panic!("{} has not seen {what} within {PATIENCE:?}; it has seen:\n{seen}", self.name)
        })
    }

    fn look_for(&mut self, patience: Duration, wanted: impl Fn(&Event) -> bool) -> Option<Event> {
        let end = Instant::now() + patience;
        loop {
            self.read_trace();
            if let Some(i) = self.waiting.iter().position(&wanted) {
                return Some(self.waiting.remove(i));
            }
            if Instant::now() >= end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn read_trace(&mut self) {
        let trace = std::fs::read(&self.trace).unwrap_or_default();
        while let Some(rest) = trace.get(self.read..)
            && let Some(begin) = find(rest, BEGIN)
            && let Some(length) = rest.get(begin + BEGIN.len()..).and_then(|rest| find(rest, END))
        {
            let begin = begin + BEGIN.len();
            self.waiting.extend(traced(&rest[begin..begin + length], self.address));
            self.read += begin + length + END.len();
        }
    }

    /// Gives a command on its control socket, and what it says to it.
    fn command(&mut self, command: &str, parameters: Option<&str>) -> String {
        let mut order = json!({ "command": command, "token": command });
        if let Some(parameters) = parameters {
            order["params"] = json!(parameters);
        }
        let order = order.to_string();
        write!(self.control, "{}:{order},", order.len()).unwrap_or_else(|e| panic!("{} is gone: {e}", self.name));
        loop {
            let answer = self.netstring();
            // Between its answers it tells events.
            if answer["response"] == true {
                assert_eq!(answer["ok"], true, "{order}: {answer}");
                return answer["data"].as_str().unwrap_or_default().to_owned();
            }
        }
    }

    fn netstring(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut byte = [0];
            self.control.read_exact(&mut byte).unwrap_or_else(|e| panic!("{} is silent: {e}", self.name));
            match byte[0] {
                b':' => break,
                digit => length = length * 10 + usize::from(digit - b'0'),
            }
        }
        let mut text = vec![0; length + 1];
        self.control.read_exact(&mut text).unwrap_or_else(|e| panic!("{} is silent: {e}", self.name));
        serde_json::from_slice(&text[..length]).expect("JSON")
    }
}

fn is_request(event: &Event, method: &str) -> bool {
    event.is("received") && event.text("start").starts_with(&format!("{method} "))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// One message of the trace: a line with its two addresses, then the message as it went over the wire, and a line feed.
fn traced(entry: &[u8], own: IpAddr) -> Option<Event> {
    let line = find(entry, b"\n")?;
    let addresses = String::from_utf8_lossy(&entry[..line]);
    let message = &entry[line + 1..];
    let kind = if addresses.contains(&format!("{own}:5060 ->")) { "sent" } else { "received" };
    let head = find(message, b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&message[..head]).into_owned();
    let mut lines = text.split("\r\n");
    let start = lines.next()?;
    let headers: Vec<_> = lines.filter_map(|line| line.split_once(':')).map(|(n, v)| [n.trim(), v.trim()]).collect();
    let status = start.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
    let length =
        headers.iter().find(|[name, _]| name.eq_ignore_ascii_case("content-length"))?[1].parse::<usize>().ok()?;
    let body = message.get(head + 4..head + 4 + length)?;
    let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(Event(json!({
        "event": kind, "start": start, "status": status, "headers": headers, "body_hex": hex,
        "raw": String::from_utf8_lossy(message),
    })))
}
