//! Builds everything once, runs it, drains it.
