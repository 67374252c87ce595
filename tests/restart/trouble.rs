//! A state store that cannot be used: the program says which, why and how to mend it, and ends with a failure instead of starting as if nothing
//! were. What was there stays as it is.

use crate::live::World;
use crate::live::edge::Setup;
use crate::live::partner::Standing;
use crate::{BOUND, program, settle};
use std::path::Path;
use std::time::{Duration, Instant};

const STORE: &str = "state/fedgate.db";

async fn world(name: &'static str) -> World {
    let state = format!("engine = \"embedded\"\npath = \"{STORE}\"");
    World::build(Setup { name, program: program(), state, notify_interval: "1s" }).await
}

/// It does not start, is never ready, and its log has a line with all of `words`.
async fn assert_refused(world: &mut World, words: &[&str]) {
    world.edge.spawn();
    let status = world.edge.end_unready().await;
    assert!(!status.success(), "it ends with {status}");
    let log = world.edge.log_tail();
    assert!(log.lines().any(|line| words.iter().all(|word| line.contains(word))), "no line with {words:?} in\n{log}");
}

/// Whether permissions hold nobody back.
fn is_root(folder: &Path) -> bool {
    let probe = folder.join("probe");
    std::fs::create_dir(&probe).expect("a folder");
    set_mode(&probe, 0o500);
    let written = std::fs::write(probe.join("file"), "x").is_ok();
    set_mode(&probe, 0o700);
    written
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
}

#[tokio::test]
async fn a_garbage_file_is_refused_and_left_alone() {
    let mut world = world("garbage").await;
    let store = world.folder().join(STORE);
    std::fs::create_dir(world.folder().join("state")).expect("a folder");
    for garbage in [b"This is no store.\n".repeat(1_000), Vec::new(), vec![0; 65_536]] {
        std::fs::write(&store, &garbage).expect("a file");
        assert_refused(&mut world, &[STORE, "corrupt", "move"]).await;
        assert_eq!(std::fs::read(&store).expect("it is there"), garbage);
    }
}

#[tokio::test]
async fn a_store_cut_short_is_refused_and_left_alone() {
    let mut world = world("cut").await;
    world.edge.start().await;
    world.edge.stop().await;
    let store = world.folder().join(STORE);
    let whole = std::fs::read(&store).expect("it is there");
    let half = &whole[..whole.len() / 2];
    std::fs::write(&store, half).expect("a file");
    assert_refused(&mut world, &[STORE, "corrupt", "move"]).await;
    assert_eq!(std::fs::read(&store).expect("it is there"), half);
    // Put right, it starts.
    std::fs::write(&store, &whole).expect("a file");
    world.edge.start().await;
}

#[tokio::test]
async fn a_folder_that_may_not_be_written_is_refused() {
    let mut world = world("unwritable").await;
    let folder = world.folder().join("state");
    if is_root(world.folder()) {
        // Root may write everywhere; a file where the folder should be stops even root.
        std::fs::write(&folder, "").expect("a file");
    } else {
        std::fs::create_dir(&folder).expect("a folder");
        set_mode(&folder, 0o500);
    }
    assert_refused(&mut world, &["state"]).await;
    if folder.is_dir() {
        set_mode(&folder, 0o700);
    }
}

#[tokio::test]
async fn two_processes_never_share_a_store() {
    let mut first = world("locked").await;
    first.edge.start().await;
    let mut second = world("locked-too").await;
    // Its own addresses, the other's store.
    let store = first.folder().join(STORE);
    let config = second.folder().join("fedgate.toml");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let text = text.replace(STORE, &store.display().to_string());
    std::fs::write(config, text).expect("a configuration");
    assert_refused(&mut second, &[STORE, "in use by another process"]).await;
    assert!(first.edge.ended().is_none(), "the first goes on");
    // Once the first has died, however it did, the store is free.
    first.edge.kill();
    second.edge.start().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_nothing_begins_and_nothing_is_lost() {
    const SEED: u64 = 0;
    let mut world = world("full").await;
    world.edge.start().await;
    world.edge.stop().await;
    let (size, _) = world.edge.disk();
    world.edge.bound_files(Some(size + 65_536));
    world.edge.start().await;
    // Until there is no room for another: it is refused, not taken and forgotten.
    let refused = |world: &World| world.book.counted().get("subscriptions refused").copied().unwrap_or(0);
    let begun = Instant::now();
    for watcher in 0.. {
        world.partner.watch(watcher, watcher % 50);
        if refused(&world) > 0 {
            break;
        }
        assert!(begun.elapsed() < BOUND, "nothing is refused after {watcher} subscriptions; {:?}", world.edge.disk());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(world.edge.log_tail().contains("no room for the state store"), "{}", world.edge.log_tail());
    // Killed with all that waits for room in it: whatever was answered by 200 is there.
    world.edge.kill();
    world.edge.bound_files(None);
    world.edge.start().await;
    let granted = world.partner.watches().iter().filter(|watch| watch.standing == Standing::Live).count();
    assert!(granted > 0, "none was taken before the disk was full");
    settle::settle(&world, Instant::now(), BOUND, SEED).await;
    settle::prove_alive(&world, BOUND, SEED).await;
}
