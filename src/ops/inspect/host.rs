//! What of the host as a whole is not as it should be. Pure.

use std::path::Path;

use super::differ::Findings;
use super::look::Facts;
use super::record::{
    DaemonRecord, DaemonState, HookDaemonRecord, HookRecord, HookState, HostRecord, Part, ServiceRecord,
};
use crate::model::{Fault, Kind};
use crate::ops::install::state::UnitStanding;
use crate::ops::install::{IPAM_SOCKET, WATCH_UNIT, place};

/// The command that puts hooks and units where they belong, and tells libvirt's daemons.
pub(in crate::ops) const INSTALL: &str = "hybrid-hook install";

/// The host's part of the answer.
pub(super) fn record(facts: &Facts) -> HostRecord {
    let mut found = Findings::default();
    for fault in &facts.unreadable {
        let mend = fault.hint_text().unwrap_or("edit that file, then: hybrid-hook apply");
        found.differs(Part::Files, "a network's file", fault.to_string(), "readable", mend);
    }
    stranded(facts, &mut found);
    // Without a network that is up nothing is expected of the host.
    if facts.networks.iter().any(|n| n.up) {
        service(facts, &mut found);
        hooks(facts, &mut found);
    }
    let installation = facts.installation.as_ref().ok();
    if let Err(fault) = &facts.installation {
        found.cannot_see(Part::Hooks, "the installation", fault.to_string(), false);
    }
    let unit = installation.and_then(|i| i.units.iter().find(|u| u.name == WATCH_UNIT));
    HostRecord {
        service: ServiceRecord {
            running: facts.service.is_some(),
            pid: facts.service,
            enabled: unit.and_then(|u| u.enabled),
        },
        hooks: facts.hooks.clone(),
        hook_daemons: installation.map(|i| i.daemons.iter().map(daemon).collect()).unwrap_or_default(),
        docker: match &facts.docker {
            Ok(docker) => answers(format!("{} (API {})", docker.version.engine, docker.version.api)),
            Err(fault) => no_answer(fault),
        },
        libvirt: match &facts.libvirt {
            Ok(libvirt) => answers(libvirt.daemon.to_string()),
            Err(fault) => no_answer(fault),
        },
        differences: found.differences,
        unseen: found.unseen,
    }
}

/// Domains whose Docker network went, and ours with it.
fn stranded(facts: &Facts, found: &mut Findings) {
    for one in facts.libvirt.iter().flat_map(|l| &l.stranded) {
        let (docker, domain) = (&one.docker_network, one.domain.escape_debug());
        let is = if one.running { "without a network" } else { "waiting for it; the domain can't start" };
        found.differs(
            Part::Guests,
            format!("NIC of vm \"{domain}\" on Docker network {docker}"),
            is,
            "on a Docker network that is there and followed",
            format!(
                "docker compose up, and start the VM anew; or take it off: hybrid-hook detach {domain} \
                 --docker-network {docker}"
            ),
        );
    }
}

fn daemon(state: &crate::ops::install::state::DaemonState) -> HookDaemonRecord {
    HookDaemonRecord { name: state.daemon.name.clone(), pid: state.daemon.pid, sees_hooks: state.sees_hooks }
}

fn answers(version: String) -> DaemonRecord {
    DaemonRecord { state: DaemonState::Answers, version: Some(version), detail: None }
}

fn no_answer(fault: &Fault) -> DaemonRecord {
    let absent = fault.kind() == Kind::Missing;
    let state = if absent { DaemonState::Absent } else { DaemonState::Silent };
    DaemonRecord { state, version: None, detail: Some(fault.to_string()) }
}

/// The command that starts the service.
pub(in crate::ops) fn start_service(facts: &Facts) -> String {
    let Ok(installation) = &facts.installation else { return format!("systemctl start {WATCH_UNIT}") };
    let unit = installation.units.iter().find(|u| u.name == WATCH_UNIT);
    match unit.map(|u| (u.file, u.active)) {
        // No systemd: nobody can be asked to start it.
        Some((_, None)) | None => "start it and keep it running: hybrid-hook watch".to_owned(),
        Some((UnitStanding::Absent, _)) => INSTALL.to_owned(),
        Some((UnitStanding::Masked, _)) => {
            format!("systemctl unmask {WATCH_UNIT} && systemctl enable --now {WATCH_UNIT}")
        }
        Some(_) => format!("systemctl start {WATCH_UNIT}"),
    }
}

