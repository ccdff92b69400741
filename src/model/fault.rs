//! One error for people: what failed, why, what to do next, and which exit code says so.

use std::fmt;

/// The result of everything that can fail on its way to a person or to libvirt.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

/// What sort of failure it is. It decides the exit code of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was tried and did not work: exit code 1.
    Failed,
    /// The words of the call are wrong: exit code 2.
    Usage,
    /// Refused because it would harm something: a conflict, a full pool, a thing in use. Exit code 3.
    Refused,
    /// A thing that it needs is not there: a network, a daemon, a program. Exit code 4.
    Missing,
}

impl Kind {
    /// The exit code of the process.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Missing => 4,
        }
    }
}

/// An error with its reason, a hint, and the failures of the clean-up that followed it.
#[derive(Debug)]
pub struct Fault {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: Kind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    also: Vec<Fault>,
}

impl Fault {
    /// A fault of any kind; `message` says what failed, on what, and why, in one line without a final stop.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                message: message.into(),
                hint: None,
                source: None,
                also: Vec::new(),
            }),
        }
    }

    /// It was tried and did not work.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// The words of the call are wrong.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Doing it would harm something.
    #[must_use]
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }

    /// Something that it needs is not there.
    #[must_use]
    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(Kind::Missing, message)
    }

    /// Adds what the person can do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint = Some(hint.into());
        self
    }

    /// Adds the error that caused this one; its text is shown after the message.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// Adds a failure of the clean-up that followed: both are shown.
    #[must_use]
    pub fn and(mut self, mut other: Fault) -> Self {
        let more = std::mem::take(&mut other.inner.also);
        self.inner.also.push(other);
        self.inner.also.extend(more);
        self
    }

    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// What the person can do next, if anything is known.
    #[must_use]
    pub fn hint_text(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// The failures of the clean-up.
    #[must_use]
    pub fn others(&self) -> &[Fault] {
        &self.inner.also
    }

    /// The texts of all of them on one line.
    #[must_use]
    pub fn on_one_line(&self) -> String {
        let texts: Vec<String> = self.each().map(ToString::to_string).collect();
        texts.join("; ").replace(['\n', '\r'], " ")
    }

    /// This one and then the others, for what shows a line for each: its text alone does not name them.
    pub fn each(&self) -> impl Iterator<Item = &Fault> {
        std::iter::once(self).chain(self.others())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)?;
        let mut source = self.inner.source.as_deref().map(|s| s as &dyn std::error::Error);
        while let Some(error) = source {
            let text = error.to_string();
            // Some libraries repeat their cause in their own text.
            if !self.inner.message.contains(&text) {
                write!(f, ": {}", text.trim_end())?;
            }
            source = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_deref().map(|s| s as &dyn std::error::Error)
    }
}

impl From<super::Invalid> for Fault {
    fn from(invalid: super::Invalid) -> Self {
        Self::usage(invalid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_shows_the_whole_chain_once() {
        let io = std::io::Error::new(std::io::ErrorKind::StorageFull, "no space left");
        let fault = Fault::failed("cannot write /x").because(io);
        assert_eq!(fault.to_string(), "cannot write /x: no space left");
    }

    #[test]
    fn every_failure_of_a_clean_up_is_told() {
        let undo = Fault::failed("b").and(Fault::failed("c"));
        let fault = Fault::refused("a").and(undo).and(Fault::missing("d\ne"));
        assert_eq!(fault.each().map(ToString::to_string).collect::<Vec<_>>(), ["a", "b", "c", "d\ne"]);
        assert_eq!(fault.on_one_line(), "a; b; c; d e");
        assert_eq!(fault.kind(), Kind::Refused);
    }

    #[test]
    fn each_kind_has_its_exit_code() {
        let codes = [Kind::Failed, Kind::Usage, Kind::Refused, Kind::Missing].map(Kind::exit_code);
        assert_eq!(codes, [1, 2, 3, 4]);
    }
}
