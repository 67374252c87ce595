//! Files that somebody has damaged, moved, locked or made: right data or a clear error, never a panic, never a guess.

use crate::sample;
use crate::shadow::Shadow;
use fedgate::io::store::{Change, Embedded, Store, StoreError, verify};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::ReadableTable;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Once;

/// Says nothing of panics inside the database: the engine turns them into errors.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.location().is_some_and(|location| location.file().contains("redb")) {
                loud(info);
            }
        }));
    });
}

/// A store with everything in it, its state, and a copy as a kill would have left it.
fn filled(folder: &Path) -> (PathBuf, PathBuf, Shadow) {
    let (path, killed) = (folder.join("fedgate.db"), folder.join("killed.db"));
    let mut store = Embedded::open(&path).unwrap();
    let mut state = Shadow::default();
    for number in 0..150 {
        let (id, entry) = sample::decision(number);
        let changes = [
            sample::keep(sample::any(number, 1)),
            sample::keep(sample::any(number / 2, 2)),
            Change::Decided { id, entry },
        ];
        state = state.after(&changes, 1_000);
        store.commit(&changes).unwrap();
    }
    fs::copy(&path, &killed).unwrap();
    drop(store);
    (path, killed, state)
}

/// What a file is found to hold; and what `fedgate check` says of it.
fn found(path: &Path) -> (Result<Shadow, StoreError>, Result<u64, StoreError>) {
    let verified = verify(path).map(|report| report.records.values().sum::<u64>() + report.decisions);
    (Embedded::open(path).and_then(|mut store| Shadow::read(&mut store)), verified)
}

fn refused(path: &Path, what: &str) {
    let before = fs::read(path).unwrap();
    for outcome in [Embedded::open(path).map(drop), verify(path).map(drop)] {
        let error = outcome.expect_err(what);
        assert!(matches!(error, StoreError::Corrupt { .. }), "{what}: {error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{what}: {error}");
        assert!(error.to_string().contains("move "), "{what}: {error}");
    }
    assert!(fs::read(path).unwrap() == before, "{what}: it was changed");
}

#[test]
fn a_damaged_file_gives_what_was_kept_or_an_error() {
    quiet();
    let folder = tempfile::tempdir().unwrap();
    let (closed, killed, state) = filled(folder.path());
    let entries = (state.records.len() + state.decisions.len()) as u64;
    let tries = std::env::var("SIM_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(120);
    let victim = folder.path().join("victim.db");
    let mut refusals = 0;
    for seed in 0..tries {
        let mut rng = StdRng::seed_from_u64(seed);
        let original = if seed % 2 == 0 { &closed } else { &killed };
        let mut bytes = fs::read(original).unwrap();
        let length = bytes.len();
        for _ in 0..rng.random_range(1..4) {
            let at = match rng.random_range(0..3) {
                // The head, in which most bytes matter.
                0 => rng.random_range(0..320),
                // Any byte that is not the emptiness at the end.
                _ => (0..64).map(|_| rng.random_range(0..length)).find(|at| bytes[*at] != 0).unwrap_or(0),
            };
            // One bit says which of the two last commits counts: after a kill nothing else tells one that was cut short from the last.
            if at == 9 && original == &killed {
                continue;
            }
            match rng.random_range(0..4) {
                0 | 1 => bytes[at] ^= 1 << rng.random_range(0..8),
                2 => bytes[at] = rng.random(),
                _ => {
                    let sector = (at / 512).max(1) * 512;
                    bytes[sector..sector + 512].fill(0);
                }
            }
        }
        fs::write(&victim, &bytes).unwrap();
        let (held, verified) = found(&victim);
        for outcome in [held.map(|held| held == state), verified.map(|counted| counted == entries)] {
            match outcome {
                Ok(is_right) => assert!(is_right, "seed {seed}: it is not what was kept"),
                Err(error) => {
                    assert!(matches!(error, StoreError::Corrupt { .. }), "seed {seed}: {error}");
                    refusals += 1;
                }
            }
        }
    }
    println!("{refusals} of {} looks were refused", 2 * tries);
    assert!(refusals > tries / 4, "nothing was found in most damaged files");
}

#[test]
fn a_file_cut_short_or_foreign_is_refused_and_left_alone() {
    quiet();
    let folder = tempfile::tempdir().unwrap();
    let (closed, killed, _) = filled(folder.path());
    let victim = folder.path().join("victim.db");
    for original in [&closed, &killed] {
        let bytes = fs::read(original).unwrap();
        for length in [0, 1, 9, 100, 320, 4_096, 8_192, bytes.len() / 2, bytes.len() - 4_096, bytes.len() - 1] {
            fs::write(&victim, &bytes[..length]).unwrap();
            let (held, verified) = found(&victim);
            for error in [held.map(drop).expect_err("cut short"), verified.map(drop).expect_err("cut short")] {
                assert!(matches!(error, StoreError::Corrupt { .. }), "{length}: {error}");
            }
        }
    }
    fs::write(&victim, b"").unwrap();
    refused(&victim, "an empty file");
    fs::write(&victim, vec![0; 1 << 20]).unwrap();
    refused(&victim, "zeros");
    fs::write(&victim, "not a store\n".repeat(10_000)).unwrap();
    refused(&victim, "text");
    fs::remove_file(&victim).unwrap();
    let table: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("theirs");
    let other = redb::Database::create(&victim).unwrap();
    let transaction = other.begin_write().unwrap();
    transaction.open_table(table).unwrap();
    transaction.commit().unwrap();
    drop(other);
    let error = Embedded::open(&victim).unwrap_err();
    assert!(
        matches!(&error, StoreError::Corrupt { cause, .. } if cause.contains("not a fedgate state store")),
        "{error}"
    );
}

#[test]
fn a_later_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, ..) = filled(folder.path());
    let meta: redb::TableDefinition<'_, &str, &str> = redb::TableDefinition::new("meta");
    let set = |format: &str| {
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(meta).unwrap().insert("format", format).unwrap();
        transaction.commit().unwrap();
    };
    set("2");
    for error in [Embedded::open(&path).unwrap_err(), verify(&path).unwrap_err()] {
        assert!(matches!(error, StoreError::Newer { found: 2, known: 1, .. }), "{error}");
    }
    for nonsense in ["0", "one", ""] {
        set(nonsense);
        assert!(matches!(Embedded::open(&path).unwrap_err(), StoreError::Corrupt { .. }), "{nonsense}");
    }
}

