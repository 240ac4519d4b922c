//! What an earlier `deploy` left in a folder, told from a user's own files by its text.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// In `net.h` and `lib.rs`: there is a network in the folder.
const NETWORK: &str = "written by naive-ptq";
/// Each other file that is emitted has one of these near its beginning.
const MARKS: [&str; 15] = [
    NETWORK,
    "`int.rs`",
    "`arith.rs`",
    "Integer reference of",
    "The integer arithmetic that",
    "Compile this file alone: it includes the kernels",
    "the product that conv and",
    "Arm's DSP extension",
    "# make         compiles the network",
    "Runs the test vectors",
    "Test vectors of",
    "naiveptq",
    "A module of naive-ptq",
    "The outputs of the reference.",
    "# No dependencies, and no part of any workspace around it.",
];
/// Where emitted files lie, and in folders of `test`.
const FOLDERS: [&str; 6] = ["", "src", "test", "tests", "zephyr", "examples/run"];

/// The files, as paths in `folder`, that belong to a network written there before; none if there is none.
pub fn written_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut is_network = false;
    let entries = fs::read_dir(folder.join("test")).into_iter().flatten().flatten();
    let of_networks = entries.map(|entry| Path::new("test").join(entry.file_name()));
    for sub in FOLDERS.map(PathBuf::from).into_iter().chain(of_networks) {
        for entry in fs::read_dir(folder.join(&sub)).into_iter().flatten().flatten() {
            let text = match entry.file_type() {
                Ok(kind) if kind.is_file() => beginning(&entry.path()),
                _ => continue,
            };
            is_network |= text.contains(NETWORK);
            if MARKS.iter().any(|mark| text.contains(mark)) {
                files.push(sub.join(entry.file_name()));
            }
        }
    }
    if is_network { files } else { Vec::new() }
}

fn beginning(path: &Path) -> String {
    let mut bytes = Vec::new();
    let file = File::open(path).map(|file| file.take(1000));
    // What cannot be read is nobody's.
    let _ = file.and_then(|mut file| file.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_user_are_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("src")).unwrap();
        for (name, text) in [
            ("net.c", "/* See net.h. Compile this file alone: it includes the kernels */"),
            ("src/conv.rs", "//! Integer reference of `conv`."),
            ("mine.c", "int main(void) { return 0; }"),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        assert!(written_files(dir.path()).is_empty(), "no network, no files of it");
        fs::write(dir.path().join("net.h"), "/* written by naive-ptq 0.1.0 */").unwrap();
        let mut files = written_files(dir.path());
        files.sort();
        assert_eq!(files, ["net.c", "net.h", "src/conv.rs"].map(PathBuf::from));
    }
}
