//! Dialback keys (XEP-0185) and their check.
//!
//! `[state] secrets` serve several purposes; what dialback keys are made with is derived from them, so that a key leaked for one purpose
//! says nothing about another: the dialback secret is the hex text of HMAC-SHA256(secret, `fedgate dialback`). All edges that
//! share the secrets can therefore vouch for each other's keys, and need no memory to do so.

use crate::wire::address::Domain;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};
use std::fmt::Write;

const PURPOSE: &[u8] = b"fedgate dialback";

/// XEP-0185 §3: `HMAC-SHA256(SHA256(secret), "receiving originating stream-id")`, where the HMAC's key is the *hex text* of the digest.
pub fn key(secret: &[u8], receiving: &str, originating: &str, stream_id: &str) -> String {
    let secret = hex(digest::digest(&digest::SHA256, secret).as_ref());
    sign(secret.as_bytes(), format!("{receiving} {originating} {stream_id}").as_bytes())
}

/// The key that we give out for a stream `stream_id` of the receiving server; `None` if there is no secret.
pub fn issue(secrets: &[Vec<u8>], receiving: &Domain, originating: &Domain, stream_id: &str) -> Option<String> {
    let secret = secrets.first()?;
    Some(key(derive(secret).as_bytes(), receiving.as_str(), originating.as_str(), stream_id))
}

/// Whether a key is one that we, or another edge with a secret of ours, gave out. Takes the same time whatever the key.
pub fn is_ours(
    secrets: &[Vec<u8>],
    receiving: &Domain,
    originating: &Domain,
    stream_id: &str,
    presented: &str,
) -> bool {
    secrets.iter().fold(false, |found, secret| {
        let ours = key(derive(secret).as_bytes(), receiving.as_str(), originating.as_str(), stream_id);
        found | verify_slices_are_equal(ours.as_bytes(), presented.as_bytes()).is_ok()
    })
}

fn derive(secret: &[u8]) -> String {
    sign(secret, PURPOSE)
}

fn sign(key: &[u8], message: &[u8]) -> String {
    hex(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// XEP-0185 §4 and XEP-0220's examples.
    #[test]
    fn keys_are_those_of_the_specification() {
        let cases: [(&str, &str, &str, &str, &str); 3] = [
            (
                "s3cr3tf0rd14lb4ck",
                "xmpp.example.com",
                "example.org",
                "D60000229F",
                "37c69b1cf07a3f67c04a5ef5902fa5114f2c76fe4a2686482ba5b89323075643",
            ),
            (
                "s3cr3tf0rd14lb4ck",
                "montague.example",
                "capulet.example",
                "D60000229F",
                "b4835385f37fe2895af6c196b59097b16862406db80559900d96bf6fa7d23df3",
            ),
            (
                "d14lb4ck43v3r",
                "capulet.example",
                "montague.example",
                "417GAF25",
                "225cc5aa6a071133249d25fef42ae516fc7a86c523aa1c6980a7f73e784c972d",
            ),
        ];
        for (secret, receiving, originating, id, expected) in cases {
            assert_eq!(key(secret.as_bytes(), receiving, originating, id), expected);
        }
    }

    #[test]
    fn any_of_the_secrets_vouches() {
        let [a, b] = ["a.example", "b.example"].map(|d| Domain::parse(d).unwrap());
        let (old, new, both) = ([b"old".to_vec()], [b"new".to_vec()], [b"new".to_vec(), b"old".to_vec()]);
        let issued = issue(&old, &a, &b, "1").unwrap();
        assert!(is_ours(&both, &a, &b, "1", &issued));
        assert!(!is_ours(&new, &a, &b, "1", &issued));
        assert!(!is_ours(&old, &b, &a, "1", &issued));
        assert!(!is_ours(&old, &a, &b, "2", &issued));
        assert!(!is_ours(&old, &a, &b, "1", ""));
        assert!(!is_ours(&[], &a, &b, "1", &issued));
        assert_eq!(issue(&[], &a, &b, "1"), None);
        assert_ne!(issued, key(b"old", "a.example", "b.example", "1"), "the secret itself makes no keys");
    }
}