/// A disk may alter what an open file holds; the database then copies it with a checksum of its own. So here it is done by the database.
#[test]
fn an_entry_altered_or_exchanged_is_named() {
    type Table = redb::TableDefinition<'static, &'static str, &'static [u8]>;
    const RECORDS: Table = Table::new("records");
    let folder = tempfile::tempdir().unwrap();
    let (path, ..) = filled(folder.path());
    let original = fs::read(&path).unwrap();
    let (one, two) = (sample::id(4).0, sample::id(8).0);
    for seed in 0..40 {
        fs::write(&path, &original).unwrap();
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut table = transaction.open_table(RECORDS).unwrap();
        let mut bytes = table.get(&*one).unwrap().unwrap().value().to_vec();
        let length = bytes.len();
        match seed {
            0 => bytes = table.get(&*two).unwrap().unwrap().value().to_vec(),
            1 => bytes.clear(),
            2 => bytes.push(0),
            3 => bytes.truncate(length - 1),
            _ => bytes[StdRng::seed_from_u64(seed).random_range(0..length)] ^= 1 << (seed % 8),
        }
        table.insert(&*one, bytes.as_slice()).unwrap();
        drop(table);
        transaction.commit().unwrap();
        drop(database);
        let (held, verified) = found(&path);
        for error in [held.map(drop).expect_err("altered"), verified.map(drop).expect_err("altered")] {
            assert!(matches!(&error, StoreError::Corrupt { cause, .. } if cause.contains(&one)), "{seed}: {error}");
        }
    }
}

#[test]
fn a_decision_that_cant_be_read_gives_way_like_any_other() {
    const DECISIONS: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("decisions");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fedgate.db");
    let decided = |number| {
        let (id, entry) = sample::decision(number);
        Change::Decided { id, entry }
    };
    Embedded::open(&path).unwrap().commit(&(0..10).map(decided).collect::<Vec<_>>()).unwrap();
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(DECISIONS).unwrap().insert(0, &b"nonsense"[..]).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let mut store = Embedded::open(&path).unwrap().with_ring(10);
    let (oldest, newest) = (sample::decision(0).0, sample::decision(10));
    assert!(matches!(store.decision(&oldest).unwrap_err(), StoreError::Corrupt { .. }));
    store.commit(&[decided(10)]).unwrap();
    assert_eq!(store.decision(&oldest), Ok(None));
    assert_eq!(store.decision(&newest.0), Ok(Some(newest.1)));
    drop(store);
    assert_eq!(verify(&path).unwrap().decisions, 10);
}

#[test]
fn a_store_in_use_is_locked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/down/fedgate.db");
    let store = Embedded::open(&path).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    for error in [Embedded::open(&path).unwrap_err(), verify(&path).unwrap_err()] {
        assert!(matches!(error, StoreError::Locked { .. }), "{error}");
        assert!(error.to_string().contains("fedgate drain"), "{error}");
    }
    drop(store);
    assert_eq!(verify(&path).unwrap().decisions, 0);
    drop(Embedded::open(&path).unwrap());
    let mut left: Vec<_> =
        fs::read_dir(path.parent().unwrap()).unwrap().map(|file| file.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["fedgate.db", "fedgate.db.lock"]);
    assert_eq!(mode(&path.with_extension("db.lock")), 0o600);
}

#[test]
fn what_cant_be_written_is_said() {
    for path in ["/proc/fedgate/fedgate.db", "/dev/full/fedgate.db", "/proc/version/fedgate.db"] {
        let error = Embedded::open(Path::new(path)).unwrap_err();
        assert!(matches!(error, StoreError::Unwritable { .. }), "{error}");
        assert!(error.to_string().contains("[state] path"), "{error}");
    }
    for path in ["/dev/full", "/proc/version"] {
        assert!(Embedded::open(Path::new(path)).is_err() && verify(Path::new(path)).is_err(), "{path}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fedgate.db");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
    // Root may write everywhere.
    let may_write = fs::write(folder.path().join("probe"), "").is_ok();
    if !may_write {
        assert!(matches!(Embedded::open(&path).unwrap_err(), StoreError::Unwritable { .. }));
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(Embedded::open(&path).unwrap_err(), StoreError::Unwritable { .. }));
}

#[test]
fn a_look_changes_nothing_even_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (closed, killed, state) = filled(folder.path());
    for path in [closed, killed] {
        let before = fs::read(&path).unwrap();
        let report = verify(&path).unwrap();
        assert_eq!(report.records.values().sum::<u64>(), state.records.len() as u64);
        assert_eq!((report.records.len(), report.decisions), (5, state.decisions.len() as u64));
        assert!(fs::read(&path).unwrap() == before);
        assert_eq!(Shadow::read(&mut Embedded::open(&path).unwrap()).unwrap(), state);
    }
}
