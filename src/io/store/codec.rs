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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Files of format 1 hold these bytes. Who must change this test raises `FORMAT` in `tables.rs` and reads the old one too.
    #[test]
    fn the_bytes_of_format_1() {
        let dialog = json!({
            "call_id": "c", "local_tag": "l", "remote_tag": "r", "local": "<sip:a@b>", "remote": "<sip:c@d>;tag=r", "target": "sip:c@d",
            "routes": ["<sip:e;lr>"], "local_cseq": 300, "cseq_mark": 320, "remote_cseq": 7,
        });
        let kept: [(Value, &str); 5] = [
            (
                json!({ "watch": { "watcher": "c@d", "presentity": "a@b", "standing": "granted",
                    "dialogs": [{ "dialog": dialog, "event_id": "e", "expires_at_unix_nanos": 1_000 }] } }),
                "0fad445600036340640361406201010163016c0172093c7369703a6140623e0f3c7369703a6340643e3b7461673d72077369703a634064010a3c7369703a653b6c723eac02c0020107010165e807",
            ),
            (
                json!({ "chat": { "local": "a@b", "remote": "c@d", "thread": "t", "opened_by_us": true, "takes_composing": false,
                    "dialog": dialog } }),
                "a76f9202010361406203634064017401000163016c0172093c7369703a6140623e0f3c7369703a6340643e3b7461673d72077369703a634064010a3c7369703a653b6c723eac02c0020107",
            ),
            (
                json!({ "contact": { "watcher": "a@b", "presentity": "c@d", "granted": true, "over": false,
                    "leg": { "dialog": dialog, "expires_at_unix_nanos": 1_000 }, "hold_until_unix_nanos": 5 } }),
                "3d9b1ac40203614062036340640100010163016c0172093c7369703a6140623e0f3c7369703a6340643e3b7461673d72077369703a634064010a3c7369703a653b6c723eac02c0020107e80705",
            ),
            (
                json!({ "envelope": { "record": "r", "from": "a@b/x", "to": "c@d", "id": "m", "type_": null, "node": "n", "partner": "d",
                    "chat": true } }),
                "c827e661030172056140622f780363406401016d00016e016401",
            ),
            (
                json!({ "budget": { "label": "d", "hour_began_unix_nanos": 1_000, "targets": [1, 2] } }),
                "0c03bbd9040164e807020102",
            ),
        ];
        for (value, bytes) in kept {
            let kept: Kept = serde_json::from_value(value).unwrap();
            let sealed: String = seal(b"name", &kept).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(sealed, bytes, "{kept:?}");
        }
    }
}
