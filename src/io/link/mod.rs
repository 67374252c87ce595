//! One task a connection: it owns the socket, cuts the byte stream into messages and hands them to the gate.

pub mod ahead;
pub mod conduit;
pub mod sip;
pub mod xmpp;

pub use conduit::{Conduit, Stream};

use crate::io::places::{Place, Said, lost};
use crate::wire::certificate::Chain;
use ahead::Ahead;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Bytes that may wait to be written before a link takes no further order.
pub(super) const OUT_BYTES: usize = 65_536;
/// A peer that takes no byte for this long while some wait is gone.
pub(super) const STALL: Duration = Duration::from_secs(30);

/// Why a TLS handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum TlsFailure {
    /// It took too long.
    #[error("TLS handshake took longer than {0:?}")]
    Slow(Duration),
    /// The peer showed no certificate where one is required.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// What the peer sent is no TLS.
    #[error("the peer speaks no TLS")]
    NoTls,
    /// The connection lost its place.
    #[error("its place was needed for a newer connection")]
    NoPlace,
    /// Any other reason, ours or theirs.
    #[error("TLS: {0}")]
    Failed(String),
}

impl From<io::Error> for TlsFailure {
    fn from(error: io::Error) -> Self {
        use tokio_rustls::rustls::{AlertDescription as Alert, Error, InvalidMessage};
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::NoCertificatesPresented) => TlsFailure::NoCertificate,
            Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => TlsFailure::NoTls,
            Some(Error::AlertReceived(alert)) => TlsFailure::Failed(match alert {
                Alert::HandshakeFailure | Alert::ProtocolVersion | Alert::InsufficientSecurity => {
                    format!(
                        "the peer says {alert:?}: no common version or cipher suite (TLS 1.2 with ECDHE and AEAD, or 1.3)"
                    )
                }
                Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown | Alert::AccessDenied => {
                    format!("the peer says {alert:?}: it does not accept our certificate")
                }
                Alert::CertificateRequired => format!("the peer says {alert:?}"),
                other => format!("the peer says {other:?}"),
            }),
            Some(Error::PeerIncompatible(what)) => TlsFailure::Failed(format!(
                "no common version or cipher suite ({what:?}); we speak TLS 1.2 with ECDHE and AEAD, and 1.3"
            )),
            Some(other) => TlsFailure::Failed(other.to_string()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                TlsFailure::Failed("the peer closed the connection in the handshake".to_owned())
            }
            None => TlsFailure::Failed(error.to_string()),
        }
    }
}

/// Handshake as server.
pub async fn accept(
    socket: TcpStream,
    config: Arc<ServerConfig>,
    within: Duration,
) -> Result<(Stream, Option<Arc<Chain>>), TlsFailure> {
    let handshake = tokio::time::timeout(within, TlsAcceptor::from(config).accept(Ahead::new(socket)));
    let stream = TlsStream::from(handshake.await.map_err(|_| TlsFailure::Slow(within))??);
    let chain = super::tls::facts(stream.get_ref().1);
    Ok((Stream::Tls(Box::new(stream)), chain))
}

/// As [`accept`], for a peer that holds one of the places for unproven connections, and may lose it meanwhile.
pub async fn accept_unproven(
    socket: TcpStream,
    config: Arc<ServerConfig>,
    within: Duration,
    place: &mut Option<Place>,
) -> Result<(Stream, Option<Arc<Chain>>), TlsFailure> {
    let (begun, mut byte) = (Instant::now(), [0]);
    let heard = tokio::select! {
        // Not only readable: that may be said of a socket that has nothing.
        heard = tokio::time::timeout(within, socket.peek(&mut byte)) => heard.map_err(|_| TlsFailure::Slow(within))?,
        () = lost(place) => return Err(TlsFailure::NoPlace),
    };
    if heard? > 0 {
        says(place, Said::Something);
    }
    let shaken = tokio::select! {
        shaken = accept(socket, config, within.saturating_sub(begun.elapsed())) => shaken.map_err(|failure| match failure {
            TlsFailure::Slow(_) => TlsFailure::Slow(within),
            failure => failure,
        })?,
        () = lost(place) => return Err(TlsFailure::NoPlace),
    };
    says(place, Said::Secured);
    Ok(shaken)
}

/// Who holds the place has said so much.
pub(super) fn says(place: &mut Option<Place>, said: Said) {
    if let Some(place) = place {
        place.says(said);
    }
}

/// Handshake as client.
pub async fn connect(
    socket: TcpStream,
    config: Arc<ClientConfig>,
    name: &str,
    within: Duration,
) -> Result<(Stream, Option<Arc<Chain>>), TlsFailure> {
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| TlsFailure::Failed(format!("`{name}` is not a server name")))?;
    let handshake = tokio::time::timeout(within, TlsConnector::from(config).connect(name, Ahead::new(socket)));
    let stream = TlsStream::from(handshake.await.map_err(|_| TlsFailure::Slow(within))??);
    let chain = super::tls::facts(stream.get_ref().1);
    Ok((Stream::Tls(Box::new(stream)), chain))
}

/// An error of a socket or TLS session, for people.
pub(super) fn cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the peer closed the connection without TLS close_notify".to_owned(),
        io::ErrorKind::ConnectionReset => "the peer reset the connection".to_owned(),
        _ => TlsFailure::from(io::Error::new(error.kind(), error.to_string())).to_string().replacen("TLS: ", "", 1),
    }
}
