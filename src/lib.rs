//! libvirt VMs and Docker containers as equal neighbours on one network.
//!
//! The rooms, and which may use which, are in docs/architecture.md. Data goes through once, left to
//! right: [`hook`], [`cli`], [`ipam`] and [`watch`] call [`ops`]; ops changes the [`registry`] and renders to
//! the [`host`]; [`model`] and [`domain_xml`] decide and touch nothing.

pub mod cli;
pub mod deadline;
pub mod domain_xml;
pub mod hook;
pub mod host;
pub mod ipam;
pub mod logging;
pub mod model;
pub mod ops;
pub mod places;
pub mod registry;
pub mod watch;
