//! What was typed: a TOML file as a tree in which every key and value knows its line. Reading a key that is wrong reports it and goes
//! on, so that all problems come at once.

use crate::config::problem::{Problem, Problems, Severity};
use crate::config::version;
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file's text and name, for lines and columns.
#[derive(Debug)]
pub struct Source {
    /// As reached from where the program runs.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A place in a file, with its key path.
#[derive(Clone, Debug)]
pub struct Place<'s> {
    source: &'s Source,
    problems: &'s Problems,
    span: Range<usize>,
    key: String,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Value<'s> {
    place: Place<'s>,
    value: &'s DeValue<'s>,
}

/// A table of which every key must be asked for.
#[derive(Debug)]
pub struct Section<'s> {
    place: Place<'s>,
    table: Option<&'s DeTable<'s>>,
    known: Vec<&'static str>,
    refused: Vec<&'static str>,
}

impl Source {
    /// Parses the text; every syntax error is reported, what can be read is given.
    pub fn parse<'s>(&'s self, problems: &Problems) -> Spanned<DeTable<'s>> {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        for error in errors {
            let at = error.span().unwrap_or(0..0);
            let place = Place { source: self, problems, span: at, key: String::new() };
            place.error(error.message().replace('\n', ", "), "mend the TOML syntax here");
        }
        table
    }

    /// Line and column, both from 1.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        (line, before.get(line_start..).unwrap_or_default().chars().count() + 1)
    }
}

impl<'s> Place<'s> {
    /// The start of a file.
    pub fn start(source: &'s Source, problems: &'s Problems) -> Self {
        Self { source, problems, span: 0..0, key: String::new() }
    }

    /// `file:line`.
    pub fn origin(&self) -> String {
        format!("{}:{}", self.source.name, self.source.position(self.span.start).0)
    }

    /// The key path.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Reports that the edge can't start like this.
    pub fn error(&self, what: impl Into<String>, mend: impl Into<String>) {
        self.report(Severity::Error, what, mend);
    }

    /// Reports that something won't work as it seems meant.
    pub fn warn(&self, what: impl Into<String>, mend: impl Into<String>) {
        self.report(Severity::Warning, what, mend);
    }

    /// Reports something worth knowing.
    pub fn note(&self, what: impl Into<String>, mend: impl Into<String>) {
        self.report(Severity::Note, what, mend);
    }

    fn report(&self, severity: Severity, what: impl Into<String>, mend: impl Into<String>) {
        let (line, column) = self.source.position(self.span.start);
        self.problems.add(Problem {
            severity,
            file: self.source.name.clone(),
            line,
            column,
            key: self.key.clone(),
            what: what.into(),
            mend: mend.into(),
        });
    }

    fn below(&self, key: &str, span: Range<usize>) -> Self {
        let key = match (self.key.is_empty(), key.starts_with('[')) {
            (true, _) => key.to_owned(),
            (false, true) => format!("{}{key}", self.key),
            (false, false) => format!("{}.{key}", self.key),
        };
        Self { source: self.source, problems: self.problems, span, key }
    }
}

impl<'s> Section<'s> {
    /// The whole file. `schema` names it in [`version`].
    pub fn root(table: &'s Spanned<DeTable<'s>>, source: &'s Source, problems: &'s Problems, schema: &str) -> Self {
        Self::new(Place::start(source, problems), Some(table.get_ref()), schema)
    }

    fn new(place: Place<'s>, table: Option<&'s DeTable<'s>>, schema: &str) -> Self {
        let mut section = Self { place, table, known: Vec::new(), refused: Vec::new() };
        section.refuse_absent(schema);
        section
    }

    /// Refuses what [`version`] says of this schema, too: for a table whose keys depend on what it says of itself.
    pub fn refuse_absent(&mut self, schema: &str) {
        for absent in version::absent_in(schema) {
            self.known.push(absent.key);
            if let Some(value) = self.find(absent.key).filter(|value| absent.speaks_of(value.value)) {
                value.place.error(format!("{} is not in this version", value.show()), absent.instead);
                self.refused.push(absent.key);
            }
        }
    }

