//! What touches the world: sockets, TLS, DNS, files, the admin listener, and the one task that owns the gate.

pub mod admin;
pub mod asking;
pub mod clock;
pub mod core;
pub mod dial;
pub mod edge;
pub mod held;
pub mod issuer;
pub mod keeper;
pub mod link;
pub mod listen;
pub mod orders;
pub mod places;
pub mod resolve;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod tls;

pub use clock::Clock;
pub use edge::{Edge, Phase};
pub use settings::Settings;
