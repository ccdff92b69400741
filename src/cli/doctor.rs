//! `hybrid-hook doctor`.

use clap::Args;

use crate::model::{Fault, Result};
use crate::ops::doctor::{self, Check, Diagnosis, Status, Versions};

use super::{Surroundings, output};

#[derive(Debug, Args)]
#[command(after_help = "It changes nothing, and each check has a bound: a daemon that hangs costs three \
                        seconds. An ordinary user can make some of the checks, root all.\n\n\
                        Exit codes: 0 no check fails, 1 one does.")]
pub(super) struct Doctor {
    /// Print the checks as JSON
    #[arg(long)]
    json: bool,
    /// Print the JSON schema of --json, and check nothing
    #[arg(long, conflicts_with = "json")]
    schema: bool,
}

impl Doctor {
    pub(super) fn run(&self, around: &Surroundings) -> Result<()> {
        if self.schema {
            return output::schema::<Diagnosis>();
        }
        let diagnosis = doctor::doctor(&around.context()?)?;
        if self.json {
            output::json(&diagnosis)?;
        } else {
            output::line(&text(&diagnosis))?;
        }
        if diagnosis.healthy { Ok(()) } else { Err(Fault::failed(verdict(&diagnosis))) }
    }
}

fn text(diagnosis: &Diagnosis) -> String {
    let mut lines = vec![verdict(diagnosis), versions(&diagnosis.versions), String::new()];
    for check in &diagnosis.checks {
        lines.push(line(check));
        let own = check.mend.iter().filter(|m| m.as_str() != doctor::AS_ROOT);
        lines.extend(own.map(|m| format!("         mend: {}", output::printable(m))));
    }
    if diagnosis.checks.iter().any(|c| c.mend.iter().any(|m| m == doctor::AS_ROOT)) {
        lines.push(format!("\nroot can make the others: {}", doctor::AS_ROOT));
    }
    lines.join("\n")
}

fn line(check: &Check) -> String {
    let status = match check.status {
        Status::Ok => "ok",
        Status::Warn => "WARN",
        Status::Fail => "FAIL",
        Status::Skipped => "skipped",
    };
    output::printable(&format!("{status:<8} {}: {}", check.title, check.detail))
}

fn verdict(diagnosis: &Diagnosis) -> String {
    let count = |status| diagnosis.checks.iter().filter(|c| c.status == status).count();
    let (fail, warn, skipped) = (count(Status::Fail), count(Status::Warn), count(Status::Skipped));
    let some = |n: usize, one: &str, more: &str| match n {
        0 => None,
        1 => Some(format!("1 check {one}")),
        n => Some(format!("{n} checks {more}")),
    };
    let parts = [
        some(fail, "fails", "fail"),
        some(warn, "warns", "warn"),
        some(skipped, "was skipped", "were skipped"),
    ];
    let said: Vec<_> = parts.into_iter().flatten().collect();
    match (fail + warn, said.is_empty()) {
        (0, true) => "all is well".to_owned(),
        (0, false) => format!("nothing is wrong as far as was looked; {}", said.join(", ")),
        _ => said.join(", "),
    }
}

fn versions(versions: &Versions) -> String {
    let named = [
        ("Linux", &versions.kernel),
        ("nft", &versions.nft),
        ("dnsmasq", &versions.dnsmasq),
        ("Docker", &versions.docker),
        ("libvirt", &versions.libvirt),
    ];
    let mut words = vec![format!("hybrid-hook {}", versions.hybrid_hook)];
    words.extend(named.map(|(name, version)| match version {
        Some(version) => format!("{name} {version}"),
        None => format!("{name} -"),
    }));
    output::printable(&words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: &str, status: Status, detail: &str, mend: &[&str]) -> Check {
        Check {
            id: id.to_owned(),
            title: format!("the {id}"),
            status,
            detail: detail.to_owned(),
            mend: mend.iter().map(|m| (*m).to_owned()).collect(),
        }
    }

    #[test]
    fn the_verdict_comes_first_and_names_from_outside_stay_on_their_line() {
        let versions = Versions {
            hybrid_hook: "1".to_owned(),
            kernel: Some("6.1".to_owned()),
            docker: Some("28\u{1b}[2J".to_owned()),
            ..Versions::default()
        };
        let checks = vec![
            check("hooks", Status::Ok, "libvirtd (pid 7)", &[]),
            check("bridge", Status::Fail, "hybr0 is down\nnot up", &["hybrid-hook apply"]),
            check("docker", Status::Skipped, "Docker did not answer in time", &[]),
        ];
        let mut diagnosis = Diagnosis { format: 1, healthy: false, root: true, versions, checks };
        insta::assert_snapshot!(text(&diagnosis), @r"
    1 check fails, 1 check was skipped
    hybrid-hook 1, Linux 6.1, nft -, dnsmasq -, Docker 28�[2J, libvirt -

    ok       the hooks: libvirtd (pid 7)
    FAIL     the bridge: hybr0 is down�not up
             mend: hybrid-hook apply
    skipped  the docker: Docker did not answer in time
        ");
        diagnosis.checks.truncate(1);
        assert_eq!(verdict(&diagnosis), "all is well");
    }

    #[test]
    fn the_schema_that_is_kept_is_the_one_that_is_printed() -> Result<()> {
        super::super::output::schema_is_kept::<Diagnosis>("doctor")
    }
}
