//! May they? The partner entry (or the stranger's), its direction, actions, networks; then the first matching rule.
//!
//! [`decide`](table::Table::decide) alone makes a [`Permit`]; carrying and following take it by value, so forwarding without a decision does
//! not compile.

pub mod explain;
pub mod glob;
pub mod rate;
pub mod table;

pub use explain::Step;
pub use glob::{AddressGlob, BadGlob};
pub use table::{Answer, Because, Permit, Question, Rule, Stranger, Table};
