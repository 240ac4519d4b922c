//! Output files and folders that are whole or not there.
//!
//! What is written goes to a temporary place beside its target, onto the disk, and then to its name. A process
//! that is killed leaves the old or the new, and perhaps a temporary file or folder, which the next one that
//! writes there removes.

use std::fs;
use std::io::{self, Error, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::temporary::{Temporary, is_temporary, sweep};
use crate::error::{Context, Result, bail};

/// Writes `bytes` to a new file beside `path`, then renames it to `path`: an interrupted run leaves
/// the old file as it was.
///
/// A link is followed, also one to a file that is not there yet. What is neither a file nor missing
/// (`/dev/stdout`) is written to directly.
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
    follow(path).and_then(|path| fs::metadata(folder(&path))).map(|_| ()).in_file(path)
}

/// Checks that the folders of all `paths` are there, and that no two of them are the same file, nor one of `sources`.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) or [`Error::Invalid`](crate::Error::Invalid), naming the path.
pub fn check_outputs(paths: &[&Path], sources: &[&Path]) -> Result<()> {
    let sources = Vec::from_iter(sources.iter().filter_map(|source| fs::canonicalize(source).ok()));
    let mut seen = std::collections::BTreeSet::new();
    for path in paths {
        check_folder(path)?;
        let target = follow(path).in_file(path)?;
        let is_file = !target.exists() || target.is_file();
        let target = fs::canonicalize(folder(&target)).in_file(path)?.join(file_name(&target));
        if is_file && sources.contains(&target) {
            bail!(Invalid, "{} is to be written, and is read, too", path.display());
        }
        if is_file && !seen.insert(target) {
            bail!(Invalid, "{} is to be written twice", path.display());
        }
    }
    Ok(())
}

/// Writes `files`, whose names may lie in subfolders, into the folder `to`, which must be missing or empty.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) or [`Error::Invalid`](crate::Error::Invalid), naming the path.
pub fn write_folder<T: AsRef<[u8]>>(to: &Path, files: &[(String, T)]) -> Result<()> {
    let is_unfinished = sweep(to);
    let is_empty = |folder: &Path| {
        let mut entries = fs::read_dir(folder)?;
        io::Result::Ok(entries.all(|entry| entry.is_ok_and(|e| is_temporary(&e.file_name()))))
    };
    if to.exists() && !is_unfinished && !is_empty(to).in_file(to)? {
        bail!(Invalid, "{} is not empty (--force writes into it)", to.display());
    }
    update_folder(to, files, &[])
}

/// Writes `files` into the folder `to`, which may be there, and removes those of `stale`, paths in it. All
/// other files in it stay as they are.
///
/// The new folder is made beside the old one and takes its place in one step. Where the system cannot do that
/// —`to` is a mount, or the current folder, which would not be seen to change— files are moved into it one by
/// one; then a kill in between leaves a part of them, and the next call goes on.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io), naming the path.
pub fn update_folder<T: AsRef<[u8]>>(
    to: &Path,
    files: &[(String, T)],
    stale: &[PathBuf],
) -> Result<()> {
    // A trailing slash is not part of the name.
    let target = follow(&to.components().collect::<PathBuf>()).in_file(to)?;
    sweep(&target);
    match replace_folder(&target, files, stale) {
        Err(_) if target.is_dir() => fill_folder(&target, files, stale).in_file(to),
        result => result.in_file(to),
    }
}

fn replace_folder<T: AsRef<[u8]>>(
    to: &Path,
    files: &[(String, T)],
    stale: &[PathBuf],
) -> io::Result<()> {
    let is_there = to.is_dir();
    if is_there && std::env::current_dir()?.starts_with(to.canonicalize()?) {
        return Err(ErrorKind::Unsupported.into());
    }
    let temporary = Temporary::folder_in(folder(to))?;
    // Its own mode is private to this user; a folder made in it has the ordinary one.
    let new = temporary.path().join("folder");
    write_files(&new, files)?;
    if is_there {
        keep_files(to, &new, &|path| stale.iter().any(|stale| to.join(stale) == *path))?;
        fs::set_permissions(&new, fs::metadata(to)?.permissions())?;
    }
    // An empty folder is replaced by a simple rename, too.
    match fs::rename(&new, to) {
        Err(_) if is_there => exchange(&new, to)?,
        result => result?,
    }
    sync_folder(folder(to))
}

