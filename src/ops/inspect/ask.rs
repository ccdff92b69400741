//! Questions that may never be answered: each on a thread of its own, given up at its deadline.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::model::{Fault, Result};

/// What a question that ends at its deadline may need on top, to say so in its own words.
const GRACE: Duration = Duration::from_millis(300);

/// A question that is being asked.
#[derive(Debug)]
pub(in crate::ops) struct Question<T> {
    what: &'static str,
    deadline: Deadline,
    answer: Receiver<Result<T>>,
}

/// Starts asking. `what` completes "… did not answer in time".
pub(in crate::ops) fn ask<T: Send + 'static>(
    what: &'static str,
    limit: Duration,
    question: impl FnOnce(Deadline) -> Result<T> + Send + 'static,
) -> Question<T> {
    let (sender, answer) = channel();
    let deadline = Deadline::after(limit);
    let spawned = std::thread::Builder::new().name(what.to_owned()).spawn({
        let sender = sender.clone();
        move || {
            // Nobody may be waiting any more.
            let _ = sender.send(question(deadline));
        }
    });
    if let Err(error) = spawned {
        let _ = sender.send(Err(Fault::failed(format!("cannot start the thread {what}")).because(error)));
    }
    Question { what, deadline, answer }
}

impl<T> Question<T> {
    /// The answer, waited for until the deadline and a moment.
    pub(in crate::ops) fn answer(self) -> Result<T> {
        let silent = || Fault::failed(format!("{} did not answer in time", self.what));
        self.answer.recv_timeout(self.deadline.left() + GRACE).unwrap_or_else(|_| Err(silent()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_that_ignores_its_deadline_is_given_up() {
        let hangs = ask("it", Duration::from_millis(10), |_| {
            std::thread::sleep(Duration::from_secs(30));
            Ok(())
        });
        let answers = ask("that", Duration::from_secs(5), |_| Ok(7));
        assert_eq!(answers.answer().ok(), Some(7));
        assert_eq!(hangs.answer().err().map(|f| f.to_string()).as_deref(), Some("it did not answer in time"));
    }
}
