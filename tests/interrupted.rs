//! A run that is killed or interrupted leaves each output old, new, or missing, and nothing that bothers
//! the next run.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tools::{fashion, programs, pseudo_random, save, scratch, text};

const BINARY: &str = env!("CARGO_BIN_EXE_naive-ptq");
/// System calls that change files, or open them.
const CALLS: &str =
    "openat,write,fsync,rename,renameat2,mkdir,unlink,unlinkat,rmdir,linkat,symlink,chmod,flock";
/// Of the points of one job, so many are tried: all with NAIVE_PTQ_ALL_POINTS=1.
const POINTS: usize = 6;

/// What `out` is before the run.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    File,
    EmptyFolder,
    /// A network of another target, and a file of a user.
    Network,
}

/// Names and contents of all files.
type Tree = Option<BTreeMap<String, Vec<u8>>>;

fn tree(path: &Path) -> Tree {
    let mut all = BTreeMap::new();
    if path.is_file() {
        all.insert(String::new(), fs::read(path).unwrap());
    } else {
        let entries = fs::read_dir(path).ok()?;
        for entry in entries.map(|entry| entry.unwrap()) {
            let name = entry.file_name().into_string().unwrap();
            let inner = tree(&entry.path()).unwrap_or_default();
            all.extend(inner.into_iter().map(|(n, text)| (format!("{name}/{n}"), text)));
        }
    }
    Some(all)
}

fn run(dir: &Path, arguments: &str) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments.split(' ')).current_dir(dir).stdout(Stdio::null());
    command
}

fn prepare(dir: &Path, before: Before) {
    let out = dir.join("o/out");
    let _ = fs::remove_dir_all(dir.join("o"));
    fs::create_dir(dir.join("o")).unwrap();
    match before {
        Before::Nothing => {}
        Before::File => fs::write(out, "old").unwrap(),
        Before::EmptyFolder => fs::create_dir(out).unwrap(),
        Before::Network => {
            let deploy = "deploy int8.onnx --target rust --test-vectors 1 -o o/out";
            assert!(run(dir, deploy).status().unwrap().success());
            fs::create_dir(out.join("own")).unwrap();
            fs::write(out.join("own/notes"), "mine").unwrap();
        }
    }
}

/// `strace`, which follows all threads, with more options.
fn strace(options: &[&str], dir: &Path, arguments: &str) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq"]).args(options).arg(BINARY).args(arguments.split(' '));
    command.current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The calls of a run since it first named one of its files: `(call, how many of that call before, and it)`.
fn points(dir: &Path, arguments: &str) -> Vec<(String, usize)> {
    let trace = format!("trace={CALLS}");
    assert!(strace(&["-e", &trace, "-o", "trace"], dir, arguments).status().unwrap().success());
    let lines = fs::read_to_string(dir.join("trace")).unwrap();
    let mut counts = BTreeMap::new();
    let mut points = Vec::new();
    let mut begun = false;
    for line in lines.lines() {
        let call = line.split_once(' ').unwrap().1.trim_start();
        let Some((name, _)) = call.split_once('(') else { continue };
        if name.contains(' ') {
            continue; // "<... openat resumed>"
        }
        let count = counts.entry(name.to_string()).or_insert(0);
        *count += 1;
        begun |= ["o/out", ".onnx", ".npy"].iter().any(|file| call.contains(file));
        if begun {
            points.push((name.to_string(), *count));
        }
    }
    points
}