    /// Whether a key is written as this text. Reports nothing.
    pub fn says(&self, key: &str, word: &str) -> bool {
        self.find(key).is_some_and(|value| value.value.as_str() == Some(word))
    }

    /// Where it is.
    pub fn place(&self) -> &Place<'s> {
        &self.place
    }

    /// Whether it was written at all.
    pub fn is_written(&self) -> bool {
        self.table.is_some()
    }

    /// A key's value, if written (and built in this version).
    pub fn take(&mut self, key: &'static str) -> Option<Value<'s>> {
        self.known.push(key);
        if self.refused.contains(&key) { None } else { self.find(key) }
    }

    /// A key that must be there.
    pub fn demand(&mut self, key: &'static str, mend: &str) -> Option<Value<'s>> {
        let value = self.take(key);
        if value.is_none() && !self.refused.contains(&key) {
            self.place.error(format!("{key} is missing"), mend);
        }
        value
    }

    /// A table below; one that isn't written gives only defaults.
    pub fn section(&mut self, key: &'static str, schema: &str) -> Section<'s> {
        match self.take(key) {
            Some(value) => value.section(schema),
            None => Section::new(self.place.below(key, self.place.span.clone()), None, schema),
        }
    }

    /// The tables of `[[key]]`.
    pub fn sections(&mut self, key: &'static str, schema: &str) -> Vec<Section<'s>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        match value.value {
            DeValue::Array(_) => value.list().into_iter().map(|item| item.section(schema)).collect(),
            _ => {
                value.place.error(format!("{key} is repeated, so it is a list"), format!("write [[{key}]]"));
                Vec::new()
            }
        }
    }

    /// Every key and value, for tables whose keys are data.
    pub fn entries(&mut self) -> Vec<(&'s str, Value<'s>)> {
        let Some(table) = self.table else { return Vec::new() };
        let entries = table.iter().map(|(key, value)| {
            let place = self.place.below(&format!("{:?}", key.get_ref()), value.span());
            (key.get_ref().as_ref(), Value { place, value: value.get_ref() })
        });
        entries.collect()
    }

    /// Reports every key that was not asked for.
    pub fn finish(self) {
        let Some(table) = self.table else { return };
        for (key, _) in table.iter().filter(|(key, _)| !self.known.contains(&key.get_ref().as_ref())) {
            let typed: &str = key.get_ref();
            let nearest = self.known.iter().max_by(|a, b| closeness(a, typed).total_cmp(&closeness(b, typed)));
            let mend = match nearest {
                Some(nearest) if closeness(nearest, typed) >= 0.6 => format!("did you mean \"{nearest}\"?"),
                _ => {
                    let mut known = self.known.clone();
                    known.sort_unstable();
                    known.dedup();
                    format!("known here: {}", known.join(", "))
                }
            };
            self.place.below(typed, key.span()).error("unknown key", mend);
        }
    }

    fn find(&self, key: &str) -> Option<Value<'s>> {
        let (key, value) = self.table?.iter().find(|(found, _)| found.get_ref() == key)?;
        Some(Value { place: self.place.below(key.get_ref(), value.span()), value: value.get_ref() })
    }
}

impl<'s> Value<'s> {
    /// Where it is.
    pub fn place(&self) -> &Place<'s> {
        &self.place
    }

    /// A text.
    pub fn text(&self) -> Option<&'s str> {
        match self.value {
            DeValue::String(text) => Some(text.as_ref()),
            _ => self.wrong_type("a text in quotes"),
        }
    }

    /// A text, read by `parse`; its error is reported with `mend`.
    pub fn read<T, E: std::fmt::Display>(&self, mend: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let text = self.text()?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.place.error(format!("\"{text}\": {error}"), mend);
                None
            }
        }
    }

    /// One of a closed set of words.
    pub fn word<T: Copy>(&self, all: &[T], word: impl Fn(T) -> &'static str) -> Option<T> {
        let text = self.text()?;
        if let Some(found) = all.iter().find(|one| word(**one) == text) {
            return Some(*found);
        }
        let words: Vec<String> = all.iter().map(|one| format!("\"{}\"", word(*one))).collect();
        self.place.error(format!("\"{text}\" is none of its words"), format!("write one of {}", words.join(", ")));
        None
    }

    /// Yes or no.
    pub fn flag(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(flag) => Some(*flag),
            _ => self.wrong_type("true or false"),
        }
    }

    /// A whole number within bounds.
    pub fn number(&self, bounds: Range<u64>) -> Option<u64> {
        let DeValue::Integer(written) = self.value else { return self.wrong_type("a number") };
        match u64::from_str_radix(written.as_str(), written.radix()).ok().filter(|number| bounds.contains(number)) {
            Some(number) => Some(number),
            None => {
                let mend = format!("write a number from {} to {}", bounds.start, bounds.end.saturating_sub(1));
                self.place.error(format!("{} is out of bounds", written.as_str()), mend);
                None
            }
        }
    }

    /// `10s`, `5m`, `1h`, `250ms`.
    pub fn duration(&self, least: Duration, most: Duration) -> Option<Duration> {
        let mend = "write a duration like \"10s\", \"5m\", \"1h\" or \"250ms\"";
        let duration = self.read(mend, parse_duration)?;
        if (least..=most).contains(&duration) {
            return Some(duration);
        }
        let mend = format!("write a duration from {} to {}", show_duration(least), show_duration(most));
        self.place.error(format!("{} is out of bounds", show_duration(duration)), mend);
        None
    }

    /// The items of a list.
    pub fn list(&self) -> Vec<Value<'s>> {
        match self.value {
            DeValue::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| Value {
                    place: self.place.below(&format!("[{index}]"), item.span()),
                    value: item.get_ref(),
                })
                .collect(),
            _ => self.wrong_type("a list in square brackets").unwrap_or_default(),
        }
    }

    /// A list of texts, each read by `read`; what can't be read is reported and left out.
    pub fn list_of<T>(&self, read: impl Fn(&Value<'s>) -> Option<T>) -> Vec<T> {
        self.list().iter().filter_map(read).collect()
    }

    /// A table.
    pub fn section(&self, schema: &str) -> Section<'s> {
        let table = match self.value {
            DeValue::Table(table) => Some(table),
            _ => self.wrong_type("a table"),
        };
        Section::new(self.place.clone(), table, schema)
    }

    /// Whether it is a text.
    pub fn is_text(&self) -> bool {
        self.value.is_str()
    }

    /// Whether it is true or false.
    pub fn is_flag(&self) -> bool {
        self.value.is_bool()
    }

    /// Whether it is a table.
    pub fn is_table(&self) -> bool {
        self.value.is_table()
    }

    fn show(&self) -> String {
        match self.value {
            DeValue::String(text) if text.len() <= 40 => format!("{} = \"{text}\"", self.place.key),
            DeValue::Integer(number) => format!("{} = {}", self.place.key, number.as_str()),
            DeValue::Boolean(flag) => format!("{} = {flag}", self.place.key),
            _ => self.place.key.clone(),
        }
    }

    fn wrong_type<T>(&self, wanted: &str) -> Option<T> {
        let found = self.value.type_str();
        let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
        self.place.error(format!("is {article} {found}, not {wanted}"), format!("write {wanted}"));
        None
    }
}

fn closeness(known: &str, typed: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(known, &typed.to_lowercase())
}

fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "not a duration")?;
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs).ok_or("too long");
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        _ => Err("not a duration"),
    }
}

/// A duration as the operator would type it.
pub fn show_duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    match seconds {
        _ if millis > 0 => format!("{}ms", duration.as_millis()),
        s if s > 0 && s.is_multiple_of(3600) => format!("{}h", s / 3600),
        s if s > 0 && s.is_multiple_of(60) => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip() {
        for text in ["250ms", "10s", "5m", "1h", "0s", "90s"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
        assert_eq!(parse_duration("60m").map(show_duration), Ok("1h".to_owned()));
        for text in ["", "10", "s", "-5s", "1d", "1.5h", "10 s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn columns_count_characters() {
        let source = Source { name: "f".into(), text: "a = 1\n\"ö\" = 2\n".into() };
        assert_eq!(source.position(source.text.find('2').unwrap()), (2, 7));
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(10_000), (3, 1));
    }
}