/// The command that makes Docker find our driver of addresses.
pub(super) fn start_driver(facts: &Facts) -> String {
    let units = facts.installation.as_ref().map(|i| i.units.as_slice()).unwrap_or_default();
    match units.iter().find(|u| u.name == IPAM_SOCKET).map(|u| u.file) {
        None | Some(UnitStanding::Absent) => INSTALL.to_owned(),
        Some(_) => format!("systemctl start {IPAM_SOCKET}"),
    }
}

fn service(facts: &Facts, found: &mut Findings) {
    if facts.service.is_none() {
        found.differs(
            Part::Service,
            "the service hybrid-hook watch",
            "not running",
            "running",
            start_service(facts),
        );
    }
}

fn hooks(facts: &Facts, found: &mut Findings) {
    let Ok(installation) = &facts.installation else { return };
    if installation.libvirt.is_none() && installation.daemons.is_empty() {
        // No libvirt, no hooks.
        return;
    }
    for hook in &facts.hooks {
        if let Some((is, mend)) = hook_trouble(hook) {
            found.differs(
                Part::Hooks,
                format!("hook {}", hook.path.display()),
                is,
                "a link to hybrid-hook",
                mend,
            );
        }
    }
    if facts.hooks.iter().all(|h| h.state == HookState::Ours) {
        for unaware in installation.daemons.iter().filter(|d| !d.sees_hooks) {
            let what = format!("{} (pid {})", unaware.daemon.name, unaware.daemon.pid);
            if !facts.root {
                // Which daemons were told is written down for root alone.
                found.cannot_see(
                    Part::Hooks,
                    "whether libvirt's daemons know the hooks",
                    "root's record",
                    true,
                );
                continue;
            }
            found.differs(Part::Hooks, what, "not told of our hooks", "told, or started after them", INSTALL);
        }
    }
    for (target, _) in unsafe_places(facts) {
        found.differs(
            Part::Executable,
            "the hooks' executable",
            target.display().to_string(),
            "directly in /usr/bin, from where AppArmor lets libvirt run it",
            move_to_usr_bin(),
        );
    }
}

/// What is wrong with a hook, and the way to mend it.
pub(in crate::ops) fn hook_trouble(hook: &HookRecord) -> Option<(String, String)> {
    match hook.state {
        HookState::Ours => None,
        HookState::Absent => Some(("not there".to_owned(), INSTALL.to_owned())),
        HookState::Dangling => {
            let target = hook.target.as_deref().unwrap_or(Path::new("?"));
            Some((format!("a link to {}, which is not there", target.display()), INSTALL.to_owned()))
        }
        HookState::Other => Some((
            "another tool's".to_owned(),
            format!("mv {path} {path}-other && {INSTALL}", path = hook.path.display()),
        )),
    }
}

/// Where our hooks lead to places from which libvirt may not be able to run them, and why; each once.
pub(in crate::ops) fn unsafe_places(facts: &Facts) -> Vec<(&Path, String)> {
    let ours = facts.hooks.iter().filter(|h| h.state == HookState::Ours);
    let targets = ours.filter_map(|h| h.target.as_deref());
    let mut all: Vec<_> = targets.filter_map(|t| Some((t, place::unsafe_place(t)?))).collect();
    all.dedup();
    all
}

/// The way out of an unsafe place.
pub(in crate::ops) fn move_to_usr_bin() -> String {
    let executable = std::env::current_exe().unwrap_or_else(|_| "hybrid-hook".into());
    if executable == Path::new("/usr/bin/hybrid-hook") {
        return "/usr/bin/hybrid-hook install".to_owned();
    }
    format!("install -m 755 {} /usr/bin/hybrid-hook && /usr/bin/hybrid-hook install", executable.display())
}
