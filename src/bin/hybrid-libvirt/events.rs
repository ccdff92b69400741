//! libvirt's events, a line of JSON each.
//!
//! virt does not wrap event registration, so this is where the unsafe calls are. One connection at a
//! time; everything of libvirt runs on the main thread; callbacks only write a line or set a flag.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hybrid_hook::host::libvirt::{DomainChange, Event, NetworkChange};
use hybrid_hook::model::{Fault, Result};
use virt::connect::Connect;
use virt::error::Error;
use virt::sys;

use crate::connection::{Access, open};
use crate::trouble::trouble;

/// A daemon that answers no keepalive is lost after about this many seconds times the count, and one more.
const KEEPALIVE: (c_int, u32) = (5, 3);

/// The first pause before connecting again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// How often the loop looks up by itself, in milliseconds.
const LOOK_UP: c_int = 2_000;

/// Whether the connection is known to be lost.
static LOST: AtomicBool = AtomicBool::new(false);

/// Prints what happens until standard input closes. Fails only where libvirt's event loop can't be made.
pub(crate) fn run(uri: &str) -> Result<()> {
    end_with_stdin();
    virt::event::event_register_default_impl()
        .map_err(|e| trouble("cannot make libvirt's event loop", &e))?;
    // The loop must never sleep for good: some drivers never call back when they are lost.
    let _timer = virt::event::event_add_timeout(LOOK_UP, |_, _| {}, std::ptr::null_mut())
        .map_err(|e| trouble("cannot make libvirt's event loop", &e))?;
    let mut pause = PAUSES.0;
    loop {
        let began = Instant::now();
        let fault = match follow(uri) {
            Ok(reason) => Fault::failed(reason),
            Err(fault) => fault,
        };
        print(&Event::Gap { reason: fault.to_string() });
        if began.elapsed() > PAUSES.1 {
            pause = PAUSES.0;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Ends the process at once.
fn end_now() -> ! {
    // Not exit(3): the destructors of libvirt's libraries would run while another thread is still in
    // their start, and crash now and then. There is nothing to flush: each line was.
    #[allow(unsafe_code)]
    // SAFETY: _exit(2) takes a number and does not return.
    unsafe {
        libc::_exit(0)
    }
}

/// Whoever started us holds our standard input open. When they end, however they do, we end.
fn end_with_stdin() {
    std::thread::spawn(|| {
        let mut nothing = [0_u8; 256];
        loop {
            match std::io::stdin().read(&mut nothing) {
                Ok(1..) => {}
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => end_now(),
            }
        }
    });
}

/// Prints one line. Nobody who reads means nobody who wants us.
fn print(event: &Event) {
    let mut out = std::io::stdout().lock();
    let written = serde_json::to_vec(event).map_err(std::io::Error::from).and_then(|mut line| {
        line.push(b'\n');
        out.write_all(&line)?;
        out.flush()
    });
    if written.is_err() {
        end_now();
    }
}

/// Connects, registers, and runs libvirt's loop until the connection is lost; says why it was.
fn follow(uri: &str) -> Result<String> {
    LOST.store(false, Ordering::SeqCst);
    let connection = open(uri, Access::Read)?;
    // Drivers without a daemon know no keepalive; that is fine.
    let _ = connection.set_keep_alive(KEEPALIVE.0, KEEPALIVE.1);
    let registered = Registered::on(&connection)?;
    print(&Event::Ready {});
    let reason = loop {
        if let Err(e) = virt::event::event_run_default_impl() {
            break trouble("libvirt's event loop failed", &e).to_string();
        }
        if LOST.load(Ordering::SeqCst) || !connection.is_alive().unwrap_or(false) {
            break format!("the connection to libvirt at {uri} was lost");
        }
    };
    drop(registered);
    Ok(reason)
}

/// What is registered with a connection; dropping it takes it back, else the connection would never
/// be freed.
struct Registered<'a> {
    connection: &'a Connect,
    domains: c_int,
    networks: Option<c_int>,
}

impl<'a> Registered<'a> {
    /// Registers for the lifecycle of domains and networks, and for the loss of the connection.
    #[allow(unsafe_code)]
    fn on(connection: &'a Connect) -> Result<Self> {
        let raw = connection.as_ptr();
        // SAFETY: `raw` is an open connection. For the id LIFECYCLE libvirt calls back with just the
        // arguments that `domain_event` takes; it wants the pointer in the form that all ids share
        // (VIR_DOMAIN_EVENT_CALLBACK in libvirt-domain.h). No data of ours is passed, so nothing must
        // outlive the registration.
        let domains = unsafe {
            sys::virConnectDomainEventRegisterAny(
                raw,
                std::ptr::null_mut(),
                c_int::try_from(sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE).unwrap_or(0),
                Some(std::mem::transmute::<DomainCallback, AnyDomainCallback>(domain_event)),
                std::ptr::null_mut(),
                None,
            )
        };
        if domains < 0 {
            return Err(trouble("cannot follow libvirt's domains", &Error::last_error()));
        }
        // SAFETY: as above, with `network_event` (VIR_NETWORK_EVENT_CALLBACK in libvirt-network.h).
        let networks = unsafe {
            sys::virConnectNetworkEventRegisterAny(
                raw,
                std::ptr::null_mut(),
                c_int::try_from(sys::VIR_NETWORK_EVENT_ID_LIFECYCLE).unwrap_or(0),
                Some(std::mem::transmute::<NetworkCallback, AnyNetworkCallback>(network_event)),
                std::ptr::null_mut(),
                None,
            )
        };
        // Without a network driver the domains are still worth following.
        let networks = (networks >= 0).then_some(networks);
        // SAFETY: `raw` is open; `lost` touches no data but a static flag. Drivers without a daemon
        // refuse it, and have nothing to lose.
        unsafe { sys::virConnectRegisterCloseCallback(raw, Some(lost), std::ptr::null_mut(), None) };
        Ok(Self { connection, domains, networks })
    }
}

impl Drop for Registered<'_> {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        let raw = self.connection.as_ptr();
        // SAFETY: `raw` is still open, if perhaps dead; the ids are those that registering gave.
        // Failures are those of a dead connection, whose registrations are gone anyway.
        unsafe {
            sys::virConnectUnregisterCloseCallback(raw, Some(lost));
            if let Some(networks) = self.networks {
                sys::virConnectNetworkEventDeregisterAny(raw, networks);
            }
            sys::virConnectDomainEventDeregisterAny(raw, self.domains);
        }
    }
}

