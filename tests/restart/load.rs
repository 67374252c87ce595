//! Steady load from a seed: subscriptions both ways that begin, are refreshed and end, presence, messages and IM sessions both ways.

use crate::live::node::Wish;
use crate::live::partner::{Session, Standing};
use crate::live::{Show, Shown, World};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Subscriptions of each direction at first.
const SUBSCRIPTIONS: u32 = 300;
/// Watched users of each side.
const WATCHED: u32 = 60;
/// Sessions of each kind: opened from outside, opened from inside.
const SESSIONS: u32 = 15;
/// Between steps.
const TICK: Duration = Duration::from_millis(5);

/// The load.
pub struct Load {
    rng: StdRng,
    /// The next watcher outside, the next inside, the next number in a note.
    watchers: u32,
    insiders: u32,
    notes: u32,
    /// When a message of the user inside was last sent to open a session that is not there: not again at once.
    asked: BTreeMap<u32, Instant>,
}

impl Load {
    /// The same seed makes the same wishes; when they are fulfilled is the world's.
    pub fn new(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { rng, watchers: 1_000, insiders: 1_000, notes: 1, asked: BTreeMap::new() }
    }

    /// The subscriptions and sessions that are there from the beginning.
    pub async fn begin(&mut self, world: &World) {
        for user in 0..WATCHED {
            self.show_inside(world, user);
            self.show_outside(world, user);
        }
        for _ in 0..SUBSCRIPTIONS {
            self.watch(world);
            self.subscribe(world);
        }
        for _ in 0..200 {
            self.talk(world);
        }
        let begun = Instant::now();
        while world.partner.figures().watches < SUBSCRIPTIONS as usize
            || world.partner.figures().contacts < SUBSCRIPTIONS as usize
        {
            assert!(begun.elapsed() < Duration::from_secs(30), "at first: {:?}", world.partner.figures());
            tokio::time::sleep(TICK).await;
        }
    }

    /// Goes on for a while.
    pub async fn run(&mut self, world: &World, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.step(world);
            tokio::time::sleep(TICK).await;
        }
    }

    /// Much at once.
    pub fn burst(&mut self, world: &World) {
        for _ in 0..self.rng.random_range(0..80) {
            self.step(world);
        }
    }

    /// The program has ended all sessions.
    pub fn forget_sessions(&mut self) {
        self.asked.clear();
    }

    fn step(&mut self, world: &World) {
        match self.rng.random_range(0..100) {
            0..20 => {
                let (from, to) = (self.rng.random_range(0..SESSIONS * 2), self.rng.random_range(0..WATCHED));
                world.partner.message(from, to, "How now?");
            }
            20..45 => {
                let (from, to) = (self.rng.random_range(0..WATCHED), self.rng.random_range(0..SESSIONS * 2));
                world.node.message(from, to, "Good morrow.");
            }
            45..65 => self.talk(world),
            65..72 => {
                let user = self.rng.random_range(0..WATCHED);
                self.show_inside(world, user);
            }
            72..79 => {
                let user = self.rng.random_range(0..WATCHED);
                self.show_outside(world, user);
            }
            79..84 => self.watch(world),
            84..88 => self.subscribe(world),
            88..94 => {
                if let Some(at) = self.pick(&live_watches(world)) {
                    world.partner.refresh(at);
                }
            }
            94..97 => {
                let live = live_watches(world);
                if live.len() > SUBSCRIPTIONS as usize
                    && let Some(at) = self.pick(&live)
                {
                    world.partner.unwatch(at);
                }
            }
            _ => {
                let contacts = world.node.contacts();
                let live: Vec<_> = contacts.iter().filter(|contact| contact.standing == Wish::Asked).collect();
                if live.len() > SUBSCRIPTIONS as usize
                    && let Some(contact) = self.pick(&live)
                {
                    world.node.unsubscribe(contact.watcher, contact.presentity);
                }
            }
        }
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.rng.random_range(0..of.len())])
    }

    /// A new watcher outside each time: nobody asks twice.
    fn watch(&mut self, world: &World) {
        self.watchers += 1;
        let presentity = self.rng.random_range(0..WATCHED);
        world.partner.watch(self.watchers, presentity);
    }

    /// A new watcher inside each time.
    fn subscribe(&mut self, world: &World) {
        self.insiders += 1;
        let presentity = self.rng.random_range(0..WATCHED);
        world.node.subscribe(self.insiders, presentity);
    }

    fn show_inside(&mut self, world: &World, user: u32) {
        let shows = [Show::Offline, Show::Online, Show::Away, Show::ExtendedAway, Show::DoNotDisturb, Show::Chat];
        let shown = self.shown(&shows);
        world.node.show(user, shown);
    }

    fn show_outside(&mut self, world: &World, user: u32) {
        let shown = self.shown(&[Show::Offline, Show::Online, Show::Away]);
        world.partner.show(user, shown);
    }

    fn shown(&mut self, shows: &[Show]) -> Shown {
        let show = shows[self.rng.random_range(0..shows.len())];
        self.notes += 1;
        Shown { show, note: if show == Show::Offline { 0 } else { self.notes } }
    }

    /// Something happens in a session: of pair `n`, `w n` and `u n`; the first half is opened from outside, the second from inside.
    fn talk(&mut self, world: &World) {
        let pair = self.rng.random_range(0..SESSIONS * 2);
        let is_theirs = pair < SESSIONS;
        let dice = self.rng.random_range(0..100);
        match world.partner.session(pair, pair) {
            Session::Open if dice < 2 => world.partner.leave(pair, pair),
            Session::Open if dice < 4 => {
                world.partner.is_left(pair, pair);
                world.node.leave(pair, pair);
            }
            Session::Open if dice < 50 => drop(world.partner.write(pair, pair)),
            Session::Open => drop(world.node.chat(pair, pair)),
            Session::Opening => {}
            Session::None if is_theirs => world.partner.invite(pair, pair),
            Session::None => {
                let is_asked = self.asked.get(&pair).is_some_and(|at| at.elapsed() < Duration::from_secs(1));
                if !is_asked {
                    self.asked.insert(pair, Instant::now());
                    world.node.chat(pair, pair);
                }
            }
        }
    }
}

fn live_watches(world: &World) -> Vec<usize> {
    let watches = world.partner.watches();
    (0..watches.len()).filter(|at| watches[*at].standing == Standing::Live).collect()
}
