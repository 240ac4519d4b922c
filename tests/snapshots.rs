//! What `inspect` prints, what `deploy` writes, and the commonest errors, word by word: `tests/snapshots/`. Where a change is
//! meant, `NAIVE_PTQ_UPDATE=1` writes them anew.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)] // in helpers of tests, too

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `naive-ptq <arguments>` prints in `folder`, and how it ends.
fn printed(folder: &Path, arguments: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_naive-ptq"));
    let output = command.args(arguments.split(' ')).current_dir(folder).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let status = output.status.code().map_or("none".into(), |code| code.to_string());
    format!("$ naive-ptq {arguments}\n{}[{status}]\n", String::from_utf8(text).unwrap())
}

fn compare(name: &str, text: &str) {
    let path = root().join("tests/snapshots").join(name);
    if std::env::var_os("NAIVE_PTQ_UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let changed = text.lines().zip(committed.lines()).find(|(now, before)| now != before);
    assert!(text == committed, "{}: first change {changed:#?}", path.display());
}

#[test]
fn inspect_prints_what_it_printed() {
    let float = printed(root(), "inspect models/fashion/float.onnx");
    compare("inspect_float.txt", &float);
    let golden = root().join("tests/golden");
    for scheme in ["scale_channel", "scale_16_8", "shift_tensor"] {
        let text = printed(&golden, &format!("inspect convolutions.{scheme}.onnx"));
        compare(&format!("inspect_{scheme}.txt"), &text);
    }
}

/// What only this network has; the code of the operators lies beside them.
#[test]
fn deploy_writes_what_it_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let model = root().join("tests/golden/linear.scale_channel.onnx");
    for (target, files) in [
        ("c", &["net.h", "net.c", "test/vectors.h", "Makefile"][..]),
        ("rust", &["src/lib.rs", "tests/vectors.rs"]),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_naive-ptq"));
        command.arg("deploy").arg(&model).args(["--test-vectors", "1", "--target", target]);
        command.args(["-o", target]).current_dir(folder.path());
        assert!(command.output().unwrap().status.success());
        for file in files {
            let text = std::fs::read_to_string(folder.path().join(target).join(file)).unwrap();
            let name = Path::new(file).file_name().unwrap().to_str().unwrap();
            compare(&format!("deployed_{name}.txt"), &text);
        }
    }
}

/// A folder with the files that the commands below name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: PathBuf, to: &str| std::fs::copy(from, folder.path().join(to)).unwrap();
    let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
    copy(root().join("models/fashion/float.onnx"), "float.onnx");
    copy(root().join("models/fashion/calib.npz"), "calib.npz");
    copy(root().join("tests/golden/linear.scale_channel.onnx"), "int8.onnx");
    copy(root().join("tests/golden/linear.x.npy"), "x.npy");
    write("text.onnx", b"not a model");
    write("notes.txt", b"not samples");
    std::fs::create_dir(folder.path().join("full")).unwrap();
    write("full/file", b"something");
    let model = std::fs::read(folder.path().join("int8.onnx")).unwrap();
    write("cut.onnx", &model[..model.len() / 2]);
    // The first node's type: field 4, with its length.
    let place = model.windows(6).position(|window| window == b"\x22\x04Gemm").unwrap();
    write("unknown.onnx", &[&model[..place], b"\x22\x04Lstm", &model[place + 6..]].concat());
    folder
}

#[test]
fn common_errors_say_what_they_said() {
    let folder = folder();
    let commands = [
        "inspect missing.onnx",
        "inspect text.onnx",
        "inspect cut.onnx",
        "inspect unknown.onnx",
        "quantize float.onnx -o out.onnx",
        "quantize float.onnx --calib missing.npz -o out.onnx",
        "quantize float.onnx --calib notes.txt -o out.onnx",
        "quantize float.onnx --calib x.npy -o out.onnx",
        "quantize int8.onnx --calib x.npy -o out.onnx",
        "quantize float.onnx --calib calib.npz --activations 4 -o out.onnx",
        "quantize float.onnx --calib calib.npz --percentile 200 -o out.onnx",
        "quantize float.onnx --calib calib.npz --mean 1,2,3 -o out.onnx",
        "run float.onnx --input calib.npz --codes -o codes.npy",
        "run int8.onnx --input calib.npz -o y.npy",
        "eval int8.onnx --data x.npy",
        "deploy float.onnx --target c -o net",
        "deploy int8.onnx --target c -o full",
        "deploy int8.onnx --target c --name 1net -o net",
        "verify float.onnx --data calib.npz",
        "bench int8.onnx --threads 0",
        "conv --check full",
        "no-such-command",
    ];
    let text = commands.map(|arguments| printed(folder.path(), arguments)).join("\n");
    compare("errors.txt", &text);
}
