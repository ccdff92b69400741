//! Files that survive a crash: written aside, flushed, renamed into place, the folder flushed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use crate::model::{Fault, Kind, Result};

/// The start of the names of files that are being written. Nothing else begins so.
pub const ASIDE: &str = ".new-";

/// Turns an I/O error into a fault that names the path and, for the usual causes, the way out.
#[must_use]
pub fn io_fault(what: &str, path: &Path, error: std::io::Error) -> Fault {
    let shown = path.display();
    let fault = Fault::new(
        if error.kind() == ErrorKind::NotFound { Kind::Missing } else { Kind::Failed },
        format!("cannot {what} {shown}"),
    );
    let fault = match error.kind() {
        ErrorKind::PermissionDenied => fault
            .hint("run it as root (sudo), or move the folders with --state-dir, --config-dir and --run-dir"),
        ErrorKind::StorageFull => {
            fault.hint(format!("free some space on the file system of {shown}; nothing was changed"))
        }
        _ => fault,
    };
    fault.because(error)
}

/// Makes a folder with these permissions where it is missing, its parents with 0755.
pub fn make_folder(path: &Path, mode: u32) -> Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(|e| io_fault("set the permissions of", path, e)),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                make_folder(parent, 0o755)?;
            }
            match DirBuilder::new().mode(mode).create(path) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(io_fault("make the folder", path, e)),
                _ => Ok(()),
            }
        }
        Err(e) => Err(io_fault("make the folder", path, e)),
    }
}

/// How sure a write is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// Old or new after a crash of the host, never anything else: file and folder are flushed.
    Durable,
    /// Old or new for every reader; what a crash of the host leaves of it can be made again.
    Atomic,
}

/// Replaces a file as a whole. Returns the new file's metadata, taken before it got its name.
pub fn replace(path: &Path, bytes: &[u8], mode: u32, care: Care) -> Result<fs::Metadata> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    // Our own number makes it ours alone: a number is used again only after its process is gone,
    // and threads of one process write under a lock.
    let aside =
        folder.join(format!("{ASIDE}{}-{:?}-{name}", std::process::id(), std::thread::current().id()));
    let result = write_aside(&aside, bytes, mode, care).and_then(|metadata| {
        fs::rename(&aside, path).map_err(|e| io_fault("replace", path, e))?;
        if care == Care::Durable {
            sync_folder(folder)?;
        }
        Ok(metadata)
    });
    if result.is_err() {
        let _ = fs::remove_file(&aside);
    }
    result
}

fn write_aside(aside: &Path, bytes: &[u8], mode: u32, care: Care) -> Result<fs::Metadata> {
    let fault = |e| io_fault("write", aside, e);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(aside).map_err(fault)?;
    // The process's umask must not decide who can read it.
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(fault)?;
    file.write_all(bytes).map_err(fault)?;
    // The kernel stamps files with a clock of some milliseconds; the index needs stamps that differ.
    file.set_modified(SystemTime::now()).map_err(fault)?;
    if care == Care::Durable {
        file.sync_all().map_err(fault)?;
    }
    file.metadata().map_err(fault)
}

/// Flushes a folder, so that names in it survive a crash (fsync(2)).
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| io_fault("flush the folder", folder, e))
}

/// Removes a file durably; one that is gone already is fine.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_folder),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(io_fault("remove", path, e)),
    }
}

/// Reads a whole text file, `None` where there is none.
pub fn read_text(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_fault("read", path, e)),
    }
}
