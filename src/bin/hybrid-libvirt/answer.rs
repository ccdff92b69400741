//! From a request to its answer.

use hybrid_hook::host::libvirt::protocol::{Answer, Request};
use hybrid_hook::model::Result;

use crate::connection::{Access, open, version};
use crate::{domains, networks};

/// Does what is asked.
pub(crate) fn answer(uri: &str, request: Request) -> Result<Answer> {
    if request == (Request::Version {}) {
        return version(uri).map(Answer::Version);
    }
    let connection = open(uri, access(&request))?;
    let c = &connection;
    match request {
        Request::Version {} => version(uri).map(Answer::Version),
        Request::Domains { xml } => domains::list(c, xml).map(Answer::Domains),
        Request::Domain { domain, secrets } => domains::text(c, &domain, secrets).map(Answer::Domain),
        Request::Define { xml, replaces } => {
            domains::define(c, &xml, replaces.as_deref()).map(Answer::Defined)
        }
        Request::Attach(device) => domains::attach(c, &device).map(|changed| Answer::Changed { changed }),
        Request::Detach(device) => domains::detach(c, &device).map(Answer::Detached),
        Request::SetMetadata { domain, element, live, config } => {
            domains::set_metadata(c, &domain, element.as_deref(), live, config).map(|()| Answer::Done {})
        }
        Request::Networks {} => networks::list(c).map(Answer::Networks),
        Request::EnsureNetwork { name, uuid, bridge } => {
            networks::ensure(c, &name, uuid, &bridge).map(|changed| Answer::Changed { changed })
        }
        Request::RemoveNetwork { name, uuid, force } => {
            networks::remove(c, &name, uuid, force).map(|changed| Answer::Changed { changed })
        }
    }
}

/// What a request needs. An ordinary user may ask whatever changes nothing and shows no password.
fn access(request: &Request) -> Access {
    match request {
        Request::Version {}
        | Request::Domains { .. }
        | Request::Domain { secrets: false, .. }
        | Request::Networks {} => Access::Read,
        Request::Domain { secrets: true, .. }
        | Request::Define { .. }
        | Request::Attach(_)
        | Request::Detach(_)
        | Request::SetMetadata { .. }
        | Request::EnsureNetwork { .. }
        | Request::RemoveNetwork { .. } => Access::Write,
    }
}
