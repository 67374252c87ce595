//! The least that can stand in the middle: TLS ends, TLS begins, bytes are copied. Runs as a child process, so that its CPU can be told apart.

use super::tls;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Never returns.
pub fn run(listen: SocketAddr, node: SocketAddr, certs: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let acceptor = TlsAcceptor::from(tls::mutual_server(certs, "edge"));
    let connector = TlsConnector::from(tls::client(certs, "edge"));
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.expect("a free port");
        loop {
            let (outside, _) = listener.accept().await.expect("a connection");
            let (acceptor, connector) = (acceptor.clone(), connector.clone());
            tokio::spawn(async move {
                let _ = outside.set_nodelay(true);
                let mut outside = acceptor.accept(outside).await?;
                let inside = TcpStream::connect(node).await?;
                let _ = inside.set_nodelay(true);
                let mut inside = connector.connect(ServerName::try_from(tls::NODE).expect("a name"), inside).await?;
                tokio::io::copy_bidirectional_with_sizes(&mut outside, &mut inside, 65_536, 65_536).await
            });
        }
    });
}
