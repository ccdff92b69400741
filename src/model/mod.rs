//! Values and decisions: networks, pools, leases, names. Pure: no file, socket, clock or process.

pub mod attach;
pub mod census;
pub mod claim;
pub mod delegation;
pub mod difference;
pub mod fault;
pub mod follow;
pub mod lease;
pub mod lease_record;
pub mod mac;
pub mod names;
pub mod naming;
pub mod network;
pub mod network_file;
pub mod overlap;
pub mod pool;
pub mod request;
pub mod reverse;
pub mod selector;
pub mod setting;
pub mod uuid;

pub use attach::{AttachPlan, AttachStep, ContainerRequest, ContainerView};
pub use claim::{ClaimRequest, Claimed, LeaseView, Refusal};
pub use delegation::BlockSize;
pub use fault::{Fault, Kind, Result};
pub use follow::{DockerId, Followed};
pub use lease::{BootId, Lease, LeaseState, Origin, Owner};
pub use lease_record::LeaseRecord;
pub use mac::MacAddress;
pub use names::{DnsLabel, DockerName, InterfaceName, Invalid, NetworkName, OwnerId, ZoneName};
pub use network::{Family, Ipam, Network};
pub use pool::AddressRange;
pub use request::NicRequest;
pub use selector::Selector;
pub use uuid::Uuid;