type DomainCallback =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;
type AnyDomainCallback = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
type NetworkCallback =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virNetworkPtr, c_int, c_int, *mut c_void);
type AnyNetworkCallback = unsafe extern "C" fn(sys::virConnectPtr, sys::virNetworkPtr, *mut c_void);

/// Called by libvirt's loop. An `extern "C"` function never unwinds into its caller: a panic, which
/// nothing here should cause, ends the process.
extern "C" fn lost(_: sys::virConnectPtr, _reason: c_int, _: *mut c_void) {
    LOST.store(true, Ordering::SeqCst);
}

#[allow(unsafe_code)]
unsafe extern "C" fn domain_event(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    _: *mut c_void,
) -> c_int {
    let mut uuid = [0; UUID_TEXT];
    // SAFETY: libvirt lends us `domain` for this call; the buffer has the size that libvirt writes.
    let (got, name) = unsafe {
        (sys::virDomainGetUUIDString(domain, uuid.as_mut_ptr()), text(sys::virDomainGetName(domain)))
    };
    // SAFETY: libvirt ended it with a NUL.
    let uuid = (got == 0).then(|| unsafe { text(uuid.as_ptr()) }).flatten();
    if let (Some(uuid), Some(name)) = (uuid.and_then(|u| u.parse().ok()), name) {
        let what = domain_change(event);
        print(&Event::Domain { uuid, name, what, detail: domain_detail(what, detail) });
    }
    0
}

#[allow(unsafe_code)]
unsafe extern "C" fn network_event(
    _: sys::virConnectPtr,
    network: sys::virNetworkPtr,
    event: c_int,
    _detail: c_int,
    _: *mut c_void,
) {
    let mut uuid = [0; UUID_TEXT];
    // SAFETY: as in `domain_event`.
    let (got, name) = unsafe {
        (sys::virNetworkGetUUIDString(network, uuid.as_mut_ptr()), text(sys::virNetworkGetName(network)))
    };
    // SAFETY: libvirt ended it with a NUL.
    let uuid = (got == 0).then(|| unsafe { text(uuid.as_ptr()) }).flatten();
    if let (Some(uuid), Some(name)) = (uuid.and_then(|u| u.parse().ok()), name) {
        print(&Event::Network { uuid, name, what: network_change(event) });
    }
}

