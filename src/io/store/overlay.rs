//! A look at a file that changes nothing in it.

use redb::{BackendError, StorageBackend};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is written is kept in blocks of this many bytes.
const BLOCK: u64 = 4_096;

/// A disk that is read only: what the database would write (it mends what an unclean stop leaves) stays in memory. Its locks are shared
/// ones, so it is refused while somebody writes.
#[derive(Debug)]
pub struct Overlay<B> {
    inner: B,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    len: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B: StorageBackend> Overlay<B> {
    /// Over a disk just opened.
    pub fn new(inner: B) -> io::Result<Self> {
        let over = Mutex::new(Over { len: inner.len()?, blocks: BTreeMap::new() });
        Ok(Self { inner, over })
    }

    /// What is below, zeros beyond its end.
    fn below(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        out.fill(0);
        let there = usize::try_from(self.inner.len()?.saturating_sub(offset)).unwrap_or(usize::MAX);
        let there = there.min(out.len());
        match out.get_mut(..there) {
            Some(part) if !part.is_empty() => self.inner.read(offset, part),
            _ => Ok(()),
        }
    }
}

/// The part of `data` at `offset` that falls into a block, and where in that block.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, usize)> {
    let end = offset.saturating_add(len as u64);
    (offset / BLOCK..end.div_ceil(BLOCK)).map(move |block| {
        let (from, to) = ((block * BLOCK).max(offset), ((block + 1) * BLOCK).min(end));
        // Both are at most `len`, a usize.
        (block, (from - offset) as usize..(to - offset) as usize, (from - block * BLOCK) as usize)
    })
}

impl<B: StorageBackend> StorageBackend for Overlay<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(held(&self.over).len)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let over = held(&self.over);
        if offset.saturating_add(out.len() as u64) > over.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.below(offset, out)?;
        for (block, range, at) in parts(offset, out.len()) {
            let (part, written) = (out.get_mut(range), over.blocks.get(&block).and_then(|bytes| bytes.get(at..)));
            if let (Some(part), Some(written)) = (part, written) {
                part.iter_mut().zip(written).for_each(|(to, from)| *to = *from);
            }
        }
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        held(&self.over).len = len;
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut over = held(&self.over);
        for (block, range, at) in parts(offset, data.len()) {
            let bytes = match over.blocks.entry(block) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(free) => {
                    let mut bytes = vec![0; BLOCK as usize];
                    self.below(block * BLOCK, &mut bytes)?;
                    free.insert(bytes)
                }
            };
            let (part, to) = (data.get(range).unwrap_or_default(), bytes.get_mut(at..).unwrap_or_default());
            to.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
        }
        Ok(())
    }
    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
