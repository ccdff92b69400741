//! libvirt's errors, for people.

use hybrid_hook::model::{Fault, Kind};
use virt::error::{Error, ErrorNumber};

/// A fault that says what failed, with libvirt's own words for why.
pub(crate) fn trouble(what: &str, error: &Error) -> Fault {
    // One line: libvirt's words for bad XML draw a picture of it.
    let words = error.message().lines().next().unwrap_or_default().trim();
    let fault = Fault::new(kind(error.code()), format!("{what}: {words}"));
    if is_denied(error.code()) {
        fault.hint("run it as root, or as a member of the group libvirt")
    } else {
        fault
    }
}

/// Whether the thing asked for is not there.
pub(crate) fn is_gone(error: &Error) -> bool {
    kind(error.code()) == Kind::Missing
}

/// Whether we lack the right.
pub(crate) fn is_denied(code: ErrorNumber) -> bool {
    matches!(
        code,
        ErrorNumber::AuthFailed
            | ErrorNumber::AuthCancelled
            | ErrorNumber::AuthUnavailable
            | ErrorNumber::AccessDenied
            | ErrorNumber::OperationDenied
    )
}

fn kind(code: ErrorNumber) -> Kind {
    match code {
        ErrorNumber::NoDomain
        | ErrorNumber::NoNetwork
        | ErrorNumber::NoDomainMetadata
        | ErrorNumber::DeviceMissing => Kind::Missing,
        _ => Kind::Failed,
    }
}
