//! Where the lines of a head end. One pass over its bytes, which sees all that is odd in them, too.

/// The lines of a head, as far as it was looked at.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Where line feeds stand, in order.
    pub(super) ends: Vec<u32>,
    scanned: usize,
    /// Carriage returns that end no line.
    returns: usize,
    /// Whether a line is ended by a line feed alone.
    has_bare_lf: bool,
    /// Whether a tab stands somewhere, or a control character other than that and line ends.
    has_tab: bool,
    has_control: bool,
}

/// Lines of a head for which room is kept; one may have as many as its bytes allow.
const LINES: usize = 256;

/// Room for the lines of most heads.
const FEW: usize = 32;

/// Bytes that are looked at together.
const CHUNK: usize = 16;

impl Lines {
    /// Of a whole message.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut lines = Self { ends: Vec::with_capacity(FEW), ..Self::default() };
        lines.seek(bytes);
        lines
    }

    /// Makes ready for another head.
    pub(super) fn clear(&mut self) {
        let mut ends = std::mem::take(&mut self.ends);
        ends.clear();
        ends.shrink_to(LINES);
        *self = Self { ends, ..Self::default() };
    }

    /// Goes on from where the last call stopped, over the same bytes and more. The head's length, once its closing empty line is there.
    pub(super) fn seek(&mut self, bytes: &[u8]) -> Option<usize> {
        let (mut at, mut line) = (self.scanned, self.length());
        let (chunks, rest) = bytes.get(at..).unwrap_or_default().as_chunks::<CHUNK>();
        for chunk in chunks {
            // Without a branch, so that all are looked at together.
            if chunk.iter().fold(false, |any, byte| any | byte.is_ascii_control()) {
                let (words, _) = chunk.as_chunks::<8>();
                for (place, word) in words.iter().enumerate() {
                    let mut controls = controls(u64::from_le_bytes(*word));
                    while controls != 0 {
                        let control = at + 8 * place + controls.trailing_zeros() as usize / 8;
                        controls &= controls - 1;
                        if self.take(bytes, control, &mut line) {
                            return Some(line);
                        }
                    }
                }
            }
            at += CHUNK;
        }
        for (behind, byte) in rest.iter().enumerate() {
            if byte.is_ascii_control() && self.take(bytes, at + behind, &mut line) {
                return Some(line);
            }
        }
        self.scanned = bytes.len();
        None
    }

    /// Takes account of a control character, and of the line that it may end. Whether it ends the head.
    #[inline(always)]
    fn take(&mut self, bytes: &[u8], at: usize, line: &mut usize) -> bool {
        match bytes.get(at) {
            Some(b'\r') => self.returns += 1,
            Some(b'\n') => {
                let start = std::mem::replace(line, at + 1);
                let has_return = at > start && bytes.get(at - 1) == Some(&b'\r');
                self.returns -= usize::from(has_return);
                self.has_bare_lf |= !has_return;
                self.ends.push(u32::try_from(at).unwrap_or(u32::MAX));
                if at == start + usize::from(has_return) {
                    self.scanned = at + 1;
                    return true;
                }
            }
            Some(b'\t') => self.has_tab = true,
            _ => self.has_control = true,
        }
        false
    }

    /// Bytes of all lines that are complete.
    pub(super) fn length(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize + 1)
    }

    /// How far it was looked.
    #[cfg(test)]
    pub(super) fn scanned(&self) -> usize {
        self.scanned
    }

    /// Where the first line ends.
    pub(super) fn first(&self) -> Option<usize> {
        self.ends.first().map(|end| *end as usize)
    }

    /// Whether a line is ended by a line feed alone.
    pub(super) fn has_bare_lf(&self) -> bool {
        self.has_bare_lf
    }

    /// Whether there is no control character but line ends and tabs; a carriage return alone is none.
    pub(super) fn are_clean(&self) -> bool {
        !self.has_control && self.returns == 0
    }

    /// Whether there is none but line ends.
    pub(super) fn are_bare(&self) -> bool {
        self.are_clean() && !self.has_tab
    }
}

/// Which of eight bytes are control characters: the high bit of each.
#[inline]
fn controls(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low = word & (0x7f * EACH);
    // Of seven bits: at least 0x20; at least 0x7f. None carries into its neighbour.
    let (printable, delete) = (low + 0x60 * EACH, low + EACH);
    (!printable | delete) & !word & (0x80 * EACH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_found_wherever_they_stand() {
        for byte in 0..=u8::MAX {
            for place in 0..8 {
                for others in [b' ', b'~', 0x80, 0xff] {
                    let mut bytes = [others; 8];
                    bytes[place] = byte;
                    let expected = if byte.is_ascii_control() { 0x80 << (8 * place) } else { 0 };
                    assert_eq!(controls(u64::from_le_bytes(bytes)), expected, "{byte} at {place} among {others}");
                }
            }
        }
    }

    #[test]
    fn lines_come_alike_in_whatever_pieces() {
        let heads: [&[u8]; 7] = [
            b"a\r\n\r\nb\r\n\r\n",
            b"a\n\n",
            b"\r\n",
            b"a: \tb\r\n c\r\nd\r\r\n\r\n",
            b"\x7f\r\n\n\n",
            b"a\rb\r\n",
            b"",
        ];
        for head in heads {
            let mut whole = Lines::default();
            let length = whole.seek(head);
            for size in 1..9 {
                let mut lines = Lines::default();
                let found =
                    (0..head.len() + 1).step_by(size).chain([head.len()]).find_map(|end| lines.seek(&head[..end]));
                assert_eq!((found, format!("{lines:?}")), (length, format!("{whole:?}")), "{head:?}");
            }
        }
        let folded = Lines::of(heads[3]);
        assert_eq!((folded.length(), folded.are_clean(), folded.has_bare_lf()), (heads[3].len(), false, false));
        assert!(
            Lines::of(heads[0]).are_bare() && Lines::of(heads[1]).has_bare_lf() && !Lines::of(heads[4]).are_clean()
        );
    }
}
