//! The status page: one HTML document without script or external assets.

use crate::io::edge::{Edge, Phase};
use serde_json::Value;
use std::fmt::Write as _;

/// Decisions shown.
const SHOWN: usize = 50;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1c2430;background:#fff}\
h1{font-size:1.4rem}h2{font-size:1.05rem;margin:2rem 0 .4rem}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.25rem .8rem .25rem 0;border-bottom:1px solid #d8dee6;vertical-align:top;overflow-wrap:anywhere}\
th{font-weight:600;color:#4a5666}.bad{color:#a3161a;font-weight:600}.good{color:#17632f}code{font-size:.92em}\
@media(prefers-color-scheme:dark){body{color:#e3e8ef;background:#12161c}th{color:#9aa7b8}th,td{border-color:#2b3440}\
.bad{color:#ff8a8a}.good{color:#7fd79a}}";

/// The page as of now.
pub(super) async fn render(edge: &Edge) -> String {
    let snapshot = edge.snapshot().await;
    let live = edge.live.load_full();
    let (phase, class) = match *edge.phase.borrow() {
        Phase::Starting => ("starting", "bad"),
        Phase::Ready => ("ready", "good"),
        Phase::Draining => ("draining", "bad"),
    };
    let hostname = live.settings.identities.first().map(|identity| identity.hostname.clone()).unwrap_or_default();
    let mut page = format!(
        "<!DOCTYPE html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>fedgate {name}</title><style>{STYLE}</style>\
         <h1>fedgate {name}: <span class={class}>{phase}</span></h1><p>version {version}, policy version {policy}</p>",
        name = escape(&hostname),
        version = env!("CARGO_PKG_VERSION"),
        policy = live.settings.policy.version,
    );
    if let Some(why) = edge.store_trouble.load().as_deref() {
        let _ = write!(page, "<p class=bad>New sessions are refused: {}</p>", escape(why));
    }
    match &snapshot {
        None => page.push_str("<p class=bad>The deciding task did not answer within two seconds.</p>"),
        Some(snapshot) => {
            let links = snapshot.links.iter().map(|(side, protocol, open)| {
                vec![cell(side.as_str()), cell(protocol.as_str()), cell(&open.to_string())]
            });
            table(&mut page, "Links", &["side", "protocol", "open"], links);
            let nodes = snapshot.nodes_up.iter().map(|(node, up)| {
                let state = if *up { "<td class=good>up" } else { "<td class=bad>down" };
                vec![cell(node), state.to_owned()]
            });
            table(&mut page, "Nodes", &["node", "state"], nodes);
            let subscriptions = snapshot
                .subscriptions
                .iter()
                .map(|(partner, state, count)| vec![cell(partner), cell(state), cell(&count.to_string())]);
            table(&mut page, "Subscriptions", &["partner", "state", "count"], subscriptions);
            let chats = snapshot.chats.iter().map(|(partner, count)| vec![cell(partner), cell(&count.to_string())]);
            table(&mut page, "IM sessions", &["partner", "count"], chats);
            if snapshot.unresolved > 0 {
                let _ =
                    write!(page, "<p class=bad>{} messages have no outcome; this must be 0.</p>", snapshot.unresolved);
            }
        }
    }
    let partners = live.settings.policy.partners.iter().map(|partner| {
        let allow: Vec<_> = partner.allow.iter().map(|action| action.as_str()).collect();
        vec![
            cell(&partner.label),
            cell(partner.protocol.as_str()),
            cell(partner.profile.as_str()),
            cell(partner.direction.as_str()),
            cell(&allow.join(" ")),
            cell(&partner.origin),
        ]
    });
    table(&mut page, "Partners", &["domain", "protocol", "profile", "direction", "allow", "written at"], partners);
    let decisions = edge.telemetry.decisions().last(SHOWN);
    let entries: Vec<Value> = decisions.iter().filter_map(|entry| serde_json::from_str(entry).ok()).collect();
    let rows = entries.iter().map(|entry| {
        let class = if entry["reason"].is_null() { "good" } else { "bad" };
        let verdict = entry["reason"].as_str().or_else(|| entry["verdict"].as_str()).unwrap_or_default();
        vec![
            field(entry, "time"),
            format!("<td><code>{}</code>", escape(entry["id"].as_str().unwrap_or_default())),
            format!("<td class={class}>{}", escape(verdict)),
            field(entry, "from"),
            field(entry, "to"),
            field(entry, "action"),
            field(entry, "because"),
        ]
    });
    table(&mut page, "Last decisions", &["time", "ID", "verdict", "from", "to", "action", "because"], rows);
    page
}

fn table(page: &mut String, title: &str, columns: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let _ = write!(page, "<h2>{title}</h2>");
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        page.push_str("<p>none</p>");
        return;
    }
    page.push_str("<table><tr>");
    for column in columns {
        let _ = write!(page, "<th>{column}");
    }
    for row in rows {
        page.push_str("<tr>");
        page.extend(row);
    }
    page.push_str("</table>");
}

fn field(entry: &Value, name: &str) -> String {
    cell(entry[name].as_str().unwrap_or_default())
}

fn cell(text: &str) -> String {
    format!("<td>{}", escape(text))
}

/// Names on this page come from the wire.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, c| {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
        safe
    })
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn markup_from_the_wire_stays_text() {
        assert_eq!(escape("<script>'\"&"), "&lt;script&gt;&#39;&quot;&amp;");
    }
}
