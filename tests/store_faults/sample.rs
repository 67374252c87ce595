//! Records of every kind, by number and revision.

use fedgate::gate::{Record, RecordId};
use fedgate::io::store::Change;
use serde_json::{Value, json};

fn text(seed: u32, len: usize) -> String {
    let mut state = u64::from(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b"abcdefghijklmnopqrstuvwxyz012345"[(state % 32) as usize])
    };
    (0..len).map(letter).collect()
}

/// As a Lync server makes it: Call-ID of 32 characters, From of 90, To of 40, Contact of 120, one Record-Route of 180.
fn dialog(number: u32, revision: u32) -> Value {
    let pad = |mut value: String, len: usize, end: &str| {
        let fill = len.saturating_sub(value.len() + end.len());
        value.push_str(&text(number, fill));
        value.push_str(end);
        value
    };
    let tag = text(number ^ 5, 10);
    json!({
        "call_id": text(number, 32),
        "local_tag": text(number ^ 9, 16),
        "remote_tag": tag,
        "local": pad("<sip:user-".into(), 40, "@corp.example>"),
        "remote": pad(format!("\"Bob Example\"<sip:bob-{number}@lync.example>;tag={tag};epid="), 90, ""),
        "target": pad("sip:bob@lync.example;opaque=user:epid:".into(), 120, ";gruu"),
        "routes": [pad("<sip:sip.lync.example:5061;transport=tls;opaque=state:F;lr;ms-route-sig=".into(), 180, ">")],
        "local_cseq": revision,
        "cseq_mark": 64 * (revision / 64 + 1),
        "remote_cseq": if revision.is_multiple_of(3) { Value::Null } else { json!(revision) },
    })
}

pub fn watch(number: u32, revision: u32) -> Record {
    let (watcher, presentity) = (format!("bob-{number}@lync.example"), format!("user-{}@corp.example", number % 977));
    record(json!({
        "id": format!("watch {watcher} {presentity}"),
        "kept": { "watch": {
            "watcher": watcher,
            "presentity": presentity,
            "standing": "granted",
            "dialogs": [{ "dialog": dialog(number, revision), "event_id": null, "expires_at_unix_nanos": 1_900_000_000_000_000_000_u64 + u64::from(revision) }],
        }},
    }))
}

/// The kind follows from the number.
pub fn any(number: u32, revision: u32) -> Record {
    let (us, them) = (format!("user-{number}@corp.example"), format!("bob-{number}@lync.example"));
    match number % 5 {
        0 => watch(number, revision),
        1 => record(json!({
            "id": format!("chat {}", text(number, 16)),
            "kept": { "chat": {
                "local": us, "remote": them, "thread": text(number, 12), "opened_by_us": revision.is_multiple_of(2), "takes_composing": true,
                "dialog": dialog(number, revision),
            }},
        })),
        2 => record(json!({
            "id": format!("contact {us} {them}"),
            "kept": { "contact": { "watcher": us, "presentity": them, "granted": revision.is_multiple_of(2), "over": false, "leg": null }},
        })),
        3 => record(json!({
            "id": format!("budget partner-{number}.example"),
            "kept": { "budget": {
                "label": format!("partner-{number}.example"), "hour_began_unix_nanos": 7, "targets": [revision, 5],
            }},
        })),
        _ => {
            let name = format!("envelope {number}");
            record(json!({
                "id": name,
                "kept": { "envelope": {
                    "record": name, "from": format!("{us}/phone"), "to": them, "id": format!("m{revision}"), "type_": null,
                    "node": "imp-1", "partner": "lync.example", "chat": revision.is_multiple_of(2),
                }},
            }))
        }
    }
}

pub fn id(number: u32) -> RecordId {
    any(number, 0).id
}

/// ID and entry of a decision.
pub fn decision(number: u32) -> (String, String) {
    let id = format!("{number:0>10}");
    let entry = json!({ "id": id, "verdict": "refused", "because": text(number, 200) });
    (id, entry.to_string())
}

fn record(value: Value) -> Record {
    serde_json::from_value(value).expect("a record of this version")
}

pub fn keep(record: Record) -> Change {
    Change::Keep(Box::new(record))
}
