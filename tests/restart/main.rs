//! What is acknowledged outlives the process: the built program is killed and started again under load, with a SIP partner and a presence node
//! of flesh and blood at its sides (`support/live/`), and nothing that it had acknowledged may be lost.
//!
//! `RESTART_KILLS` says how often it is killed (20), `RESTART_SEED` makes the same load and the same moments again, `RESTART_STATE` are other lines for
//! `[state]`: with `engine = "memory"` all of this must fail.

#[path = "../support/live/mod.rs"]
mod live;

mod load;
mod settle;
mod trouble;

use live::World;
use live::edge::Setup;
use load::Load;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long after a start everything must be right again.
const BOUND: Duration = Duration::from_secs(40);

/// The program: the release build that `tests/run` names, else the one built beside the tests.
pub fn program() -> PathBuf {
    std::env::var_os("FEDGATE_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_fedgate")), PathBuf::from)
}

fn setup(name: &'static str) -> Setup {
    let state = std::env::var("RESTART_STATE").unwrap_or_else(|_| "engine = \"embedded\"".to_owned());
    Setup { name, program: program(), state, notify_interval: "200ms" }
}

fn number<T: std::str::FromStr>(name: &str, default: impl FnOnce() -> T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or_else(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kill_9() {
    let seed = number("RESTART_SEED", rand::random::<u64>);
    let kills = number("RESTART_KILLS", || 20_u32);
    println!("RESTART_SEED={seed} RESTART_KILLS={kills}");
    let begun = Instant::now();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::build(setup("restart")).await;
    let mut load = Load::new(rng.random());
    let mut ready = vec![world.edge.start().await];
    load.begin(&world).await;
    let mut right = Vec::new();
    for kill in 1..=kills {
        // Sooner than anything is asked again after a start, or a while later.
        let run = Duration::from_millis(rng.random_range(50..2_500));
        load.run(&world, run).await;
        // In the middle of what is being read, kept, committed, sent and answered.
        load.burst(&world);
        tokio::time::sleep(Duration::from_micros(rng.random_range(0..25_000))).await;
        world.edge.kill();
        ready.push(world.edge.start().await);
        settle::assert_no_complaint(&world, seed);
        if kill == kills / 2 || kill == kills {
            let started = Instant::now();
            if kill < kills {
                // Once under load, once in quiet.
                load.run(&world, Duration::from_secs(1)).await;
            }
            settle::settle(&world, started, BOUND, seed).await;
            right.push(started.elapsed());
        }
    }
    if kills == 0 {
        // The same without a kill: what is wrong now is the load's fault.
        load.run(&world, Duration::from_secs(5)).await;
        settle::settle(&world, Instant::now(), BOUND, seed).await;
    }
    settle::prove_alive(&world, BOUND, seed).await;
    ready.sort_unstable();
    println!(
        "{kills} kills in {:.1} s, {}; exec to ready: min {} median {} max {}; all right again after {}",
        begun.elapsed().as_secs_f64(),
        settle::figures(&world),
        ms(ready[0]),
        ms(ready[ready.len() / 2]),
        ms(ready[ready.len() - 1]),
        right.iter().map(|time| format!("{:.1} s", time.as_secs_f64())).collect::<Vec<_>>().join(", "),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_stop_loses_nothing_and_ends_no_subscription() {
    let seed = number("RESTART_SEED", rand::random::<u64>);
    println!("RESTART_SEED={seed}");
    let mut world = World::build(setup("stop")).await;
    let mut load = Load::new(seed);
    world.edge.start().await;
    load.begin(&world).await;
    for _ in 0..2 {
        load.run(&world, Duration::from_millis(1_500)).await;
        load.burst(&world);
        world.partner.expect_byes(true);
        let status = world.edge.stop().await;
        assert!(status.success(), "SIGTERM ends it with {status}");
        // RFC 3261 §15: whoever is in a session hears that it is over.
        settle::wait("every session has got its BYE", Duration::from_secs(5), seed, || match world.partner.unended() {
            0 => Vec::new(),
            open => vec![format!("{open} sessions were left without BYE")],
        })
        .await;
        settle::assert_no_complaint(&world, seed);
        world.partner.expect_byes(false);
        world.edge.start().await;
        load.forget_sessions();
    }
    let started = Instant::now();
    settle::settle(&world, started, BOUND, seed).await;
    settle::prove_alive(&world, BOUND, seed).await;
    println!("two planned stops: {}", settle::figures(&world));
}

fn ms(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
