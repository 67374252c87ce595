//! fedgate: the federation edge between an organisation's presence nodes and its partners' servers.
//!
//! A message walks through three layers, in the order in which they are named here:
//!
//! * [`wire`]: what the bytes mean. Pure; knows nobody.
//! * [`gate`]: what we decide. Pure; time and randomness are arguments.
//! * [`io`]: what touches the world: sockets, TLS, DNS, files, the admin listener.
//!
//! [`config`] turns what the operator wrote into the settings of each layer, [`app`] builds everything
//! once and runs it, [`cli`] is what the operator types.

pub mod app;
pub mod cli;
pub mod config;
pub mod gate;
pub mod io;
pub mod wire;
