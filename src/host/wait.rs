//! From the async libraries (netlink, Docker) to plain calls with a deadline.

use std::future::Future;

use crate::deadline::Deadline;
use crate::model::{Fault, Result};

/// Runs one future to its end on this thread, or gives up at the deadline; `what` completes "… did not
/// answer in time".
pub fn block_on<T>(what: &str, deadline: Deadline, future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Fault::failed("cannot start the event loop").because(e))?;
    runtime.block_on(async {
        match tokio::time::timeout(deadline.left(), future).await {
            Ok(result) => result,
            Err(_) => Err(Fault::failed(format!("{what} did not answer in time"))),
        }
    })
}
