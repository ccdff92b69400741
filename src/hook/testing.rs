//! A host of a test's own: one network, which is up, and somebody to wake. No bridge and no daemon.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::model::{BootId, Fault, Lease, Network, NetworkName, Result};
use crate::ops::Context;
use crate::places::Places;
use crate::registry::{Registry, networks, status};

pub(super) struct Host {
    _folder: tempfile::TempDir,
    /// Without a service, the test's own program would be started in its place.
    _service: UnixDatagram,
    pub(super) context: Context,
    pub(super) networks: Vec<Network>,
}

pub(super) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

impl Host {
    pub(super) fn new() -> Result<Self> {
        let failed = |e: std::io::Error| Fault::failed("no host for a test").because(e);
        let folder = tempfile::tempdir().map_err(failed)?;
        let at = |name: &str| folder.path().join(name);
        let places = Places { config: at("etc"), state: at("var"), run: at("run") };
        std::fs::create_dir_all(places.networks()).map_err(failed)?;
        std::fs::create_dir_all(&places.run).map_err(failed)?;
        let file = "format = 1\nbridge = \"t-nowhere\"\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n";
        std::fs::write(places.networks().join("hybrid.toml"), file).map_err(failed)?;
        let service = UnixDatagram::bind(places.wake_socket()).map_err(failed)?;
        let mut status = status::load(&places, &name()?)?;
        status.up = true;
        status::store(&places, &name()?, &status)?;
        let (networks, _) = networks::load_all(&places)?;
        let context = Context { places, boot: BootId("now".into()) };
        Ok(Self { _folder: folder, _service: service, context, networks })
    }

    pub(super) fn leases(&self) -> Result<Vec<Lease>> {
        Registry::of(&self.context.places, &name()?).read()
    }

    /// Each lease in short: address, MAC's last byte, state.
    pub(super) fn told(&self) -> Result<Vec<String>> {
        let last = |l: &Lease| l.mac.map(|m| m.to_string()).and_then(|m| m.get(15..).map(ToOwned::to_owned));
        let short = |l: &Lease| format!("{} {} {}", l.address, last(l).unwrap_or_default(), l.state);
        Ok(self.leases()?.iter().map(short).collect())
    }
}

fn name() -> Result<NetworkName> {
    Ok("hybrid".parse()?)
}
