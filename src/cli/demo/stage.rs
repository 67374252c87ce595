//! The telling. Takes what peers report, keeps it until a scene claims it, and prints what is claimed in two columns: outside | inside.
//!
//! Nothing is printed as having happened that no peer has reported; what a scene expects and does not get in time ends the demo.

use super::seen::{Peer, Seen};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::Write;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Columns of the middle, where the arrows are.
const MIDDLE: usize = 12;

/// Where peers report.
pub type Reports = mpsc::UnboundedSender<Seen>;

/// How the telling looks.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Columns in all.
    pub width: usize,
    /// With colour, and columns set by the terminal itself.
    pub terminal: bool,
    /// Between rows, so that people can follow.
    pub pace: Duration,
    /// For each thing that is expected.
    pub patience: Duration,
}

/// The stage.
pub struct Stage {
    seen: mpsc::UnboundedReceiver<Seen>,
    unclaimed: VecDeque<Seen>,
    tally: BTreeMap<(Peer, bool, String), u64>,
    look: Look,
    out: Box<dyn Write + Send>,
    scenes: usize,
}

/// What was expected and did not happen.
#[derive(Debug)]
pub struct Missing {
    expected: String,
    came: Vec<String>,
}

/// A colour, or the like, as ANSI has it.
#[derive(Debug, Clone, Copy)]
enum Ink {
    Plain,
    Bold,
    Dim,
    Outside,
    Inside,
}

impl Stage {
    /// An empty one, and where peers report to it.
    pub fn new(look: Look, out: Box<dyn Write + Send>) -> (Self, Reports) {
        let (reports, seen) = mpsc::unbounded_channel();
        let stage = Self { seen, unclaimed: VecDeque::new(), tally: BTreeMap::new(), look, out, scenes: 0 };
        (stage, reports)
    }

    /// Waits until somebody has seen `what`, and claims it: each thing seen is claimed once, the oldest first.
    pub async fn expect(&mut self, what: &str, is: impl Fn(&Seen) -> bool) -> Result<Seen, Missing> {
        let deadline = Instant::now() + self.look.patience;
        loop {
            if let Some(at) = self.unclaimed.iter().position(&is)
                && let Some(seen) = self.unclaimed.remove(at)
            {
                return Ok(seen);
            }
            match timeout_at(deadline, self.seen.recv()).await {
                Ok(Some(seen)) => self.take(seen),
                Ok(None) | Err(_) => {
                    let came = self.unclaimed.iter().map(Seen::in_a_line).collect();
                    return Err(Missing { expected: what.to_owned(), came });
                }
            }
        }
    }

    /// Fails if within `time` somebody sees what must not be.
    pub async fn expect_none(&mut self, what: &str, time: Duration, is: impl Fn(&Seen) -> bool) -> Result<(), Missing> {
        let deadline = Instant::now() + time;
        while let Ok(Some(seen)) = timeout_at(deadline, self.seen.recv()).await {
            self.take(seen);
        }
        match self.unclaimed.iter().find(|seen| is(seen)) {
            Some(seen) => Err(Missing { expected: what.to_owned(), came: vec![seen.in_a_line()] }),
            None => Ok(()),
        }
    }

    /// Counts what is seen while nothing is expected; never ends.
    pub async fn idle(&mut self) {
        while let Some(seen) = self.seen.recv().await {
            self.take(seen);
        }
        std::future::pending().await
    }

    /// How many of a kind a peer has sent or received.
    pub fn count(&self, by: Peer, sent: bool, kind: &str) -> u64 {
        self.tally.get(&(by, sent, kind.to_owned())).copied().unwrap_or(0)
    }

    /// All that was counted: who, whether sent, what, how many.
    pub fn tally(&self) -> impl Iterator<Item = (Peer, bool, &str, u64)> {
        self.tally.iter().map(|((by, sent, kind), count)| (*by, *sent, kind.as_str(), *count))
    }

    fn take(&mut self, seen: Seen) {
        *self.tally.entry((seen.by, seen.sent, seen.kind())).or_default() += 1;
        self.unclaimed.push_back(seen);
    }

    /// The names of the columns.
    pub fn curtain(&mut self, outside: &str, inside: &str) {
        let line = "─".repeat(self.column());
        self.print_row(&[outside.to_owned(), line.clone()], "", &[inside.to_owned(), line], Ink::Bold, Ink::Bold);
    }

    /// Begins a scene. What nobody has claimed of the scenes before is forgotten: it no longer tells anything.
    pub fn scene(&mut self, title: &str) {
        self.unclaimed.clear();
        self.scenes += 1;
        let text = format!("\n{}. {title}", self.scenes);
        self.line(&text, Ink::Bold);
    }

    /// A row: one thing seen.
    pub async fn tell(&mut self, seen: &Seen) {
        match (seen.by.is_outside(), seen.sent) {
            (true, true) => self.row(&seen.told(), "→ edge  ", &[]).await,
            (true, false) => self.row(&seen.told(), "← edge  ", &[]).await,
            (false, true) => self.row(&[], "  edge ←", &seen.told()).await,
            (false, false) => self.row(&[], "  edge →", &seen.told()).await,
        }
    }

    /// A row: what was sent on one side, and what came of it on the other.
    pub async fn tell_across(&mut self, sent: &Seen, received: &Seen) {
        if sent.by.is_outside() {
            self.row(&sent.told(), "→ edge →", &received.told()).await;
        } else {
            self.row(&received.told(), "← edge ←", &sent.told()).await;
        }
    }

