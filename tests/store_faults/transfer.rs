//! `fedgate state export` and `import`, as library and as command.

use crate::sample;
use crate::shadow::Shadow;
use fedgate::io::store::transfer::{Counts, TransferError, export, import};
use fedgate::io::store::{Change, Embedded, Store, StoreError, verify};
use std::fs;
use std::path::Path;

fn filled(path: &Path) -> Shadow {
    let mut store = Embedded::open(path).unwrap();
    let mut changes = Vec::new();
    for number in 0..2_500 {
        let (id, entry) = sample::decision(number);
        changes.extend([sample::keep(sample::any(number, 1)), Change::Decided { id, entry }]);
    }
    store.commit(&changes).unwrap();
    Shadow::read(&mut store).unwrap()
}

fn read(path: &Path) -> Shadow {
    Shadow::read(&mut Embedded::open(path).unwrap()).unwrap()
}

fn exported(path: &Path) -> String {
    let mut text = Vec::new();
    export(path, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn an_export_gives_the_same_store() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one.db"), folder.path().join("two.db"));
    let state = filled(&one);
    let text = exported(&one);
    assert_eq!(text.lines().count(), 2_500 + 2_500 + 2);
    let header: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&header["format"], &header["version"]), (&1.into(), &env!("CARGO_PKG_VERSION").into()));
    let counts = import(&two, &mut text.as_bytes(), "x", false).unwrap();
    assert_eq!(counts, Counts { records: 2_500, decisions: 2_500 });
    assert!(read(&two) == state);
    assert_eq!(exported(&two), text);
}

#[test]
fn an_import_is_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one.db"), folder.path().join("two.db"));
    let state = filled(&one);
    let text = exported(&one);
    let lines: Vec<&str> = text.lines().collect();
    let join = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let swapped = |at: usize, line: &str| {
        let mut all = lines.clone();
        all[at] = line;
        join(&all)
    };
    let (last, all) = (lines.len() - 1, lines.len());
    for (text, line, what) in [
        (String::new(), 1, "empty"),
        (join(&lines[..last]), all, "ends early"),
        (join(&[&lines[..7], &lines[8..]].concat()), all - 1, "lines are missing"),
        (swapped(41, "{\"record\":{\"id\":\"watch x\"}}"), 42, "kept"),
        (swapped(2_000, &lines[2_000][..40]), 2_001, "EOF"),
        (swapped(3_000, "{\"forget\":{}}"), 3_001, "forget"),
        (swapped(0, "{\"format\":2,\"version\":\"9.0.0\"}"), 1, "later fedgate"),
        (swapped(0, "{\"format\":0,\"version\":\"9.0.0\"}"), 1, "no version has written"),
        (join(&lines[1..]), 1, "format"),
        (format!("{text}\n"), all + 1, "follows the end"),
    ] {
        for replace in [false, true] {
            match import(&two, &mut text.as_bytes(), "backup.jsonl", replace).unwrap_err() {
                TransferError::Line { file, line: found, what: words } => {
                    assert_eq!((file.as_str(), found), ("backup.jsonl", line as u64), "{words}");
                    assert!(words.contains(what), "{words} has no {what}");
                }
                error => panic!("{error}"),
            }
        }
        assert!(!two.exists(), "{what}");
    }
    // Over a store that holds something: only by --replace, and then only if all is well.
    let mut store = Embedded::open(&two).unwrap();
    store.commit(&[sample::keep(sample::any(9_999, 1))]).unwrap();
    let locked = import(&two, &mut text.as_bytes(), "x", true).unwrap_err();
    assert!(matches!(locked, TransferError::Store(StoreError::Locked { .. })), "{locked}");
    let before = Shadow::read(&mut store).unwrap();
    drop(store);
    let refusal = import(&two, &mut text.as_bytes(), "x", false).unwrap_err();
    assert!(matches!(refusal, TransferError::NotEmpty(_)), "{refusal}");
    assert!(import(&two, &mut join(&lines[..last]).as_bytes(), "x", true).is_err());
    assert!(read(&two) == before);
    import(&two, &mut text.as_bytes(), "x", true).unwrap();
    assert!(read(&two) == state);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "each and its lock: {left:?}");
}

/// An engine closes its file after an error, until the next use. It is still its own.
#[test]
fn a_store_that_failed_is_still_in_use() {
    const DECISIONS: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("decisions");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.db");
    filled(&path);
    let text = exported(&path);
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(DECISIONS).unwrap().insert(7, &b"nonsense"[..]).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let store = Embedded::open(&path).unwrap();
    let (id, _) = sample::decision(7);
    assert!(matches!(store.decision(&id).unwrap_err(), StoreError::Corrupt { .. }));
    // The file itself is free.
    drop(redb::Database::open(&path).unwrap());
    let import = || import(&path, &mut text.as_bytes(), "x", true).map(drop);
    let outcomes = [
        import(),
        export(&path, &mut Vec::new()).map(drop),
        Embedded::open(&path).map(drop).map_err(Into::into),
        verify(&path).map(drop).map_err(Into::into),
    ];
    for outcome in outcomes {
        assert!(matches!(outcome, Err(TransferError::Store(StoreError::Locked { .. }))), "{outcome:?}");
    }
    drop(store);
    import().unwrap();
}

#[test]
fn an_import_mends_a_store_that_cant_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one.db"), folder.path().join("two.db"));
    let state = filled(&one);
    let text = exported(&one);
    fs::write(&two, "garbage").unwrap();
    let refusal = import(&two, &mut text.as_bytes(), "x", false).unwrap_err();
    assert!(matches!(refusal, TransferError::Store(StoreError::Corrupt { .. })), "{refusal}");
    import(&two, &mut text.as_bytes(), "x", true).unwrap();
    assert!(read(&two) == state);
    let absent = export(&folder.path().join("none.db"), &mut Vec::new()).unwrap_err();
    assert!(matches!(absent, TransferError::Absent(_)), "{absent}");
}
