//! Output files that are whole or not there.

use std::fs::{self, Permissions};
use std::io::Write;
use std::path::Path;

use crate::error::{Context, Result, bail};

/// Writes `bytes` to a new file beside `path`, then renames it to `path`: an interrupted run leaves
/// the old file as it was.
///
/// A link is followed. What is neither a file nor missing (`/dev/stdout`) is written to directly.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io), naming `path`.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    replace(path, bytes).in_file(path)
}

/// Checks that the folder of `path` is there, so that long work need not fail at its end.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io), naming `path`.
pub fn check_folder(path: &Path) -> Result<()> {
    fs::metadata(folder(path)).map(|_| ()).in_file(path)
}

/// Writes `files`, whose names may lie in subfolders, into the folder `to`, which must be missing or empty.
/// They are written to a folder beside it, or in it if it is there, and moved when all are whole. With
/// `force` they are written, file by file, into whatever is there.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) or [`Error::Invalid`](crate::Error::Invalid), naming the path.
pub fn write_folder(to: &Path, files: &[(String, String)], force: bool) -> Result<()> {
    let is_empty = |folder: &Path| fs::read_dir(folder).map(|mut entries| entries.next().is_none());
    if to.exists() && !is_empty(to).in_file(to)? {
        if !force {
            bail!(Invalid, "{} is not empty (--force writes into it)", to.display());
        }
        for (name, text) in files {
            let path = to.join(name);
            fs::create_dir_all(folder(&path)).in_file(&path)?;
            write_atomic(&path, text.as_bytes())?;
        }
        return Ok(());
    }
    // A trailing slash is not part of the name.
    let to: &Path = &to.components().collect::<std::path::PathBuf>();
    let is_there = to.exists();
    let beside = if is_there { to } else { folder(to) };
    let new = tempfile::Builder::new().prefix(".naive-ptq-").tempdir_in(beside).in_file(to)?;
    // Its own mode is private to this user; a folder made in it has the ordinary one.
    let inner = new.path().join("folder");
    for (name, text) in files {
        let path = inner.join(name);
        fs::create_dir_all(folder(&path)).in_file(&path)?;
        fs::write(&path, text).in_file(&path)?;
    }
    if !is_there {
        return fs::rename(&inner, to).in_file(to);
    }
    // It may be a link, a mount, or where the shell is: it stays.
    for entry in fs::read_dir(&inner).in_file(to)? {
        let entry = entry.in_file(to)?;
        fs::rename(entry.path(), to.join(entry.file_name())).in_file(to)?;
    }
    Ok(())
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    if target.exists() && !target.is_file() {
        return fs::write(target, bytes);
    }
    let mut builder = tempfile::Builder::new();
    if let Some(permissions) = ordinary_permissions() {
        builder.permissions(permissions);
    }
    let mut file = builder.tempfile_in(folder(&target))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(target)?;
    Ok(())
}

/// Those of `File::create`, from which the process's umask is subtracted.
#[cfg(unix)]
fn ordinary_permissions() -> Option<Permissions> {
    use std::os::unix::fs::PermissionsExt;
    Some(Permissions::from_mode(0o666))
}

#[cfg(not(unix))]
fn ordinary_permissions() -> Option<Permissions> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_files_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.bin");
        write_atomic(&path, b"a longer old text").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn errors_name_the_target() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().join("missing/out.bin"), dir.path().to_path_buf()] {
            let error = write_atomic(&path, b"new").unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}: ", path.display())), "{error}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn permissions_and_links_are_those_of_an_ordinary_write() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let [ordinary, path, link] = ["ordinary", "path", "link"].map(|n| dir.path().join(n));
        fs::write(&ordinary, b"").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_atomic(&path, b"old").unwrap();
        write_atomic(&link, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(link.is_symlink());
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&ordinary));
    }
}
