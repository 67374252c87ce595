//! A disk in memory that loses what was not synced, is full, fails and is cut off.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::StorageBackend;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

const SECTOR: usize = 512;

/// What befalls the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// No room for this many writes; the first may be short.
    Full(u32),
    /// The next sync fails. Some sectors have arrived. If `forgetful`, the system takes all for written from then on.
    SyncFails { forgetful: bool },
    /// The power goes, in the middle of a write.
    Cut,
}

#[derive(Debug)]
struct Platter {
    /// What is read: the system's cache.
    cache: Vec<u8>,
    /// What is there after a cut.
    durable: Vec<u8>,
    /// Sectors that the cache has and the platter may not.
    dirty: BTreeSet<usize>,
    fate: Option<(u32, Fate)>,
    is_off: bool,
    rng: StdRng,
    synced: u64,
}

/// A handle; clones are of the same disk.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    pub fn new(seed: u64, image: &[u8]) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            cache: image.to_vec(),
            durable: image.to_vec(),
            dirty: BTreeSet::new(),
            fate: None,
            is_off: false,
            rng: StdRng::seed_from_u64(seed),
            synced: 0,
        })))
    }

    /// What would be there after a cut if nothing more arrived.
    pub fn image(&self) -> Vec<u8> {
        self.0.lock().unwrap().durable.clone()
    }

    /// After this many more operations that write.
    pub fn befall(&self, after: u32, fate: Fate) {
        self.0.lock().unwrap().fate = Some((after, fate));
    }

    pub fn recover(&self) {
        self.0.lock().unwrap().fate = None;
    }

    pub fn is_off(&self) -> bool {
        self.0.lock().unwrap().is_off
    }

    /// Syncs that succeeded.
    pub fn synced(&self) -> u64 {
        self.0.lock().unwrap().synced
    }

    /// The power goes if it has not gone, and comes back: of each sector not synced, the old or the new.
    pub fn reboot(&self) {
        let mut platter = self.0.lock().unwrap();
        let platter = &mut *platter;
        let length = match platter.rng.random_bool(0.5) {
            true => platter.cache.len(),
            false => platter.durable.len(),
        };
        platter.durable.resize(length, 0);
        for sector in std::mem::take(&mut platter.dirty) {
            if platter.rng.random_bool(0.5) {
                platter.arrive(sector);
            }
        }
        platter.cache = platter.durable.clone();
        platter.fate = None;
        platter.is_off = false;
    }
}

impl Platter {
    fn arrive(&mut self, sector: usize) {
        let from = sector * SECTOR;
        let to = (from + SECTOR).min(self.cache.len()).min(self.durable.len());
        if from < to {
            self.durable[from..to].copy_from_slice(&self.cache[from..to]);
        }
    }

    /// What befalls this operation.
    fn fate(&mut self) -> Option<Fate> {
        let (after, fate) = self.fate?;
        self.fate = match (after, fate) {
            (0, Fate::Full(1)) => None,
            (0, Fate::Full(more)) => Some((0, Fate::Full(more - 1))),
            (0, _) => None,
            (after, fate) => Some((after - 1, fate)),
        };
        (after == 0).then_some(fate)
    }

    fn put(&mut self, offset: usize, data: &[u8]) {
        self.cache[offset..offset + data.len()].copy_from_slice(data);
        self.dirty.extend(offset / SECTOR..(offset + data.len()).div_ceil(SECTOR));
        // The system writes back when it likes: what arrives early may be written again and be lost then.
        if self.rng.random_bool(0.2) {
            let nth = self.rng.random_range(0..self.dirty.len().max(1));
            if let Some(sector) = self.dirty.iter().nth(nth).copied() {
                self.arrive(sector);
            }
        }
    }

    fn cut(&mut self) -> io::Error {
        self.is_off = true;
        io::Error::other("the power is off")
    }

    fn powered(&self) -> io::Result<()> {
        if self.is_off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        let platter = self.0.lock().unwrap();
        platter.powered()?;
        Ok(platter.cache.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.lock().unwrap();
        platter.powered()?;
        let from = offset as usize;
        let there = platter.cache.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(there);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.powered()?;
        let len = len as usize;
        let grows = len > platter.cache.len();
        match platter.fate() {
            Some(Fate::Cut) => return Err(platter.cut()),
            Some(Fate::Full(_)) if grows => return Err(full()),
            _ => {}
        }
        if !grows {
            // A page that is cut off is not written back.
            platter.dirty.retain(|sector| sector * SECTOR < len);
        }
        platter.cache.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.powered()?;
        let fate = platter.fate();
        let length = platter.cache.len();
        match fate {
            Some(Fate::Cut) => return Err(platter.cut()),
            Some(Fate::SyncFails { forgetful }) => {
                if platter.rng.random_bool(0.5) {
                    platter.durable.resize(length, 0);
                }
                for sector in platter.dirty.clone() {
                    if platter.rng.random_bool(0.5) {
                        platter.arrive(sector);
                        platter.dirty.remove(&sector);
                    }
                }
                if forgetful {
                    platter.dirty.clear();
                }
                return Err(io::Error::from_raw_os_error(5));
            }
            _ => {}
        }
        platter.durable.resize(length, 0);
        for sector in std::mem::take(&mut platter.dirty) {
            platter.arrive(sector);
        }
        platter.synced += 1;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.powered()?;
        let offset = offset as usize;
        if offset + data.len() > platter.cache.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let fate = platter.fate();
        if let Some(Fate::Cut | Fate::Full(_)) = fate {
            let short = platter.rng.random_range(0..=data.len());
            platter.put(offset, &data[..short]);
            return Err(if fate == Some(Fate::Cut) { platter.cut() } else { full() });
        }
        platter.put(offset, data);
        Ok(())
    }
}
