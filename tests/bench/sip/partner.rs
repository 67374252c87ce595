//! The partner's server: sends requests over its connections, keeps time, answers NOTIFYs wherever they arrive.

use super::link::{self, Link};
use super::text::{self, Message, Template};
use super::tls;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Where partners are.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
/// Connections.
pub const LINKS: usize = 8;
/// Requests under way at once on each, when saturated.
pub const IN_FLIGHT: usize = 8;
/// Requests a second on all of them together, when paced.
pub const PACE: u32 = 2_000;
/// Handshakes under way at once.
pub const AT_ONCE: usize = 4;
/// For the whole of one load.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// MESSAGE and its 200.
    Message,
    /// SUBSCRIBE and its 200, NOTIFY and its 200.
    Subscribe,
}

/// How it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// As fast as answers come.
    Saturated,
    /// By the clock.
    Paced,
    /// Saturated too, each pair of users for the first time: what is decided once is decided here.
    First,
}

struct Operation {
    begun: Instant,
    answered: bool,
    notified: bool,
}

/// One load.
struct Load {
    what: What,
    how: How,
    many: usize,
    template: Template,
    operations: Vec<Operation>,
    latencies: Vec<Duration>,
    failures: usize,
    failure: Option<String>,
}

/// One partner; each box has its own.
pub struct Partner {
    /// Its listener.
    pub at: SocketAddr,
    /// When paced, so many fall due at the same moment.
    bunch: usize,
    links: RefCell<Vec<Rc<Link>>>,
    load: RefCell<Option<Load>>,
    ended: Notify,
    runs: Cell<u64>,
    /// Words that no message from the box may have.
    secrets: RefCell<Vec<String>>,
    leak: RefCell<Option<String>>,
}

impl Partner {
    /// Listens.
    pub async fn listen(config: Arc<ServerConfig>, bunch: usize) -> Rc<Self> {
        let listener = TcpListener::bind((ADDRESS, 0)).await.expect("a free port");
        let partner = Rc::new(Self {
            at: listener.local_addr().expect("an address"),
            bunch,
            links: RefCell::default(),
            load: RefCell::default(),
            ended: Notify::new(),
            runs: Cell::new(rand::random()),
            secrets: RefCell::default(),
            leak: RefCell::default(),
        });
        let acceptor = TlsAcceptor::from(config);
        let this = Rc::clone(&partner);
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
        partner
    }

    /// Opens its connections.
    pub async fn open(self: &Rc<Self>, to: SocketAddr, config: &Arc<ClientConfig>) -> Result<(), String> {
        for _ in 0..LINKS {
            let stream = connect(ADDRESS, to, config).await;
            let stream = stream.map_err(|error| format!("the partner cannot connect to {to}: {error}"))?;
            let this = Rc::clone(self);
            let link = link::run(stream, Rc::new(move |link, message| this.read(link, message)));
            self.links.borrow_mut().push(link);
        }
        Ok(())
    }

    /// From now on, a message that has one of these fails the load.
    pub fn forbid(&self, secrets: Vec<String>) {
        *self.secrets.borrow_mut() = secrets;
    }

    /// Runs one load to its end: latencies, one for each that came out well; or what went wrong.
    pub async fn run(&self, what: What, how: How, many: usize) -> Result<Vec<Duration>, String> {
        let run = self.runs.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.runs.set(run);
        let port = self.at.port();
        let template = match what {
            What::Message => text::message(port, run),
            What::Subscribe => text::subscribe(port, run),
        };
        let (operations, latencies) = (Vec::with_capacity(many), Vec::with_capacity(many));
        let load = Load { what, how, many, template, operations, latencies, failures: 0, failure: None };
        *self.load.borrow_mut() = Some(load);
        let ended = tokio::time::timeout(PATIENCE, async {
            match how {
                How::Saturated | How::First => self.fill(),
                How::Paced => self.pace(many).await,
            }
            self.ended.notified().await;
        })
        .await;
        let load = self.load.borrow_mut().take().expect("it was put there");
        if let Some(leak) = self.leak.borrow_mut().take() {
            return Err(format!("what is inside has come out:\n{leak}"));
        }
        if let Some(failure) = load.failure {
            return Err(format!("{} of {many} failed, the first was answered\n{failure}", load.failures));
        }
        match ended {
            Ok(()) => Ok(load.latencies),
            Err(_) => Err(format!("{} of {many} have not ended within {PATIENCE:?}", many - load.latencies.len())),
        }
    }

    fn fill(&self) {
        let links = self.links.borrow();
        for at in 0..LINKS * IN_FLIGHT {
            self.send(&links[at % LINKS], Instant::now());
        }
    }

