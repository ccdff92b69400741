//! The XML on standard input, within bounds: libvirt itself would wait for its hook for ever.

use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::deadline::Deadline;

/// Reads standard input to its end, to `limit` bytes or to the deadline, whichever is first. What
/// can't be read is left out: an XML that is cut off is none, and is judged as such.
pub(super) fn read(limit: usize, deadline: Deadline) -> Vec<u8> {
    let stdin = std::io::stdin();
    let fd = stdin.as_fd();
    let mut xml = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    while xml.len() < limit {
        let left = deadline.left();
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&left)) {
            Ok(0) => break,
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => break,
        }
        match rustix::io::read(fd, &mut chunk) {
            Ok(0) => break,
            Ok(count) => xml.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(_) => return Vec::new(),
        }
    }
    xml.truncate(limit);
    xml
}
