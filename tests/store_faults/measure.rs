//! What a store costs. `cargo test --release --test store_faults -- --ignored --nocapture measure`

use crate::sample;
use fedgate::io::store::{Change, Embedded, Store, verify};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

const MANY: u32 = 100_000;
/// Below this, all overhead included.
const BYTES_EACH: u64 = 1_024;

fn size(path: &Path, what: &str) -> u64 {
    let metadata = std::fs::metadata(path).unwrap();
    let (length, taken) = (metadata.len(), metadata.blocks() * 512);
    println!("{what:<44} {:>6} bytes each, {:>6} on disk", length / u64::from(MANY), taken / u64::from(MANY));
    length / u64::from(MANY)
}

#[test]
#[ignore = "measures; for --release"]
fn a_subscription_costs_less_than_a_kilobyte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fedgate.db");
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    let mut numbers: Vec<u32> = (0..MANY).collect();
    numbers.shuffle(&mut rng);
    let mut store = Embedded::open(&path).unwrap();
    let begun = Instant::now();
    for some in numbers.chunks(64) {
        let batch: Vec<Change> = some.iter().map(|number| sample::keep(sample::watch(*number, 1))).collect();
        store.commit(&batch).unwrap();
    }
    println!("{MANY} kept in batches of 64: {:?}", begun.elapsed());
    size(&path, "as they come");
    numbers.shuffle(&mut rng);
    let begun = Instant::now();
    for some in numbers.chunks(64) {
        let batch: Vec<Change> = some.iter().map(|number| sample::keep(sample::watch(*number, 2))).collect();
        store.commit(&batch).unwrap();
    }
    println!("{MANY} rewritten in batches of 64: {:?}", begun.elapsed());
    size(&path, "each written again");
    for batch in [1, 16] {
        let begun = Instant::now();
        for _ in 0..100 {
            let batch: Vec<Change> = (0..batch)
                .map(|_| sample::keep(sample::watch(rng.random_range(0..MANY), rng.random_range(0..99))))
                .collect();
            store.commit(&batch).unwrap();
        }
        println!("a commit of {batch}: {:?}", begun.elapsed() / 100);
    }
    // As after a kill: nothing is closed.
    let killed = folder.path().join("killed.db");
    std::fs::copy(&path, &killed).unwrap();
    for (path, what) in [(&killed, "killed"), (&path, "closed")] {
        if what == "closed" {
            let begun = Instant::now();
            drop(store);
            println!("close: {:?}", begun.elapsed());
            store = Embedded::open(&killed).unwrap();
        }
        let begun = Instant::now();
        let mut again = Embedded::open(path).unwrap();
        println!("open, {what}: {:?}", begun.elapsed());
        let (begun, mut count) = (Instant::now(), 0);
        again.restore(&mut |_| count += 1).unwrap();
        println!("restore {count}: {:?}", begun.elapsed());
        size(path, what);
    }
    drop(store);
    let begun = Instant::now();
    let report = verify(&path).unwrap();
    println!("verify {report:?}: {:?}", begun.elapsed());
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    assert!(size(&path, "in the end") < BYTES_EACH);
}
