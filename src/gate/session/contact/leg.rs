//! The SIP half of a contact: our subscription (RFC 6665 §4.1).

use crate::gate::limits;
use crate::gate::session::dialog::Dialog;
use crate::gate::time::Time;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Leg {
    pub(super) dialog: Dialog,
    /// Their tag is known.
    pub(super) confirmed: bool,
    /// The Expires of the SUBSCRIBE whose answer is awaited.
    pub(super) in_flight: Option<Duration>,
    /// The Expires we ask for.
    pub(super) ask: Duration,
    pub(super) expires_at: Time,
    pub(super) refresh_at: Option<Time>,
    /// RFC 6665 §4.1.2.4 Timer N: a NOTIFY comes before this.
    pub(super) notify_by: Option<Time>,
}

/// What is kept of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct KeptLeg {
    dialog: Dialog,
    expires_at_unix_nanos: u64,
}

impl Leg {
    pub(super) fn new(dialog: Dialog, ask: Duration, now: Time) -> Self {
        let expires_at = now + ask;
        Self { dialog, confirmed: false, in_flight: None, ask, expires_at, refresh_at: None, notify_by: None }
    }

    /// After a restart: CSeq goes on above what may have been used.
    pub(super) fn resumed(kept: KeptLeg, ask: Duration, now: Time, refresh_at: Time) -> Self {
        let mut leg = Self::new(kept.dialog, ask, now);
        leg.dialog.resume();
        leg.confirmed = true;
        leg.expires_at = Time::from_unix_nanos(kept.expires_at_unix_nanos);
        leg.refresh_at = Some(refresh_at);
        leg
    }

    /// `None`: there is nothing yet that a restart could go on with.
    pub(super) fn kept(&self) -> Option<KeptLeg> {
        let expires_at_unix_nanos = self.expires_at.unix_nanos();
        self.confirmed.then(|| KeptLeg { dialog: self.dialog.clone(), expires_at_unix_nanos })
    }

    /// Granted for so long from now; refreshed after five sixths of it, but not in a rush.
    pub(super) fn granted_for(&mut self, now: Time, seconds: Option<u32>) {
        let Some(seconds) = seconds else { return };
        let granted = Duration::from_secs(u64::from(seconds)).min(limits::EXPIRES_MOST);
        self.expires_at = now + granted;
        self.refresh_at = Some(now + (granted * 5 / 6).max(limits::CONTACT_REFRESH_LEAST));
    }
}
