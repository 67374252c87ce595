//! `fedgate status`: what the running edge says of itself.

use crate::cli::admin::{self, Desk, Purpose};
use crate::cli::{complain, print};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// What can be typed after it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The edge's config file, for its [admin]; else ./fedgate.toml, else /etc/fedgate/fedgate.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON, for programs: what GET /api/status gives
    #[arg(long)]
    pub json: bool,
}

/// Asks and prints.
pub fn main(args: &Args) -> ExitCode {
    let asked = Desk::of(args.config.as_deref(), Purpose::Read)
        .and_then(|desk| admin::block_on(async { desk.status().await.map_err(|failure| failure.to_string()) }));
    match asked {
        Ok(status) => {
            print(&if args.json { format!("{status:#}\n") } else { text(&status, jiff::Timestamp::now()) });
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("fedgate: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// The sum of a figure over a list.
pub(super) fn count(list: &Value, figure: &str) -> u64 {
    list.as_array().into_iter().flatten().filter_map(|row| row[figure].as_u64()).sum()
}

/// For a person.
fn text(status: &Value, now: jiff::Timestamp) -> String {
    let started = show(&status["started"]);
    let mut text = format!(
        "fedgate {}, {}, pid {}, policy version {}\nup {} (since {started})\n",
        show(&status["version"]),
        show(&status["phase"]),
        show(&status["pid"]),
        show(&status["policy_version"]),
        started
            .parse()
            .map_or_else(|_| "?".to_owned(), |since: jiff::Timestamp| age(now.as_second() - since.as_second())),
    );
    if let Some(why) = status["store_trouble"].as_str() {
        let _ = writeln!(text, "The state store can't be written, so no new session begins: {why}");
    }
    if status["unresolved"].is_null() {
        text.push_str("The task that decides did not answer within two seconds: figures are missing.\n");
    } else {
        let _ = writeln!(text, "unresolved messages: {} (must be 0)", show(&status["unresolved"]));
    }
    table(&mut text, "Nodes", &status["nodes"], &["node", "up"]);
    table(&mut text, "Links", &status["links"], &["side", "protocol", "open"]);
    table(&mut text, "Partners", &status["partners"], &["partner", "protocol", "profile", "direction", "allow"]);
    table(&mut text, "Subscriptions", &status["subscriptions"], &["partner", "state", "count"]);
    table(&mut text, "Chats", &status["chats"], &["partner", "count"]);
    text
}

/// Rows below their columns' names, each column as wide as it needs. Nothing for figures that the edge could not give.
fn table(text: &mut String, title: &str, list: &Value, columns: &[&str]) {
    let Some(list) = list.as_array() else { return };
    if list.is_empty() {
        let _ = writeln!(text, "\n{title}: none");
        return;
    }
    let head = columns.iter().map(|column| (*column).to_owned()).collect();
    let rows = list.iter().map(|row| columns.iter().map(|column| show(&row[*column])).collect());
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let _ = writeln!(text, "\n{title}");
    for row in rows {
        let cells: String = row.iter().zip(&widths).map(|(cell, width)| format!("  {cell:<width$}")).collect();
        let _ = writeln!(text, "{}", cells.trim_end());
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Null => "?".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(show).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// `3d 4h`, `4h 5m`, `5m 6s`, `6s`: the two largest units.
fn age(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_persons_table_has_every_figure() {
        let status = json!({
            "version": "0.1.0", "pid": 7, "started": "2026-01-01T00:00:00.000Z", "phase": "ready", "policy_version": 2,
            "partners": [{ "partner": "lync.example", "protocol": "sip", "profile": "lync", "direction": "both",
                "allow": ["subscribe", "message"], "origin": "10.toml:1" }],
            "links": [{ "side": "outside", "protocol": "sip", "open": 12 }],
            "nodes": [{ "node": "imp-1", "up": false }],
            "subscriptions": [{ "partner": "lync.example", "state": "active", "count": 3 }],
            "chats": [], "unresolved": 0,
        });
        let now = "2026-01-02T01:00:09Z".parse().unwrap();
        let wanted = "fedgate 0.1.0, ready, pid 7, policy version 2\nup 1d 1h (since 2026-01-01T00:00:00.000Z)\n\
            unresolved messages: 0 (must be 0)\n\
            \nNodes\n  node   up\n  imp-1  no\n\
            \nLinks\n  side     protocol  open\n  outside  sip       12\n\
            \nPartners\n  partner       protocol  profile  direction  allow\n  lync.example  sip       lync     both       subscribe message\n\
            \nSubscriptions\n  partner       state   count\n  lync.example  active  3\n\
            \nChats: none\n";
        assert_eq!(text(&status, now), wanted);
        let busy = json!({ "version": "0.1.0", "phase": "ready", "partners": [], "store_trouble": "disk full" });
        let busy = text(&busy, now);
        assert!(busy.contains("did not answer") && busy.contains(": disk full\n"), "{busy}");
    }

    #[test]
    fn ages_have_two_units() {
        for (seconds, text) in [(-5, "0s"), (59, "59s"), (61, "1m 1s"), (3_660, "1h 1m"), (90_000, "1d 1h")] {
            assert_eq!(age(seconds), text);
        }
    }
}
