//! Domains in XML: read NICs and our metadata; rewrite with every other byte kept.
//!
//! Nothing here writes XML anew: a reading finds where things are, and every change is spliced into
//! the text that came in.

mod add;
mod document;
mod domain;
mod glance;
mod grammar;
mod metadata;
mod parse;
mod plan;
pub mod port;
mod remove;
mod restore;
mod splice;

pub use add::{add, interface_on, interface_xml};
pub use document::NAMESPACE;
pub use domain::{Domain, Nic, Source, Teaming};
pub use glance::Glance;
pub use metadata::metadata_xml;
pub use parse::{DEPTH_LIMIT, SIZE_LIMIT, XmlFault};
pub use plan::{Lack, NicPlan, PlanFault, match_nics, plan};
pub use port::Port;
pub use remove::remove;
pub use restore::restore_filter;