    /// A thread wakes more exactly than the runtime's timers, which go by milliseconds.
    async fn pace(&self, many: usize) {
        let (tick, mut ticks) = mpsc::unbounded_channel();
        let start = Instant::now() + Duration::from_millis(5);
        let bunch = self.bunch;
        let due = move |at: usize| start + Duration::from_secs(1) / PACE * (at - at % bunch) as u32;
        std::thread::spawn(move || {
            for at in 0..many {
                std::thread::sleep(due(at).saturating_duration_since(Instant::now()));
                if tick.send(at).is_err() {
                    return;
                }
            }
        });
        while let Some(at) = ticks.recv().await {
            let link = Rc::clone(&self.links.borrow()[at % LINKS]);
            self.send(&link, due(at));
        }
    }

    fn send(&self, link: &Link, begun: Instant) {
        if let Some(load) = &mut *self.load.borrow_mut() {
            load.send(link, begun);
        }
    }

    fn read(&self, link: &Rc<Link>, message: &Message<'_>) {
        if let Some(100..=199) = message.status() {
            return;
        }
        let secrets = self.secrets.borrow();
        if secrets.iter().any(|secret| memchr::memmem::find(message.whole, secret.as_bytes()).is_some()) {
            self.leak.borrow_mut().get_or_insert_with(|| String::from_utf8_lossy(message.whole).into_owned());
        }
        let is_notify = message.status().is_none();
        if is_notify {
            link.write(|out| text::accept(message, out));
        }
        let mut load = self.load.borrow_mut();
        let Some(load) = &mut *load else { return };
        if load.take(message, is_notify) {
            if load.latencies.len() + load.failures == load.many {
                self.ended.notify_one();
            } else if load.how != How::Paced && load.operations.len() < load.many {
                // A NOTIFY may have come on a connection that is not one of ours.
                let links = self.links.borrow();
                let next = load.operations.len() % LINKS;
                let own = links.iter().find(|own| Rc::ptr_eq(own, link)).unwrap_or(&links[next]);
                load.send(own, Instant::now());
            }
        }
    }
}

impl Load {
    fn send(&mut self, link: &Link, begun: Instant) {
        if self.operations.len() < self.many {
            let number = self.operations.len() as u32;
            let notified = self.what == What::Message;
            self.operations.push(Operation { begun, answered: false, notified });
            link.write(|out| self.template.write(number, out));
        }
    }

    /// Whether an operation has ended with this.
    fn take(&mut self, message: &Message<'_>, is_notify: bool) -> bool {
        let number = message.operation().unwrap_or(u32::MAX);
        let Some(operation) = self.operations.get_mut(number as usize) else { return false };
        if operation.answered && operation.notified {
            return false;
        }
        if message.status().is_some_and(|status| status != 200) {
            (operation.answered, operation.notified) = (true, true);
            self.failures += 1;
            self.failure.get_or_insert_with(|| String::from_utf8_lossy(message.whole).into_owned());
            return true;
        }
        if is_notify {
            operation.notified = true;
        } else {
            operation.answered = true;
        }
        let is_done = operation.answered && operation.notified;
        if is_done {
            self.latencies.push(operation.begun.elapsed());
        }
        is_done
    }
}

async fn connect(from: IpAddr, to: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let socket = socket.connect(to).await?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from(tls::EDGE).expect("a name");
    TlsConnector::from(Arc::clone(config)).connect(name, socket).await
}

/// Connections made and closed, a few at once: how long each took until it could be written to.
pub async fn handshakes(to: SocketAddr, config: &Arc<ClientConfig>, many: usize) -> Result<Vec<Duration>, String> {
    let next = Rc::new(Cell::new(0));
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (next, config) = (Rc::clone(&next), Arc::clone(config));
            tokio::task::spawn_local(async move {
                let mut took = Vec::new();
                while next.get() < many {
                    let at = next.get();
                    next.set(at + 1);
                    // Each from another /24: an edge may well bound how many connections a second it takes from one.
                    let from = Ipv4Addr::new(127, 64 + (at / 250 % 128) as u8, (at % 250) as u8, 9);
                    let begun = Instant::now();
                    let mut stream = connect(from.into(), to, &config).await?;
                    took.push(begun.elapsed());
                    stream.shutdown().await?;
                    // Its end says that the other side has seen our certificate, and ours.
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
                Ok::<_, io::Error>(took)
            })
        })
        .collect();
    let all = async {
        let mut all = Vec::new();
        for worker in workers {
            let took = worker.await.expect("a worker").map_err(|error| format!("a handshake failed: {error}"))?;
            all.extend(took);
        }
        Ok(all)
    };
    tokio::time::timeout(PATIENCE, all).await.map_err(|_| format!("{many} handshakes take more than {PATIENCE:?}"))?
}
