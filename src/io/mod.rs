//! What touches the world.
