//! Locks between processes: flock(2) on a file of its own that is never renamed.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::model::{Fault, Result};

use super::durable::{self, io_fault};

/// The variable that changes [`patience`].
pub const VARIABLE: &str = "HYBRID_LOCK_TIMEOUT";

/// How long a command or a hook waits for the registry's lock: 5 seconds, unless
/// `HYBRID_LOCK_TIMEOUT` names another number of seconds, a day at most.
#[must_use]
pub fn patience() -> Duration {
    let seconds = std::env::var(VARIABLE).ok().and_then(|v| v.parse::<f64>().ok());
    let seconds = seconds.filter(|s| *s > 0.0 && *s <= 86_400.0);
    seconds.map_or(Duration::from_secs(5), Duration::from_secs_f64)
}

/// A lock that is held until it is dropped, or until the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock, waiting until `deadline`. `what` names the thing in the message that says who holds it.
    pub fn take(path: &Path, what: &str, deadline: Deadline) -> Result<Self> {
        match Self::try_take(path)? {
            Some(lock) => Ok(lock),
            None => Self::queue(path, deadline)?.ok_or_else(|| Self::busy(path, what)),
        }
    }

    /// Takes the lock if nobody has it.
    pub fn try_take(path: &Path) -> Result<Option<Self>> {
        loop {
            let file = Self::open(path)?;
            match fs2::FileExt::try_lock_exclusive(&file) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.raw_os_error() == fs2::lock_contended_error().raw_os_error() => return Ok(None),
                Err(e) => return Err(io_fault("lock", path, e)),
            }
            if let Some(lock) = Self::own(file, path)? {
                return Ok(Some(lock));
            }
        }
    }

    /// The process that holds the lock now, by the kernel's list (proc_locks(5)): anybody may ask, nothing
    /// is opened and nothing is taken.
    #[must_use]
    pub fn holder(path: &Path) -> Option<u32> {
        let meta = std::fs::metadata(path).ok()?;
        let device = meta.dev();
        let file =
            format!("{:02x}:{:02x}:{}", rustix::fs::major(device), rustix::fs::minor(device), meta.ino());
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        holder_in(&locks, &file)
    }

    /// Waits in the kernel's queue, which is served in order: those who only look now and then go
    /// without for ever when many do. flock(2) knows no time-out, so a thread waits; one that we
    /// no longer wait for lets go as soon as it gets the lock, and ends with the process at the latest.
    fn queue(path: &Path, deadline: Deadline) -> Result<Option<Self>> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let path = path.to_owned();
        let waiter = move || {
            let taken = Self::wait(&path);
            // Nobody listens any more: the lock is dropped with the message.
            let _ = sender.send(taken);
        };
        std::thread::Builder::new()
            .name("lock".to_owned())
            .spawn(waiter)
            .map_err(|e| Fault::failed("cannot start the thread that waits for a lock").because(e))?;
        receiver.recv_timeout(deadline.left()).ok().transpose()
    }

    fn wait(path: &Path) -> Result<Self> {
        loop {
            let file = Self::open(path)?;
            match fs2::FileExt::lock_exclusive(&file) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(io_fault("lock", path, e)),
            }
            if let Some(lock) = Self::own(file, path)? {
                return Ok(lock);
            }
        }
    }

    /// The lock on a file that was just locked; `None` when it is no longer the file of that name.
    fn own(mut file: File, path: &Path) -> Result<Option<Self>> {
        // The folder may have been removed while we waited: then this is a lock on nothing.
        let ours = file.metadata().map_err(|e| io_fault("look at", path, e))?;
        match std::fs::metadata(path) {
            Ok(now) if (now.dev(), now.ino()) == (ours.dev(), ours.ino()) => {}
            _ => return Ok(None),
        }
        // For the message of those who wait; not worth failing for.
        let _ = file.rewind();
        let _ = file.write_all(format!("{:<10}\n", std::process::id()).as_bytes());
        Ok(Some(Self { file }))
    }

    fn open(path: &Path) -> Result<File> {
        let mut options = OpenOptions::new();
        // Who can open it can hold it: only its owner.
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        match options.open(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                if let Some(folder) = path.parent() {
                    durable::make_folder(folder, 0o700)?;
                }
                options.open(path).map_err(|e| io_fault("open the lock", path, e))
            }
            other => other.map_err(|e| io_fault("open the lock", path, e)),
        }
    }

    fn busy(path: &Path, what: &str) -> Fault {
        // The kernel knows who holds it, but an overlay's files by another device: then the last of us who took it
        // and still lives.
        let noted = || {
            let mut text = String::new();
            File::open(path).ok()?.take(32).read_to_string(&mut text).ok()?;
            let pid: u32 = text.trim().parse().ok()?;
            Path::new("/proc").join(pid.to_string()).exists().then_some(pid)
        };
        let pid = Self::holder(path).or_else(noted);
        let holder = pid.map_or_else(|| "another process".to_owned(), |p| format!("process {p}"));
        let hint = pid.map_or_else(
            || format!("fuser {} shows who holds it", path.display()),
            |p| format!("ps -p {p} shows what it is; {VARIABLE} sets how many seconds to wait"),
        );
        Fault::failed(format!("{what} is locked by {holder}, and it did not let go in time")).hint(hint)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would do as well; this says it. Through fs2, because std has methods of the same names.
        let _ = fs2::FileExt::unlock(&self.file);
    }
}

