//! Whatever a file calls its tensors, what is printed is plain, short text, and JSON keeps the names; and
//! where nothing can be printed, the status still tells.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod tools;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tools::{programs, pseudo_random, save, scratch};

fn run(dir: &Path, arguments: &str) -> Output {
    let binary = env!("CARGO_BIN_EXE_naive-ptq");
    Command::new(binary).args(arguments.split(' ')).current_dir(dir).output().unwrap()
}

fn varint(mut n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n > 0x7f {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

/// A field of protobuf that holds text or a message.
fn field(number: usize, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint(number << 3 | 2), varint(content.len()), content.to_vec()].concat()
}

fn number(number: usize, value: usize) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

/// `y = Relu(Neg(x))` of shape `[1, 4]`, with `operator` instead of Neg, and this in every name.
fn model(name: &str, operator: &str) -> Vec<u8> {
    let [x, t, y] = ["x", "t", "y"].map(|v| format!("{v}{name}"));
    let node = |operator: &str, x: &str, y: &str| {
        let name = field(3, format!("{operator}{name}"));
        field(1, [field(1, x), field(2, y), name, field(4, operator)].concat())
    };
    let value = |name: &str| {
        let dims = [field(1, number(1, 1)), field(1, number(1, 4))].concat();
        let tensor = [number(1, 1), field(2, dims)].concat();
        [field(1, name), field(2, field(1, tensor))].concat()
    };
    let graph = [
        node(operator, &x, &t),
        node("Relu", &t, &y),
        field(2, name),
        field(11, value(&x)),
        field(12, value(&y)),
    ];
    [number(1, 8), field(7, graph.concat()), field(8, number(2, 17))].concat()
}

/// Line feeds, colours, titles, directions of writing, other ends of lines; and long ones.
fn names() -> Vec<String> {
    let hostile = "\nerror: b\r\x1b[31m\x1b]0;title\x07\u{202e}\u{2028}\u{2029}\u{85}\u{9b}\u{200b}\t\u{7f}*/";
    let long = |n: usize| "n".repeat(n);
    vec![hostile.into(), "\0".into(), long(65_536), long(100_000), hostile.repeat(5000)]
}

#[track_caller]
fn is_plain(what: &str, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap();
    let steers = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(steers), "{what}: {text:?}");
    assert!(text.lines().all(|line| !line.starts_with("error: b")), "{what}: {text}");
}

/// Standard output, and whether it went well.
#[track_caller]
fn plain(dir: &Path, arguments: &str) -> (String, bool) {
    let Output { status, stdout, stderr } = run(dir, arguments);
    is_plain(arguments, &stdout);
    is_plain(arguments, &stderr);
    assert!(matches!(status.code(), Some(0 | 2)), "{arguments}: {status}");
    // inspect lists all operator types that are not known.
    let lines = if arguments.starts_with("inspect") { 2 } else { 1 };
    assert!(
        stderr.len() < 4000 && stderr.iter().filter(|&&b| b == b'\n').count() <= lines,
        "{arguments}"
    );
    assert_eq!(
        stderr.is_empty(),
        status.success(),
        "{arguments}: {}",
        String::from_utf8_lossy(&stderr)
    );
    if !arguments.contains("--json") {
        let long = stdout.split(|&b| b == b'\n').map(<[u8]>::len).max();
        assert!(long < Some(900), "{arguments}: a line of {long:?} bytes");
    }
    (String::from_utf8(stdout).unwrap(), status.success())
}

#[test]
fn names_do_not_steer_the_terminal() {
    let compile = programs(&["cc"]);
    for name in names() {
        let dir = scratch();
        let dir = dir.path();
        fs::write(dir.join("float.onnx"), model(&name, "Neg")).unwrap();
        fs::write(dir.join("unknown.onnx"), model(&name, "Frobnicate")).unwrap();
        fs::write(dir.join("operator.onnx"), model("", &name)).unwrap();
        save(&dir.join("x.npy"), &[pseudo_random(&[12, 4], 1)]);
        save(&dir.join("narrow.npy"), &[pseudo_random(&[2, 3], 1)]);

        for refused in ["unknown.onnx", "operator.onnx"] {
            assert!(!plain(dir, &format!("inspect {refused}")).1);
        }
        let (json, good) = plain(dir, "inspect float.onnx --json");
        assert!(good);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["name"], name);
        assert_eq!(json["inputs"][0]["name"], format!("x{name}"));
        assert_eq!(json["nodes"][1]["name"], format!("Relu{name}"));

        for (command, is_good) in [
            ("inspect float.onnx", true),
            ("quantize float.onnx --calib narrow.npy -o int8.onnx", false),
            ("quantize float.onnx --calib x.npy -o int8.onnx", true),
            ("quantize float.onnx --calib x.npy --calib-stats stats.json", true),
            ("quantize unknown.onnx --calib x.npy -o int8.onnx", false),
            ("inspect int8.onnx", true),
            ("inspect int8.onnx --json", true),
            ("run int8.onnx --input x.npy -o y.npy", true),
            ("run int8.onnx --input narrow.npy -o y.npy", false),
            ("eval int8.onnx --data x.npy --reference float.onnx", true),
            ("bench int8.onnx --runs 1 --layers", true),
            ("deploy int8.onnx --target c -o c", true),
            ("deploy int8.onnx --target rust -o rust", true),
            ("verify int8.onnx --data x.npy --targets engine --layers", true),
            ("verify int8.onnx --data x.npy --targets c --layers", compile),
        ] {
            if command.contains("--targets c") && !compile {
                continue;
            }
            assert_eq!(plain(dir, command).1, is_good, "{command}");
        }
    }
}

/// An error on standard output is one like any other; one on standard error leaves the status.
#[cfg(target_os = "linux")]
#[test]
fn statuses_are_right_where_nothing_can_be_printed() {
    let dir = scratch();
    fs::write(dir.path().join("float.onnx"), model("", "Neg")).unwrap();
    let status = |arguments: &str, out: Stdio, err: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_naive-ptq"));
        command.args(arguments.split(' ')).current_dir(dir.path());
        command.stdout(out).stderr(err).status().unwrap().code()
    };
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap());
    let closed = || Stdio::from(std::io::pipe().unwrap().1);
    for (arguments, good) in
        [("inspect float.onnx", true), ("inspect missing", false), ("--help", true), ("odd", false)]
    {
        let expected = Some(if good { 0 } else { 2 });
        assert_eq!(status(arguments, Stdio::null(), full()), expected, "2>/dev/full {arguments}");
        assert_eq!(status(arguments, Stdio::null(), closed()), expected, "2>&- {arguments}");
        assert_eq!(status(arguments, closed(), Stdio::null()), expected, "| true {arguments}");
        assert_eq!(status(arguments, full(), Stdio::null()), Some(2), ">/dev/full {arguments}");
        assert_eq!(status(arguments, full(), full()), Some(2), "&>/dev/full {arguments}");
    }
}
