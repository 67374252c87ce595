//! The gate's clock: wall clock at start plus monotonic time since, so that it never steps back.

use crate::gate::Time;
use std::time::SystemTime;
use tokio::time::Instant;

/// One for the whole process.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    wall: Time,
}

impl Clock {
    /// Started now.
    pub fn start() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), wall: Time::default() + since }
    }
    /// When it was started.
    pub fn started(&self) -> Time {
        self.wall
    }
    /// Now.
    pub fn now(&self) -> Time {
        self.at(Instant::now())
    }
    /// What it was at that instant.
    pub fn at(&self, instant: Instant) -> Time {
        self.wall + instant.saturating_duration_since(self.start)
    }
    /// When `time` comes, for timers.
    pub fn instant(&self, time: Time) -> Instant {
        let ahead = time.since(self.wall);
        // A deadline beyond what Instant can hold is as good as a day: the sleeper asks again.
        self.start.checked_add(ahead).unwrap_or_else(|| Instant::now() + std::time::Duration::from_secs(86_400))
    }
}
