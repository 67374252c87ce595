//! One XMPP connection's own machine: header, features, STARTTLS, SASL EXTERNAL, dialback, until stanzas may flow (RFC 6120 §4–6,
//! XEP-0220). Pure: bytes in, bytes and facts out; owned by the connection's task.

pub mod dialback;

use crate::gate::limits::Limits;
use crate::gate::partner::{Node, Side, TlsMode};
use crate::gate::policy::Table;
use crate::gate::reject::{DecisionId, Reject};
use crate::gate::time::Time;
use crate::wire::address::Domain;
use crate::wire::certificate::Chain;
use crate::wire::xmpp::{Stanza, StreamError};
use bytes::{Bytes, BytesMut};
use std::net::IpAddr;
use std::sync::Arc;

/// What stream negotiation needs of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Partner entries and local domains.
    pub policy: Arc<Table>,
    /// The inside.
    pub nodes: Vec<Node>,
    /// `[inside] tls`.
    pub inside_tls: TlsMode,
    /// `[state] secrets`, current first: dialback keys derive from them.
    pub secrets: Vec<Vec<u8>>,
    /// Bounds.
    pub limits: Limits,
}

/// What reaches a link.
#[derive(Debug)]
pub enum LinkInput {
    /// Bytes were put into [`XmppLink::buffer`].
    Readable,
    /// The TLS handshake asked for by [`LinkOutput::StartTls`] is done; the peer's chain if it showed one.
    TlsEstablished(Option<Arc<Chain>>),
    /// The answer to [`LinkOutput::Verify`].
    Verified(VerifyRequest, Verdict),
    /// The gate sends a stanza.
    Send(Bytes),
    /// The gate ends the stream.
    Close(Option<(StreamError, String)>),
    /// The peer closed its half.
    Eof,
    /// The time of [`XmppLink::poll_timeout`] has come.
    Timeout,
}

/// What a link wants done.
#[derive(Debug)]
pub enum LinkOutput {
    /// Write.
    Write(Bytes),
    /// Flush what was written, then do the TLS handshake, as server on accepted streams, as client on opened ones (SNI and, on
    /// a partner's stream, ALPN by the dialler).
    StartTls,
    /// A pair of domains is proven.
    Proven {
        /// Sending domain.
        from: Domain,
        /// Receiving domain.
        to: Domain,
        /// Whether we send on this stream (we opened it).
        ours: bool,
        /// The node at the other end, if inside.
        node: Option<String>,
    },
    /// A stanza of a proven pair.
    Stanza(Stanza),
    /// Ask the authoritative server of `originating`, on a connection of its own (XEP-0220 §2.3; never on this one).
    Verify(VerifyRequest),
    /// The outcome of a link opened by [`XmppLink::verify`].
    VerifyDone(VerifyRequest, Verdict),
    /// A refusal for a reason of ours, already told to the peer with this ID.
    Refused {
        /// The domain it spoke for.
        domain: Option<String>,
        /// The refusal.
        reject: Reject,
        /// Its ID.
        id: DecisionId,
    },
    /// Flush and close the connection; nothing follows.
    Close {
        /// Why, for people.
        cause: String,
    },
}

/// A dialback key to be checked (XEP-0220 §2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyRequest {
    /// Who must vouch: the originating domain.
    pub originating: Domain,
    /// For whom: the receiving domain.
    pub receiving: Domain,
    /// The id of the stream that carried the key.
    pub stream_id: String,
    /// The key, trimmed.
    pub key: String,
}

/// The answer to a verify request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// `type='valid'`
    Valid,
    /// `type='invalid'`
    Invalid,
    /// Could not be asked, or `type='error'`.
    Error,
}

/// The machine. States are structs of their own in the submodules.
#[derive(Debug)]
pub struct XmppLink {
    buffer: BytesMut,
}

impl XmppLink {
    /// A stream that the peer opened. `entropy` seeds stream ids and decision ids.
    pub fn accept(settings: Arc<Settings>, side: Side, peer: IpAddr, entropy: [u8; 32], now: Time) -> Self {
        todo!()
    }
    /// A stream that we open to send stanzas from `from` to `to`; inside, to the node named.
    pub fn open(
        settings: Arc<Settings>,
        side: Side,
        node: Option<String>,
        from: Domain,
        to: Domain,
        entropy: [u8; 32],
        now: Time,
    ) -> Self {
        todo!()
    }
    /// A stream that we open only to have a key verified.
    pub fn verify(settings: Arc<Settings>, side: Side, request: VerifyRequest, entropy: [u8; 32], now: Time) -> Self {
        todo!()
    }
    /// Where the reader puts bytes.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }
    /// Takes one input.
    pub fn handle_input(&mut self, now: Time, input: LinkInput) {
        todo!()
    }
    /// The next output; call until `None`.
    pub fn poll_output(&mut self) -> Option<LinkOutput> {
        todo!()
    }
    /// When [`LinkInput::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        todo!()
    }
}
