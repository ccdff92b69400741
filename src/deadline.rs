//! The end of a wait. Everything that waits takes one, so that nothing waits for ever.

use std::time::{Duration, Instant};

/// A moment after which waiting stops.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// So long from now.
    #[must_use]
    pub fn after(span: Duration) -> Self {
        Self(Instant::now() + span)
    }

    /// What is left; zero once it has passed.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.left().is_zero()
    }

    /// The earlier of this one and `span` from now.
    #[must_use]
    pub fn at_most(&self, span: Duration) -> Self {
        Self(self.0.min(Instant::now() + span))
    }

    /// The later of this one and `span` from now: for a clean-up that must have its chance.
    #[must_use]
    pub fn at_least(&self, span: Duration) -> Self {
        Self(self.0.max(Instant::now() + span))
    }
}
