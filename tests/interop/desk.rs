//! A second device of a user behind a Kamailio, which publishes documents richer than baresip has, by sipsak.

use crate::phone::Home;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The device.
pub struct Desk {
    user: String,
    home: Home,
    folder: PathBuf,
    /// Its publication (RFC 3903 §4.1).
    etag: Option<String>,
    requests: u32,
}

impl Desk {
    /// It has published nothing yet.
    pub fn new(user: &str, home: Home, folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("a folder for a device");
        Self { user: user.to_owned(), home, folder: folder.to_owned(), etag: None, requests: 0 }
    }

    /// Publishes that it is open, with this activity of RFC 4480 and this note, in place of what it said before.
    pub fn publish(&mut self, activity: &str, note: &str) {
        let document = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
             <p:presence xmlns:p=\"urn:ietf:params:xml:ns:pidf\" xmlns:d=\"urn:ietf:params:xml:ns:pidf:data-model\" \
             xmlns:r=\"urn:ietf:params:xml:ns:pidf:rpid\" entity=\"sip:{user}@{domain}\">\
             <p:tuple id=\"desk\"><p:status><p:basic>open</p:basic></p:status><p:note>{note}</p:note></p:tuple>\
             <d:person id=\"at-desk\"><r:activities><r:{activity}/></r:activities></d:person></p:presence>\r\n",
            user = self.user,
            domain = self.home.domain,
        );
        self.send(&document, 600);
    }

    /// Takes its publication back.
    pub fn withdraw(&mut self) {
        self.send("", 0);
        self.etag = None;
    }

    fn send(&mut self, document: &str, expires: u32) {
        self.requests += 1;
        let (user, number) = (&self.user, self.requests);
        let Home { domain, server, .. } = self.home;
        let mut request = format!(
            "PUBLISH sip:{user}@{domain} SIP/2.0\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@{domain}>;tag=desk\r\nTo: <sip:{user}@{domain}>\r\n\
             Call-ID: desk-{number}\r\nCSeq: {number} PUBLISH\r\nEvent: presence\r\nExpires: {expires}\r\n"
        );
        if let Some(etag) = &self.etag {
            write!(request, "SIP-If-Match: {etag}\r\n").expect("a string");
        }
        if !document.is_empty() {
            request.push_str("Content-Type: application/pidf+xml\r\n");
        }
        write!(request, "Content-Length: {}\r\n\r\n{document}", document.len()).expect("a string");
        let file = self.folder.join(format!("publish-{number}"));
        std::fs::write(&file, request).expect("a request");
        // It finds out its own address by a name, which need not exist.
        let mut sipsak = Command::new("sipsak");
        sipsak.args(["-vvv", "-H", &server.to_string(), "-s", &format!("sip:{user}@{server}:5060"), "-f"]).arg(&file);
        let output = sipsak.output().expect("sipsak starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "PUBLISH was refused: {said}{}", String::from_utf8_lossy(&output.stderr));
        self.etag = said.lines().find_map(|line| line.strip_prefix("SIP-ETag: ")).map(|etag| etag.trim().to_owned());
    }
}
