//! A whole edge on loopback, driven over real TLS and HTTP: what a peer with a right, a wrong or no certificate gets, and what an operator sees.

mod balancer;
mod discovery;
mod idle;
mod issuer;
mod names;
mod nodes;
mod operator;
mod outbound;
mod partner;
mod relay;
mod revocation;
mod tls;
mod verbs;
mod world;
mod xmpp;
