//! A live world around the built program: the edge as a process, a SIP partner outside, a presence node inside, and the book in which both
//! write down what became of everything.
//!
//! Users are numbers with a letter: `w` watches from outside, `u` is watched inside, `x` watches from inside, `p` is watched outside.

#![allow(dead_code)] // each test program uses its part

pub mod book;
pub mod edge;
pub mod node;
pub mod partner;
pub mod sip;

use book::Book;
use edge::{Edge, Setup};
use fedgate::wire::address::Jid;
use node::Node;
use partner::Partner;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The partner's domain.
pub const PARTNER: &str = "lync.example";
/// Ours.
pub const LOCAL: &str = "corp.example";

/// A user: its letter and number.
pub type User = (u8, u32);

/// What a user shows, on either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Shown {
    /// How available.
    pub show: Show,
    /// The number in the note; 0 when offline, where no note crosses.
    pub note: u32,
}

/// How available a user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Show {
    /// Not there.
    #[default]
    Offline,
    /// There, no `<show/>`.
    Online,
    /// `away`
    Away,
    /// `xa`
    ExtendedAway,
    /// `dnd`
    DoNotDisturb,
    /// `chat`
    Chat,
}

impl Show {
    /// From `<show/>` of who is there.
    pub fn of(text: Option<&str>) -> Self {
        match text {
            Some("away") => Show::Away,
            Some("xa") => Show::ExtendedAway,
            Some("dnd") => Show::DoNotDisturb,
            Some("chat") => Show::Chat,
            _ => Show::Online,
        }
    }

    /// `<show/>`
    pub fn text(self) -> Option<&'static str> {
        match self {
            Show::Offline | Show::Online => None,
            Show::Away => Some("away"),
            Show::ExtendedAway => Some("xa"),
            Show::DoNotDisturb => Some("dnd"),
            Show::Chat => Some("chat"),
        }
    }
}

impl Shown {
    /// With the number at the end of a note.
    pub fn read(show: Show, note: Option<&str>) -> Self {
        let digits = note.map_or("", |note| {
            let tail = note.trim_end_matches(|c: char| c.is_ascii_digit());
            &note[tail.len()..]
        });
        let note = if show == Show::Offline { 0 } else { digits.parse().unwrap_or(0) };
        Self { show, note }
    }
}

/// `w17@…` → `(b'w', 17)`.
pub fn user(local: &str) -> Option<User> {
    let letter = *local.as_bytes().first()?;
    Some((letter, local.get(1..)?.parse().ok()?))
}

/// The user of a JID.
pub fn user_of(jid: &Result<Option<Jid>, fedgate::wire::address::BadAddress>) -> Option<User> {
    user(jid.as_ref().ok()?.as_ref()?.bare.local()?)
}

/// The whole world.
pub struct World {
    /// What became of everything.
    pub book: Arc<Book>,
    /// The program.
    pub edge: Edge,
    /// Outside.
    pub partner: Partner,
    /// Inside.
    pub node: Node,
    folder: Folder,
}

impl World {
    /// Listeners, certificates and configuration; the edge is not started yet.
    pub async fn build(setup: Setup) -> Self {
        let folder = Folder::new(setup.name);
        let book = Arc::new(Book::default());
        let edge = Edge::configure(&folder.0, setup, Arc::clone(&book));
        let node = Node::start(edge.net, Arc::clone(&book)).await;
        let partner = Partner::start(edge.net, &folder.0.join("certs"), Arc::clone(&book)).await;
        Self { book, edge, partner, node, folder }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }
}

/// Removed at the end, unless something went wrong.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let temp = tempfile::Builder::new().prefix(&format!("fedgate-{name}-")).tempdir().expect("a folder");
        Self(temp.keep())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept: {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