/// Writes the files into `to` itself.
fn fill_folder<T: AsRef<[u8]>>(
    to: &Path,
    files: &[(String, T)],
    stale: &[PathBuf],
) -> io::Result<()> {
    let temporary = Temporary::folder_in(to)?;
    let new = temporary.path().join("folder");
    write_files(&new, files)?;
    for (name, _) in files {
        fs::create_dir_all(folder(&to.join(name)))?;
        fs::rename(new.join(name), to.join(name))?;
    }
    for path in stale {
        match fs::remove_file(to.join(path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync_folder(to)
}

/// Writes new files, and waits until they are on the disk.
fn write_files<T: AsRef<[u8]>>(to: &Path, files: &[(String, T)]) -> io::Result<()> {
    fs::create_dir(to)?;
    for (name, content) in files {
        let path = to.join(name);
        fs::create_dir_all(folder(&path))?;
        let mut file = fs::File::create_new(path)?;
        file.write_all(content.as_ref())?;
        file.sync_all()?;
    }
    let folders: std::collections::BTreeSet<_> =
        files.iter().map(|(name, _)| folder(&to.join(name)).to_path_buf()).collect();
    folders.iter().try_for_each(|folder| sync_folder(folder))?;
    sync_folder(to)
}

/// Links everything in `old` that is not in `new` into it, but those `left_out`; returns whether there were such.
fn keep_files(old: &Path, new: &Path, left_out: &dyn Fn(&PathBuf) -> bool) -> io::Result<bool> {
    let mut left = false;
    for entry in fs::read_dir(old)? {
        let entry = entry?;
        let (from, to, kind) = (entry.path(), new.join(entry.file_name()), entry.file_type()?);
        if is_temporary(&entry.file_name()) || left_out(&from) {
            left = true;
        } else if kind.is_dir() {
            let is_new = !to.exists();
            if is_new {
                fs::create_dir(&to)?;
                fs::set_permissions(&to, entry.metadata()?.permissions())?;
            }
            if keep_files(&from, &to, left_out)? && is_new {
                // It may have become empty.
                let _ = fs::remove_dir(&to);
            }
        } else if fs::symlink_metadata(&to).is_err() {
            link(&from, &to, kind.is_symlink())?;
        }
    }
    Ok(left)
}

#[cfg(unix)]
fn link(from: &Path, to: &Path, is_symlink: bool) -> io::Result<()> {
    match is_symlink {
        true => std::os::unix::fs::symlink(fs::read_link(from)?, to),
        false => fs::hard_link(from, to),
    }
}

#[cfg(not(unix))]
fn link(_: &Path, _: &Path, _: bool) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Exchanges two folders in one step.
#[cfg(target_os = "linux")]
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Waits until the names in a folder are on the disk; where that cannot be had, a crash of the system may
/// bring the old ones back.
fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    let _ = fs::File::open(folder)?.sync_all();
    Ok(())
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn file_name(path: &Path) -> &std::ffi::OsStr {
    path.file_name().unwrap_or_default()
}

/// Where `path` leads to; the last file of a chain of links need not be there.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(to) => path = folder(&path).join(to),
            Err(_) => return Ok(path),
        }
    }
    Err(Error::other("too many links"))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.exists() && !path.is_file() {
        return fs::write(path, bytes);
    }
    let target = follow(path)?;
    let temporary = Temporary::file_in(folder(&target))?;
    temporary.file().write_all(bytes)?;
    temporary.file().sync_all()?;
    fs::rename(temporary.path(), &target)?;
    sync_folder(folder(&target))
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

    fn tree(folder: &Path) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_string();
            if path.is_dir() && !path.is_symlink() {
                let inner = tree(&path).into_iter().map(|(n, t)| (format!("{name}/{n}"), t));
                all.extend(inner);
            } else {
                let text = fs::read_to_string(&path).unwrap_or("no file".into());
                all.push((name, text));
            }
        }
        all.sort();
        all
    }

    fn files<const N: usize>(files: [(&str, &str); N]) -> Vec<(String, String)> {
        files.map(|(name, text)| (name.to_string(), text.to_string())).to_vec()
    }

    #[test]
    fn folders_are_written_where_there_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let new = files([("a", "1"), ("src/b", "2")]);
        let empty = dir.path().join("empty");
        fs::create_dir(&empty).unwrap();
        for to in [dir.path().join("missing/"), empty] {
            write_folder(&to, &new).unwrap();
            assert_eq!(tree(&to), new);
            let error = write_folder(&to, &new).unwrap_err().to_string();
            assert_eq!(error, format!("{} is not empty (--force writes into it)", to.display()));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        let error = write_folder(&dir.path().join("missing/a"), &new).unwrap_err().to_string();
        assert!(error.contains("missing/a: "), "{error}");
    }

    #[test]
    fn folders_are_updated_and_keep_what_is_not_theirs() {
        for in_place in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let to = dir.path().join("net");
            let old = files([("a", "1"), ("old/b", "2"), ("src/c", "3"), ("src/own/d", "4")]);
            write_folder(&to, &old).unwrap();
            #[cfg(unix)]
            std::os::unix::fs::symlink("nowhere", to.join("link")).unwrap();
            let (new, stale) = (files([("a", "5"), ("e", "6")]), ["old/b".into()]);
            match in_place {
                false => replace_folder(&to, &new, &stale).unwrap(),
                true => fill_folder(&to, &new, &stale).unwrap(),
            }
            let mut left = tree(&to);
            left.retain(|(name, _)| name != "link");
            let expected = [("a", "5"), ("e", "6"), ("src/c", "3"), ("src/own/d", "4")];
            assert_eq!(left, files(expected), "in place: {in_place}");
            #[cfg(unix)]
            assert!(to.join("link").is_symlink());
            assert_eq!(to.join("old").exists(), in_place);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_killed_run_is_finished_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let part = files([
            ("a", "half"),
            (".naive-ptq-1-1-0.tmp/lock", ""),
            (".naive-ptq-1-1-0.tmp/folder/b", ""),
        ]);
        for (name, text) in part {
            let path = dir.path().join(name);
            fs::create_dir_all(folder(&path)).unwrap();
            fs::write(path, text).unwrap();
        }
        let new = files([("a", "1"), ("b", "2")]);
        write_folder(dir.path(), &new).unwrap();
        assert_eq!(tree(dir.path()), new);
    }

    #[cfg(unix)]
    #[test]
    fn links_to_what_is_not_there_yet_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (link, to) in
            [("one", "two"), ("two", "file"), ("net", "folder"), ("a", "b"), ("b", "a")]
        {
            std::os::unix::fs::symlink(to, at(link)).unwrap();
        }
        check_folder(&at("one")).unwrap();
        write_atomic(at("one"), b"new").unwrap();
        assert_eq!(fs::read(at("file")).unwrap(), b"new");
        write_folder(&at("net"), &files([("a", "1")])).unwrap();
        assert_eq!(tree(&at("folder")), files([("a", "1")]));
        assert!(["one", "two", "net"].iter().all(|link| at(link).is_symlink()));
        assert!(write_atomic(at("a"), b"").unwrap_err().to_string().ends_with("too many links"));
    }

    #[test]
    fn no_file_is_an_output_twice() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "./a"].map(|name| dir.path().join(name));
        let other = dir.path().join("b");
        check_outputs(&[&a, &other], &[&b]).unwrap();
        let error = check_outputs(&[&a, &other, &b], &[]).unwrap_err().to_string();
        assert_eq!(error, format!("{} is to be written twice", b.display()));
        #[cfg(unix)]
        {
            check_outputs(&[Path::new("/dev/null"), Path::new("/dev/null")], &[]).unwrap();
            std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
            assert!(check_outputs(&[&a, &dir.path().join("link")], &[]).is_err());
        }
    }
}
