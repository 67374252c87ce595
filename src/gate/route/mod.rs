//! Where to: nodes for a local user, hops that are up or being connected.
