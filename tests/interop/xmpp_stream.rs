//! A server's stream by hand, for what no server does: to be slow, to be silent, to lie.

use crate::pki::Certificate;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The end of one.
pub struct Stream {
    wire: Wire,
    /// Read and not yet taken.
    text: String,
    /// Each byte in a segment of its own.
    slowly: Option<Duration>,
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A stream header.
pub fn header(from: &str, to: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
         xmlns:db='jabber:server:dialback' from='{from}' to='{to}' version='1.0'>"
    )
}

/// Connects from this address.
pub fn connect(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(5))?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

impl Stream {
    /// A connection on which nothing was said yet.
    pub fn plain(from: IpAddr, to: SocketAddr) -> io::Result<Self> {
        Ok(Self { wire: Wire::Plain(connect(from, to)?), text: String::new(), slowly: None })
    }

    /// Goes the whole way: STARTTLS with this certificate, SASL EXTERNAL. `slowly`: a byte at a time until it is proven, with such a pause behind each.
    pub fn proven(
        address: IpAddr,
        to: SocketAddr,
        domains: [&str; 2],
        certificate: &Certificate,
        authority: &Certificate,
        slowly: Option<Duration>,
    ) -> io::Result<Self> {
        let [from, domain] = domains;
        let mut stream = Self { slowly, ..Self::plain(address, to)? };
        stream.write(&header(from, domain))?;
        stream.read_until("</stream:features>")?;
        stream.write("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")?;
        stream.read_until("<proceed")?;
        let mut stream = stream.secure(domain, certificate, authority)?;
        stream.write(&header(from, domain))?;
        let features = stream.read_until("</stream:features>")?;
        if !features.contains("EXTERNAL") {
            return Err(io::Error::other(format!("no EXTERNAL in {features}")));
        }
        stream.write("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>")?;
        stream.read_until("<success")?;
        stream.text.clear();
        stream.write(&header(from, domain))?;
        stream.read_until("</stream:features>")?;
        stream.slowly = None;
        Ok(stream)
    }

    fn secure(self, domain: &str, certificate: &Certificate, authority: &Certificate) -> io::Result<Self> {
        let Wire::Plain(socket) = self.wire else { return Err(io::Error::other("TLS twice")) };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&authority.chain).expect("an authority")).expect("an authority");
        let chain = CertificateDer::pem_file_iter(&certificate.chain).expect("a chain");
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(&certificate.key).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .expect("a certificate and its key");
        let name = ServerName::try_from(domain.to_owned()).expect("a name");
        let mut tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut socket = socket;
        let end = Instant::now() + Duration::from_secs(15);
        while tls.is_handshaking() {
            match tls.complete_io(&mut socket) {
                Err(error) if !is_pause(&error) || Instant::now() > end => return Err(error),
                _ => {}
            }
        }
        let wire = Wire::Tls(Box::new(StreamOwned::new(tls, socket)));
        Ok(Self { wire, text: String::new(), slowly: self.slowly })
    }

    /// Writes.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        self.write_bytes(text.as_bytes())
    }

    /// Writes what need not be text.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let pieces: Vec<&[u8]> = match self.slowly {
            Some(_) => bytes.chunks(1).collect(),
            None => vec![bytes],
        };
        for piece in pieces {
            let out: &mut dyn Write = match &mut self.wire {
                Wire::Plain(socket) => socket,
                Wire::Tls(stream) => stream,
            };
            out.write_all(piece)?;
            out.flush()?;
            std::thread::sleep(self.slowly.unwrap_or_default());
        }
        Ok(())
    }

    /// Reads until this was read; gives all up to it.
    pub fn read_until(&mut self, words: &str) -> io::Result<String> {
        let end = Instant::now() + Duration::from_secs(15);
        loop {
            if let Some(place) = self.text.find(words) {
                let rest = self.text.split_off(place + words.len());
                return Ok(std::mem::replace(&mut self.text, rest));
            }
            match self.read() {
                Ok(0) => return Err(io::Error::other(format!("ended before {words}, with {}", self.text))),
                Err(error) if !is_pause(&error) => return Err(error),
                _ if Instant::now() > end => {
                    return Err(io::Error::other(format!("no {words} in {}", self.text)));
                }
                _ => {}
            }
        }
    }

    /// Reads until the other end closes or `patience` is over; gives what came, and whether it has closed.
    pub fn read_to_end(&mut self, patience: Duration) -> (String, bool) {
        let end = Instant::now() + patience;
        loop {
            let closed = match self.read() {
                Ok(0) => true,
                Ok(_) => false,
                Err(error) => !is_pause(&error),
            };
            if closed || Instant::now() > end {
                return (std::mem::take(&mut self.text), closed);
            }
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 16_384];
        let length = match &mut self.wire {
            Wire::Plain(socket) => socket.read(&mut bytes)?,
            Wire::Tls(stream) => stream.read(&mut bytes)?,
        };
        self.text.push_str(&String::from_utf8_lossy(&bytes[..length]));
        Ok(length)
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
