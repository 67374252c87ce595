//! AES-SIV (RFC 5297) with one associated text, its keys expanded once: to expand them takes as long as to seal.
//!
//! The cipher, CMAC and the counter mode are libraries'; here is how they go together.

use aes::Aes128;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use cmac::{Cmac, KeyInit, Mac};
use ctr::cipher::{InnerIvInit, StreamCipherCore};
use ctr::{CtrCore, flavors};

/// Bytes of the synthetic IV, which is the proof, too.
pub const IV: usize = 16;

/// The keys.
#[derive(Clone)]
pub struct Siv {
    mac: Cmac<Aes128>,
    cipher: Aes128,
    /// dbl(AES-CMAC(zero)): what S2V begins with (RFC 5297 §2.4).
    begin: u128,
}

impl Siv {
    /// Half of the key for the IV, half for the cipher (RFC 5297 §2.2).
    pub fn new(key: &[u8; 32]) -> Self {
        let mut halves = [[0; 16]; 2];
        halves.as_flattened_mut().copy_from_slice(key);
        let [mac, cipher] = halves;
        let mac = Cmac::<Aes128>::new(&mac.into());
        let begin = double(cmac(mac.clone(), &[&[0; 16]]));
        Self { mac, cipher: Aes128::new(&cipher.into()), begin }
    }

    /// Encrypts a text where it stands; gives its IV.
    pub fn seal(&self, bound: &[u8], text: &mut [u8]) -> [u8; IV] {
        let iv = self.s2v(bound, text);
        self.apply(iv, text);
        iv.to_be_bytes()
    }

    /// The text that was sealed; `None`: by another key, bound to something else, or changed.
    pub fn open(&self, bound: &[u8], iv: &[u8; IV], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut text = sealed.to_vec();
        self.apply(u128::from_be_bytes(*iv), &mut text);
        verify_slices_are_equal(&self.s2v(bound, &text).to_be_bytes(), iv).ok()?;
        Some(text)
    }

    /// RFC 5297 §2.4.
    fn s2v(&self, bound: &[u8], text: &[u8]) -> u128 {
        let d = self.begin ^ cmac(self.mac.clone(), &[bound]);
        match text.split_last_chunk::<16>() {
            Some((before, last)) => cmac(self.mac.clone(), &[before, &(d ^ u128::from_be_bytes(*last)).to_be_bytes()]),
            None => {
                let mut padded = [0; 16];
                for (place, byte) in padded.iter_mut().zip(text.iter().chain([&0x80])) {
                    *place = *byte;
                }
                cmac(self.mac.clone(), &[&(double(d) ^ u128::from_be_bytes(padded)).to_be_bytes()])
            }
        }
    }

    /// RFC 5297 §2.5: two bits of the IV are no part of the counter.
    fn apply(&self, iv: u128, text: &mut [u8]) {
        let counter = iv & !(1 << 63 | 1 << 31);
        let keystream = CtrCore::<_, flavors::Ctr128BE>::inner_iv_init(&self.cipher, &counter.to_be_bytes().into());
        keystream.apply_keystream_partial(text.into());
    }
}

fn cmac(mut mac: Cmac<Aes128>, parts: &[&[u8]]) -> u128 {
    for part in parts {
        mac.update(part);
    }
    u128::from_be_bytes(mac.finalize().into_bytes().into())
}

/// RFC 5297 §2.3.
fn double(block: u128) -> u128 {
    (block << 1) ^ (0x87 * (block >> 127))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// RFC 5297 §A.1.
    #[test]
    fn the_vector_of_the_standard() {
        let key = hex("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
        let siv = Siv::new(&key.try_into().unwrap());
        let bound = hex("101112131415161718191a1b1c1d1e1f2021222324252627");
        let mut text = hex("112233445566778899aabbccddee");
        let iv = siv.seal(&bound, &mut text);
        assert_eq!(iv.to_vec(), hex("85632d07c6e8f37f950acd320a2ecc93"));
        assert_eq!(text, hex("40c02b9690c4dc04daef7f6afe5c"));
        assert_eq!(siv.open(&bound, &iv, &text), Some(hex("112233445566778899aabbccddee")));
    }

    /// Texts shorter than a block, of whole blocks, and others: what is sealed opens, and nothing else does.
    #[test]
    fn texts_of_every_length() {
        let siv = Siv::new(&[7; 32]);
        for length in 0..100_u8 {
            let whole: Vec<u8> = (0..length).collect();
            let mut text = whole.clone();
            let iv = siv.seal(b"bound", &mut text);
            assert_eq!(siv.open(b"bound", &iv, &text), Some(whole));
            assert_eq!(siv.open(b"other", &iv, &text), None);
            assert_eq!(Siv::new(&[8; 32]).open(b"bound", &iv, &text), None);
            for at in 0..text.len() {
                let mut changed = text.clone();
                changed[at] ^= 1;
                assert_eq!(siv.open(b"bound", &iv, &changed), None);
            }
        }
    }
}
