//! May they? The partner entry (or the stranger's), its direction, actions, networks; then the first matching rule.
//!
//! [`decide`](table::Table::decide) alone makes a [`Permit`]; carrying and following take it by value, so forwarding without a decision does
//! not compile:
//!
//! ```compile_fail,E0451
//! use fedgate::gate::policy::Permit;
//! fn forge(from: fedgate::wire::address::Address) -> Permit {
//!     Permit { partner: None, from: from.clone(), to: from, action: unreachable!(), side: unreachable!(), polite: false, policy_version: 0 }
//! }
//! ```

pub mod explain;
pub mod glob;
pub mod partners;
pub mod rate;
pub mod table;

pub use explain::Step;
pub use glob::{AddressGlob, BadGlob};
pub use table::{Answer, Because, Permit, Question, Rule, Stranger, Table};
