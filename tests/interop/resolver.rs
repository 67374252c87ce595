//! A name server of a stand: dnsmasq, which knows what it is told and nothing else.

use crate::peers;
use crate::process::{PATIENCE, Process};
use crate::stand::wait_until;
use std::ffi::OsStr;
use std::net::{IpAddr, TcpStream};
use std::path::Path;

/// Where it is asked.
pub const PORT: u16 = 5353;

/// The name server.
pub struct Resolver {
    _process: Process,
}

impl Resolver {
    /// Starts it with these lines of dnsmasq.conf.
    pub fn start(folder: &Path, name: &str, address: IpAddr, lines: &str) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = folder.join(format!("{name}.conf"));
        // Nobody else is asked: what isn't here doesn't exist.
        let config = format!(
            "port={PORT}\nlisten-address={address}\nbind-interfaces\nno-resolv\nno-hosts\nno-poll\nuser=root\ngroup=root\npid-file=\n\
             log-queries\nlog-facility=-\nlocal=/#/\n{lines}"
        );
        std::fs::write(&file, config).expect("a configuration");
        let arguments: [&OsStr; 3] = ["-k".as_ref(), "-C".as_ref(), file.as_ref()];
        let program = peers::on_path("dnsmasq").expect("found before");
        let mut process = Process::start("dnsmasq", program.as_os_str(), &arguments, folder, &log);
        wait_until("dnsmasq listens", PATIENCE, || {
            process.assert_running();
            TcpStream::connect((address, PORT)).is_ok()
        });
        Self { _process: process }
    }
}
