//! The connection to libvirt's daemon.

use hybrid_hook::host::libvirt::VersionNumber;
use hybrid_hook::host::libvirt::protocol::{DEFAULT_URI, Version};
use hybrid_hook::model::{Fault, Result};
use virt::connect::Connect;

use crate::trouble::{is_denied, trouble};

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Any user may, as libvirt is set up by default.
    Read,
    /// Root and the group libvirt.
    Write,
}

/// The connection that is meant: named in the call, else as every libvirt tool has it.
pub(crate) fn uri(named: Option<String>) -> String {
    named
        .or_else(|| std::env::var("LIBVIRT_DEFAULT_URI").ok().filter(|uri| !uri.is_empty()))
        .filter(|uri| !uri.contains('\0'))
        .unwrap_or_else(|| DEFAULT_URI.to_owned())
}

/// Connects; `Missing` where no daemon answers.
pub(crate) fn open(uri: &str, access: Access) -> Result<Connect> {
    let connection = match access {
        Access::Read => Connect::open_read_only(Some(uri)),
        Access::Write => Connect::open(Some(uri)),
    };
    connection.map_err(|error| {
        let fault = trouble(&format!("cannot connect to libvirt at {uri}"), &error);
        if is_denied(error.code()) || error.message().contains("Permission denied") {
            fault.hint("run it as root, or as a member of the group libvirt")
        } else {
            Fault::missing(fault.to_string()).hint(
                "is libvirt's daemon installed and running? systemctl start libvirtd, or virtqemud virtnetworkd",
            )
        }
    })
}

/// Which libvirt this is. The library answers by itself.
pub(crate) fn version(uri: &str) -> Result<Version> {
    let library =
        Connect::get_version().map_err(|e| trouble("cannot ask libvirt's library for its version", &e))?;
    let daemon = open(uri, Access::Read).and_then(|c| {
        c.get_lib_version().map_err(|e| trouble("cannot ask libvirt's daemon for its version", &e))
    });
    let (daemon, unreachable) = match daemon {
        Ok(packed) => (Some(VersionNumber::unpack(packed)), None),
        Err(fault) => (None, Some(fault.to_string())),
    };
    Ok(Version { library: VersionNumber::unpack(library), daemon, unreachable, uri: uri.to_owned() })
}
