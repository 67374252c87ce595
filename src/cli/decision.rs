//! `fedgate explain ID`: one decision, as it was made.

use crate::cli::{complain, print, remembered};
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;

/// Finds and prints it. The exit status is the decision's: 0 allowed, 1 refused; 1 too when there is none of that ID.
pub fn main(config: Option<&Path>, id: &str, as_json: bool) -> ExitCode {
    match remembered::one(config, id) {
        Ok(Some(decision)) => {
            let text = if as_json { format!("{decision:#}\n") } else { tell(&decision) };
            print(&text);
            if decision["verdict"] == "allowed" { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Ok(None) => {
            complain(&format!(
                "fedgate: no decision {id} is remembered; is it another edge's, or older than the last 100,000?\n"
            ));
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(&format!("fedgate: {error}\n"));
            ExitCode::FAILURE
        }
    }
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
