//! The stanzas, and how the inside knows them again, whoever has rewritten them on the way.

use memchr::memchr;

/// The domain inside.
pub const LOCAL: &str = "corp.example";
/// The partner's.
pub const PARTNER: &str = "partner.example";
/// Users of each side.
pub const USERS: u64 = 64;
/// A number stands between two of these, and they nowhere else.
const MARK: u8 = b'#';
/// With the number, about 300 bytes of text.
const FILLING: &str = "the quick brown fox jumps over the lazy dog, and then over the next one; ";

/// Appends message `number`.
pub fn write(number: u64, out: &mut Vec<u8>) {
    use std::io::Write as _;
    let user = number % USERS;
    let _ = write!(
        out,
        "<message type='chat' from='w{user}@{PARTNER}/orchard' to='u{user}@{LOCAL}' id='m{number}'>\
         <body>#{number}# {FILLING}{FILLING}{FILLING}{FILLING}</body></message>"
    );
}

/// Bytes of one.
pub fn size() -> usize {
    let mut out = Vec::new();
    write(100_000, &mut out);
    out.len()
}

/// Finds the numbers in a byte stream, however it is cut.
#[derive(Default)]
pub struct Finder {
    /// The digits so far, when the last mark opened a number.
    number: Option<u64>,
}

impl Finder {
    /// Tells each number that ends in these bytes.
    pub fn read(&mut self, mut bytes: &[u8], mut tell: impl FnMut(u64)) {
        while let Some(place) = memchr(MARK, bytes) {
            self.digits(&bytes[..place]);
            match self.number.take() {
                Some(number) => tell(number),
                None => self.number = Some(0),
            }
            bytes = &bytes[place + 1..];
        }
        self.digits(bytes);
    }

    fn digits(&mut self, bytes: &[u8]) {
        if let Some(number) = &mut self.number {
            *number = bytes.iter().fold(*number, |sum, byte| sum.wrapping_mul(10).wrapping_add(u64::from(byte & 15)));
        }
    }
}
