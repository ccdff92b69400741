//! Files, links and folders: made whole or not at all.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::model::{Fault, Result};

/// A path of the host below another root.
pub(super) fn under(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn failed<'a>(verb: &'a str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Fault + 'a {
    move |e| Fault::failed(format!("cannot {verb} {}", path.display())).because(e)
}

/// A file's bytes; `None` where there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path)(e)),
    }
}

/// Whether anything is at a path, and a link's target.
pub(super) fn look(path: &Path) -> Result<(bool, Option<PathBuf>)> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => {
            fs::read_link(path).map(|target| (true, Some(target))).map_err(failed("read", path))
        }
        Ok(_) => Ok((true, None)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok((false, None)),
        Err(e) => Err(failed("look at", path)(e)),
    }
}

/// The folders above `path` that are not there, outer first.
pub(super) fn missing_folders(root: &Path, path: &Path) -> Vec<PathBuf> {
    let mut missing: Vec<_> = path
        .ancestors()
        .skip(1)
        .take_while(|folder| !under(root, folder).is_dir())
        .map(Path::to_path_buf)
        .collect();
    missing.reverse();
    missing
}

/// Makes a folder, whatever the umask is.
pub(super) fn make_folder(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new().mode(mode).create(path).map_err(failed("make the folder", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed("set the mode of", path))
}

/// Removes a folder if it is empty; whether it is gone.
pub(super) fn remove_folder(path: &Path) -> Result<bool> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(true),
        Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(e) => Err(failed("remove the folder", path)(e)),
    }
}

/// Removes a file or a link; whether it was there.
pub(super) fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(failed("remove", path)(e)),
    }
}

/// Makes a link, or turns one that is there, in one step: libvirt may look at any moment. `aside` is
/// a name in a folder where nobody looks.
pub(super) fn link(target: &Path, path: &Path, aside: &Path) -> Result<()> {
    remove(aside)?;
    std::os::unix::fs::symlink(target, aside).map_err(failed("make the link", aside))?;
    fs::rename(aside, path).map_err(|e| {
        let _ = fs::remove_file(aside);
        failed("make the link", path)(e)
    })?;
    flush_folder(path)
}

/// Writes a file whole, and so that a crash keeps it: aside, flushed, renamed, the folder flushed.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".").tempfile_in(folder).map_err(failed("write", path))?;
    file.write_all(bytes).map_err(failed("write", path))?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode)).map_err(failed("write", path))?;
    file.as_file().sync_all().map_err(failed("write", path))?;
    file.persist(path).map_err(|e| failed("write", path)(e.error))?;
    flush_folder(path)
}

/// Makes a name in a folder outlast a crash (fsync(2)).
fn flush_folder(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::File::open(folder).and_then(|f| f.sync_all()).map_err(failed("flush", folder))
}
