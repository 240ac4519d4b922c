//! Temporary files and folders that can be told from all others, and are removed however a process ends.
//!
//! Their names are `.naive-ptq-….tmp`. A process holds a lock on each of its own: [`sweep`] removes those of
//! processes that were killed. A handler of signals calls [`remove_temporaries`].

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

const PREFIX: &str = ".naive-ptq-";
const SUFFIX: &str = ".tmp";
/// The file in a temporary folder that is locked.
const LOCK: &str = "lock";

/// Those of this process, and whether they are folders.
static LIVE: Mutex<BTreeMap<PathBuf, bool>> = Mutex::new(BTreeMap::new());

fn live() -> MutexGuard<'static, BTreeMap<PathBuf, bool>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A temporary file or folder, which is removed when this is dropped.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    /// The file, or the one in the folder that is locked.
    file: File,
}

impl Temporary {
    /// A new folder in `parent`, for this user only.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn folder_in(parent: &Path) -> io::Result<Self> {
        Self::create(parent, true)
    }

    /// A new, empty file in `parent`.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn file_in(parent: &Path) -> io::Result<Self> {
        Self::create(parent, false)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    fn create(parent: &Path, is_folder: bool) -> io::Result<Self> {
        sweep(parent);
        for attempt in 0..100 {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let name = format!("{PREFIX}{:x}-{now:x}-{attempt}{SUFFIX}", std::process::id());
            let path = std::path::absolute(parent)?.join(name);
            if live().insert(path.clone(), is_folder).is_some() {
                continue; // Another thread asked in this very moment.
            }
            match create_locked(&path, is_folder) {
                Ok(file) => return Ok(Self { path, file }),
                Err(error) => {
                    remove(&path, is_folder);
                    live().remove(&path);
                    // Another process has the name, or took it for one that a dead process left.
                    if !matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::WouldBlock) {
                        return Err(error);
                    }
                }
            }
        }
        Err(io::Error::new(ErrorKind::AlreadyExists, "no name is left for a temporary file"))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let is_folder = live().get(&self.path).copied().unwrap_or_default();
        remove(&self.path, is_folder);
        live().remove(&self.path);
    }
}

fn create_locked(path: &Path, is_folder: bool) -> io::Result<File> {
    let mut lock = path.to_path_buf();
    if is_folder {
        private_folder().create(path)?;
        lock.push(LOCK);
    }
    let swept = |_| io::Error::from(ErrorKind::WouldBlock);
    let file = match File::create_new(&lock) {
        Err(error) if is_folder && error.kind() == ErrorKind::NotFound => return Err(swept(error)),
        file => file?,
    };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
        // Where files cannot be locked, what a killed process leaves stays.
        Err(TryLockError::Error(_)) => Ok(file),
        Ok(()) => fs::metadata(&lock).map_err(swept).map(|_| file),
    }
}

#[cfg(unix)]
fn private_folder() -> DirBuilder {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

#[cfg(not(unix))]
fn private_folder() -> DirBuilder {
    DirBuilder::new()
}

/// Errors are none: it may have been moved to its place.
fn remove(path: &Path, is_folder: bool) {
    if !is_folder {
        let _ = fs::remove_file(path);
        return;
    }
    // The lock last, so that what is left by a kill in between can be told.
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if entry.file_name() != LOCK {
            let remove = if is_folder { fs::remove_dir_all } else { fs::remove_file };
            let _ = remove(entry.path());
        }
    }
    let _ = fs::remove_dir_all(path);
}

/// Whether a file or folder of this name is a temporary one.
pub(super) fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
}

/// Removes from `folder` what killed processes left there; whether there was something.
pub(super) fn sweep(folder: &Path) -> bool {
    let mut found = false;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        if let (true, Ok(kind)) = (is_temporary(&entry.file_name()), kind) {
            found |= sweep_one(&path, kind.is_dir());
        }
    }
    found
}

fn sweep_one(path: &Path, is_folder: bool) -> bool {
    let lock = if is_folder { path.join(LOCK) } else { path.to_path_buf() };
    match fs::symlink_metadata(&lock) {
        Ok(metadata) if metadata.is_file() => {}
        // Killed before there was a lock in it.
        Err(_) if is_folder => return fs::remove_dir(path).is_ok(),
        _ => return false,
    }
    match File::open(&lock) {
        Ok(file) if file.try_lock().is_ok() => {
            remove(path, is_folder);
            true
        }
        _ => false,
    }
}

/// Removes all temporary files and folders of this process, which cannot make new ones afterwards: it is
/// about to end.
pub fn remove_temporaries() {
    let live = live();
    live.iter().for_each(|(path, &is_folder)| remove(path, is_folder));
    std::mem::forget(live);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn temporaries_live_as_long_as_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let file = Temporary::file_in(dir.path()).unwrap();
        let folder = Temporary::folder_in(dir.path()).unwrap();
        fs::write(folder.path().join("a"), "a").unwrap();
        assert!(!sweep(dir.path()), "they are locked");
        assert_eq!(names(dir.path()).len(), 2);
        drop((file, folder));
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn those_of_dead_processes_are_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at(".naive-ptq-1-2-0.tmp"), "half of a file").unwrap();
        for folder in
            [".naive-ptq-1-3-0.tmp", ".naive-ptq-1-4-0.tmp/folder/src", ".naive-ptq-own.tmp/a"]
        {
            fs::create_dir_all(at(folder)).unwrap();
        }
        fs::write(at(".naive-ptq-1-4-0.tmp/lock"), "").unwrap();
        for other in [".naive-ptq-1", "a.tmp", ".tmpabc"] {
            fs::write(at(other), "").unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(at("a.tmp"), at(".naive-ptq-link.tmp")).unwrap();
        assert!(sweep(dir.path()));
        let mut left = names(dir.path());
        left.retain(|name| name != ".naive-ptq-link.tmp");
        left.sort();
        assert_eq!(left, [".naive-ptq-1", ".naive-ptq-own.tmp", ".tmpabc", "a.tmp"]);
        assert!(!sweep(dir.path()));
    }
}
