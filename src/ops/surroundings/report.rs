//! What was done for one network, step by step.

use std::collections::HashSet;

use crate::host::Change;
use crate::model::{Fault, NetworkName, Result};

/// One thing that was looked at and, where needed, made.
#[derive(Debug)]
pub struct Step {
    /// What it is, such as `bridge hybr0`.
    pub what: String,
    /// What became of it.
    pub outcome: Outcome,
}

impl Step {
    /// Whether something was made.
    #[must_use]
    pub fn was_made(&self) -> bool {
        matches!(self.outcome, Outcome::Made)
    }
}

/// What became of a step.
#[derive(Debug)]
pub enum Outcome {
    /// It stood as it should.
    Unchanged,
    /// It was made, or made right.
    Made,
    /// It is not there to be asked; the next `apply` makes up for it. Where things are taken away nothing does, and
    /// the hint has the command.
    Later(Fault),
    /// It failed.
    Failed(Fault),
}

/// What was done for one network.
#[derive(Debug)]
pub struct Report {
    /// The network.
    pub network: NetworkName,
    /// Whether things were taken away, not made.
    pub lowered: bool,
    /// The steps, in their order.
    pub steps: Vec<Step>,
}

impl Report {
    pub(super) fn of(network: &NetworkName) -> Self {
        Self { network: network.clone(), lowered: false, steps: Vec::new() }
    }

    pub(super) fn add(&mut self, what: impl Into<String>, result: Result<Change>) {
        let outcome = match result {
            Ok(Change::None) => Outcome::Unchanged,
            Ok(Change::Made) => Outcome::Made,
            Err(fault) => Outcome::Failed(fault),
        };
        self.steps.push(Step { what: what.into(), outcome });
    }

    pub(super) fn later(&mut self, what: impl Into<String>, fault: Fault) {
        self.steps.push(Step { what: what.into(), outcome: Outcome::Later(fault) });
    }

    /// Whether anything was made.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.steps.iter().any(Step::was_made)
    }

    /// The report where nothing failed; else one fault with the others beside it.
    pub fn into_result(self) -> Result<Self> {
        if !self.has_failed() {
            return Ok(self);
        }
        let failed = |step: Step| match step.outcome {
            Outcome::Failed(fault) => Some(fault),
            _ => None,
        };
        let faults = self.steps.into_iter().filter_map(failed).reduce(Fault::and);
        Err(faults.unwrap_or_else(|| Fault::failed(format!("network {}", self.network))))
    }

    /// What may be left of what was to be taken away, each with the command that finishes it.
    #[must_use]
    pub fn left_behind(&self) -> Vec<String> {
        self.left_of(|_| true)
    }

    /// As [`Report::left_behind`], of the things that may be there at all.
    pub(in crate::ops) fn left_of(&self, may_be_there: impl Fn(&str) -> bool) -> Vec<String> {
        let left = |step: &Step| match &step.outcome {
            Outcome::Later(fault) if self.lowered && may_be_there(&step.what) => {
                let command = fault.hint_text().unwrap_or("hybrid-hook inspect");
                Some(format!("{} may be left: {fault}; once it answers: {command}", step.what))
            }
            _ => None,
        };
        self.steps.iter().filter_map(left).collect()
    }

    /// The things that were made, or tried, or stood: not those that had to wait.
    pub(in crate::ops) fn reached(&self) -> HashSet<String> {
        let reached = self.steps.iter().filter(|s| !matches!(s.outcome, Outcome::Later(_)));
        reached.map(|s| s.what.clone()).collect()
    }

    /// Whether a step failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.steps.iter().any(|s| matches!(s.outcome, Outcome::Failed(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lowered: bool) -> Result<Report> {
        let mut report = Report { lowered, ..Report::of(&"hybrid".parse()?) };
        let silent = || Fault::missing("Docker does not answer").hint("docker network rm hybrid-net");
        report.later("Docker network hybrid-net", silent());
        report.add("bridge hybr0", Ok(Change::Made));
        Ok(report)
    }

    #[test]
    fn what_could_not_be_taken_away_is_told_with_its_command() -> Result<()> {
        let left = "Docker network hybrid-net may be left: Docker does not answer; once it answers: docker network rm \
                    hybrid-net";
        assert_eq!(report(true)?.left_behind(), [left]);
        // What had to wait while it was made is made up for by the next apply, and its undo has nothing to name.
        let made = report(false)?;
        assert_eq!(made.left_behind(), Vec::<String>::new());
        let reached = made.reached();
        assert_eq!(report(true)?.left_of(|what| reached.contains(what)), Vec::<String>::new());
        let tried = HashSet::from(["Docker network hybrid-net".to_owned()]);
        assert_eq!(report(true)?.left_of(|what| tried.contains(what)), [left]);
        Ok(())
    }
}
