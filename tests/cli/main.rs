//! The command line with moved folders: no root, no bridge, no daemon. What it prints, what it
//! refuses, and what holds of the registry under concurrent processes that may end at any moment.

#![allow(clippy::indexing_slicing, reason = "a missing element fails the test, as it should")]

mod attach;
mod crash;
mod host;
mod input;
mod killed;
mod reference;
mod refusals;
mod rules;
mod stress;

/// The result of a test.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;