/// Who holds the file in the kernel's list; `->` marks one who only waits.
fn holder_in(locks: &str, file: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, on, ..] = words.as_slice() else { return None };
        (*on == file).then(|| pid.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_tells_who_holds_and_not_who_waits() {
        let locks = "1: FLOCK  ADVISORY  WRITE 321 00:17:55 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 999 00:17:66 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 7 00:17:77 0 EOF\n";
        assert_eq!(holder_in(locks, "00:17:55"), Some(321));
        assert_eq!(holder_in(locks, "00:17:66"), None);
        assert_eq!(holder_in(locks, "00:17:77"), None);
    }

    #[test]
    fn a_lock_that_is_held_has_its_holder() -> Result<()> {
        let folder = folder()?;
        let path = folder.path().join("lock");
        assert_eq!(Lock::holder(&path), None);
        let held = Lock::try_take(&path)?;
        // An overlay's files have another device in the kernel's list: then nobody is named.
        assert!(Lock::holder(&path).is_none_or(|pid| pid == std::process::id()));
        drop(held);
        assert_eq!(Lock::holder(&path), None);
        Ok(())
    }

    fn folder() -> Result<tempfile::TempDir> {
        tempfile::tempdir().map_err(|e| Fault::failed("no folder").because(e))
    }

    #[test]
    fn a_second_taker_is_told_who_holds_it() -> Result<()> {
        let folder = folder()?;
        let path = folder.path().join("lock");
        let held = Lock::take(&path, "x", Deadline::after(Duration::from_secs(1)))?;
        let error = Lock::take(&path, "the registry", Deadline::after(Duration::from_millis(20)));
        let text = error.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        drop(held);
        // The one that gave up is still in the queue, and lets go at once.
        let next = Lock::take(&path, "x", Deadline::after(Duration::from_secs(10)))?;
        drop(next);
        Ok(())
    }

    #[test]
    fn a_lock_on_a_removed_file_is_no_lock() -> Result<()> {
        let folder = folder()?;
        let path = folder.path().join("lock");
        let held = Lock::try_take(&path)?;
        std::fs::remove_file(&path).map_err(|e| io_fault("remove", &path, e))?;
        let fresh = Lock::try_take(&path)?;
        assert!(held.is_some() && fresh.is_some() && path.exists());
        Ok(())
    }
}
