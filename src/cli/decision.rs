//! `fedgate explain ID`: one decision as the audit file remembers it.

use crate::cli::{complain, print};
use crate::config::Loaded;
use crate::io::store::plain_id;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::ExitCode;

/// Finds and prints it. The exit status is the decision's: 0 allowed, 1 refused; 1 too when there is none of that ID.
pub fn main(loaded: &Loaded, id: &str, as_json: bool) -> ExitCode {
    let Some(audit) = &loaded.edge.log.audit else {
        complain("fedgate: [log] audit is \"\", so no decision is remembered; name a file there to have this\n");
        return ExitCode::FAILURE;
    };
    match find(audit, id) {
        Ok(Some(decision)) => {
            let text = if as_json { format!("{decision:#}\n") } else { tell(&decision) };
            print(&text);
            if decision["verdict"] == "allowed" { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Ok(None) => {
            let path = audit.display();
            complain(&format!(
                "fedgate: {path} has no decision {id}; was the file rotated, or is it another edge's?\n"
            ));
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(&format!("fedgate: [log] audit {}: {error}\n", audit.display()));
            ExitCode::FAILURE
        }
    }
}

/// The last entry with this ID, [however it is typed](plain_id).
fn find(audit: &Path, id: &str) -> Result<Option<Value>, std::io::Error> {
    let id = plain_id(id);
    let mut found = None;
    for line in BufReader::new(File::open(audit)?).lines() {
        let line = line?;
        if line.contains(&id)
            && let Ok(entry) = serde_json::from_str::<Value>(&line)
            && entry["id"] == *id
        {
            found = Some(entry);
        }
    }
    Ok(found)
}

fn tell(decision: &Value) -> String {
    let word = |key: &str| decision[key].as_str().unwrap_or("unknown").to_owned();
    let reason = decision["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
    let peer = decision["peer"].as_str().map(|peer| format!(", connected from {peer}")).unwrap_or_default();
    format!(
        "{} at {}\n  {} to {}: {} from {} over {}\n  partner    {}{peer}\n  because    {}\n  policy     version {} of that run\n{}{reason}\n",
        word("id"),
        word("time"),
        word("from"),
        word("to"),
        word("action"),
        word("side"),
        word("protocol"),
        word("partner"),
        word("because"),
        decision["policy_version"],
        word("verdict"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_id_is_found_however_it_is_typed() {
        let folder = tempfile::tempdir().unwrap();
        let audit = folder.path().join("audit.jsonl");
        let entry =
            |id: &str| json!({ "id": id, "verdict": "refused", "reason": "rule", "because": "policies/x.toml:3" });
        std::fs::write(&audit, format!("{}\nnot json 01AB\n{}\n", entry("01AB"), entry("ZZZZ"))).unwrap();
        assert_eq!(find(&audit, "olab").unwrap().unwrap()["id"], "01AB");
        assert!(find(&audit, "01A").unwrap().is_none());
        let told = tell(&entry("01AB"));
        assert!(told.contains("refused: rule") && told.contains("policies/x.toml:3"), "{told}");
        assert!(find(&folder.path().join("none"), "01AB").is_err());
    }
}