    async fn row(&mut self, left: &[String], arrows: &str, right: &[String]) {
        self.print_row(left, arrows, right, Ink::Outside, Ink::Inside);
        tokio::time::sleep(self.look.pace).await;
    }

    /// A remark across both columns.
    pub fn remark(&mut self, text: &str) {
        for line in wrap(text, self.look.width.saturating_sub(4)) {
            self.line(&format!("    {line}"), Ink::Dim);
        }
    }

    /// Plain text, as it is.
    pub fn say(&mut self, text: &str) {
        self.line(text, Ink::Plain);
    }

    fn line(&mut self, text: &str, ink: Ink) {
        let text = self.inked(text, ink);
        self.print(&format!("{text}\n"));
    }

    fn column(&self) -> usize {
        self.look.width.saturating_sub(MIDDLE) / 2
    }

    fn print_row(&mut self, left: &[String], arrows: &str, right: &[String], left_ink: Ink, right_ink: Ink) {
        let column = self.column();
        let cut = |lines: &[String]| lines.iter().flat_map(|line| wrap(line, column)).collect::<Vec<_>>();
        let (left, right) = (cut(left), cut(right));
        for at in 0..left.len().max(right.len()).max(1) {
            let text = |lines: &[String]| lines.get(at).cloned().unwrap_or_default();
            let arrows = if at == 0 { arrows } else { "" };
            let (left, right) = (text(&left), text(&right));
            let (pad, middle) = if self.look.terminal {
                // Some characters are two columns wide: only the terminal knows where the next one begins.
                (format!("\x1b[{}G", column + 3), format!("\x1b[{}G", column + MIDDLE + 1))
            } else {
                let pad = (column + 2).saturating_sub(left.chars().count());
                let middle = (MIDDLE - 2).saturating_sub(arrows.chars().count());
                (" ".repeat(pad), " ".repeat(middle))
            };
            let left = self.inked(&left, left_ink);
            let right = self.inked(&right, right_ink);
            let row = format!("{left}{pad}{arrows}{middle}{right}");
            self.print(&format!("{}\n", row.trim_end()));
        }
    }

    fn inked(&self, text: &str, ink: Ink) -> String {
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Outside => "36",
            Ink::Inside => "32",
            Ink::Plain => return text.to_owned(),
        };
        if self.look.terminal && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A reader who has gone (`| head`) is no error.
    fn print(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "this did not happen: {}", self.expected)?;
        if self.came.is_empty() {
            return write!(f, "nothing came instead");
        }
        write!(f, "what came:")?;
        self.came.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// Lines of at most `width` characters, cut at spaces where there are any. Control characters, which a peer may have sent, are shown as such.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let clean: String = text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect();
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for word in clean.split_inclusive(' ') {
        let word_length = word.trim_end().chars().count();
        if length > 0 && length + word_length > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        for c in word.chars() {
            if length >= width && c != ' ' {
                lines.push(std::mem::take(&mut line));
                length = 0;
            }
            line.push(c);
            length += 1;
        }
    }
    lines.push(line);
    lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::seen::What;
    use super::*;
    use crate::wire::xmpp::stanza;
    use std::sync::{Arc, Mutex};

    /// Where a telling is kept.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    const LOOK: Look = Look { width: 60, terminal: false, pace: Duration::ZERO, patience: Duration::from_millis(50) };

    fn seen(by: Peer, sent: bool, type_: &str) -> Seen {
        let stanza = stanza::presence("a@b.example", "c@d.example", Some(type_));
        Seen { by, sent, what: What::Stanza(stanza) }
    }

    #[tokio::test]
    async fn what_nobody_saw_did_not_happen() {
        let (mut stage, reports) = Stage::new(LOOK, Box::new(std::io::sink()));
        reports.send(seen(Peer::Node, false, "probe")).unwrap();
        let missing = stage.expect("a subscription", |seen| seen.is_stanza("presence", Some("subscribe"))).await;
        let told = missing.unwrap_err().to_string();
        assert_eq!(
            told,
            "this did not happen: a subscription\nwhat came:\n  the node received <presence type='probe' from='a@b.example'/>"
        );
        // What was not wanted then can be claimed later, once.
        let probe = |seen: &Seen| seen.is_stanza("presence", Some("probe"));
        assert!(stage.expect_none("a probe", Duration::from_millis(1), probe).await.is_err());
        assert!(stage.expect("a probe", probe).await.is_ok());
        assert!(stage.expect("a probe", probe).await.is_err());
        assert_eq!(stage.count(Peer::Node, false, "<presence>"), 1);
    }

    #[tokio::test]
    async fn columns_stay_columns() {
        let page = Page::default();
        let (mut stage, _reports) = Stage::new(LOOK, Box::new(page.clone()));
        stage.tell_across(&seen(Peer::Partner, true, "subscribe"), &seen(Peer::Node, false, "subscribe")).await;
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "<presence                 → edge →  <presence",
                "type='subscribe'                    type='subscribe'",
                "to='c@d.example'/>                  from='a@b.example'/>",
            ]
        );
    }

    #[test]
    fn lines_are_cut_at_spaces_or_anywhere() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghijkl mn", 8), ["abcdefgh", "ijkl mn"]);
        assert_eq!(wrap("", 8), [""]);
        assert_eq!(wrap("a\x1b[2Jb", 8), ["a\u{FFFD}[2Jb"]);
        assert_eq!(wrap("🌍🌍🌍🌍🌍🌍🌍🌍🌍", 8), ["🌍".repeat(8), "🌍".to_owned()]);
    }
}
