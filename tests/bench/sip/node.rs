//! The presence node inside: accepts connections, answers 200, and sends a NOTIFY for each SUBSCRIBE.

use super::link::{self, Link};
use super::text::{Inside, Message};
use super::tls;
use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Where nodes are.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// One node; each box has its own.
pub struct Node {
    /// Its listener.
    pub at: SocketAddr,
    inside: Inside,
    /// To the box's inside listener. Where there is none, a NOTIFY goes back to where its SUBSCRIBE came from.
    opened: RefCell<Option<Rc<Link>>>,
    accepted: Cell<usize>,
    refused: RefCell<Option<String>>,
}

impl Node {
    /// Listens.
    pub async fn listen(config: Arc<ServerConfig>) -> Rc<Self> {
        let listener = TcpListener::bind((ADDRESS, 0)).await.expect("a free port");
        let at = listener.local_addr().expect("an address");
        let inside = Inside { at: at.to_string() };
        let node = Rc::new(Self {
            at,
            inside,
            opened: RefCell::default(),
            accepted: Cell::default(),
            refused: RefCell::default(),
        });
        let acceptor = TlsAcceptor::from(config);
        let this = Rc::clone(&node);
        tokio::task::spawn_local(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (this, acceptor) = (Rc::clone(&this), acceptor.clone());
                tokio::task::spawn_local(async move {
                    let _ = socket.set_nodelay(true);
                    if let Ok(stream) = acceptor.accept(socket).await {
                        link::run(stream, Rc::new(move |link, message| this.read(link, message)));
                    }
                });
            }
        });
        node
    }

    /// Opens a connection of its own, for its NOTIFYs.
    pub async fn open(self: &Rc<Self>, to: SocketAddr, certs: &Path) -> Result<(), String> {
        let connect = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(ADDRESS, 0))?;
            let socket = socket.connect(to).await?;
            socket.set_nodelay(true)?;
            let name = ServerName::try_from(tls::EDGE).expect("a name");
            TlsConnector::from(tls::client(certs, "node")).connect(name, socket).await
        };
        let stream = connect.await.map_err(|error| format!("the node cannot connect to {to}: {error}"))?;
        let this = Rc::clone(self);
        let link = link::run(stream, Rc::new(move |link, message| this.read(link, message)));
        *self.opened.borrow_mut() = Some(link);
        Ok(())
    }

    /// NOTIFYs that were answered so far.
    pub fn accepted(&self) -> usize {
        self.accepted.get()
    }

    /// The first answer to a NOTIFY that was not 200.
    pub fn refused(&self) -> Option<String> {
        self.refused.borrow().clone()
    }

    fn read(&self, link: &Link, message: &Message<'_>) {
        match message.status() {
            Some(200) => self.accepted.set(self.accepted.get() + 1),
            Some(300..) => {
                let text = || format!("a NOTIFY was answered\n{}", String::from_utf8_lossy(message.whole));
                self.refused.borrow_mut().get_or_insert_with(text);
            }
            Some(_) => {}
            None => {
                link.write(|out| self.inside.answer(message, out));
                if message.is_of(b"SUBSCRIBE") {
                    let opened = self.opened.borrow();
                    opened.as_deref().unwrap_or(link).write(|out| self.inside.notify(message, out));
                }
            }
        }
    }
}
