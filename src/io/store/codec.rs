//! The bytes of an entry: a checksum, then what is kept, in postcard's encoding.
//!
//! The database checks its pages when it is opened, not when it reads one; and a page that it copies gets a new checksum. So each entry has
//! its own, over its key too: what a disk has altered or exchanged is never taken for a record.

use super::error::Fault;
use crate::gate::record::Kept;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// CRC-32, little-endian.
const SUM: usize = 4;

/// What is kept under `key`, as bytes.
pub(super) fn seal<T: Serialize>(key: &[u8], value: &T) -> Result<Vec<u8>, Fault> {
    let sealed = postcard::to_extend(value, vec![0; SUM])
        .map_err(|error| Fault::System(std::io::Error::other(format!("an entry can't be encoded: {error}"))))?;
    let (_, body) = sealed.split_at(SUM);
    let sum = sum(key, body).to_le_bytes();
    let mut sealed = sealed;
    sealed.iter_mut().zip(sum).for_each(|(byte, sum)| *byte = sum);
    Ok(sealed)
}

/// What was kept under `key`; `place` names it.
pub(super) fn unseal<T: DeserializeOwned>(key: &[u8], bytes: &[u8], place: impl Fn() -> String) -> Result<T, Fault> {
    let wrong = |what: &str| Fault::Corrupt(format!("{}: {what}", place()));
    let (written, body) = bytes.split_first_chunk::<SUM>().ok_or_else(|| wrong("too short"))?;
    if u32::from_le_bytes(*written) != sum(key, body) {
        return Err(wrong("its checksum is wrong"));
    }
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(wrong("it has bytes too many")),
        Err(error) => Err(wrong(&error.to_string())),
    }
}

fn sum(key: &[u8], body: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(key);
    sum.update(body);
    sum.finalize()
}

/// As a person sees it.
pub(super) fn kind(kept: &Kept) -> &'static str {
    match kept {
        Kept::Watch(_) => "watch",
        Kept::Chat(_) => "chat",
        Kept::Contact(_) => "contact",
        Kept::Envelope(_) => "envelope",
        Kept::Budget(_) => "budget",
    }
}
