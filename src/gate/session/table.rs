//! A table of very many rows that are touched seldom: a subscription is worked on for microseconds in an hour.
//!
//! A row at rest is one exact piece of memory, packed; the one being worked on is open, as the struct that its owner knows. Indexes hold
//! numbers only. So a row costs what its texts are long, and its owner may be written without thinking of bytes.

use crate::gate::time::Time;
use crate::wire::address::{Address, Domain};
use serde::Serialize;
use serde::de::DeserializeOwned;
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Who watches whom: what a row is found by.
pub type Pair = (Address, Address);

/// Rows, by the label of their partner and their state.
pub type Counts = BTreeMap<(String, &'static str), u64>;

/// Where a row is kept; given to another when it is gone.
type Id = u32;

/// What can be kept in a [`Table`].
pub trait Row: Serialize + DeserializeOwned {
    /// What it counts as: the partner's label, a state, how often.
    fn counts(&self) -> (&str, &'static str, u64);
    /// Our tags of its dialogs.
    fn tags(&self) -> impl Iterator<Item = &str>;
}

/// Rows by pair, by our tags, and by when something of them is due.
#[derive(Debug)]
pub struct Table<T> {
    rows: Slab<Packed>,
    /// One above the highest place ever taken.
    end: Id,
    /// (fingerprint of the pair, row). Two pairs may share a fingerprint; only asked, never walked, so that no order comes from it.
    pairs: BTreeSet<(u64, Id)>,
    /// (fingerprint of a tag, row).
    tags: BTreeSet<(u64, Id)>,
    due: BTreeSet<(Time, Id)>,
    counts: BTreeMap<String, BTreeMap<&'static str, u64>>,
    open: Option<Open<T>>,
    /// Where rows are packed: kept for its room.
    desk: Vec<u8>,
}

/// A row at rest.
#[derive(Debug)]
struct Packed {
    /// Its pair, then what it holds.
    bytes: Box<[u8]>,
    /// [`NEVER`]: nothing is.
    due: Time,
}

const NEVER: Time = Time::from_unix_nanos(u64::MAX);

/// The row being worked on.
#[derive(Debug)]
struct Open<T> {
    id: Id,
    pair: Pair,
    row: T,
    /// What the indexes say of it, once it may differ.
    before: Option<Indexed>,
}

/// What of a row is found by other ways than its pair.
#[derive(Debug, Default, PartialEq, Eq)]
struct Indexed {
    label: String,
    state: &'static str,
    count: u64,
    tags: Vec<u64>,
}

impl<T: Row> Table<T> {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether these two have a row.
    pub fn contains(&self, pair: &Pair) -> bool {
        self.find(pair).is_some()
    }

    /// The row of these two, to read.
    pub fn get(&mut self, pair: &Pair) -> Option<&T> {
        self.open(pair).map(|open| &open.row)
    }

    /// The row of these two.
    pub fn get_mut(&mut self, pair: &Pair) -> Option<&mut T> {
        let open = self.open(pair)?;
        if open.before.is_none() {
            open.before = Some(Indexed::of(&open.row));
        }
        Some(&mut open.row)
    }

    /// Makes these two's row this, whatever it was.
    pub fn insert(&mut self, pair: &Pair, row: T) {
        if let Some(known) = self.get_mut(pair) {
            *known = row;
            return;
        }
        self.close();
        let packed = Packed { bytes: pack_pair(pair, Vec::new()).into(), due: NEVER };
        let Ok(id) = Id::try_from(self.rows.vacant_key()) else { return };
        self.pairs.insert((fingerprint(&packed.bytes), id));
        self.rows.insert(packed);
        self.end = self.end.max(id.saturating_add(1));
        self.open = Some(Open { id, pair: pair.clone(), row, before: Some(Indexed::default()) });
    }

    /// Takes these two's row out.
    pub fn remove(&mut self, pair: &Pair) -> Option<T> {
        self.get_mut(pair)?;
        self.arm(pair, None);
        let open = self.open.take()?;
        self.index(open.id, &open.before.unwrap_or_default(), &Indexed::default());
        self.rows.try_remove(open.id as usize)?;
        self.pairs.remove(&(fingerprint(pack_pair(pair, Vec::new())), open.id));
        Some(open.row)
    }

    /// Whose dialog this is, by our tag.
    pub fn tagged(&mut self, local_tag: &str) -> Option<Pair> {
        self.close();
        let fingerprint = fingerprint(local_tag);
        let candidates: Vec<Id> =
            self.tags.range((fingerprint, 0)..=(fingerprint, Id::MAX)).map(|(_, id)| *id).collect();
        candidates.into_iter().find_map(|id| {
            let open = self.open_at(id)?;
            open.row.tags().any(|tag| tag == local_tag).then(|| open.pair.clone())
        })
    }

    /// When something of this row is due.
    pub fn arm(&mut self, pair: &Pair, at: Option<Time>) {
        let Some(id) = self.find(pair) else { return };
        let Some(packed) = self.rows.get_mut(id as usize) else { return };
        let due = at.unwrap_or(NEVER);
        let before = std::mem::replace(&mut packed.due, due);
        if before != due {
            self.due.remove(&(before, id));
            if due != NEVER {
                self.due.insert((due, id));
            }
        }
    }

    /// When [`pop_due`](Self::pop_due) has something.
    pub fn next_due(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A row that is due; it isn't any more.
    pub fn pop_due(&mut self, now: Time) -> Option<Pair> {
        self.next_due().filter(|at| *at <= now)?;
        let (_, id) = self.due.pop_first()?;
        self.rows.get_mut(id as usize)?.due = NEVER;
        self.open_at(id).map(|open| open.pair.clone())
    }

    /// How many rows count with each partner, in each state.
    pub fn counts(&self) -> Counts {
        let mut counts: Counts = BTreeMap::new();
        for (label, states) in &self.counts {
            counts.extend(states.iter().map(|(state, count)| ((label.clone(), *state), *count)));
        }
        if let Some(Open { row, before: Some(before), .. }) = &self.open {
            let now = Indexed::of(row);
            if let Some(count) = counts.get_mut(&(before.label.clone(), before.state)) {
                *count = count.saturating_sub(before.count);
            }
            *counts.entry((now.label, now.state)).or_default() += now.count;
        }
        counts.retain(|_, count| *count > 0);
        counts
    }

    /// How much counts in all with this partner.
    pub fn count_of(&mut self, label: &str) -> u64 {
        self.close();
        self.counts.get(label).map_or(0, |states| states.values().sum())
    }

    /// How much counts in all.
    pub fn count(&mut self) -> u64 {
        self.close();
        self.counts.values().flat_map(BTreeMap::values).sum()
    }

    /// How many places there are, empty ones too.
    pub fn places(&self) -> u32 {
        self.end
    }

    /// The pairs among the next `many` places from `place` on, which moves.
    pub fn slice(&self, place: &mut u32, many: u32) -> Vec<Pair> {
        let to = place.saturating_add(many).min(self.end);
        let rows = (*place..to).filter_map(|id| self.rows.get(id as usize));
        *place = to;
        rows.filter_map(|packed| unpack_pair(&packed.bytes).map(|(pair, _)| pair)).collect()
    }

    fn find(&self, pair: &Pair) -> Option<Id> {
        if let Some(open) = self.open.as_ref().filter(|open| open.pair == *pair) {
            return Some(open.id);
        }
        // The packed pair says where it ends, so nothing else begins with it.
        let bytes = pack_pair(pair, Vec::with_capacity(128));
        let fingerprint = fingerprint(&*bytes);
        let mut candidates = self.pairs.range((fingerprint, 0)..=(fingerprint, Id::MAX)).map(|(_, id)| *id);
        candidates.find(|id| self.rows.get(*id as usize).is_some_and(|packed| packed.bytes.starts_with(&bytes)))
    }

    fn open(&mut self, pair: &Pair) -> Option<&mut Open<T>> {
        let id = self.find(pair)?;
        self.open_at(id)
    }

    fn open_at(&mut self, id: Id) -> Option<&mut Open<T>> {
        if self.open.as_ref().is_none_or(|open| open.id != id) {
            self.close();
            let (pair, rest) = unpack_pair(&self.rows.get(id as usize)?.bytes)?;
            let row = postcard::from_bytes(rest).inspect_err(|error| debug_assert!(false, "{error}")).ok()?;
            self.open = Some(Open { id, pair, row, before: None });
        }
        self.open.as_mut()
    }

    fn close(&mut self) {
        let Some(Open { id, pair, row, before }) = self.open.take() else { return };
        let Some(before) = before else { return };
        self.index(id, &before, &Indexed::of(&row));
        let mut desk = std::mem::take(&mut self.desk);
        desk.clear();
        let packed = postcard::to_extend(&row, pack_pair(&pair, desk));
        let Ok(desk) = packed.inspect_err(|error| debug_assert!(false, "{error}")) else { return };
        if let Some(packed) = self.rows.get_mut(id as usize) {
            if packed.bytes.len() == desk.len() {
                packed.bytes.copy_from_slice(&desk);
            } else {
                packed.bytes = desk.as_slice().into();
            }
        }
        self.desk = desk;
    }

    /// Brings the indexes from what they said of a row to what it is.
    fn index(&mut self, id: Id, before: &Indexed, now: &Indexed) {
        if before == now {
            return;
        }
        for tag in &before.tags {
            self.tags.remove(&(*tag, id));
        }
        self.tags.extend(now.tags.iter().map(|tag| (*tag, id)));
        if before.count > 0
            && let Some(states) = self.counts.get_mut(&before.label)
        {
            if let Some(count) = states.get_mut(before.state) {
                *count = count.saturating_sub(before.count);
            }
            states.retain(|_, count| *count > 0);
            if states.is_empty() {
                self.counts.remove(&before.label);
            }
        }
        if now.count > 0 {
            *self.counts.entry(now.label.clone()).or_default().entry(now.state).or_default() += now.count;
        }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            rows: Slab::new(),
            end: 0,
            pairs: BTreeSet::new(),
            tags: BTreeSet::new(),
            due: BTreeSet::new(),
            counts: BTreeMap::new(),
            open: None,
            desk: Vec::new(),
        }
    }
}

impl Indexed {
    fn of(row: &impl Row) -> Self {
        let (label, state, count) = row.counts();
        Self { label: label.to_owned(), state, count, tags: row.tags().map(fingerprint).collect() }
    }
}

/// Fixed keys: the same in every run. Who finds texts that share one makes them share a short search, no more.
pub fn fingerprint(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// As [`fingerprint`], of numbers and texts; cheaper where it is done for each message: the hasher likes few long pieces.
pub fn digest(numbers: &[u64], texts: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let (mut piece, mut length) = ([0_u8; 256], 0);
    let mut add = |bytes: &[u8]| {
        if length + bytes.len() > piece.len() {
            hasher.write(piece.get(..length).unwrap_or_default());
            length = 0;
        }
        match piece.get_mut(length..length + bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                length += bytes.len();
            }
            None => hasher.write(bytes),
        }
    };
    for number in numbers {
        add(&number.to_le_bytes());
    }
    for text in texts {
        add(text.as_bytes());
        // No text holds it, so no two lists read alike.
        add(&[0xff]);
    }
    hasher.write(piece.get(..length).unwrap_or_default());
    hasher.finish()
}

/// Behind what `bytes` holds.
fn pack_pair((one, other): &Pair, bytes: Vec<u8>) -> Vec<u8> {
    let texts = (one.local(), one.domain().as_str(), other.local(), other.domain().as_str());
    postcard::to_extend(&texts, bytes).inspect_err(|error| debug_assert!(false, "{error}")).unwrap_or_default()
}

/// The pair, and what follows it.
fn unpack_pair(bytes: &[u8]) -> Option<(Pair, &[u8])> {
    type Texts<'a> = (Option<&'a str>, &'a str, Option<&'a str>, &'a str);
    let ((one, at, other, at_other), rest) = postcard::take_from_bytes::<Texts<'_>>(bytes).ok()?;
    let address = |local: Option<&str>, domain: &str| {
        let domain = Domain::parse(domain).ok()?;
        match local {
            Some(local) => Address::new(local, domain).ok(),
            None => Some(Address::of_domain(domain)),
        }
    };
    Some(((address(one, at)?, address(other, at_other)?), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Text {
        state: u8,
        tags: Vec<String>,
    }

    impl Row for Text {
        fn counts(&self) -> (&str, &'static str, u64) {
            ("a.example", if self.state == 0 { "pending" } else { "active" }, self.tags.len() as u64)
        }
        fn tags(&self) -> impl Iterator<Item = &str> {
            self.tags.iter().map(String::as_str)
        }
    }

    fn pair(number: u32) -> Pair {
        let domain = |text| Domain::parse(text).expect("a domain");
        let user = Address::new(&format!("o'malley {number}"), domain("a.example")).expect("an address");
        (user, Address::of_domain(domain("xn--bcher-kva.example")))
    }

    fn row(state: u8, tags: &[&str]) -> Text {
        Text { state, tags: tags.iter().map(|tag| (*tag).to_owned()).collect() }
    }

    fn counts(table: &Table<Text>) -> Vec<(&'static str, u64)> {
        table.counts().into_iter().map(|((_, state), count)| (state, count)).collect()
    }

    #[test]
    fn lists_that_differ_have_other_digests() {
        let long = "x".repeat(300);
        let lists: [(&[u64], &[&str]); 9] = [
            (&[], &[]),
            (&[1], &[]),
            (&[1], &[""]),
            (&[1], &["", ""]),
            (&[1], &["a", "b"]),
            (&[1], &["ab", ""]),
            (&[1], &["a", &long, "b"]),
            (&[1], &[&long, "a", "b"]),
            (&[2], &["a", &long, "b"]),
        ];
        let all: BTreeSet<u64> = lists.iter().map(|(numbers, texts)| digest(numbers, texts)).collect();
        assert_eq!(all.len(), lists.len());
        let bytes = [&1_u64.to_le_bytes()[..], b"a\xff", long.as_bytes(), b"\xffb\xff"].concat();
        let mut whole = DefaultHasher::new();
        whole.write(&bytes);
        assert_eq!(digest(&[1], &["a", &long, "b"]), whole.finish(), "however it is cut");
    }

    #[test]
    fn a_row_comes_back_as_it_was_left() {
        let mut table = Table::default();
        for number in 0..1_000 {
            table.insert(&pair(number), row(0, &[&format!("t{number}")]));
        }
        table.get_mut(&pair(7)).expect("there").tags.push("t7b".to_owned());
        assert_eq!(table.get(&pair(8)), Some(&row(0, &["t8"])));
        assert_eq!(table.get(&pair(7)), Some(&row(0, &["t7", "t7b"])));
        table.insert(&pair(8), row(1, &["other"]));
        assert_eq!(table.len(), 1_000);
        assert_eq!(table.tagged("t8"), None);
        assert_eq!(table.tagged("other"), Some(pair(8)));
        assert_eq!(table.remove(&pair(8)), Some(row(1, &["other"])));
        assert_eq!((table.tagged("other"), table.contains(&pair(8)), table.remove(&pair(8))), (None, false, None));
        // Its place is taken again, and nothing of it is left there.
        table.insert(&pair(5_000), row(0, &["new"]));
        assert_eq!((table.places(), table.tagged("new")), (1_000, Some(pair(5_000))));
    }

    #[test]
    fn counts_follow_every_change_even_of_the_open_row() {
        let mut table = Table::default();
        table.insert(&pair(1), row(0, &["a"]));
        assert_eq!(counts(&table), [("pending", 1)]);
        table.insert(&pair(2), row(0, &["b"]));
        let open = table.get_mut(&pair(1)).expect("there");
        open.state = 1;
        open.tags.push("c".to_owned());
        assert_eq!(counts(&table), [("active", 2), ("pending", 1)]);
        assert_eq!((table.count(), table.count_of("a.example"), table.count_of("b.example")), (3, 3, 0));
        table.remove(&pair(1));
        assert_eq!(counts(&table), [("pending", 1)]);
        table.remove(&pair(2));
        assert_eq!((table.count(), table.is_empty(), counts(&table).len()), (0, true, 0));
    }

    #[test]
    fn what_is_due_comes_once_and_in_order() {
        let at = Time::from_unix_seconds;
        let mut table = Table::default();
        for number in 1..=3 {
            table.insert(&pair(number), row(0, &[]));
            table.arm(&pair(number), Some(at(10 - u64::from(number))));
        }
        table.arm(&pair(1), Some(at(1)));
        table.arm(&pair(2), None);
        assert_eq!((table.next_due(), table.pop_due(at(0))), (Some(at(1)), None));
        assert_eq!(table.pop_due(at(20)), Some(pair(1)));
        table.remove(&pair(3));
        assert_eq!((table.pop_due(at(20)), table.next_due()), (None, None));
    }

    #[test]
    fn a_round_meets_every_row_once() {
        let mut table = Table::default();
        for number in 0..10 {
            table.insert(&pair(number), row(0, &[]));
        }
        table.remove(&pair(4));
        let (mut place, mut met) = (0, Vec::new());
        while place < table.places() {
            met.extend(table.slice(&mut place, 3));
        }
        assert_eq!(met, [0, 1, 2, 3, 5, 6, 7, 8, 9].map(pair));
    }
}
