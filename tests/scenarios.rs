//! Plays every `scenarios/*.scn` against the gate in virtual time.

mod support;

#[test]
fn every_scenario_holds() {
    let folder = format!("{}/tests/scenarios", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of scenarios")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "scn"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no scenarios in {folder}");
    let wanted = std::env::var("SCENARIO").ok();
    let mut failed = Vec::new();
    for path in files {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if wanted.as_ref().is_some_and(|wanted| !name.contains(wanted.as_str())) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a readable scenario");
        if std::panic::catch_unwind(|| support::script::play(&name, &text)).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "these scenarios do not hold: {failed:?}");
}
