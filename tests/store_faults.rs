//! The embedded state store on disks that are full, fail, lie and lose power, against a shadow model; and on files that somebody has damaged.
//!
//! `SIM_SEED=17 cargo test --test store_faults` replays one seed, `SIM_SEEDS=5000` runs more of them.

#[path = "store_faults/disk.rs"]
mod disk;
#[path = "store_faults/files.rs"]
mod files;
#[path = "store_faults/measure.rs"]
mod measure;
#[path = "store_faults/sample.rs"]
mod sample;
#[path = "store_faults/shadow.rs"]
mod shadow;
#[path = "store_faults/transfer.rs"]
mod transfer;

use disk::{Disk, Fate};
use fedgate::io::store::{Change, Embedded, Store, StoreError};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shadow::Shadow;
use std::path::Path;

/// Few decisions, so that the ring goes round.
const RING: usize = 12;
const NUMBERS: u32 = 40;
const STEPS: u32 = 40;

struct Sim {
    rng: StdRng,
    disk: Disk,
    store: Option<Embedded>,
    /// The last acknowledged state, and later ones that were attempted: it is one of these.
    possible: Vec<Shadow>,
    decided: u32,
    cuts: u32,
    errors: u32,
}

#[test]
fn whatever_the_disk_does_nothing_acknowledged_is_lost_and_nothing_invented() {
    let seeds: Vec<u64> = match std::env::var("SIM_SEED").ok().and_then(|s| s.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..std::env::var("SIM_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(150)).collect(),
    };
    let image = new_disk();
    let (mut cuts, mut errors) = (0, 0);
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut sim = Sim::new(seed, &image);
            for _ in 0..STEPS {
                sim.step();
            }
            sim.end();
            (sim.cuts, sim.errors)
        });
        match outcome {
            Ok((c, e)) => {
                cuts += c;
                errors += e;
            }
            Err(_) => panic!("the disk of seed {seed} went wrong; replay with SIM_SEED={seed}"),
        }
    }
    println!("{cuts} power cuts, {errors} commits and opens that failed");
}

/// A disk with an empty store.
fn new_disk() -> Vec<u8> {
    let disk = Disk::new(0, &[]);
    drop(open(&disk).unwrap());
    disk.image()
}

fn open(disk: &Disk) -> Result<Embedded, StoreError> {
    let disk = disk.clone();
    Embedded::on(Path::new("simulated"), move || Ok(disk.clone())).map(|store| store.with_ring(RING as u64))
}

/// What changes nothing says nothing of the disk.
#[test]
fn proving_writes_even_when_nothing_changes() {
    let disk = Disk::new(1, &new_disk());
    let mut store = open(&disk).unwrap();
    let same = [sample::keep(sample::any(1, 1))];
    store.commit(&same).unwrap();
    disk.befall(0, Fate::Full(u32::MAX));
    store.commit(&same).unwrap();
    let error = store.prove().unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    disk.recover();
    let synced = disk.synced();
    store.prove().unwrap();
    assert!(disk.synced() > synced);
    assert_eq!(Shadow::read(&mut store).unwrap(), Shadow::default().after(&same, RING));
}

impl Sim {
    fn new(seed: u64, image: &[u8]) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            disk: Disk::new(seed, image),
            store: None,
            possible: vec![Shadow::default()],
            decided: 0,
            cuts: 0,
            errors: 0,
        }
    }

    fn step(&mut self) {
        if self.rng.random_bool(0.3) {
            let fate = match self.rng.random_range(0..5) {
                0 => Fate::Full(self.rng.random_range(1..6)),
                1 | 2 => Fate::SyncFails { forgetful: self.rng.random_bool(0.5) },
                _ => Fate::Cut,
            };
            self.disk.befall(self.rng.random_range(0..40), fate);
        }
        if self.opened() {
            match self.rng.random_range(0..10) {
                // A stop, well or badly.
                0 => self.store = None,
                1 => {
                    self.disk.befall(0, Fate::Cut);
                    self.store = None;
                }
                2 => self.compare(),
                _ => self.commit(),
            }
        }
        if self.disk.is_off() {
            self.cuts += 1;
            self.store = None;
            self.disk.reboot();
        }
    }

    /// Opens the store if it is closed; faults strike here, too.
    fn opened(&mut self) -> bool {
        if self.store.is_none() {
            match open(&self.disk) {
                Ok(store) => {
                    self.store = Some(store);
                    self.compare();
                }
                Err(error) => self.excused(&error),
            }
        }
        self.store.is_some()
    }

    fn commit(&mut self) {
        let changes = self.changes();
        // As the edge does: the same again, until it is done or the power goes.
        for _ in 0..8 {
            let Some(store) = &mut self.store else { return };
            let after: Vec<Shadow> = self.possible.iter().map(|state| state.after(&changes, RING)).collect();
            match store.commit(&changes) {
                Ok(()) => {
                    self.possible = after;
                    self.possible.dedup();
                    return;
                }
                Err(error) => {
                    self.excused(&error);
                    for state in after {
                        if !self.possible.contains(&state) {
                            self.possible.push(state);
                        }
                    }
                    if self.disk.is_off() {
                        return;
                    }
                }
            }
        }
        panic!("no commit though the disk has recovered");
    }

    /// What the store holds is one of the states that it may hold.
    fn compare(&mut self) {
        let Some(store) = &mut self.store else { return };
        match Shadow::read(store) {
            Ok(found) => {
                let is_known = self.possible.contains(&found);
                assert!(is_known, "found\n{found:#?}\nwhich is none of\n{:#?}", self.possible);
                self.possible = vec![found];
            }
            Err(error) => self.excused(&error),
        }
    }

    /// Full and failing is what it was; corrupt it never is.
    fn excused(&mut self, error: &StoreError) {
        match error {
            StoreError::Full { .. } => {}
            StoreError::Io { cause, .. } => {
                assert!(cause.contains("the power is off") || cause.contains("os error 5"), "{error}")
            }
            _ => panic!("{error}"),
        }
        self.errors += 1;
    }

    fn end(&mut self) {
        self.disk.recover();
        self.store = None;
        self.disk.reboot();
        assert!(self.opened());
        self.compare();
        self.commit();
        self.compare();
        let synced = self.disk.synced();
        let store = self.store.as_mut().unwrap();
        let again: Vec<Change> = self.possible[0].records.values().cloned().map(sample::keep).collect();
        store.commit(&again).unwrap();
        store.commit(&[Change::Forget(sample::id(NUMBERS + 1))]).unwrap();
        assert_eq!(self.disk.synced(), synced, "a batch without effect was written");
    }

    fn changes(&mut self) -> Vec<Change> {
        let many = if self.rng.random_bool(0.1) { 60 } else { 6 };
        let change = |sim: &mut Self| match sim.rng.random_range(0..6) {
            0 => Change::Forget(sample::id(sim.rng.random_range(0..NUMBERS))),
            1 => {
                // One in four is of a decision known already.
                sim.decided += u32::from(sim.rng.random_range(0..4) > 0);
                let (id, entry) = sample::decision(sim.decided);
                Change::Decided { id, entry }
            }
            _ => sample::keep(sample::any(sim.rng.random_range(0..NUMBERS), sim.rng.random_range(0..1_000))),
        };
        let count = self.rng.random_range(0..many);
        (0..count).map(|_| change(self)).collect()
    }
}