const UUID_TEXT: usize = sys::VIR_UUID_STRING_BUFLEN as usize;

/// A C string's text.
///
/// # Safety
/// `from` is null or points to a string that ends with NUL.
#[allow(unsafe_code)]
unsafe fn text(from: *const c_char) -> Option<String> {
    // SAFETY: the caller's promise.
    (!from.is_null()).then(|| unsafe { CStr::from_ptr(from) }.to_string_lossy().into_owned())
}

/// virDomainEventType, in our words.
fn domain_change(event: c_int) -> DomainChange {
    match sys::virDomainEventType::try_from(event) {
        Ok(sys::VIR_DOMAIN_EVENT_DEFINED) => DomainChange::Defined,
        Ok(sys::VIR_DOMAIN_EVENT_UNDEFINED) => DomainChange::Undefined,
        Ok(sys::VIR_DOMAIN_EVENT_STARTED) => DomainChange::Started,
        Ok(sys::VIR_DOMAIN_EVENT_SUSPENDED) => DomainChange::Suspended,
        Ok(sys::VIR_DOMAIN_EVENT_RESUMED) => DomainChange::Resumed,
        Ok(sys::VIR_DOMAIN_EVENT_STOPPED) => DomainChange::Stopped,
        Ok(sys::VIR_DOMAIN_EVENT_SHUTDOWN) => DomainChange::Shutdown,
        Ok(sys::VIR_DOMAIN_EVENT_PMSUSPENDED) => DomainChange::PmSuspended,
        Ok(sys::VIR_DOMAIN_EVENT_CRASHED) => DomainChange::Crashed,
        _ => DomainChange::Other,
    }
}

/// The details of each kind, in the order of their numbers (virDomainEvent…DetailType).
fn domain_detail(what: DomainChange, detail: c_int) -> String {
    let words: &[&str] = match what {
        DomainChange::Defined => &["added", "updated", "renamed", "from_snapshot"],
        DomainChange::Undefined => &["removed", "renamed"],
        DomainChange::Started => &["booted", "migrated", "restored", "from_snapshot", "wakeup"],
        DomainChange::Suspended => {
            &["paused", "migrated", "io_error", "watchdog", "restored", "from_snapshot"]
        }
        DomainChange::Resumed => &["unpaused", "migrated", "from_snapshot"],
        DomainChange::Stopped => {
            &["shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from_snapshot"]
        }
        DomainChange::Shutdown => &["finished", "guest", "host"],
        DomainChange::PmSuspended => &["memory", "disk"],
        DomainChange::Crashed => &["panicked", "crash_loaded"],
        DomainChange::Other => &[],
    };
    let word = usize::try_from(detail).ok().and_then(|at| words.get(at));
    word.map_or_else(|| detail.to_string(), |w| (*w).to_owned())
}

/// virNetworkEventLifecycleType, in our words.
fn network_change(event: c_int) -> NetworkChange {
    match sys::virNetworkEventLifecycleType::try_from(event) {
        Ok(sys::VIR_NETWORK_EVENT_DEFINED) => NetworkChange::Defined,
        Ok(sys::VIR_NETWORK_EVENT_UNDEFINED) => NetworkChange::Undefined,
        Ok(sys::VIR_NETWORK_EVENT_STARTED) => NetworkChange::Started,
        Ok(sys::VIR_NETWORK_EVENT_STOPPED) => NetworkChange::Stopped,
        _ => NetworkChange::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_libvirts_words() {
        assert_eq!(domain_change(1), DomainChange::Undefined);
        assert_eq!(domain_change(99), DomainChange::Other);
        assert_eq!(domain_change(-1), DomainChange::Other);
        assert_eq!(domain_detail(DomainChange::Stopped, 1), "destroyed");
        assert_eq!(domain_detail(DomainChange::Stopped, 42), "42");
        assert_eq!(domain_detail(DomainChange::Defined, -1), "-1");
        assert_eq!(network_change(1), NetworkChange::Undefined);
    }
}