#[test]
fn a_kill_at_any_system_call_leaves_old_or_new() {
    if !programs(&["strace"]) {
        return;
    }
    let dir = scratch();
    let dir = dir.path();
    fs::copy(fashion("float.onnx"), dir.join("float.onnx")).unwrap();
    save(&dir.join("x.npy"), &[pseudo_random(&[4, 1, 28, 28], 1)]);
    let quantize = "quantize float.onnx --calib x.npy --threads 1";
    assert!(run(dir, &format!("{quantize} -o int8.onnx")).status().unwrap().success());
    if !strace(&["-e", "trace=none"], dir, "--version").status().unwrap().success() {
        tools::skip("strace", "it may not trace here");
        return;
    }

    for (arguments, before) in [
        (&*format!("{quantize} -o o/out"), Before::File),
        (&format!("{quantize} --calib-stats o/out"), Before::File),
        ("run int8.onnx --input x.npy --threads 1 -o o/out", Before::File),
        ("deploy int8.onnx --target c -o o/out", Before::Nothing),
        ("deploy int8.onnx --target c -o o/out", Before::EmptyFolder),
        ("deploy int8.onnx --target c --force -o o/out", Before::Network),
        ("conv --samples 2 --dump o/out", Before::EmptyFolder),
    ] {
        prepare(dir, before);
        let out = dir.join("o/out");
        let old = tree(&out);
        let points = points(dir, arguments);
        let new = tree(&out);
        assert!(new != old && points.len() > 4, "{arguments}: {points:?}");
        if before == Before::Network {
            let new = new.as_ref().unwrap();
            assert!(new.contains_key("own/notes/") && !new.contains_key("src/lib.rs/"));
        }
        let all = std::env::var_os("NAIVE_PTQ_ALL_POINTS").is_some();
        let step = if all { 1 } else { points.len().div_ceil(POINTS) };
        let mut seen = [0, 0];
        // The last ones are those that move files to their places.
        for (name, count) in points.iter().rev().step_by(step) {
            let at = format!("{arguments}, killed at {name} number {count}");
            prepare(dir, before);
            let inject = format!("inject={name}:signal=SIGKILL:when={count}");
            let options = ["-e", &format!("trace={name}"), "-e", &inject, "-o", "/dev/null"];
            strace(&options, dir, arguments).status().unwrap();
            let now = tree(&out);
            assert!(now == old || now == new, "{at}: neither old nor new");
            seen[usize::from(now == new)] += 1;
            // The same command again is not hindered, but for what is there already, and leaves nothing.
            let is_done =
                now == new && arguments.starts_with("deploy") && before != Before::Network;
            let status = run(dir, arguments).stderr(Stdio::null()).status().unwrap();
            assert_eq!(status.code(), Some(if is_done { 2 } else { 0 }), "{at}");
            assert!(tree(&out) == new, "{at}: the next run");
            let left = |path: &Path| fs::read_dir(path).unwrap().count();
            if !is_done {
                assert_eq!(left(&dir.join("o")), 1, "{at}: left over");
            }
        }
        println!("{arguments}: {} points, {} old, {} new", seen[0] + seen[1], seen[0], seen[1]);
    }
}

/// Ctrl-C, `kill` and a closed terminal end it as they end any program, but leave nothing behind.
#[test]
fn signals_leave_no_temporary_files() {
    if !programs(&["sh"]) {
        return;
    }
    let dir = scratch();
    let dir = dir.path();
    save(&dir.join("x.npy"), &[pseudo_random(&[2, 1, 28, 28], 1)]);
    let quantize = format!("quantize {} --calib x.npy -o int8.onnx", text(&fashion("float.onnx")));
    assert!(run(dir, &quantize).status().unwrap().success());
    fs::create_dir(dir.join("temporary")).unwrap();
    // A compiler that takes its time.
    let compiler = dir.join("compiler");
    fs::write(&compiler, "#!/bin/sh\nsleep 2\n").unwrap();
    let sh = format!("sh {}", text(&compiler));
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    let ignored = u64::from_str_radix(mask, 16).unwrap();
    for signal in [1, 2, 15] {
        if ignored >> (signal - 1) & 1 == 1 {
            tools::skip(&format!("signal {signal}"), "whoever started the tests ignores it");
            continue;
        }
        let mut verify = run(dir, "verify int8.onnx --data x.npy --targets c");
        verify.env("CC", &sh).env("TMPDIR", dir.join("temporary")).stderr(Stdio::null());
        let mut child = verify.spawn().unwrap();
        let begin = Instant::now();
        let entries = || fs::read_dir(dir.join("temporary")).unwrap().count();
        while entries() == 0 && begin.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(entries(), 1, "signal {signal}: no folder to compile in");
        let kill = format!("kill -{signal} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().signal(), Some(signal));
        assert_eq!(entries(), 0, "signal {signal}");
    }
    // One that is to be ignored is ignored.
    let script = format!(
        "trap '' HUP; {BINARY} verify int8.onnx --data x.npy --targets c & sleep 1; kill -1 $!; wait $!"
    );
    let output = Command::new("sh").args(["-c", &script]).current_dir(dir).env("CC", &sh).output();
    assert_eq!(output.unwrap().status.code(), Some(2), "the compiler makes no program");
}
