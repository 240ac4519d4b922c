//! Data takes the memory that it needs, once, and what claims more than there is is an error.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

mod tools;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use naive_ptq::data::{Dataset, Preprocess};
use tools::{fashion, scratch, text};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

const MIB: usize = 1 << 20;

fn header(dtype: &str, shape: &str) -> Vec<u8> {
    let mut header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}");
    header.push_str(&" ".repeat(117 - header.len()));
    [b"\x93NUMPY\x01\x00\x76\x00", header.as_bytes(), b"\n"].concat()
}

/// A file of `len` zeros behind `header`.
fn zeros(out: &mut impl Write, header: &[u8], len: usize) {
    out.write_all(header).unwrap();
    let block = vec![0; MIB];
    (0..len / MIB).for_each(|_| out.write_all(&block).unwrap());
}

fn npz(path: &Path, method: CompressionMethod, arrays: &[(&str, &[u8], usize)]) {
    let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
    let options = SimpleFileOptions::default().compression_method(method).large_file(true);
    for (name, header, len) in arrays {
        zip.start_file(*name, options.compression_level(None)).unwrap();
        zeros(&mut zip, header, *len);
    }
    zip.finish().unwrap();
}

/// The most memory that this process has held.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

/// An uncompressed array stays in its file, a compressed one is held once.
#[test]
fn memory_for_an_array() {
    let dir = scratch();
    let header = header("<f4", "(16384, 1024)");
    let path = |name: &str| dir.path().join(name);
    zeros(&mut File::create(path("x.npy")).unwrap(), &header, 64 * MIB);
    npz(&path("stored.npz"), CompressionMethod::Stored, &[("x.npy", &header, 64 * MIB)]);
    npz(&path("deflated.npz"), CompressionMethod::Deflated, &[("x.npy", &header, 64 * MIB)]);
    for (name, most) in [("x.npy", 8), ("stored.npz", 8), ("deflated.npz", 80)] {
        let before = peak();
        let data = Dataset::open(path(name), &Preprocess::default()).unwrap();
        assert_eq!(data.sample(data.len() - 1).unwrap().shape(), [1, 1024]);
        let held = (peak() - before) / MIB;
        assert!(held <= most, "{name}: {held} MiB");
    }
}

/// Files that claim, or unpack to, more than there is, within 800 MB of address space.
#[test]
fn bombs_are_errors() {
    let dir = scratch();
    let path = |name: &str| dir.path().join(name);
    let bytes = |shape: &str| header("|u1", shape);
    let x = header("<f4", "(1, 1, 28, 28)");
    let deflated = CompressionMethod::Deflated;
    fs::write(path("claims.npy"), bytes("(1, 1000000000000)")).unwrap();
    fs::write(path("overflows.npy"), bytes("(4294967296, 4294967296, 2)")).unwrap();
    npz(&path("claims.npz"), deflated, &[("x.npy", &bytes("(1, 1000000000000)"), 0)]);
    npz(&path("large.npz"), deflated, &[("x.npy", &bytes("(1, 838860800)"), 800 * MIB)]);
    let y = header("<i8", "(104857600,)");
    npz(&path("labels.npz"), deflated, &[("x.npy", &x, 0), ("y.npy", &y, 800 * MIB)]);
    // Fits, but neither with eight bytes for each sample, nor twice.
    let many = bytes("(536870912, 1)");
    npz(&path("many.npz"), deflated, &[("x.npy", &many, 512 * MIB)]);
    for (name, message) in [
        ("claims.npy", "the elements end after 0 of 1000000000000 bytes"),
        ("overflows.npy", "4294967296"),
        ("claims.npz", "the elements end after 0 of 1000000000000 bytes"),
        ("large.npz", "out of memory"),
        ("labels.npz", "the elements end after 0 of 3136 bytes"),
        ("many.npz", "shape [1, 1, 28, 28], got [1]"),
    ] {
        let eval = format!(
            "ulimit -v 800000; exec {} eval {} --data {} --samples 3 --threads 1",
            env!("CARGO_BIN_EXE_naive-ptq"),
            text(&fashion("float.onnx")),
            text(&path(name)),
        );
        let output = Command::new("sh").args(["-c", &eval]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains(message), "{name}: {stderr}");
    }
}
